//! Servers that are slow, broken or gone, and what the other addresses make good.

use std::time::Instant;

use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::net::tests::{Scripted, read_head, read_to_close, scripted};

const SHORT: Duration = Duration::from_millis(600);
const LONG: Duration = Duration::from_secs(20);

/// A server that sends `answer` to whatever comes, and then hangs up, or says nothing more if `stays`.
async fn sends(answer: &'static [u8], stays: bool) -> Scripted {
    scripted(move |mut stream, _| async move {
        read_head(&mut stream).await;
        // The client may have given up on it.
        let _ = stream.write_all(answer).await;
        if stays {
            drop(read_to_close(&mut stream).await);
        }
    })
    .await
}

async fn unwrap_from(ports: &[u16], deadline: Duration) -> Result<Secret<32>, CustodyError> {
    let folder = tempfile::tempdir().expect("a folder");
    let transit = client(folder.path(), ports, deadline);
    transit.unwrap(&kek(), &context(), &wrapped(), &caller()).await
}

/// A port that nobody listens on.
async fn dead_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    listener.local_addr().expect("bound").port()
}

#[tokio::test]
async fn silence_ends_with_the_deadline_wherever_it_begins() {
    let heads: [&[u8]; 4] = [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"data\":",
        b"HTTP/1.1 500 Oops\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"errors\":",
    ];
    for head in heads {
        let server = sends(head, true).await;
        let begun = Instant::now();
        let error = unwrap_from(&[server.address.port()], SHORT).await.err().expect("no answer");
        assert!(matches!(error, CustodyError::Unreachable(_)), "{error:?}");
        assert!(begun.elapsed() < SHORT * 5, "{:?}", begun.elapsed());
        assert_eq!(server.connections(), 1, "a silent server is not asked twice");
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_is_asked_once_more_and_no_more() {
    let cut: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"data\":";
    for (head, most) in [(b"".as_slice(), 2), (cut, 1)] {
        let server = sends(head, false).await;
        let error = unwrap_from(&[server.address.port()], LONG).await.err().expect("no answer");
        assert!(matches!(error, CustodyError::Unreachable(_)), "{error:?}");
        assert!(server.connections() <= most, "{} connections", server.connections());
    }
}

#[tokio::test]
async fn what_is_not_http_is_malformed() {
    let server = sends(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", false).await;
    let error = unwrap_from(&[server.address.port()], LONG).await.err().expect("garbage");
    assert!(matches!(error, CustodyError::Malformed(_)), "{error:?}");
}

#[tokio::test]
async fn a_huge_answer_is_cut_off() {
    let server = Server::start(|_| raw_answer(200, "application/json", vec![b' '; 65 << 10])).await;
    let error = unwrap_from(&[server.port], LONG).await.err().expect("too large");
    assert!(matches!(error, CustodyError::Malformed(_)), "{error:?}");
    let endless = scripted(|mut stream, _| async move {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunk = [b"1000\r\n".as_slice(), &[b' '; 0x1000], b"\r\n"].concat();
        let mut open = stream.write_all(head).await.is_ok();
        while open {
            open = stream.write_all(&chunk).await.is_ok();
        }
    })
    .await;
    let error = unwrap_from(&[endless.address.port()], LONG).await.err().expect("too large");
    assert!(matches!(error, CustodyError::Malformed(_)), "{error:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Server::start(|_| good()).await;
    let location = format!("http://127.0.0.1:{}/v1/transit/decrypt/records", target.port);
    let server = Server::start(move |_| {
        let response = Response::builder().status(307).header("location", &location);
        response.body(Full::default()).expect("good response")
    })
    .await;
    let error = unwrap_from(&[server.port], LONG).await.err().expect("no answer");
    assert!(matches!(error, CustodyError::Unreachable(_)), "{error:?}");
    assert_eq!((server.count(), target.count()), (1, 0));
}

#[tokio::test]
async fn the_next_address_is_asked_where_another_may_do_better() {
    let live = Server::start(|_| good()).await;
    let closed = dead_port().await;
    assert!(unwrap_from(&[closed, live.port], LONG).await.is_ok());
    for status in [429, 472, 473, 500, 501, 502, 503, 307, 412] {
        let failing = Server::start(move |_| refusing(status, "cannot serve")).await;
        assert!(unwrap_from(&[failing.port, live.port], LONG).await.is_ok(), "{status}");
        assert_eq!(failing.count(), 1);
    }
    let html = Server::start(|_| raw_answer(200, "text/html", "maintenance")).await;
    let lagging = Server::start(|_| refusing(400, "invalid ciphertext: version is too new")).await;
    let sealed = Server::start(|_| refusing(503, "Vault is sealed")).await;
    let garbage = sends(b"garbage\r\n\r\n", false).await;
    assert!(
        unwrap_from(&[html.port, lagging.port, sealed.port, garbage.address.port(), live.port], LONG).await.is_ok()
    );
}

#[tokio::test]
async fn a_settled_answer_is_not_asked_for_again_elsewhere() {
    let live = Server::start(|_| good()).await;
    for (status, text) in
        [(400, "cipher: message authentication failed"), (400, "encryption key not found"), (400, "?")]
    {
        let settled = Server::start(move |_| refusing(status, text)).await;
        assert!(unwrap_from(&[settled.port, live.port], LONG).await.is_err(), "{text}");
    }
    let denying = Server::start(|_| refusing(403, "permission denied")).await;
    assert!(matches!(unwrap_from(&[denying.port, live.port], LONG).await, Err(CustodyError::Denied)));
    assert_eq!((denying.count(), live.count()), (1, 0));
}

#[tokio::test]
async fn a_silent_address_leaves_time_for_the_next() {
    let (silent, live) = (sends(b"", true).await, Server::start(|_| good()).await);
    let folder = tempfile::tempdir().expect("a folder");
    let transit = client(folder.path(), &[silent.address.port(), live.port], SHORT * 4);
    assert!(transit.unwrap(&kek(), &context(), &wrapped(), &caller()).await.is_ok());
    let begun = Instant::now();
    assert!(transit.unwrap(&kek(), &context(), &wrapped(), &caller()).await.is_ok());
    assert!(begun.elapsed() < SHORT, "the good one is asked first from then on");
    assert_eq!((silent.connections(), live.count()), (1, 2));
}

#[tokio::test]
async fn the_last_good_address_is_kept_until_it_fails() {
    let down = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let flaky = |number: usize| {
        let down = Arc::clone(&down);
        Server::start(move |_| {
            let is_down = down.load(std::sync::atomic::Ordering::SeqCst) == number;
            if is_down { refusing(503, "Vault is sealed") } else { good() }
        })
    };
    let (first, second) = (flaky(1).await, flaky(2).await);
    let folder = tempfile::tempdir().expect("a folder");
    let transit = client(folder.path(), &[first.port, second.port], LONG);
    let mut counts = Vec::new();
    for down_now in [0, 1, 0, 0, 2, 0] {
        down.store(down_now, std::sync::atomic::Ordering::SeqCst);
        transit.unwrap(&kek(), &context(), &wrapped(), &caller()).await.expect("one is up");
        counts.push((first.count(), second.count()));
    }
    assert_eq!(counts, [(1, 0), (2, 1), (2, 2), (2, 3), (3, 4), (4, 4)]);
}

#[tokio::test]
async fn of_several_failures_the_most_telling_is_reported() {
    let closed = dead_port().await;
    let sealed = Server::start(|_| refusing(503, "Vault is sealed")).await;
    let lagging = Server::start(|_| refusing(400, "invalid ciphertext: version is too new")).await;
    let html = Server::start(|_| raw_answer(200, "text/html", "")).await;
    for ports in [[closed, sealed.port], [sealed.port, closed], [sealed.port, html.port]] {
        assert!(matches!(unwrap_from(&ports, LONG).await, Err(CustodyError::Sealed)));
    }
    for ports in [[lagging.port, sealed.port], [closed, lagging.port]] {
        assert!(matches!(unwrap_from(&ports, LONG).await, Err(CustodyError::VersionUnknown)));
    }
    assert!(matches!(unwrap_from(&[html.port, closed], LONG).await, Err(CustodyError::Unreachable(_))));
}

#[tokio::test]
async fn an_outage_multiplies_requests_by_no_more_than_the_addresses() {
    let failing = [Server::start(|_| refusing(500, "no")).await, Server::start(|_| refusing(500, "no")).await];
    let folder = tempfile::tempdir().expect("a folder");
    let transit = client(folder.path(), &[failing[0].port, failing[1].port], LONG);
    let (kek, context, wrapped, caller) = (kek(), context(), wrapped(), caller());
    let calls = (0..50).map(|_| transit.unwrap(&kek, &context, &wrapped, &caller));
    let outcomes = futures_util::future::join_all(calls).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(CustodyError::Unreachable(_)))));
    assert_eq!((failing[0].count(), failing[1].count()), (50, 50));
}

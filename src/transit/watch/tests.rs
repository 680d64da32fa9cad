//! The watch against servers of its own: what it asks for, whom it tells, and what it makes of bad answers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::broadcast;

use super::*;
use crate::crypto::random_secret;
use crate::custody::Custodian;
use crate::custody::branch::WritingKey;
use crate::custody::caller::Caller;
use crate::custody::context::BranchContext;
use crate::custody::directory::MemoryDirectory;
use crate::custody::keys::{BranchKeyError, BranchKeys};
use crate::custody::lease::LeaseSettings;
use crate::custody::reason::Reason;
use crate::custody::watch::KNOWN_AFTER;
use crate::custody::wrapped::WrappedKey;
use crate::names::{KekName, KekVersion, LogicalBucket, Principal, Purpose, WriterDomain};
use crate::net::tests::{Scripted, read_head, read_to_close, scripted, write_file};
use crate::net::tls::ClientTls;
use crate::secret::Secret;
use crate::transit::settings::{Address, Authentication, TransitSettings};

const GRACE: Duration = Duration::from_millis(600);
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
const HELLO: &str = "{\"event\":\"hello\",\"instance\":\"a\",\"heartbeat_ms\":100,\"policy_sha256\":\"00\"}\n";
const BEAT: &str = "{\"event\":\"heartbeat\"}\n";

/// A custodian that makes keys and opens none.
struct Maker;

impl Custodian for Maker {
    fn generate<'a>(
        &'a self,
        _: &'a KekName,
        _: &'a BranchContext,
        _: &'a Caller,
    ) -> BoxFuture<'a, Result<(Secret<32>, WrappedKey), CustodyError>> {
        Box::pin(async {
            let wrapped = WrappedKey::new(KekVersion::FIRST, vec![1; 60]);
            Ok((random_secret()?, wrapped.expect("fits")))
        })
    }

    fn unwrap<'a>(
        &'a self,
        _: &'a KekName,
        _: &'a BranchContext,
        _: &'a WrappedKey,
        _: &'a Caller,
    ) -> BoxFuture<'a, Result<Secret<32>, CustodyError>> {
        Box::pin(async { Err(CustodyError::Denied) })
    }

    fn rewrap<'a>(
        &'a self,
        _: &'a KekName,
        _: &'a BranchContext,
        _: &'a WrappedKey,
        _: &'a Caller,
    ) -> BoxFuture<'a, Result<WrappedKey, CustodyError>> {
        Box::pin(async { Err(CustodyError::Denied) })
    }
}

fn keys() -> BranchKeys {
    let writer = WriterDomain::new("proxy/us").expect("legal");
    BranchKeys::new(Arc::new(Maker), Arc::new(MemoryDirectory::default()), LeaseSettings::default(), writer)
}

async fn write(keys: &BranchKeys, kek: &str) -> Result<WritingKey, BranchKeyError> {
    let (kek, bucket) = (KekName::new(kek).expect("legal"), LogicalBucket::new("ledger").expect("legal"));
    let caller = Caller { principal: Principal::new("alice").expect("legal"), reason: Reason::CustomerInitiated };
    keys.for_writing(&kek, Purpose::Object, &bucket, &caller, 1).await
}

fn client(folder: &std::path::Path, ports: &[u16]) -> Transit {
    let path = write_file(folder, "token", b"s.the-token\n");
    let addresses = ports.iter().map(|port| Address::parse(&format!("http://127.0.0.1:{port}")).expect("legal"));
    let settings = TransitSettings::new(addresses.collect(), ClientTls::default());
    let authentication = Authentication::TokenFile(path);
    Transit::new(&TransitSettings { authentication, deadline: Duration::from_millis(500), ..settings }).expect("good")
}

async fn open(ports: &[u16], keys: &BranchKeys) -> Result<(Watching, tempfile::TempDir), CustodyError> {
    let folder = tempfile::tempdir().expect("a folder");
    let watching = client(folder.path(), ports).watch(Watch::new(keys.clone(), GRACE)).await?;
    Ok((watching, folder))
}

/// The lines of `text`, with the time since the greeting.
fn timed(text: &str, greeted: Instant) -> String {
    if text == HELLO {
        return text.to_owned();
    }
    text.replace("}\n", &format!(",\"elapsed_ms\":{}}}\n", greeted.elapsed().as_millis()))
}

async fn send(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await
}

/// A custodian that greets, beats, and says what it is told to say.
struct Speaking {
    server: Scripted,
    heads: Arc<Mutex<Vec<String>>>,
    say: broadcast::Sender<String>,
    /// Connections so far that were greeted.
    greeted: Arc<AtomicUsize>,
}

/// Says nothing more, and leaves the connection as it is.
const SILENCE: &str = "silence";
const HANG_UP: &str = "hang up";

async fn speaking() -> Speaking {
    let (heads, greeted) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let say = broadcast::Sender::new(16);
    let (log, count, said) = (Arc::clone(&heads), Arc::clone(&greeted), say.clone());
    let server = scripted(move |mut stream, _| {
        let (log, count, mut said) = (Arc::clone(&log), Arc::clone(&count), said.subscribe());
        async move {
            let head = read_head(&mut stream).await;
            log.lock().expect("not poisoned").push(head);
            let _ = stream.write_all(HEAD.as_bytes()).await;
            let (mut next, greeted) = (HELLO.to_owned(), Instant::now());
            count.fetch_add(1, Ordering::SeqCst);
            while send(&mut stream, &timed(&next, greeted)).await.is_ok() {
                next = match timeout(Duration::from_millis(50), said.recv()).await {
                    Ok(Ok(text)) => text,
                    _ => BEAT.to_owned(),
                };
                match next.as_str() {
                    HANG_UP => return,
                    SILENCE => drop(read_to_close(&mut stream).await),
                    _ => {}
                }
            }
        }
    });
    Speaking { server: server.await, heads, say, greeted }
}

impl Speaking {
    fn port(&self) -> u16 {
        self.server.address.port()
    }

    fn says(&self, text: &str) {
        self.say.send(text.to_owned()).expect("it listens");
    }

    fn greeted(&self) -> usize {
        self.greeted.load(Ordering::SeqCst)
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    begun.elapsed()
}

#[tokio::test]
async fn it_asks_as_other_calls_do_and_tells_within_a_second() {
    let (custodian, keys) = (speaking().await, keys());
    let _watching = open(&[custodian.port()], &keys).await.expect("opens");
    let head = custodian.heads.lock().expect("not poisoned")[0].to_ascii_lowercase();
    assert!(head.starts_with("get /v1/sys/claviger/watch http/1.1") && head.contains("x-vault-token: s.the-token"));
    let [records, other] = [write(&keys, "records").await, write(&keys, "other").await].map(|key| key.expect("made"));
    custodian.says("{\"event\":\"kek\",\"name\":\"records\",\"change\":\"disabled\"}\n");
    assert!(until("the revocation", || records.is_revoked()).await < Duration::from_secs(1));
    assert!(other.is_usable());
    custodian.says("{\"event\":\"policy\",\"sha256\":\"00\"}\n");
    until("the end of leases", || other.is_ended()).await;
    assert!(!other.is_revoked());
    custodian.says("{\"event\":\"principal\",\"principal\":\"alice\",\"change\":\"revoked\"}\n");
    until("the revocation of the client", || other.is_revoked()).await;
    // Heartbeats keep it open for longer than silence and grace.
    tokio::time::sleep(KNOWN_AFTER).await;
    let again = write(&keys, "other").await.expect("made");
    tokio::time::sleep(GRACE + Duration::from_millis(400)).await;
    assert!(again.is_usable() && custodian.greeted() == 1);
}

#[tokio::test]
async fn two_events_in_a_piece_and_an_event_in_two_pieces() {
    let (custodian, keys) = (speaking().await, keys());
    let _watching = open(&[custodian.port()], &keys).await.expect("opens");
    let kek = |name: &str| format!("{{\"event\":\"kek\",\"name\":\"{name}\",\"change\":\"deleted\"}}\n");
    let written = [write(&keys, "a").await, write(&keys, "b").await, write(&keys, "c").await];
    let written = written.map(|key| key.expect("made"));
    let (start, end) = (kek("c")[..20].to_owned(), kek("c")[20..].to_owned());
    custodian.says(&format!("{}{}{start}", kek("a"), kek("b")));
    until("two revocations", || written[0].is_revoked() && written[1].is_revoked()).await;
    assert!(!written[2].is_revoked());
    // A heartbeat may come in between: then the line is broken, and the watch is opened anew.
    custodian.says(&end);
    until("the third, or all leases end", || !written[2].is_usable()).await;
}

#[tokio::test]
async fn a_break_is_mended_and_ends_all_leases() {
    for how in [HANG_UP, SILENCE, "no JSON\n", "{\"event\":7}\n", HELLO] {
        let (custodian, keys) = (speaking().await, keys());
        let _watching = open(&[custodian.port()], &keys).await.expect("opens");
        let written = write(&keys, "records").await.expect("made");
        custodian.says(how);
        until("a second greeting", || custodian.greeted() >= 2).await;
        until("the end of leases", || written.is_ended()).await;
        assert!(!written.is_revoked(), "within the grace, after {how:?}");
        assert!(write(&keys, "records").await.is_ok());
    }
}

#[tokio::test]
async fn a_line_without_end_breaks_it_off() {
    let (custodian, keys) = (speaking().await, keys());
    let _watching = open(&[custodian.port()], &keys).await.expect("opens");
    custodian.says(&"x".repeat(8 << 10));
    until("a second greeting", || custodian.greeted() >= 2).await;
}

#[tokio::test]
async fn dribbled_bytes_are_no_heartbeat() {
    let server = scripted(|mut stream, number| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(HEAD.as_bytes()).await;
        let _ = send(&mut stream, HELLO).await;
        let _ = send(&mut stream, &timed(BEAT, Instant::now())).await;
        // Less than a line, for ever.
        while number == 0 && send(&mut stream, " ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let _ = read_to_close(&mut stream).await;
    })
    .await;
    let keys = keys();
    let _watching = open(&[server.address.port()], &keys).await.expect("opens");
    until("another connection", || server.connections() >= 2).await;
}

/// Beats on time, but says what `made` makes of the time since the greeting.
async fn opens_again_when_it_says(made: fn(u64) -> String) {
    let server = scripted(move |mut stream, _| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(HEAD.as_bytes()).await;
        let _ = send(&mut stream, HELLO).await;
        let greeted = Instant::now();
        let since = || u64::try_from(greeted.elapsed().as_millis()).expect("not for ever");
        let _ = send(&mut stream, &timed(BEAT, greeted)).await;
        while send(&mut stream, &format!("{{\"event\":\"heartbeat\"{}}}\n", made(since()))).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let keys = keys();
    let _watching = open(&[server.address.port()], &keys).await.expect("opens");
    let written = write(&keys, "records").await.expect("made");
    until("another connection", || server.connections() >= 2).await;
    until("the end of leases", || written.is_ended()).await;
}

#[tokio::test]
async fn heartbeats_that_are_held_back_are_none() {
    // Each a little later than the one before it, and never silent for long.
    opens_again_when_it_says(|since_ms| format!(",\"elapsed_ms\":{}", since_ms / 2)).await;
}

#[tokio::test]
async fn heartbeats_without_a_time_are_none() {
    opens_again_when_it_says(|_| String::new()).await;
}

#[tokio::test]
async fn a_greeting_alone_opens_nothing_and_keeps_nothing_open() {
    let (custodian, keys) = (speaking().await, keys());
    let stale = Arc::new(std::sync::atomic::AtomicBool::new(true));
    // As a custodian that does not see its store: it greets, tells what it heard, and has no heartbeat.
    let (blind, back) = (Arc::clone(&stale), custodian.port());
    let server = scripted(move |mut stream, _| {
        let blind = Arc::clone(&blind);
        async move {
            if !blind.load(Ordering::SeqCst) {
                let mut to = TcpStream::connect(("127.0.0.1", back)).await.expect("it is there");
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut to).await;
                return;
            }
            read_head(&mut stream).await;
            let _ = stream.write_all(HEAD.as_bytes()).await;
            let _ = send(&mut stream, HELLO).await;
            let greeted = Instant::now();
            while send(&mut stream, &timed("{\"event\":\"grants\"}\n", greeted)).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    })
    .await;
    let port = server.address.port();
    assert!(matches!(open(&[port], &keys).await.err(), Some(CustodyError::Unreachable(_))));
    assert!(write(&keys, "records").await.is_err());
    stale.store(false, Ordering::SeqCst);
    let _watching = open(&[port], &keys).await.expect("opens");
    let written = write(&keys, "records").await.expect("made");
    stale.store(true, Ordering::SeqCst);
    custodian.says(HANG_UP);
    until("the end of the grace", || written.is_revoked()).await;
    assert!(server.connections() >= 3, "it was tried again meanwhile");
    assert!(write(&keys, "records").await.is_err());
}

#[tokio::test]
async fn when_it_stays_away_everything_is_closed_after_the_grace_and_open_again_when_it_is_back() {
    let (custodian, keys) = (speaking().await, keys());
    let (gone, back) = (Arc::new(AtomicUsize::new(0)), custodian.port());
    let hold = Arc::clone(&gone);
    // In front of the custodian, so that it can be cut off without a word.
    let wire = scripted(move |mut stream, _| {
        let hold = Arc::clone(&hold);
        async move {
            if hold.load(Ordering::SeqCst) == 1 {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            let mut to = TcpStream::connect(("127.0.0.1", back)).await.expect("it is there");
            let copied = tokio::io::copy_bidirectional(&mut stream, &mut to);
            tokio::select! {
                _ = copied => {}
                () = async { while hold.load(Ordering::SeqCst) == 0 { tokio::time::sleep(Duration::from_millis(5)).await } } => {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
            }
        }
    })
    .await;
    let _watching = open(&[wire.address.port()], &keys).await.expect("opens");
    let written = write(&keys, "records").await.expect("made");
    gone.store(1, Ordering::SeqCst);
    let cut = Instant::now();
    until("the end of the grace", || written.is_revoked()).await;
    assert!(cut.elapsed() >= GRACE && cut.elapsed() < GRACE + Duration::from_secs(1), "{:?}", cut.elapsed());
    let refused = write(&keys, "records").await.expect_err("closed");
    assert!(matches!(refused.custody(), Some(CustodyError::Unreachable(_))), "{refused:?}");
    gone.store(0, Ordering::SeqCst);
    until("a new watch", || custodian.greeted() >= 2).await;
    let begun = Instant::now();
    while write(&keys, "records").await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it did not open again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn another_address_takes_its_place() {
    let (first, second, keys) = (speaking().await, speaking().await, keys());
    let closed = scripted(|stream, _| async move { drop(stream) }).await;
    let _watching = open(&[closed.address.port(), first.port(), second.port()], &keys).await.expect("opens");
    assert_eq!((first.greeted(), second.greeted()), (1, 0));
    first.says(SILENCE);
    until("the second's greeting", || second.greeted() == 1).await;
    second.says(HANG_UP);
    until("the first's greeting", || first.greeted() == 2).await;
}

async fn refused(answer: &'static str) -> CustodyError {
    let server = scripted(move |mut stream, _| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = read_to_close(&mut stream).await;
    })
    .await;
    let keys = keys();
    let error = open(&[server.address.port()], &keys).await.err().expect("it does not open");
    assert!(write(&keys, "records").await.is_err(), "nothing is given out without the watch");
    error
}

#[tokio::test]
async fn a_custodian_without_a_watch_is_said_to_be_one() {
    let error = refused(
        "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"errors\":[]}",
    )
    .await;
    let CustodyError::Malformed(cause) = error else { panic!("{error:?}") };
    assert!(matches!(cause.downcast_ref(), Some(TransitError::NoWatch)), "{cause:?}");
}

#[tokio::test]
async fn what_does_not_greet_is_not_open() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
    let error = refused("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    assert!(matches!(error, CustodyError::Denied), "{error:?}");
    let sealed = "HTTP/1.1 503 Sealed\r\nContent-Type: application/json\r\nContent-Length: 23\r\n\r\n{\"errors\":[\"is sealed\"]}";
    assert!(matches!(refused(sealed).await, CustodyError::Sealed | CustodyError::Unreachable(_)));
    let begun = Instant::now();
    assert!(matches!(refused(head_with(head, "")).await, CustodyError::Unreachable(_)));
    assert!(begun.elapsed() < Duration::from_secs(5));
    for first in [BEAT, "{\"event\":\"hello\"}\n", "<html>\n", "{\"event\":\"hello\",\"heartbeat_ms\":60000}\n"] {
        assert!(matches!(refused(head_with(head, first)).await, CustodyError::Malformed(_)), "{first}");
    }
}

fn head_with(head: &str, line: &str) -> &'static str {
    let text: Bytes = format!("{head}{line}").into();
    Box::leak(String::from_utf8_lossy(&text).into_owned().into_boxed_str())
}

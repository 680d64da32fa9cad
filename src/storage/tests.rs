//! The storage client against servers that fail, refuse, lie and hang up.

use std::sync::Mutex;
use std::time::Instant as Clock;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Method, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::format::ciphertext::CipherBytes;
use crate::net::BoxError;
use crate::net::tests::{Scripted, read_head, read_to_close, scripted};
use crate::secret::SecretBytes;

const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(20);
/// More than all buffers on the way hold.
const LARGE: usize = 64 << 20;

fn storage(server: &Scripted) -> Storage {
    storage_with(server, LONG, LONG)
}

fn impatient(server: &Scripted) -> Storage {
    storage_with(server, SHORT, LONG)
}

fn storage_with(server: &Scripted, head_timeout: Duration, deadline: Duration) -> Storage {
    let endpoint = Endpoint::parse(&format!("http://{}", server.address), false).expect("loopback");
    let mut settings = StorageSettings::new(endpoint, "us-east-1");
    (settings.head_timeout, settings.retry.deadline) = (head_timeout, deadline);
    settings.retry.backoff_cap = SHORT / 10;
    let secret = SecretBytes::new(b"secret".to_vec()).expect("not empty");
    Storage::new(settings, Credentials { access_key: "AK".into(), secret: secret.into(), session_token: None })
        .expect("good settings")
}

fn get() -> StorageRequest {
    StorageRequest::object(Method::GET, "records", "key")
}

fn put(body: StorageBody) -> StorageRequest {
    StorageRequest::object(Method::PUT, "records", "key").body(body)
}

fn cipher(bytes: impl Into<Bytes>) -> CipherBytes {
    CipherBytes::assume_ciphertext(bytes.into())
}

/// A stream of `pieces`, in which an `Err` is the source's failure.
fn streaming(length: usize, pieces: Vec<Result<usize, &'static str>>) -> StorageBody {
    let frames = stream::iter(pieces).map(|piece| match piece {
        Ok(size) => Ok(Frame::data(cipher(vec![7; size]))),
        Err(failure) => Err(BoxError::from(failure)),
    });
    let body: UnsyncBoxBody<_, _> = StreamBody::new(frames).boxed_unsync();
    StorageBody::Streaming { length: u64::try_from(length).expect("fits"), body }
}

/// The same, with a pause before each piece, in which the connection sends what it has.
fn slowly(length: u64, pieces: Vec<Result<usize, &'static str>>) -> StorageBody {
    let StorageBody::Streaming { body, .. } = streaming(0, pieces) else { panic!("it streams") };
    let frames = stream::unfold(body, |mut body| async {
        tokio::time::sleep(SHORT / 10).await;
        body.frame().await.map(|frame| (frame, body))
    });
    StorageBody::Streaming { length, body: StreamBody::new(frames).boxed_unsync() }
}

fn large() -> StorageBody {
    streaming(LARGE, vec![Ok(1 << 16); LARGE >> 16])
}

fn content_length(head: &str) -> usize {
    let line =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    line.map_or(0, |length| length.parse().expect("a number"))
}

/// Reads a whole request: head and body.
async fn read_request(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let head = read_head(stream).await;
    let mut body = vec![0; content_length(&head)];
    stream.read_exact(&mut body).await.expect("the whole body");
    (head, body)
}

async fn answer(stream: &mut TcpStream, status: &str, body: &str) {
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await.expect("open");
}

/// Answers each request with the next of `statuses`, the last one for ever.
async fn answering(statuses: &'static [&'static str]) -> (Scripted, Arc<Mutex<Vec<(String, Vec<u8>)>>>) {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    let server = scripted(move |mut stream, connection| {
        let seen = Arc::clone(&seen);
        async move {
            let request = read_request(&mut stream).await;
            seen.lock().expect("not poisoned").push(request);
            answer(&mut stream, statuses[connection.min(statuses.len() - 1)], "").await;
        }
    })
    .await;
    (server, requests)
}

#[tokio::test]
async fn many_requests_at_once_do_not_connect_anew_each_time() {
    const MANY: usize = 200;
    let server = scripted(|mut stream, _| async move {
        while !read_head(&mut stream).await.is_empty() {
            // Until all are there.
            tokio::time::sleep(SHORT / 2).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("open");
        }
    })
    .await;
    let storage = storage(&server);
    for _ in 0..4 {
        let gets = futures_util::future::join_all((0..MANY).map(|_| storage.send(get(), None))).await;
        assert!(gets.into_iter().all(|answer| answer.is_ok_and(|answer| answer.status == StatusCode::OK)));
        // A connection is idle a moment after its answer.
        tokio::time::sleep(SHORT / 2).await;
    }
    let made = server.connections();
    assert!((MANY..MANY * 3 / 2).contains(&made), "{made} connections for {MANY} requests at once");
}

#[tokio::test]
async fn failures_are_retried_signed_and_whole_until_one_attempt_succeeds() {
    let (server, requests) = answering(&["500 Oops", "503 Slow Down", "200 OK"]).await;
    let body = StorageBody::Replayable(cipher("ciphertext"));
    let response = storage(&server).send(put(body), None).await.expect("the third answers");
    assert_eq!(response.status, StatusCode::OK);
    let requests = requests.lock().expect("not poisoned");
    assert_eq!(requests.len(), 3);
    for (head, body) in requests.iter() {
        assert_eq!(body, b"ciphertext");
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("put /records/key http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nauthorization: aws4-hmac-sha256 credential=ak/"), "{head}");
        assert!(head.contains("\r\ncontent-length: 10\r\n") && !head.contains("transfer-encoding"), "{head}");
    }
}

#[tokio::test]
async fn the_last_failure_is_returned_when_the_attempts_are_used_up() {
    let (server, _) = answering(&["500 Oops"]).await;
    let response = storage(&server).send(get(), None).await.expect("an answer");
    assert_eq!(response.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn what_must_not_happen_twice_is_not_repeated_after_a_failure() {
    let (server, _) = answering(&["500 Oops"]).await;
    let response = storage(&server).send(put(StorageBody::Empty).replay_unsafe(), None).await.expect("an answer");
    assert_eq!((response.status.as_u16(), server.connections()), (500, 1));
}

#[tokio::test]
async fn a_stream_is_sent_once_and_with_its_length() {
    let (server, requests) = answering(&["503 Slow Down"]).await;
    let body = streaming(70_000, vec![Ok(60_000), Ok(0), Ok(10_000)]);
    let response = storage(&server).send(put(body), None).await.expect("an answer");
    assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE);
    let requests = requests.lock().expect("not poisoned");
    assert_eq!(requests.len(), 1);
    let (head, body) = &requests[0];
    assert_eq!(body.len(), 70_000);
    assert!(head.to_ascii_lowercase().contains("\r\nx-amz-content-sha256: unsigned-payload\r\n"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
}

#[tokio::test]
async fn a_stream_whose_server_hangs_up_is_broken_and_not_sent_again() {
    let server = scripted(|mut stream, _| async move { drop(read_head(&mut stream).await) }).await;
    let error = storage(&server).send(put(large()), None).await.expect_err("hung up");
    assert!(matches!(error, StorageError::Broken(_)), "{error:?}");
    assert_eq!(server.connections(), 1);
}

const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";

#[tokio::test]
async fn an_early_refusal_is_seen_though_the_server_closes_at_once() {
    let server = scripted(|mut stream, _| async move {
        read_head(&mut stream).await;
        answer(&mut stream, "403 Forbidden", DENIED).await;
    })
    .await;
    let storage = storage(&server);
    for _ in 0..20 {
        let response = storage.send(put(large()), None).await.expect("the refusal");
        let StorageError::Refused(refusal) = response.error().await else { panic!("not a refusal") };
        assert_eq!((refusal.status.as_u16(), refusal.code.as_deref()), (403, Some("AccessDenied")));
    }
}

#[tokio::test]
async fn an_early_refusal_ends_the_upload_though_the_server_neither_reads_nor_closes() {
    let server = scripted(|mut stream, _| async move {
        read_head(&mut stream).await;
        let length = DENIED.len();
        let head = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {length}\r\n\r\n{DENIED}");
        stream.write_all(head.as_bytes()).await.expect("open");
        std::future::pending::<()>().await;
    })
    .await;
    let (dropped, source_gone) = tokio::sync::oneshot::channel::<()>();
    let frames =
        stream::unfold(dropped, |dropped| async move { Some((Ok(Frame::data(cipher(vec![7; 1 << 16]))), dropped)) });
    let body = StorageBody::Streaming { length: 1 << 40, body: StreamBody::new(frames).boxed_unsync() };
    let sending = storage(&server);
    let response = tokio::time::timeout(LONG, sending.send(put(body), None)).await.expect("no hang").expect("refusal");
    assert_eq!(response.status, StatusCode::FORBIDDEN);
    assert_eq!(response.collect(1000).await.expect("document"), DENIED);
    assert!(tokio::time::timeout(LONG, source_gone).await.expect("no hang").is_err(), "the source is dropped");
}

#[tokio::test]
async fn success_before_the_end_of_an_upload_is_not_believed() {
    let server = scripted(|mut stream, _| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("open");
        drop(read_to_close(&mut stream).await);
    })
    .await;
    let slow = stream::pending::<Result<Frame<CipherBytes>, BoxError>>();
    let body = StorageBody::Streaming { length: 100, body: StreamBody::new(slow).boxed_unsync() };
    let error = storage(&server).send(put(body), None).await.expect_err("a lie");
    assert!(matches!(error, StorageError::Garbage(Garbage::EarlySuccess)), "{error:?}");
}

/// Sends `body` to a server that counts: the bytes announced, those that came before the end, and the outcome.
async fn count_upload(body: StorageBody) -> (usize, usize, StorageError) {
    let (report, counted) = tokio::sync::mpsc::unbounded_channel();
    let server = scripted(move |mut stream, _| {
        let report = report.clone();
        async move {
            let announced = content_length(&read_head(&mut stream).await);
            let received = read_to_close(&mut stream).await.len();
            report.send((announced, received)).expect("the test listens");
        }
    })
    .await;
    let error = storage(&server).send(put(body), None).await.expect_err("the source failed");
    let mut counted = counted;
    let (announced, received) =
        tokio::time::timeout(LONG, counted.recv()).await.expect("closed").expect("the server reports");
    assert_eq!((server.connections(), announced), (1, 100_000));
    (announced, received, error)
}

#[tokio::test]
async fn a_source_that_fails_ends_the_connection_before_the_body_is_whole() {
    let failures = [
        vec![Ok(60_000), Err("the client hung up")],
        // All bytes were there, and only then did the check over them fail.
        vec![Ok(60_000), Ok(40_000), Err("the checksum is wrong")],
        vec![Ok(100_000), Err("the checksum is wrong")],
    ];
    for pieces in failures {
        let (announced, received, error) = count_upload(slowly(100_000, pieces.clone())).await;
        assert!(received < announced, "{pieces:?}: the server got a whole body");
        let StorageError::Aborted(source) = error else { panic!("{error:?}") };
        let failure = pieces.into_iter().find_map(Result::err).expect("one fails");
        assert_eq!(source.to_string(), failure);
    }
}

#[tokio::test]
async fn a_source_of_another_length_than_announced_is_never_whole() {
    for pieces in [vec![Ok(60_000)], vec![Ok(60_000), Ok(40_001)], vec![Ok(100_000), Ok(1)]] {
        let (announced, received, error) = count_upload(slowly(100_000, pieces.clone())).await;
        assert!(received < announced, "{pieces:?}: the server got a whole body");
        let StorageError::Aborted(source) = error else { panic!("{error:?}") };
        assert!(matches!(source.downcast_ref(), Some(RequestError::Length { announced: 100_000, .. })), "{source:?}");
    }
}

#[tokio::test]
async fn an_empty_stream_is_sent_only_after_it_ended_well() {
    let (server, requests) = answering(&["200 OK"]).await;
    let storage = storage(&server);
    for pieces in [vec![Err("failed")], vec![Ok(1)]] {
        assert!(storage.send(put(streaming(0, pieces)), None).await.is_err());
    }
    assert_eq!(server.connections(), 0);
    storage.send(put(streaming(0, vec![Ok(0)])), None).await.expect("sent");
    let requests = requests.lock().expect("not poisoned");
    assert!(requests[0].0.to_ascii_lowercase().contains("\r\ncontent-length: 0\r\n"));
}

#[tokio::test]
async fn a_caller_that_gives_up_closes_the_connection() {
    let (report, mut counted) = tokio::sync::mpsc::unbounded_channel();
    let server = scripted(move |mut stream, _| {
        let report = report.clone();
        async move {
            let announced = content_length(&read_head(&mut stream).await);
            report.send(announced).expect("the test listens");
            report.send(read_to_close(&mut stream).await.len()).expect("the test listens");
        }
    })
    .await;
    let waiting = stream::iter([Ok(Frame::data(cipher(vec![7; 10])))]).chain(stream::pending::<Result<_, BoxError>>());
    let body = StorageBody::Streaming { length: 20, body: StreamBody::new(waiting).boxed_unsync() };
    let storage = storage(&server);
    let sending = tokio::spawn(async move { storage.send(put(body), None).await.map(|_| ()) });
    assert_eq!(counted.recv().await, Some(20));
    sending.abort();
    let received = tokio::time::timeout(LONG, counted.recv()).await.expect("closed").expect("the server reports");
    assert!(received <= 10);
}

#[tokio::test]
async fn garbage_is_garbage_and_not_asked_for_again() {
    for garbage in
        ["what do you want?\r\n\r\n", "HTTP/1.1 two hundred\r\n\r\n", "\0\0\0\0\0\0\0\0", "HTTP/9.9 200 OK\r\n\r\n"]
    {
        let server = scripted(move |mut stream, _| async move {
            read_head(&mut stream).await;
            stream.write_all(garbage.as_bytes()).await.expect("open");
            drop(read_to_close(&mut stream).await);
        })
        .await;
        let error = storage(&server).send(get(), None).await.expect_err("not HTTP");
        assert!(matches!(error, StorageError::Garbage(Garbage::NotHttp(_))), "{garbage:?}: {error:?}");
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn a_silent_server_is_a_time_out_after_three_attempts() {
    let server = scripted(|mut stream, _| async move { drop(read_to_close(&mut stream).await) }).await;
    let begun = Clock::now();
    let error = impatient(&server).send(get(), None).await.expect_err("silent");
    assert!(matches!(error, StorageError::Timeout { .. }), "{error:?}");
    assert_eq!(server.connections(), 3);
    assert!(begun.elapsed() >= SHORT * 3 && begun.elapsed() < LONG);
}

#[tokio::test]
async fn no_attempt_begins_after_the_deadline() {
    let server = scripted(|mut stream, _| async move { drop(read_to_close(&mut stream).await) }).await;
    let storage = storage_with(&server, SHORT, SHORT / 2);
    assert!(matches!(storage.send(get(), None).await, Err(StorageError::Timeout { .. })));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn an_upload_that_the_server_does_not_take_is_a_time_out() {
    let server = scripted(|mut stream, _| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let sending = impatient(&server);
    let outcome = tokio::time::timeout(LONG, sending.send(put(large()), None)).await.expect("no hang");
    assert!(matches!(outcome, Err(StorageError::Timeout { .. })), "{outcome:?}");
}

#[tokio::test]
async fn hanging_up_in_the_middle_of_an_answer_is_an_error() {
    let server = scripted(|mut stream, _| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await.expect("open");
    })
    .await;
    let response = storage(&server).send(get(), None).await.expect("a head");
    let error = response.collect(1000).await.expect_err("half an answer");
    assert!(matches!(error, StorageError::Broken(_)), "{error:?}");
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let mut server = scripted(|_, _| async {}).await;
    server.address =
        tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("free port").local_addr().expect("bound");
    let error = storage(&server).send(get(), None).await.expect_err("closed");
    assert!(matches!(error, StorageError::Unreachable(_)), "{error:?}");
}

#[tokio::test]
async fn errors_are_read_from_their_documents_or_from_the_status() {
    let server = scripted(|mut stream, connection| async move {
        read_request(&mut stream).await;
        let large = "x".repeat(100 << 10);
        let document = [DENIED, "<Error><Code>", "", &large][connection];
        answer(&mut stream, "403 Forbidden", document).await;
    })
    .await;
    let storage = storage(&server);
    for code in [Some("AccessDenied"), None, None, None] {
        let response = storage.send(get(), None).await.expect("an answer");
        let error = response.checked().await.expect_err("refused");
        let StorageError::Refused(refusal) = error else { panic!("{error:?}") };
        assert_eq!((refusal.status.as_u16(), refusal.code.as_deref()), (403, code));
    }
}

#[tokio::test]
async fn credentials_of_a_call_go_before_the_servers_own() {
    let (server, requests) = answering(&["200 OK"]).await;
    let secret = SecretBytes::new(b"other".to_vec()).expect("not empty");
    let own = Credentials { access_key: "OTHER".into(), secret: secret.into(), session_token: None };
    storage(&server).send(get(), Some(&own)).await.expect("an answer");
    let requests = requests.lock().expect("not poisoned");
    assert!(requests[0].0.contains("Credential=OTHER/"));
}

/// Settings that do not wait long, for the address of each of these servers.
fn cluster(addresses: &[String]) -> StorageSettings {
    let mut endpoints =
        addresses.iter().map(|address| Endpoint::parse(&format!("http://{address}"), false).expect("loopback"));
    let mut settings = StorageSettings::new(endpoints.next().expect("one"), "us-east-1");
    settings.further_endpoints = endpoints.collect();
    (settings.head_timeout, settings.client.connect_timeout) = (LONG, SHORT);
    settings
}

fn client(settings: StorageSettings) -> Storage {
    let secret = SecretBytes::new(b"secret".to_vec()).expect("not empty");
    Storage::new(settings, Credentials { access_key: "AK".into(), secret: secret.into(), session_token: None })
        .expect("good settings")
}

/// A server that answers every request of every connection with that status and body.
async fn steady(status: &'static str, body: &'static str) -> Scripted {
    scripted(move |mut stream, _| async move {
        loop {
            let head = read_head(&mut stream).await;
            if head.is_empty() {
                return;
            }
            answer(&mut stream, status, body).await;
        }
    })
    .await
}

/// An address at which nobody listens.
async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

#[tokio::test]
async fn a_further_address_takes_over_and_is_asked_first_from_then_on() {
    let there = steady("200 OK", "here").await;
    let storage = client(cluster(&[nobody().await, there.address.to_string()]));
    for _ in 0..3 {
        let answer = storage.send(get(), None).await.expect("answered");
        assert_eq!(answer.collect(10).await.expect("short"), "here");
    }
    assert_eq!(storage.requests(), 4, "the one that is gone was asked once");
    // An upload of which nothing was taken goes to the next address, too.
    let fresh = client(cluster(&[nobody().await, steady("403 Forbidden", "").await.address.to_string()]));
    let answer = fresh.send(put(streaming(3, vec![Ok(3)])), None).await.expect("answered");
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn an_address_that_fails_is_followed_by_another_and_not_left_alone_for_it() {
    let (failing, there) = (steady("503 Slow Down", "").await, steady("200 OK", "").await);
    let storage = client(cluster(&[failing.address.to_string(), there.address.to_string()]));
    for _ in 0..2 {
        assert_eq!(storage.send(get(), None).await.expect("answered").status, 200);
    }
    assert_eq!(storage.requests(), 4);
}

#[tokio::test]
async fn an_address_that_came_back_is_found_without_a_clients_request() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let second = steady("200 OK", "second").await;
    let storage = client(cluster(&[address.to_string(), second.address.to_string()]));
    let asked = async || storage.send(get(), None).await.expect("answered").collect(10).await.expect("short");
    assert_eq!(asked().await, "second");
    let listener = tokio::net::TcpListener::bind(address).await.expect("free again");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while !read_head(&mut stream).await.is_empty() {
                    answer(&mut stream, "200 OK", "first").await;
                }
            });
        }
    });
    let mut before = 0;
    while asked().await != "first" {
        before += 1;
        assert!(before < 200, "never found");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(before > 0, "it was looked at after a pause");
}

#[tokio::test]
async fn a_slow_read_is_asked_of_a_second_address_and_a_write_is_not() {
    let stuck = scripted(|mut stream, _| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let quick = steady("200 OK", "quick").await;
    let settings = cluster(&[stuck.address.to_string(), quick.address.to_string()]);
    let storage =
        client(StorageSettings { hedge_after: Some(Duration::from_millis(20)), head_timeout: SHORT * 3, ..settings });
    let answer = storage.send(get(), None).await.expect("answered");
    assert_eq!(answer.collect(10).await.expect("short"), "quick");
    let before = storage.requests();
    let outcome = storage.send(put(StorageBody::Replayable(cipher("x"))), None).await;
    assert!(matches!(outcome, Err(StorageError::Timeout { .. })), "{outcome:?}");
    assert_eq!(storage.requests(), before + 1, "it may be carried out yet, over what is written next");
}

#[tokio::test]
async fn a_replica_answers_what_it_may_and_what_it_has() {
    let replica = steady("200 OK", "copy").await;
    let with = async |replica: &Scripted| {
        client(cluster(&[nobody().await])).with_replica(&client(cluster(&[replica.address.to_string()])))
    };
    let storage = with(&replica).await;
    for _ in 0..2 {
        let answer = storage.send(get().or_replica(), None).await.expect("answered");
        assert_eq!(answer.collect(10).await.expect("short"), "copy");
    }
    assert!(matches!(storage.send(get(), None).await, Err(StorageError::Unreachable(_))), "not without leave");
    let write = put(StorageBody::Replayable(cipher("x"))).or_replica();
    assert!(matches!(storage.send(write, None).await, Err(StorageError::Unreachable(_))), "no write at all");
    let secret = SecretBytes::new(b"client's".to_vec()).expect("not empty");
    let own = Credentials { access_key: "CLIENT".into(), secret: secret.into(), session_token: None };
    let by_own = storage.send(get().or_replica(), Some(&own)).await;
    assert!(matches!(by_own, Err(StorageError::Unreachable(_))), "not by more than the client's own rights");
    // What it does not have may be there all the same.
    let lacking = steady("404 Not Found", "").await;
    let storage = with(&lacking).await;
    assert!(matches!(storage.send(get().or_replica(), None).await, Err(StorageError::Unreachable(_))));
    assert_eq!(lacking.connections(), 1);
    // The storage server's own answer goes before any replica's.
    let own = steady("404 Not Found", "").await;
    let storage =
        client(cluster(&[own.address.to_string()])).with_replica(&client(cluster(&[replica.address.to_string()])));
    assert_eq!(storage.send(get().or_replica(), None).await.expect("answered").status, 404);
}

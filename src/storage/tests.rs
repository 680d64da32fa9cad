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
    Storage::new(settings, Credentials { access_key: "AK".into(), secret, session_token: None }).expect("good settings")
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
    let own = Credentials { access_key: "OTHER".into(), secret, session_token: None };
    storage(&server).send(get(), Some(&own)).await.expect("an answer");
    let requests = requests.lock().expect("not poisoned");
    assert!(requests[0].0.contains("Credential=OTHER/"));
}

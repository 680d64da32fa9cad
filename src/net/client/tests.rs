//! The client against servers of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::*;
use crate::net::body::{BodyError, collect_bounded};
use crate::net::listener::{ConnectionInfo, ListenerLimits, run};
use crate::net::tests::{Ca, full, read_head, read_to_close, scripted};
use crate::net::tls::{ClientTls, client_config, server_config};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);

type TestBody = UnsyncBoxBody<Bytes, BoxError>;

fn settings() -> ClientSettings {
    ClientSettings { connect_timeout: SHORT * 5, body_timeout: SHORT, ..ClientSettings::default() }
}

fn client(tls: &ClientTls) -> HttpClient<TestBody> {
    HttpClient::new(client_config(tls).expect("good files"), &settings())
}

fn request(uri: String, body: TestBody) -> Request<TestBody> {
    Request::builder().method("PUT").uri(uri).body(body).expect("good request")
}

fn empty() -> TestBody {
    Full::default().map_err(Into::into).boxed_unsync()
}

/// A TLS server that answers whether it saw a client certificate; its port.
async fn tls_server(config: Arc<ServerConfig>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let port = listener.local_addr().expect("bound").port();
    let service = |_: Request<Incoming>, info: ConnectionInfo| async move {
        Response::new(full(if info.client_certificate.is_some() { "known" } else { "anonymous" }))
    };
    tokio::spawn(run(listener, Some(config), ListenerLimits::default(), service, std::future::pending()));
    port
}

#[tokio::test]
async fn connections_are_reused() {
    let server = scripted(|mut stream, _| async move {
        while !read_head(&mut stream).await.is_empty() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("open");
        }
    })
    .await;
    let client = client(&ClientTls::default());
    for _ in 0..5 {
        let request = request(format!("http://{}/", server.address), empty());
        let response = client.request(request, LONG).await.expect("answers");
        assert_eq!(collect_bounded(response.into_body(), 10).await.expect("body"), "ok");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_connection_of_an_age_gets_no_further_request() {
    let server = scripted(|mut stream, _| async move {
        while !read_head(&mut stream).await.is_empty() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("open");
        }
    })
    .await;
    let settings = ClientSettings { connection_age_max: SHORT, ..settings() };
    let client = HttpClient::new(client_config(&ClientTls::default()).expect("no files"), &settings);
    let begun = Instant::now();
    // Never idle, and still made anew.
    while server.connections() < 3 {
        let response = client.request(request(format!("http://{}/", server.address), empty()), LONG).await;
        assert_eq!(collect_bounded(response.expect("answers").into_body(), 10).await.expect("body"), "ok");
        assert!(begun.elapsed() < LONG, "the first connection is used on and on");
        tokio::time::sleep(SHORT / 20).await;
    }
    assert!(begun.elapsed() >= SHORT * 2, "of no age");
}

#[tokio::test]
async fn a_server_of_the_given_ca_is_trusted_and_no_other() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let (ours, theirs) = (Ca::new(dir.path(), "ours"), Ca::new(dir.path(), "theirs"));
    let port = tls_server(server_config(&ours.issue("server", &["localhost"]), None).expect("good files")).await;
    let ask = |ca_file: Option<std::path::PathBuf>, host: &str| {
        let client = client(&ClientTls { ca_file, identity: None });
        let request = request(format!("https://{host}:{port}/"), empty());
        async move { client.request(request, LONG).await }
    };
    assert_eq!(ask(Some(ours.file.clone()), "localhost").await.expect("trusted").status(), StatusCode::OK);
    for (ca_file, host) in [(Some(theirs.file), "localhost"), (None, "localhost"), (Some(ours.file), "127.0.0.1")] {
        let error = ask(ca_file, host).await.expect_err("not trusted");
        assert!(matches!(error, ClientError::Connect(_)) && error.nothing_was_sent(), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_wants_certificates_gets_ours_and_refuses_others() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let ca = Ca::new(dir.path(), "ca");
    let stranger = Ca::new(dir.path(), "stranger").issue("stranger", &["proxy"]);
    let config = server_config(&ca.issue("server", &["localhost"]), Some(&ca.file)).expect("good files");
    let port = tls_server(config).await;
    let ask = |identity| {
        let client = client(&ClientTls { ca_file: Some(ca.file.clone()), identity });
        let request = request(format!("https://localhost:{port}/"), empty());
        async move { client.request(request, LONG).await }
    };
    let response = ask(Some(ca.issue("proxy", &["proxy"]))).await.expect("known");
    assert_eq!(collect_bounded(response.into_body(), 10).await.expect("body"), "known");
    assert!(ask(None).await.is_err());
    assert!(ask(Some(stranger)).await.is_err());
}

#[tokio::test]
async fn a_server_that_never_finishes_tls_is_not_connected_to() {
    let server = scripted(|mut stream, _| async move { drop(read_to_close(&mut stream).await) }).await;
    let request = request(format!("https://127.0.0.1:{}/", server.address.port()), empty());
    let begun = Instant::now();
    let error = client(&ClientTls::default()).request(request, LONG).await.expect_err("no TLS");
    assert!(matches!(error, ClientError::Connect(_)), "{error:?}");
    assert!(begun.elapsed() < LONG / 2);
}

#[tokio::test]
async fn a_silent_server_is_a_time_out_and_a_closed_port_no_connection() {
    let server = scripted(|mut stream, _| async move { drop(read_to_close(&mut stream).await) }).await;
    let client = client(&ClientTls::default());
    let silent = client.request(request(format!("http://{}/", server.address), empty()), SHORT).await;
    let error = silent.expect_err("silent");
    assert!(matches!(error, ClientError::Timeout { .. }) && !error.nothing_was_sent(), "{error:?}");

    let closed = TcpListener::bind("127.0.0.1:0").await.expect("free port").local_addr().expect("bound");
    let error = client.request(request(format!("http://{closed}/"), empty()), LONG).await.expect_err("closed");
    assert!(matches!(error, ClientError::Connect(_)) && error.nothing_was_sent(), "{error:?}");
}

#[tokio::test]
async fn our_own_slow_body_is_not_the_servers_fault() {
    let server = scripted(|mut stream, _| async move {
        read_head(&mut stream).await;
        let mut body = [0; 3];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut body).await.expect("body");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("open");
    })
    .await;
    let pieces = stream::unfold(0, |at| async move {
        tokio::time::sleep(SHORT * 2).await;
        (at < 3).then(|| (Ok(Frame::data(Bytes::from_static(b"x"))), at + 1))
    });
    let mut request = request(format!("http://{}/", server.address), StreamBody::new(pieces).boxed_unsync());
    request.headers_mut().insert("content-length", 3.into());
    let response = client(&ClientTls::default()).request(request, SHORT).await.expect("patience with ourselves");
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_response_body_that_stalls_or_breaks_is_an_error() {
    let server = scripted(|mut stream, connection| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await.expect("open");
        if connection == 0 {
            drop(read_to_close(&mut stream).await);
        }
    })
    .await;
    let client = client(&ClientTls::default());
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        let request = request(format!("http://{}/", server.address), empty());
        let response = client.request(request, LONG).await.expect("head");
        outcomes.push(collect_bounded(response.into_body(), 99).await.expect_err("half a body"));
    }
    assert!(matches!(outcomes[0], BodyError::Stalled { .. }), "{outcomes:?}");
    assert!(matches!(outcomes[1], BodyError::Broken(_)), "{outcomes:?}");
}

//! The listener against clients of its own.

use std::time::Instant;

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::net::tests::{Ca, full, read_head, read_to_close};
use crate::net::tls::{ClientTls, client_config, server_config};

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);

type TestBody = UnsyncBoxBody<Bytes, std::convert::Infallible>;

fn patient() -> ListenerLimits {
    ListenerLimits { header_timeout: LONG, handshake_timeout: LONG, drain: LONG, ..ListenerLimits::default() }
}

fn impatient() -> ListenerLimits {
    ListenerLimits { header_timeout: SHORT, handshake_timeout: SHORT, drain: SHORT, ..ListenerLimits::default() }
}

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<DrainReport>,
}

impl Server {
    async fn start(tls: Option<Arc<ServerConfig>>, limits: ListenerLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(run(listener, tls, limits, |request, _| service(request), async {
            drop(stopped.await);
        }));
        Self { address, stop, running }
    }

    async fn plain() -> Self {
        Self::start(None, patient()).await
    }

    async fn impatient() -> Self {
        Self::start(None, impatient()).await
    }

    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("listening");
        stream.write_all(bytes).await.expect("open");
        stream
    }

    async fn stop(self) -> DrainReport {
        self.stop.send(()).expect("running");
        self.running.await.expect("does not panic")
    }
}

/// Answers by path.
async fn service(request: Request<Incoming>) -> Response<TestBody> {
    match request.uri().path() {
        "/panic" => panic!("on purpose"),
        "/slow" => tokio::time::sleep(SHORT * 2).await,
        "/stuck" => std::future::pending().await,
        "/endless" => {
            let frame = || Ok(Frame::data(Bytes::from_static(&[7; 1024])));
            return Response::new(StreamBody::new(stream::repeat_with(frame)).boxed_unsync());
        }
        "/read" => {
            let body = request.into_body().collect().await.expect("whole body").to_bytes();
            return Response::new(Full::new(body).boxed_unsync());
        }
        _ => {}
    }
    Response::new(full("done").boxed_unsync())
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

async fn answer(stream: &mut TcpStream) -> String {
    let head = read_head(stream).await;
    let mut body = [0; 4];
    stream.read_exact(&mut body).await.expect("body");
    format!("{head}{}", String::from_utf8_lossy(&body))
}

#[tokio::test]
async fn who_connects_and_does_not_ask_is_dropped() {
    let server = Server::impatient().await;
    for beginning in ["", "P", "GET / HTTP/1.1\r\nHost: h\r\nX: ", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = server.send(beginning.as_bytes()).await;
        let closed = tokio::time::timeout(LONG, read_to_close(&mut stream)).await;
        assert!(closed.is_ok(), "{beginning:?} keeps its connection");
    }
}

#[tokio::test]
async fn a_head_that_trickles_in_is_dropped() {
    let server = Server::impatient().await;
    let mut stream = server.send(b"GET / HTTP/1.1\r\nHost: h\r\n").await;
    let begun = Instant::now();
    while stream.write_all(b"X: y\r\n").await.is_ok() {
        assert!(begun.elapsed() < LONG, "the connection is still open");
        tokio::time::sleep(SHORT / 10).await;
    }
    assert!(begun.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_connection_that_was_used_is_kept_while_idle_and_a_further_head_has_to_come_by_then() {
    let limits = ListenerLimits { header_timeout: SHORT, idle_timeout: SHORT * 4, ..patient() };
    let server = Server::start(None, limits).await;
    let mut stream = server.send(GET).await;
    assert!(answer(&mut stream).await.ends_with("done"));
    tokio::time::sleep(SHORT * 2).await;
    stream.write_all(GET).await.expect("still open");
    assert!(answer(&mut stream).await.ends_with("done"));
    let begun = Instant::now();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n").await.expect("still open");
    while stream.write_all(b"X: y\r\n").await.is_ok() {
        assert!(begun.elapsed() < LONG, "the connection is still open");
        tokio::time::sleep(SHORT / 10).await;
    }
    assert!(begun.elapsed() >= SHORT * 2);
}

#[tokio::test]
async fn idle_connections_make_room_for_those_that_wait() {
    let limits = ListenerLimits { max_connections: 2, header_timeout: SHORT, idle_timeout: LONG * 2, ..patient() };
    let server = Server::start(None, limits).await;
    for _ in 0..6 {
        let mut stream = server.send(GET).await;
        assert!(tokio::time::timeout(LONG, answer(&mut stream)).await.expect("is served").ends_with("done"));
        // It stays open.
        std::mem::forget(stream);
    }
}

/// An HTTP/2 connection with one request; nothing that comes is acknowledged.
const GET_OVER_HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \x00\x00\x00\x04\x00\x00\x00\x00\x00\
    \x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x01h";

#[tokio::test]
async fn an_http2_connection_that_its_peer_does_not_end_makes_room_too() {
    let [header_timeout, idle_timeout, stall_timeout] = [SHORT, SHORT * 2, LONG * 2];
    let limits = ListenerLimits { max_connections: 1, header_timeout, idle_timeout, stall_timeout, ..patient() };
    let server = Server::start(None, limits).await;
    let mut stubborn = server.send(GET_OVER_HTTP2).await;
    let mut got = Vec::new();
    while !got.windows(4).any(|window| window == b"done") {
        assert!(stubborn.read_buf(&mut got).await.expect("open") > 0, "closed before its answer: {got:?}");
    }
    let mut waiting = server.send(GET).await;
    assert!(tokio::time::timeout(LONG, answer(&mut waiting)).await.expect("is served").ends_with("done"));
}

#[tokio::test]
async fn a_tls_handshake_that_does_not_begin_is_dropped() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let identity = Ca::new(dir.path(), "ca").issue("server", &["localhost"]);
    let server = Server::start(Some(server_config(&identity, None).expect("good files")), impatient()).await;
    let mut silent = server.send(b"").await;
    tokio::time::timeout(LONG, read_to_close(&mut silent)).await.expect("dropped");
    let mut plain = server.send(GET).await;
    tokio::time::timeout(LONG, read_to_close(&mut plain)).await.expect("dropped");
}

#[tokio::test]
async fn heads_beyond_the_limit_are_refused() {
    let server = Server::plain().await;
    let long = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "y".repeat(70 << 10));
    let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(200));
    for head in [long, many] {
        let mut stream = server.send(head.as_bytes()).await;
        let answer = String::from_utf8_lossy(&read_to_close(&mut stream).await).into_owned();
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    }
}

#[tokio::test]
async fn a_panic_ends_its_own_connection_only() {
    let server = Server::plain().await;
    let mut bystander = server.send(GET).await;
    assert!(answer(&mut bystander).await.ends_with("done"));
    let mut panics = server.send(b"GET /panic HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(read_to_close(&mut panics).await.is_empty());
    bystander.write_all(GET).await.expect("still open");
    assert!(answer(&mut bystander).await.ends_with("done"));
    assert!(answer(&mut server.send(GET).await).await.ends_with("done"));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let limits = ListenerLimits { max_connections: 1, ..patient() };
    let server = Server::start(None, limits).await;
    let mut first = server.send(GET).await;
    assert!(answer(&mut first).await.ends_with("done"));
    let mut second = server.send(GET).await;
    assert!(tokio::time::timeout(SHORT, second.read_u8()).await.is_err(), "served beyond the limit");
    drop(first);
    assert!(answer(&mut second).await.ends_with("done"));
}

#[tokio::test]
async fn the_client_is_told_to_continue_only_when_its_body_is_wanted() {
    let server = Server::plain().await;
    let ask =
        |path: &str| format!("PUT {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    let mut refused = server.send(ask("/").as_bytes()).await;
    assert!(read_head(&mut refused).await.starts_with("HTTP/1.1 200 "));
    let mut wanted = server.send(ask("/read").as_bytes()).await;
    assert_eq!(read_head(&mut wanted).await, "HTTP/1.1 100 Continue\r\n\r\n");
    wanted.write_all(b"body").await.expect("open");
    assert!(answer(&mut wanted).await.ends_with("body"));
}

#[tokio::test]
async fn a_response_that_is_not_taken_is_cut_off() {
    let limits = ListenerLimits { stall_timeout: SHORT, ..patient() };
    let server = Server::start(None, limits).await;
    let mut stream = server.send(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n").await;
    tokio::time::sleep(SHORT * 6).await;
    let closed = tokio::time::timeout(LONG, read_to_close(&mut stream)).await;
    assert!(closed.is_ok(), "the response goes on");
}

#[tokio::test]
async fn draining_lets_requests_finish_and_closes_idle_connections() {
    let server = Server::plain().await;
    let mut idle = server.send(GET).await;
    assert!(answer(&mut idle).await.ends_with("done"));
    let mut slow = server.send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").await;
    tokio::time::sleep(SHORT / 3).await;
    let (address, begun) = (server.address, Instant::now());
    let stopping = tokio::spawn(server.stop());
    assert!(answer(&mut slow).await.ends_with("done"));
    assert_eq!(stopping.await.expect("no panic"), DrainReport { requests_cut: 0, connections_cut: 0 });
    assert!(begun.elapsed() < LONG / 2, "waited although all was done");
    assert!(TcpStream::connect(address).await.is_err(), "still listening");
}

#[tokio::test]
async fn draining_cuts_off_what_does_not_finish() {
    let server = Server::impatient().await;
    let mut stuck = server.send(b"GET /stuck HTTP/1.1\r\nHost: h\r\n\r\n").await;
    tokio::time::sleep(SHORT / 3).await;
    assert_eq!(server.stop().await, DrainReport { requests_cut: 1, connections_cut: 1 });
    assert!(read_to_close(&mut stuck).await.is_empty());
}

#[tokio::test]
async fn http2_is_served_over_tls_and_idle_connections_end() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let ca = Ca::new(dir.path(), "ca");
    let tls = server_config(&ca.issue("server", &["localhost"]), None).expect("good files");
    let server = Server::start(Some(tls), ListenerLimits { idle_timeout: SHORT * 2, ..patient() }).await;
    let mut config = client_config(&ClientTls { ca_file: Some(ca.file), identity: None }).expect("good files");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(server.address).await.expect("listening");
    let name = "localhost".try_into().expect("a name");
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS");
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let get = |path: &str| Request::get(format!("https://localhost{path}")).body(full("")).expect("good request");
    assert!(sender.send_request(get("/panic")).await.is_err());
    let response = sender.send_request(get("/")).await.expect("the panic took one stream only");
    assert_eq!(response.into_body().collect().await.expect("body").to_bytes(), "done");
    let ended = tokio::time::timeout(LONG, connection).await.expect("closed when idle");
    ended.expect("no panic").expect("an orderly end");
}

#[tokio::test]
async fn connections_do_not_outlive_the_tls_configuration_that_let_them_in() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let ca = Ca::new(dir.path(), "ca");
    let config = server_config(&ca.issue("server", &["localhost"]), None).expect("good files");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let address = listener.local_addr().expect("bound");
    let (replace, config_of) = watch::channel(Arc::clone(&config));
    let tls = Some(Tls { config: config_of, former: Former::Leave });
    let limits = ListenerLimits { drain: SHORT, ..patient() };
    let running = tokio::spawn(run_with(listener, tls, limits, |request, _| service(request), std::future::pending()));
    let client = client_config(&ClientTls { ca_file: Some(ca.file.clone()), identity: None }).expect("good files");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let send = async |request: &[u8]| {
        let stream = TcpStream::connect(address).await.expect("listening");
        let mut stream = connector.connect("localhost".try_into().expect("a name"), stream).await.expect("trusted");
        stream.write_all(request).await.expect("open");
        stream
    };
    let (mut idle, mut stuck) = (send(GET).await, send(b"GET /stuck HTTP/1.1\r\nHost: h\r\n\r\n").await);
    let mut got = [0; 15];
    idle.read_exact(&mut got).await.expect("an answer");
    assert_eq!(&got, b"HTTP/1.1 200 OK");
    tokio::time::sleep(SHORT / 3).await;
    replace.send_replace(config);
    for stream in [&mut idle, &mut stuck] {
        let mut rest = Vec::new();
        // An end without a farewell is one, too.
        let _ = tokio::time::timeout(LONG / 2, stream.read_to_end(&mut rest)).await.expect("is closed");
    }
    let mut new = send(GET).await;
    new.read_exact(&mut got).await.expect("an answer");
    running.abort();
}

//! One GET over TLS and HTTP/2.

use std::sync::Arc;

use bytes::Bytes;
use claviger::net::tls::{ClientTls, client_config};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Answer, World};

pub(crate) async fn get(world: &World, bucket: &str, key: &str) -> Answer {
    let tls = ClientTls { ca_file: world.proxy.ca_file().map(Into::into), identity: None };
    let mut config = client_config(&tls).expect("good files");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(world.proxy.address).await.expect("the proxy listens");
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.expect("HTTP/2");
    tokio::spawn(connection);
    let ask = world.s3.ask(Method::GET, bucket, key);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = format!("https://{}{}", world.s3.host, ask.target()).parse().expect("a URI");
    *request.headers_mut() = ask.sign().headers;
    // HTTP/2 has `:authority` for it.
    request.headers_mut().remove("host");
    let (parts, body) = sender.send_request(request).await.expect("an answer").into_parts();
    let body = body.collect().await;
    let cut = body.is_err();
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body, cut }
}

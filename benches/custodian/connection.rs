//! A client that costs little, since it shares the machine with what it measures: HTTP/1.1 over mTLS, with prepared requests.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A request as it goes over the wire.
pub(crate) fn request(method: &str, path: &str, token: Option<&str>, body: &str) -> Vec<u8> {
    let token = token.map(|token| format!("X-Vault-Token: {token}\r\n")).unwrap_or_default();
    let length = body.len();
    format!("{method} /v1/{path} HTTP/1.1\r\nHost: localhost\r\n{token}Content-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// One kept-alive connection.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    received: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr, tls: &Arc<ClientConfig>) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
        Ok(Self { stream, received: Vec::with_capacity(8192) })
    }

    /// Sends `request` and reads the answer's status and body.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<(u16, &[u8])> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.received.clear();
        let mut end = None;
        while end.is_none_or(|(_, end)| self.received.len() < end) {
            let read = self.stream.read_buf(&mut self.received).await?;
            ensure!(read > 0, "the server closed the connection");
            end = end.or(ends(&self.received)?);
        }
        let (start, end) = end.context("no answer")?;
        let status = self.received.get(9..12).and_then(|code| std::str::from_utf8(code).ok());
        Ok((status.context("no status")?.parse()?, self.received.get(start..end).unwrap_or_default()))
    }

    /// As [`Connection::ask`], for what has to succeed.
    pub(crate) async fn done(&mut self, request: &[u8]) -> Result<Value> {
        let (status, body) = self.ask(request).await?;
        ensure!(matches!(status, 200 | 204), "{status}: {}", String::from_utf8_lossy(body));
        Ok(serde_json::from_slice(body).unwrap_or_default())
    }
}

/// Where the body begins and ends, once the whole head is there.
fn ends(received: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(at) = memchr::memmem::find(received, b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&received[..at])?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    });
    // 204 has none. Nothing that is measured here comes in chunks.
    let length = length.transpose()?.unwrap_or_default();
    Ok(Some((at + 4, at + 4 + length)))
}

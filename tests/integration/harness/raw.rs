//! Requests byte by byte, for what no HTTP library sends.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::LONG;
use super::client::Ask;

/// A connection to the proxy.
pub(crate) struct Raw(TcpStream);

/// The head of a signed request, as it goes on the wire. `further` are whole header lines.
pub(crate) fn head_of(method: &str, ask: &Ask, further: &[&str]) -> String {
    let mut head = format!("{method} {} HTTP/1.1\r\n", ask.target());
    for (name, value) in &ask.sign().headers {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().expect("ASCII")));
    }
    for line in further {
        head.push_str(&format!("{line}\r\n"));
    }
    head + "\r\n"
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.expect("the proxy listens"))
    }

    /// As another machine would, from an address of its own.
    pub(crate) async fn connect_from(from: [u8; 4], address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from((from, 0))).expect("an address of the loopback");
        Self(socket.connect(address).await.expect("the proxy listens"))
    }

    /// Whether it could be sent.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).await.is_ok()
    }

    /// The next head that comes, interim ones included; empty when the connection ends instead.
    pub(crate) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match tokio::time::timeout(LONG, self.0.read_u8()).await.expect("an answer or an end") {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        String::from_utf8_lossy(&head).into_owned()
    }

    /// What comes until the proxy closes, or for `patience`: the bytes, and whether it closed.
    pub(crate) async fn rest(&mut self, patience: Duration) -> (String, bool) {
        let mut bytes = Vec::new();
        let closed = tokio::time::timeout(patience, async {
            let mut piece = [0; 8192];
            while let Ok(count) = self.0.read(&mut piece).await {
                if count == 0 {
                    break;
                }
                bytes.extend_from_slice(&piece[..count]);
            }
        })
        .await
        .is_ok();
        (String::from_utf8_lossy(&bytes).into_owned(), closed)
    }

    /// Whether nothing comes for `patience`.
    pub(crate) async fn is_silent(&mut self, patience: Duration) -> bool {
        let mut byte = [0];
        tokio::time::timeout(patience, self.0.peek(&mut byte)).await.is_err()
    }
}

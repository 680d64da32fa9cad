//! Where connections lead and come from: the system's network, or another one that is given in its place.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A connection, below TLS.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// A network in which connections are opened.
pub trait Network: Send + Sync {
    /// Connects to a port of a host.
    ///
    /// # Errors
    /// Those of the network.
    fn connect(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Box<dyn Stream>>>;
}

/// The network that a client connects in: the system's own, unless another one is given.
#[derive(Clone, Default)]
pub struct ClientNetwork(pub(super) Option<Arc<dyn Network>>);

impl ClientNetwork {
    /// This one.
    pub fn given(network: Arc<dyn Network>) -> Self {
        Self(Some(network))
    }
}

impl fmt::Debug for ClientNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "given" } else { "of the system" })
    }
}

/// Where connections come in.
pub trait Accept: Send {
    /// A connection.
    type Stream: Stream;

    /// The next connection, and who opened it. Cancelling loses none.
    ///
    /// # Errors
    /// Those of the network. Whatever they are, it is asked again.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        Ok((stream, peer))
    }
}

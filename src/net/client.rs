//! The one HTTP client: HTTP/1.1, pooled, over TLS or plain TCP.
//!
//! **Invariant:** every wait on the peer ends: connecting, the response's head, and each frame of its body
//! have time-outs. Redirects are not followed, proxies of the environment are not asked.

mod connector;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{Client, Error as PoolError};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use self::connector::{Connector, Made};
use super::BoxError;
use super::body::TimedBody;
use super::network::ClientNetwork;
use super::progress::{Exchange, Progress};

/// Most bytes of a response's head, and of the write buffer of a connection.
const MAX_BUFFER_BYTES: usize = 128 << 10;
/// Most headers of a response.
const MAX_HEADERS: usize = 256;

/// A response's body, which fails when the peer pauses for too long.
pub type ResponseBody = TimedBody<Incoming>;

/// Time-outs and the size of the pool.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// For name resolution, TCP and TLS together.
    pub connect_timeout: Duration,
    /// For each pause within a response's body.
    pub body_timeout: Duration,
    /// How long an idle connection is kept. Below what servers usually allow, so that it is rarely the server
    /// that closes, just when the next request is on its way.
    pub pool_idle_timeout: Duration,
    /// How many idle connections are kept to one server.
    pub pool_max_idle_per_host: usize,
    /// How long a connection is used for further requests. A new one goes where the server's name leads by then, also under a load
    /// that leaves none idle.
    pub connection_age_max: Duration,
    /// Where the servers are.
    pub network: ClientNetwork,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(60),
            pool_idle_timeout: Duration::from_secs(30),
            pool_max_idle_per_host: 32,
            connection_age_max: Duration::from_secs(300),
            network: ClientNetwork::default(),
        }
    }
}

/// No response came.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection: the name, the address, TLS or its certificates. Nothing of the request was sent.
    #[error("cannot connect")]
    Connect(#[source] PoolError),
    /// A pooled connection turned out closed before anything of the request was sent.
    #[error("the connection was closed before the request was sent")]
    Unsent(#[source] PoolError),
    /// The peer did not take the request or did not answer in time.
    #[error("no answer for {} s", limit.as_secs_f32())]
    Timeout {
        /// Time the peer had.
        limit: Duration,
    },
    /// The peer answered, but not in HTTP.
    #[error("the answer is not HTTP")]
    Garbage(#[source] PoolError),
    /// The request's own body failed, or the request is not a valid one.
    #[error("the request failed on our side")]
    Request(#[source] PoolError),
    /// The connection broke after something was sent and before the response's head came.
    #[error("the connection broke before an answer came")]
    Closed(#[source] PoolError),
}

impl ClientError {
    /// Whether it is certain that the peer saw nothing of the request.
    pub fn nothing_was_sent(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Unsent(_))
    }

    fn from_pool(error: PoolError) -> Self {
        if error.is_connect() {
            return Self::Connect(error);
        }
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<hyper::Error>());
        match source {
            None => Self::Request(error),
            Some(source) if source.is_canceled() => Self::Unsent(error),
            Some(source) if source.is_parse() => Self::Garbage(error),
            Some(source) if source.is_user() || source.is_body_write_aborted() => Self::Request(error),
            Some(_) => Self::Closed(error),
        }
    }
}

/// An HTTP client whose requests have bodies of type `B`. Cheap to clone; clones share the pool.
pub struct HttpClient<B> {
    pool: Client<Connector, Tracked<B>>,
    body_timeout: Duration,
    connection_age_max: Duration,
}

impl<B> Clone for HttpClient<B> {
    fn clone(&self) -> Self {
        let Self { body_timeout, connection_age_max, .. } = *self;
        Self { pool: self.pool.clone(), body_timeout, connection_age_max }
    }
}

impl<B> HttpClient<B>
where
    B: Body + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// A client with an empty pool. `tls` serves the `https` requests ([`super::tls::client_config`]).
    pub fn new(tls: rustls::ClientConfig, settings: &ClientSettings) -> Self {
        let pool = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(settings.pool_idle_timeout)
            .pool_max_idle_per_host(settings.pool_max_idle_per_host)
            .http1_max_buf_size(MAX_BUFFER_BYTES)
            .http1_max_headers(MAX_HEADERS)
            .build(Connector::new(tls, settings));
        let ClientSettings { body_timeout, connection_age_max, .. } = *settings;
        Self { pool, body_timeout, connection_age_max }
    }

    /// Sends `request`, whose URI is absolute, and returns the response once its head is there.
    ///
    /// `head_timeout` bounds each time in which the peer has to act: from the last piece of the body that it
    /// took to the response's head. Time in which the request's own body has nothing to send does not count.
    /// Dropping the future closes the connection if the request was under way.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn request(
        &self,
        request: Request<B>,
        head_timeout: Duration,
    ) -> Result<Response<ResponseBody>, ClientError> {
        let progress = Progress::new();
        let exchange = progress.begin(false);
        let mut request = request.map(|inner| Tracked { inner, exchange });
        let connection = capture_connection(&mut request);
        let response = tokio::select! {
            response = self.pool.request(request) => response.map_err(ClientError::from_pool)?,
            _ = progress.peer_overdue(head_timeout, |_| head_timeout) => return Err(ClientError::Timeout { limit: head_timeout }),
        };
        let Made(made) = response.extensions().get().copied().unwrap_or_else(Made::now);
        if made.elapsed() >= self.connection_age_max {
            // Once this answer is read, it is closed.
            connection.connection_metadata().as_ref().inspect(|connected| connected.poison());
        }
        Ok(response.map(|body| TimedBody::new(body, self.body_timeout)))
    }
}

/// A request's body that notes whether it or the peer is being waited for.
struct Tracked<B> {
    inner: B,
    exchange: Exchange,
}

impl<B: Body + Unpin> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        self.exchange.turn(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests;

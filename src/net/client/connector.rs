//! Connections for the client: a time-out over all of connecting, and answers before broken pipes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use http::Uri;
use http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep};
use tower_service::Service;

use super::ClientSettings;
use crate::net::BoxError;
use crate::net::network::{ClientNetwork, Stream};

/// How long to go on reading after the peer stopped taking what we send.
const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// After this long without an acknowledgement the system gives a connection up, even while nobody polls it.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// Connecting took too long.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {} s", .0.as_secs_f32())]
struct ConnectTimedOut(Duration);

/// A connection below TLS.
type Wire = TokioIo<Box<dyn Stream>>;

/// Opens TCP and TLS connections.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<TcpConnector>,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(tls: rustls::ClientConfig, settings: &ClientSettings) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(UNACKNOWLEDGED));
        #[cfg(target_os = "linux")]
        http.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        Self {
            https: HttpsConnector::from((TcpConnector { http, network: settings.network.clone() }, tls)),
            timeout: settings.connect_timeout,
        }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<AnswerFirst<Wire>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let limit = self.timeout;
        let connecting = tokio::time::timeout(limit, self.https.call(uri));
        connecting.map(move |done| done.map_err(|_| ConnectTimedOut(limit))?).boxed()
    }
}

/// The TCP half, below TLS.
#[derive(Clone)]
struct TcpConnector {
    http: HttpConnector,
    /// In place of the system's.
    network: ClientNetwork,
}

impl Service<Uri> for TcpConnector {
    type Response = AnswerFirst<Wire>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.http.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = match &self.network.0 {
            None => {
                let connecting = self.http.call(uri);
                async move { Ok::<_, BoxError>(Box::new(connecting.await?.into_inner()) as Box<dyn Stream>) }.boxed()
            }
            Some(network) => {
                let usual = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
                let connecting = network.connect(uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(usual));
                async move { Ok(connecting.await?) }.boxed()
            }
        };
        async move { Ok(AnswerFirst { inner: TokioIo::new(connecting.await?), broken: None, made: Made::now() }) }
            .boxed()
    }
}

/// When a connection was made. Each response that comes over it has it among its extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made(pub(super) Instant);

impl Made {
    pub(super) fn now() -> Self {
        Self(Instant::now())
    }
}

/// A stream whose broken writes wait for the reading side.
///
/// A server that refuses an upload early answers and closes; our next write then fails although its answer
/// already lies in the receive buffer. So a write on a connection that the peer closed does not fail at once:
/// it waits for [`ANSWER_GRACE`], in which the answer, or the end of the stream, is read.
pub(super) struct AnswerFirst<T> {
    inner: T,
    broken: Option<(io::ErrorKind, Pin<Box<Sleep>>)>,
    made: Made,
}

impl<T> AnswerFirst<T> {
    fn write(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>>
    where
        T: Unpin,
    {
        if self.broken.is_none() {
            match ready!(write(Pin::new(&mut self.inner), context)) {
                Err(error) if is_closed_by_peer(&error) => {
                    self.broken = Some((error.kind(), Box::pin(tokio::time::sleep(ANSWER_GRACE))));
                }
                written => return Poll::Ready(written),
            }
        }
        match &mut self.broken {
            Some((kind, grace)) => grace.as_mut().poll(context).map(|()| Err((*kind).into())),
            None => Poll::Ready(Ok(0)),
        }
    }
}

fn is_closed_by_peer(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl<T: Read + Unpin> Read for AnswerFirst<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: Write + Unpin> Write for AnswerFirst<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(context, |inner, context| inner.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(context, |inner, context| inner.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl<T> Connection for AnswerFirst<T> {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use http_body_util::Empty;
    use hyper::client::conn::http1;

    /// What is left of a connection whose peer answered and closed: writes fail, the answer arrives a little later.
    struct Closed {
        arrives: Pin<Box<Sleep>>,
        answer: &'static [u8],
    }

    impl Closed {
        fn new() -> Self {
            let arrives = Box::pin(tokio::time::sleep(Duration::from_millis(50)));
            Self { arrives, answer: b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n" }
        }
    }

    impl Read for Closed {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            mut buffer: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            ready!(self.arrives.as_mut().poll(context));
            buffer.put_slice(std::mem::take(&mut self.answer));
            Poll::Ready(Ok(()))
        }
    }

    impl Write for Closed {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn ask(io: impl Read + Write + Unpin + Send + 'static) -> hyper::Result<u16> {
        let (mut sender, connection) = http1::handshake(io).await?;
        tokio::spawn(connection);
        let request = Request::put("/").body(Empty::<bytes::Bytes>::new()).expect("good request");
        sender.send_request(request).await.map(|response| response.status().as_u16())
    }

    #[tokio::test]
    async fn an_answer_goes_before_a_broken_pipe() {
        assert!(ask(Closed::new()).await.is_err(), "the library alone does not wait for the answer");
        let io = AnswerFirst { inner: Closed::new(), broken: None, made: Made::now() };
        assert_eq!(ask(io).await.expect("the answer"), 403);
    }

    #[tokio::test]
    async fn a_broken_pipe_without_an_answer_is_an_error_after_a_while() {
        let mut closed = Closed::new();
        closed.arrives = Box::pin(tokio::time::sleep(ANSWER_GRACE * 60));
        let asked = ask(AnswerFirst { inner: closed, broken: None, made: Made::now() });
        assert!(tokio::time::timeout(ANSWER_GRACE * 20, asked).await.expect("no hang").is_err());
    }
}

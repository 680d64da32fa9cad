//! One accepted connection: handshake, HTTP, the watch over its peer.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{ConnectionInfo, Former, ListenerLimits, Tls};
use crate::net::BoxError;
use crate::net::network::Stream;
use crate::net::progress::{Exchange, Progress, Snapshot};

/// A request's handler panicked. hyper then closes the connection (or resets the HTTP/2 stream).
#[derive(Debug, thiserror::Error)]
#[error("the request's handler panicked")]
struct HandlerPanicked;

/// What all connections of a listener share.
pub(super) struct Shared<S> {
    service: S,
    tls: Option<Tls>,
    limits: ListenerLimits,
    builders: Builders,
    draining: watch::Receiver<bool>,
    /// For connections: none is left when further ones wait.
    slots: Arc<Semaphore>,
    running: Arc<AtomicUsize>,
}

impl<S, F, B> Shared<S>
where
    S: Fn(Request<Incoming>, ConnectionInfo) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(
        service: S,
        tls: Option<Tls>,
        limits: ListenerLimits,
        (draining, slots): (watch::Receiver<bool>, Arc<Semaphore>),
        running: Arc<AtomicUsize>,
    ) -> Self {
        let builders = Builders::new(&limits);
        Self { service, tls, limits, builders, draining, slots, running }
    }

    pub(super) async fn serve(self: Arc<Self>, stream: impl Stream, peer: SocketAddr) {
        let Some(mut tls) = self.tls.clone() else {
            let info = ConnectionInfo { peer, tls: false, client_certificate: None };
            return self.serve_http(Box::new(TokioIo::new(stream)), info, Protocol::Any, std::future::pending()).await;
        };
        let (io, info, protocol) = {
            let acceptor = TlsAcceptor::from(Arc::clone(&tls.config.borrow_and_update()));
            let Some(stream) = Box::pin(self.handshake(&acceptor, stream, peer)).await else { return };
            let (_, session) = stream.get_ref();
            let certificate = session.peer_certificates().and_then(|chain| chain.first());
            let client_certificate = certificate.map(|certificate| Arc::new(certificate.clone().into_owned()));
            let protocol = if session.alpn_protocol() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
            // A connection may be idle for long: what is large has one place, to which all others point.
            let io = Box::new(TokioIo::new(stream));
            (io, ConnectionInfo { peer, tls: true, client_certificate }, protocol)
        };
        self.serve_http(io, info, protocol, is_replaced(tls)).await;
    }

    async fn handshake<T: Stream>(&self, acceptor: &TlsAcceptor, stream: T, peer: SocketAddr) -> Option<TlsStream<T>> {
        let accepting = tokio::time::timeout(self.limits.handshake_timeout, acceptor.accept(stream));
        let accepted = tokio::select! {
            accepted = accepting => accepted,
            () = drain_begins(self.draining.clone()) => return None,
        };
        match accepted {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "TLS handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!(%peer, "TLS handshake took too long");
                None
            }
        }
    }

    /// `outdated` resolves when the connection should not be made any more as it was.
    async fn serve_http<I>(
        self: Arc<Self>,
        io: Box<I>,
        info: ConnectionInfo,
        protocol: Protocol,
        outdated: impl Future<Output = ()>,
    ) where
        I: Read + Write + Unpin + Send + 'static,
    {
        let progress = Progress::new();
        let peer = info.peer;
        let service = service_fn(|request| Arc::clone(&self).answer(request, info.clone(), progress.begin(true)));
        let mut connection = pin!(self.builders.of(protocol).serve_connection(io, service));
        let overdue = progress.peer_overdue(self.limits.shortest(), |now| self.patience(now));
        let mut drain = pin!(drain_begins(self.draining.clone()).fuse());
        let (mut overdue, mut outdated) = (pin!(overdue.fuse()), pin!(outdated.fuse()));
        let (mut cut_at, mut look_at) = (None, None);
        let ended = loop {
            tokio::select! {
                ended = connection.as_mut() => break ended,
                () = &mut drain => connection.as_mut().graceful_shutdown(),
                () = &mut outdated => {
                    cut_at = Some(Instant::now() + self.limits.drain);
                    connection.as_mut().graceful_shutdown();
                }
                () = at(cut_at) => {
                    tracing::debug!(%peer, "cutting off a connection whose TLS configuration was replaced");
                    return;
                }
                now = &mut overdue => {
                    tracing::debug!(%peer, requests = now.open, "closing a connection that its peer does not use");
                    if now.open > 0 || now.begun == 0 {
                        return;
                    }
                    // What is still in the buffers may yet be taken, and what the peer sends meanwhile is answered.
                    connection.as_mut().graceful_shutdown();
                    look_at = Some(Instant::now() + self.limits.shortest());
                }
                () = at(look_at) => {
                    if self.is_given_up(&progress.snapshot()) {
                        tracing::debug!(%peer, "cutting off a connection that its peer does not end");
                        return;
                    }
                    look_at = Some(Instant::now() + self.limits.shortest());
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection ended with an error");
        }
    }

    /// How long the peer may be waited for in this state.
    fn patience(&self, now: &Snapshot) -> Duration {
        match (now.begun, now.open) {
            (0, _) => self.limits.header_timeout,
            (_, 0) if self.is_full() => self.limits.idle_timeout.min(self.limits.header_timeout),
            (_, 0) => self.limits.idle_timeout,
            _ => self.limits.stall_timeout,
        }
    }

    /// Whether further connections wait until one ends.
    fn is_full(&self) -> bool {
        self.slots.available_permits() == 0
    }

    /// Whether a connection is cut off that was told to end. Without requests it has the time of an untaken response beside that of an
    /// idle connection, unless others wait for its place.
    fn is_given_up(&self, now: &Snapshot) -> bool {
        let limits = &self.limits;
        match now.open {
            0 if self.is_full() => now.since.elapsed() >= limits.header_timeout,
            0 => now.since.elapsed() >= limits.idle_timeout + limits.stall_timeout,
            _ => now.ours == 0 && now.since.elapsed() >= limits.stall_timeout,
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        info: ConnectionInfo,
        exchange: Exchange,
    ) -> Result<Response<Counted<B>>, HandlerPanicked> {
        let peer = info.peer;
        let mut ticket = Ticket::new(exchange, Arc::clone(&self.running));
        // Each connection has room for one, also while it is idle.
        let answering = AssertUnwindSafe(async { Box::pin((self.service)(request, info)).await });
        let response = answering.catch_unwind().await.map_err(|_| {
            tracing::error!(%peer, "a request's handler panicked; its connection is closed");
            HandlerPanicked
        })?;
        ticket.exchange.turn(false);
        Ok(response.map(|inner| Counted { inner, ticket }))
    }
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
    /// What the client begins with.
    Any,
}

/// Makes connections, by protocol.
struct Builders {
    http1: Builder<TokioExecutor>,
    http2: Builder<TokioExecutor>,
    any: Builder<TokioExecutor>,
}

impl Builders {
    fn new(limits: &ListenerLimits) -> Self {
        let any = http_builder(limits);
        Self { http1: any.clone().http1_only(), http2: any.clone().http2_only(), any }
    }

    fn of(&self, protocol: Protocol) -> &Builder<TokioExecutor> {
        match protocol {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
            Protocol::Any => &self.any,
        }
    }
}

fn http_builder(limits: &ListenerLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // How long a head may take, `patience` says: hyper's timer for it would run while a connection is idle, and be set for each request.
    builder
        .http1()
        .header_read_timeout(None)
        .max_buf_size(usize::try_from(limits.max_header_bytes).unwrap_or(usize::MAX).max(8192))
        .max_headers(limits.max_headers);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(limits.max_header_bytes)
        .max_concurrent_streams(limits.http2_max_streams)
        .initial_stream_window_size(limits.http2_stream_window)
        .initial_connection_window_size(limits.http2_connection_window)
        .max_send_buf_size(limits.http2_send_buffer)
        .keep_alive_interval(limits.http2_ping_interval)
        .keep_alive_timeout(limits.http2_ping_interval);
    builder
}

async fn drain_begins(mut draining: watch::Receiver<bool>) {
    // An error means that the listener's task is gone, which ends its connections too.
    let _ = draining.wait_for(|draining| *draining).await;
}

/// Resolves when there is another configuration than the one last seen: the peer may be none that would be let in now.
async fn is_replaced(mut tls: Tls) {
    if tls.former == Former::Stay || tls.config.changed().await.is_err() {
        // It does not matter, or nobody is there to replace it.
        std::future::pending().await
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Counts a request from its head to the end of its response.
struct Ticket {
    exchange: Exchange,
    running: Arc<AtomicUsize>,
}

impl Ticket {
    fn new(exchange: Exchange, running: Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::Relaxed);
        Self { exchange, running }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A response's body that notes whether it or the peer is being waited for.
pub(super) struct Counted<B> {
    inner: B,
    ticket: Ticket,
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        self.ticket.exchange.turn(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

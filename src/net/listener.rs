//! An HTTP server socket with limits on everything, and a graceful end.
//!
//! **Invariant:** no peer holds a connection without using it: handshake, first request, idle time and a
//! response that is not taken all have time-outs. Memory per connection is bounded by [`ListenerLimits`].
//! A panic in one request ends that request's connection and nothing else.

mod connection;
mod count;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};

use self::connection::Shared;
pub use self::count::ConnectionCount;
use super::BoxError;
use super::network::Accept;
use super::seldom::Seldom;

/// Pause after an error that only time can mend, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What keeps connections waiting is told at most this often.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What peers may take of the server.
#[derive(Debug, Clone)]
pub struct ListenerLimits {
    /// Connections at a time. Beyond it none is accepted; they wait in the system's queue.
    pub max_connections: usize,
    /// For the TLS handshake.
    pub handshake_timeout: Duration,
    /// For the head of the first request after connecting; and for a connection without requests while no further one is accepted.
    pub header_timeout: Duration,
    /// How long a connection without requests is kept. The head of a further request has to be there by then.
    pub idle_timeout: Duration,
    /// How long a peer may leave a response untaken.
    pub stall_timeout: Duration,
    /// Bytes of a request's head, and of the buffers of an HTTP/1.1 connection. At least 8,192.
    pub max_header_bytes: u32,
    /// Headers of an HTTP/1.1 request.
    pub max_headers: usize,
    /// Requests at a time on one HTTP/2 connection.
    pub http2_max_streams: u32,
    /// Bytes that a peer may send ahead on one HTTP/2 stream.
    pub http2_stream_window: u32,
    /// Bytes that a peer may send ahead on all streams of an HTTP/2 connection.
    pub http2_connection_window: u32,
    /// Bytes of a response kept ready for each HTTP/2 stream.
    pub http2_send_buffer: usize,
    /// Pause between two HTTP/2 pings; the peer has as long to answer one.
    pub http2_ping_interval: Duration,
    /// How long running requests may go on after the shutdown began.
    pub drain: Duration,
    /// Where connections are counted.
    pub count: ConnectionCount,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(300),
            max_header_bytes: 64 << 10,
            max_headers: 128,
            http2_max_streams: 128,
            http2_stream_window: 256 << 10,
            http2_connection_window: 1 << 20,
            http2_send_buffer: 128 << 10,
            http2_ping_interval: Duration::from_secs(20),
            drain: Duration::from_secs(30),
            count: ConnectionCount::default(),
        }
    }
}

impl ListenerLimits {
    /// The shortest time that a peer has for anything after the handshake.
    pub(super) fn shortest(&self) -> Duration {
        self.header_timeout.min(self.idle_timeout).min(self.stall_timeout)
    }
}

/// The TLS side of a listener. Its configuration may be replaced: each new connection is made with the one that there is then.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The configuration.
    pub config: watch::Receiver<Arc<ServerConfig>>,
    /// What becomes of the connections that were made with a former one.
    pub former: Former,
}

/// What becomes of connections whose TLS configuration was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Former {
    /// They go on.
    Stay,
    /// They take no further requests, and are cut off when the drain time is over: their peers' certificates may have been revoked
    /// since.
    Leave,
}

/// Where a request came from.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// The peer's address.
    pub peer: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The certificate with which the peer proved itself, where the TLS configuration asks for one.
    pub client_certificate: Option<Arc<CertificateDer<'static>>>,
}

/// How the end went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainReport {
    /// Requests that were cut off because they outlasted the drain time.
    pub requests_cut: usize,
    /// Connections that were cut off, with requests on them or without.
    pub connections_cut: usize,
}

/// Serves `listener` until `shutdown` resolves, then drains. With `tls`, HTTP/2 or HTTP/1.1 as the client
/// chooses by ALPN; without, whichever the client begins with.
///
/// `service` answers every request; what it returns for a request with `Expect: 100-continue` without having
/// read the body is sent without asking the client for that body. Request bodies have no time-out of their
/// own here: wrap them in [`super::body::TimedBody`].
pub async fn run<S, F, B>(
    listener: impl Accept,
    tls: Option<Arc<ServerConfig>>,
    limits: ListenerLimits,
    service: S,
    shutdown: impl Future<Output = ()>,
) -> DrainReport
where
    S: Fn(Request<Incoming>, ConnectionInfo) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let tls = tls.map(|tls| Tls { config: watch::channel(tls).1, former: Former::Stay });
    run_with(listener, tls, limits, service, shutdown).await
}

/// As [`run`], with a TLS configuration that may be replaced.
pub async fn run_with<S, F, B>(
    listener: impl Accept,
    tls: Option<Tls>,
    limits: ListenerLimits,
    service: S,
    shutdown: impl Future<Output = ()>,
) -> DrainReport
where
    S: Fn(Request<Incoming>, ConnectionInfo) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let (drain_begins, draining) = watch::channel(false);
    let running = Arc::new(AtomicUsize::new(0));
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let mut door = Door::new(listener, Arc::clone(&slots));
    let (drain, count) = (limits.drain, limits.count.clone());
    let shared = Arc::new(Shared::new(service, tls, limits, (draining, slots), Arc::clone(&running)));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => log_panic(ended),
            (stream, peer, slot) = door.next() => {
                let (shared, counted) = (Arc::clone(&shared), count.begin());
                connections.spawn(async move {
                    shared.serve(stream, peer).await;
                    drop(counted);
                    drop(slot);
                });
            }
        }
    }
    drop(door);
    drain_begins.send_replace(true);
    finish(connections, drain, &running).await
}

/// Where connections come in, as many at a time as there are slots.
struct Door<A> {
    listener: A,
    slots: Arc<Semaphore>,
    full: Seldom,
    failing: Seldom,
}

impl<A: Accept> Door<A> {
    fn new(listener: A, slots: Arc<Semaphore>) -> Self {
        let [full, failing] = [Seldom::new(TELL_EVERY), Seldom::new(TELL_EVERY)];
        Self { listener, slots, full, failing }
    }

    /// Waits for a free slot, then for a connection to fill it. Cancelling loses nothing.
    async fn next(&mut self) -> (A::Stream, SocketAddr, OwnedSemaphorePermit) {
        let slots = Arc::clone(&self.slots);
        let slot = match Arc::clone(&slots).try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => {
                if self.full.is_due() {
                    tracing::warn!("all connections that are allowed are in use; further ones wait until one ends");
                }
                slots.acquire_owned().await.expect("the semaphore is never closed")
            }
        };
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, slot),
                Err(error) if concerns_one_connection(&error) => {
                    tracing::debug!(%error, "a connection ended before it was accepted");
                }
                Err(error) => {
                    if self.failing.is_due() {
                        tracing::warn!(%error, "cannot accept connections; trying again");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn concerns_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn finish(mut connections: JoinSet<()>, drain: Duration, running: &AtomicUsize) -> DrainReport {
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    if tokio::time::timeout(drain, all_ended).await.is_ok() {
        return DrainReport { requests_cut: 0, connections_cut: 0 };
    }
    let report = DrainReport { requests_cut: running.load(Ordering::Relaxed), connections_cut: connections.len() };
    tracing::warn!(report.requests_cut, report.connections_cut, "cut off what outlasted the drain time");
    connections.shutdown().await;
    report
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection's task panicked; only this connection was lost");
    }
}

#[cfg(test)]
mod tests;

//! A network in memory, on the paused clock: connections whose bytes come late, links that are cut, hosts that are gone.
//!
//! What a cut link holds back arrives when it is whole again, as TCP sends it again. A host that crashed does nothing any more that
//! others could see: its connections move no byte, and it opens none.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use claviger::net::network::{Accept, Network, Stream};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::lock;
use crate::random::Random;
use crate::scan::Scan;

/// Bytes under way in one direction of a connection.
const WINDOW: usize = 256 << 10;

/// By its place among all hosts.
pub(crate) type Host = u8;

struct Inner {
    random: Random,
    names: Vec<&'static str>,
    /// How often each was started.
    incarnations: Vec<u32>,
    listeners: BTreeMap<Host, mpsc::UnboundedSender<(Wire, SocketAddr)>>,
    /// From one to another, until when nothing passes.
    cut: BTreeMap<(Host, Host), Instant>,
    /// The longest delay of a piece, in milliseconds.
    slowness: u64,
    connections: Vec<Weak<Mutex<Connection>>>,
    scan: Scan,
}

/// The network.
#[derive(Clone)]
pub(crate) struct Net(Arc<Mutex<Inner>>);

fn wake(waiting: &mut Option<Waker>) {
    if let Some(waiting) = waiting.take() {
        waiting.wake();
    }
}

impl Net {
    pub(crate) fn new(random: Random, names: &[&'static str], scan: Scan) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            random,
            names: names.to_vec(),
            incarnations: vec![0; names.len()],
            listeners: BTreeMap::new(),
            cut: BTreeMap::new(),
            slowness: 5,
            connections: Vec::new(),
            scan,
        })))
    }

    /// The network as `host` has it until it crashes.
    pub(crate) fn of(&self, host: Host) -> HostNet {
        let incarnation = lock(&self.0).incarnations[usize::from(host)];
        HostNet { net: self.clone(), host, incarnation }
    }

    /// Nothing passes from one to the other for so long.
    pub(crate) fn cut(&self, from: Host, to: Host, lasts: Duration) {
        lock(&self.0).cut.insert((from, to), Instant::now() + lasts);
    }

    pub(crate) fn slow(&self, milliseconds: u64) {
        lock(&self.0).slowness = milliseconds;
    }

    /// All links are whole.
    pub(crate) fn heal(&self) {
        let mut inner = lock(&self.0);
        inner.cut.clear();
        inner.slowness = 5;
        for connection in inner.connections.iter().filter_map(Weak::upgrade) {
            lock(&connection).wake();
        }
    }

    /// Breaks all connections between two hosts.
    pub(crate) fn reset(&self, one: Host, other: Host) {
        self.each(|connection| {
            if connection.hosts == [one, other] || connection.hosts == [other, one] {
                connection.reset = true;
                connection.wake();
            }
        });
    }

    /// The host is gone, and its peers are told or not.
    pub(crate) fn crash(&self, host: Host, silently: bool) {
        {
            let mut inner = lock(&self.0);
            inner.incarnations[usize::from(host)] += 1;
            inner.listeners.remove(&host);
        }
        self.each(|connection| {
            for side in 0..2 {
                if connection.hosts[side] == host {
                    connection.frozen[side] = true;
                    connection.reset |= !silently;
                }
            }
            connection.wake();
        });
    }

    fn each(&self, mut act: impl FnMut(&mut Connection)) {
        let all: Vec<_> = {
            let mut inner = lock(&self.0);
            inner.connections.retain(|connection| connection.strong_count() > 0);
            inner.connections.iter().filter_map(Weak::upgrade).collect()
        };
        all.iter().for_each(|connection| act(&mut lock(connection)));
    }

    fn delay(&self) -> Duration {
        let mut inner = lock(&self.0);
        let slowness = inner.slowness;
        inner.random.millis(1..slowness + 2)
    }

    fn cut_until(&self, from: Host, to: Host) -> Option<Instant> {
        lock(&self.0).cut.get(&(from, to)).copied()
    }
}

/// The network as one host has it.
#[derive(Clone)]
pub(crate) struct HostNet {
    net: Net,
    host: Host,
    incarnation: u32,
}

impl HostNet {
    /// Takes connections from now on.
    pub(crate) fn listen(&self) -> Listener {
        let (sender, receiver) = mpsc::unbounded_channel();
        lock(&self.net.0).listeners.insert(self.host, sender);
        Listener(receiver)
    }

    fn is_there(&self) -> bool {
        lock(&self.net.0).incarnations[usize::from(self.host)] == self.incarnation
    }

    async fn open(self, to: Option<Host>) -> io::Result<Box<dyn Stream>> {
        let to = to.ok_or(io::ErrorKind::NotFound)?;
        sleep(self.net.delay()).await;
        for (one, other) in [(self.host, to), (to, self.host)] {
            while let Some(until) = self.net.cut_until(one, other).filter(|until| *until > Instant::now()) {
                // It may be healed before.
                sleep_until(until.min(Instant::now() + Duration::from_millis(200))).await;
            }
        }
        if !self.is_there() {
            std::future::pending::<()>().await;
        }
        let connection = Arc::new(Mutex::new(Connection::new([self.host, to])));
        let mut inner = lock(&self.net.0);
        let listener = inner.listeners.get(&to).cloned().ok_or(io::ErrorKind::ConnectionRefused)?;
        inner.connections.push(Arc::downgrade(&connection));
        drop(inner);
        let wire = |side| Wire { net: self.net.clone(), connection: Arc::clone(&connection), side, timer: None };
        let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, self.host)), 40_000);
        listener.send((wire(1), peer)).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(Box::new(wire(0)))
    }
}

impl Network for HostNet {
    fn connect(&self, host: &str, _: u16) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let to = lock(&self.net.0).names.iter().position(|name| *name == host);
        self.clone().open(to.and_then(|to| Host::try_from(to).ok())).boxed()
    }
}

/// Where connections come in at a host.
pub(crate) struct Listener(mpsc::UnboundedReceiver<(Wire, SocketAddr)>);

impl Accept for Listener {
    type Stream = Wire;

    async fn accept(&mut self) -> io::Result<(Wire, SocketAddr)> {
        match self.0.recv().await {
            Some(connection) => Ok(connection),
            // The host is gone.
            None => std::future::pending().await,
        }
    }
}

#[derive(Default)]
struct Direction {
    pieces: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    last: Option<Instant>,
    ends: Option<Instant>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The last bytes that were scanned.
    scanned: Vec<u8>,
}

struct Connection {
    hosts: [Host; 2],
    /// By the side that writes.
    directions: [Direction; 2],
    frozen: [bool; 2],
    dropped: [bool; 2],
    reset: bool,
}

impl Connection {
    fn new(hosts: [Host; 2]) -> Self {
        Self { hosts, directions: Default::default(), frozen: [false; 2], dropped: [false; 2], reset: false }
    }

    fn wake(&mut self) {
        for direction in &mut self.directions {
            wake(&mut direction.reader);
            wake(&mut direction.writer);
        }
    }
}

/// One side of a connection.
pub(crate) struct Wire {
    net: Net,
    connection: Arc<Mutex<Connection>>,
    side: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    /// When the next piece, or the end, is there to be read.
    fn arrival(&self, connection: &Connection) -> Option<Instant> {
        let direction = &connection.directions[1 - self.side];
        let at = direction.pieces.front().map(|(at, _)| *at).or(direction.ends)?;
        let [from, to] = [connection.hosts[1 - self.side], connection.hosts[self.side]];
        Some(self.net.cut_until(from, to).map_or(at, |until| at.max(until)))
    }

    fn end(&self) {
        let delay = self.net.delay();
        let mut connection = lock(&self.connection);
        let direction = &mut connection.directions[self.side];
        if direction.ends.is_none() {
            let at = direction.last.map_or(Instant::now() + delay, |last| last.max(Instant::now() + delay));
            direction.ends = Some(at);
            wake(&mut direction.reader);
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let connection = Arc::clone(&self.connection);
        loop {
            let mut connection = lock(&connection);
            let arrival = self.arrival(&connection);
            let side = self.side;
            let (frozen, reset) = (connection.frozen[side], connection.reset);
            let direction = &mut connection.directions[1 - side];
            direction.reader = Some(context.waker().clone());
            if frozen {
                return Poll::Pending;
            }
            if reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let Some(at) = arrival else { return Poll::Pending };
            if at <= Instant::now() {
                let Some((_, piece)) = direction.pieces.front_mut() else { return Poll::Ready(Ok(())) };
                let length = piece.len().min(buffer.remaining());
                buffer.put_slice(&piece.split_to(length));
                let is_taken = !piece.has_remaining();
                direction.bytes -= length;
                wake(&mut direction.writer);
                if is_taken {
                    direction.pieces.pop_front();
                }
                return Poll::Ready(Ok(()));
            }
            drop(connection);
            let mut timer = Box::pin(sleep_until(at));
            if timer.as_mut().poll(context).is_pending() {
                self.timer = Some(timer);
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let delay = self.net.delay();
        let mut connection = lock(&self.connection);
        let (side, now) = (self.side, Instant::now());
        let (frozen, reset, gone) = (connection.frozen[side], connection.reset, connection.dropped[1 - side]);
        let hosts = [connection.hosts[side], connection.hosts[1 - side]];
        let direction = &mut connection.directions[side];
        if frozen || (direction.bytes >= WINDOW && !reset && !gone) {
            direction.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        if reset || gone || direction.ends.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let taken = &bytes[..bytes.len().min(WINDOW)];
        let at = direction.last.map_or(now + delay, |last| last.max(now + delay));
        direction.last = Some(at);
        direction.bytes += taken.len();
        direction.pieces.push_back((at, Bytes::copy_from_slice(taken)));
        wake(&mut direction.reader);
        let scan = lock(&self.net.0).scan.clone();
        scan.look(hosts, &mut direction.scanned, taken);
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.end();
        let mut connection = lock(&self.connection);
        connection.dropped[self.side] = true;
        connection.wake();
    }
}

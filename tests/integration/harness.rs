//! What the tests stand on: a storage server that can be made to lie, the proxy in front of it, a client that signs.

pub(crate) mod chunked;
pub(crate) mod client;
pub(crate) mod collector;
pub(crate) mod custodian;
pub(crate) mod http2;
pub(crate) mod listing;
pub(crate) mod office;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod reply;
pub(crate) mod server;
pub(crate) mod store;
pub(crate) mod verdict;
pub(crate) mod watch;

use std::time::{Duration, Instant};

use bytes::Bytes;

pub(crate) use client::{Answer, S3};
pub(crate) use proxy::{Proxy, Setup};
pub(crate) use reply::{Ending, Reply};
pub(crate) use store::{Seen, Store};

/// The bucket that most tests use.
pub(crate) const BUCKET: &str = "records";
/// Where the proxies keep what they share.
pub(crate) const STATE: &str = "claviger-state";
/// Longer than anything here may take.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A storage server with a bucket, and a proxy before it.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) proxy: Proxy,
    pub(crate) s3: S3,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let store = Store::start().await;
        store.create(BUCKET);
        let proxy = Proxy::start(&store, setup).await;
        let s3 = proxy.s3();
        Self { store, proxy, s3 }
    }

    /// A further proxy over the same storage server, which remembers nothing.
    pub(crate) async fn fresh(&self) -> (Proxy, S3) {
        self.fresh_with(Setup::default()).await
    }

    pub(crate) async fn fresh_with(&self, setup: Setup) -> (Proxy, S3) {
        let proxy = Proxy::start(&self.store, setup).await;
        let s3 = proxy.s3();
        (proxy, s3)
    }
}

/// `length` bytes that do not repeat soon, another sequence for each `seed`.
pub(crate) fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// Waits until `holds`, which has to happen soon.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether `needle` stands somewhere in `haystack`.
pub(crate) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

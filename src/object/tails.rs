//! Remembers the authenticated layout of objects that were read lately, so that a further ranged read needs one
//! request.
//!
//! **Invariant:** entries come from footers that were opened, and count only for the commitment they were opened
//! under: an object that was overwritten, or replayed, has another one.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use lru::LruCache;

use crate::format::checksum::Checksum;
use crate::format::footer::Tail;
use crate::format::keys::Commitment;
use crate::format::layout::PartMap;
use crate::names::LogicalBucket;

use super::Named;
use super::error::Error;

/// Objects remembered.
const MOST: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");
/// Parts of all of them together; bounds the memory to a few dozen MiB.
const MOST_PARTS: usize = 500_000;

/// The authenticated layout of an object.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) commitment: Commitment,
    /// The storage server's ETag at that time.
    etag: Option<HeaderValue>,
    pub(super) map: Arc<PartMap>,
    pub(super) checksum: Option<Checksum>,
}

impl Known {
    pub(super) fn new(commitment: Commitment, etag: Option<HeaderValue>, tail: &Tail, map: PartMap) -> Self {
        // A copy: as it came, it is a part of all that was read from the connection at that time, and would keep that.
        let etag = etag.map(|etag| HeaderValue::from_bytes(etag.as_bytes()).expect("it is a header's value"));
        Self { commitment, etag, map: Arc::new(map), checksum: tail.checksum().cloned() }
    }

    pub(super) fn parts(&self) -> u32 {
        u32::try_from(self.map.entries().len()).unwrap_or(u32::MAX)
    }
}

type Name = (LogicalBucket, String, Option<String>);

struct Inner {
    known: LruCache<Name, Known>,
    parts: usize,
}

/// The cache: by bucket, key and the version that was asked for.
pub(super) struct TailCache(Mutex<Inner>);

impl Default for TailCache {
    fn default() -> Self {
        Self(Mutex::new(Inner { known: LruCache::new(MOST), parts: 0 }))
    }
}

fn name(object: Named<'_>, version: Option<&str>) -> Name {
    (object.bucket.name.clone(), object.key.as_str().to_owned(), version.map(str::to_owned))
}

impl TailCache {
    pub(super) fn get(&self, object: Named<'_>, version: Option<&str>) -> Option<Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).known.get(&name(object, version)).cloned()
    }

    pub(super) fn put(&self, object: Named<'_>, version: Option<&str>, known: Known) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.parts += known.map.entries().len();
        if let Some((_, replaced)) = inner.known.push(name(object, version), known) {
            inner.parts -= replaced.map.entries().len();
        }
        while inner.parts > MOST_PARTS {
            let Some((_, dropped)) = inner.known.pop_lru() else { break };
            inner.parts -= dropped.map.entries().len();
        }
    }

    /// Whether an object with `etag` may have `commitment`, by what was seen before: one ETag for two objects would let
    /// a client that fetches ranges with If-Match put together an object that never was.
    pub(super) fn check(
        &self,
        object: Named<'_>,
        version: Option<&str>,
        etag: Option<&HeaderValue>,
        commitment: &Commitment,
    ) -> Result<(), Error> {
        let Some(known) = self.get(object, version) else { return Ok(()) };
        if etag.is_some() && known.etag.as_ref() == etag && known.commitment != *commitment {
            tracing::error!(bucket = %object.bucket.name, "ALARM: the storage server gave two objects under one ETag");
            return Err(Error::NotAuthentic);
        }
        Ok(())
    }

    pub(super) fn forget(&self, object: Named<'_>, version: Option<&str>) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dropped) = inner.known.pop(&name(object, version)) {
            inner.parts -= dropped.map.entries().len();
        }
    }
}

//! What a test can tell the storage server to do wrong, or not to know, and what it counts.

use std::collections::BTreeMap;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::multipart::{Piece, Uploading};
use super::{Instead, Seen, Store, lock};
use crate::harness::STATE;

/// What real storage servers do differently.
#[derive(Debug, Clone, Default)]
pub(crate) struct Quirks {
    /// CopyObject and UploadPartCopy take no notice of `x-amz-copy-source-if-*`.
    pub(crate) ignores_copy_conditions: bool,
    /// CopyObject and UploadPartCopy are not implemented.
    pub(crate) lacks_copies: bool,
    /// If-Match and If-None-Match of writes count for nothing.
    pub(crate) ignores_write_conditions: bool,
    /// If-Match of a completion counts for nothing.
    pub(crate) ignores_completion_conditions: bool,
    /// CopyObject refuses objects of more stored bytes.
    pub(crate) copy_limit: Option<usize>,
    /// Entries of a listing's page, where the request says no number.
    pub(crate) page: Option<usize>,
}

/// Bytes of bodies, those of the state bucket not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// From the proxy.
    pub(crate) received: usize,
    /// To the proxy.
    pub(crate) sent: usize,
}

/// A rule for [`Store::before`]: from the `k`th request on (counting from 0), the first of them gets `first`,
/// and all later ones `rest`.
pub(crate) fn nth(
    k: usize,
    first: impl Fn() -> Option<Instead> + Send + Sync + 'static,
    rest: impl Fn() -> Option<Instead> + Send + Sync + 'static,
) -> impl Fn(&Seen) -> Option<Instead> + Send + Sync + 'static {
    let seen = AtomicUsize::new(0);
    move |_| match seen.fetch_add(1, Ordering::SeqCst) {
        number if number < k => None,
        number if number == k => first(),
        _ => rest(),
    }
}

impl Store {
    /// What it does differently, to be changed.
    pub(crate) fn quirks(&self) -> MutexGuard<'_, Quirks> {
        lock(&self.inner.quirks)
    }

    /// Listings have pages of so many entries.
    pub(crate) fn shorten_listings(&self, page: usize) {
        self.quirks().page = Some(page);
    }

    /// The uploads under way, by id, to be looked at and changed.
    pub(crate) fn uploads(&self) -> MutexGuard<'_, BTreeMap<String, Uploading>> {
        lock(&self.inner.uploads)
    }

    /// `rule` may drop, double, swap and replace the pieces that an upload is put together from.
    pub(crate) fn at_completion(&self, rule: impl Fn(&Uploading, &mut Vec<Piece>) + Send + Sync + 'static) {
        *lock(&self.inner.at_completion) = Some(std::sync::Arc::new(rule));
    }

    /// From the `k`th request on (counting from 0) no proxy gets an answer: as if it were killed then. The `k`th is
    /// still carried out if `served`.
    pub(crate) fn dies_at(&self, k: usize, served: bool) {
        let first = move || Some(if served { Instead::HangUpAfterServing } else { Instead::HangUp });
        self.before(nth(k, first, || Some(Instead::HangUp)));
    }

    /// The bytes since the last call.
    pub(crate) fn take_traffic(&self) -> Traffic {
        std::mem::take(&mut *lock(&self.inner.traffic))
    }

    pub(super) fn count(&self, seen: &Seen, count: impl FnOnce(&mut Traffic)) {
        if seen.bucket != STATE {
            count(&mut lock(&self.inner.traffic));
        }
    }
}

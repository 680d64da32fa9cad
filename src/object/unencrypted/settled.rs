//! Keys of migrating buckets that this process knows to be encrypted by now, or deleted.
//!
//! A manifest lists them until it is closed. So that the storage server cannot answer with something else under what is listed there,
//! they are remembered, as many as fit, until a new manifest is sealed.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::names::LogicalBucket;
use crate::s3::operation::{ObjectOperation, Operation};

use super::super::bucket::Bucket;
use super::super::{Call, Objects};

/// Keys remembered.
const MOST: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// Those keys.
pub(super) struct Settled(Mutex<LruCache<(LogicalBucket, String), ()>>);

impl Default for Settled {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MOST)))
    }
}

impl Settled {
    fn keys(&self) -> MutexGuard<'_, LruCache<(LogicalBucket, String), ()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has(&self, bucket: &LogicalBucket, key: &str) -> bool {
        self.keys().get(&(bucket.clone(), key.to_owned())).is_some()
    }

    /// A new manifest says anew what is not encrypted.
    pub(super) fn forget_bucket(&self, bucket: &LogicalBucket) {
        let mut keys = self.keys();
        let its: Vec<_> = keys.iter().map(|(name, ())| name).filter(|(of, _)| of == bucket).cloned().collect();
        for name in its {
            keys.pop(&name);
        }
    }
}

impl Objects {
    /// Nothing that was listed is left under the key: its newest version is encrypted, or was deleted.
    pub(in crate::object) fn settle(&self, bucket: Bucket<'_>, key: &str) {
        if Self::migrates(bucket) {
            self.manifests.settled.keys().put((bucket.name.clone(), key.to_owned()), ());
        }
    }

    /// A version was deleted, so that the one before it is there again, which may be the one that is listed.
    pub(in crate::object) fn unsettle(&self, bucket: Bucket<'_>, key: &str) {
        if Self::migrates(bucket) {
            self.manifests.settled.keys().pop(&(bucket.name.clone(), key.to_owned()));
        }
    }

    /// What follows from an operation that succeeded.
    pub(in crate::object) fn note_settled(&self, call: &Call) {
        let Operation::Object(name, key, operation) = &call.operation else { return };
        let Some(bucket) = self.buckets.find(name) else { return };
        match operation {
            ObjectOperation::PutObject { .. }
            | ObjectOperation::CopyObject { .. }
            | ObjectOperation::CompleteMultipartUpload { .. }
            | ObjectOperation::DeleteObject { version_id: None, .. } => self.settle(bucket, key.as_str()),
            ObjectOperation::DeleteObject { version_id: Some(_), .. } => self.unsettle(bucket, key.as_str()),
            _ => {}
        }
    }
}

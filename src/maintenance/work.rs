//! What a job does to one object, and what can become of it.

use futures_util::future::BoxFuture;

use crate::names::LogicalBucket;
use crate::object::error::Error;
use crate::s3::target::ObjectKey;
use crate::s3::xml::StoredEntry;

/// An object or version to be treated.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its bucket, by the name for clients.
    pub bucket: LogicalBucket,
    /// Its key.
    pub key: ObjectKey,
    /// What the listing said of it.
    pub entry: StoredEntry,
}

/// What became of an object.
#[derive(Debug)]
pub enum Outcome {
    /// It was treated; so many bytes of plaintext.
    Done {
        /// Bytes of plaintext that went through, or would have in a dry run.
        bytes: u64,
    },
    /// Nothing was to be done.
    Skipped,
    /// Somebody else wrote or deleted it meanwhile, who wins.
    Overtaken,
    /// It is not what it should be, or could not be treated. The job goes on and fails in the end.
    Failed {
        /// Why, in words that stand in the report.
        error: Error,
    },
}

/// A job over objects.
pub trait Work: Send + Sync {
    /// Its name in checkpoints and reports, such as `verify`.
    fn name(&self) -> &'static str;

    /// Treats one object. It is tried again by the runner while [`Outcome::Failed`] says that the storage server or the custodian failed for
    /// the moment, so it has to be safe to run twice.
    fn treat<'a>(&'a self, item: &'a Item) -> BoxFuture<'a, Outcome>;
}

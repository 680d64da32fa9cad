//! What a job does to one object, and what can become of it.

use futures_util::future::BoxFuture;

use crate::names::LogicalBucket;
use crate::object::error::Error;
use crate::s3::target::ObjectKey;
use crate::s3::xml::StoredEntry;

use super::progress::Counts;

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

/// Most classes that a job tells objects apart by.
pub const CLASSES_MAX: usize = 4_096;

/// What became of an object.
#[derive(Debug)]
pub enum Outcome {
    /// It was treated; so many bytes of plaintext.
    Done {
        /// Bytes of plaintext that went through, or would have in a dry run.
        bytes: u64,
    },
    /// It was looked at, and is in this class of the job's: at most [`CLASSES_MAX`] different ones.
    Counted {
        /// The class.
        class: u64,
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
    /// The same, for a reason of the job's own.
    Unfit {
        /// Why.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The job cannot go on with any object, such as when a disk is full.
    Stuck {
        /// Why.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A job over objects.
pub trait Work: Send + Sync {
    /// Its name in checkpoints and reports, such as `verify`.
    fn name(&self) -> &'static str;

    /// What else tells this run from another one of the same job over the same objects: a checkpoint counts only for the same.
    fn parameters(&self) -> String {
        String::new()
    }

    /// Whether a further run goes on where this one ended. If not, it begins at the beginning, and sees for itself what is done.
    fn keeps_checkpoints(&self) -> bool {
        true
    }

    /// Treats one object. It is tried again by the runner while [`Outcome::Failed`] says that the storage server or the custodian failed for
    /// the moment, so it has to be safe to run twice, and to be dropped at any time.
    fn treat<'a>(&'a self, item: &'a Item) -> BoxFuture<'a, Outcome>;

    /// The run goes on where others ended, who counted this.
    fn go_on(&self, _before: &Counts) {}

    /// How many objects of which kinds could not be treated here, for the report.
    fn passed_over(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// Sentences about what an operator wants to know beside the counters.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

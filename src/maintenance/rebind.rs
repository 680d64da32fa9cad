//! `rebind`: objects that were copied or restored under another name without the proxy, bound to the name that they have now.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::crypto::{Digest, DigestAlgorithm};
use crate::names::LogicalBucket;
use crate::object::Objects;
use crate::object::access::Authenticated;
use crate::object::error::Error;
use crate::object::renewal::{Manner, RenewalError, Renewed};
use crate::s3::sigv4::hex;
use crate::s3::target::ObjectKey;

use super::renewing::Tally;
use super::work::{Item, Outcome, Work};

/// Most keys that a dry run keeps.
pub const MOST_SHOWN: usize = 1_000_000;

/// The job.
pub struct Rebind {
    /// Where the objects are.
    pub objects: Arc<Objects>,
    /// Who the job is.
    pub who: Authenticated,
    /// The beginning of the keys that are gone over.
    pub prefix: String,
    /// The bucket in which the objects were written.
    pub from_bucket: LogicalBucket,
    /// What stood in place of `prefix` in the keys under which they were written.
    pub from_prefix: String,
    /// Only objects of these keys are bound; all that can be, without it.
    pub only: Option<BTreeSet<String>>,
    /// The keys of what a dry run would bind, as far as [`MOST_SHOWN`] of them.
    pub would: Mutex<Vec<String>>,
    /// How.
    pub manner: Manner,
    /// What is counted.
    pub tally: Tally,
}

impl Rebind {
    /// The key under which an object was written that now has `key`.
    fn former(&self, key: &ObjectKey) -> Result<ObjectKey, Error> {
        let rest = key.as_str().strip_prefix(&self.prefix).unwrap_or_default();
        let former = format!("{}{rest}", self.from_prefix);
        // What can be no key was not written under it.
        let neither = |_| RenewalError::NeitherName { bucket: self.from_bucket.clone(), key: former.clone() };
        Ok(ObjectKey::new(&former).map_err(neither)?)
    }
}

impl Work for Rebind {
    fn name(&self) -> &'static str {
        "rebind"
    }

    fn parameters(&self) -> String {
        let from = format!("{}/{}", self.from_bucket, self.from_prefix);
        let Some(only) = &self.only else { return from };
        let mut digest = Digest::new(DigestAlgorithm::Sha256);
        for key in only {
            digest.update(&(key.len() as u64).to_be_bytes());
            digest.update(key.as_bytes());
        }
        format!("{from}\0{}", hex(&digest.finish()))
    }

    fn notes(&self) -> Vec<String> {
        self.tally.notes()
    }

    fn treat<'a>(&'a self, item: &'a Item) -> BoxFuture<'a, Outcome> {
        async move {
            if self.only.as_ref().is_some_and(|only| !only.contains(item.key.as_str())) {
                return Outcome::Skipped;
            }
            let former = match self.former(&item.key) {
                Ok(former) => former,
                Err(error) => return Outcome::Failed { error },
            };
            let (object, written) = ((&item.bucket, &item.key), (&self.from_bucket, &former));
            let renewed = self.objects.rebind(&self.who, object, written, self.manner).await;
            if let (true, Ok(Renewed::Done(_))) = (self.manner.dry_run, &renewed) {
                let mut would = self.would.lock().unwrap_or_else(PoisonError::into_inner);
                if would.len() < MOST_SHOWN {
                    would.push(item.key.as_str().to_owned());
                }
            }
            self.tally.outcome(renewed, false)
        }
        .boxed()
    }
}

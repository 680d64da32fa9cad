//! What jobs that write objects anew have in common: which servers they refuse, and what they count beside the report.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::object::Objects;
use crate::object::error::Error;
use crate::object::renewal::{Done, RenewalError, Renewed};

use super::work::Outcome;

/// Why such a job does not begin.
#[derive(Debug, thiserror::Error)]
pub enum RefusedServer {
    /// What an application writes meanwhile would be lost.
    #[error(
        "the storage server does not heed conditions on {0}: an object that an application writes while the job replaces it would be lost; stop the applications, and say --applications-are-stopped"
    )]
    Unconditional(&'static str),
    /// It could not be found out.
    #[error("cannot find out whether the storage server heeds conditions on writes")]
    Unknown(#[from] Error),
}

/// Whether objects are replaced on a condition: always, unless the applications are stopped and the server heeds none.
///
/// # Errors
/// [`RefusedServer`].
pub async fn conditional(objects: &Objects, applications_are_stopped: bool) -> Result<bool, RefusedServer> {
    let heeded = objects.heeded_conditions().await?;
    let missing = match (heeded.put, heeded.complete) {
        (true, true) => return Ok(true),
        (false, true) => "writes",
        (true, false) => "completing uploads",
        (false, false) => "writes or on completing uploads",
    };
    if applications_are_stopped { Ok(false) } else { Err(RefusedServer::Unconditional(missing)) }
}

/// What an operator wants to know beside the counters of every job.
#[derive(Debug, Default)]
pub struct Tally {
    customer_keys: AtomicU64,
    remaining: AtomicU64,
    without_acl: AtomicU64,
}

impl Tally {
    /// Counts what became of an object. `versions` says that a version which remains is one to be found.
    pub(super) fn outcome(&self, renewed: Result<Renewed, Error>, versions: bool) -> Outcome {
        let add = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        match renewed {
            Ok(Renewed::Done(Done { bytes, remains, locked_until, without_acl })) => {
                if without_acl {
                    add(&self.without_acl);
                }
                let Some(version) = remains else { return Outcome::Done { bytes } };
                add(&self.remaining);
                if versions {
                    Outcome::Failed { error: RenewalError::VersionRemains { version, locked_until }.into() }
                } else {
                    Outcome::Done { bytes }
                }
            }
            Ok(Renewed::NotChosen) => Outcome::Skipped,
            Ok(Renewed::CustomerKey) => {
                add(&self.customer_keys);
                Outcome::Skipped
            }
            Ok(Renewed::Overtaken) => Outcome::Overtaken,
            Err(error) => Outcome::Failed { error },
        }
    }

    /// Objects that were skipped because they are under a customer key (SSE-C).
    pub fn customer_keys(&self) -> u64 {
        self.customer_keys.load(Ordering::Relaxed)
    }

    /// Sentences about what was counted; none where nothing was.
    pub fn notes(&self) -> Vec<String> {
        let notes = [
            (&self.customer_keys, "under a customer key (SSE-C), which nobody here has: skipped"),
            (&self.remaining, "replaced by a new version; the version before is as it was, until somebody deletes it"),
            (&self.without_acl, "whose ACL the storage server does not tell us: it is now that of a new object"),
        ];
        let notes = notes.into_iter().map(|(counter, what)| (counter.load(Ordering::Relaxed), what));
        notes.filter(|(count, _)| *count > 0).map(|(count, what)| format!("objects {what}: {count}")).collect()
    }
}

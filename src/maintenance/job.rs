//! Runs a [`Work`] over a bucket: listing, several objects at a time, counters, and the findings.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::names::LogicalBucket;
use crate::object::Objects;
use crate::object::error::Error;
use crate::object::stored::Position;
use crate::s3::target::ObjectKey;

use super::progress::Progress;
use super::work::{Item, Outcome, Work};

/// What a job goes over.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The bucket, by the name for clients.
    pub bucket: LogicalBucket,
    /// The beginning of the keys.
    pub prefix: String,
    /// All versions and not only the newest.
    pub versions: bool,
    /// Objects treated at a time; 1 and up.
    pub concurrency: usize,
}

/// An object that failed.
#[derive(Debug)]
pub struct Finding {
    /// The key.
    pub key: String,
    /// The version, where versions are gone over.
    pub version: Option<String>,
    /// Why.
    pub error: Error,
}

/// Why a job could not go on.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The bucket cannot be listed, or what else the job needs failed.
    #[error(transparent)]
    Object(#[from] Error),
}

/// Goes over all that is in `scope`; `found` hears of each object that failed.
///
/// # Errors
/// [`JobError`]: the job is not through, and can be run again.
pub async fn run(
    objects: &Arc<Objects>,
    scope: &Scope,
    work: &dyn Work,
    progress: &Progress,
    mut found: impl FnMut(Finding) + Send,
) -> Result<(), JobError> {
    let mut after = Position::default();
    loop {
        let page = objects.stored(&scope.bucket, &scope.prefix, &after, scope.versions).await?;
        Progress::add(&progress.listed, page.entries.len() as u64);
        let items = page.entries.into_iter().filter(|entry| !entry.is_delete_marker).filter_map(|entry| {
            // A key that cannot be one is nobody's.
            let key = ObjectKey::new(&entry.key).ok()?;
            Some(Item { bucket: scope.bucket.clone(), key, entry })
        });
        let treated = stream::iter(items).map(|item| async move {
            let outcome = work.treat(&item).await;
            (item, outcome)
        });
        let mut treated = std::pin::pin!(treated.buffer_unordered(scope.concurrency.max(1)));
        while let Some((item, outcome)) = treated.next().await {
            match outcome {
                Outcome::Done { bytes } => {
                    Progress::add(&progress.done, 1);
                    Progress::add(&progress.bytes, bytes);
                }
                Outcome::Skipped => Progress::add(&progress.skipped, 1),
                Outcome::Overtaken => Progress::add(&progress.overtaken, 1),
                Outcome::Failed { error } => {
                    Progress::add(&progress.failed, 1);
                    found(Finding { key: item.entry.key, version: item.entry.version, error });
                }
            }
        }
        match page.next {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

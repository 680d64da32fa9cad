//! `migrate`: what was in a bucket before the proxies is found, sealed in a manifest, and encrypted object by object.
//!
//! The manifest is the state: a run that ended early goes on where pages are left, on any machine, and several may run at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::names::LogicalBucket;
use crate::object::Objects;
use crate::object::access::Authenticated;
use crate::object::error::Error;
use crate::object::stored::{Position, StoredPage};
use crate::object::unencrypted::manifest::{Entry, Page};
use crate::object::unencrypted::{Encrypted, Found, MigrationError, Pages};
use crate::s3::xml::StoredEntry;

use super::job::Finding;
use super::progress::Progress;

/// How often an object is tried.
const MOST_TRIES: u32 = 4;
/// The pause before an object is tried again, doubled each time, if nothing else is wanted.
pub const PAUSE: Duration = Duration::from_millis(100);

/// The job.
pub struct Migrate {
    /// Where the objects are.
    pub objects: Arc<Objects>,
    /// Who the job is.
    pub who: Authenticated,
    /// Which bucket.
    pub bucket: LogicalBucket,
    /// Objects treated at a time; 1 and up.
    pub concurrency: usize,
    /// Each object is replaced on the condition that it is what was listed. Without it, nobody else may write meanwhile.
    pub conditional: bool,
    /// The pause before an object is tried again, doubled each time.
    pub pause: Duration,
    /// Versions that stay as they were.
    pub remaining: AtomicU64,
    /// Objects whose ACL the storage server did not tell.
    pub without_acl: AtomicU64,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nothing that was listed is left as it was: the manifest is closed.
    Closed,
    /// Objects failed: the manifest stays open.
    Failed,
    /// Another run was through first.
    Elsewhere,
}

impl Migrate {
    /// What the bucket has without an envelope now.
    ///
    /// # Errors
    /// [`Error`] when not all of it can be looked at.
    pub async fn find(&self, progress: &Progress) -> Result<Vec<Entry>, Error> {
        let mut found = Vec::new();
        self.walk(false, |listed, what| {
            Progress::add(&progress.listed, 1);
            match what {
                Found::Unencrypted(entry) => found.push(entry),
                Found::Encrypted if listed.is_latest => Progress::add(&progress.skipped, 1),
                Found::Encrypted | Found::Gone => {}
            }
        })
        .await?;
        Ok(found)
    }

    /// Finds the old versions that are not encrypted.
    ///
    /// # Errors
    /// [`Error`] when not all of them can be looked at.
    pub async fn find_old_versions(&self, mut found: impl FnMut(Finding) + Send) -> Result<u64, Error> {
        let mut count = 0;
        self.walk(true, |listed, what| {
            if let (false, Found::Unencrypted(entry)) = (listed.is_latest, what) {
                count += 1;
                let error = MigrationError::OldVersion.into();
                found(Finding { key: entry.key, version: listed.version.clone(), error });
            }
        })
        .await?;
        Ok(count)
    }

    /// Looks at all objects, or all versions.
    async fn walk(&self, versions: bool, mut seen: impl FnMut(&StoredEntry, Found) + Send) -> Result<(), Error> {
        let mut after = Position::default();
        loop {
            let page = self.page(&after, versions).await?;
            let entries = page.entries.into_iter().filter(|entry| !entry.is_delete_marker);
            let looked_at = stream::iter(entries).map(|entry| async move {
                let what = self.patiently(|| self.objects.find_unencrypted(&self.bucket, &entry)).await;
                (entry, what)
            });
            let mut looked_at = std::pin::pin!(looked_at.buffer_unordered(self.concurrency.max(1)));
            while let Some((entry, what)) = looked_at.next().await {
                seen(&entry, what?);
            }
            match page.next {
                Some(next) => after = next,
                None => return Ok(()),
            }
        }
    }

    async fn page(&self, after: &Position, versions: bool) -> Result<StoredPage, Error> {
        self.patiently(|| self.objects.stored(&self.bucket, "", after, versions)).await
    }

    /// Encrypts what the manifest lists; `found` hears of each object that failed.
    ///
    /// # Errors
    /// [`Error`]: the job is not through, and can be run again.
    pub async fn run(
        &self,
        mut pages: Pages,
        progress: &Progress,
        mut found: impl FnMut(Finding) + Send,
    ) -> Result<Ended, Error> {
        let (objects, bucket) = (&self.objects, &self.bucket);
        for number in 0..pages.head.pages {
            if pages.done.contains(&number) {
                continue;
            }
            let page = self.patiently(|| objects.page_to_migrate(bucket, &pages.head, number)).await?;
            let Some(page) = page else { return Ok(Ended::Elsewhere) };
            if self.migrate_page(page, progress, &mut found).await {
                pages.done.insert(number);
                objects.note_migrated(bucket, &mut pages).await?;
            }
        }
        if pages.done.len() < pages.head.pages as usize {
            return Ok(Ended::Failed);
        }
        match objects.close_manifest(bucket, &pages.head).await {
            Ok(()) => Ok(Ended::Closed),
            Err(Error::Migration(MigrationError::OtherRun)) => Ok(Ended::Elsewhere),
            Err(error) => Err(error),
        }
    }

    /// Whether nothing that the page lists is left as it was.
    async fn migrate_page(&self, page: Page, progress: &Progress, found: &mut (impl FnMut(Finding) + Send)) -> bool {
        let treated = stream::iter(page.entries().to_vec()).map(|entry| async move {
            let treat = || self.objects.encrypt_listed(&self.who, &self.bucket, &entry, self.conditional);
            let outcome = self.patiently(treat).await;
            (entry, outcome)
        });
        let mut treated = std::pin::pin!(treated.buffer_unordered(self.concurrency.max(1)));
        let mut all = true;
        while let Some((entry, outcome)) = treated.next().await {
            match outcome {
                Ok(Encrypted::Done { bytes, remains, without_acl }) => {
                    Progress::add(&progress.done, 1);
                    Progress::add(&progress.bytes, bytes);
                    self.remaining.fetch_add(u64::from(remains.is_some()), Ordering::Relaxed);
                    self.without_acl.fetch_add(u64::from(without_acl), Ordering::Relaxed);
                }
                Ok(Encrypted::Overtaken) => Progress::add(&progress.overtaken, 1),
                Err(error) => {
                    Progress::add(&progress.failed, 1);
                    all = false;
                    found(Finding { key: entry.key, version: None, error });
                }
            }
        }
        all
    }

    /// Sentences about what an operator wants to know beside the counters.
    pub fn notes(&self) -> Vec<String> {
        let notes = [
            (&self.remaining, "encrypted as a new version; the version before is as it was, until somebody deletes it"),
            (&self.without_acl, "whose ACL the storage server does not tell us: it is now that of a new object"),
        ];
        let notes = notes.into_iter().map(|(counter, what)| (counter.load(Ordering::Relaxed), what));
        notes.filter(|(count, _)| *count > 0).map(|(count, what)| format!("objects {what}: {count}")).collect()
    }

    /// Tries some times. All that is tried here may be done twice.
    async fn patiently<T, F: Future<Output = Result<T, Error>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Error> {
        let mut pause = self.pause;
        for _ in 1..MOST_TRIES {
            match attempt().await {
                Err(Error::Storage(_) | Error::State(_) | Error::Key(_) | Error::WrongAnswer(_) | Error::Upload(_)) => {
                }
                outcome => return outcome,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        attempt().await
    }
}

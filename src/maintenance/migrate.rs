//! `migrate`: what was in a bucket before the proxies is found, sealed in a manifest, and encrypted object by object.
//!
//! The manifest is the state: a run that ended early goes on where pages are left, on any machine, and several may run at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream;
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::names::LogicalBucket;
use crate::object::Objects;
use crate::object::access::Authenticated;
use crate::object::error::Error;
use crate::object::stored::Position;
use crate::object::unencrypted::manifest::{Entry, Head, Page};
use crate::object::unencrypted::{Encrypted, Found, MigrationError, Pages};
use crate::s3::xml::StoredEntry;

use super::job::Finding;
use super::order::Order;
use super::progress::Progress;

/// How often an object is tried.
const MOST_TRIES: u32 = 4;
/// Most bytes of entries that are put in order in memory, where the storage server lists them in none.
const MOST_UNORDERED: usize = 1 << 30;
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

/// Which manifest a run goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The bucket's first one, which is sealed now.
    Begin,
    /// The one that is there.
    GoOn,
    /// A new one in place of the one that is there.
    Restart,
}

/// A walk over all objects, or all versions.
struct Looking {
    /// Where the next page begins; none after the last one.
    after: Option<Position>,
    versions: bool,
    order: Order,
}

impl Looking {
    fn new(versions: bool) -> Self {
        Self { after: Some(Position::default()), versions, order: Order::after("", versions) }
    }
}

/// Those that have no envelope; all are counted.
fn counted(found: Vec<(StoredEntry, Found)>, progress: &Progress) -> impl Iterator<Item = Entry> {
    found.into_iter().filter_map(|(listed, what)| {
        Progress::add(&progress.listed, 1);
        match what {
            Found::Unencrypted(entry) => return Some(entry),
            Found::Encrypted if listed.is_latest => Progress::add(&progress.skipped, 1),
            Found::Encrypted | Found::Gone => {}
        }
        None
    })
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
    /// The manifest to go through, sealed now if `start` says so, and whether it was. With `run`, the one that is there has to be of
    /// that run.
    ///
    /// That none is there does not say that none was: what the storage server's operator takes away must not make the job seal, as
    /// objects of clients, what he put there since. So a first one is sealed on request only.
    ///
    /// # Errors
    /// [`Error`], also when what is there is not what `start` and `run` say.
    pub async fn manifest(&self, start: Start, run: Option<&str>, progress: &Progress) -> Result<(Pages, bool), Error> {
        let before = self.objects.manifest(&self.bucket).await?;
        match (start, before) {
            (Start::Begin, Some(before)) => Err(MigrationError::AlreadyBegun(before.head.run).into()),
            (Start::Begin, None) => self.seal(None, progress).await,
            (Start::GoOn | Start::Restart, None) => Err(MigrationError::NoManifest.into()),
            (_, Some(before)) if run.is_some_and(|run| run != before.head.run) => {
                let wanted = run.unwrap_or_default().to_owned();
                Err(MigrationError::NotThatRun { is: before.head.run, wanted }.into())
            }
            (Start::GoOn, Some(before)) => Ok((before, false)),
            (Start::Restart, Some(before)) => self.seal(Some(&before.head), progress).await,
        }
    }

    /// Seals what the bucket has without an envelope now. Where keys are listed in order, no more than a page of it is in memory.
    async fn seal(&self, before: Option<&Head>, progress: &Progress) -> Result<(Pages, bool), Error> {
        let mut draft = self.objects.draft_manifest(&self.bucket)?;
        let mut looking = Looking::new(false);
        while let Some(found) = self.look(&mut looking).await? {
            if !looking.order.is_rising() {
                return self.seal_unordered(before, progress).await;
            }
            for entry in counted(found, progress) {
                self.objects.add_to_draft(&mut draft, entry).await?;
            }
        }
        Ok((self.objects.seal_manifest(draft, before).await?, true))
    }

    /// The same where keys have to be put in order first. Of what was written so far nothing counts.
    async fn seal_unordered(&self, before: Option<&Head>, progress: &Progress) -> Result<(Pages, bool), Error> {
        progress.listed.store(0, Ordering::Relaxed);
        progress.skipped.store(0, Ordering::Relaxed);
        let (mut entries, mut bytes) = (Vec::new(), 0);
        self.find(progress, |entry| {
            bytes += entry.key.len() + entry.etag.len() + size_of::<Entry>();
            entries.push(entry);
            if bytes > MOST_UNORDERED { Err(MigrationError::TooManyUnordered(MOST_UNORDERED).into()) } else { Ok(()) }
        })
        .await?;
        entries.sort_unstable();
        let mut draft = self.objects.draft_manifest(&self.bucket)?;
        for entry in entries {
            self.objects.add_to_draft(&mut draft, entry).await?;
        }
        Ok((self.objects.seal_manifest(draft, before).await?, true))
    }

    /// What the bucket has without an envelope now, in the listing's order.
    ///
    /// # Errors
    /// [`Error`] when not all of it can be looked at, and those of `each`.
    pub async fn find(
        &self,
        progress: &Progress,
        mut each: impl FnMut(Entry) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut looking = Looking::new(false);
        while let Some(found) = self.look(&mut looking).await? {
            counted(found, progress).try_for_each(&mut each)?;
        }
        Ok(())
    }

    /// Finds the old versions that are not encrypted.
    ///
    /// # Errors
    /// [`Error`] when not all of them can be looked at.
    pub async fn find_old_versions(&self, mut found: impl FnMut(Finding) + Send) -> Result<u64, Error> {
        let (mut count, mut looking) = (0, Looking::new(true));
        while let Some(page) = self.look(&mut looking).await? {
            for (listed, what) in page {
                if let (false, Found::Unencrypted(entry)) = (listed.is_latest, what) {
                    count += 1;
                    let error = Error::from(MigrationError::OldVersion).into();
                    found(Finding { key: entry.key, version: listed.version, error });
                }
            }
        }
        Ok(count)
    }

    /// Looks at the objects, or versions, of the next page of the listing; `None` at its end.
    async fn look(&self, looking: &mut Looking) -> Result<Option<Vec<(StoredEntry, Found)>>, Error> {
        let Some(after) = looking.after.take() else { return Ok(None) };
        let page = self.patiently(|| self.objects.stored(&self.bucket, "", &after, looking.versions)).await?;
        looking.order.take(&page)?;
        looking.after = page.next;
        let entries = page.entries.into_iter().filter(|entry| !entry.is_delete_marker);
        let looked_at = stream::iter(entries).map(|entry| async move {
            let what = self.patiently(|| self.objects.find_unencrypted(&self.bucket, &entry)).await?;
            Ok((entry, what))
        });
        looked_at.buffered(self.concurrency.max(1)).try_collect().await.map(Some)
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
                    found(Finding { key: entry.key, version: None, error: error.into() });
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

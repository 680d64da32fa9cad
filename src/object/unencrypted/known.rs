//! What a proxy knows of the manifests: the head, read again every few seconds, and pages as they are needed.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use lru::LruCache;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use crate::cbor::NotCanonical;
use crate::names::LogicalBucket;

use super::super::bucket::{Bucket, Unencrypted};
use super::super::error::Error;
use super::super::{Named, Objects};
use super::MigrationError;
use super::manifest::{self, Contents, Entry, Head, Page};
use super::settled::Settled;

/// How long a head counts.
const FRESH: Duration = Duration::from_secs(3);
/// Pages remembered, of up to about 1 MiB each, as a rule a tenth of that.
const MOST_PAGES: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
/// Buckets of which something is remembered.
const MOST_BUCKETS: usize = 10_000;

type PageName = (LogicalBucket, String, u32);

/// What is remembered of all buckets' manifests.
pub(in crate::object) struct Manifests {
    heads: Mutex<HashMap<LogicalBucket, Arc<AsyncMutex<Seen>>>>,
    pages: Mutex<LruCache<PageName, Arc<Page>>>,
    pub(super) settled: Settled,
}

impl Default for Manifests {
    fn default() -> Self {
        Self { heads: Mutex::default(), pages: Mutex::new(LruCache::new(MOST_PAGES)), settled: Settled::default() }
    }
}

/// What was seen of one bucket's.
#[derive(Default)]
struct Seen {
    /// What counts now, and since when.
    now: Option<(Instant, Option<Open>)>,
    /// The newest head of all.
    newest: Option<Head>,
    /// The pages that were done, of that run.
    done: (String, Arc<BTreeSet<u32>>),
}

/// A manifest that lists something.
#[derive(Clone)]
struct Open {
    run: String,
    contents: Arc<Contents>,
    /// Pages of which nothing is left. They only become more, whatever somebody puts back.
    done: Arc<BTreeSet<u32>>,
}

impl Manifests {
    fn seen(&self, bucket: &LogicalBucket) -> Arc<AsyncMutex<Seen>> {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.len() >= MOST_BUCKETS && !heads.contains_key(bucket) {
            return Arc::default();
        }
        Arc::clone(heads.entry(bucket.clone()).or_default())
    }

    fn pages(&self) -> std::sync::MutexGuard<'_, LruCache<PageName, Arc<Page>>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Objects {
    /// Whether the bucket's configuration lets anything be served without an envelope.
    pub(in crate::object) fn migrates(bucket: Bucket<'_>) -> bool {
        bucket.keys.unencrypted == Unencrypted::Migrate
    }

    /// What the bucket's manifest lists under `key`.
    pub(in crate::object) async fn listed(&self, bucket: Bucket<'_>, key: &str) -> Result<Option<Entry>, Error> {
        if !Self::migrates(bucket) {
            return Ok(None);
        }
        let Some(open) = self.open_manifest(bucket.name).await? else { return Ok(None) };
        let Some(number) = open.contents.page_of(key) else { return Ok(None) };
        if open.done.contains(&number) || self.manifests.settled.has(bucket.name, key) {
            return Ok(None);
        }
        let name = (bucket.name.clone(), open.run, number);
        let remembered = self.manifests.pages().get(&name).cloned();
        let page = match remembered {
            Some(page) => page,
            None => {
                let Some(page) = self.manifest_page(bucket.name, &name.1, number).await? else {
                    // Closed since the head was read; or somebody took it away, and then nothing is listed there.
                    return Ok(None);
                };
                let page = Arc::new(page);
                self.manifests.pages().put(name, Arc::clone(&page));
                page
            }
        };
        Ok(page.find(key).cloned())
    }

    /// What the manifest lists of exactly this object, if it does.
    pub(in crate::object) async fn lists(
        &self,
        object: Named<'_>,
        etag: Option<&HeaderValue>,
        size: u64,
    ) -> Result<Entry, Error> {
        let etag = etag.and_then(|etag| etag.to_str().ok()).map(plain).ok_or(Error::NotEncrypted)?;
        let listed = self.listed(object.bucket, object.key.as_str()).await?;
        listed.filter(|entry| entry.etag == etag && entry.size == size).ok_or(Error::NotEncrypted)
    }

    /// The manifest that counts now; none when there is none, or it is closed.
    async fn open_manifest(&self, bucket: &LogicalBucket) -> Result<Option<Open>, Error> {
        let seen = self.manifests.seen(bucket);
        let mut seen = seen.lock().await;
        if let Some((since, open)) = &seen.now
            && since.elapsed() < FRESH
        {
            return Ok(open.clone());
        }
        let before = seen.now.take().and_then(|(_, open)| open);
        let (read, head) = (Instant::now(), self.manifest_head(bucket).await?);
        if let Some(newest) = &seen.newest {
            check_head(bucket, head.as_ref(), newest)?;
        }
        let open = match head.as_ref().filter(|head| !head.done) {
            None => None,
            Some(head) => self.manifest_now(bucket, head, before, &mut seen.done).await?,
        };
        if let Some(head) = head {
            let is_new = |newest: &Head| newest.run != head.run;
            if seen.newest.as_ref().is_some_and(is_new) {
                self.manifests.settled.forget_bucket(bucket);
            }
            seen.newest = Some(head);
        }
        seen.now = Some((read, open.clone()));
        Ok(open)
    }

    /// What `head` says, with what was known of it before.
    async fn manifest_now(
        &self,
        bucket: &LogicalBucket,
        head: &Head,
        before: Option<Open>,
        done: &mut (String, Arc<BTreeSet<u32>>),
    ) -> Result<Option<Open>, Error> {
        let contents = match before.filter(|open| open.run == head.run) {
            Some(open) => open.contents,
            // Without its contents it lists nothing: it was closed a moment ago, or somebody took them away.
            None => match self.manifest_contents(bucket, head).await? {
                Some(contents) => Arc::new(contents),
                None => return Ok(None),
            },
        };
        let now = self.manifest_progress(bucket, &head.run).await?;
        if done.0 != head.run {
            *done = (head.run.clone(), Arc::new(now));
        } else if !now.is_subset(&done.1) {
            done.1 = Arc::new(done.1.union(&now).copied().collect());
        }
        Ok(Some(Open { run: head.run.clone(), contents, done: Arc::clone(&done.1) }))
    }

    pub(super) async fn manifest_head(&self, bucket: &LogicalBucket) -> Result<Option<Head>, Error> {
        let bytes = self.open_entry(bucket, &manifest::head_name(bucket), manifest::MAX_HEAD).await?;
        bytes.map(|bytes| Head::parse(&bytes).map_err(damaged)).transpose()
    }

    async fn manifest_contents(&self, bucket: &LogicalBucket, head: &Head) -> Result<Option<Contents>, Error> {
        let name = manifest::contents_name(bucket, &head.run);
        let Some(bytes) = self.open_entry(bucket, &name, manifest::MAX_CONTENTS).await? else { return Ok(None) };
        let contents = Contents::parse(&bytes).map_err(damaged)?;
        if contents.0.len() as u64 == u64::from(head.pages) { Ok(Some(contents)) } else { Err(Error::NotAuthentic) }
    }

    pub(super) async fn manifest_page(
        &self,
        bucket: &LogicalBucket,
        run: &str,
        page: u32,
    ) -> Result<Option<Page>, Error> {
        let name = manifest::page_name(bucket, run, page);
        let bytes = self.open_entry(bucket, &name, manifest::MAX_PAGE).await?;
        bytes.map(|bytes| Page::parse(&bytes).map_err(damaged)).transpose()
    }
}

/// Whether `head` may stand where `newest` stood.
fn check_head(bucket: &LogicalBucket, head: Option<&Head>, newest: &Head) -> Result<(), MigrationError> {
    let (was, serial) = (&newest.run, newest.serial);
    match head {
        Some(head) if head.follows(newest) => Ok(()),
        Some(head) => {
            let (is, of) = (&head.run, head.serial);
            tracing::error!(%bucket, was, serial, is, of, "ALARM: another manifest of what is not encrypted was put in place of a later one");
            Err(MigrationError::OldManifest)
        }
        None => {
            tracing::error!(%bucket, was, serial, "ALARM: the manifest of what is not encrypted was taken away");
            Err(MigrationError::Hidden)
        }
    }
}

/// An ETag without its quotes.
pub(super) fn plain(etag: &str) -> &str {
    etag.trim().trim_matches('"')
}

pub(super) fn damaged(_: NotCanonical) -> Error {
    Error::NotAuthentic
}

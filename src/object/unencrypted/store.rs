//! Manifests as the job makes them: found, sealed, gone through, and closed.
//!
//! Pages and contents are written before the head that makes them count, and deleted after the head that says they do not.

use std::collections::BTreeSet;

use crate::crypto::random_array;
use crate::format::envelope;
use crate::names::LogicalBucket;
use crate::s3::sigv4::hex;
use crate::s3::target::ObjectKey;
use crate::s3::xml::StoredEntry;

use super::super::Objects;
use super::super::bucket::Unencrypted;
use super::super::error::{Error, WrongAnswer};
use super::super::renewal::is_gone;
use super::MigrationError;
use super::encrypt::is_md5;
use super::known::{damaged, plain};
use super::manifest::{self, Contents, Entry, Head, PAGE, Page};

/// What an object or version turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It has an envelope.
    Encrypted,
    /// It has none.
    Unencrypted(Entry),
    /// It was deleted, or written anew, since it was listed.
    Gone,
}

/// A manifest that is being gone through.
#[derive(Debug, Clone)]
pub struct Pages {
    /// Which one.
    pub head: Head,
    /// The pages of which nothing is left.
    pub done: BTreeSet<u32>,
}

/// A manifest that is being written, page by page; it counts for nothing before it is sealed.
#[derive(Debug)]
pub struct Draft {
    bucket: LogicalBucket,
    run: String,
    /// The page that is not written yet.
    page: Vec<Entry>,
    contents: Contents,
    count: u64,
}

impl Objects {
    /// Whether the configuration lets the bucket be migrated.
    ///
    /// # Errors
    /// [`MigrationError::NotMigrating`].
    pub fn check_migrating(&self, bucket: &LogicalBucket) -> Result<(), Error> {
        match self.bucket_named(bucket)?.keys.unencrypted {
            Unencrypted::Migrate => Ok(()),
            Unencrypted::Refuse => Err(MigrationError::NotMigrating.into()),
        }
    }

    /// Whether what was listed has an envelope.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn find_unencrypted(&self, bucket: &LogicalBucket, listed: &StoredEntry) -> Result<Found, Error> {
        let Ok(key) = ObjectKey::new(&listed.key) else { return Ok(Found::Gone) };
        let head = match self.stored_head(bucket, &key, listed.version.as_deref()).await {
            Err(error) if is_gone(&error) => return Ok(Found::Gone),
            head => head?.headers,
        };
        if head.contains_key(envelope::HEADER) {
            return Ok(Found::Encrypted);
        }
        let etag = plain(&listed.etag).to_owned();
        let entry = Entry { key: listed.key.clone(), etag, size: listed.size, md5: is_md5(&head) };
        let text = |name| head.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let length: Option<u64> = text(http::header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
        let same = text(http::header::ETAG).map(plain) == Some(&entry.etag) && length == Some(entry.size);
        Ok(if same { Found::Unencrypted(entry) } else { Found::Gone })
    }

    /// The manifest that is there, closed or not.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn manifest(&self, bucket: &LogicalBucket) -> Result<Option<Pages>, Error> {
        let Some(head) = self.manifest_head(bucket).await? else { return Ok(None) };
        let done = self.manifest_progress(bucket, &head.run).await?;
        Ok(Some(Pages { head, done }))
    }

    pub(super) async fn manifest_progress(&self, bucket: &LogicalBucket, run: &str) -> Result<BTreeSet<u32>, Error> {
        let name = manifest::progress_name(bucket, run);
        let bytes = self.open_entry(bucket, &name, manifest::MAX_CONTENTS).await?;
        bytes.map_or(Ok(BTreeSet::new()), |bytes| manifest::parse_progress(&bytes).map_err(damaged))
    }

    /// Begins a manifest of the bucket.
    ///
    /// # Errors
    /// [`Error::Random`].
    pub fn draft_manifest(&self, bucket: &LogicalBucket) -> Result<Draft, Error> {
        let run = hex(&random_array::<16>()?);
        Ok(Draft { bucket: bucket.clone(), run, page: Vec::new(), contents: Contents::default(), count: 0 })
    }

    /// Adds an entry; they come in the order of their keys.
    ///
    /// # Errors
    /// [`Error`], also when the key does not rise, and when there are more than a manifest holds.
    pub async fn add_to_draft(&self, draft: &mut Draft, entry: Entry) -> Result<(), Error> {
        if draft.page.last().is_some_and(|last| last.key >= entry.key) {
            return Err(WrongAnswer::Kind.into());
        }
        if draft.page.len() >= PAGE {
            self.seal_page(draft).await?;
        }
        if draft.contents.0.len() >= manifest::MOST_PAGES {
            return Err(MigrationError::TooMany(PAGE * manifest::MOST_PAGES).into());
        }
        draft.page.push(entry);
        draft.count += 1;
        Ok(())
    }

    async fn seal_page(&self, draft: &mut Draft) -> Result<(), Error> {
        let Some(first) = draft.page.first().map(|entry| entry.key.clone()) else { return Ok(()) };
        if draft.contents.0.last().is_some_and(|before| *before >= first) {
            return Err(WrongAnswer::Kind.into());
        }
        let number = u32::try_from(draft.contents.0.len()).unwrap_or(u32::MAX);
        let name = manifest::page_name(&draft.bucket, &draft.run, number);
        let page = Page::new(std::mem::take(&mut draft.page));
        self.seal_entry(&draft.bucket, &name, page.to_bytes().into()).await?;
        draft.contents.0.push(first);
        Ok(())
    }

    /// Seals a manifest, which then counts in place of `before`.
    ///
    /// # Errors
    /// [`Error`]: nothing new counts.
    pub async fn seal_manifest(&self, mut draft: Draft, before: Option<&Head>) -> Result<Pages, Error> {
        self.seal_page(&mut draft).await?;
        let Draft { bucket, run, contents, count, .. } = draft;
        let name = manifest::contents_name(&bucket, &run);
        self.seal_entry(&bucket, &name, contents.to_bytes().into()).await?;
        let now = self.manifest_head(&bucket).await?;
        if now.as_ref() != before {
            // Somebody else was quicker. What was written here counts for nothing, and is deleted with the next one's.
            return Err(MigrationError::OtherRun.into());
        }
        let pages = u32::try_from(contents.0.len()).unwrap_or(u32::MAX);
        let serial = before.map_or(1, |before| before.serial + 1);
        let head = Head { serial, run, pages, entries: count, done: false };
        self.seal_entry(&bucket, &manifest::head_name(&bucket), head.to_bytes().into()).await?;
        Ok(Pages { head, done: BTreeSet::new() })
    }

    /// A page of the manifest. `None` when the manifest does not count any more, as somebody else is through with it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn page_to_migrate(&self, bucket: &LogicalBucket, head: &Head, page: u32) -> Result<Option<Page>, Error> {
        if let Some(found) = self.manifest_page(bucket, &head.run, page).await? {
            return Ok(Some(found));
        }
        let now = self.manifest_head(bucket).await?;
        if now.is_some_and(|now| now.serial > head.serial || (now.run == head.run && now.done)) {
            return Ok(None);
        }
        Err(MigrationError::MissingPage(page).into())
    }

    /// Notes the pages of which nothing is left. What others noted meanwhile stays.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn note_migrated(&self, bucket: &LogicalBucket, pages: &mut Pages) -> Result<(), Error> {
        let others = self.manifest_progress(bucket, &pages.head.run).await?;
        pages.done.extend(others);
        let name = manifest::progress_name(bucket, &pages.head.run);
        self.seal_entry(bucket, &name, manifest::progress_bytes(&pages.done).into()).await
    }

    /// Closes the manifest: it lists nothing any more.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn close_manifest(&self, bucket: &LogicalBucket, head: &Head) -> Result<(), Error> {
        match self.manifest_head(bucket).await? {
            Some(now) if now.run == head.run => {}
            _ => return Err(MigrationError::OtherRun.into()),
        }
        let closed = Head { pages: 0, done: true, ..head.clone() };
        let name = manifest::head_name(bucket);
        self.seal_entry(bucket, &name, closed.to_bytes().into()).await?;
        self.forget_manifests(bucket, &name).await
    }

    /// Deletes everything but the head, also what runs left that did not come to an end.
    async fn forget_manifests(&self, bucket: &LogicalBucket, head: &str) -> Result<(), Error> {
        let folder = manifest::folder(bucket);
        let mut last = String::new();
        loop {
            let page = self.state.list(&folder, &last).await?;
            let names: Vec<&str> = page.keys.iter().map(String::as_str).filter(|key| *key != head).collect();
            if !names.is_empty() {
                self.state.delete(&names).await?;
            }
            match page.keys.into_iter().next_back() {
                Some(key) if page.truncated => last = key,
                _ => return Ok(()),
            }
        }
    }
}

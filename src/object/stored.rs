//! What is stored, as jobs look at it: listings and envelopes by the storage server's word, nothing opened.

use http::Method;

use crate::format::envelope::{self, Unverified};
use crate::names::LogicalBucket;
use crate::s3::target::ObjectKey;
use crate::s3::xml::{StoredEntry, StoredListing};
use crate::storage::{StorageRequest, StorageResponse};

use super::Objects;
use super::bucket::Bucket;
use super::error::{Error, WrongAnswer};

/// Most bytes of a page: 1,000 keys of 1,024 bytes, each percent-encoded, and what belongs to them.
pub(super) const MAX_PAGE: usize = 8 << 20;

/// Where a listing goes on: after this key, and after this version of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// The key.
    pub key: String,
    /// The version, where versions are listed.
    pub version: Option<String>,
    /// What the storage server calls it, within one walk. It counts before the key where it is there: the order is the server's own.
    pub token: Option<String>,
}

impl Position {
    /// After an entry.
    pub fn after(entry: &StoredEntry) -> Self {
        Self { key: entry.key.clone(), version: entry.version.clone(), token: None }
    }
}

/// A page of what is stored.
#[derive(Debug, Clone, Default)]
pub struct StoredPage {
    /// Objects or versions, in the listing's order.
    pub entries: Vec<StoredEntry>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Position>,
}

impl Objects {
    /// Whether there is a bucket that clients call `name`.
    pub(crate) fn has_bucket(&self, name: &LogicalBucket) -> bool {
        self.buckets.find(name).is_some()
    }

    /// The bucket that clients call `name`.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`] when the configuration has no rule for it.
    pub(crate) fn bucket_named<'a>(&'a self, name: &'a LogicalBucket) -> Result<Bucket<'a>, Error> {
        self.buckets.find(name).ok_or(Error::NoSuchBucket)
    }

    /// One page of the objects, or of all `versions`, whose keys begin with `prefix`, after `after`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn stored(
        &self,
        bucket: &LogicalBucket,
        prefix: &str,
        after: &Position,
        versions: bool,
    ) -> Result<StoredPage, Error> {
        let bucket = self.bucket_named(bucket)?;
        let mut request = StorageRequest::bucket(Method::GET, bucket.physical);
        request = if versions { request.flag("versions") } else { request.query("list-type", "2") };
        request = request.query("prefix", prefix).query("encoding-type", "url");
        if let Some(token) = after.token.as_ref().filter(|_| !versions) {
            request = request.query("continuation-token", token);
        } else if !after.key.is_empty() {
            let name = if versions { "key-marker" } else { "start-after" };
            request = request.query(name, &after.key);
            if let Some(version) = after.version.as_ref().filter(|_| versions) {
                request = request.query("version-id-marker", version);
            }
        }
        let response = self.storage.send(request, None).await?.checked().await?;
        let listing = StoredListing::parse(&response.collect(MAX_PAGE).await?).map_err(WrongAnswer::Document)?;
        page_of(listing, prefix, after, versions)
    }

    /// What the storage server says of one object or version: the answer to a HEAD, whose envelope nobody opened.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn stored_head(
        &self,
        bucket: &LogicalBucket,
        key: &ObjectKey,
        version: Option<&str>,
    ) -> Result<StorageResponse, Error> {
        let bucket = self.bucket_named(bucket)?;
        let mut request = StorageRequest::object(Method::HEAD, bucket.physical, key.as_str());
        if let Some(version) = version {
            request = request.query("versionId", version);
        }
        Ok(self.storage.send(request, None).await?.checked().await?)
    }
}

/// The envelope in the headers of an answer, unopened; `None` where there is none.
///
/// # Errors
/// [`Error`] when there is something that is no envelope.
pub fn stored_envelope(response: &StorageResponse) -> Result<Option<Unverified>, Error> {
    if !response.headers.contains_key(envelope::HEADER) {
        return Ok(None);
    }
    super::opened::envelope_of(&response.headers).map(Some)
}

/// The page that was asked for.
///
/// # Errors
/// [`WrongAnswer`] when it is another one, or leads to itself.
pub(super) fn page_of(
    listing: StoredListing,
    prefix: &str,
    after: &Position,
    versions: bool,
) -> Result<StoredPage, Error> {
    if listing.entries.iter().any(|entry| !entry.key.starts_with(prefix)) {
        return Err(WrongAnswer::Kind.into());
    }
    let next = listing.is_truncated.then(|| next_of(&listing, versions, after));
    match next {
        None => Ok(StoredPage { entries: listing.entries, next: None }),
        Some(Some(next)) if next != *after => Ok(StoredPage { entries: listing.entries, next: Some(next) }),
        // It would be read for ever.
        Some(_) => Err(WrongAnswer::Kind.into()),
    }
}

fn next_of(listing: &StoredListing, versions: bool, after: &Position) -> Option<Position> {
    if let (true, Some((key, version))) = (versions, &listing.next) {
        let version = Some(version.clone()).filter(|text| !text.is_empty());
        return Some(Position { key: key.clone(), version, token: None });
    }
    let mut next = listing.entries.last().map(Position::after);
    if let (false, Some(token)) = (versions, &listing.token) {
        // A page without entries may lead on all the same.
        let next = next.get_or_insert_with(|| after.clone());
        next.token = Some(token.clone());
    }
    next
}

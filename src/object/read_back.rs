//! Objects as jobs read them: like a client who may read everything, and with the tags that stand beside them.

use http::HeaderMap;

use crate::names::{KekName, KekVersion, LogicalBucket};
use crate::s3::operation::{ObjectOperation, Operation, Read};
use crate::s3::target::ObjectKey;
use crate::s3::xml::StoredEntry;

use super::access::Authenticated;
use super::answer::Answer;
use super::error::Error;
use super::stored::{Position, stored_envelope};
use super::{Call, Named, Objects};

/// An object, or a version of it, that a job reads.
#[derive(Debug, Clone, Copy)]
pub struct Readable<'a> {
    /// The bucket, by the name for clients.
    pub bucket: &'a LogicalBucket,
    /// The key.
    pub key: &'a ObjectKey,
    /// The version; `None`: what the key stands for now.
    pub version: Option<&'a str>,
}

/// What an object's envelope says of its KEK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeBack {
    /// The KEK.
    pub kek: KekName,
    /// The version that its copy of the branch key is under, which nobody has authenticated: a rewrap may replace the copy.
    pub version: KekVersion,
    /// Whether it was opened: then it is the envelope of this object, under a branch key of that KEK. Otherwise all of this is the storage
    /// server's word.
    pub opened: bool,
}

/// Whether what an answer gives was encrypted, and is authentic; else it is what the manifest of a bucket lists that is being migrated.
pub fn is_encrypted(answer: &Answer) -> bool {
    // No answer about an object without an envelope has this, and jobs give no customer keys.
    answer.headers.contains_key("x-amz-server-side-encryption")
}

impl Objects {
    /// The envelope, from the answer to a HEAD; `None` where there is none. It is opened if it is under `kek` and needs no customer key.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn envelope_back(
        &self,
        who: &Authenticated,
        object: Readable<'_>,
        kek: &KekName,
    ) -> Result<Option<EnvelopeBack>, Error> {
        let (call, named, _) = self.reading_of(who, object, ObjectOperation::HeadObject)?;
        let head = self.stored_head(object.bucket, object.key, object.version).await?;
        let Some(envelope) = stored_envelope(&head)? else { return Ok(None) };
        let (found, version) = (envelope.branch().kek.clone(), envelope.branch().version);
        let is_to_open = found == *kek && !envelope.needs_customer_key();
        if is_to_open {
            self.open(&call, named, &head.headers).await?;
        }
        Ok(Some(EnvelopeBack { kek: found, version, opened: is_to_open }))
    }

    /// GetObject: what the answer's body gives is authentic, and whole if it ends without an error.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn read_back(&self, who: &Authenticated, object: Readable<'_>) -> Result<Answer, Error> {
        let (call, named, read) = self.reading_of(who, object, ObjectOperation::GetObject)?;
        self.get(&call, named, &read).await
    }

    /// HeadObject: the envelope is opened, and the authenticated end of the object read.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn head_back(&self, who: &Authenticated, object: Readable<'_>) -> Result<Answer, Error> {
        let (call, named, read) = self.reading_of(who, object, ObjectOperation::HeadObject)?;
        self.head(&call, named, &read).await
    }

    /// The object's tags as the header `x-amz-tagging` has them; `None` without any, and where the storage server knows of none.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn tags_back(&self, who: &Authenticated, object: Readable<'_>) -> Result<Option<String>, Error> {
        let (call, named, _) = self.reading_of(who, object, ObjectOperation::GetObject)?;
        let tags = self.tags_at(&call, named, object.version).await?;
        Ok(tags.and_then(|tags| tags.to_str().ok().map(str::to_owned)))
    }

    fn reading_of<'a>(
        &'a self,
        who: &Authenticated,
        object: Readable<'a>,
        operation: impl FnOnce(Read) -> ObjectOperation,
    ) -> Result<(Call, Named<'a>, Read), Error> {
        let Readable { bucket, key, version } = object;
        let read = Read { version_id: version.map(str::to_owned), ..Read::default() };
        let operation = Operation::Object(bucket.clone(), key.clone(), operation(read.clone()));
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-checksum-mode", http::HeaderValue::from_static("ENABLED"));
        let call = Call::new(who.clone(), operation, headers);
        Ok((call, Named { bucket: self.bucket_named(bucket)?, key }, read))
    }

    /// Whether the storage server still lists what it listed.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn is_still_listed(&self, bucket: &LogicalBucket, entry: &StoredEntry) -> Result<bool, Error> {
        let versions = entry.version.is_some();
        // A key is the first one of those that begin with it, and its newest versions come first.
        let page = self.stored(bucket, &entry.key, &Position::default(), versions).await?;
        let same = |listed: &&StoredEntry| {
            (&listed.key, &listed.version, &listed.etag) == (&entry.key, &entry.version, &entry.etag)
        };
        Ok(page.entries.iter().filter(|listed| !listed.is_delete_marker).any(|listed| same(&listed)))
    }
}

//! Objects as jobs read them: like a client who may read everything, and with the tags that stand beside them.

use http::HeaderMap;

use crate::names::LogicalBucket;
use crate::s3::customer_key::CustomerKeys;
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

impl Objects {
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
        let call = Call { who: who.clone(), operation, headers, customer_keys: CustomerKeys::default() };
        Ok((call, Named { bucket: self.bucket_named(bucket)?, key }, read))
    }

    /// Whether proxies may serve this object as it is stored, because its bucket is being migrated and it has no envelope.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn is_unencrypted_yet(&self, object: Readable<'_>) -> Result<bool, Error> {
        if !Self::migrates(self.bucket_named(object.bucket)?) {
            return Ok(false);
        }
        let head = self.stored_head(object.bucket, object.key, object.version).await?;
        Ok(stored_envelope(&head)?.is_none())
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

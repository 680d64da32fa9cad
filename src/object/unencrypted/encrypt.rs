//! One object that the manifest lists, encrypted in its place.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use http::header::{HeaderMap, HeaderValue, IF_MATCH};
use http_body_util::BodyExt as _;

use crate::format::metadata::Metadata;
use crate::format::{envelope, size};
use crate::names::{LogicalBucket, Purpose};
use crate::s3::operation::{ObjectOperation, Read};
use crate::s3::target::ObjectKey;

use super::super::access::Authenticated;
use super::super::answer::ReadFailure;
use super::super::error::{Error, WrongAnswer};
use super::super::fetch::{Fetched, Piece, Stored};
use super::super::metadata;
use super::super::plaintext::Plaintext;
use super::super::put::now_ms;
use super::super::renewal::{self, is_overtaken};
use super::super::{Call, Named, Objects};
use super::known::plain;
use super::manifest::{self, Entry};

/// From this size on, what was uploaded in parts is uploaded in parts again.
const LEAST_IN_PARTS: u64 = 5 << 20;

/// What became of an object that is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encrypted {
    /// It is encrypted now.
    Done {
        /// Bytes of plaintext.
        bytes: u64,
        /// The version that it replaced, which stays as it was, in a bucket with versions.
        remains: Option<String>,
        /// The storage server did not tell its ACL: it has that of a new object.
        without_acl: bool,
    },
    /// Somebody wrote or deleted it since it was listed: nothing that is listed is left under its key.
    Overtaken,
}

impl Objects {
    /// Encrypts the object that `entry` lists, if it still is that one. Without `conditional`, nobody else may write meanwhile.
    ///
    /// # Errors
    /// [`Error`]: it is as it was, unless the storage server's answer got lost.
    pub async fn encrypt_listed(
        &self,
        who: &Authenticated,
        bucket: &LogicalBucket,
        entry: &Entry,
        conditional: bool,
    ) -> Result<Encrypted, Error> {
        let key = ObjectKey::new(&entry.key).map_err(|_| WrongAnswer::Kind)?;
        let object = Named { bucket: self.bucket_named(bucket)?, key: &key };
        let outcome = self.encrypt_now(who, object, entry, conditional).await;
        self.tails.forget(object, None);
        match outcome {
            Err(error) if is_overtaken(&error) => Ok(Encrypted::Overtaken),
            outcome => outcome,
        }
    }

    async fn encrypt_now(
        &self,
        who: &Authenticated,
        object: Named<'_>,
        entry: &Entry,
        conditional: bool,
    ) -> Result<Encrypted, Error> {
        let call = renewal::call(who, object, renewal::at_once(), HeaderMap::new());
        let most = size::MAX_PUT.min(self.storage.settings().copy_limit_bytes);
        let in_parts = entry.size > most || (entry.size >= LEAST_IN_PARTS && entry.etag.contains('-'));
        // Of an object in parts, the bytes are asked for part by part.
        let whole = if in_parts { None } else { Some(self.listed_bytes(&call, object, entry, None).await?) };
        let storage = match &whole {
            Some(stored) => stored.headers.clone(),
            None => self.listed_headers(&call, object, entry).await?,
        };
        let carried = self.carried_unencrypted(&call, object, &storage).await?;
        let condition = if conditional { Some(etag_of(&storage)?) } else { None };
        let metadata = Metadata { written_ms: now_ms(), ..metadata::of_headers(&storage) };
        let written = match whole {
            Some(stored) => {
                let call = renewal::call(who, object, renewal::at_once(), carried.headers.clone());
                self.put_listed(&call, object, (metadata, entry), stored, condition).await?
            }
            None => {
                let call = renewal::call(who, object, renewal::uploading(), carried.headers.clone());
                self.upload_listed(&call, object, (&metadata, entry), condition).await?
            }
        };
        let versioned = written.get("x-amz-version-id").is_some_and(|version| version != "null");
        let old = || storage.get("x-amz-version-id").and_then(|version| version.to_str().ok());
        let remains = versioned.then(|| old().unwrap_or("null").to_owned());
        Ok(Encrypted::Done { bytes: entry.size, remains, without_acl: carried.without_acl })
    }

    async fn put_listed(
        &self,
        call: &Call,
        object: Named<'_>,
        (metadata, entry): (Metadata, &Entry),
        stored: Stored,
        condition: Option<HeaderValue>,
    ) -> Result<HeaderMap, Error> {
        let (bucket, caller, length) = (object.bucket.name, call.who.caller(), stored.size);
        let mut request = self.request(call, Method::PUT, object.bucket, Some(object.key));
        if let Some(etag) = condition {
            // A second attempt would fail on the first one's success.
            request = request.replay_unsafe().header(IF_MATCH, etag);
        }
        let key = self.keys.for_writing(&object.bucket.keys.kek, Purpose::Object, bucket, caller, length).await?;
        let promises = promises(entry);
        let body = stored.body.map_err(ReadFailure::from).boxed_unsync();
        let plaintext = Plaintext::of_stored(body, length, &promises)?;
        let (response, _) = self.store(call, object, metadata, plaintext, key, request).await?;
        Ok(response.headers)
    }

    /// The bytes of an object that is listed, from the first to before the second, or all.
    pub(in crate::object) async fn listed_bytes(
        &self,
        call: &Call,
        object: Named<'_>,
        entry: &Entry,
        range: Option<Piece>,
    ) -> Result<Stored, Error> {
        let read = Read::default();
        let operation = ObjectOperation::GetObject(read.clone());
        let call = renewal::call(&call.who, object, operation, HeaderMap::new());
        let etag = HeaderValue::try_from(format!("\"{}\"", entry.etag)).map_err(|_| WrongAnswer::Etag)?;
        let conditions = HeaderMap::from_iter([(IF_MATCH, etag)]);
        match self.fetch(&call, object, &read, range.unwrap_or(Piece::Whole), &conditions).await? {
            Fetched::Found(stored) if is_entry(&stored.headers, stored.size, entry) => Ok(stored),
            Fetched::Found(_) | Fetched::NotModified(_) | Fetched::Unsatisfiable => Err(Error::Overwritten),
        }
    }

    async fn listed_headers(&self, call: &Call, object: Named<'_>, entry: &Entry) -> Result<HeaderMap, Error> {
        let request = self.request(call, Method::HEAD, object.bucket, Some(object.key));
        let headers = self.send(call, request).await?.checked().await?.headers;
        let length = headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let size: u64 = length.ok_or(WrongAnswer::Length)?;
        if is_entry(&headers, size, entry) { Ok(headers) } else { Err(Error::Overwritten) }
    }
}

fn is_entry(headers: &HeaderMap, size: u64, entry: &Entry) -> bool {
    let etag = headers.get(http::header::ETAG).and_then(|etag| etag.to_str().ok()).map(plain);
    !headers.contains_key(envelope::HEADER) && etag == Some(&entry.etag) && size == entry.size
}

fn etag_of(storage: &HeaderMap) -> Result<HeaderValue, Error> {
    storage.get(http::header::ETAG).cloned().ok_or_else(|| WrongAnswer::Etag.into())
}

/// Whether the ETag is the MD5 of the bytes: it looks like one, and the storage server does not say that it encrypts under a key of
/// its own (AWS, "Object": then it is something else).
pub(super) fn is_md5(storage: &HeaderMap) -> bool {
    let by_key = storage.get("x-amz-server-side-encryption").is_some_and(|by| by != "AES256")
        || storage.contains_key("x-amz-server-side-encryption-customer-algorithm");
    let etag = storage.get(http::header::ETAG).and_then(|etag| etag.to_str().ok()).map(plain).unwrap_or_default();
    manifest::md5(etag).is_some() && !by_key
}

/// What the bytes must come to.
fn promises(entry: &Entry) -> HeaderMap {
    let digest = entry.digest().and_then(|digest| HeaderValue::try_from(STANDARD.encode(digest)).ok());
    digest.into_iter().map(|digest| (http::HeaderName::from_static("content-md5"), digest)).collect()
}

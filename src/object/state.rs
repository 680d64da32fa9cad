//! The state bucket: what the proxies need to share, on the storage server, out of clients' sight.
//!
//! It holds the branch-key directory: `branch/KEK/ID/vN`, each `["claviger/1 branch key", context, wrapped]` in deterministic CBOR
//! (entries of before: the wrapped bytes alone), not overwritten, and believed only as far as the custodian opens them; and the uploads under way: `upload/…` (see [`super::multipart`]).
//!
//! **Invariant:** what is read here is the storage server's word. Whoever reads it bounds it, and opens it with a key.

pub mod branches;
mod entries;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, IF_NONE_MATCH};
use http::{Method, StatusCode};

use crate::cbor::{self, NotCanonical};
use crate::custody::context::BranchContext;
use crate::custody::directory::{Directory, DirectoryError};
use crate::custody::wrapped::{WRAPPED_MAX, WrappedKey};
use crate::format::ciphertext::CipherBytes;
use crate::names::{BranchId, KekName, KekVersion};
use crate::s3::xml::{ListedPage, MOST_DELETES, all_deleted, delete_xml, listed_keys, listed_page};
use crate::storage::{Garbage, ResponseStream, Storage, StorageBody, StorageError, StorageRequest, StorageResponse};

use super::service::content_md5;

pub use entries::EntryPage;

/// Names the layout of an entry of the directory.
const ENTRY_LABEL: &str = "claviger/1 branch key";
/// Most bytes of one: the wrapped key, its context, and what is around them.
const ENTRY_MAX: usize = WRAPPED_MAX + 512;
/// Most bytes of a page of a listing: 1,000 keys of less than 400 bytes, and what belongs to them.
const MAX_PAGE: usize = 2 << 20;
/// Most bytes of an answer to the deletion of 1,000 keys.
const MAX_RESULT: usize = 2 << 20;

/// The state bucket of a storage server. Cheap to clone.
#[derive(Clone)]
pub struct StateBucket {
    storage: Storage,
    name: String,
}

/// What is wrong with the state bucket.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The storage server refused or failed.
    #[error("the state bucket's storage server failed")]
    Storage(#[from] StorageError),
    /// Branch keys are never overwritten.
    #[error("another branch key stands under this name in the state bucket")]
    Occupied,
    /// A listing, or the answer to a deletion, that is none.
    #[error("the state bucket's listing is malformed")]
    Listing(#[from] crate::s3::xml::XmlError),
    /// A listing without order, with which nobody can tell where the next page begins.
    #[error("the state bucket's listing is not in order")]
    Order,
    /// More names than any upload or branch key has.
    #[error("the state bucket has more names of one upload or branch key than there can be")]
    TooMany,
    /// Something else than what was written.
    #[error("an entry of the state bucket is empty or too long")]
    Entry,
    /// Something is still there.
    #[error("the state bucket did not delete all that it was told to")]
    NotDeleted,
}

fn branch_prefix(kek: &KekName, id: BranchId) -> String {
    format!("branch/{kek}/{id}/")
}

fn branch_name(kek: &KekName, id: BranchId, version: KekVersion) -> String {
    format!("{}{version}", branch_prefix(kek, id))
}

impl StateBucket {
    /// The bucket `name` of `storage`, which is created when it is first needed.
    pub fn new(storage: Storage, name: String) -> Self {
        Self { storage, name }
    }

    async fn put_new(&self, key: &str, bytes: &[u8]) -> Result<(), StateError> {
        match self.try_put_new(key, bytes).await {
            Err(StateError::Storage(StorageError::Refused(refusal)))
                if refusal.code.as_deref() == Some("NoSuchBucket") || refusal.status == StatusCode::NOT_FOUND =>
            {
                self.create().await?;
                self.try_put_new(key, bytes).await
            }
            outcome => outcome,
        }
    }

    async fn try_put_new(&self, key: &str, bytes: &[u8]) -> Result<(), StateError> {
        // What is stored here was wrapped by the custodian.
        let body = StorageBody::Replayable(CipherBytes::assume_ciphertext(Bytes::copy_from_slice(bytes)));
        let request = StorageRequest::object(Method::PUT, &self.name, key).body(body);
        let request = request.header(IF_NONE_MATCH, HeaderValue::from_static("*")).replay_safe();
        match self.storage.send(request, None).await?.checked().await {
            Ok(_) => Ok(()),
            // An earlier attempt of ours may have succeeded without our knowing.
            Err(StorageError::Refused(refusal)) if refusal.status == StatusCode::PRECONDITION_FAILED => {
                match self.read(key, ENTRY_MAX).await {
                    Ok(Some(there)) if there == bytes => Ok(()),
                    Ok(_) | Err(StateError::Entry) => Err(StateError::Occupied),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn create(&self) -> Result<(), StateError> {
        tracing::info!(bucket = self.name, "creating the state bucket");
        let request = StorageRequest::bucket(Method::PUT, &self.name);
        match self.storage.send(request, None).await?.checked().await {
            // Another proxy was quicker.
            Err(StorageError::Refused(refusal)) if refusal.status == StatusCode::CONFLICT => Ok(()),
            outcome => Ok(outcome.map(drop)?),
        }
    }

    /// Writes an entry, over what is there. It holds what the caller sealed.
    pub(super) async fn put(&self, key: &str, bytes: &[u8]) -> Result<(), StateError> {
        let send = || async {
            let body = match bytes.is_empty() {
                true => StorageBody::Empty,
                false => StorageBody::Replayable(CipherBytes::assume_ciphertext(Bytes::copy_from_slice(bytes))),
            };
            self.put_body(key, body).await
        };
        match send().await {
            Err(StateError::Storage(StorageError::Refused(refusal)))
                if refusal.code.as_deref() == Some("NoSuchBucket") || refusal.status == StatusCode::NOT_FOUND =>
            {
                self.create().await?;
                send().await
            }
            outcome => outcome,
        }
    }

    /// The same for a body that may be a stream, in a bucket that is there.
    pub(super) async fn put_body(&self, key: &str, body: StorageBody) -> Result<(), StateError> {
        let request = StorageRequest::object(Method::PUT, &self.name, key)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
            .body(body);
        Ok(self.storage.send(request, None).await?.checked().await.map(drop)?)
    }

    async fn get(&self, key: &str) -> Result<Option<StorageResponse>, StateError> {
        self.answer(StorageRequest::object(Method::GET, &self.name, key)).await
    }

    async fn answer(&self, request: StorageRequest) -> Result<Option<StorageResponse>, StateError> {
        let response = self.storage.send(request, None).await?;
        if response.status == StatusCode::NOT_FOUND { Ok(None) } else { Ok(Some(response.checked().await?)) }
    }

    /// An entry of at most `limit` bytes; `None` when there is none. What is longer is [`StateError::Entry`], and no server that failed.
    pub(super) async fn read(&self, key: &str, limit: usize) -> Result<Option<Bytes>, StateError> {
        self.read_by(StorageRequest::object(Method::GET, &self.name, key), limit).await
    }

    /// The same, by a request for it.
    async fn read_by(&self, request: StorageRequest, limit: usize) -> Result<Option<Bytes>, StateError> {
        let Some(response) = self.answer(request).await? else { return Ok(None) };
        match response.collect(limit).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StorageError::Garbage(Garbage::TooLarge { .. })) => Err(StateError::Entry),
            Err(error) => Err(error.into()),
        }
    }

    /// An entry of exactly `length` bytes as a stream, whose end the caller checks; `None` when there is none.
    pub(super) async fn stream(&self, key: &str, length: u64) -> Result<Option<ResponseStream>, StateError> {
        let Some(response) = self.get(key).await? else { return Ok(None) };
        let announced = response.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if announced == Some(length) { Ok(Some(response.body)) } else { Err(StateError::Entry) }
    }

    /// One page of the keys that begin with `prefix` and come after `after`, in rising order.
    pub(super) async fn list(&self, prefix: &str, after: &str) -> Result<ListedPage, StateError> {
        let mut request = StorageRequest::bucket(Method::GET, &self.name);
        request = request.query("list-type", "2").query("prefix", prefix);
        if !after.is_empty() {
            request = request.query("start-after", after);
        }
        let response = self.storage.send(request, None).await?;
        if response.status == StatusCode::NOT_FOUND {
            return Ok(ListedPage::default());
        }
        let page = listed_page(&response.checked().await?.collect(MAX_PAGE).await?)?;
        let mut before = after;
        for key in &page.keys {
            if !key.starts_with(prefix) || key.as_str() <= before {
                return Err(StateError::Order);
            }
            before = key;
        }
        if page.truncated && page.keys.is_empty() { Err(StateError::Order) } else { Ok(page) }
    }

    /// Deletes entries; those that are not there count as deleted.
    pub(super) async fn delete(&self, keys: &[&str]) -> Result<(), StateError> {
        for some in keys.chunks(MOST_DELETES) {
            let document = Bytes::from(delete_xml(some.iter().copied()));
            let mut request = StorageRequest::bucket(Method::POST, &self.name).flag("delete");
            request.headers.insert("content-md5", content_md5(&document));
            request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
            // Names of our own.
            let request = request.body(StorageBody::Replayable(CipherBytes::assume_ciphertext(document)));
            let result = self.storage.send(request, None).await?.checked().await?.collect(MAX_RESULT).await?;
            if !all_deleted(&result)? {
                return Err(StateError::NotDeleted);
            }
        }
        Ok(())
    }

    async fn newest_entry(&self, kek: &KekName, id: BranchId) -> Result<Option<WrappedKey>, StateError> {
        let prefix = branch_prefix(kek, id);
        let request = StorageRequest::bucket(Method::GET, &self.name).query("list-type", "2").query("prefix", &prefix);
        // Entries are never overwritten: an older list has an older wrapping of the same key.
        let response = self.storage.send(request.or_replica(), None).await?;
        if response.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let keys = listed_keys(&response.checked().await?.collect(MAX_PAGE).await?)?;
        let versions = keys.iter().filter_map(|key| version_of(key.strip_prefix(&prefix)?));
        let Some(version) = versions.max() else { return Ok(None) };
        self.branch_entry(kek, id, version).await
    }

    /// The directory's entry of a branch key under that KEK version, if there is one.
    ///
    /// # Errors
    /// [`StateError::Entry`] if it is none, or another branch key's. [`StateError`].
    pub async fn branch_entry(
        &self,
        kek: &KekName,
        id: BranchId,
        version: KekVersion,
    ) -> Result<Option<WrappedKey>, StateError> {
        Ok(self.whole_branch_entry(kek, id, version).await?.map(|(_, wrapped)| wrapped))
    }

    /// Adds an entry to the directory. One that is there stays, whatever it is: whoever needs to know reads it back.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn add_branch_entry(
        &self,
        kek: &KekName,
        context: &BranchContext,
        wrapped: &WrappedKey,
    ) -> Result<(), StateError> {
        let name = branch_name(kek, context.id, wrapped.version());
        match self.put_new(&name, &entry(context, wrapped)).await {
            Err(StateError::Occupied) => Ok(()),
            outcome => outcome,
        }
    }

    /// Writes an entry of the directory over one that does not open.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn mend_branch_entry(
        &self,
        kek: &KekName,
        context: &BranchContext,
        wrapped: &WrappedKey,
    ) -> Result<(), StateError> {
        let name = branch_name(kek, context.id, wrapped.version());
        self.put(&name, &entry(context, wrapped)).await
    }
}

/// An entry of the directory.
fn entry(context: &BranchContext, wrapped: &WrappedKey) -> Vec<u8> {
    entry_bytes(&context.to_bytes(), wrapped.bytes())
}

fn entry_bytes(context: &[u8], wrapped: &[u8]) -> Vec<u8> {
    cbor::encode(|e| {
        e.array(3)?.str(ENTRY_LABEL)?.bytes(context)?.bytes(wrapped)?;
        Ok(())
    })
}

/// The context and the wrapped bytes in an entry of the branch key `id`; `None` if it is no such entry.
fn read_entry(bytes: &[u8], id: BranchId) -> Option<(BranchContext, Vec<u8>)> {
    let read = |d: &mut minicbor::Decoder<'_>| {
        if d.array()? != Some(3) || d.str()? != ENTRY_LABEL {
            return Err(NotCanonical);
        }
        Ok((d.bytes()?.to_vec(), d.bytes()?.to_vec()))
    };
    let (context, wrapped) = cbor::parse(bytes, read, |(context, wrapped)| entry_bytes(context, wrapped)).ok()?;
    let context = BranchContext::parse(&context).ok().filter(|context| context.id == id)?;
    Some((context, wrapped))
}

/// Branch key and version in `ID/vN`, an entry's name below its KEK's folder.
fn read_name(name: &str) -> Option<(BranchId, KekVersion)> {
    let (id, version) = name.split_once('/')?;
    Some((BranchId::parse(id)?, version_of(version)?))
}

/// The version in `vN`.
fn version_of(name: &str) -> Option<KekVersion> {
    let version = KekVersion::new(name.strip_prefix('v')?.parse().ok()?)?;
    (version.to_string() == name).then_some(version)
}

impl Directory for StateBucket {
    fn publish<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        wrapped: &'a WrappedKey,
    ) -> BoxFuture<'a, Result<(), DirectoryError>> {
        let key = branch_name(kek, context.id, wrapped.version());
        async move { self.put_new(&key, &entry(context, wrapped)).await.map_err(DirectoryError::new) }.boxed()
    }

    fn newest<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
    ) -> BoxFuture<'a, Result<Option<WrappedKey>, DirectoryError>> {
        async move { self.newest_entry(kek, context.id).await.map_err(DirectoryError::new) }.boxed()
    }
}

/// What parses as an entry of the directory is of the branch key that its name says, and is written back byte for byte, and so is the name.
#[doc(hidden)]
pub fn fuzz_entry(bytes: &[u8]) {
    let id = BranchId::from_bytes([7; 16]);
    if let Some((context, wrapped)) = read_entry(bytes, id) {
        assert_eq!(context.id, id);
        assert_eq!(entry_bytes(&context.to_bytes(), &wrapped), bytes);
    }
    let Ok(name) = std::str::from_utf8(bytes) else { return };
    if let Some((id, version)) = read_name(name) {
        let kek = KekName::new("records").expect("legal");
        assert!(branch_name(&kek, id, version).ends_with(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_one_spelling() {
        assert_eq!(version_of("v12").map(KekVersion::number), Some(12));
        for other in ["12", "v0", "v012", "v", "v-1", "v+1", "v12/", "v4294967296"] {
            assert_eq!(version_of(other), None, "{other}");
        }
    }
}

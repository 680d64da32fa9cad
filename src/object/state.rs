//! The state bucket: what the proxies need to share, on the storage server, out of clients' sight.
//!
//! For now it holds the branch-key directory: `branch/KEK/ID/vN`, each the custodian's wrapped bytes. Entries are never
//! overwritten, and believed only as far as the custodian opens them.

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{HeaderValue, IF_NONE_MATCH};
use http::{Method, StatusCode};

use crate::custody::directory::{Directory, DirectoryError};
use crate::custody::wrapped::{WRAPPED_MAX, WrappedKey};
use crate::format::ciphertext::CipherBytes;
use crate::names::{BranchId, KekName, KekVersion};
use crate::s3::xml::listed_keys;
use crate::storage::{Storage, StorageBody, StorageError, StorageRequest};

/// Most bytes of a page of the directory's listing.
const MAX_PAGE: usize = 1 << 20;

/// The state bucket of a storage server.
pub struct StateBucket {
    storage: Storage,
    name: String,
}

/// What is wrong with the state bucket.
#[derive(Debug, thiserror::Error)]
enum StateError {
    #[error("the state bucket's storage server failed")]
    Storage(#[from] StorageError),
    #[error("another branch key stands under this name in the state bucket")]
    Occupied,
    #[error("the state bucket's listing is malformed")]
    Listing(#[from] crate::s3::xml::XmlError),
    #[error("an entry of the state bucket is empty or too long")]
    Entry,
}

fn branch_prefix(kek: &KekName, id: BranchId) -> String {
    format!("branch/{kek}/{id}/")
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
        let request = request.header(IF_NONE_MATCH, HeaderValue::from_static("*"));
        match self.storage.send(request, None).await?.checked().await {
            Ok(_) => Ok(()),
            // An earlier attempt of ours may have succeeded without our knowing.
            Err(StorageError::Refused(refusal)) if refusal.status == StatusCode::PRECONDITION_FAILED => {
                if self.read(key).await?.is_some_and(|there| there == bytes) {
                    Ok(())
                } else {
                    Err(StateError::Occupied)
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

    async fn read(&self, key: &str) -> Result<Option<Bytes>, StateError> {
        let response = self.storage.send(StorageRequest::object(Method::GET, &self.name, key), None).await?;
        if response.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(response.checked().await?.collect(WRAPPED_MAX).await?))
    }

    async fn newest_entry(&self, kek: &KekName, id: BranchId) -> Result<Option<WrappedKey>, StateError> {
        let prefix = branch_prefix(kek, id);
        let request = StorageRequest::bucket(Method::GET, &self.name).query("list-type", "2").query("prefix", &prefix);
        let response = self.storage.send(request, None).await?;
        if response.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let keys = listed_keys(&response.checked().await?.collect(MAX_PAGE).await?)?;
        let versions = keys.iter().filter_map(|key| version_of(key.strip_prefix(&prefix)?));
        let Some(version) = versions.max() else { return Ok(None) };
        let Some(bytes) = self.read(&format!("{prefix}{version}")).await? else { return Ok(None) };
        WrappedKey::new(version, bytes.to_vec()).map(Some).map_err(|_| StateError::Entry)
    }
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
        id: BranchId,
        wrapped: &'a WrappedKey,
    ) -> BoxFuture<'a, Result<(), DirectoryError>> {
        let key = format!("{}{}", branch_prefix(kek, id), wrapped.version());
        async move { self.put_new(&key, wrapped.bytes()).await.map_err(DirectoryError::new) }.boxed()
    }

    fn newest<'a>(
        &'a self,
        kek: &'a KekName,
        id: BranchId,
    ) -> BoxFuture<'a, Result<Option<WrappedKey>, DirectoryError>> {
        async move { self.newest_entry(kek, id).await.map_err(DirectoryError::new) }.boxed()
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

//! The branch-key directory: where wrapped branch keys are written before their first use.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;

use crate::names::{BranchId, KekName, KekVersion};

use super::Cause;
use super::context::BranchContext;
use super::wrapped::WrappedKey;

/// Wrapped branch keys by KEK, id and KEK version. Entries are never overwritten.
///
/// The directory lies with the storage operator and is never believed alone: what it gives is only bytes for the custodian to open.
pub trait Directory: Send + Sync {
    /// Adds `wrapped`, the branch key of `context`; returns when it is durable. The same again is no error.
    ///
    /// # Errors
    /// [`DirectoryError`], also when another wrapping stands under that id and version.
    fn publish<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        wrapped: &'a WrappedKey,
    ) -> BoxFuture<'a, Result<(), DirectoryError>>;

    /// The entry of the branch key of `context` with the highest KEK version, if there is any.
    ///
    /// # Errors
    /// [`DirectoryError`].
    fn newest<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
    ) -> BoxFuture<'a, Result<Option<WrappedKey>, DirectoryError>>;
}

/// The directory could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the branch-key directory failed")]
pub struct DirectoryError(#[source] Cause);

impl DirectoryError {
    /// With what went wrong below.
    pub fn new(source: impl Into<Cause>) -> Self {
        Self(source.into())
    }
}

/// Another wrapping already stands under that id and KEK version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another entry stands under this branch key and KEK version")]
pub struct EntryExists;

type Versions = BTreeMap<KekVersion, WrappedKey>;

/// A directory in memory: for tests, and where nothing outlives the process.
#[derive(Debug, Default)]
pub struct MemoryDirectory(Mutex<HashMap<(KekName, BranchId), Versions>>);

impl MemoryDirectory {
    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<(KekName, BranchId), Versions>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wrapped keys it holds, all versions counted.
    pub fn len(&self) -> usize {
        self.entries().values().map(BTreeMap::len).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Directory for MemoryDirectory {
    fn publish<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        wrapped: &'a WrappedKey,
    ) -> BoxFuture<'a, Result<(), DirectoryError>> {
        Box::pin(async move {
            let mut entries = self.entries();
            let versions = entries.entry((kek.clone(), context.id)).or_default();
            let entry = versions.entry(wrapped.version()).or_insert_with(|| wrapped.clone());
            if entry == wrapped { Ok(()) } else { Err(DirectoryError::new(EntryExists)) }
        })
    }

    fn newest<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
    ) -> BoxFuture<'a, Result<Option<WrappedKey>, DirectoryError>> {
        Box::pin(async move {
            let entries = self.entries();
            let versions = entries.get(&(kek.clone(), context.id));
            Ok(versions.and_then(|versions| versions.last_key_value()).map(|(_, wrapped)| wrapped.clone()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn newest_is_the_highest_version_and_nothing_is_overwritten() {
        let directory = MemoryDirectory::default();
        let kek = KekName::new("records").expect("legal");
        let context = crate::custody::fake::context(1);
        let wrapped = |version: u32, byte: u8| {
            WrappedKey::new(KekVersion::new(version).expect("not zero"), vec![byte; 60]).expect("length")
        };
        assert!(directory.newest(&kek, &context).await.expect("reads").is_none());
        directory.publish(&kek, &context, &wrapped(2, 2)).await.expect("publishes");
        directory.publish(&kek, &context, &wrapped(1, 1)).await.expect("publishes");
        directory.publish(&kek, &context, &wrapped(1, 1)).await.expect("again");
        assert!(directory.publish(&kek, &context, &wrapped(2, 9)).await.is_err());
        assert_eq!(directory.newest(&kek, &context).await.expect("reads"), Some(wrapped(2, 2)));
        assert_eq!(directory.len(), 2);
    }
}

//! The directory read through: every branch key that stands in it under a KEK.
//!
//! **Invariant:** what is given is the storage server's word, and so is that it is all.

use futures_util::stream::{self, StreamExt as _};

use crate::custody::context::BranchContext;
use crate::custody::wrapped::WrappedKey;
use crate::names::{BranchId, KekName, KekVersion};

use super::{ENTRY_MAX, StateBucket, StateError, read_entry, read_name};

/// Some entries of a KEK.
#[derive(Debug, Default)]
pub struct EntryPage {
    /// What tells its context.
    pub found: Vec<(BranchContext, WrappedKey)>,
    /// Entries of before, which do not tell what they are bound to, and what is no entry.
    pub others: u64,
    /// After which name more follow.
    pub next: Option<String>,
}

impl StateBucket {
    /// Entries of the directory under a KEK whose version is at least `oldest`, after a name. Some `concurrency` are read at a time.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn branch_entries(
        &self,
        kek: &KekName,
        oldest: KekVersion,
        after: &str,
        concurrency: usize,
    ) -> Result<EntryPage, StateError> {
        let prefix = format!("branch/{kek}/");
        let listed = self.list(&prefix, after).await?;
        let next = listed.keys.last().filter(|_| listed.truncated).cloned();
        let named = listed.keys.iter().map(|key| (key, key.strip_prefix(&prefix).and_then(read_name)));
        let wanted = named.filter(|(_, place)| place.is_none_or(|(_, version)| version >= oldest));
        let read = stream::iter(wanted).map(|(key, place)| async move {
            let Some((id, version)) = place else { return Ok(None) };
            match self.read(key, ENTRY_MAX).await {
                Ok(bytes) => Ok(bytes.and_then(|bytes| whole(&bytes, id, version))),
                Err(StateError::Entry) => Ok(None),
                Err(failed) => Err(failed),
            }
        });
        let read: Vec<Result<Option<_>, StateError>> = read.buffered(concurrency.max(1)).collect().await;
        let mut page = EntryPage { next, ..EntryPage::default() };
        for entry in read {
            match entry? {
                Some(entry) => page.found.push(entry),
                None => page.others += 1,
            }
        }
        Ok(page)
    }
}

/// What an entry says, if it says all and is that branch key's.
fn whole(bytes: &[u8], id: BranchId, version: KekVersion) -> Option<(BranchContext, WrappedKey)> {
    let (context, wrapped) = read_entry(bytes, id)?;
    Some((context, WrappedKey::new(version, wrapped).ok()?))
}

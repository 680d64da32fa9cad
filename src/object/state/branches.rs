//! The directory as the storage server lists it. Where the custodian has no ledger, nobody else tells which branch keys there are.
//!
//! **Invariant:** a listing proves nothing. What the operator hides is not in it, and a name that is in it is not yet a branch key.

use http::Method;

use crate::custody::context::BranchContext;
use crate::custody::wrapped::WrappedKey;
use crate::names::{BranchId, KekName, KekVersion};
use crate::storage::StorageRequest;

use super::{ENTRY_MAX, StateBucket, StateError, branch_name, read_entry, read_name};

/// Most versions of one branch key: as many as a KEK of ours has.
const VERSIONS_MAX: usize = 1_000;

/// A branch key, as the names of its entries tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedBranch {
    /// Its id.
    pub id: BranchId,
    /// The KEK versions that there are entries of, ascending; never empty.
    pub versions: Vec<KekVersion>,
}

impl ListedBranch {
    /// The newest version.
    pub fn newest(&self) -> KekVersion {
        *self.versions.last().expect("never empty")
    }
}

/// The branch keys of a KEK, page by page.
pub struct BranchListing<'a> {
    state: &'a StateBucket,
    prefix: String,
    /// The last name that was read.
    after: String,
    groups: Groups,
    ended: bool,
}

/// Puts the names of one branch key together, which stand one after the other and may go on on the next page.
#[derive(Debug, Default)]
struct Groups {
    open: Option<ListedBranch>,
    passed: u64,
}

impl Groups {
    /// Takes a name without its prefix; gives the branch key that ended before it.
    fn take(&mut self, name: &str) -> Result<Option<ListedBranch>, StateError> {
        let Some((id, version)) = read_name(name) else {
            self.passed += 1;
            return Ok(None);
        };
        let ended = self.open.take_if(|open| open.id != id).map(sorted);
        let open = self.open.get_or_insert_with(|| ListedBranch { id, versions: Vec::new() });
        if open.versions.len() >= VERSIONS_MAX {
            return Err(StateError::TooMany);
        }
        open.versions.push(version);
        Ok(ended)
    }
}

/// By number, and not by name as in the listing.
fn sorted(mut branch: ListedBranch) -> ListedBranch {
    branch.versions.sort_unstable();
    branch
}

impl BranchListing<'_> {
    /// Some branch keys, each with all its versions; `None` at the end.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn next(&mut self) -> Result<Option<Vec<ListedBranch>>, StateError> {
        if self.ended {
            return Ok(None);
        }
        let page = self.state.list(&self.prefix, &self.after).await?;
        let mut whole = Vec::new();
        for key in &page.keys {
            whole.extend(self.groups.take(key.strip_prefix(&self.prefix).unwrap_or_default())?);
        }
        if let Some(last) = page.keys.last() {
            self.after.clone_from(last);
        }
        if !page.truncated {
            self.ended = true;
            whole.extend(self.groups.open.take().map(sorted));
        }
        Ok(Some(whole))
    }

    /// How many names were passed over that no branch key has.
    pub fn passed(&self) -> u64 {
        self.groups.passed
    }
}

impl StateBucket {
    /// The branch keys of the KEK that the storage server lists.
    pub fn branch_listing(&self, kek: &KekName) -> BranchListing<'_> {
        let (prefix, after) = (format!("branch/{kek}/"), String::new());
        BranchListing { state: self, prefix, after, groups: Groups::default(), ended: false }
    }

    /// The directory's entry of a branch key under that KEK version, with its context if it tells that (entries of before do not).
    ///
    /// # Errors
    /// As for [`StateBucket::branch_entry`].
    pub async fn whole_branch_entry(
        &self,
        kek: &KekName,
        id: BranchId,
        version: KekVersion,
    ) -> Result<Option<(Option<BranchContext>, WrappedKey)>, StateError> {
        let name = branch_name(kek, id, version);
        // It is the same everywhere, and jobs have no replica.
        let request = StorageRequest::object(Method::GET, &self.name, &name).or_replica();
        let Some(bytes) = self.read_by(request, ENTRY_MAX).await? else { return Ok(None) };
        let (context, wrapped) = match read_entry(&bytes, id) {
            Some((context, wrapped)) => (Some(context), wrapped),
            None => (None, bytes.to_vec()),
        };
        let wrapped = WrappedKey::new(version, wrapped).map_err(|_| StateError::Entry)?;
        Ok(Some((context, wrapped)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(branch: &ListedBranch) -> Vec<u32> {
        branch.versions.iter().map(|version| version.number()).collect()
    }

    #[test]
    fn names_of_one_branch_key_stand_together_and_others_are_passed_over() {
        let (one, two) = (BranchId::from_bytes([1; 16]), BranchId::from_bytes([2; 16]));
        let mut groups = Groups::default();
        let names = [format!("{one}/v1"), format!("{one}/v10"), format!("{one}/v2"), format!("{one}/v02"), "x".into()];
        for name in &names {
            assert!(groups.take(name).expect("few").is_none(), "{name}");
        }
        let ended = groups.take(&format!("{two}/v3")).expect("few").expect("the first ended");
        assert_eq!((ended.id, numbers(&ended), ended.newest().number()), (one, vec![1, 2, 10], 10));
        assert_eq!((groups.passed, groups.open.map(|open| open.id)), (2, Some(two)));
    }

    #[test]
    fn a_branch_key_has_no_more_versions_than_a_kek() {
        let (id, mut groups) = (BranchId::from_bytes([1; 16]), Groups::default());
        for number in 1..=VERSIONS_MAX {
            groups.take(&format!("{id}/v{number}")).expect("as many as that");
        }
        assert!(matches!(groups.take(&format!("{id}/v{}", VERSIONS_MAX + 1)), Err(StateError::TooMany)));
    }
}

//! Branch keys of a custodian that has no ledger (OpenBao, Vault): found in the listing of the state bucket, where each entry says what it is
//! bound to, and moved by Transit's `rewrap`, which opens only what is bound to that.
//!
//! **Invariant:** nothing is proven here. What the storage operator hides is not moved, not counted and not missed; whoever retires
//! versions after this takes his word that there is no more.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};

use crate::crypto::constant_time_eq;
use crate::custody::context::BranchContext;
use crate::custody::wrapped::WrappedKey;
use crate::custody::{Custodian as _, CustodyError};
use crate::names::{BranchId, KekName, KekVersion};
use crate::object::state::StateError;
use crate::object::state::branches::ListedBranch;
use crate::secret::Secret;
use crate::telemetry::chain;

use super::{KeyError, KeyMover, KeyOptions, KeyReport};

/// What the storage server lists of a KEK's branch keys.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ListedCensus {
    /// Branch keys.
    pub branch_keys: u64,
    /// How many of them have their newest entry under which version.
    pub versions: BTreeMap<KekVersion, u64>,
    /// Names that no branch key has.
    pub passed: u64,
}

impl ListedCensus {
    /// Those of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.branch_keys += other.branch_keys;
        self.passed += other.passed;
        for (version, count) in other.versions {
            *self.versions.entry(version).or_default() += count;
        }
        self
    }

    /// How many have no entry under `before` or a newer version.
    pub fn needed(&self, before: KekVersion) -> u64 {
        self.versions.range(..before).map(|(_, count)| count).sum()
    }
}

/// What became of a branch key.
#[derive(Debug, Default)]
struct Treated {
    moved: bool,
    confirmed: bool,
    mended: bool,
    finding: Option<String>,
}

impl Treated {
    fn bad(finding: impl Into<String>) -> Self {
        Self { finding: Some(finding.into()), ..Self::default() }
    }

    fn count(self, id: BranchId, report: &mut KeyReport) {
        report.moved += u64::from(self.moved);
        report.confirmed += u64::from(self.confirmed);
        report.mended += u64::from(self.mended);
        if let Some(what) = self.finding {
            report.find(id, what);
        }
    }
}

/// An entry that opened: where it stood, and the same branch key under the newest version.
struct Opened {
    context: BranchContext,
    wrapped: WrappedKey,
    moved: WrappedKey,
}

impl KeyMover {
    /// Counts the branch keys that the storage server lists, by the version of their newest entry. No entry is read.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn listed_census(&self, kek: &KekName) -> Result<ListedCensus, KeyError> {
        let (mut census, mut listing) = (ListedCensus::default(), self.state.branch_listing(kek));
        while let Some(page) = listing.next().await? {
            for branch in page {
                census.branch_keys += 1;
                *census.versions.entry(branch.newest()).or_default() += 1;
            }
        }
        census.passed = listing.passed();
        Ok(census)
    }

    /// Moves all branch keys that the storage server lists to the newest version, and reads back what was written.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn rewrap_listed(&self, kek: &KekName, options: KeyOptions) -> Result<KeyReport, KeyError> {
        self.each_listed(kek, |branch| self.move_listed(kek, branch, options)).await
    }

    /// Has the custodian open the newest entry of each branch key that the storage server lists: it has to be under `before` or a newer
    /// version, and to hold the key that entries of before hold.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn read_back_listed(&self, kek: &KekName, before: KekVersion) -> Result<KeyReport, KeyError> {
        self.each_listed(kek, |branch| self.read_back_one(kek, branch, before)).await
    }

    async fn each_listed<F>(&self, kek: &KekName, treat: impl Fn(ListedBranch) -> F) -> Result<KeyReport, KeyError>
    where
        F: Future<Output = Result<Treated, CustodyError>>,
    {
        let (mut report, mut listing) =
            (KeyReport { listed: true, ..KeyReport::default() }, self.state.branch_listing(kek));
        while let Some(page) = listing.next().await? {
            let treated = stream::iter(page).map(|branch| {
                let (id, treated) = (branch.id, treat(branch));
                async move { (id, treated.await) }
            });
            let mut treated = std::pin::pin!(treated.buffered(self.concurrency.max(1)));
            while let Some((id, treated)) = treated.next().await {
                treated?.count(id, &mut report);
            }
        }
        Ok(report)
    }

    async fn move_listed(
        &self,
        kek: &KekName,
        branch: ListedBranch,
        options: KeyOptions,
    ) -> Result<Treated, CustodyError> {
        let (opened, damaged) = match self.newest_that_opens(kek, &branch).await? {
            Ok(found) => found,
            Err(why) => return Ok(Treated::bad(why)),
        };
        let target = opened.moved.version();
        let stands_before = damaged.iter().find(|(version, _)| *version > target);
        let finding = stands_before
            .map(|(version, why)| format!("{why}, and stands before the others: delete the entry under {version}"));
        if target == opened.wrapped.version() {
            return Ok(Treated { confirmed: !options.dry_run, finding, ..Treated::default() });
        }
        let occupied = damaged.iter().find(|(version, _)| *version == target);
        if let Some((_, why)) = occupied.filter(|_| !options.repair) {
            return Ok(Treated::bad(why));
        }
        if options.dry_run {
            return Ok(Treated { moved: true, finding, ..Treated::default() });
        }
        let trouble = self.write_listed(kek, branch.id, &opened, occupied.is_some()).await?;
        let well = trouble.is_none();
        let mended = well && occupied.is_some();
        Ok(Treated { moved: well, confirmed: well, mended, finding: trouble.or(finding) })
    }

    /// The newest entry that the custodian opens, and those before it that it does not; or why there is none.
    async fn newest_that_opens(
        &self,
        kek: &KekName,
        branch: &ListedBranch,
    ) -> Result<Result<(Opened, Vec<(KekVersion, String)>), String>, CustodyError> {
        let mut damaged = Vec::new();
        for version in branch.versions.iter().rev().copied() {
            let (context, wrapped) = match self.state.whole_branch_entry(kek, branch.id, version).await {
                Ok(Some((Some(context), _))) if !self.holds(Some(&context)) => {
                    damaged.push((version, self.stray(version, &context)));
                    continue;
                }
                Ok(Some((Some(context), wrapped))) => (context, wrapped),
                Ok(Some((None, _))) => {
                    damaged.push((version, format!("the entry under {version} does not tell what it is bound to")));
                    continue;
                }
                Ok(None) | Err(StateError::Entry) => {
                    damaged.push((version, format!("there is no entry under {version}, though one is listed")));
                    continue;
                }
                // Nobody knows what is there.
                Err(error) => return Ok(Err(chain(&error))),
            };
            match unless_bad(self.transit.rewrap(kek, &context, &wrapped, &self.caller).await)? {
                Some(moved) => return Ok(Ok((Opened { context, wrapped, moved }, damaged))),
                None => damaged.push((version, format!("the entry under {version} does not open"))),
            }
        }
        let newest = damaged.into_iter().next().map(|(_, why)| why);
        Ok(Err(newest.unwrap_or_default()))
    }

    /// What is said of another site's branch key.
    fn stray(&self, version: KekVersion, context: &BranchContext) -> String {
        let (bucket, site) = (&context.bucket, self.placement.site_of(&context.bucket));
        format!(
            "the entry under {version} is of the bucket {bucket}, which lies at {site}: delete the entry here, where it counts for nothing"
        )
    }

    /// Writes the new entry and reads it back; why it does not do, if it does not.
    async fn write_listed(
        &self,
        kek: &KekName,
        id: BranchId,
        opened: &Opened,
        over: bool,
    ) -> Result<Option<String>, CustodyError> {
        let Opened { context, wrapped, moved } = opened;
        let written = match over {
            true => self.state.mend_branch_entry(kek, context, moved).await,
            false => self.state.add_branch_entry(kek, context, moved).await,
        };
        let read = match written {
            Ok(()) => self.state.branch_entry(kek, id, moved.version()).await,
            Err(error) => Err(error),
        };
        let version = moved.version();
        match read {
            Ok(Some(read)) if read == *moved => Ok(None),
            // Somebody else was quicker, whose wrapping is another one.
            Ok(Some(read)) => {
                let same = match (self.open(kek, context, &read).await?, self.open(kek, context, wrapped).await?) {
                    (Some(theirs), Some(ours)) => constant_time_eq(theirs.expose(), ours.expose()),
                    _ => false,
                };
                Ok((!same).then(|| format!("what the directory has under {version} is another key, or none")))
            }
            Ok(None) | Err(StateError::Entry) => Ok(Some("the directory does not have what was written".to_owned())),
            Err(error) => Ok(Some(chain(&error))),
        }
    }

    async fn read_back_one(
        &self,
        kek: &KekName,
        branch: ListedBranch,
        before: KekVersion,
    ) -> Result<Treated, CustodyError> {
        let version = branch.newest();
        if version < before {
            return Ok(Treated::bad(format!("its newest entry is under {version}")));
        }
        let (context, wrapped) = match self.state.whole_branch_entry(kek, branch.id, version).await {
            Ok(Some((Some(context), _))) if !self.holds(Some(&context)) => {
                return Ok(Treated::bad(self.stray(version, &context)));
            }
            Ok(Some((Some(context), wrapped))) => (context, wrapped),
            Ok(_) | Err(StateError::Entry) => return Ok(Treated::bad("its newest entry is none, or not whole")),
            Err(error) => return Ok(Treated::bad(chain(&error))),
        };
        let Some(newest) = self.open(kek, &context, &wrapped).await? else {
            return Ok(Treated::bad(format!("the entry under {version} does not open")));
        };
        for older in branch.versions.iter().copied().filter(|older| *older < before) {
            // One that does not open any more says nothing.
            let Ok(Some((_, wrapped))) = self.state.whole_branch_entry(kek, branch.id, older).await else { continue };
            let Some(oldest) = self.open(kek, &context, &wrapped).await? else { continue };
            if !constant_time_eq(oldest.expose(), newest.expose()) {
                return Ok(Treated::bad(format!(
                    "the entry under {version} holds another key than that under {older}"
                )));
            }
            break;
        }
        Ok(Treated { confirmed: true, ..Treated::default() })
    }

    async fn open(
        &self,
        kek: &KekName,
        context: &BranchContext,
        wrapped: &WrappedKey,
    ) -> Result<Option<Secret<32>>, CustodyError> {
        unless_bad(self.transit.unwrap(kek, context, wrapped, &self.caller).await)
    }
}

/// `None` where the bytes are not good; other errors are about more than this branch key.
fn unless_bad<T>(answer: Result<T, CustodyError>) -> Result<Option<T>, CustodyError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(CustodyError::NotAuthentic | CustodyError::VersionTooOld | CustodyError::VersionUnknown) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_key_needs_the_version_of_its_newest_entry() {
        let version = |number| KekVersion::new(number).expect("not zero");
        let versions = [(1, 4), (2, 3), (3, 2)].map(|(number, count)| (version(number), count));
        let census = ListedCensus { branch_keys: 9, versions: versions.into(), passed: 0 };
        assert_eq!([1, 2, 3, 4].map(|before| census.needed(version(before))), [0, 4, 7, 9]);
    }

    #[test]
    fn only_what_is_about_the_bytes_is_a_finding() {
        assert_eq!(unless_bad(Ok(1)).expect("good"), Some(1));
        for bad in [CustodyError::NotAuthentic, CustodyError::VersionTooOld, CustodyError::VersionUnknown] {
            assert_eq!(unless_bad::<u8>(Err(bad)).expect("a finding"), None);
        }
        for other in [CustodyError::Denied, CustodyError::Disabled, CustodyError::Sealed, CustodyError::UnknownKek] {
            assert!(unless_bad::<u8>(Err(other)).is_err());
        }
    }
}

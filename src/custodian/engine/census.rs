//! Counts what still hangs on which version of a KEK, and says whether old ones may go.
//!
//! **Invariant:** a version is not retired while a branch key that was generated under it, or before, has not been read back, from every
//! site that has to hold it, in a newer wrapping, after the time in which a proxy may still have been given one.

use std::collections::BTreeMap;

use crate::custodian::audit::{Action, Details, Use};
use crate::custodian::kek::Kek;
use crate::custodian::requester::Requester;
use crate::custodian::store::BranchState;
use crate::names::{KekName, KekVersion};

use super::decide::{denied, rule};
use super::refresh::View;
use super::{Done, Engine, EngineError};

/// What hangs on a KEK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// The newest version.
    pub latest: KekVersion,
    /// The oldest version that is opened.
    pub min_decryption: KekVersion,
    /// When the newest version was made, in seconds since 1970.
    pub rotated_unix_s: i64,
    /// The sites that have to hold the directory.
    pub sites: Vec<String>,
    /// Branch keys in the ledger.
    pub branch_keys: u64,
    /// Those of which the ledger does not tell the context.
    pub without_context: u64,
    /// How many need which version at least.
    pub versions: BTreeMap<KekVersion, u64>,
    /// Whether all before the newest version may be retired.
    pub retire: Retirement,
}

/// Whether versions may be retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retirement {
    /// Those before this one.
    pub before: KekVersion,
    /// Branch keys that still need an older one.
    pub needed: u64,
    /// Branch keys that were not read back late enough.
    pub unconfirmed: u64,
    /// For how long proxies may still be given branch keys under an older version, in seconds.
    pub wait_s: u64,
    /// The newest version that branch keys may hang on that the ledger does not know, because the KEK came from a backup.
    pub restored_through: Option<KekVersion>,
}

impl Retirement {
    /// Whether nothing stands against it.
    pub fn is_allowed(&self) -> bool {
        self.needed == 0 && self.unconfirmed == 0 && self.wait_s == 0 && self.restored_through.is_none()
    }
}

impl Engine {
    /// Counts the branch keys of a KEK by the version that they need.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn census(&self, who: &Requester, name: &KekName) -> Result<Done<Census>, EngineError> {
        let (kek, _, receipt) = self.allow_on_branches(who, Action::Read, name, None).await?;
        let kek = &kek.value;
        let info = kek.info(name);
        let mut census = Census {
            latest: kek.latest(),
            min_decryption: kek.min_decryption(),
            rotated_unix_s: info.versions.last().map_or(0, |(_, made)| *made),
            sites: self.settings.all_sites(),
            branch_keys: 0,
            without_context: 0,
            versions: info.versions.iter().map(|(version, _)| (*version, 0)).collect(),
            retire: self.retirement(kek, kek.latest()),
        };
        let late_from = self.late_from(kek, kek.latest());
        self.each_state(name, |state| {
            census.branch_keys += 1;
            census.without_context += u64::from(state.context().is_none());
            *census.versions.entry(state.needs(self.settings.sites_of(state))).or_default() += 1;
            self.weigh(&mut census.retire, late_from, state);
        })
        .await?;
        Ok(Done { value: census, receipt, existed: true })
    }

    /// Whether all versions before `before` may be retired.
    ///
    /// # Errors
    /// [`EngineError::StillNeeded`], [`EngineError::LedgerNotWhole`]; the refusal is in the log.
    pub(super) async fn may_retire(
        &self,
        view: &View,
        who: &Requester,
        what: &Use,
        (name, kek): (&KekName, &Kek),
        before: KekVersion,
    ) -> Result<(), EngineError> {
        self.must_be_whole(view, who, what, kek).await?;
        let mut retire = self.retirement(kek, before);
        let late_from = self.late_from(kek, before);
        self.each_state(name, |state| self.weigh(&mut retire, late_from, state)).await?;
        if retire.is_allowed() {
            return Ok(());
        }
        self.refuse(view, who, what, rule::STILL_NEEDED).await?;
        Err(EngineError::StillNeeded(retire))
    }

    /// Whether the ledger is believed to have every branch key of the KEK, which it is not after the KEK came from a backup.
    ///
    /// # Errors
    /// [`EngineError::LedgerNotWhole`]; the refusal is in the log.
    pub(super) async fn must_be_whole(
        &self,
        view: &View,
        who: &Requester,
        what: &Use,
        kek: &Kek,
    ) -> Result<(), EngineError> {
        let Some(through) = kek.restored_through() else { return Ok(()) };
        self.refuse(view, who, what, rule::NOT_WHOLE).await?;
        Err(EngineError::LedgerNotWhole(through))
    }

    /// Whether old versions may be erased without the waiting, the tombstone and the certificate that destruction has.
    ///
    /// # Errors
    /// [`EngineError::TrimsBranchKeys`], [`EngineError::LedgerNotWhole`]; the refusal is in the log.
    pub(super) async fn may_trim(
        &self,
        view: &View,
        who: &Requester,
        what: &Use,
        (name, kek): (&KekName, &Kek),
    ) -> Result<(), EngineError> {
        self.must_be_whole(view, who, what, kek).await?;
        if !self.has_branch_keys(name).await? {
            return Ok(());
        }
        self.refuse(view, who, what, rule::STILL_NEEDED).await?;
        Err(EngineError::TrimsBranchKeys)
    }

    async fn has_branch_keys(&self, name: &KekName) -> Result<bool, EngineError> {
        Ok(self.store.count_branches(name).await?.iter().any(|(_, count)| *count > 0))
    }

    /// Whether the KEK may go as a whole, which is for destruction alone where branch keys hang on it.
    ///
    /// # Errors
    /// [`EngineError::HasBranchKeys`], [`EngineError::LedgerNotWhole`]; the refusal is in the log.
    pub(super) async fn may_delete(
        &self,
        view: &View,
        who: &Requester,
        what: &Use,
        (name, kek): (&KekName, &Kek),
    ) -> Result<(), EngineError> {
        self.must_be_whole(view, who, what, kek).await?;
        if !self.has_branch_keys(name).await? {
            return Ok(());
        }
        self.refuse(view, who, what, rule::STILL_NEEDED).await?;
        Err(EngineError::HasBranchKeys)
    }

    async fn refuse(&self, view: &View, who: &Requester, what: &Use, broken: &'static str) -> Result<(), EngineError> {
        let verdict = denied(view.snapshot.policy.value.hash(), broken);
        match self.permit(who, what, &verdict, Details::at(view.snapshot.generation)).await {
            Ok(_) | Err(EngineError::Denied) => Ok(()),
            Err(failed) => Err(failed),
        }
    }

    fn retirement(&self, kek: &Kek, before: KekVersion) -> Retirement {
        // One that is not derived has no branch keys, now and for good; of any other, one may be on its way.
        let late_from = if kek.is_derived() { self.late_from(kek, before) } else { i64::MIN };
        let wait_s = u64::try_from(late_from.saturating_sub(self.clock.now_unix_s())).unwrap_or(0);
        Retirement { before, needed: 0, unconfirmed: 0, wait_s, restored_through: kek.restored_through() }
    }

    /// From when on nobody can be given a branch key under a version before `before`.
    fn late_from(&self, kek: &Kek, before: KekVersion) -> i64 {
        let wait_s = i64::try_from(self.settings.retire_wait_s).unwrap_or(i64::MAX);
        kek.created_unix_s(before).unwrap_or(i64::MAX).saturating_add(wait_s)
    }

    fn weigh(&self, retire: &mut Retirement, late_from: i64, state: &BranchState) {
        if state.generated() >= retire.before {
            return;
        }
        // One from the time to come is a clock's mistake.
        let late = late_from..=self.clock.now_unix_s();
        let newer = |site: &String| state.confirmed.get(site).filter(|found| found.version >= retire.before);
        let sites = self.settings.sites_of(state);
        if !sites.iter().all(|site| newer(site).is_some()) {
            retire.needed += 1;
        } else if !sites.iter().all(|site| newer(site).is_some_and(|found| late.contains(&found.at_unix_s))) {
            retire.unconfirmed += 1;
        }
    }

    /// All branch keys of the KEK, one after the other.
    pub(super) async fn each_state(
        &self,
        name: &KekName,
        mut visit: impl FnMut(&BranchState) + Send,
    ) -> Result<(), EngineError> {
        let mut from = None;
        loop {
            let page = self.store.branch_states(name, from).await.inspect_err(|failed| self.halt_if_broken(failed))?;
            page.branches.iter().for_each(&mut visit);
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(()),
            }
        }
    }
}

/// The version that a configuration would make the oldest that is opened, if that is another than now.
pub(super) fn retired_by(kek: &Kek, asked: Option<u32>) -> Option<KekVersion> {
    asked.and_then(KekVersion::new).filter(|asked| *asked > kek.min_decryption() && *asked <= kek.latest())
}

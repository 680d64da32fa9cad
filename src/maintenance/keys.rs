//! Branch keys moved to the newest version of their KEK: the custodian rewraps what its ledger has, the result goes into the directory of a
//! site, is read back from there, and the custodian opens what was read.
//!
//! Nothing is kept here: what is left to do, the ledger says. So it can be broken off, run again, and run on several machines.
//!
//! A custodian without a ledger (OpenBao, Vault) cannot say what there is: see [`listed`].
//!
//! **Invariant:** nothing is confirmed that was not read back from the site after it was written.

pub mod listed;

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::Value;

use crate::custody::CustodyError;
use crate::custody::caller::Caller;
use crate::custody::context::BranchContext;
use crate::custody::wrapped::WrappedKey;
use crate::names::{BranchId, KekName, KekVersion};
use crate::object::sites::Placement;
use crate::object::state::{StateBucket, StateError};
use crate::telemetry::chain;
use crate::transit::Transit;
use crate::transit::branches::{LedgerKey, lacks_ledger};

/// Most findings that are kept.
pub const FINDINGS_MAX: usize = 1_000;

/// What moves branch keys.
pub struct KeyMover {
    /// The custodian.
    pub transit: Arc<Transit>,
    /// The state bucket of the site.
    pub state: StateBucket,
    /// The site, as the custodian knows it.
    pub site: String,
    /// Which buckets lie at which site: the directory has the branch keys of its own.
    pub placement: Placement,
    /// The KEKs that its buckets are under.
    pub keks: Vec<KekName>,
    /// On whose behalf.
    pub caller: Caller,
    /// Requests to the storage server at a time.
    pub concurrency: usize,
}

/// Why it cannot go on. What was done stays done.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The custodian refused or failed.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// The custodian's census has another form.
    #[error("the custodian's census is malformed")]
    Census,
    /// The directory cannot be listed.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What became of the branch keys.
#[derive(Debug, Default)]
pub struct KeyReport {
    /// Those that were moved to the newest version, or would be.
    pub moved: u64,
    /// Those that were read back and opened.
    pub confirmed: u64,
    /// Entries of the directory that were written over damaged or missing ones.
    pub mended: u64,
    /// Those with which something is wrong.
    pub failed: u64,
    /// What is wrong, of the first of them.
    pub findings: Vec<(BranchId, String)>,
    /// They are those that the storage server lists, as the custodian has no ledger.
    pub listed: bool,
}

impl KeyReport {
    /// What became of those of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.moved += other.moved;
        self.confirmed += other.confirmed;
        self.mended += other.mended;
        self.failed += other.failed;
        self.findings.extend(other.findings);
        self.findings.truncate(FINDINGS_MAX);
        self.listed |= other.listed;
        self
    }

    fn find(&mut self, id: BranchId, what: String) {
        self.failed += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push((id, what));
        }
    }
}

/// What may be done.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyOptions {
    /// Nothing but counting.
    pub dry_run: bool,
    /// Entries that are damaged are written over, with what the ledger has.
    pub repair: bool,
}

/// What was found at the site.
enum AtSite {
    Good(WrappedKey),
    Missing,
    Failed(StateError),
}

impl AtSite {
    fn of(read: Result<Option<WrappedKey>, StateError>) -> Self {
        match read {
            Ok(Some(read)) => Self::Good(read),
            // Or what is there is no entry at all.
            Ok(None) | Err(StateError::Entry) => Self::Missing,
            Err(error) => Self::Failed(error),
        }
    }
}

impl KeyMover {
    /// Whether a branch key belongs into the directory of this site. Of one that is bound to nobody knows what, the default site tells.
    fn holds(&self, context: Option<&BranchContext>) -> bool {
        let site = context.map_or(self.placement.main(), |context| self.placement.site_of(&context.bucket));
        site == self.site
    }

    /// Moves all branch keys of this site and of the KEK that need an older version than the newest. With `repair`, looks at all of them. Where the
    /// custodian has no ledger, those are moved that the storage server lists.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn rewrap(&self, kek: &KekName, options: KeyOptions) -> Result<KeyReport, KeyError> {
        let latest = match self.latest(kek).await {
            Err(KeyError::Custody(error)) if lacks_ledger(&error) => return self.rewrap_listed(kek, options).await,
            latest => latest?,
        };
        let before = (!options.repair).then_some(latest);
        self.each_page(kek, before, options, |key| {
            // Another site may still be waited for.
            options.repair || key.confirmed.get(&self.site).is_none_or(|found| *found < latest.number())
        })
        .await
    }

    /// Reads back every branch key of this site that was generated under a version before `before`, and has the custodian open what was read.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn read_back(&self, kek: &KekName, before: KekVersion) -> Result<KeyReport, KeyError> {
        self.each_page(kek, None, KeyOptions::default(), |key| key.generated < before).await
    }

    /// The newest version of the KEK.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn latest(&self, kek: &KekName) -> Result<KekVersion, KeyError> {
        let census = self.transit.census(kek, &self.caller).await?;
        let latest = census.get("latest").and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
        latest.and_then(KekVersion::new).ok_or(KeyError::Census)
    }

    async fn each_page(
        &self,
        kek: &KekName,
        before: Option<KekVersion>,
        options: KeyOptions,
        wanted: impl Fn(&LedgerKey) -> bool,
    ) -> Result<KeyReport, KeyError> {
        let (mut report, mut after) = (KeyReport::default(), None::<String>);
        loop {
            let page = self.transit.ledger_keys(kek, before, after.as_deref(), &self.caller).await?;
            let here = page.keys.into_iter().filter(|key| self.holds(key.context.as_ref()));
            let keys: Vec<LedgerKey> = here.filter(&wanted).collect();
            if options.dry_run {
                report.moved += keys.len() as u64;
            } else if !keys.is_empty() {
                self.treat(kek, keys, options, &mut report).await?;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(report),
            }
        }
    }

    /// One page: rewrapped, written, read back, confirmed; mended where that is allowed.
    async fn treat(
        &self,
        kek: &KekName,
        keys: Vec<LedgerKey>,
        options: KeyOptions,
        report: &mut KeyReport,
    ) -> Result<(), KeyError> {
        let ids: Vec<BranchId> = keys.iter().map(|key| key.id).collect();
        let (moved, failed) = self.transit.rewrap_ledger_keys(kek, &ids, &self.caller).await?;
        failed.into_iter().for_each(|(id, error)| report.find(id, error));
        let mut moved: HashMap<BranchId, WrappedKey> = moved.into_iter().collect();
        let keys: Vec<(LedgerKey, WrappedKey)> =
            keys.into_iter().filter_map(|key| moved.remove(&key.id).map(|wrapped| (key, wrapped))).collect();
        report.moved += keys.iter().filter(|(key, wrapped)| key.newest.version() < wrapped.version()).count() as u64;
        let read = self.write_and_read(kek, &keys, false).await;
        let bad = self.confirm(kek, &keys, read, report, !options.repair).await?;
        if bad.is_empty() || !options.repair {
            return Ok(());
        }
        let again: Vec<(LedgerKey, WrappedKey)> = keys.into_iter().filter(|(key, _)| bad.contains(&key.id)).collect();
        report.mended += again.len() as u64;
        let read = self.write_and_read(kek, &again, true).await;
        self.confirm(kek, &again, read, report, true).await?;
        Ok(())
    }

    async fn write_and_read(&self, kek: &KekName, keys: &[(LedgerKey, WrappedKey)], over: bool) -> Vec<AtSite> {
        let treated = stream::iter(keys).map(|(key, wrapped)| self.write_and_read_one(kek, key, wrapped, over));
        treated.buffered(self.concurrency.max(1)).collect().await
    }

    async fn write_and_read_one(&self, kek: &KekName, key: &LedgerKey, wrapped: &WrappedKey, over: bool) -> AtSite {
        let Some(context) = &key.context else { return AtSite::Missing };
        // What was moved before is there, as a rule.
        if !over && key.newest.version() == wrapped.version() {
            let read = self.state.branch_entry(kek, key.id, wrapped.version()).await;
            if !matches!(read, Ok(None)) {
                return AtSite::of(read);
            }
        }
        let written = match over {
            true => self.state.mend_branch_entry(kek, context, wrapped).await,
            false => self.state.add_branch_entry(kek, context, wrapped).await,
        };
        AtSite::of(match written {
            Ok(()) => self.state.branch_entry(kek, key.id, wrapped.version()).await,
            Err(error) => Err(error),
        })
    }

    /// Tells the custodian, and gives the branch keys whose entries do not do. With `tell`, they are findings.
    async fn confirm(
        &self,
        kek: &KekName,
        keys: &[(LedgerKey, WrappedKey)],
        read: Vec<AtSite>,
        report: &mut KeyReport,
        tell: bool,
    ) -> Result<Vec<BranchId>, KeyError> {
        let (mut told, mut bad) = (Vec::with_capacity(keys.len()), Vec::new());
        for ((key, _), found) in keys.iter().zip(read) {
            match found {
                AtSite::Good(wrapped) => told.push((key.id, Some(wrapped))),
                AtSite::Missing => {
                    told.push((key.id, None));
                    bad.push((key.id, "the directory does not have what was written".to_owned()));
                }
                // Nobody knows what is there: nothing is said about it.
                AtSite::Failed(error) => report.find(key.id, chain(&error)),
            }
        }
        let refused = self.transit.confirm_ledger_keys(kek, &self.site, &told, &self.caller).await?;
        let good = told.iter().filter(|(id, read)| read.is_some() && !refused.iter().any(|(of, _)| of == id)).count();
        report.confirmed += good as u64;
        bad.extend(refused.into_iter().map(|(id, error)| (id, format!("what the directory has does not do: {error}"))));
        let ids = bad.iter().map(|(id, _)| *id).collect();
        if tell {
            bad.into_iter().for_each(|(id, what)| report.find(id, what));
        }
        Ok(ids)
    }
}

//! The engine: decides, writes the decision down, then acts.
//!
//! Each call comes with its [`Requester`](super::requester::Requester) and goes the same way: is the requester shut out, does a fixed rule forbid it, does policy permit
//! it, is the decision in the audit log, was a grave change approved; and only then is a key touched or the store changed. What the calls
//! look at is a snapshot of the store in memory, read anew when the store moves on, also when another custodian moved it.
//!
//! **Invariant:** it is made from an opened store and an opened audit log and nothing else.
//! **Invariant:** what is changed is in the store before anybody can use it; what is switched off is off before that.
//! **Invariant:** without having seen the store within the grace, no key is used: someone else may have switched it off.

mod backup;
mod branches;
mod census;
mod clock;
mod decide;
mod denials;
mod destruction;
mod edit;
mod error;
mod events;
mod gate;
mod glance;
mod grants;
mod keys;
mod learn;
mod ledger;
mod people;
mod policy;
mod refresh;
mod snapshot;
mod turns;
mod uses;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::broadcast;
use zeroize::Zeroizing;

use crate::names::{KekVersion, LogicalBucket};
use crate::tlog::Receipt;

use super::audit::{Action, AuditLog, Details, Use};
use super::destruction::Wait;
use super::identity::SpiffeId;
use super::kek::{Ciphertext, Labels};
use super::policy::Policy;
use super::store::{BranchState, SealedStore, StoreError};

use clock::Clock;
use decide::allowed_itself;
use denials::Denials;
use ledger::Ledger;
use refresh::{Stopped, View};
use snapshot::Snapshot;
use turns::Turns;

pub use backup::{BackedUpKeks, BranchesRestored, RESTORED_BRANCHES_MAX, Restored, RestoredBranch};
pub use branches::{BRANCHES_AT_ONCE_MAX, BranchFailure, BranchList, Each};
pub use census::{Census, Retirement};
pub use error::EngineError;
pub use events::{Event, KekEvent};
pub use keys::KEKS_MAX;
pub use policy::{Offer, POLICY_LEN_MAX};

/// Events that a watcher may lag behind.
const EVENTS_MAX: usize = 4096;

/// The longest lease for writing, and five minutes for clocks and what is under way.
pub const RETIRE_WAIT_S: u64 = 3600 + 300;

/// How an engine works.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// The custodian's own id, as which it writes of itself in the log and proposes policies.
    pub identity: SpiffeId,
    /// How many officers a gated change needs: 2 and up.
    pub approvals_required: u8,
    /// How many officers an access grant needs: 1 and up.
    pub grant_approvals_required: u8,
    /// How often the store is asked whether it moved on.
    pub store_poll: Duration,
    /// How long the store may be out of sight before no key is used any more.
    pub store_grace: Duration,
    /// How often the store is told how far the audit log is.
    pub log_note_interval: Duration,
    /// The labels that KEKs get that are made without them.
    pub default_labels: Labels,
    /// The sites that have to hold every branch key: at least one.
    pub sites: Vec<String>,
    /// The sites that have to hold those of these buckets instead, which lie elsewhere.
    pub sites_of: BTreeMap<LogicalBucket, Vec<String>>,
    /// How long after a rotation proxies may still be given branch keys under the version before, in seconds.
    pub retire_wait_s: u64,
    /// How long is waited before something is destroyed.
    pub destroy_wait: Wait,
}

impl EngineSettings {
    /// Two officers for changes, one for grants; 200 ms, 1 s, 60 s; no labels; the site `main`; 3,900 s, 30 days.
    pub fn new(identity: SpiffeId) -> Self {
        Self {
            identity,
            approvals_required: 2,
            grant_approvals_required: 1,
            store_poll: Duration::from_millis(200),
            store_grace: Duration::from_secs(1),
            log_note_interval: Duration::from_secs(60),
            default_labels: Labels::default(),
            sites: vec!["main".to_owned()],
            sites_of: BTreeMap::new(),
            retire_wait_s: RETIRE_WAIT_S,
            destroy_wait: Wait::days(30),
        }
    }

    /// The sites that have to hold a branch key.
    fn sites_of(&self, state: &BranchState) -> &[String] {
        let elsewhere = state.context().and_then(|context| self.sites_of.get(&context.bucket));
        elsewhere.unwrap_or(&self.sites)
    }

    /// All sites that have to hold some.
    fn all_sites(&self) -> Vec<String> {
        let mut all: Vec<String> = self.sites.iter().chain(self.sites_of.values().flatten()).cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    /// What retiring goes by, for the log.
    fn of_retiring(&self) -> serde_json::Value {
        let mut detail = serde_json::json!({ "sites": self.sites, "retire_wait_s": self.retire_wait_s });
        if !self.sites_of.is_empty() {
            let of = self.sites_of.iter().map(|(bucket, sites)| (bucket.as_str().to_owned(), sites.clone().into()));
            detail["sites_of"] = serde_json::Value::Object(of.collect());
        }
        detail
    }
}

/// What was done, and where the log tells of it.
#[derive(Debug)]
pub struct Done<T> {
    /// The result.
    pub value: T,
    /// The place of the decision in the audit log.
    pub receipt: Receipt,
    /// It was there already, and was left as it is.
    pub existed: bool,
}

/// The call that a gated change came as: what officers approve, and what must be repeated to carry it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatedCall {
    /// The method.
    pub method: &'static str,
    /// The path.
    pub path: String,
    /// The body as canonical JSON.
    pub body: String,
}

/// What a key is to be generated for.
#[derive(Debug, Clone, Default)]
pub struct GenerateRequest {
    /// What it is bound to.
    pub context: Vec<u8>,
    /// Associated data.
    pub aad: Vec<u8>,
    /// The KEK version to wrap it under; the newest if none is given.
    pub version: Option<KekVersion>,
    /// Whether to give it out in the clear too.
    pub plaintext: bool,
}

/// A key that was generated. Its `Debug` form does not show it.
pub struct Generated {
    /// In the clear, if that was asked for.
    pub plaintext: Option<Zeroizing<Vec<u8>>>,
    /// Wrapped.
    pub ciphertext: Ciphertext,
}

impl fmt::Debug for Generated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generated").field("ciphertext", &self.ciphertext).finish_non_exhaustive()
    }
}

/// What is to be encrypted. Its `Debug` form does not show it.
#[derive(Default)]
pub struct EncryptRequest {
    /// The plaintext.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// What it is bound to.
    pub context: Vec<u8>,
    /// Associated data.
    pub aad: Vec<u8>,
    /// The KEK version; the newest if none is given.
    pub version: Option<KekVersion>,
}

impl fmt::Debug for EncryptRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptRequest").field("version", &self.version).finish_non_exhaustive()
    }
}

/// How an engine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Entries can be written.
    pub audit_ok: bool,
    /// The store was seen within the grace, and is what it was.
    pub store_ok: bool,
    /// How far the store is.
    pub generation: u64,
}

/// An unsealed custodian.
pub struct Engine {
    settings: EngineSettings,
    store: Arc<SealedStore>,
    audit: AuditLog,
    clock: Clock,
    view: RwLock<View>,
    events: broadcast::Sender<Event>,
    ledger: Ledger,
    turns: Turns,
    denials: Denials,
    /// Branch keys that the ledger is known to have.
    learned: learn::Learned,
    /// What officers sent to restore a backup with.
    shares: backup::shares::HeldShares,
    started: Instant,
    /// When the store was last seen, in milliseconds since `started`.
    seen_ms: AtomicU64,
    /// The store went back or was altered.
    halted: AtomicBool,
    /// Held while the store is read into the view.
    reloading: tokio::sync::Mutex<()>,
    /// Held while a proposal is made.
    proposing: tokio::sync::Mutex<()>,
    /// A policy that waits for approvals.
    offered: Mutex<Option<Arc<Policy>>>,
    /// The store is out of sight.
    #[cfg(test)]
    blind: AtomicBool,
}

impl Engine {
    /// Takes over an opened store and its audit log. A store without a policy gets `policy_text`; where it has another one, that is
    /// offered. Tasks that watch the store run until the engine is dropped.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn open(
        store: Arc<SealedStore>,
        audit: AuditLog,
        policy_text: &str,
        settings: EngineSettings,
    ) -> Result<Arc<Self>, EngineError> {
        let itself = settings.itself()?;
        policy::found(&store, &audit, &itself, policy_text).await?;
        let began = Instant::now();
        let snapshot = Arc::new(Snapshot::load(&store, None).await?);
        let (interval, noting) = (settings.store_poll, settings.log_note_interval);
        let what = Use::of_custodian(Action::Start);
        let verdict = allowed_itself(snapshot.policy.value.hash());
        // Each custodian of a store has these from a file of its own.
        let detail = Some(settings.of_retiring());
        audit.record(&itself, &what, &verdict, Details { detail, ..Details::at(snapshot.generation) }).await?;
        let engine = Arc::new(Self {
            ledger: Ledger::start(Arc::clone(&store)),
            store,
            audit,
            clock: Clock::start(),
            view: RwLock::new(View { snapshot, stopped: Arc::new(Stopped::default()) }),
            events: broadcast::Sender::new(EVENTS_MAX),
            turns: Turns::new(),
            denials: Denials::default(),
            learned: learn::Learned::default(),
            shares: backup::shares::HeldShares::default(),
            started: began,
            seen_ms: AtomicU64::new(0),
            halted: AtomicBool::new(false),
            reloading: tokio::sync::Mutex::default(),
            proposing: tokio::sync::Mutex::default(),
            offered: Mutex::default(),
            #[cfg(test)]
            blind: AtomicBool::new(false),
            settings,
        });
        // From now on the log may not be missing.
        engine.note().await?;
        tokio::spawn(Self::keep_looking(Arc::downgrade(&engine), interval));
        tokio::spawn(Self::keep_noting(Arc::downgrade(&engine), noting));
        tokio::spawn(Self::keep_rotating(Arc::downgrade(&engine)));
        match engine.offer_policy(policy_text).await {
            Ok(Offer::Proposed { proposal_id }) => {
                tracing::warn!(
                    proposal_id,
                    "the policy file differs from the policy in force, which stays until officers approve"
                );
            }
            Err(error) => tracing::warn!(cause = %error, "the policy file is not offered; the policy in force stays"),
            Ok(Offer::InForce) => {}
        }
        Ok(engine)
    }

    /// Publishes what is in the log and notes it in the store.
    async fn note(&self) -> Result<(), EngineError> {
        self.audit.log().publish().await.map_err(super::audit::AuditFailed::from)?;
        self.audit.note(&self.store).await.inspect_err(|failed| self.halt_if_broken(failed))?;
        Ok(())
    }

    /// Has the store fall silent, or answer again.
    #[cfg(test)]
    fn hold_looking(&self, blind: bool) {
        self.blind.store(blind, Ordering::Release);
    }

    /// How it is.
    pub fn health(&self) -> Health {
        let view = self.view();
        let store_ok = !self.halted.load(Ordering::Acquire) && self.is_fresh();
        Health { audit_ok: self.audit.is_well(), store_ok, generation: view.snapshot.generation }
    }

    /// The audit log, to read and to prove from.
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// The time that decisions are made by, in seconds since 1970.
    pub fn now_unix_s(&self) -> i64 {
        self.clock.now_unix_s()
    }

    /// SHA-256 of the policy in force, which is no secret.
    pub fn policy_hash(&self) -> [u8; 32] {
        self.view().snapshot.policy.value.hash()
    }

    /// Finishes the log and notes how far it is. Calls from now on fail.
    ///
    /// # Errors
    /// [`EngineError`]; the log is whole all the same.
    pub async fn close(&self) -> Result<(), EngineError> {
        let told = self.tell_left_out(true).await;
        let closed = self.audit.log().close().await;
        let noted = self.audit.note(&self.store).await;
        closed.map_err(super::audit::AuditFailed::from)?;
        told?;
        Ok(noted.map_err(|failed: StoreError| failed)?)
    }
}

#[cfg(test)]
mod tests;

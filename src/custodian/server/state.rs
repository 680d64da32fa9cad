//! Sealed or unsealed: who holds the engine, and how one comes from the other.
//!
//! **Invariant:** there is an engine only from the moment a seal gave out the root key until the custodian is sealed again.
//! **Invariant:** shares are taken one at a time, against the list of seals as it stands in the store then.

use std::sync::{Arc, Mutex as StdMutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use super::logfiles::LogFiles;
use super::token::Tokens;
use crate::custodian::audit::{AuditLog, AuditOpenError, AuditSettings};
use crate::custodian::engine::{Engine, EngineError, EngineSettings, Offer};
use crate::custodian::passphrase::Passphrase;
use crate::custodian::policy::Policy;
use crate::custodian::seal::config::{SealKind, SealList};
use crate::custodian::seal::pkcs11::{Pkcs11Error, Token};
use crate::custodian::seal::remote::{RemoteFailed, RemoteWrap};
use crate::custodian::seal::share::Share;
use crate::custodian::seal::unsealing::{Progress, Step, Unsealing};
use crate::custodian::seal::{RootKey, UnsealError};
use crate::custodian::store::{SealedStore, Store, StoreError};
use crate::telemetry::metrics::Counters;
use crate::tlog::note::VerifierKey;
use crate::tlog::storage::Storage;

/// A way to unseal without people.
pub enum AutoSeal {
    /// A passphrase in a file: for demonstration.
    Passphrase(Arc<Passphrase>),
    /// A key in a PKCS#11 token.
    Pkcs11(Token),
    /// A key in another key server.
    Remote(Arc<dyn RemoteWrap>),
}

impl AutoSeal {
    async fn open(&self, list: &SealList) -> Result<RootKey, UnsealError> {
        match self {
            Self::Passphrase(passphrase) => list.open_with_passphrase(passphrase).await,
            Self::Pkcs11(token) => list.open_with_token(token).await,
            Self::Remote(remote) => list.open_with_remote(remote.as_ref()).await,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Passphrase(_) => "passphrase",
            Self::Pkcs11(_) => "pkcs11",
            Self::Remote(_) => "transit",
        }
    }
}

/// What is needed to open a store once there is a root key.
pub struct Opening {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The audit log.
    pub audit: AuditSettings,
    /// What the audit log is written through.
    pub audit_disk: Arc<dyn Storage>,
    /// The policy file's text, which becomes the policy of a store that has none.
    pub policy: String,
    /// The engine.
    pub engine: EngineSettings,
}

/// Why the custodian is not unsealed.
#[derive(Debug, thiserror::Error)]
pub enum OpenFailed {
    /// The seal.
    #[error(transparent)]
    Seal(#[from] UnsealError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditOpenError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It is unsealed already.
    #[error("vault is unsealed")]
    Unsealed,
    /// No seal of the store opens without people.
    #[error("no seal of the store can be opened without people")]
    NoAutoSeal,
}

impl OpenFailed {
    /// Whether trying again later, without anyone doing anything, may help.
    fn may_pass(&self) -> bool {
        match self {
            Self::Seal(UnsealError::Remote(RemoteFailed::Unreachable(_))) => true,
            Self::Seal(UnsealError::Pkcs11(failed)) => matches!(failed, Pkcs11Error::TimedOut),
            Self::Store(failed) => {
                matches!(
                    failed,
                    StoreError::Unavailable(_) | StoreError::TimedOut | StoreError::Busy | StoreError::Empty
                )
            }
            Self::Audit(failed) => matches!(failed, AuditOpenError::Store(_)),
            Self::Engine(failed) => {
                matches!(failed, EngineError::Store(_) | EngineError::Stale | EngineError::Audit(_))
            }
            Self::Seal(_) | Self::Unsealed | Self::NoAutoSeal => false,
        }
    }
}

/// What there is while unsealed.
pub(super) struct Unsealed {
    pub(super) engine: Arc<Engine>,
    pub(super) files: LogFiles,
    pub(super) tokens: Tokens,
    /// Turns true when it is sealed: requests that have no end of their own end then.
    pub(super) sealed: watch::Sender<bool>,
}

/// How the seals of a store are.
pub(super) struct SealStatus {
    /// The kind of the first seal, or of the one that takes shares.
    pub(super) kind: SealKind,
    pub(super) progress: Option<Progress>,
    /// Names the seals of this store.
    pub(super) id: [u8; 16],
}

/// The state, and the only way to change it.
pub(super) struct State {
    opening: Opening,
    /// The policy file's text as it is now.
    policy: StdMutex<String>,
    witnesses: Vec<VerifierKey>,
    /// Where decisions are counted.
    decisions: Counters<2>,
    unsealed: RwLock<Option<Arc<Unsealed>>>,
    /// Held while it is being unsealed or sealed.
    unsealing: Mutex<Option<Unsealing>>,
}

impl State {
    pub(super) fn new(opening: Opening, witnesses: Vec<VerifierKey>, decisions: Counters<2>) -> Self {
        let policy = StdMutex::new(opening.policy.clone());
        Self { opening, policy, witnesses, decisions, unsealed: RwLock::new(None), unsealing: Mutex::new(None) }
    }

    fn policy(&self) -> String {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in another policy text, if it is one.
    pub(super) async fn offer_policy(&self, text: &str) -> Result<Option<Offer>, OpenFailed> {
        // Held so that no engine is opened with the former text in between.
        let _one_at_a_time = self.unsealing.lock().await;
        let offered = match self.unsealed() {
            Some(unsealed) => Some(unsealed.engine.offer_policy(text).await?),
            None => {
                Policy::parse(text).map_err(EngineError::from)?;
                None
            }
        };
        text.clone_into(&mut self.policy.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(offered)
    }

    /// What there is while unsealed.
    pub(super) fn unsealed(&self) -> Option<Arc<Unsealed>> {
        self.unsealed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn list(&self) -> Result<SealList, StoreError> {
        SealedStore::seals(self.opening.store.as_ref()).await.map(|(list, _)| list)
    }

    /// How the seals are; `None` for a store that was not made yet.
    pub(super) async fn seal_status(&self) -> Result<Option<SealStatus>, StoreError> {
        let list = match self.list().await {
            Ok(list) => list,
            Err(StoreError::Empty) => return Ok(None),
            Err(failed) => return Err(failed),
        };
        let of_shares = |seal: &&crate::custodian::seal::config::Seal| matches!(seal.kind(), SealKind::Shares { .. });
        let seal = list.seals().iter().find(of_shares).or(list.seals().first());
        let seal = seal.ok_or(StoreError::Empty)?;
        let (kind, id) = (seal.kind(), seal.id());
        // Health must not wait for a token or another server that is just being asked.
        let unsealing = self.unsealing.try_lock().ok();
        let under_way = unsealing.as_ref().and_then(|unsealing| unsealing.as_ref());
        let under_way = under_way.and_then(|unsealing| unsealing.progress().find(|(of, _)| *of == id));
        let progress = match kind {
            SealKind::Shares { threshold, count } => Some(Progress { given: 0, threshold, count }),
            SealKind::Passphrase | SealKind::Pkcs11 | SealKind::Remote => None,
        };
        let progress = under_way.map(|(_, progress)| progress).or(progress);
        Ok(Some(SealStatus { kind, progress, id: *id.as_bytes() }))
    }

    /// Takes a share; with the last that is needed the custodian opens.
    pub(super) async fn submit(&self, share: Share) -> Result<(), OpenFailed> {
        let mut unsealing = self.unsealing.lock().await;
        if self.unsealed().is_some() {
            return Ok(());
        }
        let list = self.list().await?;
        // Shares given before the seals were changed are for nothing.
        let current = unsealing.take().filter(|current| current.list().to_bytes() == list.to_bytes());
        let mut current = current.unwrap_or_else(|| Unsealing::new(list));
        let step = current.submit(share);
        *unsealing = Some(current);
        match step? {
            Step::Waiting(_) => Ok(()),
            Step::Opened(root) => {
                *unsealing = None;
                self.open(&root).await
            }
        }
    }

    /// Forgets the shares given so far.
    pub(super) async fn reset(&self) -> Result<(), OpenFailed> {
        let mut unsealing = self.unsealing.lock().await;
        if self.unsealed().is_some() {
            return Err(OpenFailed::Unsealed);
        }
        *unsealing = None;
        Ok(())
    }

    /// Opens store, log and engine with the key that a seal gave out.
    pub(super) async fn open(&self, root: &RootKey) -> Result<(), OpenFailed> {
        let Opening { store, audit: settings, audit_disk, engine, .. } = &self.opening;
        let store = Arc::new(SealedStore::open(Arc::clone(store), root).await?);
        let audit = AuditLog::open_on(Arc::clone(audit_disk), &store, settings).await?.counted(self.decisions.clone());
        let log = Arc::clone(audit.log());
        let engine = Engine::open(store, audit, &self.policy(), engine.clone()).await?;
        let files = LogFiles::new(log, &settings.folder, self.witnesses.clone());
        let unsealed =
            Arc::new(Unsealed { engine, files, tokens: Tokens::new(root), sealed: watch::Sender::new(false) });
        *self.unsealed.write().unwrap_or_else(PoisonError::into_inner) = Some(unsealed);
        tracing::info!("unsealed");
        Ok(())
    }

    /// Ends the engine. Requests that are under way finish with it.
    pub(super) async fn seal(&self) {
        let _one_at_a_time = self.unsealing.lock().await;
        let unsealed = self.unsealed.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(unsealed) = unsealed {
            unsealed.sealed.send_replace(true);
            match unsealed.engine.close().await {
                Ok(()) => tracing::info!("sealed"),
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "sealed; the audit log was not finished")
                }
            }
        }
    }

    async fn try_auto(&self, seals: &[AutoSeal]) -> Result<(), OpenFailed> {
        let _one_at_a_time = self.unsealing.lock().await;
        if self.unsealed().is_some() {
            return Ok(());
        }
        let list = self.list().await?;
        let mut failed = None;
        for seal in seals {
            match seal.open(&list).await {
                Ok(root) => return self.open(&root).await,
                Err(UnsealError::NoSuchSeal) => {}
                Err(error) => {
                    let error = OpenFailed::from(error);
                    let cause: &dyn std::error::Error = &error;
                    tracing::warn!(seal = seal.kind(), error = cause, "a seal does not open");
                    // The one that may yet open decides whether it is tried again.
                    if failed.as_ref().is_none_or(|before: &OpenFailed| !before.may_pass()) {
                        failed = Some(error);
                    }
                }
            }
        }
        Err(failed.unwrap_or(OpenFailed::NoAutoSeal))
    }

    /// Tries `seals` until one opens, nothing but people can help, or people unsealed it. To be run once, at the start: what an officer
    /// sealed stays sealed.
    pub(super) async fn unseal_by_itself(&self, seals: &[AutoSeal]) {
        let mut pause = Duration::from_millis(500);
        while self.unsealed().is_none() {
            match self.try_auto(seals).await {
                Ok(()) => return,
                Err(error) => {
                    let cause: &dyn std::error::Error = &error;
                    if !error.may_pass() {
                        tracing::error!(error = cause, "cannot unseal without people");
                        return;
                    }
                    tracing::warn!(error = cause, pause_ms = pause.as_millis(), "cannot unseal yet; trying again");
                }
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(Duration::from_secs(30));
        }
    }
}

/// 80 to 120 %, so that several custodians do not come at the same time.
fn jittered(pause: Duration) -> Duration {
    let [byte] = crate::crypto::random_array::<1>().unwrap_or([128]);
    pause.mul_f64(0.8 + 0.4 * f64::from(byte) / 255.0)
}

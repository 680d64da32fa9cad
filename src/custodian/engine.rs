//! The engine: decides, writes the decision down, then uses the key.
//!
//! **Invariant:** it is made from an opened seal and nothing else.
//! **Invariant:** what is changed in the keyring is on disk before anybody can use it.

use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use crate::custody::caller::Caller;
use crate::custody::context::BranchContext;
use crate::custody::wrapped::WrappedKey;
use crate::names::{KekName, KekVersion};
use crate::secret::Secret;

use super::audit::{Action, AuditFailed, AuditLog, Permit, Use};
use super::authorise::Authoriser;
use super::keyring::{KekInfo, Keyring, KeyringError};
use super::seal::{SealError, SealFile, Unsealed};

/// Why the engine did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The authoriser says no.
    #[error("permission denied")]
    Denied,
    /// The decision could not be written down.
    #[error(transparent)]
    Audit(#[from] AuditFailed),
    /// The keyring does not do it.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The change could not be saved.
    #[error(transparent)]
    Store(#[from] SealError),
}

/// An unsealed custodian. Its methods block on I/O.
pub struct Engine {
    keyring: RwLock<Keyring>,
    store: Mutex<SealFile>,
    authoriser: Box<dyn Authoriser>,
    audit: AuditLog,
}

impl Engine {
    /// Takes over an opened seal.
    pub fn new(unsealed: Unsealed, authoriser: impl Authoriser + 'static, audit: AuditLog) -> Self {
        let Unsealed { store, keyring } = unsealed;
        Self { keyring: RwLock::new(keyring), store: Mutex::new(store), authoriser: Box::new(authoriser), audit }
    }

    fn keyring(&self) -> RwLockReadGuard<'_, Keyring> {
        self.keyring.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn permit(&self, who: &Caller, what: Use) -> Result<Permit, EngineError> {
        let decision = self.authoriser.decide(who, &what);
        self.audit.record(who, what, decision)?.ok_or(EngineError::Denied)
    }

    /// A new branch key for `context`, in the clear and wrapped.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn generate(
        &self,
        kek: &KekName,
        context: &BranchContext,
        who: &Caller,
    ) -> Result<(Secret<32>, WrappedKey), EngineError> {
        // Held from here on, so that the version in the log is the one that is used.
        let keyring = self.keyring();
        let what = Use::of_branch(Action::Generate, kek, keyring.latest(kek), context);
        Ok(keyring.generate(kek, context, self.permit(who, what)?)?)
    }

    /// Opens a branch key.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn unwrap(
        &self,
        kek: &KekName,
        context: &BranchContext,
        wrapped: &WrappedKey,
        who: &Caller,
    ) -> Result<Secret<32>, EngineError> {
        let what = Use::of_branch(Action::Unwrap, kek, Some(wrapped.version()), context);
        let permit = self.permit(who, what)?;
        Ok(self.keyring().unwrap(kek, context, wrapped, permit)?)
    }

    /// Moves a branch key to the newest version.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn rewrap(
        &self,
        kek: &KekName,
        context: &BranchContext,
        wrapped: &WrappedKey,
        who: &Caller,
    ) -> Result<WrappedKey, EngineError> {
        let what = Use::of_branch(Action::Rewrap, kek, Some(wrapped.version()), context);
        let permit = self.permit(who, what)?;
        Ok(self.keyring().rewrap(kek, context, wrapped, permit)?)
    }

    /// Makes a KEK.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn create(&self, kek: &KekName, who: &Caller) -> Result<KekVersion, EngineError> {
        let permit = self.permit(who, Use::of_kek(Action::Create, kek, Some(KekVersion::FIRST)))?;
        self.change(|keyring| keyring.create(kek, permit))
    }

    /// Adds a version to a KEK.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn rotate(&self, kek: &KekName, who: &Caller) -> Result<KekVersion, EngineError> {
        let permit = self.permit(who, Use::of_kek(Action::Rotate, kek, None))?;
        self.change(|keyring| keyring.rotate(kek, permit))
    }

    /// Switches a KEK off. It is off at once, also when that cannot be saved.
    ///
    /// # Errors
    /// [`EngineError`]; after [`EngineError::Store`] the KEK is off until the next unseal.
    pub fn disable(&self, kek: &KekName, who: &Caller) -> Result<(), EngineError> {
        let permit = self.permit(who, Use::of_kek(Action::Disable, kek, None))?;
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keyring = self.keyring.write().unwrap_or_else(PoisonError::into_inner);
        keyring.set_disabled(kek, true, permit)?;
        Ok(store.save(&keyring)?)
    }

    /// Switches a KEK on again.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn enable(&self, kek: &KekName, who: &Caller) -> Result<(), EngineError> {
        let permit = self.permit(who, Use::of_kek(Action::Enable, kek, None))?;
        self.change(|keyring| keyring.set_disabled(kek, false, permit))
    }

    /// From now on, only `oldest` and later versions of `kek` are opened.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn set_min_decryption_version(
        &self,
        kek: &KekName,
        oldest: KekVersion,
        who: &Caller,
    ) -> Result<(), EngineError> {
        let permit = self.permit(who, Use::of_kek(Action::SetMinDecryptionVersion, kek, Some(oldest)))?;
        self.change(|keyring| keyring.set_min_decryption_version(kek, oldest, permit))
    }

    /// What may be told about the KEKs. It shows no key and is not logged.
    pub fn list(&self) -> Vec<KekInfo> {
        self.keyring().list()
    }

    /// Changes a copy, saves it, and only then lets it take effect.
    fn change<T>(&self, change: impl FnOnce(&mut Keyring) -> Result<T, KeyringError>) -> Result<T, EngineError> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let copy = self.keyring().to_bytes();
        let mut next = Keyring::parse(&copy).expect("a keyring parses what it wrote");
        let result = change(&mut next)?;
        store.save(&next)?;
        *self.keyring.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::custodian::audit::{AuditSink, Decision, Entry};
    use crate::custodian::authorise::EveryoneInProcess;
    use crate::custodian::passphrase::Passphrase;
    use crate::custodian::seal::Bounds;
    use crate::custody::reason::Reason;
    use crate::names::{BranchId, LogicalBucket, Principal, Purpose, WriterDomain};

    #[derive(Clone, Default)]
    struct Sink {
        entries: Arc<Mutex<Vec<Entry>>>,
        full: Arc<AtomicBool>,
    }

    impl AuditSink for Sink {
        fn append(&self, entry: &Entry) -> Result<(), AuditFailed> {
            if self.full.load(Ordering::Relaxed) {
                return Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into());
            }
            self.entries.lock().expect("not poisoned").push(entry.clone());
            Ok(())
        }
    }

    struct NoUnwrap;

    impl Authoriser for NoUnwrap {
        fn decide(&self, _: &Caller, what: &Use) -> Decision {
            if what.action == Action::Unwrap { Decision::Deny } else { Decision::Allow }
        }
    }

    fn engine(folder: &tempfile::TempDir, authoriser: impl Authoriser + 'static, sink: &Sink) -> Engine {
        let passphrase = Passphrase::new(b"correct horse battery".to_vec()).expect("long enough");
        let path = folder.path().join("keys.seal");
        let unsealed = if path.exists() {
            Unsealed::open_within(Bounds::TEST, &path, &passphrase)
        } else {
            Unsealed::create_within(Bounds::TEST, &path, &passphrase, 2)
        };
        Engine::new(unsealed.expect("unseals"), authoriser, AuditLog::new(sink.clone()))
    }

    fn kek() -> KekName {
        KekName::new("records").expect("legal")
    }

    fn who() -> Caller {
        Caller { principal: Principal::new("alice").expect("legal"), reason: Reason::CustomerInitiated }
    }

    fn context() -> BranchContext {
        BranchContext {
            purpose: Purpose::Object,
            bucket: LogicalBucket::new("ledger").expect("legal"),
            writer: WriterDomain::new("proxy/us").expect("legal"),
            id: BranchId::from_bytes([1; 16]),
        }
    }

    #[test]
    fn changes_outlive_the_engine() {
        let (folder, sink) = (tempfile::tempdir().expect("a folder"), Sink::default());
        let first = engine(&folder, EveryoneInProcess, &sink);
        first.create(&kek(), &who()).expect("creates");
        let (secret, wrapped) = first.generate(&kek(), &context(), &who()).expect("generates");
        let second = first.rotate(&kek(), &who()).expect("rotates");
        first.set_min_decryption_version(&kek(), KekVersion::FIRST, &who()).expect("sets");
        first.disable(&kek(), &who()).expect("disables");
        drop(first);
        let again = engine(&folder, EveryoneInProcess, &sink);
        let info = again.list();
        assert_eq!((info.len(), info[0].latest, info[0].disabled), (1, second, true));
        again.enable(&kek(), &who()).expect("enables");
        let opened = again.unwrap(&kek(), &context(), &wrapped, &who()).expect("opens");
        assert_eq!(opened.expose(), secret.expose());
    }

    #[test]
    fn every_decision_is_logged_and_a_denied_use_is_not_made() {
        let (folder, sink) = (tempfile::tempdir().expect("a folder"), Sink::default());
        let engine = engine(&folder, NoUnwrap, &sink);
        engine.create(&kek(), &who()).expect("creates");
        let (_, wrapped) = engine.generate(&kek(), &context(), &who()).expect("generates");
        let denied = engine.unwrap(&kek(), &context(), &wrapped, &who());
        assert!(matches!(denied, Err(EngineError::Denied)));
        let entries = sink.entries.lock().expect("not poisoned");
        let logged: Vec<_> = entries.iter().map(|entry| (entry.what.action, entry.decision)).collect();
        assert_eq!(
            logged,
            [(Action::Create, Decision::Allow), (Action::Generate, Decision::Allow), (Action::Unwrap, Decision::Deny)]
        );
        assert_eq!(entries[1].what.version, Some(KekVersion::FIRST));
        assert_eq!(entries[1].what.context_hash, Some(crate::crypto::sha256(&context().to_bytes())));
    }

    #[test]
    fn without_a_log_nothing_is_done() {
        let (folder, sink) = (tempfile::tempdir().expect("a folder"), Sink::default());
        let engine = engine(&folder, EveryoneInProcess, &sink);
        engine.create(&kek(), &who()).expect("creates");
        let (_, wrapped) = engine.generate(&kek(), &context(), &who()).expect("generates");
        sink.full.store(true, Ordering::Relaxed);
        assert!(matches!(engine.generate(&kek(), &context(), &who()), Err(EngineError::Audit(_))));
        assert!(matches!(engine.unwrap(&kek(), &context(), &wrapped, &who()), Err(EngineError::Audit(_))));
        assert!(matches!(engine.rewrap(&kek(), &context(), &wrapped, &who()), Err(EngineError::Audit(_))));
        assert!(matches!(engine.rotate(&kek(), &who()), Err(EngineError::Audit(_))));
        assert_eq!(engine.list()[0].latest, KekVersion::FIRST);
    }

    #[test]
    fn a_change_that_cannot_be_saved_does_not_happen_but_disabling_does() {
        let (folder, sink) = (tempfile::tempdir().expect("a folder"), Sink::default());
        let engine = engine(&folder, EveryoneInProcess, &sink);
        engine.create(&kek(), &who()).expect("creates");
        folder.close().expect("removes the folder");
        assert!(matches!(engine.rotate(&kek(), &who()), Err(EngineError::Store(_))));
        assert_eq!(engine.list()[0].latest, KekVersion::FIRST);
        assert!(matches!(engine.disable(&kek(), &who()), Err(EngineError::Store(_))));
        let refused = engine.generate(&kek(), &context(), &who());
        assert!(matches!(refused, Err(EngineError::Keyring(KeyringError::Disabled))));
    }
}

//! The custodian of the tests: the real engine, shared by all of them, and a wrapper that can fail.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use claviger::custodian::audit::{AuditFailed, AuditLog, AuditSink, Entry};
use claviger::custodian::authorise::EveryoneInProcess;
use claviger::custodian::embedded::Embedded;
use claviger::custodian::engine::Engine;
use claviger::custodian::passphrase::Passphrase;
use claviger::custodian::seal::Unsealed;
use claviger::custody::caller::Caller;
use claviger::custody::context::BranchContext;
use claviger::custody::reason::Reason;
use claviger::custody::wrapped::WrappedKey;
use claviger::custody::{Custodian, CustodyError};
use claviger::names::{KekName, Principal};
use claviger::secret::Secret;
use futures_util::future::BoxFuture;
use tempfile::TempDir;

/// The KEKs of the shared engine.
pub(crate) const KEKS: [&str; 3] = ["demo", "other", "former"];

struct NoLog;

impl AuditSink for NoLog {
    fn append(&self, _entry: &Entry) -> Result<(), AuditFailed> {
        Ok(())
    }
}

pub(crate) fn kek(name: &str) -> KekName {
    KekName::new(name).expect("legal")
}

pub(crate) fn officer() -> Caller {
    Caller { principal: Principal::new("officer").expect("legal"), reason: Reason::Maintenance }
}

/// An engine of its own, with the given KEKs. The fewest PBKDF2 iterations that a seal may have.
pub(crate) fn engine(keks: &[&str]) -> (Arc<Engine>, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let passphrase = Passphrase::new(b"correct horse battery".to_vec()).expect("long enough");
    let unsealed = Unsealed::create(&folder.path().join("keys.seal"), &passphrase, 100_000).expect("creates");
    let engine = Engine::new(unsealed, EveryoneInProcess, AuditLog::new(NoLog));
    for name in keks {
        engine.create(&kek(name), &officer()).expect("creates");
    }
    (Arc::new(engine), folder)
}

/// The engine that tests share unless they change it.
pub(crate) fn shared() -> Arc<dyn Custodian> {
    static SHARED: LazyLock<(Arc<Engine>, TempDir)> = LazyLock::new(|| engine(&KEKS));
    Arc::new(Embedded::new(Arc::clone(&SHARED.0)))
}

/// A custodian that can be made unreachable or silent.
pub(crate) struct Failing {
    inner: Arc<dyn Custodian>,
    pub(crate) unreachable: AtomicBool,
    pub(crate) silent: AtomicBool,
    pub(crate) denies: AtomicBool,
    denied: Mutex<HashSet<String>>,
    pub(crate) calls: AtomicUsize,
}

impl Failing {
    pub(crate) fn new() -> Arc<Self> {
        let (unreachable, silent, denies) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
        let (denied, calls) = (Mutex::default(), AtomicUsize::new(0));
        Arc::new(Self { inner: shared(), unreachable, silent, denies, denied, calls })
    }

    /// Denies this client from now on.
    pub(crate) fn deny(&self, principal: &str) {
        self.denied.lock().expect("not poisoned").insert(principal.to_owned());
    }

    async fn enter(&self, caller: &Caller) -> Result<(), CustodyError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.silent.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        let denied = self.denied.lock().expect("not poisoned").contains(caller.principal.as_str());
        if denied || self.denies.load(Ordering::SeqCst) {
            return Err(CustodyError::Denied);
        }
        match self.unreachable.load(Ordering::SeqCst) {
            true => Err(CustodyError::Unreachable("connection refused".into())),
            false => Ok(()),
        }
    }
}

impl Custodian for Failing {
    fn generate<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<(Secret<32>, WrappedKey), CustodyError>> {
        Box::pin(async move {
            self.enter(caller).await?;
            self.inner.generate(kek, context, caller).await
        })
    }

    fn unwrap<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        wrapped: &'a WrappedKey,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Secret<32>, CustodyError>> {
        Box::pin(async move {
            self.enter(caller).await?;
            self.inner.unwrap(kek, context, wrapped, caller).await
        })
    }

    fn rewrap<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        wrapped: &'a WrappedKey,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<WrappedKey, CustodyError>> {
        Box::pin(async move {
            self.enter(caller).await?;
            self.inner.rewrap(kek, context, wrapped, caller).await
        })
    }
}

//! The custodian of the tests: the real engine, shared by all of them, and a wrapper that can fail.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::time::Duration;

use claviger::custodian::approval::{Subject, Verb, sign_approval};
use claviger::custodian::audit::{AuditLog, AuditSettings};
use claviger::custodian::embedded::Embedded;
use claviger::custodian::engine::{Engine, EngineError, GatedCall};
use claviger::custodian::identity::SpiffeId;
use claviger::custodian::kek::{KeyChange, KeyOptions};
use claviger::custodian::requester::Requester;
use claviger::custodian::seal::RootKey;
use claviger::custodian::seal::config::SealList;
use claviger::custodian::seal::make::NewSeal;
use claviger::custodian::store::{SealedStore, StoreSettings, create_sqlite};
use claviger::custody::caller::Caller;
use claviger::custody::context::BranchContext;
use claviger::custody::reason::Reason;
use claviger::custody::wrapped::WrappedKey;
use claviger::custody::{Custodian, CustodyError};
use claviger::names::{KekName, Principal};
use claviger::secret::Secret;
use claviger::tlog::storage::Disk;
use futures_util::future::BoxFuture;
use rcgen::{CertificateParams, KeyPair, SanType};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The KEKs of the shared engine.
pub(crate) const KEKS: [&str; 3] = ["demo", "other", "former"];

pub(crate) fn kek(name: &str) -> KekName {
    KekName::new(name).expect("legal")
}

pub(crate) fn officer() -> Caller {
    Caller { principal: Principal::new("officer").expect("legal"), reason: Reason::Maintenance }
}

pub(crate) fn id(region: &str, rest: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://localhost/region/{region}/{rest}")).expect("legal")
}

/// Engines outlive the test that first asks for one, and so does the runtime that they live on.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("starts")
});

async fn open(folder: &TempDir, keks: &[&str]) -> Embedded {
    let root = RootKey::random().expect("random");
    let shares = [NewSeal::Shares { threshold: 2, count: 3 }];
    let (seals, _) = SealList::make(&root, &shares).await.expect("makes");
    let sql = create_sqlite(&folder.path().join("store.db"), StoreSettings::default()).await.expect("makes");
    let store = Arc::new(SealedStore::create(Arc::new(sql), &root, &seals).await.expect("makes"));
    let settings = AuditSettings {
        folder: folder.path().join("audit"),
        instance: "test".to_owned(),
        origin: "localhost/test".to_owned(),
        checkpoint_interval: Duration::from_secs(5),
    };
    let disk = Arc::new(Disk::assume_no_power_loss());
    let audit = AuditLog::open_on(disk, &store, &settings).await.expect("opens");
    let embedded = Embedded::over(store, audit, id("us", "proxy/test")).await.expect("opens");
    let who = embedded.requester().expect("random");
    for name in keks {
        let derived = KeyOptions { derived: true, ..KeyOptions::default() };
        let call = GatedCall { method: "POST", path: String::new(), body: String::new() };
        embedded.engine().create(&who, &kek(name), derived, &call).await.expect("creates");
    }
    embedded
}

/// A custodian of its own, with the given KEKs.
pub(crate) fn custodian(keks: &'static [&str]) -> (Embedded, TempDir) {
    let (sender, receiver) = mpsc::channel();
    RUNTIME.spawn(async move {
        let folder = tempfile::tempdir().expect("a folder");
        let embedded = open(&folder, keks).await;
        sender.send((embedded, folder)).expect("is waited for");
    });
    receiver.recv().expect("opens")
}

static SHARED: LazyLock<(Embedded, TempDir)> = LazyLock::new(|| custodian(&KEKS));

/// The custodian that tests share unless they change it.
pub(crate) fn shared() -> Arc<dyn Custodian> {
    Arc::new(SHARED.0.clone())
}

/// The same, for proxies of another region.
pub(crate) fn shared_in(region: &str) -> Arc<dyn Custodian> {
    Arc::new(SHARED.0.as_seen_by(id(region, "proxy/test")))
}

/// Raises the oldest version that is opened, as two officers approve.
pub(crate) async fn retire(embedded: &Embedded, name: &str, oldest: u32) {
    let (engine, who) = (embedded.engine(), embedded.requester().expect("random"));
    let call = GatedCall { method: "POST", path: format!("/v1/transit/keys/{name}/config"), body: String::new() };
    let change = KeyChange { min_decryption_version: Some(oldest), ..KeyChange::default() };
    let asked = engine.configure(&who, &kek(name), change.clone(), &call).await;
    let Err(EngineError::Gated { proposal_id }) = asked else { return drop(asked.expect("needs no approval")) };
    for officer in ["alice", "bob"] {
        approve(engine, officer, &proposal_id).await;
    }
    engine.configure(&who, &kek(name), change, &call).await.expect("was approved");
}

async fn approve(engine: &Engine, officer: &str, proposal_id: &str) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    let name = id("us", &format!("officer/{officer}"));
    params.subject_alt_names = vec![SanType::URI(name.as_str().try_into().expect("ASCII"))];
    let certificate = params.self_signed(&key).expect("signs").der().to_vec();
    let who = Requester::from_certificate(&certificate, [127, 0, 0, 1].into(), [1; 16]).expect("has an id");
    let hash = engine.proposal(&who, proposal_id).await.expect("is there").value.hash();
    let (pem, now) = (key.serialize_pem(), engine.now_unix_s());
    let approval = sign_approval(pem.as_bytes(), &certificate, Subject::Proposal, Verb::Approve, &hash, now);
    engine.approve(&who, proposal_id, approval.expect("signs")).await.expect("approves");
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

//! The custodian in the proxy's own process, over a SQLite file and a passphrase: for demonstration and tests only.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use crate::crypto::{self, RandomFailed};
use crate::custody::caller::Caller;
use crate::custody::context::BranchContext;
use crate::custody::reason::Reason;
use crate::custody::wrapped::WrappedKey;
use crate::custody::{Custodian, CustodyError};
use crate::names::KekName;
use crate::secret::Secret;

use super::audit::{AuditLog, AuditOpenError, AuditSettings};
use super::barrier::Kind;
use super::engine::{Engine, EngineError, EngineSettings, GenerateRequest};
use super::identity::SpiffeId;
use super::kek::{Ciphertext, DataKeyLen, Kek, KekInfo, KeyringError};
use super::passphrase::Passphrase;
use super::requester::{Requester, random_request_id};
use super::seal::config::SealList;
use super::seal::make::NewSeal;
use super::seal::{RootKey, UnsealError};
use super::store::{SealedStore, StoreError, StoreSettings, create_sqlite, open_sqlite};

/// Only this process can ask, and it decides about its clients itself.
pub const POLICY: &str = r#"@id("in-process")
permit (principal, action, resource) when { principal.domain == "localhost" };
"#;
/// The name of the custodian in its log.
const INSTANCE: &str = "embedded";
/// The origin of its log.
const ORIGIN: &str = "localhost/claviger-embedded";

/// Where an embedded custodian keeps what it has.
#[derive(Debug, Clone)]
pub struct Place {
    /// The file of the store.
    pub store: PathBuf,
    /// The folder of the audit log.
    pub audit: PathBuf,
}

/// Why an embedded custodian is not made or opened.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The seal.
    #[error(transparent)]
    Seal(#[from] UnsealError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditOpenError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// No randomness on this machine.
    #[error(transparent)]
    Random(#[from] RandomFailed),
}

/// Makes a new store that `passphrase` opens.
///
/// # Errors
/// [`EmbeddedError`], also if there is a file already.
pub async fn create(place: &Place, passphrase: &Arc<Passphrase>, iterations: u32) -> Result<(), EmbeddedError> {
    let root = RootKey::random()?;
    let seal = NewSeal::Passphrase { passphrase: Arc::clone(passphrase), iterations };
    let (seals, _) = SealList::make(&root, &[seal]).await?;
    let store = Arc::new(create_sqlite(&place.store, StoreSettings::default()).await?);
    SealedStore::create(store, &root, &seals).await?;
    Ok(())
}

async fn unseal(place: &Place, passphrase: &Arc<Passphrase>) -> Result<SealedStore, EmbeddedError> {
    let store = Arc::new(open_sqlite(&place.store, StoreSettings::default()).await?);
    let (seals, _) = SealedStore::seals(&*store).await?;
    let root = seals.open_with_passphrase(passphrase).await?;
    Ok(SealedStore::open(store, &root).await?)
}

/// What may be told about the KEKs of a store, whoever else has it open.
///
/// # Errors
/// [`EmbeddedError`].
pub async fn look(place: &Place, passphrase: &Arc<Passphrase>) -> Result<Vec<KekInfo>, EmbeddedError> {
    let listing = unseal(place, passphrase).await?.list(Kind::Kek).await?;
    let info = |record: &super::store::Record| {
        let name = KekName::new(&record.name).ok()?;
        Some(Kek::parse(&record.body).ok()?.info(&name))
    };
    let mut infos: Vec<KekInfo> = listing.records.iter().filter_map(info).collect();
    infos.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(infos)
}

/// An [`Engine`] as a [`Custodian`]. Its work runs where the engine was opened, whatever runtime asks.
#[derive(Clone)]
pub struct Embedded {
    engine: Arc<Engine>,
    id: SpiffeId,
    runtime: Handle,
}

impl Embedded {
    /// Opens the store with its passphrase, for the proxy with this id: its role and region are those of the proxy's writer domain.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub async fn open(place: &Place, passphrase: &Arc<Passphrase>, id: SpiffeId) -> Result<Self, EmbeddedError> {
        let store = Arc::new(unseal(place, passphrase).await?);
        let settings = AuditSettings {
            folder: place.audit.clone(),
            instance: INSTANCE.to_owned(),
            origin: ORIGIN.to_owned(),
            checkpoint_interval: Duration::from_secs(5),
        };
        let audit = AuditLog::open(&store, &settings).await?;
        Self::over(store, audit, id).await
    }

    /// Over an opened store and log.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub async fn over(store: Arc<SealedStore>, audit: AuditLog, id: SpiffeId) -> Result<Self, EmbeddedError> {
        // Nobody else changes this store.
        let (store_poll, store_grace) = (Duration::from_secs(1), Duration::from_secs(60));
        let settings = EngineSettings { store_poll, store_grace, retire_wait_s: 0, ..EngineSettings::new(id.clone()) };
        Ok(Self::of(Engine::open(store, audit, POLICY, settings).await?, id))
    }

    /// Over an engine, which works on the runtime that this is called on.
    pub(super) fn of(engine: Arc<Engine>, id: SpiffeId) -> Self {
        Self { engine, id, runtime: Handle::current() }
    }

    /// For a proxy with another id.
    #[must_use]
    pub fn as_seen_by(&self, id: SpiffeId) -> Self {
        Self { id, ..self.clone() }
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The process as a requester, for what it does of itself.
    ///
    /// # Errors
    /// [`RandomFailed`].
    pub fn requester(&self) -> Result<Requester, RandomFailed> {
        let fingerprint = crypto::sha256(self.id.as_str().as_bytes());
        Ok(Requester {
            id: self.id.clone(),
            // There is no certificate: it stands for the id.
            certificate_sha256: fingerprint,
            key_sha256: fingerprint,
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            reason: Reason::SystemOperation,
            behalf: None,
            request_id: random_request_id()?,
            for_request: None,
        })
    }

    fn on_behalf_of(&self, caller: &Caller) -> Result<Requester, RandomFailed> {
        let behalf = Some(caller.principal.clone());
        Ok(Requester { reason: caller.reason, behalf, ..self.requester()? })
    }

    /// Runs `work` where the engine lives.
    async fn run<T: Send + 'static, F>(&self, work: impl FnOnce(Arc<Engine>) -> F) -> Result<T, CustodyError>
    where
        F: Future<Output = Result<T, EngineError>> + Send + 'static,
    {
        let result = self.runtime.spawn(work(Arc::clone(&self.engine))).await;
        Ok(result.map_err(|lost| CustodyError::Unreachable(lost.into()))??)
    }
}

impl From<EngineError> for CustodyError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Denied | EngineError::DeniedTooOften | EngineError::ContextOfOther => Self::Denied,
            EngineError::Keyring(KeyringError::Unknown) => Self::UnknownKek,
            EngineError::Keyring(KeyringError::Disabled | KeyringError::SoftDeleted) => Self::Disabled,
            EngineError::Keyring(KeyringError::VersionTooOld) => Self::VersionTooOld,
            EngineError::Keyring(KeyringError::VersionUnknown) => Self::VersionUnknown,
            EngineError::Keyring(KeyringError::NotAuthentic) => Self::NotAuthentic,
            EngineError::Keyring(KeyringError::Random(failed)) | EngineError::Random(failed) => Self::Random(failed),
            // Whatever comes of changes a proxy cannot ask for; the rest is a custodian that cannot serve now.
            other => Self::Unreachable(other.into()),
        }
    }
}

fn ciphertext(wrapped: &WrappedKey) -> Result<Ciphertext, CustodyError> {
    Ciphertext::new(wrapped.version(), wrapped.bytes().to_vec()).map_err(|_| CustodyError::NotAuthentic)
}

fn wrapped(ciphertext: &Ciphertext) -> Result<WrappedKey, CustodyError> {
    let wrapped = WrappedKey::new(ciphertext.version(), ciphertext.bytes().to_vec());
    wrapped.map_err(|error| CustodyError::Malformed(error.into()))
}

fn branch_key(bytes: &[u8]) -> Result<Secret<32>, CustodyError> {
    Secret::from_slice(bytes).map_err(|_| CustodyError::NotAuthentic)
}

impl Custodian for Embedded {
    fn generate<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<(Secret<32>, WrappedKey), CustodyError>> {
        Box::pin(async move {
            let (who, kek) = (self.on_behalf_of(caller)?, kek.clone());
            let request =
                GenerateRequest { context: context.to_bytes(), plaintext: true, ..GenerateRequest::default() };
            let generate =
                |engine: Arc<Engine>| async move { engine.generate(&who, &kek, DataKeyLen::Bits256, request).await };
            let made = self.run(generate).await?.value;
            let plaintext = made.plaintext.expect("asked for");
            Ok((branch_key(&plaintext)?, wrapped(&made.ciphertext)?))
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
            let (who, kek) = (self.on_behalf_of(caller)?, kek.clone());
            let (context, ciphertext) = (context.to_bytes(), ciphertext(wrapped)?);
            let unwrap =
                |engine: Arc<Engine>| async move { engine.decrypt(&who, &kek, &ciphertext, &context, b"").await };
            branch_key(&self.run(unwrap).await?.value)
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
            let (who, kek) = (self.on_behalf_of(caller)?, kek.clone());
            let (context, ciphertext) = (context.to_bytes(), ciphertext(wrapped)?);
            let rewrap =
                |engine: Arc<Engine>| async move { engine.rewrap(&who, &kek, &ciphertext, None, &context, b"").await };
            self::wrapped(&self.run(rewrap).await?.value)
        })
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::custodian::engine::GatedCall;
    use crate::custodian::kek::KeyOptions;
    use crate::custody::derivation::prove_derivation;
    use crate::custody::directory::MemoryDirectory;
    use crate::custody::keys::BranchKeys;
    use crate::custody::lease::LeaseSettings;
    use crate::names::{BranchId, KekVersion, LogicalBucket, Principal, Purpose, WriterDomain};

    fn caller() -> Caller {
        Caller { principal: Principal::new("alice").expect("legal"), reason: Reason::CustomerInitiated }
    }

    fn place(folder: &TempDir) -> Place {
        Place { store: folder.path().join("store.db"), audit: folder.path().join("audit") }
    }

    fn passphrase(text: &str) -> Arc<Passphrase> {
        Arc::new(Passphrase::new(text.as_bytes().to_vec()).expect("long enough"))
    }

    async fn embedded(folder: &TempDir, keks: &[&KekName]) -> Embedded {
        let (place, passphrase) = (place(folder), passphrase("correct horse battery"));
        create(&place, &passphrase, 100_000).await.expect("makes");
        let id = SpiffeId::parse("spiffe://localhost/region/us/proxy/embedded").expect("legal");
        let embedded = Embedded::open(&place, &passphrase, id).await.expect("opens");
        let who = embedded.requester().expect("random");
        for kek in keks {
            let derived = KeyOptions { derived: true, ..KeyOptions::default() };
            let call = GatedCall { method: "POST", path: String::new(), body: String::new() };
            embedded.engine().create(&who, kek, derived, &call).await.expect("creates");
        }
        embedded
    }

    #[tokio::test]
    async fn its_keks_derive_by_context_and_it_is_opened_by_its_passphrase_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let kek = KekName::new("records").expect("legal");
        let custodian = embedded(&folder, &[&kek]).await;
        let context = BranchContext {
            purpose: Purpose::Object,
            bucket: LogicalBucket::new("ledger").expect("legal"),
            writer: WriterDomain::new("proxy/us").expect("legal"),
            id: BranchId::from_bytes([1; 16]),
        };
        prove_derivation(&custodian, &kek, &context, &caller()).await.expect("derives");
        let unknown = KekName::new("nothing").expect("legal");
        let error = custodian.generate(&unknown, &context, &caller()).await.err();
        assert!(matches!(error, Some(CustodyError::UnknownKek)));
        let infos = look(&place(&folder), &passphrase("correct horse battery")).await.expect("looks");
        assert_eq!(infos.iter().map(|info| &info.name).collect::<Vec<_>>(), [&kek]);
        let wrong = look(&place(&folder), &passphrase("wrong horse battery")).await.err();
        assert!(matches!(wrong, Some(EmbeddedError::Seal(UnsealError::WrongPassphrase))));
        let again = create(&place(&folder), &passphrase("correct horse battery"), 100_000).await.err();
        assert!(matches!(again, Some(EmbeddedError::Store(StoreError::File { .. }))), "never replaced");
    }

    #[tokio::test]
    async fn branch_keys_stand_on_it_and_another_kek_or_bucket_opens_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let [kek, other] = ["records", "other"].map(|name| KekName::new(name).expect("legal"));
        let [bucket, elsewhere] = ["ledger", "elsewhere"].map(|name| LogicalBucket::new(name).expect("legal"));
        let custodian = embedded(&folder, &[&kek, &other]).await;
        let keys = BranchKeys::new(
            Arc::new(custodian.clone()),
            Arc::new(MemoryDirectory::default()),
            LeaseSettings::default(),
            WriterDomain::new("proxy/us").expect("legal"),
        );
        let written = keys.for_writing(&kek, Purpose::Object, &bucket, &caller(), 1).await.expect("generates");
        let read = keys.for_reading(&kek, written.context(), written.wrapped(), &caller()).await.expect("opens");
        assert_eq!(read.secret().expect("leased").expose(), written.secret().expect("leased").expose());

        let refused = keys.for_reading(&other, written.context(), written.wrapped(), &caller()).await;
        let refused = refused.expect_err("another KEK");
        assert!(matches!(refused.custody(), Some(CustodyError::NotAuthentic)));
        let moved = BranchContext { bucket: elsewhere, ..written.context().clone() };
        let refused = keys.for_reading(&kek, &moved, written.wrapped(), &caller()).await;
        let refused = refused.expect_err("another bucket");
        assert!(matches!(refused.custody(), Some(CustodyError::NotAuthentic)));

        let who = custodian.requester().expect("random");
        let second = custodian.engine().rotate(&who, &kek).await.expect("rotates").value;
        assert_eq!(second, KekVersion::new(2).expect("not zero"));
        assert!(keys.for_reading(&kek, written.context(), written.wrapped(), &caller()).await.is_ok());
    }
}

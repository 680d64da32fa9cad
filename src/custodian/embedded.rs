//! The custodian in the proxy's own process: for demonstration and tests only.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::custody::caller::Caller;
use crate::custody::context::BranchContext;
use crate::custody::wrapped::WrappedKey;
use crate::custody::{Custodian, CustodyError};
use crate::names::KekName;
use crate::secret::Secret;

use super::engine::{Engine, EngineError};
use super::keyring::KeyringError;

/// An [`Engine`] as a [`Custodian`]. Its file I/O runs on threads of its own.
#[derive(Clone)]
pub struct Embedded(Arc<Engine>);

impl Embedded {
    /// Around an unsealed engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self(engine)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, CustodyError> {
        let engine = Arc::clone(&self.0);
        let result = tokio::task::spawn_blocking(move || work(&engine)).await;
        Ok(result.map_err(|lost| CustodyError::Unreachable(lost.into()))??)
    }
}

impl From<EngineError> for CustodyError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Denied => Self::Denied,
            EngineError::Keyring(KeyringError::Unknown) => Self::UnknownKek,
            EngineError::Keyring(KeyringError::Disabled) => Self::Disabled,
            EngineError::Keyring(KeyringError::VersionTooOld) => Self::VersionTooOld,
            EngineError::Keyring(KeyringError::VersionUnknown) => Self::VersionUnknown,
            EngineError::Keyring(KeyringError::NotAuthentic) => Self::NotAuthentic,
            EngineError::Keyring(KeyringError::Random(failed)) => Self::Random(failed),
            // The last two come of changes to KEKs, which a proxy cannot ask for.
            EngineError::Audit(_)
            | EngineError::Store(_)
            | EngineError::Keyring(KeyringError::Exists | KeyringError::TooMany) => Self::Unreachable(error.into()),
        }
    }
}

impl Custodian for Embedded {
    fn generate<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<(Secret<32>, WrappedKey), CustodyError>> {
        let (kek, context, caller) = (kek.clone(), context.clone(), caller.clone());
        Box::pin(self.run(move |engine| engine.generate(&kek, &context, &caller)))
    }

    fn unwrap<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        wrapped: &'a WrappedKey,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Secret<32>, CustodyError>> {
        let (kek, context, wrapped, caller) = (kek.clone(), context.clone(), wrapped.clone(), caller.clone());
        Box::pin(self.run(move |engine| engine.unwrap(&kek, &context, &wrapped, &caller)))
    }

    fn rewrap<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        wrapped: &'a WrappedKey,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<WrappedKey, CustodyError>> {
        let (kek, context, wrapped, caller) = (kek.clone(), context.clone(), wrapped.clone(), caller.clone());
        Box::pin(self.run(move |engine| engine.rewrap(&kek, &context, &wrapped, &caller)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custodian::audit::{AuditLog, FileSink};
    use crate::custodian::authorise::EveryoneInProcess;
    use crate::custodian::passphrase::Passphrase;
    use crate::custodian::seal::{Bounds, Unsealed};
    use crate::custody::derivation::prove_derivation;
    use crate::custody::directory::MemoryDirectory;
    use crate::custody::keys::BranchKeys;
    use crate::custody::lease::LeaseSettings;
    use crate::custody::reason::Reason;
    use crate::names::{BranchId, KekVersion, LogicalBucket, Principal, Purpose, WriterDomain};

    fn caller() -> Caller {
        Caller { principal: Principal::new("alice").expect("legal"), reason: Reason::CustomerInitiated }
    }

    fn engine(folder: &tempfile::TempDir, keks: &[&KekName]) -> Arc<Engine> {
        let passphrase = Passphrase::new(b"correct horse battery".to_vec()).expect("long enough");
        let unsealed = Unsealed::create_within(Bounds::TEST, &folder.path().join("keys.seal"), &passphrase, 2);
        let audit = AuditLog::new(FileSink::open(&folder.path().join("audit.jsonl")).expect("opens"));
        let engine = Engine::new(unsealed.expect("creates"), EveryoneInProcess, audit);
        for kek in keks {
            engine.create(kek, &caller()).expect("creates");
        }
        Arc::new(engine)
    }

    #[tokio::test]
    async fn its_keks_derive_by_context() {
        let folder = tempfile::tempdir().expect("a folder");
        let kek = KekName::new("records").expect("legal");
        let embedded = Embedded::new(engine(&folder, &[&kek]));
        let context = BranchContext {
            purpose: Purpose::Object,
            bucket: LogicalBucket::new("ledger").expect("legal"),
            writer: WriterDomain::new("proxy/us").expect("legal"),
            id: BranchId::from_bytes([1; 16]),
        };
        prove_derivation(&embedded, &kek, &context, &caller()).await.expect("derives");
        let unknown = KekName::new("nothing").expect("legal");
        let error = embedded.generate(&unknown, &context, &caller()).await.err();
        assert!(matches!(error, Some(CustodyError::UnknownKek)));
    }

    #[tokio::test]
    async fn branch_keys_stand_on_it_and_another_kek_or_bucket_opens_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let [kek, other] = ["records", "other"].map(|name| KekName::new(name).expect("legal"));
        let [bucket, elsewhere] = ["ledger", "elsewhere"].map(|name| LogicalBucket::new(name).expect("legal"));
        let engine = engine(&folder, &[&kek, &other]);
        let keys = BranchKeys::new(
            Arc::new(Embedded::new(Arc::clone(&engine))),
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

        let second = engine.rotate(&kek, &caller()).expect("rotates");
        assert_eq!(second, KekVersion::new(2).expect("not zero"));
        assert!(keys.for_reading(&kek, written.context(), written.wrapped(), &caller()).await.is_ok());
    }
}

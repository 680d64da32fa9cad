//! A custodian and a directory for tests, with switches for everything that can go wrong.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::crypto::{self, AeadKey};
use crate::names::{BranchId, KekName, KekVersion, LogicalBucket, Principal, Purpose, WriterDomain};
use crate::secret::Secret;

use super::caller::Caller;
use super::context::BranchContext;
use super::directory::{Directory, DirectoryError, MemoryDirectory};
use super::reason::Reason;
use super::wrapped::WrappedKey;
use super::{Custodian, CustodyError};

pub(super) fn kek() -> KekName {
    KekName::new("records").expect("legal")
}

pub(super) fn bucket() -> LogicalBucket {
    LogicalBucket::new("ledger").expect("legal")
}

pub(super) fn writer() -> WriterDomain {
    WriterDomain::new("proxy/us").expect("legal")
}

pub(super) fn context(id: u8) -> BranchContext {
    BranchContext { purpose: Purpose::Object, bucket: bucket(), writer: writer(), id: BranchId::from_bytes([id; 16]) }
}

pub(super) fn caller(principal: &str) -> Caller {
    Caller { principal: Principal::new(principal).expect("legal"), reason: Reason::CustomerInitiated }
}

/// Wrapped bytes that no custodian made.
pub(super) fn garbage(byte: u8) -> WrappedKey {
    WrappedKey::new(KekVersion::FIRST, vec![byte; 60]).expect("length")
}

#[derive(Default)]
pub(super) struct FakeCustodian {
    pub(super) generated: AtomicUsize,
    pub(super) unwrapped: AtomicUsize,
    delay_ms: AtomicU64,
    rotations: AtomicU32,
    oldest: AtomicU32,
    ignores_context: AtomicBool,
    unreachable: AtomicBool,
    disabled: AtomicBool,
    no_unwrap: Mutex<HashSet<String>>,
    no_generate: Mutex<HashSet<String>>,
    /// Of those that may unwrap.
    no_rewrap: AtomicBool,
    rewrapped: AtomicUsize,
}

impl FakeCustodian {
    pub(super) fn delay_ms(&self, delay: u64) {
        self.delay_ms.store(delay, Ordering::Relaxed);
    }

    pub(super) fn ignore_context(&self) {
        self.ignores_context.store(true, Ordering::Relaxed);
    }

    pub(super) fn unreachable(&self, unreachable: bool) {
        self.unreachable.store(unreachable, Ordering::Relaxed);
    }

    pub(super) fn disable(&self) {
        self.disabled.store(true, Ordering::Relaxed);
    }

    pub(super) fn rotate(&self) {
        self.rotations.fetch_add(1, Ordering::Relaxed);
    }

    /// Refuses what is under versions before `version`.
    pub(super) fn oldest_version(&self, version: u32) {
        self.oldest.store(version, Ordering::Relaxed);
    }

    pub(super) fn refuse_unwrap(&self, principal: &str) {
        self.no_unwrap.lock().unwrap_or_else(PoisonError::into_inner).insert(principal.into());
    }

    pub(super) fn refuse_generate(&self, principal: &str) {
        self.no_generate.lock().unwrap_or_else(PoisonError::into_inner).insert(principal.into());
    }

    pub(super) fn refuse_rewrap(&self) {
        self.no_rewrap.store(true, Ordering::Relaxed);
    }

    pub(super) fn allow_generate(&self) {
        self.no_generate.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Calls to rewrap so far.
    pub(super) fn rewraps(&self) -> usize {
        self.rewrapped.load(Ordering::Relaxed)
    }

    /// Calls so far: generated, unwrapped.
    pub(super) fn calls(&self) -> (usize, usize) {
        (self.generated.load(Ordering::Relaxed), self.unwrapped.load(Ordering::Relaxed))
    }

    fn version(&self) -> KekVersion {
        KekVersion::new(1 + self.rotations.load(Ordering::Relaxed)).expect("not zero")
    }

    fn key(&self, kek: &KekName, version: KekVersion, context: &BranchContext) -> AeadKey {
        let bound = !self.ignores_context.load(Ordering::Relaxed);
        let info = if bound { context.to_bytes() } else { Vec::new() };
        AeadKey::new(&crypto::hkdf_sha256(&version.number().to_be_bytes(), kek.as_str().as_bytes(), &info))
    }

    async fn enter(&self, refused: &Mutex<HashSet<String>>, caller: &Caller) -> Result<(), CustodyError> {
        let delay = self.delay_ms.load(Ordering::Relaxed);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        if self.unreachable.load(Ordering::Relaxed) {
            return Err(CustodyError::Unreachable("no route".into()));
        }
        if refused.lock().unwrap_or_else(PoisonError::into_inner).contains(caller.principal.as_str()) {
            return Err(CustodyError::Denied);
        }
        if self.disabled.load(Ordering::Relaxed) { Err(CustodyError::Disabled) } else { Ok(()) }
    }

    fn wrap(&self, kek: &KekName, context: &BranchContext, secret: &Secret<32>) -> Result<WrappedKey, CustodyError> {
        let version = self.version();
        let bytes = self.key(kek, version, context).seal(b"", secret.expose())?;
        Ok(WrappedKey::new(version, bytes).expect("60 bytes"))
    }

    fn open(&self, kek: &KekName, context: &BranchContext, wrapped: &WrappedKey) -> Result<Secret<32>, CustodyError> {
        if wrapped.version().number() < self.oldest.load(Ordering::Relaxed) {
            return Err(CustodyError::VersionTooOld);
        }
        if wrapped.version() > self.version() {
            return Err(CustodyError::VersionUnknown);
        }
        let opened = self.key(kek, wrapped.version(), context).open(b"", wrapped.bytes());
        let opened = opened.map_err(|_| CustodyError::NotAuthentic)?;
        Secret::from_slice(&opened).map_err(|_| CustodyError::NotAuthentic)
    }
}

impl Custodian for FakeCustodian {
    fn generate<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<(Secret<32>, WrappedKey), CustodyError>> {
        Box::pin(async move {
            self.generated.fetch_add(1, Ordering::Relaxed);
            self.enter(&self.no_generate, caller).await?;
            let secret = crypto::random_secret()?;
            let wrapped = self.wrap(kek, context, &secret)?;
            Ok((secret, wrapped))
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
            self.unwrapped.fetch_add(1, Ordering::Relaxed);
            self.enter(&self.no_unwrap, caller).await?;
            self.open(kek, context, wrapped)
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
            self.rewrapped.fetch_add(1, Ordering::Relaxed);
            self.enter(&self.no_unwrap, caller).await?;
            if self.no_rewrap.load(Ordering::Relaxed) {
                return Err(CustodyError::Denied);
            }
            let secret = self.open(kek, context, wrapped)?;
            self.wrap(kek, context, &secret)
        })
    }
}

/// A directory that can be made to fail.
#[derive(Default)]
pub(super) struct FakeDirectory {
    pub(super) entries: MemoryDirectory,
    fails: AtomicBool,
}

impl FakeDirectory {
    pub(super) fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }

    fn check(&self) -> Result<(), DirectoryError> {
        if self.fails.load(Ordering::Relaxed) { Err(DirectoryError::new("disk full")) } else { Ok(()) }
    }
}

impl Directory for FakeDirectory {
    fn publish<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        wrapped: &'a WrappedKey,
    ) -> BoxFuture<'a, Result<(), DirectoryError>> {
        Box::pin(async move {
            self.check()?;
            self.entries.publish(kek, context, wrapped).await
        })
    }

    fn newest<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
    ) -> BoxFuture<'a, Result<Option<WrappedKey>, DirectoryError>> {
        Box::pin(async move {
            self.check()?;
            self.entries.newest(kek, context).await
        })
    }
}

//! The way out: every request that branch keys make of the custodian and the directory.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::custody::bounded::Bounded;
use crate::custody::branch::{Material, Right};
use crate::custody::caller::Caller;
use crate::custody::context::BranchContext;
use crate::custody::derivation::{DerivationError, Verdict, Verdicts, prove_bound};
use crate::custody::directory::{Directory, DirectoryError};
use crate::custody::lease::LeaseSettings;
use crate::custody::revocation::{Act, LiveKeys, Revocation};
use crate::custody::watch::Gate;
use crate::custody::wrapped::WrappedKey;
use crate::custody::{Custodian, CustodyError};
use crate::names::{BranchId, KekName, WriterDomain};

use super::BranchKeyError;
use super::metrics::KeyMetrics;
use super::slot::SlotId;

/// The right to a branch key, and when the custodian was asked for it: leases count from there.
pub(super) struct Granted {
    pub(super) right: Arc<Right>,
    pub(super) asked: Instant,
}

pub(super) struct Lessor {
    custodian: Bounded,
    directory: Arc<dyn Directory>,
    pub(super) settings: LeaseSettings,
    pub(super) writer: WriterDomain,
    verdicts: Verdicts,
    live: LiveKeys,
    pub(super) gate: Gate,
    pub(super) metrics: KeyMetrics,
}

impl Lessor {
    pub(super) fn new(
        custodian: Arc<dyn Custodian>,
        directory: Arc<dyn Directory>,
        settings: LeaseSettings,
        writer: WriterDomain,
        metrics: KeyMetrics,
    ) -> Self {
        Self {
            custodian: Bounded::new(custodian, &settings, metrics.clone()),
            directory,
            settings,
            writer,
            verdicts: Verdicts::default(),
            live: LiveKeys::default(),
            gate: Gate::default(),
            metrics,
        }
    }

    pub(super) fn act(&self, act: Act, covered: &Revocation, known: Option<Instant>) {
        self.verdicts.clear();
        self.live.act(act, covered, known);
    }

    pub(super) fn outdate(&self, kek: &KekName) {
        // What is known of how the KEK binds still holds.
        self.live.act(Act::Outdate, &Revocation::Kek(kek.clone()), None);
    }

    /// A new branch key, published. One that cannot be published is dropped.
    pub(super) async fn generate(&self, slot: &SlotId, caller: &Caller) -> Result<Granted, BranchKeyError> {
        let id = BranchId::random().map_err(CustodyError::from)?;
        let SlotId { kek, purpose, bucket } = slot.clone();
        let context = BranchContext { purpose, bucket, writer: self.writer.clone(), id };
        let (epoch, asked) = (self.live.epoch(), Instant::now());
        self.not_refused(&kek)?;
        let (secret, wrapped) = self.custodian.generate(&kek, &context, caller).await?;
        match self.prove(&kek, &context, &wrapped, caller).await {
            // A write-only caller cannot try whether the KEK binds. Whoever reads proves it before anything opens.
            Err(BranchKeyError::Custody(error)) if matches!(*error, CustodyError::Denied) => {
                tracing::warn!(%kek, principal = %caller.principal, "writing under a KEK that this caller cannot prove");
            }
            proof => proof?,
        }
        let material = Material::new(kek, context, wrapped, secret);
        if self.live.refuses(&material, caller, epoch) {
            return Err(BranchKeyError::Revoked);
        }
        let published = self.directory.publish(material.kek(), material.context(), material.wrapped());
        self.within(published).await.inspect_err(|error| {
            let kek = material.kek();
            tracing::warn!(%kek, branch = %id, %error, "a new branch key could not be published and is not used");
        })?;
        let material = self.live.admit(material, epoch);
        Ok(Granted { right: self.live.grant(&material, caller, epoch), asked })
    }

    /// Opens `copy`, or what the directory has in its place if its KEK version is too old.
    pub(super) async fn open(
        &self,
        kek: &KekName,
        context: &BranchContext,
        copy: &WrappedKey,
        caller: &Caller,
    ) -> Result<Granted, BranchKeyError> {
        let (epoch, asked) = (self.live.epoch(), Instant::now());
        self.not_refused(kek)?;
        let (secret, wrapped) = match self.custodian.unwrap(kek, context, copy, caller).await {
            Err(CustodyError::VersionTooOld) => {
                let newest = self.within(self.directory.newest(kek, context)).await?;
                let newest = newest.ok_or(BranchKeyError::NotInDirectory)?;
                (self.custodian.unwrap(kek, context, &newest, caller).await?, newest)
            }
            opened => (opened?, copy.clone()),
        };
        self.prove(kek, context, &wrapped, caller).await?;
        let material = self.live.admit(Material::new(kek.clone(), context.clone(), wrapped, secret), epoch);
        let right = self.live.grant(&material, caller, epoch);
        if right.is_revoked() {
            return Err(BranchKeyError::Revoked);
        }
        Ok(Granted { right, asked })
    }

    /// Asks the custodian whether `caller` may go on using `material`.
    pub(super) async fn authorise(&self, material: &Arc<Material>, caller: &Caller) -> Result<Granted, CustodyError> {
        let (epoch, asked) = (self.live.epoch(), Instant::now());
        let opened = self.custodian.unwrap(material.kek(), material.context(), material.wrapped(), caller).await?;
        if !material.is(&opened) {
            return Err(CustodyError::NotAuthentic);
        }
        Ok(Granted { right: self.live.grant(material, caller, epoch), asked })
    }

    /// Whether the KEK of `material` has a newer version than the one that it was generated under. A rewrap tells, which needs
    /// no right beyond those of Transit's keys; the wrapping that it gives is not used.
    pub(super) async fn has_newer(&self, material: &Material, caller: &Caller) -> Result<bool, CustodyError> {
        let (kek, context, wrapped) = (material.kek(), material.context(), material.wrapped());
        let newest = self.custodian.rewrap(kek, context, wrapped, caller).await?;
        Ok(newest.version() > wrapped.version())
    }

    fn not_refused(&self, kek: &KekName) -> Result<(), BranchKeyError> {
        match self.verdicts.of(kek) {
            Some(Verdict::Refused(_)) => Err(BranchKeyError::NotDerived),
            Some(Verdict::Proven) | None => Ok(()),
        }
    }

    /// Proves once per KEK that it binds to the context, with a branch key that is known to open under `context`
    /// (or was just generated for it).
    async fn prove(
        &self,
        kek: &KekName,
        context: &BranchContext,
        wrapped: &WrappedKey,
        caller: &Caller,
    ) -> Result<(), BranchKeyError> {
        if self.verdicts.of(kek) == Some(Verdict::Proven) {
            return Ok(());
        }
        let proof = prove_bound(&self.custodian, kek, context, wrapped, caller).await;
        match &proof {
            Ok(()) => self.verdicts.proven(kek),
            Err(DerivationError::NotDerived | DerivationError::NotOpened) => {
                tracing::error!(%kek, "the KEK does not derive by context; it is refused");
                self.verdicts.refused(kek, Duration::from_secs(self.settings.not_found_s));
            }
            Err(DerivationError::WriteOnly | DerivationError::Custody(_)) => {}
        }
        Ok(proof?)
    }

    async fn within<T>(&self, answer: impl Future<Output = Result<T, DirectoryError>>) -> Result<T, BranchKeyError> {
        let answer = timeout(self.settings.directory_deadline(), answer).await;
        Ok(answer.map_err(|_| BranchKeyError::DirectoryTimeout)??)
    }
}

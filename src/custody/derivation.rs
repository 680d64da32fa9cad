//! The proof that a KEK binds branch keys to their context.
//!
//! A KEK of Vault or OpenBao that was made by hand without `derived` silently ignores the context; a key made for one
//! bucket would then open for another. So each KEK is tried before it is used.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::crypto;
use crate::names::{BranchId, KekName};

use super::caller::Caller;
use super::context::BranchContext;
use super::wrapped::WrappedKey;
use super::{Custodian, CustodyError};

/// KEKs whose verdict is kept. The names come from configuration; beyond this they are proven again.
const VERDICTS_MAX: usize = 4096;

/// Why a KEK is not proven to derive by context.
#[derive(Debug, thiserror::Error)]
pub enum DerivationError {
    /// A branch key opened under another context than its own.
    #[error("the KEK ignores the context (was it created without `derived`?)")]
    NotDerived,
    /// A branch key did not open under its own context, or opened to something else.
    #[error("the KEK does not open what it wrapped")]
    NotOpened,
    /// The caller may generate and not unwrap: whoever reads what it writes proves the KEK first.
    #[error("the caller may only write, which proves nothing about the KEK")]
    WriteOnly,
    /// The custodian refused or failed before the proof was complete.
    #[error(transparent)]
    Custody(#[from] CustodyError),
}

/// Proves that `kek` derives by context: a branch key generated for `context` opens for it and for no other.
///
/// # Errors
/// [`DerivationError`]; `caller` must be allowed to generate and to unwrap.
pub async fn prove_derivation(
    custodian: &dyn Custodian,
    kek: &KekName,
    context: &BranchContext,
    caller: &Caller,
) -> Result<(), DerivationError> {
    let (secret, wrapped) = custodian.generate(kek, context, caller).await?;
    let opened = match custodian.unwrap(kek, context, &wrapped, caller).await {
        Err(CustodyError::NotAuthentic) => return Err(DerivationError::NotOpened),
        Err(CustodyError::Denied) => return Err(DerivationError::WriteOnly),
        opened => opened?,
    };
    if !crypto::constant_time_eq(secret.expose(), opened.expose()) {
        return Err(DerivationError::NotOpened);
    }
    prove_bound(custodian, kek, context, &wrapped, caller).await
}

/// The second half of the proof, with a branch key at hand that opens under `context`: it does not open under another id.
pub(super) async fn prove_bound(
    custodian: &dyn Custodian,
    kek: &KekName,
    context: &BranchContext,
    wrapped: &WrappedKey,
    caller: &Caller,
) -> Result<(), DerivationError> {
    let other = BranchContext { id: BranchId::random().map_err(CustodyError::from)?, ..context.clone() };
    match custodian.unwrap(kek, &other, wrapped, caller).await {
        Err(CustodyError::NotAuthentic) => Ok(()),
        Ok(_) => Err(DerivationError::NotDerived),
        Err(error) => Err(error.into()),
    }
}

/// What is known of a KEK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Proven,
    /// It ignores the context; looked at again after this.
    Refused(Instant),
}

/// The verdicts so far.
#[derive(Default)]
pub(super) struct Verdicts(Mutex<HashMap<KekName, Verdict>>);

impl Verdicts {
    fn known(&self) -> MutexGuard<'_, HashMap<KekName, Verdict>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, kek: &KekName) -> Option<Verdict> {
        let verdict = self.known().get(kek).copied();
        verdict.filter(|verdict| !matches!(verdict, Verdict::Refused(until) if *until <= Instant::now()))
    }

    pub(super) fn proven(&self, kek: &KekName) {
        self.put(kek, Verdict::Proven);
    }

    pub(super) fn refused(&self, kek: &KekName, keep: Duration) {
        self.put(kek, Verdict::Refused(Instant::now() + keep));
    }

    fn put(&self, kek: &KekName, verdict: Verdict) {
        let mut known = self.known();
        if known.len() >= VERDICTS_MAX {
            known.clear();
        }
        known.insert(kek.clone(), verdict);
    }

    /// After a revocation nothing is taken for granted: the KEK may have been made anew.
    pub(super) fn clear(&self) {
        self.known().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custody::fake::{self, FakeCustodian};

    async fn prove(custodian: &FakeCustodian) -> Result<(), DerivationError> {
        prove_derivation(custodian, &fake::kek(), &fake::context(1), &fake::caller("alice")).await
    }

    #[tokio::test]
    async fn a_kek_that_binds_is_proven_and_one_that_ignores_context_refused() {
        let custodian = FakeCustodian::default();
        assert!(prove(&custodian).await.is_ok());
        custodian.ignore_context();
        assert!(matches!(prove(&custodian).await, Err(DerivationError::NotDerived)));
    }

    #[tokio::test]
    async fn no_answer_is_no_proof() {
        let custodian = FakeCustodian::default();
        custodian.refuse_unwrap("alice");
        assert!(matches!(prove(&custodian).await, Err(DerivationError::WriteOnly)));
    }
}

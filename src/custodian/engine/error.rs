//! Why the engine does not do what it is asked.

use std::sync::Arc;

use crate::crypto::RandomFailed;
use crate::custodian::approval::{ApprovalError, InvalidProposal};
use crate::custodian::audit::AuditFailed;
use crate::custodian::backup::BackupRefused;
use crate::custodian::destruction::DestructionRefused;
use crate::custodian::grant::InvalidGrant;
use crate::custodian::kek::{InvalidLabels, KeyringError};
use crate::custodian::policy::PolicyError;
use crate::custodian::revocation::InvalidRevocation;
use crate::custodian::store::StoreError;
use crate::names::KekVersion;

use super::census::Retirement;

/// Why the engine did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Policy, or a rule above it, says no.
    #[error("permission denied")]
    Denied,
    /// It was refused without being written down one by one, because the requester was refused so often before.
    #[error("permission denied too often")]
    DeniedTooOften,
    /// A branch key's context names the writer domain of someone else, or such a key was not to be made by the custodian itself.
    #[error("the context is a branch key's that is not the requester's to make")]
    ContextOfOther,
    /// A branch key is bound to its context, which only a derived KEK does.
    #[error("branch keys need a KEK that is derived")]
    NotDerived,
    /// Two people have to approve it. The same call by the same requester does it once they have.
    #[error("approval required")]
    Gated {
        /// What to approve.
        proposal_id: String,
    },
    /// The decision could not be written down.
    #[error(transparent)]
    Audit(#[from] AuditFailed),
    /// The KEK does not do it.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The store does not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The branch key is not in the ledger, and is therefore not given out.
    #[error("the ledger of branch keys cannot be written")]
    Ledger(#[source] Arc<StoreError>),
    /// The ledger has a branch key of that id. Asking for one of another id helps.
    #[error("there is a branch key of this id already")]
    BranchTaken,
    /// The store was not seen for longer than the grace; it goes on by itself when it is back.
    #[error("the store was not seen lately, so that nobody knows which keys are still on")]
    Stale,
    /// The store went back or was altered; nothing is done until someone looked and started the custodian again.
    #[error("the store went back or was altered while the custodian ran; nothing is done until it is started again")]
    Halted,
    /// Too many requests wait. Trying again helps.
    #[error("too many requests at once")]
    Busy,
    /// There is no such proposal.
    #[error("there is no such proposal")]
    NoSuchProposal,
    /// There is no such grant.
    #[error("there is no such grant")]
    NoSuchGrant,
    /// Nobody of that name is revoked.
    #[error("nobody of that name is revoked")]
    NoSuchRevocation,
    /// The proposal or grant is not to be approved, denied or carried out so.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
    /// What is asked for cannot be proposed.
    #[error(transparent)]
    Proposal(#[from] InvalidProposal),
    /// What is asked for cannot be granted.
    #[error(transparent)]
    Grant(#[from] InvalidGrant),
    /// What is asked for cannot be revoked.
    #[error(transparent)]
    Revocation(#[from] InvalidRevocation),
    /// With those that every KEK gets, there are too many labels.
    #[error(transparent)]
    Labels(#[from] InvalidLabels),
    /// What is to be destroyed, or was.
    #[error(transparent)]
    Destruction(#[from] DestructionRefused),
    /// The certificate of destruction does not fit into a note, so that nothing was erased.
    #[error("the certificate of destruction would be too long: nothing was erased")]
    CertificateTooLong,
    /// A backup that is not made or not restored.
    #[error(transparent)]
    Backup(#[from] BackupRefused),
    /// No randomness on this machine.
    #[error(transparent)]
    Random(#[from] RandomFailed),
    /// Too many proposals of one requester, grants or revocations.
    #[error("too many are open already")]
    TooMany,
    /// Branch keys need the versions that are to be retired.
    #[error(
        "{} branch keys still need a version before {}, {} were not read back since the time in which proxies may have been given others, \
         which ends in {} s: `claviger key rewrap`, then `claviger key retire`",
        .0.needed, .0.before, .0.unconfirmed, .0.wait_s
    )]
    StillNeeded(Retirement),
    /// The KEK came from a backup, and its ledger may lack branch keys.
    #[error(
        "this key came from a backup (of version {0}): branch keys that its ledger does not know may hang on any version up to that. First \
         `claviger key adopt`, and when all is found, `claviger key declare-whole`"
    )]
    LedgerNotWhole(KekVersion),
    /// Branch keys hang on the KEK that is to be deleted.
    #[error("branch keys, and so records, hang on this key: `claviger key destroy` is the way to erase it")]
    HasBranchKeys,
    /// Branch keys hang on the KEK whose old versions are to be erased.
    #[error("branch keys hang on this key: `claviger key destroy NAME:vN` is the way to erase old versions of it")]
    TrimsBranchKeys,
    /// No site of that name has to hold the directory.
    #[error("the custodian knows no site of that name: `[keys] sites` and `[[keys.site]]` in its configuration")]
    NoSuchSite,
    /// The policy is not right.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The policy is longer than the store takes.
    #[error("the policy is too long")]
    PolicyTooLong,
}

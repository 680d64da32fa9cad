//! The audit log: the decision about each use of a key, written before the key is touched.
//!
//! An entry is one JSON object (`audit/entry.rs`) in a tiled Merkle log ([`crate::tlog`]), whose key the sealed store keeps and whose head it notes.
//!
//! **Invariant:** a [`Permit`] exists only after an entry that allows its use was durably written.
//! **Invariant:** an entry names a generation that the store had reached, so that a store which is older than its log shows. After what
//! takes something away there is an entry that names the generation with the change, before anybody hears that it was made.

pub(super) mod entry;
mod open;

use std::sync::Arc;

use time::OffsetDateTime;

use crate::custody::context::BranchContext;
use crate::names::{KekName, KekVersion};
use crate::telemetry::metrics::Counters;
use crate::tlog::log::Log;
use crate::tlog::{LogError, Receipt};

use super::kek::Labels;
use super::requester::Requester;
use super::store::LogHead;

pub use open::{AuditOpenError, AuditSettings};

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// What is done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Action {
            $($(#[$doc])* $name,)+
        }

        impl Action {
            /// Every action.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// As it stands in policies and in the log.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

actions! {
    /// Make a KEK.
    Create = "create",
    /// Tell about a KEK.
    Read = "read",
    /// Tell which KEKs there are.
    List = "list",
    /// Make a key and give it out wrapped, with or without its plaintext.
    Generate = "generate",
    /// Encrypt what the requester sends.
    Encrypt = "encrypt",
    /// Open what was wrapped or encrypted.
    Unwrap = "unwrap",
    /// Move what was wrapped to another version.
    Rewrap = "rewrap",
    /// Add a version.
    Rotate = "rotate",
    /// Change a KEK's settings.
    Configure = "configure",
    /// Erase old versions.
    Trim = "trim",
    /// Erase a KEK.
    Delete = "delete",
    /// Mark a KEK as deleted.
    SoftDelete = "soft-delete",
    /// Take that back.
    Restore = "restore",
    /// Switch a KEK off.
    Disable = "disable",
    /// Switch it on again.
    Enable = "enable",
    /// Have a KEK, or its old versions, destroyed after a waiting period.
    Destroy = "destroy",
    /// Erase what that period has passed for.
    Erase = "erase",
    /// Call a destruction off.
    CancelDestruction = "cancel-destruction",
    /// Give KEKs out, encrypted to officers.
    Backup = "backup",
    /// Take KEKs in from such a backup.
    RestoreBackup = "restore-backup",
    /// Send one's share of such a backup.
    GiveShare = "give-share",
    /// Shut a principal or a certificate out.
    Revoke = "revoke",
    /// Let it in again.
    Reinstate = "reinstate",
    /// Propose what two people have to approve.
    Propose = "propose",
    /// Approve it.
    Approve = "approve",
    /// Forbid it.
    Veto = "veto",
    /// Ask for leave to use keys for a time.
    RequestGrant = "request-grant",
    /// Give it.
    ApproveGrant = "approve-grant",
    /// End it early.
    EndGrant = "end-grant",
    /// Tell which proposals there are.
    ReadProposals = "read-proposals",
    /// Tell which grants there are.
    ReadGrants = "read-grants",
    /// Tell who is shut out.
    ReadRevocations = "read-revocations",
    /// Show the policy.
    ReadPolicy = "read-policy",
    /// Put another policy in force.
    ChangePolicy = "change-policy",
    /// Read the audit log.
    ReadAudit = "read-audit",
    /// Add a witness's signature to a checkpoint.
    Cosign = "cosign",
    /// Be told of changes as they happen.
    Watch = "watch",
    /// Seal the custodian.
    Seal = "seal",
    /// Unseal it.
    Unseal = "unseal",
    /// The custodian opened store and log.
    Start = "start",
    /// The custodian notes something of itself: that a change is in the store, or how many entries were left out.
    Note = "note",
}

/// What someone asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// What.
    pub action: Action,
    /// The KEK, where it is about one.
    pub kek: Option<KekName>,
    /// The version, where it is about one.
    pub version: Option<KekVersion>,
    /// The KEK's labels; the log does not repeat them.
    pub labels: Labels,
    /// SHA-256 of the context's bytes, where there is a context.
    pub context_hash: Option<[u8; 32]>,
    /// The context, where it is a branch key's.
    pub branch: Option<BranchContext>,
    /// Who or what else it is about: a principal, the id of a proposal or grant.
    pub subject: Option<String>,
}

impl Use {
    /// Of the custodian as a whole.
    pub fn of_custodian(action: Action) -> Self {
        Self {
            action,
            kek: None,
            version: None,
            labels: Labels::default(),
            context_hash: None,
            branch: None,
            subject: None,
        }
    }

    /// Of a KEK.
    pub fn of_kek(action: Action, kek: &KekName, version: Option<KekVersion>, labels: &Labels) -> Self {
        Self { kek: Some(kek.clone()), version, labels: labels.clone(), ..Self::of_custodian(action) }
    }

    /// About someone or something.
    #[must_use]
    pub fn about(self, subject: &str) -> Self {
        Self { subject: Some(subject.to_owned()), ..self }
    }
}

/// What was decided about a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may go ahead.
    Allow,
    /// It may not.
    Deny,
}

impl Decision {
    /// As it stands in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// A decision, and what led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The decision.
    pub decision: Decision,
    /// SHA-256 of the policy in force.
    pub policy: [u8; 32],
    /// Ids of the rules that decided, at most 8.
    pub rules: Vec<String>,
    /// The access grant that it stands on.
    pub grant: Option<String>,
    /// The fixed rule that denied, which no policy can override.
    pub denied_by: Option<&'static str>,
}

/// What an entry tells besides who, what and the decision.
#[derive(Debug, Clone, Default)]
pub struct Details {
    /// The generation of the store: before the change that the entry is about, or in a note, with it.
    pub generation: u64,
    /// The proposal that allows a gated change.
    pub proposal: Option<String>,
    /// What the action is about in full, such as a proposal's whole document.
    pub detail: Option<serde_json::Value>,
}

impl Details {
    /// With nothing to add.
    pub fn at(generation: u64) -> Self {
        Self { generation, ..Self::default() }
    }
}

/// The entry could not be written in time; the use is refused.
#[derive(Debug, thiserror::Error)]
#[error("the audit log cannot be written")]
pub struct AuditFailed(#[from] pub LogError);

/// Leave for one use of one key, to be given up on using it.
#[must_use = "an allowed use was written to the log and then not made"]
#[derive(Debug)]
pub struct Permit(());

/// The log, which alone gives out permits.
pub struct AuditLog {
    log: Arc<Log>,
    instance: String,
    /// By action and decision.
    decisions: Option<Counters<2>>,
}

impl AuditLog {
    /// Writes the decision down. Gives a permit for what is allowed, and none for what is denied; the receipt tells where the entry stands.
    ///
    /// # Errors
    /// [`AuditFailed`], within the log's deadline: what cannot be written must not happen.
    pub async fn record(
        &self,
        who: &Requester,
        what: &Use,
        verdict: &Verdict,
        more: Details,
    ) -> Result<(Option<Permit>, Receipt), AuditFailed> {
        let entry = entry::to_bytes(&self.instance, OffsetDateTime::now_utc(), who, what, verdict, &more);
        let receipt = self.log.append(entry).await?;
        if let Some(decisions) = &self.decisions {
            decisions.inc([what.action.as_str(), verdict.decision.as_str()]);
        }
        let permit = match verdict.decision {
            Decision::Allow => Some(Permit(())),
            Decision::Deny => None,
        };
        Ok((permit, receipt))
    }

    /// With its decisions counted in `decisions`, by action and decision.
    #[must_use]
    pub fn counted(self, decisions: Counters<2>) -> Self {
        Self { decisions: Some(decisions), ..self }
    }

    /// The log, to read, to prove and to publish from.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The name of the custodian that writes it.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Whether entries can be written.
    pub fn is_well(&self) -> bool {
        self.log.failure().is_none()
    }

    /// How far the log is, as its latest checkpoint says.
    pub fn head(&self) -> LogHead {
        let checkpoints = self.log.checkpoints();
        let signed = checkpoints.borrow();
        LogHead { size: signed.checkpoint().size(), root: signed.checkpoint().root().0 }
    }
}

/// For tests of what needs a permit.
#[cfg(test)]
pub(super) fn permit() -> Permit {
    Permit(())
}

#[cfg(test)]
mod tests;

//! The audit log: the decision about each use of a key, written before the key is touched.
//!
//! **Invariant:** a [`Permit`] exists only after an entry that allows its use was durably written.

mod file;

use time::OffsetDateTime;

use crate::crypto;
use crate::custody::caller::Caller;
use crate::custody::context::BranchContext;
use crate::names::{KekName, KekVersion};

pub use file::FileSink;

/// What is done with a KEK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Make a branch key.
    Generate,
    /// Open a branch key.
    Unwrap,
    /// Move a branch key to the newest version.
    Rewrap,
    /// Make the KEK.
    Create,
    /// Add a version.
    Rotate,
    /// Switch the KEK off.
    Disable,
    /// Switch it on again.
    Enable,
    /// Change the oldest version that is opened.
    SetMinDecryptionVersion,
}

impl Action {
    /// As it stands in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Unwrap => "unwrap",
            Self::Rewrap => "rewrap",
            Self::Create => "create",
            Self::Rotate => "rotate",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::SetMinDecryptionVersion => "set-min-decryption-version",
        }
    }
}

/// A use of a KEK that someone asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// What.
    pub action: Action,
    /// The KEK.
    pub kek: KekName,
    /// The version it would be, where there is one.
    pub version: Option<KekVersion>,
    /// SHA-256 of the context's bytes, where there is a context.
    pub context_hash: Option<[u8; 32]>,
}

impl Use {
    /// Of a KEK as a whole.
    pub fn of_kek(action: Action, kek: &KekName, version: Option<KekVersion>) -> Self {
        Self { action, kek: kek.clone(), version, context_hash: None }
    }

    /// Of a KEK for one branch key.
    pub fn of_branch(action: Action, kek: &KekName, version: Option<KekVersion>, context: &BranchContext) -> Self {
        let context_hash = Some(crypto::sha256(&context.to_bytes()));
        Self { action, kek: kek.clone(), version, context_hash }
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

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When it was decided.
    pub at: OffsetDateTime,
    /// Who asked, and the reason they gave.
    pub who: Caller,
    /// What for.
    pub what: Use,
    /// The decision.
    pub decision: Decision,
}

/// The entry could not be written; the use is refused.
#[derive(Debug, thiserror::Error)]
#[error("the audit log cannot be written")]
pub struct AuditFailed(#[from] std::io::Error);

/// Where entries go.
pub trait AuditSink: Send + Sync {
    /// Returns when the entry is durable. Blocks on I/O.
    ///
    /// # Errors
    /// [`AuditFailed`].
    fn append(&self, entry: &Entry) -> Result<(), AuditFailed>;
}

/// Leave for one use of one key, to be given up on using it.
#[must_use = "an allowed use was written to the log and then not made"]
#[derive(Debug)]
pub struct Permit(());

/// The log, which alone gives out permits.
pub struct AuditLog(Box<dyn AuditSink>);

impl AuditLog {
    /// That writes to `sink`.
    pub fn new(sink: impl AuditSink + 'static) -> Self {
        Self(Box::new(sink))
    }

    /// Writes the decision down. Gives a permit for what is allowed, and `None` for what is denied.
    ///
    /// # Errors
    /// [`AuditFailed`]: what cannot be written must not happen.
    pub fn record(&self, who: &Caller, what: Use, decision: Decision) -> Result<Option<Permit>, AuditFailed> {
        let entry = Entry { at: OffsetDateTime::now_utc(), who: who.clone(), what, decision };
        self.0.append(&entry)?;
        Ok(match decision {
            Decision::Allow => Some(Permit(())),
            Decision::Deny => None,
        })
    }
}

/// For tests of what needs a permit.
#[cfg(test)]
pub(super) fn permit() -> Permit {
    Permit(())
}

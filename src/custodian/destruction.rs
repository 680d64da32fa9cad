//! Destroying a KEK, or its old versions: scheduled by a quorum, erased by a second one after a waiting period, and certified.
//!
//! What is erased is the key material in the custodian's store. What that does not reach, and the certificate therefore tells or
//! leaves to its reader: backups of the KEK that the custodian made ([`super::backup`]), which their officers open; and older copies of
//! the custodian's store, which whoever has the seal's shares opens. SQLite overwrites what is removed, but its write-ahead log, and
//! PostgreSQL's tables until they are vacuumed, hold the sealed record for a while: it opens as little without the seal as any copy does.
//!
//! **Invariant:** a record that says erased is a tombstone: it is never changed again, and nothing of its name is made or restored.

mod certificate;
mod codec;

use serde_json::{Value, json};

use crate::names::{KekName, KekVersion};

use super::approval::Proposal;
use super::approval::json::rfc3339;
use super::identity::SpiffeId;
use super::kek::Labels;

pub use certificate::{
    BACKUPS_TOLD, Certified, InvalidCertificate, Lost, certificate_text, read_certificate, signatures_left_out,
};

const DAY_S: u64 = 24 * 3600;

/// What is destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The KEK.
    pub kek: KekName,
    /// This version and all before it; `None` for all of the KEK.
    pub through: Option<KekVersion>,
}

impl Target {
    /// All of a KEK.
    pub fn whole(kek: &KekName) -> Self {
        Self { kek: kek.clone(), through: None }
    }

    /// Whether it takes that version away.
    pub fn covers(&self, version: KekVersion) -> bool {
        self.through.is_none_or(|through| version <= through)
    }

    /// What the record is called: `records`, or `records:v2`. Names of KEKs have no colon.
    pub fn record_name(&self) -> String {
        match self.through {
            None => self.kek.as_str().to_owned(),
            Some(version) => format!("{}:v{}", self.kek, version.number()),
        }
    }
}

/// How long is waited between the two quorums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Seconds.
    pub seconds: u64,
    /// It may be shorter than anyone could step in: for looking at it only.
    pub insecure: bool,
}

impl Wait {
    /// So many days.
    pub const fn days(days: u64) -> Self {
        Self { seconds: days * DAY_S, insecure: false }
    }
}

/// Where a destruction stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It was approved, and is waited for.
    Waiting,
    /// It was called off.
    Cancelled {
        /// By whom.
        by: SpiffeId,
        /// When.
        at_unix_s: i64,
    },
    /// It is done, for good.
    Erased {
        /// When.
        at_unix_s: i64,
        /// The signed note.
        certificate: String,
    },
}

/// A destruction: what, who wanted and approved it, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destruction {
    /// What.
    pub target: Target,
    /// The KEK's labels, by which policy still decides when the KEK is gone.
    pub labels: Labels,
    /// How long is waited, as it was configured when the waiting began.
    pub wait: Wait,
    /// The first quorum's proposal, carried out.
    pub scheduled: Proposal,
    /// Where it stands.
    pub state: State,
}

/// What cannot be destroyed, or cannot be done because of a destruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DestructionRefused {
    /// The KEK, or those versions of it, were destroyed.
    #[error("it was destroyed: a destroyed name is never used or restored again")]
    Destroyed,
    /// The change would save or remove what is to be destroyed.
    #[error("a destruction is under way: cancel it first (`claviger key destroy NAME --cancel`, by one officer)")]
    UnderWay,
    /// Nothing is scheduled.
    #[error("no destruction is under way: `destroy` comes first, with its approvals and its waiting period")]
    NotScheduled,
    /// The waiting period lasts.
    #[error("the waiting period lasts until {}", rfc3339(*.due_unix_s))]
    NotDue {
        /// When it ends.
        due_unix_s: i64,
    },
    /// Something may still hang on those versions.
    #[error(
        "version {through} is still opened: move what hangs on it (`claviger key rewrap`), then raise min_decryption_version \
         above it, which is {min_decryption} now; only retired versions are destroyed"
    )]
    NotRetired {
        /// The newest of the versions.
        through: u32,
        /// The oldest version that is opened.
        min_decryption: u32,
    },
    /// The KEK came from a backup, and branch keys that its ledger does not know may hang on those versions.
    #[error(
        "the key came from a backup (of version {0}), and nobody declared its ledger whole since: `claviger key adopt` first"
    )]
    LedgerNotWhole(KekVersion),
    /// There are none of those versions.
    #[error("the KEK has no version up to this one any more, or has none so new")]
    NoSuchVersion,
}

impl Destruction {
    /// When the waiting began.
    pub fn scheduled_unix_s(&self) -> i64 {
        self.scheduled.executed_unix_s().unwrap_or(i64::MAX)
    }

    /// When it may be erased.
    pub fn due_unix_s(&self) -> i64 {
        self.scheduled_unix_s().saturating_add_unsigned(self.wait.seconds)
    }

    /// Whether it was approved and neither called off nor done.
    pub fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// Whether it is done.
    pub fn is_erased(&self) -> bool {
        matches!(self.state, State::Erased { .. })
    }

    /// The signed note, when it is done.
    pub fn certificate(&self) -> Option<&str> {
        match &self.state {
            State::Erased { certificate, .. } => Some(certificate),
            State::Waiting | State::Cancelled { .. } => None,
        }
    }

    /// For the API.
    pub fn to_json(&self, now_unix_s: i64) -> Value {
        let (state, cancelled, erased, certificate) = match &self.state {
            State::Waiting if now_unix_s < self.due_unix_s() => ("waiting", None, None, None),
            State::Waiting => ("due", None, None, None),
            State::Cancelled { by, at_unix_s } => {
                ("cancelled", Some(json!({ "by": by.as_str(), "at": rfc3339(*at_unix_s) })), None, None)
            }
            State::Erased { at_unix_s, certificate } => ("erased", None, Some(rfc3339(*at_unix_s)), Some(certificate)),
        };
        json!({
            "kek": self.target.kek.as_str(),
            "version": self.target.through.map(KekVersion::number),
            "state": state,
            "requested_by": self.scheduled.document().requester.as_str(),
            "scheduled": rfc3339(self.scheduled_unix_s()),
            "proposal": self.scheduled.id(),
            "wait_s": self.wait.seconds,
            "insecure_wait": self.wait.insecure,
            "due": rfc3339(self.due_unix_s()),
            "cancelled": cancelled,
            "erased": erased,
            "certificate": certificate,
        })
    }
}

/// For fuzzing: whatever parses as a destruction is written back byte for byte.
#[doc(hidden)]
pub fn fuzz_destruction(bytes: &[u8]) {
    if let Ok(destruction) = Destruction::parse(bytes) {
        assert_eq!(destruction.to_bytes(), bytes);
    }
}

/// For fuzzing: what nobody signed passes for approved only where it says that signatures were left out.
#[doc(hidden)]
pub fn fuzz_certificate(text: &[u8]) {
    let Ok(certificate) = crate::custodian::approval::json::parse_json(text) else { return };
    let left_out = signatures_left_out(&certificate);
    assert!(certificate::is_approved(&certificate).is_none() || left_out > 0);
}

#[cfg(test)]
mod tests;

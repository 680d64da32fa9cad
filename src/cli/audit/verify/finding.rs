//! What is wrong with a log, for people and for programs, and what that means.

use std::fmt;
use std::path::Path;

use serde_json::{Value, json};

use crate::tlog::checkpoint::InvalidCheckpoint;
use crate::tlog::proof_file::NotProved;
use crate::tlog::verify::VerifyError;
use crate::tlog::witness::NoQuorum;

/// Something that speaks against a log or those who keep it.
#[derive(Debug)]
pub(super) struct Finding {
    /// For programs; it does not change.
    problem: &'static str,
    entry: Option<u64>,
    what: String,
    meaning: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.what, self.meaning)
    }
}

impl std::error::Error for Finding {}

const REWRITTEN: &str =
    "Someone changed what the log had signed. Keep the folder as evidence, and compare with a copy.";
const TWO_HISTORIES: &str = "The log's key has signed two histories, or an old state was put back: whoever holds the key or the \
    disk shows different logs to different people. Keep both checkpoints: together they prove it.";
const FORGED: &str =
    "The checkpoint was not signed by the log's key, or was changed afterwards. Nothing below it can be believed.";
const LOST: &str = "Entries that were acknowledged are damaged. A disk error or a cut does that as well as a person.";
const UNREADABLE: &str = "Whether the log is whole could not be found out.";
const UNVOUCHED: &str = "Nobody but the log itself says that this is the history that all were shown.";
const RECEIPT: &str = "The custodian acknowledged an entry that is not there: the log was rewritten or put back, or the receipt \
    is of another log.";
const UNAPPROVED: &str =
    "What needs two people was done without them, or the custodian's log claims approvals that nobody gave.";

impl Finding {
    fn new(problem: &'static str, entry: Option<u64>, what: impl ToString, meaning: &'static str) -> Self {
        Self { problem, entry, what: what.to_string(), meaning }
    }

    pub(super) fn of_log(error: VerifyError) -> Self {
        let (problem, entry, meaning) = match &error {
            VerifyError::Altered { index } => ("altered", Some(*index), REWRITTEN),
            VerifyError::Removed { index } => ("removed", Some(*index), REWRITTEN),
            VerifyError::Inserted { index } => ("inserted", Some(*index), REWRITTEN),
            VerifyError::Reordered { index, .. } => ("reordered", Some(*index), REWRITTEN),
            VerifyError::Truncated { index, .. } => ("truncated", Some(*index), REWRITTEN),
            VerifyError::Rewritten { from } => ("rewritten", Some(*from), REWRITTEN),
            VerifyError::TileAltered { .. } => ("tile-altered", None, REWRITTEN),
            VerifyError::RolledBack { size, .. } => ("rolled-back", Some(*size), TWO_HISTORIES),
            VerifyError::CheckpointRolledBack { signed, .. } => ("rolled-back", Some(*signed), TWO_HISTORIES),
            VerifyError::Fork { .. } => ("fork", None, TWO_HISTORIES),
            VerifyError::NoCheckpoint => ("no-checkpoint", None, FORGED),
            VerifyError::Checkpoint(InvalidCheckpoint::Origin) => ("other-log", None, FORGED),
            VerifyError::Checkpoint(_) => ("forged", None, FORGED),
            VerifyError::JournalDamaged { index } => ("journal-damaged", Some(*index), LOST),
            VerifyError::Read(_) => ("unreadable", None, UNREADABLE),
        };
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::new(problem, entry, format!("{error}{cause}"), meaning)
    }

    pub(super) fn of_older(path: &Path, error: InvalidCheckpoint) -> Self {
        let what = format!("{}: {error}", path.display());
        Self::new("older-forged", None, what, "That file is no checkpoint of this log, so it says nothing about it.")
    }

    pub(super) fn of_cosigned(error: InvalidCheckpoint) -> Self {
        Self::new("forged", None, format!("the log's cosigned checkpoint: {error}"), FORGED)
    }

    pub(super) fn of_witnesses(error: &NoQuorum) -> Self {
        let problem = match error {
            NoQuorum::TooFew { .. } => "no-quorum",
            NoQuorum::Forged(_) => "cosignature-forged",
            NoQuorum::Future(_) => "cosignature-from-the-future",
        };
        Self::new(problem, None, error, UNVOUCHED)
    }

    pub(super) fn not_covered(index: u64, size: u64, after_checkpoint: u64) -> Self {
        let what = format!("the receipt of entry {index} is not covered: the log's checkpoint has {size} entries");
        if index < size + after_checkpoint {
            let meaning = "The entry waits for the next checkpoint, which comes within seconds while the log is in use. Check again.";
            return Self::new("not-covered-yet", Some(index), what, meaning);
        }
        Self::new("receipt-missing", Some(index), what, RECEIPT)
    }

    pub(super) fn other_entry(index: u64) -> Self {
        Self::new("receipt-differs", Some(index), format!("entry {index} is not the one of its receipt"), RECEIPT)
    }

    pub(super) fn unapproved(index: u64, what: String) -> Self {
        Self::new("not-approved", Some(index), what, UNAPPROVED)
    }

    pub(super) fn of_proof(error: NotProved) -> Self {
        match error {
            NotProved::Checkpoint(error) => Self::new("forged", None, error, FORGED),
            NotProved::Entry { index, .. } => {
                let meaning = "The entry or the proof was changed, or they do not belong together.";
                Self::new("not-proved", Some(index), error, meaning)
            }
        }
    }

    /// Any error, for programs.
    pub(super) fn json_of(error: &anyhow::Error) -> Value {
        match error.downcast_ref::<Self>() {
            Some(Self { problem, entry, what, meaning }) => {
                json!({"ok": false, "problem": problem, "entry": entry, "what": what, "meaning": meaning})
            }
            None => json!({
                "ok": false, "problem": "not-checked", "entry": null, "what": format!("{error:#}"), "meaning": UNREADABLE,
            }),
        }
    }

    #[cfg(test)]
    pub(super) fn problem(&self) -> (&'static str, Option<u64>) {
        (self.problem, self.entry)
    }
}

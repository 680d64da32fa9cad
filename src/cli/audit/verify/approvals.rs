//! Whether what needed two people had them: every approval in a log is checked again, by the officers' certificates alone.
//!
//! A custodian writes an entry before it acts. A conflict with another custodian, or a crash, can leave one without effect, so that the
//! same approved change may stand in the log twice: that is noted, and no finding.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::CertificateDer;
use serde_json::Value;

use super::finding::Finding;
use crate::cli::audit::entry::Entry;
use crate::custodian::approval::json::hex;
use crate::custodian::approval::{Approval, ProposalDocument, REQUIRED_MIN, Subject, Verb, verify_offline};
use crate::custodian::identity;
use crate::net::tls::load_certificates;

/// Most proposals, approvals and changes that are held in memory.
const KEPT_MAX: usize = 200_000;
/// Actions that are always gated where there is something to change: their entries then have a version.
const ALWAYS_GATED: &[&str] = &["trim", "delete", "enable", "destroy", "erase"];

/// Where an entry stands: in which of the logs, and at which index.
type Place = (usize, u64);

struct Proposed {
    document: ProposalDocument,
    hash: [u8; 32],
}

struct Vote {
    place: Place,
    time_s: i64,
    proposal: String,
    approval: Approval,
}

struct Change {
    place: Place,
    time_s: i64,
    proposal: String,
    action: String,
    principal: String,
    kek: Option<String>,
    subject: Option<String>,
    policy: Option<String>,
}

/// What the logs say about proposals.
pub(super) struct Approvals {
    officers_ca: Vec<CertificateDer<'static>>,
    proposals: HashMap<String, Proposed>,
    votes: Vec<Vote>,
    changes: Vec<Change>,
    notes: Vec<String>,
}

/// What was checked and found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Approved {
    pub(super) proposals: usize,
    pub(super) votes: usize,
    pub(super) changes: usize,
    /// What somebody should look at.
    pub(super) notes: Vec<String>,
}

impl Approvals {
    pub(super) fn new(officers_ca: &Path) -> Result<Self> {
        let officers_ca = load_certificates(officers_ca)?;
        Ok(Self { officers_ca, proposals: HashMap::new(), votes: Vec::new(), changes: Vec::new(), notes: Vec::new() })
    }

    /// Takes in an entry of the log number `log`, of those that share a store.
    pub(super) fn take(&mut self, log: usize, entry: &Entry) -> Result<()> {
        let place = (log, entry.index());
        if entry.text("decision") != Some("allow") {
            return Ok(());
        }
        let action = entry.text("action").unwrap_or_default();
        let Some(proposal) = entry.text("proposal") else {
            self.note_ungated(place, action, entry)?;
            return Ok(());
        };
        let kept = self.proposals.len() + self.votes.len() + self.changes.len();
        ensure!(kept < KEPT_MAX, "the log has more than {KEPT_MAX} proposals, approvals and approved changes");
        let malformed = || Finding::approval(place, "the entry lacks what can be checked".to_owned());
        let time_s = entry.time().ok_or_else(malformed)?.unix_timestamp();
        match action {
            "propose" => {
                let detail = entry.field("detail").ok_or_else(malformed)?;
                let document = ProposalDocument::from_json(detail).map_err(|_| malformed())?;
                self.propose(place, proposal, entry, document)?;
            }
            "approve" | "veto" => {
                let verb = if action == "veto" { Verb::Veto } else { Verb::Approve };
                let approval = approval(entry, verb, time_s).ok_or_else(malformed)?;
                self.votes.push(Vote { place, time_s, proposal: proposal.to_owned(), approval });
            }
            _ => {
                let text = |name: &str| entry.text(name).map(str::to_owned);
                self.changes.push(Change {
                    place,
                    time_s,
                    proposal: proposal.to_owned(),
                    action: action.to_owned(),
                    principal: text("principal").unwrap_or_default(),
                    kek: text("kek"),
                    subject: text("subject"),
                    policy: text("policy_sha256"),
                });
            }
        }
        Ok(())
    }

    fn propose(&mut self, place: Place, id: &str, entry: &Entry, document: ProposalDocument) -> Result<()> {
        if document.id != id || entry.text("principal") != Some(document.requester.as_str()) {
            return Err(Finding::approval(place, "the proposal is not that of its entry".to_owned()).into());
        }
        let hash = document.hash();
        if self.proposals.get(id).is_some_and(|known| known.hash != hash) {
            return Err(Finding::approval(place, format!("there are two proposals {id}")).into());
        }
        self.proposals.insert(id.to_owned(), Proposed { document, hash });
        Ok(())
    }

    fn note_ungated(&mut self, (log, index): Place, action: &str, entry: &Entry) -> Result<()> {
        let changes_something = entry.field("version").is_some();
        // Backups are gated as a whole; what names a KEK is the taking in of branch keys, which open by themselves or not at all, and, with a
        // version, that its ledger is whole.
        let copies_keys =
            matches!(action, "backup" | "restore-backup") && (entry.field("kek").is_none() || changes_something);
        if copies_keys || ALWAYS_GATED.contains(&action) && changes_something {
            let what = format!("{action} was allowed without a proposal");
            return Err(Finding::approval((log, index), what).into());
        }
        if matches!(action, "change-policy" | "reinstate") {
            // The first policy of a store, and the reinstatement of who was not shut out, need none.
            self.notes.push(format!("entry {index}{}: {action} without a proposal", of_peer(log)));
            ensure!(self.notes.len() < KEPT_MAX, "the log has more than {KEPT_MAX} changes without a proposal");
        }
        Ok(())
    }

    /// Checks all that was taken in.
    pub(super) fn check(mut self) -> Result<Approved> {
        for vote in &self.votes {
            self.check_vote(vote)?;
        }
        let mut done: HashMap<&str, Place> = HashMap::new();
        let mut notes = std::mem::take(&mut self.notes);
        for change in &self.changes {
            self.check_change(change)?;
            if let Some((log, index)) = done.insert(&change.proposal, change.place) {
                let (again, log_again) = (change.place.1, change.place.0);
                notes.push(format!(
                    "entries {index}{} and {again}{}: both carry out {}; a conflict or a crash leaves one without effect",
                    of_peer(log),
                    of_peer(log_again),
                    change.proposal
                ));
            }
        }
        Ok(Approved { proposals: self.proposals.len(), votes: self.votes.len(), changes: self.changes.len(), notes })
    }

    fn proposed(&self, place: Place, id: &str) -> Result<&Proposed, Finding> {
        let what =
            || format!("the proposal {id} is not in the log; if custodians share a store, name their logs with --peer");
        self.proposals.get(id).ok_or_else(|| Finding::approval(place, what()))
    }

    fn check_vote(&self, vote: &Vote) -> Result<()> {
        let Proposed { document, hash } = self.proposed(vote.place, &vote.proposal)?;
        verify_offline(&vote.approval, Subject::Proposal, hash, &self.officers_ca, vote.time_s)
            .map_err(|error| Finding::approval(vote.place, crate::telemetry::chain(&error)))?;
        let own = vote.approval.verb == Verb::Approve && vote.approval.officer == document.requester;
        if own {
            return Err(Finding::approval(vote.place, "the requester approved their own proposal".to_owned()).into());
        }
        if vote.time_s >= document.expires_unix_s {
            return Err(Finding::approval(vote.place, "it was approved after it had expired".to_owned()).into());
        }
        Ok(())
    }

    fn check_change(&self, change: &Change) -> Result<()> {
        let document = &self.proposed(change.place, &change.proposal)?.document;
        let bad = |what: String| Err(Finding::approval(change.place, what).into());
        let before = |vote: &&Vote| {
            let same_log = vote.place.0 == change.place.0;
            vote.proposal == change.proposal
                && if same_log { vote.place.1 < change.place.1 } else { vote.time_s <= change.time_s }
        };
        let (mut people, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for vote in self.votes.iter().filter(before) {
            if vote.approval.verb == Verb::Veto {
                return bad(format!("{} was vetoed before it was carried out", change.proposal));
            }
            people.insert(&vote.approval.officer);
            keys.insert(identity::key_sha256(&vote.approval.certificate)?);
        }
        let (found, required) = (people.len().min(keys.len()), document.required.max(REQUIRED_MIN));
        if found < usize::from(required) {
            return bad(format!("{} was carried out with {found} of {required} approvals", change.proposal));
        }
        if change.time_s >= document.expires_unix_s {
            return bad(format!("{} was carried out after it had expired", change.proposal));
        }
        if change.policy.as_deref() != Some(hex(&document.policy).as_str()) {
            return bad(format!("{} was approved under another policy", change.proposal));
        }
        if !is_of(change, document) {
            return bad(format!("{} was approved for something else, or for someone else", change.proposal));
        }
        Ok(())
    }
}

/// Whether that is the call that was proposed.
fn is_of(change: &Change, document: &ProposalDocument) -> bool {
    let (method, path) = (document.method.as_str(), document.path.as_str());
    let of_key = |rest: &str| {
        let Some(kek) = document.kek.as_ref() else { return false };
        change.kek.as_deref() == Some(kek.as_str()) && path.ends_with(&format!("/keys/{kek}{rest}"))
    };
    let subject = change.subject.as_deref().unwrap_or_default();
    let call = match change.action.as_str() {
        "trim" => of_key("/trim"),
        "create" => method == "POST" && of_key(""),
        "configure" => of_key("/config"),
        "enable" => of_key("/enable"),
        "destroy" => of_key("/destroy"),
        "erase" => of_key("/erase"),
        "backup" => method == "POST" && path.ends_with("/claviger/backup"),
        "restore-backup" => method == "POST" && (path.ends_with("/claviger/restore") || of_key("/ledger-whole")),
        "delete" => method == "DELETE" && of_key(""),
        "reinstate" => {
            method == "DELETE" && path.ends_with(&format!("/revocations/{}", URL_SAFE_NO_PAD.encode(subject)))
        }
        // Whichever custodian comes first puts it in force.
        "change-policy" => {
            let body: Option<Value> = serde_json::from_str(&document.body).ok();
            return path.ends_with("/policy") && body.is_some_and(|body| body["policy_sha256"] == subject);
        }
        _ => false,
    };
    call && change.principal == document.requester.as_str()
}

/// The approval or veto in an entry; its officer is the principal of the entry.
fn approval(entry: &Entry, verb: Verb, time_s: i64) -> Option<Approval> {
    let detail = entry.field("detail")?;
    let bytes = |name: &str| STANDARD.decode(detail.get(name)?.as_str()?).ok();
    let approval = Approval::new(verb, bytes("certificate")?, bytes("signature")?, time_s).ok()?;
    (entry.text("principal") == Some(approval.officer.as_str())).then_some(approval)
}

/// The logs besides the first are those of peers.
fn of_peer(log: usize) -> String {
    if log == 0 { String::new() } else { format!(" of peer {log}") }
}

impl Finding {
    fn approval((log, index): Place, what: String) -> Self {
        let what = format!("entry {index}{}: {}", of_peer(log), crate::cli::audit::entry::escaped(&what));
        Self::unapproved(index, what)
    }
}

impl Approved {
    pub(super) fn as_json(&self) -> Value {
        serde_json::json!({
            "proposals": self.proposals, "votes": self.votes, "changes": self.changes, "notes": self.notes,
        })
    }
}

#[cfg(test)]
mod tests;

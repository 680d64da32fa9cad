//! The certificate of destruction: a C2SP signed note by the key of the custodian's audit log.
//!
//! Its text is one line that says what it is, then JSON: what was destroyed, who wanted it, both quorums with their signatures, when,
//! what is lost with it, and which backups are known to hold a copy still. The first line has white space, which the name of a log has
//! not, so that it never passes for a checkpoint.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::custodian::approval::json::{parse_json, rfc3339, unix_s};
use crate::custodian::approval::{Approval, Proposal, ProposalDocument, REQUIRED_MIN, Subject, Verb, verify};
use crate::custodian::identity::key_sha256;
use crate::custodian::kek::KekInfo;
use crate::names::KekVersion;
use crate::tlog::note::{InvalidNote, MAX_NOTE_LEN, Note, Use, VerifierKey};

use super::Destruction;

/// The first line.
const HEADER: &str = "claviger/1 certificate of destruction\n";
/// Room for the signature below the text.
const SIGNATURE_ROOM: usize = 1024;
/// Both quorums: their names in it, what they approved, and the name of whose call it was.
const QUORUMS: [(&str, &str, &str); 2] =
    [("first_quorum", "destroy", "requested_by"), ("second_quorum", "erase", "erased_by")];
/// Most backups that are named; of more, the newest.
pub const BACKUPS_TOLD: usize = 100;

/// What is lost with the keys, and what may outlive them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost {
    /// Branch keys of the ledger that nothing opens any more.
    pub branch_keys: u64,
    /// How many backups with a copy the custodian knows of.
    pub backups: usize,
    /// Id and date of the newest of them, at most [`BACKUPS_TOLD`].
    pub backups_told: Vec<(String, i64)>,
}

/// What a certificate is made of.
pub struct Certified<'a> {
    /// What is destroyed, and the first quorum.
    pub destruction: &'a Destruction,
    /// The second quorum's proposal, carried out.
    pub erasing: &'a Proposal,
    /// The KEK as it was.
    pub kek: &'a KekInfo,
    /// The custodian that does it.
    pub instance: &'a str,
    /// Where its audit log has the decision.
    pub log_index: u64,
    /// When.
    pub at_unix_s: i64,
    /// What is lost.
    pub lost: &'a Lost,
}

/// A certificate is none, or says what is not so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCertificate {
    /// Not a signed note.
    #[error("not a signed note")]
    Note(#[from] InvalidNote),
    /// The key did not sign it, or it was changed since.
    #[error("it was changed, or is not signed by the key of this custodian's audit log")]
    Forged,
    /// The key signed something else.
    #[error("it is signed, but is no certificate of destruction")]
    Other,
    /// The signatures of the officers in it do not carry it.
    #[error("it is signed by the custodian, but the officers' signatures in it do not approve what it says")]
    Unapproved,
}

/// The text to be signed; `None` if it does not fit into a note.
pub fn certificate_text(what: &Certified<'_>) -> Option<String> {
    [true, false].into_iter().map(|whole| text(what, whole)).find(|text| text.len() <= MAX_NOTE_LEN - SIGNATURE_ROOM)
}

/// With the officers' certificates, or, where they are too long, without: the audit log has them.
fn text(what: &Certified<'_>, with_certificates: bool) -> String {
    let Certified { destruction, erasing, kek, instance, log_index, at_unix_s, lost } = what;
    let through = destruction.target.through;
    let destroyed = kek.versions.iter().filter(|(version, _)| through.is_none_or(|through| *version <= through));
    let version = |(version, made): &(KekVersion, i64)| json!({ "version": version.number(), "made": rfc3339(*made) });
    let labels: Vec<String> = kek.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let backup = |(id, made): &(String, i64)| json!({ "id": id, "made": rfc3339(*made) });
    let quorum = |proposal: &Proposal| {
        let mut told = proposal.to_json(*at_unix_s);
        if let (false, Some(approvals)) = (with_certificates, told["approvals"].as_array_mut()) {
            approvals.iter_mut().filter_map(Value::as_object_mut).for_each(|one| drop(one.remove("certificate")));
        }
        told
    };
    let certificate = json!({
        "kek": kek.name.as_str(),
        "type": kek.key_type.as_str(),
        "labels": labels,
        "whole": through.is_none(),
        "versions": destroyed.map(version).collect::<Vec<_>>(),
        "requested_by": destruction.scheduled.document().requester.as_str(),
        "requested": rfc3339(destruction.scheduled.document().created_unix_s),
        "scheduled": rfc3339(destruction.scheduled_unix_s()),
        "wait_s": destruction.wait.seconds,
        "insecure_wait": destruction.wait.insecure,
        "erased_by": erasing.document().requester.as_str(),
        "erased": rfc3339(*at_unix_s),
        "custodian": instance,
        "audit_log_index": log_index,
        "branch_keys_lost": lost.branch_keys,
        "backups_known": lost.backups,
        "backups": lost.backups_told.iter().take(BACKUPS_TOLD).map(backup).collect::<Vec<_>>(),
        "first_quorum": quorum(&destruction.scheduled),
        "second_quorum": quorum(erasing),
    });
    format!("{HEADER}{certificate:#}\n")
}

/// Reads a certificate that the owner of `log` signed, and checks that the officers' signatures in it approve just that. Which CA their
/// certificates are from is not checked, nor signatures that were [left out](signatures_left_out): the audit log has all of it.
///
/// # Errors
/// [`InvalidCertificate`].
pub fn read_certificate(note: &[u8], log: &VerifierKey) -> Result<Value, InvalidCertificate> {
    let note = Note::parse(note)?;
    if log.usage() != Use::Log || log.verify(&note).is_err() {
        return Err(InvalidCertificate::Forged);
    }
    let body = note.text().strip_prefix(HEADER).ok_or(InvalidCertificate::Other)?;
    let certificate = parse_json(body.as_bytes()).map_err(|_| InvalidCertificate::Other)?;
    is_approved(&certificate).ok_or(InvalidCertificate::Unapproved)?;
    Ok(certificate)
}

/// How many officers' signatures a certificate names and does not have, because they were too long for it.
pub fn signatures_left_out(certificate: &Value) -> usize {
    let of = |quorum: &str| certificate[quorum]["approvals"].as_array().into_iter().flatten();
    let approvals = QUORUMS.iter().flat_map(|(quorum, ..)| of(quorum));
    approvals.filter(|one| one.get("certificate").is_none()).count()
}

/// Whether one quorum approved that this be destroyed, and another one, after the waiting, that it be erased.
pub(super) fn is_approved(certificate: &Value) -> Option<()> {
    let mut documents = Vec::with_capacity(QUORUMS.len());
    for (quorum, verb, by) in QUORUMS {
        let document = is_carried(&certificate[quorum])?;
        (is_about(certificate, &document, verb)? && certificate[by] == document.requester.as_str()).then_some(())?;
        documents.push(document);
    }
    let [first, second] = documents.as_slice() else { return None };
    let at = |name: &str| unix_s(certificate[name].as_str()?);
    let due = at("scheduled")?.checked_add_unsigned(certificate["wait_s"].as_u64()?)?;
    let in_turn = first.created_unix_s <= at("scheduled")? && due <= second.created_unix_s;
    let distinct = first.id != second.id && first.version == second.version;
    (in_turn && distinct && second.created_unix_s <= at("erased")?).then_some(())
}

/// Whether a proposal is for doing `verb` to what the certificate says was destroyed.
fn is_about(certificate: &Value, document: &ProposalDocument, verb: &str) -> Option<bool> {
    let kek = certificate["kek"].as_str()?;
    let newest = certificate["versions"].as_array()?.last().and_then(|one| one["version"].as_u64());
    let version = u64::from(document.version?.number());
    let body = parse_json(document.body.as_bytes()).ok()?;
    let named = body.get("version").map(|version| version.as_u64());
    let right_body = if certificate["whole"] == true { named.is_none() } else { named == Some(Some(version)) };
    let of_kek = document.kek.as_ref().is_some_and(|name| name.as_str() == kek);
    let call = document.method == "POST" && document.path.ends_with(&format!("/keys/{kek}/{verb}"));
    Some(of_kek && call && right_body && newest.is_none_or(|newest| newest == version))
}

/// The proposal, if enough people signed for it, as far as their certificates are there.
fn is_carried(quorum: &Value) -> Option<ProposalDocument> {
    let document = ProposalDocument::from_json(quorum).ok()?;
    let (hash, mut officers, mut keys) = (document.hash(), Vec::new(), Vec::new());
    for one in quorum["approvals"].as_array()? {
        let officer = one["officer"].as_str()?.to_owned();
        if officer == document.requester.as_str() {
            return None;
        }
        if let Some(der) = one.get("certificate") {
            let bytes = |text: &Value| STANDARD.decode(text.as_str()?).ok();
            let approval = Approval::new(Verb::Approve, bytes(der)?, bytes(&one["signature"])?, 0).ok()?;
            if approval.officer.as_str() != officer || verify(&approval, Subject::Proposal, &hash).is_err() {
                return None;
            }
            keys.push(key_sha256(&approval.certificate).ok()?);
        }
        officers.push(officer);
    }
    let (count, signed) = (officers.len(), keys.len());
    officers.sort_unstable();
    officers.dedup();
    keys.sort_unstable();
    keys.dedup();
    let required = usize::from(document.required.max(REQUIRED_MIN));
    let carried = count == officers.len() && signed == keys.len() && count >= required;
    carried.then_some(document)
}

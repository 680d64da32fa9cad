//! The entries of the audit log: one JSON object each, its fields always in this order, what is absent left out.
//!
//! **Invariant:** an entry holds names, hashes and decisions, never a key, a plaintext or a ciphertext.

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::custodian::approval::json::hex;
use crate::custodian::requester::Requester;

use super::{Details, Use, Verdict};

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

#[derive(Serialize)]
struct Entry<'a> {
    time: String,
    instance: &'a str,
    request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    for_request: Option<&'a str>,
    principal: &'a str,
    region: &'a str,
    role: &'a str,
    certificate_sha256: String,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    behalf: Option<&'a str>,
    reason: &'static str,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kek: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    decision: &'static str,
    policy_sha256: String,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    rules: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proposal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    denied_by: Option<&'static str>,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a serde_json::Value>,
}

/// The one field that is read back when the log is opened.
#[derive(serde::Deserialize)]
struct Generation {
    generation: u64,
}

pub(super) fn to_bytes(
    instance: &str,
    at: OffsetDateTime,
    who: &Requester,
    what: &Use,
    verdict: &Verdict,
    more: &Details,
) -> Vec<u8> {
    let branch = what.branch.as_ref();
    let entry = Entry {
        time: at.format(TIME).expect("a time in UTC has all that the format shows"),
        instance,
        request_id: who.request_uuid(),
        for_request: who.for_request.as_ref().map(|id| id.as_str()),
        principal: who.id.as_str(),
        region: who.id.region(),
        role: who.id.role(),
        certificate_sha256: hex(&who.certificate_sha256),
        source: who.source.to_string(),
        behalf: who.behalf.as_ref().map(|behalf| behalf.as_str()),
        reason: who.reason.as_str(),
        action: what.action.as_str(),
        kek: what.kek.as_ref().map(|kek| kek.as_str()),
        version: what.version.map(|version| version.number()),
        context_sha256: what.context_hash.map(|hash| hex(&hash)),
        bucket: branch.map(|branch| branch.bucket.as_str()),
        purpose: branch.map(|branch| branch.purpose.as_str()),
        writer: branch.map(|branch| branch.writer.as_str()),
        branch: branch.map(|branch| branch.id.to_string()),
        subject: what.subject.as_deref(),
        decision: verdict.decision.as_str(),
        policy_sha256: hex(&verdict.policy),
        rules: &verdict.rules,
        grant: verdict.grant.as_deref(),
        proposal: more.proposal.as_deref(),
        denied_by: verdict.denied_by,
        generation: more.generation,
        detail: more.detail.as_ref(),
    };
    serde_json::to_vec(&entry).expect("strings and numbers become JSON")
}

/// The generation of the store that an entry names.
pub(super) fn generation(entry: &[u8]) -> Option<u64> {
    serde_json::from_slice(entry).ok().map(|Generation { generation }| generation)
}

//! What people propose, approve and revoke, and the JSON that they send.

use claviger::custodian::approval::{Proposal, ProposalDocument, canonical_json, parse_json};
use claviger::custodian::grant::{Grant, GrantDocument};
use claviger::custodian::revocation::Revocation;
use serde_json::Value;

/// What parses as a stored proposal is written back byte for byte, whatever time it is asked at; its JSON reads as the same.
pub fn proposal(bytes: &[u8]) {
    if let Ok(proposal) = Proposal::parse(bytes) {
        assert_eq!(proposal.to_bytes(), bytes);
        for now in [i64::MIN, 0, proposal.document().created_unix_s, i64::MAX] {
            let shown = proposal.to_json(now);
            assert_eq!(ProposalDocument::from_json(&shown).as_ref(), Ok(proposal.document()));
        }
    }
}

/// The same of a grant.
pub fn grant(bytes: &[u8]) {
    if let Ok(grant) = Grant::parse(bytes) {
        assert_eq!(grant.to_bytes(), bytes);
        for now in [i64::MIN, 0, grant.document().requested_unix_s, i64::MAX] {
            let shown = grant.to_json(now);
            assert_eq!(GrantDocument::from_json(&shown).as_ref(), Ok(grant.document()));
        }
    }
}

/// What parses as a revocation is written back byte for byte.
pub fn revocation(bytes: &[u8]) {
    if let Ok(revocation) = Revocation::parse(bytes) {
        assert_eq!(revocation.to_bytes(), bytes);
    }
}

/// The canonical text of what is read reads as the same, and is its own canonical text; a proposal or grant read from it too.
///
/// Numbers with a fraction are left out: the last digit may change when they are read.
pub fn json(bytes: &[u8]) {
    let Ok(value) = parse_json(bytes) else { return };
    if has_fractions(&value) {
        return;
    }
    let text = canonical_json(&value);
    let again = parse_json(text.as_bytes()).expect("its own text");
    assert_eq!(again, value);
    assert_eq!(canonical_json(&again), text);
    if let Ok(document) = ProposalDocument::from_json(&value) {
        assert_eq!(ProposalDocument::from_json(&document.to_json()), Ok(document));
    }
    if let Ok(document) = GrantDocument::from_json(&value) {
        assert_eq!(GrantDocument::from_json(&document.to_json()), Ok(document));
    }
}

fn has_fractions(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_fractions),
        Value::Object(fields) => fields.values().any(has_fractions),
        _ => false,
    }
}

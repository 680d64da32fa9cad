//! Entries as they stand in the log.

use time::macros::datetime;

use super::*;
use crate::custodian::identity::SpiffeId;
use crate::custody::reason::Reason;
use crate::names::{BranchId, LogicalBucket, Principal, Purpose, WriterDomain};

fn who() -> Requester {
    Requester {
        id: SpiffeId::parse("spiffe://example.org/region/us/proxy/p1").expect("legal"),
        certificate_sha256: [0x1a; 32],
        key_sha256: [2; 32],
        source: [192, 0, 2, 1].into(),
        reason: Reason::CustomerInitiated,
        behalf: Some(Principal::new("alice").expect("legal")),
        request_id: [3; 16],
        for_request: None,
    }
}

fn text(what: &Use, verdict: &Verdict, more: &Details) -> String {
    let at = datetime!(2026-11-24 22:05:48.0419 UTC);
    String::from_utf8(entry::to_bytes("custodian-1", at, &who(), what, verdict, more)).expect("text")
}

#[test]
fn an_entry_is_one_line_of_json_with_its_fields_in_order() {
    let branch = BranchContext {
        purpose: Purpose::Object,
        bucket: LogicalBucket::new("ledger").expect("legal"),
        writer: WriterDomain::new("proxy/us").expect("legal"),
        id: BranchId::from_bytes([4; 16]),
    };
    let kek = KekName::new("records").expect("legal");
    let what = Use {
        context_hash: Some([5; 32]),
        branch: Some(branch),
        ..Use::of_kek(Action::Unwrap, &kek, KekVersion::new(2), &Labels::default())
    };
    let rules = vec!["us-all".to_owned()];
    let verdict = Verdict { decision: Decision::Allow, policy: [6; 32], rules, grant: None, denied_by: None };
    let expected = format!(
        concat!(
            r#"{{"time":"2026-11-24T22:05:48.041Z","instance":"custodian-1","#,
            r#""request_id":"03030303-0303-0303-0303-030303030303","#,
            r#""principal":"spiffe://example.org/region/us/proxy/p1","region":"us","role":"proxy","#,
            r#""certificate_sha256":"{}","source":"192.0.2.1","behalf":"alice","reason":"customer-initiated","#,
            r#""action":"unwrap","kek":"records","version":2,"context_sha256":"{}","bucket":"ledger","purpose":"object","#,
            r#""writer":"proxy/us","branch":"04040404040404040404040404040404","decision":"allow","policy_sha256":"{}","#,
            r#""rules":["us-all"],"generation":7}}"#,
        ),
        "1a".repeat(32),
        "05".repeat(32),
        "06".repeat(32)
    );
    assert_eq!(text(&what, &verdict, &Details::at(7)), expected);
}

#[test]
fn what_is_denied_names_the_rule_and_text_from_outside_stays_within_its_field() {
    let what = Use::of_custodian(Action::Revoke).about("x\"},\n{\"decision\":\"allow");
    let denied_by = Some("revoked");
    let verdict = Verdict { decision: Decision::Deny, policy: [6; 32], rules: Vec::new(), grant: None, denied_by };
    let detail = Some(serde_json::json!({ "note": "\n" }));
    let told = text(&what, &verdict, &Details { detail, proposal: Some("p-1".to_owned()), generation: 9 });
    assert!(!told.contains('\n'));
    let read: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&read["decision"], &read["denied_by"]), (&"deny".into(), &"revoked".into()));
    assert_eq!((&read["proposal"], &read["detail"]["note"]), (&"p-1".into(), &"\n".into()));
    assert_eq!(entry::generation(told.as_bytes()), Some(9));
    assert_eq!(entry::generation(b"not JSON"), None);
}

#[test]
fn actions_have_names_of_their_own() {
    let names: std::collections::BTreeSet<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
    assert_eq!(names.len(), Action::ALL.len());
    assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
}

//! What takes two people, over the API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use time::OffsetDateTime;

use super::harness::{Client, Custodian};
use crate::custodian::approval::{ProposalDocument, Subject, Verb, sign_approval};
use crate::net::tls::load_certificates;

/// The body of an officer's vote on the proposal that the API showed.
pub(super) fn vote(officer: &Client, shown: &Json, verb: Verb) -> String {
    let hash = ProposalDocument::from_json(shown).expect("a proposal").hash();
    let key = std::fs::read(&officer.identity.key).expect("its own key");
    let certificates = load_certificates(&officer.identity.certificates).expect("its own certificate");
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let signed = sign_approval(&key, &certificates[0], Subject::Proposal, verb, &hash, now).expect("signs");
    let (certificate, signature) = (STANDARD.encode(&signed.certificate), STANDARD.encode(&signed.signature));
    json!({ "certificate": certificate, "signature": signature }).to_string()
}

#[tokio::test]
async fn a_grave_change_waits_for_two_officers_and_then_happens_once() {
    let custodian = Custodian::new().await;
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| custodian.client(&format!("us/officer/{name}")));
    alice.make_key(false).await;
    let path = "/v1/transit/keys/records/config";
    let body = "{\"deletion_allowed\":true}";
    let asked = alice.call("POST", path, body).await;
    assert_eq!((asked.status, asked.error()), (403, "approval required"));
    let id = asked.data_text("proposal_id");
    assert_eq!(
        alice.call("PUT", path, " { \"deletion_allowed\" : true } ").await.data_text("proposal_id"),
        id,
        "the same call"
    );
    let shown = bob.call("GET", &format!("/v1/sys/claviger/proposals/{id}"), "").await;
    assert_eq!(shown.status, 200, "{shown:?}");

    let approve = format!("/v1/sys/claviger/proposals/{id}/approve");
    let own = alice.call("POST", &approve, &vote(&alice, &shown.json["data"], Verb::Approve)).await;
    assert_eq!(own.status, 403, "{own:?}");
    let of_bob = vote(&bob, &shown.json["data"], Verb::Approve);
    assert_eq!(carol.call("POST", &approve, &of_bob).await.status, 403, "by another connection");
    assert_eq!(
        bob.call("POST", &approve, &vote(&bob, &shown.json["data"], Verb::Veto)).await.status,
        400,
        "the other verb"
    );
    assert_eq!(bob.call("POST", &approve, &of_bob).await.status, 200);
    assert_eq!(bob.call("POST", &approve, &of_bob).await.status, 400, "once");
    assert_eq!(alice.call("POST", path, body).await.status, 403, "one is not enough");
    assert_eq!(carol.call("POST", &approve, &vote(&carol, &shown.json["data"], Verb::Approve)).await.status, 200);
    assert_eq!(bob.call("POST", path, body).await.status, 403, "another requester has to propose it himself");
    let done = alice.call("POST", path, body).await;
    assert_eq!((done.status, done.data("deletion_allowed")), (200, &json!(true)), "{done:?}");

    let other = alice.call("DELETE", "/v1/transit/keys/records", "").await;
    assert_eq!((other.status, other.error()), (403, "approval required"), "each call by itself");
    let proposals = carol.call("GET", "/v1/sys/claviger/proposals", "").await;
    assert_eq!(proposals.data("proposals").as_array().map(Vec::len), Some(3), "{proposals:?}");
}

#[tokio::test]
async fn what_is_no_approval_is_refused() {
    let custodian = Custodian::new().await;
    let officer = custodian.client("us/officer/alice");
    let id = format!("p-{}", "0".repeat(16));
    let missing = officer.call("POST", &format!("/v1/sys/claviger/proposals/{id}/approve"), "{}").await;
    assert_eq!((missing.status, missing.error()), (400, "missing certificate"));
    let none = officer.call("GET", &format!("/v1/sys/claviger/proposals/{id}"), "").await;
    assert_eq!((none.status, none.text.as_str()), (404, "{\"errors\":[]}\n"));
    let garbage = json!({ "certificate": "AAAA", "signature": "AAAA" }).to_string();
    assert_eq!(officer.call("POST", &format!("/v1/sys/claviger/proposals/{id}/approve"), &garbage).await.status, 400);
    let wanted = json!({ "principal": "bob", "keks": [], "actions": ["unwrap"], "reason": "customer-support",
        "justification": "ticket 7", "duration_s": 3600 });
    let refused = officer.call("POST", "/v1/sys/claviger/grants", &wanted.to_string()).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    let wanted = json!({ "principal": "bob", "keks": ["records"], "actions": ["unwrap"], "reason": "customer-support",
        "justification": "ticket 7", "duration_s": 3600 });
    let asked = officer.call("POST", "/v1/sys/claviger/grants", &wanted.to_string()).await;
    assert_eq!(asked.status, 200, "{asked:?}");
    assert_eq!(
        officer.call("GET", "/v1/sys/claviger/grants", "").await.data("grants").as_array().map(Vec::len),
        Some(1)
    );
    let policy = officer.call("GET", "/v1/sys/claviger/policy", "").await;
    assert_eq!(policy.data("policy"), super::harness::POLICY);
}

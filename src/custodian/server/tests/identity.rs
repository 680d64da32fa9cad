//! Who is let in: certificates of several kinds.

use super::harness::{Ca, Custodian, LONG};

const P1: &str = "spiffe://example.org/region/us/proxy/p1";

#[tokio::test]
async fn certificates_of_another_authority_or_expired_do_not_get_past_tls() {
    let custodian = Custodian::new().await;
    let other = tempfile::tempdir().expect("a folder");
    let stranger = Ca::new(other.path(), "other").issue("p1", &[P1], 5, 7);
    let expired = custodian.ca.issue("expired", &[P1], -1, 8);
    for identity in [stranger, expired] {
        let answer = custodian.client_of(&identity).try_call("GET", "/v1/sys/health", "").await;
        assert!(answer.is_err(), "{answer:?}");
    }
}

#[tokio::test]
async fn a_certificate_without_exactly_one_id_is_denied_everything() {
    let custodian = Custodian::new().await;
    let kinds: [&[&str]; 5] = [
        &[],
        &[P1, "spiffe://example.org/region/us/officer/alice"],
        &["https://example.org/region/us/proxy/p1"],
        &["spiffe://example.org/proxy/p1"],
        &[P1, "https://example.org/"],
    ];
    for (index, uris) in kinds.into_iter().enumerate() {
        let client = custodian.client_of(&custodian.ca.issue(&format!("odd{index}"), uris, 5, 20));
        for (method, path) in [
            ("GET", "/v1/sys/health"),
            ("GET", "/v1/sys/seal-status"),
            ("PUT", "/v1/sys/unseal"),
            ("POST", "/v1/auth/cert/login"),
            ("LIST", "/v1/transit/keys"),
            ("GET", "/v1/nothing"),
            ("GET", "/v1/../x"),
        ] {
            let answer = client.call(method, path, "").await;
            assert_eq!((answer.status, answer.error()), (403, "permission denied"), "{uris:?} {path}");
        }
    }
}

#[tokio::test]
async fn a_revoked_certificate_does_not_get_past_tls_and_others_do() {
    let custodian = Custodian::sealed(Some(&[66, 67]), LONG).await;
    custodian.unseal().await;
    let good = custodian.client_of(&custodian.ca.issue("good", &[P1], 5, 65));
    assert_eq!(good.call("GET", "/v1/sys/health", "").await.status, 200);
    let revoked = custodian.client_of(&custodian.ca.issue("revoked", &[P1], 5, 66));
    assert!(revoked.try_call("GET", "/v1/sys/health", "").await.is_err());
}

#[tokio::test]
async fn a_reason_must_be_of_the_taxonomy_and_is_logged() {
    let custodian = Custodian::new().await;
    let client = custodian.client("us/proxy/p1").with("x-claviger-reason", "because");
    let answer = client.call("LIST", "/v1/transit/keys", "").await;
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("maintenance"), "{answer:?}");
    let twice = custodian
        .client("us/proxy/p1")
        .with("x-claviger-reason", "maintenance")
        .with("x-claviger-reason", "maintenance");
    assert_eq!(twice.call("LIST", "/v1/transit/keys", "").await.status, 400);
    let client = custodian.client("us/proxy/p1").with("x-claviger-reason", "maintenance");
    let client = client.with("x-claviger-principal", "accounting");
    client.make_key(false).await;
    let answer = client.call("GET", "/v1/transit/keys/records", "").await;
    let receipt = answer.headers["x-claviger-receipt"].to_str().expect("text").to_owned();
    let index: u64 = receipt.split(' ').next().expect("an index").parse().expect("a number");
    let id = answer.headers["x-claviger-request-id"].to_str().expect("text").to_owned();
    assert_eq!(answer.json["request_id"], id.as_str());
    super::harness::until("the entry's publication", async || {
        let tile = client.call("GET", &format!("/v1/sys/claviger/audit/tile/entries/000.p/{}", index + 1), "").await;
        tile.text.contains(&id) && tile.text.contains("\"reason\":\"maintenance\"") && tile.text.contains("accounting")
    })
    .await;
}

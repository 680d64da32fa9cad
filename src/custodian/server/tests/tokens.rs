//! Tokens, each bound to its certificate.

use serde_json::json;

use super::harness::{Client, Custodian};

async fn log_in(client: &Client) -> String {
    let answer = client.call("POST", "/v1/auth/cert/login", "{\"name\":\"proxy\"}").await;
    assert_eq!((answer.status, &answer.json["auth"]["lease_duration"]), (200, &json!(3600)), "{answer:?}");
    answer.json["auth"]["client_token"].as_str().expect("a token").to_owned()
}

#[tokio::test]
async fn a_token_of_another_certificate_is_denied_everywhere_also_for_renewal() {
    let custodian = Custodian::new().await;
    let alice = custodian.client("us/proxy/p1");
    let token = log_in(&alice).await;
    // The same name in another certificate does not do either.
    let mallory = custodian.client("us/proxy/p2").with("x-vault-token", &token);
    let twin = custodian.client("us/proxy/p1").with("authorization", &format!("Bearer {token}"));
    for other in [mallory, twin] {
        for (method, path) in [
            ("LIST", "/v1/transit/keys"),
            ("POST", "/v1/auth/token/renew-self"),
            ("GET", "/v1/auth/token/lookup-self"),
            ("POST", "/v1/auth/token/revoke-self"),
            ("GET", "/v1/sys/claviger/watch"),
        ] {
            let answer = other.call(method, path, "").await;
            assert_eq!((answer.status, answer.error()), (403, "permission denied"), "{path}");
        }
    }
    let good = custodian.client_of(&alice.identity).with("x-vault-token", &token);
    assert_eq!(good.call("POST", "/v1/auth/token/renew-self", "{\"increment\":\"10m\"}").await.status, 200);
    let answer = good.call("GET", "/v1/auth/token/lookup-self", "").await;
    assert_eq!(answer.data("id"), token.as_str());
    assert!(answer.data("ttl").as_u64().is_some_and(|ttl| (3500..=3600).contains(&ttl)), "{answer:?}");
    assert_eq!(good.call("POST", "/v1/auth/token/revoke-self", "").await.status, 204);
    assert_eq!(good.call("GET", "/v1/auth/token/lookup-self", "").await.status, 403);
    // The certificate alone goes on.
    assert_eq!(alice.call("GET", "/v1/auth/token/lookup-self", "").await.status, 200);
}

#[tokio::test]
async fn without_a_token_the_certificate_does_and_empty_ones_are_tolerated() {
    let custodian = Custodian::new().await;
    let client = custodian.client("us/proxy/p1").with("x-vault-token", "").with("authorization", "Bearer ");
    client.make_key(false).await;
    let answer = client.call("GET", "/v1/auth/token/lookup-self", "").await;
    assert_eq!((answer.status, answer.data("type"), answer.data("id")), (200, &json!("certificate"), &json!("")));
    for bad in ["s.abcdef", "clv.AAAA", "root"] {
        let client = custodian.client("us/proxy/p1").with("x-vault-token", bad);
        assert_eq!(client.call("LIST", "/v1/transit/keys", "").await.status, 403, "{bad}");
    }
    assert_eq!(client.call("POST", "/v1/auth/cert/login", "{\"name\":\"officer\"}").await.status, 400);
    assert_eq!(client.call("POST", "/v1/auth/token/renew-self", "").await.status, 403);
}

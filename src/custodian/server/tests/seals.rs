//! Sealed and unsealed.

use serde_json::json;

use super::harness::{Custodian, LONG, Lines};

#[tokio::test]
async fn sealed_it_answers_nothing_but_how_it_is() {
    let custodian = Custodian::sealed(None, LONG).await;
    let client = custodian.client("us/proxy/p1");
    for (method, path) in [
        ("LIST", "/v1/transit/keys"),
        ("POST", "/v1/transit/encrypt/records"),
        ("POST", "/v1/auth/cert/login"),
        ("GET", "/v1/auth/token/lookup-self"),
        ("GET", "/v1/sys/claviger/watch"),
        ("GET", "/v1/nothing"),
        ("PUT", "/v1/sys/seal"),
        ("GET", "/v1/sys/claviger/audit/key"),
    ] {
        let answer = client.call(method, path, "{}").await;
        assert_eq!((answer.status, answer.error()), (503, "Vault is sealed"), "{path}");
    }
    let health = client.call("GET", "/v1/sys/health", "").await;
    assert_eq!((health.status, &health.json["sealed"], &health.json["initialized"]), (503, &json!(true), &json!(true)));
    assert_eq!(client.call("GET", "/v1/sys/health?sealedcode=299", "").await.status, 299);
    assert_eq!(client.call("GET", "/v1/sys/health?sealedcode=9999", "").await.status, 400);
    let head = client.call("HEAD", "/v1/sys/health", "").await;
    assert_eq!((head.status, head.text.as_str()), (503, ""));
    let status = client.call("GET", "/v1/sys/seal-status", "").await;
    assert_eq!((&status.json["t"], &status.json["n"], &status.json["progress"]), (&json!(2), &json!(3), &json!(0)));
}

#[tokio::test]
async fn officers_unseal_it_share_by_share() {
    let custodian = Custodian::sealed(None, LONG).await;
    let body = |index: usize| json!({ "key": custodian.share(index) }).to_string();
    let proxy = custodian.client("us/proxy/p1");
    assert_eq!(proxy.call("PUT", "/v1/sys/unseal", &body(0)).await.status, 403);
    let officer = custodian.client("us/officer/alice");
    let unseal = async |body: &str| officer.call("PUT", "/v1/sys/unseal", body).await;
    let first = unseal(&body(0)).await;
    assert_eq!((first.status, &first.json["progress"], &first.json["sealed"]), (200, &json!(1), &json!(true)));
    for (bad, error) in [
        (body(0), "invalid key: this share was given already"),
        ("{\"key\":\"abcd\"}".to_owned(), "invalid key: not a share: 72 characters of base64 are expected"),
        ("{}".to_owned(), "'key' must be specified in request body as JSON, or 'reset' set to true"),
    ] {
        let answer = unseal(&bad).await;
        assert_eq!((answer.status, answer.error()), (400, error));
    }
    assert_eq!(unseal("{\"reset\":true}").await.json["progress"], json!(0));
    assert_eq!(unseal(&body(1)).await.json["progress"], json!(1));
    assert_eq!(unseal(&body(2)).await.json["sealed"], json!(false));
    assert_eq!(proxy.call("GET", "/v1/sys/health", "").await.status, 200);
    assert_eq!(unseal("{\"reset\":true}").await.error(), "vault is unsealed");
    assert_eq!(unseal(&body(0)).await.status, 200, "and changes nothing");

    proxy.make_key(false).await;
    let (_, _, body) = proxy.stream("GET", "/v1/sys/claviger/watch", "").await.expect("opens");
    let mut watch = Lines::new(body);
    assert_eq!(watch.event().await.expect("a line")["event"], "hello");
    assert_eq!(officer.call("PUT", "/v1/sys/seal", "").await.status, 204);
    assert_eq!(watch.event().await, None, "the watch ends");
    assert_eq!(proxy.call("LIST", "/v1/transit/keys", "").await.status, 503);
    custodian.unseal().await;
    assert_eq!(proxy.call("LIST", "/v1/transit/keys", "").await.data("keys"), &json!(["records"]));
}

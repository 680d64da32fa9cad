//! The Transit endpoints, as clients use them.

use serde_json::{Value as Json, json};

use super::harness::{Client, Custodian};
use crate::crypto::NotApproved;
use crate::custodian::kek::KeyType;

const HELLO: &str = "aGVsbG8=";
const CONTEXT: &str = "Y29udGV4dA==";

async fn encrypt(client: &Client, body: Json) -> String {
    let answer = client.call("POST", "/v1/transit/encrypt/records", &body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.data_text("ciphertext")
}

#[tokio::test]
async fn what_was_encrypted_is_decrypted_in_its_context_alone_and_moves_with_the_key() {
    let custodian = Custodian::new().await;
    let client = custodian.client("us/proxy/p1");
    client.make_key(true).await;
    let ciphertext = encrypt(&client, json!({ "plaintext": HELLO, "context": CONTEXT })).await;
    assert!(ciphertext.starts_with("vault:v1:"));
    let body = json!({ "ciphertext": ciphertext, "context": CONTEXT }).to_string();
    let answer = client.call("PUT", "/v1/transit/decrypt/records", &body).await;
    assert_eq!((answer.status, answer.data_text("plaintext").as_str()), (200, HELLO));
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["cache-control"], "no-store");
    for name in ["request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth"] {
        assert!(answer.json.get(name).is_some(), "{name}");
    }

    let rotated = client.call("POST", "/v1/transit/keys/records/rotate", "").await;
    assert_eq!((rotated.status, rotated.data("latest_version")), (200, &json!(2)), "{rotated:?}");
    let answer = client.call("POST", "/v1/transit/rewrap/records", &body).await;
    assert_eq!((answer.status, answer.data("key_version")), (200, &json!(2)), "{answer:?}");
    let body = json!({ "ciphertext": answer.data_text("ciphertext"), "context": CONTEXT }).to_string();
    assert_eq!(client.call("POST", "/v1/transit/decrypt/records", &body).await.data_text("plaintext"), HELLO);

    let body = json!({ "ciphertext": ciphertext, "context": "b3RoZXI=" }).to_string();
    let answer = client.call("POST", "/v1/transit/decrypt/records", &body).await;
    assert_eq!((answer.status, answer.error()), (400, "cipher: message authentication failed"));
    let answer =
        client.call("POST", "/v1/transit/decrypt/records", &json!({ "ciphertext": ciphertext }).to_string()).await;
    assert!(answer.status == 400 && answer.error().starts_with("missing 'context' for key derivation"), "{answer:?}");
}

#[tokio::test]
async fn data_keys_come_in_three_lengths_and_wrapped_ones_without_their_plaintext() {
    let custodian = Custodian::new().await;
    let client = custodian.client("us/proxy/p1");
    client.make_key(false).await;
    for (body, characters) in [("", 44), ("{\"bits\":128}", 24), ("{\"bits\":\"512\"}", 88)] {
        let answer = client.call("POST", "/v1/transit/datakey/plaintext/records", body).await;
        let plaintext = answer.data_text("plaintext");
        assert_eq!((answer.status, plaintext.len()), (200, characters));
        let body = json!({ "ciphertext": answer.data_text("ciphertext") }).to_string();
        assert_eq!(client.call("POST", "/v1/transit/decrypt/records", &body).await.data_text("plaintext"), plaintext);
    }
    let answer = client.call("POST", "/v1/transit/datakey/wrapped/records", "").await;
    assert!(answer.status == 200 && answer.data("plaintext").is_null() && answer.data("ciphertext").is_string());
    for (path, body, error) in [
        ("plaintext/records", "{\"bits\":100}", "invalid bit length"),
        ("other/records", "", "Invalid path, must be 'plaintext' or 'wrapped'"),
        ("plaintext/none", "", "encryption key not found"),
        ("plaintext/records", "{\"context\":\"!\"}", "failed to base64-decode context"),
        (
            "plaintext/records",
            "{\"key_version\":9}",
            "requested version for encryption is higher than the latest key version",
        ),
    ] {
        let answer = client.call("POST", &format!("/v1/transit/datakey/{path}"), body).await;
        assert_eq!((answer.status, answer.error()), (400, error), "{path}");
    }
}

#[tokio::test]
async fn batches_answer_in_order_and_say_of_each_item_what_is_wrong() {
    let custodian = Custodian::new().await;
    let client = custodian.client("us/proxy/p1");
    client.make_key(false).await;
    let ciphertext = encrypt(&client, json!({ "plaintext": HELLO })).await;
    let good = json!({ "batch_input": [{ "plaintext": HELLO, "reference": "a" }, { "plaintext": "" }] }).to_string();
    let answer = client.call("POST", "/v1/transit/encrypt/records", &good).await;
    assert_eq!((answer.status, answer.data("batch_results/0/reference")), (200, &json!("a")));
    assert_eq!(answer.headers.get_all("x-claviger-receipt").iter().count(), 2);

    let mixed = json!({ "batch_input": [
        { "ciphertext": ciphertext, "reference": "good" },
        { "ciphertext": "vault:v1:AAAA", "reference": "short" },
        { "ciphertext": "plain", "reference": "no prefix" },
    ] });
    let answer = client.call("POST", "/v1/transit/decrypt/records", &mixed.to_string()).await;
    let expected = json!([
        { "plaintext": HELLO, "reference": "good" },
        { "plaintext": "", "error": "invalid ciphertext length", "reference": "short" },
        { "plaintext": "", "error": "invalid ciphertext: no prefix", "reference": "no prefix" },
    ]);
    assert_eq!((answer.status, answer.data("batch_results")), (400, &expected));
    let mut partial = mixed.clone();
    partial["partial_failure_response_code"] = 207.into();
    assert_eq!(client.call("POST", "/v1/transit/decrypt/records", &partial.to_string()).await.status, 207);
    let all_bad = json!({ "batch_input": [{ "ciphertext": "x" }], "partial_failure_response_code": 207 }).to_string();
    assert_eq!(client.call("POST", "/v1/transit/decrypt/records", &all_bad).await.status, 400);

    let answer = client.call("POST", "/v1/transit/rewrap/records", &mixed.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.data("batch_results/1"), &json!({ "error": "invalid ciphertext length", "reference": "short" }));
    assert!(answer.data("batch_results/0/ciphertext").is_string());

    let one_context = json!({ "batch_input": [{ "plaintext": HELLO, "context": CONTEXT }, { "plaintext": HELLO }] });
    for (body, error) in [
        (one_context, "context should be set either in all the request blocks or in none"),
        (json!({ "batch_input": [] }), "missing batch input to process"),
        (json!({ "batch_input": vec![json!({ "plaintext": "" }); 1025] }), "a batch has at most 1024 items"),
        (json!({ "batch_input": [5] }), "failed to parse batch input: [0] expected a map"),
    ] {
        let answer = client.call("POST", "/v1/transit/encrypt/records", &body.to_string()).await;
        assert_eq!((answer.status, answer.error()), (400, error));
    }
}

#[tokio::test]
async fn a_type_that_this_build_lacks_is_refused_and_every_other_is_made() {
    let custodian = Custodian::new().await;
    let client = custodian.client("us/proxy/p1");
    for (n, key_type) in KeyType::ALL.into_iter().enumerate() {
        let body = json!({ "type": key_type.as_str(), "labels": { "jurisdiction": "us" } }).to_string();
        let answer = client.call("POST", &format!("/v1/transit/keys/k{n}"), &body).await;
        if cfg!(feature = "fips") && key_type == KeyType::ChaCha20Poly1305 {
            assert_eq!((answer.status, answer.error()), (400, NotApproved.to_string().as_str()));
        } else {
            assert_eq!((answer.status, answer.data("type")), (200, &json!(key_type.as_str())));
        }
    }
}

#[tokio::test]
async fn keys_are_told_of_as_vault_does() {
    let custodian = Custodian::new().await;
    let client = custodian.client("us/proxy/p1");
    let answer = client.call("LIST", "/v1/transit/keys", "").await;
    assert_eq!((answer.status, answer.text.as_str()), (404, "{\"errors\":[]}\n"));
    let answer = client.call("GET", "/v1/transit/keys/records", "").await;
    assert_eq!((answer.status, answer.text.as_str()), (404, "{\"errors\":[]}\n"));
    let body = json!({ "type": "aes128-gcm96", "labels": { "jurisdiction": "us" }, "nonsense": 1 }).to_string();
    let answer = client.call("POST", "/v1/transit/keys/records", &body).await;
    assert_eq!(answer.json["warnings"], json!(["Endpoint ignored these unrecognized parameters: [nonsense]"]));
    for (name, value) in [
        ("name", json!("records")),
        ("type", json!("aes128-gcm96")),
        ("latest_version", json!(1)),
        ("min_available_version", json!(0)),
        ("min_decryption_version", json!(1)),
        ("min_encryption_version", json!(0)),
        ("claviger", json!({ "disabled": false, "labels": { "jurisdiction": "us" } })),
    ] {
        assert_eq!(answer.data(name), &value, "{name}");
    }
    let again = client.call("POST", "/v1/transit/keys/records", "").await;
    assert_eq!((again.status, &again.json["warnings"]), (200, &json!(["key records already existed"])));
    let answer = client.call("GET", "/v1/transit/keys?list=true", "").await;
    assert_eq!(answer.data("keys"), &json!(["records"]));
    for (method, path, body, status, error) in [
        ("POST", "keys/x", "{\"type\":\"rsa-2048\"}", 400, "unknown key type rsa-2048"),
        (
            "POST",
            "keys/x",
            "{\"auto_rotate_period\":\"5m\"}",
            400,
            "auto rotate period must be 0 to disable or at least an hour",
        ),
        (
            "POST",
            "keys/x",
            "{\"derived\":true,\"convergent_encryption\":true}",
            400,
            "convergent encryption is not supported",
        ),
        ("POST", "keys/none/config", "{}", 400, "no existing key named none could be found"),
        ("POST", "keys/none/rotate", "", 400, "key not found"),
        ("POST", "encrypt/none", "{\"plaintext\":\"\"}", 400, "encryption key not found"),
        ("POST", "encrypt/records", "{}", 400, "missing plaintext to encrypt"),
        ("POST", "decrypt/records", "{}", 400, "missing ciphertext to decrypt"),
        ("GET", "encrypt/records", "", 405, "1 error occurred:\n\t* unsupported operation\n\n"),
        ("GET", "nothing", "", 404, "1 error occurred:\n\t* unsupported path\n\n"),
    ] {
        let answer = client.call(method, &format!("/v1/transit/{path}"), body).await;
        assert_eq!((answer.status, answer.error()), (status, error), "{method} {path} {body}");
    }
    assert_eq!(client.call("DELETE", "/v1/transit/keys/none/soft-delete", "").await.status, 204);
    let gone = client.call("DELETE", "/v1/transit/keys/records/soft-delete", "").await;
    assert_eq!((gone.status, gone.data("soft_deleted")), (200, &json!(true)));
    let answer = client.call("POST", "/v1/transit/encrypt/records", "{\"plaintext\":\"\"}").await;
    assert_eq!((answer.status, answer.error()), (400, "refusing to use soft-deleted key"));
    assert_eq!(client.call("POST", "/v1/transit/keys/records/soft-delete-restore", "").await.status, 200);
}

#[tokio::test]
async fn policy_denies_and_the_denial_tells_nothing() {
    let custodian = Custodian::new().await;
    custodian.client("us/officer/alice").make_key(false).await;
    let abroad = custodian.client("sg/proxy/p2");
    assert_eq!(abroad.call("POST", "/v1/transit/datakey/wrapped/records", "").await.status, 200);
    let body = json!({ "ciphertext": format!("vault:v1:{}", "A".repeat(80)) }).to_string();
    for kek in ["records", "none"] {
        let answer = abroad.call("POST", &format!("/v1/transit/decrypt/{kek}"), &body).await;
        assert_eq!((answer.status, answer.text.as_str()), (403, "{\"errors\":[\"permission denied\"]}\n"), "{kek}");
    }
    assert_eq!(abroad.call("GET", "/v1/sys/claviger/audit/checkpoint", "").await.status, 403);
    assert_eq!(abroad.call("PUT", "/v1/sys/seal", "").await.status, 403);
}

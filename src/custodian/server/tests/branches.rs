//! The endpoints about the branch keys of a KEK.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use super::harness::{Answer, Client, Custodian, LONG};
use crate::custody::context::BranchContext;
use crate::names::{BranchId, LogicalBucket, Purpose, WriterDomain};

/// The id of the branch key `number`.
fn id(number: u8) -> String {
    BranchId::from_bytes([number; 16]).to_string()
}

fn context(number: u8) -> String {
    let context = BranchContext {
        purpose: Purpose::Object,
        bucket: LogicalBucket::new("ledger").expect("legal"),
        writer: WriterDomain::new("proxy/us").expect("legal"),
        id: BranchId::from_bytes([number; 16]),
    };
    STANDARD.encode(context.to_bytes())
}

async fn generate(client: &Client, number: u8) {
    let body = json!({ "context": context(number) }).to_string();
    let answer = client.call("POST", "/v1/transit/datakey/wrapped/records", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn rotate(client: &Client) {
    assert_eq!(client.call("POST", "/v1/transit/keys/records/rotate", "").await.status, 200);
}

async fn ask(client: &Client, method: &str, what: &str, body: &Json) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    client.call(method, &format!("/v1/sys/claviger/keys/records/{what}"), &body).await
}

async fn census(client: &Client) -> Answer {
    let answer = ask(client, "GET", "census", &Json::Null).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

async fn list(client: &Client, query: &str) -> (Vec<Json>, Json) {
    let answer = ask(client, "GET", &format!("branches?{query}"), &Json::Null).await;
    assert_eq!(answer.status, 200, "{query} {answer:?}");
    (answer.data("branches").as_array().expect("a list").clone(), answer.data("next").clone())
}

/// Moves branch keys: their new wrappings in the order of `numbers`.
async fn moved(client: &Client, numbers: &[u8]) -> Vec<String> {
    let ids: Vec<String> = numbers.iter().map(|number| id(*number)).collect();
    let answer = ask(client, "POST", "rewrap", &json!({ "ids": ids })).await;
    assert_eq!((answer.status, answer.data("failed")), (200, &json!([])), "{answer:?}");
    let done = answer.data("branches").as_array().expect("a list");
    let of = |id: &String| done.iter().find(|one| one["id"] == *id).expect("moved")["ciphertext"].as_str();
    ids.iter().map(|id| of(id).expect("a text").to_owned()).collect()
}

async fn confirm(client: &Client, branches: Json) -> Answer {
    ask(client, "POST", "confirm", &json!({ "site": "main", "branches": branches })).await
}

#[tokio::test]
async fn branch_keys_are_counted_listed_moved_and_confirmed() {
    let custodian = Custodian::new().await;
    let client = custodian.client("us/proxy/p1");
    client.make_key(true).await;
    for number in 1..=3 {
        generate(&client, number).await;
    }
    rotate(&client).await;
    let counted = census(&client).await;
    for (name, value) in [
        ("kek", json!("records")),
        ("latest", json!(2)),
        ("min_decryption", json!(1)),
        ("sites", json!(["main"])),
        ("branch_keys", json!(3)),
        ("without_context", json!(0)),
        ("versions", json!({ "1": { "branch_keys": 3 }, "2": { "branch_keys": 0 } })),
        ("retire/before", json!(2)),
        ("retire/allowed", json!(false)),
        ("retire/needed", json!(3)),
        ("retire/unconfirmed", json!(0)),
    ] {
        assert_eq!(counted.data(name), &value, "{name}");
    }
    assert!(counted.data("retire/why/0").as_str().is_some_and(|why| why.contains("claviger key rewrap")));
    assert_eq!(counted.headers.get_all("x-claviger-receipt").iter().count(), 1, "it is in the log");

    let (first, next) = list(&client, "before=2&limit=2").await;
    let (rest, end) = list(&client, &format!("before=2&limit=2&after={}", next.as_str().expect("more"))).await;
    assert_eq!((first.len(), rest.len(), end), (2, 1, Json::Null));
    let mut all: Vec<Json> = first.into_iter().chain(rest).collect();
    all.sort_by_key(|one| one["id"].to_string());
    for (number, one) in (1..).zip(&all) {
        let ciphertext = one["ciphertext"].as_str().expect("a text");
        assert!(ciphertext.starts_with("vault:v1:"), "{one}");
        let expected = json!({
            "id": id(number), "context": context(number), "generated": 1, "created": one["created"], "newest": 1,
            "ciphertext": ciphertext, "confirmed": {},
        });
        assert_eq!(*one, expected);
        assert!(one["created"].as_u64().is_some_and(|created| created > 1_700_000_000), "{one}");
    }
    assert_eq!(list(&client, "before=1").await.0.len(), 0);

    let new = moved(&client, &[1, 2, 3]).await;
    assert!(new.iter().all(|ciphertext| ciphertext.starts_with("vault:v2:")), "{new:?}");
    let again = [&new[2], &new[0], &new[1], &new[0]].map(String::clone);
    assert_eq!(moved(&client, &[3, 1, 2, 1]).await, again, "the same again");
    assert_eq!(census(&client).await.data("retire/needed"), &json!(3), "nothing was read back so far");
    let answer = confirm(
        &client,
        json!([{ "id": id(1), "ciphertext": new[0] }, { "id": id(2), "ciphertext": new[1] }, { "id": id(3), "ciphertext": new[0] }]),
    )
    .await;
    assert_eq!((answer.status, answer.data("confirmed")), (200, &json!(2)), "{answer:?}");
    assert_eq!(answer.data("refused/0/id"), &json!(id(3)), "{answer:?}");
    assert!(answer.data("refused/1").is_null() && answer.data("refused/0/error").is_string(), "{answer:?}");
    let counted = census(&client).await;
    assert_eq!(counted.data("versions"), &json!({ "1": { "branch_keys": 1 }, "2": { "branch_keys": 2 } }));
    let (left, _) = list(&client, "before=2").await;
    assert_eq!((left.len(), &left[0]["id"], &left[0]["newest"]), (1, &json!(id(3)), &json!(2)));
    let (all, _) = list(&client, "").await;
    assert_eq!(all.iter().filter(|one| one["confirmed"] == json!({ "main": 2 })).count(), 2);

    // What is not there any more: with null, or without a word.
    let answer = confirm(&client, json!([{ "id": id(1), "ciphertext": null }, { "id": id(2) }])).await;
    assert_eq!((answer.data("confirmed"), answer.data("refused")), (&json!(0), &json!([])), "{answer:?}");
    assert_eq!(census(&client).await.data("retire/needed"), &json!(3));
}

#[tokio::test]
async fn lists_of_branch_keys_that_are_none_are_refused_as_a_whole() {
    let custodian = Custodian::new().await;
    let client = custodian.client("us/proxy/p1");
    client.make_key(true).await;
    generate(&client, 1).await;
    rotate(&client).await;
    let new = moved(&client, &[1]).await.remove(0);
    assert_eq!(confirm(&client, json!([{ "id": id(1), "ciphertext": new }])).await.data("confirmed"), &json!(1));
    let before = census(&client).await.data("versions").clone();

    let good = json!({ "id": id(1), "ciphertext": null });
    for ids in [
        Json::Null,
        json!(id(1)),
        json!({ "id": id(1) }),
        json!([7]),
        json!([null]),
        json!([[id(1)]]),
        json!([""]),
        json!([id(0xab).to_uppercase()]),
        json!([id(1)[1..]]),
        json!([format!("{}0", id(1))]),
        json!([id(1), "zz"]),
        json!(vec![id(1); 501]),
    ] {
        let refused = ask(&client, "POST", "rewrap", &json!({ "ids": ids })).await;
        assert_eq!(refused.status, 400, "{ids:.80} {refused:?}");
    }
    let wrapped = |ciphertext: Json| json!([good, { "id": id(1), "ciphertext": ciphertext }]);
    let long = format!("vault:v2:{}", STANDARD.encode([7; 1025]));
    for branches in [
        Json::Null,
        json!("x"),
        good.clone(),
        json!([7]),
        json!([good, "x"]),
        json!([good, {}]),
        json!([good, { "id": 7 }]),
        json!([good, { "id": "x", "ciphertext": new }]),
        wrapped(json!(7)),
        wrapped(json!("")),
        wrapped(json!("plain")),
        wrapped(json!("vault:v2:")),
        wrapped(json!("vault:v2:!!!!")),
        wrapped(json!("vault:v0:AAAA")),
        wrapped(json!("vault:v-1:AAAA")),
        wrapped(json!("vault:v99999999999:AAAA")),
        wrapped(json!(long)),
        json!(vec![good.clone(); 501]),
    ] {
        let refused = confirm(&client, branches.clone()).await;
        assert_eq!(refused.status, 400, "{branches:.80} {refused:?}");
    }
    let (some, long) = (json!([good]), "x".repeat(300));
    for site in [Json::Null, json!(7), json!(""), json!("elsewhere"), json!("MAIN"), json!(long)] {
        let refused = ask(&client, "POST", "confirm", &json!({ "site": site, "branches": some })).await;
        assert_eq!(refused.status, 400, "{site:.20} {refused:?}");
    }
    for what in ["rewrap", "confirm"] {
        for body in ["", "{", "[]", "{\"ids\":[],\"ids\":[]}", "{\"branches\":[],\"site\":\"main\",\"site\":\"main\"}"]
        {
            let path = format!("/v1/sys/claviger/keys/records/{what}");
            assert_eq!(client.call("POST", &path, body).await.status, 400, "{what} {body}");
        }
    }
    // Of nothing, nothing is done.
    assert_eq!(ask(&client, "PUT", "rewrap", &json!({ "ids": [] })).await.data("branches"), &json!([]));
    assert_eq!(confirm(&client, json!([])).await.data("confirmed"), &json!(0));
    assert_eq!(census(&client).await.data("versions"), &before, "none of it was heeded");
}

#[tokio::test]
async fn pages_that_cannot_be_meant_are_refused() {
    let custodian = Custodian::new().await;
    let client = custodian.client("us/proxy/p1");
    client.make_key(true).await;
    for number in 1..=3 {
        generate(&client, number).await;
    }
    for query in [
        "before=0",
        "before=",
        "before=-1",
        "before=x",
        "before=4294967296",
        "after=",
        "after=x",
        "after=00",
        "limit=",
        "limit=x",
        "limit=-1",
    ] {
        let refused = ask(&client, "GET", &format!("branches?{query}"), &Json::Null).await;
        assert_eq!(refused.status, 400, "{query} {refused:?}");
    }
    assert_eq!(list(&client, "limit=0").await.0.len(), 1, "one at least");
    assert_eq!(list(&client, "limit=1000000&before=4294967295").await.0.len(), 3);
    let (none, end) = list(&client, &format!("after={}", "f".repeat(64))).await;
    assert_eq!((none.len(), end), (0, Json::Null));
    for (method, what) in [
        ("POST", "census"),
        ("POST", "branches"),
        ("DELETE", "branches"),
        ("GET", "rewrap"),
        ("GET", "confirm"),
        ("DELETE", "confirm"),
    ] {
        assert_eq!(ask(&client, method, what, &Json::Null).await.status, 405, "{method} {what}");
    }
}

#[tokio::test]
async fn branch_keys_of_others_are_neither_moved_nor_confirmed() {
    let custodian = Custodian::new().await;
    let client = custodian.client("us/proxy/p1");
    client.make_key(true).await;
    assert_eq!(client.call("POST", "/v1/transit/keys/others", "{\"derived\":true}").await.status, 200);
    let body = json!({ "context": context(9) }).to_string();
    assert_eq!(client.call("POST", "/v1/transit/datakey/wrapped/others", &body).await.status, 200);
    generate(&client, 1).await;
    rotate(&client).await;
    let new = moved(&client, &[1]).await.remove(0);
    // Under another KEK, and of nobody.
    let unknown = [id(9), id(8)];
    let answer = ask(&client, "POST", "rewrap", &json!({ "ids": unknown })).await;
    assert_eq!((answer.status, answer.data("branches")), (200, &json!([])), "{answer:?}");
    let error = "the ledger has no such branch key";
    let failed = json!(unknown.each_ref().map(|id| json!({ "id": id, "error": error })));
    assert_eq!(answer.data("failed"), &failed);
    let branches = unknown.each_ref().map(|id| json!({ "id": id, "ciphertext": new }));
    let answer = confirm(&client, json!(branches)).await;
    assert_eq!((answer.data("confirmed"), answer.data("refused")), (&json!(0), &failed), "{answer:?}");
    let gone = unknown.each_ref().map(|id| json!({ "id": id }));
    assert_eq!(confirm(&client, json!(gone)).await.data("refused"), &failed);
    assert_eq!(census(&client).await.data("branch_keys"), &json!(1), "and none was added");
}

/// The four calls, well formed.
fn calls() -> [(&'static str, &'static str, Json); 4] {
    [
        ("GET", "census", Json::Null),
        ("GET", "branches", Json::Null),
        ("POST", "rewrap", json!({ "ids": [id(1)] })),
        ("POST", "confirm", json!({ "site": "main", "branches": [{ "id": id(1) }] })),
    ]
}

#[tokio::test]
async fn who_may_not_is_told_nothing_and_who_may_that_there_is_no_such_kek() {
    let custodian = Custodian::new().await;
    let (client, abroad) = (custodian.client("us/proxy/p1"), custodian.client("sg/proxy/p2"));
    for there in [false, true] {
        if there {
            client.make_key(true).await;
            generate(&client, 1).await;
        }
        for (method, what, body) in calls() {
            let denied = ask(&abroad, method, what, &body).await;
            let text = "{\"errors\":[\"permission denied\"]}\n";
            assert_eq!((denied.status, denied.text.as_str()), (403, text), "{what}");
            let answer = ask(&client, method, what, &body).await;
            match there {
                false => assert_eq!((answer.status, answer.error()), (400, "encryption key not found"), "{what}"),
                true => assert_eq!(answer.status, 200, "{what} {answer:?}"),
            }
        }
    }
    for name in ["a.b", "-", &"k".repeat(200)] {
        for (method, what, body) in calls() {
            let path = format!("/v1/sys/claviger/keys/{name}/{what}");
            let answer = client.call(method, &path, &body.to_string()).await;
            assert!([400, 404].contains(&answer.status), "{path} {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_disabled_kek_is_counted_and_not_used() {
    let custodian = Custodian::new().await;
    let client = custodian.client("us/officer/alice");
    let proxy = custodian.client("us/proxy/p1");
    client.make_key(true).await;
    generate(&proxy, 1).await;
    let disabled = client.call("POST", "/v1/sys/claviger/keys/records/disable", "").await;
    assert_eq!(disabled.status, 200, "{disabled:?}");
    for (method, what, body) in calls() {
        let answer = ask(&client, method, what, &body).await;
        let expected = if method == "GET" { 200 } else { 403 };
        assert_eq!(answer.status, expected, "{what} {answer:?}");
    }
}

#[tokio::test]
async fn sealed_it_tells_nothing_of_branch_keys() {
    let custodian = Custodian::sealed(None, LONG).await;
    let client = custodian.client("us/proxy/p1");
    for (method, what, body) in calls() {
        let answer = ask(&client, method, what, &body).await;
        assert_eq!((answer.status, answer.error()), (503, "Vault is sealed"), "{what}");
    }
}

//! The end of KEKs, and their way out and back, over the API.

use serde_json::{Value as Json, json};

use super::harness::{Answer, Client, Custodian};
use super::people::vote;
use crate::custodian::approval::Verb;
use crate::custodian::backup::{Backup, Identities, NewIdentity, new_identity, open_share};
use crate::custodian::destruction::read_certificate;
use crate::tlog::note::VerifierKey;

const OURS: &str = "/v1/sys/claviger";

/// Who asks, and two who approve.
struct Officers {
    rita: Client,
    others: [Client; 2],
}

impl Officers {
    fn of(custodian: &Custodian) -> Self {
        let [rita, alice, bob] = ["rita", "alice", "bob"].map(|name| custodian.client(&format!("us/officer/{name}")));
        Self { rita, others: [alice, bob] }
    }

    /// The answer to a gated call, once the others approved it.
    async fn approved(&self, path: &str, body: &str, then: &str) -> Answer {
        let asked = self.rita.call("POST", path, body).await;
        assert_eq!((asked.status, asked.error()), (403, "approval required"), "{path} {asked:?}");
        let id = asked.data_text("proposal_id");
        for officer in &self.others {
            let shown = officer.call("GET", &format!("{OURS}/proposals/{id}"), "").await;
            let ballot = vote(officer, &shown.json["data"], Verb::Approve);
            let voted = officer.call("POST", &format!("{OURS}/proposals/{id}/approve"), &ballot).await;
            assert_eq!(voted.status, 200, "{voted:?}");
        }
        self.rita.call("POST", path, then).await
    }

    async fn destroyed(&self, kek: &str) -> String {
        let path = |verb: &str| format!("{OURS}/keys/{kek}/{verb}");
        let scheduled = self.approved(&path("destroy"), "", "").await;
        assert_eq!((scheduled.status, scheduled.data("insecure_wait")), (200, &json!(true)), "{scheduled:?}");
        let erased = self.approved(&path("erase"), "", "").await;
        assert_eq!((erased.status, erased.data("state")), (200, &json!("erased")), "{erased:?}");
        erased.data_text("certificate")
    }
}

#[tokio::test]
async fn a_kek_is_destroyed_in_two_steps_and_the_certificate_says_so() {
    let custodian = Custodian::new().await;
    let officers = Officers::of(&custodian);
    let rita = &officers.rita;
    let destroy = format!("{OURS}/keys/records/destroy");
    let unknown = rita.call("POST", &destroy, "").await;
    assert_eq!((unknown.status, unknown.error()), (400, "encryption key not found"));
    assert_eq!(rita.call("GET", &format!("{OURS}/keys/records/destruction"), "").await.status, 404);
    rita.make_key(true).await;
    let early = rita.call("POST", &format!("{OURS}/keys/records/erase"), "").await;
    assert!(early.status == 400 && early.error().contains("`destroy` comes first"), "{early:?}");
    let versions = rita.call("POST", &destroy, "{\"version\":1}").await;
    assert!(versions.status == 400 && versions.error().contains("is still opened"), "{versions:?}");
    assert_eq!(rita.call("POST", &destroy, "{\"version\":0}").await.status, 400);
    let none = rita.call("GET", &format!("{OURS}/keys/records/destruction"), "").await;
    assert_eq!((none.status, none.data("destructions")), (200, &json!([])));

    assert_eq!(rita.call("POST", &destroy, "").await.status, 403);
    let off = rita.call("GET", "/v1/transit/keys/records", "").await;
    assert_eq!(off.data("claviger")["disabled"], true, "off at once");
    let scheduled = officers.approved(&destroy, "", "").await;
    assert_eq!((scheduled.status, scheduled.data("state")), (200, &json!("due")), "{scheduled:?}");
    let enable = rita.call("POST", &format!("{OURS}/keys/records/enable"), "").await;
    assert!(enable.status == 400 && enable.error().contains("cancel it first"), "{enable:?}");
    let cancelled = officers.others[0].call("POST", &format!("{destroy}/cancel"), "").await;
    assert_eq!((cancelled.status, cancelled.data("state")), (200, &json!("cancelled")), "{cancelled:?}");

    let certificate = officers.destroyed("records").await;
    let key = rita.call("GET", &format!("{OURS}/audit/key"), "").await;
    let key = VerifierKey::parse(key.text.trim()).expect("a key");
    let certificate = read_certificate(certificate.as_bytes(), &key).expect("is good");
    assert_eq!(certificate["kek"], "records");
    let made = rita.call("POST", "/v1/transit/keys/records", "{}").await;
    assert!(made.status == 400 && made.error().contains("never used"), "{made:?}");
    assert_eq!(rita.call("GET", "/v1/transit/keys/records", "").await.status, 404);
    let known = rita.call("GET", &format!("{OURS}/keys/records/destruction"), "").await;
    assert_eq!(known.json.pointer("/data/destructions/0/state"), Some(&json!("erased")));
}

struct Holder {
    identities: Identities,
    recipient: String,
}

fn holder() -> Holder {
    let NewIdentity { file, recipient } = new_identity();
    Holder { identities: Identities::parse(&file).expect("is one"), recipient }
}

fn shares(backup: &str, holders: &[&Holder]) -> Vec<String> {
    let backup = Backup::parse(backup).expect("parses");
    let open = |holder: &&Holder| open_share(backup.shares().map(|(_, share)| share), &holder.identities);
    holders.iter().map(|holder| open(holder).expect("has one").as_str().to_owned()).collect()
}

async fn encrypted(client: &Client, kek: &str) -> String {
    let body = json!({ "plaintext": "aGVsbG8=", "context": "Y29udGV4dA==" }).to_string();
    let answer = client.call("POST", &format!("/v1/transit/encrypt/{kek}"), &body).await;
    answer.data_text("ciphertext")
}

async fn decrypted(client: &Client, kek: &str, ciphertext: &str) -> Answer {
    let body = json!({ "ciphertext": ciphertext, "context": "Y29udGV4dA==" }).to_string();
    client.call("POST", &format!("/v1/transit/decrypt/{kek}"), &body).await
}

#[tokio::test]
async fn a_backup_opens_everything_in_another_custodian_and_nothing_that_was_destroyed_here() {
    let custodian = Custodian::new().await;
    let officers = Officers::of(&custodian);
    let rita = &officers.rita;
    rita.make_key(true).await;
    let made = rita.call("POST", "/v1/transit/keys/others", "{\"derived\":true}").await;
    assert_eq!(made.status, 200, "{made:?}");
    let ciphertext = encrypted(rita, "records").await;
    let holders = [holder(), holder(), holder()];
    let recipients: Vec<&str> = holders.iter().map(|holder| holder.recipient.as_str()).collect();
    let path = format!("{OURS}/backup");
    for bad in [
        json!({}),
        json!({ "recipients": recipients }),
        json!({ "recipients": recipients, "threshold": 1 }),
        json!({ "recipients": recipients, "threshold": -2 }),
        json!({ "recipients": recipients[..1], "threshold": 2 }),
        json!({ "recipients": recipients, "threshold": 2, "keks": ["nothing"] }),
        json!({ "recipients": recipients, "threshold": 2, "keks": "records" }),
    ] {
        let refused = rita.call("POST", &path, &bad.to_string()).await;
        assert_eq!(refused.status, 400, "{bad} {refused:?}");
    }
    let body = json!({ "recipients": recipients, "threshold": 2 }).to_string();
    let backup = officers.approved(&path, &body, &body).await;
    assert_eq!((backup.status, backup.data("keks")), (200, &json!(["others", "records"])), "{backup:?}");
    let backup = backup.data_text("backup");

    let empty = Custodian::new().await;
    let there = Officers::of(&empty);
    let restore = format!("{OURS}/restore");
    let sha256 = crate::custodian::approval::json::hex(&Backup::parse(&backup).expect("parses").sha256());
    let propose = json!({ "backup_sha256": sha256 }).to_string();
    let some = shares(&backup, &[&holders[2], &holders[0]]);
    let whole = json!({ "backup": backup, "shares": some }).to_string();
    let done = there.approved(&restore, &propose, &whole).await;
    assert_eq!((done.status, done.data("restored")), (200, &json!(["others", "records"])), "{done:?}");
    let opened = decrypted(&there.rita, "records", &ciphertext).await;
    assert_eq!(opened.data_text("plaintext"), "aGVsbG8=");
    let proposals = there.rita.call("GET", &format!("{OURS}/proposals"), "").await;
    assert!(proposals.text.contains(&sha256) && !proposals.text.contains(&some[0]), "no share stands in a proposal");
    let neither = there.rita.call("POST", &restore, "{}").await;
    assert_eq!(neither.status, 400, "{neither:?}");

    officers.destroyed("records").await;
    let done = officers.approved(&restore, &whole, &whole).await;
    assert_eq!((done.status, done.data("restored")), (200, &json!([])), "{done:?}");
    let why: Vec<&Json> = done.data("refused").as_array().into_iter().flatten().map(|one| &one["error"]).collect();
    assert_eq!(why.len(), 2);
    assert!(why[0].as_str().is_some_and(|why| why.contains("exists")), "{why:?}");
    assert!(why[1].as_str().is_some_and(|why| why.contains("destroyed")), "{why:?}");
    let refused = decrypted(rita, "records", &ciphertext).await;
    assert_eq!((refused.status, refused.error()), (400, "encryption key not found"));
}

#[tokio::test]
async fn pages_of_branch_keys_are_bounded_and_wrong_ones_name_themselves() {
    let custodian = Custodian::new().await;
    let officer = custodian.client("us/officer/rita");
    officer.make_key(true).await;
    let path = format!("{OURS}/restore/branches");
    let branch = json!({ "id": "00".repeat(16), "context": "AAAA", "generated": 1, "ciphertexts": ["vault:v1:AAAA"] });
    for bad in [
        json!({}),
        json!({ "kek": "records" }),
        json!({ "kek": "records", "branches": [branch] }),
        json!({ "kek": "records", "branches": [7] }),
        json!({ "kek": "records", "branches": vec![json!({}); 501] }),
        json!({ "kek": "a.b", "branches": [] }),
    ] {
        let refused = officer.call("POST", &path, &bad.to_string()).await;
        assert_eq!(refused.status, 400, "{bad:.80} {refused:?}");
    }
    let none = officer.call("POST", &path, &json!({ "kek": "records", "branches": [] }).to_string()).await;
    assert_eq!((none.status, none.data("taken")), (200, &json!(0)), "{none:?}");
    let denied = custodian.client("sg/officer/olga");
    assert_eq!(denied.call("POST", &path, &json!({ "kek": "records", "branches": [] }).to_string()).await.status, 403);
}

//! The client against servers that answer as told, and the flags against environments.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use clap::{Parser, error::ErrorKind};
use http::Response;
use hyper::body::Incoming;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::*;
use crate::net::listener::{ConnectionInfo, ListenerLimits, run};
use crate::net::tests::{Ca, full, read_head, scripted, write_file};
use crate::net::tls::server_config;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    flags: CustodianFlags,
}

fn flags(line: &[&str]) -> CustodianFlags {
    Line::try_parse_from([&["claviger"], line].concat()).unwrap_or_else(|error| panic!("{error}")).flags
}

/// One request: method and path, the token and reason headers, and the body.
type Seen = (String, Option<String>, Option<String>, Value);

/// A server that answers as told and remembers what it was asked.
pub(in crate::cli) struct Fake {
    pub(in crate::cli) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// `answer` gives status, whether it is as ours, and the body.
    pub(in crate::cli) async fn start<F>(answer: F) -> Self
    where
        F: Fn(&str) -> (u16, bool, Value) + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (seen, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
        let notes = Arc::clone(&seen);
        let service = move |request: Request<Incoming>, _: ConnectionInfo| {
            let (notes, answer) = (Arc::clone(&notes), Arc::clone(&answer));
            async move {
                let call = format!("{} {}", request.method(), request.uri());
                let header = |name: &str| request.headers().get(name).map(|v| v.to_str().expect("ASCII").to_owned());
                let (token, reason) = (header("x-vault-token"), header("x-claviger-reason"));
                let body = collect_bounded(request.into_body(), 1 << 20).await.expect("a small body");
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let (status, ours, shown) = answer(&call);
                notes.lock().expect("not poisoned").push((call, token, reason, body));
                let mut response = Response::builder().status(status);
                if ours {
                    response = response.header(OURS, "00000000-0000-4000-8000-000000000000");
                }
                response.body(full(&shown.to_string())).expect("good response")
            }
        };
        tokio::spawn(run(listener, None, ListenerLimits::default(), service, std::future::pending()));
        Self { url, seen }
    }

    pub(in crate::cli) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("not poisoned").clone()
    }

    pub(in crate::cli) fn client(&self, more: &[&str]) -> Client {
        client(&[&["--custodian-url", &self.url], more].concat())
    }
}

fn client(line: &[&str]) -> Client {
    Client::of(flags(line).resolve(|_| None).expect("good flags")).expect("good files")
}

async fn answered(status: u16, ours: bool, body: Value) -> (Result<Answer>, Result<Answer>) {
    let fake = Fake::start(move |_| (status, ours, body.clone())).await;
    let client = fake.client(&[]);
    let transit = client.transit(Method::GET, "keys/records", None).await;
    (transit, client.ours(Method::GET, "grants", None, "access grants").await)
}

fn refused(answer: Result<Answer>) -> CallError {
    answer.expect_err("must be refused").downcast().expect("an error of the call")
}

#[tokio::test]
async fn a_call_says_who_why_and_what() {
    let fake = Fake::start(|_| (200, true, json!({"data": {"name": "records"}, "warnings": null}))).await;
    let folder = tempfile::tempdir().expect("a folder");
    let token = write_file(folder.path(), "token", b"s.secret\n");
    let token = token.to_str().expect("UTF-8");
    let client = fake.client(&["--token-file", token, "--reason", "maintenance", "--mount", "/kms/transit/"]);
    let answer = client.transit(Method::POST, "keys/records", Some(&json!({"derived": true}))).await.expect("answers");
    assert_eq!((answer.data["name"].as_str(), answer.ours), (Some("records"), true));
    client.ours(Method::GET, "grants", None, "access grants").await.expect("answers");
    let said = (Some("s.secret".to_owned()), Some("maintenance".to_owned()));
    let seen = fake.seen();
    let first =
        ("POST /v1/kms/transit/keys/records".to_owned(), said.0.clone(), said.1.clone(), json!({"derived": true}));
    assert_eq!(seen[0], first);
    assert_eq!(seen[1], ("GET /v1/sys/claviger/grants".to_owned(), said.0, said.1, Value::Null));
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let (transit, ours) = answered(403, true, json!({"errors": ["permission denied"]})).await;
    for refusal in [refused(transit), refused(ours)] {
        assert!(matches!(&refusal, CallError::Denied { texts } if texts == "permission denied"), "{refusal}");
        assert!(refusal.to_string().contains("--reason"));
    }
    let (sealed, _) = answered(503, true, json!({"errors": ["Vault is sealed"]})).await;
    let sealed = refused(sealed).to_string();
    assert!(sealed.contains("Vault is sealed") && sealed.contains("claviger unseal"), "{sealed}");
    let (absent, ours) = answered(404, true, json!({"errors": []})).await;
    assert!(matches!(refused(absent), CallError::NotFound { .. }));
    assert!(matches!(refused(ours), CallError::NotFound { .. }), "our server, but no such thing");
    let (other, _) = answered(400, true, json!({"errors": ["bad\u{1b}[2Jthing", "two"]})).await;
    let CallError::Refused { status, texts } = refused(other) else { panic!("another refusal") };
    assert_eq!((status, texts.as_str()), (StatusCode::BAD_REQUEST, "bad\\u{1b}[2Jthing; two"));
}

#[tokio::test]
async fn what_only_ours_has_is_said_of_other_servers() {
    for status in [404, 403, 405] {
        let (transit, ours) = answered(status, false, json!({"errors": ["no handler for route"]})).await;
        let said = refused(ours).to_string();
        assert_eq!(said, "this server does not have access grants: it is an OpenBao or Vault server");
        assert!(!matches!(refused(transit), CallError::NotHere { .. }), "Transit is there");
    }
    let (_, sealed) = answered(503, false, json!({"errors": ["Vault is sealed"]})).await;
    assert!(matches!(refused(sealed), CallError::Sealed { .. }));
}

const PROPOSAL: &str = "p-0123456789abcdef";

pub(in crate::cli) fn document() -> Value {
    json!({
        "id": PROPOSAL, "requester": "spiffe://example.org/region/us/officer/rita", "method": "POST",
        "path": "/v1/transit/keys/records/trim", "body": "{\"min_available_version\":2}", "kek": "records", "version": 3,
        "policy_sha256": "05".repeat(32), "created": "2027-01-15T08:00:00Z", "expires": "2027-01-18T08:00:00Z",
        "required": 2, "state": "pending", "approvals": [],
    })
}

#[tokio::test]
async fn a_gated_call_tells_the_proposal_and_who_must_approve() {
    let gated = json!({"errors": ["approval required"], "data": {"proposal_id": PROPOSAL}});
    for (visible, expected) in
        [(true, "2 officers other than spiffe://example.org/region/us/officer/rita"), (false, "you")]
    {
        let gated = gated.clone();
        let fake = Fake::start(move |call| match call {
            "GET /v1/sys/claviger/proposals/p-0123456789abcdef" if visible => (200, true, json!({"data": document()})),
            "GET /v1/sys/claviger/proposals/p-0123456789abcdef" => {
                (403, true, json!({"errors": ["permission denied"]}))
            }
            _ => (403, true, gated.clone()),
        });
        let client = fake.await.client(&[]);
        let error = client.transit(Method::POST, "keys/records/trim", None).await.expect_err("gated");
        // What commands put around it does not hide it.
        let error = error.context("cannot trim");
        let gated: &Gated = error.downcast_ref().expect("gated");
        assert_eq!(gated.proposal_id, PROPOSAL);
        let advice = gated.advice();
        assert!(advice.contains(expected) && advice.contains("claviger approve p-0123456789abcdef"), "{advice}");
        assert!(advice.contains("then run the same command again"), "{advice}");
    }
    // An id that is none does not get into a path or onto a terminal.
    let bad = json!({"errors": ["approval required"], "data": {"proposal_id": "../../x"}});
    let (transit, _) = answered(403, true, bad).await;
    assert!(matches!(refused(transit), CallError::Denied { .. }));
}

#[tokio::test]
async fn no_answer_is_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ca, other) = (Ca::new(folder.path(), "ca"), Ca::new(folder.path(), "other"));
    let identity = ca.issue("server", &["localhost"]);
    let config = server_config(&identity, Some(&ca.file)).expect("good files");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let url = format!("https://localhost:{}", listener.local_addr().expect("bound").port());
    let service = |_: Request<Incoming>, _: ConnectionInfo| async { Response::new(full("{}")) };
    tokio::spawn(run(listener, Some(config), ListenerLimits::default(), service, std::future::pending()));

    let path = |path: &PathBuf| path.to_str().expect("UTF-8").to_owned();
    let me = ca.issue("me", &["me"]);
    let with = |ca: &Ca, identity: Option<&IdentityFiles>| {
        let mut line =
            vec!["--custodian-url".to_owned(), url.clone(), "--custodian-ca-file".to_owned(), path(&ca.file)];
        if let Some(identity) = identity {
            line.extend(["--certificate-file".to_owned(), path(&identity.certificates)]);
            line.extend(["--key-file".to_owned(), path(&identity.key)]);
        }
        client(&line.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let call = async |client: Client| client.transit(Method::GET, "keys/records", None).await;
    call(with(&ca, Some(&me))).await.expect("answers");
    let refusal = refused(call(with(&other, Some(&me))).await);
    assert!(matches!(refusal, CallError::Untrusted { .. }), "{refusal}");
    for identity in [None, Some(&other.issue("stranger", &["stranger"]))] {
        let refusal = refused(call(with(&ca, identity)).await);
        assert!(matches!(refusal, CallError::BrokenOff { .. }), "{refusal:?}");
    }
    let refusal = refused(call(client(&["--custodian-url", "http://127.0.0.1:1"])).await);
    assert!(matches!(refusal, CallError::Unreachable { .. }), "{refusal}");
    let rude = scripted(|mut stream, _| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>").await;
    });
    let refusal = refused(call(client(&["--custodian-url", &format!("http://{}", rude.await.address)])).await);
    assert!(matches!(refusal, CallError::NotACustodian { .. }), "{refusal:?}");
}

fn resolved(line: &[&str], environment: &[(&str, &str)]) -> Result<Target> {
    flags(line).resolve(|name| {
        let found = environment.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn flags_go_before_the_environment_of_vault() {
    let vault = [
        ("VAULT_ADDR", "https://bao.example.org:8200/"),
        ("VAULT_CACERT", "/ca"),
        ("VAULT_CLIENT_CERT", "/crt"),
        ("VAULT_CLIENT_KEY", "/key"),
        ("VAULT_TOKEN", "s.abc"),
    ];
    let target = resolved(&[], &vault).expect("all there");
    assert_eq!((target.url.as_str(), target.mount.as_str()), ("https://bao.example.org:8200", "transit"));
    assert_eq!(target.tls.ca_file, Some(PathBuf::from("/ca")));
    assert_eq!(target.tls.identity.map(|files| files.key), Some(PathBuf::from("/key")));
    let token = target.token.expect("a token");
    assert_eq!((token.to_str().ok(), token.is_sensitive()), (Some("s.abc"), true));
    let target =
        resolved(&["--custodian-url", "https://c:1", "--custodian-ca-file", "/own"], &vault).expect("all there");
    assert_eq!((target.url.as_str(), target.tls.ca_file), ("https://c:1", Some(PathBuf::from("/own"))));
    assert!(resolved(&[], &[("VAULT_ADDR", "")]).is_err(), "empty is not set");
}

#[test]
fn what_does_not_do_is_refused() {
    let url = |url: &str| resolved(&["--custodian-url", url], &[]).map(|target| target.url);
    for good in ["https://h", "http://127.0.0.1:8200", "http://localhost:8200/", "http://[::1]:1"] {
        assert_eq!(url(good).expect("good"), good.trim_end_matches('/'));
    }
    for bad in [
        "http://example.org",
        "http://127.0.0.1.example.org",
        "ftp://h",
        "h:8200",
        "https://h/v1",
        "https://a@h",
        "x y",
    ] {
        assert!(url(bad).is_err(), "{bad}");
    }
    let with = |more: &[&str]| resolved(&[&["--custodian-url", "https://h"], more].concat(), &[]).map(drop);
    for mount in ["", "a/../b", "a//b", "a%2f", "a b", "a?b", "."] {
        assert!(with(&["--mount", mount]).is_err(), "{mount:?}");
    }
    assert!(with(&["--certificate-file", "/crt"]).is_err());
    assert!(with(&["--key-file", "/key"]).is_err());
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in [("empty", &b"\n"[..]), ("long", &[b'a'; 9000]), ("split", b"a\nb"), ("bytes", b"\xff")] {
        let file = write_file(folder.path(), name, content);
        assert!(with(&["--token-file", file.to_str().expect("UTF-8")]).is_err(), "{name}");
    }
    let bad_reason = Line::try_parse_from(["claviger", "--reason", "because"]).map(drop);
    assert_eq!(bad_reason.expect_err("no such reason").kind(), ErrorKind::ValueValidation);
}

#[test]
fn what_servers_say_moves_no_cursor_and_hides_nothing() {
    assert_eq!(plain("é\u{1b}[2J\r\n\u{202e}abc\u{200b}"), "é\\u{1b}[2J\\u{d}\\u{a}\\u{202e}abc\\u{200b}");
    assert_eq!(ascii("{\"a\": \"é\u{430}\"}"), "{\"a\": \"\\u{e9}\\u{430}\"}");
}

/// Flags for an officer, whose files lie in `folder`.
pub(in crate::cli) fn officer(folder: &std::path::Path) -> Vec<String> {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    let id = Ia5String::try_from("spiffe://example.org/region/us/officer/alice").expect("ASCII");
    params.subject_alt_names = vec![SanType::URI(id)];
    let certificate = params.self_signed(&key).expect("signs itself").pem();
    let files = [
        ("--certificate-file", write_file(folder, "alice.crt", certificate.as_bytes())),
        ("--key-file", write_file(folder, "alice.key", key.serialize_pem().as_bytes())),
    ];
    files.iter().flat_map(|(flag, file)| [(*flag).to_owned(), file.to_str().expect("UTF-8").to_owned()]).collect()
}

#[test]
fn the_frame_around_one_error_is_left_out() {
    let body = serde_json::json!({"errors": ["1 error occurred:\n\t* the store was not seen lately\n\n", "permission denied"]});
    assert_eq!(texts(&body, "errors"), ["the store was not seen lately", "permission denied"]);
}

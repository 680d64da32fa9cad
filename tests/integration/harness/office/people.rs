//! Who asks a custodian, and approves.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use claviger::custodian::approval::{ProposalDocument, Subject, Verb, sign_approval};
use claviger::net::client::{ClientSettings, HttpClient};
use claviger::net::tls::{IdentityFiles, client_config, load_certificates};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use super::place::Place;
use crate::harness::LONG;

/// Somebody with a certificate.
pub(super) struct Person {
    http: HttpClient<Full<Bytes>>,
    port: u16,
    identity: IdentityFiles,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    /// Null for what is not JSON.
    pub(crate) json: Value,
}

impl Told {
    pub(crate) fn error(&self) -> &str {
        self.json.pointer("/errors/0").and_then(Value::as_str).unwrap_or("-")
    }
}

impl Person {
    pub(super) fn new(place: &Place, port: u16, rest: &str) -> Self {
        let identity = place.issue(rest);
        let tls = client_config(&place.tls(&identity)).expect("good files");
        // A custodian that was started again has closed what was kept.
        let settings = ClientSettings { pool_max_idle_per_host: 0, ..ClientSettings::default() };
        Self { http: HttpClient::new(tls, &settings), port, identity }
    }

    pub(super) async fn ask(&self, method: &str, path: &str, body: &Value) -> Told {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = Request::builder().method(method).uri(format!("https://localhost:{}/v1/{path}", self.port));
        let answer = self.http.request(request.body(Full::new(body)).expect("a request"), LONG).await;
        let (head, body) = answer.unwrap_or_else(|error| panic!("{method} {path}: {error:?}")).into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        Told { status: head.status.as_u16(), json: serde_json::from_slice(&body).unwrap_or_default() }
    }

    pub(super) async fn approve(&self, proposal: &str) {
        let path = format!("sys/claviger/proposals/{proposal}");
        let shown = self.ask("GET", &path, &Value::Null).await;
        let hash = ProposalDocument::from_json(&shown.json["data"]).expect("a proposal").hash();
        let body = self.signed(&self.identity.certificates, &hash);
        let told = self.ask("POST", &format!("{path}/approve"), &body).await;
        assert_eq!(told.status, 200, "{told:?}");
    }

    fn signed(&self, certificate: &Path, hash: &[u8; 32]) -> Value {
        let key = std::fs::read(&self.identity.key).expect("its own key");
        let certificates = load_certificates(certificate).expect("its own certificate");
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let signed = sign_approval(&key, &certificates[0], Subject::Proposal, Verb::Approve, hash, now);
        let signed = signed.expect("signs");
        json!({ "certificate": STANDARD.encode(&signed.certificate), "signature": STANDARD.encode(&signed.signature) })
    }
}

//! The client against servers of its own: what it sends, and what it makes of each answer.

mod faults;
mod tokens;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::custody::reason::Reason;
use crate::names::{BranchId, KekVersion, LogicalBucket, Principal, Purpose, WriterDomain};
use crate::net::body::collect_bounded;
use crate::net::listener::{ConnectionInfo, ListenerLimits, run};
use crate::net::tests::write_file;
use crate::net::tls::ClientTls;
use settings::Address;

/// 32 times the byte 7.
const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
const WRAPPED: &str = "vault:v3:AAECAwQ=";

fn kek() -> KekName {
    KekName::new("records").expect("legal")
}

fn context() -> BranchContext {
    BranchContext {
        purpose: Purpose::Object,
        bucket: LogicalBucket::new("ledger").expect("legal"),
        writer: WriterDomain::new("proxy/us").expect("legal"),
        id: BranchId::from_bytes([1; 16]),
    }
}

fn caller() -> Caller {
    Caller { principal: Principal::new("alice@example.org").expect("legal"), reason: Reason::CustomerInitiated }
}

fn wrapped() -> WrappedKey {
    WrappedKey::new(KekVersion::new(3).expect("not zero"), vec![0, 1, 2, 3, 4]).expect("fits")
}

/// A request as a server saw it.
struct Seen {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Value,
    /// In which the client showed itself.
    certificate: Option<Vec<u8>>,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A server that answers by a function of the request.
struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    async fn start(answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static) -> Self {
        Self::with_tls(None, answer).await
    }

    async fn with_tls(
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let port = listener.local_addr().expect("bound").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        let service = move |request: Request<Incoming>, info: ConnectionInfo| {
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            async move {
                let (head, body) = request.into_parts();
                let body = collect_bounded(body, 1 << 20).await.expect("small bodies");
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let (method, path, headers) = (head.method, head.uri.path().to_owned(), head.headers);
                let certificate = info.client_certificate.map(|certificate| certificate.to_vec());
                let seen = Seen { method, path, headers, body, certificate };
                let response = answer(&seen);
                log.lock().expect("not poisoned").push(seen);
                response
            }
        };
        tokio::spawn(run(listener, tls, ListenerLimits::default(), service, std::future::pending()));
        Self { port, seen }
    }

    fn count(&self) -> usize {
        self.seen.lock().expect("not poisoned").len()
    }

    fn last<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(self.seen.lock().expect("not poisoned").last().expect("a request came"))
    }
}

fn answer(status: u16, body: &Value) -> Response<Full<Bytes>> {
    raw_answer(status, "application/json", body.to_string())
}

fn raw_answer(status: u16, content_type: &str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header(CONTENT_TYPE, content_type);
    response.body(Full::new(body.into())).expect("good response")
}

/// What a working server answers to each of the three verbs.
fn data() -> Value {
    json!({"request_id": "1", "lease_id": "", "renewable": false, "lease_duration": 0, "wrap_info": null, "auth": null,
        "data": {"plaintext": KEY, "ciphertext": WRAPPED, "key_version": 3}, "warnings": null})
}

fn good() -> Response<Full<Bytes>> {
    answer(200, &data())
}

fn refusing(status: u16, text: &str) -> Response<Full<Bytes>> {
    answer(status, &json!({"errors": [text]}))
}

fn http_addresses(ports: &[u16]) -> Vec<Address> {
    ports.iter().map(|port| Address::parse(&format!("http://127.0.0.1:{port}")).expect("legal")).collect()
}

/// Settings with a token file in `folder`, for servers without TLS.
fn settings(folder: &Path, ports: &[u16]) -> TransitSettings {
    let path = write_file(folder, "token", b"s.the-token\n");
    let defaults = TransitSettings::new(http_addresses(ports), ClientTls::default());
    TransitSettings { authentication: Authentication::TokenFile(path), ..defaults }
}

fn client(folder: &Path, ports: &[u16], deadline: Duration) -> Transit {
    Transit::new(&TransitSettings { deadline, ..settings(folder, ports) }).expect("good settings")
}

/// The error of an unwrap from a server that answers like this.
async fn unwrap_error(answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static) -> CustodyError {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(answer).await;
    let transit = client(folder.path(), &[server.port], Duration::from_secs(10));
    transit.unwrap(&kek(), &context(), &wrapped(), &caller()).await.err().expect("must fail")
}

#[tokio::test]
async fn each_verb_sends_what_transit_expects() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(|_| good()).await;
    let transit = client(folder.path(), &[server.port], Duration::from_secs(10));
    let context_text = ciphertext::to_base64(&context().to_bytes());

    let (secret, fresh) = transit.generate(&kek(), &context(), &caller()).await.expect("answers");
    assert_eq!((secret.expose(), &fresh), (&[7; 32], &wrapped()));
    server.last(|seen| {
        assert_eq!((&seen.method, seen.path.as_str()), (&Method::POST, "/v1/transit/datakey/plaintext/records"));
        assert_eq!(seen.body, json!({"context": context_text, "bits": 256}));
        assert_eq!(seen.header("x-vault-token"), Some("s.the-token"));
        assert_eq!(seen.header("x-vault-request"), Some("true"));
        assert_eq!(seen.header("x-claviger-reason"), Some("customer-initiated"));
        assert_eq!(seen.header("x-claviger-principal"), Some("alice@example.org"));
    });

    let secret = transit.unwrap(&kek(), &context(), &wrapped(), &caller()).await.expect("answers");
    assert_eq!(secret.expose(), &[7; 32]);
    let sent = json!({"context": context_text, "ciphertext": WRAPPED});
    server.last(|seen| assert_eq!((seen.path.as_str(), &seen.body), ("/v1/transit/decrypt/records", &sent)));

    let rewrapped = transit.rewrap(&kek(), &context(), &wrapped(), &caller()).await.expect("answers");
    assert_eq!(rewrapped, wrapped());
    server.last(|seen| assert_eq!((seen.path.as_str(), &seen.body), ("/v1/transit/rewrap/records", &sent)));
    assert_eq!(server.count(), 3);
}

#[tokio::test]
async fn each_refusal_has_its_error() {
    let refused = |status, text: &'static str| unwrap_error(move |_| refusing(status, text));
    assert!(matches!(refused(400, "encryption key not found").await, CustodyError::UnknownKek));
    let text = "ciphertext or signature version is disallowed by policy (too old)";
    assert!(matches!(refused(400, text).await, CustodyError::VersionTooOld));
    let text = "invalid ciphertext: version is too new";
    assert!(matches!(refused(400, text).await, CustodyError::VersionUnknown));
    assert!(matches!(refused(400, "cipher: message authentication failed").await, CustodyError::NotAuthentic));
    assert!(matches!(refused(400, "invalid ciphertext: no prefix").await, CustodyError::NotAuthentic));
    assert!(matches!(refused(400, "refusing to use soft-deleted key").await, CustodyError::Disabled));
    assert!(matches!(refused(403, "permission denied").await, CustodyError::Denied));
    assert!(matches!(refused(503, "Vault is sealed").await, CustodyError::Sealed));
    assert!(matches!(refused(500, "internal error").await, CustodyError::Unreachable(_)));
    assert!(matches!(refused(400, "something new").await, CustodyError::Malformed(_)));
    assert!(matches!(refused(404, "no handler for route").await, CustodyError::Malformed(_)));
}

#[tokio::test]
async fn only_a_server_that_does_not_say_that_it_is_ours_has_no_ledger() {
    let folder = tempfile::tempdir().expect("a folder");
    for (status, is_ours, lacks) in [
        (403, false, true),
        (404, false, true),
        (405, false, true),
        (403, true, false),
        (404, true, false),
        (500, false, false),
    ] {
        let server = Server::start(move |_| {
            let mut refusal = refusing(status, "permission denied");
            if is_ours {
                refusal.headers_mut().insert("x-claviger-request-id", http::HeaderValue::from_static("1"));
            }
            refusal
        })
        .await;
        let transit = client(folder.path(), &[server.port], Duration::from_secs(10));
        let error = transit.census(&kek(), &caller()).await.expect_err("refused");
        assert_eq!(branches::lacks_ledger(&error), lacks, "{status}, {is_ours}: {error:?}");
        // What every Transit server has is refused for other reasons.
        let error = transit.rewrap(&kek(), &context(), &wrapped(), &caller()).await.expect_err("refused");
        assert!(!branches::lacks_ledger(&error), "{status}, {is_ours}: {error:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_asked_for_is_malformed() {
    let data = |data: Value| answer(200, &json!({"data": data}));
    let zeros = "A".repeat(43) + "=";
    let bodies: Vec<Response<Full<Bytes>>> = vec![
        data(json!({})),
        data(json!(null)),
        data(json!({"plaintext": 7})),
        data(json!({"plaintext": ""})),
        data(json!({"plaintext": "BwcH"})),
        data(json!({"plaintext": zeros})),
        data(json!({"plaintext": KEY.replace('B', "!")})),
        raw_answer(200, "application/json", "not JSON"),
        raw_answer(200, "application/json", ""),
        raw_answer(200, "application/json", "[".repeat(60_000)),
        raw_answer(200, "application/json", [0xff; 100].to_vec()),
        raw_answer(200, "text/html", self::data().to_string()),
    ];
    for body in bodies {
        let shown = format!("{body:?}");
        let error = unwrap_error(move |_| body.clone()).await;
        assert!(matches!(error, CustodyError::Malformed(_)), "{error:?} for {shown:.300}");
    }
}

#[tokio::test]
async fn wrapped_keys_in_answers_are_held_to_the_one_form() {
    let folder = tempfile::tempdir().expect("a folder");
    for text in ["bao:v3:AAECAwQ=", "vault:v0:AAECAwQ=", "vault:v3:AAECAwQ", "vault:v3:", "", "vault:v2:AAECAwQ="] {
        let body = json!({"data": {"plaintext": KEY, "ciphertext": text}});
        let server = Server::start(move |_| answer(200, &body)).await;
        let transit = client(folder.path(), &[server.port], Duration::from_secs(10));
        let rewrapped = transit.rewrap(&kek(), &context(), &wrapped(), &caller()).await;
        assert!(matches!(rewrapped, Err(CustodyError::Malformed(_))), "{text:?} or an older version");
        let generated = transit.generate(&kek(), &context(), &caller()).await;
        assert_eq!(generated.is_ok(), text == "vault:v2:AAECAwQ=", "{text:?}");
    }
}

#[tokio::test]
async fn nothing_secret_is_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let body = format!(r#"{{"data":{{"plaintext":["{KEY}"],"errors":["s.the-token {KEY}"]}}}}"#);
    let (ok, refused) = (body.clone(), body);
    let mut shown = format!("{:?}", unwrap_error(move |_| raw_answer(200, "application/json", ok.clone())).await);
    shown += &format!("{:?}", unwrap_error(move |_| raw_answer(400, "application/json", refused.clone())).await);
    shown += &format!("{:?}", unwrap_error(|_| refusing(400, "s.the-token")).await);
    shown += &format!("{:?}", client(folder.path(), &[1], Duration::from_secs(1)));
    shown += &format!("{:?}", settings(folder.path(), &[1]));
    assert!(!shown.contains("the-token") && !shown.contains(KEY), "{shown}");
}

//! Custodians over one store, as proxies see them: the Transit API over mutual TLS, and the watch.
//!
//! A model of the custodian, not its engine, whose audit log has threads of its own and the machine's clock. It keeps what the engine
//! promises: whoever has not seen the store for a second uses no key and sends no heartbeat, and what one was told, the others know within
//! that second.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use claviger::crypto::{AeadKey, hkdf_sha256, random_secret};
use claviger::net::listener::{ConnectionInfo, ListenerLimits, run};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use rustls::ServerConfig;
use serde_json::{Value as Json, json};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, interval, sleep};

use crate::lock;
use crate::network::HostNet;
use crate::scan::Scan;
use crate::trace::Trace;

/// Between two heartbeats, as our custodian has it.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(250);
/// How often the store is looked at.
const POLL: Duration = Duration::from_millis(200);
/// How long a custodian does without having seen its store.
pub(crate) const STORE_GRACE: Duration = Duration::from_secs(1);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Who and what is switched off, and how often the KEK was rotated.
#[derive(Clone, Default, PartialEq, Eq)]
struct Rules {
    revoked: BTreeSet<String>,
    disabled: bool,
    rotations: u32,
}

/// The store that all custodians share. It survives everything.
#[derive(Clone, Default)]
pub(crate) struct Store(Arc<Mutex<Rules>>);

impl Store {
    fn lock(&self) -> MutexGuard<'_, Rules> {
        lock(&self.0)
    }

    pub(crate) fn revoke(&self, principal: &str) {
        self.lock().revoked.insert(principal.to_owned());
    }

    pub(crate) fn disable(&self) {
        self.lock().disabled = true;
    }

    pub(crate) fn rotate(&self) {
        self.lock().rotations += 1;
    }
}

/// What a custodian knows of the store, and since when.
struct View {
    rules: Rules,
    seen: Instant,
    blind_until: Instant,
}

/// A running custodian.
#[derive(Clone)]
pub(crate) struct Custodian {
    name: &'static str,
    store: Store,
    view: Arc<Mutex<View>>,
    events: broadcast::Sender<Json>,
    scan: Scan,
    trace: Trace,
}

impl Custodian {
    pub(crate) fn start(
        (name, net): (&'static str, HostNet),
        store: &Store,
        tls: &Arc<ServerConfig>,
        (scan, trace): (&Scan, &Trace),
    ) -> Self {
        let now = Instant::now();
        let view = View { rules: store.lock().clone(), seen: now, blind_until: now };
        let (store, view, events) = (store.clone(), Arc::new(Mutex::new(view)), broadcast::Sender::new(64));
        let custodian = Self { name, store, view, events, scan: scan.clone(), trace: trace.clone() };
        tokio::spawn(custodian.clone().look());
        let serving = custodian.clone();
        let service = move |request, _: ConnectionInfo| {
            let serving = serving.clone();
            async move { serving.answer(request).await }
        };
        let limits = ListenerLimits::default();
        tokio::spawn(run(net.listen(), Some(Arc::clone(tls)), limits, service, std::future::pending()));
        custodian
    }

    fn view(&self) -> MutexGuard<'_, View> {
        lock(&self.view)
    }

    /// It does not see its store for so long.
    pub(crate) fn blind(&self, lasts: Duration) {
        self.view().blind_until = Instant::now() + lasts;
    }

    fn is_fresh(&self) -> bool {
        self.view().seen.elapsed() <= STORE_GRACE
    }

    async fn look(self) {
        loop {
            sleep(POLL).await;
            let mut view = self.view();
            if view.blind_until > Instant::now() {
                continue;
            }
            let rules = self.store.lock().clone();
            let told = changes(&view.rules, &rules);
            (view.rules, view.seen) = (rules, Instant::now());
            drop(view);
            told.into_iter().for_each(|event| drop(self.events.send(event)));
        }
    }

    async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let principal = header("x-claviger-principal").to_owned();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let asked: Json = serde_json::from_slice(&body).unwrap_or_default();
        let verb = parts.uri.path().trim_start_matches("/v1/").to_owned();
        if verb.ends_with("/watch") {
            return if self.is_fresh() { self.watch() } else { refusal(503, "the store is out of sight") };
        }
        let done = self.act(&verb, &principal, &asked);
        let status = done.as_ref().map_or_else(|(status, _)| *status, |_| 200);
        self.trace.note(format!("{}: {verb} for {principal}: {status}", self.name));
        match done {
            Ok(data) => {
                let body = Full::new(Bytes::from(json!({ "data": data }).to_string()));
                let mut response = Response::new(body.boxed_unsync());
                response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
                response
            }
            Err((status, text)) => refusal(status, text),
        }
    }

    fn act(&self, verb: &str, principal: &str, asked: &Json) -> Result<Json, (u16, &'static str)> {
        if !self.is_fresh() {
            return Err((503, "the store is out of sight"));
        }
        let rules = self.view().rules.clone();
        if rules.revoked.contains(principal) {
            return Err((403, "permission denied"));
        }
        if rules.disabled {
            return Err((403, "encryption key is disabled"));
        }
        let broken = (400, "invalid ciphertext");
        let context = STANDARD.decode(asked["context"].as_str().unwrap_or_default()).map_err(|_| broken)?;
        if verb.starts_with("transit/datakey/plaintext/") {
            let secret = random_secret::<32>().map_err(|_| (500, "no randomness"))?;
            self.scan.secret(secret.expose());
            let wrapped = wrap(rules.rotations, &context, secret.expose());
            return Ok(json!({ "plaintext": STANDARD.encode(secret.expose()), "ciphertext": wrapped }));
        }
        let wrapped = asked["ciphertext"].as_str().and_then(|text| text.strip_prefix("vault:v")?.split_once(':'));
        let (version, sealed) = wrapped.ok_or(broken)?;
        let rotations = version.parse::<u32>().map_err(|_| broken)? - 1;
        if rotations > rules.rotations {
            return Err((400, "invalid ciphertext: version is too new"));
        }
        let sealed = STANDARD.decode(sealed).map_err(|_| broken)?;
        let opened = key(rotations, &context).open(b"", &sealed).map_err(|_| (400, "message authentication failed"))?;
        if verb.starts_with("transit/rewrap/") {
            return Ok(json!({ "ciphertext": wrap(rules.rotations, &context, &opened) }));
        }
        Ok(json!({ "plaintext": STANDARD.encode(&*opened) }))
    }

    fn watch(self) -> Response<Body> {
        let (lines, told) = mpsc::channel::<Bytes>(64);
        tokio::spawn(async move {
            let mut events = self.events.subscribe();
            let hello = json!({ "event": "hello", "heartbeat_ms": HEARTBEAT.as_millis() as u64 });
            let begun = Instant::now();
            let mut beats = interval(HEARTBEAT);
            let mut line = hello;
            loop {
                if lines.send(format!("{line}\n").into()).await.is_err() {
                    return;
                }
                line = tokio::select! {
                    biased;
                    event = events.recv() => event.unwrap_or_else(|_| json!({ "event": "lagged" })),
                    () = beat(&self, &mut beats) => json!({ "event": "heartbeat" }),
                };
                line["elapsed_ms"] = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX).into();
            }
        });
        let frames = futures_util::stream::unfold(told, |mut told| async move {
            told.recv().await.map(|line| (Ok(Frame::data(line)), told))
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

/// The next heartbeat, of which there is none while the store is out of sight.
async fn beat(custodian: &Custodian, beats: &mut tokio::time::Interval) {
    loop {
        beats.tick().await;
        if custodian.is_fresh() {
            return;
        }
    }
}

fn changes(before: &Rules, now: &Rules) -> Vec<Json> {
    let revoked = now.revoked.difference(&before.revoked);
    let mut told: Vec<Json> =
        revoked.map(|principal| json!({ "event": "principal", "principal": principal, "change": "revoked" })).collect();
    if now.disabled && !before.disabled {
        told.push(json!({ "event": "kek", "name": "records", "change": "disabled" }));
    }
    if now.rotations > before.rotations {
        told.push(json!({ "event": "kek", "name": "records", "change": "rotated" }));
    }
    told
}

fn refusal(status: u16, text: &str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(json!({ "errors": [text] }).to_string())).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

fn key(rotations: u32, context: &[u8]) -> AeadKey {
    AeadKey::new(&hkdf_sha256(&rotations.to_be_bytes(), b"the KEK of the simulation", context))
}

fn wrap(rotations: u32, context: &[u8], secret: &[u8]) -> String {
    let sealed = key(rotations, context).seal(b"", secret).expect("random");
    format!("vault:v{}:{}", rotations + 1, STANDARD.encode(sealed))
}

//! The listener side: authenticate, route, dispatch, respond.
//!
//! A request walks: id, target, signature, operation, then [`Objects::perform`], then its entry in the access log, then the
//! response. Until its signature is verified nothing of its body is read, so an `Expect: 100-continue` is answered only for
//! requests that may go on.
//!
//! **Invariant:** where there is an access log, no answer to a known client goes out before its entry is durable.

pub mod access_log;
mod authenticate;
mod fault;
mod respond;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HOST;
use http::{HeaderValue, Request, Response, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::crypto::random_array;
use crate::net::body::TimedBody;
use crate::net::listener::{self, ConnectionInfo, DrainReport, ListenerLimits};
use crate::object::access::Client;
use crate::object::answer::Answer;
use crate::object::plaintext::Upload;
use crate::object::{Call, Objects};
use crate::s3::operation::Operation;
use crate::s3::sigv4::VerifySettings;
use crate::s3::target::{Query, Target};

use access_log::{AccessLog, Counted, Counter};
use fault::Fault;
use respond::{About, ResponseBody};

/// What the listener side needs to know.
pub struct FrontSettings {
    /// The clients. Access keys and secrets are all different.
    pub clients: Vec<Client>,
    /// Domains under which buckets are host names.
    pub domains: Vec<String>,
    /// How signatures are checked.
    pub verify: VerifySettings,
    /// How long a client may pause within a body.
    pub body_timeout: Duration,
    /// Requests at a time; further ones are told to slow down.
    pub max_requests: usize,
    /// Where accesses to records are logged.
    pub access_log: Option<Arc<AccessLog>>,
}

/// Two clients cannot be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrontError {
    /// Two with one access key.
    #[error("two clients have the same access key")]
    SameAccessKey,
    /// Two with one secret: a signature says which secret made it, not which access key.
    #[error("two clients have the same secret")]
    SameSecret,
}

/// The listener side of the proxy.
pub struct Front {
    objects: Objects,
    clients: HashMap<String, Arc<Client>>,
    domains: Vec<String>,
    verify: VerifySettings,
    body_timeout: Duration,
    slots: Arc<Semaphore>,
    access_log: Option<Arc<AccessLog>>,
}

impl Front {
    /// In front of `objects`.
    ///
    /// # Errors
    /// [`FrontError`].
    pub fn new(objects: Objects, settings: FrontSettings) -> Result<Self, FrontError> {
        let FrontSettings { clients, domains, verify, body_timeout, max_requests, access_log } = settings;
        let mut by_key: HashMap<String, Arc<Client>> = HashMap::new();
        for client in clients {
            if by_key.values().any(|other| other.secret.expose() == client.secret.expose()) {
                return Err(FrontError::SameSecret);
            }
            if by_key.insert(client.access_key.clone(), Arc::new(client)).is_some() {
                return Err(FrontError::SameAccessKey);
            }
        }
        let slots = Arc::new(Semaphore::new(max_requests.min(Semaphore::MAX_PERMITS)));
        Ok(Self { objects, clients: by_key, domains, verify, body_timeout, slots, access_log })
    }

    /// Serves `listener` until `shutdown` resolves, then drains.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        limits: ListenerLimits,
        shutdown: impl Future<Output = ()>,
    ) -> DrainReport {
        let service = move |request, info| {
            let front = Arc::clone(&self);
            async move { front.handle(request, &info).await }
        };
        listener::run(listener, tls, limits, service, shutdown).await
    }

    async fn handle(&self, request: Request<Incoming>, info: &ConnectionInfo) -> Response<ResponseBody> {
        let begun = Instant::now();
        let (mut parts, body) = request.into_parts();
        let mut about = About::new(request_id(), &parts, info);
        let response = match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(slot) => {
                let counter = Counter::default();
                let outcome = self.answer(&mut parts, counter.over(body), &mut about).await;
                match self.logged(outcome, &about, &counter).await {
                    Ok(answer) => respond::success(answer, &about, slot, self.access_log.as_ref()),
                    Err(fault) => respond::failure(&fault, &about),
                }
            }
            Err(_) => respond::failure(&Fault::slow_down(), &about),
        };
        about.log(response.status(), begun.elapsed());
        response
    }

    async fn answer(&self, parts: &mut Parts, body: Counted<Incoming>, about: &mut About) -> Result<Answer, Fault> {
        set_host(parts);
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let target = Target::parse(host, parts.uri.path(), &self.domains)?;
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        let (who, payload) = self.authenticate(parts)?;
        about.client(&who);
        let operation = Operation::parse(&parts.method, target, &query, &mut parts.headers)?;
        about.operation(&operation);
        if let Some(log) = &self.access_log {
            log.admit().await.map_err(|error| Fault::unlogged(&error, &about.id))?;
        }
        let body = TimedBody::new(body, self.body_timeout).boxed_unsync();
        let call = Call { who, operation, headers: std::mem::take(&mut parts.headers) };
        let answer = self.objects.perform(&call, Upload { body, payload }).await;
        answer.map_err(|error| Fault::of(error, &about.id))
    }
}

impl Front {
    /// The outcome of a request, once its entry is durable; without one there is nothing to be had.
    async fn logged(&self, outcome: Result<Answer, Fault>, about: &About, read: &Counter) -> Result<Answer, Fault> {
        let (Some(log), Some(record)) = (&self.access_log, about.record()) else { return outcome };
        let entry = match &outcome {
            Ok(answer) => respond::entry_of(answer, read.bytes()),
            // Its own failure the log need not be told.
            Err(fault) if fault.unlogged => return outcome,
            Err(fault) => respond::entry_of_fault(fault, read.bytes()),
        };
        log.write(&record, entry).await.map_err(|error| Fault::unlogged(&error, &about.id))?;
        outcome
    }
}

/// HTTP/2 has `:authority` instead of Host; a signature names it `host`.
fn set_host(parts: &mut Parts) {
    if !parts.headers.contains_key(HOST)
        && let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(HOST, host);
    }
}

/// 16 characters, unique enough to find a request in the logs.
fn request_id() -> String {
    let bytes: [u8; 8] = random_array().unwrap_or_default();
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

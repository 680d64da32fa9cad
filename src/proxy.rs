//! The listener side: authenticate, route, dispatch, respond.
//!
//! A request walks: id, target, signature, operation, then [`Objects::perform`], then its entry in the access log, then the
//! response. Until its signature is verified nothing of its body is read, so an `Expect: 100-continue` is answered only for
//! requests that may go on. (A browser form has its signature in its body, see `form`; a preflight request has none.)
//!
//! **Invariant:** where there is an access log, no answer to a known client goes out before its entry is durable.
//!
//! **Invariant:** a request that may change something is worked on to its end and its entry, whether or not its client still
//! waits for the answer. (An upload whose body breaks off ends by that.)

pub mod access_log;
mod authenticate;
mod fault;
mod form;
mod respond;
mod slow;

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use http::header::HOST;
use http::{HeaderValue, Method, Request, Response, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{RwLock, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use crate::crypto::random_array;
use crate::net::body::TimedBody;
use crate::net::listener::{self, ConnectionInfo, DrainReport, ListenerLimits};
use crate::object::access::{Anonymous, Client};
use crate::object::answer::Answer;
use crate::object::plaintext::Upload;
use crate::object::{Call, Objects};
use crate::s3::customer_key::CustomerKeys;
use crate::s3::operation::Operation;
use crate::s3::sigv4::VerifySettings;
use crate::s3::target::{Query, Target};

use access_log::{AccessLog, Counted, Counter};
use authenticate::overrides_are_signed;
use fault::Fault;
use respond::{About, ResponseBody};

/// What the listener side needs to know.
pub struct FrontSettings {
    /// The clients. Access keys and secrets are all different.
    pub clients: Vec<Client>,
    /// What may be done without a signature; nothing without it.
    pub anonymous: Option<Anonymous>,
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
    objects: Arc<Objects>,
    clients: HashMap<String, Arc<Client>>,
    anonymous: Option<Arc<Anonymous>>,
    domains: Vec<String>,
    verify: VerifySettings,
    body_timeout: Duration,
    slots: Arc<Semaphore>,
    /// Of them, those for requests of which it is not known yet whose they are, or that are nobody's: forms and preflights.
    strangers: Semaphore,
    /// Every request that may change something reads it until it has ended.
    changing: Arc<RwLock<()>>,
    access_log: Option<Arc<AccessLog>>,
}

impl Front {
    /// In front of `objects`.
    ///
    /// # Errors
    /// [`FrontError`].
    pub fn new(objects: impl Into<Arc<Objects>>, settings: FrontSettings) -> Result<Self, FrontError> {
        let FrontSettings { clients, anonymous, domains, verify, body_timeout, max_requests, access_log } = settings;
        let anonymous = anonymous.map(Arc::new);
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
        let strangers = Semaphore::new((max_requests / 8).clamp(1, Semaphore::MAX_PERMITS));
        let (clients, changing) = (by_key, Arc::default());
        Ok(Self {
            objects: objects.into(),
            clients,
            anonymous,
            domains,
            verify,
            body_timeout,
            slots,
            strangers,
            changing,
            access_log,
        })
    }

    /// Serves `listener` until `shutdown` resolves, then drains.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        limits: ListenerLimits,
        shutdown: impl Future<Output = ()>,
    ) -> DrainReport {
        let (changing, drain) = (Arc::clone(&self.changing), limits.drain);
        let service = move |request, info| {
            let front = Arc::clone(&self);
            async move { front.handle(request, info).await }
        };
        let mut ends = None;
        let shutdown = async {
            shutdown.await;
            ends = Some(tokio::time::Instant::now() + drain);
        };
        let report = listener::run(listener, tls, limits, service, shutdown).await;
        // What goes on without its client.
        if let Some(ends) = ends
            && timeout_at(ends, changing.write()).await.is_err()
        {
            tracing::warn!("requests that may change something outlasted the drain time");
        }
        report
    }

    async fn handle(self: Arc<Self>, request: Request<Incoming>, info: ConnectionInfo) -> Response<ResponseBody> {
        let id = request_id();
        if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
            return self.respond(request, &info, id).await;
        }
        let takes_long = slow::may_take_long(&request);
        let changing = Arc::clone(&self.changing).read_owned().await;
        let work = {
            let id = id.clone();
            async move {
                let response = self.respond(request, &info, id).await;
                drop(changing);
                response
            }
        };
        let work = finished(tokio::spawn(work));
        if takes_long { slow::kept_alive(work.boxed(), &id).await } else { work.await }
    }

    async fn respond(&self, request: Request<Incoming>, info: &ConnectionInfo, id: String) -> Response<ResponseBody> {
        let begun = Instant::now();
        let (mut parts, body) = request.into_parts();
        let mut about = About::new(id, &parts, info);
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
        if parts.method == Method::OPTIONS
            && let Some(bucket) = target.bucket()
        {
            about.asks("PreflightRequest", bucket, target.key());
            let _slot = self.strangers.try_acquire().map_err(|_| Fault::slow_down())?;
            let answer = self.objects.preflight(bucket, target.key(), &parts.headers).await;
            return answer.map_err(|error| Fault::of(error, &about.id));
        }
        if let (Some(reader), Some(bucket)) = (form::reader_of(parts, &target, &query)?, target.bucket()) {
            return self.post(parts, (reader, body), (bucket.clone(), &query), about).await;
        }
        let (who, payload) = self.authenticate(parts)?;
        about.client(&who);
        let operation = Operation::parse(&parts.method, target, &query, &mut parts.headers)?;
        about.operation(&operation);
        overrides_are_signed(&who, &operation)?;
        if let Some(log) = &self.access_log {
            log.admit().await.map_err(|error| Fault::unlogged(&error, &about.id))?;
        }
        let body = TimedBody::new(body, self.body_timeout).boxed_unsync();
        let customer_keys = CustomerKeys::take(&mut parts.headers)?;
        let call = Call { who, operation, headers: std::mem::take(&mut parts.headers), customer_keys };
        self.perform(&call, Upload { body, payload }, about).await
    }

    async fn perform(&self, call: &Call, upload: Upload, about: &About) -> Result<Answer, Fault> {
        let answer = self.objects.perform(call, upload).await;
        answer.map_err(|error| match call.who.is_anonymous() {
            true => Fault::of_unsigned(error, &about.id),
            false => Fault::of(error, &about.id),
        })
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

/// What a task gives. Its panic is that of whoever waits for it.
async fn finished<T>(task: JoinHandle<T>) -> T {
    match task.await {
        Ok(given) => given,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime ends, and with it whoever waits.
            Err(_) => std::future::pending().await,
        },
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

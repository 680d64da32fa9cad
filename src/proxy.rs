//! The listener side: authenticate, route, dispatch, respond.
//!
//! A request walks: id, target, signature, operation, then [`Sites::perform`], then its entry in the access log, then the
//! response. Until its signature is verified nothing of its body is read, so an `Expect: 100-continue` is answered only for
//! requests that may go on. (A browser form has its signature in its body, see `form`; a preflight request has none.)
//!
//! **Invariant:** where there is an access log, no answer to a known client goes out before its entry is durable.
//!
//! **Invariant:** a request that may change something is worked on to its end and its entry, whether or not its client still
//! waits for the answer. (An upload whose body breaks off ends by that.)
//!
//! **Invariant:** a request is worked on by one [`Front`] from its head to the end of its answer, also where another one has taken
//! its place meanwhile.

pub mod access_log;
mod authenticate;
mod fault;
mod form;
mod metrics;
mod respond;
mod slow;
mod strangers;
mod traced;

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use http::header::{CONNECTION, EXPECT, HOST};
use http::{HeaderValue, Method, Request, Response, Version, request::Parts};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{RwLock, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};

use crate::crypto::constant_time_eq;
use crate::net::body::TimedBody;
use crate::net::listener::{self, ConnectionInfo, DrainReport, ListenerLimits, Tls};
use crate::net::network::Accept;
use crate::object::Call;
use crate::object::access::{Anonymous, Client};
use crate::object::answer::Answer;
use crate::object::plaintext::Upload;
use crate::object::sites::Sites;
use crate::s3::customer_key::CustomerKeys;
use crate::s3::operation::Operation;
use crate::s3::sigv4::VerifySettings;
use crate::s3::target::{Query, Target};
use crate::telemetry::request_id::{RequestId, Work};
use crate::telemetry::traces::{Span, Tracer, piece};

use access_log::{AccessLog, Counted, Counter};
use authenticate::overrides_are_signed;
use fault::Fault;
use respond::{About, ResponseBody};
use strangers::Strangers;

pub use metrics::FrontMetrics;

/// How long the storage server may take to answer a preflight request, which is nobody's and holds a place.
const PREFLIGHT_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// What has to be there as long as requests are worked on.
    pub company: Company,
    /// Where requests are counted.
    pub metrics: FrontMetrics,
    /// Where their spans are made.
    pub tracer: Tracer,
}

/// What lives as long as somebody has it.
pub type Company = Option<Arc<dyn Send + Sync>>;

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

/// The listener side of the proxy, for one configuration.
pub struct Front {
    objects: Sites,
    clients: HashMap<String, Arc<Client>>,
    anonymous: Option<Arc<Anonymous>>,
    domains: Vec<String>,
    verify: VerifySettings,
    body_timeout: Duration,
    slots: Arc<Semaphore>,
    /// Of them, those for requests that may be anybody's.
    strangers: Strangers,
    /// Every request that may change something reads it until it has ended.
    changing: Arc<RwLock<()>>,
    /// Set before the end, so that clients go elsewhere.
    leaving: Arc<AtomicBool>,
    access_log: Option<Arc<AccessLog>>,
    company: Company,
    metrics: FrontMetrics,
    tracer: Tracer,
}

impl Front {
    /// In front of `objects`.
    ///
    /// # Errors
    /// [`FrontError`].
    pub fn new(objects: impl Into<Sites>, settings: FrontSettings) -> Result<Self, FrontError> {
        let FrontSettings {
            clients,
            anonymous,
            domains,
            verify,
            body_timeout,
            max_requests,
            access_log,
            company,
            metrics,
            tracer,
        } = settings;
        let anonymous = anonymous.map(Arc::new);
        let mut by_key: HashMap<String, Arc<Client>> = HashMap::new();
        for client in clients {
            if by_key.values().any(|other| constant_time_eq(other.secret.expose(), client.secret.expose())) {
                return Err(FrontError::SameSecret);
            }
            if by_key.insert(client.access_key.clone(), Arc::new(client)).is_some() {
                return Err(FrontError::SameAccessKey);
            }
        }
        let slots = Arc::new(Semaphore::new(max_requests.min(Semaphore::MAX_PERMITS)));
        let strangers = Strangers::new(max_requests / 8);
        let (clients, changing, leaving) = (by_key, Arc::default(), Arc::default());
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
            leaving,
            access_log,
            company,
            metrics,
            tracer,
        })
    }

    /// The same, in the place of `former`, whose requests go on, and whose memory of what it saw is shared.
    #[must_use]
    pub fn in_place_of(self, former: &Self) -> Self {
        let (changing, leaving) = (Arc::clone(&former.changing), Arc::clone(&former.leaving));
        let objects = self.objects.in_place_of(&former.objects);
        Self { objects, changing, leaving, ..self }
    }

    /// From now on each answer over HTTP/1.1 ends its connection, so that none is idle when the listener closes.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Serves `listener` until `shutdown` resolves, then drains. Each request is for the front that there is then: where another one
    /// comes, it is [in the place of](Self::in_place_of) the former.
    pub async fn serve(
        fronts: watch::Receiver<Arc<Self>>,
        listener: impl Accept,
        tls: Option<Tls>,
        limits: ListenerLimits,
        shutdown: impl Future<Output = ()>,
    ) -> DrainReport {
        let (changing, drain) = (Arc::clone(&fronts.borrow().changing), limits.drain);
        let service = move |request, info| {
            let front = Arc::clone(&fronts.borrow());
            async move { front.handle(request, info).await }
        };
        let mut ends = None;
        let shutdown = async {
            shutdown.await;
            ends = Some(tokio::time::Instant::now() + drain);
        };
        let report = listener::run_with(listener, tls, limits, service, shutdown).await;
        // What goes on without its client.
        if let Some(ends) = ends
            && timeout_at(ends, changing.write()).await.is_err()
        {
            tracing::warn!("requests that may change something outlasted the drain time");
        }
        report
    }

    async fn handle(self: Arc<Self>, request: Request<Incoming>, info: ConnectionInfo) -> Response<ResponseBody> {
        let (leaving, version) = (Arc::clone(&self.leaving), request.version());
        // Who waits for leave to send an empty body gets the answer instead. botocore then misreads the next answer on the connection.
        let unasked = request.headers().contains_key(EXPECT) && request.body().is_end_stream();
        let mut response = self.worked_on(request, info).await;
        if version < Version::HTTP_2 && (unasked || leaving.load(Ordering::Relaxed)) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn worked_on(self: Arc<Self>, request: Request<Incoming>, info: ConnectionInfo) -> Response<ResponseBody> {
        let id = RequestId::random();
        let span = traced::begin(&self.tracer, &request, &info, id);
        let task = Work::new(id, span.trace());
        if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
            return task.scope(self.respond(request, &info, (id, span))).await;
        }
        let takes_long = slow::may_take_long(&request);
        let changing = Arc::clone(&self.changing).read_owned().await;
        let work = Box::pin(async move {
            let response = self.respond(request, &info, (id, span)).await;
            drop(changing);
            response
        });
        let work = finished(tokio::spawn(task.scope(work)));
        if takes_long { slow::kept_alive(work.boxed(), id).await } else { work.await }
    }

    async fn respond(
        &self,
        request: Request<Incoming>,
        info: &ConnectionInfo,
        (id, span): (RequestId, Span),
    ) -> Response<ResponseBody> {
        let (begun, exchange) = (Instant::now(), self.metrics.begin(span));
        let (mut parts, body) = request.into_parts();
        let mut about = About::new(id, &parts, info);
        let response = match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(slot) => {
                let counter = Counter::new(self.metrics.received());
                let outcome = self.answer(&mut parts, counter.over(body), &mut about).await;
                match self.logged(outcome, &about, &counter).await {
                    Ok(answer) => {
                        let held = (slot, self.company.clone());
                        respond::success(answer, &about, held, self.access_log.as_ref(), exchange)
                    }
                    Err(fault) => respond::failure(&fault, &about, exchange),
                }
            }
            Err(_) => respond::failure(&Fault::slow_down(), &about, exchange),
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
            let _place = self.strangers.place(about.address()).ok_or_else(Fault::slow_down)?;
            let asking = Box::pin(self.objects.preflight(bucket, target.key(), &parts.headers));
            let answer = timeout(PREFLIGHT_TIMEOUT, asking).await.map_err(|_| Fault::slow_down())?;
            return answer.map_err(|error| Fault::of(error, about.id));
        }
        if let (Some(reader), Some(bucket)) = (form::reader_of(parts, &target, &query)?, target.bucket()) {
            return Box::pin(self.post(parts, (reader, body), (bucket.clone(), &query), about)).await;
        }
        let (who, payload) = traced::in_span("authentication", || self.authenticate(parts))?;
        about.client(&who);
        let operation = Operation::parse(&parts.method, target, &query, &mut parts.headers)?;
        about.operation(&operation);
        overrides_are_signed(&who, &operation)?;
        if let Some(log) = &self.access_log {
            log.admit().await.map_err(|error| Fault::unlogged(&error, about.id))?;
        }
        let body = TimedBody::new(body, self.body_timeout).boxed_unsync();
        let customer_keys = CustomerKeys::take(&mut parts.headers)?;
        let call = Call { customer_keys, ..Call::new(who, operation, std::mem::take(&mut parts.headers)) };
        let outcome = self.perform(&call, Upload { body, payload }, about).await;
        about.deletes = call.deletes.into_inner().unwrap_or_default();
        outcome
    }

    async fn perform(&self, call: &Call, upload: Upload, about: &About) -> Result<Answer, Fault> {
        let answer = self.objects.perform(call, upload).await;
        answer.map_err(|error| match call.who.is_anonymous() {
            true => Fault::of_unsigned(error, about.id),
            false => Fault::of(error, about.id),
        })
    }
}

impl Front {
    /// The outcome of a request, once its entry is durable; without one there is nothing to be had.
    async fn logged(&self, outcome: Result<Answer, Fault>, about: &About, read: &Counter) -> Result<Answer, Fault> {
        let Some(log) = &self.access_log else { return outcome };
        let Some(record) = about.record() else { return outcome };
        let entry = match &outcome {
            Ok(answer) => respond::entry_of(answer, read.bytes()),
            // Its own failure the log need not be told.
            Err(fault) if fault.unlogged => return outcome,
            Err(fault) => respond::entry_of_fault(fault, read.bytes()),
        };
        let _span = piece("access log");
        let written = async {
            log.write_deletes(&record, &about.deletes, entry.status).await?;
            log.write(&record, entry).await
        };
        written.await.map_err(|error| Fault::unlogged(&error, about.id))?;
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

//! From the queue to the collector: OTLP over HTTP, one request at a time.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use prost::Message as _;
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::metrics::{Dropped, TraceMetrics};
use super::settings::{Collector, TraceSettings};
use crate::net::BoxError;
use crate::net::client::{ClientError, ClientSettings, HttpClient};
use crate::net::stamp::Stamp;
use crate::net::tls::{ClientTls, TlsError, client_config};

/// Most bytes of a collector's answer.
const ANSWER_MAX: usize = 64 << 10;
/// The pauses before a batch is sent again, where the collector may be back soon.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
/// How often the log is told of dropped spans.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// How long the end waits for spans to be sent.
const FLUSH_MAX: Duration = Duration::from_secs(5);

type Client = HttpClient<Full<Bytes>>;

/// The collector has not taken a batch.
#[derive(Debug, thiserror::Error)]
enum ExportFailed {
    #[error("the collector cannot be asked")]
    Client(#[from] ClientError),
    #[error("no answer for {} s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error("the collector answers with status {0}")]
    Status(StatusCode),
    #[error("the collector's answer cannot be read")]
    Answer(#[source] BoxError),
}

impl ExportFailed {
    /// Whether the collector may be back soon. One that is silent has had its time.
    fn may_pass(&self) -> bool {
        match self {
            Self::Client(error) => !matches!(error, ClientError::Timeout { .. } | ClientError::Request(_)),
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Timeout(_) | Self::Answer(_) => false,
        }
    }
}

/// The task that sends spans. It goes on until [`Exporting::end`], or until the runtime ends.
#[derive(Debug)]
pub struct Exporting {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
    patience: Duration,
    metrics: TraceMetrics,
}

impl Exporting {
    /// Sends what there is, and ends. It takes no longer than the collector has for one request, and 5 s at most.
    pub async fn end(self) {
        let Self { end, mut task, patience, metrics } = self;
        let _ = end.send(());
        if timeout(patience, &mut task).await.is_err() {
            task.abort();
            let _ = task.await;
            metrics.drop_the_rest();
            tracing::warn!(dropped = metrics.all_dropped(), "not all spans could be sent before the end");
        }
    }
}

/// See the module.
pub(super) struct Exporter {
    receiver: Receiver<SpanData>,
    /// Nothing further comes.
    closed: bool,
    client: Client,
    files: Vec<Stamp>,
    settings: TraceSettings,
    resource: ResourceAttributesWithSchema,
    metrics: TraceMetrics,
    /// When the log was told, and of how many.
    told: Option<(Instant, u64)>,
}

impl Exporter {
    pub(super) fn new(
        settings: &TraceSettings,
        resource: &Resource,
        receiver: Receiver<SpanData>,
        metrics: TraceMetrics,
    ) -> Result<Self, TlsError> {
        let (files, client) = (stamps(&settings.tls), client(settings)?);
        let (settings, resource) = (settings.clone(), resource.into());
        Ok(Self { receiver, closed: false, client, files, settings, resource, metrics, told: None })
    }

    pub(super) fn start(self, settings: &TraceSettings, metrics: TraceMetrics) -> Exporting {
        let (end, ended) = oneshot::channel();
        let patience = settings.timeout.min(FLUSH_MAX);
        Exporting { end, task: tokio::spawn(self.run(ended)), patience, metrics }
    }

    async fn run(mut self, mut ended: oneshot::Receiver<()>) {
        loop {
            let batch = self.gather(&mut ended).await;
            if batch.is_empty() && self.closed {
                return;
            }
            self.renew();
            self.send(batch).await;
        }
    }

    /// Waits for spans: for a whole batch, or as long as the first one may wait.
    async fn gather(&mut self, ended: &mut oneshot::Receiver<()>) -> Vec<SpanData> {
        let most = self.settings.batch_max;
        let mut batch = Vec::new();
        let mut until = None;
        while batch.len() < most {
            let room = most - batch.len();
            let wait = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                came = self.receiver.recv_many(&mut batch, room) => {
                    if came == 0 {
                        self.closed = true;
                        break;
                    }
                    until = until.or(Some(Instant::now() + self.settings.interval));
                }
                () = wait => break,
                _ = &mut *ended, if !self.closed => {
                    self.closed = true;
                    // What is in the queue comes before its end.
                    self.receiver.close();
                }
            }
        }
        batch
    }

    /// Takes changed certificates. Those that do not do change nothing.
    fn renew(&mut self) {
        let files = stamps(&self.settings.tls);
        if files == self.files {
            return;
        }
        self.files = files;
        match client(&self.settings) {
            Ok(client) => {
                self.client = client;
                tracing::info!("the certificates for the collector of traces have changed and are used from now on");
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "the changed certificates for the collector of traces do not do");
            }
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = Bytes::from(ExportTraceServiceRequest { resource_spans }.encode_to_vec());
        let mut pauses = PAUSES.iter();
        loop {
            match self.post(body.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(count);
                    self.metrics.sent(count - rejected);
                    self.metrics.dropped(Dropped::Rejected, rejected);
                    return self.tell(None);
                }
                Err(error) => match pauses.next().filter(|_| error.may_pass()) {
                    Some(pause) => sleep(*pause).await,
                    None => {
                        self.metrics.dropped(Dropped::CollectorFailed, count);
                        return self.tell(Some(&error));
                    }
                },
            }
        }
    }

    /// Sends a request: how many of its spans the collector rejects.
    async fn post(&self, body: Bytes) -> Result<u64, ExportFailed> {
        let limit = self.settings.timeout;
        let exchange = async {
            let mut request = Request::new(Full::new(body));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = self.settings.collector.uri().clone();
            let headers = request.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
            headers.insert(USER_AGENT, HeaderValue::from_static(concat!("claviger/", env!("CARGO_PKG_VERSION"))));
            let (head, body) = self.client.request(request, limit).await?.into_parts();
            if !head.status.is_success() {
                return Err(ExportFailed::Status(head.status));
            }
            let answer = Limited::new(body, ANSWER_MAX).collect().await.map_err(ExportFailed::Answer)?.to_bytes();
            Ok(rejected(answer))
        };
        timeout(limit, exchange).await.unwrap_or(Err(ExportFailed::Timeout(limit)))
    }

    /// Tells the log of spans that were dropped, now and then.
    fn tell(&mut self, error: Option<&ExportFailed>) {
        let dropped = self.metrics.all_dropped();
        let (last, before) = self.told.map_or((None, 0), |(last, before)| (Some(last), before));
        if dropped == before || last.is_some_and(|last| last.elapsed() < TELL_EVERY) {
            return;
        }
        self.told = Some((Instant::now(), dropped));
        let error = error.map(|error| error as &dyn std::error::Error);
        let collector: &Collector = &self.settings.collector;
        tracing::warn!(%collector, error, dropped = dropped - before, "traces: spans were dropped");
    }
}

/// How many spans a collector rejects, by its answer. One in another form says nothing of it.
fn rejected(answer: Bytes) -> u64 {
    let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
    let rejected = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
    u64::try_from(rejected).unwrap_or(0)
}

/// Whatever a collector answers, a number of rejected spans comes of it; what its answer says is not lost when it is written again.
#[doc(hidden)]
pub fn fuzz_answer(answer: Bytes) {
    let told = rejected(answer.clone());
    if let Ok(answer) = ExportTraceServiceResponse::decode(answer) {
        assert_eq!(rejected(answer.encode_to_vec().into()), told);
    } else {
        assert_eq!(told, 0);
    }
}

fn stamps(tls: &ClientTls) -> Vec<Stamp> {
    let identity = tls.identity.iter().flat_map(|identity| [&identity.certificates, &identity.key]);
    identity.chain(&tls.ca_file).map(|path| Stamp::of(path)).collect()
}

fn client(settings: &TraceSettings) -> Result<Client, TlsError> {
    let limits = ClientSettings {
        connect_timeout: settings.timeout,
        body_timeout: settings.timeout,
        pool_max_idle_per_host: 1,
        ..ClientSettings::default()
    };
    Ok(HttpClient::new(client_config(&settings.tls)?, &limits))
}

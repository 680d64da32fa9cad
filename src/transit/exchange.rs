//! One request to one address, and its answer in zeroized memory.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use zeroize::Zeroizing;

use crate::custody::caller::Caller;
use crate::net::body::BodyError;
use crate::net::client::{ClientError, ResponseBody};
use crate::net::tls::ClientTls;
use crate::telemetry::request_id;
use crate::telemetry::traces::{self, Span};

use super::answer::error_texts;
use super::connections::{Client, Connections};
use super::error::TransitError;
use super::refusal::{Failed, refusal};
use super::session::Token;
use super::settings::{Address, SettingsError, TransitSettings};
use super::traced;

/// Most bytes of an answer. Those about one key have less than 2 KiB.
const ANSWER_MAX: usize = 64 << 10;
/// Most bytes of an answer about many: 500 branch keys of 2 KiB.
const LONG_ANSWER_MAX: usize = 1 << 20;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
/// OpenBao and Vault can be told to refuse requests without it, as a browser cannot be tricked into sending it.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");
const REASON: HeaderName = HeaderName::from_static("x-claviger-reason");
/// Our custodian puts it on each answer, and no other server does.
const OURS: HeaderName = HeaderName::from_static("x-claviger-request-id");
const PRINCIPAL: HeaderName = HeaderName::from_static("x-claviger-principal");

/// A request, before it is known which address gets it.
#[derive(Clone)]
pub(super) struct Call<'a> {
    /// What is asked for, in a few words of ours.
    pub(super) name: &'static str,
    pub(super) method: Method,
    /// After `/v1/`.
    pub(super) path: &'a str,
    pub(super) body: Bytes,
    pub(super) token: Option<HeaderValue>,
    /// On whose behalf, and why; not for calls about our own token.
    pub(super) caller: Option<&'a Caller>,
    /// Most bytes of the answer.
    pub(super) answer_max: usize,
    /// Only a custodian of ours has what is asked for.
    pub(super) ours_alone: bool,
}

impl<'a> Call<'a> {
    pub(super) fn post(name: &'static str, path: &'a str, body: Bytes) -> Self {
        let (method, token, caller) = (Method::POST, None, None);
        Self { name, method, path, body, token, caller, answer_max: ANSWER_MAX, ours_alone: false }
    }

    pub(super) fn get(name: &'static str, path: &'a str) -> Self {
        Self { method: Method::GET, ..Self::post(name, path, Bytes::new()) }
    }

    /// Whose answer is about many keys.
    pub(super) fn long(self) -> Self {
        Self { answer_max: LONG_ANSWER_MAX, ..self }
    }

    /// Of what OpenBao and Vault do not have.
    pub(super) fn ours_alone(self) -> Self {
        Self { ours_alone: true, ..self }
    }

    pub(super) fn with_token(&self, token: &Token) -> Self {
        Self { token: Some(token.header().clone()), ..self.clone() }
    }

    fn request(&self, address: &Address, span: &Span) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = address.uri(self.path);
        let headers = request.headers_mut();
        headers.insert(REQUEST, HeaderValue::from_static("true"));
        if self.method == Method::POST {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(token) = &self.token {
            headers.insert(TOKEN, token.clone());
        }
        if let Some(caller) = self.caller {
            headers.insert(REASON, HeaderValue::from_static(caller.reason.as_str()));
            let principal = HeaderValue::from_str(caller.principal.as_str());
            headers.insert(PRINCIPAL, principal.expect("principals are printable ASCII"));
        }
        if let Some(id) = request_id::current() {
            headers.insert(request_id::HEADER, id.to_header());
        }
        if let Some(header) = span.header() {
            headers.insert(traces::HEADER, header);
        }
        request
    }
}

/// The HTTP client, with what applies to each answer.
pub(super) struct Exchange {
    connections: Connections,
}

impl Exchange {
    pub(super) fn new(settings: &TransitSettings) -> Result<Self, SettingsError> {
        Ok(Self { connections: Connections::new(settings)? })
    }

    pub(super) fn tls(&self) -> &ClientTls {
        self.connections.tls()
    }

    /// It changes with our certificates.
    pub(super) fn generation(&self) -> u64 {
        self.connections.generation()
    }

    /// Sends `call` to `address`: the body of an answer with status 200, which may be endless.
    pub(super) async fn open(
        &self,
        address: &Address,
        call: &Call<'_>,
        limit: Duration,
    ) -> Result<ResponseBody, Failed> {
        let client = self.connections.watching();
        let (head, body) = respond(client, address, call, limit).await?.into_parts();
        if head.status == StatusCode::OK {
            return Ok(body);
        }
        let texts = collect(body, ANSWER_MAX).await.map(|body| error_texts(&body)).unwrap_or_default();
        Err(refusal(head.status, &texts))
    }

    /// Sends `call` to `address`: the JSON of an answer with status 200.
    pub(super) async fn send(
        &self,
        address: &Address,
        call: &Call<'_>,
        limit: Duration,
    ) -> Result<Zeroizing<Vec<u8>>, Failed> {
        let overdue = |_| Failed::elsewhere(TransitError::Deadline { limit }.unreachable());
        tokio::time::timeout(limit, self.exchange(address, call, limit)).await.map_err(overdue)?
    }

    async fn exchange(
        &self,
        address: &Address,
        call: &Call<'_>,
        limit: Duration,
    ) -> Result<Zeroizing<Vec<u8>>, Failed> {
        let client = self.connections.current();
        let (head, body) = respond(client, address, call, limit).await?.into_parts();
        if head.status != StatusCode::OK {
            if call.ours_alone && is_not_ours(&head) {
                return Err(Failed::settled(TransitError::NoLedger.malformed()));
            }
            // A refusal counts even if the words that go with it do not come.
            let texts = collect(body, ANSWER_MAX).await.map(|body| error_texts(&body)).unwrap_or_default();
            return Err(refusal(head.status, &texts));
        }
        if !is_json(&head.headers) {
            return Err(Failed::elsewhere(TransitError::ContentType.malformed()));
        }
        collect(body, call.answer_max).await.map_err(|error| match error {
            BodyError::TooLarge { .. } => Failed::elsewhere(TransitError::Body(error).malformed()),
            BodyError::Stalled { .. } | BodyError::Broken(_) => {
                Failed::elsewhere(TransitError::Body(error).unreachable())
            }
        })
    }
}

/// A kept connection may be closed just when it is used again; then once more on a fresh one. Each call may be repeated:
/// at worst an unused branch key or token was made.
async fn respond(
    client: Result<Client, TransitError>,
    address: &Address,
    call: &Call<'_>,
    limit: Duration,
) -> Result<Response<ResponseBody>, Failed> {
    let client = client.map_err(|error| Failed::elsewhere(error.unreachable()))?;
    let settled = match attempt(&client, address, call, limit).await {
        Err(ClientError::Closed(_) | ClientError::Unsent(_)) => attempt(&client, address, call, limit).await,
        settled => settled,
    };
    settled.map_err(as_failed)
}

async fn attempt(
    client: &Client,
    address: &Address,
    call: &Call<'_>,
    limit: Duration,
) -> Result<Response<ResponseBody>, ClientError> {
    let span = traced::begin(call, address);
    let outcome = client.request(call.request(address, &span), limit).await;
    traced::settled(&span, &outcome);
    outcome
}

fn as_failed(error: ClientError) -> Failed {
    Failed::elsewhere(match error {
        ClientError::Garbage(_) | ClientError::Request(_) => TransitError::Request(error).malformed(),
        ClientError::Connect(_) | ClientError::Unsent(_) | ClientError::Timeout { .. } | ClientError::Closed(_) => {
            TransitError::Request(error).unreachable()
        }
    })
}

/// Whether somebody refuses who is no custodian of ours, because he has no such thing or nobody may ask for it.
fn is_not_ours(head: &http::response::Parts) -> bool {
    let lacks = matches!(head.status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
    lacks && !head.headers.contains_key(OURS)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(CONTENT_TYPE).map(HeaderValue::to_str) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// The body as a whole. Its buffer has its final room from the start: growing would leave copies of a key behind.
async fn collect(mut body: ResponseBody, limit: usize) -> Result<Zeroizing<Vec<u8>>, BodyError> {
    let too_large = || BodyError::TooLarge { limit };
    let declared = body.size_hint();
    let room = match declared.upper() {
        Some(exact) => usize::try_from(exact).map_err(|_| too_large())?,
        None => limit,
    };
    if room > limit {
        return Err(too_large());
    }
    let mut collected = Zeroizing::new(Vec::with_capacity(room));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if data.len() > room - collected.len() {
            return Err(too_large());
        }
        collected.extend_from_slice(&data);
    }
    Ok(collected)
}

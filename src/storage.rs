//! Client of the storage servers: re-sign, send, pool, retry.
//!
//! **Invariant:** only [`CipherBytes`](crate::format::ciphertext::CipherBytes) leave as bodies, always with
//! an exact Content-Length.
//!
//! **Invariant:** a request goes unsigned only where its sender says [`Signer::Nobody`].
//!
//! **Invariant:** a streaming upload is sent once, and its last bytes leave only after its source ended without
//! an error: what fails on our side is never committed by the storage server.

mod endpoints;
mod error;
mod metrics;
mod pace;
mod request;
mod response;
mod retry;
mod settings;
mod traced;
mod upload;

#[doc(hidden)]
pub use retry::fuzz_retry_after;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tokio::time::Instant;

use self::endpoints::{Endpoints, LOOK, LOOK_METHOD, tells_of_absence};
use self::pace::Pace;
use self::request::Outline;
use self::upload::Upload;
use crate::net::client::{HttpClient, ResponseBody};
use crate::net::tls::client_config;
use crate::s3::sigv4::Credentials;
use crate::telemetry::metrics::seconds_since;
use crate::telemetry::traces;

pub use self::error::{Garbage, Refusal, RequestError, StorageError};
pub use self::metrics::StorageMetrics;
pub use self::request::{Replay, StorageBody, StorageRequest};
pub use self::response::{ResponseStream, StorageResponse};
pub use self::settings::{Addressing, Endpoint, RetrySettings, SettingsError, StorageSettings};

/// In whose name a request goes to the storage server.
#[derive(Debug, Clone, Copy)]
pub enum Signer<'a> {
    /// The proxy's.
    Proxy,
    /// A client's, with credentials of its own on the storage server.
    Client(&'a Credentials),
    /// Nobody's: the request is not signed, and the storage server decides what everybody may.
    Nobody,
}

/// How long the body of an early refusal may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);

/// One storage server, or a cluster behind several addresses. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct Storage {
    inner: Arc<Inner>,
    replica: Option<Arc<Inner>>,
}

struct Inner {
    client: HttpClient<Upload>,
    endpoints: Endpoints,
    settings: StorageSettings,
    credentials: Credentials,
    pace: Pace,
    metrics: StorageMetrics,
}

impl Storage {
    /// A client of the server of `settings`, which signs with `credentials` unless a call brings others.
    /// Opens no connection yet.
    ///
    /// # Errors
    /// [`SettingsError`] when a certificate file does not do or a limit is not usable.
    pub fn new(settings: StorageSettings, credentials: Credentials) -> Result<Self, SettingsError> {
        Self::metered(settings, credentials, StorageMetrics::default())
    }

    /// As [`Storage::new`], counted in `metrics`.
    ///
    /// # Errors
    /// Those of [`Storage::new`].
    pub fn metered(
        settings: StorageSettings,
        credentials: Credentials,
        metrics: StorageMetrics,
    ) -> Result<Self, SettingsError> {
        settings.check()?;
        let client = HttpClient::new(client_config(&settings.tls)?, &settings.client);
        let pace = Pace::new(settings.requests_max_s);
        let endpoints = Endpoints::new(settings.endpoint.clone(), settings.further_endpoints.clone());
        Ok(Self { inner: Arc::new(Inner { client, endpoints, settings, credentials, pace, metrics }), replica: None })
    }

    /// The same, with a replica that answers reads which [may be](StorageRequest::or_replica) while no address of this one is
    /// there. What the replica does not have is not taken for absent: the failure stands. Nor is it asked in the name of a client that has
    /// credentials of its own on the storage server.
    #[must_use]
    pub fn with_replica(self, replica: &Self) -> Self {
        Self { replica: Some(Arc::clone(&replica.inner)), ..self }
    }

    /// The settings.
    pub fn settings(&self) -> &StorageSettings {
        &self.inner.settings
    }

    /// Requests sent so far by this client and its clones, each attempt counted.
    pub fn requests(&self) -> u64 {
        self.inner.pace.sent()
    }

    /// As [`Storage::send_as`], signed with `credentials` or else as the proxy.
    ///
    /// # Errors
    /// Those of [`Storage::send_as`].
    pub async fn send(
        &self,
        request: StorageRequest,
        credentials: Option<&Credentials>,
    ) -> Result<StorageResponse, StorageError> {
        self.send_as(request, credentials.map_or(Signer::Proxy, Signer::Client)).await
    }

    /// Signs and sends `request`, and returns the answer whatever its status, once its head is there.
    ///
    /// An [`StorageBody::Empty`] or [`StorageBody::Replayable`] request is tried again, freshly signed and at another address if
    /// there is one, as [`RetrySettings`] and [`Replay`] allow; the last outcome is returned. A streaming one is sent once (again
    /// only if nobody was reached); if the server refuses it before having taken all, the upload ends, and the refusal is returned.
    /// Dropping the future closes the connection under way.
    ///
    /// # Errors
    /// [`StorageError`], but [`StorageError::Refused`] only from [`StorageResponse::checked`].
    pub async fn send_as(&self, request: StorageRequest, signer: Signer<'_>) -> Result<StorageResponse, StorageError> {
        // What a client may read by credentials of its own, the storage server decides. The replica does not know them, and the proxy's
        // would open more.
        let by_own = matches!(signer, Signer::Client(_));
        let replica = self.replica.as_ref().filter(|_| request.replica && !by_own);
        match replica.and_then(|replica| Some((replica, request.again()?))) {
            Some(other) => Box::pin(self.send_to_either(request, other, signer)).await,
            None => Inner::send_as(&self.inner, request, signer).await,
        }
    }

    /// Sends `request`, or the same to the replica.
    async fn send_to_either(
        &self,
        request: StorageRequest,
        (replica, again): (&Arc<Inner>, StorageRequest),
        signer: Signer<'_>,
    ) -> Result<StorageResponse, StorageError> {
        if self.inner.endpoints.all_down() {
            self.inner.look();
            if let Some(answer) = there(Inner::send_as(replica, again, signer).await) {
                return Ok(answer);
            }
            return Inner::send_as(&self.inner, request, signer).await;
        }
        let outcome = Inner::send_as(&self.inner, request, signer).await;
        if !is_absence(&outcome) {
            return outcome;
        }
        match there(Inner::send_as(replica, again, signer).await) {
            Some(answer) => Ok(answer),
            None => outcome,
        }
    }
}

/// An answer of a replica that says something: what it has, or why not all of that is sent.
fn there(outcome: Result<StorageResponse, StorageError>) -> Option<StorageResponse> {
    let said = [StatusCode::NOT_MODIFIED, StatusCode::PRECONDITION_FAILED, StatusCode::RANGE_NOT_SATISFIABLE];
    outcome.ok().filter(|answer| answer.status.is_success() || said.contains(&answer.status))
}

fn is_absence(outcome: &Result<StorageResponse, StorageError>) -> bool {
    tells_of_absence(outcome.as_ref().map(|answer| answer.status))
        || outcome.as_ref().is_ok_and(|answer| answer.status.is_server_error())
}

impl Inner {
    async fn send_as(
        self: &Arc<Self>,
        request: StorageRequest,
        signer: Signer<'_>,
    ) -> Result<StorageResponse, StorageError> {
        let credentials = match signer {
            Signer::Proxy => Some(&self.credentials),
            Signer::Client(credentials) => Some(credentials),
            Signer::Nobody => None,
        };
        let StorageRequest { method, bucket, key, query, headers, body, replay, .. } = request;
        let outline = Outline::new(method, bucket, key, query, headers, &body)?;
        self.look();
        match body {
            StorageBody::Empty => self.send_again(&outline, credentials, replay, Upload::empty).await,
            StorageBody::Replayable(bytes) => {
                self.send_again(&outline, credentials, replay, || Upload::bytes(bytes.clone())).await
            }
            StorageBody::Streaming { length, body } => {
                let upload = Upload::stream(length, body).await?;
                self.send_once(&outline, credentials, upload).await
            }
        }
    }

    /// Sends until an answer stands or the retries are used up.
    async fn send_again(
        &self,
        outline: &Outline,
        credentials: Option<&Credentials>,
        replay: Replay,
        upload: impl Fn() -> Upload,
    ) -> Result<StorageResponse, StorageError> {
        let settings = &self.settings.retry;
        let deadline = Instant::now() + settings.deadline;
        let mut asked = Vec::new();
        let mut attempt = 1;
        loop {
            let place = self.endpoints.next(&asked).unwrap_or_default();
            let outcome = self.attempt_or_two(place, outline, credentials, replay, &upload).await;
            let pause = settings.pause_after(&outcome, replay, attempt, self.endpoints.count());
            let Some(mut pause) = pause else { return outcome.map(StorageResponse::new) };
            asked.push(place);
            if self.endpoints.has_another(&asked) {
                // Somebody else is asked.
                pause = Duration::ZERO;
            }
            if Instant::now() + pause >= deadline {
                return outcome.map(StorageResponse::new);
            }
            self.metrics.tries_again();
            let server = self.endpoints.get(place);
            match outcome {
                Ok(response) => {
                    let status = response.status().as_u16();
                    tracing::warn!(%server, status, attempt, "the storage server failed; retrying");
                }
                Err(error) => {
                    let error: &(dyn std::error::Error + 'static) = &error;
                    tracing::warn!(%server, error, attempt, "no answer from the storage server; retrying");
                }
            }
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    async fn send_once(
        &self,
        outline: &Outline,
        credentials: Option<&Credentials>,
        mut upload: Upload,
    ) -> Result<StorageResponse, StorageError> {
        let handle = upload.handle();
        let mut asked = Vec::new();
        let response = loop {
            let place = self.endpoints.next(&asked).unwrap_or_default();
            asked.push(place);
            let outcome = self.attempt(place, outline, credentials, upload).await;
            let untouched = matches!(&outcome, Err(StorageError::Unreachable(_))).then(|| handle.again()).flatten();
            match untouched {
                Some(again) if self.endpoints.has_another(&asked) => upload = again,
                _ => break outcome?,
            }
        };
        if handle.is_complete() {
            return Ok(StorageResponse::new(response));
        }
        let status = response.status();
        if status.is_success() {
            handle.abort();
            return Err(handle.take_failure().map_or(Garbage::EarlySuccess.into(), StorageError::Aborted));
        }
        tracing::debug!(status = status.as_u16(), "the storage server refused an upload before its end");
        let mut refused = StorageResponse::new(response);
        let body = tokio::time::timeout(REFUSAL_TIMEOUT, refused.take_body(StorageResponse::MAX_ERROR_BYTES)).await;
        handle.abort();
        // The status alone says enough if the document about it did not make it.
        let body = body.ok().and_then(Result::ok).unwrap_or_default();
        refused.body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
        Ok(refused)
    }

    /// One attempt, and a second one beside it at another address if the first takes long; the first good answer counts.
    async fn attempt_or_two(
        &self,
        place: usize,
        outline: &Outline,
        credentials: Option<&Credentials>,
        replay: Replay,
        upload: impl Fn() -> Upload,
    ) -> Result<Response<ResponseBody>, StorageError> {
        let after = self.settings.hedge_after.filter(|_| replay == Replay::Safe && outline.is_read());
        let other = || self.endpoints.next(&[place]).filter(|second| *second != place);
        let hedge = after.and_then(|after| Some((after, other()?)));
        let mut first = pin!(self.attempt(place, outline, credentials, upload()));
        let Some((after, second)) = hedge else { return first.await };
        tokio::select! {
            outcome = &mut first => return outcome,
            () = tokio::time::sleep(after) => {}
        }
        tracing::debug!(server = %self.endpoints.get(place), "no answer yet; another address is asked, too");
        let mut second = Box::pin(self.attempt(second, outline, credentials, upload()));
        tokio::select! {
            outcome = &mut first => if is_good(&outcome) { outcome } else { second.await },
            outcome = &mut second => if is_good(&outcome) { outcome } else { first.await },
        }
    }

    async fn attempt(
        &self,
        place: usize,
        outline: &Outline,
        credentials: Option<&Credentials>,
        upload: Upload,
    ) -> Result<Response<ResponseBody>, StorageError> {
        self.pace.turn().await;
        let (handle, endpoint) = (upload.handle(), self.endpoints.get(place));
        let mut request = match credentials {
            Some(credentials) => outline.sign(endpoint, &self.settings, credentials, upload)?,
            None => outline.unsigned(endpoint, self.settings.addressing, upload)?,
        };
        let span = traced::begin(outline, endpoint);
        // It is no part of what is signed: what stands between us and the server may put spans of its own in between.
        if let Some(header) = span.header() {
            request.headers_mut().insert(traces::HEADER, header);
        }
        let (method, begun) = (request.method().clone(), std::time::Instant::now());
        let answer = self.client.request(request, self.settings.head_timeout).await;
        let outcome = answer.map_err(|error| match handle.take_failure() {
            Some(failure) => StorageError::Aborted(failure),
            None => StorageError::from_client(error),
        });
        self.metrics.called(&method, &outcome, seconds_since(begun));
        traced::settled(&span, &outcome);
        match outcome.as_ref().map(Response::status) {
            answer if tells_of_absence(answer) => self.endpoints.is_gone(place),
            Ok(_) => self.endpoints.is_there(place),
            Err(_) => {}
        }
        outcome
    }

    /// Looks at an address that is down, if one is due, beside whatever else happens.
    fn look(self: &Arc<Self>) {
        let Some(place) = self.endpoints.due() else { return };
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let outline = Outline::new(LOOK_METHOD, None, None, Vec::new(), HeaderMap::new(), &StorageBody::Empty);
            let endpoint = inner.endpoints.get(place);
            let made =
                outline.and_then(|outline| outline.unsigned(endpoint, inner.settings.addressing, Upload::empty()));
            let Ok(request) = made else { return };
            match inner.client.request(request, LOOK).await.map_err(StorageError::from_client) {
                Ok(answer) if !tells_of_absence(Ok(answer.status())) => inner.endpoints.is_there(place),
                _ => inner.endpoints.is_gone(place),
            }
        });
    }
}

fn is_good(outcome: &Result<Response<ResponseBody>, StorageError>) -> bool {
    outcome.as_ref().is_ok_and(|answer| !answer.status().is_server_error())
}

#[cfg(test)]
mod tests;

//! Client of the storage servers: re-sign, send, pool, retry.
//!
//! **Invariant:** only [`CipherBytes`](crate::format::ciphertext::CipherBytes) leave as bodies, always with
//! an exact Content-Length.
//!
//! **Invariant:** a request goes unsigned only where its sender says [`Signer::Nobody`].
//!
//! **Invariant:** a streaming upload is sent once, and its last bytes leave only after its source ended without
//! an error: what fails on our side is never committed by the storage server.

mod error;
mod pace;
mod request;
mod response;
mod retry;
mod settings;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http_body_util::{BodyExt as _, Full};
use tokio::time::Instant;

use self::pace::Pace;
use self::request::Outline;
use self::upload::Upload;
use crate::net::client::{HttpClient, ResponseBody};
use crate::net::tls::client_config;
use crate::s3::sigv4::Credentials;

pub use self::error::{Garbage, Refusal, RequestError, StorageError};
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

/// One storage server. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct Storage {
    inner: Arc<Inner>,
}

struct Inner {
    client: HttpClient<Upload>,
    settings: StorageSettings,
    credentials: Credentials,
    pace: Pace,
}

impl Storage {
    /// A client of the server of `settings`, which signs with `credentials` unless a call brings others.
    /// Opens no connection yet.
    ///
    /// # Errors
    /// [`SettingsError`] when a certificate file does not do or a limit is not usable.
    pub fn new(settings: StorageSettings, credentials: Credentials) -> Result<Self, SettingsError> {
        settings.check()?;
        let client = HttpClient::new(client_config(&settings.tls)?, &settings.client);
        let pace = Pace::new(settings.requests_max_s);
        Ok(Self { inner: Arc::new(Inner { client, settings, credentials, pace }) })
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
    /// An [`StorageBody::Empty`] or [`StorageBody::Replayable`] request is tried again, freshly signed, as
    /// [`RetrySettings`] and [`Replay`] allow; the last outcome is returned. A streaming one is sent once; if the
    /// server refuses it before having taken all, the upload ends, and the refusal is returned.
    /// Dropping the future closes the connection under way.
    ///
    /// # Errors
    /// [`StorageError`], but [`StorageError::Refused`] only from [`StorageResponse::checked`].
    pub async fn send_as(&self, request: StorageRequest, signer: Signer<'_>) -> Result<StorageResponse, StorageError> {
        let credentials = match signer {
            Signer::Proxy => Some(&self.inner.credentials),
            Signer::Client(credentials) => Some(credentials),
            Signer::Nobody => None,
        };
        let StorageRequest { method, bucket, key, query, headers, body, replay } = request;
        let outline = Outline::new(&self.inner.settings, method, bucket, key, query, headers, &body)?;
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
        let settings = &self.inner.settings.retry;
        let deadline = Instant::now() + settings.deadline;
        let mut attempt = 1;
        loop {
            let outcome = self.attempt(outline, credentials, upload()).await;
            let Some(pause) = settings.pause_after(&outcome, replay, attempt) else {
                return outcome.map(StorageResponse::new);
            };
            if Instant::now() + pause >= deadline {
                return outcome.map(StorageResponse::new);
            }
            let server = &self.inner.settings.endpoint;
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
        upload: Upload,
    ) -> Result<StorageResponse, StorageError> {
        let handle = upload.handle();
        let response = self.attempt(outline, credentials, upload).await?;
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

    async fn attempt(
        &self,
        outline: &Outline,
        credentials: Option<&Credentials>,
        upload: Upload,
    ) -> Result<Response<ResponseBody>, StorageError> {
        self.inner.pace.turn().await;
        let handle = upload.handle();
        let request = match credentials {
            Some(credentials) => outline.sign(&self.inner.settings.region, credentials, upload)?,
            None => outline.unsigned(upload),
        };
        let answer = self.inner.client.request(request, self.inner.settings.head_timeout).await;
        answer.map_err(|error| match handle.take_failure() {
            Some(failure) => StorageError::Aborted(failure),
            None => StorageError::from_client(error),
        })
    }
}

#[cfg(test)]
mod tests;

//! Whether the storage server heeds conditions on writes.
//!
//! A job replaces an object on the condition that it still is the one that was read. Where that counts for nothing, what an
//! application writes meanwhile would be lost. So it is tried out, on an object of ours, before the first such write.

use http::header::{HeaderValue, IF_MATCH};
use http::{Method, StatusCode};
use tokio::sync::OnceCell;

use crate::format::ciphertext::CipherBytes;
use crate::s3::xml::{complete_upload_xml, initiated_upload};
use crate::storage::{StorageBody, StorageRequest, StorageResponse};

use super::Objects;
use super::error::{Error, WrongAnswer};
use super::late;

/// The object that is tried on, in the state bucket. It says nothing.
const TRIED_ON: &str = "probe/write-condition";
/// What is written to it: no data of anybody's.
const NOTHING: &[u8] = b"probe";
/// No object's ETag.
const NEVER: &str = "\"claviger-never\"";

/// Which conditions on writes the storage server heeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heeded {
    /// If-Match of PutObject.
    pub put: bool,
    /// If-Match of CompleteMultipartUpload.
    pub complete: bool,
}

/// What was found out, once for each process.
#[derive(Default)]
pub(super) struct WriteHeeding(OnceCell<Heeded>);

impl Objects {
    /// Finds out, unless it is known, which conditions on writes the storage server heeds.
    ///
    /// # Errors
    /// [`Error`] when that cannot be found out now.
    pub async fn heeded_conditions(&self) -> Result<Heeded, Error> {
        self.write_heeding.0.get_or_try_init(|| self.try_write_conditions()).await.copied()
    }

    async fn try_write_conditions(&self) -> Result<Heeded, Error> {
        self.state.put(TRIED_ON, NOTHING).await?;
        let put = self.heeds_on_put().await?;
        let complete = self.heeds_on_complete().await?;
        Ok(Heeded { put, complete })
    }

    fn probe(&self, method: Method) -> StorageRequest {
        StorageRequest::object(method, self.buckets.state_bucket(), TRIED_ON).replay_unsafe()
    }

    async fn heeds_on_put(&self) -> Result<bool, Error> {
        let body = StorageBody::Replayable(CipherBytes::assume_ciphertext(NOTHING.into()));
        let request = self.probe(Method::PUT).header(IF_MATCH, HeaderValue::from_static(NEVER)).body(body);
        verdict(self.storage.send(request, None).await?.checked().await.map(drop).map_err(Error::from))
    }

    async fn heeds_on_complete(&self) -> Result<bool, Error> {
        let created = self.storage.send(self.probe(Method::POST).flag("uploads"), None).await?;
        let (_, document) = late::success(created).await?;
        let id = initiated_upload(&document).map_err(WrongAnswer::Document)?;
        let outcome = self.try_complete_never(id.as_str()).await;
        if !matches!(outcome, Ok(false)) {
            let abort = self.probe(Method::DELETE).query("uploadId", id.as_str());
            if let Err(error) = self.storage.send(abort, None).await {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(error, "an upload for a trial could not be aborted on the storage server");
            }
        }
        outcome
    }

    async fn try_complete_never(&self, id: &str) -> Result<bool, Error> {
        let part = self.probe(Method::PUT).query("partNumber", "1").query("uploadId", id);
        let body = StorageBody::Replayable(CipherBytes::assume_ciphertext(NOTHING.into()));
        let stored = self.storage.send(part.body(body), None).await?.checked().await?;
        let etag = etag_of(&stored)?;
        let complete = self.probe(Method::POST).query("uploadId", id);
        let complete = complete.header(IF_MATCH, HeaderValue::from_static(NEVER));
        let list = complete_upload_xml([(1, etag.as_str())]);
        let body = StorageBody::Replayable(CipherBytes::assume_ciphertext(list.into()));
        verdict(late::success(self.storage.send(complete.body(body), None).await?).await.map(drop))
    }
}

fn etag_of(response: &StorageResponse) -> Result<String, Error> {
    let etag = response.headers.get(http::header::ETAG).and_then(|etag| etag.to_str().ok());
    Ok(etag.ok_or(WrongAnswer::Etag)?.to_owned())
}

/// A condition that never holds was refused, or was not looked at.
fn verdict(outcome: Result<(), Error>) -> Result<bool, Error> {
    match outcome {
        Ok(()) => Ok(false),
        Err(error) if error.is_status(StatusCode::PRECONDITION_FAILED) => Ok(true),
        Err(error) if error.is_status(StatusCode::NOT_IMPLEMENTED) => Ok(false),
        Err(error) => Err(error),
    }
}

//! Preflight requests of browsers: may a page of another origin ask for this?
//!
//! Nobody signs them, so they go to the storage server unsigned, and of its answer only what browsers read comes back.

use http::{HeaderMap, HeaderName, Method, StatusCode, header};

use crate::names::LogicalBucket;
use crate::s3::operation::cors_headers;
use crate::s3::target::ObjectKey;
use crate::storage::{Signer, StorageError, StorageRequest};

use super::Objects;
use super::answer::Answer;
use super::error::Error;

/// What a preflight request says of the request that is to come.
const ASKED: [HeaderName; 3] =
    [header::ORIGIN, header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_REQUEST_HEADERS];

impl Objects {
    /// Asks the storage server what the CORS configuration of `bucket` says to the request in `headers`.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::Preflight`], [`Error::OtherOrigin`], and what becomes of requests to the storage
    /// server.
    pub async fn preflight(
        &self,
        bucket: &LogicalBucket,
        key: Option<&ObjectKey>,
        headers: &HeaderMap,
    ) -> Result<Answer, Error> {
        let bucket = self.buckets.find(bucket).ok_or(Error::NoSuchBucket)?;
        if !headers.contains_key(header::ORIGIN) || !headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            return Err(Error::Preflight);
        }
        let mut request = StorageRequest::bucket(Method::OPTIONS, bucket.physical);
        request.key = key.map(|key| key.as_str().to_owned());
        for name in ASKED {
            request.headers.extend(headers.get_all(&name).iter().map(|value| (name.clone(), value.clone())));
        }
        let answer = self.storage.send_as(request, Signer::Nobody).await?.checked().await;
        let allowed = match answer {
            Ok(response) => cors_headers(&response.headers),
            Err(StorageError::Refused(refusal))
                if refusal.status.is_client_error() && refusal.code.as_deref() != Some("NoSuchBucket") =>
            {
                return Err(Error::OtherOrigin);
            }
            Err(error) => return Err(error.into()),
        };
        // A server that knows nothing of preflight requests may answer anything.
        if !allowed.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            return Err(Error::OtherOrigin);
        }
        Ok(Answer::empty(StatusCode::OK, allowed))
    }
}

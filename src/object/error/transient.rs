//! Which errors pass by themselves, so that a job tries again, and which say that an object went away.

use http::StatusCode;

use crate::object::answer::ReadFailure;
use crate::object::plaintext::UploadError;
use crate::object::state::StateError;
use crate::storage::{Garbage, Refusal, StorageError};

use super::Error;

impl Error {
    /// Whether the same operation may succeed later without anyone changing policy or data: the storage server or the custodian failed
    /// for the moment.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Storage(error) | Self::State(StateError::Storage(error)) => storage_passes(error),
            Self::Key(error) => error.is_transient(),
            // Something between us and the storage server may have answered in its place.
            Self::Revoked(_) | Self::Overwritten | Self::WrongAnswer(_) => true,
            Self::Upload(error) => upload_passes(error),
            _ => false,
        }
    }

    /// Whether the storage server says that the object or version is not there, or that it was deleted.
    pub fn is_gone(&self) -> bool {
        let deleted = || {
            let marker = self.refusal().and_then(|refusal| refusal.told.get("x-amz-delete-marker"));
            self.is_status(StatusCode::METHOD_NOT_ALLOWED) && marker.is_some_and(|value| value == "true")
        };
        let no_bucket = self.refusal_code() == Some("NoSuchBucket");
        (self.is_status(StatusCode::NOT_FOUND) && !no_bucket) || deleted()
    }

    /// Whether the storage server has the object in an archive, from which it would have to be restored first.
    pub fn is_archived(&self) -> bool {
        self.refusal_code() == Some("InvalidObjectState")
    }
}

impl From<ReadFailure> for Error {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Open(error) => error.into(),
            ReadFailure::Storage(error) => error.into(),
            ReadFailure::Revoked(error) => error.into(),
            ReadFailure::Lease(error) => error.into(),
        }
    }
}

fn storage_passes(error: &StorageError) -> bool {
    match error {
        StorageError::Unreachable(_)
        | StorageError::Timeout { .. }
        | StorageError::Broken(_)
        | StorageError::Garbage(Garbage::NotHttp(_)) => true,
        StorageError::Refused(refusal) => refusal_passes(refusal),
        StorageError::Request(_) | StorageError::Garbage(_) | StorageError::Aborted(_) => false,
    }
}

fn refusal_passes(refusal: &Refusal) -> bool {
    let status = refusal.status;
    let waits = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    let failed = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED;
    waits || failed || matches!(refusal.code.as_deref(), Some("RequestTimeout" | "SlowDown" | "OperationAborted"))
}

fn upload_passes(error: &UploadError) -> bool {
    match error {
        UploadError::Revoked(_) | UploadError::Source(ReadFailure::Revoked(_)) => true,
        UploadError::Lease(error) | UploadError::Source(ReadFailure::Lease(error)) => error.is_transient(),
        UploadError::Source(ReadFailure::Storage(error)) => storage_passes(error),
        _ => false,
    }
}

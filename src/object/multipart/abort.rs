//! AbortMultipartUpload: on the storage server first, so that what is left after a failure can be aborted again.

use http::{Method, StatusCode};

use crate::format::upload::{MAX_RECORD, Unverified};
use crate::s3::operation::{UploadId, clean_response_headers};
use crate::storage::{StorageRequest, StorageResponse};

use super::super::answer::Answer;
use super::super::error::Error;
use super::super::{Call, Named, Objects};
use super::state::Folder;

impl Objects {
    pub(in crate::object) async fn abort_upload(
        &self,
        call: &Call,
        object: Named<'_>,
        id: &UploadId,
    ) -> Result<Answer, Error> {
        let folder = Folder::new(object.bucket.physical, id);
        self.check_owner(&folder, object).await?;
        let request = self.request(call, Method::DELETE, object.bucket, Some(object.key));
        let outcome = self.abort_there(call, request, id).await;
        let gone = match &outcome {
            Ok(_) => true,
            // After an abort, or a completion, whose proxy did not come to the rest.
            Err(error) => error.refusal_code() == Some("NoSuchUpload"),
        };
        if gone {
            self.forget_folder(&folder).await;
        }
        let headers = clean_response_headers(&call.operation, &outcome?.headers);
        Ok(Answer::empty(StatusCode::NO_CONTENT, headers))
    }

    /// Has the storage server abort an upload. `request` is a DELETE of its object.
    pub(super) async fn abort_there(
        &self,
        call: &Call,
        request: StorageRequest,
        id: &UploadId,
    ) -> Result<StorageResponse, Error> {
        Ok(self.send(call, request.query("uploadId", id.as_str())).await?.checked().await?)
    }

    /// Aborts an upload on the storage server that no client has heard of, or will.
    pub(in crate::object) async fn give_up(&self, call: &Call, object: Named<'_>, id: &UploadId) {
        let request = StorageRequest::object(Method::DELETE, object.bucket.physical, object.key.as_str());
        if let Err(error) = self.abort_there(call, request, id).await {
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::warn!(error, %id, "an upload that was given up could not be aborted on the storage server");
        }
    }

    /// An upload of another object is none: S3 says no more than this, and a storage server that looks only at the id must
    /// not be made to delete it. A record that cannot be read says nothing of whose it is.
    async fn check_owner(&self, folder: &Folder, object: Named<'_>) -> Result<(), Error> {
        let Some(record) = self.state.read(&folder.record(), MAX_RECORD).await? else { return Ok(()) };
        match Unverified::parse(&record) {
            Ok(record) if (record.bucket(), record.key()) != (object.bucket.name, object.key.as_str()) => {
                Err(Error::NoSuchUpload)
            }
            _ => Ok(()),
        }
    }
}

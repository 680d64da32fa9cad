//! AbortMultipartUpload: on the storage server first, so that what is left after a failure can be aborted again.

use http::{Method, StatusCode};

use crate::format::upload::{MAX_RECORD, Unverified};
use crate::s3::operation::{UploadId, clean_response_headers};

use super::super::answer::Answer;
use super::super::error::Error;
use super::super::{Call, Named, Objects};
use super::complete::code_of;
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
        let outcome = match self.send(call, request.query("uploadId", id.as_str())).await {
            Ok(response) => response.checked().await.map_err(Error::from),
            Err(error) => Err(error),
        };
        let gone = match &outcome {
            Ok(_) => true,
            // After an abort, or a completion, whose proxy did not come to the rest.
            Err(error) => code_of(error) == Some("NoSuchUpload"),
        };
        if gone {
            self.forget_folder(&folder).await;
        }
        let headers = clean_response_headers(&call.operation, &outcome?.headers);
        Ok(Answer::empty(StatusCode::NO_CONTENT, headers))
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

//! AbortMultipartUpload: on the storage server first, so that what is left after a failure can be aborted again.

use http::{Method, StatusCode};

use crate::format::upload::{MAX_RECORD, Unverified};
use crate::s3::operation::{UploadId, clean_response_headers};
use crate::s3::xml::ListedUploads;
use crate::storage::{StorageRequest, StorageResponse};

use super::super::answer::Answer;
use super::super::error::{Error, WrongAnswer};
use super::super::stored::MAX_PAGE;
use super::super::{Call, Named, Objects};
use super::state::Folder;

/// Most pages of uploads under way whose keys begin with the one asked for.
const MOST_PAGES: usize = 100;

impl Objects {
    pub(in crate::object) async fn abort_upload(
        &self,
        call: &Call,
        object: Named<'_>,
        id: &UploadId,
    ) -> Result<Answer, Error> {
        let folder = Folder::new(object.bucket.physical, id);
        self.check_owner(call, &folder, object, id).await?;
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
    /// not be made to delete it, be it of another key or of another bucket. A record that cannot be read says nothing of whose
    /// key it is.
    async fn check_owner(&self, call: &Call, folder: &Folder, object: Named<'_>, id: &UploadId) -> Result<(), Error> {
        let is_its_own = match self.state.read(&folder.record(), MAX_RECORD).await? {
            Some(record) => Unverified::parse(&record)
                .map_or(true, |record| (record.bucket(), record.key()) == (object.bucket.name, object.key.as_str())),
            // Begun without a proxy, or by one that ended before it wrote the record.
            None => self.is_listed(call, object, id).await?,
        };
        if is_its_own { Ok(()) } else { Err(Error::NoSuchUpload) }
    }

    /// Whether the storage server lists this upload for this object.
    async fn is_listed(&self, call: &Call, object: Named<'_>, id: &UploadId) -> Result<bool, Error> {
        let key = object.key.as_str();
        let mut after = None;
        for _ in 0..MOST_PAGES {
            let mut request = self.request(call, Method::GET, object.bucket, None).flag("uploads");
            request = request.query("prefix", key).query("encoding-type", "url");
            if let Some((key, id)) = after {
                request = request.query("key-marker", key).query("upload-id-marker", id);
            }
            let response = self.send(call, request).await?.checked().await?;
            let page = ListedUploads::parse(&response.collect(MAX_PAGE).await?).map_err(WrongAnswer::Document)?;
            if page.uploads.iter().any(|upload| (upload.0.as_str(), &upload.1) == (key, id)) {
                return Ok(true);
            }
            match page.next {
                None => return Ok(false),
                next => after = next,
            }
        }
        Err(WrongAnswer::Endless.into())
    }
}

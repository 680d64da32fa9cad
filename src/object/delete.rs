//! DeleteObject and DeleteObjects.

use bytes::Bytes;
use http::{Method, StatusCode};

use crate::format::ciphertext::CipherBytes;
use crate::format::size;
use crate::s3::conditions::storage_conditions;
use crate::s3::operation::clean_response_headers;
use crate::s3::xml::{DeleteRequest, all_deleted};
use crate::storage::StorageBody;

use super::answer::Answer;
use super::bucket::Bucket;
use super::error::{Error, WrongAnswer};
use super::plaintext::{Plaintext, Upload};
use super::service::{MAX_DOCUMENT, content_md5};
use super::{Call, Named, Objects};

/// Most bytes of an answer to DeleteObjects: 1,000 keys with their errors.
const MAX_RESULT: usize = 8 << 20;

impl Objects {
    pub(super) async fn delete(&self, call: &Call, object: Named<'_>, version: Option<&str>) -> Result<Answer, Error> {
        let mut request = self.request(call, Method::DELETE, object.bucket, Some(object.key));
        let conditions = storage_conditions(&call.headers)?;
        if !conditions.is_empty() || call.headers.contains_key("x-amz-if-match-last-modified-time") {
            request = request.replay_unsafe();
            request.headers.extend(conditions);
        }
        if let Some(version) = version {
            request = request.query("versionId", version);
        }
        let response = self.send(call, request).await?.checked().await?;
        self.tails.forget(object, version);
        Ok(Answer::empty(StatusCode::NO_CONTENT, clean_response_headers(&call.operation, &response.headers)))
    }

    pub(super) async fn delete_objects(
        &self,
        call: &Call,
        bucket: Bucket<'_>,
        upload: Upload,
    ) -> Result<Answer, Error> {
        let (document, _) = Plaintext::new(upload, &call.headers)?.collect(MAX_DOCUMENT).await?;
        let asked = DeleteRequest::parse(&document).map_err(Error::Xml)?;
        // Told also of what fails: some may be gone then.
        let _ = call.deletes.set(asked.objects.clone());
        // No object is larger than the largest: a condition on such a size stays one that never holds.
        let stored_size = |length: u64| size::stored(length.min(size::MAX_OBJECT + 1));
        let document = Bytes::from(asked.to_storage_xml(stored_size));
        let mut request = self.request(call, Method::POST, bucket, None).flag("delete");
        request.headers.insert("content-md5", content_md5(&document));
        request.headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/xml"));
        // Keys and versions, which the storage server knows.
        let request = request.body(StorageBody::Replayable(CipherBytes::assume_ciphertext(document)));
        let request = if is_conditional(&asked) { request.replay_unsafe() } else { request };
        let response = self.send(call, request).await?.checked().await?;
        let headers = clean_response_headers(&call.operation, &response.headers);
        let result = response.collect(MAX_RESULT).await?;
        let all = all_deleted(&result).map_err(WrongAnswer::Document)?;
        for entry in &asked.objects {
            match entry.version_id {
                Some(_) => self.unsettle(bucket, entry.key.as_str()),
                // Which ones were not deleted is not looked at.
                None if all => self.settle(bucket, entry.key.as_str()),
                None => {}
            }
        }
        Ok(Answer::xml(StatusCode::OK, headers, result))
    }
}

fn is_conditional(asked: &DeleteRequest) -> bool {
    asked.objects.iter().any(|entry| entry.etag.is_some() || entry.last_modified.is_some() || entry.size.is_some())
}

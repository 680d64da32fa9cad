//! Copies of what is not encrypted yet, where the bucket's manifest lists it: encrypted as they stream.

use http::{Method, StatusCode};

use crate::names::Purpose;
use crate::s3::copy_source::CopySource;

use super::super::answer::Answer;
use super::super::error::{Error, WrongAnswer};
use super::super::metadata;
use super::super::plaintext::Plaintext;
use super::super::put::now_ms;
use super::super::{Call, Named, Objects};
use super::answer::{self, About};
use super::directives::Wanted;
use super::{CopyError, MAX_SOURCE, TAGGING};

impl Objects {
    pub(super) async fn copy_unencrypted(
        &self,
        call: &Call,
        object: Named<'_>,
        from: &CopySource,
        wanted: &Wanted,
    ) -> Result<Answer, Error> {
        let source = self.unencrypted_source(call, from, None).await?;
        let length = source.length;
        if length > MAX_SOURCE {
            return Err(CopyError::TooLarge { length, limit: MAX_SOURCE }.into());
        }
        let mut request = self.request(call, Method::PUT, object.bucket, Some(object.key));
        if !wanted.replaces_tags {
            let named = Named { bucket: self.source_bucket(call, from)?, key: &from.key };
            let tags = self.tags_at(call, named, from.version_id.as_deref()).await?;
            request.headers.remove(TAGGING);
            request.headers.extend(tags.map(|tags| (TAGGING, tags)));
        }
        if !wanted.conditions.is_empty() {
            request = request.replay_unsafe();
            request.headers.extend(wanted.conditions.clone());
        }
        let (bucket, caller) = (object.bucket.name, call.who.caller());
        let key = self.keys.for_writing(&wanted.kek, Purpose::Object, bucket, caller, length).await?;
        let version = source.headers.get("x-amz-version-id").cloned();
        let metadata = wanted.metadata(&metadata::of_headers(&source.headers), now_ms());
        let plaintext = Plaintext::of_copy(source.body, length, wanted.algorithm);
        let (response, verified) = self.store(call, object, metadata, plaintext, key, request).await?;
        let response = response.checked().await?;
        if response.status != StatusCode::OK {
            return Err(WrongAnswer::Kind.into());
        }
        self.tails.forget(object, None);
        let about = About {
            etag: response.headers.get(http::header::ETAG).cloned(),
            modified: answer::moment(response.headers.get(http::header::DATE)),
            checksum: Some(&metadata::stored_checksum(&verified)),
            parts: 1,
            version: version.as_ref(),
        };
        Ok(answer::answer(call, wanted, &response.headers, &about))
    }
}

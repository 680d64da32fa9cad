//! Sub-resources that carry no record data: re-signed, sent on, and the answer checked for being one.

use http::Method;
use http::header::CONTENT_TYPE;

use crate::format::ciphertext::CipherBytes;
use crate::format::envelope;
use crate::s3::operation::{Access, Destination, PassThrough, Verb, clean_response_headers};
use crate::s3::target::ObjectKey;
use crate::s3::xml::XmlError;
use crate::storage::StorageBody;

use super::answer::{Answer, AnswerBody};
use super::bucket::Bucket;
use super::error::{Error, WrongAnswer};
use super::plaintext::Upload;
use super::service::{MAX_DOCUMENT, content_md5};
use super::{Call, Objects};

impl Objects {
    pub(super) async fn pass_through(
        &self,
        call: &Call,
        bucket: Bucket<'_>,
        key: Option<&ObjectKey>,
        pass: &PassThrough,
        upload: Upload,
    ) -> Result<Answer, Error> {
        let method = match pass.verb() {
            Verb::Get | Verb::List => Method::GET,
            Verb::Put => Method::PUT,
            Verb::Delete => Method::DELETE,
            Verb::Post => Method::POST,
        };
        let mut request = self.request(call, method, bucket, key);
        request.query = pass.parameters().as_slice().to_vec();
        if pass.has_document() {
            let document = self.document(call, upload).await?;
            if !pass.is_asked_by(&call.headers, &document) {
                return Err(Error::Xml(XmlError::Root { expected: pass.document_kind() }));
            }
            if !pass.destinations(&document).iter().all(|destination| self.may_be_destination(call, destination)) {
                return Err(Error::Destination);
            }
            request.headers.insert("content-md5", content_md5(&document));
            if pass.verb() == Verb::Post {
                request = request.replay_unsafe();
            }
            request = request.body(StorageBody::Replayable(CipherBytes::assume_ciphertext(document)));
        }
        let response = self.send(call, request).await?.checked().await?;
        let (status, mut headers) = (response.status, clean_response_headers(&call.operation, &response.headers));
        let storage = response.headers.clone();
        let document = response.collect(MAX_DOCUMENT).await?;
        // A server that does not know the sub-resource may have answered with the object itself.
        if storage.contains_key(envelope::HEADER) || !pass.is_answered_by(&storage, &document) {
            return Err(WrongAnswer::Kind.into());
        }
        if let Some(kind) = storage.get(CONTENT_TYPE).filter(|_| !document.is_empty()) {
            headers.insert(CONTENT_TYPE, kind.clone());
        }
        let body = if document.is_empty() { AnswerBody::Empty } else { AnswerBody::Full(document) };
        Ok(Answer { status, headers, body })
    }

    /// Whether the client may have the storage server write to a bucket: not to that of the proxies, and to those of other
    /// clients no more than by itself.
    fn may_be_destination(&self, call: &Call, destination: &Destination) -> bool {
        let logical = self.buckets.logical_name(destination.name());
        !destination.mentions(self.buckets.state_bucket())
            && logical.is_none_or(|bucket| call.who.may(Access::Write, Some(&bucket)))
    }
}

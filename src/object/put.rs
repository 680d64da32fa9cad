//! PutObject: one plaintext body in, one stored object out.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;

use crate::custody::branch::WritingKey;
use crate::format::body::SingleSealer;
use crate::format::ciphertext::CipherBytes;
use crate::format::envelope::{self, Binding, Branch, Layout, Wrapping};
use crate::format::keys::Dek;
use crate::format::metadata::Metadata;
use crate::format::size;
use crate::names::{KekName, Purpose};
use crate::s3::checksum::Verified;
use crate::s3::conditions::storage_conditions;
use crate::s3::customer_key::CustomerKey;
use crate::s3::etag;
use crate::s3::operation::clean_response_headers;
use crate::storage::{StorageBody, StorageRequest, StorageResponse};

use super::answer::Answer;
use super::encrypting::{EncryptingBody, Outcome, Right, Sealer};
use super::error::{Error, WrongAnswer};
use super::metadata::{self, stored_checksum};
use super::plaintext::{Plaintext, Upload};
use super::{Call, Named, Objects};

/// Uploads up to this many plaintext bytes are verified in memory first, and can then be sent more than once.
pub(super) const IN_MEMORY: u64 = size::SEGMENT;

impl Objects {
    pub(super) async fn put(&self, call: &Call, object: Named<'_>, upload: Upload) -> Result<Answer, Error> {
        let (metadata, kek) = metadata::of_upload(&call.headers, object.bucket.keys)?;
        let conditions = storage_conditions(&call.headers)?;
        let plaintext = Plaintext::new(upload, &call.headers)?;
        let length = plaintext.length();
        if length > size::MAX_PUT {
            return Err(Error::TooLarge { length, limit: size::MAX_PUT });
        }
        let key = self.keys.for_writing(&kek, Purpose::Object, object.bucket.name, call.who.caller(), length).await?;
        let mut request = self.request(call, Method::PUT, object.bucket, Some(object.key));
        if !conditions.is_empty() {
            // A second attempt would fail on the first one's success.
            request = request.replay_unsafe();
            request.headers.extend(conditions);
        }
        let asked = metadata.asked;
        let metadata = Metadata { written_ms: now_ms(), ..metadata };
        let (response, verified) = self.store(call, object, metadata, plaintext, key, request).await?;
        let mut headers = clean_response_headers(&call.operation, &response.headers);
        insert_etag(&mut headers, &response.headers);
        metadata::describe_encryption(&mut headers, call.customer_keys.target.as_ref(), asked, &kek);
        metadata::describe_checksum(&mut headers, &stored_checksum(&verified), 1);
        Ok(Answer::empty(StatusCode::OK, headers))
    }

    /// Encrypts and sends, and takes nothing but success. What the client promised is verified before the last bytes go.
    pub(super) async fn store(
        &self,
        call: &Call,
        object: Named<'_>,
        metadata: Metadata,
        plaintext: Plaintext,
        key: WritingKey,
        request: StorageRequest,
    ) -> Result<(StorageResponse, Verified), Error> {
        let (response, verified) = self.send_sealed(call, object, metadata, plaintext, key, request).await?;
        let response = response.checked().await?;
        if response.status != StatusCode::OK {
            return Err(WrongAnswer::Kind.into());
        }
        Ok((response, verified))
    }

    async fn send_sealed(
        &self,
        call: &Call,
        object: Named<'_>,
        mut metadata: Metadata,
        plaintext: Plaintext,
        key: WritingKey,
        request: StorageRequest,
    ) -> Result<(StorageResponse, Verified), Error> {
        let dek = Arc::new(Dek::random()?);
        let length = plaintext.length();
        if length > IN_MEMORY {
            let request = self.with_envelope(call, request, (&dek, Layout::Single), &metadata, &key, object)?;
            let (outcome, sealer) = (Outcome::default(), Sealer::Object(SingleSealer::new(dek, length)));
            let right = Right::wrapped(key, self.keys.clone());
            let body = EncryptingBody::new(plaintext, sealer, right, outcome.clone()).boxed_unsync();
            let body = StorageBody::Streaming { length: size::stored(length), body };
            let response = self.send(call, request.body(body)).await?;
            // A refusal may come before the body's end; success may not.
            let verified = match outcome.take() {
                Some(verified) => verified,
                None => return Err(response.error().await.into()),
            };
            return Ok((response, verified));
        }
        let (bytes, verified) = plaintext.collect(usize::try_from(IN_MEMORY).unwrap_or(usize::MAX)).await?;
        let key = if !key.is_usable() && !key.is_revoked() {
            // While the body came; the custodian is asked again.
            self.keys.for_writing(key.kek(), Purpose::Object, object.bucket.name, call.who.caller(), length).await?
        } else {
            key
        };
        let layout = if bytes.is_empty() { Layout::Empty } else { Layout::Single };
        if layout == Layout::Empty {
            metadata.empty_checksum = Some(stored_checksum(&verified));
        }
        let request = self.with_envelope(call, request, (&dek, layout), &metadata, &key, object)?;
        let body = if layout == Layout::Empty {
            StorageBody::Empty
        } else {
            let mut sealer = SingleSealer::new(dek, length);
            let early = sealer.push(&mut bytes.into())?;
            debug_assert!(early.is_none(), "at most one segment");
            StorageBody::Replayable(CipherBytes::concat(&sealer.finish(Some(&stored_checksum(&verified)))?))
        };
        Ok((self.send(call, request.body(body)).await?, verified))
    }

    /// The headers of a stored object that the call writes, its customer key (SSE-C) mixed in if it has one.
    pub(super) fn with_envelope(
        &self,
        call: &Call,
        mut request: StorageRequest,
        (dek, layout): (&Dek, Layout),
        metadata: &Metadata,
        key: &WritingKey,
        object: Named<'_>,
    ) -> Result<StorageRequest, Error> {
        let branch = branch_of(key, key.kek());
        let customer_key = call.customer_keys.target.as_ref().map(CustomerKey::secret);
        let wrapping = Wrapping { branch_key: key.secret()?, customer_key };
        let binding = binding_of(object);
        let envelope = envelope::wrap(dek, layout, metadata, branch, wrapping, binding)?;
        let limit = self.storage.settings().metadata_limit_bytes;
        // S3 counts names without their prefix, and values.
        let length = "claviger".len() + envelope.len();
        if length > limit {
            return Err(Error::MetadataTooLarge { length, limit });
        }
        let envelope = HeaderValue::from_str(&envelope).expect("base64url is legal in headers");
        request.headers.insert(envelope::HEADER, envelope);
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        Ok(request)
    }
}

/// Milliseconds since 1970; none when the clock says a time before.
pub(super) fn now_ms() -> Option<u64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

/// What envelopes of objects are bound to.
pub(super) fn binding_of(object: Named<'_>) -> Binding<'_> {
    Binding { purpose: Purpose::Object, bucket: object.bucket.name, key: object.key.as_str(), upload_id: "" }
}

pub(super) fn branch_of(key: &WritingKey, kek: &KekName) -> Branch {
    Branch {
        kek: kek.clone(),
        id: key.context().id,
        writer: key.context().writer.clone(),
        version: key.wrapped().version(),
        wrapped: key.wrapped().bytes().to_vec(),
    }
}

/// A storage server's ETag as clients see it.
pub(super) fn shown_etag(storage: Option<&HeaderValue>) -> Option<String> {
    storage?.to_str().ok().map(etag::client_from_storage)
}

/// The ETag as clients see it.
pub(super) fn insert_etag(headers: &mut HeaderMap, storage: &HeaderMap) {
    if let Some(Ok(etag)) = shown_etag(storage.get(ETAG)).map(HeaderValue::try_from) {
        headers.insert(ETAG, etag);
    }
}

//! CreateMultipartUpload: one DEK, wrapped for the object on the storage server and for the record in the state bucket.

use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::custody::branch::WritingKey;
use crate::format::envelope::{self, Layout, Wrapping};
use crate::format::keys::Dek;
use crate::format::metadata::Metadata;
use crate::format::upload::{ChecksumChoice, UploadKey, UploadSettings, seal_record};
use crate::names::{KekName, Purpose};
use crate::s3::customer_key::CustomerKey;
use crate::s3::operation::{UploadId, clean_response_headers, forwardable_request_headers};
use crate::s3::xml::{initiated_upload, initiated_upload_xml};

use super::super::answer::Answer;
use super::super::error::{Error, WrongAnswer};
use super::super::metadata::{self, of_format};
use super::super::put::{branch_of, now_ms};
use super::super::service::MAX_DOCUMENT;
use super::super::{Call, Named, Objects};
use super::checksum_choice::{choice, kind_name};
use super::state::{Folder, binding_of};

/// What an upload counts for against the bytes that one branch key is for: nobody knows yet how long it will be.
const BYTES_ESTIMATE: u64 = 1 << 30;

impl Objects {
    pub(in crate::object) async fn create_upload(&self, call: &Call, object: Named<'_>) -> Result<Answer, Error> {
        let (metadata, kek) = metadata::of_upload(&call.headers, object.bucket.keys)?;
        let checksum = choice(&call.headers)?;
        let metadata = Metadata { written_ms: now_ms(), ..metadata };
        let (id, storage) = self.begin_upload(call, object, &metadata, &kek, checksum).await?;
        let mut headers = clean_response_headers(&call.operation, &storage);
        metadata::describe_encryption(&mut headers, call.customer_keys.target.as_ref(), metadata.asked, &kek);
        describe_choice(&mut headers, checksum);
        let document = initiated_upload_xml(object.bucket.name, object.key.as_str(), &id);
        Ok(Answer::xml(StatusCode::OK, headers, document))
    }

    /// Begins the upload of an object of which this is known. Gives the storage server's headers of its answer, too.
    pub(super) async fn begin_upload(
        &self,
        call: &Call,
        object: Named<'_>,
        metadata: &Metadata,
        kek: &KekName,
        checksum: ChecksumChoice,
    ) -> Result<(UploadId, HeaderMap), Error> {
        let (bucket, caller) = (object.bucket.name, call.who.caller());
        let key = self.keys.for_writing(kek, Purpose::Object, bucket, caller, BYTES_ESTIMATE).await?;
        let record_key = self.keys.for_writing(kek, Purpose::Upload, bucket, caller, 0).await?;
        let dek = Dek::random()?;
        let request = self.request(call, Method::POST, object.bucket, Some(object.key)).flag("uploads");
        // A second attempt would begin a second upload.
        let request = request.replay_unsafe();
        let request = self.with_envelope(call, request, (&dek, Layout::Multipart), metadata, &key, object)?;
        let response = self.send(call, request).await?.checked().await?;
        if response.status != StatusCode::OK {
            return Err(WrongAnswer::Kind.into());
        }
        let headers = response.headers.clone();
        let id = initiated_upload(&response.collect(MAX_DOCUMENT).await?).map_err(WrongAnswer::Document)?;
        if let Err(error) = self.write_record(call, object, &id, (&dek, metadata, checksum), &record_key).await {
            self.give_up(call, object, &id).await;
            return Err(error);
        }
        Ok((id, headers))
    }

    async fn write_record(
        &self,
        call: &Call,
        object: Named<'_>,
        id: &UploadId,
        (dek, metadata, checksum): (&Dek, &Metadata, ChecksumChoice),
        key: &WritingKey,
    ) -> Result<(), Error> {
        let binding = binding_of(object, id);
        let customer_key = call.customer_keys.target.as_ref().map(CustomerKey::secret);
        let wrapping = Wrapping { branch_key: key.secret()?, customer_key };
        let branch = branch_of(key, key.kek());
        let envelope = envelope::wrap(dek, Layout::Multipart, metadata, branch, wrapping, binding)?;
        let headers = forwardable_request_headers(&call.operation, &call.headers);
        // A one-time password is for this request alone.
        let headers = headers.iter().filter(|(name, _)| *name != "x-amz-mfa");
        let headers = headers.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
        let begun_ms = metadata.written_ms.unwrap_or_default();
        let settings = UploadSettings { checksum, headers: headers.collect(), begun_ms };
        let record = seal_record(&UploadKey::new(dek), &envelope, &settings, binding)?;
        Ok(self.state.put(&Folder::new(object.bucket.physical, id).record(), &record).await?)
    }
}

fn describe_choice(headers: &mut HeaderMap, checksum: ChecksumChoice) {
    if checksum.by_client {
        let algorithm = of_format(checksum.algorithm).wire_name();
        headers.insert("x-amz-checksum-algorithm", HeaderValue::from_static(algorithm));
        headers.insert("x-amz-checksum-type", HeaderValue::from_static(kind_name(checksum.kind)));
    }
}

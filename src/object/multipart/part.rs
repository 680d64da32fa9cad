//! UploadPart: one plaintext body in, the sealed segments of one attempt at a part out.
//!
//! A part shorter than 5 MiB, or with the highest number, can only be the last. It is stored together with the footer, so
//! until the end it is held in the state bucket.
//!
//! **Invariant:** a part counts from its marker on, and the marker is written only after the storage server has the part.

use http::header::{ETAG, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;

use crate::format::body::PartSealer;
use crate::format::segment::AttemptId;
use crate::format::size;
use crate::format::upload::{ChecksumChoice, PartRecord};
use crate::s3::checksum::{Algorithm, Verified};
use crate::s3::operation::{HIGHEST_PART, PartOf, clean_response_headers};
use crate::storage::StorageBody;

use super::super::answer::Answer;
use super::super::encrypting::{EncryptingBody, Outcome, Right, Sealer};
use super::super::error::{Error, WrongAnswer};
use super::super::lease::LeaseLost;
use super::super::metadata::{self, of_format, stored_checksum};
use super::super::plaintext::{Plaintext, Upload, UploadError};
use super::super::put::{IN_MEMORY, now_ms};
use super::super::{Call, Named, Objects};
use super::state::{OpenUpload, client_etag};

/// A part that was stored, marker and all.
pub(super) struct StoredPart {
    pub(super) record: PartRecord,
    pub(super) verified: Verified,
    /// Those of the storage server's headers that clients get.
    pub(super) headers: HeaderMap,
}

impl Objects {
    pub(in crate::object) async fn upload_part(
        &self,
        call: &Call,
        object: Named<'_>,
        part: &PartOf,
        body: Upload,
    ) -> Result<Answer, Error> {
        let plaintext = Plaintext::new(body, &call.headers)?;
        check_length(plaintext.length())?;
        let upload = self.open_upload(call, object, &part.upload).await?;
        check_algorithm(upload.settings.checksum, plaintext.chosen())?;
        let stored = self.store_part(call, object, &upload, part.number, plaintext).await?;
        let mut headers = stored.headers;
        let etag = format!("\"{}\"", client_etag(stored.record.entry.attempt));
        headers.insert(ETAG, HeaderValue::try_from(etag).expect("hexadecimal is legal in headers"));
        let customer_key = call.customer_keys.target.as_ref();
        metadata::describe_encryption(&mut headers, customer_key, upload.metadata.asked, &upload.kek);
        let own = (stored.verified.algorithm(), stored.verified.digest());
        let (algorithm, digest) = stored.verified.sent().unwrap_or(own);
        let digest = HeaderValue::try_from(digest.to_base64()).expect("base64 is legal in headers");
        headers.insert(algorithm.header_name(), digest);
        Ok(Answer::empty(StatusCode::OK, headers))
    }

    /// Encrypts and stores an attempt at a part, and notes it. What the client promised, or the source of a copy, is
    /// verified before the last bytes go; and the caller's right to the upload is good at that moment.
    pub(super) async fn store_part(
        &self,
        call: &Call,
        object: Named<'_>,
        upload: &OpenUpload,
        number: u32,
        plaintext: Plaintext,
    ) -> Result<StoredPart, Error> {
        let length = plaintext.length();
        check_length(length)?;
        let part = PartRecord::new(number, length, AttemptId::random()?, None);
        let held = length < size::MIN_PART || number == HIGHEST_PART;
        let outcome = Outcome::default();
        // The state bucket does not know whether the upload still is one.
        let known = if held { Some(self.parts_there(call, object, &upload.id).await?.0) } else { None };
        let body = self.sealed_part(upload, &part, plaintext, &outcome).await?;
        let (storage, etag) = match known {
            Some(headers) => {
                self.state.put_body(&upload.folder.held(number, part.entry.attempt), body).await?;
                (headers, String::new())
            }
            None => self.put_part(call, object, upload, number, body).await?,
        };
        let verified = outcome.take().ok_or(WrongAnswer::Kind)?;
        let written_ms = now_ms().unwrap_or_default();
        let checksum = Some(stored_checksum(&verified));
        let part = PartRecord::new(number, length, part.entry.attempt, checksum);
        let record = PartRecord { held, written_ms, etag, ..part };
        self.write_marker(upload, &record, &call.who.caller().principal).await?;
        if held && let Err(error) = self.forget_older(upload, &record).await {
            // The part is there all the same, and the next attempt at it tries again.
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, number, "older attempts at a part could not be removed from the state bucket");
        }
        Ok(StoredPart { record, verified, headers: clean_response_headers(&call.operation, &storage) })
    }

    /// The stored form of a part: in memory, so that it can be sent again, if it is short.
    async fn sealed_part(
        &self,
        upload: &OpenUpload,
        part: &PartRecord,
        plaintext: Plaintext,
        outcome: &Outcome,
    ) -> Result<StorageBody, Error> {
        let length = plaintext.length();
        let plaintext = plaintext.storing(of_format(upload.settings.checksum.algorithm));
        let mut sealer = PartSealer::new(&upload.dek, part.entry);
        let mut lease = upload.lease.share();
        if length > IN_MEMORY {
            let (sealer, right) = (Sealer::Part(sealer), Right::Opened(lease));
            let body = EncryptingBody::new(plaintext, sealer, right, outcome.clone()).boxed_unsync();
            return Ok(StorageBody::Streaming { length: size::sealed_part(length), body });
        }
        let (bytes, verified) = plaintext.collect(usize::try_from(IN_MEMORY).unwrap_or(usize::MAX)).await?;
        lease.good().await.map_err(|lost: LeaseLost| UploadError::from(lost))?;
        let early = sealer.push(&mut bytes.into())?;
        debug_assert!(early.is_none(), "at most one segment");
        let sealed = sealer.finish()?;
        outcome.set(verified);
        Ok(StorageBody::Replayable(sealed))
    }

    /// Stores a part on the storage server: its headers and the part's ETag.
    pub(super) async fn put_part(
        &self,
        call: &Call,
        object: Named<'_>,
        upload: &OpenUpload,
        number: u32,
        body: StorageBody,
    ) -> Result<(HeaderMap, String), Error> {
        let request = self.request(call, Method::PUT, object.bucket, Some(object.key));
        let request = request.query("partNumber", number.to_string()).query("uploadId", upload.id.as_str());
        let response = self.send(call, request.body(body)).await?.checked().await?;
        if response.status != StatusCode::OK {
            return Err(WrongAnswer::Kind.into());
        }
        let etag = response.headers.get(ETAG).and_then(|etag| etag.to_str().ok()).ok_or(WrongAnswer::Etag)?;
        Ok((response.headers.clone(), etag.to_owned()))
    }
}

fn check_length(length: u64) -> Result<(), Error> {
    let limit = size::MAX_PART;
    if length > limit { Err(Error::TooLarge { length, limit }) } else { Ok(()) }
}

/// A client that chose an algorithm for its upload uses it for the parts, too.
fn check_algorithm(choice: ChecksumChoice, sent: Option<Algorithm>) -> Result<(), Error> {
    let expected = of_format(choice.algorithm);
    match sent {
        Some(actual) if choice.by_client && actual != expected => Err(Error::PartChecksum { expected, actual }),
        _ => Ok(()),
    }
}

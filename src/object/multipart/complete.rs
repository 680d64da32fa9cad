//! CompleteMultipartUpload.
//!
//! The client's list says which attempts count, their markers how long they are and what their checksums are; the footer
//! that is made of it is the object's part list. The storage server's word counts for nothing but its own ETags.
//!
//! **Invariant:** a completion can be repeated, by any proxy, after a crash between any two of its steps: it overwrites
//! no part of the client's, and what was completed before is known by its DEK and its part list.

mod error;
mod finish;
mod last;
mod list;
mod sums;

use std::time::Duration;

use bytes::Bytes;
use http::header::{ETAG, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use crate::crypto::random_array;
use crate::format::checksum::Checksum;
use crate::format::envelope::Layout;
use crate::format::footer;
use crate::format::layout::PartMap;
use crate::format::metadata::Metadata;
use crate::format::upload::PartRecord;
use crate::names::Purpose;
use crate::s3::conditions::storage_conditions;
use crate::s3::etag;
use crate::s3::operation::{HIGHEST_PART, UploadId, clean_response_headers};
use crate::s3::sigv4::uri_encode_path;
use crate::s3::xml::{LONGEST_COMPLETE, complete_result};
use crate::storage::{StorageBody, StorageRequest};

use super::super::answer::Answer;
use super::super::error::{Error, WrongAnswer};
use super::super::metadata;
use super::super::plaintext::{Plaintext, Upload, UploadError};
use super::super::{Call, Named, Objects};
use super::state::OpenUpload;
use finish::{Completed, etag_in};
use list::Wanted;
use sums::Promised;

pub use error::CompleteError;

/// How often a completion is tried because another one of the same upload came in between.
const MOST_ATTEMPTS: u32 = 5;
/// How long to wait for the other one, at most, after the first such collision.
const PAUSE: Duration = Duration::from_millis(100);

/// What the client asks for.
#[derive(Clone, Copy)]
struct Asked<'a> {
    upload: &'a OpenUpload,
    wanted: &'a [Wanted],
    promised: &'a Promised,
}

/// What is to be completed.
struct Plan<'a> {
    asked: Asked<'a>,
    parts: Vec<PartRecord>,
    map: PartMap,
    checksum: Option<Checksum>,
    /// In the storage server's words.
    conditions: HeaderMap,
}

impl Objects {
    pub(in crate::object) async fn complete_upload(
        &self,
        call: &Call,
        object: Named<'_>,
        id: &UploadId,
        body: Upload,
    ) -> Result<Answer, Error> {
        let (answer, upload, empty) = self.complete_opened(call, object, id, body).await?;
        self.forget_upload(upload, empty);
        Ok(answer)
    }

    /// The same, with the upload, whose state is still there, and whether it became an empty object.
    pub(super) async fn complete_opened(
        &self,
        call: &Call,
        object: Named<'_>,
        id: &UploadId,
        body: Upload,
    ) -> Result<(Answer, OpenUpload, bool), Error> {
        let conditions = storage_conditions(&call.headers)?;
        let promised = Promised::from_headers(&call.headers)?;
        let (document, _) = Plaintext::of_document(body, &call.headers)?.collect(LONGEST_COMPLETE).await?;
        let mut wanted = list::wanted(&document)?;
        let upload = self.open_upload(call, object, id).await?;
        let parts = self.wanted_parts(&upload, &mut wanted).await;
        let asked = Asked { upload: &upload, wanted: &wanted, promised: &promised };
        let completed = match parts {
            Ok(parts) => {
                let plan = plan(asked, parts, conditions)?;
                self.complete_anew(call, object, plan).await?
            }
            // Those of a completed upload are gone.
            Err(error) => self.completed_or(call, object, asked, false, error).await?,
        };
        self.tails.forget(object, None);
        let answer = answer(call, object, &upload, &completed);
        Ok((answer, upload, completed.empty))
    }

    async fn complete_anew(&self, call: &Call, object: Named<'_>, plan: Plan<'_>) -> Result<Completed, Error> {
        if plan.map.length() == 0 {
            return self.complete_empty(call, object, &plan).await;
        }
        let footer = footer::seal(&plan.asked.upload.dek, Layout::Multipart, &plan.map, plan.checksum.as_ref());
        let footer = Bytes::from(footer.map_err(CompleteError::from)?);
        let mut attempt = 1;
        loop {
            let error = match self.try_complete(call, object, &plan, &footer).await {
                Ok(completed) => return Ok(completed),
                Err(error) => error,
            };
            // Another completion may have replaced the last part, and be about to end.
            let collided = error.refusal_code() == Some("InvalidPart") && attempt < MOST_ATTEMPTS;
            match self.completed_or(call, object, plan.asked, false, error).await {
                Err(_) if collided => tokio::time::sleep(pause(attempt)).await,
                outcome => return outcome,
            }
            attempt += 1;
        }
    }

    async fn try_complete(
        &self,
        call: &Call,
        object: Named<'_>,
        plan: &Plan<'_>,
        footer: &Bytes,
    ) -> Result<Completed, Error> {
        let upload = plan.asked.upload;
        let held = plan.parts.last().filter(|part| part.held);
        let last = self.put_last(call, object, upload, held, footer).await?;
        // Whoever may no longer use the key shall not complete either.
        upload.lease.share().good().await.map_err(UploadError::from)?;
        let stored = plan.parts.iter().filter(|part| !part.held);
        let mut parts: Vec<(u32, String)> = stored.map(|part| (part.entry.number, part.etag.clone())).collect();
        parts.push((HIGHEST_PART, last));
        let (headers, etag) = self.send_complete(call, object, upload, &parts, &plan.conditions).await?;
        let (checksum, kek) = (plan.checksum.clone(), upload.kek.clone());
        Ok(Completed { headers, etag, checksum, parts: plan.parts.len(), kek, empty: false })
    }

    /// An upload without a byte: an empty object in its place, for a stored body would not be empty.
    async fn complete_empty(&self, call: &Call, object: Named<'_>, plan: &Plan<'_>) -> Result<Completed, Error> {
        let upload = plan.asked.upload;
        // Of one that is gone, another PUT would overwrite what came after it.
        if let Err(error) = self.parts_there(call, object, &upload.id).await {
            return self.completed_or(call, object, plan.asked, true, error).await;
        }
        let completed = match self.put_empty(call, object, plan).await {
            Ok(completed) => completed,
            Err(error) => self.completed_or(call, object, plan.asked, true, error).await?,
        };
        let abort = self.request(call, Method::DELETE, object.bucket, Some(object.key));
        match self.abort_there(call, abort, &upload.id).await {
            // Not completed before it is gone: the client repeats it.
            Err(error) if error.refusal_code() != Some("NoSuchUpload") => Err(error),
            _ => Ok(completed),
        }
    }

    /// The client has asked for a completion; what else it sent now is not for an object. That was sent to begin it.
    async fn put_empty(&self, call: &Call, object: Named<'_>, plan: &Plan<'_>) -> Result<Completed, Error> {
        let upload = plan.asked.upload;
        // It may have become a former one.
        let keys = object.bucket.keys;
        let kek = if keys.encrypts(&upload.kek) { &upload.kek } else { &keys.kek };
        let key = self.keys.for_writing(kek, Purpose::Object, object.bucket.name, call.who.caller(), 0).await?;
        let mut request = StorageRequest::object(Method::PUT, object.bucket.physical, object.key.as_str());
        for (name, value) in &upload.settings.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value)) {
                request.headers.append(name, value);
            }
        }
        request.headers.extend(call.of_bucket());
        if !plan.conditions.is_empty() {
            request = request.replay_unsafe();
            request.headers.extend(plan.conditions.clone());
        }
        let metadata = Metadata { empty_checksum: plan.checksum.clone(), ..upload.metadata.clone() };
        let request = self.with_envelope(call, request, (&upload.dek, Layout::Empty), &metadata, &key, object)?;
        let response = self.send(call, request.body(StorageBody::Empty)).await?.checked().await?;
        if response.status != StatusCode::OK {
            return Err(WrongAnswer::Kind.into());
        }
        let (etag, checksum, kek) = (etag_in(&response.headers)?, plan.checksum.clone(), kek.clone());
        Ok(Completed { headers: response.headers, etag, checksum, parts: 1, kek, empty: true })
    }

    /// What the upload became, if that happened before, or why it cannot be completed: `error`, unless it is gone.
    async fn completed_or(
        &self,
        call: &Call,
        object: Named<'_>,
        asked: Asked<'_>,
        empty: bool,
        error: Error,
    ) -> Result<Completed, Error> {
        let unknown = match self.completed_before(call, object, asked, empty).await {
            Ok(Some(completed)) => return Ok(completed),
            Ok(None) => None,
            Err(unknown) => Some(unknown),
        };
        match self.parts_there(call, object, &asked.upload.id).await {
            // It may be gone because it was completed: that is not for sure.
            Err(gone) if gone.refusal_code() == Some("NoSuchUpload") => Err(unknown.unwrap_or(gone)),
            _ => Err(error),
        }
    }
}

/// Checks everything that the client says against what the markers say.
fn plan(asked: Asked<'_>, parts: Vec<PartRecord>, conditions: HeaderMap) -> Result<Plan<'_>, Error> {
    let choice = asked.upload.settings.checksum;
    sums::check_parts(choice, asked.wanted, &parts)?;
    let map = list::map_of(&parts)?;
    let checksum = sums::object_checksum(choice, &parts);
    asked.promised.check(choice, checksum.as_ref(), parts.len(), map.length())?;
    Ok(Plan { asked, parts, map, checksum, conditions })
}

/// Two that collided wait for different times, longer each time.
fn pause(attempt: u32) -> Duration {
    let [random] = random_array::<1>().unwrap_or([128]);
    PAUSE * attempt * u32::from(random) / 256
}

fn answer(call: &Call, object: Named<'_>, upload: &OpenUpload, completed: &Completed) -> Answer {
    let mut headers = clean_response_headers(&call.operation, &completed.headers);
    for of_the_object in ["last-modified", "x-amz-storage-class"] {
        headers.remove(of_the_object);
    }
    let customer_key = call.customer_keys.target.as_ref();
    metadata::describe_encryption(&mut headers, customer_key, upload.metadata.asked, &completed.kek);
    let parts = u32::try_from(completed.parts).unwrap_or(u32::MAX);
    let checksum = completed.checksum.as_ref().map(|kept| metadata::checksum_text(kept, parts));
    let etag = etag::client_from_storage(&completed.etag);
    let (bucket, key) = (object.bucket.name.as_str(), object.key.as_str());
    let host = call.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let location = format!("http://{host}/{}", uri_encode_path(format!("{bucket}/{key}").as_bytes()));
    headers.remove(ETAG);
    Answer::xml(StatusCode::OK, headers, complete_result(&location, bucket, key, &etag, checksum.as_ref()))
}

//! POST of a browser form: the fields say who sends what and may, the file is stored as by a PUT.
//!
//! A form is authenticated by its fields, so that up to its file it is read before it is known whose it is: at most
//! [`LONGEST_FIELDS`](crate::s3::form::LONGEST_FIELDS) bytes of fields, within [`FIELDS_TIMEOUT`], and not many forms at a time. How long the file is, no field says. A form that is
//! short is read to its end; of a longer one the file has to be the last field, and its length follows from the form's.
//!
//! **Invariant:** nothing is asked of the storage server or the custodian before the policy was verified and is met.

mod answer;
mod body;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN,
};
use http::{Method, request::Parts};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::names::LogicalBucket;
use crate::net::body::TimedBody;
use crate::object::Call;
use crate::object::access::Authenticated;
use crate::object::answer::Answer;
use crate::object::plaintext::{ClientBody, Upload, content_length};
use crate::s3::customer_key::CustomerKeys;
use crate::s3::error::Code;
use crate::s3::form::policy::Policy;
use crate::s3::form::{Event, Fields, FormError, FormReader};
use crate::s3::operation::Operation;
use crate::s3::sigv4::{AuthError, Payload, PresentedPolicy};
use crate::s3::target::{ObjectKey, Query, Target};

use super::Front;
use super::access_log::Counted;
use super::authenticate::authenticated;
use super::fault::Fault;
use super::respond::About;
use super::traced;

use answer::answer_to;
use body::FileBody;

/// A file is held until the form's end is there, if the rest of the form is no longer than this.
const IN_MEMORY: u64 = 1 << 20;
/// How long the fields before the file may take to come: until they are there, it is not known whose the form is.
const FIELDS_TIMEOUT: Duration = Duration::from_secs(15);

/// The reader of a form, if the request brings one: a POST to a bucket that asks for nothing else.
pub(super) fn reader_of(parts: &Parts, target: &Target, query: &Query) -> Result<Option<FormReader>, Fault> {
    let about_bucket = matches!(target, Target::Bucket(_)) && query.operational().is_empty();
    match parts.headers.get(CONTENT_TYPE) {
        Some(kind) if about_bucket && parts.method == Method::POST => Ok(FormReader::of_content_type(kind)?),
        _ => Ok(None),
    }
}

impl Front {
    /// Stores the file of the form in `body`.
    pub(super) async fn post(
        &self,
        parts: &Parts,
        (reader, body): (FormReader, Counted<Incoming>),
        (bucket, query): (LogicalBucket, &Query),
        about: &mut About,
    ) -> Result<Answer, Fault> {
        about.asks("PostObject", &bucket, None);
        let outcome = match only_in_the_form(parts, query) {
            Ok(()) => {
                let body = TimedBody::new(body, self.body_timeout).boxed_unsync();
                self.store_form(parts, (reader, body), &bucket, about).await
            }
            Err(fault) => Err(fault),
        };
        // Whoever sends something that is no form gets nothing asked by it.
        let cors = match outcome.is_ok() || about.is_known() {
            true => self.cors_of_post(&bucket, &parts.headers).await,
            false => HeaderMap::new(),
        };
        match outcome {
            Ok(mut answer) => {
                answer.headers.extend(cors);
                Ok(answer)
            }
            Err(fault) => Err(fault.also(cors)),
        }
    }

    async fn store_form(
        &self,
        parts: &Parts,
        (mut reader, mut body): (FormReader, ClientBody),
        bucket: &LogicalBucket,
        about: &mut About,
    ) -> Result<Answer, Fault> {
        let total = content_length(&parts.headers).map_err(|error| Fault::of(error, about.id))?;
        let fields = {
            let _place = self.strangers.place(about.address()).ok_or_else(Fault::slow_down)?;
            let reading = timeout(FIELDS_TIMEOUT, fields_of(&mut reader, &mut body));
            reading
                .await
                .map_err(|_| Fault::new(Code::RequestTimeout, "The form's fields took too long to come."))??
        };
        let mut headers = fields.headers()?;
        let (who, policy) = traced::in_span("authentication", || self.authenticate_form(&fields, &headers, about))?;
        let key = fields.get("key").filter(|key| !key.is_empty()).ok_or(FormError::Missing("key"))?;
        let key = ObjectKey::new(key)?;
        about.asks("PostObject", bucket, Some(&key));
        if let Some(policy) = &policy {
            policy.check(OffsetDateTime::now_utc(), bucket.as_str(), &fields)?;
        }
        let target = Target::Object { bucket: bucket.clone(), key: key.clone() };
        let operation = Operation::parse(&Method::PUT, target, &Query::default(), &mut headers)?;
        let customer_keys = CustomerKeys::take(&mut headers)?;
        if let Some(log) = &self.access_log {
            log.admit().await.map_err(|error| Fault::unlogged(&error, about.id))?;
        }
        let rest = total.checked_sub(reader.consumed()).ok_or(FormError::Truncated)?;
        let (length, body) = file_of(reader, body, rest).await?;
        if let Some(policy) = &policy {
            policy.check_length(length)?;
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        let call = Call { customer_keys, ..Call::new(who, operation, headers) };
        let stored = self.perform(&call, Upload { body, payload: Payload::Unsigned }, about).await?;
        Ok(answer_to(parts, about, (bucket, &key), fields.success_action(), stored))
    }

    /// Who sends a form, and what its policy says; nobody's forms have none.
    fn authenticate_form(
        &self,
        fields: &Fields,
        headers: &HeaderMap,
        about: &mut About,
    ) -> Result<(Authenticated, Option<Policy>), Fault> {
        if fields.get("x-amz-security-token").is_some() {
            return Err(Fault::new(Code::InvalidToken, "Session tokens are not accepted: use the access key alone."));
        }
        let Some(presented) = PresentedPolicy::parse(|name| fields.get(name))? else {
            let nobody = self.nobody(headers)?;
            about.client(&nobody);
            return Ok((nobody, None));
        };
        let client = self.client(presented.access_key())?;
        let proof = presented.verify(&client.secret, OffsetDateTime::now_utc(), &self.verify)?;
        let who = authenticated(client, &proof, headers)?;
        // From here on it is known whose form it is, and its refusal has an entry.
        about.client(&who);
        Ok((who, Some(Policy::parse(presented.policy())?)))
    }

    /// What the storage server tells pages of the origin that sent the form. It sees a PUT where the browser sent a POST,
    /// and is asked about that.
    async fn cors_of_post(&self, bucket: &LogicalBucket, headers: &HeaderMap) -> HeaderMap {
        let Some(origin) = headers.get(ORIGIN) else { return HeaderMap::new() };
        let mut asked = HeaderMap::new();
        asked.insert(ORIGIN, origin.clone());
        asked.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("POST"));
        self.objects.preflight(bucket, None, &asked).await.map(|answer| answer.headers).unwrap_or_default()
    }
}

/// A signature in the header or query would be over a request whose body is not known.
fn only_in_the_form(parts: &Parts, query: &Query) -> Result<(), Fault> {
    let elsewhere = parts.headers.contains_key(AUTHORIZATION) || !query.presign().is_empty();
    if elsewhere { Err(AuthError::SeveralMechanisms.into()) } else { Ok(()) }
}

/// Reads up to the file.
async fn fields_of(reader: &mut FormReader, body: &mut ClientBody) -> Result<Fields, Fault> {
    let mut fields = Vec::new();
    loop {
        match reader.next_event()? {
            Event::NeedMore => more(reader, body).await?,
            Event::Field { name, value } => fields.push((name, value)),
            Event::File { name } => return Ok(Fields::new(fields, &name)),
            Event::Data(_) | Event::FileEnd { .. } | Event::End => return Err(FormError::NoFile.into()),
        }
    }
}

/// Feeds the next bytes that come.
async fn more(reader: &mut FormReader, body: &mut ClientBody) -> Result<(), Fault> {
    let frame = body.frame().await.ok_or(FormError::Truncated)?;
    reader.feed(&frame?.into_data().unwrap_or_default());
    Ok(())
}

/// How long the file is, and its bytes. `rest` is what is left of the form.
async fn file_of(mut reader: FormReader, mut body: ClientBody, rest: u64) -> Result<(u64, ClientBody), Fault> {
    if rest > IN_MEMORY {
        let length = rest - reader.closing_length();
        return Ok((length, FileBody::new(reader, body, length).boxed_unsync()));
    }
    let mut file = BytesMut::new();
    loop {
        match reader.next_event()? {
            Event::NeedMore => more(&mut reader, &mut body).await?,
            // HTTP/2 does not hold a body to its Content-Length.
            Event::Data(data) if file.len() as u64 + data.len() as u64 > rest => return Err(FormError::NotLast.into()),
            Event::Data(data) => file.extend_from_slice(&data),
            Event::FileEnd { .. } | Event::Field { .. } | Event::File { .. } => {}
            Event::End => break,
        }
    }
    let length = file.len() as u64;
    let file: Bytes = file.freeze();
    Ok((length, Full::new(file).map_err(|never| match never {}).boxed_unsync()))
}

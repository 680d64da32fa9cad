//! What uploads that are no longer there left in the state bucket: found, looked at, and deleted.
//!
//! **Invariant:** the state of an upload is deleted only when nothing in it is younger than the caller says, by the storage server's clock
//! and by ours, and the storage server, asked for that very upload, says that there is none; or when there is no record, without which
//! nobody can go on with it. A folder whose record is not its own, or not authentic, is left to people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::DATE;
use http::{HeaderMap, Method, StatusCode};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::format::upload::{MAX_RECORD, Unverified, UploadKey};
use crate::s3::operation::{ObjectOperation, Operation, Read, UploadId};
use crate::s3::target::ObjectKey;
use crate::s3::xml::StoredListing;
use crate::storage::StorageRequest;

use super::super::access::Authenticated;
use super::super::error::{Error, WrongAnswer};
use super::super::stored::{Position, StoredPage, page_of};
use super::super::{Call, Named, Objects};
use super::state::{Folder, binding_of, forget_parts, forget_record};

/// What an upload's folder belongs to.
#[derive(Debug)]
pub enum Standing {
    /// An upload that is under way.
    UnderWay,
    /// No upload: nobody can go on with it.
    Over,
    /// Its upload began, by its own record, later than asked.
    Young,
    /// It cannot be told, or is nothing to be deleted by a program.
    Unknown(Unknown),
}

/// Why it is left alone.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// The record is that of another upload: somebody moved it.
    #[error("its record is that of another upload: somebody moved it")]
    Moved,
    /// The record is listed, and is not given.
    #[error("its record is listed, and the storage server does not give it")]
    Missing,
    /// The record is none, or does not open.
    #[error("its record does not open")]
    Record(#[source] Error),
    /// The bucket is not in this configuration.
    #[error("it is of a bucket that this configuration does not have")]
    Bucket,
    /// The storage server said neither that the upload is there nor that it is not.
    #[error("the storage server does not say whether the upload is there")]
    Unclear(#[source] Error),
}

/// Milliseconds since 1970 (UTC).
fn millis(moment: SystemTime) -> u64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The time in a listing.
fn listed_ms(text: &str) -> Option<u64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()
}

/// A page of the state bucket, with the age of each entry in milliseconds.
#[derive(Debug)]
pub struct StatePage {
    /// Its entries.
    pub page: StoredPage,
    /// The ages, in the same order; 0 where it is not known.
    pub ages_ms: Vec<u64>,
}

impl Objects {
    /// A page of the state bucket's entries whose names begin with `prefix`, after `after`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn state_entries(&self, prefix: &str, after: &Position) -> Result<StatePage, Error> {
        let mut request = StorageRequest::bucket(Method::GET, self.buckets.state_bucket());
        request = request.query("list-type", "2").query("prefix", prefix).query("encoding-type", "url");
        if let Some(token) = &after.token {
            request = request.query("continuation-token", token);
        } else if !after.key.is_empty() {
            request = request.query("start-after", &after.key);
        }
        let response = self.storage.send(request, None).await?;
        if response.status == StatusCode::NOT_FOUND {
            return Ok(StatePage { page: StoredPage::default(), ages_ms: Vec::new() });
        }
        let response = response.checked().await?;
        let theirs = response.headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        // By the clock that is behind.
        let now = theirs.map_or_else(SystemTime::now, |theirs| theirs.min(SystemTime::now()));
        let body = response.collect(super::super::stored::MAX_PAGE).await?;
        let page = page_of(StoredListing::parse(&body).map_err(WrongAnswer::Document)?, prefix, after, false)?;
        let since = |modified: &str| listed_ms(modified).map_or(0, |modified| millis(now).saturating_sub(modified));
        let ages_ms = page.entries.iter().map(|entry| since(&entry.modified)).collect();
        Ok(StatePage { page, ages_ms })
    }

    /// What the folder `upload/HASH/` belongs to, which was listed with a record or without. `least_age` is asked of the upload's beginning, too, where the record tells it.
    ///
    /// # Errors
    /// [`Error`] when it cannot be found out now.
    pub async fn upload_standing(
        &self,
        who: &Authenticated,
        (hash, has_record): (&str, bool),
        least_age: Duration,
    ) -> Result<Standing, Error> {
        let folder = Folder::of_hash(hash);
        let unknown = |error| Ok(Standing::Unknown(error));
        let Some(bytes) = self.state.read(&folder.record(), MAX_RECORD).await? else {
            return if has_record { unknown(Unknown::Missing) } else { Ok(Standing::Over) };
        };
        let record = match Unverified::parse(&bytes) {
            Ok(record) => record,
            Err(error) => return unknown(Unknown::Record(error.into())),
        };
        let (Some(bucket), Some(id), Ok(key)) =
            (self.buckets.find(record.bucket()), UploadId::new(record.upload_id()), ObjectKey::new(record.key()))
        else {
            return unknown(Unknown::Bucket);
        };
        if Folder::new(bucket.physical, &id).record() != folder.record() {
            return unknown(Unknown::Moved);
        }
        let object = Named { bucket, key: &key };
        match self.begun_ms(who, object, &id, &record).await {
            Ok(Some(begun)) if millis(SystemTime::now()).saturating_sub(begun) < least_age.as_millis() as u64 => {
                return Ok(Standing::Young);
            }
            Ok(_) => {}
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => return unknown(Unknown::Record(error)),
        }
        let call = call_on(who, object);
        match self.parts_there(&call, object, &id).await {
            Ok(_) => Ok(Standing::UnderWay),
            Err(error) if matches!(error.refusal_code(), Some("NoSuchUpload" | "NoSuchBucket")) => Ok(Standing::Over),
            Err(error) if error.is_transient() => Err(error),
            Err(error) => unknown(Unknown::Unclear(error)),
        }
    }

    /// When the upload of an authentic record began; `None` if a customer key (SSE-C) is needed to tell.
    async fn begun_ms(
        &self,
        who: &Authenticated,
        object: Named<'_>,
        id: &UploadId,
        record: &Unverified,
    ) -> Result<Option<u64>, Error> {
        if record.envelope().needs_customer_key() {
            return Ok(None);
        }
        let binding = binding_of(object, id);
        let call = call_on(who, object);
        let (opened, _lease) = self.unwrap(&call, object.bucket, record.envelope(), binding, None).await?;
        Ok(Some(record.open(&UploadKey::new(&opened.dek), binding)?.begun_ms))
    }

    /// Deletes the folder `upload/HASH/`: the record last, which says whose the rest is.
    ///
    /// # Errors
    /// [`Error`]: something of it may still be there.
    pub async fn delete_upload_folder(&self, hash: &str) -> Result<(), Error> {
        let folder = Folder::of_hash(hash);
        forget_parts(&self.state, &folder).await?;
        Ok(forget_record(&self.state, &folder).await?)
    }
}

/// The job's call about an object.
fn call_on(who: &Authenticated, object: Named<'_>) -> Call {
    let read = ObjectOperation::GetObject(Read::default());
    let operation = Operation::Object(object.bucket.name.clone(), object.key.clone(), read);
    Call::new(who.clone(), operation, HeaderMap::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_listings_are_read() {
        assert_eq!(listed_ms("1970-01-01T00:00:01.500Z"), Some(1500));
        assert_eq!(listed_ms("1970-01-01T00:00:01Z"), Some(1000));
        for other in ["", "yesterday", "1969-01-01T00:00:00Z", "Thu, 01 Jan 1970 00:00:01 GMT"] {
            assert_eq!(listed_ms(other), None, "{other}");
        }
    }
}

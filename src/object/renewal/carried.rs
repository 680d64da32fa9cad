//! What the storage server knows of an object beside its bytes, for the one that takes its place.

use futures_util::future::try_join;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::s3::xml::acl_grants;
use crate::storage::{StorageError, StorageRequest};

use super::super::copy::{TAGGING, is_object};
use super::super::error::{Error, WrongAnswer};
use super::super::service::MAX_DOCUMENT;
use super::super::source::Source;
use super::super::{Call, Named, Objects};

const STORAGE_CLASS: &str = "x-amz-storage-class";
const LOCK_MODE: &str = "x-amz-object-lock-mode";
const RETAIN_UNTIL: &str = "x-amz-object-lock-retain-until-date";
const LEGAL_HOLD: &str = "x-amz-object-lock-legal-hold";

/// What goes along.
pub(in crate::object) struct Carried {
    /// As headers of an upload.
    pub(in crate::object) headers: HeaderMap,
    /// Until when the object is locked, or by what.
    pub(in crate::object) locked_until: Option<String>,
    /// The storage server did not tell the ACL.
    pub(in crate::object) without_acl: bool,
}

impl Objects {
    /// What goes along with `source`; its tags, too, if they have to be said.
    pub(super) async fn carried(&self, source: &Source<'_>, with_tags: bool) -> Result<Carried, Error> {
        let mut carried = of_headers(&source.headers);
        let tags = async { if with_tags { self.tags_of(source).await } else { Ok(None) } };
        let (tags, acl) = try_join(tags, self.acl_of(source)).await?;
        carried.headers.extend(tags.map(|tags| (TAGGING, tags)));
        carried.without_acl = acl.is_none();
        carried.headers.extend(acl.unwrap_or_default());
        Ok(carried)
    }

    /// What goes along with an object that has no envelope, of which these are the storage server's headers.
    pub(in crate::object) async fn carried_unencrypted(
        &self,
        call: &Call,
        object: Named<'_>,
        storage: &HeaderMap,
    ) -> Result<Carried, Error> {
        let mut carried = of_headers(storage);
        let (tags, acl) = try_join(self.tags_at(call, object, None), self.acl_at(call, object, None)).await?;
        carried.headers.extend(tags.map(|tags| (TAGGING, tags)));
        carried.without_acl = acl.is_none();
        carried.headers.extend(acl.unwrap_or_default());
        Ok(carried)
    }

    /// The ACL of `source` as headers, empty if it says nothing; `None` if the storage server does not tell it.
    async fn acl_of(&self, source: &Source<'_>) -> Result<Option<HeaderMap>, Error> {
        self.acl_at(source.call(), source.named, source.asked_version()).await
    }

    async fn acl_at(&self, call: &Call, object: Named<'_>, version: Option<&str>) -> Result<Option<HeaderMap>, Error> {
        let mut request = StorageRequest::object(Method::GET, object.bucket.physical, object.key.as_str()).flag("acl");
        if let Some(version) = version {
            request = request.query("versionId", version);
        }
        let response = match self.send(call, request).await?.checked().await {
            // A server that does not know of ACLs may give the object itself.
            Ok(response) if is_object(&response.headers) => return Ok(Some(HeaderMap::new())),
            Ok(response) => response,
            Err(StorageError::Refused(refusal)) if is_without_acls(refusal.status, refusal.code.as_deref()) => {
                return Ok(Some(HeaderMap::new()));
            }
            Err(StorageError::Refused(refusal)) if refusal.status == StatusCode::FORBIDDEN => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let grants = acl_grants(&response.collect(MAX_DOCUMENT).await?).map_err(WrongAnswer::Document)?;
        let mut headers = HeaderMap::new();
        for grant in grants {
            let name = HeaderName::from_static(grant.header);
            let list = match headers.get(&name).and_then(|list| list.to_str().ok()) {
                Some(list) => format!("{list}, {}", grant.grantee),
                None => grant.grantee,
            };
            headers.insert(name, HeaderValue::try_from(list).map_err(|_| WrongAnswer::Kind)?);
        }
        Ok(Some(headers))
    }
}

fn is_without_acls(status: StatusCode, code: Option<&str>) -> bool {
    status == StatusCode::NOT_IMPLEMENTED
        || matches!(code, Some("NotImplemented" | "AccessControlListNotSupported" | "NoSuchAcl"))
}

/// Until when an object is locked, by what stands in the answer to a read.
pub(super) fn locked_until(storage: &HeaderMap) -> Option<String> {
    of_headers(storage).locked_until
}

/// What stands in the answer to a read.
fn of_headers(storage: &HeaderMap) -> Carried {
    let mut headers = HeaderMap::new();
    let mut take = |name: &'static str, value: &HeaderValue| {
        headers.insert(HeaderName::from_static(name), value.clone());
    };
    if let Some(class) = storage.get(STORAGE_CLASS) {
        take(STORAGE_CLASS, class);
    }
    let mut locks = Vec::new();
    if let (Some(mode), Some(until)) = (storage.get(LOCK_MODE), storage.get(RETAIN_UNTIL))
        && !is_past(until)
    {
        take(LOCK_MODE, mode);
        take(RETAIN_UNTIL, until);
        locks.extend(until.to_str());
    }
    if let Some(hold) = storage.get(LEGAL_HOLD).filter(|hold| hold.as_bytes() == b"ON") {
        take(LEGAL_HOLD, hold);
        locks.push("its legal hold is taken off");
    }
    let locked_until = (!locks.is_empty()).then(|| locks.join(" and until "));
    Carried { headers, locked_until, without_acl: false }
}

/// Whether it is a time that is over: S3 takes none for a new object. What cannot be read is for the storage server to judge.
fn is_past(until: &HeaderValue) -> bool {
    let until = until.to_str().ok().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    until.is_some_and(|until| until <= OffsetDateTime::now_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(pairs: &[(&'static str, &'static str)]) -> (Vec<String>, Option<String>) {
        let headers =
            pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let carried = of_headers(&headers.collect());
        let mut names: Vec<String> = carried.headers.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        (names, carried.locked_until)
    }

    #[test]
    fn locks_go_along_while_they_hold() {
        let (mode, class) = ((LOCK_MODE, "GOVERNANCE"), (STORAGE_CLASS, "STANDARD_IA"));
        let future = "2999-01-01T00:00:00.000Z";
        let (names, until) = carried(&[mode, (RETAIN_UNTIL, future), class]);
        assert_eq!(names, [LOCK_MODE, RETAIN_UNTIL, STORAGE_CLASS]);
        assert_eq!(until.as_deref(), Some(future));
        let past = [mode, (RETAIN_UNTIL, "2001-01-01T00:00:00Z"), (LEGAL_HOLD, "OFF")];
        assert_eq!(carried(&past), (Vec::new(), None));
        let (_, until) = carried(&[mode, (RETAIN_UNTIL, future), (LEGAL_HOLD, "ON")]);
        assert_eq!(until, Some(format!("{future} and until its legal hold is taken off")));
        let (names, until) = carried(&[mode, (RETAIN_UNTIL, "2001-01-01T00:00:00Z"), (LEGAL_HOLD, "ON")]);
        assert_eq!((names, until.is_some()), (vec![LEGAL_HOLD.to_owned()], true));
    }

    #[test]
    fn a_date_that_cannot_be_read_is_the_storage_servers_to_judge() {
        let (names, _) = carried(&[(LOCK_MODE, "COMPLIANCE"), (RETAIN_UNTIL, "soon")]);
        assert_eq!(names, [LOCK_MODE, RETAIN_UNTIL]);
    }
}

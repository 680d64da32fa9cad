//! CopyObject and UploadPartCopy of the storage server.

use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;

use super::super::reply::Reply;
use super::objects::{date, kept_headers, names};
use super::{Buckets, Seen, Store, Stored, decoded, versions};

/// Status and code of a refusal.
type Refused = (u16, &'static str);

impl Store {
    /// The source of a copy, if its conditions hold.
    fn source(&self, buckets: &Buckets, seen: &Seen) -> Result<Stored, Refused> {
        if self.quirks().lacks_copies {
            return Err((501, "NotImplemented"));
        }
        let text = seen.header("x-amz-copy-source").unwrap_or_default();
        let (path, version) = match text.split_once("?versionId=") {
            Some((path, version)) => (path, Some(decoded(version))),
            None => (text, None),
        };
        let path = decoded(path);
        let (bucket, key) = path.trim_start_matches('/').split_once('/').ok_or((400, "InvalidArgument"))?;
        let current = buckets.get(bucket).ok_or((404, "NoSuchBucket"))?.get(key).cloned();
        let found = match version {
            None => current,
            Some(version) => versions::find(&self.history(), current, bucket, key, &version),
        };
        let stored = found.ok_or((404, "NoSuchKey"))?;
        let holds = self.quirks().ignores_copy_conditions || source_holds(&stored, seen);
        if holds { Ok(stored) } else { Err((412, "PreconditionFailed")) }
    }

    pub(super) fn copy(&self, buckets: &mut Buckets, seen: &Seen) -> Reply {
        let source = match self.source(buckets, seen) {
            Ok(source) => source,
            Err((status, code)) => return Reply::error(status, code),
        };
        if self.quirks().copy_limit.is_some_and(|limit| source.body.len() > limit) {
            return Reply::error(400, "InvalidRequest");
        }
        let bucket = buckets.get_mut(&seen.bucket).expect("looked at before");
        if let Some(refused) = self.write_refused(bucket.get(&seen.key), seen) {
            return refused;
        }
        let replaced = seen.header("x-amz-metadata-directive") == Some("REPLACE");
        let headers: HeaderMap = if replaced { kept_headers(&seen.headers) } else { source.headers.clone() };
        let stored = Stored { headers, modified: SystemTime::now(), version: None, ..source };
        let reply = Reply::xml(200, result("CopyObjectResult", &stored.etag));
        self.keep(bucket, &seen.bucket, &seen.key, stored).told(reply)
    }

    /// The bytes of UploadPartCopy.
    pub(super) fn copied_part(&self, buckets: &Buckets, seen: &Seen) -> Result<Bytes, Refused> {
        let body = self.source(buckets, seen)?.body;
        let Some(range) = seen.header("x-amz-copy-source-range") else { return Ok(body) };
        let span = range.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
        match span.map(|(first, last)| (first.parse::<usize>(), last.parse::<usize>())) {
            Some((Ok(first), Ok(last))) if first <= last && last < body.len() => Ok(body.slice(first..=last)),
            _ => Err((400, "InvalidArgument")),
        }
    }
}

fn source_holds(stored: &Stored, seen: &Seen) -> bool {
    let asked = |condition: &str| seen.header(&format!("x-amz-copy-source-if-{condition}"));
    let matches = asked("match").is_none_or(|list| names(list, &stored.etag));
    let differs = asked("none-match").is_none_or(|list| !names(list, &stored.etag));
    let old = date(asked("unmodified-since")).is_none_or(|date| stored.modified <= date);
    let new = date(asked("modified-since")).is_none_or(|date| stored.modified > date);
    matches && differs && old && new
}

pub(super) fn result(name: &str, etag: &str) -> String {
    format!(
        "<{name} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LastModified>2026-01-01T00:00:00.000Z\
         </LastModified><ETag>&quot;{etag}&quot;</ETag></{name}>"
    )
}

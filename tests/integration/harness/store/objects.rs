//! The S3 operations of the storage server, as far as the proxy asks for them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Method};
use md5::{Digest as _, Md5};

use super::super::listing::{bucket_list, escaped, listing, unescaped};
use super::super::reply::Reply;
use super::spool::stream_of;
use super::{Buckets, Seen, Store, Stored};

/// Headers that are kept with an object.
pub(super) fn kept_headers(headers: &HeaderMap) -> HeaderMap {
    let kept = |name: &str| {
        name.starts_with("x-amz-meta-")
            || matches!(
                name,
                "content-type"
                    | "content-encoding"
                    | "content-disposition"
                    | "content-language"
                    | "cache-control"
                    | "expires"
            )
    };
    headers.iter().filter(|(name, _)| kept(name.as_str())).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The ETag of a body, as S3 makes it.
pub(crate) fn etag_of(body: &[u8]) -> String {
    Md5::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Store {
    pub(super) fn answer(&self, seen: &Seen, body: Bytes) -> Reply {
        let mut buckets = self.buckets();
        if seen.bucket.is_empty() {
            return bucket_list(buckets.keys());
        }
        if seen.key.is_empty() {
            return self.on_bucket_versions(&mut buckets, seen, &body).unwrap_or_else(|| {
                self.list_uploads(&buckets, seen).unwrap_or_else(|| self.on_bucket(&mut buckets, seen, &body))
            });
        }
        if !buckets.contains_key(&seen.bucket) {
            return Reply::error(404, "NoSuchBucket");
        }
        if let Some(reply) = self.on_upload(&mut buckets, seen, &body) {
            return reply;
        }
        if let Some(reply) = self.on_version(&mut buckets, seen) {
            return reply;
        }
        if seen.method == Method::PUT && seen.header("x-amz-copy-source").is_some() {
            return self.copy(&mut buckets, seen);
        }
        self.on_object(&mut buckets, seen, body)
    }

    fn on_bucket(&self, buckets: &mut Buckets, seen: &Seen, body: &[u8]) -> Reply {
        let there = buckets.contains_key(&seen.bucket);
        if seen.method == Method::PUT {
            if there {
                return Reply::error(409, "BucketAlreadyOwnedByYou");
            }
            buckets.insert(seen.bucket.clone(), Default::default());
            return Reply::new(200, "").header("location", &format!("/{}", seen.bucket));
        }
        let Some(bucket) = buckets.get_mut(&seen.bucket) else { return Reply::error(404, "NoSuchBucket") };
        match seen.method {
            Method::GET if seen.has("location") => Reply::xml(200, "<LocationConstraint/>"),
            Method::GET => listing(bucket, seen),
            Method::HEAD => Reply::new(200, ""),
            Method::DELETE if !bucket.is_empty() => Reply::error(409, "BucketNotEmpty"),
            Method::DELETE => {
                buckets.remove(&seen.bucket);
                Reply::new(204, "")
            }
            Method::POST if seen.has("delete") => self.delete_objects(bucket, seen, body),
            _ => Reply::error(405, "MethodNotAllowed"),
        }
    }

    fn delete_objects(&self, bucket: &mut BTreeMap<String, Stored>, seen: &Seen, body: &[u8]) -> Reply {
        let text = String::from_utf8_lossy(body).into_owned();
        let mut result = String::from("<DeleteResult>");
        for object in text.split("<Object>").skip(1) {
            let key = leaf(object, "Key").unwrap_or_default();
            let version = leaf(object, "VersionId");
            let deleted = self.remove(bucket, &seen.bucket, &key, version.as_deref());
            result.push_str(&format!("<Deleted><Key>{}</Key>", escaped(&key)));
            if let Some(version) = version {
                result.push_str(&format!("<VersionId>{version}</VersionId>"));
            }
            if let Some(marker) = deleted.marker {
                result.push_str("<DeleteMarker>true</DeleteMarker>");
                result.push_str(&format!("<DeleteMarkerVersionId>{marker}</DeleteMarkerVersionId>"));
            }
            result.push_str("</Deleted>");
        }
        Reply::xml(200, result + "</DeleteResult>")
    }

    fn on_object(&self, buckets: &mut Buckets, seen: &Seen, body: Bytes) -> Reply {
        let Some(bucket) = buckets.get_mut(&seen.bucket) else { return Reply::error(404, "NoSuchBucket") };
        let there = bucket.get(&seen.key);
        match seen.method {
            Method::PUT => {
                if let Some(refused) = self.write_refused(there, seen) {
                    return refused;
                }
                let stored = Stored {
                    etag: etag_of(&body),
                    headers: kept_headers(&seen.headers),
                    body,
                    modified: SystemTime::now(),
                    spooled: None,
                    version: None,
                };
                let reply = Reply::new(200, "").header("etag", &format!("\"{}\"", stored.etag));
                let reply = self.keep(bucket, &seen.bucket, &seen.key, stored).told(reply);
                // Real servers tell the checksum of what they got.
                reply.header("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=")
            }
            Method::GET | Method::HEAD => match there {
                None => self.missing(&seen.bucket, &seen.key),
                Some(stored) => read(stored, seen),
            },
            Method::DELETE => {
                if let Some(refused) = there.and_then(|there| self.write_refused(Some(there), seen)) {
                    return refused;
                }
                self.remove(bucket, &seen.bucket, &seen.key, None).told(Reply::new(204, ""))
            }
            _ => Reply::error(405, "MethodNotAllowed"),
        }
    }

    /// The conditions of a write.
    pub(super) fn write_refused(&self, there: Option<&Stored>, seen: &Seen) -> Option<Reply> {
        if self.quirks().ignores_write_conditions { None } else { write_refused(there, seen) }
    }
}

/// The text of the first leaf of that name.
pub(super) fn leaf(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(unescaped(rest.split_once("</")?.0))
}

pub(super) fn names(list: &str, etag: &str) -> bool {
    list.split(',').map(|entry| entry.trim().trim_start_matches("W/").trim_matches('"')).any(|e| e == "*" || e == etag)
}

fn write_refused(there: Option<&Stored>, seen: &Seen) -> Option<Reply> {
    let failed = || Some(Reply::error(412, "PreconditionFailed"));
    match (seen.header("if-match"), there) {
        (Some(_), None) => return Some(Reply::error(404, "NoSuchKey")),
        (Some(list), Some(there)) if !names(list, &there.etag) => return failed(),
        _ => {}
    }
    match (seen.header("if-none-match"), there) {
        (Some(list), Some(there)) if names(list, &there.etag) => failed(),
        _ => None,
    }
}

pub(super) fn date(text: Option<&str>) -> Option<SystemTime> {
    httpdate::parse_http_date(text?).ok()
}

fn read_refused(stored: &Stored, seen: &Seen) -> Option<Reply> {
    let to_seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_secs()).ok();
    let (etag, modified) = (&stored.etag, to_seconds(stored.modified));
    let not_modified = || Some(Reply::new(304, "").header("etag", &format!("\"{etag}\"")));
    let failed = || Some(Reply::error(412, "PreconditionFailed"));
    match seen.header("if-match") {
        Some(list) if !names(list, etag) => return failed(),
        None if date(seen.header("if-unmodified-since")).is_some_and(|date| to_seconds(date) < modified) => {
            return failed();
        }
        _ => {}
    }
    match seen.header("if-none-match") {
        Some(list) if names(list, etag) => not_modified(),
        None if date(seen.header("if-modified-since")).is_some_and(|date| to_seconds(date) >= modified) => {
            not_modified()
        }
        _ => None,
    }
}

pub(super) fn read(stored: &Stored, seen: &Seen) -> Reply {
    if let Some(refused) = read_refused(stored, seen) {
        return refused;
    }
    if let Some(file) = &stored.spooled {
        return stream_of(stored, file).unwrap_or_else(|_| Reply::error(500, "InternalError"));
    }
    let size = stored.body.len();
    let mut reply = match seen.header("range").and_then(|range| span(range, size)) {
        None => Reply::new(200, stored.body.clone()),
        Some(None) => return Reply::error(416, "InvalidRange"),
        Some(Some((first, end))) => Reply::new(206, stored.body.slice(first..end))
            .header("content-range", &format!("bytes {first}-{}/{size}", end - 1)),
    };
    reply.headers.extend(stored.headers.clone());
    reply.set("content-length", &reply.body.len().to_string());
    reply.set("etag", &format!("\"{}\"", stored.etag));
    reply.set("last-modified", &httpdate::fmt_http_date(stored.modified));
    reply.set("accept-ranges", "bytes");
    // Of ciphertext: it must not reach the client.
    reply.set("x-amz-checksum-crc32", "AAAAAA==");
    reply.set("x-amz-storage-class", "STANDARD");
    if let Some(version) = &stored.version {
        reply.set("x-amz-version-id", version);
    }
    reply
}

/// First byte and end of a range; `Some(None)` when it lies outside.
pub(super) fn span(range: &str, size: usize) -> Option<Option<(usize, usize)>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (first, end) = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => (first, size.min(last.saturating_add(1))),
        (Ok(first), Err(_)) => (first, size),
        (Err(_), Ok(count)) => (size.saturating_sub(count), size),
        (Err(_), Err(_)) => return None,
    };
    Some((first < end).then_some((first, end)))
}

//! Buckets with versions, as far as simple: the newest version is where it always was, older ones and delete markers
//! are in a history of their own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::MutexGuard;

use http::Method;

use super::super::listing::{encoding, shown};
use super::super::reply::Reply;
use super::objects::read;
use super::{Buckets, Seen, Store, Stored, lock};

/// A version that is not the object of its key now.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) id: String,
    /// None for a delete marker.
    pub(crate) stored: Option<Stored>,
}

/// By bucket (of those with versions) and key, oldest first. A delete marker that is newest is the last one here.
pub(crate) type History = BTreeMap<String, BTreeMap<String, Vec<Version>>>;

/// What a write or a deletion did.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) version: Option<String>,
    /// The delete marker that was made.
    pub(super) marker: Option<String>,
}

impl Done {
    /// An answer that says so.
    pub(super) fn told(self, reply: Reply) -> Reply {
        match (self.version, self.marker) {
            (Some(version), _) => reply.header("x-amz-version-id", &version),
            (None, Some(marker)) => reply.header("x-amz-version-id", &marker).header("x-amz-delete-marker", "true"),
            (None, None) => reply,
        }
    }
}

impl Store {
    /// Older versions and delete markers, to be looked at and changed.
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.inner.history)
    }

    /// Has a bucket keep versions from now on.
    pub(crate) fn keep_versions(&self, bucket: &str) {
        self.history().entry(bucket.to_owned()).or_default();
    }

    fn new_version(&self) -> String {
        // Newer ones sort first, as on many servers.
        format!("v{:08}", 99_999_999 - self.next_number())
    }

    pub(super) fn keep(
        &self,
        bucket: &mut BTreeMap<String, Stored>,
        name: &str,
        key: &str,
        mut stored: Stored,
    ) -> Done {
        let mut history = self.history();
        let Some(versions) = history.get_mut(name) else {
            bucket.insert(key.to_owned(), stored);
            return Done::default();
        };
        let id = self.new_version();
        stored.version = Some(id.clone());
        if let Some(old) = bucket.insert(key.to_owned(), stored) {
            let old = Version { id: old.version.clone().unwrap_or("null".to_owned()), stored: Some(old) };
            versions.entry(key.to_owned()).or_default().push(old);
        }
        Done { version: Some(id), marker: None }
    }

    pub(super) fn remove(
        &self,
        bucket: &mut BTreeMap<String, Stored>,
        name: &str,
        key: &str,
        version: Option<&str>,
    ) -> Done {
        let mut history = self.history();
        let Some(versions) = history.get_mut(name) else {
            bucket.remove(key);
            return Done::default();
        };
        let versions = versions.entry(key.to_owned()).or_default();
        let Some(version) = version else {
            let old = bucket.remove(key);
            versions.extend(
                old.map(|old| Version { id: old.version.clone().unwrap_or("null".to_owned()), stored: Some(old) }),
            );
            let id = self.new_version();
            versions.push(Version { id: id.clone(), stored: None });
            return Done { version: None, marker: Some(id) };
        };
        if bucket.get(key).is_some_and(|stored| stored.version.as_deref().unwrap_or("null") == version) {
            bucket.remove(key);
        } else {
            versions.retain(|known| known.id != version);
        }
        if !bucket.contains_key(key) && versions.last().is_some_and(|newest| newest.stored.is_some()) {
            let newest = versions.pop().and_then(|newest| newest.stored).expect("looked at");
            bucket.insert(key.to_owned(), newest);
        }
        Done { version: Some(version.to_owned()), marker: None }
    }

    /// The answer for a key without an object.
    pub(super) fn missing(&self, bucket: &str, key: &str) -> Reply {
        let reply = Reply::error(404, "NoSuchKey");
        let history = self.history();
        match history.get(bucket).and_then(|keys| keys.get(key)).and_then(|versions| versions.last()) {
            Some(Version { id, stored: None }) => {
                reply.header("x-amz-delete-marker", "true").header("x-amz-version-id", id)
            }
            _ => reply,
        }
    }

    /// The answer to a request about a version of an object; none when it is not about one.
    pub(super) fn on_version(&self, buckets: &mut Buckets, seen: &Seen) -> Option<Reply> {
        let id = seen.value("versionId")?;
        let bucket = buckets.get_mut(&seen.bucket)?;
        if !self.history().contains_key(&seen.bucket) {
            return None;
        }
        if seen.method == Method::DELETE {
            return Some(self.remove(bucket, &seen.bucket, &seen.key, Some(id)).told(Reply::new(204, "")));
        }
        let history = self.history();
        let current = bucket.get(&seen.key).cloned();
        if let Some(stored) = find(&history, current, &seen.bucket, &seen.key, id) {
            return Some(read(&stored, seen));
        }
        let versions = history[&seen.bucket].get(&seen.key);
        let marker = versions.is_some_and(|versions| versions.iter().any(|version| version.id == id));
        Some(match marker {
            true => Reply::error(405, "MethodNotAllowed").header("x-amz-delete-marker", "true"),
            false => Reply::error(404, "NoSuchVersion"),
        })
    }

    /// The answer to a request about a bucket's versions; none when it is about something else.
    pub(super) fn on_bucket_versions(&self, buckets: &mut Buckets, seen: &Seen, body: &[u8]) -> Option<Reply> {
        let bucket = buckets.get(&seen.bucket)?;
        if seen.method == Method::PUT && seen.has("versioning") {
            if String::from_utf8_lossy(body).contains("<Status>Enabled") {
                self.keep_versions(&seen.bucket);
            }
            return Some(Reply::new(200, ""));
        }
        if seen.method != Method::GET {
            return None;
        }
        let history = self.history();
        if seen.has("versioning") {
            let status = if history.contains_key(&seen.bucket) { "<Status>Enabled</Status>" } else { "" };
            return Some(Reply::xml(200, format!("<VersioningConfiguration>{status}</VersioningConfiguration>")));
        }
        seen.has("versions").then(|| list(bucket, history.get(&seen.bucket), seen))
    }
}

/// A version of a key, be it the newest or an older one.
pub(super) fn find(history: &History, current: Option<Stored>, bucket: &str, key: &str, id: &str) -> Option<Stored> {
    if let Some(stored) = current.filter(|stored| stored.version.as_deref().unwrap_or("null") == id) {
        return Some(stored);
    }
    let found = history.get(bucket)?.get(key)?.iter().find(|version| version.id == id)?.stored.clone()?;
    Some(Stored { version: Some(id.to_owned()), ..found })
}

/// ListObjectVersions: prefix, pages by key and version, url encoding; no delimiter.
fn list(bucket: &BTreeMap<String, Stored>, older: Option<&BTreeMap<String, Vec<Version>>>, seen: &Seen) -> Reply {
    let prefix = seen.value("prefix").unwrap_or_default();
    let most: usize = seen.value("max-keys").and_then(|number| number.parse().ok()).unwrap_or(1000);
    let mut keys: Vec<&String> = bucket.keys().chain(older.into_iter().flat_map(BTreeMap::keys)).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut rows: Vec<(&str, String, Option<&Stored>, bool)> = Vec::new();
    for key in keys.into_iter().filter(|key| key.starts_with(prefix)) {
        let first = rows.len();
        if let Some(stored) = bucket.get(key) {
            rows.push((key, stored.version.clone().unwrap_or("null".to_owned()), Some(stored), false));
        }
        let older = older.and_then(|older| older.get(key)).into_iter().flatten().rev();
        rows.extend(older.map(|version| (key.as_str(), version.id.clone(), version.stored.as_ref(), false)));
        if let Some(newest) = rows.get_mut(first) {
            newest.3 = true;
        }
    }
    let marker = (seen.value("key-marker").unwrap_or_default(), seen.value("version-id-marker"));
    if let Some(at) = rows.iter().position(|row| row.0 == marker.0 && Some(row.1.as_str()) == marker.1) {
        rows.drain(..=at);
    } else {
        rows.retain(|row| row.0 > marker.0);
    }
    let truncated = rows.len() > most;
    rows.truncate(most);
    let shown = |text: &str| shown(seen, text);
    let mut xml = format!(
        "<ListVersionsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>{}</Name><Prefix>{}</Prefix>\
         <MaxKeys>{most}</MaxKeys><IsTruncated>{truncated}</IsTruncated>",
        seen.bucket,
        shown(prefix)
    );
    xml.push_str(encoding(seen));
    if let (true, Some(last)) = (truncated, rows.last()) {
        let (key, id) = (shown(last.0), &last.1);
        let _ = write!(xml, "<NextKeyMarker>{key}</NextKeyMarker><NextVersionIdMarker>{id}</NextVersionIdMarker>");
    }
    for (key, id, stored, newest) in rows {
        let name = if stored.is_some() { "Version" } else { "DeleteMarker" };
        let _ = write!(
            xml,
            "<{name}><Key>{}</Key><VersionId>{id}</VersionId><IsLatest>{newest}</IsLatest>\
             <LastModified>2026-01-01T00:00:00.000Z</LastModified>",
            shown(key)
        );
        if let Some(stored) = stored {
            let (etag, size) = (&stored.etag, stored.body.len());
            let _ =
                write!(xml, "<ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass>");
        }
        let _ = write!(xml, "<Owner><ID>o</ID></Owner></{name}>");
    }
    Reply::xml(200, xml + "</ListVersionsResult>")
}

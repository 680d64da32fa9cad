//! Multipart uploads of the storage server.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::super::listing::{encoding, escaped, shown};
use super::super::reply::Reply;
use super::objects::{etag_of, kept_headers, leaf};
use super::{Buckets, Seen, Store, Stored, lock};

/// The least that a part but the last may have.
const LEAST: usize = 5 << 20;

/// An upload under way.
#[derive(Debug, Clone)]
pub(crate) struct Uploading {
    pub(crate) bucket: String,
    pub(crate) key: String,
    /// User metadata and content headers.
    pub(crate) headers: HeaderMap,
    /// All attempts of each part; the last one counts.
    pub(crate) parts: BTreeMap<u32, Vec<Attempt>>,
}

/// One upload of a part.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) body: Bytes,
    /// Without quotes.
    pub(crate) etag: String,
}

/// A part as it goes into the object.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) number: u32,
    pub(crate) body: Bytes,
    pub(crate) etag: String,
}

impl Store {
    /// The answer to a request about an upload; none when it is not about one.
    pub(super) fn on_upload(&self, buckets: &mut Buckets, seen: &Seen, body: &Bytes) -> Option<Reply> {
        if seen.method == Method::POST && seen.has("uploads") {
            return Some(self.create_upload(seen));
        }
        let id = seen.value("uploadId")?;
        let mine = |upload: &Uploading| upload.bucket == seen.bucket && upload.key == seen.key;
        if !self.uploads().get(id).is_some_and(mine) {
            return Some(Reply::error(404, "NoSuchUpload"));
        }
        Some(match seen.method {
            Method::PUT => self.upload_part(buckets, seen, id, body),
            Method::GET => list_parts(&self.uploads()[id], seen, id),
            Method::POST => self.complete(buckets, seen, id, body),
            Method::DELETE => {
                self.uploads().remove(id);
                Reply::new(204, "")
            }
            _ => Reply::error(405, "MethodNotAllowed"),
        })
    }

    /// Begins an upload that no proxy knows of, and gives its id.
    pub(crate) fn begin_upload(&self, bucket: &str, key: &str, headers: HeaderMap) -> String {
        // As long and odd as those of real servers.
        let id = format!("{}~{}.{}_up-load", self.new_etag(), "Wn".repeat(30), self.uploads().len());
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.uploads().insert(id.clone(), Uploading { bucket, key, headers, parts: BTreeMap::new() });
        id
    }

    fn create_upload(&self, seen: &Seen) -> Reply {
        let id = self.begin_upload(&seen.bucket, &seen.key, kept_headers(&seen.headers));
        let (bucket, key) = (&seen.bucket, escaped(&seen.key));
        Reply::xml(
            200,
            format!(
                "<InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>{bucket}\
                 </Bucket><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            ),
        )
    }

    fn upload_part(&self, buckets: &Buckets, seen: &Seen, id: &str, body: &Bytes) -> Reply {
        let number = seen.value("partNumber").and_then(|number| number.parse().ok()).unwrap_or(0);
        if !(1..=10_000).contains(&number) {
            return Reply::error(400, "InvalidArgument");
        }
        let (body, copied) = match seen.header("x-amz-copy-source") {
            None => (body.clone(), false),
            Some(_) => match self.copied_part(buckets, seen) {
                Ok(body) => (body, true),
                Err((status, code)) => return Reply::error(status, code),
            },
        };
        let attempt = Attempt { etag: etag_of(&body), body };
        let etag = attempt.etag.clone();
        let mut uploads = self.uploads();
        uploads.get_mut(id).expect("it was there").parts.entry(number).or_default().push(attempt);
        if copied {
            return Reply::xml(200, super::copies::result("CopyPartResult", &etag));
        }
        Reply::new(200, "").header("etag", &format!("\"{etag}\"")).header("x-amz-checksum-crc32", "AAAAAA==")
    }

    fn complete(&self, buckets: &mut Buckets, seen: &Seen, id: &str, body: &Bytes) -> Reply {
        let upload = self.uploads()[id].clone();
        let bucket = buckets.get_mut(&seen.bucket).expect("looked at before");
        let heeds = !self.quirks().ignores_completion_conditions;
        if let (true, Some(refused)) = (heeds, self.write_refused(bucket.get(&seen.key), seen)) {
            return refused;
        }
        let mut pieces = match pieces(&upload, &String::from_utf8_lossy(body)) {
            Ok(pieces) => pieces,
            Err(code) => return Reply::error(400, code),
        };
        let hashes: String = pieces.iter().map(|piece| piece.etag.as_str()).collect();
        let etag = format!("{}-{}", etag_of(hashes.as_bytes()), pieces.len());
        let rule = lock(&self.inner.at_completion).clone();
        if let Some(rule) = rule {
            rule(&upload, &mut pieces);
        }
        let whole: Vec<u8> = pieces.iter().flat_map(|piece| piece.body.to_vec()).collect();
        let stored = Stored {
            body: whole.into(),
            headers: upload.headers,
            etag: etag.clone(),
            modified: SystemTime::now(),
            spooled: None,
            version: None,
        };
        self.uploads().remove(id);
        let (name, key) = (&seen.bucket, escaped(&seen.key));
        let reply = Reply::xml(
            200,
            format!(
                "<CompleteMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Location>\
                 http://inside/{name}/{key}</Location><Bucket>{name}</Bucket><Key>{key}</Key><ETag>&quot;{etag}&quot;\
                 </ETag><ChecksumCRC64NVME>AAAAAAAAAAA=</ChecksumCRC64NVME></CompleteMultipartUploadResult>"
            ),
        );
        self.keep(bucket, &seen.bucket, &seen.key, stored).told(reply)
    }

    /// ListMultipartUploads; none when something else was asked.
    pub(super) fn list_uploads(&self, buckets: &Buckets, seen: &Seen) -> Option<Reply> {
        if seen.method != Method::GET || !seen.has("uploads") || !buckets.contains_key(&seen.bucket) {
            return None;
        }
        let prefix = seen.value("prefix").unwrap_or_default();
        let most: usize = seen.value("max-uploads").and_then(|number| number.parse().ok()).unwrap_or(1000);
        let (key_marker, id_marker) = (seen.value("key-marker").unwrap_or_default(), seen.value("upload-id-marker"));
        let uploads = self.uploads();
        let mine = uploads.iter().filter(|(_, upload)| upload.bucket == seen.bucket && upload.key.starts_with(prefix));
        let mut rows: Vec<(&str, &str)> = mine.map(|(id, upload)| (upload.key.as_str(), id.as_str())).collect();
        rows.sort_unstable();
        rows.retain(|(key, id)| match id_marker {
            Some(marker) if *key == key_marker => *id > marker,
            _ => *key > key_marker,
        });
        let truncated = rows.len() > most;
        rows.truncate(most);
        let shown = |text: &str| shown(seen, text);
        let mut xml = format!(
            "<ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>{}</Bucket>\
             <Prefix>{}</Prefix>{}<MaxUploads>{most}</MaxUploads><IsTruncated>{truncated}</IsTruncated>",
            seen.bucket,
            shown(prefix),
            encoding(seen)
        );
        if let (true, Some((key, id))) = (truncated, rows.last()) {
            let _ = write!(
                xml,
                "<NextKeyMarker>{}</NextKeyMarker><NextUploadIdMarker>{id}</NextUploadIdMarker>",
                shown(key)
            );
        }
        let delimiter = seen.value("delimiter").filter(|delimiter| !delimiter.is_empty());
        let mut group = None;
        for (key, id) in rows {
            let rest = &key[prefix.len()..];
            let own =
                delimiter.and_then(|delimiter| Some(format!("{prefix}{}{delimiter}", rest.split_once(delimiter)?.0)));
            let _ = match &own {
                Some(_) if own == group => Ok(()),
                Some(name) => write!(xml, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", shown(name)),
                None => write!(
                    xml,
                    "<Upload><Key>{}</Key><UploadId>{id}</UploadId><StorageClass>STANDARD</StorageClass>\
                     <Initiated>2026-01-01T00:00:00.000Z</Initiated></Upload>",
                    shown(key)
                ),
            };
            group = own;
        }
        Some(Reply::xml(200, xml + "</ListMultipartUploadsResult>"))
    }
}

/// The parts that a Complete document asks for, checked as S3 does; or the error's code.
fn pieces(upload: &Uploading, document: &str) -> Result<Vec<Piece>, &'static str> {
    let mut pieces: Vec<Piece> = Vec::new();
    for part in document.split("<Part>").skip(1) {
        let number = leaf(part, "PartNumber").and_then(|number| number.trim().parse().ok()).ok_or("MalformedXML")?;
        let etag = leaf(part, "ETag").ok_or("MalformedXML")?;
        if pieces.last().is_some_and(|before| before.number >= number) {
            return Err("InvalidPartOrder");
        }
        let attempt = upload.parts.get(&number).and_then(|attempts| attempts.last()).ok_or("InvalidPart")?;
        if attempt.etag != etag.trim_matches('"') {
            return Err("InvalidPart");
        }
        if pieces.last().is_some_and(|before| before.body.len() < LEAST) {
            return Err("EntityTooSmall");
        }
        pieces.push(Piece { number, body: attempt.body.clone(), etag: attempt.etag.clone() });
    }
    if pieces.is_empty() { Err("MalformedXML") } else { Ok(pieces) }
}

fn list_parts(upload: &Uploading, seen: &Seen, id: &str) -> Reply {
    let most: usize = seen.value("max-parts").and_then(|number| number.parse().ok()).unwrap_or(1000);
    let after: u32 = seen.value("part-number-marker").and_then(|number| number.parse().ok()).unwrap_or(0);
    let rows: Vec<_> = upload.parts.range(after.saturating_add(1)..).collect();
    let truncated = rows.len() > most;
    let mut xml = format!(
        "<ListPartsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>{}</Bucket><Key>{}</Key>\
         <UploadId>{id}</UploadId><MaxParts>{most}</MaxParts><IsTruncated>{truncated}</IsTruncated>",
        seen.bucket,
        escaped(&seen.key)
    );
    for (number, attempts) in rows.into_iter().take(most) {
        let Some(attempt) = attempts.last() else { continue };
        let _ = write!(
            xml,
            "<Part><PartNumber>{number}</PartNumber><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
             <ETag>&quot;{}&quot;</ETag><Size>{}</Size></Part>",
            attempt.etag,
            attempt.body.len()
        );
    }
    Reply::xml(200, xml + "</ListPartsResult>")
}

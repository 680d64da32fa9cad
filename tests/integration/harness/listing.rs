//! The storage server's XML: listings of objects and buckets.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::reply::Reply;
use super::store::{Seen, Stored};

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\r', "&#13;")
}

/// The text of an XML leaf.
pub(crate) fn unescaped(text: &str) -> String {
    let mut pieces = text.split('&');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (entity, rest) = piece.split_once(';').expect("an entity ends");
        let number = entity.strip_prefix("#x").map(|hex| u32::from_str_radix(hex, 16));
        let number = number.or_else(|| entity.strip_prefix('#').map(str::parse)).and_then(Result::ok);
        plain.push(match (entity, number.and_then(char::from_u32)) {
            (_, Some(character)) => character,
            ("lt", _) => '<',
            ("gt", _) => '>',
            ("quot", _) => '"',
            ("apos", _) => '\'',
            ("amp", _) => '&',
            _ => panic!("&{entity}; is no entity"),
        });
        plain.push_str(rest);
    }
    plain
}

pub(crate) fn bucket_list<'a>(names: impl Iterator<Item = &'a String>) -> Reply {
    let mut xml = String::from("<ListAllMyBucketsResult><Owner><ID>o</ID></Owner><Buckets>");
    for name in names {
        let _ =
            write!(xml, "<Bucket><Name>{name}</Name><CreationDate>2026-01-01T00:00:00.000Z</CreationDate></Bucket>");
    }
    Reply::xml(200, xml + "</Buckets></ListAllMyBucketsResult>")
}

enum Row<'a> {
    Object(&'a str, &'a Stored),
    Prefix(String),
}

/// A key as a listing writes it, with the encoding that was asked for.
pub(crate) fn shown(seen: &Seen, text: &str) -> String {
    match seen.value("encoding-type") {
        Some("url") => percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string(),
        _ => escaped(text),
    }
}

/// Says that names are encoded, where that was asked for.
pub(crate) fn encoding(seen: &Seen) -> &'static str {
    if seen.value("encoding-type") == Some("url") { "<EncodingType>url</EncodingType>" } else { "" }
}

/// ListObjects, version 1 or 2.
pub(crate) fn listing(objects: &BTreeMap<String, Stored>, seen: &Seen) -> Reply {
    let v2 = seen.has("list-type");
    let prefix = seen.value("prefix").unwrap_or_default();
    let delimiter = seen.value("delimiter").filter(|delimiter| !delimiter.is_empty());
    let most: usize = seen.value("max-keys").and_then(|number| number.parse().ok()).unwrap_or(1000);
    let after = if v2 { seen.value("continuation-token").or(seen.value("start-after")) } else { seen.value("marker") };
    let shown = |text: &str| shown(seen, text);
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (key, stored) in objects {
        let Some(rest) = key.strip_prefix(prefix) else { continue };
        let group = delimiter.and_then(|delimiter| Some(&rest[..rest.find(delimiter)? + delimiter.len()]));
        let name = group.map_or(key.clone(), |group| format!("{prefix}{group}"));
        if after.is_some_and(|after| name.as_str() <= after) {
            continue;
        }
        match group {
            None => rows.push(Row::Object(key, stored)),
            Some(_) if matches!(rows.last(), Some(Row::Prefix(last)) if *last == name) => {}
            Some(_) => rows.push(Row::Prefix(name)),
        }
    }
    let truncated = rows.len() > most;
    rows.truncate(most);
    let mut xml = format!(
        "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n  \
         <Name>{}</Name><Prefix>{}</Prefix><MaxKeys>{most}</MaxKeys><IsTruncated>{truncated}</IsTruncated>",
        seen.bucket,
        shown(prefix)
    );
    xml.push_str(encoding(seen));
    if let (true, Some(last)) = (truncated, rows.last()) {
        let last = match last {
            Row::Object(key, _) => key,
            Row::Prefix(name) => name.as_str(),
        };
        let name = if v2 { "NextContinuationToken" } else { "NextMarker" };
        let _ = write!(xml, "<{name}>{}</{name}>", escaped(last));
    }
    for row in &rows {
        let _ = match row {
            Row::Prefix(name) => write!(xml, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", shown(name)),
            Row::Object(key, stored) => write!(
                xml,
                "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;{}&quot;</ETag>\
                 <ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
                shown(key),
                stored.etag,
                stored.body.len()
            ),
        };
    }
    Reply::xml(200, xml + "</ListBucketResult>")
}

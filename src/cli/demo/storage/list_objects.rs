//! Lists of objects, in both versions of the request.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::*;
use s3s::{S3Response, S3Result, s3_error};
use sqlx::SqliteConnection;

use super::FolderStorage;
use super::described::{Described, at_ms, owner};
use super::index::internal;
use super::listing::{Entry, Page, Place, Query, Rows, after, page};
use super::rows::{bucket_id, from_json};

/// Most entries of a page.
const ENTRIES_MAX: i32 = 1000;
/// What stays as it is with `encoding-type=url`.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'*').remove(b'/');

/// An object as a listing shows it.
pub(super) struct ListedObject {
    key: String,
    etag: String,
    size: i64,
    modified: i64,
    class: String,
}

/// The objects of a bucket.
pub(super) struct Objects<'c> {
    pub(super) connection: &'c mut SqliteConnection,
    pub(super) bucket: i64,
}

impl Rows for Objects<'_> {
    type Row = ListedObject;

    async fn fetch(&mut self, from: &Place, end: Option<&[u8]>, limit: usize) -> S3Result<Vec<ListedObject>> {
        let limit = i64::try_from(limit).map_err(internal)?;
        let query = match end {
            Some(end) => sqlx::query_as(
                "SELECT key, etag, size, modified, headers FROM objects
                WHERE bucket = $1 AND key >= $2 AND key < $4 ORDER BY key LIMIT $3",
            )
            .bind(self.bucket)
            .bind(&from.key)
            .bind(limit)
            .bind(end),
            None => sqlx::query_as(
                "SELECT key, etag, size, modified, headers FROM objects
                WHERE bucket = $1 AND key >= $2 ORDER BY key LIMIT $3",
            )
            .bind(self.bucket)
            .bind(&from.key)
            .bind(limit),
        };
        type Fields = (Vec<u8>, String, i64, i64, String);
        let found: Vec<Fields> = query.fetch_all(&mut *self.connection).await.map_err(internal)?;
        let row = |(key, etag, size, modified, headers): Fields| {
            let class = from_json::<Described>(&headers)?.listed_class();
            Ok(ListedObject { key: String::from_utf8(key).map_err(internal)?, etag, size, modified, class })
        };
        found.into_iter().map(row).collect()
    }

    fn key(row: &ListedObject) -> &str {
        &row.key
    }

    fn place(row: &ListedObject) -> Place {
        Place { key: [row.key.as_bytes(), &[0]].concat(), id: String::new() }
    }
}

/// How keys are written in an answer.
#[derive(Clone, Copy)]
pub(super) struct Encoding(bool);

impl Encoding {
    pub(super) fn new(asked: Option<&EncodingType>) -> S3Result<Self> {
        match asked.map(EncodingType::as_str) {
            None => Ok(Self(false)),
            Some(EncodingType::URL) => Ok(Self(true)),
            Some(_) => Err(s3_error!(InvalidArgument, "Invalid Encoding Method specified in Request")),
        }
    }

    pub(super) fn write(self, text: &str) -> String {
        if self.0 { utf8_percent_encode(text, ENCODED).to_string() } else { text.to_owned() }
    }

    pub(super) fn write_some(self, text: Option<&str>) -> Option<String> {
        text.map(|text| self.write(text))
    }
}

/// How many entries a page may have.
pub(super) fn entries_max(asked: Option<i32>) -> S3Result<(i32, usize)> {
    let max = asked.unwrap_or(ENTRIES_MAX).min(ENTRIES_MAX);
    Ok((max, usize::try_from(max).map_err(|_| s3_error!(InvalidArgument, "max-keys is less than 0"))?))
}

/// What a page ends with, if there are more.
fn end(page: &Page<ListedObject>) -> Option<&str> {
    let last = page.entries.last().filter(|_| page.truncated)?;
    Some(match last {
        Entry::Row(row) => &row.key,
        Entry::Common(prefix) => prefix,
    })
}

/// Objects and common prefixes as answers have them.
fn split(page: Page<ListedObject>, encoding: Encoding, with_owner: bool) -> (ObjectList, CommonPrefixList) {
    let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
    for entry in page.entries {
        match entry {
            Entry::Common(prefix) => prefixes.push(CommonPrefix { prefix: Some(encoding.write(&prefix)) }),
            Entry::Row(row) => objects.push(Object {
                key: Some(encoding.write(&row.key)),
                e_tag: Some(ETag::Strong(row.etag)),
                size: Some(row.size),
                last_modified: Some(at_ms(row.modified)),
                storage_class: Some(row.class.into()),
                owner: with_owner.then(owner),
                ..Object::default()
            }),
        }
    }
    (objects, prefixes)
}

impl FolderStorage {
    async fn page_of(&self, bucket: &str, query: &Query<'_>) -> S3Result<Page<ListedObject>> {
        let mut reader = self.index.reader().await?;
        let bucket = bucket_id(&mut reader, bucket).await?;
        page(&mut Objects { connection: &mut reader, bucket }, query).await
    }

    pub(super) async fn list_v1(&self, input: ListObjectsInput) -> S3Result<S3Response<ListObjectsOutput>> {
        let encoding = Encoding::new(input.encoding_type.as_ref())?;
        let (max_keys, max) = entries_max(input.max_keys)?;
        let (prefix, delimiter) = (input.prefix.unwrap_or_default(), input.delimiter.as_deref());
        let marker = input.marker.unwrap_or_default();
        let from = if marker.is_empty() { Place::default() } else { after(&marker, &prefix, delimiter) };
        let page = self.page_of(&input.bucket, &Query { prefix: &prefix, delimiter, from, max }).await?;
        // Without a delimiter, the last key is the marker.
        let next = encoding.write_some(end(&page).filter(|_| delimiter.is_some()));
        let is_truncated = Some(page.truncated);
        let (objects, prefixes) = split(page, encoding, true);
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(encoding.write(&prefix)),
            marker: Some(encoding.write(&marker)),
            max_keys: Some(max_keys),
            is_truncated,
            contents: Some(objects),
            common_prefixes: Some(prefixes),
            delimiter: encoding.write_some(delimiter),
            next_marker: next,
            encoding_type: input.encoding_type,
            ..ListObjectsOutput::default()
        }))
    }

    pub(super) async fn list_v2(&self, input: ListObjectsV2Input) -> S3Result<S3Response<ListObjectsV2Output>> {
        let encoding = Encoding::new(input.encoding_type.as_ref())?;
        let (max_keys, max) = entries_max(input.max_keys)?;
        let (prefix, delimiter) = (input.prefix.unwrap_or_default(), input.delimiter.as_deref());
        let marker = match &input.continuation_token {
            Some(token) => Some(parse_token(token)?),
            None => input.start_after.clone().filter(|key| !key.is_empty()),
        };
        let from = marker.map(|marker| after(&marker, &prefix, delimiter)).unwrap_or_default();
        let page = self.page_of(&input.bucket, &Query { prefix: &prefix, delimiter, from, max }).await?;
        let next = end(&page).map(|last| URL_SAFE_NO_PAD.encode(last));
        let (is_truncated, count) = (Some(page.truncated), i32::try_from(page.entries.len()).ok());
        let (objects, prefixes) = split(page, encoding, input.fetch_owner == Some(true));
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(encoding.write(&prefix)),
            max_keys: Some(max_keys),
            key_count: count,
            continuation_token: input.continuation_token,
            is_truncated,
            next_continuation_token: next,
            contents: Some(objects),
            common_prefixes: Some(prefixes),
            delimiter: encoding.write_some(delimiter),
            encoding_type: input.encoding_type,
            start_after: encoding.write_some(input.start_after.as_deref()),
            ..ListObjectsV2Output::default()
        }))
    }
}

/// A continuation token is what the page before ended with.
fn parse_token(token: &str) -> S3Result<String> {
    let wrong = || s3_error!(InvalidArgument, "The continuation token provided is incorrect");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty()).ok_or_else(wrong)
}

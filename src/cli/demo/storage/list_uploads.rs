//! Lists of the uploads in parts that are under way.

use s3s::dto::*;
use s3s::{S3Response, S3Result};
use sqlx::SqliteConnection;

use super::FolderStorage;
use super::described::{Described, at_ms, owner};
use super::index::internal;
use super::list_objects::{Encoding, entries_max};
use super::listing::{Entry, Place, Query, Rows, after, page};
use super::rows::{bucket_id, from_json};

/// An upload as a listing shows it.
struct ListedUpload {
    key: String,
    id: String,
    started: i64,
    class: String,
}

/// The uploads of a bucket.
struct Uploads<'c> {
    connection: &'c mut SqliteConnection,
    bucket: i64,
}

impl Rows for Uploads<'_> {
    type Row = ListedUpload;

    async fn fetch(&mut self, from: &Place, end: Option<&[u8]>, limit: usize) -> S3Result<Vec<ListedUpload>> {
        let sql = "SELECT key, id, started, headers FROM uploads
            WHERE bucket = $1 AND (key, id) > ($2, $3) AND ($5 IS NULL OR key < $5) ORDER BY key, id LIMIT $4";
        let query = sqlx::query_as(sql).bind(self.bucket).bind(&from.key).bind(&from.id);
        let query = query.bind(i64::try_from(limit).map_err(internal)?).bind(end);
        type Fields = (Vec<u8>, String, i64, String);
        let found: Vec<Fields> = query.fetch_all(&mut *self.connection).await.map_err(internal)?;
        let row = |(key, id, started, headers): Fields| {
            let class = from_json::<Described>(&headers)?.listed_class();
            Ok(ListedUpload { key: String::from_utf8(key).map_err(internal)?, id, started, class })
        };
        found.into_iter().map(row).collect()
    }

    fn key(row: &ListedUpload) -> &str {
        &row.key
    }

    fn place(row: &ListedUpload) -> Place {
        Place { key: row.key.as_bytes().to_vec(), id: row.id.clone() }
    }
}

impl FolderStorage {
    pub(super) async fn list_uploads(
        &self,
        input: ListMultipartUploadsInput,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let encoding = Encoding::new(input.encoding_type.as_ref())?;
        let (max_uploads, max) = entries_max(input.max_uploads)?;
        let (prefix, delimiter) = (input.prefix.unwrap_or_default(), input.delimiter.as_deref());
        // Without the key, the id says nothing.
        let from = match (&input.key_marker, &input.upload_id_marker) {
            (Some(key), Some(id)) if !id.is_empty() => Place { key: key.as_bytes().to_vec(), id: id.clone() },
            (Some(key), _) if !key.is_empty() => after(key, &prefix, delimiter),
            _ => Place::default(),
        };
        let mut reader = self.index.reader().await?;
        let bucket = bucket_id(&mut reader, &input.bucket).await?;
        let query = Query { prefix: &prefix, delimiter, from, max };
        let page = page(&mut Uploads { connection: &mut reader, bucket }, &query).await?;
        let mut output = ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: Some(encoding.write(&prefix)),
            delimiter: encoding.write_some(delimiter),
            key_marker: Some(encoding.write(input.key_marker.as_deref().unwrap_or_default())),
            upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
            max_uploads: Some(max_uploads),
            is_truncated: Some(page.truncated),
            encoding_type: input.encoding_type,
            ..ListMultipartUploadsOutput::default()
        };
        let next = page.entries.last().filter(|_| page.truncated).map(|entry| match entry {
            Entry::Row(row) => (encoding.write(&row.key), row.id.clone()),
            Entry::Common(prefix) => (encoding.write(prefix), String::new()),
        });
        (output.next_key_marker, output.next_upload_id_marker) = next.unzip();
        let (mut uploads, mut prefixes) = (Vec::new(), Vec::new());
        for entry in page.entries {
            match entry {
                Entry::Common(prefix) => prefixes.push(CommonPrefix { prefix: Some(encoding.write(&prefix)) }),
                Entry::Row(row) => uploads.push(upload(row, encoding)),
            }
        }
        (output.uploads, output.common_prefixes) = (Some(uploads), Some(prefixes));
        Ok(S3Response::new(output))
    }
}

fn upload(row: ListedUpload, encoding: Encoding) -> MultipartUpload {
    let initiator = Initiator { id: owner().id, display_name: owner().display_name };
    MultipartUpload {
        key: Some(encoding.write(&row.key)),
        upload_id: Some(row.id),
        initiated: Some(at_ms(row.started)),
        initiator: Some(initiator),
        owner: Some(owner()),
        storage_class: Some(row.class.into()),
        ..MultipartUpload::default()
    }
}

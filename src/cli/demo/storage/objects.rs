//! Objects that come whole, reading, and deleting.

use std::ops::Range as Span;

use http::{HeaderMap, HeaderValue};
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::FolderStorage;
use super::conditions::{Conditions, check_delete, check_write, condition};
use super::described::{describe, described_by, put_checksums};
use super::index::internal;
use super::reading::Opened;
use super::receive::received;
use super::rows::{ObjectRow, Piece, bucket_id, now, object, signed};
use crate::crypto::random_array;
use crate::custodian::approval::json::hex;

/// Most keys of one bulk deletion.
const DELETE_MAX: usize = 1000;

/// A name that nothing else has. Later ones sort after earlier ones.
pub(super) fn new_content_id() -> S3Result<String> {
    let random = random_array::<16>().map_err(internal)?;
    Ok(format!("{}{}", hex(&now().to_be_bytes()), hex(&random)))
}

/// There are no versions here.
pub(super) fn refuse_version(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some("null") => Ok(()),
        Some(_) => Err(s3_error!(NotImplemented, "the demo's storage keeps no versions")),
    }
}

/// What of an object is asked for.
struct Asked {
    span: Span<u64>,
    /// Whether it is not all of it.
    partial: bool,
    parts_count: Option<i32>,
}

impl Asked {
    fn new(row: &ObjectRow, pieces: &[Piece], range: Option<Range>, part: Option<i32>) -> S3Result<Self> {
        if let (Some(_), Some(_)) = (range, part) {
            return Err(s3_error!(InvalidRequest, "Cannot specify both Range header and partNumber query parameter"));
        }
        if let Some(number) = part {
            let at = pieces.iter().position(|piece| piece.number == number);
            let at = at.ok_or_else(no_such_part)?;
            let start: u64 = pieces[..at].iter().map(|piece| piece.size).sum();
            let span = start..start + pieces[at].size;
            let parts_count = row.etag.contains('-').then(|| i32::try_from(pieces.len())).transpose();
            return Ok(Self { partial: row.size > 0, span, parts_count: parts_count.map_err(internal)? });
        }
        let Some(range) = range else { return Ok(Self { span: 0..row.size, partial: false, parts_count: None }) };
        match range.check(row.size) {
            Ok(span) if !span.is_empty() => Ok(Self { span, partial: true, parts_count: None }),
            _ => Err(unsatisfiable(row.size)),
        }
    }

    fn content_range(&self, size: u64) -> Option<String> {
        let last = self.span.end.saturating_sub(1);
        self.partial.then(|| format!("bytes {}-{last}/{size}", self.span.start))
    }

    fn length(&self) -> i64 {
        signed(self.span.end - self.span.start)
    }
}

fn no_such_part() -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::Custom("InvalidPartNumber".into()));
    error.set_status_code(http::StatusCode::RANGE_NOT_SATISFIABLE);
    error
}

/// RFC 9110, 14.4.
fn unsatisfiable(size: u64) -> S3Error {
    let mut error = s3_error!(InvalidRange);
    let value = HeaderValue::from_str(&format!("bytes */{size}")).expect("digits");
    error.set_headers(HeaderMap::from_iter([(http::header::CONTENT_RANGE, value)]));
    error
}

/// Checks conditions of the input `$input` against `$row`.
macro_rules! check_read {
    ($input:expr, $row:expr) => {
        Conditions {
            if_match: $input.if_match.as_ref(),
            if_none_match: $input.if_none_match.as_ref(),
            if_modified_since: $input.if_modified_since.as_ref(),
            if_unmodified_since: $input.if_unmodified_since.as_ref(),
        }
        .check_read($row)
    };
}

/// What GET and HEAD say alike of what was asked for.
macro_rules! tell {
    ($input:expr, $row:expr, $asked:expr, $output:expr) => {
        describe!($row, $output);
        $output.content_length = Some($asked.length());
        $output.content_range = $asked.content_range($row.size);
        $output.parts_count = $asked.parts_count;
        if wants_checksums($input.checksum_mode.as_ref()) && !$asked.partial {
            put_checksums!($row.described.checksums, $output);
        }
    };
}

fn wants_checksums(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

impl FolderStorage {
    pub(super) async fn put(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let mut input = req.input;
        if input.write_offset_bytes.is_some() {
            return Err(s3_error!(NotImplemented, "the demo's storage does not append"));
        }
        let mut described = described_by!(input);
        // Before anybody sends gigabytes to nowhere.
        bucket_id(&mut *self.index.reader().await?, &input.bucket).await?;
        let received = received!(self, input, req.trailing_headers)?;
        described.checksums = received.checksums.clone();
        let row = ObjectRow {
            content: new_content_id()?,
            etag: received.etag,
            size: received.size,
            modified: now(),
            described,
        };
        let piece = Piece {
            number: 1,
            file: received.file.name().to_owned(),
            size: row.size,
            etag: row.etag.clone(),
            modified: row.modified,
            checksums: received.checksums,
        };
        let mut output = PutObjectOutput { e_tag: Some(ETag::Strong(row.etag.clone())), ..Default::default() };
        put_checksums!(piece.checksums, output);
        let change = self.change(Some(received.file), move |change| {
            Box::pin(async move {
                let bucket = bucket_id(change.connection(), &input.bucket).await?;
                let found = object(change.connection(), bucket, &input.key).await?;
                check_write(found.as_ref(), input.if_match.as_ref(), input.if_none_match.as_ref())?;
                change.put_object(bucket, &input.key, &row).await?;
                change.put_piece(&row.content, &piece).await
            })
        });
        change.await?;
        Ok(S3Response::new(output))
    }

    pub(super) async fn get(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        refuse_version(input.version_id.as_deref())?;
        let opened = self.open_object(&input.bucket, &input.key).await?;
        let Opened { row, pieces, .. } = &opened;
        check_read!(input, row)?;
        let asked = Asked::new(row, pieces, input.range, input.part_number)?;
        let mut output = GetObjectOutput::default();
        tell!(input, row, asked, output);
        output.tag_count = Some(row.described.tags.len()).filter(|count| *count > 0).and_then(|n| n.try_into().ok());
        output.body = Some(StreamingBlob::wrap(self.read(opened, asked.span)));
        Ok(S3Response::new(output))
    }

    pub(super) async fn head(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        refuse_version(input.version_id.as_deref())?;
        let opened = self.open_object(&input.bucket, &input.key).await?;
        let Opened { row, pieces, .. } = &opened;
        check_read!(input, row)?;
        let asked = Asked::new(row, pieces, input.range, input.part_number)?;
        let mut output = HeadObjectOutput::default();
        tell!(input, row, asked, output);
        Ok(S3Response::new(output))
    }

    pub(super) async fn delete(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = req.input;
        refuse_version(input.version_id.as_deref())?;
        let change = self.change(None, move |change| {
            Box::pin(async move {
                let bucket = bucket_id(change.connection(), &input.bucket).await?;
                // One that is not there is as good as deleted.
                let Some(row) = object(change.connection(), bucket, &input.key).await? else { return Ok(()) };
                let time = input.if_match_last_modified_time.as_ref();
                check_delete(&row, input.if_match.as_ref(), input.if_match_size, time)?;
                change.remove_object(bucket, &input.key, &row).await
            })
        });
        change.await?;
        Ok(S3Response::with_status(DeleteObjectOutput::default(), http::StatusCode::NO_CONTENT))
    }

    pub(super) async fn delete_many(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let (bucket, Delete { objects, quiet }) = (req.input.bucket, req.input.delete);
        if objects.is_empty() || objects.len() > DELETE_MAX {
            return Err(s3_error!(MalformedXML));
        }
        // All in one go: what is not committed was not deleted.
        let change = self.change(None, move |change| {
            Box::pin(async move {
                let bucket = bucket_id(change.connection(), &bucket).await?;
                let (mut deleted, mut errors) = (Vec::new(), Vec::new());
                for asked in objects {
                    let (key, version) = (asked.key.clone(), asked.version_id.clone());
                    match delete_one(change, bucket, asked).await {
                        Ok(()) => deleted.push(DeletedObject {
                            key: Some(key),
                            version_id: version,
                            ..DeletedObject::default()
                        }),
                        Err(error) if *error.code() == S3ErrorCode::InternalError => return Err(error),
                        Err(error) => errors.push(Error {
                            code: Some(error.code().as_str().to_owned()),
                            key: Some(key),
                            message: error.message().map(str::to_owned),
                            version_id: version,
                        }),
                    }
                }
                Ok((deleted, errors))
            })
        });
        let (deleted, errors) = change.await?;
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(deleted).filter(|_| !quiet.unwrap_or_default()),
            errors: Some(errors).filter(|errors| !errors.is_empty()),
            ..DeleteObjectsOutput::default()
        }))
    }
}

async fn delete_one(change: &mut super::index::Change, bucket: i64, asked: ObjectIdentifier) -> S3Result<()> {
    refuse_version(asked.version_id.as_deref())?;
    let Some(row) = object(change.connection(), bucket, &asked.key).await? else { return Ok(()) };
    let if_match = condition(asked.e_tag);
    check_delete(&row, if_match.as_ref(), asked.size, asked.last_modified_time.as_ref())?;
    change.remove_object(bucket, &asked.key, &row).await
}

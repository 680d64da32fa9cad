//! Copies of objects, and parts that are copied from objects.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::FolderStorage;
use super::conditions::Conditions;
use super::described::{Described, at_ms, described_by, put_checksums};
use super::objects::{new_content_id, refuse_version};
use super::receive::{Promises, receive};
use super::rows::{ObjectRow, bucket_id, now, object};

/// Bucket and key of a copy's source.
fn source(source: CopySource) -> S3Result<(String, String)> {
    let CopySource::Bucket { bucket, key, version_id } = source else {
        return Err(s3_error!(NotImplemented, "the demo's storage has no access points"));
    };
    refuse_version(version_id.as_deref())?;
    Ok((bucket.into(), key.into()))
}

/// Checks the conditions on the source in `$input` against `$row`.
macro_rules! check_source {
    ($input:expr, $row:expr) => {
        Conditions {
            if_match: $input.copy_source_if_match.as_ref(),
            if_none_match: $input.copy_source_if_none_match.as_ref(),
            if_modified_since: $input.copy_source_if_modified_since.as_ref(),
            if_unmodified_since: $input.copy_source_if_unmodified_since.as_ref(),
        }
        .check_copy($row)
    };
}

/// Whether a directive says so.
fn replaces(directive: Option<&str>) -> S3Result<bool> {
    match directive {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_) => Err(s3_error!(InvalidArgument, "Unknown metadata directive")),
    }
}

impl FolderStorage {
    /// The copy shares the source's files: no bytes move.
    pub(super) async fn copy(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = req.input;
        let (from_bucket, from_key) = source(input.copy_source.clone())?;
        let asked = described_by!(input);
        let metadata = replaces(input.metadata_directive.as_ref().map(MetadataDirective::as_str))?;
        let tags = replaces(input.tagging_directive.as_ref().map(TaggingDirective::as_str))?;
        let same = (&from_bucket, &from_key) == (&input.bucket, &input.key);
        let changes = metadata || tags || input.storage_class.is_some() || input.website_redirect_location.is_some();
        if same && !changes {
            let message = "This copy request is illegal because it is trying to copy an object to itself without \
                changing the object's metadata, storage class, website redirect location or encryption attributes.";
            return Err(s3_error!(InvalidRequest, "{message}"));
        }
        let content = new_content_id()?;
        let change = self.change(None, move |change| {
            Box::pin(async move {
                let from = bucket_id(change.connection(), &from_bucket).await?;
                let bucket = bucket_id(change.connection(), &input.bucket).await?;
                let found = object(change.connection(), from, &from_key).await?;
                let row = found.ok_or_else(|| s3_error!(NoSuchKey))?;
                check_source!(input, &row)?;
                let described = copied(&row.described, asked, metadata, tags);
                let copy = ObjectRow { content, modified: now(), described, ..row.clone() };
                change.share_pieces(&row.content, &copy.content).await?;
                change.put_object(bucket, &input.key, &copy).await?;
                Ok(copy)
            })
        });
        let copy = change.await?;
        let mut result = CopyObjectResult {
            e_tag: Some(ETag::Strong(copy.etag)),
            last_modified: Some(at_ms(copy.modified)),
            ..CopyObjectResult::default()
        };
        put_checksums!(copy.described.checksums, result);
        let output = CopyObjectOutput { copy_object_result: Some(result), ..CopyObjectOutput::default() };
        Ok(S3Response::new(output))
    }

    pub(super) async fn copy_part(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = req.input;
        let (from_bucket, from_key) = source(input.copy_source.clone())?;
        self.upload_is_there(&input.bucket, &input.key, &input.upload_id, input.part_number).await?;
        let opened = self.open_object(&from_bucket, &from_key).await?;
        check_source!(input, &opened.row)?;
        let size = opened.row.size;
        let range = match &input.copy_source_range {
            None => 0..size,
            Some(range) => match Range::parse(range) {
                // Unlike in reading, the end must be there.
                Ok(Range::Int { first, last: Some(last) }) if last < size => first..last + 1,
                Ok(Range::Int { last: Some(_), .. }) => return Err(s3_error!(InvalidRange)),
                _ => return Err(s3_error!(InvalidArgument, "the range is not bytes=FIRST-LAST")),
            },
        };
        let body = Box::pin(self.read(opened, range));
        let received = receive(&self.files, body, Promises::default()).await?;
        let piece = self.add_part(&input.bucket, &input.key, &input.upload_id, input.part_number, received).await?;
        let result = CopyPartResult {
            e_tag: Some(ETag::Strong(piece.etag)),
            last_modified: Some(at_ms(piece.modified)),
            ..CopyPartResult::default()
        };
        let output = UploadPartCopyOutput { copy_part_result: Some(result), ..UploadPartCopyOutput::default() };
        Ok(S3Response::new(output))
    }
}

/// What a copy's headers say. The storage class and the redirect are never copied.
fn copied(source: &Described, asked: Described, metadata: bool, tags: bool) -> Described {
    let mut described = if metadata { asked.clone() } else { source.clone() };
    described.storage_class = asked.storage_class;
    described.website_redirect_location = asked.website_redirect_location;
    described.tags = if tags { asked.tags } else { source.tags.clone() };
    described.checksums = source.checksums.clone();
    described
}

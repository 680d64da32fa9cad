//! Uploads in parts. A complete object keeps its parts as the files that they came in.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>

use md5::{Digest as _, Md5};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::FolderStorage;
use super::conditions::check_write;
use super::described::{Checksums, Described, at_ms, checksums_of, described_by, owner, put_checksums};
use super::index::{Change, internal};
use super::objects::new_content_id;
use super::receive::{Received, received};
use super::rows::{ObjectRow, Piece, bucket_id, json, now, object, pieces, pieces_after, signed, upload};
use crate::custodian::approval::json::{hex, unhex};

const PART_NUMBERS: std::ops::RangeInclusive<i32> = 1..=10_000;
/// Fewest bytes of every part but the last.
const PART_SIZE_MIN: u64 = 5 << 20;
/// Most parts in one answer.
const PARTS_MAX: i32 = 1000;

/// A part as the client lists it.
type Listed = (i32, Option<String>, Checksums);

impl FolderStorage {
    pub(super) async fn create_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        let described = described_by!(input);
        let id = new_content_id()?;
        let output = CreateMultipartUploadOutput {
            bucket: Some(input.bucket.clone()),
            key: Some(input.key.clone()),
            upload_id: Some(id.clone()),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: input.checksum_type,
            ..CreateMultipartUploadOutput::default()
        };
        let change = self.change(None, move |change| {
            Box::pin(async move {
                let bucket = bucket_id(change.connection(), &input.bucket).await?;
                let sql = "INSERT INTO uploads (bucket, key, id, started, headers) VALUES ($1, $2, $3, $4, $5)";
                let query = sqlx::query(sql).bind(bucket).bind(input.key.as_bytes()).bind(id).bind(now());
                query.bind(json(&described)?).execute(change.connection()).await.map_err(internal)?;
                Ok(())
            })
        });
        change.await?;
        Ok(S3Response::new(output))
    }

    pub(super) async fn receive_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let mut input = req.input;
        self.upload_is_there(&input.bucket, &input.key, &input.upload_id, input.part_number).await?;
        let received = received!(self, input, req.trailing_headers)?;
        let piece = self.add_part(&input.bucket, &input.key, &input.upload_id, input.part_number, received).await?;
        let mut output = UploadPartOutput { e_tag: Some(ETag::Strong(piece.etag)), ..UploadPartOutput::default() };
        put_checksums!(piece.checksums, output);
        Ok(S3Response::new(output))
    }

    /// Refuses parts of uploads that are not there, and numbers that parts cannot have.
    pub(super) async fn upload_is_there(&self, bucket: &str, key: &str, id: &str, number: i32) -> S3Result<()> {
        if !PART_NUMBERS.contains(&number) {
            return Err(s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive"));
        }
        self.find_upload(bucket, key, id).await.map(|_| ())
    }

    async fn find_upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<Described> {
        let mut reader = self.index.reader().await?;
        let bucket = bucket_id(&mut reader, bucket).await?;
        upload(&mut reader, bucket, key, id).await?.ok_or_else(|| s3_error!(NoSuchUpload))
    }

    /// Makes what was received a part; one of the same number gives way.
    pub(super) async fn add_part(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        number: i32,
        received: Received,
    ) -> S3Result<Piece> {
        let piece = Piece {
            number,
            file: received.file.name().to_owned(),
            size: received.size,
            etag: received.etag,
            modified: now(),
            checksums: received.checksums,
        };
        let (bucket, key, id) = (bucket.to_owned(), key.to_owned(), id.to_owned());
        self.change(Some(received.file), move |change| {
            Box::pin(async move {
                let bucket = bucket_id(change.connection(), &bucket).await?;
                // It may have ended meanwhile.
                let upload = upload(change.connection(), bucket, &key, &id).await?;
                upload.ok_or_else(|| s3_error!(NoSuchUpload))?;
                change.put_piece(&id, &piece).await?;
                Ok(piece)
            })
        })
        .await
    }

    pub(super) async fn parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = req.input;
        let described = self.find_upload(&input.bucket, &input.key, &input.upload_id).await?;
        let max = input.max_parts.unwrap_or(PARTS_MAX).min(PARTS_MAX);
        let after = input.part_number_marker.unwrap_or(0);
        if max < 0 || after < 0 {
            return Err(s3_error!(InvalidArgument));
        }
        let mut reader = self.index.reader().await?;
        let mut found = pieces_after(&mut reader, &input.upload_id, after, i64::from(max) + 1).await?;
        let truncated = max > 0 && found.len() > usize::try_from(max).map_err(internal)?;
        found.truncate(usize::try_from(max).map_err(internal)?);
        let next = found.last().map(|piece| piece.number).filter(|_| truncated);
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            is_truncated: Some(truncated),
            max_parts: Some(max),
            part_number_marker: Some(after),
            next_part_number_marker: next,
            owner: Some(owner()),
            storage_class: Some(described.listed_class().into()),
            parts: Some(found.into_iter().map(part).collect()),
            ..ListPartsOutput::default()
        }))
    }

    pub(super) async fn complete(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let parts = input.multipart_upload.as_ref().and_then(|upload| upload.parts.as_deref()).unwrap_or_default();
        let listed = parts.iter().map(listed).collect::<S3Result<Vec<_>>>()?;
        if listed.is_empty() {
            return Err(s3_error!(MalformedXML));
        }
        if !listed.is_sorted_by(|(one, ..), (next, ..)| one < next) {
            return Err(s3_error!(InvalidPartOrder));
        }
        let mut output = CompleteMultipartUploadOutput {
            bucket: Some(input.bucket.clone()),
            key: Some(input.key.clone()),
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            ..CompleteMultipartUploadOutput::default()
        };
        let change = self.change(None, move |change| Box::pin(complete(change, input, listed)));
        output.e_tag = Some(ETag::Strong(change.await?));
        Ok(S3Response::new(output))
    }

    pub(super) async fn abort(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = req.input;
        let change = self.change(None, move |change| {
            Box::pin(async move {
                let bucket = bucket_id(change.connection(), &input.bucket).await?;
                if !remove_upload(change, bucket, &input.key, &input.upload_id).await? {
                    return Err(s3_error!(NoSuchUpload));
                }
                change.drop_content(&input.upload_id).await
            })
        });
        change.await?;
        Ok(S3Response::with_status(AbortMultipartUploadOutput::default(), http::StatusCode::NO_CONTENT))
    }
}

fn part(piece: Piece) -> Part {
    let mut part = Part {
        part_number: Some(piece.number),
        e_tag: Some(ETag::Strong(piece.etag)),
        last_modified: Some(at_ms(piece.modified)),
        size: Some(signed(piece.size)),
        ..Part::default()
    };
    put_checksums!(piece.checksums, part);
    part
}

fn listed(part: &CompletedPart) -> S3Result<Listed> {
    let number = part.part_number.ok_or_else(|| s3_error!(MalformedXML))?;
    Ok((number, part.e_tag.as_ref().map(|etag| etag.value().to_owned()), checksums_of!(part)))
}

async fn remove_upload(change: &mut Change, bucket: i64, key: &str, id: &str) -> S3Result<bool> {
    let query = sqlx::query("DELETE FROM uploads WHERE bucket = $1 AND key = $2 AND id = $3");
    let query = query.bind(bucket).bind(key.as_bytes()).bind(id);
    let removed = query.execute(change.connection()).await.map_err(internal)?;
    Ok(removed.rows_affected() > 0)
}

/// Makes the object, and returns its ETag.
async fn complete(change: &mut Change, input: CompleteMultipartUploadInput, listed: Vec<Listed>) -> S3Result<String> {
    let (key, id) = (&input.key, &input.upload_id);
    let bucket = bucket_id(change.connection(), &input.bucket).await?;
    let before = object(change.connection(), bucket, key).await?;
    let upload = upload(change.connection(), bucket, key, id).await?;
    let found = pieces(change.connection(), id).await?;
    let Some(described) = upload else {
        // Asked once more, because the first answer got lost.
        let done = before.filter(|row| row.content == *id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        let chosen = choose(&found, &listed)?;
        return if chosen.len() == found.len() { Ok(done.etag) } else { Err(s3_error!(InvalidPart)) };
    };
    check_write(before.as_ref(), input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let chosen = choose(&found, &listed)?;
    let (_, all_but_last) = chosen.split_last().expect("there is a part");
    if all_but_last.iter().any(|piece| piece.size < PART_SIZE_MIN) {
        return Err(s3_error!(EntityTooSmall));
    }
    let size = chosen.iter().map(|piece| piece.size).sum();
    if input.mpu_object_size.is_some_and(|promised| u64::try_from(promised) != Ok(size)) {
        return Err(s3_error!(InvalidRequest, "The object's size is not what x-amz-mp-object-size says"));
    }
    let etag = etag(&chosen)?;
    drop_unlisted(change, id, &found, &chosen).await?;
    let row = ObjectRow { content: id.clone(), etag: etag.clone(), size, modified: now(), described };
    change.put_object(bucket, key, &row).await?;
    remove_upload(change, bucket, key, id).await?;
    Ok(etag)
}

/// The pieces that the client lists.
fn choose<'p>(found: &'p [Piece], listed: &[Listed]) -> S3Result<Vec<&'p Piece>> {
    let one = |(number, etag, checksums): &Listed| {
        let at = found.binary_search_by_key(number, |piece| piece.number).ok();
        let piece = at.and_then(|at| found.get(at)).ok_or_else(|| s3_error!(InvalidPart))?;
        // Checksums that were not known when the part came cannot be checked.
        let wrong_sum = !piece.checksums.is_empty() && checksums.check(&piece.checksums).is_err();
        if etag.as_ref() != Some(&piece.etag) || wrong_sum {
            return Err(s3_error!(InvalidPart));
        }
        Ok(piece)
    };
    listed.iter().map(one).collect()
}

/// The MD5 of the parts' MD5s, and how many there are.
fn etag(parts: &[&Piece]) -> S3Result<String> {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(unhex::<16>(&part.etag).ok_or_else(|| s3_error!(InternalError))?);
    }
    Ok(format!("{}-{}", hex(&md5.finalize()), parts.len()))
}

async fn drop_unlisted(change: &mut Change, id: &str, found: &[Piece], chosen: &[&Piece]) -> S3Result<()> {
    let kept: std::collections::HashSet<i32> = chosen.iter().map(|piece| piece.number).collect();
    for piece in found.iter().filter(|piece| !kept.contains(&piece.number)) {
        let query = sqlx::query("DELETE FROM pieces WHERE content = $1 AND number = $2").bind(id).bind(piece.number);
        query.execute(change.connection()).await.map_err(internal)?;
        change.note_dropped(vec![piece.file.clone()]);
    }
    Ok(())
}

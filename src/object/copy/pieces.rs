//! Copies over what the storage server copies in one request: as a multipart upload of the source's ciphertext, piece by
//! piece, none of which comes through the proxy.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use http::Method;
use http::header::{HeaderMap, HeaderValue};

use crate::custody::branch::WritingKey;
use crate::format::ciphertext::CipherBytes;
use crate::s3::xml::{complete_upload_xml, initiated_upload};
use crate::storage::{StorageBody, StorageRequest};

use super::super::encrypting::Right;
use super::super::error::{Error, WrongAnswer};
use super::super::late;
use super::super::plaintext::UploadError;
use super::super::source::Source;
use super::super::{Call, Named, Objects};
use super::directives::Wanted;
use super::server_side::{Made, made, of_source};

/// Stored bytes of a piece, at most: several are copied at a time, and none takes very long.
const PIECE: u64 = 512 << 20;
/// Pieces under way at a time.
const AT_A_TIME: usize = 4;

impl Objects {
    /// `create` has the headers of the new object, whose DEK was wrapped under `key`.
    pub(super) async fn copy_in_pieces(
        &self,
        call: &Call,
        object: Named<'_>,
        wanted: &Wanted,
        source: &Source<'_>,
        (mut create, key): (StorageRequest, &WritingKey),
        conditions: &HeaderMap,
    ) -> Result<Made, Error> {
        if !wanted.replaces_tags {
            create.headers.remove("x-amz-tagging");
            let tags = self.tags_of(source).await?;
            create.headers.extend(tags.map(|tags| (super::streamed::TAGGING, tags)));
        }
        create.method = Method::POST;
        let response = self.send(call, create.flag("uploads").replay_unsafe()).await?;
        let (_, created) = late::success(response).await?;
        let id = initiated_upload(&created).map_err(WrongAnswer::Document)?;
        let outcome = self.copy_pieces(call, object, (source, key), id.as_str(), conditions).await;
        if outcome.is_err() {
            self.give_up(call, object, &id).await;
        }
        outcome
    }

    async fn copy_pieces(
        &self,
        call: &Call,
        object: Named<'_>,
        (source, key): (&Source<'_>, &WritingKey),
        id: &str,
        conditions: &HeaderMap,
    ) -> Result<Made, Error> {
        let pieces = pieces(source.size, self.storage.settings().copy_limit_bytes);
        let copies = stream::iter(pieces).map(|piece| self.copy_piece(call, object, source, id, piece));
        let parts: Vec<(u32, String)> = copies.buffered(AT_A_TIME).try_collect().await?;
        // That took its time: whoever may no longer use the keys shall not complete the copy either.
        source.opened.lease.share().good().await.map_err(UploadError::from)?;
        Right::wrapped(key.clone(), self.keys.clone()).good().await?;
        let list = complete_upload_xml(parts.iter().map(|(number, etag)| (*number, etag.as_str())));
        let complete = StorageRequest::object(Method::POST, object.bucket.physical, object.key.as_str());
        let complete = complete.query("uploadId", id).headers(conditions.clone()).replay_unsafe();
        // The list speaks of ciphertext.
        let body = StorageBody::Replayable(CipherBytes::assume_ciphertext(list.into()));
        made(self.send(call, complete.body(body)).await?, "CompleteMultipartUploadResult").await
    }

    async fn copy_piece(
        &self,
        call: &Call,
        object: Named<'_>,
        source: &Source<'_>,
        id: &str,
        (number, first, last): (u32, u64, u64),
    ) -> Result<(u32, String), Error> {
        let mut request = StorageRequest::object(Method::PUT, object.bucket.physical, object.key.as_str());
        request = request.query("partNumber", number.to_string()).query("uploadId", id);
        request.headers = of_source(call, source);
        let range = HeaderValue::try_from(format!("bytes={first}-{last}")).expect("digits are legal in headers");
        request.headers.insert("x-amz-copy-source-range", range);
        let made = made(self.send(call, request).await?, "CopyPartResult").await?;
        Ok((number, made.result.etag.ok_or(WrongAnswer::Kind)?))
    }
}

/// Number, first and last byte of each piece of `size` stored bytes.
fn pieces(size: u64, limit: u64) -> Vec<(u32, u64, u64)> {
    let piece = limit.clamp(5 << 20, PIECE);
    let firsts = (0..size).step_by(usize::try_from(piece).unwrap_or(usize::MAX));
    (1..).zip(firsts).map(|(number, first)| (number, first, (first + piece).min(size) - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_everything_once() {
        for (size, limit) in [(1, 5 << 20), (5 << 20, 5 << 20), ((5 << 20) + 1, 5 << 20), (11 << 29, 5 << 30)] {
            let pieces = pieces(size, limit);
            let mut next = 0;
            for (at, (number, first, last)) in pieces.iter().enumerate() {
                assert_eq!((usize::try_from(*number).expect("few"), *first), (at + 1, next));
                assert!(last >= first && last - first < PIECE.min(limit), "{size} {limit}");
                next = last + 1;
            }
            assert_eq!(next, size);
            assert!(pieces.len() <= 10_000);
        }
        assert_eq!(pieces(11 << 20, 5 << 20).len(), 3);
    }
}

//! An object that is not encrypted yet, uploaded again in parts: with the borders that it has, where the storage server tells them.
//!
//! **Invariant:** where the manifest has the MD5 of the whole, nothing is completed that was made of other bytes.

use http::Method;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;

use crate::format::layout::StoredOffset;
use crate::format::metadata::Metadata;
use crate::format::size;
use crate::format::upload::ChecksumChoice;
use crate::s3::operation::{ObjectOperation, PartOf, UploadId};

use super::super::answer::ReadFailure;
use super::super::error::Error;
use super::super::fetch::{Piece, parse_content_range};
use super::super::metadata::of_format;
use super::super::plaintext::Plaintext;
use super::super::unencrypted::Pieces;
use super::super::unencrypted::manifest::Entry;
use super::super::{Call, Named, Objects, renewal};
use super::state::client_etag;

/// Bytes of a part where nobody tells the borders, unless it takes larger ones.
const PART: u64 = 64 << 20;
/// Most parts, with room for the last one that the proxies add.
const MOST_PARTS: u64 = 9_000;

impl Objects {
    /// Uploads the object that `entry` lists in its own place, if that still has the ETag `condition`. Gives the headers of the
    /// answer. What fails leaves no upload.
    pub(in crate::object) async fn upload_listed(
        &self,
        begin: &Call,
        object: Named<'_>,
        (metadata, entry): (&Metadata, &Entry),
        condition: Option<HeaderValue>,
    ) -> Result<HeaderMap, Error> {
        let part = self.part_length(begin, object, entry.size).await?;
        let (id, _) =
            self.begin_upload(begin, object, metadata, &object.bucket.keys.kek, ChecksumChoice::DEFAULT).await?;
        let outcome = self.parts_listed(begin, object, (entry, part), &id, condition).await;
        if outcome.is_err() {
            self.abort_again(begin, object, &id).await;
        }
        outcome
    }

    async fn parts_listed(
        &self,
        begin: &Call,
        object: Named<'_>,
        (entry, length): (&Entry, u64),
        id: &UploadId,
        condition: Option<HeaderValue>,
    ) -> Result<HeaderMap, Error> {
        let upload = self.open_upload(begin, object, id).await?;
        let algorithm = of_format(upload.settings.checksum.algorithm);
        let (mut parts, mut first): (Vec<(u32, String)>, u64) = (Vec::new(), 0);
        let pieces = Pieces::new();
        while first < entry.size {
            let end = entry.size.min(first.saturating_add(length));
            let piece = Piece::Range(StoredOffset(first), StoredOffset(end));
            let stored = self.listed_bytes(begin, object, entry, Some(piece)).await?;
            let body = pieces.next(stored.body.map_err(ReadFailure::from).boxed_unsync());
            let plaintext = Plaintext::of_copy(body, end - first, Some(algorithm));
            let number = u32::try_from(parts.len()).unwrap_or(u32::MAX).saturating_add(1);
            let of = ObjectOperation::UploadPart(PartOf { upload: id.clone(), number });
            let call = renewal::call(&begin.who, object, of, HeaderMap::new());
            let stored = self.store_part(&call, object, &upload, number, plaintext).await?;
            parts.push((number, client_etag(stored.record.entry.attempt)));
            first = end;
        }
        pieces.are(entry)?;
        self.complete_again(begin, object, id, &parts, condition).await
    }

    /// How long parts are: as long as the first one is now, if that makes as many as there are.
    async fn part_length(&self, call: &Call, object: Named<'_>, size: u64) -> Result<u64, Error> {
        let request = self.request(call, Method::HEAD, object.bucket, Some(object.key)).query("partNumber", "1");
        let told = self.send(call, request).await?.checked().await.ok();
        let told = told.and_then(|response| first_part(&response.headers, size));
        let least = size.div_ceil(MOST_PARTS).next_multiple_of(1 << 20);
        Ok(told.unwrap_or_else(|| PART.max(least)))
    }
}

fn first_part(headers: &HeaderMap, size: u64) -> Option<u64> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let count: u64 = text("x-amz-mp-parts-count")?.parse().ok()?;
    let length = match text(CONTENT_RANGE.as_str()).and_then(parse_content_range) {
        Some((0, last, _)) => last.checked_add(1)?,
        Some(_) => return None,
        None => text(CONTENT_LENGTH.as_str())?.parse().ok()?,
    };
    let legal = (size::MIN_PART..=size::MAX_PUT).contains(&length) && size.div_ceil(length) == count;
    (legal && count <= MOST_PARTS).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pairs: &[(&'static str, &'static str)], size: u64) -> Option<u64> {
        let pairs =
            pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        first_part(&pairs.collect(), size)
    }

    #[test]
    fn borders_are_kept_where_parts_are_of_one_length() {
        let count = ("x-amz-mp-parts-count", "3");
        assert_eq!(told(&[count, ("content-range", "bytes 0-6291455/14000000")], 14_000_000), Some(6 << 20));
        assert_eq!(told(&[count, ("content-length", "6291456")], 14_000_000), Some(6 << 20));
        assert_eq!(told(&[count, ("content-length", "14000000")], 14_000_000), None);
        assert_eq!(told(&[count, ("content-length", "0")], 14_000_000), None);
        assert_eq!(told(&[("content-length", "6291456")], 14_000_000), None);
    }
}

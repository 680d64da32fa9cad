//! The last part on the storage server: what was held, if something was, and the footer.
//!
//! It is always number 10,000, which no client's part has there, so that a repeated completion overwrites none.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt as _, BodyStream, StreamBody};

use crate::format::ciphertext::CipherBytes;
use crate::format::size;
use crate::format::upload::PartRecord;
use crate::net::BoxError;
use crate::s3::operation::HIGHEST_PART;
use crate::storage::{ResponseStream, StorageBody, StorageResponse};

use super::super::super::error::Error;
use super::super::super::{Call, Named, Objects};
use super::super::state::OpenUpload;

/// Held parts of up to so many plaintext bytes are taken into memory, so that they can be sent again.
const IN_MEMORY: u64 = size::MIN_PART;

impl Objects {
    /// Stores the last part; its ETag.
    pub(super) async fn put_last(
        &self,
        call: &Call,
        object: Named<'_>,
        upload: &OpenUpload,
        held: Option<&PartRecord>,
        footer: &Bytes,
    ) -> Result<String, Error> {
        let body = match held {
            // The footer is sealed.
            None => StorageBody::Replayable(CipherBytes::assume_ciphertext(footer.clone())),
            Some(part) => {
                let sealed = size::sealed_part(part.entry.length);
                with_footer(self.held_part(upload, part).await?, part.entry.length, sealed, footer).await?
            }
        };
        Ok(self.put_part(call, object, upload, HIGHEST_PART, body).await?.1)
    }
}

/// Held bytes were sealed before they were stored, and what else the storage server may give for them is its own.
async fn with_footer(held: ResponseStream, length: u64, sealed: u64, footer: &Bytes) -> Result<StorageBody, Error> {
    if length <= IN_MEMORY {
        let limit = usize::try_from(sealed).unwrap_or(usize::MAX);
        let answer = StorageResponse { status: StatusCode::OK, headers: http::HeaderMap::new(), body: held };
        let held = answer.collect(limit).await?;
        if held.len() != limit {
            return Err(Error::NotAuthentic);
        }
        let whole = [held.as_ref(), footer.as_ref()].concat();
        return Ok(StorageBody::Replayable(CipherBytes::assume_ciphertext(whole.into())));
    }
    let frame = |bytes: Bytes| Frame::data(CipherBytes::assume_ciphertext(bytes));
    let held = StreamExt::map(BodyStream::new(held), move |frame_of_held| match frame_of_held {
        Ok(frame_of_held) => Ok(frame(frame_of_held.into_data().unwrap_or_default())),
        Err(error) => Err(BoxError::from(error)),
    });
    let whole = StreamExt::chain(held, stream::iter([Ok(frame(footer.clone()))]));
    let body = StreamBody::new(whole).boxed_unsync();
    Ok(StorageBody::Streaming { length: sealed + footer.len() as u64, body })
}

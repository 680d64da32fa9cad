//! An object of parts, sealed anew as it streams, and stored by one request: the numbers, borders and checksums of its parts stay.
//!
//! The format does not ask in how many requests a stored object came. One is better where it can be: storage servers that heed
//! If-Match on PutObject check it as they write, and some of them check it on CompleteMultipartUpload a while before (SeaweedFS
//! 4.48), so that a write of others in between would be lost.
//!
//! **Invariant:** the footer, and with it the end, is given only after all plaintext was verified and the right to write is still good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf as _, Bytes};
use futures_util::stream;
use http::header::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use crate::format::body::{PartSealer, SealError};
use crate::format::ciphertext::CipherBytes;
use crate::format::envelope::Layout;
use crate::format::footer;
use crate::format::keys::Dek;
use crate::format::layout::{PartEntry, PartMap};
use crate::format::metadata::Metadata;
use crate::format::segment::AttemptId;
use crate::format::size;
use crate::names::{KekName, Purpose};
use crate::net::BoxError;
use crate::storage::{StorageBody, StorageRequest};

use super::super::encrypting::Right;
use super::super::error::{Error, WrongAnswer};
use super::super::multipart::CompleteError;
use super::super::plaintext::UploadError;
use super::super::source::{PlainStream, Source};
use super::super::{Call, Named, Objects};

impl Objects {
    /// Whether one request can store an object as long as `source`.
    pub(super) fn fits_one_request(&self, source: &Source<'_>) -> bool {
        // What a server takes in one request is what it copies in one.
        source.length() <= size::MAX_PUT && source.size <= self.storage.settings().copy_limit_bytes
    }

    /// Stores by `request`, a PUT, what `source` holds in parts. Gives the headers of the answer.
    pub(super) async fn put_parts_again(
        &self,
        call: &Call,
        object: Named<'_>,
        request: StorageRequest,
        (kek, metadata): (&KekName, &Metadata),
        source: &Source<'_>,
    ) -> Result<HeaderMap, Error> {
        let known = self.layout_of(source).await?;
        let (bucket, caller, length) = (object.bucket.name, call.who.caller(), source.length());
        let key = self.keys.for_writing(kek, Purpose::Object, bucket, caller, length).await?;
        let dek = Arc::new(Dek::random()?);
        let request = self.with_envelope(call, request, (&dek, Layout::Multipart), metadata, &key, object)?;
        let parts = known.map.entries().map(|part| Ok(PartEntry { attempt: AttemptId::random()?, ..part }));
        let parts: Vec<PartEntry> = parts.collect::<Result<_, Error>>()?;
        let map = PartMap::new(&parts).ok_or(Error::NotAuthentic)?;
        let footer = footer::seal(&dek, Layout::Multipart, &map, source.checksum()).map_err(CompleteError::from)?;
        let ended = Arc::new(AtomicBool::new(false));
        let resealing = Resealing {
            plaintext: self.plaintext_of(source, &known, None).await?,
            at_hand: Bytes::new(),
            dek,
            parts: parts.into_iter(),
            part: None,
            // The footer is sealed.
            footer: Some(CipherBytes::assume_ciphertext(footer.into())),
            right: Right::wrapped(key, self.keys.clone()),
            ended: Arc::clone(&ended),
        };
        let frames =
            stream::try_unfold(resealing, |resealing| async { resealing.next().await.map_err(BoxError::from) });
        let body =
            StorageBody::Streaming { length: size::stored(length), body: StreamBody::new(frames).boxed_unsync() };
        let response = self.send(call, request.body(body)).await?.checked().await?;
        // A refusal may come before the body's end; success may not.
        let whole = ended.load(Ordering::Acquire) && response.status == http::StatusCode::OK;
        if whole { Ok(response.headers) } else { Err(WrongAnswer::Kind.into()) }
    }
}

/// The stored form of an object of parts, as it is made.
struct Resealing {
    plaintext: PlainStream,
    at_hand: Bytes,
    dek: Arc<Dek>,
    /// Those that are to come.
    parts: std::vec::IntoIter<PartEntry>,
    /// The one under way, and how much of it is to come.
    part: Option<(PartSealer, u64)>,
    footer: Option<CipherBytes>,
    right: Right,
    ended: Arc<AtomicBool>,
}

impl Resealing {
    /// The next stored bytes; none at the end.
    async fn next(mut self) -> Result<Option<(Frame<CipherBytes>, Self)>, UploadError> {
        loop {
            let sealed = match self.part.take() {
                Some((sealer, 0)) => Some(sealer.finish()?),
                Some((sealer, left)) => self.go_on(sealer, left).await?,
                None => match self.parts.next() {
                    Some(entry) => {
                        self.part = Some((PartSealer::new(&self.dek, entry), entry.length));
                        None
                    }
                    None => match self.end().await? {
                        Some(footer) => Some(footer),
                        None => return Ok(None),
                    },
                },
            };
            if let Some(sealed) = sealed {
                return Ok(Some((Frame::data(sealed), self)));
            }
        }
    }

    /// Takes plaintext into the part under way, of which `left` bytes are to come.
    async fn go_on(&mut self, mut sealer: PartSealer, left: u64) -> Result<Option<CipherBytes>, UploadError> {
        if self.at_hand.is_empty() {
            self.at_hand = self.more().await?.ok_or(SealError::Length)?;
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.at_hand.len());
        let mut piece = self.at_hand.slice(..most);
        let sealed = sealer.push(&mut piece)?;
        let taken = most - piece.len();
        self.at_hand.advance(taken);
        self.part = Some((sealer, left - taken as u64));
        Ok(sealed)
    }

    async fn more(&mut self) -> Result<Option<Bytes>, UploadError> {
        let frame = self.plaintext.frame().await.transpose().map_err(UploadError::Source)?;
        Ok(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    /// The footer, once.
    async fn end(&mut self) -> Result<Option<CipherBytes>, UploadError> {
        let Some(footer) = self.footer.take() else { return Ok(None) };
        while self.at_hand.is_empty()
            && let Some(more) = self.more().await?
        {
            self.at_hand = more;
        }
        if !self.at_hand.is_empty() {
            return Err(SealError::Length.into());
        }
        self.right.good().await?;
        self.ended.store(true, Ordering::Release);
        Ok(Some(footer))
    }
}

//! Bytes of an object without an envelope, checked against the MD5 that the manifest has for it.
//!
//! **Invariant:** the last bytes are held back until all were found right: what is not what was listed never ends as if it were whole.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full};

use crate::format::body::OpenError;
use crate::s3::checksum::{Algorithm, Hasher};
use crate::s3::range::Span;

use super::super::answer::{AnswerBody, ReadFailure};
use super::super::error::Error;
use super::super::fetch::Stored;
use super::super::get::IN_MEMORY;
use super::super::source::PlainStream;
use super::manifest::Entry;

/// Whether all of the object is read and checked before any of it is given, also for a range.
pub(super) fn in_memory(entry: &Entry) -> bool {
    entry.digest().is_some() && entry.size <= IN_MEMORY
}

/// Those bytes of the whole object `stored` that lie in `span`, or all.
pub(super) async fn whole(stored: Stored, entry: &Entry, span: Option<Span>) -> Result<AnswerBody, Error> {
    let Some(expected) = entry.digest().filter(|_| in_memory(entry)) else {
        return Ok(AnswerBody::Stream(of(stored, entry)));
    };
    let (_, bytes) = stored.collect(entry.size).await?;
    let mut digest = Hasher::new(Algorithm::Md5);
    digest.update(&bytes);
    if digest.finish().as_bytes() != expected {
        return Err(Error::NotAuthentic);
    }
    let place = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    Ok(AnswerBody::Full(match span {
        Some(span) => bytes.slice(place(span.first)..place(span.last.saturating_add(1))),
        None => bytes,
    }))
}

/// The same for a copy.
pub(super) async fn source(stored: Stored, entry: &Entry, span: Option<Span>) -> Result<PlainStream, Error> {
    Ok(match whole(stored, entry, span).await? {
        AnswerBody::Stream(body) => body,
        AnswerBody::Full(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed_unsync(),
        AnswerBody::Empty => Full::default().map_err(|never| match never {}).boxed_unsync(),
    })
}

/// The MD5 of an object that is read piece by piece, each once and in their order.
pub(in crate::object) struct Pieces(Arc<Mutex<Hasher>>);

impl Pieces {
    pub(in crate::object) fn new() -> Self {
        Self(Arc::new(Mutex::new(Hasher::new(Algorithm::Md5))))
    }

    /// The next piece, which counts as it is read.
    pub(in crate::object) fn next(&self, body: PlainStream) -> PlainStream {
        let digest = Arc::clone(&self.0);
        body.map_frame(move |frame| {
            if let Some(bytes) = frame.data_ref() {
                digest.lock().unwrap_or_else(PoisonError::into_inner).update(bytes);
            }
            frame
        })
        .boxed_unsync()
    }

    /// Whether all pieces together are what `entry` lists, as far as it says.
    pub(in crate::object) fn are(self, entry: &Entry) -> Result<(), Error> {
        let mut digest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = std::mem::replace(&mut *digest, Hasher::new(Algorithm::Md5)).finish();
        match entry.digest() {
            Some(expected) if digest.as_bytes() != expected => Err(Error::NotAuthentic),
            _ => Ok(()),
        }
    }
}

/// All bytes as they come; an error at the end where they are not those that were listed.
fn of(stored: Stored, entry: &Entry) -> PlainStream {
    stream(stored.body.map_err(ReadFailure::from).boxed_unsync(), entry)
}

fn stream(body: PlainStream, entry: &Entry) -> PlainStream {
    match entry.digest() {
        Some(expected) => {
            let digest = Some(Hasher::new(Algorithm::Md5));
            Checked { body, digest, expected, held: None }.boxed_unsync()
        }
        None => body,
    }
}

struct Checked {
    body: PlainStream,
    /// None once it was compared.
    digest: Option<Hasher>,
    expected: Vec<u8>,
    held: Option<Bytes>,
}

impl Checked {
    fn end(&mut self) -> Option<Result<Frame<Bytes>, ReadFailure>> {
        let digest = self.digest.take()?.finish();
        let last = self.held.take();
        if digest.as_bytes() == self.expected {
            last.map(|bytes| Ok(Frame::data(bytes)))
        } else {
            Some(Err(OpenError::NotAuthentic.into()))
        }
    }
}

impl Body for Checked {
    type Data = Bytes;
    type Error = ReadFailure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReadFailure>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    (self.digest, self.held) = (None, None);
                    return Poll::Ready(Some(Err(error)));
                }
                None => return Poll::Ready(self.end()),
            };
            let Ok(bytes) = frame.into_data() else { continue };
            if bytes.is_empty() {
                continue;
            }
            if let Some(digest) = &mut self.digest {
                digest.update(&bytes);
            }
            if let Some(before) = self.held.replace(bytes) {
                return Poll::Ready(Some(Ok(Frame::data(before))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::StreamBody;

    use super::*;

    /// What came before the end, and whether that was one.
    async fn read(pieces: &[&'static str], etag: &str) -> (String, bool) {
        let frames: Vec<Result<Frame<Bytes>, Infallible>> =
            pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))).collect();
        let body = StreamBody::new(futures_util::stream::iter(frames)).map_err(|never| match never {}).boxed_unsync();
        let entry = Entry { key: "k".to_owned(), etag: etag.to_owned(), size: 3, md5: true };
        let (mut body, mut text) = (stream(body, &entry), String::new());
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return (text, false) };
            text.push_str(std::str::from_utf8(&frame.into_data().expect("data")).expect("text"));
        }
        (text, true)
    }

    #[tokio::test]
    async fn the_last_bytes_come_only_once_all_are_right() {
        let abc = "900150983cd24fb0d6963f7d28e17f72";
        for pieces in [&["abc"][..], &["a", "bc"], &["a", "", "b", "c", ""]] {
            assert_eq!(read(pieces, abc).await, ("abc".to_owned(), true));
        }
        assert_eq!(read(&[], "d41d8cd98f00b204e9800998ecf8427e").await, (String::new(), true));
        assert_eq!(read(&["a", "bd"], abc).await, ("a".to_owned(), false));
        assert_eq!(read(&["abd"], abc).await, (String::new(), false));
        assert_eq!(read(&["a", "b"], abc).await, ("a".to_owned(), false));
        assert_eq!(read(&[], abc).await, (String::new(), false));
    }
}

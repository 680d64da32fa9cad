//! The file of a form that is too long to be held.
//!
//! **Invariant:** the body ends without an error only if the file had the length that was foretold and the form ended after
//! it; whoever stores it gives the last bytes after that.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::net::body::BodyError;
use crate::object::plaintext::ClientBody;
use crate::s3::form::{Event, FormError, FormReader};

/// Most bytes after a form's end: a line's end.
const LONGEST_END: usize = 2;

/// See the module.
pub(super) struct FileBody {
    reader: FormReader,
    body: ClientBody,
    left: u64,
    /// The form ended, and so many bytes came after it.
    after: Option<usize>,
    ended: bool,
}

impl FileBody {
    pub(super) fn new(reader: FormReader, body: ClientBody, length: u64) -> Self {
        Self { reader, body, left: length, after: None, ended: false }
    }

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let data = ready!(self.poll_next(context)).transpose();
        self.ended = !matches!(data, Some(Ok(_)));
        Poll::Ready(data)
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        loop {
            if let Some(after) = self.after {
                if after > LONGEST_END {
                    return Poll::Ready(Err(broken(FormError::NotLast)));
                }
                let frame = ready!(Pin::new(&mut self.body).poll_frame(context)).transpose()?;
                let Some(frame) = frame else { return Poll::Ready(Ok(None)) };
                self.after = Some(after + frame.data_ref().map_or(0, Bytes::len));
                continue;
            }
            match self.reader.next_event().map_err(broken)? {
                Event::NeedMore => {
                    let frame = ready!(Pin::new(&mut self.body).poll_frame(context)).transpose()?;
                    let frame = frame.ok_or_else(|| broken(FormError::Truncated))?;
                    self.reader.feed(&frame.into_data().unwrap_or_default());
                }
                Event::Data(data) => {
                    let left = self.left.checked_sub(data.len() as u64);
                    self.left = left.ok_or_else(|| broken(FormError::NotLast))?;
                    return Poll::Ready(Ok(Some(data)));
                }
                Event::FileEnd { last: true } if self.left == 0 => {}
                Event::End => self.after = Some(self.reader.unread()),
                Event::FileEnd { .. } | Event::Field { .. } | Event::File { .. } => {
                    return Poll::Ready(Err(broken(FormError::NotLast)));
                }
            }
        }
    }
}

fn broken(error: FormError) -> BodyError {
    BodyError::Broken(error.into())
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll_data(context).map(|data| data.map(|data| data.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

//! Sends the bytes of objects.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use s3s::{S3Result, s3_error};

use super::FolderStorage;
use super::files::{Files, Held};
use super::rows::{ObjectRow, Piece, bucket_id, object, pieces};

const CHUNK: u64 = 256 << 10;

/// An object whose files stay until this is dropped.
pub(super) struct Opened {
    pub(super) row: ObjectRow,
    pub(super) pieces: Vec<Piece>,
    held: Held,
}

/// What is still to be sent.
struct Reading {
    files: Files,
    spans: VecDeque<(String, Range<u64>)>,
    open: Option<(Arc<File>, Range<u64>)>,
    _held: Held,
}

impl FolderStorage {
    /// The object of a key as it is now.
    pub(super) async fn look_up(&self, bucket: &str, key: &str) -> S3Result<ObjectRow> {
        let mut reader = self.index.reader().await?;
        let bucket = bucket_id(&mut reader, bucket).await?;
        object(&mut reader, bucket, key).await?.ok_or_else(|| s3_error!(NoSuchKey))
    }

    /// The same with its files, which will not be removed meanwhile.
    pub(super) async fn open_object(&self, bucket: &str, key: &str) -> S3Result<Opened> {
        loop {
            let row = self.look_up(bucket, key).await?;
            let pieces = pieces(&mut *self.index.reader().await?, &row.content).await?;
            let held = self.files.hold(pieces.iter().map(|piece| piece.file.clone()).collect());
            // Had it gone before they were held, they might be gone as well.
            if self.look_up(bucket, key).await?.content == row.content {
                return Ok(Opened { row, pieces, held });
            }
        }
    }

    /// The bytes of `opened` in `range`.
    pub(super) fn read(
        &self,
        opened: Opened,
        range: Range<u64>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync + use<> {
        let reading =
            Reading { files: self.files.clone(), spans: spans(&opened.pieces, &range), open: None, _held: opened.held };
        stream::try_unfold(reading, next)
    }
}

/// Which bytes of which files `range` covers.
fn spans(pieces: &[Piece], range: &Range<u64>) -> VecDeque<(String, Range<u64>)> {
    let mut begin = 0;
    let mut spans = VecDeque::new();
    for piece in pieces {
        let end = begin + piece.size;
        let (from, to) = (range.start.max(begin), range.end.min(end));
        if from < to {
            spans.push_back((piece.file.clone(), from - begin..to - begin));
        }
        begin = end;
    }
    spans
}

async fn next(mut reading: Reading) -> io::Result<Option<(Bytes, Reading)>> {
    let (file, span) = match reading.open.take() {
        Some(open) => open,
        None => match reading.spans.pop_front() {
            Some((name, span)) => (Arc::new(reading.files.open_file(&name)?), span),
            None => return Ok(None),
        },
    };
    let length = CHUNK.min(span.end - span.start);
    let (shared, at) = (Arc::clone(&file), span.start);
    let read = tokio::task::spawn_blocking(move || {
        let mut chunk = vec![0; usize::try_from(length).expect("at most a chunk")];
        shared.read_exact_at(&mut chunk, at).map(|()| Bytes::from(chunk))
    });
    let chunk = read.await??;
    let left = span.start + length..span.end;
    if !left.is_empty() {
        reading.open = Some((file, left));
    }
    Ok(Some((chunk, reading)))
}

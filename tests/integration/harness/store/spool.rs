//! Objects too large for memory: kept in files.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use tempfile::NamedTempFile;

use super::super::reply::Reply;
use super::objects::kept_headers;
use super::{SPOOL, Seen, Store, Stored};

const PIECE: usize = 64 << 10;

impl Store {
    pub(super) async fn put_spooled(&self, seen: &Seen, mut body: Incoming) -> Result<Reply, std::io::Error> {
        let mut file = NamedTempFile::new()?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                self.inner.broken_uploads.fetch_add(1, Ordering::SeqCst);
                std::io::Error::other(error)
            })?;
            if let Ok(data) = frame.into_data() {
                file.write_all(&data)?;
            }
        }
        let etag = self.new_etag();
        let headers = kept_headers(&seen.headers);
        let stored = Stored {
            body: Bytes::new(),
            headers,
            etag: etag.clone(),
            modified: SystemTime::now(),
            spooled: Some(Arc::new(file)),
            version: None,
        };
        self.plant(SPOOL, &seen.key, stored);
        Ok(Reply::new(200, "").header("etag", &format!("\"{etag}\"")))
    }
}

/// The whole object as a stream. Its file stays until then.
pub(super) fn stream_of(stored: &Stored, file: &Arc<NamedTempFile>) -> Result<Reply, std::io::Error> {
    let mut reply = Reply::new(200, "");
    reply.headers = stored.headers.clone();
    reply.set("etag", &format!("\"{}\"", stored.etag));
    reply.set("content-length", &file.as_file().metadata()?.len().to_string());
    let from = (file.reopen()?, Arc::clone(file));
    let frames = stream::unfold(from, |(mut reader, keep)| async move {
        let mut piece = vec![0; PIECE];
        match reader.read(&mut piece) {
            Ok(0) => None,
            Ok(count) => {
                piece.truncate(count);
                Some((Ok(Frame::data(Bytes::from(piece))), (reader, keep)))
            }
            Err(error) => Some((Err(error), (reader, keep))),
        }
    });
    reply.stream = Some(StreamBody::new(frames).boxed_unsync());
    Ok(reply)
}

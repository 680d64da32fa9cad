//! Multipart uploads: put together as the client's list says, through any proxy, whatever the storage server makes of it.

mod attacks;
mod completing;
mod copying;
mod crashes;
mod empty;
mod others;
mod slow;

use bytes::Bytes;

use crate::harness::{Answer, BUCKET, S3, Seen, noise};

/// What a part but the last has at least.
const PART: usize = 5 << 20;
const KEY: &str = "the/object";
const OBJECT: (&str, &str) = (BUCKET, KEY);

/// The numbers and ETags of parts.
type Parts = Vec<(u32, String)>;

/// The plaintext of a part.
fn body_of(number: u32, length: usize) -> Bytes {
    noise(length, u64::from(number) + 1000)
}

async fn part(s3: &S3, id: &str, number: u32, length: usize) -> (u32, String) {
    let answer = s3.upload_part(OBJECT, id, number, body_of(number, length)).await.ok();
    (number, answer.header("etag").to_owned())
}

/// Begins an upload and stores its parts.
async fn begin(s3: &S3, lengths: &[(u32, usize)]) -> (String, Parts) {
    let id = s3.create_upload(BUCKET, KEY).await;
    let mut parts = Vec::new();
    for (number, length) in lengths {
        parts.push(part(s3, &id, *number, *length).await);
    }
    (id, parts)
}

/// What the object is to hold.
fn whole(lengths: &[(u32, usize)]) -> Bytes {
    lengths.iter().flat_map(|(number, length)| body_of(*number, *length).to_vec()).collect::<Vec<u8>>().into()
}

/// Whether the storage server is asked to abort an upload.
fn is_abort(seen: &Seen) -> bool {
    seen.method == http::Method::DELETE && seen.has("uploadId")
}

/// Reads the object in several ways, and compares.
async fn assert_object(s3: &S3, body: &[u8]) {
    let got = s3.get(BUCKET, KEY).await.ok();
    assert!(got.body == body, "{} bytes in place of {}", got.body.len(), body.len());
    let head = s3.head(BUCKET, KEY).await.ok();
    assert_eq!(head.header("content-length"), body.len().to_string());
    if body.len() > 10 {
        let middle = body.len() / 2;
        let range = s3.get_range(BUCKET, KEY, &format!("bytes={middle}-{}", middle + 4)).await.ok();
        assert!(range.body == body[middle..middle + 5]);
        assert!(s3.get_range(BUCKET, KEY, "bytes=-3").await.ok().body == body[body.len() - 3..]);
    }
}

/// Whether an answer is a completion, as its document says.
fn is_complete(answer: &Answer) -> bool {
    answer.status == 200 && answer.text().contains("<CompleteMultipartUploadResult") && !answer.cut
}

//! Takes in the bytes of an object or a part.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{Stream, StreamExt as _};
use http::HeaderMap;
use md5::{Digest as _, Md5};
use s3s::checksum::ChecksumHasher;
use s3s::dto::ChecksumAlgorithm;
use s3s::{S3Error, S3Result, s3_error};
use tokio::io::{AsyncWriteExt as _, BufWriter};

use super::described::{Checksums, checksums_of};
use super::files::{Files, Kept};
use super::index::internal;
use crate::custodian::approval::json::hex;

/// Most bytes of one upload.
const SIZE_MAX: u64 = 5 << 30;
const BUFFER: usize = 256 << 10;
const ALGORITHMS: &[&str] = &[
    ChecksumAlgorithm::CRC32,
    ChecksumAlgorithm::CRC32C,
    ChecksumAlgorithm::CRC64NVME,
    ChecksumAlgorithm::SHA1,
    ChecksumAlgorithm::SHA256,
];

/// Receives the body of an upload's input, and what it promises: PutObject and UploadPart say so alike.
macro_rules! received {
    ($storage:expr, $input:expr, $trailers:expr) => {{
        let promises = $crate::cli::demo::storage::receive::Promises {
            md5: $input.content_md5.take(),
            checksums: $crate::cli::demo::storage::described::checksums_of!($input),
            algorithm: $input.checksum_algorithm.take(),
            trailers: $trailers,
        };
        let body = $input.body.take().unwrap_or_else(|| StreamingBlob::from(s3s::Body::empty()));
        $crate::cli::demo::storage::receive::receive(&$storage.files, body, promises).await
    }};
}
pub(super) use received;

/// What a client said of the bytes that it sends.
#[derive(Default)]
pub(super) struct Promises {
    pub(super) md5: Option<String>,
    pub(super) checksums: Checksums,
    /// To be worked out; the client may tell it after the bytes.
    pub(super) algorithm: Option<ChecksumAlgorithm>,
    pub(super) trailers: Option<s3s::TrailingHeaders>,
}

/// Bytes that came whole.
pub(super) struct Received {
    pub(super) file: Kept,
    pub(super) size: u64,
    /// Of a body that came in one piece: its MD5.
    pub(super) etag: String,
    pub(super) checksums: Checksums,
}

/// Writes `body` into a file, if it is what was promised.
pub(super) async fn receive<S, E>(files: &Files, mut body: S, promises: Promises) -> S3Result<Received>
where
    S: Stream<Item = Result<bytes::Bytes, E>> + Unpin,
    E: Into<s3s::StdError>,
{
    let mut md5 = Md5::new();
    let mut hasher = hasher(&promises)?;
    let mut incoming = files.begin().map_err(internal)?;
    let mut size = 0;
    let mut writer = BufWriter::with_capacity(BUFFER, &mut incoming.file);
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| broken_off(error.into()))?;
        size += chunk.len() as u64;
        if size > SIZE_MAX {
            return Err(s3_error!(EntityTooLarge));
        }
        md5.update(&chunk);
        hasher.update(&chunk);
        writer.write_all(&chunk).await.map_err(internal)?;
    }
    writer.flush().await.map_err(internal)?;
    let md5 = md5.finalize();
    let sums = hasher.finalize();
    let checksums = checksums_of!(sums);
    promises.check(&md5, &checksums)?;
    let file = files.keep(incoming).await.map_err(internal)?;
    Ok(Received { file, size, etag: hex(&md5), checksums })
}

fn broken_off(error: s3s::StdError) -> S3Error {
    match error.downcast::<S3Error>() {
        Ok(error) => *error,
        Err(error) => S3Error::with_source(s3s::S3ErrorCode::IncompleteBody, error),
    }
}

fn hasher(promises: &Promises) -> S3Result<ChecksumHasher> {
    let algorithm = promises.algorithm.as_ref().map(|algorithm| algorithm.as_str().to_ascii_uppercase());
    if algorithm.as_deref().is_some_and(|name| !ALGORITHMS.contains(&name)) {
        return Err(s3_error!(NotImplemented, "the demo's storage does not know the checksum algorithm"));
    }
    let wanted = |name: &str, promised: &Option<String>| promised.is_some() || algorithm.as_deref() == Some(name);
    let promised = &promises.checksums;
    Ok(ChecksumHasher {
        crc32: wanted(ChecksumAlgorithm::CRC32, &promised.crc32).then(Default::default),
        crc32c: wanted(ChecksumAlgorithm::CRC32C, &promised.crc32c).then(Default::default),
        crc64nvme: wanted(ChecksumAlgorithm::CRC64NVME, &promised.crc64nvme).then(Default::default),
        sha1: wanted(ChecksumAlgorithm::SHA1, &promised.sha1).then(Default::default),
        sha256: wanted(ChecksumAlgorithm::SHA256, &promised.sha256).then(Default::default),
    })
}

impl Promises {
    fn check(self, md5: &[u8], found: &Checksums) -> S3Result<()> {
        if let Some(promised) = &self.md5 {
            let promised = STANDARD.decode(promised).map_err(|_| s3_error!(InvalidDigest))?;
            if promised.len() != md5.len() {
                return Err(s3_error!(InvalidDigest));
            }
            if promised != md5 {
                return Err(s3_error!(BadDigest));
            }
        }
        let trailers = self.trailers.as_ref().and_then(s3s::TrailingHeaders::take).unwrap_or_default();
        let promised = self.checksums.with_trailers(&trailers);
        promised.check(found)
    }
}

impl Checksums {
    fn with_trailers(mut self, trailers: &HeaderMap) -> Self {
        let add = |name: &str, field: &mut Option<String>| {
            let found = trailers.get(format!("x-amz-checksum-{name}"));
            if let Some(found) = found {
                *field = Some(String::from_utf8_lossy(found.as_bytes()).into_owned());
            }
        };
        add("crc32", &mut self.crc32);
        add("crc32c", &mut self.crc32c);
        add("crc64nvme", &mut self.crc64nvme);
        add("sha1", &mut self.sha1);
        add("sha256", &mut self.sha256);
        self
    }

    /// Whether all that these say is also in `found`.
    pub(super) fn check(&self, found: &Self) -> S3Result<()> {
        let pairs = [
            (&self.crc32, &found.crc32),
            (&self.crc32c, &found.crc32c),
            (&self.crc64nvme, &found.crc64nvme),
            (&self.sha1, &found.sha1),
            (&self.sha256, &found.sha256),
        ];
        let holds = pairs.into_iter().all(|(promised, found)| promised.is_none() || promised == found);
        if holds { Ok(()) } else { Err(s3_error!(BadDigest)) }
    }
}

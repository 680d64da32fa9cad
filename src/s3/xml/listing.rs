//! Listings: what the storage server says of ciphertext, turned into what the client stored.

use crate::names::LogicalBucket;
use crate::s3::etag;

use super::{Edit, XmlError, rewrite};

/// Rewrites a `ListBucketResult` (ListObjects, version 1 or 2): `Name` becomes the logical bucket; each entry's
/// `Size` (bytes of ciphertext) becomes what `size` makes of it (bytes of plaintext), its `ETag` the one that
/// clients see; `ChecksumAlgorithm` and `ChecksumType`, which speak of ciphertext, go. Everything else stays.
///
/// # Errors
/// [`XmlError`] if it is another document, is malformed, or has a `Size` that is no number.
pub fn rewrite_listing(body: &[u8], bucket: &LogicalBucket, size: impl Fn(u64) -> u64) -> Result<Vec<u8>, XmlError> {
    rewrite(body, "ListBucketResult", |path, text| {
        let below_root: Vec<&str> = path.iter().skip(1).map(String::as_str).collect();
        Ok(match below_root.as_slice() {
            ["Name"] => Edit::Replace(bucket.as_str().to_owned()),
            ["Contents", "Size"] => {
                let stored: u64 = text.trim().parse().map_err(|_| XmlError::Value("Size"))?;
                Edit::Replace(size(stored).to_string())
            }
            ["Contents", "ETag"] => Edit::Replace(etag::client_from_storage(text.trim())),
            ["Contents", "ChecksumAlgorithm" | "ChecksumType"] => Edit::Drop,
            _ => Edit::Keep,
        })
    })
}

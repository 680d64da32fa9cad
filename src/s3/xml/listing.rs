//! Listings: what the storage server says of ciphertext, turned into what the client stored.

use crate::names::LogicalBucket;
use crate::s3::etag;

use super::{Edit, Node, XmlError, check_root, rewrite, walk};

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

/// The keys in a `ListBucketResult`, in its order.
///
/// # Errors
/// [`XmlError`] if it is another document or malformed.
pub fn listed_keys(body: &[u8]) -> Result<Vec<String>, XmlError> {
    let mut keys = Vec::new();
    walk(body, |node| {
        let (Node::Open { path, .. } | Node::Close { path, .. } | Node::Leaf { path, .. }) = &node;
        check_root(path, "ListBucketResult")?;
        if let Node::Leaf { path: [_, contents, key], text, .. } = node
            && contents == "Contents"
            && key == "Key"
        {
            keys.push(text.to_owned());
        }
        Ok(())
    })?;
    Ok(keys)
}

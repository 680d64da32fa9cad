//! Listings: what the storage server says of ciphertext, turned into what the client stored.

use crate::names::LogicalBucket;
use crate::s3::etag;

use super::{Edit, Node, XmlError, check_root, rewrite, walk};

/// The documents about what is in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// `ListBucketResult`: ListObjects, version 1 or 2.
    Objects,
    /// `ListVersionsResult`: ListObjectVersions.
    Versions,
}

impl Listing {
    fn root(self) -> &'static str {
        match self {
            Self::Objects => "ListBucketResult",
            Self::Versions => "ListVersionsResult",
        }
    }

    /// The elements that are about one object each. (A delete marker has neither size nor ETag; should a server give
    /// it some, they are treated no less.)
    fn entries(self) -> &'static [&'static str] {
        match self {
            Self::Objects => &["Contents"],
            Self::Versions => &["Version", "DeleteMarker"],
        }
    }
}

/// Rewrites a listing: `Name` becomes the logical bucket; each entry's `Size` (bytes of ciphertext) becomes what `size`
/// makes of it (bytes of plaintext), its `ETag` the one that clients see; `ChecksumAlgorithm` and `ChecksumType`, which
/// speak of ciphertext, go. Everything else stays: `Owner`, `RestoreStatus`, `StorageClass`, version ids, and all names,
/// percent-encoded or not, as the client asked for them.
///
/// # Errors
/// [`XmlError`] if it is another document, is malformed, or has a `Size` that is no number.
pub fn rewrite_listing(
    body: &[u8],
    listing: Listing,
    bucket: &LogicalBucket,
    size: impl Fn(u64) -> u64,
) -> Result<Vec<u8>, XmlError> {
    rewrite(body, listing.root(), |path, text| {
        let (entry, name) = match path {
            [_, name] => (None, name.as_str()),
            [_, entry, name] if listing.entries().contains(&entry.as_str()) => (Some(entry), name.as_str()),
            _ => return Ok(Edit::Keep),
        };
        Ok(match (entry, name) {
            (None, "Name") => Edit::Replace(bucket.as_str().to_owned()),
            (Some(_), "Size") => {
                let stored: u64 = text.trim().parse().map_err(|_| XmlError::Value("Size"))?;
                Edit::Replace(size(stored).to_string())
            }
            (Some(_), "ETag") => Edit::Replace(etag::client_from_storage(text.trim())),
            (Some(_), "ChecksumAlgorithm" | "ChecksumType") => Edit::Drop,
            _ => Edit::Keep,
        })
    })
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListedPage {
    /// The keys in it, in its order.
    pub keys: Vec<String>,
    /// Whether more follow.
    pub truncated: bool,
}

/// Reads a `ListBucketResult`.
///
/// # Errors
/// [`XmlError`] if it is another document or malformed.
pub fn listed_page(body: &[u8]) -> Result<ListedPage, XmlError> {
    let mut page = ListedPage::default();
    walk(body, |node| {
        let (Node::Open { path, .. } | Node::Close { path, .. } | Node::Leaf { path, .. }) = &node;
        check_root(path, "ListBucketResult")?;
        match node {
            Node::Leaf { path: [_, contents, key], text, .. } if contents == "Contents" && key == "Key" => {
                page.keys.push(text.to_owned());
            }
            Node::Leaf { path: [_, name], text, .. } if name == "IsTruncated" => page.truncated = text.trim() == "true",
            _ => {}
        }
        Ok(())
    })?;
    Ok(page)
}

/// The keys in a `ListBucketResult`, in its order.
///
/// # Errors
/// [`XmlError`] if it is another document or malformed.
pub fn listed_keys(body: &[u8]) -> Result<Vec<String>, XmlError> {
    listed_page(body).map(|page| page.keys)
}

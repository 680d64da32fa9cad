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

/// An entry that has a size: key, as the listing writes it, ETag and size, all as stored.
pub(crate) type SizedEntry = (String, String, u64);

/// The entries of a listing that have a size, in its order.
///
/// # Errors
/// [`XmlError`] if it is another document, malformed, or has an entry with two sizes, or one that is no number.
pub fn sized_entries(body: &[u8], listing: Listing) -> Result<Vec<SizedEntry>, XmlError> {
    let mut entries = Vec::new();
    let mut entry: (String, String, Option<u64>) = Default::default();
    walk(body, |node| {
        let (Node::Open { path, .. } | Node::Close { path, .. } | Node::Leaf { path, .. }) = &node;
        check_root(path, listing.root())?;
        match node {
            Node::Leaf { path: [_, parent, name], text, .. } if listing.entries().contains(&parent.as_str()) => {
                match name.as_str() {
                    "Key" => text.clone_into(&mut entry.0),
                    "ETag" => text.clone_into(&mut entry.1),
                    "Size" if entry.2.is_some() => return Err(XmlError::Element("Size")),
                    "Size" => entry.2 = Some(text.trim().parse().map_err(|_| XmlError::Value("Size"))?),
                    _ => {}
                }
            }
            Node::Close { path: [_, parent], .. } if listing.entries().contains(&parent.as_str()) => {
                if let (key, etag, Some(size)) = std::mem::take(&mut entry) {
                    entries.push((key, etag, size));
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(entries)
}

/// Rewrites a listing: `Name` becomes the logical bucket; each entry's `Size` (bytes of ciphertext) becomes what `size`
/// makes of it (bytes of plaintext), given how many entries with a size came before, its `ETag` the one that clients see; `ChecksumAlgorithm` and `ChecksumType`, which
/// speak of ciphertext, go. Everything else stays: `Owner`, `RestoreStatus`, `StorageClass`, version ids, and all names,
/// percent-encoded or not, as the client asked for them.
///
/// # Errors
/// [`XmlError`] if it is another document, is malformed, or has a `Size` that is no number.
pub fn rewrite_listing(
    body: &[u8],
    listing: Listing,
    bucket: &LogicalBucket,
    size: impl Fn(usize, u64) -> u64,
) -> Result<Vec<u8>, XmlError> {
    let mut sizes = 0;
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
                sizes += 1;
                Edit::Replace(size(sizes - 1, stored).to_string())
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

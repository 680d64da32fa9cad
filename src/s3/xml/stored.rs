//! Listings as jobs read them: each object or version with what the storage server says of it.

use super::{Node, XmlError, walk};

/// An entry of a listing: the storage server's word.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredEntry {
    /// The key.
    pub key: String,
    /// The version, where versions were listed.
    pub version: Option<String>,
    /// Whether it is what the key stands for now.
    pub is_latest: bool,
    /// Whether it says that the key was deleted, and has no bytes.
    pub is_delete_marker: bool,
    /// The storage server's ETag, with its quotes.
    pub etag: String,
    /// Bytes as stored.
    pub size: u64,
    /// When it was written, as the storage server writes times (RFC 3339).
    pub modified: String,
}

/// A page of a listing of objects or versions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredListing {
    /// The entries, in the listing's order.
    pub entries: Vec<StoredEntry>,
    /// Whether more follow.
    pub is_truncated: bool,
    /// Where the next page of versions begins: key and version.
    pub next: Option<(String, String)>,
}

impl StoredListing {
    /// Reads a `ListBucketResult` or a `ListVersionsResult`.
    ///
    /// # Errors
    /// [`XmlError`] if it is another document, malformed, or has a `Size` that is no number.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let mut page = Self::default();
        let mut next = (None, None);
        walk(body, |node| {
            let (Node::Open { path, .. } | Node::Close { path, .. } | Node::Leaf { path, .. }) = &node;
            let root = path.first().map(String::as_str);
            if !matches!(root, Some("ListBucketResult" | "ListVersionsResult")) {
                return Err(XmlError::Root { expected: "listing" });
            }
            match node {
                Node::Open { path: [root, entry], .. } if is_entry(entry) => {
                    let is_latest = root == "ListBucketResult";
                    let is_delete_marker = entry == "DeleteMarker";
                    page.entries.push(StoredEntry { is_latest, is_delete_marker, ..StoredEntry::default() });
                }
                Node::Leaf { path: [_, entry, name], text, .. } if is_entry(entry) => {
                    let entry = page.entries.last_mut().ok_or(XmlError::NotATree)?;
                    entry.take(name, text)?;
                }
                Node::Leaf { path: [_, name], text, .. } => match name.as_str() {
                    "IsTruncated" => page.is_truncated = text.trim() == "true",
                    "NextKeyMarker" => next.0 = Some(text.to_owned()),
                    "NextVersionIdMarker" => next.1 = Some(text.to_owned()),
                    _ => {}
                },
                _ => {}
            }
            Ok(())
        })?;
        if let (Some(key), version) = next {
            page.next = Some((key, version.unwrap_or_default()));
        }
        Ok(page)
    }
}

impl StoredEntry {
    fn take(&mut self, name: &str, text: &str) -> Result<(), XmlError> {
        match name {
            "Key" => text.clone_into(&mut self.key),
            "VersionId" => self.version = Some(text.to_owned()),
            "IsLatest" => self.is_latest = text.trim() == "true",
            "ETag" => text.trim().clone_into(&mut self.etag),
            "Size" => self.size = text.trim().parse().map_err(|_| XmlError::Value("Size"))?,
            "LastModified" => text.trim().clone_into(&mut self.modified),
            _ => {}
        }
        Ok(())
    }
}

fn is_entry(name: &str) -> bool {
    matches!(name, "Contents" | "Version" | "DeleteMarker")
}

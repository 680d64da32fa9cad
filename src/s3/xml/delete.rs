//! DeleteObjects: the client's list in, our request to the storage server out.

use crate::s3::etag;
use crate::s3::target::{ObjectKey, is_version_id};

use super::{NAMESPACE, Node, Writer, XmlError, check_root, set_once, walk};

/// The most objects in one request (AWS, DeleteObjects).
pub const MOST_DELETES: usize = 1000;

/// The longest request, in bytes: 1,000 keys of 1,024 bytes and what goes around them.
pub const LONGEST_DELETE: usize = 2 * 1024 * 1024;

/// One object to delete, as the client names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteEntry {
    /// The key.
    pub key: ObjectKey,
    /// The version.
    pub version_id: Option<String>,
    /// Only if it has this ETag; the one that the client sees, quoted or not.
    pub etag: Option<String>,
    /// Only if it was last modified then.
    pub last_modified: Option<String>,
    /// Only if it has this size, in bytes of plaintext.
    pub size: Option<u64>,
}

/// A `Delete` document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRequest {
    /// Whether the client wants to hear of failures only.
    pub quiet: bool,
    /// The objects, in the client's order; at least one.
    pub objects: Vec<DeleteEntry>,
}

#[derive(Default)]
struct Draft {
    key: Option<String>,
    version_id: Option<String>,
    etag: Option<String>,
    last_modified: Option<String>,
    size: Option<String>,
}

impl Draft {
    fn take(&mut self, name: &str, text: &str) -> Result<(), XmlError> {
        let (slot, name) = match name {
            "Key" => (&mut self.key, "Key"),
            "VersionId" => (&mut self.version_id, "VersionId"),
            "ETag" => (&mut self.etag, "ETag"),
            "LastModifiedTime" => (&mut self.last_modified, "LastModifiedTime"),
            "Size" => (&mut self.size, "Size"),
            _ => return Err(XmlError::Element("Object")),
        };
        set_once(slot, name, text.to_owned())
    }

    fn finish(self) -> Result<DeleteEntry, XmlError> {
        let key = self.key.ok_or(XmlError::Element("Key"))?;
        let size = self.size.map(|size| size.trim().parse().map_err(|_| XmlError::Value("Size"))).transpose()?;
        // SDKs write an empty element for "no version".
        let version_id = self.version_id.filter(|version| !version.is_empty());
        if version_id.as_ref().is_some_and(|version| !is_version_id(version)) {
            return Err(XmlError::Value("VersionId"));
        }
        // A condition that names nothing would be none to some servers.
        if self.etag.as_ref().is_some_and(|etag| !etag.is_empty() && etag.trim().is_empty()) {
            return Err(XmlError::Value("ETag"));
        }
        Ok(DeleteEntry {
            key: ObjectKey::new(&key)?,
            version_id,
            etag: self.etag.filter(|etag| !etag.is_empty()),
            last_modified: self.last_modified.filter(|time| !time.is_empty()),
            size,
        })
    }
}

impl DeleteRequest {
    /// Reads a client's document. Elements that we do not know are refused: one might be a condition.
    ///
    /// # Errors
    /// [`XmlError`].
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        if body.len() > LONGEST_DELETE {
            return Err(XmlError::TooLarge { limit: LONGEST_DELETE, unit: "bytes" });
        }
        let mut quiet = None;
        let mut objects: Vec<DeleteEntry> = Vec::new();
        let mut draft = Draft::default();
        walk(body, |node| {
            match node {
                Node::Open { path, .. } => {
                    check_root(path, "Delete")?;
                    match path {
                        [_] => {}
                        [_, name] if name == "Object" => draft = Draft::default(),
                        _ => return Err(XmlError::Element("Object")),
                    }
                }
                Node::Close { path: [_, _], .. } => {
                    if objects.len() >= MOST_DELETES {
                        return Err(XmlError::TooLarge { limit: MOST_DELETES, unit: "objects" });
                    }
                    objects.push(std::mem::take(&mut draft).finish()?);
                }
                Node::Close { .. } => {}
                Node::Leaf { path, text, .. } => {
                    check_root(path, "Delete")?;
                    match path {
                        [_, name] if name == "Quiet" => set_quiet(&mut quiet, text)?,
                        [_, object, name] if object == "Object" => draft.take(name, text)?,
                        _ => return Err(XmlError::Element("Object")),
                    }
                }
            }
            Ok(())
        })?;
        if objects.is_empty() {
            return Err(XmlError::Element("Object"));
        }
        Ok(Self { quiet: quiet.unwrap_or(false), objects })
    }

    /// The request for the storage server. ETags become the storage server's; `stored_size` makes a size in
    /// ciphertext of one in plaintext.
    pub fn to_storage_xml(&self, stored_size: impl Fn(u64) -> u64) -> Vec<u8> {
        let mut out = Writer::new();
        out.open("Delete", Some(NAMESPACE));
        if self.quiet {
            out.leaf("Quiet", "true");
        }
        for object in &self.objects {
            out.open("Object", None);
            out.leaf("Key", object.key.as_str());
            if let Some(version_id) = &object.version_id {
                out.leaf("VersionId", version_id);
            }
            if let Some(etag) = &object.etag {
                out.leaf("ETag", &etag::storage_from_client(etag));
            }
            if let Some(time) = &object.last_modified {
                out.leaf("LastModifiedTime", time);
            }
            if let Some(size) = object.size {
                out.leaf("Size", &stored_size(size).to_string());
            }
            out.close("Object");
        }
        out.close("Delete");
        out.into_bytes()
    }
}

fn set_quiet(quiet: &mut Option<bool>, text: &str) -> Result<(), XmlError> {
    let value = match text.trim() {
        text if text.eq_ignore_ascii_case("true") => true,
        text if text.eq_ignore_ascii_case("false") || text.is_empty() => false,
        _ => return Err(XmlError::Value("Quiet")),
    };
    set_once(quiet, "Quiet", value)
}

/// A `Delete` of our own keys; only failures are to be told.
pub fn delete_xml<'k>(keys: impl IntoIterator<Item = &'k str>) -> Vec<u8> {
    let mut out = Writer::new();
    out.open("Delete", Some(NAMESPACE));
    for key in keys {
        out.open("Object", None);
        out.leaf("Key", key);
        out.close("Object");
    }
    out.leaf("Quiet", "true");
    out.close("Delete");
    out.into_bytes()
}

/// Whether a `DeleteResult` tells of no failure.
///
/// # Errors
/// [`XmlError`] if it is another document or malformed.
pub fn all_deleted(body: &[u8]) -> Result<bool, XmlError> {
    let mut all = true;
    walk(body, |node| {
        let (Node::Open { path, .. } | Node::Close { path, .. } | Node::Leaf { path, .. }) = node;
        check_root(path, "DeleteResult")?;
        all &= path.get(1).is_none_or(|name| name != "Error");
        Ok(())
    })?;
    Ok(all)
}

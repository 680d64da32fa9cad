//! The XML bodies of S3, read strictly and rewritten.
//!
//! S3's documents are trees of elements whose leaves are text; nothing else is accepted: no document type, no
//! entities beyond the five of XML and character references, no processing instructions, no text between
//! elements, at most [`DEEPEST`] levels, UTF-8 only. Callers bound the number of bytes.
//!
//! **Invariant:** what is written out is well-formed whatever the values are, and leaf texts survive exactly.

use super::error::Code;
use super::target::TargetError;

mod acl;
mod attributes;
mod buckets;
mod complete;
mod configuration;
mod copy;
mod delete;
mod encryption;
mod listing;
mod multipart;
mod stored;
mod uploads;
mod walk;
mod writer;

pub use acl::{AclGrant, acl_grants};
pub use attributes::{Attributes, ChecksumText, Part, PartsPage, TypedChecksum};
pub use buckets::{BucketEntry, BucketList};
pub use complete::{AskedPart, LONGEST_COMPLETE, MOST_PARTS, complete_result, copy_part_result, listed_parts};
pub use configuration::{bucket_location, location_constraint, location_xml};
pub use copy::{CopyResult, checksum_element, complete_upload_xml, copy_object_result, fields, tags};
pub use delete::{DeleteEntry, DeleteRequest, LONGEST_DELETE, MOST_DELETES, all_deleted, delete_xml};
pub use encryption::{DefaultEncryption, default_encryption, default_encryption_xml};
pub use listing::{ListedPage, Listing, listed_keys, listed_page, rewrite_listing, sized_entries};
pub use multipart::{ListedPart, PartsListing, Who, initiated_upload, initiated_upload_xml, rewrite_uploads};
pub use stored::{StoredEntry, StoredListing};
pub use uploads::ListedUploads;
pub use writer::Writer;

pub(crate) use walk::{Node, walk};

/// The namespace of S3's documents.
pub const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// Elements nested deeper than this are refused; S3's own documents have at most 7 levels.
pub const DEEPEST: usize = 16;

/// Why a document is refused.
#[derive(Debug, thiserror::Error)]
pub enum XmlError {
    /// Not UTF-8.
    #[error("the document is not UTF-8")]
    NotUtf8(#[from] std::str::Utf8Error),
    /// Not well-formed.
    #[error("the document is not well-formed XML")]
    Syntax(#[from] quick_xml::Error),
    /// An attribute that is not well-formed.
    #[error("the document has a malformed attribute")]
    Attribute(#[from] quick_xml::events::attributes::AttrError),
    /// A document type, processing instruction, foreign entity, odd declaration or illegal name.
    #[error("the document uses XML that S3 has no use for")]
    Forbidden,
    /// Text beside elements, none or several root elements, or an end before the end.
    #[error("the document is not one tree of elements with text in the leaves")]
    NotATree,
    /// More than [`DEEPEST`] levels.
    #[error("the document is nested more than 16 levels deep")]
    TooDeep,
    /// Another document than the one asked for.
    #[error("the document is not a {expected}")]
    Root {
        /// The name that the root element should have.
        expected: &'static str,
    },
    /// An element that has no place there, is missing, or is there twice.
    #[error("the element {0} is missing, repeated or out of place")]
    Element(&'static str),
    /// An element with a value that it cannot have.
    #[error("the element {0} has a value that it cannot have")]
    Value(&'static str),
    /// A key that cannot be one.
    #[error("the document names a key that cannot be one")]
    Key(#[from] TargetError),
    /// More entries or bytes than S3 allows.
    #[error("the document is over the limit of {limit} {unit}")]
    TooLarge {
        /// The limit.
        limit: usize,
        /// What it counts.
        unit: &'static str,
    },
}

impl XmlError {
    /// The S3 code for a client's document that was refused so.
    pub fn code(&self) -> Code {
        match self {
            Self::TooLarge { unit: "bytes", .. } => Code::MaxMessageLengthExceeded,
            Self::Key(cause) => cause.code(),
            _ => Code::MalformedXml,
        }
    }
}

/// Calls `visit` with path and text of each leaf.
pub(crate) fn leaves(
    body: &[u8],
    mut visit: impl FnMut(&[String], &str) -> Result<(), XmlError>,
) -> Result<(), XmlError> {
    walk(body, |node| match node {
        Node::Leaf { path, text, .. } => visit(path, text),
        Node::Open { .. } | Node::Close { .. } => Ok(()),
    })
}

/// Sets what the element `name` says, which may stand there once.
fn set_once<T>(slot: &mut Option<T>, name: &'static str, value: T) -> Result<(), XmlError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(XmlError::Element(name)),
    }
}

/// The texts of all elements named `name`, wherever they stand; `None` when it is no document.
pub fn texts_of(body: &[u8], name: &str) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    leaves(body, |path, text| {
        if path.last().is_some_and(|last| last == name) {
            texts.push(text.to_owned());
        }
        Ok(())
    })
    .ok()?;
    Some(texts)
}

/// The names of all elements, without prefixes; `None` when it is no document.
pub fn elements(body: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    walk(body, |node| {
        if let Node::Open { path, .. } | Node::Leaf { path, .. } = node {
            names.extend(path.last().cloned());
        }
        Ok(())
    })
    .ok()?;
    Some(names)
}

/// The name of the root element, without prefix, of a document that is well-formed to its end.
pub fn root_element(body: &[u8]) -> Option<String> {
    let mut root = None;
    walk(body, |node| {
        let (Node::Open { path, .. } | Node::Leaf { path, .. } | Node::Close { path, .. }) = node;
        if root.is_none() {
            root = path.first().cloned();
        }
        Ok(())
    })
    .ok()?;
    root
}

/// Checks that a document has the root element `expected` and is well-formed to its end.
///
/// # Errors
/// [`XmlError`].
pub fn expect_root(body: &[u8], expected: &'static str) -> Result<(), XmlError> {
    walk(body, |node| {
        let (Node::Open { path, .. } | Node::Leaf { path, .. } | Node::Close { path, .. }) = node;
        check_root(path, expected)
    })
}

fn check_root(path: &[String], expected: &'static str) -> Result<(), XmlError> {
    if path.first().is_some_and(|root| root == expected) { Ok(()) } else { Err(XmlError::Root { expected }) }
}

/// What becomes of a leaf.
pub(crate) enum Edit {
    Keep,
    Replace(String),
    Drop,
}

/// Copies a document with the given root, leaf by leaf as `edit` says. White space between elements is left out.
pub(crate) fn rewrite(
    body: &[u8],
    root: &'static str,
    mut edit: impl FnMut(&[String], &str) -> Result<Edit, XmlError>,
) -> Result<Vec<u8>, XmlError> {
    let mut out = Writer::with_capacity(body.len());
    walk(body, |node| {
        match node {
            Node::Open { path, tag } => {
                check_root(path, root)?;
                out.open_tag(tag);
            }
            Node::Leaf { path, tag, text } => {
                check_root(path, root)?;
                match edit(path, text)? {
                    Edit::Keep => out.leaf_tag(tag, text),
                    Edit::Replace(text) => out.leaf_tag(tag, &text),
                    Edit::Drop => {}
                }
            }
            Node::Close { name, .. } => out.close(name),
        }
        Ok(())
    })?;
    Ok(out.into_bytes())
}

#[cfg(test)]
mod tests;

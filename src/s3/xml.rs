//! The XML bodies of S3, read strictly and rewritten.
//!
//! S3's documents are trees of elements whose leaves are text; nothing else is accepted: no document type, no
//! entities beyond the five of XML and character references, no processing instructions, no text between
//! elements, at most [`DEEPEST`] levels, UTF-8 only. Callers bound the number of bytes.
//!
//! **Invariant:** what is written out is well-formed whatever the values are, and leaf texts survive exactly.

use std::fmt::Write as _;

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesDecl, BytesStart, Event};

use super::error::Code;
use super::target::TargetError;

mod buckets;
mod configuration;
mod delete;
mod listing;

pub use buckets::{BucketEntry, BucketList};
pub use configuration::{bucket_location, location_constraint};
pub use delete::{DeleteEntry, DeleteRequest, LONGEST_DELETE, MOST_DELETES, delete_result};
pub use listing::rewrite_listing;

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

/// The start of an element: its name with prefix, and its attributes ready to be written.
#[derive(Debug, Default)]
pub(crate) struct Tag {
    name: String,
    attributes: String,
}

/// What [`walk`] meets. Paths are names without prefixes, from the root down to the element itself.
pub(crate) enum Node<'a> {
    /// An element that has elements in it.
    Open { path: &'a [String], tag: &'a Tag },
    /// An element without elements in it, and its text, unescaped.
    Leaf { path: &'a [String], tag: &'a Tag, text: &'a str },
    /// The end of an element that has elements in it.
    Close { path: &'a [String], name: &'a str },
}

/// Reads a whole document, calling `visit` for each node in document order.
pub(crate) fn walk(body: &[u8], visit: impl FnMut(Node<'_>) -> Result<(), XmlError>) -> Result<(), XmlError> {
    let text = std::str::from_utf8(body)?;
    let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    reader.config_mut().expand_empty_elements = true;
    let mut walker =
        Walker { visit, path: Vec::new(), names: Vec::new(), pending: None, begun: false, finished: false };
    loop {
        let event = reader.read_event()?;
        match event {
            Event::Start(start) => walker.start(&start)?,
            Event::End(_) => walker.end()?,
            Event::Text(text) => walker.text(&text.xml10_content())?,
            Event::CData(text) => walker.text(&text.xml10_content())?,
            Event::GeneralRef(reference) => match reference.resolve_char_ref()? {
                Some(character) => walker.text(character.encode_utf8(&mut [0; 4]))?,
                None => walker.text(resolve_xml_entity(&reference).ok_or(XmlError::Forbidden)?)?,
            },
            Event::Decl(declaration) => walker.declaration(&declaration)?,
            Event::Comment(_) => {}
            Event::Empty(_) | Event::PI(_) | Event::DocType(_) => return Err(XmlError::Forbidden),
            Event::Eof if walker.finished => return Ok(()),
            Event::Eof => return Err(XmlError::NotATree),
        }
        walker.begun = true;
    }
}

struct Walker<V> {
    visit: V,
    path: Vec<String>,
    /// The same with prefixes.
    names: Vec<String>,
    /// The innermost open element while no element has been met in it.
    pending: Option<(Tag, String)>,
    begun: bool,
    finished: bool,
}

impl<V: FnMut(Node<'_>) -> Result<(), XmlError>> Walker<V> {
    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), XmlError> {
        if self.finished {
            return Err(XmlError::NotATree);
        }
        if let Some((tag, text)) = self.pending.take() {
            if !is_space(&text) {
                return Err(XmlError::NotATree);
            }
            (self.visit)(Node::Open { path: &self.path, tag: &tag })?;
        }
        if self.path.len() >= DEEPEST {
            return Err(XmlError::TooDeep);
        }
        let tag = tag_of(start)?;
        self.path.push(start.local_name().into_inner().to_owned());
        self.names.push(tag.name.clone());
        self.pending = Some((tag, String::new()));
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), XmlError> {
        match &mut self.pending {
            Some((_, pending)) => pending.push_str(text),
            None if is_space(text) => {}
            None => return Err(XmlError::NotATree),
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), XmlError> {
        match self.pending.take() {
            Some((tag, text)) => (self.visit)(Node::Leaf { path: &self.path, tag: &tag, text: &text })?,
            None => {
                let name = self.names.last().ok_or(XmlError::NotATree)?;
                (self.visit)(Node::Close { path: &self.path, name })?;
            }
        }
        self.path.pop();
        self.names.pop();
        self.finished = self.path.is_empty();
        Ok(())
    }

    fn declaration(&self, declaration: &BytesDecl<'_>) -> Result<(), XmlError> {
        let utf8 = match declaration.encoding() {
            Some(encoding) => encoding?.eq_ignore_ascii_case("utf-8"),
            None => true,
        };
        if self.begun || !utf8 { Err(XmlError::Forbidden) } else { Ok(()) }
    }
}

fn is_space(text: &str) -> bool {
    text.bytes().all(|byte| b" \t\r\n".contains(&byte))
}

/// Takes a start tag apart and checks it, so that it can be written again.
fn tag_of(start: &BytesStart<'_>) -> Result<Tag, XmlError> {
    let mut tag = Tag { name: checked_name(start.name().into_inner())?.to_owned(), attributes: String::new() };
    for attribute in start.attributes() {
        let attribute = attribute?;
        let raw: &str = &attribute.value;
        if raw.contains('<') {
            return Err(XmlError::Forbidden);
        }
        let value = quick_xml::escape::unescape(raw).map_err(quick_xml::Error::from)?;
        write!(tag.attributes, " {}=\"", checked_name(attribute.key.into_inner())?).expect("a String takes it all");
        escape_into(&mut tag.attributes, &value);
        tag.attributes.push('"');
    }
    Ok(tag)
}

fn checked_name(name: &str) -> Result<&str, XmlError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte) || !byte.is_ascii();
    let begins = name.bytes().next().is_some_and(|first| !first.is_ascii_digit() && !b".-:".contains(&first));
    if begins && name.len() <= 256 && name.bytes().all(legal) { Ok(name) } else { Err(XmlError::Forbidden) }
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

/// Writes a document. Names come from us or from a checked document; texts may be anything.
#[derive(Debug)]
pub struct Writer {
    out: String,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// Begins with the XML declaration.
    pub fn new() -> Self {
        Self::with_capacity(256)
    }

    fn with_capacity(capacity: usize) -> Self {
        let mut out = String::with_capacity(capacity);
        out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        Self { out }
    }

    /// Opens an element, with a default namespace if one is given.
    pub fn open(&mut self, name: &str, namespace: Option<&str>) {
        let attributes = namespace.map(|uri| format!(" xmlns=\"{uri}\"")).unwrap_or_default();
        self.open_tag(&Tag { name: name.to_owned(), attributes });
    }

    fn open_tag(&mut self, tag: &Tag) {
        write!(self.out, "<{}{}>", tag.name, tag.attributes).expect("a String takes it all");
    }

    /// Writes an element with text.
    pub fn leaf(&mut self, name: &str, text: &str) {
        self.leaf_tag(&Tag { name: name.to_owned(), attributes: String::new() }, text);
    }

    fn leaf_tag(&mut self, tag: &Tag, text: &str) {
        self.open_tag(tag);
        escape_into(&mut self.out, text);
        self.close(&tag.name);
    }

    /// Closes an element.
    pub fn close(&mut self, name: &str) {
        write!(self.out, "</{name}>").expect("a String takes it all");
    }

    /// The document.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out.into_bytes()
    }
}

/// Escapes markup, and writes control characters as character references, as S3 does: a carriage return would
/// be read as a line feed otherwise.
fn escape_into(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            character if character.is_control() || matches!(character, '\u{2028}' | '\u{fffe}' | '\u{ffff}') => {
                write!(out, "&#x{:X};", u32::from(character)).expect("a String takes it all");
            }
            character => out.push(character),
        }
    }
}

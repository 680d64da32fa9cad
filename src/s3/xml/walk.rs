//! Reading documents: from bytes to elements and leaves, and nothing that S3 has no use for.

use std::fmt::Write as _;

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesDecl, BytesStart, Event};

use super::writer::escape_into;
use super::{DEEPEST, XmlError};

/// The start of an element: its name with prefix, and its attributes ready to be written.
#[derive(Debug, Default)]
pub(crate) struct Tag {
    pub(super) name: String,
    pub(super) attributes: String,
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
    // XML has no way to say NUL, so it could not be written again.
    if text.contains('\0') {
        return Err(XmlError::Forbidden);
    }
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

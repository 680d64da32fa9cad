//! Writing documents.
//!
//! **Invariant:** what is written is well-formed whatever the texts are, and reads back as the same texts.

use std::fmt::Write as _;

use super::walk::Tag;

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

    pub(super) fn with_capacity(capacity: usize) -> Self {
        let mut out = String::with_capacity(capacity);
        out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        Self { out }
    }

    /// Opens an element, with a default namespace if one is given.
    pub fn open(&mut self, name: &str, namespace: Option<&str>) {
        self.open_tag(&tag(name, namespace));
    }

    pub(super) fn open_tag(&mut self, tag: &Tag) {
        write!(self.out, "<{}{}>", tag.name, tag.attributes).expect("a String takes it all");
    }

    /// Writes an element with text.
    pub fn leaf(&mut self, name: &str, text: &str) {
        self.leaf_tag(&tag(name, None), text);
    }

    /// Writes an element with a default namespace and text: a document of one element.
    pub fn leaf_in(&mut self, name: &str, namespace: &str, text: &str) {
        self.leaf_tag(&tag(name, Some(namespace)), text);
    }

    pub(super) fn leaf_tag(&mut self, tag: &Tag, text: &str) {
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

fn tag(name: &str, namespace: Option<&str>) -> Tag {
    let attributes = namespace.map(|uri| format!(" xmlns=\"{uri}\"")).unwrap_or_default();
    Tag { name: name.to_owned(), attributes }
}

/// Escapes markup, and writes control characters as character references, as S3 does: a carriage return would
/// be read as a line feed otherwise.
pub(super) fn escape_into(out: &mut String, text: &str) {
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

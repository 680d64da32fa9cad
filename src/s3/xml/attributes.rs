//! `GetObjectAttributesResponse`: what is known of an object, as clients read it.

use super::copy::checksum_element;
use super::{NAMESPACE, Writer};
use crate::s3::checksum::Algorithm;

/// A checksum by its algorithm, as headers have its value.
pub type ChecksumText = (Algorithm, String);

/// A checksum of an object, and its type: `FULL_OBJECT` or `COMPOSITE`.
pub type TypedChecksum = (ChecksumText, &'static str);

/// Writes a checksum and its type where they stand.
pub(super) fn write_checksum(out: &mut Writer, ((algorithm, value), kind): &TypedChecksum) {
    out.leaf(&checksum_element(*algorithm), value);
    out.leaf("ChecksumType", kind);
}

/// What is known of an object; what was not asked for is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Its ETag, without quotes.
    pub etag: Option<String>,
    /// Its checksum, and the type of it.
    pub checksum: Option<TypedChecksum>,
    /// Its parts.
    pub parts: Option<PartsPage>,
    /// Its storage class.
    pub storage_class: Option<String>,
    /// Its plaintext bytes.
    pub size: Option<u64>,
}

/// A page of an object's parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartsPage {
    /// Parts of the whole object.
    pub total: usize,
    /// The page begins after this number.
    pub marker: u32,
    /// At most so many.
    pub max: u32,
    /// Whether further ones follow.
    pub truncated: bool,
    /// The parts of the page.
    pub parts: Vec<Part>,
}

/// A part of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its number.
    pub number: u32,
    /// Its plaintext bytes.
    pub size: u64,
    /// Its own checksum.
    pub checksum: Option<ChecksumText>,
}

impl Attributes {
    /// The document.
    pub fn to_xml(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.open("GetObjectAttributesResponse", Some(NAMESPACE));
        if let Some(etag) = &self.etag {
            out.leaf("ETag", etag);
        }
        if let Some(checksum) = &self.checksum {
            out.open("Checksum", None);
            write_checksum(&mut out, checksum);
            out.close("Checksum");
        }
        if let Some(parts) = &self.parts {
            parts.write(&mut out);
        }
        if let Some(class) = &self.storage_class {
            out.leaf("StorageClass", class);
        }
        if let Some(size) = self.size {
            out.leaf("ObjectSize", &size.to_string());
        }
        out.close("GetObjectAttributesResponse");
        out.into_bytes()
    }
}

impl PartsPage {
    fn write(&self, out: &mut Writer) {
        let next = self.parts.last().map_or(self.marker, |part| part.number);
        out.open("ObjectParts", None);
        out.leaf("IsTruncated", if self.truncated { "true" } else { "false" });
        out.leaf("MaxParts", &self.max.to_string());
        out.leaf("NextPartNumberMarker", &next.to_string());
        out.leaf("PartNumberMarker", &self.marker.to_string());
        out.leaf("PartsCount", &self.total.to_string());
        for part in &self.parts {
            out.open("Part", None);
            if let Some((algorithm, value)) = &part.checksum {
                out.leaf(&checksum_element(*algorithm), value);
            }
            out.leaf("PartNumber", &part.number.to_string());
            out.leaf("Size", &part.size.to_string());
            out.close("Part");
        }
        out.close("ObjectParts");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_written() {
        let attributes = Attributes { size: Some(5), ..Attributes::default() };
        let xml = String::from_utf8(attributes.to_xml()).expect("UTF-8");
        assert!(xml.ends_with("2006-03-01/\"><ObjectSize>5</ObjectSize></GetObjectAttributesResponse>"), "{xml}");
    }

    #[test]
    fn parts_are_written_with_where_the_next_page_begins() {
        let part = Part { number: 3, size: 9, checksum: Some((Algorithm::Crc32, "AAAAAA==".into())) };
        let page = PartsPage { total: 7, marker: 2, max: 1, truncated: true, parts: vec![part] };
        let xml = Attributes { parts: Some(page), ..Attributes::default() }.to_xml();
        let xml = String::from_utf8(xml).expect("UTF-8");
        let expected = "<ObjectParts><IsTruncated>true</IsTruncated><MaxParts>1</MaxParts>\
            <NextPartNumberMarker>3</NextPartNumberMarker><PartNumberMarker>2</PartNumberMarker><PartsCount>7</PartsCount>\
            <Part><ChecksumCRC32>AAAAAA==</ChecksumCRC32><PartNumber>3</PartNumber><Size>9</Size></Part></ObjectParts>";
        assert!(xml.contains(expected), "{xml}");
    }
}

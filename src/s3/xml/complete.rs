//! CompleteMultipartUpload and UploadPartCopy: the client's list of parts, and what clients are told.

use crate::s3::checksum::Algorithm;

use super::attributes::{TypedChecksum, write_checksum};
use super::copy::checksum_element;
use super::{NAMESPACE, Node, Writer, XmlError, check_root, walk};

/// The most parts of an upload (AWS, "Amazon S3 multipart upload limits").
pub const MOST_PARTS: usize = 10_000;

/// The longest request, in bytes: 10,000 parts with ETag and the longest checksum, indented.
pub const LONGEST_COMPLETE: usize = 4 << 20;

/// A part as a client lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AskedPart {
    /// Its number: 1 to 10,000.
    pub number: u32,
    /// The ETag that the client was given, quoted or not.
    pub etag: String,
    /// Its checksums as text.
    pub checksums: Vec<(Algorithm, String)>,
}

#[derive(Default)]
struct Draft {
    number: Option<u32>,
    etag: Option<String>,
    checksums: Vec<(Algorithm, String)>,
}

impl Draft {
    fn take(&mut self, name: &str, text: &str) -> Result<(), XmlError> {
        let text = text.trim();
        match name {
            "PartNumber" if self.number.is_none() => {
                let number = text.parse().ok().filter(|number| (1..=10_000).contains(number));
                self.number = Some(number.ok_or(XmlError::Value("PartNumber"))?);
            }
            "ETag" if self.etag.is_none() => self.etag = Some(text.to_owned()),
            _ => {
                let algorithm = name.strip_prefix("Checksum").and_then(Algorithm::from_wire_name);
                let algorithm = algorithm.ok_or(XmlError::Element("Part"))?;
                if self.checksums.iter().any(|(known, _)| *known == algorithm) {
                    return Err(XmlError::Element("Part"));
                }
                // SDKs write an empty element for "none".
                if !text.is_empty() {
                    self.checksums.push((algorithm, text.to_owned()));
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<AskedPart, XmlError> {
        Ok(AskedPart {
            number: self.number.ok_or(XmlError::Element("PartNumber"))?,
            etag: self.etag.ok_or(XmlError::Element("ETag"))?,
            checksums: self.checksums,
        })
    }
}

/// Reads a client's `CompleteMultipartUpload`: at least one part, in the client's order. Elements that we do not know
/// are refused: one might be a condition.
///
/// # Errors
/// [`XmlError`].
pub fn listed_parts(body: &[u8]) -> Result<Vec<AskedPart>, XmlError> {
    const ROOT: &str = "CompleteMultipartUpload";
    if body.len() > LONGEST_COMPLETE {
        return Err(XmlError::TooLarge { limit: LONGEST_COMPLETE, unit: "bytes" });
    }
    let mut parts = Vec::new();
    let mut draft = Draft::default();
    walk(body, |node| {
        let (Node::Open { path, .. } | Node::Leaf { path, .. } | Node::Close { path, .. }) = &node;
        check_root(path, ROOT)?;
        match node {
            Node::Open { path: [_], .. } | Node::Close { path: [_], .. } => {}
            Node::Open { path: [_, part], .. } if part == "Part" => draft = Draft::default(),
            Node::Leaf { path: [_, part, name], text, .. } if part == "Part" => draft.take(name, text)?,
            Node::Close { path: [_, _], .. } => {
                if parts.len() >= MOST_PARTS {
                    return Err(XmlError::TooLarge { limit: MOST_PARTS, unit: "parts" });
                }
                parts.push(std::mem::take(&mut draft).finish()?);
            }
            _ => return Err(XmlError::Element("Part")),
        }
        Ok(())
    })?;
    if parts.is_empty() { Err(XmlError::Element("Part")) } else { Ok(parts) }
}

/// The `CompleteMultipartUploadResult` for a client.
pub fn complete_result(
    location: &str,
    bucket: &str,
    key: &str,
    etag: &str,
    checksum: Option<&TypedChecksum>,
) -> Vec<u8> {
    let mut out = Writer::new();
    out.open("CompleteMultipartUploadResult", Some(NAMESPACE));
    out.leaf("Location", location);
    out.leaf("Bucket", bucket);
    out.leaf("Key", key);
    out.leaf("ETag", etag);
    if let Some(checksum) = checksum {
        write_checksum(&mut out, checksum);
    }
    out.close("CompleteMultipartUploadResult");
    out.into_bytes()
}

/// The `CopyPartResult` for a client. Of the checksum, a part's has no type.
pub fn copy_part_result(etag: &str, last_modified: &str, checksum: Option<(Algorithm, &str)>) -> Vec<u8> {
    let mut out = Writer::new();
    out.open("CopyPartResult", Some(NAMESPACE));
    out.leaf("LastModified", last_modified);
    out.leaf("ETag", etag);
    if let Some((algorithm, value)) = checksum {
        out.leaf(&checksum_element(algorithm), value);
    }
    out.close("CopyPartResult");
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(parts: &str) -> Result<Vec<AskedPart>, XmlError> {
        listed_parts(format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>").as_bytes())
    }

    #[test]
    fn lists_are_read_in_the_clients_order() {
        let parts = listed(
            "<Part><ETag>&quot;b&quot;</ETag><PartNumber> 7 </PartNumber><ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part>\n\
             <Part><PartNumber>2</PartNumber><ETag>a</ETag><ChecksumSHA1/></Part>",
        );
        let seven =
            AskedPart { number: 7, etag: "\"b\"".into(), checksums: vec![(Algorithm::Crc32, "AAAAAA==".into())] };
        let two = AskedPart { number: 2, etag: "a".into(), checksums: Vec::new() };
        assert_eq!(parts.expect("legal"), [seven, two]);
    }

    #[test]
    fn ten_thousand_parts_are_the_most() {
        let parts = |count: usize| {
            let part = "<Part><PartNumber>1</PartNumber><ETag>0123456789abcdef0123456789abcdef-0</ETag></Part>";
            listed(&part.repeat(count)).map(|parts| parts.len())
        };
        assert_eq!(parts(10_000).expect("legal"), 10_000);
        assert!(matches!(parts(10_001), Err(XmlError::TooLarge { limit: 10_000, unit: "parts" })));
        assert!(matches!(listed(&" ".repeat(4 << 20)), Err(XmlError::TooLarge { unit: "bytes", .. })));
    }

    #[test]
    fn other_documents_are_refused() {
        let number = "<PartNumber>1</PartNumber>";
        for wrong in [
            String::new(),
            "<Part/>".into(),
            format!("<Part>{number}</Part>"),
            "<Part><ETag>a</ETag></Part>".into(),
            format!("<Part>{number}{number}<ETag>a</ETag></Part>"),
            format!("<Part>{number}<ETag>a</ETag><ETag>b</ETag></Part>"),
            format!("<Part>{number}<ETag>a</ETag><IfMatch>b</IfMatch></Part>"),
            format!(
                "<Part>{number}<ETag>a</ETag><ChecksumCRC32>a</ChecksumCRC32><ChecksumCRC32>b</ChecksumCRC32></Part>"
            ),
            format!("<Other>{number}<ETag>a</ETag></Other>"),
            "<Part><PartNumber>0</PartNumber><ETag>a</ETag></Part>".into(),
            "<Part><PartNumber>10001</PartNumber><ETag>a</ETag></Part>".into(),
            "<Part><PartNumber>+1x</PartNumber><ETag>a</ETag></Part>".into(),
        ] {
            assert!(listed(&wrong).is_err(), "{wrong}");
        }
        assert!(listed_parts(b"<Delete><Part/></Delete>").is_err());
    }

    #[test]
    fn results_name_the_checksum() {
        let checksum = ((Algorithm::Sha256, "AA==-2".to_owned()), "COMPOSITE");
        let xml = complete_result("http://s3/b/k", "b", "k<", "\"e-2\"", Some(&checksum));
        let xml = String::from_utf8(xml).expect("UTF-8");
        assert!(xml.contains("<Key>k&lt;</Key><ETag>&quot;e-2&quot;</ETag><ChecksumSHA256>AA==-2</ChecksumSHA256>"));
        assert!(xml.contains("<ChecksumType>COMPOSITE</ChecksumType>"));
        let xml = copy_part_result("\"e-0\"", "2009-10-12T17:50:30.000Z", Some((Algorithm::Crc32, "AAAAAA==")));
        assert!(String::from_utf8(xml).expect("UTF-8").contains("<ChecksumCRC32>AAAAAA==</ChecksumCRC32></CopyPart"));
    }
}

//! The documents of copies: what the storage server says of one, and what clients are told.

use super::attributes::{TypedChecksum, write_checksum};
use super::{NAMESPACE, Writer, XmlError, check_root, leaves};
use crate::s3::checksum::Algorithm;

/// Longer texts are none of these documents'.
const LONGEST: usize = 1024;

/// What an answer says of the object or part that a copy made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyResult {
    /// Its ETag, quoted or not.
    pub etag: Option<String>,
    /// When it was made, as `2009-10-12T17:50:30.000Z`.
    pub last_modified: Option<String>,
}

impl CopyResult {
    /// Reads a `CopyObjectResult` or a `CopyPartResult`, as `root` says. Checksums, which are of ciphertext, are passed over.
    ///
    /// # Errors
    /// [`XmlError`] if it is another document, is malformed, or says something twice.
    pub fn parse(body: &[u8], root: &'static str) -> Result<Self, XmlError> {
        let [etag, last_modified] = fields(body, root, ["ETag", "LastModified"])?;
        Ok(Self { etag, last_modified: last_modified.filter(|time| is_time(time)) })
    }
}

/// The form of a time, so that nothing else of the storage server's reaches a client under this name.
fn is_time(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_digit() || b"-:.TZ+".contains(&byte);
    (10..=40).contains(&text.len()) && text.bytes().all(legal)
}

/// The `CopyObjectResult` for a client.
pub fn copy_object_result(etag: &str, last_modified: &str, checksum: Option<&TypedChecksum>) -> Vec<u8> {
    let mut out = Writer::new();
    out.open("CopyObjectResult", Some(NAMESPACE));
    out.leaf("LastModified", last_modified);
    out.leaf("ETag", etag);
    if let Some(checksum) = checksum {
        write_checksum(&mut out, checksum);
    }
    out.close("CopyObjectResult");
    out.into_bytes()
}

/// The element that carries a checksum, such as `ChecksumCRC32`.
pub fn checksum_element(algorithm: Algorithm) -> String {
    format!("Checksum{}", algorithm.wire_name())
}

/// The texts of the leaves `names` directly below `root`.
///
/// # Errors
/// [`XmlError`] if it is another document, is malformed, or one of them is there twice or longer than any.
pub fn fields<const N: usize>(
    body: &[u8],
    root: &'static str,
    names: [&'static str; N],
) -> Result<[Option<String>; N], XmlError> {
    let mut found = [const { None }; N];
    let mut is_root = false;
    // Servers that take their time send white space first.
    leaves(body.trim_ascii_start(), |path, text| {
        check_root(path, root)?;
        is_root = true;
        let [_, name] = path else { return Ok(()) };
        for (wanted, slot) in names.iter().zip(&mut found) {
            if name == wanted {
                if slot.is_some() || text.len() > LONGEST {
                    return Err(XmlError::Element(wanted));
                }
                *slot = Some(text.trim().to_owned());
            }
        }
        Ok(())
    })?;
    if is_root { Ok(found) } else { Err(XmlError::Root { expected: root }) }
}

/// The `CompleteMultipartUpload` for the storage server: its parts with its own ETags.
pub fn complete_upload_xml<'a>(parts: impl IntoIterator<Item = (u32, &'a str)>) -> Vec<u8> {
    let mut out = Writer::new();
    out.open("CompleteMultipartUpload", Some(NAMESPACE));
    for (number, etag) in parts {
        out.open("Part", None);
        out.leaf("PartNumber", &number.to_string());
        out.leaf("ETag", etag);
        out.close("Part");
    }
    out.close("CompleteMultipartUpload");
    out.into_bytes()
}

/// The tags in a storage server's `Tagging`, as the header `x-amz-tagging` has them, each name with its value.
///
/// # Errors
/// [`XmlError`] if it is another document, is malformed, or a tag lacks its name.
pub fn tags(body: &[u8]) -> Result<Vec<(String, String)>, XmlError> {
    let mut tags: Vec<(Option<String>, String)> = Vec::new();
    super::walk(body, |node| {
        let (super::Node::Open { path, .. } | super::Node::Leaf { path, .. } | super::Node::Close { path, .. }) = &node;
        check_root(path, "Tagging")?;
        match node {
            super::Node::Open { path: [_, _, tag], .. } if tag == "Tag" => tags.push((None, String::new())),
            super::Node::Leaf { path: [_, _, tag, name], text, .. } if tag == "Tag" => {
                let last = tags.last_mut().ok_or(XmlError::Element("Tag"))?;
                match name.as_str() {
                    "Key" => last.0 = Some(text.to_owned()),
                    "Value" => text.clone_into(&mut last.1),
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    tags.into_iter().map(|(name, value)| Ok((name.ok_or(XmlError::Element("Key"))?, value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_real_servers_are_read() {
        let aws = b"  \n<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<CopyObjectResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
            <LastModified>2009-10-12T17:50:30.000Z</LastModified><ETag>&quot;9b2cf535f27731c974343645a3985328&quot;</ETag>\
            <ChecksumCRC32>AAAAAA==</ChecksumCRC32></CopyObjectResult>";
        let read = CopyResult::parse(aws, "CopyObjectResult").expect("a result");
        assert_eq!(read.etag.as_deref(), Some("\"9b2cf535f27731c974343645a3985328\""));
        assert_eq!(read.last_modified.as_deref(), Some("2009-10-12T17:50:30.000Z"));
    }

    #[test]
    fn other_documents_and_doubled_fields_are_refused() {
        for wrong in [
            "",
            "<CopyPartResult><ETag>x</ETag></CopyPartResult>",
            "<Error><Code>InternalError</Code></Error>",
            "<CopyObjectResult><ETag>x</ETag><ETag>y</ETag></CopyObjectResult>",
            "<CopyObjectResult><ETag>x</ETag>",
            "not xml",
        ] {
            assert!(CopyResult::parse(wrong.as_bytes(), "CopyObjectResult").is_err(), "{wrong}");
        }
        let odd = "<CopyObjectResult><LastModified>&lt;script></LastModified></CopyObjectResult>";
        assert_eq!(CopyResult::parse(odd.as_bytes(), "CopyObjectResult").expect("legal"), CopyResult::default());
    }

    #[test]
    fn clients_get_etag_time_and_checksum() {
        let checksum = ((Algorithm::Crc64Nvme, "AA==".to_owned()), "FULL_OBJECT");
        let xml = copy_object_result("\"a-0\"", "2009-10-12T17:50:30.000Z", Some(&checksum));
        assert_eq!(
            String::from_utf8(xml).expect("UTF-8"),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <CopyObjectResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <LastModified>2009-10-12T17:50:30.000Z</LastModified><ETag>&quot;a-0&quot;</ETag>\
             <ChecksumCRC64NVME>AA==</ChecksumCRC64NVME><ChecksumType>FULL_OBJECT</ChecksumType></CopyObjectResult>"
        );
    }

    #[test]
    fn tags_are_read_with_their_values() {
        let tagging = "<Tagging><TagSet><Tag><Key>a</Key><Value>1 &amp; 2</Value></Tag><Tag><Value/><Key>b</Key></Tag>\
            </TagSet></Tagging>";
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(tags(tagging.as_bytes()).expect("tags"), [pair("a", "1 & 2"), pair("b", "")]);
        assert_eq!(tags(b"<Tagging><TagSet/></Tagging>").expect("none"), []);
        for wrong in ["<Tagging><TagSet><Tag><Value>x</Value></Tag></TagSet></Tagging>", "<Other/>", "object bytes"] {
            assert!(tags(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}

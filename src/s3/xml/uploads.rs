//! The uploads under way, as a storage server lists them.

use super::stored::{MOST_ENTRIES, plain};
use super::{Node, XmlError, check_root, set_once, walk};
use crate::s3::operation::UploadId;

/// A page of the uploads under way in a bucket, as the storage server lists them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ListedUploads {
    /// Key and id of each.
    pub uploads: Vec<(String, UploadId)>,
    /// The markers by which the next page is asked for, if there is one: a key and an upload id.
    pub next: Option<(String, String)>,
}

impl ListedUploads {
    /// Reads a `ListMultipartUploadsResult`, with keys percent-encoded or not, as it says itself.
    ///
    /// # Errors
    /// [`XmlError`] if it is another document, is malformed, has an upload without a key or an id that can be one, an encoding that is
    /// none, or more than 10,000 uploads; or if it goes on and does not say where.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let (mut is_encoded, mut is_truncated) = (false, false);
        let mut raw: Vec<[Option<String>; 2]> = Vec::new();
        let mut markers = [None, None];
        walk(body, |node| {
            let (Node::Open { path, .. } | Node::Close { path, .. } | Node::Leaf { path, .. }) = &node;
            check_root(path, "ListMultipartUploadsResult")?;
            match node {
                Node::Open { path: [_, upload], .. } if upload == "Upload" => {
                    if raw.len() == MOST_ENTRIES {
                        return Err(XmlError::TooLarge { limit: MOST_ENTRIES, unit: "uploads" });
                    }
                    raw.push([None, None]);
                }
                Node::Leaf { path: [_, upload, name], text, .. } if upload == "Upload" => {
                    let [key, id] = raw.last_mut().ok_or(XmlError::NotATree)?;
                    match name.as_str() {
                        "Key" => set_once(key, "Key", text.to_owned())?,
                        "UploadId" => set_once(id, "UploadId", text.to_owned())?,
                        _ => {}
                    }
                }
                Node::Leaf { path: [_, name], text, .. } => match name.as_str() {
                    "IsTruncated" => is_truncated = text.trim() == "true",
                    "EncodingType" => is_encoded = text.trim() == "url",
                    "NextKeyMarker" => markers[0] = Some(text.to_owned()),
                    "NextUploadIdMarker" => markers[1] = Some(text.to_owned()),
                    _ => {}
                },
                _ => {}
            }
            Ok(())
        })?;
        let upload = |[key, id]: [Option<String>; 2]| {
            let key = plain(key.ok_or(XmlError::Element("Key"))?, is_encoded)?;
            let id = id.ok_or(XmlError::Element("UploadId"))?;
            Ok((key, UploadId::new(&id).ok_or(XmlError::Value("UploadId"))?))
        };
        let uploads = raw.into_iter().map(upload).collect::<Result<_, XmlError>>()?;
        let next = match (is_truncated, markers) {
            (false, _) => None,
            (true, [Some(key), id]) if !key.is_empty() => Some((plain(key, is_encoded)?, id.unwrap_or_default())),
            (true, _) => return Err(XmlError::Element("NextKeyMarker")),
        };
        Ok(Self { uploads, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(middle: &str) -> Result<ListedUploads, XmlError> {
        ListedUploads::parse(format!("<ListMultipartUploadsResult>{middle}</ListMultipartUploadsResult>").as_bytes())
    }

    #[test]
    fn keys_ids_and_where_it_goes_on_are_read() {
        let listed = page(
            "<Bucket>b</Bucket><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
             <NextKeyMarker>a%2Fb</NextKeyMarker><NextUploadIdMarker>2</NextUploadIdMarker>\
             <Upload><Key>a+b%2B</Key><UploadId>1</UploadId><Owner><ID>x</ID></Owner></Upload>\
             <Upload><UploadId>2</UploadId><Key>a%2Fb</Key></Upload>",
        )
        .expect("a page");
        let id = |text| UploadId::new(text).expect("legal");
        assert_eq!(listed.uploads, [("a b+".to_owned(), id("1")), ("a/b".to_owned(), id("2"))]);
        assert_eq!(listed.next, Some(("a/b".to_owned(), "2".to_owned())));
        let plain = page(
            "<IsTruncated>false</IsTruncated><NextKeyMarker>x</NextKeyMarker><Upload><Key>%+</Key><UploadId>1</UploadId></Upload>",
        );
        assert_eq!(plain.expect("a page"), ListedUploads { uploads: vec![("%+".to_owned(), id("1"))], next: None });
        assert_eq!(page("").expect("a page"), ListedUploads::default());
    }

    #[test]
    fn what_is_no_page_of_uploads_is_refused() {
        let upload = |middle: &str| page(&format!("<Upload>{middle}</Upload>")).expect_err("refused");
        assert!(matches!(upload("<Key>a</Key>"), XmlError::Element("UploadId")));
        assert!(matches!(upload("<UploadId>1</UploadId>"), XmlError::Element("Key")));
        assert!(matches!(upload("<Key>a</Key><Key>b</Key><UploadId>1</UploadId>"), XmlError::Element("Key")));
        assert!(matches!(upload("<Key>a</Key><UploadId>a b</UploadId>"), XmlError::Value("UploadId")));
        let endless = page("<IsTruncated>true</IsTruncated>").expect_err("refused");
        assert!(matches!(endless, XmlError::Element("NextKeyMarker")));
        let other = ListedUploads::parse(b"<ListBucketResult/>").expect_err("refused");
        assert!(matches!(other, XmlError::Root { .. }));
        let many = "<Upload><Key>a</Key><UploadId>1</UploadId></Upload>".repeat(MOST_ENTRIES + 1);
        assert!(matches!(page(&many), Err(XmlError::TooLarge { limit: MOST_ENTRIES, .. })));
    }
}

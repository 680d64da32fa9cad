//! Listings as jobs read them: each object or version with what the storage server says of it.

use percent_encoding::percent_decode;

use super::{Node, XmlError, walk};

/// Most entries of a page; S3's have 1,000.
pub(super) const MOST_ENTRIES: usize = 10_000;

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
    /// Its storage class; empty where the storage server says none.
    pub storage_class: String,
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
    /// What the next page of objects is asked for by.
    pub token: Option<String>,
}

/// The page as it stands in the document, before it is known whether its names are encoded.
#[derive(Default)]
struct Raw {
    page: StoredListing,
    is_encoded: bool,
    next: (Option<String>, Option<String>),
}

impl StoredListing {
    /// Reads a `ListBucketResult` or a `ListVersionsResult`, with names percent-encoded or not, as it says itself.
    ///
    /// # Errors
    /// [`XmlError`] if it is another document, malformed, has an entry without a key or a `Size` that is no number, an encoding that is
    /// none, or more than 10,000 entries.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let mut raw = Raw::default();
        walk(body, |node| {
            let (Node::Open { path, .. } | Node::Close { path, .. } | Node::Leaf { path, .. }) = &node;
            let root = path.first().map(String::as_str);
            if !matches!(root, Some("ListBucketResult" | "ListVersionsResult")) {
                return Err(XmlError::Root { expected: "listing" });
            }
            raw.take(node)
        })?;
        raw.decoded()
    }
}

impl Raw {
    fn take(&mut self, node: Node<'_>) -> Result<(), XmlError> {
        let page = &mut self.page;
        match node {
            Node::Open { path: [root, entry], .. } if is_entry(entry) => {
                if page.entries.len() == MOST_ENTRIES {
                    return Err(XmlError::TooLarge { limit: MOST_ENTRIES, unit: "entries" });
                }
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
                "EncodingType" => self.is_encoded = text.trim() == "url",
                "NextKeyMarker" => self.next.0 = Some(text.to_owned()),
                "NextVersionIdMarker" => self.next.1 = Some(text.to_owned()),
                "NextContinuationToken" => page.token = Some(text.to_owned()).filter(|text| !text.is_empty()),
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    /// With the names as they are.
    fn decoded(self) -> Result<StoredListing, XmlError> {
        let Self { mut page, is_encoded, next: (key, version) } = self;
        for entry in &mut page.entries {
            entry.key = plain(std::mem::take(&mut entry.key), is_encoded)?;
            if entry.key.is_empty() {
                return Err(XmlError::Element("Key"));
            }
        }
        if let Some(key) = key.filter(|key| !key.is_empty()) {
            page.next = Some((plain(key, is_encoded)?, version.unwrap_or_default()));
        }
        Ok(page)
    }
}

/// A name in a listing as it is, where it may be percent-encoded there: in the manner of forms, where `+` stands for a space, as most servers do it (a plus sign
/// is `%2B` in either manner).
pub(super) fn plain(text: String, is_encoded: bool) -> Result<String, XmlError> {
    if !is_encoded {
        return Ok(text);
    }
    let wrong = || XmlError::Value("Key");
    let digits_follow = |after: &str| after.len() >= 2 && after.bytes().take(2).all(|digit| digit.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(digits_follow) {
        return Err(wrong());
    }
    let text = text.replace('+', " ");
    percent_decode(text.as_bytes()).decode_utf8().map(|text| text.into_owned()).map_err(|_| wrong())
}

impl StoredEntry {
    fn take(&mut self, name: &str, text: &str) -> Result<(), XmlError> {
        match name {
            "Key" if !self.key.is_empty() => return Err(XmlError::Element("Key")),
            "Key" => text.clone_into(&mut self.key),
            "VersionId" => self.version = Some(text.to_owned()).filter(|text| !text.is_empty()),
            "IsLatest" => self.is_latest = text.trim() == "true",
            "ETag" => text.trim().clone_into(&mut self.etag),
            "Size" => self.size = text.trim().parse().map_err(|_| XmlError::Value("Size"))?,
            "LastModified" => text.trim().clone_into(&mut self.modified),
            "StorageClass" => text.trim().clone_into(&mut self.storage_class),
            _ => {}
        }
        Ok(())
    }
}

fn is_entry(name: &str) -> bool {
    matches!(name, "Contents" | "Version" | "DeleteMarker")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(middle: &str) -> Result<StoredListing, XmlError> {
        StoredListing::parse(format!("<ListBucketResult>{middle}</ListBucketResult>").as_bytes())
    }

    fn keys(middle: &str) -> Vec<String> {
        objects(middle).expect("a listing").entries.into_iter().map(|entry| entry.key).collect()
    }

    fn contents(key: &str) -> String {
        format!("<Contents><Key>{key}</Key><Size>3</Size><ETag>&quot;e&quot;</ETag></Contents>")
    }

    #[test]
    fn names_are_decoded_where_the_document_says_that_they_are_encoded() {
        let url = "<EncodingType>url</EncodingType>";
        for encoded in ["a+b%2Bc%25/%C3%B6%0A", "a%20b%2bc%25%2F%c3%b6%0a"] {
            // Wherever the element stands.
            assert_eq!(keys(&format!("{url}{}", contents(encoded))), ["a b+c%/\u{f6}\n"]);
            assert_eq!(keys(&format!("{}{url}", contents(encoded))), ["a b+c%/\u{f6}\n"]);
        }
        assert_eq!(keys(&contents("a+b%2Bc &amp;")), ["a+b%2Bc &"]);
        for wrong in ["%", "%1", "%zz", "a%+1", "%ff", "%C3"] {
            assert!(objects(&format!("{url}{}", contents(wrong))).is_err(), "{wrong}");
        }
    }

    #[test]
    fn markers_and_tokens_are_read() {
        let page = "<ListVersionsResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
            <NextKeyMarker>a+b</NextKeyMarker><NextVersionIdMarker>v+1</NextVersionIdMarker>\
            <Version><Key>x</Key><VersionId>v%2B</VersionId><IsLatest>true</IsLatest><StorageClass>GLACIER</StorageClass></Version>\
            <DeleteMarker><Key>x</Key><VersionId>w</VersionId></DeleteMarker></ListVersionsResult>";
        let page = StoredListing::parse(page.as_bytes()).expect("a listing");
        assert!(page.is_truncated);
        assert_eq!(page.next, Some(("a b".into(), "v+1".into())));
        let [version, marker] = page.entries.as_slice() else { panic!("{page:?}") };
        assert_eq!((version.version.as_deref(), version.is_latest), (Some("v%2B"), true));
        assert_eq!(version.storage_class, "GLACIER");
        assert!(marker.is_delete_marker && !marker.is_latest);
        let token = objects("<IsTruncated>true</IsTruncated><NextContinuationToken>a+%41</NextContinuationToken>");
        assert_eq!(token.expect("a listing").token.as_deref(), Some("a+%41"));
    }

    #[test]
    fn what_is_no_listing_is_refused() {
        assert!(StoredListing::parse(b"<Error><Code>x</Code></Error>").is_err());
        assert!(objects("<Contents><Size>1</Size></Contents>").is_err());
        assert!(objects("<Contents><Key></Key></Contents>").is_err());
        assert!(objects("<Contents><Key>a</Key><Key>b</Key></Contents>").is_err());
        assert!(objects("<Contents><Key>a</Key><Size>-1</Size></Contents>").is_err());
        assert!(objects(&contents("a").repeat(MOST_ENTRIES)).is_ok());
        assert!(objects(&contents("a").repeat(MOST_ENTRIES + 1)).is_err());
    }
}

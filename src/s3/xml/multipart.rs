//! The documents of multipart uploads: what the storage server says of them, and what clients are told.

use super::{Edit, NAMESPACE, Writer, XmlError, check_root, checksum_element, fields, leaves, rewrite};
use crate::names::LogicalBucket;
use crate::s3::checksum::{Algorithm, Digest};
use crate::s3::operation::UploadId;

/// The upload id in an `InitiateMultipartUploadResult`.
///
/// # Errors
/// [`XmlError`] if it is another document, is malformed, or has no id that can be one.
pub fn initiated_upload(body: &[u8]) -> Result<UploadId, XmlError> {
    let [id] = fields(body, "InitiateMultipartUploadResult", ["UploadId"])?;
    UploadId::new(&id.ok_or(XmlError::Element("UploadId"))?).ok_or(XmlError::Value("UploadId"))
}

/// The `InitiateMultipartUploadResult` for a client.
pub fn initiated_upload_xml(bucket: &LogicalBucket, key: &str, id: &UploadId) -> Vec<u8> {
    let mut out = Writer::new();
    out.open("InitiateMultipartUploadResult", Some(NAMESPACE));
    out.leaf("Bucket", bucket.as_str());
    out.leaf("Key", key);
    out.leaf("UploadId", id.as_str());
    out.close("InitiateMultipartUploadResult");
    out.into_bytes()
}

/// Rewrites a `ListMultipartUploadsResult`: `Bucket` becomes the logical bucket; `ChecksumAlgorithm` and `ChecksumType`,
/// which speak of ciphertext, go. Everything else stays.
///
/// # Errors
/// [`XmlError`] if it is another document, is malformed, or names an upload that cannot be one.
pub fn rewrite_uploads(body: &[u8], bucket: &LogicalBucket) -> Result<Vec<u8>, XmlError> {
    rewrite(body, "ListMultipartUploadsResult", |path, text| {
        let below_root: Vec<&str> = path.iter().skip(1).map(String::as_str).collect();
        Ok(match below_root.as_slice() {
            ["Bucket"] => Edit::Replace(bucket.as_str().to_owned()),
            ["Upload", "ChecksumAlgorithm" | "ChecksumType"] => Edit::Drop,
            ["Upload", "UploadId"] if UploadId::new(text).is_none() => return Err(XmlError::Value("UploadId")),
            _ => Edit::Keep,
        })
    })
}

/// Who began an upload, or will own its object: as the storage server says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Who {
    /// The account.
    pub id: String,
    /// Its name, where there is one.
    pub name: Option<String>,
}

/// A part in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPart {
    /// Its number.
    pub number: u32,
    /// When it was stored, as `2010-11-10T20:48:33.000Z`.
    pub modified: String,
    /// Its ETag for clients, without quotes.
    pub etag: String,
    /// Its bytes of plaintext.
    pub size: u64,
    /// Its checksum.
    pub checksum: Option<(Algorithm, Digest)>,
}

/// A `ListPartsResult`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartsListing<'a> {
    /// The bucket, as clients call it.
    pub bucket: &'a LogicalBucket,
    /// The key, percent-encoded if the client asked for that.
    pub key: &'a str,
    /// Whether it did.
    pub url_encoded: bool,
    /// The upload.
    pub upload: &'a UploadId,
    /// Only parts with a higher number were asked for.
    pub after: u32,
    /// At most so many.
    pub max_parts: u32,
    /// Whether there are more.
    pub truncated: bool,
    /// The parts.
    pub parts: Vec<ListedPart>,
    /// Who began the upload.
    pub initiator: Who,
    /// Who will own the object.
    pub owner: Who,
    /// The storage class of the object to be.
    pub storage_class: String,
    /// The checksum of the object to be: its algorithm and type.
    pub checksum: (Algorithm, &'static str),
}

impl PartsListing<'_> {
    /// Takes from a storage server's `ListPartsResult` what it alone knows: initiator, owner and storage class.
    ///
    /// # Errors
    /// [`XmlError`] if it is another document or malformed.
    pub fn take_of_storage(&mut self, body: &[u8]) -> Result<(), XmlError> {
        let mut is_root = false;
        leaves(body, |path, text| {
            check_root(path, "ListPartsResult")?;
            is_root = true;
            let below_root: Vec<&str> = path.iter().skip(1).map(String::as_str).collect();
            let text = text.to_owned();
            match below_root.as_slice() {
                ["Initiator", "ID"] => self.initiator.id = text,
                ["Initiator", "DisplayName"] => self.initiator.name = Some(text),
                ["Owner", "ID"] => self.owner.id = text,
                ["Owner", "DisplayName"] => self.owner.name = Some(text),
                ["StorageClass"] => self.storage_class = text,
                _ => {}
            }
            Ok(())
        })?;
        if is_root { Ok(()) } else { Err(XmlError::Root { expected: "ListPartsResult" }) }
    }

    /// The document for the client.
    pub fn to_xml(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.open("ListPartsResult", Some(NAMESPACE));
        out.leaf("Bucket", self.bucket.as_str());
        if self.url_encoded {
            out.leaf("EncodingType", "url");
        }
        out.leaf("Key", self.key);
        out.leaf("UploadId", self.upload.as_str());
        out.leaf("PartNumberMarker", &self.after.to_string());
        if let Some(last) = self.parts.last() {
            out.leaf("NextPartNumberMarker", &last.number.to_string());
        }
        out.leaf("MaxParts", &self.max_parts.to_string());
        out.leaf("IsTruncated", if self.truncated { "true" } else { "false" });
        self.parts.iter().for_each(|part| write_part(&mut out, part));
        for (element, who) in [("Initiator", &self.initiator), ("Owner", &self.owner)] {
            out.open(element, None);
            out.leaf("ID", &who.id);
            if let Some(name) = &who.name {
                out.leaf("DisplayName", name);
            }
            out.close(element);
        }
        if !self.storage_class.is_empty() {
            out.leaf("StorageClass", &self.storage_class);
        }
        out.leaf("ChecksumAlgorithm", self.checksum.0.wire_name());
        out.leaf("ChecksumType", self.checksum.1);
        out.close("ListPartsResult");
        out.into_bytes()
    }
}

fn write_part(out: &mut Writer, part: &ListedPart) {
    out.open("Part", None);
    out.leaf("PartNumber", &part.number.to_string());
    out.leaf("LastModified", &part.modified);
    out.leaf("ETag", &format!("\"{}\"", part.etag));
    out.leaf("Size", &part.size.to_string());
    if let Some((algorithm, digest)) = &part.checksum {
        out.leaf(&checksum_element(*algorithm), &digest.to_base64());
    }
    out.close("Part");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> LogicalBucket {
        LogicalBucket::new("records").expect("a bucket name")
    }

    fn text(xml: Vec<u8>) -> String {
        let text = String::from_utf8(xml).expect("we write UTF-8");
        text.lines().last().unwrap_or_default().replace(" xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"", "")
    }

    #[test]
    fn the_id_of_a_new_upload_is_read_and_written() {
        let id = UploadId::new("a+b/c=").expect("an id");
        let written = initiated_upload_xml(&bucket(), "a&b", &id);
        assert_eq!(initiated_upload(&written).expect("our own"), id);
        assert!(text(written).contains("<Bucket>records</Bucket><Key>a&amp;b</Key><UploadId>a+b/c=</UploadId>"));
        for body in [
            "<InitiateMultipartUploadResult/>",
            "<InitiateMultipartUploadResult><UploadId/></InitiateMultipartUploadResult>",
            "<InitiateMultipartUploadResult><UploadId>a b</UploadId></InitiateMultipartUploadResult>",
            "<InitiateMultipartUploadResult><UploadId>a</UploadId><UploadId>b</UploadId></InitiateMultipartUploadResult>",
            "<Error><UploadId>a</UploadId></Error>",
            "",
        ] {
            assert!(initiated_upload(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn uploads_are_listed_under_the_logical_bucket_and_without_checksums_of_ciphertext() {
        let body = "<ListMultipartUploadsResult><Bucket>physical-7</Bucket><KeyMarker/><Upload><Key>a</Key>\
            <UploadId>1</UploadId><ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>COMPOSITE</ChecksumType>\
            <Initiated>2010-11-10T20:48:33.000Z</Initiated></Upload></ListMultipartUploadsResult>";
        let expected = "<ListMultipartUploadsResult><Bucket>records</Bucket><KeyMarker></KeyMarker><Upload><Key>a</Key>\
            <UploadId>1</UploadId><Initiated>2010-11-10T20:48:33.000Z</Initiated></Upload></ListMultipartUploadsResult>";
        assert_eq!(text(rewrite_uploads(body.as_bytes(), &bucket()).expect("a listing")), expected);
        for body in [
            "<ListBucketResult/>",
            "",
            "the object's bytes",
            "<ListMultipartUploadsResult><Upload><UploadId>a b</UploadId></Upload></ListMultipartUploadsResult>",
        ] {
            assert!(rewrite_uploads(body.as_bytes(), &bucket()).is_err(), "{body}");
        }
    }

    #[test]
    fn parts_are_listed_with_what_the_storage_server_alone_knows() {
        let (bucket, upload) = (bucket(), UploadId::new("1").expect("an id"));
        let digest = Digest::from_slice(&[0; 4]);
        let part = ListedPart {
            number: 3,
            modified: "2010-11-10T20:48:33.000Z".into(),
            etag: "e-0".into(),
            size: 70_000,
            checksum: digest.map(|digest| (Algorithm::Crc32, digest)),
        };
        let mut listing = PartsListing {
            bucket: &bucket,
            key: "a%20b",
            url_encoded: true,
            upload: &upload,
            after: 2,
            max_parts: 1,
            truncated: true,
            parts: vec![part],
            initiator: Who::default(),
            owner: Who::default(),
            storage_class: String::new(),
            checksum: (Algorithm::Crc32, "COMPOSITE"),
        };
        let storage = "<ListPartsResult><Bucket>physical-7</Bucket><Owner><ID>o</ID><DisplayName>n</DisplayName></Owner>\
            <Initiator><ID>i</ID></Initiator><StorageClass>STANDARD</StorageClass><Part><Size>9</Size></Part></ListPartsResult>";
        listing.take_of_storage(storage.as_bytes()).expect("a listing");
        let expected = "<ListPartsResult><Bucket>records</Bucket><EncodingType>url</EncodingType><Key>a%20b</Key>\
            <UploadId>1</UploadId><PartNumberMarker>2</PartNumberMarker><NextPartNumberMarker>3</NextPartNumberMarker>\
            <MaxParts>1</MaxParts><IsTruncated>true</IsTruncated><Part><PartNumber>3</PartNumber>\
            <LastModified>2010-11-10T20:48:33.000Z</LastModified><ETag>&quot;e-0&quot;</ETag><Size>70000</Size>\
            <ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part><Initiator><ID>i</ID></Initiator><Owner><ID>o</ID>\
            <DisplayName>n</DisplayName></Owner><StorageClass>STANDARD</StorageClass>\
            <ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>COMPOSITE</ChecksumType></ListPartsResult>";
        assert_eq!(text(listing.to_xml()), expected);
        assert!(listing.take_of_storage(b"<ListBucketResult><Name>n</Name></ListBucketResult>").is_err());
        assert!(listing.take_of_storage(b"<Error><Code>NoSuchUpload</Code></Error>").is_err());
    }
}

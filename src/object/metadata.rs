//! Between the client's headers and the metadata and checksums that the format keeps.

use http::HeaderMap;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, EXPIRES, HeaderName,
    HeaderValue,
};

use crate::format::checksum as format;
use crate::format::layout::PartChecksum;
use crate::format::metadata::{AskedEncryption, Metadata};
use crate::names::KekName;
use crate::s3::checksum::{self as s3, Verified};
use crate::s3::customer_key::CustomerKey;
use crate::s3::xml::{ChecksumText, TypedChecksum};

use super::bucket::KeyRule;
use super::error::Error;

/// Most bytes of user metadata, names and values together (S3's rule).
const MAX_USER_METADATA: usize = 2 << 10;
const USER_PREFIX: &str = "x-amz-meta-";
const ASKED: &str = "x-amz-server-side-encryption";
const ASKED_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const CUSTOMER_ALGORITHM: &str = "x-amz-server-side-encryption-customer-algorithm";
const CUSTOMER_KEY_MD5: &str = "x-amz-server-side-encryption-customer-key-md5";

/// What S3 says of an object without a Content-Type.
const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";

/// The metadata of an upload, and the KEK that the client chose, or the bucket's.
pub(super) fn of_upload(headers: &HeaderMap, keys: &KeyRule) -> Result<(Metadata, KekName), Error> {
    let (asked, kek) = asked_encryption(headers, keys)?;
    let metadata = Metadata { asked, ..of_headers(headers) };
    let length = metadata.user.iter().map(|(name, value)| name.len() + value.len()).sum();
    if length > MAX_USER_METADATA {
        return Err(Error::MetadataTooLarge { length, limit: MAX_USER_METADATA });
    }
    Ok((metadata, kek))
}

/// What headers say of an object: those of an upload, or those of the answer about an object without an envelope.
pub(super) fn of_headers(headers: &HeaderMap) -> Metadata {
    let one = |name: HeaderName| headers.get(name).map(|value| value.as_bytes().to_vec());
    let mut metadata = Metadata {
        content_type: one(CONTENT_TYPE).filter(|value| !value.is_empty()),
        content_disposition: one(CONTENT_DISPOSITION),
        content_encoding: content_encoding(headers),
        content_language: one(CONTENT_LANGUAGE),
        cache_control: one(CACHE_CONTROL),
        expires: one(EXPIRES),
        ..Metadata::default()
    };
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(USER_PREFIX) else { continue };
        // Headers of one name are one value with commas (RFC 9110, section 5.2), as S3 has it.
        let known = metadata.user.entry(name.to_owned()).or_default();
        if !known.is_empty() {
            known.extend_from_slice(b",");
        }
        known.extend_from_slice(value.as_bytes());
    }
    metadata
}

/// Content-Encoding without `aws-chunked`, which speaks of the transfer only.
fn content_encoding(headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut kept = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        for coding in value.as_bytes().split(|byte| *byte == b',') {
            let coding = coding.trim_ascii();
            if !coding.is_empty() && !coding.eq_ignore_ascii_case(b"aws-chunked") {
                kept.push(coding);
            }
        }
    }
    (!kept.is_empty()).then(|| kept.join(b", ".as_slice()))
}

fn asked_encryption(headers: &HeaderMap, keys: &KeyRule) -> Result<(AskedEncryption, KekName), Error> {
    let text =
        |name: &str| headers.get(name).map(|value| value.to_str().map_err(|_| Error::AskedEncryption)).transpose();
    let key = match text(ASKED_KEY)? {
        None => None,
        Some(name) => {
            let name = KekName::new(name).map_err(|_| Error::UnknownKek)?;
            Some(name).filter(|name| keys.encrypts(name)).ok_or(Error::UnknownKek)?.into()
        }
    };
    match (text(ASKED)?, key) {
        (None, None) | (Some("aws:kms"), None) => Ok((AskedEncryption::Kms, keys.kek.clone())),
        (Some("aws:kms"), Some(key)) => Ok((AskedEncryption::Kms, key)),
        (Some("AES256"), None) => Ok((AskedEncryption::Aes256, keys.kek.clone())),
        _ => Err(Error::AskedEncryption),
    }
}

/// Puts what the client once said of the object into an answer about it.
pub(super) fn describe(headers: &mut HeaderMap, metadata: &Metadata) {
    let standard = [
        (CONTENT_TYPE, metadata.content_type.as_deref().or(Some(DEFAULT_CONTENT_TYPE.as_bytes()))),
        (CONTENT_DISPOSITION, metadata.content_disposition.as_deref()),
        (CONTENT_ENCODING, metadata.content_encoding.as_deref()),
        (CONTENT_LANGUAGE, metadata.content_language.as_deref()),
        (CACHE_CONTROL, metadata.cache_control.as_deref()),
        (EXPIRES, metadata.expires.as_deref()),
    ];
    for (name, value) in standard {
        if let Some(Ok(value)) = value.map(HeaderValue::from_bytes) {
            headers.insert(name, value);
        }
    }
    for (name, value) in &metadata.user {
        let name = HeaderName::try_from(format!("{USER_PREFIX}{name}"));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.insert(name, value);
        }
    }
}

/// Says how the object is encrypted: with the customer key (SSE-C) of the call, or as the client asked for it.
pub(super) fn describe_encryption(
    headers: &mut HeaderMap,
    customer_key: Option<&CustomerKey>,
    asked: AskedEncryption,
    kek: &KekName,
) {
    match (customer_key, asked) {
        (Some(key), _) => {
            headers.insert(CUSTOMER_ALGORITHM, HeaderValue::from_static("AES256"));
            let md5 = HeaderValue::from_str(key.md5()).expect("base64 is legal in headers");
            headers.insert(CUSTOMER_KEY_MD5, md5);
        }
        (None, AskedEncryption::Aes256) => {
            headers.insert(ASKED, HeaderValue::from_static("AES256"));
        }
        (None, AskedEncryption::Kms) => {
            headers.insert(ASKED, HeaderValue::from_static("aws:kms"));
            let kek = HeaderValue::from_str(kek.as_str()).expect("KEK names are letters, digits, '_' and '-'");
            headers.insert(ASKED_KEY, kek);
        }
    }
}

/// The checksum header of an answer, and its type; `parts` is the number of the object's parts.
pub(super) fn describe_checksum(headers: &mut HeaderMap, checksum: &format::Checksum, parts: u32) {
    let ((algorithm, value), kind) = checksum_text(checksum, parts);
    let value = HeaderValue::from_str(&value).expect("base64 is legal in headers");
    headers.insert(algorithm.header_name(), value);
    headers.insert("x-amz-checksum-type", HeaderValue::from_static(kind));
}

/// The checksum of an object of `parts` parts as headers and documents have it, with its type.
pub(super) fn checksum_text(checksum: &format::Checksum, parts: u32) -> TypedChecksum {
    let value = base64(checksum.value());
    let (value, kind) = match checksum.kind() {
        format::Kind::FullObject => (value, "FULL_OBJECT"),
        format::Kind::Composite => (format!("{value}-{parts}"), "COMPOSITE"),
    };
    ((of_format(checksum.algorithm()), value), kind)
}

/// The checksum of a part by the object's algorithm; none if none is kept. It is filled with zeros, all zeros without one.
pub(super) fn part_checksum_text(algorithm: format::Algorithm, part: &PartChecksum) -> Option<ChecksumText> {
    let value = part.get(..algorithm.value_len()).filter(|_| *part != [0; 32])?;
    Some((of_format(algorithm), base64(value)))
}

/// The checksum header of an answer about one part of an object whose checksum is a composite of its parts'.
pub(super) fn describe_part_checksum(headers: &mut HeaderMap, whole: &format::Checksum, part: &PartChecksum) {
    if let (format::Kind::Composite, Some((algorithm, value))) =
        (whole.kind(), part_checksum_text(whole.algorithm(), part))
    {
        let value = HeaderValue::from_str(&value).expect("base64 is legal in headers");
        headers.insert(algorithm.header_name(), value);
        headers.insert("x-amz-checksum-type", HeaderValue::from_static("COMPOSITE"));
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The checksum to keep with an object whose plaintext was verified.
pub(super) fn stored_checksum(verified: &Verified) -> format::Checksum {
    let algorithm = to_format(verified.algorithm());
    let checksum = format::Checksum::new(algorithm, format::Kind::FullObject, verified.digest().as_bytes());
    checksum.expect("both sides have the same lengths")
}

const ALGORITHMS: [(s3::Algorithm, format::Algorithm); 10] = [
    (s3::Algorithm::Crc32, format::Algorithm::Crc32),
    (s3::Algorithm::Crc32c, format::Algorithm::Crc32c),
    (s3::Algorithm::Crc64Nvme, format::Algorithm::Crc64Nvme),
    (s3::Algorithm::Sha1, format::Algorithm::Sha1),
    (s3::Algorithm::Sha256, format::Algorithm::Sha256),
    (s3::Algorithm::Sha512, format::Algorithm::Sha512),
    (s3::Algorithm::Md5, format::Algorithm::Md5),
    (s3::Algorithm::XxHash64, format::Algorithm::XxHash64),
    (s3::Algorithm::XxHash3, format::Algorithm::XxHash3),
    (s3::Algorithm::XxHash128, format::Algorithm::XxHash128),
];

pub(super) fn to_format(algorithm: s3::Algorithm) -> format::Algorithm {
    let pair = ALGORITHMS.into_iter().find(|pair| pair.0 == algorithm);
    pair.expect("the table has every algorithm").1
}

pub(super) fn of_format(algorithm: format::Algorithm) -> s3::Algorithm {
    let pair = ALGORITHMS.into_iter().find(|pair| pair.1 == algorithm);
    pair.expect("the table has every algorithm").0
}

#[cfg(test)]
mod tests {
    use super::super::bucket::Unencrypted;
    use super::*;

    fn keys() -> KeyRule {
        let kek = |name| KekName::new(name).expect("legal");
        KeyRule {
            kek: kek("demo"),
            further_keks: vec![kek("tenant")],
            former_keks: vec![kek("old")],
            accept_writers: Vec::new(),
            unencrypted: Unencrypted::Refuse,
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("legal")));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let value: HeaderValue = value;
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn what_the_client_said_comes_back() {
        let said = headers(&[
            ("content-type", "text/csv"),
            ("content-encoding", "aws-chunked,gzip"),
            ("x-amz-meta-owner", "a"),
            ("x-amz-meta-owner", "b"),
            ("cache-control", "no-store"),
        ]);
        let (metadata, kek) = of_upload(&said, &keys()).expect("fine");
        assert_eq!(kek.as_str(), "demo");
        let mut answer = HeaderMap::new();
        describe(&mut answer, &metadata);
        let expected = headers(&[
            ("content-type", "text/csv"),
            ("content-encoding", "gzip"),
            ("x-amz-meta-owner", "a,b"),
            ("cache-control", "no-store"),
        ]);
        assert_eq!(answer, expected);
    }

    #[test]
    fn the_client_chooses_among_the_keks_of_the_bucket_only() {
        let choose = |key: &str| {
            let chosen = headers(&[
                ("x-amz-server-side-encryption", "aws:kms"),
                ("x-amz-server-side-encryption-aws-kms-key-id", key),
            ]);
            of_upload(&chosen, &keys()).map(|(_, kek)| kek.as_str().to_owned())
        };
        assert_eq!(choose("tenant").expect("offered"), "tenant");
        for refused in ["old", "other", "arn:aws:kms:x", "../x"] {
            assert!(matches!(choose(refused), Err(Error::UnknownKek)), "{refused}");
        }
        let both = headers(&[
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "demo"),
        ]);
        assert!(matches!(of_upload(&both, &keys()), Err(Error::AskedEncryption)));
        assert!(matches!(
            of_upload(&headers(&[("x-amz-server-side-encryption", "none")]), &keys()),
            Err(Error::AskedEncryption)
        ));
    }

    #[test]
    fn user_metadata_is_bounded() {
        let long = "v".repeat(2048);
        let result = of_upload(&headers(&[("x-amz-meta-k", &long)]), &keys());
        assert!(matches!(result, Err(Error::MetadataTooLarge { length: 2049, limit: 2048 })));
    }
}

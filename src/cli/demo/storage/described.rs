//! What an object's headers say, as the index keeps it.

use std::collections::BTreeMap;

use s3s::dto::*;
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Most bytes of user metadata, names and values. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>
const METADATA_MAX: usize = 2048;
const DEFAULT_TYPE: &str = "binary/octet-stream";
/// Those without a restore request.
const STORAGE_CLASSES: &[&str] = &[
    StorageClass::STANDARD,
    StorageClass::REDUCED_REDUNDANCY,
    StorageClass::STANDARD_IA,
    StorageClass::ONEZONE_IA,
    StorageClass::INTELLIGENT_TIERING,
    StorageClass::GLACIER_IR,
];

/// What a client said of an object.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Described {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_type: Option<String>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) website_redirect_location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) storage_class: Option<String>,
    /// By the names after `x-amz-meta-`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tags: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Checksums::is_empty")]
    pub(super) checksums: Checksums,
}

/// Checksums in base64, of an object or a part.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Checksums {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) crc32: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) crc32c: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) crc64nvme: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha1: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
}

impl Checksums {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The checksums in an input, an output, or a part in one.
macro_rules! checksums_of {
    ($from:expr) => {
        $crate::cli::demo::storage::described::Checksums {
            crc32: $from.checksum_crc32.clone(),
            crc32c: $from.checksum_crc32c.clone(),
            crc64nvme: $from.checksum_crc64nvme.clone(),
            sha1: $from.checksum_sha1.clone(),
            sha256: $from.checksum_sha256.clone(),
        }
    };
}

/// Writes checksums into an output.
macro_rules! put_checksums {
    ($checksums:expr, $output:expr) => {
        let checksums = $checksums.clone();
        $output.checksum_crc32 = checksums.crc32;
        $output.checksum_crc32c = checksums.crc32c;
        $output.checksum_crc64nvme = checksums.crc64nvme;
        $output.checksum_sha1 = checksums.sha1;
        $output.checksum_sha256 = checksums.sha256;
    };
}

/// What the input of a PUT, a copy, or a new upload says of the object.
macro_rules! described_by {
    ($input:expr) => {{
        let input = &$input;
        $crate::cli::demo::storage::described::Described {
            cache_control: input.cache_control.clone(),
            content_disposition: input.content_disposition.clone(),
            content_encoding: input.content_encoding.clone(),
            content_language: input.content_language.clone(),
            content_type: input.content_type.clone(),
            expires: input.expires.clone().map(|time| time::OffsetDateTime::from(time).unix_timestamp()),
            website_redirect_location: input.website_redirect_location.clone(),
            storage_class: input.storage_class.as_ref().map(|class| class.as_str().to_owned()),
            metadata: input.metadata.clone().unwrap_or_default().into_iter().collect(),
            tags: $crate::cli::demo::storage::tagging::parse_header(input.tagging.as_deref())?,
            checksums: Default::default(),
        }
        .checked()?
    }};
}

/// Writes what is known of an object into the output of a GET or HEAD.
macro_rules! describe {
    ($row:expr, $output:expr) => {
        let described = $row.described.clone();
        $output.accept_ranges = Some("bytes".to_owned());
        $output.cache_control = described.cache_control;
        $output.content_disposition = described.content_disposition;
        $output.content_encoding = described.content_encoding;
        $output.content_language = described.content_language;
        $output.content_type = described.content_type;
        $output.expires = described.expires.map($crate::cli::demo::storage::described::at_second);
        $output.website_redirect_location = described.website_redirect_location;
        $output.storage_class = described.storage_class.map(s3s::dto::StorageClass::from);
        $output.metadata = Some(described.metadata.into_iter().collect());
        $output.e_tag = Some(s3s::dto::ETag::Strong($row.etag.clone()));
        $output.last_modified = Some($crate::cli::demo::storage::described::at_ms($row.modified));
    };
}

pub(super) use {checksums_of, describe, described_by, put_checksums};

impl Described {
    /// Refuses what S3 does, and leaves out what says nothing.
    pub(super) fn checked(mut self) -> S3Result<Self> {
        let length: usize = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        if length > METADATA_MAX {
            return Err(s3_error!(MetadataTooLarge));
        }
        self.content_type.get_or_insert_with(|| DEFAULT_TYPE.to_owned());
        // How the body travelled is not how the object is encoded.
        self.content_encoding = self.content_encoding.and_then(|encodings| {
            let kept = encodings.split(',').map(str::trim).filter(|one| !one.eq_ignore_ascii_case("aws-chunked"));
            Some(kept.collect::<Vec<_>>().join(",")).filter(|kept| !kept.is_empty())
        });
        match self.storage_class.as_deref() {
            Some(StorageClass::STANDARD) => self.storage_class = None,
            Some(class) if !STORAGE_CLASSES.contains(&class) => return Err(s3_error!(InvalidStorageClass)),
            _ => {}
        }
        Ok(self)
    }

    /// The storage class in a listing.
    pub(super) fn listed_class(&self) -> String {
        self.storage_class.clone().unwrap_or_else(|| StorageClass::STANDARD.to_owned())
    }
}

/// Milliseconds since 1970 as a time.
pub(super) fn at_ms(ms: i64) -> Timestamp {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).map(Timestamp::from).unwrap_or_default()
}

/// Seconds since 1970 as a time.
pub(super) fn at_second(seconds: i64) -> Timestamp {
    OffsetDateTime::from_unix_timestamp(seconds).map(Timestamp::from).unwrap_or_default()
}

/// Who owns everything.
pub(super) fn owner() -> Owner {
    Owner { id: Some("demo".to_owned()), display_name: Some("demo".to_owned()) }
}

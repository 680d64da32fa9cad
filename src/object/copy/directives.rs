//! What a CopyObject asks for.

use http::HeaderMap;

use crate::format::metadata::{AskedEncryption, Metadata};
use crate::names::KekName;
use crate::s3::checksum::Algorithm;
use crate::s3::conditions::storage_conditions;
use crate::s3::copy_source::CopySource;

use super::super::error::Error;
use super::super::metadata;
use super::super::{Call, Named};
use super::CopyError;

const METADATA_DIRECTIVE: &str = "x-amz-metadata-directive";
const TAGGING_DIRECTIVE: &str = "x-amz-tagging-directive";
const ALGORITHM: &str = "x-amz-checksum-algorithm";

/// Headers that change an object that is copied onto itself.
const CHANGING: [&str; 5] = [
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    ALGORITHM,
];

/// What a CopyObject asks for, beside its source.
pub(super) struct Wanted {
    /// What the request itself says of the object.
    given: Metadata,
    replaces_metadata: bool,
    /// Whether the date of writing is the source's, too.
    keeps_date: bool,
    /// Whether the tags are the request's, rather than the source's.
    pub(super) replaces_tags: bool,
    /// The KEK of the destination.
    pub(super) kek: KekName,
    /// The checksum that the destination shall have; none: that of the source.
    pub(super) algorithm: Option<Algorithm>,
    /// Conditions on what the destination's name holds, in the storage server's words.
    pub(super) conditions: HeaderMap,
}

impl Wanted {
    pub(super) fn new(call: &Call, object: Named<'_>, from: &CopySource) -> Result<Self, Error> {
        let headers = &call.headers;
        let replaces_metadata = replaces(headers, METADATA_DIRECTIVE)?;
        let replaces_tags = replaces(headers, TAGGING_DIRECTIVE)?;
        let (given, kek) = metadata::of_upload(headers, object.bucket.keys)?;
        let algorithm = algorithm(headers)?;
        let conditions = storage_conditions(headers)?;
        let onto_itself = from.bucket == *object.bucket.name && from.key == *object.key && from.version_id.is_none();
        let changes = replaces_metadata
            || replaces_tags
            || call.customer_keys.target.is_some()
            || call.customer_keys.source.is_some()
            || CHANGING.iter().any(|name| headers.contains_key(*name));
        if onto_itself && !changes {
            return Err(CopyError::Illegal.into());
        }
        Ok(Self { given, replaces_metadata, keeps_date: false, replaces_tags, kek, algorithm, conditions })
    }

    /// An object that stays what it is, under that KEK.
    pub(super) fn as_it_is(metadata: &Metadata, kek: &KekName) -> Self {
        Self {
            given: metadata.clone(),
            replaces_metadata: false,
            keeps_date: true,
            replaces_tags: false,
            kek: kek.clone(),
            algorithm: None,
            conditions: HeaderMap::new(),
        }
    }

    /// How the request asks for encryption.
    pub(super) fn asked(&self) -> AskedEncryption {
        self.given.asked
    }

    /// The metadata of the destination.
    pub(super) fn metadata(&self, source: &Metadata, written_ms: Option<u64>) -> Metadata {
        let said = if self.replaces_metadata { &self.given } else { source };
        let written_ms = if self.keeps_date { source.written_ms } else { written_ms };
        let (asked, empty_checksum) = (self.given.asked, source.empty_checksum.clone());
        Metadata { asked, empty_checksum, written_ms, ..said.clone() }
    }
}

fn replaces(headers: &HeaderMap, name: &'static str) -> Result<bool, CopyError> {
    let mut values = headers.get_all(name).iter().map(|value| value.as_bytes());
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(b"COPY"), None) => Ok(false),
        (Some(b"REPLACE"), None) => Ok(true),
        _ => Err(CopyError::Directive(name)),
    }
}

fn algorithm(headers: &HeaderMap) -> Result<Option<Algorithm>, CopyError> {
    let Some(name) = headers.get(ALGORITHM) else { return Ok(None) };
    let named = name.to_str().ok().and_then(Algorithm::from_wire_name);
    named.map(Some).ok_or(CopyError::Algorithm)
}

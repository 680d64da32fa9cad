//! What the state bucket holds of a multipart upload under way: the record of the upload, and the markers of its parts.
//!
//! **Invariant:** a record that was read is [`Unverified`] until its envelope was opened for the bucket, key and upload
//! that a request names; a marker is believed only under the upload's own key, for the part under whose number it stood.

mod marker;

use std::fmt;

use minicbor::decode::Decoder;
use minicbor::encode::Encoder;

use super::checksum::{Algorithm, Kind};
use super::envelope::{Binding, Malformed, Unverified as Envelope};
use super::keys::Dek;
use super::widen;
use crate::cbor::{self, NotCanonical};
use crate::crypto::{AeadKey, NotAuthentic, RandomFailed};
use crate::names::LogicalBucket;

pub use marker::{LONGEST_ETAG, LONGEST_MARKER, MAX_SENDER, MarkerError, PartRecord};

/// Most bytes of a record.
pub const MAX_RECORD: usize = 64 << 10;
/// Most bytes that an upload's headers may take, names and values together.
pub const MAX_HEADERS: usize = 24 << 10;
/// Most headers of an upload.
const MOST_HEADERS: usize = 64;
/// The version of records that this code writes and reads.
const VERSION: u32 = 1;
/// Most bytes of an object's key or an upload's id.
const LONGEST_NAME: usize = 1024;

/// What the client asked for when it began the upload.
#[derive(Clone, PartialEq, Eq)]
pub struct UploadSettings {
    /// The checksum of the object to be.
    pub checksum: ChecksumChoice,
    /// Headers for the storage server, for the case that the object turns out empty and is written by a PUT.
    pub headers: Vec<(String, Vec<u8>)>,
    /// When the upload began: milliseconds since 1970 (UTC).
    pub begun_ms: u64,
}

impl fmt::Debug for UploadSettings {
    /// The headers' values may be anything; only their names are shown.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        let mut shown = formatter.debug_struct("UploadSettings");
        shown.field("checksum", &self.checksum).field("headers", &names).field("begun_ms", &self.begun_ms).finish()
    }
}

/// The checksum that an object in parts is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChecksumChoice {
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// Over the object, or over its parts' checksums.
    pub kind: Kind,
    /// Whether the client named the algorithm, rather than S3 choosing it.
    pub by_client: bool,
}

impl ChecksumChoice {
    /// What S3 chooses for a client that names nothing.
    pub const DEFAULT: Self = Self { algorithm: Algorithm::Crc64Nvme, kind: Kind::FullObject, by_client: false };
}

/// The key under which an upload's settings and markers are sealed: `HKDF-SHA256(DEK, "claviger/1 upload")`.
pub struct UploadKey(AeadKey);

impl UploadKey {
    /// That of the upload whose object has the DEK `dek`.
    pub fn new(dek: &Dek) -> Self {
        Self(dek.upload_key())
    }
}

/// The headers are more than a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Too many or too long.
    #[error("the upload's headers take {length} bytes, more than the {MAX_HEADERS} that its record holds")]
    TooLarge {
        /// Bytes of names and values.
        length: usize,
    },
    /// No random numbers.
    #[error("the random number generator failed")]
    Random,
}

impl From<RandomFailed> for RecordError {
    fn from(_: RandomFailed) -> Self {
        Self::Random
    }
}

/// The record of an upload. `envelope` is that of its DEK for `binding`, whose purpose is the upload.
///
/// # Errors
/// [`RecordError`].
pub fn seal_record(
    key: &UploadKey,
    envelope: &str,
    settings: &UploadSettings,
    binding: Binding<'_>,
) -> Result<Vec<u8>, RecordError> {
    let length = settings.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if length > MAX_HEADERS || settings.headers.len() > MOST_HEADERS {
        return Err(RecordError::TooLarge { length });
    }
    let sealed = key.0.seal(&settings_aad(binding), &settings.to_bytes())?;
    Ok(to_bytes(binding.bucket.as_str(), binding.key, binding.upload_id, envelope, &sealed))
}

/// A record whose authenticity has not been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified {
    bucket: LogicalBucket,
    key: String,
    upload_id: String,
    envelope: Envelope,
    settings: Vec<u8>,
}

impl Unverified {
    /// Reads a record, strictly.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_RECORD {
            return Err(Malformed);
        }
        Ok(cbor::parse(bytes, Self::read, Self::to_bytes)?)
    }

    /// The bucket that the record says it is of: to find the upload by, proof of nothing.
    pub fn bucket(&self) -> &LogicalBucket {
        &self.bucket
    }

    /// The key that the record says it is of.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The upload that the record says it is of.
    pub fn upload_id(&self) -> &str {
        &self.upload_id
    }

    /// The envelope of the upload's DEK, to be opened for the names that a request gives.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The settings, under the key that came out of the envelope.
    ///
    /// # Errors
    /// [`NotAuthentic`], also when the record says another name than that of `binding`.
    pub fn open(&self, key: &UploadKey, binding: Binding<'_>) -> Result<UploadSettings, NotAuthentic> {
        let named = (self.bucket.as_str(), self.key.as_str(), self.upload_id.as_str());
        if named != (binding.bucket.as_str(), binding.key, binding.upload_id) {
            return Err(NotAuthentic);
        }
        let plaintext = key.0.open(&settings_aad(binding), &self.settings)?;
        UploadSettings::parse(&plaintext).map_err(|_| NotAuthentic)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let envelope = self.envelope.to_text();
        to_bytes(self.bucket.as_str(), &self.key, &self.upload_id, &envelope, &self.settings)
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, NotCanonical> {
        if decoder.array()? != Some(6) || decoder.u32()? != VERSION {
            return Err(NotCanonical);
        }
        let bucket = LogicalBucket::new(decoder.str()?).map_err(|_| NotCanonical)?;
        let (key, upload_id) = (name(decoder)?, name(decoder)?);
        let envelope = Envelope::parse(decoder.str()?).map_err(|_| NotCanonical)?;
        Ok(Self { bucket, key, upload_id, envelope, settings: decoder.bytes()?.to_vec() })
    }
}

/// `[version, bucket, key, upload id, envelope, sealed settings]`.
fn to_bytes(bucket: &str, key: &str, upload_id: &str, envelope: &str, settings: &[u8]) -> Vec<u8> {
    cbor::encode(|encoder| {
        encoder.array(6)?.u32(VERSION)?.str(bucket)?.str(key)?.str(upload_id)?.str(envelope)?.bytes(settings)?;
        Ok(())
    })
}

fn name(decoder: &mut Decoder<'_>) -> Result<String, NotCanonical> {
    let name = decoder.str()?;
    if (1..=LONGEST_NAME).contains(&name.len()) { Ok(name.to_owned()) } else { Err(NotCanonical) }
}

fn settings_aad(binding: Binding<'_>) -> Vec<u8> {
    let parts = [binding.purpose.as_str(), binding.bucket.as_str(), binding.key, binding.upload_id];
    prefixed("claviger/1 upload settings", &parts.map(str::as_bytes))
}

/// The parts, each after its length.
fn prefixed(label: &str, parts: &[&[u8]]) -> Vec<u8> {
    let all = std::iter::once(label.as_bytes()).chain(parts.iter().copied());
    all.flat_map(|part| widen(part.len()).to_be_bytes().into_iter().chain(part.iter().copied())).collect()
}

type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

impl UploadSettings {
    fn to_bytes(&self) -> Vec<u8> {
        cbor::encode(|encoder| self.write(encoder))
    }

    /// `[[algorithm, kind, by client], [[name, value]…], begun]`.
    fn write(&self, encoder: &mut Encoder<&mut Vec<u8>>) -> Written {
        let ChecksumChoice { algorithm, kind, by_client } = self.checksum;
        encoder.array(3)?.array(3)?.u8(algorithm.code())?.u8(kind.code())?.bool(by_client)?;
        encoder.array(widen(self.headers.len()))?;
        for (name, value) in &self.headers {
            encoder.array(2)?.str(name)?.bytes(value)?;
        }
        encoder.u64(self.begun_ms)?;
        Ok(())
    }

    fn parse(bytes: &[u8]) -> Result<Self, NotCanonical> {
        cbor::parse(bytes, Self::read, Self::to_bytes)
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, NotCanonical> {
        if decoder.array()? != Some(3) || decoder.array()? != Some(3) {
            return Err(NotCanonical);
        }
        let algorithm = Algorithm::from_code(decoder.u8()?).ok_or(NotCanonical)?;
        let kind = Kind::from_code(decoder.u8()?).ok_or(NotCanonical)?;
        let checksum = ChecksumChoice { algorithm, kind, by_client: decoder.bool()? };
        let mut headers = Vec::new();
        let count = decoder.array()?.filter(|count| *count <= widen(MOST_HEADERS)).ok_or(NotCanonical)?;
        for _ in 0..count {
            if decoder.array()? != Some(2) {
                return Err(NotCanonical);
            }
            headers.push((decoder.str()?.to_owned(), decoder.bytes()?.to_vec()));
        }
        Ok(Self { checksum, headers, begun_ms: decoder.u64()? })
    }
}

/// For fuzzing: whatever parses as a record, or as an upload's settings, is written back byte for byte.
#[doc(hidden)]
pub fn fuzz_record(bytes: &[u8]) {
    if let Ok(record) = Unverified::parse(bytes) {
        assert_eq!(record.to_bytes(), bytes);
    }
    if let Ok(settings) = UploadSettings::parse(bytes) {
        assert_eq!(settings.to_bytes(), bytes);
    }
}

/// For fuzzing: whatever parses as a marker's plaintext is written back byte for byte.
#[doc(hidden)]
pub fn fuzz_marker(bytes: &[u8]) {
    marker::fuzz(bytes);
}

#[cfg(test)]
mod tests;

//! The envelope: the one metadata header that carries an object's wrapped key and its encrypted metadata.
//!
//! **Invariant:** an envelope that was read is [`Unverified`] and gives away only what is needed to find its
//! branch key; DEK and metadata come out of [`Opened`], which exists only after the DEK was unwrapped under
//! the expected binding and its commitment compared.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minicbor::decode::Decoder;
use minicbor::encode::Encoder;
use zeroize::Zeroizing;

use super::keys::{COMMITMENT_LEN, Commitment, Dek};
use super::metadata::Metadata;
use super::widen;
use crate::cbor::{self, NotCanonical};
use crate::crypto::{AeadKey, NotAuthentic, RandomFailed, SEAL_OVERHEAD, constant_time_eq, hkdf_sha256, random_secret};
use crate::names::{BranchId, KekName, KekVersion, LogicalBucket, Purpose, WriterDomain};
use crate::secret::Secret;

/// The stored object's metadata header that holds the envelope.
pub const HEADER: &str = "x-amz-meta-claviger";
/// The version of the format that this code writes and reads.
pub const VERSION: u32 = 1;
/// Most bytes of an envelope in its header.
pub const MAX_TEXT: usize = 24 << 10;
/// Most bytes of a wrapped branch key.
const MAX_WRAPPED: usize = 1 << 10;
/// DEK and header key, sealed.
const EDEK_LEN: usize = 64 + SEAL_OVERHEAD;

/// The text is not an envelope of version 1 in its one encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored object's envelope is malformed or of an unknown version")]
pub struct Malformed;

impl From<NotCanonical> for Malformed {
    fn from(_: NotCanonical) -> Self {
        Self
    }
}

/// How the body is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// One part, written by one PUT.
    Single,
    /// The parts of a multipart upload.
    Multipart,
    /// No body at all: the plaintext is empty.
    Empty,
}

impl Layout {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Single => 0,
            Self::Multipart => 1,
            Self::Empty => 2,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Single, Self::Multipart, Self::Empty].into_iter().find(|layout| layout.code() == code)
    }
}

/// Which branch key wrapped a DEK: its KEK, identity and wrapped form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// The KEK that wraps the branch key.
    pub kek: KekName,
    /// The branch key.
    pub id: BranchId,
    /// The domain whose proxies generated it.
    pub writer: WriterDomain,
    /// The version of the KEK that wrapped it.
    pub version: KekVersion,
    /// The branch key as the custodian wrapped it: raw bytes.
    pub wrapped: Vec<u8>,
}

/// What an envelope is bound to. It comes from routing, never from the envelope.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    /// An object, or the record of an upload under way.
    pub purpose: Purpose,
    /// The bucket, by the name that the proxy's configuration has for it.
    pub bucket: &'a LogicalBucket,
    /// The object's key, as the client says it.
    pub key: &'a str,
    /// The upload, for [`Purpose::Upload`]; empty otherwise.
    pub upload_id: &'a str,
}

/// The secrets that wrap a DEK: the branch key and, with SSE-C, the client's own key.
#[derive(Clone, Copy)]
pub struct Wrapping<'a> {
    /// The branch key.
    pub branch_key: &'a Secret<32>,
    /// The key that the client sends with each request (SSE-C).
    pub customer_key: Option<&'a Secret<32>>,
}

impl Wrapping<'_> {
    fn customer_check(&self) -> Option<CustomerCheck> {
        let check = |customer: &Secret<32>| {
            *hkdf_sha256(customer.expose(), self.branch_key.expose(), b"claviger/1 customer check").expose()
        };
        self.customer_key.map(check)
    }

    fn key(&self) -> AeadKey {
        match self.customer_key {
            None => AeadKey::new(self.branch_key),
            Some(customer) => {
                AeadKey::new(&hkdf_sha256(customer.expose(), self.branch_key.expose(), b"claviger/1 customer"))
            }
        }
    }
}

/// An envelope whose authenticity has not been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified {
    branch: Branch,
    edek: [u8; EDEK_LEN],
    commitment: Commitment,
    layout: Layout,
    header: Vec<u8>,
    customer_check: Option<CustomerCheck>,
}

/// Tells a wrong customer key from tampering: 16 bytes that only both keys together give.
type CustomerCheck = [u8; 16];

/// Why an envelope does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It needs a customer key (SSE-C) and got none or another one, or it needs none and got one.
    #[error("the object was stored with another customer key, or without one")]
    CustomerKey,
    /// Anything else differs from what was written: key, binding, any field.
    #[error("the envelope is not authentic")]
    NotAuthentic,
}

impl From<NotAuthentic> for EnvelopeError {
    fn from(_: NotAuthentic) -> Self {
        Self::NotAuthentic
    }
}

/// An envelope that was opened under its binding: its DEK and metadata.
pub struct Opened {
    /// The object's key.
    pub dek: Dek,
    /// How its body is laid out.
    pub layout: Layout,
    /// The client's headers.
    pub metadata: Metadata,
}

/// Wraps `dek` for `binding` and encrypts `metadata`: the value of [`HEADER`]. Every call draws a fresh header key.
///
/// # Errors
/// [`RandomFailed`].
pub fn wrap(
    dek: &Dek,
    layout: Layout,
    metadata: &Metadata,
    branch: Branch,
    wrapping: Wrapping<'_>,
    binding: Binding<'_>,
) -> Result<String, RandomFailed> {
    wrap_with(dek, dek.commitment(), layout, metadata, branch, wrapping, binding)
}

fn wrap_with(
    dek: &Dek,
    commitment: Commitment,
    layout: Layout,
    metadata: &Metadata,
    branch: Branch,
    wrapping: Wrapping<'_>,
    binding: Binding<'_>,
) -> Result<String, RandomFailed> {
    let header_key = random_secret::<32>()?;
    let mut envelope = Unverified {
        branch,
        edek: [0; EDEK_LEN],
        commitment,
        layout,
        header: Vec::new(),
        customer_check: wrapping.customer_check(),
    };
    let keys = Zeroizing::new([dek.expose().as_slice(), header_key.expose().as_slice()].concat());
    let edek = wrapping.key().seal(&envelope.aad("claviger/1 edek", binding), &keys)?;
    envelope.edek = edek.try_into().expect("two sealed keys have this length");
    let plaintext = Zeroizing::new(metadata.to_bytes());
    envelope.header = AeadKey::new(&header_key).seal(&envelope.aad("claviger/1 header", binding), &plaintext)?;
    Ok(envelope.to_text())
}

impl Unverified {
    /// Reads the value of [`HEADER`], strictly.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.len() > MAX_TEXT {
            return Err(Malformed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Malformed)?;
        Ok(cbor::parse(&bytes, Self::read, |envelope| envelope.to_bytes())?)
    }

    /// The branch key to ask for. The caller checks the KEK's name against the bucket's list first.
    pub fn branch(&self) -> &Branch {
        &self.branch
    }

    /// The commitment, which names this object's DEK: a cache key, proof of nothing until opened.
    pub fn commitment(&self) -> &Commitment {
        &self.commitment
    }

    /// How the body claims to be laid out.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether the client's own key (SSE-C) is needed to open it.
    pub fn needs_customer_key(&self) -> bool {
        self.customer_check.is_some()
    }

    /// Unwraps the DEK under `binding`, compares its commitment, and decrypts the metadata.
    ///
    /// # Errors
    /// [`EnvelopeError`]. Bytes that are not authentic may pass for a wrong customer key, never the other way round.
    pub fn open(&self, wrapping: Wrapping<'_>, binding: Binding<'_>) -> Result<Opened, EnvelopeError> {
        let same_customer = match (self.customer_check, wrapping.customer_check()) {
            (None, None) => true,
            (Some(stored), Some(given)) => constant_time_eq(&stored, &given),
            _ => false,
        };
        if !same_customer {
            return Err(EnvelopeError::CustomerKey);
        }
        let keys = wrapping.key().open(&self.aad("claviger/1 edek", binding), &self.edek)?;
        let (dek, header_key) = keys.split_at_checked(32).ok_or(NotAuthentic)?;
        let dek = Dek::from_slice(dek).map_err(|_| NotAuthentic)?;
        if !constant_time_eq(&dek.commitment(), &self.commitment) {
            return Err(EnvelopeError::NotAuthentic);
        }
        let header_key = Secret::from_slice(header_key).map_err(|_| NotAuthentic)?;
        let header = AeadKey::new(&header_key).open(&self.aad("claviger/1 header", binding), &self.header)?;
        let metadata = Metadata::parse(&header).map_err(|_| NotAuthentic)?;
        Ok(Opened { dek, layout: self.layout, metadata })
    }

    /// The value of [`HEADER`].
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.to_bytes())
    }

    /// Length-prefixed: label, purpose, bucket, key, upload id, and the envelope without fields 3, 4 and 7.
    /// Field 3 stays outside so that rewrap may replace it.
    fn aad(&self, label: &str, binding: Binding<'_>) -> Vec<u8> {
        let bound = cbor::encode(|encoder| self.write(encoder, Fields::Bound));
        let parts = [
            label.as_bytes(),
            binding.purpose.as_str().as_bytes(),
            binding.bucket.as_str().as_bytes(),
            binding.key.as_bytes(),
            binding.upload_id.as_bytes(),
            &bound,
        ];
        let prefixed =
            parts.iter().flat_map(|part| widen(part.len()).to_be_bytes().into_iter().chain(part.iter().copied()));
        prefixed.collect()
    }

    fn to_bytes(&self) -> Vec<u8> {
        cbor::encode(|encoder| self.write(encoder, Fields::All))
    }

    fn write(
        &self,
        encoder: &mut Encoder<&mut Vec<u8>>,
        fields: Fields,
    ) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        let all = matches!(fields, Fields::All);
        encoder.map(if all { 8 } else { 5 } + u64::from(self.customer_check.is_some()))?;
        encoder.u32(0)?.u32(VERSION)?;
        encoder.u32(1)?.str(self.branch.kek.as_str())?;
        encoder.u32(2)?.array(2)?.bytes(self.branch.id.as_bytes())?.str(self.branch.writer.as_str())?;
        if all {
            encoder.u32(3)?.array(2)?.u32(self.branch.version.number())?.bytes(&self.branch.wrapped)?;
            encoder.u32(4)?.bytes(&self.edek)?;
        }
        encoder.u32(5)?.bytes(&self.commitment)?;
        encoder.u32(6)?.u8(self.layout.code())?;
        if all {
            encoder.u32(7)?.bytes(&self.header)?;
        }
        if let Some(check) = &self.customer_check {
            encoder.u32(8)?.bytes(check)?;
        }
        Ok(())
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, NotCanonical> {
        let fields = decoder.map()?.ok_or(NotCanonical)?;
        expect_field(decoder, 0)?;
        if decoder.u32()? != VERSION {
            return Err(NotCanonical);
        }
        expect_field(decoder, 1)?;
        let kek = KekName::new(decoder.str()?).map_err(|_| NotCanonical)?;
        expect_field(decoder, 2)?;
        expect_pair(decoder)?;
        let id = BranchId::from_bytes(exactly(decoder)?);
        let writer = WriterDomain::new(decoder.str()?).map_err(|_| NotCanonical)?;
        expect_field(decoder, 3)?;
        expect_pair(decoder)?;
        let version = KekVersion::new(decoder.u32()?).ok_or(NotCanonical)?;
        let wrapped = decoder.bytes()?;
        if wrapped.is_empty() || wrapped.len() > MAX_WRAPPED {
            return Err(NotCanonical);
        }
        let branch = Branch { kek, id, writer, version, wrapped: wrapped.to_vec() };
        expect_field(decoder, 4)?;
        let edek = exactly::<EDEK_LEN>(decoder)?;
        expect_field(decoder, 5)?;
        let commitment = exactly::<COMMITMENT_LEN>(decoder)?;
        expect_field(decoder, 6)?;
        let layout = Layout::from_code(decoder.u8()?).ok_or(NotCanonical)?;
        expect_field(decoder, 7)?;
        let header = decoder.bytes()?.to_vec();
        let mut customer_check = None;
        if fields == 9 {
            expect_field(decoder, 8)?;
            customer_check = Some(exactly(decoder)?);
        }
        Ok(Self { branch, edek, commitment, layout, header, customer_check })
    }
}

/// Which fields of an envelope to write.
#[derive(Clone, Copy)]
enum Fields {
    All,
    /// Those that the associated data covers: all but 3, 4 and 7.
    Bound,
}

fn expect_field(decoder: &mut Decoder<'_>, number: u32) -> Result<(), NotCanonical> {
    if decoder.u32()? == number { Ok(()) } else { Err(NotCanonical) }
}

fn expect_pair(decoder: &mut Decoder<'_>) -> Result<(), NotCanonical> {
    if decoder.array()? == Some(2) { Ok(()) } else { Err(NotCanonical) }
}

fn exactly<const N: usize>(decoder: &mut Decoder<'_>) -> Result<[u8; N], NotCanonical> {
    decoder.bytes()?.try_into().map_err(|_| NotCanonical)
}

/// For fuzzing: whatever parses as an envelope is written back byte for byte.
#[doc(hidden)]
pub fn fuzz_envelope(text: &str) {
    if let Ok(envelope) = Unverified::parse(text) {
        assert_eq!(envelope.to_text(), text);
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// As [`wrap`], but with a commitment to another key: what a malicious writer could make.
    pub(in crate::format) fn wrap_uncommitted(
        dek: &Dek,
        layout: Layout,
        branch: Branch,
        wrapping: Wrapping<'_>,
        binding: Binding<'_>,
    ) -> String {
        wrap_with(dek, [7; 32], layout, &Metadata::default(), branch, wrapping, binding).expect("random")
    }

    /// Flips one bit in field `field` (the KEK's name and the writer domain become others of the right form).
    pub(in crate::format) fn flip_field(text: &str, field: u32) -> String {
        let mut envelope = Unverified::parse(text).expect("a good envelope to spoil");
        let flip = |bytes: &mut [u8]| *bytes.last_mut().expect("not empty") ^= 1;
        match field {
            1 => envelope.branch.kek = KekName::new("other").expect("legal"),
            2 => envelope.branch.writer = WriterDomain::new("proxy/sg").expect("legal"),
            3 => flip(&mut envelope.branch.wrapped),
            4 => flip(&mut envelope.edek),
            5 => flip(&mut envelope.commitment),
            6 => envelope.layout = if envelope.layout == Layout::Single { Layout::Multipart } else { Layout::Single },
            7 => flip(&mut envelope.header),
            8 => envelope.customer_check = envelope.customer_check.is_none().then_some([1; 16]),
            _ => {
                let mut id = *envelope.branch.id.as_bytes();
                flip(&mut id);
                envelope.branch.id = BranchId::from_bytes(id);
            }
        }
        envelope.to_text()
    }
}

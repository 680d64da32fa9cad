//! What the client said about an object (user metadata, Content-Type and its like), as it lies encrypted in the envelope.

use std::collections::BTreeMap;

use minicbor::decode::Decoder;
use minicbor::encode::Encoder;

use super::checksum::Checksum;
use crate::cbor::{self, NotCanonical};

/// Most bytes of one value or name.
const MAX_FIELD: usize = 16 << 10;
/// Most entries of user metadata.
const MAX_ENTRIES: u64 = 1_000;

/// How the client asked for server-side encryption, which is how answers describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AskedEncryption {
    /// Not at all, or `aws:kms`.
    #[default]
    Kms,
    /// `AES256`.
    Aes256,
}

/// The client's headers of an object. Values are bytes, as HTTP has them; names are lower-case text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// `Content-Type`.
    pub content_type: Option<Vec<u8>>,
    /// `Content-Disposition`.
    pub content_disposition: Option<Vec<u8>>,
    /// `Content-Encoding`, without `aws-chunked`.
    pub content_encoding: Option<Vec<u8>>,
    /// `Content-Language`.
    pub content_language: Option<Vec<u8>>,
    /// `Cache-Control`.
    pub cache_control: Option<Vec<u8>>,
    /// `Expires`.
    pub expires: Option<Vec<u8>>,
    /// User metadata: name without `x-amz-meta-` → value.
    pub user: BTreeMap<String, Vec<u8>>,
    /// The checksum of an object without a body, which has no tail to keep it in.
    pub empty_checksum: Option<Checksum>,
    /// How the client asked for encryption.
    pub asked: AskedEncryption,
    /// When the object was written, by the clock of the proxy that wrote it: milliseconds since 1970 (UTC).
    pub written_ms: Option<u64>,
}

type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

impl Metadata {
    /// The six standard headers with their field numbers.
    fn standard(&self) -> [(u32, Option<&Vec<u8>>); 6] {
        [
            (0, self.content_type.as_ref()),
            (1, self.content_disposition.as_ref()),
            (2, self.content_encoding.as_ref()),
            (3, self.content_language.as_ref()),
            (4, self.cache_control.as_ref()),
            (5, self.expires.as_ref()),
        ]
    }

    /// The deterministic CBOR of the metadata.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        cbor::encode(|encoder| self.write(encoder))
    }

    fn write(&self, encoder: &mut Encoder<&mut Vec<u8>>) -> Written {
        let standard = self.standard().into_iter().filter_map(|(field, value)| Some((field, value?)));
        let fields = standard.clone().count()
            + usize::from(!self.user.is_empty())
            + usize::from(self.empty_checksum.is_some())
            + usize::from(self.asked != AskedEncryption::Kms)
            + usize::from(self.written_ms.is_some());
        encoder.map(super::widen(fields))?;
        for (field, value) in standard {
            encoder.u32(field)?.bytes(value)?;
        }
        if !self.user.is_empty() {
            // Deterministic order is that of the encoded names: shorter first, then bytewise.
            let mut names: Vec<_> = self.user.iter().collect();
            names.sort_by_key(|(name, _)| (name.len(), name.as_bytes()));
            encoder.u32(6)?.map(super::widen(names.len()))?;
            for (name, value) in names {
                encoder.str(name)?.bytes(value)?;
            }
        }
        if let Some(checksum) = &self.empty_checksum {
            encoder.u32(7)?.bytes(&checksum.to_bytes())?;
        }
        if self.asked == AskedEncryption::Aes256 {
            encoder.u32(8)?.u8(1)?;
        }
        if let Some(written_ms) = self.written_ms {
            encoder.u32(9)?.u64(written_ms)?;
        }
        Ok(())
    }

    /// The strict inverse of [`Metadata::to_bytes`].
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, NotCanonical> {
        cbor::parse(bytes, Self::read, Self::to_bytes)
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, NotCanonical> {
        let mut metadata = Self::default();
        for _ in 0..decoder.map()?.ok_or(NotCanonical)? {
            match decoder.u32()? {
                0 => metadata.content_type = Some(field(decoder)?),
                1 => metadata.content_disposition = Some(field(decoder)?),
                2 => metadata.content_encoding = Some(field(decoder)?),
                3 => metadata.content_language = Some(field(decoder)?),
                4 => metadata.cache_control = Some(field(decoder)?),
                5 => metadata.expires = Some(field(decoder)?),
                6 => metadata.user = user(decoder)?,
                7 => metadata.empty_checksum = Some(Checksum::from_bytes(decoder.bytes()?).ok_or(NotCanonical)?),
                8 => match decoder.u8()? {
                    1 => metadata.asked = AskedEncryption::Aes256,
                    _ => return Err(NotCanonical),
                },
                9 => metadata.written_ms = Some(decoder.u64()?),
                _ => return Err(NotCanonical),
            }
        }
        Ok(metadata)
    }
}

/// Bytes that may stand in a header's value (RFC 9110, section 5.5).
fn field(decoder: &mut Decoder<'_>) -> Result<Vec<u8>, NotCanonical> {
    let bytes = decoder.bytes()?;
    let legal = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    if bytes.len() > MAX_FIELD || !bytes.iter().all(legal) { Err(NotCanonical) } else { Ok(bytes.to_vec()) }
}

/// Whether it is a header's name in lower case (RFC 9110, section 5.1).
fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=MAX_FIELD).contains(&name.len()) && name.bytes().all(legal)
}

fn user(decoder: &mut Decoder<'_>) -> Result<BTreeMap<String, Vec<u8>>, NotCanonical> {
    let entries = decoder.map()?.filter(|entries| *entries <= MAX_ENTRIES).ok_or(NotCanonical)?;
    let mut user = BTreeMap::new();
    for _ in 0..entries {
        let name = decoder.str()?;
        if !is_name(name) {
            return Err(NotCanonical);
        }
        user.insert(name.to_owned(), field(decoder)?);
    }
    Ok(user)
}

/// For fuzzing: whatever parses as metadata is written back byte for byte.
#[doc(hidden)]
pub fn fuzz_metadata(bytes: &[u8]) {
    if let Ok(metadata) = Metadata::parse(bytes) {
        assert_eq!(metadata.to_bytes(), bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::checksum::{Algorithm, Kind};

    #[test]
    fn duplicates_disorder_and_unknown_fields_are_refused() {
        let canonical =
            Metadata { content_type: Some(b"a".to_vec()), expires: Some(b"b".to_vec()), ..Metadata::default() };
        assert_eq!(canonical.to_bytes(), [0xa2, 0, 0x41, b'a', 5, 0x41, b'b']);
        for bad in [
            &[0xa2, 5, 0x41, b'b', 0, 0x41, b'a'][..],
            &[0xa2, 0, 0x41, b'a', 0, 0x41, b'a'],
            &[0xa1, 10, 0x41, b'a'],
            &[0xa1, 0, 0x41, b'\n'],
            &[0xa1, 6, 0xa1, 0x61, b'A', 0x41, b'x'],
            &[0xa1, 6, 0xa1, 0x60, 0x41, b'x'],
            &[0xa1, 0, 0x58, 1, b'a'],
            &[0xa1, 0x18, 0, 0x41, b'a'],
            &[0xa1, 0, 0x61, b'a'],
            &[0xbf, 0, 0x41, b'a', 0xff],
            &[0xa1, 6, 0xa0],
            &[0xa1, 6, 0xa2, 0x61, b'b', 0x41, 1, 0x61, b'a', 0x41, 1],
            &[0xa1, 8, 0],
            &[0xa0, 0],
            &[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[],
        ] {
            assert!(Metadata::parse(bad).is_err(), "{bad:02x?}");
        }
    }

    fn value_byte() -> impl Strategy<Value = u8> {
        prop_oneof![Just(b'\t'), b' '..=b'~', 0x80u8..=0xff]
    }

    proptest! {
        #[test]
        fn round_trips(
            content_type in prop::option::of(prop::collection::vec(value_byte(), 0..300)),
            expires in prop::option::of(prop::collection::vec(value_byte(), 0..30)),
            user in prop::collection::btree_map("[a-z0-9-]{1,40}", prop::collection::vec(value_byte(), 0..80), 0..20),
            aes in any::<bool>(),
            written_ms in prop::option::of(any::<u64>()),
        ) {
            let asked = if aes { AskedEncryption::Aes256 } else { AskedEncryption::Kms };
            let empty_checksum = aes.then(|| Checksum::new(Algorithm::Crc32, Kind::FullObject, &[1, 2, 3, 4])).flatten();
            let metadata = Metadata { content_type, expires, user, asked, empty_checksum, written_ms, ..Metadata::default() };
            prop_assert_eq!(Metadata::parse(&metadata.to_bytes()), Ok(metadata));
        }

        #[test]
        fn junk_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(metadata) = Metadata::parse(&bytes) {
                prop_assert_eq!(metadata.to_bytes(), bytes);
            }
        }
    }
}

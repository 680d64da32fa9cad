//! The keyring, or one KEK of it, as bytes, which only ever leave memory encrypted.
//!
//! Deterministic CBOR: `["claviger/1 keyring", [kek, …]]` and `["claviger/1 kek", kek]`, where
//! `kek = [name, disabled, oldest opened version, [[number, created, key], …]]`, names and numbers ascending.

use std::collections::BTreeMap;
use std::convert::Infallible;

use minicbor::decode::Decoder;
use minicbor::encode::{Encoder, Error};
use zeroize::Zeroizing;

use crate::cbor::NotCanonical;
use crate::names::{KekName, KekVersion};
use crate::secret::Secret;

use super::{KEKS_MAX, Kek, Keyring, VERSIONS_MAX, Version};

const LABEL: &str = "claviger/1 keyring";
const KEK_LABEL: &str = "claviger/1 kek";
/// More than the frame takes, a KEK beside its versions, and a version.
const ROOM: [usize; 3] = [64, 128, 64];

impl Keyring {
    /// The bytes, zeroized on drop.
    pub(in crate::custodian) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let [frame, per_kek, per_version] = ROOM;
        let versions: usize = self.keks.values().map(|kek| kek.versions.len()).sum();
        let room = frame + self.keks.len() * per_kek + versions * per_version;
        // With room enough from the start, no copy of the keys is left behind by growing.
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        self.write(&mut Encoder::new(&mut *bytes)).expect("writing to memory does not fail");
        assert!(bytes.len() <= room, "the room for the keyring is reckoned too small");
        bytes
    }

    fn write(&self, e: &mut Encoder<&mut Vec<u8>>) -> Result<(), Error<Infallible>> {
        e.array(2)?.str(LABEL)?.array(self.keks.len() as u64)?;
        self.keks.iter().try_for_each(|(name, kek)| write_kek(e, name, kek))
    }

    /// The bytes of one KEK, zeroized on drop: what a store keeps as one record.
    pub(in crate::custodian) fn kek_to_bytes(&self, name: &KekName) -> Option<Zeroizing<Vec<u8>>> {
        let (name, kek) = self.keks.get_key_value(name)?;
        Some(kek_to_bytes(name, kek))
    }

    /// Takes in what [`Keyring::kek_to_bytes`] gave, in the place of the KEK of that name if there is one.
    pub(in crate::custodian) fn insert_kek(&mut self, bytes: &[u8]) -> Result<KekName, NotCanonical> {
        let mut d = Decoder::new(bytes);
        if d.array()? != Some(2) || d.str()? != KEK_LABEL {
            return Err(NotCanonical);
        }
        let (name, kek) = kek(&mut d)?;
        let full = self.keks.len() >= KEKS_MAX && !self.keks.contains_key(&name);
        if full || *kek_to_bytes(&name, &kek) != bytes {
            return Err(NotCanonical);
        }
        self.keks.insert(name.clone(), kek);
        Ok(name)
    }

    /// Reads what [`Keyring::to_bytes`] wrote, and nothing else.
    pub(in crate::custodian) fn parse(bytes: &[u8]) -> Result<Self, NotCanonical> {
        let mut d = Decoder::new(bytes);
        if d.array()? != Some(2) || d.str()? != LABEL {
            return Err(NotCanonical);
        }
        let mut keks = BTreeMap::new();
        for _ in 0..length(&mut d, KEKS_MAX)? {
            let (name, kek) = kek(&mut d)?;
            keks.insert(name, kek);
        }
        let keyring = Self { keks };
        // Anything not deterministic (order, duplicates, long forms, bytes after the end) comes out differently.
        if *keyring.to_bytes() == bytes { Ok(keyring) } else { Err(NotCanonical) }
    }
}

fn write_kek(e: &mut Encoder<&mut Vec<u8>>, name: &KekName, kek: &Kek) -> Result<(), Error<Infallible>> {
    e.array(4)?.str(name.as_str())?.bool(kek.disabled)?.u32(kek.min_decryption.number())?;
    e.array(kek.versions.len() as u64)?;
    for (number, version) in &kek.versions {
        e.array(3)?.u32(number.number())?.i64(version.created_unix_s)?.bytes(version.key.expose())?;
    }
    Ok(())
}

fn kek_to_bytes(name: &KekName, kek: &Kek) -> Zeroizing<Vec<u8>> {
    let [frame, per_kek, per_version] = ROOM;
    let room = frame + per_kek + kek.versions.len() * per_version;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    let mut write = || -> Result<(), Error<Infallible>> {
        let mut e = Encoder::new(&mut *bytes);
        e.array(2)?.str(KEK_LABEL)?;
        write_kek(&mut e, name, kek)
    };
    write().expect("writing to memory does not fail");
    assert!(bytes.len() <= room, "the room for a KEK is reckoned too small");
    bytes
}

fn length(d: &mut Decoder<'_>, most: usize) -> Result<usize, NotCanonical> {
    let length = d.array()?.and_then(|length| usize::try_from(length).ok());
    length.filter(|length| *length <= most).ok_or(NotCanonical)
}

fn number(d: &mut Decoder<'_>) -> Result<KekVersion, NotCanonical> {
    KekVersion::new(d.u32()?).ok_or(NotCanonical)
}

fn kek(d: &mut Decoder<'_>) -> Result<(KekName, Kek), NotCanonical> {
    if d.array()? != Some(4) {
        return Err(NotCanonical);
    }
    let name = KekName::new(d.str()?).map_err(|_| NotCanonical)?;
    let (disabled, min_decryption) = (d.bool()?, number(d)?);
    let mut versions = BTreeMap::new();
    for _ in 0..length(d, VERSIONS_MAX)? {
        if d.array()? != Some(3) {
            return Err(NotCanonical);
        }
        let (number, created_unix_s) = (number(d)?, d.i64()?);
        let key = Secret::from_slice(d.bytes()?).map_err(|_| NotCanonical)?;
        versions.insert(number, Version { created_unix_s, key });
    }
    let kek = Kek { disabled, min_decryption, versions };
    if kek.versions.contains_key(&min_decryption) { Ok((name, kek)) } else { Err(NotCanonical) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custodian::audit::permit;

    fn keyring() -> Keyring {
        let mut keyring = Keyring::default();
        for name in ["a", &"k".repeat(64)] {
            let name = KekName::new(name).expect("legal");
            keyring.create(&name, permit()).expect("new");
            keyring.rotate(&name, permit()).expect("rotates");
        }
        keyring
    }

    #[test]
    fn bytes_come_back_and_nothing_else_parses() {
        let keyring = keyring();
        let bytes = keyring.to_bytes();
        let parsed = Keyring::parse(&bytes).expect("parses");
        assert_eq!(parsed.list(), keyring.list());
        assert_eq!(*parsed.to_bytes(), *bytes);
        for cut in 0..bytes.len() {
            assert!(Keyring::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Keyring::parse(&[&bytes[..], b"\0"].concat()).is_err());
        assert!(Keyring::parse(&Keyring::default().to_bytes()).is_ok());
    }

    #[test]
    fn keks_come_back_one_by_one() {
        let (keyring, mut other) = (keyring(), Keyring::default());
        for info in keyring.list() {
            let bytes = keyring.kek_to_bytes(&info.name).expect("is there");
            assert_eq!(other.insert_kek(&bytes).expect("parses"), info.name);
            for cut in 0..bytes.len() {
                assert!(other.insert_kek(&bytes[..cut]).is_err(), "cut at {cut}");
            }
            assert!(other.insert_kek(&[&bytes[..], b"\0"].concat()).is_err());
        }
        assert_eq!(*other.to_bytes(), *keyring.to_bytes());
        assert!(keyring.kek_to_bytes(&KekName::new("unknown").expect("legal")).is_none());
        assert!(other.insert_kek(&keyring.to_bytes()).is_err());
    }

    #[test]
    fn a_zero_key_and_a_kek_without_versions_do_not_parse() {
        let mut keyring = Keyring::default();
        keyring.create(&KekName::new("a").expect("legal"), permit()).expect("new");
        let mut bytes = keyring.to_bytes().to_vec();
        let key = bytes.len() - 32;
        bytes[key..].fill(0);
        assert!(Keyring::parse(&bytes).is_err());
        let empty = crate::cbor::encode(|e| {
            e.array(2)?.str(LABEL)?.array(1)?;
            e.array(4)?.str("a")?.bool(false)?.u32(1)?.array(0)?;
            Ok(())
        });
        assert!(Keyring::parse(&empty).is_err());
    }
}

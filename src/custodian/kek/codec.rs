//! A KEK as bytes, which only ever leave memory encrypted: what a store keeps as one record.
//!
//! Deterministic CBOR: `["claviger/1 kek", type, derived, exportable, plaintext backup, deletable, disabled, soft-deleted,
//! seconds between rotations, oldest opened, oldest that encrypts, oldest available, [[label, value], …], [[number, created, key],
//! …]]`, labels and numbers ascending. The name is not in it: the store binds the record to it.

use std::collections::BTreeMap;
use std::convert::Infallible;

use minicbor::decode::Decoder;
use minicbor::encode::{Encoder, Error};
use zeroize::Zeroizing;

use crate::cbor::NotCanonical;
use crate::names::KekVersion;

use super::cipher::{KeyType, Material};
use super::{Kek, LABELS_MAX, Labels, VERSIONS_MAX, Version, change};

const LABEL: &str = "claviger/1 kek";
/// Parts of the outermost array.
const PARTS: u64 = 14;
/// More than the parts take beside labels and versions, a label beside its texts, and a version.
const ROOM: [usize; 3] = [128, 5, 64];

impl Kek {
    /// The bytes, zeroized on drop.
    pub(in crate::custodian) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let [frame, per_label, per_version] = ROOM;
        let labels: usize = self.labels.iter().map(|(key, value)| key.len() + value.len() + per_label).sum();
        let room = frame + labels + self.versions.len() * per_version;
        // With room enough from the start, no copy of the keys is left behind by growing.
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        self.write(&mut Encoder::new(&mut *bytes)).expect("writing to memory does not fail");
        assert!(bytes.len() <= room, "the room for a KEK is reckoned too small");
        bytes
    }

    fn write(&self, e: &mut Encoder<&mut Vec<u8>>) -> Result<(), Error<Infallible>> {
        e.array(PARTS)?.str(LABEL)?.str(self.key_type.as_str())?;
        e.bool(self.derived)?.bool(self.exportable)?.bool(self.allow_plaintext_backup)?.bool(self.deletion_allowed)?;
        e.bool(self.disabled)?.bool(self.soft_deleted)?.u64(self.auto_rotate_period_s)?;
        e.u32(self.min_decryption.number())?.u32(self.min_encryption)?.u32(self.min_available)?;
        e.array(self.labels.iter().len() as u64)?;
        for (key, value) in self.labels.iter() {
            e.array(2)?.str(key)?.str(value)?;
        }
        e.array(self.versions.len() as u64)?;
        for (number, version) in &self.versions {
            e.array(3)?.u32(number.number())?.i64(version.created_unix_s)?.bytes(version.key.expose())?;
        }
        Ok(())
    }

    /// Reads what [`Kek::to_bytes`] wrote, and nothing else.
    pub(in crate::custodian) fn parse(bytes: &[u8]) -> Result<Self, NotCanonical> {
        let kek = read(&mut Decoder::new(bytes))?;
        // Anything not deterministic (order, duplicates, long forms, bytes after the end) comes out differently.
        if kek.is_sound() && *kek.to_bytes() == bytes { Ok(kek) } else { Err(NotCanonical) }
    }

    /// Whether the invariants of a KEK hold.
    fn is_sound(&self) -> bool {
        let oldest = self.min_available.max(1);
        let consecutive = self.versions.keys().map(|number| number.number()).eq((oldest..=u32::MAX).take(self.versions.len()));
        let Some((latest, _)) = self.versions.last_key_value().filter(|_| consecutive) else { return false };
        let opened = self.min_decryption.number();
        let encrypting = match self.min_encryption {
            0 => self.min_available == 0,
            min_encryption => (opened..=latest.number()).contains(&min_encryption),
        };
        encrypting
            && (oldest..=latest.number()).contains(&opened)
            && change::check_period(self.auto_rotate_period_s).is_ok()
    }
}

fn read(d: &mut Decoder<'_>) -> Result<Kek, NotCanonical> {
    if d.array()? != Some(PARTS) || d.str()? != LABEL {
        return Err(NotCanonical);
    }
    let key_type = KeyType::from_name(d.str()?).ok_or(NotCanonical)?;
    Ok(Kek {
        key_type,
        derived: d.bool()?,
        exportable: d.bool()?,
        allow_plaintext_backup: d.bool()?,
        deletion_allowed: d.bool()?,
        disabled: d.bool()?,
        soft_deleted: d.bool()?,
        auto_rotate_period_s: d.u64()?,
        min_decryption: number(d)?,
        min_encryption: d.u32()?,
        min_available: d.u32()?,
        labels: labels(d)?,
        versions: versions(d, key_type)?,
    })
}

fn labels(d: &mut Decoder<'_>) -> Result<Labels, NotCanonical> {
    let mut labels = BTreeMap::new();
    for _ in 0..length(d, LABELS_MAX)? {
        if d.array()? != Some(2) {
            return Err(NotCanonical);
        }
        labels.insert(d.str()?.to_owned(), d.str()?.to_owned());
    }
    Labels::new(labels).map_err(|_| NotCanonical)
}

fn versions(d: &mut Decoder<'_>, key_type: KeyType) -> Result<BTreeMap<KekVersion, Version>, NotCanonical> {
    let mut versions = BTreeMap::new();
    for _ in 0..length(d, VERSIONS_MAX)? {
        if d.array()? != Some(3) {
            return Err(NotCanonical);
        }
        let (number, created_unix_s) = (number(d)?, d.i64()?);
        let key = Material::from_slice(key_type, d.bytes()?).map_err(|_| NotCanonical)?;
        versions.insert(number, Version { created_unix_s, key });
    }
    Ok(versions)
}

fn length(d: &mut Decoder<'_>, most: usize) -> Result<usize, NotCanonical> {
    let length = d.array()?.and_then(|length| usize::try_from(length).ok());
    length.filter(|length| *length <= most).ok_or(NotCanonical)
}

fn number(d: &mut Decoder<'_>) -> Result<KekVersion, NotCanonical> {
    KekVersion::new(d.u32()?).ok_or(NotCanonical)
}

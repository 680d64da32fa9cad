//! A KEK as bytes, which only ever leave memory encrypted: what a store keeps as one record.
//!
//! Deterministic CBOR: `["claviger/1 kek", type, derived, exportable, plaintext backup, deletable, disabled, soft-deleted,
//! seconds between rotations, oldest opened, oldest that encrypts, oldest available, [[label, value], …], [[number, created, key],
//! …]]`, labels and numbers ascending. The name is not in it: the store binds the record to it. One that came from a backup, and whose
//! ledger is not known to be whole, has `"claviger/2 kek"` and, before the labels, its newest version in that backup.

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
const LABEL_RESTORED: &str = "claviger/2 kek";
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
        match self.restored_through {
            None => e.array(PARTS)?.str(LABEL)?,
            Some(_) => e.array(PARTS + 1)?.str(LABEL_RESTORED)?,
        };
        e.str(self.key_type.as_str())?;
        e.bool(self.derived)?.bool(self.exportable)?.bool(self.allow_plaintext_backup)?.bool(self.deletion_allowed)?;
        e.bool(self.disabled)?.bool(self.soft_deleted)?.u64(self.auto_rotate_period_s)?;
        e.u32(self.min_decryption.number())?.u32(self.min_encryption)?.u32(self.min_available)?;
        if let Some(through) = self.restored_through {
            e.u32(through.number())?;
        }
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
        let consecutive =
            self.versions.keys().map(|number| number.number()).eq((oldest..=u32::MAX).take(self.versions.len()));
        let Some((latest, _)) = self.versions.last_key_value().filter(|_| consecutive) else { return false };
        let opened = self.min_decryption.number();
        let encrypting = match self.min_encryption {
            0 => self.min_available == 0,
            min_encryption => (opened..=latest.number()).contains(&min_encryption),
        };
        encrypting
            && (oldest..=latest.number()).contains(&opened)
            && change::check_period(self.auto_rotate_period_s).is_ok()
            && self.restored_through.is_none_or(|through| through <= *latest)
    }
}

fn read(d: &mut Decoder<'_>) -> Result<Kek, NotCanonical> {
    let is_restored = match (d.array()?, d.str()?) {
        (Some(PARTS), LABEL) => false,
        (Some(parts), LABEL_RESTORED) if parts == PARTS + 1 => true,
        _ => return Err(NotCanonical),
    };
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
        restored_through: if is_restored { Some(number(d)?) } else { None },
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{kek, of_type, types};
    use super::*;
    use crate::custodian::audit::permit;
    use crate::custodian::kek::{KeyChange, KeyOptions};
    use crate::names::KekName;

    fn labels(count: usize) -> Labels {
        let label = |n: usize| (format!("{n:k>31}"), "v".repeat(63));
        Labels::new((0..count).map(label).collect()).expect("within bounds")
    }

    /// A KEK that takes as much room as one with `versions` versions can.
    fn largest(versions: i64) -> Kek {
        let options =
            KeyOptions { labels: labels(LABELS_MAX), auto_rotate_period_s: u64::MAX, ..KeyOptions::default() };
        let mut kek = kek(&options);
        for _ in 1..versions {
            kek.rotate(i64::MIN, permit()).expect("rotates");
        }
        kek
    }

    /// What is like `kek` but for the change, if that parses.
    fn changed(kek: &Kek, change: impl FnOnce(&mut Kek)) -> Option<Kek> {
        let mut copy = Kek::parse(&kek.to_bytes()).expect("parses");
        change(&mut copy);
        Kek::parse(&copy.to_bytes()).ok()
    }

    #[test]
    fn bytes_come_back_and_nothing_else_parses() {
        let name = KekName::new("records").expect("legal");
        let mut restored = largest(2);
        restored.mark_restored();
        for kek in [restored, largest(3), largest(1)].into_iter().chain(types().into_iter().map(of_type)) {
            let bytes = kek.to_bytes();
            let parsed = Kek::parse(&bytes).expect("parses");
            assert_eq!(parsed.info(&name), kek.info(&name));
            assert_eq!(*parsed.to_bytes(), *bytes);
            for cut in 0..bytes.len() {
                assert!(Kek::parse(&bytes[..cut]).is_err(), "cut at {cut}");
            }
            assert!(Kek::parse(&[&bytes[..], b"\0"].concat()).is_err());
        }
    }

    #[test]
    fn the_room_is_enough_for_the_largest() {
        let mut kek = largest(1_000);
        // Numbers of five bytes each.
        kek.versions = (0u32..)
            .zip(std::mem::take(&mut kek.versions).into_values())
            .map(|(n, version)| (KekVersion::new(u32::MAX - 999 + n).expect("not zero"), version))
            .collect();
        let oldest = u32::MAX - 999;
        (kek.min_available, kek.min_encryption) = (oldest, u32::MAX);
        kek.min_decryption = KekVersion::new(oldest).expect("not zero");
        assert!(Kek::parse(&kek.to_bytes()).is_ok());
        // And there is no number after the last.
        let change = KeyChange { min_decryption_version: Some(u32::MAX), ..KeyChange::default() };
        kek.configure(&change, permit()).expect("is a version");
        kek.trim(u32::MAX, permit()).expect("in order");
        assert!(Kek::parse(&kek.to_bytes()).is_ok());
        assert!(kek.rotate(0, permit()).is_err());
        kek.mark_restored();
        assert!(Kek::parse(&kek.to_bytes()).is_ok());
    }

    #[test]
    fn the_invariants_are_checked() {
        let three = largest(3);
        let number = |number| KekVersion::new(number).expect("not zero");
        assert!(changed(&three, |_| ()).is_some());
        assert!(changed(&three, |kek| kek.versions.clear()).is_none());
        assert!(changed(&three, |kek| drop(kek.versions.remove(&number(1)))).is_none());
        assert!(changed(&three, |kek| drop(kek.versions.remove(&number(2)))).is_none());
        assert!(changed(&three, |kek| kek.min_decryption = number(4)).is_none());
        assert!(changed(&three, |kek| kek.min_encryption = 4).is_none());
        assert!(changed(&three, |kek| (kek.min_decryption, kek.min_encryption) = (number(3), 2)).is_none());
        assert!(changed(&three, |kek| kek.min_available = 2).is_none());
        assert!(changed(&three, |kek| kek.auto_rotate_period_s = 1).is_none());
        assert!(changed(&three, |kek| kek.restored_through = Some(number(3))).is_some());
        assert!(changed(&three, |kek| kek.restored_through = Some(number(4))).is_none());
        let trimmed = |min_decryption, min_encryption, min_available| {
            changed(&three, |kek| {
                kek.versions.remove(&number(1));
                (kek.min_decryption, kek.min_encryption) = (number(min_decryption), min_encryption);
                kek.min_available = min_available;
            })
        };
        assert!(trimmed(2, 2, 2).is_some());
        assert!(trimmed(2, 0, 2).is_none() && trimmed(1, 2, 2).is_none() && trimmed(2, 2, 0).is_none());
        assert!(changed(&three, |kek| kek.key_type = KeyType::Aes128Gcm96).is_none(), "of another length");
    }

    #[test]
    fn a_zero_key_and_other_labels_do_not_parse() {
        let mut bytes = of_type(KeyType::Aes256Gcm96).to_bytes().to_vec();
        let key = bytes.len() - 32;
        bytes[key..].fill(0);
        assert!(Kek::parse(&bytes).is_err());
        let kek = kek(&KeyOptions { labels: labels(2), ..KeyOptions::default() });
        let bytes = kek.to_bytes();
        let at = memchr::memmem::find(&bytes, b"v").expect("is there") + 1;
        for (place, byte) in [(at, b' '), (3, b'C'), (0, 0x8f)] {
            let mut other = bytes.to_vec();
            other[place] = byte;
            assert!(Kek::parse(&other).is_err(), "{byte} at {place}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_written_back(at in 0usize..300, byte: u8, versions in 1i64..4) {
            let mut bytes = largest(versions).to_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            crate::custodian::kek::fuzz_kek(&bytes);
        }

        #[test]
        fn every_kek_comes_back(
            key_type in proptest::sample::select(types()),
            flags: [bool; 6],
            rotations in 0u32..5,
            minima in [0u32..6, 0u32..6, 0u32..6],
            auto_rotate_period_s in prop_oneof![Just(0), 3600u64..],
            label in "[a-z0-9_-]{1,31}",
            value in "[A-Za-z0-9._-]{1,63}",
        ) {
            let labels = Labels::new(BTreeMap::from([(label, value)])).expect("legal");
            let [derived, exportable, allow_plaintext_backup, deletion_allowed, disabled, soft_deleted] = flags;
            let options =
                KeyOptions { key_type, derived, exportable, allow_plaintext_backup, auto_rotate_period_s, labels };
            let mut kek = kek(&options);
            for _ in 0..rotations {
                kek.rotate(i64::from(rotations) - 2, permit()).expect("rotates");
            }
            let change = KeyChange {
                min_decryption_version: Some(minima[0]),
                min_encryption_version: Some(minima[1]),
                deletion_allowed: Some(deletion_allowed),
                ..KeyChange::default()
            };
            // Whether these are taken or refused, a sound KEK stays one.
            drop(kek.configure(&change, permit()));
            drop(kek.trim(minima[2], permit()));
            kek.set_disabled(disabled, permit());
            kek.set_soft_deleted(soft_deleted, permit());
            let name = KekName::new("records").expect("legal");
            let parsed = Kek::parse(&kek.to_bytes()).expect("parses");
            prop_assert_eq!(parsed.info(&name), kek.info(&name));
        }
    }
}

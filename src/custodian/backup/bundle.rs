//! What is encrypted in a backup: the KEKs with their names, as deterministic CBOR in zeroized memory.

use std::convert::Infallible;

use minicbor::decode::Decoder;
use minicbor::encode::{Encoder, Error};
use zeroize::Zeroizing;

use crate::custodian::kek::Kek;
use crate::names::KekName;

use super::{BACKUP_KEKS_MAX, Restorable};

const LABEL: &str = "claviger/1 backup bundle";
/// More than all but names and KEKs takes, and more than a pair takes besides.
const ROOM: [usize; 2] = [64, 16];

/// `["claviger/1 backup bundle", [[name, KEK]…]]`.
pub(super) fn write<'a>(keks: impl Iterator<Item = (&'a KekName, Zeroizing<Vec<u8>>)>) -> Zeroizing<Vec<u8>> {
    let keks: Vec<_> = keks.collect();
    let [frame, per_kek] = ROOM;
    let room = frame + keks.iter().map(|(name, kek)| name.as_str().len() + kek.len() + per_kek).sum::<usize>();
    // With room enough from the start, no copy of the keys is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    let mut write = || -> Result<(), Error<Infallible>> {
        let mut e = Encoder::new(&mut *bytes);
        e.array(2)?.str(LABEL)?.array(keks.len() as u64)?;
        for (name, kek) in &keks {
            e.array(2)?.str(name.as_str())?.bytes(kek)?;
        }
        Ok(())
    };
    write().expect("writing to memory does not fail");
    assert!(bytes.len() <= room, "the room for a bundle is reckoned too small");
    bytes
}

/// Reads what [`write`] wrote. It is authentic; `None` means that a later version wrote it.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<Restorable>> {
    let mut d = Decoder::new(bytes);
    if d.array().ok()? != Some(2) || d.str().ok()? != LABEL {
        return None;
    }
    let count = d.array().ok()?.and_then(|count| usize::try_from(count).ok()).filter(|it| *it <= BACKUP_KEKS_MAX)?;
    let mut keks: Vec<Restorable> = Vec::with_capacity(count);
    for _ in 0..count {
        if d.array().ok()? != Some(2) {
            return None;
        }
        let name = KekName::new(d.str().ok()?).ok()?;
        let bytes = Zeroizing::new(d.bytes().ok()?.to_vec());
        let kek = Kek::parse(&bytes).ok()?;
        let (labels, oldest, latest) = (kek.labels().clone(), kek.oldest(), kek.latest());
        if keks.iter().any(|known| known.name == name) {
            return None;
        }
        keks.push(Restorable { name, labels, oldest, latest, bytes });
    }
    (d.position() == bytes.len()).then_some(keks)
}

/// What parses as the contents of a backup is written as contents that read as the same.
#[doc(hidden)]
pub fn fuzz_bundle(bytes: &[u8]) {
    if let Some(keks) = read(bytes) {
        let written = write(keks.iter().map(|one| (&one.name, one.bytes.clone())));
        let again = read(&written).expect("what is written is a bundle");
        let names = |keks: &[Restorable]| keks.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&again), names(&keks));
        assert!(keks.iter().zip(&again).all(|(one, other)| one.bytes == other.bytes));
    }
}

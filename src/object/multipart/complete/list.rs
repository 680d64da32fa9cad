//! The client's list of parts, and the parts that it means.
//!
//! **Invariant:** the ETag in the list names one attempt of a part; what counts of it is what its marker says, which only
//! we can have written.

use std::ops::ControlFlow;

use crate::format::layout::{PartEntry, PartMap};
use crate::format::segment::AttemptId;
use crate::format::size;
use crate::format::upload::PartRecord;
use crate::s3::checksum::{Algorithm, Digest};
use crate::s3::xml::{AskedPart, listed_parts};

use super::super::super::Objects;
use super::super::super::error::Error;
use super::super::state::OpenUpload;
use super::CompleteError;

/// A part that the client asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) number: u32,
    pub(super) attempt: AttemptId,
    /// What the client says are its checksums.
    pub(super) checksums: Vec<(Algorithm, Digest)>,
}

/// The parts that a document asks for, in ascending order. Of a number that stands there twice in a row the last counts,
/// as storage servers have it: clients that send a part again append to their list.
pub(super) fn wanted(document: &[u8]) -> Result<Vec<Wanted>, Error> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for part in &listed_parts(document).map_err(Error::Xml)? {
        match wanted.last().map_or(0, |before| before.number) {
            before if before > part.number => return Err(CompleteError::Order(part.number).into()),
            before if before == part.number => drop(wanted.pop()),
            _ => {}
        }
        wanted.push(one(part)?);
    }
    Ok(wanted)
}

fn one(part: &AskedPart) -> Result<Wanted, Error> {
    let attempt = attempt_of(&part.etag).ok_or(CompleteError::Part(part.number))?;
    let checksums = part.checksums.iter().map(|(algorithm, text)| {
        let digest = Digest::from_base64(*algorithm, text).ok_or(CompleteError::ChecksumValue(*algorithm))?;
        Ok((*algorithm, digest))
    });
    Ok(Wanted { number: part.number, attempt, checksums: checksums.collect::<Result<_, CompleteError>>()? })
}

/// The attempt that a part's ETag names, quoted or not: `<32 digits>-0`.
fn attempt_of(etag: &str) -> Option<AttemptId> {
    let etag = etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"')).unwrap_or(etag);
    let digits = etag.strip_suffix("-0")?;
    let digits =
        Some(digits).filter(|digits| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u128::from_str_radix(digits, 16).ok().map(|attempt| AttemptId::from_bytes(attempt.to_be_bytes()))
}

/// Whether a part list is of the parts that are wanted.
pub(super) fn is_of(entries: impl Iterator<Item = PartEntry>, wanted: &[Wanted]) -> bool {
    let listed = wanted.iter().map(|part| (part.number, part.attempt));
    entries.map(|entry| (entry.number, entry.attempt)).eq(listed)
}

impl Objects {
    /// The markers of the parts that are wanted, in that order, and `wanted` as it came out.
    ///
    /// A client that sends the same bytes again may list the first attempt's ETag, since with other servers it is that of
    /// the second. The storage server has the second alone, so that one counts, if length and checksum are the same. Where others
    /// can make bytes with that checksum, it has to come from the same client, too.
    pub(super) async fn wanted_parts(
        &self,
        upload: &OpenUpload,
        wanted: &mut [Wanted],
    ) -> Result<Vec<PartRecord>, Error> {
        let mut attempts: Vec<Attempts> = wanted.iter().map(|_| Attempts::default()).collect();
        let take = |part: PartRecord, name: &str| {
            let at = wanted.binary_search_by_key(&part.entry.number, |wanted| wanted.number);
            if let Some((wanted, attempts)) = at.ok().and_then(|at| wanted.get(at).zip(attempts.get_mut(at))) {
                attempts.take(Attempt { part, name: name.to_owned() }, wanted.attempt);
            }
            ControlFlow::Continue(())
        };
        self.markers(upload, 0, take).await?;
        let mut parts = Vec::with_capacity(wanted.len());
        for (wanted, attempts) in wanted.iter_mut().zip(attempts) {
            let (named, again) = attempts.named_and_again().ok_or(CompleteError::Part(wanted.number))?;
            let part = match again {
                Some(again) if self.is_same(upload, &named, &again).await? => again.part,
                _ => named.part,
            };
            wanted.attempt = part.entry.attempt;
            parts.push(part);
        }
        Ok(parts)
    }

    /// Whether `again`, of the same length and checksum, is `named` once more.
    async fn is_same(&self, upload: &OpenUpload, named: &Attempt, again: &Attempt) -> Result<bool, Error> {
        if again.part.checksum.as_ref().is_some_and(|checksum| checksum.algorithm().is_collision_resistant()) {
            return Ok(true);
        }
        let sender = self.sender(upload, &named.part, &named.name).await?;
        Ok(sender.is_some() && sender == self.sender(upload, &again.part, &again.name).await?)
    }
}

/// An attempt at a part.
#[derive(Clone)]
struct Attempt {
    part: PartRecord,
    /// What its marker is called.
    name: String,
}

/// What there is of a part.
#[derive(Default)]
struct Attempts {
    /// The attempt that the client names.
    named: Option<Attempt>,
    /// The last one.
    newest: Option<Attempt>,
}

impl Attempts {
    fn take(&mut self, attempt: Attempt, named: AttemptId) {
        if attempt.part.entry.attempt == named {
            self.named = Some(attempt.clone());
        }
        if self.newest.as_ref().is_none_or(|newest| newest.part.written_ms < attempt.part.written_ms) {
            self.newest = Some(attempt);
        }
    }

    /// The one that the client names, and a later one that may be the same once more. A held part is there in every attempt.
    fn named_and_again(self) -> Option<(Attempt, Option<Attempt>)> {
        let named = self.named?;
        let part = &named.part;
        let again = self.newest.filter(|Attempt { part: newest, .. }| {
            let other = newest.entry.attempt != part.entry.attempt && !part.held;
            let checksums = part.checksum.is_some() && part.checksum == newest.checksum;
            other && checksums && part.entry.length == newest.entry.length
        });
        Some((named, again))
    }
}

/// The part map of the object, if every part but the last is long enough.
pub(super) fn map_of(parts: &[PartRecord]) -> Result<PartMap, CompleteError> {
    let (_, all_but_last) = parts.split_last().ok_or(CompleteError::TooLarge)?;
    for part in all_but_last {
        let (number, length) = (part.entry.number, part.entry.length);
        if length < size::MIN_PART {
            return Err(CompleteError::TooSmall { number, length, least: size::MIN_PART });
        }
    }
    let entries: Vec<PartEntry> = parts.iter().map(|part| part.entry).collect();
    PartMap::new(&entries).ok_or(CompleteError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::checksum::{Algorithm as Kept, Checksum, Kind};

    fn attempt(id: u8, length: u64, checksum: u8, written_ms: u64) -> PartRecord {
        let checksum = Checksum::new(Kept::Crc32, Kind::FullObject, &[checksum; 4]);
        let entry = PartEntry { number: 1, length, attempt: AttemptId::from_bytes([id; 16]), checksum: [0; 32] };
        PartRecord { entry, held: false, written_ms, etag: "e".into(), checksum }
    }

    #[test]
    fn what_was_sent_again_may_stand_for_the_first() {
        let counts = |records: &[PartRecord]| {
            let mut attempts = Attempts::default();
            for part in records.iter().cloned() {
                attempts.take(Attempt { part, name: String::new() }, AttemptId::from_bytes([1; 16]));
            }
            attempts.named_and_again().map(|(named, again)| again.unwrap_or(named).part.entry.attempt.as_bytes()[0])
        };
        let first = attempt(1, 9, 5, 100);
        assert_eq!(counts(&[]), None);
        assert_eq!(counts(&[attempt(2, 9, 5, 200)]), None);
        assert_eq!(counts(&[attempt(2, 9, 5, 200), first.clone()]), Some(2));
        assert_eq!(counts(&[attempt(2, 9, 5, 50), first.clone()]), Some(1));
        for other in [attempt(2, 9, 6, 200), attempt(2, 8, 5, 200)] {
            assert_eq!(counts(&[first.clone(), other]), Some(1));
        }
        let held = |record: PartRecord| PartRecord { held: true, ..record };
        assert_eq!(counts(&[held(first), held(attempt(2, 9, 5, 200))]), Some(1));
    }

    fn document(parts: &[(u32, &str)]) -> Vec<u8> {
        let parts: String = parts
            .iter()
            .map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"))
            .collect();
        format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>").into_bytes()
    }

    const ETAG: &str = "\"000102030405060708090a0b0c0d0e0f-0\"";

    #[test]
    fn an_etag_names_an_attempt() {
        let attempt = AttemptId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!((attempt_of(ETAG), attempt_of(ETAG.trim_matches('"'))), (Some(attempt), Some(attempt)));
        for other in
            ["", "\"\"", "-0", "000102030405060708090a0b0c0d0e0f", "0001-0", "zz0102030405060708090a0b0c0d0e0f-0"]
        {
            assert_eq!(attempt_of(other), None, "{other}");
        }
    }

    #[test]
    fn lists_rise() {
        assert_eq!(wanted(&document(&[(1, ETAG), (7, ETAG), (10_000, ETAG)])).expect("rises").len(), 3);
        let again = wanted(&document(&[(2, "\"ff0102030405060708090a0b0c0d0e0f-0\""), (2, ETAG)])).expect("rises");
        assert_eq!((again.len(), Some(again[0].attempt)), (1, attempt_of(ETAG)));
        let falling = wanted(&document(&[(2, ETAG), (1, ETAG)]));
        assert!(matches!(falling, Err(Error::Complete(CompleteError::Order(1)))));
        assert!(matches!(wanted(&document(&[(3, "x")])), Err(Error::Complete(CompleteError::Part(3)))));
    }
}

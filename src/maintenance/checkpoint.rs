//! Checkpoints: up to where a job has treated everything, sealed in the state bucket.
//!
//! They are bound to bucket and job, and to what the job goes over; another one, or one that was edited, is no checkpoint. The storage
//! server's operator can put an older one of the same job back, which makes work twice; so that this does not spare a later run its work,
//! a checkpoint counts for [`GOOD_FOR_MS`] only, and, however often one run goes on where another one ended, for
//! [`GOOD_SINCE_BEGIN_MS`] after the first of them began; and whoever resumes is told from where and since when.
//!
//! Up to where all is treated says something only of a listing in the order of the keys: of another one, no checkpoints are kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use minicbor::decode::Decoder;
use minicbor::encode::Encoder;

use crate::cbor::{self, NotCanonical};
use crate::crypto::sha256;
use crate::object::Objects;
use crate::object::error::Error;
use crate::s3::sigv4::hex;
use crate::s3::target::LONGEST_KEY;

use super::frontier::MOST_NOTES;
use super::job::{Patience, Scope};
use super::progress::Counts;
use super::work::{CLASSES_MAX, Work};

/// How long after it was written a checkpoint counts: a day.
pub const GOOD_FOR_MS: u64 = 24 * 3600 * 1000;
/// How long after its first run began a checkpoint counts: a week.
pub const GOOD_SINCE_BEGIN_MS: u64 = 7 * GOOD_FOR_MS;
/// How far the clocks of two machines may be apart.
const MARGIN_MS: u64 = 5 * 60 * 1000;
/// Most bytes of a checkpoint.
const MOST_BYTES: usize = 1 << 20;
/// Most characters of a finding's text.
const LONGEST_TEXT: usize = 500;
/// Names the layout.
const LABEL: &str = "claviger/2 checkpoint";

/// What was found, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The key.
    pub key: String,
    /// The version, where versions are gone over.
    pub version: Option<String>,
    /// Why.
    pub error: String,
}

impl Note {
    /// The error with its causes, and not too long.
    pub fn new(key: &str, version: Option<&str>, error: &(dyn std::error::Error + 'static)) -> Self {
        let causes = std::iter::successors(Some(error), |error| error.source());
        let mut text = String::new();
        for cause in causes.map(ToString::to_string) {
            // Some errors say their cause themselves.
            if !text.ends_with(&cause) {
                text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
            }
        }
        let error = text.chars().take(LONGEST_TEXT).collect();
        Self { key: key.to_owned(), version: version.map(str::to_owned), error }
    }
}

/// How far a run has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// All keys up to this one, in the storage server's order, are treated.
    pub reached: String,
    /// When the run began: milliseconds since 1970 (UTC).
    pub begun_ms: u64,
    /// When this was written.
    pub written_ms: u64,
    /// What was counted up to there.
    pub counts: Counts,
    /// What was found up to there: the first hundred.
    pub notes: Vec<Note>,
}

/// Where the checkpoints of a run are.
#[derive(Clone)]
pub struct Checkpoints {
    objects: Arc<Objects>,
    scope: Scope,
    name: String,
    /// Job, bucket, prefix, versions, and parameters.
    run: Vec<u8>,
}

impl Checkpoints {
    /// Those of `work` over `scope`: `job/NAME/HASH/checkpoint`.
    pub fn new(objects: Arc<Objects>, scope: &Scope, work: &dyn Work) -> Self {
        let parameters = work.parameters();
        let run = cbor::encode(|e| {
            e.array(5)?.str(work.name())?.str(scope.bucket.as_str())?.str(&scope.prefix)?.bool(scope.versions)?;
            e.str(&parameters)?;
            Ok(())
        });
        let name = format!("job/{}/{}/checkpoint", work.name(), hex(&sha256(&run)[..16]));
        Self { objects, scope: scope.clone(), name, run }
    }

    /// The name of the entry in the state bucket.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The checkpoint that counts, if there is one. What is there and does not count is told in the log.
    ///
    /// # Errors
    /// [`Error`] when it cannot be found out.
    pub async fn load(&self, patience: Patience) -> Result<Option<Checkpoint>, Error> {
        let read = || self.objects.open_entry(&self.scope.bucket, &self.name, MOST_BYTES);
        let bytes = match patience.with(read).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(
                    name = self.name,
                    error,
                    "there is something that is no checkpoint of ours; the job begins anew"
                );
                return Ok(None);
            }
        };
        let checkpoint = Checkpoint::parse(&bytes, &self.run);
        let now = now_ms();
        match checkpoint {
            Ok(checkpoint) if checkpoint.counts_at(now) => Ok(Some(checkpoint)),
            Ok(_) => {
                tracing::warn!(
                    name = self.name,
                    "the checkpoint is more than a day old, its first run began more than a week ago, or it is from the future; the job begins anew"
                );
                Ok(None)
            }
            Err(NotCanonical) => {
                tracing::warn!(name = self.name, "the checkpoint is another run's; the job begins anew");
                Ok(None)
            }
        }
    }

    /// Writes a checkpoint over the one before.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn save(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let bytes = Bytes::from(checkpoint.to_bytes(&self.run));
        self.objects.seal_entry(&self.scope.bucket, &self.name, bytes).await
    }

    /// Deletes it, if there is one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete(&self) -> Result<(), Error> {
        self.objects.remove_entry(&self.name).await
    }
}

/// Milliseconds since 1970 (UTC).
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Checkpoint {
    /// Whether neither it nor its first run is too old at that moment or from its future.
    fn counts_at(&self, now_ms: u64) -> bool {
        let is_past = |moment: u64| moment <= now_ms.saturating_add(MARGIN_MS);
        let is_young = |moment: u64, good_for: u64| is_past(moment) && now_ms.saturating_sub(moment) <= good_for;
        is_young(self.written_ms, GOOD_FOR_MS) && is_young(self.begun_ms, GOOD_SINCE_BEGIN_MS)
    }

    /// `[label, run, reached, begun, written, [counts…], [[key, version, error]…], [[class, count]…]]`.
    fn to_bytes(&self, run: &[u8]) -> Vec<u8> {
        cbor::encode(|e| {
            e.array(8)?.str(LABEL)?.bytes(run)?.str(&self.reached)?.u64(self.begun_ms)?.u64(self.written_ms)?;
            self.write_counts(e)?;
            e.array(self.notes.len() as u64)?;
            for Note { key, version, error } in &self.notes {
                e.array(3)?.str(key)?;
                match version {
                    Some(version) => e.str(version)?,
                    None => e.null()?,
                };
                e.str(error)?;
            }
            e.array(self.counts.classes.len() as u64)?;
            for (class, count) in &self.counts.classes {
                e.array(2)?.u64(*class)?.u64(*count)?;
            }
            Ok(())
        })
    }

    fn write_counts(
        &self,
        e: &mut Encoder<&mut Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        let counts = self.counts.named();
        e.array(counts.len() as u64)?;
        for (_, count) in counts {
            e.u64(count)?;
        }
        Ok(())
    }

    fn parse(bytes: &[u8], run: &[u8]) -> Result<Self, NotCanonical> {
        cbor::parse(bytes, |decoder| Self::read(decoder, run), |checkpoint| checkpoint.to_bytes(run))
    }

    fn read(d: &mut Decoder<'_>, run: &[u8]) -> Result<Self, NotCanonical> {
        if d.array()? != Some(8) || d.str()? != LABEL || d.bytes()? != run {
            return Err(NotCanonical);
        }
        let reached = d.str()?.to_owned();
        if reached.len() > LONGEST_KEY {
            return Err(NotCanonical);
        }
        let (begun_ms, written_ms) = (d.u64()?, d.u64()?);
        if d.array()? != Some(6) {
            return Err(NotCanonical);
        }
        let mut counts = Counts {
            listed: d.u64()?,
            done: d.u64()?,
            skipped: d.u64()?,
            overtaken: d.u64()?,
            failed: d.u64()?,
            bytes: d.u64()?,
            classes: BTreeMap::new(),
        };
        let count = d.array()?.and_then(|count| usize::try_from(count).ok()).filter(|count| *count <= MOST_NOTES);
        let mut notes = Vec::new();
        for _ in 0..count.ok_or(NotCanonical)? {
            if d.array()? != Some(3) {
                return Err(NotCanonical);
            }
            let key = d.str()?.to_owned();
            let version = match d.datatype()? {
                minicbor::data::Type::Null => {
                    d.null()?;
                    None
                }
                _ => Some(d.str()?.to_owned()),
            };
            notes.push(Note { key, version, error: d.str()?.to_owned() });
        }
        let count = d.array()?.and_then(|count| usize::try_from(count).ok()).filter(|count| *count <= CLASSES_MAX);
        for _ in 0..count.ok_or(NotCanonical)? {
            if d.array()? != Some(2) {
                return Err(NotCanonical);
            }
            counts.classes.insert(d.u64()?, d.u64()?);
        }
        Ok(Self { reached, begun_ms, written_ms, counts, notes })
    }
}

/// What parses as a checkpoint is written back byte for byte.
#[doc(hidden)]
pub fn fuzz_checkpoint(bytes: &[u8]) {
    if let Ok(checkpoint) = Checkpoint::parse(bytes, b"run") {
        assert_eq!(checkpoint.to_bytes(b"run"), bytes);
        assert!(checkpoint.notes.len() <= MOST_NOTES && checkpoint.counts.classes.len() <= CLASSES_MAX);
        let _ = checkpoint.counts_at(checkpoint.written_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        let notes = vec![
            Note { key: "a".into(), version: None, error: "bad".into() },
            Note { key: "b".into(), version: Some("v1".into()), error: "worse".into() },
        ];
        let classes = [(0, 7), (9, 8)].into();
        let counts = Counts { listed: 1, done: 2, skipped: 3, overtaken: 4, failed: 5, bytes: 6, classes };
        Checkpoint { reached: "m/\u{f6}".into(), begun_ms: 1_000, written_ms: 2_000, counts, notes }
    }

    #[test]
    fn what_is_written_is_read_by_the_same_run_only() {
        let bytes = checkpoint().to_bytes(b"run");
        assert_eq!(Checkpoint::parse(&bytes, b"run"), Ok(checkpoint()));
        assert!(Checkpoint::parse(&bytes, b"other").is_err());
        for cut in 0..bytes.len() {
            assert!(Checkpoint::parse(&bytes[..cut], b"run").is_err());
        }
        let many = Checkpoint { notes: vec![checkpoint().notes[0].clone(); MOST_NOTES + 1], ..checkpoint() };
        assert!(Checkpoint::parse(&many.to_bytes(b"run"), b"run").is_err());
        let classes = (0..=CLASSES_MAX as u64).map(|class| (class, 1)).collect();
        let many = Checkpoint { counts: Counts { classes, ..Counts::default() }, ..checkpoint() };
        assert!(Checkpoint::parse(&many.to_bytes(b"run"), b"run").is_err());
        let long = Checkpoint { reached: "x".repeat(LONGEST_KEY + 1), ..checkpoint() };
        assert!(Checkpoint::parse(&long.to_bytes(b"run"), b"run").is_err());
    }

    #[test]
    fn old_ones_and_those_from_the_future_do_not_count() {
        let written_ms = 10 * GOOD_FOR_MS;
        let checkpoint = Checkpoint { begun_ms: written_ms, written_ms, ..checkpoint() };
        for (now, counts) in [
            (written_ms, true),
            (written_ms - MARGIN_MS, true),
            (written_ms - MARGIN_MS - 1, false),
            (written_ms + GOOD_FOR_MS, true),
            (written_ms + GOOD_FOR_MS + 1, false),
        ] {
            assert_eq!(checkpoint.counts_at(now), counts, "{now}");
        }
    }

    #[test]
    fn none_counts_a_week_after_its_first_run_began_however_young_it_is() {
        let begun_ms = 10 * GOOD_FOR_MS;
        for (later, counts) in [(0, true), (GOOD_SINCE_BEGIN_MS, true), (GOOD_SINCE_BEGIN_MS + 1, false)] {
            let now = begun_ms + later;
            assert_eq!(Checkpoint { begun_ms, written_ms: now, ..checkpoint() }.counts_at(now), counts, "{later}");
        }
        assert!(
            !Checkpoint { begun_ms: begun_ms + MARGIN_MS + 1, written_ms: begun_ms, ..checkpoint() }
                .counts_at(begun_ms)
        );
    }
}

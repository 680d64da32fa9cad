//! A proof that an entry is in a log, as one text that is checked without the log (C2SP tlog-proof).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::{InvalidCheckpoint, SignedCheckpoint};
use super::merkle::{HASH_LEN, Hash, leaf_hash};
use super::note::{InvalidNote, MAX_NOTE_LEN, Note, VerifierKey};
use super::proof::{InvalidProof, verify_inclusion};
use super::reader::{Reader, ReaderError};

const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Hashes in the longest proof: that of a tree of 2^64 entries.
const MAX_HASHES: usize = 64;
/// Most bytes of the extra data, which we make no use of.
const MAX_EXTRA_LEN: usize = 16 * 1024;
/// Most bytes of a proof.
pub const MAX_PROOF_LEN: usize = MAX_NOTE_LEN + 2 * MAX_EXTRA_LEN + 64 * MAX_HASHES;

/// Index, hashes and checkpoint. Printed and parsed as C2SP tlog-proof has it.
///
/// Nothing in it is checked yet; [`InclusionProof::verify`] does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    index: u64,
    hashes: Vec<Hash>,
    checkpoint: Note,
    /// Not authenticated by anything, and kept only so that the text stays what it was.
    extra: Option<Vec<u8>>,
}

/// This is no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProofText {
    /// Not the lines of a proof.
    #[error("not a proof: it is not `{HEADER}`, an index, hashes, a blank line and a checkpoint")]
    Malformed,
    /// After the blank line comes no signed note.
    #[error("the proof's checkpoint is not a signed note")]
    Checkpoint(#[from] InvalidNote),
}

/// Why a proof does not prove that an entry is in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotProved {
    /// The checkpoint is not the log's.
    #[error(transparent)]
    Checkpoint(#[from] InvalidCheckpoint),
    /// The checkpoint is the log's, and the entry is not in it at that index.
    #[error("the log's checkpoint does not have this entry at index {index}")]
    Entry {
        /// The index that the proof names.
        index: u64,
        /// The cause.
        source: InvalidProof,
    },
}

impl InclusionProof {
    /// That the entry at `index` is in the reader's checkpoint.
    ///
    /// # Errors
    /// [`ReaderError`].
    pub fn of(reader: &Reader, index: u64) -> Result<Self, ReaderError> {
        let hashes = reader.prove_inclusion(index)?;
        Ok(Self { index, hashes, checkpoint: reader.checkpoint().note().clone(), extra: None })
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// [`InvalidProofText`].
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidProofText> {
        let text = std::str::from_utf8(bytes).map_err(|_| InvalidProofText::Malformed)?;
        if text.len() > MAX_PROOF_LEN {
            return Err(InvalidProofText::Malformed);
        }
        let (lines, note) = text.split_once("\n\n").ok_or(InvalidProofText::Malformed)?;
        let (index, hashes, extra) = parse_lines(lines).ok_or(InvalidProofText::Malformed)?;
        let proof = Self { index, hashes, checkpoint: Note::parse(note.as_bytes())?, extra };
        // One spelling only: no leading zeros, no other base64 of the same bytes.
        if proof.to_string() == text { Ok(proof) } else { Err(InvalidProofText::Malformed) }
    }

    /// The index of the entry.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Checks that `log` signed the checkpoint, and that `entry` stands in it at the index.
    ///
    /// # Errors
    /// [`NotProved`].
    pub fn verify(&self, entry: &[u8], log: &VerifierKey) -> Result<SignedCheckpoint, NotProved> {
        let signed = SignedCheckpoint::open(self.checkpoint.to_string().as_bytes(), log)?;
        let (size, root) = (signed.checkpoint().size(), signed.checkpoint().root());
        verify_inclusion(&self.hashes, &leaf_hash(entry), self.index, size, root)
            .map_err(|source| NotProved::Entry { index: self.index, source })?;
        Ok(signed)
    }
}

type Lines = (u64, Vec<Hash>, Option<Vec<u8>>);

fn parse_lines(lines: &str) -> Option<Lines> {
    let mut lines = lines.split('\n');
    if lines.next()? != HEADER {
        return None;
    }
    let mut line = lines.next()?;
    let mut extra = None;
    if let Some(encoded) = line.strip_prefix("extra ") {
        extra = Some(STANDARD.decode(encoded).ok().filter(|extra| extra.len() <= MAX_EXTRA_LEN)?);
        line = lines.next()?;
    }
    let index = line.strip_prefix("index ")?.parse().ok()?;
    let hash = |line: &str| {
        let bytes: [u8; HASH_LEN] = STANDARD.decode(line).ok()?.try_into().ok()?;
        Some(Hash(bytes))
    };
    let hashes: Vec<Hash> = lines.take(MAX_HASHES + 1).map(hash).collect::<Option<_>>()?;
    (hashes.len() <= MAX_HASHES).then_some((index, hashes, extra))
}

impl fmt::Display for InclusionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash.0)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::testing::{append_all, entry, open, signer};

    async fn proof(index: u64, size: u64) -> InclusionProof {
        let folder = tempfile::tempdir().expect("a folder");
        let log = open(folder.path()).expect("opens");
        append_all(&log, 0..size).await;
        log.close().await.expect("closes");
        let reader = Reader::open(folder.path(), signer().verifier()).expect("opens");
        InclusionProof::of(&reader, index).expect("proves")
    }

    #[tokio::test]
    async fn a_proof_stands_alone() {
        for (index, size) in [(0, 1), (6, 7), (299, 300), (3, 300)] {
            let text = proof(index, size).await.to_string();
            let read = InclusionProof::parse(text.as_bytes()).expect("a proof");
            assert_eq!(read.index(), index);
            let signed = read.verify(&entry(index), signer().verifier()).expect("proves");
            assert_eq!(signed.checkpoint().size(), size);
            let other = read.verify(&entry(index + 1), signer().verifier());
            assert!(matches!(other, Err(NotProved::Entry { .. })));
        }
    }

    #[tokio::test]
    async fn a_changed_proof_proves_nothing() {
        let text = proof(3, 7).await.to_string();
        let check = |text: &str| {
            let read = InclusionProof::parse(text.as_bytes()).map_err(|_| None)?;
            read.verify(&entry(3), signer().verifier()).map(|_| ()).map_err(Some)
        };
        assert_eq!(check(&text), Ok(()));
        assert!(matches!(check(&text.replace("index 3\n", "index 4\n")), Err(Some(NotProved::Entry { .. }))));
        let forged = text.replace("\n7\n", "\n8\n");
        assert_eq!(check(&forged), Err(Some(NotProved::Checkpoint(InvalidCheckpoint::Forged))));
        let hashes: Vec<&str> = text.lines().skip(2).take_while(|line| !line.is_empty()).collect();
        assert_eq!(hashes.len(), 3);
        let without = text.replace(&format!("{}\n", hashes[1]), "");
        assert!(matches!(check(&without), Err(Some(NotProved::Entry { .. }))));
        let swapped = text.replace(&hashes[..2].join("\n"), &[hashes[1], hashes[0]].join("\n"));
        assert!(matches!(check(&swapped), Err(Some(NotProved::Entry { .. }))));
    }

    #[tokio::test]
    async fn there_is_one_spelling() {
        let text = proof(0, 2).await.to_string();
        let with_extra = text.replace("\nindex", "\nextra QUJD\nindex");
        let read = InclusionProof::parse(with_extra.as_bytes()).expect("a proof");
        assert_eq!(read.to_string(), with_extra);
        let many = format!("\n{}\n\nexample", vec![STANDARD.encode([0; 32]); 65].join("\n"));
        for bad in [
            String::new(),
            text.replace("@v1", "@v2"),
            text.replace("index 0", "index 00"),
            text.replace("index 0", "index +0"),
            text.replace("index 0", "index -1"),
            text.replace("index 0", "index 18446744073709551616"),
            text.replace("index 0", "extra QUJD"),
            text.replace("index 0", "index 0\nextra QUJD"),
            text.replace("index 0", "index 0\nQUJD"),
            text.replace("\n\nexample", "\nexample"),
            text.replace("\n\nexample", &many),
            text.replace('\n', "\r\n"),
            format!("{text}\n"),
            format!("\n{text}"),
        ] {
            assert!(InclusionProof::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}

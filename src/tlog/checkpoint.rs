//! Checkpoints: what a log says that it is at one size (C2SP tlog-checkpoint).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::merkle::Hash;
use super::note::{InvalidNote, Note, Signer, Use, VerifierKey};

/// Origin, size and root of a log. Printed and parsed as the text of a note.
///
/// Extension lines are refused: nobody audits them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: Hash,
}

/// Why something is not a checkpoint of the log that it was taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCheckpoint {
    /// Not a signed note.
    #[error("the checkpoint is not a signed note")]
    Note(#[from] InvalidNote),
    /// The text is not origin, size and root.
    #[error("the checkpoint's text is not an origin, a size and a root hash")]
    Text,
    /// The log's key did not sign it.
    #[error("the checkpoint is forged: it has no good signature of the log's key")]
    Forged,
    /// It is of another log.
    #[error("the checkpoint is of another log")]
    Origin,
}

impl Checkpoint {
    pub(super) fn new(origin: &str, size: u64, root: Hash) -> Self {
        Self { origin: origin.to_owned(), size, root }
    }

    /// Reads the three lines.
    ///
    /// # Errors
    /// [`InvalidCheckpoint::Text`].
    pub fn parse(text: &str) -> Result<Self, InvalidCheckpoint> {
        let checkpoint = Self::parse_lines(text).ok_or(InvalidCheckpoint::Text)?;
        // One spelling only: no leading zeros, no plus sign, no other base64 of the same root.
        if checkpoint.to_string() == text { Ok(checkpoint) } else { Err(InvalidCheckpoint::Text) }
    }

    fn parse_lines(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let origin = lines.next().filter(|origin| !origin.is_empty())?;
        let size = lines.next()?.parse().ok()?;
        let root = STANDARD.decode(lines.next()?).ok()?;
        Some(Self::new(origin, size, Hash(root.try_into().ok()?)))
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Entries in the log.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The tree's root hash.
    pub fn root(&self) -> &Hash {
        &self.root
    }

    /// Signs it. Its origin is the signer's name.
    pub(super) fn sign(self, signer: &Signer) -> SignedCheckpoint {
        let text = self.to_string();
        let signature = signer.sign(&text);
        SignedCheckpoint { checkpoint: self, note: Note::signed(text, signature) }
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }
}

/// A checkpoint with the note that carries it.
///
/// **Invariant:** the log's key signed it: it was made by the signer, or checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// Reads a note and checks that `log` signed it and that it is of the log of that name.
    ///
    /// # Errors
    /// [`InvalidCheckpoint`].
    pub fn open(note: &[u8], log: &VerifierKey) -> Result<Self, InvalidCheckpoint> {
        let note = Note::parse(note)?;
        if log.usage() != Use::Log || log.verify(&note).is_err() {
            return Err(InvalidCheckpoint::Forged);
        }
        let checkpoint = Checkpoint::parse(note.text())?;
        if checkpoint.origin != log.name() {
            return Err(InvalidCheckpoint::Origin);
        }
        Ok(Self { checkpoint, note })
    }

    /// What it says.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note, with all its signatures.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// With a witness's cosignature, which is not checked here.
    ///
    /// # Errors
    /// [`InvalidNote`] when the note is full.
    pub fn with_cosignature(self, signature: super::note::Signature) -> Result<Self, InvalidNote> {
        Ok(Self { note: self.note.with_signature(signature)?, checkpoint: self.checkpoint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SigningKey;
    use crate::secret::Secret;
    use crate::tlog::merkle::leaf_hash;

    /// Made with an independent implementation of Ed25519, from the seed 01 02 … 20.
    const KEY: &str = "example.com/audit+27a99b83+AXm1Vi6P5lT5QHixEuipi6eQH4U65pW+1+DjkQutBJZk";
    const NOTE: &str = "example.com/audit\n1\niipcm3aIJ95alVLDigRMZpWcaPbS8htSYK9U0vh9uCc=\n\n\
         — example.com/audit J6mbg5GcIQBzpjIvyFMpppYWhm7sBRGtMkvaGiL1WvwWBI0SQoan3SbfnRabCxdfVHYTBN9bSA7N3vynzHqmrC9dNA8=\n";

    fn signer(name: &str, usage: Use) -> Signer {
        let seed: [u8; 32] = std::array::from_fn(|at| u8::try_from(at + 1).expect("small"));
        let key = SigningKey::from_seed(Secret::from_slice(&seed).expect("32 bytes"));
        Signer::new(name, usage, key).expect("a name")
    }

    #[test]
    fn a_signed_checkpoint_is_the_one_of_the_vector() {
        let signer = signer("example.com/audit", Use::Log);
        assert_eq!(signer.verifier().to_string(), KEY);
        let signed = Checkpoint::new("example.com/audit", 1, leaf_hash(b"hello")).sign(&signer);
        assert_eq!(signed.note().to_string(), NOTE);
        assert_eq!(SignedCheckpoint::open(NOTE.as_bytes(), signer.verifier()), Ok(signed));
    }

    #[test]
    fn forged_and_foreign_checkpoints_are_refused() {
        let key = VerifierKey::parse(KEY).expect("a key");
        let open = |note: &str| SignedCheckpoint::open(note.as_bytes(), &key).err();
        assert_eq!(open(&NOTE.replace("\n1\n", "\n2\n")), Some(InvalidCheckpoint::Forged));
        assert_eq!(open(&NOTE.replace("QBzpj", "QBzpk")), Some(InvalidCheckpoint::Forged));
        assert_eq!(open("example.com/audit\n"), Some(InvalidCheckpoint::Note(InvalidNote::Malformed)));
        let own = signer("example.com/audit", Use::Log);
        let foreign = Checkpoint::new("example.com/other", 1, leaf_hash(b"hello")).sign(&own);
        assert_eq!(open(&foreign.note().to_string()), Some(InvalidCheckpoint::Origin));
        let text = "example.com/audit\n1\nx\n".to_owned();
        let signature = own.sign(&text);
        assert_eq!(open(&Note::signed(text, signature).to_string()), Some(InvalidCheckpoint::Text));
        let witness = signer("example.com/audit", Use::Witness);
        assert_eq!(SignedCheckpoint::open(NOTE.as_bytes(), witness.verifier()), Err(InvalidCheckpoint::Forged));
    }

    #[test]
    fn there_is_one_spelling() {
        let root = "TszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=";
        let good = format!("example.com/origin\n123\n{root}\n");
        assert_eq!(Checkpoint::parse(&good).expect("good").to_string(), good);
        for bad in [
            format!("\n123\n{root}\n"),
            format!("o\n0123\n{root}\n"),
            format!("o\n+123\n{root}\n"),
            format!("o\n0xabc\n{root}\n"),
            format!("o\n18446744073709551616\n{root}\n"),
            format!("o\n123\n{}\n", root.trim_end_matches('=')),
            "o\n123\nQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBCg==\n".to_owned(),
            format!("o\n123\n{root}\nextension\n"),
            format!("o\n123\n{root}\n\n"),
            format!("o\n123\n{root}"),
            format!("o\r\n123\n{root}\n"),
            String::new(),
        ] {
            assert_eq!(Checkpoint::parse(&bad), Err(InvalidCheckpoint::Text), "{bad:?}");
        }
    }
}

//! Signed notes (C2SP signed-note) with Ed25519 signatures of the log and cosignatures of witnesses (C2SP tlog-cosignature v1).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::crypto::{self, ED25519_PUBLIC_LEN, ED25519_SIGNATURE_LEN, NotAuthentic, SigningKey};

/// Most bytes of a note.
pub const MAX_NOTE_LEN: usize = 64 * 1024;
/// Most signatures of a note; the specification asks for 16 at least.
pub const MAX_SIGNATURES: usize = 100;

/// Why bytes are no note, or text no verifier key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNote {
    /// Not text, a blank line and signature lines, or over the limits.
    #[error("not a signed note")]
    Malformed,
    /// A key name is empty or has white space, a plus or control characters.
    #[error("not a key name")]
    Name,
    /// Not `name+id+base64(type ‖ key)` with a type that is supported and the id that belongs to them.
    #[error("not a verifier key of type 1 or 4")]
    Key,
}

/// What a key signs (the specification's signature types).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Use {
    /// Type 1: the note's text.
    Log,
    /// Type 4: that a witness saw the checkpoint at a time, consistent with all it saw before.
    Witness,
}

impl Use {
    fn type_byte(self) -> u8 {
        match self {
            Self::Log => 1,
            Self::Witness => 4,
        }
    }
}

/// A public key with the name and the use it is trusted for. Printed and parsed as `name+id+base64(type ‖ key)`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct VerifierKey {
    name: String,
    usage: Use,
    public: [u8; ED25519_PUBLIC_LEN],
}

impl VerifierKey {
    /// Names a public key.
    ///
    /// # Errors
    /// [`InvalidNote::Name`].
    pub fn new(name: &str, usage: Use, public: [u8; ED25519_PUBLIC_LEN]) -> Result<Self, InvalidNote> {
        if !is_name(name) {
            return Err(InvalidNote::Name);
        }
        Ok(Self { name: name.to_owned(), usage, public })
    }

    /// Reads `name+id+base64(type ‖ key)`.
    ///
    /// # Errors
    /// [`InvalidNote`].
    pub fn parse(text: &str) -> Result<Self, InvalidNote> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(_), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(InvalidNote::Key);
        };
        let key = STANDARD.decode(key).map_err(|_| InvalidNote::Key)?;
        let (usage, public) = match key.split_first() {
            Some((1, public)) => (Use::Log, public),
            Some((4, public)) => (Use::Witness, public),
            _ => return Err(InvalidNote::Key),
        };
        let key = Self::new(name, usage, public.try_into().map_err(|_| InvalidNote::Key)?)?;
        if key.to_string() == text { Ok(key) } else { Err(InvalidNote::Key) }
    }

    /// The key's name: the log's origin, or the witness's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is trusted for.
    pub fn usage(&self) -> Use {
        self.usage
    }

    /// The public key.
    pub fn public(&self) -> &[u8; ED25519_PUBLIC_LEN] {
        &self.public
    }

    /// `SHA-256(name ‖ 0x0A ‖ type ‖ key)[..4]`.
    pub fn id(&self) -> [u8; 4] {
        let message = [self.name.as_bytes(), &[b'\n', self.usage.type_byte()], &self.public].concat();
        let [a, b, c, d, ..] = crypto::sha256(&message);
        [a, b, c, d]
    }

    /// The signatures of this key on `note`, all of them good.
    ///
    /// # Errors
    /// [`NotAuthentic`] when there is none, or one that is not good.
    pub fn verify(&self, note: &Note) -> Result<Vec<Verified>, NotAuthentic> {
        let id = self.id();
        let own = note.signatures.iter().filter(|signature| signature.name == self.name && signature.id == id);
        let verified: Vec<Verified> =
            own.map(|signature| self.verify_one(&note.text, &signature.bytes)).collect::<Result<_, _>>()?;
        if verified.is_empty() { Err(NotAuthentic) } else { Ok(verified) }
    }

    fn verify_one(&self, text: &str, signature: &[u8]) -> Result<Verified, NotAuthentic> {
        match self.usage {
            Use::Log => {
                crypto::ed25519_verify(&self.public, text.as_bytes(), signature)?;
                Ok(Verified { time_s: None })
            }
            Use::Witness => {
                let (time, signature) = signature.split_first_chunk().ok_or(NotAuthentic)?;
                let time_s = u64::from_be_bytes(*time);
                if i64::try_from(time_s).is_err() {
                    return Err(NotAuthentic);
                }
                crypto::ed25519_verify(&self.public, &cosigned_message(text, time_s), signature)?;
                Ok(Verified { time_s: Some(time_s) })
            }
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.usage.type_byte()], &self.public[..]].concat();
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id()), STANDARD.encode(key))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

/// A signature that was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// When the witness signed, in seconds since 1970; a log's own signature has no time.
    pub time_s: Option<u64>,
}

fn cosigned_message(text: &str, time_s: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time_s}\n{text}").into_bytes()
}

fn is_name(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    !name.is_empty() && name.len() <= 255 && !name.contains(bad)
}

/// A private key with its name and use.
pub struct Signer {
    key: SigningKey,
    verifier: VerifierKey,
}

impl Signer {
    /// Names a private key. A witness uses a key of its own for each name: cosignatures do not say who made them.
    ///
    /// # Errors
    /// [`InvalidNote::Name`].
    pub fn new(name: &str, usage: Use, key: SigningKey) -> Result<Self, InvalidNote> {
        let verifier = VerifierKey::new(name, usage, *key.public())?;
        Ok(Self { key, verifier })
    }

    /// What others verify its signatures with.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs bytes that are no note. Their first byte is zero, which a note never has, so that neither passes for the other.
    pub(super) fn sign_bytes(&self, message: &[u8]) -> [u8; ED25519_SIGNATURE_LEN] {
        debug_assert_eq!(message.first(), Some(&0));
        crypto::ed25519_sign(&self.key, message)
    }

    /// A log's signature of `text`, which the caller made.
    pub(super) fn sign(&self, text: &str) -> Signature {
        self.signature(crypto::ed25519_sign(&self.key, text.as_bytes()).to_vec())
    }

    /// A witness's signature of `text` at `time_s`.
    pub(super) fn cosign(&self, text: &str, time_s: u64) -> Signature {
        let signature = crypto::ed25519_sign(&self.key, &cosigned_message(text, time_s));
        self.signature([&time_s.to_be_bytes()[..], &signature].concat())
    }

    fn signature(&self, bytes: Vec<u8>) -> Signature {
        Signature { name: self.verifier.name.clone(), id: self.verifier.id(), bytes }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.verifier)
    }
}

/// A signature line, printed without its line feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

impl Signature {
    /// Reads `— name base64(id ‖ signature)`.
    ///
    /// # Errors
    /// [`InvalidNote`].
    pub fn parse(line: &str) -> Result<Self, InvalidNote> {
        let line = line.strip_prefix("— ").ok_or(InvalidNote::Malformed)?;
        let (name, encoded) = line.split_once(' ').ok_or(InvalidNote::Malformed)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidNote::Malformed)?;
        let (id, bytes) = bytes.split_first_chunk().ok_or(InvalidNote::Malformed)?;
        if !is_name(name) {
            return Err(InvalidNote::Name);
        }
        if bytes.is_empty() {
            return Err(InvalidNote::Malformed);
        }
        Ok(Self { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
    }

    /// The name of the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's id.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id[..], &self.bytes].concat();
        write!(f, "— {} {}", self.name, STANDARD.encode(bytes))
    }
}

/// A text and its signatures, none of them checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// The caller made `text`: lines, each with its line feed, the last not empty.
    pub(super) fn signed(text: String, signature: Signature) -> Self {
        Self { text, signatures: vec![signature] }
    }

    /// Reads a note.
    ///
    /// # Errors
    /// [`InvalidNote`].
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidNote> {
        let note = std::str::from_utf8(bytes).map_err(|_| InvalidNote::Malformed)?;
        let controls = note.bytes().any(|byte| byte < 0x20 && byte != b'\n');
        if note.len() > MAX_NOTE_LEN || controls {
            return Err(InvalidNote::Malformed);
        }
        let blank = note.rfind("\n\n").ok_or(InvalidNote::Malformed)?;
        let (text, lines) = note.split_at(blank + 1);
        let lines =
            lines.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n')).ok_or(InvalidNote::Malformed)?;
        let signatures: Vec<Signature> =
            lines.split('\n').take(MAX_SIGNATURES + 1).map(Signature::parse).collect::<Result<_, _>>()?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(InvalidNote::Malformed);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The text, up to and with its last line feed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The note with one more signature, unless it has that one already.
    ///
    /// # Errors
    /// [`InvalidNote::Malformed`] when it has [`MAX_SIGNATURES`].
    pub fn with_signature(mut self, signature: Signature) -> Result<Self, InvalidNote> {
        if self.signatures.contains(&signature) {
            return Ok(self);
        }
        self.signatures.push(signature);
        let fits = self.signatures.len() <= MAX_SIGNATURES && self.to_string().len() <= MAX_NOTE_LEN;
        if fits { Ok(self) } else { Err(InvalidNote::Malformed) }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

#[cfg(test)]
mod tests;

//! Who may do nothing any more, whatever policy and grants say.

use serde_json::{Value, json};

use crate::cbor::{self, NotCanonical};
use crate::names::Principal;

use super::approval::{codec, json as texts};
use super::identity::SpiffeId;
use super::requester::Requester;

/// Most bytes of a note.
pub const NOTE_LEN_MAX: usize = 500;
const LABEL: &str = "claviger/1 revocation";
/// Before the SHA-256 of a certificate.
const CERTIFICATE: &str = "certificate:";

/// The principal or the note does not have its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRevocation {
    /// None of the three kinds.
    #[error(
        "a principal is a SPIFFE id, the name of a proxy's client, or certificate: and 64 hexadecimal digits in lower case"
    )]
    Principal,
    /// Too long, or with control characters.
    #[error("the note is longer than {NOTE_LEN_MAX} bytes or has control characters")]
    Note,
    /// Out of range.
    #[error("the time is not in the years 1970 to 9999")]
    Time,
}

/// A principal that is cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    principal: String,
    at_unix_s: i64,
    by: SpiffeId,
    note: String,
}

impl Revocation {
    /// Of a SPIFFE id, of the name of a proxy's client, or of one certificate (`certificate:` and its SHA-256 in hexadecimal).
    ///
    /// # Errors
    /// [`InvalidRevocation`].
    pub fn new(principal: &str, by: SpiffeId, note: &str, at_unix_s: i64) -> Result<Self, InvalidRevocation> {
        if !is_principal(principal) {
            return Err(InvalidRevocation::Principal);
        }
        if note.len() > NOTE_LEN_MAX || note.chars().any(char::is_control) {
            return Err(InvalidRevocation::Note);
        }
        if !texts::is_time(at_unix_s) {
            return Err(InvalidRevocation::Time);
        }
        Ok(Self { principal: principal.to_owned(), at_unix_s, by, note: note.to_owned() })
    }

    /// Who is cut off: also the name of its record.
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// Since when.
    pub fn at_unix_s(&self) -> i64 {
        self.at_unix_s
    }

    /// By whom.
    pub fn by(&self) -> &SpiffeId {
        &self.by
    }

    /// Why, in words.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Whether `who` is cut off: by its id, its certificate, or for whom it asks.
    pub fn covers(&self, who: &Requester) -> bool {
        principals(who).contains(&self.principal)
    }

    /// The bytes that [`Revocation::parse`] reads: `["claviger/1 revocation", principal, at, by, note]` in deterministic CBOR.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::encode(|e| {
            e.array(5)?
                .str(LABEL)?
                .str(&self.principal)?
                .i64(self.at_unix_s)?
                .str(self.by.as_str())?
                .str(&self.note)?;
            Ok(())
        })
    }

    /// Reads what [`Revocation::to_bytes`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`NotCanonical`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NotCanonical> {
        cbor::parse(
            bytes,
            |d| {
                codec::array(d, 5)?;
                codec::label(d, LABEL)?;
                let (principal, at_unix_s, by, note) = (d.str()?, d.i64()?, codec::spiffe_id(d)?, d.str()?);
                Self::new(principal, by, note, at_unix_s).map_err(|_| NotCanonical)
            },
            Self::to_bytes,
        )
    }

    /// For the API.
    pub fn to_json(&self) -> Value {
        json!({
            "principal": self.principal,
            "at": texts::rfc3339(self.at_unix_s),
            "by": self.by.as_str(),
            "note": self.note,
        })
    }
}

/// Under which principals a revocation would reach `who`: so that a set of them can be asked.
pub fn principals(who: &Requester) -> Vec<String> {
    let certificate = format!("{CERTIFICATE}{}", texts::hex(&who.certificate_sha256));
    let behalf = who.behalf.as_ref().map(Principal::to_string);
    [Some(who.id.to_string()), Some(certificate), behalf].into_iter().flatten().collect()
}

/// The name of a proxy's client has no colon, so that the kinds cannot be taken for each other.
fn is_principal(principal: &str) -> bool {
    match principal.strip_prefix(CERTIFICATE) {
        Some(digits) => texts::unhex::<32>(digits).is_some(),
        None => SpiffeId::parse(principal).is_ok() || Principal::new(principal).is_ok(),
    }
}

#[cfg(test)]
mod tests;

//! Shares as age files (<https://age-encryption.org/v1>), and the identities that officers open them with.
//!
//! Officers need nothing of ours for that: `age -d` with the identity file, or with a plugin for what has none, does it too.

use std::io::Read as _;

use age::secrecy::ExposeSecret as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::custodian::seal::share::SHARE_TEXT_LEN;
use crate::secret::SecretBytes;

const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
/// Characters of a line of an armored file.
const LINE: usize = 64;
/// Most bytes of an armored share, and most of an identity file.
const ARMORED_MAX: usize = 4096;
const IDENTITIES_MAX: usize = 64 << 10;

/// Why a share does not come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareRefused {
    /// The file has no identity that is known here.
    #[error("no identity of age's X25519 kind (AGE-SECRET-KEY-…) is in it")]
    NoIdentity,
    /// No share is for these identities.
    #[error("the backup has no share for this identity")]
    NotForIt,
    /// What came out is no share.
    #[error("the share is damaged")]
    Damaged,
}

/// Whom a share is encrypted to.
pub(super) struct Recipient {
    key: age::x25519::Recipient,
    text: String,
}

impl Recipient {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let key: age::x25519::Recipient = text.parse().ok()?;
        Some(Self { text: key.to_string(), key })
    }

    /// In the one way that it is written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The share as an armored file for this recipient.
    pub(super) fn seal(&self, share: &SecretBytes) -> Option<String> {
        let sealed = age::encrypt(&self.key, share.expose()).ok()?;
        Some(armored(&sealed))
    }
}

/// As RFC 7468 has it, strictly.
fn armored(bytes: &[u8]) -> String {
    let encoded = STANDARD.encode(bytes);
    let mut text = format!("{BEGIN}\n");
    for line in encoded.as_bytes().chunks(LINE) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text + END + "\n"
}

fn unarmored(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    if text.len() > ARMORED_MAX {
        return None;
    }
    let body = text.strip_prefix(BEGIN)?.strip_suffix(END)?;
    STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
}

/// What an officer opens shares with. There is no `Debug` form.
pub struct Identities(Vec<age::x25519::Identity>);

impl Identities {
    /// Reads an identity file as `age-keygen` writes it: an identity in each line, lines that begin with `#` aside.
    ///
    /// # Errors
    /// [`ShareRefused::NoIdentity`].
    pub fn parse(text: &str) -> Result<Self, ShareRefused> {
        let lines = text.lines().map(str::trim_ascii).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let known: Option<Vec<age::x25519::Identity>> =
            lines.filter(|_| text.len() <= IDENTITIES_MAX).map(|line| line.parse().ok()).collect();
        known.filter(|known| !known.is_empty()).map(Self).ok_or(ShareRefused::NoIdentity)
    }
}

/// The text of the first of `shares` (armored age files) that is for one of the identities.
///
/// # Errors
/// [`ShareRefused`].
pub fn open_share<'a>(
    shares: impl IntoIterator<Item = &'a str>,
    identities: &Identities,
) -> Result<Zeroizing<String>, ShareRefused> {
    for armored in shares {
        let Some(sealed) = unarmored(armored) else { continue };
        let Ok(decryptor) = age::Decryptor::new_buffered(&sealed[..]) else { continue };
        let known = identities.0.iter().map(|identity| identity as &dyn age::Identity);
        let Ok(opened) = decryptor.decrypt(known) else { continue };
        // With room enough from the start, no copy of the share is left behind by growing.
        let mut share = Zeroizing::new(Vec::with_capacity(2 * SHARE_TEXT_LEN));
        let read = opened.take(SHARE_TEXT_LEN as u64 + 1).read_to_end(&mut share);
        let text = std::str::from_utf8(&share).ok().filter(|text| read.is_ok() && text.len() == SHARE_TEXT_LEN);
        return text.map(|text| Zeroizing::new(text.to_owned())).ok_or(ShareRefused::Damaged);
    }
    Err(ShareRefused::NotForIt)
}

/// A fresh identity.
pub struct NewIdentity {
    /// Its file, as `age-keygen` would write it.
    pub file: Zeroizing<String>,
    /// What backups are encrypted to.
    pub recipient: String,
}

/// Makes an identity for an officer.
pub fn new_identity() -> NewIdentity {
    let identity = age::x25519::Identity::generate();
    let (secret, recipient) = (identity.to_string(), identity.to_public().to_string());
    let head = format!("# public key: {recipient}\n");
    let mut file = Zeroizing::new(String::with_capacity(head.len() + secret.expose_secret().len() + 1));
    file.push_str(&head);
    file.push_str(secret.expose_secret());
    file.push('\n');
    NewIdentity { file, recipient }
}

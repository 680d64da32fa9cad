//! Files that a configuration names: secrets, and what only has to be there.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::problem::Mistake;
use super::section::{Section, Text};
use crate::crypto::SigningKey;
use crate::net::regular;
use crate::secret::{Secret, SecretBytes};

/// Most bytes of a secret access key.
const SECRET_MAX: u64 = 1024;
/// Room for a seed's bytes and a few more, so that a longer one is seen to be none.
const SEED_ROOM: usize = 48;
/// Fewest characters of a client's secret access key: S3's own have 40.
const CLIENT_SECRET_MIN: usize = 16;

/// Opens `path` if it is a regular file.
pub(super) fn open(path: &Path) -> Result<File, Mistake> {
    regular::open(path).map_err(|source| Mistake::File { path: path.to_owned(), source })
}

/// Refuses a file that every user of the machine may read or change.
pub(super) fn closed_to_others(path: &Path, file: &File) -> Result<(), Mistake> {
    let metadata = file.metadata().map_err(|source| Mistake::File { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(Mistake::OpenToAll { path: path.to_owned(), mode });
    }
    Ok(())
}

/// The secret access key in the file: one line of visible characters.
pub(super) fn secret_access_key(path: &Path) -> Result<SecretBytes, Mistake> {
    let file = open(path)?;
    closed_to_others(path, &file)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_MAX as usize + 1));
    file.take(SECRET_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Mistake::File { path: path.to_owned(), source })?;
    if bytes.len() as u64 > SECRET_MAX || bytes.trim_ascii().iter().any(|byte| !byte.is_ascii_graphic()) {
        return Err(Mistake::NotOneLine { path: path.to_owned() });
    }
    SecretBytes::new_trimmed(std::mem::take(&mut bytes)).map_err(|_| Mistake::NoSecret { path: path.to_owned() })
}

/// The Ed25519 key whose seed is in the file, in base64url.
pub(super) fn signing_key(path: &Path) -> Result<SigningKey, Mistake> {
    let text = secret_access_key(path)?;
    let mut seed = Zeroizing::new([0; SEED_ROOM]);
    let length = URL_SAFE_NO_PAD.decode_slice(text.expose(), seed.as_mut_slice()).unwrap_or_default();
    let seed = Secret::from_slice(&seed[..length]).map_err(|_| Mistake::NoSeed { path: path.to_owned() })?;
    Ok(SigningKey::from_seed(seed))
}

/// As [`secret_access_key`], long enough that clients may sign with it.
pub(super) fn client_secret(path: &Path) -> Result<SecretBytes, Mistake> {
    let secret = secret_access_key(path)?;
    if secret.expose().len() < CLIENT_SECRET_MIN {
        return Err(Mistake::ShortSecret { path: path.to_owned(), least: CLIENT_SECRET_MIN });
    }
    Ok(secret)
}

/// Access key and secret file of one identity, of which neither or both are there.
pub(super) fn optional_pair<'s>(
    section: &Section<'s>,
    access_key: &'static str,
    secret_file: &'static str,
) -> Option<(Text<'s>, Text<'s>)> {
    match (section.text(access_key), section.text(secret_file)) {
        (Some(access_key), Some(secret_file)) => Some((access_key, secret_file)),
        (Some(access_key), None) => {
            access_key.note(Mistake::OtherHalf(secret_file));
            None
        }
        (None, Some(secret)) => {
            secret.note(Mistake::OtherHalf(access_key));
            None
        }
        (None, None) => None,
    }
}

/// An access key: 3 to 128 letters, digits or '._@+-'.
pub(super) fn access_key(text: &str) -> Result<String, Mistake> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte);
    let fits = (3..=128).contains(&text.len()) && text.bytes().all(legal);
    if fits { Ok(text.to_owned()) } else { Err(Mistake::AccessKey) }
}

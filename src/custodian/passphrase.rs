//! The passphrase that opens the seal, from a file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::secret::SecretBytes;

/// Fewest bytes of a passphrase.
pub const PASSPHRASE_MIN: usize = 16;
/// Most bytes of a passphrase file.
pub const PASSPHRASE_MAX: usize = 4096;

/// The passphrase file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// It cannot be read.
    #[error("cannot read the passphrase file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is a folder, a pipe or the like.
    #[error("the passphrase file {} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Everyone on the machine can read or change it.
    #[error("the passphrase file {} is open to everyone on this machine (mode {mode:04o}); run: chmod 600 {}",
        path.display(), path.display())]
    OpenToAll {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Empty or guessable for its length, or a file of another kind.
    #[error("a passphrase has {PASSPHRASE_MIN} to {PASSPHRASE_MAX} bytes, not counting white space at both ends")]
    Length,
}

/// A passphrase of at least [`PASSPHRASE_MIN`] bytes.
pub struct Passphrase(SecretBytes);

impl Passphrase {
    /// Takes the bytes, without white space at both ends.
    ///
    /// # Errors
    /// [`PassphraseError::Length`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, PassphraseError> {
        let passphrase = SecretBytes::new_trimmed(bytes).map_err(|_| PassphraseError::Length)?;
        if (PASSPHRASE_MIN..=PASSPHRASE_MAX).contains(&passphrase.expose().len()) {
            Ok(Self(passphrase))
        } else {
            Err(PassphraseError::Length)
        }
    }

    /// Reads the file, which must be closed to others.
    ///
    /// # Errors
    /// [`PassphraseError`].
    pub fn from_file(path: &Path) -> Result<Self, PassphraseError> {
        Self::new(read_private(path)?)
    }

    pub(super) fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}

/// At most one byte more than [`PASSPHRASE_MAX`] of a file that must be closed to others.
pub(super) fn read_private(path: &Path) -> Result<Vec<u8>, PassphraseError> {
    let failed = |source| PassphraseError::Io { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(PassphraseError::NotAFile(path.to_owned()));
    }
    let file = File::open(path).map_err(failed)?;
    // Of the open file, so that it is the one that is read.
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(PassphraseError::OpenToAll { path: path.to_owned(), mode });
    }
    // With room enough from the start, no copy is left behind by growing.
    let mut bytes = Vec::with_capacity(PASSPHRASE_MAX + 64);
    file.take(PASSPHRASE_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), content).expect("writes");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).expect("chmod");
        file
    }

    #[test]
    fn a_closed_file_of_good_length_is_read_without_its_line_feed() {
        let passphrase = Passphrase::from_file(file(b"sixteen-letters!\n", 0o600).path()).expect("reads");
        assert_eq!(passphrase.expose(), b"sixteen-letters!");
        assert!(Passphrase::from_file(file(b"sixteen-letters!\n", 0o640).path()).is_ok());
    }

    #[test]
    fn a_file_open_to_all_is_refused_with_advice() {
        let file = file(b"sixteen-letters!\n", 0o644);
        let error = Passphrase::from_file(file.path()).err().expect("refused").to_string();
        assert!(error.contains("chmod 600") && error.contains("0644"), "{error}");
    }

    #[test]
    fn short_long_and_absent_ones_are_refused() {
        for content in [b"".as_slice(), b"\n", b"fifteen-letters\n", &[0; 32], &[b'x'; PASSPHRASE_MAX + 1]] {
            assert!(matches!(Passphrase::from_file(file(content, 0o600).path()), Err(PassphraseError::Length)));
        }
        assert!(matches!(Passphrase::from_file(Path::new("/nonexistent")), Err(PassphraseError::Io { .. })));
        assert!(matches!(Passphrase::from_file(Path::new("/dev/zero")), Err(PassphraseError::NotAFile(_))));
    }
}

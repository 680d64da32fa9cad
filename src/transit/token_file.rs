//! A token in a file.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::net::regular;
use crate::secret::{InvalidSecret, SecretBytes};

/// Most bytes of a token file. Batch tokens have a few hundred.
const FILE_MAX: usize = 8 << 10;

/// The file gives no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("cannot read {path}: check that it exists and that this user may read it")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Every user of the machine can read or write it.
    #[error("{path} holds a token and is open to all users (mode {mode:03o}): run `chmod o-rwx` on it")]
    OpenToAll {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is empty.
    #[error("{path} holds no token")]
    Empty {
        /// The file.
        path: PathBuf,
        /// Why.
        source: InvalidSecret,
    },
    /// It is too long, or not one line of printable ASCII.
    #[error("{path} is not a token: expected one line of printable ASCII, at most 8 KiB")]
    NotToken {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the token, without the white space around it.
///
/// # Errors
/// [`TokenFileError`] says what is wrong with the file.
pub fn read(path: &Path) -> Result<SecretBytes, TokenFileError> {
    let failed = |source| TokenFileError::Read { path: path.into(), source };
    let file = regular::open(path).map_err(failed)?;
    refuse_open_to_all(path, &file)?;
    // One buffer of the final size: growing would leave copies behind.
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(FILE_MAX + 1));
    let limit = u64::try_from(FILE_MAX).expect("fits") + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > FILE_MAX {
        return Err(TokenFileError::NotToken { path: path.into() });
    }
    let token = SecretBytes::new(bytes.trim_ascii().to_vec());
    let token = token.map_err(|source| TokenFileError::Empty { path: path.into(), source })?;
    if !token.expose().iter().all(u8::is_ascii_graphic) {
        return Err(TokenFileError::NotToken { path: path.into() });
    }
    Ok(token)
}

/// Asks the open file, not the path, so that nobody can swap it in between.
#[cfg(unix)]
fn refuse_open_to_all(path: &Path, file: &File) -> Result<(), TokenFileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = file.metadata().map_err(|source| TokenFileError::Read { path: path.into(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(TokenFileError::OpenToAll { path: path.into(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_open_to_all(_: &Path, _: &File) -> Result<(), TokenFileError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tests::write_file;

    #[test]
    fn a_token_is_one_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = |content: &[u8]| read(&write_file(folder.path(), "token", content));
        assert_eq!(read(b" s.abc \n").expect("a token").expose(), b"s.abc");
        assert!(matches!(read(b" \n"), Err(TokenFileError::Empty { .. })));
        for bad in [b"a b".as_slice(), b"a\nb", b"a\0b", "é".as_bytes(), &[b'a'; FILE_MAX + 1]] {
            assert!(matches!(read(bad), Err(TokenFileError::NotToken { .. })));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_missing_or_open_to_all_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        assert!(matches!(read(&folder.path().join("absent")), Err(TokenFileError::Read { .. })));
        assert!(matches!(read(folder.path()), Err(TokenFileError::OpenToAll { .. } | TokenFileError::Read { .. })));
        let path = write_file(folder.path(), "token", b"s.abc");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("own file");
        assert!(matches!(read(&path), Err(TokenFileError::OpenToAll { mode: 0o644, .. })));
    }
}

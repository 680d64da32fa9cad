//! Writes files that hold secrets, and lines for shells.
//!
//! **Invariant:** a private file has mode 0600 from its first moment on.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};

/// Makes `folder`, and those above it, for this user alone. It may exist.
pub(super) fn make_private_folder(folder: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot make the folder {}", folder.display()))
}

/// Writes a new file for this user alone. It must not exist.
pub(super) fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    write_new(path, content, 0o600)
}

/// Writes a new file that others may read. It must not exist.
pub(super) fn write_public(path: &Path, content: &[u8]) -> Result<()> {
    write_new(path, content, 0o644)
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Replaces `path` by a file for this user alone. Whoever looks sees the old file or the whole new one.
pub(super) fn replace_private(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let replace = || {
        // Made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok::<_, std::io::Error>(())
    };
    replace().with_context(|| format!("cannot write {}", path.display()))
}

/// `text` as one word of a POSIX shell.
pub(super) fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn private_files_are_for_their_owner_alone_and_never_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let secrets = folder.path().join("a/b");
        make_private_folder(&secrets).expect("makes");
        let file = secrets.join("key");
        write_private(&file, b"one").expect("writes");
        assert_eq!((mode(&secrets), mode(&file)), (0o700, 0o600));
        assert!(write_private(&file, b"two").is_err());
        replace_private(&file, b"three").expect("replaces");
        assert_eq!((std::fs::read(&file).expect("reads"), mode(&file)), (b"three".to_vec(), 0o600));
    }

    #[test]
    fn a_shell_reads_quoted_text_as_it_was() {
        for text in ["plain", "", "two words", "it's", "$(id) `id` \\ \"q\" \n!", "'", "''", "-n"] {
            let script = format!("printf %s {}", shell_quoted(text));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("sh runs");
            assert_eq!(String::from_utf8_lossy(&output.stdout), text);
        }
    }
}

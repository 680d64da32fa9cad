//! By what it is seen that a file was written anew.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// When a file was written, how long it is, and which one (the inode) the path leads to, as it may be replaced by a rename or by
/// another target of a link. Two of a path that differ mean another file, or another content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(Option<(i64, i64, u64, u64)>);

impl Stamp {
    /// Of the file that is at `path` now. A folder, which changes with what is in it, is none.
    pub fn of(path: &Path) -> Self {
        let found = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file);
        Self(found.map(|found| (found.mtime(), found.mtime_nsec(), found.len(), found.ino())))
    }

    /// Whether there was a file.
    pub fn exists(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_replaced_has_another_stamp() {
        let folder = tempfile::tempdir().expect("a folder");
        let [path, other] = ["file", "other"].map(|name| folder.path().join(name));
        let absent = Stamp::of(&path);
        assert!(!absent.exists() && !Stamp::of(folder.path()).exists());
        std::fs::write(&path, "one").expect("own file");
        let first = Stamp::of(&path);
        assert!(first.exists() && first != absent && first == Stamp::of(&path));
        std::fs::write(&other, "two").expect("own file");
        std::fs::rename(&other, &path).expect("own file");
        assert_ne!(first, Stamp::of(&path), "of the same length, by a rename");
    }
}

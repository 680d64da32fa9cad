//! What a configuration was read from, to tell later whether something of it has changed, and what.

use std::path::{Path, PathBuf};

use toml::Table;

use crate::net::stamp::Stamp;

/// A file that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedFile {
    /// The key, such as `storage.ca_file`; empty for the configuration itself.
    key: String,
    path: PathBuf,
    stamp: Stamp,
}

impl NamedFile {
    /// As it is now. To be taken before the file is read: what changes in between is then seen the next time.
    pub(super) fn now(key: &str, path: &Path) -> Self {
        Self { key: key.to_owned(), path: path.to_owned(), stamp: Stamp::of(path) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn is_of(&self, section: &str) -> bool {
        self.key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
    }
}

/// The document and the files that it names, as they were when they were read. There are no secrets in it.
#[derive(Debug, Clone)]
pub struct Written {
    table: Table,
    files: Vec<NamedFile>,
}

impl Written {
    pub(super) fn new(table: Table, files: Vec<NamedFile>) -> Self {
        Self { table, files }
    }

    /// How the files, the configuration among them, look at this moment.
    pub fn look(&self) -> Vec<Stamp> {
        self.files.iter().map(|file| Stamp::of(&file.path)).collect()
    }

    /// How they looked when they were read.
    pub fn stamps(&self) -> Vec<Stamp> {
        self.files.iter().map(|file| file.stamp).collect()
    }

    /// Whether `section` says the same in both.
    pub fn says_the_same(&self, other: &Self, section: &str) -> bool {
        self.table.get(section) == other.table.get(section)
    }

    /// Whether `key` in `section` has the same value in both.
    pub fn says_the_same_of(&self, other: &Self, section: &str, key: &str) -> bool {
        let value = |written: &'_ Self| written.table.get(section).and_then(|section| section.get(key)).cloned();
        value(self) == value(other)
    }

    /// Whether `section` says the same in both, and the files that it names were not written since.
    pub fn is_the_same(&self, other: &Self, section: &str) -> bool {
        let of = |written: &Self| written.files.iter().filter(|file| file.is_of(section)).cloned().collect::<Vec<_>>();
        self.says_the_same(other, section) && of(self) == of(other)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{GOOD, folder, load_text, private};

    #[test]
    fn changed_sections_and_files_are_told_apart() {
        let folder = folder();
        let before = load_text(&folder, GOOD).expect("right").written;
        assert_eq!(before.look(), before.stamps(), "nothing was written since");
        let same = load_text(&folder, GOOD).expect("right").written;
        assert!(["proxy", "storage", "custodian", "client"].iter().all(|section| same.is_the_same(&before, section)));

        let other = GOOD.replacen("region = \"us\"", "region = \"eu\"", 1);
        assert_ne!(other, GOOD, "the test's premise");
        let other = load_text(&folder, &other).expect("right").written;
        assert!(!other.says_the_same(&before, "proxy") && !other.says_the_same_of(&before, "proxy", "region"));
        assert!(other.says_the_same_of(&before, "proxy", "listen") && other.is_the_same(&before, "storage"));

        private(folder.path(), "storage.key", "another-secret\n");
        assert_ne!(before.look(), before.stamps());
        let after = load_text(&folder, GOOD).expect("right").written;
        assert!(after.says_the_same(&before, "storage") && !after.is_the_same(&before, "storage"));
        assert!(after.is_the_same(&before, "custodian"));
    }
}

//! The manifest of an export: a line of JSON for each object, with what stands beside its bytes.
//!
//! Where a key has several lines, the last one counts. In memory is only where the line of each key begins.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::crypto::sha256;

/// Its name in the target.
pub(super) const NAME: &str = ".claviger-metadata.jsonl";
/// Most bytes of a line: a key and 24 KiB of headers, each byte written as six.
const LONGEST_LINE: u64 = 1 << 20;

/// What is written of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) key: String,
    /// Below the target, with `/` between folders.
    pub(super) path: String,
    /// Bytes.
    pub(super) size: u64,
    /// Of the file, in hexadecimal.
    pub(super) sha256: String,
    /// As clients see it, with its quotes.
    pub(super) etag: String,
    pub(super) last_modified: String,
    /// What the client said of the object: content headers and `x-amz-meta-…`, by their names.
    pub(super) headers: Vec<(String, String)>,
    /// As the header `x-amz-tagging` has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tags: Option<String>,
}

/// A manifest that is open.
pub(super) struct Manifest {
    file: File,
    end: u64,
    /// By the beginning of the key's SHA-256: where its line begins.
    lines: HashMap<[u8; 16], u64>,
}

fn name(key: &str) -> [u8; 16] {
    let hash = sha256(key.as_bytes());
    std::array::from_fn(|at| hash[at])
}

impl Manifest {
    /// Opens that of `target`, or begins one. Lines that are none, such as one that was cut off by a crash, count for nothing.
    pub(super) fn open(target: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(target.join(NAME))?;
        let mut reader = BufReader::new(file.try_clone()?);
        let (mut lines, mut end, mut line, mut whole) = (HashMap::new(), 0_u64, Vec::new(), true);
        loop {
            line.clear();
            let count = (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line)?;
            if count == 0 {
                break;
            }
            if let Ok(record) = serde_json::from_slice::<Record>(&line) {
                lines.insert(name(&record.key), end);
            }
            end += count as u64;
            whole = line.last() == Some(&b'\n');
        }
        let mut manifest = Self { file, end, lines };
        if !whole {
            manifest.file.write_all(b"\n")?;
            manifest.end += 1;
        }
        Ok(manifest)
    }

    /// What was last written of the key.
    pub(super) fn find(&self, key: &str) -> io::Result<Option<Record>> {
        let Some(at) = self.lines.get(&name(key)) else { return Ok(None) };
        let mut file = &self.file;
        file.seek(SeekFrom::Start(*at))?;
        let mut line = Vec::new();
        BufReader::new(file).take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        Ok(serde_json::from_slice::<Record>(&line).ok().filter(|record| record.key == key))
    }

    /// Adds a line, and has it on the disk before it returns.
    pub(super) fn add(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let at = self.end;
        // Wherever the file is read, it is appended to its end.
        self.file.write_all(&line)?;
        self.file.sync_data()?;
        self.end += line.len() as u64;
        self.lines.insert(name(&record.key), at);
        Ok(())
    }
}

/// What parses as a line is written as one that reads as the same.
#[doc(hidden)]
pub fn fuzz_manifest(line: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<Record>(line) {
        let written = serde_json::to_vec(&record).expect("texts and numbers serialize");
        assert!(!written.contains(&b'\n'));
        assert_eq!(serde_json::from_slice::<Record>(&written).expect("what is written is a line"), record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, size: u64) -> Record {
        let headers = vec![("content-type".to_owned(), "text/\u{f6}".to_owned())];
        let (path, sha256, etag) = (key.to_owned(), "00".repeat(32), "\"e\"".to_owned());
        Record { key: key.to_owned(), path, size, sha256, etag, last_modified: String::new(), headers, tags: None }
    }

    #[test]
    fn the_last_line_of_a_key_counts_also_after_a_crash() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut manifest = Manifest::open(folder.path()).expect("opens");
        for (key, size) in [("a", 1), ("b\n\"", 2), ("a", 3)] {
            manifest.add(&record(key, size)).expect("writes");
        }
        assert_eq!(manifest.find("a").expect("reads"), Some(record("a", 3)));
        drop(manifest);
        let path = folder.path().join(NAME);
        let text = std::fs::read_to_string(&path).expect("reads");
        assert_eq!(text.lines().count(), 3);
        // The last line is cut.
        std::fs::write(&path, &text[..text.len() - 5]).expect("writes");
        let mut manifest = Manifest::open(folder.path()).expect("opens");
        assert_eq!(manifest.find("a").expect("reads"), Some(record("a", 1)));
        manifest.add(&record("c", 4)).expect("writes");
        drop(manifest);
        let manifest = Manifest::open(folder.path()).expect("opens");
        assert_eq!(manifest.find("b\n\"").expect("reads"), Some(record("b\n\"", 2)));
        assert_eq!(manifest.find("c").expect("reads"), Some(record("c", 4)));
        assert_eq!(manifest.find("d").expect("reads"), None);
    }
}

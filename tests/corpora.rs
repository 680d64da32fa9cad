//! Replays the fuzzers' corpora through the properties that the fuzz targets check.

#[path = "../fuzz/src/lib.rs"]
pub mod properties;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use properties::TARGETS;

/// Most files of one corpus, and most bytes of one file: it is to stay quick, and small to look at.
const FILES_MAX: usize = 40;
const BYTES_MAX: usize = 2 << 10;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("listed").path()).collect();
    files.sort();
    files
}

fn stems(folder: &Path) -> BTreeSet<String> {
    files(folder).iter().map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect()
}

#[test]
fn every_corpus_holds() {
    let mut broken = Vec::new();
    for (name, property) in TARGETS {
        let files = files(&folder("corpus").join(name));
        assert!((1..=FILES_MAX).contains(&files.len()), "the corpus of {name} has {} files", files.len());
        for file in files {
            let bytes = fs::read(&file).expect("a corpus file is readable");
            assert!(bytes.len() <= BYTES_MAX, "{} has {} bytes", file.display(), bytes.len());
            if catch_unwind(|| property(&bytes)).is_err() {
                broken.push(file);
            }
        }
    }
    assert!(broken.is_empty(), "properties do not hold for {broken:#?}");
}

#[test]
fn targets_corpora_and_properties_belong_together() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(stems(&folder("fuzz_targets")), names);
    assert_eq!(stems(&folder("corpus")), names);
    for name in names {
        let source = fs::read_to_string(folder("fuzz_targets").join(&name).with_extension("rs")).expect("readable");
        assert!(source.contains(&format!("::{name}(bytes)")), "fuzz_targets/{name}.rs checks something else");
    }
}

//! Each way to rewrite a log is found, and the entry is named.

use std::fs;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::tlog::checkpoint::Checkpoint;
use crate::tlog::log::Log;
use crate::tlog::merkle::Hash;
use crate::tlog::merkle::vectors::naive_root;
use crate::tlog::storage::{Disk, Storage as _};
use crate::tlog::testing::{append_all, copy, entry, leaf, open, settings, signer};
use crate::tlog::tile::{Content, Tile, push_entry};

const SIZE: u64 = 1000;

/// A log of 1,000 entries without its journal, as it is handed to an inspector, and its checkpoint at 600.
async fn log() -> (TempDir, SignedCheckpoint) {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path()).expect("opens");
    append_all(&log, 0..600).await;
    let older = log.publish().await.expect("publishes");
    append_all(&log, 600..SIZE).await;
    log.close().await.expect("closes");
    fs::remove_dir_all(folder.path().join("journal")).expect("removes");
    (folder, older)
}

fn check(folder: &Path, older: Option<&SignedCheckpoint>) -> Result<Report, VerifyError> {
    verify(folder, signer().verifier(), older)
}

/// Replaces the entries of all bundles, cut into bundles of 256 again.
fn put_entries(folder: &Path, entries: &[Vec<u8>]) {
    Disk::assume_no_power_loss().remove(&folder.join("tile/entries")).expect("removes");
    let bundles = (0..).zip(entries.chunks(256)).map(|(index, entries)| {
        let mut bundle = Vec::new();
        entries.iter().for_each(|entry| push_entry(&mut bundle, entry).expect("short"));
        // The last bundle keeps the name that the checkpoint's size gives it.
        let tile = Tile::of_size(Content::Entries, index, SIZE).expect("not empty");
        (tile.to_string(), bundle)
    });
    let files: Vec<_> = bundles.collect();
    Disk::assume_no_power_loss().publish(folder, &files).expect("writes");
}

fn entries() -> Vec<Vec<u8>> {
    (0..SIZE).map(entry).collect()
}

/// What is found when the entries are replaced by those that `change` makes of them.
fn after(folder: &Path, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> VerifyError {
    let copied = tempfile::tempdir().expect("a folder");
    copy(folder, copied.path());
    let mut changed = entries();
    change(&mut changed);
    put_entries(copied.path(), &changed);
    check(copied.path(), None).expect_err("it was changed")
}

/// What is found when `change` was done to the folder.
fn tampered(folder: &Path, older: Option<&SignedCheckpoint>, change: impl FnOnce(&Path)) -> VerifyError {
    let copied = tempfile::tempdir().expect("a folder");
    copy(folder, copied.path());
    change(copied.path());
    check(copied.path(), older).expect_err("it was changed")
}

fn flip(folder: &Path, path: &str, at: usize) {
    let mut bytes = fs::read(folder.join(path)).expect("reads");
    bytes[at] ^= 0x80;
    fs::write(folder.join(path), bytes).expect("writes");
}

#[tokio::test]
async fn a_whole_log_is_whole() {
    let (folder, older) = log().await;
    put_entries(folder.path(), &entries());
    let report = check(folder.path(), Some(&older)).expect("whole");
    assert_eq!(report.checkpoint.checkpoint().size(), SIZE);
    assert_eq!(report.consistent_with, Some(600));
    let own = report.checkpoint.clone();
    assert_eq!(check(folder.path(), Some(&own)).expect("whole").consistent_with, Some(SIZE));
}

#[tokio::test]
async fn altered_entries_are_named() {
    let (folder, _) = log().await;
    for at in [0, 100, 255, 256, 511, 767, 768, 999] {
        let found = after(folder.path(), |entries| entries[at] = b"nothing happened".to_vec());
        assert!(matches!(found, VerifyError::Altered { index } if index == at as u64), "{at}: {found}");
        let found = after(folder.path(), |entries| entries[at][0] ^= 1);
        assert!(matches!(found, VerifyError::Altered { index } if index == at as u64), "{at}: {found}");
    }
}

#[tokio::test]
async fn removed_and_inserted_entries_are_named() {
    let (folder, _) = log().await;
    for at in [0, 100, 254, 255, 256, 998] {
        let found = after(folder.path(), |entries| drop(entries.remove(at)));
        assert!(matches!(found, VerifyError::Removed { index } if index == at as u64), "{at}: {found}");
        let found = after(folder.path(), |entries| entries.insert(at, b"forged".to_vec()));
        assert!(matches!(found, VerifyError::Inserted { index } if index == at as u64), "{at}: {found}");
    }
    // Out of the middle of one bundle, and one whole bundle.
    let found = tampered(folder.path(), None, |folder| {
        let mut bundle = Vec::new();
        (0..256).filter(|n| *n != 7).for_each(|n| push_entry(&mut bundle, &entry(n)).expect("short"));
        fs::write(folder.join("tile/entries/000"), bundle).expect("writes");
    });
    assert!(matches!(found, VerifyError::Removed { index: 7 }), "{found}");
    let found = tampered(folder.path(), None, |folder| {
        fs::remove_file(folder.join("tile/entries/001")).expect("removes");
    });
    assert!(matches!(found, VerifyError::Removed { index: 256 }), "{found}");
    // An addition after the last.
    let found = tampered(folder.path(), None, |folder| {
        let path = folder.join("tile/entries/003.p/232");
        let mut bundle = fs::read(&path).expect("reads");
        push_entry(&mut bundle, b"forged").expect("short");
        fs::write(path, bundle).expect("writes");
    });
    assert!(matches!(found, VerifyError::Inserted { index: SIZE }), "{found}");
}

#[tokio::test]
async fn reordered_entries_are_named() {
    let (folder, _) = log().await;
    for (a, b) in [(0, 1), (5, 9), (255, 256), (3, 999)] {
        let found = after(folder.path(), |entries| entries.swap(a, b));
        let expected = (a as u64, b as u64);
        assert!(matches!(found, VerifyError::Reordered { index, other } if (index, other) == expected), "{found}");
    }
}

#[tokio::test]
async fn a_cut_log_is_cut() {
    let (folder, _) = log().await;
    for left in [999, 768, 767, 256, 255, 1, 0] {
        let found = after(folder.path(), |entries| entries.truncate(left));
        assert!(
            matches!(found, VerifyError::Truncated { index, size: SIZE } if index == left as u64),
            "{left}: {found}"
        );
    }
    let found = tampered(folder.path(), None, |folder| {
        let path = folder.join("tile/entries/003.p/232");
        let bundle = fs::read(&path).expect("reads");
        fs::write(path, &bundle[..bundle.len() - 3]).expect("writes");
    });
    assert!(matches!(found, VerifyError::Truncated { index: 999, .. }), "{found}");
}

#[tokio::test]
async fn every_flipped_byte_of_a_bundle_is_found() {
    let (folder, _) = log().await;
    let length = fs::metadata(folder.path().join("tile/entries/001")).expect("is there").len();
    for at in (0..usize::try_from(length).expect("small")).step_by(7) {
        flip(folder.path(), "tile/entries/001", at);
        let found = check(folder.path(), None).expect_err("it was changed");
        let expected = 256 + at as u64 / 11;
        assert!(matches!(found, VerifyError::Altered { index } if index == expected), "{at}: {found}");
        flip(folder.path(), "tile/entries/001", at);
    }
}

#[tokio::test]
async fn altered_and_missing_tiles_are_named() {
    let (folder, _) = log().await;
    for tile in ["tile/0/000", "tile/0/002", "tile/0/003.p/232", "tile/1/000.p/3"] {
        let found = tampered(folder.path(), None, |folder| flip(folder, tile, 40));
        assert!(matches!(&found, VerifyError::TileAltered { tile: named } if named == tile), "{tile}: {found}");
        let found = tampered(folder.path(), None, |folder| fs::remove_file(folder.join(tile)).expect("removes"));
        assert!(matches!(&found, VerifyError::TileAltered { tile: named } if named == tile), "{tile}: {found}");
        let found = tampered(folder.path(), None, |folder| fs::write(folder.join(tile), b"").expect("writes"));
        assert!(matches!(&found, VerifyError::TileAltered { tile: named } if named == tile), "{tile}: {found}");
    }
}

/// Writes entries and all tiles anew, as somebody does who has the code, and puts the old checkpoint back.
async fn rewrite(folder: &Path, from: u64, to: u64) {
    let checkpoint = fs::read(folder.join("checkpoint")).expect("reads");
    fs::remove_dir_all(folder.join("tile")).expect("removes");
    fs::remove_file(folder.join("checkpoint")).expect("removes");
    let key = crate::crypto::SigningKey::generate().expect("random");
    let forger = crate::tlog::note::Signer::new("example.com/audit", crate::tlog::note::Use::Log, key).expect("a name");
    let disk = Arc::new(Disk::assume_no_power_loss());
    let log = Log::open_on(disk, folder, forger, &settings()).expect("opens");
    append_all(&log, 0..from).await;
    log.append(b"forged".to_vec()).await.expect("appends");
    for index in from + 1..to {
        log.append(entry(index)).await.expect("appends");
    }
    log.close().await.expect("closes");
    fs::write(folder.join("checkpoint"), checkpoint).expect("writes");
    fs::remove_dir_all(folder.join("journal")).expect("removes");
}

#[tokio::test]
async fn a_log_rewritten_with_all_its_tiles_is_found() {
    let (folder, older) = log().await;
    let copied = tempfile::tempdir().expect("a folder");
    copy(folder.path(), copied.path());
    rewrite(copied.path(), 700, SIZE).await;
    assert!(matches!(check(copied.path(), None), Err(VerifyError::Rewritten { from: 0 })));
    assert!(matches!(check(copied.path(), Some(&older)), Err(VerifyError::Rewritten { from: 600 })));
    rewrite(copied.path(), 10, SIZE).await;
    assert!(matches!(check(copied.path(), Some(&older)), Err(VerifyError::Rewritten { from: 0 })));
}

#[tokio::test]
async fn forged_and_replaced_checkpoints_are_found() {
    let (folder, older) = log().await;
    let put = |bytes: &[u8]| {
        let bytes = bytes.to_vec();
        move |folder: &Path| fs::write(folder.join("checkpoint"), bytes).expect("writes")
    };
    let text = fs::read_to_string(folder.path().join("checkpoint")).expect("reads");
    let forged = text.replace("1000", "1001");
    assert_ne!(forged, text);
    let found = tampered(folder.path(), None, put(forged.as_bytes()));
    assert!(matches!(found, VerifyError::Checkpoint(InvalidCheckpoint::Forged)), "{found}");
    let found = tampered(folder.path(), None, put(b"nonsense"));
    assert!(matches!(found, VerifyError::Checkpoint(InvalidCheckpoint::Note(_))), "{found}");
    let found = tampered(folder.path(), None, |folder| fs::remove_file(folder.join("checkpoint")).expect("removes"));
    assert!(matches!(found, VerifyError::NoCheckpoint), "{found}");
    // Back to an older state: its own old checkpoint makes the folder whole again, and only a newer one from elsewhere tells.
    let newer = SignedCheckpoint::open(text.as_bytes(), signer().verifier()).expect("good");
    let found = tampered(folder.path(), Some(&newer), put(older.note().to_string().as_bytes()));
    assert!(matches!(found, VerifyError::RolledBack { size: 600, older: SIZE }), "{found}");
}

#[tokio::test]
async fn two_signed_histories_are_a_fork() {
    let (folder, _) = log().await;
    let leaves: Vec<Hash> = (0..600).map(|index| leaf(index + u64::from(index == 5))).collect();
    let fork = Checkpoint::new("example.com/audit", 600, naive_root(&leaves)).sign(&signer());
    assert!(matches!(check(folder.path(), Some(&fork)), Err(VerifyError::Fork { older: 600 })));
    let fork = Checkpoint::new("example.com/audit", SIZE, naive_root(&leaves)).sign(&signer());
    assert!(matches!(check(folder.path(), Some(&fork)), Err(VerifyError::Fork { older: SIZE })));
    let fork = Checkpoint::new("example.com/audit", 0, naive_root(&leaves)).sign(&signer());
    assert!(matches!(check(folder.path(), Some(&fork)), Err(VerifyError::Fork { older: 0 })));
}

#[tokio::test]
async fn the_journal_is_checked_to_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path()).expect("opens");
    append_all(&log, 0..300).await;
    log.publish().await.expect("publishes");
    for index in 300..310 {
        append_all(&log, index..index + 1).await;
    }
    let report = check(folder.path(), None).expect("whole, while it is open");
    assert_eq!((report.checkpoint.checkpoint().size(), report.after_checkpoint, report.torn_bytes), (300, 10, 0));
    let journal = "journal/00000000000000000000";
    let length = fs::metadata(folder.path().join(journal)).expect("is there").len();
    let length = usize::try_from(length).expect("small");
    let found = tampered(folder.path(), None, |folder| flip(folder, journal, length - 300));
    assert!(matches!(found, VerifyError::JournalDamaged { index: 300..309 }), "{found}");
    let found = tampered(folder.path(), None, |folder| flip(folder, journal, 100));
    assert!(matches!(found, VerifyError::JournalDamaged { index: 0..300 }), "{found}");
    let found = tampered(folder.path(), None, |folder| {
        fs::write(folder.join(journal), &fs::read(folder.join(journal)).expect("reads")[..3000]).expect("writes");
    });
    assert!(matches!(found, VerifyError::JournalDamaged { .. }), "{found}");
    let copied = tempfile::tempdir().expect("a folder");
    copy(folder.path(), copied.path());
    flip(copied.path(), journal, length - 1);
    let report = check(copied.path(), None).expect("whole, but for a torn batch");
    assert_eq!(report.after_checkpoint, 9);
    assert!(report.torn_bytes > 0);
}

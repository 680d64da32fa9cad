//! What a copy of the database tells.

use std::fs;
use std::path::{Path, PathBuf};

use super::database::{Database, new_kek, put, save_kek, seals, settings};
use super::on_both;
use crate::custodian::audit::permit;
use crate::custodian::store::{Bound, Kind, LedgerEntry, SealedStore};
use crate::custody::wrapped::WrappedKey;
use crate::names::{BranchId, KekName, KekVersion};

on_both!(a_copy_of_the_database_has_no_key_and_no_name_in_the_clear);

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("lists").flatten() {
        let path = entry.path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn contains(folder: &Path, needle: &[u8]) -> bool {
    let mut found = Vec::new();
    files(folder, &mut found);
    assert!(!found.is_empty());
    found.iter().any(|file| {
        // A file of the server's may be gone by now.
        let content = fs::read(file).unwrap_or_default();
        memchr::memmem::find(&content, needle).is_some()
    })
}

async fn a_copy_of_the_database_has_no_key_and_no_name_in_the_clear(database: Database) {
    let (root, store) = database.sealed().await;
    let name = KekName::new("a-kek-with-a-telling-name").expect("legal");
    let mut kek = new_kek();
    kek.rotate(1, permit()).expect("rotates");
    save_kek(&store, &name, &kek, 0).await.expect("saves");
    let planted = b"planted: 7b6e0c1f93";
    let principal = "spiffe://example.org/officer/planted";
    store.change(&[put(principal, 0, planted)]).await.expect("writes");
    let entry = LedgerEntry {
        id: BranchId::from_bytes(*b"branch key id 16"),
        kek: name.clone(),
        wrapped: WrappedKey::new(KekVersion::FIRST, b"wrapped wrapped wrapped".to_vec()).expect("short"),
        bound: Bound::Hash(*b"a context hash of 32 bytes......"),
        created_unix_s: 1,
    };
    store.append_branches(&[entry]).await.expect("appends");
    store.change_seals(&seals(&root).await, 1).await.expect("writes");
    let read = SealedStore::open(database.again(settings()).await.expect("opens"), &root).await.expect("opens");
    assert_eq!(read.list(Kind::Grant).await.expect("reads").records[0].body.as_slice(), planted);

    // The scan finds what is there: the sealed rows themselves.
    let folder = database.folder();
    let sealed = &database.raw_rows(Kind::Grant).await[0].3;
    assert!(contains(&folder, &sealed[..40]), "the scan does not see the database");

    let kek = kek.to_bytes();
    let (newest, older) = (&kek[kek.len() - 32..], &kek[kek.len() - 64..]);
    assert!(newest.len() == 32 && older.len() == 64);
    for (what, needle) in [
        ("the root key", root.expose().as_slice()),
        ("the newest version of a KEK", newest),
        ("a record's body", planted),
        ("a principal", principal.as_bytes()),
        ("a KEK's name", name.as_str().as_bytes()),
        ("a branch key's id", b"branch key id 16"),
        ("a wrapped branch key", b"wrapped wrapped wrapped"),
        ("a context's hash", b"a context hash of 32 bytes"),
    ] {
        assert!(!contains(&folder, needle), "{what} stands in the database in the clear");
    }
}

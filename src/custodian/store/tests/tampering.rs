//! A database whose operator alters what it holds.

use super::database::{Database, RawRow, new_kek, put, save_kek, seals, settings};
use super::on_both;
use crate::custodian::seal::RootKey;
use crate::custodian::store::session::Value;
use crate::custodian::store::{
    Bound, Change, Corruption, Kind, LedgerEntry, LogEvidence, SealedStore, StoreError, Verdict,
};
use crate::custody::wrapped::WrappedKey;
use crate::names::{BranchId, KekName, KekVersion};

on_both!(
    a_flipped_byte_in_any_row_is_corruption,
    rows_in_each_others_places_are_corruption,
    a_removed_row_is_corruption,
    an_older_version_of_a_row_is_corruption,
    an_older_list_of_seals_is_corruption,
    a_store_put_back_whole_is_noticed,
    another_root_key_opens_nothing,
    the_ledger_is_authentic_row_by_row,
);

fn flipped(row: &RawRow, at: usize) -> RawRow {
    let mut row = row.clone();
    let at = at % row.3.len();
    row.3[at] ^= 1;
    row
}

fn is_corrupt<T>(result: Result<T, StoreError>, what: Corruption) -> bool {
    matches!(result, Err(StoreError::Corrupt(found)) if found == what)
}

async fn with_records(database: &Database) -> (RootKey, SealedStore) {
    let (root, store) = database.sealed().await;
    for name in ["one", "two"] {
        let name = KekName::new(name).expect("legal");
        save_kek(&store, &name, &new_kek(), 0).await.expect("saves");
    }
    store.change(&[put("alice", 0, b"one")]).await.expect("writes");
    (root, store)
}

async fn a_flipped_byte_in_any_row_is_corruption(database: Database) {
    let (root, store) = with_records(&database).await;
    for kind in [Kind::Kek, Kind::Grant] {
        for row in database.raw_rows(kind).await {
            for at in [0, 5, 12, 40, row.3.len() - 1] {
                database.put_raw(kind, flipped(&row, at)).await;
                assert!(is_corrupt(store.list(kind).await, Corruption::Row), "{kind:?} at {at}");
                assert!(is_corrupt(SealedStore::open(database.store.clone(), &root).await, Corruption::Row));
            }
            database.put_raw(kind, row).await;
        }
    }
    let alice = database.raw_rows(Kind::Grant).await.remove(0);
    database.put_raw(Kind::Grant, flipped(&alice, 3)).await;
    assert!(is_corrupt(store.get(Kind::Grant, "alice").await, Corruption::Row));
    assert!(is_corrupt(store.change(&[put("alice", 1, b"two")]).await, Corruption::Row));
    let mut later = alice.clone();
    later.2 += 1;
    database.put_raw(Kind::Grant, later).await;
    assert!(is_corrupt(store.get(Kind::Grant, "alice").await, Corruption::Row), "another version");
    database.put_raw(Kind::Grant, alice).await;
    assert!(store.list(Kind::Grant).await.is_ok());

    let epoch = database.raw_rows(Kind::Epoch).await.remove(0);
    for at in 0..epoch.3.len() {
        database.put_raw(Kind::Epoch, flipped(&epoch, at)).await;
        assert!(is_corrupt(store.epoch().await, Corruption::Epoch), "{at}");
    }
    assert!(is_corrupt(store.change(&[put("bob", 0, b"")]).await, Corruption::Epoch));
}

async fn rows_in_each_others_places_are_corruption(database: Database) {
    let (_, store) = with_records(&database).await;
    let rows = database.raw_rows(Kind::Kek).await;
    let swapped = |id: &RawRow, content: &RawRow| (id.0.clone(), id.1.clone(), content.2, content.3.clone());
    database.put_raw(Kind::Kek, swapped(&rows[0], &rows[1])).await;
    database.put_raw(Kind::Kek, swapped(&rows[1], &rows[0])).await;
    assert!(is_corrupt(store.list(Kind::Kek).await, Corruption::Row));
    assert!(is_corrupt(store.get(Kind::Kek, "one").await, Corruption::Row));
    for row in &rows {
        database.put_raw(Kind::Kek, row.clone()).await;
    }
    assert!(store.list(Kind::Kek).await.is_ok());
    database.put_raw(Kind::Proposal, rows[0].clone()).await;
    assert!(is_corrupt(store.list(Kind::Proposal).await, Corruption::Row), "another kind");
}

async fn a_removed_row_is_corruption(database: Database) {
    let (root, store) = with_records(&database).await;
    store.change(&[put("bob", 0, b"two")]).await.expect("writes");
    for row in database.raw_rows(Kind::Grant).await {
        let key = vec![Value::Text("grant"), Value::Bytes(row.1.clone())];
        assert_eq!(database.sql("DELETE FROM records WHERE kind = $1 AND id = $2", key).await, 1);
        assert!(is_corrupt(store.list(Kind::Grant).await, Corruption::Account));
        assert!(is_corrupt(SealedStore::open(database.store.clone(), &root).await, Corruption::Account));
        database.put_raw(Kind::Grant, row).await;
    }
    assert!(store.list(Kind::Grant).await.is_ok());
    database.sql("DELETE FROM records WHERE kind = 'grant'", Vec::new()).await;
    assert!(is_corrupt(store.list(Kind::Grant).await, Corruption::Account));
    database.sql("DELETE FROM records WHERE kind = 'epoch'", Vec::new()).await;
    assert!(is_corrupt(store.list(Kind::Kek).await, Corruption::Epoch));
}

async fn an_older_version_of_a_row_is_corruption(database: Database) {
    let (_, store) = with_records(&database).await;
    let old = database.raw_rows(Kind::Grant).await.remove(0);
    store.change(&[put("alice", 1, b"two")]).await.expect("writes");
    let new = database.raw_rows(Kind::Grant).await.remove(0);
    database.put_raw(Kind::Grant, old.clone()).await;
    assert!(is_corrupt(store.list(Kind::Grant).await, Corruption::Account));
    // Removed and made anew, it has its first version again; the first one of then does not pass for it.
    database.put_raw(Kind::Grant, new).await;
    store.change(&[Change::Remove { kind: Kind::Grant, name: "alice", expected: 2 }]).await.expect("removes");
    store.change(&[put("alice", 0, b"three")]).await.expect("writes");
    database.put_raw(Kind::Grant, old).await;
    assert!(is_corrupt(store.list(Kind::Grant).await, Corruption::Account));
}

async fn an_older_list_of_seals_is_corruption(database: Database) {
    let (root, store) = database.sealed().await;
    let old = database.raw_rows(Kind::Seals).await.remove(0);
    store.change_seals(&seals(&root).await, 1).await.expect("writes");
    database.put_raw(Kind::Seals, old.clone()).await;
    assert!(is_corrupt(SealedStore::open(database.store.clone(), &root).await, Corruption::Account));
    let cut = (old.0, old.1, old.2, old.3[..20].to_vec());
    database.put_raw(Kind::Seals, cut).await;
    assert!(is_corrupt(SealedStore::seals(&*database.store).await, Corruption::Seals));
}

async fn a_store_put_back_whole_is_noticed(database: Database) {
    let (root, store) = with_records(&database).await;
    let mut backup = Vec::new();
    for kind in [Kind::Epoch, Kind::Grant] {
        backup.push((kind, database.raw_rows(kind).await));
    }
    let before = store.epoch().await.expect("reads").generation();
    store.change(&[put("alice", 1, b"revoked")]).await.expect("writes");
    for (kind, rows) in backup {
        for row in rows {
            database.put_raw(kind, row).await;
        }
    }
    // To whoever was there, at once; to whoever comes later, by the log.
    let noticed = store.list(Kind::Grant).await;
    assert!(matches!(noticed, Err(StoreError::RolledBack { seen, found }) if seen == before + 1 && found == before));
    assert!(matches!(store.epoch().await, Err(StoreError::RolledBack { .. })));
    assert!(matches!(store.change(&[put("x", 0, b"")]).await, Err(StoreError::RolledBack { .. })));
    let later = SealedStore::open(database.again(settings()).await.expect("opens"), &root).await.expect("is whole");
    let log = LogEvidence { generation: before + 1, size: 0, root_at: &|_| None };
    let verdict = later.epoch().await.expect("reads").judge("custodian-1", &log);
    assert_eq!(verdict, Verdict::StoreIsOld { store: before, log: before + 1 });
}

async fn another_root_key_opens_nothing(database: Database) {
    with_records(&database).await;
    let other = RootKey::random().expect("random");
    assert!(is_corrupt(SealedStore::open(database.store.clone(), &other).await, Corruption::Epoch));
}

async fn the_ledger_is_authentic_row_by_row(database: Database) {
    let (_, store) = database.sealed().await;
    let kek = KekName::new("records").expect("legal");
    let entry = |id: u8| LedgerEntry {
        id: BranchId::from_bytes([id; 16]),
        kek: kek.clone(),
        wrapped: WrappedKey::new(KekVersion::FIRST, vec![id; 60]).expect("60 bytes"),
        bound: Bound::Hash([9; 32]),
        created_unix_s: 1,
    };
    let restore = async || {
        database.sql("DELETE FROM branches", Vec::new()).await;
        store.append_branches(&[entry(1), entry(2)]).await.expect("appends");
    };
    let tampered = async |sql: &'static str| {
        restore().await;
        assert!(database.sql(sql, Vec::new()).await > 0);
        is_corrupt(store.branch(entry(1).id).await, Corruption::Row)
            || is_corrupt(store.branch_states(&kek, None).await, Corruption::Row)
    };
    restore().await;
    assert!(store.branch_states(&kek, None).await.is_ok_and(|page| page.branches.len() == 2));
    assert!(tampered("UPDATE branches SET kek_version = 2").await, "another version");
    assert!(
        tampered("UPDATE branches SET sealed = (SELECT b.sealed FROM branches b ORDER BY b.sealed LIMIT 1)").await,
        "another row's"
    );
    assert!(tampered("UPDATE branches SET sealed = substr(sealed, 2)").await, "cut in front");
    assert!(tampered("UPDATE branches SET sealed = substr(sealed, 1, length(sealed) - 1)").await, "cut at the end");
    assert!(tampered("UPDATE branches SET sealed = substr(sealed, 1, 0)").await, "emptied");
    assert!(tampered("UPDATE branches SET sealed = substr(sealed, 1, 20) || substr(sealed, 20)").await, "longer");
    restore().await;
    // Under another KEK's id it does not open there.
    database.sql("UPDATE branches SET kek = id", Vec::new()).await;
    assert!(is_corrupt(store.branch(entry(1).id).await, Corruption::Row));
}

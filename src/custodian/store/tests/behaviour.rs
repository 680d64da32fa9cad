//! What both databases do alike.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::database::{Database, new_kek, put, save_kek, seals, settings};
use super::on_both;
use crate::custodian::audit::permit;
use crate::custodian::kek::Kek;
use crate::custodian::store::{
    BRANCHES_MAX, Bound, Change, Confirmation, Kind, LedgerEntry, LogEvidence, LogHead, SealedStore, StoreError,
    Verdict,
};
use crate::custody::wrapped::WrappedKey;
use crate::names::{BranchId, KekName, KekVersion};

on_both!(
    records_come_back_from_another_connection,
    a_record_changes_only_from_the_version_that_was_read,
    changes_happen_together_or_not_at_all,
    of_custodians_that_rotate_one_kek_none_loses_a_version,
    custodians_change_different_records_side_by_side,
    a_store_is_made_once,
    seals_are_changed_from_the_list_that_was_read,
    the_ledger_is_read_by_pages_and_counted,
    the_ledger_takes_an_entry_once_and_all_or_none,
    what_was_read_back_of_hundreds_comes_back_as_the_last_word_says,
    the_epoch_remembers_logs,
    limits_are_kept,
    the_schema_is_made_once_by_many,
);

fn kek(name: &str) -> KekName {
    KekName::new(name).expect("legal")
}

async fn records_come_back_from_another_connection(database: Database) {
    let (root, store) = database.sealed().await;
    assert_eq!(store.epoch().await.expect("reads").generation(), 1);
    let epoch = store.change(&[put("alice", 0, b"one"), put("bob", 0, b"two")]).await.expect("writes");
    assert_eq!(epoch.generation(), 2);
    let other = SealedStore::open(database.again(settings()).await.expect("opens"), &root).await.expect("opens");
    let alice = other.get(Kind::Grant, "alice").await.expect("reads").expect("is there");
    assert_eq!((alice.name.as_str(), alice.version, alice.body.as_slice()), ("alice", 1, b"one".as_slice()));
    assert_eq!((alice.state, alice.expires_unix_s), (1, Some(1_800_000_000)));
    let listing = other.list(Kind::Grant).await.expect("reads");
    assert_eq!(listing.epoch.generation(), 2);
    let names: BTreeSet<_> = listing.records.iter().map(|record| record.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["alice", "bob"]));
    assert!(other.get(Kind::Proposal, "alice").await.expect("reads").is_none(), "another kind");
    assert!(other.list(Kind::Proposal).await.expect("reads").records.is_empty());
    other.change(&[Change::Remove { kind: Kind::Grant, name: "alice", expected: 1 }]).await.expect("removes");
    assert!(store.get(Kind::Grant, "alice").await.expect("reads").is_none());
    assert_eq!(store.list(Kind::Grant).await.expect("reads").records.len(), 1);
}

async fn a_record_changes_only_from_the_version_that_was_read(database: Database) {
    let (_, store) = database.sealed().await;
    store.change(&[put("alice", 0, b"one")]).await.expect("writes");
    store.change(&[put("alice", 1, b"two")]).await.expect("writes");
    for stale in [0, 1, 3, u64::MAX] {
        let refused = store.change(&[put("alice", stale, b"lost")]).await;
        assert!(matches!(refused, Err(StoreError::Conflict)), "{stale}");
        let refused = store.change(&[Change::Remove { kind: Kind::Grant, name: "alice", expected: stale }]).await;
        assert!(matches!(refused, Err(StoreError::Conflict)), "{stale}");
    }
    let alice = store.get(Kind::Grant, "alice").await.expect("reads").expect("is there");
    assert_eq!((alice.version, alice.body.as_slice()), (2, b"two".as_slice()));
    assert_eq!(store.list(Kind::Grant).await.expect("whole").records.len(), 1);
}

async fn changes_happen_together_or_not_at_all(database: Database) {
    let (_, store) = database.sealed().await;
    store.change(&[put("alice", 0, b"one")]).await.expect("writes");
    let refused = store.change(&[put("bob", 0, b"two"), put("alice", 7, b"lost")]).await;
    assert!(matches!(refused, Err(StoreError::Conflict)));
    assert!(store.get(Kind::Grant, "bob").await.expect("reads").is_none());
    assert_eq!(store.epoch().await.expect("reads").generation(), 2);
    let twice = [put("carol", 0, b"one"), put("carol", 0, b"two")];
    assert!(store.change(&twice).await.is_err());
    assert!(store.get(Kind::Grant, "carol").await.expect("reads").is_none());
    store.list(Kind::Grant).await.expect("whole");
}

async fn rotate_until_done(store: SealedStore, name: KekName, times: u32) {
    for _ in 0..times {
        loop {
            let record = store.get(Kind::Kek, name.as_str()).await.expect("reads").expect("is there");
            let mut kek = Kek::parse(&record.body).expect("parses");
            kek.rotate(1, permit()).expect("rotates");
            match save_kek(&store, &name, &kek, record.version).await {
                Ok(()) => break,
                Err(StoreError::Conflict | StoreError::Busy) => {}
                Err(failed) => panic!("{failed}"),
            }
        }
    }
}

async fn of_custodians_that_rotate_one_kek_none_loses_a_version(database: Database) {
    const CUSTODIANS: u32 = 3;
    const TIMES: u32 = 5;
    let (root, store) = database.sealed().await;
    let name = kek("records");
    save_kek(&store, &name, &new_kek(), 0).await.expect("saves");
    let root = Arc::new(root);
    let mut custodians = Vec::new();
    for _ in 0..CUSTODIANS {
        let raw = database.again(settings()).await.expect("opens");
        let store = SealedStore::open(raw, &root).await.expect("opens");
        custodians.push(tokio::spawn(rotate_until_done(store, name.clone(), TIMES)));
    }
    for custodian in custodians {
        custodian.await.expect("does not panic");
    }
    let stored = store.list(Kind::Kek).await.expect("whole").records.remove(0);
    let versions = 1 + CUSTODIANS * TIMES;
    assert_eq!(Some(Kek::parse(&stored.body).expect("parses").latest()), KekVersion::new(versions));
    assert_eq!(stored.version, u64::from(versions));
}

async fn custodians_change_different_records_side_by_side(database: Database) {
    let (root, store) = database.sealed().await;
    let other = SealedStore::open(database.again(settings()).await.expect("opens"), &root).await.expect("opens");
    let write = async |store: &SealedStore, prefix: &str| {
        for number in 0..8 {
            store.change(&[put(&format!("{prefix}{number}"), 0, b"x")]).await.expect("gets its turn");
        }
    };
    tokio::join!(write(&store, "a"), write(&other, "b"));
    assert_eq!(store.list(Kind::Grant).await.expect("whole").records.len(), 16);
    assert_eq!(store.epoch().await.expect("reads").generation(), 17);
}

async fn a_store_is_made_once(database: Database) {
    assert!(matches!(SealedStore::seals(&*database.store).await, Err(StoreError::Empty)));
    let (root, _) = database.sealed().await;
    let again = SealedStore::create(database.store.clone(), &root, &seals(&root).await).await;
    assert!(matches!(again, Err(StoreError::Conflict)));
    let (_, version) = SealedStore::seals(&*database.store).await.expect("reads");
    assert_eq!(version, 1);
}

async fn seals_are_changed_from_the_list_that_was_read(database: Database) {
    let (root, store) = database.sealed().await;
    let (first, version) = SealedStore::seals(&*database.store).await.expect("reads");
    let next = seals(&root).await;
    store.change_seals(&next, version).await.expect("writes");
    assert!(matches!(store.change_seals(&first, version).await, Err(StoreError::Conflict)));
    let (read, version) = SealedStore::seals(&*database.store).await.expect("reads");
    assert!(read == next && version == 2);
    assert!(SealedStore::open(database.store.clone(), &root).await.is_ok());
}

fn entry(number: u32, kek: &KekName, version: u32) -> LedgerEntry {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    LedgerEntry {
        id: BranchId::from_bytes(id),
        kek: kek.clone(),
        wrapped: WrappedKey::new(KekVersion::new(version).expect("not zero"), vec![7; 60]).expect("60 bytes"),
        bound: Bound::Hash([9; 32]),
        created_unix_s: 1_700_000_000,
    }
}

async fn the_ledger_is_read_by_pages_and_counted(database: Database) {
    let (_, store) = database.sealed().await;
    let [records, other] = ["records", "other"].map(kek);
    let count = u32::try_from(2 * BRANCHES_MAX).expect("small") + 5;
    let all: Vec<LedgerEntry> = (0..count).map(|number| entry(number, &records, 1)).collect();
    for some in all.chunks(BRANCHES_MAX) {
        store.append_branches(some).await.expect("appends");
    }
    store
        .append_branches(&[entry(0, &records, 2), entry(0, &records, 3), entry(99_999, &other, 1)])
        .await
        .expect("appends");

    let first = KekVersion::FIRST;
    let mut read = BTreeSet::new();
    let (mut from, mut pages) = (None, 0);
    loop {
        let page = store.branch_states(&records, from).await.expect("reads");
        pages += 1;
        read.extend(page.branches.iter().map(|state| *state.id.as_bytes()));
        let firsts = page.branches.iter().map(|state| &state.entries[0]);
        assert!(firsts.into_iter().all(|entry| entry.wrapped.version() == first && entry.kek == records));
        let several = page.branches.iter().filter(|state| state.entries.len() > 1);
        for state in several {
            assert_eq!(state.entries, [1, 2, 3].map(|version| entry(0, &records, version)), "never cut in two");
        }
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!((read.len(), pages), (all.len(), 2));
    let counts = store.count_branches(&records).await.expect("counts");
    let counts: Vec<_> = counts.into_iter().map(|(version, count)| (version.number(), count)).collect();
    assert_eq!(counts, [(1, u64::from(count)), (2, 1), (3, 1)]);
    let forms = store.branch(BranchId::from_bytes([0; 16])).await.expect("reads");
    assert_eq!(forms, [1, 2, 3].map(|version| entry(0, &records, version)));
    assert!(store.branch(BranchId::from_bytes([8; 16])).await.expect("reads").is_empty());
    assert!(store.count_branches(&kek("unknown")).await.expect("counts").is_empty());
}

async fn the_ledger_takes_an_entry_once_and_all_or_none(database: Database) {
    let (_, store) = database.sealed().await;
    let records = kek("records");
    store.append_branches(&[entry(1, &records, 1)]).await.expect("appends");
    let later = LedgerEntry { created_unix_s: 1, ..entry(1, &records, 1) };
    store.append_branches(&[later, entry(2, &records, 1)]).await.expect("appends");
    assert_eq!(store.branch(entry(1, &records, 1).id).await.expect("reads"), [entry(1, &records, 1)]);
    assert_eq!(store.count_branches(&records).await.expect("counts"), [(KekVersion::FIRST, 2)]);
    let too_many = vec![entry(3, &records, 1); BRANCHES_MAX + 1];
    assert!(matches!(store.append_branches(&too_many).await, Err(StoreError::TooLarge)));
    assert_eq!(store.count_branches(&records).await.expect("counts"), [(KekVersion::FIRST, 2)]);
}

fn confirmation(version: u32, at_unix_s: i64) -> Confirmation {
    Confirmation { version: KekVersion::new(version).expect("not zero"), at_unix_s }
}

async fn what_was_read_back_of_hundreds_comes_back_as_the_last_word_says(database: Database) {
    let (_, store) = database.sealed().await;
    let [records, other] = ["records", "other"].map(kek);
    let ids: Vec<BranchId> = (0..201).map(|number| entry(number, &records, 1).id).collect();
    let rows = (0..201).flat_map(|number| [1, 2].map(|version| entry(number, &records, version)));
    store.append_branches(&rows.collect::<Vec<_>>()).await.expect("appends");
    store.append_branches(&[entry(500, &other, 1)]).await.expect("appends");

    let all = |at| ids.iter().map(|id| (*id, Some(confirmation(2, at)))).collect::<Vec<_>>();
    store.confirm_branches(&records, "main", &all(10)).await.expect("writes");
    store.confirm_branches(&records, "second", &all(20)).await.expect("writes");
    let again =
        [(ids[7], None), (ids[7], Some(confirmation(1, 30))), (ids[8], Some(confirmation(2, 30))), (ids[8], None)];
    let removed: Vec<_> = ids[20..120].iter().map(|id| (*id, None)).collect();
    store.confirm_branches(&records, "main", &[again.to_vec(), removed].concat()).await.expect("writes");

    // Some of them twice, one of another KEK, and one that nobody knows.
    let strangers = [entry(500, &other, 1).id, entry(501, &records, 1).id, ids[0], ids[0]];
    let states = store.branch_states_of(&records, &[ids.as_slice(), &strangers].concat()).await.expect("reads");
    assert_eq!(states.len(), ids.len());
    for state in states {
        let number = ids.iter().position(|id| *id == state.id).expect("one of them");
        let versions: Vec<u32> = state.entries.iter().map(|entry| entry.wrapped.version().number()).collect();
        assert_eq!(versions, [1, 2], "{number}");
        let main = match number {
            7 => Some(confirmation(1, 30)),
            8 | 20..120 => None,
            _ => Some(confirmation(2, 10)),
        };
        let found = (state.confirmed.get("main").copied(), state.confirmed.get("second").copied());
        assert_eq!(found, (main, Some(confirmation(2, 20))), "{number}");
    }
}

async fn the_epoch_remembers_logs(database: Database) {
    let (root, store) = database.sealed().await;
    let head = LogHead { size: 100, root: [7; 32] };
    store.note_log("custodian-1", head).await.expect("writes");
    let other = SealedStore::open(database.again(settings()).await.expect("opens"), &root).await.expect("opens");
    let epoch = other.epoch().await.expect("reads");
    assert_eq!((epoch.log_head("custodian-1"), epoch.log_head("custodian-2")), (Some(head), None));
    let log = LogEvidence { generation: 3, size: 100, root_at: &|_| Some([7; 32]) };
    assert_eq!(epoch.judge("custodian-1", &log), Verdict::StoreIsOld { store: 2, log: 3 });
    let log = LogEvidence { generation: 2, ..log };
    assert_eq!(epoch.judge("custodian-1", &log), Verdict::Agree);
}

async fn limits_are_kept(database: Database) {
    let (_, store) = database.sealed().await;
    store.change(&[put("large", 0, &vec![1; 255 * 1024])]).await.expect("fits");
    assert!(matches!(store.change(&[put("l", 0, &vec![1; 256 * 1024])]).await, Err(StoreError::TooLarge)));
    assert!(matches!(store.change(&[put("", 0, b"")]).await, Err(StoreError::TooLarge)));
    let names: Vec<String> = (0..65).map(|number| number.to_string()).collect();
    let changes: Vec<Change<'_>> = names.iter().map(|name| put(name, 0, b"")).collect();
    assert!(matches!(store.change(&changes).await, Err(StoreError::TooLarge)));
    store.change(&changes[..64]).await.expect("fits");
    assert_eq!(store.list(Kind::Grant).await.expect("whole").records.len(), 65);
}

async fn the_schema_is_made_once_by_many(database: Database) {
    database.sql("DROP TABLE records", Vec::new()).await;
    database.sql("DROP TABLE branches", Vec::new()).await;
    database.sql("DROP TABLE confirmations", Vec::new()).await;
    database.sql("DROP TABLE claviger_schema", Vec::new()).await;
    let (one, two, three) =
        tokio::join!(database.again(settings()), database.again(settings()), database.again(settings()));
    one.and(two).and(three).expect("all open");
    let (_, store) = database.sealed().await;
    store.change(&[put("alice", 0, b"one")]).await.expect("writes");
    database.sql("UPDATE claviger_schema SET version = 99", Vec::new()).await;
    let refused = database.again(settings()).await.err();
    assert!(matches!(refused, Some(StoreError::SchemaTooNew { found: 99, known: 2 })));
}

//! Branch keys as a whole: confirmations that somebody altered, and stores of before there were any.

use super::database::{Database, settings};
use super::on_both;
use crate::custodian::store::session::Value;
use crate::custodian::store::{
    Bound, Confirmation, Corruption, Kind, LedgerEntry, SITE_LEN_MAX, SealedStore, StoreError,
};
use crate::custody::context::BranchContext;
use crate::custody::wrapped::WrappedKey;
use crate::names::{BranchId, KekName, KekVersion, LogicalBucket, Purpose, WriterDomain};

on_both!(
    altered_and_exchanged_confirmations_are_corruption,
    confirmations_that_are_gone_or_elsewhere_confirm_nothing,
    a_confirmation_of_a_store_of_another_root_key_is_corruption,
    a_store_of_the_first_schema_is_brought_up_to_date,
    several_custodians_bring_an_old_store_up_to_date_at_once,
    limits_of_confirmations_are_kept,
    custodians_that_write_the_same_in_another_order_do_not_lock_each_other_out,
);

fn kek() -> KekName {
    KekName::new("records").expect("legal")
}

fn id(number: u8) -> BranchId {
    BranchId::from_bytes([number; 16])
}

fn version(number: u32) -> KekVersion {
    KekVersion::new(number).expect("not zero")
}

fn entry(number: u8, under: u32, kek: &KekName) -> LedgerEntry {
    let context = BranchContext {
        purpose: Purpose::Object,
        bucket: LogicalBucket::new("ledger").expect("legal"),
        writer: WriterDomain::new("proxy/us").expect("legal"),
        id: id(number),
    };
    let wrapped = WrappedKey::new(version(under), vec![number; 60]).expect("60 bytes");
    let bound = Bound::To { context, generated: KekVersion::FIRST };
    LedgerEntry { id: id(number), kek: kek.clone(), wrapped, bound, created_unix_s: 1 }
}

fn at(number: u32) -> Option<Confirmation> {
    Some(Confirmation { version: version(number), at_unix_s: 1_700_000_000 })
}

/// Two branch keys in two versions each, confirmed at two sites.
async fn confirmed(store: &SealedStore) {
    for number in [1, 2] {
        for under in [1, 2] {
            store.append_branches(&[entry(number, under, &kek())]).await.expect("appends");
        }
    }
    for site in ["main", "dr"] {
        store.confirm_branches(&kek(), site, &[(id(1), at(2)), (id(2), at(2))]).await.expect("confirms");
    }
}

/// Whether what is read of the KEK's branch keys, by page or by name, is refused as corrupt.
async fn is_corrupt(store: &SealedStore) -> bool {
    let page = store.branch_states(&kek(), None).await;
    let named = store.branch_states_of(&kek(), &[id(1), id(2)]).await;
    let corrupt = |error: &StoreError| matches!(error, StoreError::Corrupt(Corruption::Row));
    let (page, named) = (page.as_ref().err().is_some_and(corrupt), named.as_ref().err().is_some_and(corrupt));
    assert_eq!(page, named);
    page
}

/// How many sites each of the two is confirmed at.
async fn sites(store: &SealedStore) -> [usize; 2] {
    let states = store.branch_states_of(&kek(), &[id(1), id(2)]).await.expect("reads");
    let of = |number: u8| states.iter().find(|state| state.id == id(number)).expect("there").confirmed.len();
    [of(1), of(2)]
}

async fn altered_and_exchanged_confirmations_are_corruption(database: Database) {
    let (_, store) = database.sealed().await;
    confirmed(&store).await;
    assert_eq!(sites(&store).await, [2, 2]);
    for sql in [
        "UPDATE confirmations SET kek_version = 1",
        "UPDATE confirmations SET kek_version = 3",
        "UPDATE confirmations SET sealed = substr(sealed, 2)",
        "UPDATE confirmations SET sealed = substr(sealed, 1, length(sealed) - 1)",
        "UPDATE confirmations SET sealed = substr(sealed, 1, 20) || substr(sealed, 20)",
        "UPDATE confirmations SET sealed = substr(sealed, 1, 0)",
        // Another branch key's, or another site's.
        "UPDATE confirmations SET sealed = (SELECT c.sealed FROM confirmations c ORDER BY c.sealed LIMIT 1)",
        // A row of the ledger in its place.
        "UPDATE confirmations SET sealed = (SELECT b.sealed FROM branches b ORDER BY b.sealed LIMIT 1)",
    ] {
        assert!(database.sql(sql, Vec::new()).await > 0, "{sql}");
        assert!(is_corrupt(&store).await, "{sql}");
        for site in ["main", "dr"] {
            store.confirm_branches(&kek(), site, &[(id(1), at(2)), (id(2), at(2))]).await.expect("confirms");
        }
        assert_eq!(sites(&store).await, [2, 2], "what is confirmed anew is whole: {sql}");
    }
    // In each other's places: branch keys, and sites.
    let [one, two] = [1, 2].map(|number| store.barrier.id(Kind::Branch, id(number).as_bytes()));
    let [main, dr] = ["main", "dr"].map(|site| store.barrier.id(Kind::Confirmation, site.as_bytes()));
    let bytes = |id: crate::custodian::barrier::RowId| Value::Bytes(id.as_bytes().to_vec());
    for (column, from, to) in [("id", one, two), ("site", main, dr)] {
        let (delete, update) = match column {
            "id" => ("DELETE FROM confirmations WHERE id = $1", "UPDATE confirmations SET id = $1 WHERE id = $2"),
            _ => ("DELETE FROM confirmations WHERE site = $1", "UPDATE confirmations SET site = $1 WHERE site = $2"),
        };
        assert_eq!(database.sql(delete, vec![bytes(to)]).await, 2);
        assert_eq!(database.sql(update, vec![bytes(to), bytes(from)]).await, 2);
        assert!(is_corrupt(&store).await, "{column}");
        database.sql("DELETE FROM confirmations", Vec::new()).await;
        confirmed(&store).await;
    }
    assert_eq!(sites(&store).await, [2, 2]);
}

async fn confirmations_that_are_gone_or_elsewhere_confirm_nothing(database: Database) {
    let (_, store) = database.sealed().await;
    confirmed(&store).await;
    let row = store.barrier.id(Kind::Branch, id(1).as_bytes());
    let gone = database.sql("DELETE FROM confirmations WHERE id = $1", vec![Value::Bytes(row.as_bytes().to_vec())]);
    assert_eq!(gone.await, 2);
    assert_eq!(sites(&store).await, [0, 2]);
    store.confirm_branches(&kek(), "main", &[(id(2), None)]).await.expect("takes it back");
    assert_eq!(sites(&store).await, [0, 1]);
    // Under another KEK's id.
    assert_eq!(database.sql("UPDATE confirmations SET kek = id", Vec::new()).await, 1);
    assert_eq!(sites(&store).await, [0, 0]);
    // For a branch key that the ledger does not have.
    store.confirm_branches(&kek(), "main", &[(id(7), at(2))]).await.expect("writes");
    let page = store.branch_states(&kek(), None).await.expect("reads");
    assert_eq!(page.branches.len(), 2, "none comes into being by it");
    assert!(store.branch_states_of(&kek(), &[id(7)]).await.expect("reads").is_empty());
}

async fn a_confirmation_of_a_store_of_another_root_key_is_corruption(database: Database) {
    let (_, store) = database.sealed().await;
    confirmed(&store).await;
    let other = Database::sqlite().await;
    let (_, foreign) = other.sealed().await;
    confirmed(&foreign).await;
    let place = store.barrier.id(Kind::Confirmation, b"main");
    let sealed = foreign.barrier.seal(Kind::Confirmation, &place, b"", b"main").expect("seals");
    assert_eq!(database.sql("UPDATE confirmations SET sealed = $1", vec![Value::Bytes(sealed)]).await, 4);
    assert!(is_corrupt(&store).await);
}

/// Makes it what the first release wrote: no contexts in the ledger, no confirmations.
async fn make_old(database: &Database, store: &SealedStore) -> Vec<LedgerEntry> {
    let old = |number: u8, under: u32| LedgerEntry { bound: Bound::Hash([number; 32]), ..entry(number, under, &kek()) };
    let entries = vec![old(1, 1), old(1, 2), old(2, 1)];
    store.append_branches(&entries).await.expect("appends");
    database.sql("DROP TABLE confirmations", Vec::new()).await;
    database.sql("DROP INDEX branches_by_id", Vec::new()).await;
    assert_eq!(database.sql("UPDATE claviger_schema SET version = 1", Vec::new()).await, 1);
    entries
}

async fn a_store_of_the_first_schema_is_brought_up_to_date(database: Database) {
    let (root, store) = database.sealed().await;
    let entries = make_old(&database, &store).await;
    assert!(store.branch_states(&kek(), None).await.is_err(), "it is not read as it is");
    let store = SealedStore::open(database.again(settings()).await.expect("migrates"), &root).await.expect("opens");
    let states = store.branch_states_of(&kek(), &[id(1), id(2)]).await.expect("reads");
    assert_eq!([&states[0].entries, &states[1].entries].map(Vec::len).iter().sum::<usize>(), entries.len());
    for state in &states {
        assert!(state.context().is_none() && state.confirmed.is_empty());
        // As far as anybody can tell.
        assert_eq!(state.generated(), KekVersion::FIRST);
        assert_eq!(state.needs(&["main".to_owned()]), KekVersion::FIRST);
    }
    store.confirm_branches(&kek(), "main", &[(id(1), at(2))]).await.expect("there is a table now");
    // What is added now tells the context, also of the entries of before.
    store.append_branches(&[entry(1, 3, &kek())]).await.expect("appends");
    let state = store.branch_states_of(&kek(), &[id(1)]).await.expect("reads").remove(0);
    assert_eq!((state.entries.len(), state.context()), (3, entry(1, 3, &kek()).context()));
    assert_eq!(state.needs(&["main".to_owned()]), version(2));
    let again = SealedStore::open(database.again(settings()).await.expect("opens"), &root).await.expect("opens");
    assert_eq!(again.branch_states_of(&kek(), &[id(1)]).await.expect("reads")[0].confirmed.len(), 1, "it stays");
}

async fn several_custodians_bring_an_old_store_up_to_date_at_once(database: Database) {
    let (root, store) = database.sealed().await;
    make_old(&database, &store).await;
    let (one, two, three) =
        tokio::join!(database.again(settings()), database.again(settings()), database.again(settings()));
    for sql in [one, two, three] {
        let store = SealedStore::open(sql.expect("opens"), &root).await.expect("opens");
        assert_eq!(store.branch_states(&kek(), None).await.expect("reads").branches.len(), 2);
    }
}

async fn limits_of_confirmations_are_kept(database: Database) {
    let (_, store) = database.sealed().await;
    confirmed(&store).await;
    let longest = "s".repeat(SITE_LEN_MAX);
    store.confirm_branches(&kek(), &longest, &[(id(1), at(2))]).await.expect("fits");
    let refused = store.confirm_branches(&kek(), &format!("{longest}s"), &[(id(1), at(2))]).await;
    assert!(matches!(refused, Err(StoreError::TooLarge)));
    let refused = store.confirm_branches(&kek(), "main", &vec![(id(1), None); 1_001]).await;
    assert!(matches!(refused, Err(StoreError::TooLarge)));
    assert!(matches!(store.branch_states_of(&kek(), &vec![id(1); 1_001]).await, Err(StoreError::TooLarge)));
    assert_eq!(sites(&store).await, [3, 2]);
}

async fn custodians_that_write_the_same_in_another_order_do_not_lock_each_other_out(database: Database) {
    let (root, one) = database.sealed().await;
    let two = SealedStore::open(database.again(settings()).await.expect("opens"), &root).await.expect("opens");
    for under in 1..=20 {
        let entries: Vec<_> = (1..=200).map(|number| entry(number, under, &kek())).collect();
        let reversed: Vec<_> = entries.iter().rev().cloned().collect();
        let (first, second) = tokio::join!(one.append_branches(&entries), two.append_branches(&reversed));
        first.and(second).expect("both append");
    }
}

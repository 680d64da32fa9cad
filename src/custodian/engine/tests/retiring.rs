//! Retiring where more than one custodian is at work, clocks are set, and the ledger is older than its contexts.

use super::*;
use crate::custodian::kek::{DataKeyLen, KeyChange};
use crate::custodian::store::{Bound, LedgerEntry};
use crate::custody::wrapped::WrappedKey;

on_both!(
    custodians_over_one_store_count_and_confirm_for_each_other,
    a_custodian_that_lags_and_generates_under_the_old_version_stops_the_retirement,
    setting_the_clock_neither_shortens_the_wait_nor_confirms_anything,
    branch_keys_from_before_contexts_were_kept_hold_the_old_version_until_somebody_rewraps_them,
);

fn id(number: u8) -> BranchId {
    BranchId::from_bytes([number; 16])
}

async fn open(database: &Database, root: &RootKey, instance: &str, wait_s: u64) -> Custodian {
    let sites = vec!["main".to_owned(), "dr".to_owned()];
    let settings_ = EngineSettings { retire_wait_s: wait_s, sites, ..patient() };
    Custodian::open_with(database.again(settings()).await.expect("opens"), root, instance, settings_).await
}

async fn generate(engine: &Engine, number: u8) {
    let request = for_branch("proxy/us", number);
    engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, request).await.expect("generates");
}

async fn rewrap(engine: &Engine, numbers: &[u8]) -> Vec<(BranchId, WrappedKey)> {
    let ids: Vec<BranchId> = numbers.iter().map(|number| id(*number)).collect();
    let each = engine.rewrap_branches(&proxy(), &kek(), &ids).await.expect("rewraps").value;
    assert!(each.failed.is_empty(), "{:?}", each.failed);
    each.done
}

/// How many of `moved` are confirmed when they are read back from `site`.
async fn confirm(engine: &Engine, site: &str, moved: &[(BranchId, WrappedKey)]) -> usize {
    let read: Vec<_> = moved.iter().map(|(id, wrapped)| (*id, Some(wrapped.clone()))).collect();
    engine.confirm_branches(&proxy(), &kek(), site, &read).await.expect("confirms").value.done.len()
}

async fn census(engine: &Engine) -> Census {
    engine.census(&proxy(), &kek()).await.expect("counts").value
}

async fn needed(engine: &Engine) -> Vec<(u32, u64)> {
    census(engine).await.versions.into_iter().map(|(version, count)| (version.number(), count)).collect()
}

async fn retire(engine: &Engine, who: &Requester, before: u32) -> Result<(), EngineError> {
    let change = KeyChange { min_decryption_version: Some(before), ..KeyChange::default() };
    engine.configure(who, &kek(), change, &call("config")).await.map(drop)
}

fn still_needed(result: Result<(), EngineError>) -> Retirement {
    match result {
        Err(EngineError::StillNeeded(retire)) => retire,
        other => panic!("{other:?}"),
    }
}

async fn custodians_over_one_store_count_and_confirm_for_each_other(database: Database) {
    let (root, officers) = (make(&database).await, Officers::new());
    let [one, two] = ["custodian-1", "custodian-2"].map(|instance| open(&database, &root, instance, 0));
    let (one, two) = (one.await, two.await);
    let (here, there) = (&one.engine, &two.engine);
    here.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
    there.look().await.expect("looks");
    generate(here, 1).await;
    generate(there, 2).await;
    assert_eq!((needed(here).await, needed(there).await), (vec![(1, 2)], vec![(1, 2)]));
    here.rotate(&proxy(), &kek()).await.expect("rotates");
    there.look().await.expect("looks");
    // Both at once: one wrapping stands, and both give that.
    let (of_one, of_two) = tokio::join!(rewrap(here, &[1, 2]), rewrap(there, &[2, 1]));
    assert_eq!(of_one, of_two.into_iter().rev().collect::<Vec<_>>());
    assert_eq!(confirm(here, "main", &of_one).await, 2);
    still_needed(retire(there, &officers.rita.asks(), 2).await);
    assert_eq!(confirm(there, "dr", &of_one).await, 2);
    assert_eq!(census(here).await, census(there).await);
    assert_eq!(needed(here).await, [(1, 0), (2, 2)]);

    let proposal = proposal_of(retire(here, &officers.rita.asks(), 2).await);
    there.look().await.expect("looks");
    for officer in [&officers.alice, &officers.bob] {
        approve(there, officer, &proposal).await.expect("approves");
    }
    // The other one hears that a site lost an entry.
    let lost = there.confirm_branches(&proxy(), &kek(), "main", &[(id(1), None)]).await;
    lost.expect("takes it back");
    here.look().await.expect("looks");
    assert_eq!(still_needed(retire(here, &officers.rita.asks(), 2).await).needed, 1);
    assert_eq!(confirm(there, "main", &of_one[..1]).await, 1);
    retire(here, &officers.rita.asks(), 2).await.expect("was approved");
    there.look().await.expect("looks");
    assert_eq!(census(there).await.min_decryption.number(), 2);
}

async fn a_custodian_that_lags_and_generates_under_the_old_version_stops_the_retirement(database: Database) {
    let (root, officers) = (make(&database).await, Officers::new());
    let one = open(&database, &root, "custodian-1", 0).await;
    one.engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
    let two = open(&database, &root, "custodian-2", 0).await;
    generate(&one.engine, 1).await;
    // The store falls silent towards the other one, for less than the grace.
    two.engine.hold_looking(true);
    one.engine.rotate(&proxy(), &kek()).await.expect("rotates");
    let moved = rewrap(&one.engine, &[1]).await;
    for site in ["main", "dr"] {
        confirm(&one.engine, site, &moved).await;
    }
    let proposal = proposal_of(retire(&one.engine, &officers.rita.asks(), 2).await);
    for officer in [&officers.alice, &officers.bob] {
        approve(&one.engine, officer, &proposal).await.expect("approves");
    }
    generate(&two.engine, 2).await;
    assert_eq!(still_needed(retire(&one.engine, &officers.rita.asks(), 2).await).needed, 1);
    assert_eq!(needed(&one.engine).await, [(1, 1), (2, 1)]);
    // What it is shown under a version that it does not know yet, it leaves as it is.
    assert_eq!(confirm(&two.engine, "main", &moved).await, 0);
    assert_eq!(needed(&one.engine).await, [(1, 1), (2, 1)]);
    two.engine.hold_looking(false);
    let moved = rewrap(&one.engine, &[2]).await;
    for site in ["main", "dr"] {
        confirm(&one.engine, site, &moved).await;
    }
    retire(&one.engine, &officers.rita.asks(), 2).await.expect("the approval stands");
}

async fn setting_the_clock_neither_shortens_the_wait_nor_confirms_anything(database: Database) {
    const WAIT_S: u64 = 3_600;
    let (root, rita) = (make(&database).await, Officers::new().rita);
    let custodian = open(&database, &root, "custodian-1", WAIT_S).await;
    let engine = &custodian.engine;
    let at = |seconds: i64| engine.clock.set_off_s.store(seconds, Ordering::Relaxed);
    engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
    generate(engine, 1).await;
    engine.rotate(&proxy(), &kek()).await.expect("rotates");
    let moved = rewrap(engine, &[1]).await;
    let confirm_both = async || {
        for site in ["main", "dr"] {
            assert_eq!(confirm(engine, site, &moved).await, 1);
        }
    };
    confirm_both().await;
    for seconds in [0, 3_500, -7_200] {
        at(seconds);
        let left = still_needed(retire(engine, &rita.asks(), 2).await);
        assert!(left.needed == 0 && left.wait_s > 0 && left.wait_s <= WAIT_S, "{seconds}: {left:?}");
    }
    // The wait is over, and nobody read anything back since.
    at(3_700);
    let left = still_needed(retire(engine, &rita.asks(), 2).await);
    assert_eq!((left.needed, left.unconfirmed, left.wait_s), (0, 1, 0));
    // Read back while the clock was ahead by days: that moment is still to come.
    at(400_000);
    confirm_both().await;
    at(3_700);
    let left = still_needed(retire(engine, &rita.asks(), 2).await);
    assert_eq!((left.needed, left.unconfirmed, left.wait_s), (0, 1, 0));
    confirm_both().await;
    proposal_of(retire(engine, &rita.asks(), 2).await);
}

/// Takes from the ledger what the first release did not write there.
async fn forget_contexts(database: &Database, root: &RootKey, ids: &[BranchId]) {
    let store = SealedStore::open(database.again(settings()).await.expect("opens"), root).await.expect("opens");
    let mut entries = Vec::new();
    for id in ids {
        entries.extend(store.branch(*id).await.expect("reads"));
    }
    database.empty_ledger().await;
    let old: Vec<LedgerEntry> = entries
        .into_iter()
        .map(|entry| {
            let hash = crypto::sha256(&entry.context().expect("told").to_bytes());
            LedgerEntry { bound: Bound::Hash(hash), ..entry }
        })
        .collect();
    store.append_branches(&old).await.expect("appends");
}

async fn branch_keys_from_before_contexts_were_kept_hold_the_old_version_until_somebody_rewraps_them(
    database: Database,
) {
    let (root, rita) = (make(&database).await, Officers::new().rita);
    let custodian = open(&database, &root, "custodian-1", 0).await;
    let engine = &custodian.engine;
    engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
    let request = for_branch("proxy/us", 1);
    let made = engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, request.clone()).await.expect("generates").value;
    generate(engine, 2).await;
    forget_contexts(&database, &root, &[id(1), id(2)]).await;
    engine.rotate(&proxy(), &kek()).await.expect("rotates");
    let counted = census(engine).await;
    assert_eq!((counted.branch_keys, counted.without_context, counted.retire.needed), (2, 2, 2));
    let each = engine.rewrap_branches(&proxy(), &kek(), &[id(1), id(2)]).await.expect("answers").value;
    assert!(each.done.is_empty() && each.failed.len() == 2, "{each:?}");
    assert!(each.failed.iter().all(|(_, failure)| matches!(failure, BranchFailure::WithoutContext)));
    let opens = WrappedKey::new(made.ciphertext.version(), made.ciphertext.bytes().to_vec()).expect("short");
    assert_eq!(confirm(engine, "main", &[(id(1), opens)]).await, 0);
    assert_eq!(still_needed(retire(engine, &rita.asks(), 2).await).needed, 2);

    // Proxies rewrap what they use, and say the context.
    engine.rewrap(&proxy(), &kek(), &made.ciphertext, None, &request.context, b"").await.expect("rewraps");
    let moved = rewrap(engine, &[1]).await;
    for site in ["main", "dr"] {
        assert_eq!(confirm(engine, site, &moved).await, 1);
    }
    let counted = census(engine).await;
    assert_eq!((counted.without_context, counted.retire.needed), (1, 1));
    let left = still_needed(retire(engine, &rita.asks(), 2).await);
    assert_eq!(left.needed, 1, "the other one holds it");
}

//! What one custodian switches off, the others do not serve any more, whatever happens to them.

use super::*;
use crate::custodian::engine::edit::{Edit, Item};
use crate::custodian::kek::{DataKeyLen, KeyringError};
use crate::custodian::revocation::Revocation;
use crate::custodian::store::tests::database::impatient;

on_both!(
    what_one_disables_the_other_refuses_within_a_second,
    what_is_stopped_while_another_switches_on_stays_off,
    what_is_made_anew_under_its_name_is_seen_as_another,
    off_is_off_also_when_it_cannot_be_saved,
    without_the_store_no_key_is_used_and_it_goes_on_by_itself,
);

async fn what_one_disables_the_other_refuses_within_a_second(database: Database) {
    let root = make(&database).await;
    let one = Custodian::open(&database, &root, "custodian-1").await;
    let two = Custodian::open(&database, &root, "custodian-2").await;
    one.engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
    assert!(within(Duration::from_secs(5), || two.engine.view().snapshot.keks.contains_key(&kek())).await);
    let mut events = two.engine.watch(&proxy()).await.expect("watches").value;
    one.engine.disable(&proxy(), &kek()).await.expect("disables");
    let at_once = one.engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, for_branch("proxy/us", 1)).await;
    assert!(matches!(at_once, Err(EngineError::Keyring(KeyringError::Disabled))));
    let told = tokio::time::timeout(Duration::from_secs(1), events.recv()).await.expect("in time").expect("told");
    assert_eq!(told, Event::Kek { name: kek(), change: KekEvent::Disabled });
    let refused = two.engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, for_branch("proxy/us", 1)).await;
    assert!(matches!(refused, Err(EngineError::Keyring(KeyringError::Disabled))), "{refused:?}");
    let principal = "spiffe://example.org/region/us/proxy/p2";
    one.engine.revoke_principal(&proxy(), principal, "").await.expect("revokes");
    let told = tokio::time::timeout(Duration::from_secs(1), events.recv()).await.expect("in time").expect("told");
    assert_eq!(told, Event::Principal { principal: principal.to_owned(), revoked: true });
    assert!(two.engine.view().is_shut_out(&who("us/proxy/p2")));
}

async fn what_is_stopped_while_another_switches_on_stays_off(database: Database) {
    let custodian = Custodian::new(&database).await;
    let engine = &custodian.engine;
    engine.disable(&proxy(), &kek()).await.expect("disables");
    assert!(!engine.view().is_stopped(&kek()), "it is in the store");
    // Somebody begins to switch it on; somebody else switches it off again, and cannot save that.
    let begun = engine.last_stop();
    engine.stop_kek(&kek());
    let principal = "spiffe://example.org/region/us/proxy/p2";
    let stop = engine.stop_principal(principal);
    // The store moves on, and shows the KEK as it was before.
    engine.revoke_principal(&proxy(), "mallory", "").await.expect("revokes");
    assert!(engine.view().is_stopped(&kek()));
    engine.resume(Some(&kek()), Some(principal), begun);
    assert!(engine.view().is_stopped(&kek()) && engine.view().is_shut_out(&who("us/proxy/p2")));
    engine.resume(Some(&kek()), Some(principal), stop);
    assert!(!engine.view().is_stopped(&kek()) && !engine.view().is_shut_out(&who("us/proxy/p2")));
    // Saved, it needs no stop of its own.
    engine.disable(&proxy(), &kek()).await.expect("disables");
    assert!(!engine.view().is_stopped(&kek()));
}

/// Versions begin at 1 again, so that they alone do not tell it from what was there before.
async fn what_is_made_anew_under_its_name_is_seen_as_another(database: Database) {
    let root = make(&database).await;
    let one = Custodian::open(&database, &root, "custodian-1").await;
    let two = Custodian::open(&database, &root, "custodian-2").await;
    let revocation = |note: &str| Revocation::new("mallory", proxy().id, note, 1).expect("legal");
    let edit = |expected, value| Edit { expected, item: Item::Revocation("mallory".to_owned(), value) };
    let noted = || two.engine.view().snapshot.revocations.get("mallory").map(|stored| stored.value.note().to_owned());
    one.engine.commit(vec![edit(0, Some(revocation("first")))]).await.expect("commits");
    assert!(within(Duration::from_secs(5), || noted().as_deref() == Some("first")).await);
    // All of it between two looks of the other.
    two.engine.hold_looking(true);
    one.engine.commit(vec![edit(1, None)]).await.expect("commits");
    one.engine.commit(vec![edit(0, Some(revocation("second")))]).await.expect("commits");
    two.engine.hold_looking(false);
    assert!(within(Duration::from_secs(5), || noted().as_deref() == Some("second")).await, "{:?}", noted());
}

async fn off_is_off_also_when_it_cannot_be_saved(database: Database) {
    let root = make(&database).await;
    let sql = database.again(impatient()).await.expect("opens");
    let custodian = Custodian::open_with(Arc::clone(&sql), &root, "custodian-1", patient()).await;
    custodian.engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
    sql_close(&sql).await;
    let refused = custodian.engine.disable(&proxy(), &kek()).await;
    assert!(matches!(refused, Err(EngineError::Store(StoreError::Unavailable(_)))), "{refused:?}");
    let principal = "spiffe://example.org/region/us/proxy/p2";
    assert!(custodian.engine.revoke_principal(&proxy(), principal, "").await.is_err());
    let refused = custodian.engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, for_branch("proxy/us", 1)).await;
    assert!(matches!(refused, Err(EngineError::Keyring(KeyringError::Disabled))));
    assert!(custodian.engine.view().is_shut_out(&who("us/proxy/p2")));
    // It was never saved, and the log tells that it was tried.
    assert!(custodian.told().await.ends_with(&["generate allow".to_owned()]));
    let folder = custodian.crash();
    let sql = database.again(settings()).await.expect("opens");
    let again = Custodian::open_in(folder, sql, &root, "custodian-1", patient()).await.expect("opens");
    assert!(!again.engine.key(&proxy(), &kek()).await.expect("reads").value.disabled);
}

async fn sql_close(sql: &Arc<SqlStore>) {
    use crate::custodian::store::Store as _;
    sql.close().await;
}

async fn without_the_store_no_key_is_used_and_it_goes_on_by_itself(database: Database) {
    let root = make(&database).await;
    let sql = database.again(impatient()).await.expect("opens");
    let hasty = EngineSettings { store_grace: Duration::from_millis(500), ..patient() };
    let custodian = Custodian::open_with(Arc::clone(&sql), &root, "custodian-1", hasty).await;
    let engine = &custodian.engine;
    engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
    assert!(within(Duration::from_secs(10), || engine.health().store_ok).await);
    // As a network that is cut: nothing comes back from the store.
    engine.hold_looking(true);
    assert!(within(Duration::from_secs(2), || !engine.is_fresh()).await, "stale");
    let generates =
        async || engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, for_branch("proxy/us", 1)).await.map(drop);
    assert!(matches!(generates().await, Err(EngineError::Stale)));
    assert!(!engine.health().store_ok);
    engine.hold_looking(false);
    assert!(within(Duration::from_secs(10), || engine.is_fresh()).await);
    let mut answer = generates().await;
    for _ in 0..20 {
        if !matches!(answer, Err(EngineError::Stale)) {
            break;
        }
        answer = generates().await;
    }
    answer.expect("goes on by itself");
}

//! Changes of KEKs: they outlive the engine, races lose nothing, and what is grave waits for two people.

use super::*;
use crate::custodian::approval::ApprovalError;
use crate::custodian::kek::{KeyChange, KeyringError};

on_both!(
    changes_outlive_the_engine,
    two_custodians_that_rotate_one_key_at_once_both_do,
    what_is_there_is_told_and_left_alone,
    a_kek_that_is_due_is_rotated_by_itself,
    a_grave_change_needs_two_officers_and_runs_once,
    a_kek_that_lets_the_key_out_needs_two_officers,
    approvals_are_for_the_key_and_policy_as_they_were,
    of_two_identical_calls_at_once_one_runs,
);

async fn changes_outlive_the_engine(database: Database) {
    let root = make(&database).await;
    let first = Custodian::open(&database, &root, "custodian-1").await;
    first.engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
    first.engine.rotate(&proxy(), &kek()).await.expect("rotates");
    let change = KeyChange { min_encryption_version: Some(2), ..KeyChange::default() };
    first.engine.configure(&proxy(), &kek(), change, &call("config")).await.expect("not grave");
    first.engine.disable(&proxy(), &kek()).await.expect("disables");
    let folder = first.crash();
    let sql = database.again(settings()).await.expect("opens");
    let again = Custodian::open_in(folder, sql, &root, "custodian-1", patient()).await.expect("opens again");
    let info = again.engine.key(&proxy(), &kek()).await.expect("reads").value;
    assert_eq!((info.latest.number(), info.min_encryption, info.disabled), (2, 2, true));
    let refused = again.engine.rotate(&proxy(), &kek()).await;
    assert!(matches!(refused, Err(EngineError::Keyring(KeyringError::Disabled))));
    assert_eq!(again.engine.keys(&proxy()).await.expect("lists").value, [kek()]);
}

async fn two_custodians_that_rotate_one_key_at_once_both_do(database: Database) {
    let root = make(&database).await;
    let one = Custodian::open(&database, &root, "custodian-1").await;
    let two = Custodian::open(&database, &root, "custodian-2").await;
    one.engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
    let mut tasks = tokio::task::JoinSet::new();
    for custodian in [&one, &two] {
        for _ in 0..4 {
            let engine = Arc::clone(&custodian.engine);
            tasks.spawn(async move { engine.rotate(&proxy(), &kek()).await.expect("rotates").value.number() });
        }
    }
    let mut versions = tasks.join_all().await;
    versions.sort_unstable();
    assert_eq!(versions, (2..10).collect::<Vec<_>>());
    for custodian in [&one, &two] {
        custodian.engine.look().await.expect("looks");
        let info = custodian.engine.key(&proxy(), &kek()).await.expect("reads").value;
        assert_eq!((info.latest.number(), info.versions.len()), (9, 9));
    }
}

async fn what_is_there_is_told_and_left_alone(database: Database) {
    let custodian = Custodian::new(&database).await;
    custodian.engine.rotate(&proxy(), &kek()).await.expect("rotates");
    let again = custodian.engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("tells");
    assert!(again.existed && again.value.latest.number() == 2);
    let unknown = KekName::new("nothing").expect("legal");
    let refused = custodian.engine.rotate(&proxy(), &unknown).await;
    assert!(matches!(refused, Err(EngineError::Keyring(KeyringError::Unknown))));
    let refused = custodian.engine.disable(&proxy(), &unknown).await;
    assert!(matches!(refused, Err(EngineError::Keyring(KeyringError::Unknown))));
    assert!(!custodian.engine.view().is_stopped(&unknown));
}

async fn a_kek_that_is_due_is_rotated_by_itself(database: Database) {
    let custodian = Custodian::new(&database).await;
    let engine = &custodian.engine;
    let change = KeyChange { auto_rotate_period_s: Some(3600), ..KeyChange::default() };
    engine.configure(&proxy(), &kek(), change, &call("config")).await.expect("not grave");
    engine.rotate_due().await;
    assert_eq!(engine.key(&proxy(), &kek()).await.expect("reads").value.latest.number(), 1, "not due");
    engine.clock.set_off_s.store(3601, Ordering::Relaxed);
    engine.rotate_due().await;
    engine.rotate_due().await;
    assert_eq!(engine.key(&proxy(), &kek()).await.expect("reads").value.latest.number(), 2, "once");
    let log = custodian.log().await;
    let rotated = log.iter().find(|entry| entry["action"] == "rotate").expect("is logged");
    assert_eq!(rotated["principal"], "spiffe://example.org/region/us/custodian/c1");
}

fn raise() -> KeyChange {
    KeyChange { min_decryption_version: Some(2), ..KeyChange::default() }
}

async fn a_grave_change_needs_two_officers_and_runs_once(database: Database) {
    let custodian = Custodian::new(&database).await;
    let (engine, officers) = (&custodian.engine, Officers::new());
    let rita = officers.rita.asks();
    engine.rotate(&proxy(), &kek()).await.expect("rotates");
    let raises = async |who: &Requester| engine.configure(who, &kek(), raise(), &call("config")).await;
    let id = proposal_of(raises(&rita).await);
    assert_eq!(proposal_of(raises(&rita).await), id, "proposed once");
    let refused = approve(engine, &officers.rita, &id).await;
    assert!(matches!(refused, Err(EngineError::Approval(ApprovalError::OwnRequest))), "{refused:?}");
    approve(engine, &officers.alice, &id).await.expect("one");
    assert_eq!(proposal_of(raises(&rita).await), id, "one officer alone");
    let refused = approve(engine, &officers.alice, &id).await;
    assert!(matches!(refused, Err(EngineError::Approval(ApprovalError::AlreadyApproved))));
    approve(engine, &officers.bob, &id).await.expect("two");
    let other = proposal_of(raises(&proxy()).await);
    assert_ne!(other, id, "by someone else it is another proposal");
    let elsewhere = GatedCall { body: r#"{"min_decryption_version":2}"#.to_owned(), ..call("config") };
    assert_ne!(proposal_of(engine.configure(&rita, &kek(), raise(), &elsewhere).await), id, "another call");
    let done = raises(&rita).await.expect("runs");
    assert_eq!(done.value.min_decryption, 2);
    assert!(engine.proposal(&rita, &id).await.expect("is kept").value.executed_unix_s().is_some());
    // What is so already is not grave; what would be again needs new approvals.
    raises(&rita).await.expect("nothing changes");
    for lower in [0, 1] {
        let change = KeyChange { min_decryption_version: Some(lower), ..KeyChange::default() };
        let undoes = proposal_of(engine.configure(&rita, &kek(), change, &call("config")).await);
        assert_ne!(undoes, id, "one officer alone does not undo it");
    }
    assert_eq!(engine.key(&rita, &kek()).await.expect("reads").value.min_decryption, 2);
    let refused = engine.trim(&rita, &kek(), 2, &call("config")).await;
    assert!(matches!(refused, Err(EngineError::Keyring(KeyringError::BadChange(_)))), "nobody is asked: {refused:?}");
    let encrypting = KeyChange { min_encryption_version: Some(2), ..KeyChange::default() };
    engine.configure(&rita, &kek(), encrypting, &call("config")).await.expect("is not grave");
    let trim = proposal_of(engine.trim(&rita, &kek(), 2, &call("config")).await);
    assert_ne!(trim, id, "a replayed approval");
    let refused = engine.delete(&rita, &kek(), &call("")).await;
    assert!(matches!(refused, Err(EngineError::Keyring(KeyringError::DeletionNotAllowed))), "{refused:?}");
    let log = custodian.log().await;
    let approvals = log.iter().filter(|entry| entry["action"] == "approve" && entry["detail"]["signature"].is_string());
    assert_eq!(approvals.count(), 2);
    let carried_out = log.iter().filter(|entry| entry["action"] == "configure" && entry["decision"] == "allow");
    let carried_out: Vec<_> = carried_out.filter(|entry| entry["proposal"] == *id).collect();
    assert_eq!(carried_out.len(), 1);
    // What it was decided by is a file of this custodian alone: the log tells.
    let by = serde_json::json!({ "sites": ["main"], "retire_wait_s": 0 });
    assert_eq!(carried_out[0]["detail"]["retire"], by);
    let start = log.iter().find(|entry| entry["action"] == "start").expect("is logged");
    assert_eq!(start["detail"], by);
    let proposed = log.iter().find(|entry| entry["action"] == "propose").expect("is logged");
    assert_eq!(proposed["detail"]["id"], *id);
}

async fn approvals_are_for_the_key_and_policy_as_they_were(database: Database) {
    let custodian = Custodian::new(&database).await;
    let (engine, officers) = (&custodian.engine, Officers::new());
    let rita = officers.rita.asks();
    engine.disable(&rita, &kek()).await.expect("disables");
    let id = proposal_of(engine.enable(&rita, &kek(), &call("enable")).await);
    approve(engine, &officers.alice, &id).await.expect("one");
    approve(engine, &officers.bob, &id).await.expect("two");
    engine.clock.set_off_s.store(73 * 3600, Ordering::Relaxed);
    let later = proposal_of(engine.enable(&rita, &kek(), &call("enable")).await);
    assert_ne!(later, id, "expired");
    assert!(matches!(engine.proposal(&rita, &id).await, Err(EngineError::NoSuchProposal)), "cleared away");
    let veto = engine.proposal(&rita, &later).await.expect("is there").value;
    let veto = officers.alice.signs(Subject::Proposal, Verb::Veto, &veto.hash());
    engine.veto(&officers.alice.asks(), &later, veto).await.expect("stops it");
    let refused = approve(engine, &officers.bob, &later).await;
    assert!(matches!(refused, Err(EngineError::Approval(ApprovalError::Stopped))));
    assert_ne!(proposal_of(engine.enable(&rita, &kek(), &call("enable")).await), later);
    assert!(engine.key(&rita, &kek()).await.expect("reads").value.disabled);
}

async fn of_two_identical_calls_at_once_one_runs(database: Database) {
    let root = make(&database).await;
    let one = Custodian::open(&database, &root, "custodian-1").await;
    let two = Custodian::open(&database, &root, "custodian-2").await;
    let officers = Officers::new();
    let rita = officers.rita.asks();
    one.engine.create(&rita, &kek(), derived(), &call("create")).await.expect("creates");
    one.engine.disable(&rita, &kek()).await.expect("disables");
    let id = proposal_of(one.engine.enable(&rita, &kek(), &call("enable")).await);
    two.engine.look().await.expect("looks");
    approve(&two.engine, &officers.alice, &id).await.expect("one");
    approve(&two.engine, &officers.bob, &id).await.expect("two");
    let call = call("enable");
    let name = kek();
    let (first, second) = tokio::join!(one.engine.enable(&rita, &name, &call), two.engine.enable(&rita, &name, &call));
    assert!(first.is_ok() || second.is_ok(), "{first:?} {second:?}");
    // The other one finds it done, or, having begun before, asks for approvals of its own.
    for other in [first, second].into_iter().filter_map(Result::err) {
        assert!(matches!(&other, EngineError::Gated { proposal_id } if *proposal_id != id), "{other:?}");
    }
    one.engine.look().await.expect("looks");
    assert!(!one.engine.key(&rita, &kek()).await.expect("reads").value.disabled);
    one.engine.disable(&rita, &kek()).await.expect("disables");
    assert_ne!(proposal_of(one.engine.enable(&rita, &kek(), &call).await), id, "the approvals were for one");
}

async fn a_kek_that_lets_the_key_out_needs_two_officers(database: Database) {
    let custodian = Custodian::new(&database).await;
    let (engine, officers) = (&custodian.engine, Officers::new());
    let open = [
        ("exportable", KeyOptions { exportable: true, ..KeyOptions::default() }),
        ("backup", KeyOptions { allow_plaintext_backup: true, ..KeyOptions::default() }),
    ];
    for (name, options) in open {
        let (name, call) = (KekName::new(name).expect("legal"), call(name));
        let create = async || engine.create(&officers.rita.asks(), &name, options.clone(), &call).await;
        let id = proposal_of(create().await);
        assert!(engine.glance(&name).is_none(), "not yet");
        approve(engine, &officers.alice, &id).await.expect("approves");
        assert_eq!(proposal_of(create().await), id);
        approve(engine, &officers.bob, &id).await.expect("approves");
        let other = engine.create(&officers.alice.asks(), &name, options.clone(), &call).await;
        assert_ne!(proposal_of(other), id, "of another requester");
        let made = create().await.expect("creates");
        assert!(!made.existed && (made.value.exportable || made.value.allow_plaintext_backup));
        assert!(create().await.expect("is there").existed);
    }
}

//! Disks that are full, stores that were put back, and ends at any moment.

use std::sync::atomic::Ordering;

use super::*;
use crate::custodian::audit::AuditFailed;
use crate::custodian::barrier::Kind;
use crate::custodian::engine::edit::{Edit, Item};
use crate::custodian::kek::{DataKeyLen, KeyChange};
use crate::custodian::revocation::Revocation;
use crate::tlog::LogError;

on_both!(
    a_log_that_cannot_be_written_stops_everything,
    a_log_that_hangs_is_given_up_in_time,
    refusals_do_not_fill_the_log,
    a_store_that_was_put_back_is_not_opened,
    what_cannot_be_noted_is_done_and_not_reported_as_done,
    a_log_that_was_cut_or_is_another_is_not_opened,
    a_store_that_goes_back_under_way_stops_everything,
    a_record_that_was_put_back_or_hidden_is_not_built_upon,
    an_end_between_log_and_store_leaves_both_consistent,
);

async fn a_log_that_cannot_be_written_stops_everything(database: Database) {
    let custodian = Custodian::new(&database).await;
    let engine = &custodian.engine;
    let generation = engine.health().generation;
    custodian.disk.full.store(true, Ordering::SeqCst);
    let refused = engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, for_branch("proxy/us", 1)).await;
    assert!(matches!(refused, Err(EngineError::Audit(AuditFailed(LogError::Failed(_))))), "{refused:?}");
    assert!(matches!(engine.rotate(&proxy(), &kek()).await, Err(EngineError::Audit(_))));
    assert!(matches!(engine.disable(&proxy(), &kek()).await, Err(EngineError::Audit(_))));
    assert!(matches!(engine.key(&proxy(), &kek()).await, Err(EngineError::Audit(_))));
    assert!(matches!(engine.enable(&proxy(), &kek(), &call("enable")).await, Err(EngineError::Audit(_))));
    let revoked = engine.revoke_principal(&proxy(), "mallory", "").await;
    assert!(matches!(revoked, Err(EngineError::Audit(_))));
    assert!(!engine.health().audit_ok);
    assert_eq!(engine.store.epoch().await.expect("reads").generation(), generation, "nothing was changed");
    assert!(engine.store.branch(BranchId::from_bytes([1; 16])).await.expect("reads").is_empty());
    assert!(!engine.view().is_stopped(&kek()));
}

async fn a_log_that_hangs_is_given_up_in_time(database: Database) {
    let custodian = Custodian::new(&database).await;
    custodian.disk.hang.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let request = for_branch("proxy/us", 1);
    let refused = custodian.engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, request).await;
    assert!(matches!(refused, Err(EngineError::Audit(AuditFailed(LogError::Deadline)))), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(5));
    // Whoever goes away while the log is waited for has got nothing.
    let given_up = tokio::time::timeout(Duration::from_millis(50), custodian.engine.disable(&proxy(), &kek())).await;
    assert!(given_up.is_err());
    custodian.disk.hang.store(false, Ordering::SeqCst);
    assert!(!custodian.engine.key(&proxy(), &kek()).await.expect("goes on").value.disabled);
    assert!(!custodian.engine.view().is_stopped(&kek()));
}

async fn refusals_do_not_fill_the_log(database: Database) {
    let custodian = Custodian::new(&database).await;
    let (engine, stranger) = (&custodian.engine, who("sg/proxy/p9"));
    let mut not_written = 0;
    for _ in 0..100 {
        match engine.key(&stranger, &kek()).await {
            Err(EngineError::Denied) => {}
            Err(EngineError::DeniedTooOften) => not_written += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!((20..=40).contains(&not_written), "{not_written}");
    engine.key(&proxy(), &kek()).await.expect("others go on");
    let of_stranger = async || {
        let log = custodian.log().await;
        log.iter().filter(|entry| entry["principal"] == stranger.id.as_str()).count()
    };
    assert_eq!(of_stranger().await, 100 - not_written);
    engine.tell_left_out(true).await.expect("tells");
    let log = custodian.log().await;
    let note = log.last().expect("an entry");
    assert_eq!((&note["action"], &note["subject"]), (&"note".into(), &stranger.id.as_str().into()));
    assert_eq!(note["detail"]["left_out"], not_written);
}

/// All rows of all records.
async fn rows(database: &Database) -> Vec<(Kind, Vec<crate::custodian::store::tests::database::RawRow>)> {
    let kinds = Kind::ACCOUNTED.into_iter().chain([Kind::Epoch]);
    let mut all = Vec::new();
    for kind in kinds {
        all.push((kind, database.raw_rows(kind).await));
    }
    all
}

async fn put_back(database: &Database, backup: Vec<(Kind, Vec<crate::custodian::store::tests::database::RawRow>)>) {
    for (kind, rows) in backup {
        for row in rows {
            database.put_raw(kind, row).await;
        }
    }
}

async fn a_store_that_was_put_back_is_not_opened(database: Database) {
    let root = make(&database).await;
    let custodian = Custodian::open(&database, &root, "custodian-1").await;
    custodian.engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
    let mut custodian = custodian;
    // Back by exactly one change, with nothing after it.
    for change in ["configure", "soft-delete", "disable"] {
        let (backup, engine) = (rows(&database).await, Arc::clone(&custodian.engine));
        match change {
            "configure" => {
                let narrower = KeyChange { min_encryption_version: Some(1), ..KeyChange::default() };
                drop(engine.configure(&proxy(), &kek(), narrower, &call("config")).await.expect("configures"));
            }
            "soft-delete" => drop(engine.soft_delete(&proxy(), &kek()).await.expect("sets aside")),
            _ => drop(engine.disable(&proxy(), &kek()).await.expect("disables")),
        }
        drop(engine);
        let (newest, folder) = (rows(&database).await, custodian.crash());
        put_back(&database, backup).await;
        let open = async || {
            let sql = database.again(settings()).await.expect("opens");
            Custodian::open_in(Arc::clone(&folder), sql, &root, "custodian-1", patient()).await
        };
        let refused = open().await.err().expect("is old");
        assert!(matches!(refused, AuditOpenError::StoreIsOld { .. }), "{change}: {refused:?}");
        assert!(refused.to_string().contains("Put the newest store in place"));
        put_back(&database, newest).await;
        custodian = open().await.expect("the newest");
    }
}

async fn what_cannot_be_noted_is_done_and_not_reported_as_done(database: Database) {
    let custodian = Custodian::new(&database).await;
    let engine = &custodian.engine;
    let what = Use::of_custodian(Action::Revoke).about("mallory");
    let by = SpiffeId::parse("spiffe://example.org/region/us/officer/rita").expect("legal");
    let revocation = Revocation::new("mallory", by, "", 1).expect("legal");
    custodian.disk.full.store(true, Ordering::SeqCst);
    let item = Item::Revocation("mallory".to_owned(), Some(revocation));
    let reported = engine.commit_noted(&what, vec![Edit { expected: 0, item }]).await;
    assert!(matches!(reported, Err(EngineError::Audit(_))), "{reported:?}");
    assert!(engine.view().is_revoked("mallory"));
}

async fn a_log_that_was_cut_or_is_another_is_not_opened(database: Database) {
    let root = make(&database).await;
    let custodian = Custodian::open(&database, &root, "custodian-1").await;
    custodian.engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
    custodian.engine.close().await.expect("closes");
    drop(custodian);
    let open = async |instance: &str| {
        let sql = database.again(settings()).await.expect("opens");
        let empty = Arc::new(tempfile::tempdir().expect("a folder"));
        Custodian::open_in(empty, sql, &root, instance, patient()).await
    };
    let refused = open("custodian-1").await.err();
    assert!(matches!(refused, Some(AuditOpenError::LogIsShort { log: 0, .. })), "{refused:?}");
    let other = open("custodian-2").await.expect("a new instance");
    let (folder, sql) = (other.crash(), database.again(settings()).await.expect("opens"));
    let refused = Custodian::open_in(folder, sql, &root, "custodian-1", patient()).await.err();
    assert!(matches!(refused, Some(AuditOpenError::Log { .. })), "another key signed it: {refused:?}");
}

async fn a_store_that_goes_back_under_way_stops_everything(database: Database) {
    let root = make(&database).await;
    let custodian = Custodian::open(&database, &root, "custodian-1").await;
    let engine = &custodian.engine;
    engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
    let backup = rows(&database).await;
    engine.disable(&proxy(), &kek()).await.expect("disables");
    put_back(&database, backup).await;
    assert!(within(Duration::from_secs(10), || engine.halted.load(Ordering::SeqCst)).await);
    let refused = engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, for_branch("proxy/us", 1)).await;
    assert!(matches!(refused, Err(EngineError::Halted)));
    assert!(matches!(engine.rotate(&proxy(), &kek()).await, Err(EngineError::Halted)));
    assert!(matches!(engine.disable(&proxy(), &kek()).await, Err(EngineError::Halted)));
    assert!(matches!(engine.key(&proxy(), &kek()).await, Err(EngineError::Halted)));
    assert!(!engine.health().store_ok);
}

/// With the row that a KEK had while it was on, or none, in the place of the newest: any officer's change would bring it back.
async fn a_record_that_was_put_back_or_hidden_is_not_built_upon(database: Database) {
    let root = make(&database).await;
    let custodian = Custodian::open(&database, &root, "custodian-1").await;
    custodian.engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
    let before = database.raw_rows(Kind::Kek).await;
    custodian.engine.disable(&proxy(), &kek()).await.expect("disables");
    let newest = database.raw_rows(Kind::Kek).await;
    let mut custodian = custodian;
    for hide in [false, true] {
        database.raw_remove(Kind::Kek).await;
        if !hide {
            put_back(&database, vec![(Kind::Kek, before.clone())]).await;
        }
        let engine = &custodian.engine;
        let built = if hide {
            engine.create(&proxy(), &kek(), derived(), &call("create")).await.map(drop)
        } else {
            engine.rotate(&proxy(), &kek()).await.map(drop)
        };
        assert!(matches!(built, Err(EngineError::Store(StoreError::Corrupt(_)))), "{built:?}");
        assert!(engine.halted.load(Ordering::SeqCst));
        let refused = engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, for_branch("proxy/us", 1)).await;
        assert!(matches!(refused, Err(EngineError::Halted)), "{refused:?}");
        let folder = custodian.crash();
        database.raw_remove(Kind::Kek).await;
        put_back(&database, vec![(Kind::Kek, newest.clone())]).await;
        let sql = database.again(settings()).await.expect("opens");
        custodian = Custodian::open_in(folder, sql, &root, "custodian-1", patient()).await.expect("the newest");
    }
}

async fn an_end_between_log_and_store_leaves_both_consistent(database: Database) {
    let root = make(&database).await;
    let mut folder = Arc::new(tempfile::tempdir().expect("a folder"));
    // The process dies in each of its operations on the log, one after the other.
    for life in 0..12 {
        let sql = database.again(settings()).await.expect("opens");
        let custodian = Custodian::open_in(folder, sql, &root, "custodian-1", patient()).await.expect("opens");
        let engine = &custodian.engine;
        if life == 0 {
            engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
        }
        custodian.disk.life.store(life, Ordering::SeqCst);
        let before = engine.key_version();
        let mut rotated = 0;
        while rotated < 20 && engine.rotate(&proxy(), &kek()).await.is_ok() {
            rotated += 1;
        }
        assert!(rotated < 20, "it dies sooner");
        assert_eq!(engine.key_version(), before + rotated, "what failed in the log was not done");
        folder = custodian.crash();
    }
    // The store ends instead, after the log was written.
    let sql = database.again(settings()).await.expect("opens");
    let custodian = Custodian::open_in(folder, sql.clone(), &root, "custodian-1", patient()).await.expect("opens");
    let before = custodian.engine.key_version();
    {
        use crate::custodian::store::Store as _;
        sql.close().await;
    }
    assert!(matches!(custodian.engine.rotate(&proxy(), &kek()).await, Err(EngineError::Store(_))));
    let folder = custodian.crash();
    let sql = database.again(settings()).await.expect("opens");
    let custodian = Custodian::open_in(folder, sql, &root, "custodian-1", patient()).await.expect("opens");
    assert_eq!(custodian.engine.key_version(), before);
    custodian.engine.rotate(&proxy(), &kek()).await.expect("goes on");
}

impl Engine {
    fn key_version(&self) -> u32 {
        self.view().snapshot.keks[&kek()].value.latest().number()
    }
}

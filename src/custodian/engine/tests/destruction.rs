//! Destroying KEKs: two quorums and a wait between them, and then nothing opens any more.

use super::*;
use crate::custodian::destruction::{
    Destruction, DestructionRefused, InvalidCertificate, State, Target, Wait, read_certificate,
};
use crate::custodian::kek::{Ciphertext, DataKeyLen, KeyChange, KeyringError};
use crate::custodian::store::Store as _;
use crate::names::KekVersion;

on_both!(
    a_destroyed_kek_opens_nothing_and_its_name_is_never_used_again,
    nobody_comes_between_a_destruction_and_its_kek,
    a_destruction_is_called_off_by_one_and_begins_anew,
    old_versions_are_destroyed_alone_once_they_are_retired,
    several_custodians_and_restarts_do_not_shorten_anything,
    of_two_erasures_at_once_one_runs,
    what_cannot_be_written_down_erases_nothing,
    an_enabling_and_a_destruction_at_once_end_as_if_one_came_first,
);

const WAIT_S: i64 = 7 * 24 * 3600;

fn weekly() -> EngineSettings {
    EngineSettings { destroy_wait: Wait::days(7), ..patient() }
}

async fn open(database: &Database, root: &RootKey, instance: &str) -> Custodian {
    Custodian::open_with(database.again(settings()).await.expect("opens"), root, instance, weekly()).await
}

/// A custodian with the KEK, and its officers.
async fn with_kek(database: &Database) -> (Custodian, Officers) {
    let root = make(database).await;
    let (custodian, officers) = (open(database, &root, "custodian-1").await, Officers::new());
    let created = custodian.engine.create(&officers.rita.asks(), &kek(), derived(), &call("create")).await;
    created.expect("creates");
    (custodian, officers)
}

fn whole() -> Target {
    Target::whole(&kek())
}

fn through(version: u32) -> Target {
    Target { kek: kek(), through: KekVersion::new(version) }
}

fn at(engine: &Engine, seconds: i64) {
    engine.clock.set_off_s.store(seconds, Ordering::Relaxed);
}

fn refusal<T: fmt::Debug>(result: Result<T, EngineError>) -> DestructionRefused {
    match result {
        Err(EngineError::Destruction(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

/// `step`, of which the first try proposes it and the second, after two approvals, does it.
async fn approved<T>(
    engine: &Engine,
    officers: &Officers,
    step: impl AsyncFn() -> Result<Done<T>, EngineError>,
) -> Done<T> {
    let id = proposal_of(step().await);
    approve(engine, &officers.alice, &id).await.expect("one");
    assert_eq!(proposal_of(step().await), id, "one officer alone");
    approve(engine, &officers.bob, &id).await.expect("two");
    step().await.expect("runs")
}

/// As the endpoints have it: versions are named in the body.
fn call_for(target: &Target, action: &str) -> GatedCall {
    let body = target.through.map_or("{}".to_owned(), |through| format!("{{\"version\":{}}}", through.number()));
    GatedCall { body, ..call(action) }
}

async fn schedule(engine: &Engine, officers: &Officers, target: &Target) -> Destruction {
    let rita = officers.rita.asks();
    approved(engine, officers, async || engine.destroy(&rita, target, &call_for(target, "destroy")).await).await.value
}

async fn erase(engine: &Engine, officers: &Officers, target: &Target) -> Destruction {
    let rita = officers.rita.asks();
    approved(engine, officers, async || engine.erase(&rita, target, &call_for(target, "erase")).await).await.value
}

async fn branch(engine: &Engine, id: u8) -> Ciphertext {
    let made = engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, for_branch("proxy/us", id)).await;
    made.expect("generates").value.ciphertext
}

async fn opens(engine: &Engine, id: u8, ciphertext: &Ciphertext) -> Result<(), EngineError> {
    let context = context("proxy/us", id).to_bytes();
    engine.decrypt(&proxy(), &kek(), ciphertext, &context, &[]).await.map(drop)
}

async fn rewraps(engine: &Engine, id: u8, ciphertext: &Ciphertext) -> Result<(), EngineError> {
    let context = context("proxy/us", id).to_bytes();
    engine.rewrap(&proxy(), &kek(), ciphertext, None, &context, &[]).await.map(drop)
}

async fn a_destroyed_kek_opens_nothing_and_its_name_is_never_used_again(database: Database) {
    let root = make(&database).await;
    let custodian = open(&database, &root, "custodian-1").await;
    let (engine, officers) = (&custodian.engine, Officers::new());
    let rita = officers.rita.asks();
    let refused = engine.destroy(&rita, &whole(), &call("destroy")).await;
    assert!(matches!(refused, Err(EngineError::Keyring(KeyringError::Unknown))), "{refused:?}");
    engine.create(&rita, &kek(), derived(), &call("create")).await.expect("creates");
    let wrapped = [branch(engine, 1).await, branch(engine, 2).await];
    engine.rotate(&rita, &kek()).await.expect("rotates");
    rewraps(engine, 1, &wrapped[0]).await.expect("rewraps");
    let mut events = engine.watch(&proxy()).await.expect("watches").value;

    let id = proposal_of(engine.destroy(&rita, &whole(), &call("destroy")).await);
    let refused = opens(engine, 1, &wrapped[0]).await;
    assert!(matches!(refused, Err(EngineError::Keyring(KeyringError::Disabled))), "off before anyone approved");
    assert_eq!(events.recv().await.expect("told"), Event::Kek { name: kek(), change: KekEvent::Disabled });
    assert_eq!(refusal(engine.erase(&rita, &whole(), &call("erase")).await), DestructionRefused::NotScheduled);
    approve(engine, &officers.alice, &id).await.expect("one");
    approve(engine, &officers.bob, &id).await.expect("two");
    let scheduled = engine.destroy(&rita, &whole(), &call("destroy")).await.expect("is scheduled");
    assert!(!scheduled.existed && scheduled.value.is_waiting());
    assert_eq!(scheduled.value.due_unix_s(), scheduled.value.scheduled_unix_s() + WAIT_S);
    assert!(engine.destroy(&rita, &whole(), &call("destroy")).await.expect("tells").existed);

    at(engine, WAIT_S - 10);
    let refused = refusal(engine.erase(&rita, &whole(), &call("erase")).await);
    assert!(matches!(refused, DestructionRefused::NotDue { due_unix_s } if due_unix_s == scheduled.value.due_unix_s()));
    at(engine, WAIT_S + 10);
    let erased = erase(engine, &officers, &whole()).await;
    assert!(erased.is_erased());
    let told = async {
        loop {
            let event = events.recv().await.expect("told");
            if event == (Event::Kek { name: kek(), change: KekEvent::Deleted }) {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), told).await.expect("watchers are told that it is gone");
    let again = engine.erase(&rita, &whole(), &call("erase")).await.expect("tells");
    assert!(again.existed && again.value == erased);

    for (id, wrapped) in (1..).zip(&wrapped) {
        for refused in [opens(engine, id, wrapped).await, rewraps(engine, id, wrapped).await] {
            assert!(matches!(refused, Err(EngineError::Keyring(KeyringError::Unknown))), "{refused:?}");
        }
    }
    assert_eq!(refusal(engine.create(&rita, &kek(), derived(), &call("create")).await), DestructionRefused::Destroyed);
    let grave = KeyOptions { exportable: true, ..derived() };
    assert_eq!(
        refusal(engine.create(&rita, &kek(), grave, &call("c")).await),
        DestructionRefused::Destroyed,
        "no vote"
    );
    assert!(matches!(engine.key(&rita, &kek()).await, Err(EngineError::Keyring(KeyringError::Unknown))));

    certifies(&custodian, &erased).await;
    let folder = custodian.crash();
    let sql = database.again(settings()).await.expect("opens");
    let again = Custodian::open_in(folder, sql, &root, "custodian-1", weekly()).await.expect("opens again");
    assert_eq!(
        refusal(again.engine.create(&rita, &kek(), derived(), &call("create")).await),
        DestructionRefused::Destroyed
    );
    let kept = again.engine.destructions(&rita, &kek()).await.expect("tells").value;
    assert_eq!(kept, [erased]);
    assert!(again.engine.store.get(crate::custodian::barrier::Kind::Kek, "records").await.expect("reads").is_none());
}

/// What the certificate says is so, and it is no certificate once a byte of it is changed.
async fn certifies(custodian: &Custodian, erased: &Destruction) {
    let key = custodian.engine.audit().log().verifier().clone();
    let note = erased.certificate().expect("has one");
    let certificate = read_certificate(note.as_bytes(), &key).expect("is good");
    assert_eq!(certificate["kek"], "records");
    assert_eq!(certificate["whole"], true);
    assert_eq!(certificate["versions"].as_array().map(Vec::len), Some(2));
    assert_eq!((&certificate["wait_s"], &certificate["insecure_wait"]), (&WAIT_S.into(), &false.into()));
    assert_eq!(certificate["branch_keys_lost"], 2, "two keys, one of them in two wrappings");
    assert_eq!(certificate["requested_by"], "spiffe://example.org/region/us/officer/rita");
    for quorum in ["first_quorum", "second_quorum"] {
        assert_eq!(certificate[quorum]["approvals"].as_array().map(Vec::len), Some(2), "{quorum}");
    }
    let log = custodian.log().await;
    let index = usize::try_from(certificate["audit_log_index"].as_u64().expect("a number")).expect("small");
    assert_eq!((&log[index]["action"], &log[index]["decision"]), (&"erase".into(), &"allow".into()));
    assert_eq!(log[index]["proposal"], certificate["second_quorum"]["id"]);
    let changed = note.replace("\"branch_keys_lost\": 2", "\"branch_keys_lost\": 0");
    assert_ne!(changed, note);
    assert_eq!(read_certificate(changed.as_bytes(), &key), Err(InvalidCertificate::Forged));
    for at in (0..note.len()).step_by(97) {
        let mut changed = note.as_bytes().to_vec();
        changed[at] ^= 1;
        assert!(read_certificate(&changed, &key).is_err(), "byte {at}");
    }
    let checkpoint = custodian.engine.audit().log().checkpoints().borrow().note().to_string();
    assert_eq!(read_certificate(checkpoint.as_bytes(), &key), Err(InvalidCertificate::Other));
    // The log's key alone does not make one: the officers' signatures have to fit.
    let forged = |from: &str, to: &str| {
        let text = crate::tlog::note::Note::parse(note.as_bytes()).expect("a note").text().replace(from, to);
        custodian.engine.audit().log().sign_statement(&text).expect("lines").to_string()
    };
    assert!(read_certificate(forged("", "").as_bytes(), &key).is_ok());
    for (from, to) in [("\"kek\": \"records\"", "\"kek\": \"others\""), ("\"required\": 2", "\"required\": 3")] {
        let forged = forged(from, to);
        assert_eq!(read_certificate(forged.as_bytes(), &key), Err(InvalidCertificate::Unapproved), "{from}");
    }
}

async fn nobody_comes_between_a_destruction_and_its_kek(database: Database) {
    let (custodian, officers) = with_kek(&database).await;
    let (engine, rita) = (&custodian.engine, officers.rita.asks());
    let change = KeyChange { deletion_allowed: Some(true), ..KeyChange::default() };
    let configure = async || engine.configure(&rita, &kek(), change.clone(), &call("config")).await;
    approved(engine, &officers, configure).await;
    // An enabling that was approved before counts for nothing either.
    engine.disable(&rita, &kek()).await.expect("disables");
    let id = proposal_of(engine.enable(&rita, &kek(), &call("enable")).await);
    approve(engine, &officers.alice, &id).await.expect("one");
    approve(engine, &officers.bob, &id).await.expect("two");
    schedule(engine, &officers, &whole()).await;
    for refused in [
        engine.enable(&rita, &kek(), &call("enable")).await.map(drop),
        engine.delete(&rita, &kek(), &call("")).await.map(drop),
    ] {
        assert_eq!(refusal(refused), DestructionRefused::UnderWay);
    }
    let made = engine.create(&rita, &kek(), derived(), &call("create")).await.expect("tells");
    assert!(made.existed && made.value.disabled);
    let reader = who("sg/officer/olga");
    for denied in [
        engine.destroy(&reader, &whole(), &call("destroy")).await.map(drop),
        engine.erase(&reader, &whole(), &call("erase")).await.map(drop),
        engine.cancel_destruction(&reader, &whole()).await.map(drop),
        engine.destructions(&reader, &kek()).await.map(drop),
    ] {
        assert!(matches!(denied, Err(EngineError::Denied)), "{denied:?}");
    }
}

async fn a_destruction_is_called_off_by_one_and_begins_anew(database: Database) {
    let (custodian, officers) = with_kek(&database).await;
    let (engine, rita) = (&custodian.engine, officers.rita.asks());
    let wrapped = branch(engine, 1).await;
    assert_eq!(refusal(engine.cancel_destruction(&rita, &whole()).await), DestructionRefused::NotScheduled);
    schedule(engine, &officers, &whole()).await;
    at(engine, WAIT_S + 10);
    let second = proposal_of(engine.erase(&rita, &whole(), &call("erase")).await);
    approve(engine, &officers.alice, &second).await.expect("one");
    approve(engine, &officers.bob, &second).await.expect("two");
    let cancelled = engine.cancel_destruction(&officers.bob.asks(), &whole()).await.expect("one officer").value;
    assert!(matches!(&cancelled.state, State::Cancelled { by, .. } if by.as_str().ends_with("/officer/bob")));
    assert_eq!(refusal(engine.erase(&rita, &whole(), &call("erase")).await), DestructionRefused::NotScheduled);
    assert!(engine.cancel_destruction(&rita, &whole()).await.expect("tells").existed);
    assert!(engine.key(&rita, &kek()).await.expect("reads").value.disabled, "it stays off");
    approved(engine, &officers, async || engine.enable(&rita, &kek(), &call("enable")).await).await;
    opens(engine, 1, &wrapped).await.expect("opens again");

    at(engine, WAIT_S + 20);
    let anew = schedule(engine, &officers, &whole()).await;
    assert!(matches!(refusal(engine.erase(&rita, &whole(), &call("erase")).await), DestructionRefused::NotDue { .. }));
    at(engine, 2 * WAIT_S + 30);
    assert!(anew.due_unix_s() <= engine.now_unix_s());
    assert_ne!(proposal_of(engine.erase(&rita, &whole(), &call("erase")).await), second, "approved before");
}

async fn old_versions_are_destroyed_alone_once_they_are_retired(database: Database) {
    let (custodian, officers) = with_kek(&database).await;
    let (engine, rita) = (&custodian.engine, officers.rita.asks());
    let old = branch(engine, 1).await;
    engine.rotate(&rita, &kek()).await.expect("rotates");
    engine.rotate(&rita, &kek()).await.expect("rotates");
    let new = branch(engine, 2).await;
    let refused = refusal(engine.destroy(&rita, &through(1), &call("destroy")).await);
    assert_eq!(refused, DestructionRefused::NotRetired { through: 1, min_decryption: 1 });
    assert_eq!(refusal(engine.destroy(&rita, &through(4), &call("destroy")).await), DestructionRefused::NoSuchVersion);
    let raise = KeyChange { min_decryption_version: Some(3), ..KeyChange::default() };
    move_branches(engine).await;
    approved(engine, &officers, async || engine.configure(&rita, &kek(), raise.clone(), &call("config")).await).await;
    schedule(engine, &officers, &through(2)).await;
    opens(engine, 2, &new).await.expect("the others go on");
    let lower = KeyChange { min_decryption_version: Some(2), ..KeyChange::default() };
    let refused = engine.configure(&rita, &kek(), lower.clone(), &call("config")).await;
    assert_eq!(refusal(refused), DestructionRefused::UnderWay);
    at(engine, WAIT_S + 10);
    let erased = erase(engine, &officers, &through(2)).await;
    let certificate =
        read_certificate(erased.certificate().expect("has one").as_bytes(), engine.audit().log().verifier());
    let certificate = certificate.expect("is good");
    assert_eq!((&certificate["whole"], &certificate["branch_keys_lost"]), (&false.into(), &0.into()));
    assert_eq!(certificate["versions"].as_array().map(Vec::len), Some(2));
    let info = engine.key(&rita, &kek()).await.expect("reads").value;
    assert_eq!((info.versions.len(), info.min_available, info.min_encryption, info.disabled), (1, 3, 3, false));
    opens(engine, 2, &new).await.expect("the others go on");
    let refused = engine.configure(&rita, &kek(), lower, &call("config")).await;
    assert!(matches!(refused, Err(EngineError::Keyring(KeyringError::BadChange(_)))), "{refused:?}");
    for refused in [opens(engine, 1, &old).await, rewraps(engine, 1, &old).await] {
        assert!(matches!(refused, Err(EngineError::Keyring(KeyringError::VersionTooOld))), "{refused:?}");
    }
    let record = engine.store.get(crate::custodian::barrier::Kind::Kek, "records").await.expect("reads");
    let kept = crate::custodian::kek::Kek::parse(&record.expect("is there").body).expect("a KEK");
    assert_eq!(kept.info(&kek()).versions.len(), 1, "nor are they in the store");
}

async fn several_custodians_and_restarts_do_not_shorten_anything(database: Database) {
    let root = make(&database).await;
    let one = open(&database, &root, "custodian-1").await;
    let officers = Officers::new();
    let rita = officers.rita.asks();
    one.engine.create(&rita, &kek(), derived(), &call("create")).await.expect("creates");
    let wrapped = branch(&one.engine, 1).await;
    let scheduled = schedule(&one.engine, &officers, &whole()).await;
    let folder = one.crash();
    // Another one would wait for nothing; what was begun with a week takes a week.
    let sql = database.again(settings()).await.expect("opens");
    let hasty = EngineSettings { destroy_wait: Wait { seconds: 0, insecure: true }, ..patient() };
    let two = Custodian::open_with(sql, &root, "custodian-2", hasty).await;
    let known = two.engine.destructions(&rita, &kek()).await.expect("tells").value;
    assert_eq!(known, [scheduled]);
    assert!(matches!(
        refusal(two.engine.erase(&rita, &whole(), &call("erase")).await),
        DestructionRefused::NotDue { .. }
    ));
    at(&two.engine, WAIT_S + 10);
    let id = proposal_of(two.engine.erase(&rita, &whole(), &call("erase")).await);
    let sql = database.again(settings()).await.expect("opens");
    let one = Custodian::open_in(folder, sql, &root, "custodian-1", weekly()).await.expect("opens again");
    at(&one.engine, WAIT_S + 10);
    approve(&one.engine, &officers.alice, &id).await.expect("one");
    approve(&one.engine, &officers.bob, &id).await.expect("two");
    let erased = two.engine.erase(&rita, &whole(), &call("erase")).await.expect("runs").value;
    assert!(within(Duration::from_secs(5), || !one.engine.view().snapshot.keks.contains_key(&kek())).await);
    let refused = opens(&one.engine, 1, &wrapped).await;
    assert!(matches!(refused, Err(EngineError::Keyring(KeyringError::Unknown))), "{refused:?}");
    let create = one.engine.create(&rita, &kek(), derived(), &call("create")).await;
    assert_eq!(refusal(create), DestructionRefused::Destroyed);
    let key = two.engine.audit().log().verifier();
    let note = erased.certificate().expect("has one");
    assert!(read_certificate(note.as_bytes(), key).is_ok());
    let other = read_certificate(note.as_bytes(), one.engine.audit().log().verifier());
    assert_eq!(other, Err(InvalidCertificate::Forged), "it is signed by the custodian that erased");
}

async fn of_two_erasures_at_once_one_runs(database: Database) {
    let root = make(&database).await;
    let one = open(&database, &root, "custodian-1").await;
    let two = open(&database, &root, "custodian-2").await;
    let officers = Officers::new();
    let rita = officers.rita.asks();
    one.engine.create(&rita, &kek(), derived(), &call("create")).await.expect("creates");
    schedule(&one.engine, &officers, &whole()).await;
    [&one, &two].iter().for_each(|custodian| at(&custodian.engine, WAIT_S + 10));
    let id = proposal_of(one.engine.erase(&rita, &whole(), &call("erase")).await);
    two.engine.look().await.expect("looks");
    approve(&two.engine, &officers.alice, &id).await.expect("one");
    approve(&two.engine, &officers.bob, &id).await.expect("two");
    let (target, call) = (whole(), call("erase"));
    let (first, second) =
        tokio::join!(one.engine.erase(&rita, &target, &call), two.engine.erase(&rita, &target, &call));
    let (first, second) = (first.expect("erases or tells"), second.expect("erases or tells"));
    assert_eq!(first.value, second.value, "one certificate");
    assert_ne!(first.existed, second.existed);
    one.store_is_whole(&database, &root).await;
}

async fn what_cannot_be_written_down_erases_nothing(database: Database) {
    let root = make(&database).await;
    let custodian = open(&database, &root, "custodian-1").await;
    let (engine, officers) = (&custodian.engine, Officers::new());
    let rita = officers.rita.asks();
    engine.create(&rita, &kek(), derived(), &call("create")).await.expect("creates");
    let wrapped = branch(engine, 1).await;
    schedule(engine, &officers, &whole()).await;
    at(engine, WAIT_S + 10);
    let id = proposal_of(engine.erase(&rita, &whole(), &call("erase")).await);
    approve(engine, &officers.alice, &id).await.expect("one");
    approve(engine, &officers.bob, &id).await.expect("two");
    custodian.disk.full.store(true, Ordering::SeqCst);
    let refused = engine.erase(&rita, &whole(), &call("erase")).await;
    assert!(matches!(refused, Err(EngineError::Audit(_))), "{refused:?}");
    assert!(engine.read_kek(&kek()).await.expect("reads").is_some(), "it is there");
    let folder = custodian.crash();
    let sql = database.again(settings()).await.expect("opens");
    let again = Custodian::open_in(folder, sql, &root, "custodian-1", weekly()).await.expect("opens again");
    at(&again.engine, WAIT_S + 10);
    let cancelled = again.engine.cancel_destruction(&rita, &whole()).await.expect("can still be called off");
    assert!(!cancelled.existed);
    let enable = async || again.engine.enable(&rita, &kek(), &call("enable")).await;
    approved(&again.engine, &officers, enable).await;
    opens(&again.engine, 1, &wrapped).await.expect("opens again");
}

async fn an_enabling_and_a_destruction_at_once_end_as_if_one_came_first(database: Database) {
    let root = make(&database).await;
    let one = open(&database, &root, "custodian-1").await;
    let two = open(&database, &root, "custodian-2").await;
    let officers = Officers::new();
    let rita = officers.rita.asks();
    for round in 0..6 {
        let name = KekName::new(&format!("kek-{round}")).expect("legal");
        let target = Target::whole(&name);
        one.engine.create(&rita, &name, derived(), &call("create")).await.expect("creates");
        one.engine.disable(&rita, &name).await.expect("disables");
        let enable = GatedCall { path: format!("/{round}/enable"), ..call("enable") };
        let destroy = GatedCall { path: format!("/{round}/destroy"), ..call("destroy") };
        for id in [
            proposal_of(one.engine.enable(&rita, &name, &enable).await),
            proposal_of(one.engine.destroy(&rita, &target, &destroy).await),
        ] {
            approve(&one.engine, &officers.alice, &id).await.expect("one");
            approve(&one.engine, &officers.bob, &id).await.expect("two");
        }
        two.engine.look().await.expect("looks");
        let (enabled, scheduled) =
            tokio::join!(two.engine.enable(&rita, &name, &enable), one.engine.destroy(&rita, &target, &destroy));
        one.engine.look().await.expect("looks");
        scheduled.expect("is scheduled, before or after");
        let info = one.engine.key(&rita, &name).await.expect("reads").value;
        assert!(info.disabled, "what is to be destroyed is off, whoever came first: {enabled:?}");
    }
}

impl Custodian {
    async fn store_is_whole(&self, database: &Database, root: &RootKey) {
        let sql = database.again(settings()).await.expect("opens");
        SealedStore::open(Arc::clone(&sql) as Arc<dyn crate::custodian::store::Store>, root).await.expect("is whole");
        sql.close().await;
    }
}

//! Backups of KEKs: into an empty custodian everything comes back, and nothing comes back that was destroyed.

use super::*;
use crate::custodian::backup::{Audience, Backup, BackupRefused, Identities, NewIdentity, new_identity, open_share};
use crate::custodian::destruction::{DestructionRefused, Target, Wait, read_certificate};
use crate::custodian::kek::{Ciphertext, DataKeyLen, KekInfo, KeyChange, KeyringError, Labels};
use crate::custodian::seal::share::{self, Share};
use crate::names::KekVersion;

on_both!(
    an_empty_custodian_has_everything_again,
    what_exists_or_was_destroyed_is_left_alone,
    a_backup_does_not_bring_destroyed_versions_back,
    making_and_restoring_take_a_quorum_each_time,
    branch_keys_come_back_only_if_they_open,
    officers_send_their_shares_and_nobody_holds_them_all,
    a_wrong_share_that_an_officer_sent_is_left_out_and_told_of,
    versions_that_wait_for_their_erasure_are_not_copied,
    a_restored_kek_retires_nothing_while_unknown_branch_keys_may_hang_on_it,
    what_is_opened_under_a_restored_kek_comes_into_the_ledger,
    nobodys_word_is_taken_for_the_version_that_a_branch_key_is_from,
);

fn name(text: &str) -> KekName {
    KekName::new(text).expect("legal")
}

fn hasty() -> EngineSettings {
    EngineSettings { destroy_wait: Wait { seconds: 0, insecure: true }, ..patient() }
}

async fn open(database: &Database, root: &RootKey, instance: &str) -> Custodian {
    Custodian::open_with(database.again(settings()).await.expect("opens"), root, instance, hasty()).await
}

/// Two who have shares.
struct Holders {
    identities: Vec<Identities>,
    recipients: Vec<String>,
}

impl Holders {
    fn new() -> Self {
        let (mut identities, mut recipients) = (Vec::new(), Vec::new());
        for NewIdentity { file, recipient } in [new_identity(), new_identity()] {
            identities.push(Identities::parse(&file).expect("is one"));
            recipients.push(recipient);
        }
        Self { identities, recipients }
    }

    fn audience(&self) -> Audience {
        Audience::new(self.recipients.iter().map(String::as_str), 2).expect("is one")
    }

    fn shares(&self, backup: &Backup) -> Vec<String> {
        let open = |one: &Identities| open_share(backup.shares().map(|(_, share)| share), one).expect("has one");
        self.identities.iter().map(|one| open(one).as_str().to_owned()).collect()
    }
}

async fn approved<T>(
    engine: &Engine,
    officers: &Officers,
    step: impl AsyncFn() -> Result<Done<T>, EngineError>,
) -> Result<Done<T>, EngineError> {
    let id = proposal_of(step().await);
    approve(engine, &officers.alice, &id).await.expect("one");
    assert_eq!(proposal_of(step().await), id, "one officer alone");
    approve(engine, &officers.bob, &id).await.expect("two");
    step().await
}

async fn back_up(engine: &Engine, officers: &Officers, holders: &Holders) -> Backup {
    let (rita, audience) = (officers.rita.asks(), holders.audience());
    let done = approved(engine, officers, async || engine.back_up(&rita, None, &audience, &call("backup")).await).await;
    Backup::parse(&done.expect("makes").value.text).expect("parses")
}

/// Of the KEK of a custodian that is there no more.
async fn two_backups(officers: &Officers, holders: &Holders) -> [Backup; 2] {
    let database = Database::sqlite().await;
    let root = make(&database).await;
    let custodian = open(&database, &root, "custodian-1").await;
    custodian.engine.create(&officers.rita.asks(), &kek(), derived(), &call("create")).await.expect("creates");
    [back_up(&custodian.engine, officers, holders).await, back_up(&custodian.engine, officers, holders).await]
}

async fn restore(
    engine: &Engine,
    officers: &Officers,
    backup: &Backup,
    shares: &[String],
) -> Result<Restored, EngineError> {
    let (rita, shares) = (officers.rita.asks(), shares.iter().map(String::as_str).collect::<Vec<_>>());
    let restore = async || engine.restore_backup(&rita, Some((backup, &shares)), &call("restore")).await;
    approved(engine, officers, restore).await.map(|done| done.value)
}

fn refusals(restored: &Restored) -> Vec<(String, String)> {
    restored.refused.iter().map(|(kek, error)| (kek.as_str().to_owned(), error.to_string())).collect()
}

async fn branch(engine: &Engine, id: u8) -> (Ciphertext, Vec<u8>) {
    let made = engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, for_branch("proxy/us", id)).await;
    let made = made.expect("generates").value;
    (made.ciphertext, made.plaintext.expect("was asked for").to_vec())
}

async fn opens(engine: &Engine, id: u8, ciphertext: &Ciphertext) -> Result<Vec<u8>, EngineError> {
    let context = context("proxy/us", id).to_bytes();
    engine.decrypt(&proxy(), &kek(), ciphertext, &context, &[]).await.map(|done| done.value.to_vec())
}

async fn an_empty_custodian_has_everything_again(database: Database) {
    let root = make(&database).await;
    let custodian = open(&database, &root, "custodian-1").await;
    let (engine, officers, holders) = (&custodian.engine, Officers::new(), Holders::new());
    let rita = officers.rita.asks();
    let labels = Labels::new([("jurisdiction".to_owned(), "us".to_owned())].into()).expect("legal");
    let options = KeyOptions { labels, auto_rotate_period_s: 7200, ..derived() };
    engine.create(&rita, &kek(), options, &call("create")).await.expect("creates");
    let old = branch(engine, 1).await;
    engine.rotate(&rita, &kek()).await.expect("rotates");
    let new = branch(engine, 2).await;
    let raise = KeyChange { min_decryption_version: Some(2), ..KeyChange::default() };
    let configure = async || engine.configure(&rita, &kek(), raise.clone(), &call("config")).await;
    move_branches(engine).await;
    approved(engine, &officers, configure).await.expect("raises");
    engine.create(&rita, &name("off"), derived(), &call("create")).await.expect("creates");
    engine.disable(&rita, &name("off")).await.expect("disables");
    let before = [engine.key(&rita, &kek()).await, engine.key(&rita, &name("off")).await];
    // What is younger than a minute may not be in the ledger yet.
    engine.clock.set_off_s.store(100, Ordering::Relaxed);
    let backup = back_up(engine, &officers, &holders).await;
    let sums: Vec<_> = backup.ledgers().map(|(_, sum)| sum.expect("says")).collect();
    let made = |ids: &[u8]| ids.iter().map(|id| (BranchId::from_bytes([*id; 16]), 0)).collect::<Vec<_>>();
    assert!(sums[0].holds(made(&[])) && sums[1].holds(made(&[2, 1])));
    assert!(!sums[1].holds(made(&[1])), "a line was taken out");
    assert_eq!(backup.ledger_rows().collect::<Vec<_>>(), [("off", 0), ("records", 3)]);

    let fresh = Database::sqlite().await;
    let root = make(&fresh).await;
    let empty = open(&fresh, &root, "custodian-9").await;
    let engine = &empty.engine;
    let mut events = engine.watch(&proxy()).await.expect("watches").value;
    let shares = holders.shares(&backup);
    let restored = restore(engine, &officers, &backup, &shares).await.expect("restores");
    assert_eq!(restored.restored, [name("off"), kek()]);
    assert!(restored.refused.is_empty());
    let after = [engine.key(&rita, &kek()).await, engine.key(&rita, &name("off")).await];
    for (before, after) in before.into_iter().zip(after) {
        let (before, after) = (before.expect("was there").value, after.expect("is there").value);
        let marked = KekInfo { restored_through: Some(before.latest), ..before };
        assert_eq!(marked, after, "settings, labels, state, versions");
    }
    let told = events.recv().await.expect("told");
    assert!(matches!(told, Event::Kek { change: KekEvent::Created, .. }), "{told:?}");
    assert_eq!(opens(engine, 2, &new.0).await.expect("opens"), new.1);
    let refused = opens(engine, 1, &old.0).await;
    assert!(matches!(refused, Err(EngineError::Keyring(KeyringError::VersionTooOld))), "as before: {refused:?}");

    let branches = [2].map(|id| RestoredBranch {
        id: BranchId::from_bytes([id; 16]),
        context: context("proxy/us", id),
        generated: KekVersion::FIRST,
        wrapped: vec![new.0.clone()],
    });
    let done = engine.restore_branches(&rita, &kek(), &branches).await.expect("takes them in").value;
    assert_eq!((done.taken, done.refused.len()), (1, 0));
    assert_eq!(engine.store.branch(branches[0].id).await.expect("reads").len(), 1);
    let taken = engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, for_branch("proxy/us", 2)).await;
    assert!(matches!(taken, Err(EngineError::BranchTaken)), "the ledger knows it");
    let view = engine.view();
    assert_eq!(view.backups_with(&kek()).len(), 1, "certificates will name the backup that it came from");
}

async fn what_exists_or_was_destroyed_is_left_alone(database: Database) {
    let root = make(&database).await;
    let custodian = open(&database, &root, "custodian-1").await;
    let (engine, officers, holders) = (&custodian.engine, Officers::new(), Holders::new());
    let rita = officers.rita.asks();
    for kek in ["records", "stays"] {
        engine.create(&rita, &name(kek), derived(), &call("create")).await.expect("creates");
    }
    let wrapped = branch(engine, 1).await;
    let backup = back_up(engine, &officers, &holders).await;
    let shares = holders.shares(&backup);
    engine.rotate(&rita, &name("stays")).await.expect("rotates");
    let target = Target::whole(&kek());
    let destroy = async || engine.destroy(&rita, &target, &call("destroy")).await;
    approved(engine, &officers, destroy).await.expect("schedules");
    let doomed = engine.back_up(&rita, Some(&[kek()]), &holders.audience(), &call("b")).await;
    assert!(matches!(doomed, Err(EngineError::Backup(BackupRefused::Doomed(_)))), "{doomed:?}");
    let audience = holders.audience();
    let others = async || engine.back_up(&rita, None, &audience, &call("b")).await;
    let others = approved(engine, &officers, others).await.expect("makes").value;
    assert_eq!((others.left_out, others.note.keks.len()), (vec![kek()], 1));
    let erase = async || engine.erase(&rita, &target, &call("erase")).await;
    let erased = approved(engine, &officers, erase).await.expect("erases").value;
    let certificate = erased.certificate().expect("has one");
    let certificate = read_certificate(certificate.as_bytes(), engine.audit().log().verifier()).expect("is good");
    assert_eq!(certificate["backups_known"], 1);
    assert_eq!(certificate["backups"][0]["id"], backup.note().id);
    assert_eq!(certificate["insecure_wait"], true);

    let restored = restore(engine, &officers, &backup, &shares).await.expect("says which");
    assert!(restored.restored.is_empty());
    let expected =
        [("records", DestructionRefused::Destroyed.to_string()), ("stays", KeyringError::Exists.to_string())];
    assert_eq!(refusals(&restored), expected.map(|(kek, error)| (kek.to_owned(), error)));
    let refused = opens(engine, 1, &wrapped.0).await;
    assert!(matches!(refused, Err(EngineError::Keyring(KeyringError::Unknown))), "{refused:?}");
    assert_eq!(engine.key(&rita, &name("stays")).await.expect("reads").value.latest.number(), 2, "as it was");
    let branches = engine.restore_branches(&rita, &kek(), &[]).await;
    assert!(matches!(branches, Err(EngineError::Keyring(KeyringError::Unknown))), "{branches:?}");
}

async fn a_backup_does_not_bring_destroyed_versions_back(database: Database) {
    let root = make(&database).await;
    let custodian = open(&database, &root, "custodian-1").await;
    let (engine, officers, holders) = (&custodian.engine, Officers::new(), Holders::new());
    let rita = officers.rita.asks();
    engine.create(&rita, &kek(), derived(), &call("create")).await.expect("creates");
    engine.rotate(&rita, &kek()).await.expect("rotates");
    let backup = back_up(engine, &officers, &holders).await;
    let min_decryption_version = Some(2);
    let change = KeyChange { min_decryption_version, deletion_allowed: Some(true), ..KeyChange::default() };
    let configure = async || engine.configure(&rita, &kek(), change.clone(), &call("config")).await;
    approved(engine, &officers, configure).await.expect("retires the first version");
    let first = Target { kek: kek(), through: Some(KekVersion::FIRST) };
    let destroy = async || engine.destroy(&rita, &first, &call("destroy")).await;
    approved(engine, &officers, destroy).await.expect("schedules");
    let erase = async || engine.erase(&rita, &first, &call("erase")).await;
    approved(engine, &officers, erase).await.expect("erases");
    // A deleted KEK could come back, but this one would come back with a version that was destroyed.
    approved(engine, &officers, async || engine.delete(&rita, &kek(), &call("")).await).await.expect("deletes");
    let restored = restore(engine, &officers, &backup, &holders.shares(&backup)).await.expect("says which");
    assert_eq!(refusals(&restored), [("records".to_owned(), DestructionRefused::Destroyed.to_string())]);
    assert!(engine.glance(&kek()).is_none());
}

async fn making_and_restoring_take_a_quorum_each_time(database: Database) {
    let root = make(&database).await;
    let custodian = open(&database, &root, "custodian-1").await;
    let (engine, officers, holders) = (&custodian.engine, Officers::new(), Holders::new());
    let (rita, audience) = (officers.rita.asks(), holders.audience());
    let refused = engine.back_up(&rita, None, &audience, &call("backup")).await;
    assert!(matches!(refused, Err(EngineError::Backup(BackupRefused::NoKeks))), "{refused:?}");
    engine.create(&rita, &kek(), derived(), &call("create")).await.expect("creates");
    let unknown = engine.back_up(&rita, Some(&[name("nothing")]), &audience, &call("backup")).await;
    assert!(matches!(unknown, Err(EngineError::Backup(BackupRefused::UnknownKek(_)))), "{unknown:?}");
    let backup = back_up(engine, &officers, &holders).await;
    proposal_of(engine.back_up(&rita, None, &audience, &call("backup")).await);
    let denied = engine.back_up(&who("sg/officer/olga"), None, &audience, &call("backup")).await;
    assert!(matches!(denied, Err(EngineError::Denied)), "{denied:?}");

    let fresh = Database::sqlite().await;
    let root = make(&fresh).await;
    let empty = open(&fresh, &root, "custodian-9").await;
    let engine = &empty.engine;
    // Proposed without any share; approved, it wants them.
    let propose = async || engine.restore_backup(&rita, None, &call("restore")).await;
    let wants = approved(engine, &officers, propose).await;
    assert!(matches!(wants, Err(EngineError::Backup(BackupRefused::NothingSent))), "{wants:?}");
    let shares = holders.shares(&backup);
    let [a, b] = [0, 1].map(|at| shares[at].as_str());
    let with = async |shares: &[&str]| engine.restore_backup(&rita, Some((&backup, shares)), &call("restore")).await;
    for (few, why) in [
        (&[a][..], BackupRefused::TooFewShares { given: 1, threshold: 2 }),
        (&[a, a], BackupRefused::SameShare(2)),
        (&[a, "x"], BackupRefused::Share(2)),
    ] {
        let refused = with(few).await;
        assert!(matches!(&refused, Err(EngineError::Backup(found)) if *found == why), "{refused:?}");
    }
    assert_eq!(with(&[b, a]).await.expect("wrong shares spend no approval").value.restored, [kek()]);
    proposal_of(with(&[a, b]).await);
    let log = empty.log().await;
    let told = serde_json::to_string(&log).expect("JSON");
    assert!(!told.contains(a) && !told.contains(b), "no share is in the log");
}

async fn branch_keys_come_back_only_if_they_open(database: Database) {
    let root = make(&database).await;
    let custodian = open(&database, &root, "custodian-1").await;
    let engine = &custodian.engine;
    let rita = who("us/officer/rita");
    engine.create(&rita, &kek(), derived(), &call("create")).await.expect("creates");
    let wrapped = [branch(engine, 1).await.0, branch(engine, 2).await.0];
    // Another custodian of the same KEKs, so to speak: the ledger there has none of them.
    let backup = { back_up(engine, &Officers::new(), &Holders::new()).await };
    assert_eq!(backup.note().keks.len(), 1);
    let good = |id: u8, wrapped: &Ciphertext| RestoredBranch {
        id: BranchId::from_bytes([id; 16]),
        context: context("proxy/us", id),
        generated: KekVersion::FIRST,
        wrapped: vec![wrapped.clone()],
    };
    let other = RestoredBranch { context: context("proxy/us", 2), ..good(1, &wrapped[0]) };
    let swapped = good(1, &wrapped[1]);
    let renamed = RestoredBranch { id: BranchId::from_bytes([9; 16]), ..good(1, &wrapped[0]) };
    let bucket = RestoredBranch { context: context("proxy/sg", 1), ..good(1, &wrapped[0]) };
    let newer = RestoredBranch { generated: KekVersion::new(2).expect("not zero"), ..good(1, &wrapped[0]) };
    let none = RestoredBranch { wrapped: Vec::new(), ..good(1, &wrapped[0]) };
    let all = [other, swapped, renamed, bucket, newer, none, good(2, &wrapped[1])];
    engine.disable(&rita, &kek()).await.expect("disables");
    let done = engine.restore_branches(&rita, &kek(), &all).await.expect("says which").value;
    assert_eq!((done.taken, done.refused.len()), (1, 6), "{done:?}");
    assert!(engine.store.branch(BranchId::from_bytes([9; 16])).await.expect("reads").is_empty());
    let denied = engine.restore_branches(&who("sg/officer/olga"), &kek(), &all).await;
    assert!(matches!(denied, Err(EngineError::Denied)), "{denied:?}");
}

/// A custodian that was restored from a backup of before branch key 2, of whose ledger nothing came back; and both branch keys.
async fn restored_late(database: &Database, officers: &Officers) -> (Custodian, [(Ciphertext, Vec<u8>); 2]) {
    let first = Database::sqlite().await;
    let root = make(&first).await;
    let custodian = open(&first, &root, "custodian-1").await;
    let (engine, holders) = (&custodian.engine, Holders::new());
    engine.create(&officers.rita.asks(), &kek(), derived(), &call("create")).await.expect("creates");
    let one = branch(engine, 1).await;
    let backup = back_up(engine, officers, &holders).await;
    let two = branch(engine, 2).await;
    let root = make(database).await;
    let late = open(database, &root, "custodian-9").await;
    restore(&late.engine, officers, &backup, &holders.shares(&backup)).await.expect("restores");
    (late, [one, two])
}

fn raise(to: u32) -> KeyChange {
    KeyChange { min_decryption_version: Some(to), ..KeyChange::default() }
}

async fn a_restored_kek_retires_nothing_while_unknown_branch_keys_may_hang_on_it(database: Database) {
    let officers = Officers::new();
    let (custodian, [one, _]) = restored_late(&database, &officers).await;
    let (engine, rita) = (&custodian.engine, officers.rita.asks());
    let known = RestoredBranch {
        id: BranchId::from_bytes([1; 16]),
        context: context("proxy/us", 1),
        generated: KekVersion::FIRST,
        wrapped: vec![one.0],
    };
    engine.restore_branches(&rita, &kek(), &[known]).await.expect("takes it in");
    engine.rotate(&rita, &kek()).await.expect("rotates");
    move_branches(engine).await;
    let census = engine.census(&rita, &kek()).await.expect("counts").value;
    assert_eq!((census.retire.needed, census.retire.unconfirmed, census.retire.wait_s), (0, 0, 0));
    assert!(!census.retire.is_allowed(), "all that is known has moved, and that is not all");
    let not_whole = |refused: Result<(), EngineError>| {
        assert!(matches!(refused, Err(EngineError::LedgerNotWhole(KekVersion::FIRST))), "{refused:?}");
    };
    let configure = async |change: KeyChange| engine.configure(&rita, &kek(), change, &call("config")).await;
    not_whole(configure(raise(2)).await.map(drop));
    // Before anybody could be asked about it: officers would have approved in good faith.
    let asked = engine.proposals(&officers.alice.asks()).await.expect("lists").value;
    assert!(asked.iter().all(|one| one.document().path.ends_with("restore")));
    let deletable = KeyChange { deletion_allowed: Some(true), min_encryption_version: Some(2), ..KeyChange::default() };
    approved(engine, &officers, async || configure(deletable.clone()).await).await.expect("allows it");
    not_whole(engine.delete(&rita, &kek(), &call("")).await.map(drop));
    not_whole(engine.trim(&rita, &kek(), 1, &call("trim")).await.map(drop));
    let first = Target { kek: kek(), through: Some(KekVersion::FIRST) };
    let refused = engine.destroy(&rita, &first, &call("destroy")).await;
    let expected = DestructionRefused::LedgerNotWhole(KekVersion::FIRST);
    assert!(matches!(&refused, Err(EngineError::Destruction(found)) if *found == expected), "{refused:?}");

    let declare = async || engine.declare_whole(&rita, &kek(), &call("ledger-whole")).await;
    let denied = engine.declare_whole(&who("sg/officer/olga"), &kek(), &call("ledger-whole")).await;
    assert!(matches!(denied, Err(EngineError::Denied)), "{denied:?}");
    approved(engine, &officers, declare).await.expect("two officers say so");
    assert_eq!(engine.key(&rita, &kek()).await.expect("reads").value.restored_through, None);
    approved(engine, &officers, async || configure(raise(2)).await).await.expect("retires");
}

async fn what_is_opened_under_a_restored_kek_comes_into_the_ledger(database: Database) {
    let officers = Officers::new();
    let (custodian, [one, two]) = restored_late(&database, &officers).await;
    let (engine, rita) = (&custodian.engine, officers.rita.asks());
    engine.rotate(&rita, &kek()).await.expect("rotates");
    for (id, key) in [(1, &one), (2, &two), (2, &two)] {
        assert_eq!(opens(engine, id, &key.0).await.expect("opens"), key.1);
    }
    let mut altered = two.0.bytes().to_vec();
    altered[20] ^= 1;
    let altered = Ciphertext::new(two.0.version(), altered).expect("as long");
    opens(engine, 3, &altered).await.expect_err("does not open");
    let listed = engine.branches(&rita, &kek(), None, None, 500).await.expect("lists").value.branches;
    let mut listed: Vec<_> =
        listed.iter().map(|one| (one.id, one.generated().number(), one.context().cloned())).collect();
    listed.sort_by_key(|(id, ..)| *id.as_bytes());
    let of = |id: u8| (BranchId::from_bytes([id; 16]), 1, Some(context("proxy/us", id)));
    assert_eq!(listed, [of(1), of(2)], "and nothing that did not open");
    let census = engine.census(&rita, &kek()).await.expect("counts").value;
    assert_eq!(census.retire.needed, 2, "and now they are waited for");
    // The proxy cannot have the id of what it lost.
    let taken = engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, for_branch("proxy/us", 2)).await;
    assert!(matches!(taken, Err(EngineError::BranchTaken)), "{taken:?}");
}

async fn nobodys_word_is_taken_for_the_version_that_a_branch_key_is_from(database: Database) {
    let officers = Officers::new();
    let (custodian, [one, two]) = restored_late(&database, &officers).await;
    let (engine, rita) = (&custodian.engine, officers.rita.asks());
    engine.rotate(&rita, &kek()).await.expect("rotates");
    let bound = |id: u8| context("proxy/us", id).to_bytes();
    // Rewrapped by somebody whom the ledger knows nothing from: envelopes may still have the version of before.
    let moved = engine.rewrap(&proxy(), &kek(), &one.0, None, &bound(1), &[]).await.expect("rewraps").value;
    let again = engine.rewrap(&proxy(), &kek(), &moved, None, &bound(1), &[]).await.expect("rewraps").value;
    assert_eq!(again.version().number(), 2);
    let claims = |id: u8, wrapped: &Ciphertext| RestoredBranch {
        id: BranchId::from_bytes([id; 16]),
        context: context("proxy/us", id),
        generated: KekVersion::new(2).expect("not zero"),
        wrapped: vec![wrapped.clone()],
    };
    let done = engine.restore_branches(&rita, &kek(), &[claims(2, &two.0), claims(1, &again)]).await;
    assert_eq!(done.expect("takes them in").value.taken, 2);
    let listed = engine.branches(&rita, &kek(), None, None, 500).await.expect("lists").value.branches;
    assert!(listed.len() == 2 && listed.iter().all(|one| one.generated() == KekVersion::FIRST), "{listed:?}");
}

async fn officers_send_their_shares_and_nobody_holds_them_all(database: Database) {
    let (officers, holders) = (Officers::new(), Holders::new());
    let [backup, another] = two_backups(&officers, &holders).await;
    let (shares, others) = (holders.shares(&backup), holders.shares(&another));
    let root = make(&database).await;
    let empty = open(&database, &root, "custodian-9").await;
    let (engine, rita) = (&empty.engine, officers.rita.asks());
    let [alice, bob] = [&officers.alice, &officers.bob].map(Person::asks);
    let give = async |who: &Requester, share: &str| {
        engine.give_share(who, share, &call("restore")).await.map(|done| done.value)
    };
    let restore = async || engine.restore_backup(&rita, Some((&backup, &[])), &call("restore")).await;
    let not_approved = |refused: Result<usize, EngineError>| {
        assert!(matches!(refused, Err(EngineError::Backup(BackupRefused::NotApproved))), "{refused:?}");
    };
    not_approved(give(&alice, &shares[0]).await);
    let few = |refused: Result<Done<Restored>, EngineError>, given: usize| {
        let expected = BackupRefused::TooFewShares { given, threshold: 2 };
        assert!(matches!(&refused, Err(EngineError::Backup(found)) if *found == expected), "{refused:?}");
    };
    few(approved(engine, &officers, restore).await, 0);
    let denied = give(&who("sg/officer/olga"), &shares[0]).await;
    assert!(matches!(denied, Err(EngineError::Denied)), "{denied:?}");
    assert_eq!(give(&alice, &shares[0]).await.expect("takes it"), 1);
    assert!(matches!(give(&bob, "x").await, Err(EngineError::Backup(BackupRefused::Share(_)))));
    assert_eq!(give(&bob, &shares[0]).await.expect("takes it"), 2);
    few(restore().await, 1);
    assert_eq!(give(&bob, &others[1]).await.expect("takes it"), 2, "in the place of the former");
    few(restore().await, 1);
    let elsewhere = engine.give_share(&bob, &shares[1], &call("elsewhere")).await.map(|done| done.value);
    not_approved(elsewhere);
    assert_eq!(give(&bob, &shares[1]).await.expect("takes it"), 2);
    assert_eq!(restore().await.expect("restores").value.restored, [kek()]);
    not_approved(give(&alice, &shares[0]).await);
    few(approved(engine, &officers, restore).await, 0);
    let told = serde_json::to_string(&empty.log().await).expect("JSON");
    assert!(shares.iter().chain(&others).all(|share| !told.contains(share)), "no share is in the log");
    assert!(told.contains("give-share"));
}

async fn a_wrong_share_that_an_officer_sent_is_left_out_and_told_of(database: Database) {
    let (officers, holders) = (Officers::new(), Holders::new());
    let [backup, _] = two_backups(&officers, &holders).await;
    let shares = holders.shares(&backup);
    let forged = share::forged(&Share::parse(&shares[0]).expect("is one")).to_text();
    let forged = std::str::from_utf8(forged.expose()).expect("base64");
    let root = make(&database).await;
    let empty = open(&database, &root, "custodian-9").await;
    let (engine, rita) = (&empty.engine, officers.rita.asks());
    let give = async |who: &Requester, share: &str| {
        engine.give_share(who, share, &call("restore")).await.expect("takes it").value
    };
    let restore = async || engine.restore_backup(&rita, Some((&backup, &[])), &call("restore")).await;
    approved(engine, &officers, restore).await.expect_err("no share is there yet");
    // First, and under the number of a colleague's.
    assert_eq!(give(&rita, forged).await, 1);
    assert_eq!(give(&officers.bob.asks(), &shares[1]).await, 2);
    let named = [&officers.rita, &officers.bob].map(|officer| officer.asks().id.to_string());
    let refused = restore().await.expect_err("one is wrong").to_string();
    for one in [format!("share 1 of {}", named[0]), format!("share 2 of {}", named[1])] {
        assert!(refused.contains(&one), "{refused}");
    }
    assert_eq!(give(&officers.alice.asks(), &shares[0]).await, 3);
    let done = restore().await.expect("two are right").value;
    let wrong = format!("share 1 of {}", named[0]);
    assert_eq!((done.restored, done.stray_shares), (vec![kek()], vec![wrong.clone()]));
    assert_eq!(done.opened_with.len(), 2);
    let told = serde_json::to_string(&empty.log().await).expect("JSON");
    assert!(told.contains(&wrong) && !told.contains(forged), "whose it was is in the log, the share is not");
}

async fn versions_that_wait_for_their_erasure_are_not_copied(database: Database) {
    let root = make(&database).await;
    let monthly = EngineSettings { destroy_wait: Wait::days(30), ..patient() };
    let sql = database.again(settings()).await.expect("opens");
    let custodian = Custodian::open_with(sql, &root, "custodian-1", monthly).await;
    let (engine, officers, holders) = (&custodian.engine, Officers::new(), Holders::new());
    let rita = officers.rita.asks();
    engine.create(&rita, &kek(), derived(), &call("create")).await.expect("creates");
    engine.rotate(&rita, &kek()).await.expect("rotates");
    approved(engine, &officers, async || engine.configure(&rita, &kek(), raise(2), &call("config")).await)
        .await
        .expect("retires");
    let versions = async |backup: &Backup| {
        let fresh = Database::sqlite().await;
        let root = make(&fresh).await;
        let empty = open(&fresh, &root, "custodian-9").await;
        restore(&empty.engine, &officers, backup, &holders.shares(backup)).await.expect("restores");
        let info = empty.engine.key(&rita, &kek()).await.expect("reads").value;
        info.versions.iter().map(|(version, _)| version.number()).collect::<Vec<_>>()
    };
    assert_eq!(versions(&back_up(engine, &officers, &holders).await).await, [1, 2]);
    let first = Target { kek: kek(), through: Some(KekVersion::FIRST) };
    approved(engine, &officers, async || engine.destroy(&rita, &first, &call("destroy")).await)
        .await
        .expect("schedules");
    let late = back_up(engine, &officers, &holders).await;
    assert_eq!(versions(&late).await, [2], "its certificate could not name this backup any more");
}

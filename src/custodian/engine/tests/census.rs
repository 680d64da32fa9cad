//! What hangs on which version of a KEK, and when old ones may go.

use super::*;
use crate::custodian::kek::{DataKeyLen, KeyChange, KeyringError};
use crate::custodian::store::BranchState;
use crate::custody::wrapped::WrappedKey;
use crate::names::KekVersion;

const SITE: &str = "main";

fn version(number: u32) -> KekVersion {
    KekVersion::new(number).expect("not zero")
}

fn id(number: u8) -> BranchId {
    BranchId::from_bytes([number; 16])
}

/// A custodian that waits `wait_s` seconds before it retires.
async fn waiting(database: &Database, wait_s: u64) -> Custodian {
    let root = make(database).await;
    let sql = database.again(settings()).await.expect("opens");
    let engine = EngineSettings { retire_wait_s: wait_s, sites: vec![SITE.into(), "dr".into()], ..patient() };
    let custodian = Custodian::open_with(sql, &root, "custodian-1", engine).await;
    custodian.engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
    custodian
}

async fn generate(engine: &Engine, number: u8) {
    let request = for_branch("proxy/us", number);
    engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, request).await.expect("generates");
}

/// How many branch keys need which version.
async fn needed(engine: &Engine) -> Vec<(u32, u64)> {
    let census = engine.census(&proxy(), &kek()).await.expect("counts").value;
    census.versions.into_iter().map(|(version, count)| (version.number(), count)).collect()
}

async fn all(engine: &Engine) -> Vec<BranchState> {
    engine.branches(&proxy(), &kek(), None, None, 500).await.expect("lists").value.branches
}

async fn rewrap(engine: &Engine, ids: &[BranchId]) -> Vec<(BranchId, WrappedKey)> {
    let each = engine.rewrap_branches(&proxy(), &kek(), ids).await.expect("rewraps").value;
    assert!(each.failed.is_empty(), "{:?}", each.failed);
    each.done
}

async fn confirm(engine: &Engine, site: &str, read: Vec<(BranchId, Option<WrappedKey>)>) -> Vec<BranchId> {
    let each = engine.confirm_branches(&proxy(), &kek(), site, &read).await.expect("confirms").value;
    each.failed.iter().map(|(id, _)| *id).collect()
}

fn some(moved: &[(BranchId, WrappedKey)]) -> Vec<(BranchId, Option<WrappedKey>)> {
    moved.iter().map(|(id, wrapped)| (*id, Some(wrapped.clone()))).collect()
}

async fn retire(engine: &Engine, before: u32) -> Result<(), EngineError> {
    let change = KeyChange { min_decryption_version: Some(before), ..KeyChange::default() };
    engine.configure(&proxy(), &kek(), change, &call("config")).await.map(drop)
}

async fn only_what_was_read_back_everywhere_counts_as_moved(database: Database) {
    let custodian = waiting(&database, 0).await;
    let engine = &custodian.engine;
    for number in 1..=3 {
        generate(engine, number).await;
    }
    assert_eq!(needed(engine).await, [(1, 3)]);
    engine.rotate(&proxy(), &kek()).await.expect("rotates");
    generate(engine, 4).await;
    assert_eq!(needed(engine).await, [(1, 3), (2, 1)]);
    let ids = [id(1), id(2), id(3), id(4)];
    let moved = rewrap(engine, &ids).await;
    assert_eq!(needed(engine).await, [(1, 3), (2, 1)], "in the ledger alone");
    assert!(confirm(engine, SITE, some(&moved)).await.is_empty());
    assert_eq!(needed(engine).await, [(1, 3), (2, 1)], "at one of two sites");
    assert!(confirm(engine, "dr", some(&moved)).await.is_empty());
    assert_eq!(needed(engine).await, [(1, 0), (2, 4)]);
    confirm(engine, "dr", vec![(id(2), None)]).await;
    assert_eq!(needed(engine).await, [(1, 1), (2, 3)], "it is not there any more");
    let old = engine.branches(&proxy(), &kek(), Some(version(2)), None, 500).await.expect("lists").value;
    assert_eq!(old.branches.iter().map(|state| state.id).collect::<Vec<_>>(), [id(2)]);
    assert_eq!(old.branches[0].context(), Some(&context("proxy/us", 2)));
    assert_eq!(old.branches[0].generated(), version(1));
}

async fn what_does_not_open_to_the_branch_key_confirms_nothing(database: Database) {
    let custodian = waiting(&database, 0).await;
    let engine = &custodian.engine;
    generate(engine, 1).await;
    generate(engine, 2).await;
    engine.rotate(&proxy(), &kek()).await.expect("rotates");
    let moved = rewrap(engine, &[id(1), id(2)]).await;
    let of = |number: u8| moved.iter().find(|(of, _)| *of == id(number)).expect("moved").1.clone();
    let altered = |number: u8, at: usize| {
        let mut bytes = of(number).bytes().to_vec();
        bytes[at] ^= 1;
        WrappedKey::new(of(number).version(), bytes).expect("as long")
    };
    let forged = [
        ("another's", of(2)),
        ("altered", altered(1, 20)),
        ("another tag", altered(1, 59)),
        ("cut", WrappedKey::new(version(2), of(1).bytes()[..40].to_vec()).expect("short")),
        ("nothing much", WrappedKey::new(version(2), vec![0]).expect("short")),
        ("another version's name", WrappedKey::new(version(1), of(1).bytes().to_vec()).expect("short")),
    ];
    for (what, wrapped) in forged {
        assert!(confirm(engine, SITE, vec![(id(1), Some(of(1)))]).await.is_empty());
        let refused = confirm(engine, SITE, vec![(id(1), Some(wrapped))]).await;
        assert_eq!(refused, [id(1)], "{what}");
        let one = all(engine).await.into_iter().find(|state| state.id == id(1)).expect("there");
        assert!(one.confirmed.is_empty(), "{what}: what lies there does not do");
    }
    assert!(confirm(engine, SITE, vec![(id(1), Some(of(1)))]).await.is_empty());
    let to_come = WrappedKey::new(version(3), of(1).bytes().to_vec()).expect("short");
    assert_eq!(confirm(engine, SITE, vec![(id(1), Some(to_come))]).await, [id(1)], "a version to come");
    let one = all(engine).await.into_iter().find(|state| state.id == id(1)).expect("there");
    assert!(one.confirmed.contains_key(SITE), "of which nothing is known here");
    let elsewhere = engine.confirm_branches(&proxy(), &kek(), "elsewhere", &some(&moved)).await;
    assert!(matches!(elsewhere, Err(EngineError::NoSuchSite)));
    assert_eq!(confirm(engine, SITE, vec![(id(9), Some(of(1)))]).await, [id(9)], "unknown");
    let refused = engine.confirm_branches(&who("sg/proxy/p1"), &kek(), SITE, &some(&moved)).await;
    assert!(matches!(refused, Err(EngineError::Denied)));
    assert!(matches!(engine.census(&who("sg/proxy/p1"), &kek()).await, Err(EngineError::Denied)));
    let refused = engine.rewrap_branches(&who("sg/proxy/p1"), &kek(), &[id(1)]).await;
    assert!(matches!(refused, Err(EngineError::Denied)));
    engine.disable(&proxy(), &kek()).await.expect("disables");
    let refused = engine.rewrap_branches(&proxy(), &kek(), &[id(1)]).await;
    assert!(matches!(refused, Err(EngineError::Keyring(KeyringError::Disabled))), "{refused:?}");
}

async fn a_version_is_retired_only_when_nothing_needs_it(database: Database) {
    let custodian = waiting(&database, 0).await;
    let engine = &custodian.engine;
    generate(engine, 1).await;
    engine.rotate(&proxy(), &kek()).await.expect("rotates");
    let refused = retire(engine, 2).await;
    assert!(matches!(&refused, Err(EngineError::StillNeeded(retire)) if retire.needed == 1), "{refused:?}");
    let refused = engine.delete(&proxy(), &kek(), &call("delete")).await;
    assert!(matches!(refused, Err(EngineError::HasBranchKeys)), "{refused:?}");
    let moved = rewrap(engine, &[id(1)]).await;
    confirm(engine, SITE, some(&moved)).await;
    assert!(matches!(retire(engine, 2).await, Err(EngineError::StillNeeded(_))), "one site is missing");
    confirm(engine, "dr", some(&moved)).await;
    let census = engine.census(&proxy(), &kek()).await.expect("counts").value;
    assert!(census.retire.is_allowed(), "{census:?}");
    let proposal = proposal_of(retire(engine, 2).await);
    // Somebody finds out meanwhile that the directory lost it.
    confirm(engine, "dr", vec![(id(1), None)]).await;
    assert!(matches!(retire(engine, 2).await, Err(EngineError::StillNeeded(_))));
    confirm(engine, "dr", some(&moved)).await;
    assert_eq!(proposal_of(retire(engine, 2).await), proposal);
    let told = custodian.log().await;
    let refused = told.iter().filter(|entry| entry["denied_by"] == "still needed").count();
    assert_eq!(refused, 4, "each refusal is in the log");
    let counted = told.iter().find(|entry| entry["action"] == "rewrap").expect("logged");
    assert_eq!(counted["detail"]["branch_keys"], 1);
}

async fn a_version_is_not_retired_on_what_was_read_back_too_early(database: Database) {
    let custodian = waiting(&database, 2).await;
    let engine = &custodian.engine;
    generate(engine, 1).await;
    engine.rotate(&proxy(), &kek()).await.expect("rotates");
    let moved = rewrap(engine, &[id(1)]).await;
    for site in [SITE, "dr"] {
        confirm(engine, site, some(&moved)).await;
    }
    let refused = retire(engine, 2).await;
    assert!(matches!(&refused, Err(EngineError::StillNeeded(retire)) if retire.wait_s > 0), "{refused:?}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let refused = retire(engine, 2).await;
    let unconfirmed = |retire: &Retirement| (retire.needed, retire.unconfirmed, retire.wait_s) == (0, 1, 0);
    assert!(matches!(&refused, Err(EngineError::StillNeeded(retire)) if unconfirmed(retire)), "{refused:?}");
    for site in [SITE, "dr"] {
        confirm(engine, site, some(&moved)).await;
    }
    proposal_of(retire(engine, 2).await);
}

async fn rotating_twice_while_rewrapping_leaves_nothing_behind(database: Database) {
    let custodian = waiting(&database, 0).await;
    let engine = &custodian.engine;
    generate(engine, 1).await;
    generate(engine, 2).await;
    engine.rotate(&proxy(), &kek()).await.expect("rotates");
    let first = rewrap(engine, &[id(1)]).await;
    engine.rotate(&proxy(), &kek()).await.expect("rotates");
    for site in [SITE, "dr"] {
        assert!(confirm(engine, site, some(&first)).await.is_empty(), "an older one is what lies there");
    }
    assert_eq!(needed(engine).await, [(1, 1), (2, 1), (3, 0)]);
    let moved = rewrap(engine, &[id(1), id(2)]).await;
    assert!(moved.iter().all(|(_, wrapped)| wrapped.version() == version(3)));
    assert_eq!(rewrap(engine, &[id(1), id(2)]).await, moved, "the same again");
    for site in [SITE, "dr"] {
        confirm(engine, site, some(&moved)).await;
    }
    assert_eq!(needed(engine).await, [(1, 0), (2, 0), (3, 2)]);
}

async fn what_others_rewrap_over_transit_counts_too(database: Database) {
    let custodian = waiting(&database, 0).await;
    let engine = &custodian.engine;
    let request = for_branch("proxy/us", 1);
    let made = engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, request.clone()).await.expect("generates").value;
    engine.rotate(&proxy(), &kek()).await.expect("rotates");
    engine.rewrap(&proxy(), &kek(), &made.ciphertext, None, &request.context, b"").await.expect("rewraps");
    let state = all(engine).await.pop().expect("there");
    assert_eq!((state.generated(), state.newest().wrapped.version()), (version(1), version(2)));
    assert_eq!(needed(engine).await, [(1, 1), (2, 0)]);
}

async fn what_branch_keys_hang_on_is_destroyed_and_never_trimmed(database: Database) {
    let custodian = waiting(&database, 0).await;
    let engine = &custodian.engine;
    let encrypting = KeyChange { min_encryption_version: Some(1), ..KeyChange::default() };
    engine.configure(&proxy(), &kek(), encrypting, &call("config")).await.expect("is not grave");
    proposal_of(engine.trim(&proxy(), &kek(), 1, &call("trim")).await);
    generate(engine, 1).await;
    let refused = engine.trim(&proxy(), &kek(), 1, &call("trim")).await;
    assert!(matches!(refused, Err(EngineError::TrimsBranchKeys)), "{refused:?}");
}

async fn an_empty_ledger_is_no_reason_not_to_wait(database: Database) {
    let custodian = waiting(&database, 3600).await;
    let engine = &custodian.engine;
    engine.rotate(&proxy(), &kek()).await.expect("rotates");
    assert!(!engine.census(&proxy(), &kek()).await.expect("counts").value.retire.is_allowed());
    let refused = retire(engine, 2).await;
    assert!(matches!(&refused, Err(EngineError::StillNeeded(retire)) if retire.wait_s > 3000), "{refused:?}");
}

/// Branch key 1 is of the bucket `ledger`, at `main`; branch key 2 of `archive`, at `singapore`.
async fn a_branch_key_has_to_be_at_the_sites_of_its_bucket(database: Database) {
    let root = make(&database).await;
    let sql = database.again(settings()).await.expect("opens");
    let archive = LogicalBucket::new("archive").expect("legal");
    let sites_of = [(archive.clone(), vec!["singapore".to_owned()])].into();
    let engine = EngineSettings { retire_wait_s: 0, sites: vec![SITE.into()], sites_of, ..patient() };
    let custodian = Custodian::open_with(sql, &root, "custodian-1", engine).await;
    let engine = &custodian.engine;
    engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
    generate(engine, 1).await;
    let context = BranchContext { bucket: archive, ..context("proxy/us", 2) }.to_bytes();
    let request = GenerateRequest { context, plaintext: true, ..GenerateRequest::default() };
    engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, request).await.expect("generates");
    engine.rotate(&proxy(), &kek()).await.expect("rotates");
    let moved = rewrap(engine, &[id(1), id(2)]).await;
    let of = |number: u8| some(&moved).into_iter().filter(|(of, _)| *of == id(number)).collect::<Vec<_>>();

    assert!(confirm(engine, SITE, of(1)).await.is_empty());
    assert_eq!(needed(engine).await, [(1, 1), (2, 1)]);
    assert!(matches!(retire(engine, 2).await, Err(EngineError::StillNeeded(_))), "singapore was not walked");
    assert_eq!(confirm(engine, SITE, of(2)).await, [id(2)], "it is none of this site's");
    assert_eq!(confirm(engine, "singapore", of(1)).await, [id(1)], "nor this one");
    assert!(matches!(retire(engine, 2).await, Err(EngineError::StillNeeded(_))));
    let elsewhere = engine.confirm_branches(&proxy(), &kek(), "tokyo", &of(2)).await;
    assert!(matches!(elsewhere, Err(EngineError::NoSuchSite)), "{elsewhere:?}");

    assert!(confirm(engine, "singapore", of(2)).await.is_empty());
    let census = engine.census(&proxy(), &kek()).await.expect("counts").value;
    assert_eq!((census.sites, census.retire.is_allowed()), (vec![SITE.to_owned(), "singapore".to_owned()], true));
    confirm(engine, "singapore", vec![(id(2), None)]).await;
    assert!(matches!(retire(engine, 2).await, Err(EngineError::StillNeeded(_))), "singapore lost it");
    confirm(engine, "singapore", of(2)).await;
    proposal_of(retire(engine, 2).await);
}

on_both!(
    a_branch_key_has_to_be_at_the_sites_of_its_bucket,
    only_what_was_read_back_everywhere_counts_as_moved,
    what_does_not_open_to_the_branch_key_confirms_nothing,
    a_version_is_retired_only_when_nothing_needs_it,
    a_version_is_not_retired_on_what_was_read_back_too_early,
    rotating_twice_while_rewrapping_leaves_nothing_behind,
    what_others_rewrap_over_transit_counts_too,
    what_branch_keys_hang_on_is_destroyed_and_never_trimmed,
    an_empty_ledger_is_no_reason_not_to_wait,
);

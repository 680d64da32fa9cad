//! A storage operator who alters, removes, hides, exchanges and replays entries of the branch-key directory.

use bytes::Bytes;
use claviger::names::BranchId;
use http::Method;

use super::{KEK, MOVE, REPAIR, Scene, is_entry, name, records, version};
use crate::harness::store::Instead;
use crate::harness::{Reply, STATE};

/// What is done to the entries of two branch keys under the second version.
type Damage = (&'static str, fn(&Scene, BranchId, BranchId), u64);

fn change(scene: &Scene, id: BranchId, change: impl FnOnce(&mut Vec<u8>)) {
    scene.store().tamper(STATE, &name(id, 2), |stored| {
        let mut body = stored.body.to_vec();
        change(&mut body);
        stored.body = body.into();
    });
}

fn put(scene: &Scene, id: BranchId, body: Vec<u8>) {
    change(scene, id, |there| *there = body);
}

fn take(scene: &Scene, id: BranchId) {
    scene.store().buckets().get_mut(STATE).expect("made").remove(&name(id, 2)).expect("there");
}

fn body(scene: &Scene, id: BranchId, version: u32) -> Vec<u8> {
    scene.entry(id, version).expect("there").body.to_vec()
}

const DAMAGES: [Damage; 11] = [
    ("its last byte altered", |scene, a, _| change(scene, a, |body| *body.last_mut().expect("not empty") ^= 1), 1),
    ("its first byte altered", |scene, a, _| change(scene, a, |body| body[0] ^= 1), 1),
    ("its label altered", |scene, a, _| change(scene, a, |body| body[5] ^= 1), 1),
    ("the id in its context altered", |scene, a, _| change(scene, a, |body| body[90] ^= 1), 1),
    ("cut", |scene, a, _| change(scene, a, |body| body.truncate(body.len() - 1)), 1),
    ("longer", |scene, a, _| change(scene, a, |body| body.push(0)), 1),
    ("emptied", |scene, a, _| change(scene, a, Vec::clear), 1),
    ("far longer", |scene, a, _| change(scene, a, |body| body.resize(1 << 20, 7)), 1),
    ("the old one under the new name", |scene, a, _| put(scene, a, body(scene, a, 1)), 1),
    ("another's in its place", |scene, a, b| put(scene, a, body(scene, b, 2)), 1),
    (
        "exchanged",
        |scene, a, b| {
            let (of_a, of_b) = (body(scene, a, 2), body(scene, b, 2));
            put(scene, a, of_b);
            put(scene, b, of_a);
        },
        2,
    ),
];

#[tokio::test]
async fn what_is_damaged_in_the_directory_keeps_the_old_version_until_it_is_repaired() {
    let scene = Scene::rotated(4).await;
    let all = scene.rewrap(MOVE).await.confirmed;
    let ids = scene.ids();
    assert_eq!(all, ids.len() as u64);
    for (number, (what, damage, bad)) in DAMAGES.into_iter().enumerate() {
        // Those with objects, and those without.
        let (a, b) = (ids[number % ids.len()], ids[(number + 1) % ids.len()]);
        damage(&scene, a, b);
        let read = scene.mover().read_back(&records(), version(2)).await.expect("reads");
        assert_eq!((read.confirmed, read.failed), (all - bad, bad), "{what}: {read:?}");
        assert_eq!(scene.needed().await, [(1, bad), (2, all - bad)].into(), "{what}");
        scene.office.must_not_retire(KEK, 2).await;
        let repaired = scene.rewrap(REPAIR).await;
        assert_eq!((repaired.mended, repaired.confirmed, repaired.failed), (bad, all, 0), "{what}: {repaired:?}");
        assert_eq!(scene.needed().await, [(2, all)].into(), "{what}");
    }
    scene.assert_retires(2).await;
}

#[tokio::test]
async fn what_was_removed_is_written_again_by_whoever_reads_it_back() {
    let scene = Scene::rotated(2).await;
    let all = scene.rewrap(MOVE).await.confirmed;
    let ids = scene.ids();
    let written: Vec<_> = ids.iter().map(|id| body(&scene, *id, 2)).collect();
    for some in [&ids[..1], &ids[..]] {
        some.iter().for_each(|id| take(&scene, *id));
        let read = scene.mover().read_back(&records(), version(2)).await.expect("reads");
        assert_eq!((read.confirmed, read.failed), (all, 0), "{read:?}");
        let again: Vec<_> = ids.iter().map(|id| body(&scene, *id, 2)).collect();
        assert_eq!(again, written, "as the ledger has it");
    }
    scene.assert_retires(2).await;
}

#[tokio::test]
async fn what_was_planted_before_is_not_taken_for_the_new_wrapping() {
    let scene = Scene::rotated(4).await;
    let ids = scene.ids();
    let old = scene.entry(ids[0], 1).expect("there");
    for (id, body) in [
        (ids[0], old.body.to_vec()),
        (ids[1], body(&scene, ids[2], 1)),
        (ids[2], vec![7; 60]),
        (ids[3], Vec::new()),
        (ids[4], vec![7; 1 << 20]),
    ] {
        scene.store().plant(STATE, &name(id, 2), crate::harness::store::Stored { body: body.into(), ..old.clone() });
    }
    for _ in 0..2 {
        let report = scene.rewrap(MOVE).await;
        assert_eq!((report.failed, report.mended), (5, 0), "{report:?}");
        assert_eq!(scene.needed().await, [(1, 5), (2, 1)].into());
        scene.office.must_not_retire(KEK, 2).await;
    }
    let repaired = scene.rewrap(REPAIR).await;
    assert_eq!((repaired.mended, repaired.confirmed, repaired.failed), (5, 6, 0), "{repaired:?}");
    scene.assert_retires(2).await;
}

/// What a server answers to who reads an entry back.
type Lie = (&'static str, fn(&Scene));

const LIES: [Lie; 7] = [
    ("hides it", |scene| answer_reads(scene, |_, _| Reply::error(404, "NoSuchKey"))),
    ("gives nothing", |scene| answer_reads(scene, |_, _| Reply::new(200, Bytes::new()))),
    ("gives the one before", |scene| {
        answer_reads(scene, |store, key| {
            let older = store.object(STATE, &key.replace("/v2", "/v1")).expect("there");
            Reply::new(200, older.body)
        });
    }),
    ("gives another's", |scene| {
        answer_reads(scene, |store, key| {
            let keys = store.keys(STATE);
            let other = keys.iter().find(|other| is_entry(other, 2) && other.as_str() != key);
            let body = other.and_then(|other| store.object(STATE, other)).map(|other| other.body);
            Reply::new(200, body.unwrap_or_default())
        });
    }),
    ("gives a part of it", |scene| {
        answer_reads(scene, |store, key| {
            let body = store.object(STATE, key).expect("written").body;
            Reply::new(200, body.slice(..body.len() - 20))
        });
    }),
    ("gives it altered", |scene| {
        answer_reads(scene, |store, key| {
            let mut body = store.object(STATE, key).expect("written").body.to_vec();
            *body.last_mut().expect("not empty") ^= 0x80;
            Reply::new(200, body)
        });
    }),
    ("says that it wrote", |scene| {
        scene.store().before(|seen| {
            let write = seen.method == Method::PUT && is_entry(&seen.key, 2);
            write.then(|| Instead::Answer(Reply::new(200, Bytes::new()).header("etag", "\"0\"")))
        });
    }),
];

fn answer_reads(scene: &Scene, reply: fn(&crate::harness::Store, &str) -> Reply) {
    let store = scene.store().clone();
    scene.store().before(move |seen| {
        (seen.method == Method::GET && is_entry(&seen.key, 2)).then(|| Instead::Answer(reply(&store, &seen.key)))
    });
}

#[tokio::test]
async fn a_server_that_lies_about_what_was_written_confirms_nothing() {
    for (what, lie) in LIES {
        let scene = Scene::rotated(1).await;
        lie(&scene);
        let report = scene.rewrap(MOVE).await;
        assert_eq!((report.moved, report.confirmed, report.failed), (3, 0, 3), "{what}: {report:?}");
        // It is not mended either while it goes on like that.
        let report = scene.rewrap(REPAIR).await;
        assert_eq!((report.confirmed, report.failed), (0, 3), "{what}: {report:?}");
        assert_eq!(scene.needed().await, [(1, 3)].into(), "{what}");
        scene.office.must_not_retire(KEK, 2).await;
        scene.store().honest();
        let repaired = scene.rewrap(REPAIR).await;
        assert_eq!((repaired.confirmed, repaired.failed), (3, 0), "{what}: {repaired:?}");
        scene.assert_retires(2).await;
    }
}

#[tokio::test]
async fn a_lie_that_comes_late_takes_a_confirmation_back() {
    let scene = Scene::rotated(2).await;
    assert_eq!(scene.rewrap(MOVE).await.confirmed, 4);
    let proposal = scene.office.propose_to_retire(KEK, 2).await;
    scene.office.approve(&proposal).await;
    answer_reads(&scene, |_, _| Reply::error(404, "NoSuchKey"));
    let read = scene.mover().read_back(&records(), version(2)).await.expect("reads");
    assert_eq!((read.confirmed, read.failed), (0, 4), "{read:?}");
    scene.office.must_not_retire(KEK, 2).await;
    assert_eq!(scene.needed().await, [(1, 4)].into());
    scene.store().honest();
    assert_eq!(scene.rewrap(MOVE).await.confirmed, 4);
    // The approval stands.
    let told = scene.office.retire(KEK, 2).await;
    assert_eq!(told.status, 200, "{told:?}");
    scene.assert_all_open().await;
}

#[tokio::test]
async fn a_server_that_is_silent_about_an_entry_says_nothing_about_it() {
    let scene = Scene::rotated(2).await;
    assert_eq!(scene.rewrap(MOVE).await.confirmed, 4);
    for reply in [|| Reply::error(500, "InternalError"), || Reply::error(403, "AccessDenied")] {
        scene.store().before(move |seen| is_entry(&seen.key, 2).then(|| Instead::Answer(reply())));
        let read = scene.mover().read_back(&records(), version(2)).await.expect("reads");
        // `key retire` ends here. What was read back before stays so.
        assert_eq!((read.confirmed, read.failed), (0, 4), "{read:?}");
        assert_eq!(scene.needed().await, [(2, 4)].into());
    }
}

#[tokio::test]
async fn the_census_comes_out_of_the_ledger_whatever_the_directory_says() {
    let scene = Scene::rotated(3).await;
    let (whole, kept) = (scene.office.census(KEK).await, scene.store().buckets()[STATE].clone());
    let all = kept.len() as u64;
    assert_eq!((&whole["branch_keys"], &whole["retire"]["needed"]), (&all.into(), &all.into()));
    scene.store().take_whole_log();
    // Emptied; then with branch keys that nobody generated, and with all of them under the new version by name.
    scene.store().buckets().insert(STATE.to_owned(), Default::default());
    assert_eq!(scene.office.census(KEK).await, whole);
    let some = kept.values().next().expect("not empty").clone();
    for seed in 0..3 {
        let foreign = name(BranchId::from_bytes([seed; 16]), 1);
        scene.store().plant(STATE, &foreign, some.clone());
    }
    for (name, stored) in &kept {
        scene.store().plant(STATE, &name.replace("/v1", "/v2"), stored.clone());
    }
    assert_eq!(scene.office.census(KEK).await, whole);
    scene.store().before(|_| Some(Instead::HangUp));
    assert_eq!(scene.office.census(KEK).await, whole);
    scene.office.must_not_retire(KEK, 2).await;
    assert!(scene.store().take_whole_log().is_empty(), "nobody asked the storage server");
    // What the ledger has is all that a repair takes.
    scene.store().honest();
    let repaired = scene.rewrap(REPAIR).await;
    assert_eq!((repaired.confirmed, repaired.failed), (all, 0), "{repaired:?}");
    assert_eq!(scene.needed().await, [(2, all)].into());
    scene.office.must_retire(KEK, 2).await;
    scene.assert_all_open().await;
}

#[tokio::test]
async fn what_is_taken_away_after_the_retirement_comes_back_from_the_ledger() {
    let scene = Scene::rotated(2).await;
    scene.rewrap(MOVE).await;
    scene.assert_retires(2).await;
    let ids = scene.ids();
    ids.iter().for_each(|id| take(&scene, *id));
    // The envelopes of objects of before have the retired version alone.
    let (_proxy, s3) = scene.world.fresh_with(super::asking(scene.office.transit())).await;
    for bucket in super::BUCKETS {
        s3.get(bucket, "first").await.fails(400, "KMS.KMSInvalidStateException");
    }
    // There is nothing to move; only a repair looks.
    let report = scene.rewrap(MOVE).await;
    assert_eq!((report.moved, report.confirmed), (0, 0));
    let repaired = scene.rewrap(REPAIR).await;
    assert_eq!((repaired.confirmed, repaired.failed), (ids.len() as u64, 0), "{repaired:?}");
    scene.assert_all_open().await;
}

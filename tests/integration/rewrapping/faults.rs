//! Storage servers that fail, machines that work at the same time or are switched off, custodians that go away, rotations in between:
//! nothing is confirmed that is not there, and who runs the job again comes to the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use claviger::custody::CustodyError;
use claviger::maintenance::keys::KeyError;
use tokio::sync::Notify;

use super::{KEK, MOVE, REPAIR, Scene, is_entry, records, until_through};
use crate::harness::store::Instead;
use crate::harness::{Reply, STATE};

/// Of every `among` requests one fails, each time in another way. Gives how many did.
fn one_fails_of(scene: &Scene, among: usize) -> Arc<AtomicUsize> {
    let (asked, failed) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&failed);
    scene.store().before(move |_| {
        if asked.fetch_add(1, Ordering::SeqCst) % among != among / 2 {
            return None;
        }
        Some(match count.fetch_add(1, Ordering::SeqCst) % 4 {
            0 => Instead::Answer(Reply::error(503, "SlowDown")),
            1 => Instead::HangUpAfterServing,
            2 => Instead::Answer(Reply::error(500, "InternalError")),
            _ => Instead::HangUp,
        })
    });
    failed
}

/// How many entries of the directory there are under that version.
fn written(scene: &Scene, version: u32) -> u64 {
    scene.store().keys(STATE).iter().filter(|name| is_entry(name, version)).count() as u64
}

async fn at(scene: &Scene, version: u32) -> u64 {
    scene.needed().await.get(&version).copied().unwrap_or(0)
}

#[tokio::test]
async fn a_server_that_fails_now_and_then_costs_nothing_but_repetition() {
    let scene = Scene::new(80).await;
    let all = scene.ids().len() as u64;
    for (among, version) in [(100, 2), (10, 3)] {
        scene.office.rotate(KEK).await;
        let failed = one_fails_of(&scene, among);
        // Each failure is the job's own to get over.
        let mover = scene.office.mover(scene.store(), 1);
        let mut runs = 0;
        loop {
            let before = at(&scene, version).await;
            let report = mover.rewrap(&records(), MOVE).await.expect("goes through");
            runs += 1;
            let (there, confirmed) = (written(&scene, version), at(&scene, version).await);
            assert!(confirmed <= there && there <= all, "{confirmed} are confirmed, {there} are there");
            assert_eq!(report.confirmed + report.failed, all - before, "each is treated once: {report:?}");
            if report.failed == 0 {
                break;
            }
            assert!(confirmed < all && runs < 10, "{report:?}");
            scene.office.must_not_retire(KEK, version).await;
        }
        assert!(runs > 1 && failed.load(Ordering::SeqCst) > 1, "one of {among} requests fails");
        scene.store().honest();
        assert_eq!(scene.needed().await, [(version, all)].into());
        let looked = scene.rewrap(REPAIR).await;
        assert_eq!((looked.mended, looked.confirmed, looked.failed), (0, all, 0), "{looked:?}");
    }
    scene.assert_retires(3).await;
}

#[tokio::test]
async fn two_machines_may_move_branch_keys_at_the_same_time() {
    let scene = Scene::rotated(30).await;
    let all = scene.ids().len() as u64;
    let other = scene.office.another().await;
    one_fails_of(&scene, 10);
    // Each asks a custodian of its own.
    let (here, there) = (scene.office.mover(scene.store(), 3), other.mover(scene.store(), 3));
    let kek = records();
    let (one, two) = tokio::join!(here.rewrap(&kek, MOVE), there.rewrap(&kek, REPAIR));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    scene.store().honest();
    until_through(&here, MOVE).await;
    // What the one wrote is what the other confirmed.
    let looked = there.rewrap(&kek, REPAIR).await.expect("goes through");
    assert_eq!((looked.mended, looked.confirmed, looked.failed), (0, all, 0), "{looked:?}");
    assert_eq!((scene.needed().await, other.needed(KEK).await), ([(2, all)].into(), [(2, all)].into()));
    scene.assert_retires(2).await;
}

#[tokio::test]
async fn a_job_that_is_killed_at_any_request_is_run_again() {
    let scene = Scene::new(1).await;
    let all = scene.ids().len() as u64;
    let mut version = 1;
    for served in [false, true] {
        for k in 0.. {
            scene.office.rotate(KEK).await;
            version += 1;
            scene.store().dies_at(k, served);
            let killed = scene.office.mover(scene.store(), 1).rewrap(&records(), MOVE).await.expect("tells it");
            scene.store().honest();
            assert_eq!(at(&scene, version).await, killed.confirmed, "{k}");
            assert!(killed.confirmed <= written(&scene, version), "{k}");
            let again = scene.rewrap(MOVE).await;
            assert_eq!((again.confirmed, again.failed), (all - killed.confirmed, 0), "{k}: {again:?}");
            assert_eq!(scene.needed().await, [(version, all)].into(), "{k}");
            if killed.failed == 0 {
                assert!(k as u64 >= 2 * all, "it takes more requests than {k}");
                break;
            }
        }
    }
    scene.assert_retires(version).await;
}

#[tokio::test]
async fn a_job_that_is_dropped_at_any_request_is_run_again() {
    let scene = Scene::new(1).await;
    let all = scene.ids().len() as u64;
    for k in 0..=2 * all as usize {
        scene.office.rotate(KEK).await;
        let (reached, asked) = (Arc::new(Notify::new()), AtomicUsize::new(0));
        let reaches = Arc::clone(&reached);
        scene.store().before(move |_| {
            let now = asked.fetch_add(1, Ordering::SeqCst) == k;
            now.then(|| {
                reaches.notify_one();
                Instead::Pause(Duration::from_millis(20))
            })
        });
        let (mover, kek) = (scene.mover(), records());
        let done = tokio::select! {
            done = mover.rewrap(&kek, MOVE) => Some(done.expect("goes through")),
            () = reached.notified() => None,
        };
        assert_eq!(done.is_some(), k as u64 == 2 * all, "each branch key is written and read: {k} {done:?}");
        scene.store().honest();
        let reports = until_through(&scene.mover(), MOVE).await;
        assert_eq!(reports.len(), 1, "{k}: {reports:?}");
        assert_eq!(scene.needed().await, [(2 + k as u32, all)].into(), "{k}");
    }
    // And at any other moment, the custodian's calls among them.
    let version = 3 + 2 * all as u32;
    for step in 0..12 {
        scene.office.rotate(KEK).await;
        let (mover, kek) = (scene.mover(), records());
        let _ = tokio::time::timeout(Duration::from_millis(3 * step), mover.rewrap(&kek, MOVE)).await;
        until_through(&scene.mover(), MOVE).await;
        assert_eq!(scene.needed().await, [(version + step as u32, all)].into(), "{step}");
    }
    scene.assert_retires(version + 11).await;
}

/// Has the storage server take its time from the `k`th request on, and tells when that comes.
fn slow_from(scene: &Scene, k: usize, pause: Duration) -> Arc<Notify> {
    let (reached, asked) = (Arc::new(Notify::new()), AtomicUsize::new(0));
    let reaches = Arc::clone(&reached);
    scene.store().before(move |_| {
        let number = asked.fetch_add(1, Ordering::SeqCst);
        if number == k {
            reaches.notify_one();
        }
        (number >= k).then_some(Instead::Pause(pause))
    });
    reached
}

#[tokio::test]
async fn a_custodian_that_goes_away_in_the_middle_ends_the_run_and_not_the_work() {
    let mut scene = Scene::new(2).await;
    let all = scene.ids().len() as u64;
    let mut version = 1;
    for k in [0, 3, 7] {
        for comes_back in [false, true] {
            scene.office.rotate(KEK).await;
            version += 1;
            let reached = slow_from(&scene, k, Duration::from_millis(10));
            let mover = scene.mover();
            let kek = records();
            let mut running = std::pin::pin!(mover.rewrap(&kek, MOVE));
            tokio::select! {
                ended = &mut running => panic!("{ended:?}"),
                () = reached.notified() => {}
            }
            if comes_back {
                let again = async {
                    scene.office.stop().await;
                    scene.office.start().await;
                };
                // Whether it was away when it was asked, or not.
                let _ = tokio::join!(running, again);
            } else {
                scene.office.stop().await;
                let ended = running.await;
                assert!(matches!(&ended, Err(KeyError::Custody(CustodyError::Unreachable(_)))), "{ended:?}");
                scene.office.start().await;
                assert_eq!(at(&scene, version).await, 0, "nobody could tell it");
            }
            scene.store().honest();
            until_through(&mover, MOVE).await;
            assert_eq!(scene.needed().await, [(version, all)].into(), "{k}");
        }
    }
    scene.assert_retires(version).await;
}

#[tokio::test]
async fn a_sealed_custodian_moves_nothing() {
    let scene = Scene::rotated(1).await;
    let told = scene.office.ask("PUT", "sys/seal", &serde_json::Value::Null).await;
    assert_eq!(told.status, 204, "{told:?}");
    scene.store().take_whole_log();
    let refused = scene.mover().rewrap(&records(), MOVE).await;
    assert!(matches!(&refused, Err(KeyError::Custody(CustodyError::Sealed))), "{refused:?}");
    assert!(scene.store().take_whole_log().is_empty());
}

#[tokio::test]
async fn rotating_twice_in_the_middle_leaves_nothing_behind() {
    let scene = Scene::rotated(4).await;
    let all = scene.ids().len() as u64;
    let reached = slow_from(&scene, 2, Duration::from_millis(30));
    let mover = scene.mover();
    let (kek, office) = (records(), &scene.office);
    let rotating = async {
        reached.notified().await;
        office.rotate(KEK).await;
        office.rotate(KEK).await;
    };
    let (report, ()) = tokio::join!(mover.rewrap(&kek, MOVE), rotating);
    let report = report.expect("goes through");
    assert_eq!((report.confirmed, report.failed), (all, 0), "{report:?}");
    scene.store().honest();
    // They are where the job was going when it began, and count for no more than that.
    assert_eq!(scene.needed().await, [(2, all)].into());
    scene.office.must_not_retire(KEK, 4).await;
    scene.office.must_not_retire(KEK, 3).await;
    let again = scene.rewrap(MOVE).await;
    assert_eq!((again.moved, again.confirmed, again.failed), (all, all, 0), "{again:?}");
    assert_eq!((written(&scene, 3), written(&scene, 4)), (0, all), "nobody goes by a version in between");
    scene.assert_retires(4).await;
}

//! What comes between the proposal of a retirement and its execution.

use std::sync::Arc;

use claviger::custody::Custodian as _;
use claviger::custody::context::BranchContext;
use claviger::format::envelope::Unverified;
use claviger::names::{BranchId, LogicalBucket, Purpose};

use super::{KEK, MOVE, Scene, asking, records};
use crate::harness::custodian::officer;
use crate::harness::noise;
use crate::harness::proxy::domain;

/// The version in the envelope of the first object.
fn written_under(scene: &Scene, bucket: &str) -> u32 {
    let stored = scene.store().object(bucket, "first").expect("stored");
    Unverified::parse(stored.envelope()).expect("an envelope").branch().version.number()
}

#[tokio::test]
async fn a_slow_proxy_that_still_writes_under_the_old_version_stops_an_approved_retirement() {
    let scene = Scene::new(1).await;
    // Its custodian saw the store last before the rotation.
    let lagging = scene.office.another_that_lags().await;
    let (_proxy, slow) = scene.world.fresh_with(asking(lagging.transit())).await;
    scene.office.rotate(KEK).await;
    let moved = scene.rewrap(MOVE).await.confirmed;
    let proposal = scene.office.propose_to_retire(KEK, 2).await;
    scene.office.approve(&proposal).await;

    scene.store().create("late");
    slow.put("late", "first", noise(1000, 1)).await.ok();
    assert_eq!(written_under(&scene, "late"), 1);
    scene.office.must_not_retire(KEK, 2).await;
    assert_eq!(scene.needed().await, [(1, 1), (2, moved)].into());
    scene.assert_all_open().await;

    let report = scene.rewrap(MOVE).await;
    assert_eq!((report.moved, report.confirmed, report.failed), (1, 1, 0), "{report:?}");
    let told = scene.office.retire(KEK, 2).await;
    assert_eq!((told.status, &told.json["data"]["min_decryption_version"]), (200, &2.into()), "{told:?}");
    scene.assert_all_open().await;
}

#[tokio::test]
async fn a_rewrap_by_a_custodian_that_lags_moves_nothing_and_spoils_nothing() {
    let scene = Scene::new(2).await;
    let lagging = scene.office.another_that_lags().await;
    scene.office.rotate(KEK).await;
    let behind = lagging.mover(scene.store(), 3);
    let report = behind.rewrap(&records(), MOVE).await.expect("goes through");
    assert_eq!((report.moved, report.confirmed), (0, 0), "the newest version that it knows is the first");
    let all = scene.rewrap(MOVE).await.confirmed;
    // It does not know the version under which it finds them, and takes nobody's confirmation back for that.
    let report = behind.rewrap(&records(), super::REPAIR).await.expect("goes through");
    assert_eq!((report.moved, report.confirmed, report.failed), (0, 0, all), "{report:?}");
    assert_eq!(scene.needed().await, [(2, all)].into());
    scene.assert_retires(2).await;
}

#[tokio::test]
async fn a_branch_key_that_was_never_published_is_moved_all_the_same() {
    let mut scene = Scene::new(1).await;
    let context = BranchContext {
        purpose: Purpose::Object,
        bucket: LogicalBucket::new("loose").expect("legal"),
        writer: domain("us"),
        id: BranchId::random().expect("random"),
    };
    // The proxy ended between custodian and directory, or its answer was lost.
    let generated = scene.office.transit().generate(&records(), &context, &officer()).await;
    let (secret, _) = generated.expect("generates");
    scene.office.rotate(KEK).await;
    assert_eq!(scene.needed().await, [(1, 4)].into());
    assert_eq!(scene.rewrap(MOVE).await.confirmed, 4);
    scene.loose.push(super::Loose { context, secret: *secret.expose() });
    scene.assert_retires(2).await;
}

#[tokio::test]
async fn writers_that_go_on_under_the_new_version_do_not_stop_a_retirement() {
    let mut scene = Scene::rotated(1).await;
    let transit = scene.office.transit();
    scene.rewrap(MOVE).await;
    let proposal = scene.office.propose_to_retire(KEK, 2).await;
    for _ in 0..3 {
        scene.add_loose(&transit).await;
    }
    scene.office.approve(&proposal).await;
    let (_proxy, s3) = scene.world.fresh_with(asking(Arc::clone(&transit))).await;
    scene.store().create("new");
    s3.put("new", "first", noise(1000, 1)).await.ok();
    assert_eq!(written_under(&scene, "new"), 2);
    let told = scene.office.retire(KEK, 2).await;
    assert_eq!(told.status, 200, "{told:?}");
    scene.assert_all_open().await;
}

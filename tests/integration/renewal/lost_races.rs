//! Whoever writes while a job runs wins, and servers on which that cannot be promised are refused.

use std::sync::atomic::{AtomicBool, Ordering};

use claviger::maintenance::renewing::conditional;
use claviger::object::heeding::Heeded;
use claviger::object::renewal::Choice;
use http::Method;

use super::{AT_ONCE, IN_PARTS, PART, fresh, re_encrypt, re_encrypt_by, rebind, upload};
use crate::harness::proxy::workbench;
use crate::harness::store::{Instead, Seen};
use crate::harness::{BUCKET, Reply, Setup, World, noise};

/// The write that replaces an object.
fn is_replacement(seen: &Seen) -> bool {
    let at_once = seen.method == Method::PUT && !seen.has("uploadId");
    let completion = seen.method == Method::POST && seen.has("uploadId");
    seen.bucket == BUCKET && (at_once || completion)
}

/// What a client writes to `key` comes there just before it is replaced, once; without, it is deleted then.
async fn comes_before_the_write(world: &World, key: &'static str, newcomer: bool) {
    let there = world.store.object(BUCKET, key).expect("stored");
    world.s3.put(BUCKET, key, noise(77, 77)).await.ok();
    let new = world.store.object(BUCKET, key).expect("stored");
    world.store.plant(BUCKET, key, there);
    let (inside, came) = (world.store.clone(), AtomicBool::new(false));
    world.store.before(move |seen| {
        if is_replacement(seen) && seen.key == key && !came.swap(true, Ordering::SeqCst) {
            if newcomer {
                inside.plant(BUCKET, key, new.clone());
            } else {
                inside.buckets().get_mut(BUCKET).expect("there").remove(key);
            }
        }
        None
    });
}

#[tokio::test]
async fn what_is_written_or_deleted_meanwhile_stays_so() {
    for newcomer in [true, false] {
        for (in_parts, limit) in [(true, AT_ONCE), (true, IN_PARTS), (false, AT_ONCE)] {
            let world = World::new().await;
            if in_parts {
                upload(&world.s3, "contested", None, &[(1, PART), (2, 5)]).await;
            } else {
                world.s3.put(BUCKET, "contested", noise(100_000, 1)).await.ok();
            }
            comes_before_the_write(&world, "contested", newcomer).await;
            let report = re_encrypt_by(&world.store, Choice::default(), limit).await;
            assert_eq!(report.counts(), (0, 0, 1, 0), "{newcomer} {in_parts} {report:?}");
            let read = fresh(&world).await.get(BUCKET, "contested").await;
            if newcomer {
                assert!(read.ok().body == noise(77, 77));
            } else {
                read.fails(404, "NoSuchKey");
            }
            assert!(world.store.uploads().is_empty());
        }
    }
}

#[tokio::test]
async fn what_is_rebound_is_no_other_object_either() {
    for (newcomer, pieces, copies) in
        [(true, false, true), (false, false, true), (true, true, true), (true, false, false)]
    {
        let world = World::new().await;
        world.s3.put(BUCKET, "old", noise(6 << 20, 1)).await.ok();
        let stored = world.store.object(BUCKET, "old").expect("stored");
        world.store.plant(BUCKET, "contested", stored);
        comes_before_the_write(&world, "contested", newcomer).await;
        let limit = if pieces { 5 << 20 } else { 5 << 30 };
        let objects = workbench(&world.store, Setup { copies: (copies, limit), ..Setup::default() });
        let report = rebind(objects, (BUCKET, "contested"), (BUCKET, "old"), super::MANNER).await;
        assert_eq!(report.counts(), (0, 0, 1, 0), "{newcomer} {pieces} {copies} {report:?}");
        let read = fresh(&world).await.get(BUCKET, "contested").await;
        if newcomer {
            assert!(read.ok().body == noise(77, 77), "{pieces} {copies}");
        } else {
            read.fails(404, "NoSuchKey");
        }
        assert!(world.store.uploads().is_empty());
    }
}

#[tokio::test]
async fn a_conflict_is_a_race_that_was_lost() {
    let world = World::new().await;
    world.s3.put(BUCKET, "contested", noise(100, 1)).await.ok();
    let refusal = || Some(Instead::Answer(Reply::error(409, "ConditionalRequestConflict")));
    world.store.before(move |seen| if is_replacement(seen) { refusal() } else { None });
    assert_eq!(re_encrypt(&world.store, Choice::default()).await.counts(), (0, 0, 1, 0));
}

#[tokio::test]
async fn each_condition_is_tried_for_itself() {
    let world = World::new().await;
    world.store.quirks().ignores_completion_conditions = true;
    let objects = workbench(&world.store, Setup::default());
    assert_eq!(objects.heeded_conditions().await.expect("known"), Heeded { put: true, complete: false });
    let refused = conditional(&objects, false).await.expect_err("it does not heed all");
    assert!(refused.to_string().contains("on completing uploads:"), "{refused}");
    assert!(world.store.uploads().is_empty());
    // What cannot be found out now is found out later.
    let objects = workbench(&world.store, Setup::default());
    world.store.before(|seen| seen.has("uploads").then(|| Instead::Answer(Reply::error(403, "AccessDenied"))));
    conditional(&objects, true).await.expect_err("nobody knows");
    world.store.honest();
    assert!(!conditional(&objects, true).await.expect("known now"));
}

#[tokio::test]
async fn a_server_that_heeds_no_conditions_is_refused_unless_nobody_writes() {
    let world = World::new().await;
    world.s3.put(BUCKET, "one", noise(100, 1)).await.ok();
    let objects = workbench(&world.store, Setup::default());
    assert!(conditional(&objects, false).await.expect("it heeds them"));
    assert!(world.store.uploads().is_empty(), "the trial leaves no upload");
    world.store.quirks().ignores_write_conditions = true;
    let objects = workbench(&world.store, Setup::default());
    let refused = conditional(&objects, false).await.expect_err("it heeds none");
    assert!(refused.to_string().contains("--applications-are-stopped"), "{refused}");
    assert!(!conditional(&objects, true).await.expect("nobody else writes"));
    assert_eq!(objects.heeded_conditions().await.expect("known"), Heeded { put: false, complete: false });
    let manner = claviger::object::renewal::Manner { dry_run: false, conditional: false };
    let (report, _) = super::re_encrypt_with(objects, Choice::default(), manner, false).await;
    assert_eq!(report.counts(), (1, 0, 0, 0));
    assert!(fresh(&world).await.get(BUCKET, "one").await.ok().body == noise(100, 1));
}

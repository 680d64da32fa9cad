//! The census of objects: which version's copy their envelopes have, told by HEADs and opened envelopes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use claviger::custodian::embedded::Embedded;
use claviger::maintenance::census::{Census, Counted, OfVersion};
use claviger::maintenance::checkpoint::Checkpoints;
use claviger::maintenance::job::{End, Run};
use claviger::object::Objects;
use http::{HeaderMap, HeaderValue, Method};
use tokio::sync::watch;

use super::{kept, run_with, scope, simple, who};
use crate::harness::custodian::{custodian, kek};
use crate::harness::proxy::workbench;
use crate::harness::{BUCKET, S3, STATE, Setup, World, noise};

/// Objects under both versions of `demo`, of several kinds.
async fn filled() -> (World, Embedded, tempfile::TempDir) {
    let (embedded, folder) = custodian(&["demo", "other"]);
    let world = World::with(setup(&embedded)).await;
    fill(&world.s3, "a", 5).await;
    let with_key = world.s3.ask(Method::PUT, BUCKET, "a-with-key").body(noise(10, 1));
    crate::customer_keys::keyed(with_key, &crate::customer_keys::KEY).send().await.ok();
    let who = embedded.requester().expect("random");
    embedded.engine().rotate(&who, &kek("demo")).await.expect("rotates");
    let (_proxy, fresh) = world.fresh_with(setup(&embedded)).await;
    fill(&fresh, "b", 3).await;
    (world, embedded, folder)
}

fn setup(embedded: &Embedded) -> Setup {
    Setup { custodian: Arc::new(embedded.clone()), ..Setup::default() }
}

async fn fill(s3: &S3, name: &str, count: usize) {
    for at in 0..count {
        s3.put(BUCKET, &format!("{name}{at:02}"), noise(70_000, 1)).await.ok();
    }
}

fn census(objects: &Arc<Objects>, name: &str) -> Arc<Census> {
    Arc::new(Census { objects: Arc::clone(objects), who: who(), kek: kek(name), versions: false })
}

fn of(opened: u64, unopened: u64) -> OfVersion {
    OfVersion { opened, unopened }
}

#[tokio::test]
async fn objects_are_counted_by_the_version_in_their_envelopes_without_reading_them() {
    let (world, embedded, _folder) = filled().await;
    let objects = workbench(&world.store, setup(&embedded));
    world.store.take_log();
    world.store.take_traffic();
    let ran = run_with(&objects, &scope("", false), census(&objects, "demo"), simple()).await;
    assert_eq!(ran.outcome(), (9, 0, 0, 0));
    let counted = Counted::of(&ran.counts.classes);
    let versions: BTreeMap<u32, OfVersion> = [(1, of(5, 1)), (2, of(3, 0))].into();
    assert_eq!(counted, Counted { versions, unencrypted: 0, other_keks: 0 });
    let log = world.store.take_log();
    assert!(
        log.iter().filter(|seen| seen.bucket == BUCKET && !seen.key.is_empty()).all(|seen| seen.method == Method::HEAD)
    );
    assert!(world.store.take_traffic().sent < 50_000, "no bodies");
    let buckets = objects.stored_buckets().await.expect("lists");
    assert_eq!(buckets.iter().map(|name| name.as_str()).collect::<Vec<_>>(), [BUCKET], "and not the state bucket");
    let ran = run_with(&objects, &scope("", false), census(&objects, "other"), simple()).await;
    assert_eq!(Counted::of(&ran.counts.classes), Counted { other_keks: 9, ..Counted::default() });
}

#[tokio::test]
async fn what_is_not_this_objects_envelope_is_counted_for_no_version() {
    let (world, embedded, _folder) = filled().await;
    let (one, two) =
        (world.store.object(BUCKET, "a00").expect("there"), world.store.object(BUCKET, "b00").expect("there"));
    world.store.plant(BUCKET, "a00", two);
    world.store.plant(BUCKET, "b00", one);
    world.store.tamper(BUCKET, "a01", |stored| stored.headers = HeaderMap::new());
    world.store.tamper(BUCKET, "a02", |stored| {
        stored.headers.insert("x-amz-meta-claviger", HeaderValue::from_static("AAAA"));
    });
    let objects = workbench(&world.store, setup(&embedded));
    let ran = run_with(&objects, &scope("", false), census(&objects, "demo"), simple()).await;
    assert_eq!((ran.outcome(), ran.keys()), ((6, 0, 0, 3), vec!["a00", "a02", "b00"]));
    let versions = [(1, of(2, 1)), (2, of(2, 0))].into();
    assert_eq!(Counted::of(&ran.counts.classes), Counted { versions, unencrypted: 1, other_keks: 0 });
}

#[tokio::test]
async fn a_count_goes_on_with_what_was_counted_and_a_part_of_a_larger_one_is_remembered() {
    let (world, embedded, _folder) = filled().await;
    let objects = workbench(&world.store, setup(&embedded));
    let (scope, work) = (scope("", false), census(&objects, "demo"));
    let checkpoints = || Checkpoints::new(Arc::clone(&objects), &scope, work.as_ref());
    let (stop, stopped) = watch::channel(false);
    // Answers come slowly enough to be stopped in the middle.
    world.store.before(move |seen| {
        if seen.key == "a03" {
            let _ = stop.send(true);
        }
        None
    });
    let every = Duration::from_millis(1);
    let run = Run { stop: stopped, checkpoints: Some(checkpoints()), every, is_part: true, ..simple() };
    let ran = run_with(&objects, &scope, Arc::clone(&work) as _, run).await;
    assert!(matches!(ran.end, Ok(End::Stopped)) && ran.counts.done < 9, "{ran:?}");
    assert_eq!(kept(&world.store).len(), 1);

    for round in 0..2 {
        world.store.honest();
        world.store.take_log();
        let from = checkpoints().load(super::PATIENCE).await.expect("read").expect("there is one");
        let before = from.counts.done;
        let run = Run { checkpoints: Some(checkpoints()), from: Some(from), every, is_part: true, ..simple() };
        let ran = run_with(&objects, &scope, Arc::clone(&work) as _, run).await;
        assert_eq!(ran.outcome(), (9, 0, 0, 0), "{round}");
        let versions = [(1, of(5, 1)), (2, of(3, 0))].into();
        assert_eq!(Counted::of(&ran.counts.classes), Counted { versions, unencrypted: 0, other_keks: 0 }, "{round}");
        let asked =
            world.store.take_log().iter().filter(|seen| seen.method == Method::HEAD && seen.bucket == BUCKET).count();
        assert_eq!(asked as u64, 9 - before, "{round}");
        assert_eq!(kept(&world.store).len(), 1, "{round}: it stays, as the run is a part");
    }
    checkpoints().delete().await.expect("deletes");
    assert!(world.store.keys(STATE).iter().all(|name| !name.starts_with("job/")));
}

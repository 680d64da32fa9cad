//! The storage server's operator takes the manifest away, or changes it for another one, so that what he put into the bucket is sealed.

use claviger::maintenance::migrate::Start;
use claviger::maintenance::progress::Progress;
use claviger::object::error::Error;
use claviger::object::unencrypted::MigrationError;
use http::Method;

use super::attacks::{LATER, LISTED, named, refused, sealed};
use super::{before_the_proxy, fresh, go_on, job, plaintext, seal, start};
use crate::harness::store::Stored;
use crate::harness::{BUCKET, STATE, World, noise};

/// All that the state bucket has of manifests.
fn kept(world: &World) -> Vec<(String, Stored)> {
    let buckets = world.store.buckets();
    let state = buckets.get(STATE).expect("there");
    state.iter().filter(|(key, _)| key.starts_with("manifest/")).map(|(key, at)| (key.clone(), at.clone())).collect()
}

fn take_away(world: &World, manifest: &[(String, Stored)]) {
    for (key, _) in manifest {
        world.store.buckets().get_mut(STATE).expect("there").remove(key);
    }
}

fn put_back(world: &World, manifest: Vec<(String, Stored)>) {
    for (key, stored) in manifest {
        world.store.plant(STATE, &key, stored);
    }
}

#[tokio::test]
async fn going_on_without_a_manifest_seals_nothing_that_was_planted() {
    // In the middle of the migration, and after it was closed.
    for closed in [false, true] {
        let world = sealed().await;
        world.s3.put(BUCKET, "record", noise(100, 1)).await.ok();
        if closed {
            go_on(&job(&world.store)).await.expect("goes through");
        }
        take_away(&world, &kept(&world));
        world.store.plant(BUCKET, "record", plaintext(noise(100, 2)));
        for how in [Start::GoOn, Start::Restart] {
            let outcome = start(&job(&world.store), how).await;
            assert!(matches!(outcome, Err(Error::Migration(MigrationError::NoManifest))), "{outcome:?}");
        }
        assert!(kept(&world).is_empty());
        refused(&fresh(&world).await, "record").await;
        assert!(world.store.object(BUCKET, "record").expect("there").body == noise(100, 2));
    }
}

#[tokio::test]
async fn a_first_manifest_is_sealed_on_request_only_and_once() {
    let (world, _) = before_the_proxy().await;
    let job = job(&world.store);
    assert!(matches!(start(&job, Start::GoOn).await, Err(Error::Migration(MigrationError::NoManifest))));
    let first = start(&job, Start::Begin).await.expect("seals");
    assert_eq!((first.serial, first.entries), (1, 5));
    let again = start(&job, Start::Begin).await;
    assert!(
        matches!(&again, Err(Error::Migration(MigrationError::AlreadyBegun(run))) if *run == first.run),
        "{again:?}"
    );
    assert_eq!(start(&job, Start::GoOn).await.expect("is there"), first);
    // Pinned to the run that the operator of the proxies was told.
    let other = "0f".repeat(16);
    for how in [Start::GoOn, Start::Restart] {
        let wrong = job.manifest(how, Some(&other), &Progress::default()).await;
        assert!(matches!(wrong, Err(Error::Migration(MigrationError::NotThatRun { .. }))), "{wrong:?}");
    }
    job.manifest(Start::GoOn, Some(&first.run), &Progress::default()).await.expect("that one");
    assert_eq!(start(&job, Start::Restart).await.expect("seals").serial, 2);
    go_on(&job).await.expect("goes through");
    assert!(matches!(start(&job, Start::Begin).await, Err(Error::Migration(MigrationError::AlreadyBegun(_)))));
}

#[tokio::test]
async fn another_manifest_of_the_same_number_is_served_by_no_proxy_that_saw_the_first() {
    let world = sealed().await;
    let s3 = fresh(&world).await;
    s3.get(BUCKET, LISTED).await.ok();
    // Somebody was brought to begin anew, with an object of the operator's making in the bucket.
    let first = kept(&world);
    take_away(&world, &first);
    world.store.plant(BUCKET, "planted", plaintext(noise(100, 2)));
    assert_eq!(start(&job(&world.store), Start::Begin).await.expect("seals").serial, 1);
    tokio::time::sleep(LATER).await;
    for key in ["planted", LISTED] {
        refused(&s3, key).await;
    }
    assert!(s3.ask(Method::GET, BUCKET, "").query_text("list-type=2").send().await.status >= 400);
    // The first one is what it takes.
    let other = kept(&world);
    take_away(&world, &other);
    put_back(&world, first);
    tokio::time::sleep(LATER).await;
    s3.get(BUCKET, LISTED).await.ok();
    refused(&s3, "planted").await;
    // A later one counts: it is sealed over the one that is there.
    seal(&job(&world.store)).await.expect("seals");
    tokio::time::sleep(LATER).await;
    s3.get(BUCKET, "planted").await.ok();
    // Then neither of the others.
    take_away(&world, &kept(&world));
    put_back(&world, other);
    tokio::time::sleep(LATER).await;
    refused(&s3, LISTED).await;
    assert!(!named(&world, "head").is_empty());
}

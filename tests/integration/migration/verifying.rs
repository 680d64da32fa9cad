//! verify and export in a bucket that is being migrated: the manifest is asked, and what it lists is told.

use std::sync::Arc;

use claviger::maintenance::export::{Export, Target};
use claviger::maintenance::verify::Passed;
use claviger::maintenance::work::Work as _;

use super::attacks::{LISTED, sealed};
use super::{go_on, job, migrating, plaintext};
use crate::harness::proxy::workbench;
use crate::harness::{BUCKET, World, noise};
use crate::jobs::verifying::allowing;
use crate::jobs::{Ran, run, scope};
use crate::renewal::who;

async fn verified(world: &World, headers_only: bool, allowed: u64) -> Ran {
    let objects = workbench(&world.store, migrating());
    run(&objects, &scope("", false), allowing(&objects, headers_only, false, allowed)).await
}

async fn exported(world: &World, allowed: u64) -> (Ran, Vec<(&'static str, u64)>, usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let (objects, scope) = (workbench(&world.store, migrating()), scope("", false));
    let target = Some(Target::open(folder.path(), &scope.bucket).expect("opens"));
    let passed = Passed::allowing(allowed);
    let work = Arc::new(Export { objects: Arc::clone(&objects), who: who(), target, passed });
    let ran = run(&objects, &scope, Arc::clone(&work) as _).await;
    let lines = std::fs::read_to_string(folder.path().join(".claviger-metadata.jsonl")).expect("there");
    (ran, work.passed_over(), lines.lines().count())
}

#[tokio::test]
async fn an_envelope_that_was_taken_away_is_damage_also_while_the_bucket_is_migrated() {
    let world = sealed().await;
    for key in ["good", "stripped"] {
        world.s3.put(BUCKET, key, noise(100, 1)).await.ok();
    }
    world.store.tamper(BUCKET, "stripped", |stored| {
        stored.headers.remove("x-amz-meta-claviger");
    });
    world.store.plant(BUCKET, "planted", plaintext(noise(300, 7)));
    for headers_only in [false, true] {
        let ran = verified(&world, headers_only, 100).await;
        assert_eq!((ran.outcome(), ran.keys()), ((1, 5, 0, 2), vec!["planted", "stripped"]));
    }
    let (ran, passed, lines) = exported(&world, 100).await;
    assert_eq!((ran.outcome(), ran.keys()), ((6, 0, 0, 2), vec!["planted", "stripped"]));
    assert_eq!((passed[2], lines), (("unencrypted", 5), 6));
}

#[tokio::test]
async fn what_the_manifest_lists_fails_unless_it_is_expected() {
    let world = sealed().await;
    for headers_only in [false, true] {
        assert_eq!(verified(&world, headers_only, 4).await.outcome(), (0, 4, 0, 1));
        assert_eq!(verified(&world, headers_only, 5).await.outcome(), (0, 5, 0, 0));
    }
    let (ran, passed, lines) = exported(&world, 0).await;
    assert_eq!((ran.outcome(), passed[2], lines), ((0, 0, 0, 5), ("unencrypted", 5), 0));
    assert!(ran.keys().contains(&LISTED));
    go_on(&job(&world.store)).await.expect("goes through");
    assert_eq!(verified(&world, false, 0).await.outcome(), (5, 0, 0, 0));
    assert_eq!(exported(&world, 0).await.0.outcome(), (5, 0, 0, 0));
}

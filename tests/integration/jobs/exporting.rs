//! export: files are what clients stored, or are not there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use claviger::maintenance::export::{Export, Target};
use claviger::maintenance::job::JobError;
use claviger::maintenance::verify::Passed;
use claviger::maintenance::work::Work;
use claviger::object::Objects;
use http::Method;
use serde_json::Value;

use super::{Ran, bench, run, scope, who};
use crate::harness::store::Instead;
use crate::harness::{BUCKET, Reply, Store, World, noise};
use crate::renewal::{PART, upload};

fn job(objects: &Arc<Objects>, folder: &Path) -> Arc<Export> {
    let target = Some(Target::open(folder, &scope("", false).bucket).expect("opens"));
    Arc::new(Export { objects: Arc::clone(objects), who: who(), target, passed: Passed::allowing(0) })
}

async fn export(store: &Store, folder: &Path) -> Ran {
    let objects = bench(store);
    run(&objects, &scope("", false), job(&objects, folder)).await
}

/// The last line of each key in the manifest.
fn manifest(folder: &Path) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(folder.join(".claviger-metadata.jsonl")).expect("there");
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.map(|line| (line["key"].as_str().expect("text").to_owned(), line)).collect()
}

/// That the files are these objects, by the manifest.
fn check(folder: &Path, objects: &[(String, Bytes)]) {
    let lines = manifest(folder);
    assert_eq!(lines.len(), objects.len(), "{lines:?}");
    for (key, body) in objects {
        let line = &lines[key];
        let path = line["path"].as_str().expect("text");
        assert!(path.split('/').all(|name| !matches!(name, "" | "." | "..")), "{path}");
        assert!(std::fs::read(folder.join(path)).expect("there") == *body, "{key:?}");
        assert_eq!(line["size"].as_u64(), Some(body.len() as u64));
    }
}

async fn fill(world: &World) -> Vec<(String, Bytes)> {
    let odd =
        ["a", "a/b", "a/b/c", "/etc/passwd", "x//y", "dir/", "x/../y", "%41", "\u{f6} \u{1f511}", ".claviger-lock"];
    let mut objects: Vec<(String, Bytes)> =
        odd.iter().enumerate().map(|(at, key)| ((*key).to_owned(), noise(at * 10_000, 1))).collect();
    objects.push(("l".repeat(1024), noise(10, 2)));
    objects.push((format!("s{}", "/".repeat(1023)), noise(11, 2)));
    for (key, body) in &objects {
        world.s3.put(BUCKET, key, body.clone()).await.ok();
    }
    objects.push(("parts".to_owned(), upload(&world.s3, "parts", None, &[(1, PART), (2, 100_000)]).await));
    objects
}

#[tokio::test]
async fn files_are_the_objects_with_what_stands_beside_them() {
    let world = World::new().await;
    let mut objects = fill(&world).await;
    let ask = world.s3.ask(Method::PUT, BUCKET, "told").body(noise(10, 3)).header("content-type", "text/csv");
    ask.header("x-amz-meta-owner", "alice").header("cache-control", "no-store").send().await.ok();
    objects.push(("told".to_owned(), noise(10, 3)));
    let folder = tempfile::tempdir().expect("a folder");
    let count = objects.len() as u64;
    assert_eq!(export(&world.store, folder.path()).await.outcome(), (count, 0, 0, 0));
    check(folder.path(), &objects);
    let told = &manifest(folder.path())["told"];
    let header = |name: &str| {
        let headers = told["headers"].as_array().expect("a list");
        headers.iter().find(|pair| pair[0] == name).map(|pair| pair[1].as_str().expect("text").to_owned())
    };
    assert_eq!(header("content-type").as_deref(), Some("text/csv"));
    assert_eq!(header("x-amz-meta-owner").as_deref(), Some("alice"));
    assert_eq!(header("cache-control").as_deref(), Some("no-store"));
    assert!(header("x-amz-meta-claviger").is_none());
    assert_eq!(told["etag"].as_str(), Some(world.s3.get(BUCKET, "told").await.ok().header("etag")));
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &str| std::fs::metadata(folder.path().join(path)).expect("there").permissions().mode() & 0o777;
    // Of `a` and `a/…`, whichever came second has another name.
    let of_keys_below = if folder.path().join("a%dir").exists() { "a%dir" } else { "a" };
    assert_eq!((mode("told"), mode(of_keys_below)), (0o600, 0o700));
}

#[tokio::test]
async fn a_further_run_writes_what_is_new_or_spoilt_and_nothing_else() {
    let world = World::new().await;
    let mut objects = fill(&world).await;
    let folder = tempfile::tempdir().expect("a folder");
    export(&world.store, folder.path()).await.outcome();
    let count = objects.len() as u64;
    world.store.take_log();
    assert_eq!(export(&world.store, folder.path()).await.outcome(), (0, count, 0, 0));
    assert!(world.store.take_log().iter().all(|seen| seen.key.is_empty()));
    // One is written anew, one spoilt, one cut, one gone.
    world.s3.put(BUCKET, "%41", noise(70_000, 5)).await.ok();
    objects.iter_mut().find(|(key, _)| key == "%41").expect("there").1 = noise(70_000, 5);
    let path = |key: &str| folder.path().join(manifest(folder.path())[key]["path"].as_str().expect("text"));
    let mut bytes = std::fs::read(path("a/b")).expect("there");
    bytes[100] ^= 1;
    std::fs::write(path("a/b"), bytes).expect("writes");
    std::fs::write(path("a/b/c"), "").expect("writes");
    std::fs::remove_file(path("parts")).expect("there");
    assert_eq!(export(&world.store, folder.path()).await.outcome(), (4, count - 4, 0, 0));
    check(folder.path(), &objects);
}

#[tokio::test]
async fn what_is_damaged_or_not_given_becomes_no_file() {
    let world = World::new().await;
    let mut objects = fill(&world).await;
    for (key, at) in [("parts", PART + 20_000), ("a/b/c", 17_000)] {
        world.store.tamper(BUCKET, key, |stored| {
            let mut body = stored.body.to_vec();
            body[at] ^= 1;
            stored.body = body.into();
        });
    }
    world.store.before(|seen| (seen.key == "a").then(|| Instead::Answer(Reply::error(404, "NoSuchKey"))));
    let folder = tempfile::tempdir().expect("a folder");
    let ran = export(&world.store, folder.path()).await;
    objects.retain(|(key, _)| !matches!(key.as_str(), "a" | "a/b/c" | "parts"));
    assert_eq!((ran.outcome(), ran.keys()), ((objects.len() as u64, 0, 0, 3), vec!["a", "a/b/c", "parts"]));
    check(folder.path(), &objects);
    assert!(!folder.path().join("parts").exists());
    assert_eq!(folder.path().join(".claviger-temporary").read_dir().expect("there").count(), 0);
}

#[tokio::test]
async fn killed_at_any_request_it_goes_on() {
    let world = World::new().await;
    let mut objects = vec![("parts".to_owned(), upload(&world.s3, "parts", None, &[(1, PART), (2, 1)]).await)];
    for key in ["a", "b", "c/d"] {
        world.s3.put(BUCKET, key, noise(200_000, 1)).await.ok();
        objects.push((key.to_owned(), noise(200_000, 1)));
    }
    for k in 0..12 {
        for served in [false, true] {
            let folder = tempfile::tempdir().expect("a folder");
            world.store.dies_at(k, served);
            export(&world.store, folder.path()).await;
            world.store.honest();
            let (done, skipped, overtaken, failed) = export(&world.store, folder.path()).await.outcome();
            assert_eq!((done + skipped, overtaken, failed), (4, 0, 0), "{k}");
            check(folder.path(), &objects);
        }
    }
}

#[tokio::test]
async fn a_disk_that_takes_nothing_ends_the_job() {
    let world = World::new().await;
    fill(&world).await;
    let folder = tempfile::tempdir().expect("a folder");
    let objects = bench(&world.store);
    let job = job(&objects, folder.path());
    let temporary = folder.path().join(".claviger-temporary");
    std::fs::remove_dir(&temporary).expect("empty");
    std::fs::write(&temporary, "").expect("writes");
    let ran = run(&objects, &scope("", false), Arc::clone(&job) as Arc<dyn Work>).await;
    assert!(matches!(ran.end, Err(JobError::Stuck(_))), "{ran:?}");
    assert_eq!((ran.counts.done, ran.counts.failed), (0, 0));
}

#[tokio::test]
async fn what_the_file_system_does_not_take_is_a_finding_and_not_the_end() {
    let world = World::new().await;
    let mut objects = fill(&world).await;
    for key in ["linked/1", "zz"] {
        world.s3.put(BUCKET, key, noise(10, 3)).await.ok();
    }
    objects.push(("zz".to_owned(), noise(10, 3)));
    let (folder, elsewhere) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let bench = bench(&world.store);
    let job = job(&bench, folder.path());
    for name in ["linked", "linked%dir"] {
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join(name)).expect("links");
    }
    let ran = run(&bench, &scope("", false), Arc::clone(&job) as Arc<dyn Work>).await;
    assert_eq!((ran.outcome(), ran.keys()), ((objects.len() as u64, 0, 0, 1), vec!["linked/1"]));
    check(folder.path(), &objects);
    assert_eq!(elsewhere.path().read_dir().expect("there").count(), 0);
}

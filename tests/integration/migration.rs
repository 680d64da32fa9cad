//! What was in a bucket before the proxy: served by its manifest, and encrypted while applications work.

mod attacks;
mod crashes;
mod forgeries;
mod resealing;
mod serving;
mod verifying;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use claviger::maintenance::migrate::{Ended, Migrate, Start};
use claviger::maintenance::progress::Progress;
use claviger::names::LogicalBucket;
use claviger::object::bucket::{KeyRule, Unencrypted};
use claviger::object::error::Error;
use claviger::object::unencrypted::manifest::Head;
use http::HeaderMap;

use crate::harness::proxy::{key_rule, workbench};
use crate::harness::store::{Stored, etag_of};
use crate::harness::{BUCKET, S3, Setup, Store, World, noise};
use crate::renewal::who;

fn migrating() -> Setup {
    Setup { others: Some(KeyRule { unencrypted: Unencrypted::Migrate, ..key_rule("demo") }), ..Setup::default() }
}

fn name(bucket: &str) -> LogicalBucket {
    LogicalBucket::new(bucket).expect("legal")
}

/// An object as an application wrote it, without the proxy.
fn plaintext(body: Bytes) -> Stored {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "text/csv".parse().expect("legal"));
    headers.insert("cache-control", "no-store".parse().expect("legal"));
    headers.insert("x-amz-meta-mtime", "1234567.5".parse().expect("legal"));
    Stored { etag: etag_of(&body), body, headers, modified: SystemTime::now(), spooled: None, version: None }
}

/// A world with objects that were there before it, whose keys and bytes are given back.
async fn before_the_proxy() -> (World, Vec<(&'static str, Bytes)>) {
    let world = World::with(migrating()).await;
    let sizes = [("a/empty", 0), ("a/one", 1), ("a/small", 300), ("b/long & ö+", 300_000), ("c/parts", (10 << 20) + 7)];
    let objects: Vec<_> = sizes.into_iter().map(|(key, size)| (key, noise(size, size as u64 + 1))).collect();
    for (key, body) in &objects {
        world.store.plant(BUCKET, key, plaintext(body.clone()));
    }
    world.store.tamper(BUCKET, "c/parts", |stored| stored.etag = format!("{}-3", stored.etag));
    (world, objects)
}

fn job(store: &Store) -> Migrate {
    job_on(store, BUCKET, migrating())
}

fn job_on(store: &Store, bucket: &str, setup: Setup) -> Migrate {
    let (remaining, without_acl) = Default::default();
    let (objects, bucket, pause) = (workbench(store, setup), name(bucket), Duration::from_millis(1));
    Migrate { objects, who: who(), bucket, concurrency: 4, conditional: true, pause, remaining, without_acl }
}

/// Seals a manifest, as the command does with `--begin` or `--restart`.
async fn seal(job: &Migrate) -> Result<(), Error> {
    let there = job.objects.manifest(&job.bucket).await?.is_some();
    start(job, if there { Start::Restart } else { Start::Begin }).await.map(drop)
}

/// What the command begins with; gives the head of the manifest.
async fn start(job: &Migrate, start: Start) -> Result<Head, Error> {
    job.manifest(start, None, &Progress::default()).await.map(|(pages, _)| pages.head)
}

/// What came of a run: how it ended; objects done, overtaken; and those that failed, with their errors.
type Report = (Ended, u64, u64, Vec<(String, String)>);

/// Goes through the manifest that is there.
async fn go_on(job: &Migrate) -> Result<Report, Error> {
    let (progress, mut found) = (Progress::default(), Vec::new());
    let pages = job.objects.manifest(&job.bucket).await?.expect("a manifest");
    let ended = job.run(pages, &progress, |finding| found.push((finding.key, finding.error.to_string()))).await?;
    Ok((ended, Progress::of(&progress.done), Progress::of(&progress.overtaken), found))
}

/// All of the command.
async fn migrate(store: &Store) -> Report {
    let job = job(store);
    seal(&job).await.expect("seals");
    go_on(&job).await.expect("goes through")
}

/// A proxy that remembers nothing.
async fn fresh(world: &World) -> S3 {
    world.fresh_with(migrating()).await.1
}

/// Nothing of the bucket is there without an envelope.
fn assert_encrypted(world: &World, objects: &[(&'static str, Bytes)]) {
    for (key, body) in objects {
        let stored = world.store.object(BUCKET, key).expect("it is there");
        assert!(stored.headers.contains_key("x-amz-meta-claviger"), "{key}");
        assert!(body.is_empty() || stored.body != body, "{key}");
    }
}

async fn assert_readable(world: &World, objects: &[(&'static str, Bytes)]) {
    let s3 = fresh(world).await;
    for (key, body) in objects {
        assert!(s3.get(BUCKET, key).await.ok().body == *body, "{key}");
    }
}

//! gc: only what nobody needs goes, whatever the storage server's operator says.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use claviger::maintenance::gc::{Collected, Gc};
use claviger::maintenance::job::Run;
use claviger::object::Objects;
use http::Method;
use tokio::sync::watch;

use super::{Noting, PATIENCE, bench, simple, who};
use crate::harness::proxy::{bucket_rule, key_rule, workbench};
use crate::harness::store::Instead;
use crate::harness::{BUCKET, Reply, S3, STATE, Setup, Store, World, noise};
use crate::renewal::PART;

const DAY: Duration = Duration::from_secs(86_400);

fn gc(objects: &Arc<Objects>, older_than: Duration, dry_run: bool) -> Gc {
    let (_, stop) = watch::channel(false);
    Gc { objects: Arc::clone(objects), who: who(), older_than, dry_run, patience: PATIENCE, stop }
}

async fn collect_with(objects: &Arc<Objects>, older_than: Duration) -> (Collected, Vec<String>) {
    let mut left = Vec::new();
    let job = gc(objects, older_than, false);
    let (_, collected) = job.run(|name, why| left.push(format!("{name}: {why}"))).await.expect("runs");
    (collected, left)
}

async fn collect(store: &Store, older_than: Duration) -> (Collected, Vec<String>) {
    collect_with(&bench(store), older_than).await
}

/// Begins an upload with a part of full size and one that is held; its id and the ETags of the parts.
async fn begin(s3: &S3, key: &str) -> (String, Vec<String>) {
    let id = s3.ask(Method::POST, BUCKET, key).query_text("uploads").send().await.ok().leaf("UploadId");
    let mut etags = Vec::new();
    for (number, length) in [("1", PART), ("2", 1000)] {
        let ask = s3.ask(Method::PUT, BUCKET, key).query("partNumber", number).query("uploadId", &id);
        etags.push(ask.body(noise(length, 1)).send().await.ok().header("etag").to_owned());
    }
    (id, etags)
}

async fn complete(s3: &S3, key: &str, (id, etags): &(String, Vec<String>)) -> crate::harness::Answer {
    let parts = etags.iter().zip(1..);
    let parts: String =
        parts.map(|(etag, at)| format!("<Part><PartNumber>{at}</PartNumber><ETag>{etag}</ETag></Part>")).collect();
    let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    s3.ask(Method::POST, BUCKET, key).query("uploadId", id).body(document).send().await
}

fn state_of_uploads(store: &Store) -> Vec<String> {
    store.keys(STATE).into_iter().filter(|name| name.starts_with("upload/")).collect()
}

/// The storage server forgets the upload, as by a rule of its bucket.
fn forget(store: &Store, id: &str) {
    store.uploads().remove(id).expect("there");
}

#[tokio::test]
async fn only_uploads_that_are_over_go() {
    let world = World::new().await;
    let (over, alive) = (begin(&world.s3, "over").await, begin(&world.s3, "alive").await);
    let of_alive_too = state_of_uploads(&world.store);
    forget(&world.store, &over.0);
    let others = |store: &Store| {
        let mut names = store.keys(STATE);
        names.retain(|name| !name.starts_with("upload/"));
        names
    };
    let before = others(&world.store);
    assert!(before.iter().any(|name| name.starts_with("branch/")));
    // In a dry run nothing goes.
    let dry = gc(&bench(&world.store), Duration::ZERO, true).run(|_, _| {}).await.expect("runs").1;
    assert_eq!((dry.uploads, dry.kept, dry.deleted), (2, 1, 1));
    assert_eq!(state_of_uploads(&world.store), of_alive_too);
    world.store.shorten_listings(2);
    let (collected, left) = collect(&world.store, Duration::ZERO).await;
    assert_eq!((collected.uploads, collected.kept, collected.deleted, collected.unknown), (2, 1, 1, 0), "{left:?}");
    assert_eq!(collected.entries, dry.entries);
    assert_eq!(state_of_uploads(&world.store).len() as u64, of_alive_too.len() as u64 - collected.entries);
    assert_eq!(others(&world.store), before);
    world.store.quirks().page = None;
    complete(&world.s3, "alive", &alive).await.ok();
    assert_eq!(world.s3.get(BUCKET, "alive").await.ok().body.len(), PART + 1000);
}

#[tokio::test]
async fn what_is_young_stays_whatever_the_storage_server_says() {
    let world = World::new().await;
    let upload = begin(&world.s3, "young").await;
    let before = state_of_uploads(&world.store);
    // The listing's dates are months ago, and the upload is hidden: but its own record says when it began.
    world.store.before(|seen| {
        let asks = seen.method == Method::GET && seen.has("uploadId");
        asks.then(|| Instead::Answer(Reply::error(404, "NoSuchUpload")))
    });
    let (collected, left) = collect(&world.store, DAY).await;
    assert_eq!((collected.kept, collected.deleted), (1, 0), "{left:?}");
    world.store.honest();
    forget(&world.store, &upload.0);
    let now = || httpdate::fmt_http_date(SystemTime::now());
    let rfc3339 = |at: SystemTime| {
        let at = time::OffsetDateTime::from(at);
        at.format(&time::format_description::well_known::Rfc3339).expect("a time")
    };
    let dated = |store: &Store, modified: String, date: String| {
        store.after(move |seen, reply| {
            if seen.has("list-type") {
                let page = String::from_utf8(reply.body.to_vec()).expect("text");
                reply.body = page.replace("2026-01-01T00:00:00.000Z", &modified).into();
                reply.headers.insert("date", date.parse().expect("legal"));
            }
        });
    };
    // Written just now; by a clock that is behind or ahead; and without a date that can be read.
    let (ahead, behind) = (SystemTime::now() + 30 * DAY, SystemTime::now() - 30 * DAY);
    for (modified, date) in [
        (rfc3339(SystemTime::now()), now()),
        (rfc3339(ahead), httpdate::fmt_http_date(ahead)),
        (rfc3339(behind), httpdate::fmt_http_date(behind)),
        (rfc3339(SystemTime::now()), httpdate::fmt_http_date(ahead)),
        ("yesterday".to_owned(), now()),
    ] {
        dated(&world.store, modified.clone(), date);
        let (collected, left) = collect(&world.store, Duration::from_secs(3600)).await;
        assert_eq!((collected.kept, collected.deleted), (1, 0), "{modified}: {left:?}");
    }
    assert_eq!(state_of_uploads(&world.store), before);
}

#[tokio::test]
async fn what_cannot_be_told_is_left_alone() {
    let world = World::new().await;
    let (over, alive) = (begin(&world.s3, "over").await, begin(&world.s3, "alive").await);
    let records: Vec<String> =
        state_of_uploads(&world.store).into_iter().filter(|name| name.ends_with("/record")).collect();
    let of = |key: &str| {
        let is = |name: &&String| {
            let record = world.store.object(STATE, name).expect("there");
            claviger::format::upload::Unverified::parse(&record.body).expect("a record").key() == key
        };
        records.iter().find(is).expect("there").clone()
    };
    let (dead, live) = (of("over"), of("alive"));
    forget(&world.store, &over.0);
    let good = world.store.object(STATE, &live).expect("there");
    let count = state_of_uploads(&world.store).len();
    // The record of an upload that is over is put in the place of one under way.
    world.store.plant(STATE, &live, world.store.object(STATE, &dead).expect("there"));
    let dry = gc(&bench(&world.store), Duration::ZERO, true).run(|_, _| {}).await.expect("runs").1;
    assert_eq!((dry.deleted, dry.unknown), (1, 1));
    // Altered anywhere, or cut.
    for at in [0, 5, good.body.len() / 2, good.body.len() - 1] {
        let mut spoilt = good.clone();
        let mut body = spoilt.body.to_vec();
        body[at] ^= 1;
        spoilt.body = body.into();
        world.store.plant(STATE, &live, spoilt);
        let dry = gc(&bench(&world.store), Duration::ZERO, true).run(|_, _| {}).await.expect("runs").1;
        assert_eq!((dry.deleted, dry.unknown), (1, 1), "byte {at}");
    }
    world.store.plant(STATE, &live, good.clone());
    // A name that no upload has, and a server that does not say.
    let strange = dead.replace("/record", "/other");
    world.store.plant(STATE, &strange, good.clone());
    world.store.plant(STATE, "upload/other", good.clone());
    world.store.plant(STATE, "elsewhere/x", good);
    let (collected, left) = collect(&world.store, Duration::ZERO).await;
    assert_eq!((collected.kept, collected.deleted, collected.unknown), (1, 0, 1), "{left:?}");
    world.store.buckets().get_mut(STATE).expect("there").remove(&strange);
    for (status, code) in [(403, "AccessDenied"), (503, "SlowDown"), (404, "NoSuchKey")] {
        world.store.before(move |seen| {
            let asks = seen.method == Method::GET && seen.has("uploadId");
            asks.then(|| Instead::Answer(Reply::error(status, code)))
        });
        let (collected, left) = collect(&world.store, Duration::ZERO).await;
        assert_eq!((collected.deleted, collected.unknown), (0, 2), "{left:?}");
    }
    // A record that is listed and not given.
    world.store.before(|seen| {
        let hidden = seen.bucket == STATE && seen.key.ends_with("/record");
        hidden.then(|| Instead::Answer(Reply::error(404, "NoSuchKey")))
    });
    let (collected, left) = collect(&world.store, Duration::ZERO).await;
    assert_eq!((collected.deleted, collected.unknown), (0, 2), "{left:?}");
    world.store.honest();
    // Another writer domain's are its own affair.
    let mut rule = key_rule("demo");
    rule.accept_writers.push(crate::harness::proxy::domain("sg"));
    let setup = Setup { rules: vec![bucket_rule(BUCKET, BUCKET, rule)], region: "sg", ..Setup::default() };
    let (collected, _) = collect_with(&workbench(&world.store, setup), Duration::ZERO).await;
    assert_eq!((collected.deleted, collected.unknown), (0, 2));
    // And a bucket that it does not know.
    let setup = Setup { others: None, ..Setup::default() };
    let (collected, _) = collect_with(&workbench(&world.store, setup), Duration::ZERO).await;
    assert_eq!((collected.deleted, collected.unknown), (0, 2));
    assert_eq!(state_of_uploads(&world.store).len(), count + 1);
    complete(&world.s3, "alive", &alive).await.ok();
}

#[tokio::test]
async fn killed_at_any_request_it_goes_on() {
    for k in 0..14 {
        for served in [false, true] {
            let world = World::new().await;
            let (over, alive) = (begin(&world.s3, "over").await, begin(&world.s3, "alive").await);
            forget(&world.store, &over.0);
            world.store.dies_at(k, served);
            let _ = gc(&bench(&world.store), Duration::ZERO, false).run(|_, _| {}).await;
            world.store.honest();
            let (collected, left) = collect(&world.store, Duration::ZERO).await;
            assert_eq!((collected.kept, collected.unknown), (1, 0), "{k}: {left:?}");
            let folders: std::collections::BTreeSet<String> =
                state_of_uploads(&world.store).iter().map(|name| name[..40].to_owned()).collect();
            assert_eq!(folders.len(), 1, "{k}");
            complete(&world.s3, "alive", &alive).await.ok();
        }
    }
}

#[tokio::test]
async fn checkpoints_that_nobody_went_on_with_go() {
    let world = World::new().await;
    super::fill(&world.s3, 4).await;
    let objects = bench(&world.store);
    let (work, here) = (Arc::new(Noting { stuck_at: Some("k002"), ..Noting::default() }), super::scope("", false));
    let checkpoints = super::Checkpoints::new(Arc::clone(&objects), &here, work.as_ref());
    let run = Run { checkpoints: Some(checkpoints), every: Duration::from_millis(1), ..simple() };
    let job = super::run_with(&objects, &here, work, run);
    assert!(tokio::time::timeout(Duration::from_millis(300), job).await.is_err());
    let [name] = super::kept(&world.store).try_into().expect("one");
    let entry = world.store.object(STATE, &name).expect("there");
    for other in ["job/x", "job/noting/y/checkpoint", "probe/write-condition", "branch/z"] {
        world.store.plant(STATE, other, entry.clone());
    }
    let count = world.store.keys(STATE).len();
    let (collected, _) = collect(&world.store, 365 * 30 * DAY).await;
    assert_eq!((collected.checkpoints, world.store.keys(STATE).len()), (0, count));
    let (collected, _) = collect(&world.store, DAY).await;
    assert_eq!((collected.checkpoints, world.store.keys(STATE).len()), (1, count - 1));
    assert!(world.store.object(STATE, &name).is_none());
}

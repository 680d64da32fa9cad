//! Bytes of the operator's making under keys that the manifest lists, with the ETag and size that stand there.

use claviger::maintenance::migrate::Ended;
use http::Method;

use super::attacks::{LATER, LISTED, named, refused, sealed};
use super::{fresh, go_on, job, job_on, migrating, plaintext, seal};
use crate::harness::store::{Instead, Stored};
use crate::harness::{BUCKET, Reply, S3, STATE, Setup, World, noise};

const LONG: &str = "b/long & ö+";

/// Another body under what is listed.
fn forged(listed: &Stored) -> Stored {
    Stored { body: noise(listed.body.len(), 77), ..listed.clone() }
}

#[tokio::test]
async fn under_a_key_that_a_client_wrote_or_deleted_nothing_comes_without_an_envelope() {
    type Act = (&'static str, fn(&S3) -> crate::harness::client::Ask);
    let acts: [Act; 4] = [
        ("PUT", |s3| s3.ask(Method::PUT, BUCKET, LISTED).body(noise(300, 5))),
        ("DELETE", |s3| s3.ask(Method::DELETE, BUCKET, LISTED)),
        ("copy", |s3| s3.ask(Method::PUT, BUCKET, LISTED).header("x-amz-copy-source", &format!("/{BUCKET}/other"))),
        ("DELETE of several", |s3| {
            let document = "<Delete><Object><Key>a/small</Key></Object></Delete>";
            s3.ask(Method::POST, BUCKET, "").query_text("delete").body(bytes::Bytes::from_static(document.as_bytes()))
        }),
    ];
    for (what, act) in acts {
        let world = sealed().await;
        world.s3.put(BUCKET, "other", noise(300, 6)).await.ok();
        let listed = world.store.object(BUCKET, LISTED).expect("stored");
        let s3 = fresh(&world).await;
        assert!(s3.get(BUCKET, LISTED).await.ok().body == listed.body, "{what}");
        let answer = act(&s3).send().await;
        assert!(answer.status < 300, "{what}: {answer:?}");
        // Not even the very object that was listed, which the client did away with.
        for stored in [forged(&listed), listed] {
            world.store.plant(BUCKET, LISTED, stored);
            refused(&s3, LISTED).await;
        }
    }
}

#[tokio::test]
async fn what_was_seen_encrypted_stays_so() {
    let world = sealed().await;
    let listed = world.store.object(BUCKET, LISTED).expect("stored");
    world.s3.put(BUCKET, LISTED, noise(300, 5)).await.ok();
    let (read, unread) = (fresh(&world).await, fresh(&world).await);
    read.get(BUCKET, LISTED).await.ok();
    world.store.plant(BUCKET, LISTED, listed.clone());
    refused(&read, LISTED).await;
    // Who did not see it has only the manifest to go by, until that is closed; but then its bytes are those that were listed.
    assert!(unread.get(BUCKET, LISTED).await.ok().body == listed.body);
    // A new manifest says anew what is there.
    seal(&job(&world.store)).await.expect("seals");
    tokio::time::sleep(LATER).await;
    read.get(BUCKET, LISTED).await.ok();
}

#[tokio::test]
async fn a_deleted_version_brings_back_the_listed_one() {
    let world = World::with(migrating()).await;
    world.store.keep_versions(BUCKET);
    world.store.plant(BUCKET, LISTED, plaintext(noise(300, 1)));
    seal(&job(&world.store)).await.expect("seals");
    let s3 = fresh(&world).await;
    let written = s3.put(BUCKET, LISTED, noise(300, 5)).await.ok();
    s3.get(BUCKET, LISTED).await.ok();
    let version = written.header("x-amz-version-id").to_owned();
    let delete = s3.ask(Method::DELETE, BUCKET, LISTED).query("versionId", &version);
    assert_eq!(delete.send().await.status, 204);
    assert!(s3.get(BUCKET, LISTED).await.ok().body == noise(300, 1));
}

#[tokio::test]
async fn pages_that_are_done_list_nothing_though_one_object_keeps_the_manifest_open() {
    let world = World::with(migrating()).await;
    for number in 0..1_002 {
        world.store.plant(BUCKET, &format!("k{number:05}"), plaintext(noise(10, number as u64)));
    }
    let listed = world.store.object(BUCKET, "k00007").expect("stored");
    seal(&job(&world.store)).await.expect("seals");
    let early = fresh(&world).await;
    early.get(BUCKET, "k00008").await.ok();
    let fails = |seen: &crate::harness::Seen| seen.key == "k01001" && seen.method == Method::GET;
    world.store.before(move |seen| fails(seen).then(|| Instead::Answer(Reply::error(500, "InternalError"))));
    assert_eq!(go_on(&job(&world.store)).await.expect("goes on with the others").0, Ended::Failed);
    world.store.honest();
    world.store.plant(BUCKET, "k00007", listed);
    let s3 = fresh(&world).await;
    refused(&s3, "k00007").await;
    s3.get(BUCKET, "k01001").await.ok();
    tokio::time::sleep(LATER).await;
    refused(&early, "k00007").await;
    // Nor if the progress is hidden from who saw it.
    let progress = named(&world, "progress").pop().expect("there");
    world.store.buckets().get_mut(STATE).expect("there").remove(&progress);
    tokio::time::sleep(LATER).await;
    for s3 in [s3, early] {
        refused(&s3, "k00007").await;
    }
}

#[tokio::test]
async fn bytes_that_are_not_those_of_the_listed_md5_are_not_given() {
    let world = sealed().await;
    for key in [LISTED, LONG] {
        world.store.tamper(BUCKET, key, |stored| stored.body = forged(stored).body);
    }
    // As if they were encrypted by the storage server under a key of its own, whose ETags are no MD5s.
    for claims in [false, true] {
        let s3 = fresh(&world).await;
        world.store.after(move |seen, reply| {
            if claims && seen.bucket == BUCKET {
                reply.headers.insert("x-amz-server-side-encryption", "aws:kms".parse().expect("legal"));
            }
        });
        for range in [None, Some("bytes=0-0"), Some("bytes=-10")] {
            let mut ask = s3.ask(Method::GET, BUCKET, LISTED);
            if let Some(range) = range {
                ask = ask.header("range", range);
            }
            let answer = ask.send().await;
            assert!(answer.status >= 400, "{range:?}: {answer:?}");
        }
        let part = s3.ask(Method::GET, BUCKET, LONG).query("partNumber", "1").send().await;
        assert!(part.cut || part.status >= 400, "{part:?}");
        let whole = s3.get(BUCKET, LONG).await;
        assert!(whole.cut && whole.body.len() < 300_000, "{} {}", whole.cut, whole.body.len());
        for key in [LISTED, "b%2Flong%20%26%20%C3%B6%2B"] {
            let copy = s3.ask(Method::PUT, BUCKET, "copy").header("x-amz-copy-source", &format!("/{BUCKET}/{key}"));
            assert!(copy.send().await.status >= 400, "{key}");
        }
        assert!(world.store.object(BUCKET, "copy").is_none());
        let report = go_on(&job(&world.store)).await.expect("goes on with the others");
        assert_eq!((report.0, report.3.len()), (Ended::Failed, 2), "{report:?}");
    }
}

#[tokio::test]
async fn a_part_of_what_one_put_wrote_is_not_some_of_its_bytes() {
    let world = sealed().await;
    for (key, size, given) in [(LISTED, 300, 10), (LISTED, 300, 299), (LONG, 300_000, 299_999)] {
        let s3 = fresh(&world).await;
        for range in [Some(format!("bytes 0-{}/{size}", given - 1)), None] {
            let short = range.is_some();
            world.store.after(move |seen, reply| {
                if seen.bucket == BUCKET && seen.value("partNumber") == Some("1") {
                    reply.body = noise(if short { given } else { size }, 77);
                    reply.headers.remove("content-length");
                    if let Some(range) = &range {
                        reply.status = http::StatusCode::PARTIAL_CONTENT;
                        reply.set("content-range", range);
                    }
                }
            });
            let answer = s3.ask(Method::GET, BUCKET, key).query("partNumber", "1").send().await;
            let refused = answer.status >= 400 || (!short && key == LONG && answer.cut);
            assert!(refused, "{key} {given} {short}: {} {}", answer.status, answer.body.len());
        }
        world.store.honest();
        let part = s3.ask(Method::GET, BUCKET, key).query("partNumber", "1").send().await.ok();
        assert!(part.body == s3.get(BUCKET, key).await.ok().body, "{key}");
    }
}

#[tokio::test]
async fn no_part_is_made_of_a_range_of_bytes_that_were_not_listed() {
    let world = sealed().await;
    let honest = world.store.object(BUCKET, LISTED).expect("stored").body;
    let s3 = fresh(&world).await;
    let begin = s3.ask(Method::POST, BUCKET, "parts").query_text("uploads").send().await.ok();
    let id = begin.leaf("UploadId");
    let copy = || {
        let part = s3.ask(Method::PUT, BUCKET, "parts").query("partNumber", "1").query("uploadId", &id);
        let part = part.header("x-amz-copy-source", &format!("/{BUCKET}/{LISTED}"));
        part.header("x-amz-copy-source-range", "bytes=100-200").send()
    };
    let markers = || world.store.keys(STATE).into_iter().filter(|key| key.contains("/part/")).count();
    world.store.tamper(BUCKET, LISTED, |stored| stored.body = forged(stored).body);
    assert!(copy().await.status >= 400 && markers() == 0);
    world.store.tamper(BUCKET, LISTED, |stored| stored.body = honest.clone());
    copy().await.ok();
    assert_eq!(markers(), 1);
}

#[tokio::test]
async fn what_goes_up_in_parts_is_compared_with_its_md5_too() {
    const LARGE: usize = 12 << 20;
    let setup = || Setup { copies: (true, 5 << 20), ..migrating() };
    for altered in [None, Some(7), Some(LARGE - 1)] {
        let world = World::with(setup()).await;
        world.store.plant(BUCKET, "large", plaintext(noise(LARGE, 1)));
        let job = job_on(&world.store, BUCKET, setup());
        seal(&job).await.expect("seals");
        if let Some(at) = altered {
            world.store.tamper(BUCKET, "large", |stored| {
                let mut body = stored.body.to_vec();
                body[at] ^= 1;
                stored.body = body.into();
            });
        }
        let before = world.store.object(BUCKET, "large").expect("there");
        world.store.after(|seen, reply| {
            if seen.method == Method::HEAD && seen.has("partNumber") {
                reply.set("content-range", &format!("bytes 0-{}/{LARGE}", (6 << 20) - 1));
                reply.set("x-amz-mp-parts-count", "2");
            }
        });
        world.store.take_log();
        let report = go_on(&job).await.expect("goes through");
        let parts = world.store.take_log();
        let parts = parts.iter().filter(|seen| seen.method == Method::PUT && seen.has("partNumber")).count();
        // What is listed, and the end of the object, if it comes to that.
        assert_eq!(parts, 2 + usize::from(altered.is_none()), "{altered:?}");
        let after = world.store.object(BUCKET, "large").expect("there");
        if altered.is_some() {
            assert_eq!((report.0, report.3.len()), (Ended::Failed, 1), "{report:?}");
            assert!(after.body == before.body && after.headers == before.headers);
        } else {
            assert_eq!((report.0, report.1), (Ended::Closed, 1), "{report:?}");
            assert!(fresh(&world).await.get(BUCKET, "large").await.ok().body == noise(LARGE, 1));
        }
    }
}

//! A proxy that is killed at any step, and several that work on one upload at once.

use super::{KEY, OBJECT, PART, Parts, assert_object, begin, is_abort, part, whole};
use crate::harness::store::Instead;
use crate::harness::{BUCKET, Reply, S3, STATE, World};

const LENGTHS: [(u32, usize); 2] = [(1, PART), (2, 100)];

/// A client that goes on through `others` where its proxy fails. Gives whether it had to.
async fn persistent(s3: &S3, others: &S3, after_death: impl Fn()) -> bool {
    let mut died = false;
    let mut id = None;
    let mut parts: Parts = Vec::new();
    let begun = s3.ask(http::Method::POST, BUCKET, KEY).query_text("uploads").send().await;
    if begun.status == 200 {
        id = Some(begun.leaf("UploadId"));
    } else {
        died = true;
        after_death();
    }
    let id = match id {
        Some(id) => id,
        None => others.create_upload(BUCKET, KEY).await,
    };
    for (number, length) in LENGTHS {
        if !died {
            let answer = s3.upload_part(OBJECT, &id, number, super::body_of(number, length)).await;
            if answer.status == 200 {
                parts.push((number, answer.header("etag").to_owned()));
                continue;
            }
            died = true;
            after_death();
        }
        parts.push(part(others, &id, number, length).await);
    }
    if !died {
        let answer = s3.complete(OBJECT, &id, &parts).await;
        if answer.status == 200 {
            return false;
        }
        after_death();
    }
    // Repeated, through others, more than once.
    for _ in 0..2 {
        let answer = others.complete(OBJECT, &id, &parts).await.ok();
        assert!(answer.text().contains("<CompleteMultipartUploadResult"), "{}", answer.text());
    }
    true
}

async fn killed_at_each_step(served: bool) {
    for k in 0.. {
        let world = World::new().await;
        let (_proxy, others) = world.fresh().await;
        world.store.dies_at(k, served);
        let died = persistent(&world.s3, &others, || world.store.honest()).await;
        world.store.honest();
        assert_object(&others, &whole(&LENGTHS)).await;
        if !died {
            assert!(k > 8, "an upload takes more steps than {k}");
            return;
        }
    }
}

#[tokio::test]
async fn killed_before_each_request_to_the_storage_server() {
    killed_at_each_step(false).await;
}

#[tokio::test]
async fn killed_after_each_request_to_the_storage_server() {
    killed_at_each_step(true).await;
}

#[tokio::test]
async fn an_abort_can_be_repeated_and_leaves_nothing() {
    for served in [false, true] {
        for k in 0..6 {
            let world = World::new().await;
            let (_proxy, others) = world.fresh().await;
            let (id, parts) = begin(&world.s3, &LENGTHS).await;
            world.store.dies_at(k, served);
            world.s3.abort(OBJECT, &id).await;
            world.store.honest();
            let again = others.abort(OBJECT, &id).await;
            assert!(again.status == 204 || again.code() == "NoSuchUpload", "{again:?}");
            assert!(world.store.uploads().is_empty());
            others.complete(OBJECT, &id, &parts).await.fails(404, "NoSuchUpload");
            others.get(BUCKET, KEY).await.fails(404, "NoSuchKey");
        }
    }
}

fn state(world: &World) -> usize {
    world.store.keys(STATE).iter().filter(|key| key.starts_with("upload/")).count()
}

#[tokio::test]
async fn an_abort_clears_up_after_one_that_was_killed() {
    let world = World::new().await;
    let (id, _) = begin(&world.s3, &LENGTHS).await;
    world.store.uploads().clear();
    world.s3.abort(OBJECT, &id).await.fails(404, "NoSuchUpload");
    assert_eq!(state(&world), 0);
}

#[tokio::test]
async fn an_abort_touches_no_other_keys_upload() {
    let world = World::new().await;
    let (id, parts) = begin(&world.s3, &LENGTHS).await;
    let before = state(&world);
    // Some servers look at the id alone.
    world.store.before(|seen| is_abort(seen).then(|| Instead::Answer(Reply::xml(204, ""))));
    world.s3.abort((BUCKET, "another/object"), &id).await.fails(404, "NoSuchUpload");
    world.store.honest();
    assert_eq!(state(&world), before);
    world.s3.complete(OBJECT, &id, &parts).await.ok();
}

#[tokio::test]
async fn an_abort_touches_no_other_buckets_upload() {
    let world = World::new().await;
    world.store.create("others");
    let (id, parts) = begin(&world.s3, &LENGTHS).await;
    let before = state(&world);
    // Some servers look at the id alone.
    world.store.before(|seen| is_abort(seen).then(|| Instead::Answer(Reply::xml(204, ""))));
    let (_, key) = OBJECT;
    world.store.take_log();
    for key in [key, "another/object"] {
        world.s3.abort(("others", key), &id).await.fails(404, "NoSuchUpload");
    }
    world.store.honest();
    assert!(!world.store.take_log().iter().any(is_abort), "the storage server was asked to abort it");
    assert_eq!(state(&world), before);
    world.s3.complete(OBJECT, &id, &parts).await.ok();
}

#[tokio::test]
async fn an_upload_without_a_record_is_aborted_where_it_is_listed() {
    let world = World::new().await;
    let (_, key) = OBJECT;
    let under_way = |key: &str| world.store.uploads().values().filter(|upload| upload.key == key).count();
    // As of a proxy that ended before it wrote the record; among so many others that the storage server lists them in pages.
    let name = format!("{key} and more");
    for _ in 0..1_001 {
        world.store.begin_upload(BUCKET, key, http::HeaderMap::new());
    }
    let id = world.store.begin_upload(BUCKET, &name, http::HeaderMap::new());
    assert_eq!((under_way(key), under_way(&name)), (1_001, 1));
    world.s3.abort(OBJECT, &id).await.fails(404, "NoSuchUpload");
    world.s3.abort((BUCKET, &name), &id).await.ok();
    assert_eq!((under_way(key), under_way(&name)), (1_001, 0));
    world.s3.abort((BUCKET, &name), &id).await.fails(404, "NoSuchUpload");
}

#[tokio::test]
async fn what_cannot_be_read_is_not_said_to_be_gone() {
    let world = World::new().await;
    let (id, parts) = begin(&world.s3, &LENGTHS).await;
    world.s3.complete(OBJECT, &id, &parts).await.ok();
    world.store.before(|seen| {
        let read = seen.is(http::Method::GET, KEY) && !seen.has("uploadId");
        read.then(|| Instead::Answer(Reply::error(403, "AccessDenied")))
    });
    world.s3.complete(OBJECT, &id, &parts).await.fails(403, "AccessDenied");
    world.store.honest();
    world.s3.complete(OBJECT, &id, &parts).await.ok();
    let promise = world.s3.ask_complete(OBJECT, &id, &parts).header("x-amz-mp-object-size", "7");
    promise.send().await.fails(400, "InvalidRequest");
}

#[tokio::test]
async fn two_clients_complete_the_same_upload() {
    let world = World::new().await;
    let (_proxy, other) = world.fresh().await;
    for _ in 0..8 {
        let (id, parts) = begin(&world.s3, &LENGTHS).await;
        let (one, two, three) = tokio::join!(
            world.s3.complete(OBJECT, &id, &parts),
            other.complete(OBJECT, &id, &parts),
            world.s3.complete(OBJECT, &id, &parts)
        );
        let etags = [one, two, three].map(|answer| answer.ok().leaf("ETag"));
        assert!(etags.iter().all(|etag| *etag == etags[0]), "{etags:?}");
        assert_object(&other, &whole(&LENGTHS)).await;
    }
}

#[tokio::test]
async fn two_clients_complete_it_with_different_lists() {
    let world = World::new().await;
    let (_proxy, other) = world.fresh().await;
    for _ in 0..8 {
        let (id, parts) = begin(&world.s3, &[(1, PART), (2, 100), (3, 50)]).await;
        let [first, second, third] = [0, 1, 2].map(|at: usize| parts[at].clone());
        let lists = [vec![first.clone(), second], vec![first, third]];
        let (one, two) =
            tokio::join!(world.s3.complete(OBJECT, &id, &lists[0]), other.complete(OBJECT, &id, &lists[1]));
        let bodies = [whole(&[(1, PART), (2, 100)]), whole(&[(1, PART), (3, 50)])];
        let got = other.get(BUCKET, KEY).await.ok().body;
        let winner = bodies.iter().position(|body| *body == got).expect("one of the two, whole");
        for (at, answer) in [one, two].into_iter().enumerate() {
            if at == winner {
                answer.ok();
            } else {
                assert!(["NoSuchUpload", "InvalidPart"].contains(&answer.code().as_str()), "{answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_of_200_that_carries_an_error_is_one() {
    let world = World::new().await;
    let (id, parts) = begin(&world.s3, &LENGTHS).await;
    world.store.before(|seen| {
        let document = "   \n<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>later</Message></Error>";
        let complete = seen.method == http::Method::POST && seen.has("uploadId");
        complete.then(|| Instead::Answer(Reply::xml(200, document)))
    });
    world.s3.complete(OBJECT, &id, &parts).await.fails(503, "SlowDown");
    for nonsense in ["", "<CopyObjectResult><ETag>x</ETag></CopyObjectResult>", "gone fishing"] {
        world.store.before(move |seen| {
            let complete = seen.method == http::Method::POST && seen.has("uploadId");
            complete.then(|| Instead::Answer(Reply::xml(200, nonsense)))
        });
        world.s3.complete(OBJECT, &id, &parts).await.fails(500, "InternalError");
    }
    world.store.honest();
    world.s3.complete(OBJECT, &id, &parts).await.ok();
    assert_object(&world.s3, &whole(&LENGTHS)).await;
}

//! A storage server that copies something else, or nothing, or under a race: what is reported as copied is the source, and
//! what is not does not read as anything else.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;

use super::{BUCKET, copy, put_described, setup, world};
use crate::harness::store::{Instead, Store, Stored};
use crate::harness::{Reply, Seen, Setup, World, noise};

const SIZE: usize = 100_000;

fn is_copy(seen: &Seen) -> bool {
    seen.method == Method::PUT && seen.header("x-amz-copy-source").is_some()
}

/// Several objects that were written to `from` one after the other, of one size; the first is there.
async fn generations(world: &World, count: u64) -> Vec<Stored> {
    let mut stored = Vec::new();
    for seed in 1..=count {
        put_described(&world.s3, "from", noise(SIZE, seed)).await;
        stored.push(world.store.object(BUCKET, "from").expect("stored"));
    }
    world.store.plant(BUCKET, "from", stored[0].clone());
    stored
}

/// The source becomes the next generation before each of the first `times` copies.
fn overwrite_before_copies(store: &Store, generations: Vec<Stored>, times: usize) {
    let (copies, inside) = (AtomicUsize::new(0), store.clone());
    store.before(move |seen| {
        if is_copy(seen) {
            let number = copies.fetch_add(1, Ordering::SeqCst) + 1;
            if number <= times {
                inside.plant(BUCKET, "from", generations[number].clone());
            }
        }
        None
    });
}

#[tokio::test]
async fn a_source_that_is_overwritten_meanwhile_is_copied_as_it_is_then() {
    for ignores in [false, true] {
        let world = world(setup()).await;
        world.store.quirks().ignores_copy_conditions = ignores;
        let stored = generations(&world, 4).await;
        overwrite_before_copies(&world.store, stored, 1);
        copy(&world.s3, "records/from", BUCKET, "to").await.ok();
        assert!(world.s3.get(BUCKET, "to").await.ok().body == noise(SIZE, 2), "ignores: {ignores}");
    }
}

#[tokio::test]
async fn the_same_under_a_condition_on_the_destination() {
    let world = world(setup()).await;
    world.store.quirks().ignores_copy_conditions = true;
    let stored = generations(&world, 4).await;
    overwrite_before_copies(&world.store, stored, 1);
    let ask = super::ask(&world.s3, "records/from", BUCKET, "to").header("if-none-match", "*");
    ask.send().await.ok();
    assert!(world.s3.get(BUCKET, "to").await.ok().body == noise(SIZE, 2));
}

#[tokio::test]
async fn a_source_that_is_overwritten_each_time_is_not_copied() {
    for (ignores, status, code) in [(false, 503, "ServiceUnavailable"), (true, 500, "InternalError")] {
        let world = world(setup()).await;
        world.store.quirks().ignores_copy_conditions = ignores;
        let stored = generations(&world, 6).await;
        overwrite_before_copies(&world.store, stored, 5);
        copy(&world.s3, "records/from", BUCKET, "to").await.fails(status, code);
        let read = world.s3.get(BUCKET, "to").await;
        assert!(read.status == if ignores { 403 } else { 404 } || read.cut, "{read:?}");
    }
}

#[tokio::test]
async fn an_object_that_is_overwritten_while_it_is_copied_onto_itself_is_not_lost() {
    for ignores in [false, true] {
        let world = world(setup()).await;
        world.store.quirks().ignores_copy_conditions = ignores;
        let stored = generations(&world, 2).await;
        let (writes, inside) = (AtomicUsize::new(0), world.store.clone());
        world.store.before(move |seen| {
            if seen.is(Method::PUT, "from") && writes.fetch_add(1, Ordering::SeqCst) == 0 {
                inside.plant(BUCKET, "from", stored[1].clone());
            }
            None
        });
        let ask = super::ask(&world.s3, "records/from", BUCKET, "from").header("x-amz-metadata-directive", "REPLACE");
        ask.send().await.ok();
        let read = world.s3.get(BUCKET, "from").await.ok();
        // Either order will do, but not a mixture.
        assert!(read.body == noise(SIZE, if ignores { 1 } else { 2 }), "ignores: {ignores}");
        let copied = world.store.take_log().iter().any(is_copy);
        assert_eq!(copied, !ignores);
    }
}

#[tokio::test]
async fn the_same_through_the_proxy() {
    let world = world(Setup { copies: (false, 0), ..setup() }).await;
    let stored = generations(&world, 6).await;
    let (reads, inside) = (AtomicUsize::new(0), world.store.clone());
    world.store.before(move |seen| {
        // Between the end and the rest.
        if seen.is(Method::GET, "from") && seen.header("range").is_some_and(|range| range.starts_with("bytes=0-")) {
            let number = reads.fetch_add(1, Ordering::SeqCst) + 1;
            if number == 1 {
                inside.plant(BUCKET, "from", stored[1].clone());
            }
        }
        None
    });
    copy(&world.s3, "records/from", BUCKET, "to").await.ok();
    assert!(world.s3.get(BUCKET, "to").await.ok().body == noise(SIZE, 2));
}

/// What the server makes of a copy.
type Lie = fn(&mut Stored, &Stored, &Stored);

#[tokio::test]
async fn what_is_not_the_source_is_not_reported_as_copied() {
    let lies: [(&str, Lie, u16, &str); 6] = [
        ("another object's body", |made, _, donor| made.body = donor.body.clone(), 500, "InternalError"),
        ("another object", |made, _, donor| *made = donor.clone(), 503, "ServiceUnavailable"),
        ("the source's envelope", |made, source, _| made.headers = source.headers.clone(), 503, "ServiceUnavailable"),
        ("half of it", |made, _, _| made.body = made.body.slice(..made.body.len() / 2), 500, "InternalError"),
        ("nothing of it", |made, _, _| made.body = Default::default(), 503, "ServiceUnavailable"),
        ("another tail", |made, _, donor| made.body = with_tail_of(made, donor), 500, "InternalError"),
    ];
    for (what, lie, status, code) in lies {
        let world = world(setup()).await;
        put_described(&world.s3, "from", noise(SIZE, 1)).await;
        put_described(&world.s3, "donor", noise(SIZE, 2)).await;
        let inside = world.store.clone();
        world.store.after(move |seen, _| {
            if is_copy(seen) {
                let other = |key| inside.object(BUCKET, key).expect("stored");
                let (source, donor) = (other("from"), other("donor"));
                inside.tamper(BUCKET, "to", |made| lie(made, &source, &donor));
            }
        });
        let answer = copy(&world.s3, "records/from", BUCKET, "to").await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {answer:?}");
        let read = world.s3.get(BUCKET, "to").await;
        assert!(read.status >= 400 || read.cut, "{what}: {read:?}");
        assert!(world.s3.get(BUCKET, "from").await.ok().body == noise(SIZE, 1), "{what}");
    }
}

fn with_tail_of(made: &Stored, donor: &Stored) -> bytes::Bytes {
    let at = made.body.len() - 200;
    [&made.body[..at], &donor.body[at..]].concat().into()
}

#[tokio::test]
async fn a_body_that_was_swapped_under_the_right_tail_is_noticed_by_who_reads() {
    let world = world(setup()).await;
    put_described(&world.s3, "from", noise(SIZE, 1)).await;
    let inside = world.store.clone();
    world.store.after(move |seen, _| {
        if is_copy(seen) {
            inside.tamper(BUCKET, "to", |made| {
                let mut body = made.body.to_vec();
                body[500] ^= 1;
                made.body = body.into();
            });
        }
    });
    copy(&world.s3, "records/from", BUCKET, "to").await.ok();
    let read = world.s3.get(BUCKET, "to").await;
    assert!(read.status == 403 || read.cut, "{read:?}");
}

#[tokio::test]
async fn the_wrong_version_is_not_reported_as_copied() {
    let world = world(setup()).await;
    world.store.keep_versions(BUCKET);
    let old = put_described(&world.s3, "from", noise(SIZE, 1)).await.header("x-amz-version-id").to_owned();
    put_described(&world.s3, "from", noise(SIZE, 2)).await;
    let inside = world.store.clone();
    world.store.after(move |seen, _| {
        if is_copy(seen) {
            let newest = inside.object(BUCKET, "from").expect("stored");
            inside.tamper(BUCKET, "to", |made| made.body = newest.body);
        }
    });
    let source = format!("records/from?versionId={old}");
    copy(&world.s3, &source, BUCKET, "to").await.fails(500, "InternalError");
}

#[tokio::test]
async fn success_without_a_copy_is_none() {
    let done = "<CopyObjectResult><ETag>\"x\"</ETag></CopyObjectResult>";
    let late = "  \n<?xml version=\"1.0\"?>\n<Error><Code>SlowDown</Code><Message>late</Message></Error>";
    for (document, status, code) in [
        (done, 503, "ServiceUnavailable"),
        (late, 503, "SlowDown"),
        ("<Error><Code>AccessDenied</Code></Error>", 403, "AccessDenied"),
        ("", 500, "InternalError"),
        ("<CopyPartResult><ETag>x</ETag></CopyPartResult>", 500, "InternalError"),
        ("<CopyObjectResult><ETag>x", 500, "InternalError"),
        ("anything", 500, "InternalError"),
    ] {
        for there in [false, true] {
            let world = world(setup()).await;
            put_described(&world.s3, "from", noise(SIZE, 1)).await;
            if there {
                put_described(&world.s3, "to", noise(SIZE, 2)).await;
            }
            world.store.before(move |seen| is_copy(seen).then(|| Instead::Answer(Reply::xml(200, document))));
            let answer = copy(&world.s3, "records/from", BUCKET, "to").await;
            assert_eq!((answer.status, answer.code().as_str()), (status, code), "{document}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_refused_copy_is_refused_with_the_servers_own_words() {
    let world = world(setup()).await;
    put_described(&world.s3, "from", noise(SIZE, 1)).await;
    world.store.before(|seen| is_copy(seen).then(|| Instead::Answer(Reply::error(403, "AccessDenied"))));
    copy(&world.s3, "records/from", BUCKET, "to").await.fails(403, "AccessDenied");
    copy(&world.s3, "records/nothing", BUCKET, "to").await.fails(404, "NoSuchKey");
}

#[tokio::test]
async fn a_source_that_is_not_authentic_is_not_copied() {
    for copies in [true, false] {
        let world = world(Setup { copies: (copies, 5 << 30), ..setup() }).await;
        put_described(&world.s3, "from", noise(SIZE, 1)).await;
        world.store.tamper(BUCKET, "from", |stored| {
            let mut body = stored.body.to_vec();
            let last = body.len() - 1;
            body[last] ^= 1;
            stored.body = body.into();
        });
        copy(&world.s3, "records/from", BUCKET, "to").await.fails(403, "InvalidObjectState");
        assert!(world.store.object(BUCKET, "to").is_none());
    }
    // In the middle, only who reads it through sees it: then nothing is committed.
    let world = world(Setup { copies: (false, 5 << 30), ..setup() }).await;
    put_described(&world.s3, "from", noise(SIZE, 1)).await;
    world.store.tamper(BUCKET, "from", |stored| {
        let mut body = stored.body.to_vec();
        body[70_000] ^= 1;
        stored.body = body.into();
    });
    copy(&world.s3, "records/from", BUCKET, "to").await.fails(403, "InvalidObjectState");
    assert!(world.store.object(BUCKET, "to").is_none());
}

#[tokio::test]
async fn a_condition_stays_where_nobody_knows_what_was_left() {
    let world = world(setup()).await;
    put_described(&world.s3, "from", noise(SIZE, 1)).await;
    let inside = world.store.clone();
    world.store.after(move |seen, _| {
        if is_copy(seen) {
            inside.tamper(BUCKET, "to", |made| made.body = Default::default());
        }
    });
    world.store.take_log();
    let ask = super::ask(&world.s3, "records/from", BUCKET, "to").header("if-none-match", "*");
    ask.send().await.fails(412, "PreconditionFailed");
    let log = world.store.take_log();
    let copies: Vec<&Seen> = log.iter().filter(|seen| is_copy(seen)).collect();
    assert!(copies.len() > 1 && copies.iter().all(|seen| seen.header("if-none-match") == Some("*")), "{copies:?}");
}

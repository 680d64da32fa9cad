//! What is stored stays as it is; the answers about it lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, StatusCode};

use super::{RANGES, Verdicts, prepare, read_all};
use crate::harness::verdict::Verdict::{Refused, Right};
use crate::harness::verdict::judge;
use crate::harness::{Answer, BUCKET, Ending, Reply, S3, Seen, World, noise};

const SIZES: [usize; 2] = [1000, 200_000];

type Lie = fn(&Seen, &mut Reply);
type Read = fn(S3) -> BoxFuture<'static, Answer>;

fn shift_range(reply: &mut Reply, by: i64) {
    edit_range(reply, |first, last, size| (first + by, last + by, size));
}

fn edit_range(reply: &mut Reply, edit: impl FnOnce(i64, i64, i64) -> (i64, i64, i64)) {
    let Some(range) = reply.headers.get("content-range") else { return };
    let numbers: Vec<i64> = range
        .to_str()
        .expect("ASCII")
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    let (first, last, size) = edit(numbers[0], numbers[1], numbers[2]);
    reply.set("content-range", &format!("bytes {first}-{last}/{size}"));
}

fn edit_body(reply: &mut Reply, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut body = reply.body.to_vec();
    edit(&mut body);
    reply.body = body.into();
    reply.set("content-length", &reply.body.len().to_string());
}

/// Name, lie, and whether a whole read can still be right.
const LIES: &[(&str, Lie, bool)] = &[
    (
        "the last byte of each answer is missing",
        |_, r| edit_body(r, |body| body.truncate(body.len().max(1) - 1)),
        false,
    ),
    ("each answer has a byte more", |_, r| edit_body(r, |body| body.push(7)), false),
    ("Content-Length is too large", |_, r| r.set("content-length", &(r.body.len() + 1).to_string()), false),
    ("Content-Length is too small", |_, r| r.set("content-length", &(r.body.len().max(1) - 1).to_string()), false),
    ("Content-Length is zero", |_, r| r.set("content-length", "0"), false),
    ("no Content-Length", |_, r| chunked(r), false),
    ("the range is another than asked for", |_, r| shift_range(r, -1), true),
    ("the size in Content-Range is too large", |_, r| edit_range(r, |f, l, s| (f, l, s + 1)), true),
    ("the size in Content-Range is too small", |_, r| edit_range(r, |f, l, s| (f, l, s - 1)), true),
    ("the size in Content-Range is absurd", |_, r| edit_range(r, |f, l, _| (f, l, i64::MAX)), true),
    ("Content-Range ends early", |_, r| edit_range(r, |f, l, s| (f, l - 1, s)), true),
    ("Content-Range is junk", |_, r| replace_range(r, "bytes a-b/c"), true),
    ("Content-Range is missing", |_, r| drop(r.headers.remove("content-range")), true),
    ("200 with the piece in place of 206", |_, r| r.status = StatusCode::OK, true),
    ("206 for everything", |_, r| r.status = StatusCode::PARTIAL_CONTENT, false),
    ("204", |_, r| r.status = StatusCode::NO_CONTENT, false),
    ("202", |_, r| r.status = StatusCode::ACCEPTED, false),
    ("304 to nobody who asked", |_, r| r.status = StatusCode::NOT_MODIFIED, false),
    ("416", |_, r| r.status = StatusCode::RANGE_NOT_SATISFIABLE, false),
    ("a redirection", redirect, false),
    ("hanging up in the middle", |_, r| r.ending = Ending::HangUpAfter(r.body.len() / 2), false),
    ("hanging up before the last byte", |_, r| r.ending = Ending::HangUpAfter(r.body.len().max(1) - 1), false),
    ("an XML page with 200", |_, r| *r = Reply::xml(200, "<ListBucketResult/>"), false),
    ("an error page with 200", |_, r| *r = Reply { status: StatusCode::OK, ..Reply::error(500, "Oops") }, false),
    ("two envelopes", |_, r| two_envelopes(r), false),
    ("another compression", |_, r| r.set("content-encoding", "gzip"), true),
    ("a whole multipart answer", |_, r| r.set("content-type", "multipart/byteranges; boundary=x"), true),
    ("another ETag", |_, r| r.set("etag", "\"ffffffffffffffffffffffffffffffff\""), true),
];

fn chunked(reply: &mut Reply) {
    reply.headers.remove("content-length");
    reply.set("transfer-encoding", "chunked");
    // The harness would say the length of a body that it has.
    reply.ending = Ending::Whole;
}

fn replace_range(reply: &mut Reply, value: &str) {
    if reply.headers.contains_key("content-range") {
        reply.set("content-range", value);
    }
}

fn redirect(_: &Seen, reply: &mut Reply) {
    *reply = Reply::new(307, "").header("location", "http://127.0.0.1:1/elsewhere");
}

fn two_envelopes(reply: &mut Reply) {
    let name = HeaderName::from_static("x-amz-meta-claviger");
    reply.headers.append(name, HeaderValue::from_static("AAAA"));
}

async fn try_all(size: usize) {
    let world = World::new().await;
    let body = prepare(&world, "victim", size).await;
    for (what, lie, may_be_right) in LIES {
        world.store.after(|seen, reply| {
            if seen.key == "victim" {
                lie(seen, reply);
            }
        });
        let Verdicts { whole, .. } = read_all(what, &world, &world.s3, "victim", &body).await;
        assert!(*may_be_right || !whole.contains(&Right), "{what}, {size} bytes: {whole:?}");
        world.store.honest();
        let healed = world.s3.get_range(BUCKET, "victim", "bytes=0-9").await.ok();
        assert!(*healed.body == body[..10], "{what} left something behind");
    }
}

#[tokio::test]
async fn about_an_object_handled_in_memory() {
    try_all(SIZES[0]).await;
}

#[tokio::test]
async fn about_an_object_of_several_segments() {
    try_all(SIZES[1]).await;
}

#[tokio::test]
async fn the_whole_object_in_answer_to_a_range_is_right_or_refused() {
    let world = World::new().await;
    for size in SIZES {
        let body = prepare(&world, "victim", size).await;
        let stored = world.store.object(BUCKET, "victim").expect("stored");
        world.store.after(move |seen, reply| {
            if seen.key == "victim" {
                reply.status = StatusCode::OK;
                reply.headers.remove("content-range");
                reply.body = stored.body.clone();
                reply.set("content-length", &reply.body.len().to_string());
            }
        });
        let Verdicts { whole, .. } = read_all("ranges ignored", &world, &world.s3, "victim", &body).await;
        assert_eq!(whole, [Right, Right], "who ignores ranges still has whole objects");
        world.store.honest();
    }
}

#[tokio::test]
async fn another_object_in_answer_to_the_second_request_under_the_same_etag() {
    // Larger than what the first request fetches.
    for size in [400_000, 1 << 20] {
        let world = World::new().await;
        world.s3.put(BUCKET, "victim", noise(size, 1)).await.ok();
        let other = world.store.object(BUCKET, "victim").expect("stored");
        let body = noise(size, 2);
        world.s3.put(BUCKET, "victim", body.clone()).await.ok();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        world.store.after(move |seen, reply| {
            if seen.key != "victim" || counted.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                return;
            }
            let from = seen.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
            let Some((Ok(first), Ok(last))) = from.map(|(f, l)| (f.parse::<usize>(), l.parse::<usize>())) else {
                return;
            };
            reply.body = other.body.slice(first..last + 1);
            reply.headers.extend(other.headers.clone());
        });
        let (_proxy, cold) = world.fresh().await;
        let answer = cold.get_range(BUCKET, "victim", "bytes=0-99").await;
        assert_eq!(judge("another object", &answer, &body[..100]), Refused);
        assert_eq!(count.load(Ordering::SeqCst), 2, "it is no overwriting, so it is not tried again");
    }
}

#[tokio::test]
async fn another_object_in_a_later_request_under_the_etag_of_an_earlier_one() {
    let reads: [(&str, Read); 3] = [
        ("whole", |s3| Box::pin(async move { s3.get(BUCKET, "object").await })),
        ("range", |s3| Box::pin(async move { s3.get_range(BUCKET, "object", "bytes=0-99").await })),
        ("head", |s3| Box::pin(async move { s3.head(BUCKET, "object").await })),
    ];
    for size in [1000, 200_000] {
        for (what, read) in reads {
            let world = World::new().await;
            world.s3.put(BUCKET, "object", noise(size, 1)).await.ok();
            world.s3.get_range(BUCKET, "object", "bytes=0-9").await.ok();
            let etag = world.store.object(BUCKET, "object").expect("stored").etag;
            // Another proxy writes a later version, and the storage server gives it out under the ETag of the first.
            let (_proxy, other) = world.fresh().await;
            other.put(BUCKET, "object", noise(size, 2)).await.ok();
            read(other.clone()).await.ok();
            world.store.tamper(BUCKET, "object", |stored| stored.etag = etag);
            let answer = read(world.s3.clone()).await;
            assert_eq!(answer.status, 403, "{what} of {size}: {answer:?}");
            // To whoever saw neither, it is a good object.
            let (_proxy, cold) = world.fresh().await;
            read(cold).await.ok();
        }
    }
}

#[tokio::test]
async fn overwriting_between_two_requests_gives_the_old_or_the_new_object() {
    let world = World::new().await;
    let (old, new) = (noise(600_000, 1), noise(600_000, 2));
    world.s3.put(BUCKET, "victim", new.clone()).await.ok();
    let second = world.store.object(BUCKET, "victim").expect("stored");
    for (size, other) in [(600_000, second.clone()), (300_000, second)] {
        let old = old.slice(..size);
        world.s3.put(BUCKET, "victim", old.clone()).await.ok();
        for range in RANGES {
            let first = world.store.object(BUCKET, "victim").expect("stored");
            let (store, other) = (world.store.clone(), other.clone());
            // The new object arrives as soon as the first answer has left.
            world.store.after(move |seen, _| {
                if seen.key == "victim" {
                    store.plant(BUCKET, "victim", other.clone());
                }
            });
            let (_proxy, cold) = world.fresh().await;
            let answer = cold.get_range(BUCKET, "victim", range.0).await.ok();
            let choices = [super::slice_of(range, &old), super::slice_of(range, &new)];
            assert!(choices.contains(&answer.body), "{size} {}: a mixture", range.0);
            world.store.honest();
            world.store.plant(BUCKET, "victim", first);
        }
    }
}

#[tokio::test]
async fn an_object_that_is_overwritten_all_the_time_is_an_error_and_not_a_loop() {
    let world = World::new().await;
    let mut versions = Vec::new();
    for seed in 0..8 {
        world.s3.put(BUCKET, "victim", noise(300_000, seed)).await.ok();
        versions.push(world.store.object(BUCKET, "victim").expect("stored"));
    }
    let count = Arc::new(AtomicUsize::new(0));
    let (counted, store) = (Arc::clone(&count), world.store.clone());
    world.store.after(move |seen, _| {
        if seen.key == "victim" {
            let next = counted.fetch_add(1, Ordering::SeqCst) % versions.len();
            store.plant(BUCKET, "victim", versions[next].clone());
        }
    });
    let (_proxy, cold) = world.fresh().await;
    // Nobody tampered: it may be tried again, and is no alarm.
    cold.get_range(BUCKET, "victim", "bytes=0-9").await.fails(503, "ServiceUnavailable");
    assert!(count.load(Ordering::SeqCst) <= 8, "{count:?}");
}

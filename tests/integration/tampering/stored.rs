//! What is stored is altered; the server then serves it honestly, under the old ETag.

use bytes::Bytes;
use claviger::format::size;
use http::HeaderValue;

use super::{Verdicts, prepare, read_all};
use crate::harness::store::Stored;
use crate::harness::verdict::Verdict::Right;
use crate::harness::{BUCKET, World, noise};

/// Small (handled in memory), a few segments, and a size above the least of a multipart part.
const SIZES: [usize; 3] = [1000, 200_000, (5 << 20) + 70_000];

/// A sealed segment, 12 bytes of nonce and 16 of tag included.
const SEALED: usize = 65_536 + 28;

type Change = fn(&mut Stored, &Others);

/// What else the operator has.
struct Others {
    /// Another object of the same size, in the same bucket.
    donor: Stored,
    /// An earlier object under the same key, of the same size.
    earlier: Stored,
}

fn edit(stored: &mut Stored, change: impl FnOnce(&mut Vec<u8>)) {
    let mut body = stored.body.to_vec();
    change(&mut body);
    stored.body = body.into();
}

fn flip(stored: &mut Stored, at: usize) {
    edit(stored, |body| body[at] ^= 1);
}

fn set_envelope(stored: &mut Stored, text: &str) {
    stored.headers.insert("x-amz-meta-claviger", HeaderValue::from_str(text).expect("a header value"));
}

fn cut_envelope(stored: &mut Stored) {
    let short = stored.envelope()[..80].to_owned();
    set_envelope(stored, &short);
}

fn flip_envelope(stored: &mut Stored, at: usize) {
    let mut text = stored.envelope().as_bytes().to_vec();
    let at = at.min(text.len() - 2);
    text[at] = if text[at] == b'A' { b'B' } else { b'A' };
    set_envelope(stored, std::str::from_utf8(&text).expect("ASCII"));
}

/// Which reads have to notice a change. Whole ones always do.
#[derive(Clone, Copy, PartialEq)]
enum Noticed {
    /// All.
    Everywhere,
    /// All but ranges of objects whose layout is known: they do not look at the footer again.
    UnlessKnown,
    /// Those that touch what was changed.
    WhereItIs,
}
use Noticed::{Everywhere, UnlessKnown, WhereItIs};

const CHANGES: &[(&str, Change, Noticed)] = &[
    ("first byte flipped", |s, _| flip(s, 0), WhereItIs),
    ("a byte of ciphertext flipped", |s, _| flip(s, 500), WhereItIs),
    ("a byte of the first tag flipped", |s, _| flip(s, (s.body.len() - 1).min(SEALED - 1)), WhereItIs),
    ("a byte in the middle flipped", |s, _| flip(s, s.body.len() / 2), WhereItIs),
    ("a byte before the tail flipped", |s, _| flip(s, s.body.len() - 201), WhereItIs),
    ("first byte of the tail flipped", |s, _| flip(s, s.body.len() - 200), UnlessKnown),
    ("last byte flipped", |s, _| flip(s, s.body.len() - 1), UnlessKnown),
    ("cut by a byte", |s, _| edit(s, |body| body.truncate(body.len() - 1)), WhereItIs),
    ("cut by a segment", |s, _| edit(s, |body| body.truncate(body.len().saturating_sub(SEALED))), WhereItIs),
    ("cut in half", |s, _| edit(s, |body| body.truncate(body.len() / 2)), WhereItIs),
    ("cut to nothing", |s, _| s.body = Bytes::new(), Everywhere),
    ("cut to a legal size", |s, _| edit(s, |body| body.truncate(size::stored(500) as usize)), Everywhere),
    ("extended by a byte", |s, _| edit(s, |body| body.push(0)), Everywhere),
    ("extended by itself", |s, _| edit(s, |body| body.extend_from_within(..)), WhereItIs),
    ("doubled tail", |s, _| edit(s, |body| body.extend_from_within(body.len() - 200..)), Everywhere),
    ("body of another object", |s, o| s.body = o.donor.body.clone(), Everywhere),
    ("envelope of another object", |s, o| set_envelope(s, o.donor.envelope()), Everywhere),
    ("another object", |s, o| *s = Stored { etag: s.etag.clone(), ..o.donor.clone() }, Everywhere),
    ("body of an earlier object of this key", |s, o| s.body = o.earlier.body.clone(), Everywhere),
    ("envelope of an earlier object of this key", |s, o| set_envelope(s, o.earlier.envelope()), Everywhere),
    ("tail of another object", |s, o| edit(s, |body| splice_end(body, &o.donor.body, 200)), UnlessKnown),
    ("footer of an earlier object", |s, o| edit(s, |body| splice_end(body, &o.earlier.body, 256)), UnlessKnown),
    ("first segment of another object", |s, o| edit(s, |body| splice(body, &o.donor.body, 0, SEALED)), WhereItIs),
    ("first segment of an earlier object", |s, o| edit(s, |body| splice(body, &o.earlier.body, 0, SEALED)), WhereItIs),
    ("first and second segment swapped", |s, _| edit(s, |body| swap_segments(body)), WhereItIs),
    ("second segment in place of the first", |s, _| edit(s, |body| repeat_segment(body)), WhereItIs),
    ("zeros", |s, _| edit(s, |body| body.fill(0)), Everywhere),
    ("plaintext planted", |s, _| plant(s, true), Everywhere),
    ("plaintext planted beside the envelope", |s, _| plant(s, false), Everywhere),
    ("no envelope", |s, _| drop(s.headers.remove("x-amz-meta-claviger")), Everywhere),
    ("empty envelope", |s, _| set_envelope(s, ""), Everywhere),
    ("garbage for an envelope", |s, _| set_envelope(s, "AAAA"), Everywhere),
    ("envelope cut", |s, _| cut_envelope(s), Everywhere),
    ("start of the envelope flipped", |s, _| flip_envelope(s, 3), Everywhere),
    ("envelope flipped at 40", |s, _| flip_envelope(s, 40), Everywhere),
    ("envelope flipped at 200", |s, _| flip_envelope(s, 200), Everywhere),
    ("envelope flipped at 300", |s, _| flip_envelope(s, 300), Everywhere),
    ("end of the envelope flipped", |s, _| flip_envelope(s, usize::MAX), Everywhere),
    ("two envelopes", two_envelopes, Everywhere),
];

fn splice(body: &mut [u8], other: &[u8], at: usize, length: usize) {
    let end = (at + length).min(body.len());
    body[at..end].copy_from_slice(&other[at..end]);
}

fn splice_end(body: &mut [u8], other: &[u8], length: usize) {
    splice(body, other, body.len() - length, length);
}

/// Objects of one segment are changed too, so that no read can find them right.
fn swap_segments(body: &mut [u8]) {
    if body.len() < 2 * SEALED {
        return body.reverse();
    }
    let first = body[..SEALED].to_vec();
    body.copy_within(SEALED..2 * SEALED, 0);
    body[SEALED..2 * SEALED].copy_from_slice(&first);
}

fn repeat_segment(body: &mut [u8]) {
    if body.len() < 2 * SEALED {
        return body.reverse();
    }
    body.copy_within(SEALED..2 * SEALED, 0);
}

fn plant(stored: &mut Stored, strip: bool) {
    stored.body = noise(stored.body.len(), 99);
    if strip {
        stored.headers.remove("x-amz-meta-claviger");
    }
}

fn two_envelopes(stored: &mut Stored, others: &Others) {
    let second = HeaderValue::from_str(others.donor.envelope()).expect("a header value");
    stored.headers.append("x-amz-meta-claviger", second);
}

/// An exception to "the whole object is never right": nothing was changed.
fn is_harmless(before: &Stored, after: &Stored) -> bool {
    before.body == after.body && before.headers == after.headers
}

async fn others(world: &World, key: &str, size: usize) -> Others {
    let stored = |key: &str| world.store.object(BUCKET, key).expect("stored");
    world.s3.put(BUCKET, key, noise(size, 77)).await.ok();
    let earlier = stored(key);
    world.s3.put(BUCKET, "donor", noise(size, 78)).await.ok();
    Others { donor: stored("donor"), earlier }
}

async fn try_all(size: usize) {
    let world = World::new().await;
    let others = others(&world, "victim", size).await;
    let body = prepare(&world, "victim", size).await;
    let original = world.store.object(BUCKET, "victim").expect("stored");
    for (what, change, noticed) in CHANGES {
        world.store.tamper(BUCKET, "victim", |stored| change(stored, &others));
        let changed = world.store.object(BUCKET, "victim").expect("stored");
        assert!(!is_harmless(&original, &changed), "{what} changes something");
        let Verdicts { whole, ranges, heads } = read_all(what, &world, &world.s3, "victim", &body).await;
        assert!(!whole.contains(&Right), "{what}, {size} bytes: a whole object passed");
        assert!(*noticed == WhereItIs || !heads.contains(&Right), "{what}, {size} bytes: {heads:?}");
        // Cold and warm by turns.
        let unnoticed = ranges.iter().step_by(if *noticed == UnlessKnown { 2 } else { 1 }).any(|one| *one == Right);
        assert!(*noticed == WhereItIs || !unnoticed, "{what}, {size} bytes: {ranges:?}");
        world.store.plant(BUCKET, "victim", original.clone());
        // Warm again for the next change, and none of the damage stays.
        let healed = world.s3.get_range(BUCKET, "victim", "bytes=0-9").await.ok();
        assert!(*healed.body == body[..10], "{what} left something behind");
    }
}

#[tokio::test]
async fn an_object_handled_in_memory() {
    try_all(SIZES[0]).await;
}

#[tokio::test]
async fn an_object_of_several_segments() {
    try_all(SIZES[1]).await;
}

#[tokio::test]
async fn an_object_with_padding() {
    try_all(SIZES[2]).await;
}

#[tokio::test]
async fn an_empty_object() {
    let world = World::new().await;
    world.s3.put(BUCKET, "full", noise(1000, 1)).await.ok();
    world.s3.ask(http::Method::PUT, BUCKET, "empty").header("x-amz-meta-owner", "me").send().await.ok();
    assert_eq!(world.s3.head(BUCKET, "empty").await.ok().header("x-amz-meta-owner"), "me");
    let [full, empty] = ["full", "empty"].map(|key| world.store.object(BUCKET, key).expect("stored"));
    let fillings = [full.body.clone(), noise(10, 1), noise(size::stored(1) as usize, 1)];
    for body in fillings {
        world.store.plant(BUCKET, "empty", Stored { body, ..empty.clone() });
        world.s3.get(BUCKET, "empty").await.fails(403, "InvalidObjectState");
        world.s3.get_range(BUCKET, "empty", "bytes=0-0").await.fails(403, "InvalidObjectState");
        world.s3.head(BUCKET, "empty").await.fails(403, "");
    }
    // An object that is not empty, made to look so.
    world.store.tamper(BUCKET, "full", |stored| stored.headers = empty.headers.clone());
    world.s3.get(BUCKET, "full").await.fails(403, "InvalidObjectState");
    world.store.plant(BUCKET, "full", Stored { body: Bytes::new(), ..full });
    world.s3.get(BUCKET, "full").await.fails(403, "InvalidObjectState");
    world.s3.get_range(BUCKET, "full", "bytes=0-0").await.fails(403, "InvalidObjectState");
    world.s3.head(BUCKET, "full").await.fails(403, "");
}

#[tokio::test]
async fn what_the_operator_is_known_to_be_able_to_do() {
    // A whole earlier version of the same object, envelope and body, is authentic: SECURITY.md says so.
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "old").await.ok();
    let old = world.store.object(BUCKET, "object").expect("stored");
    world.s3.put(BUCKET, "object", "new").await.ok();
    assert_eq!(world.s3.get(BUCKET, "object").await.ok().text(), "new");
    world.store.plant(BUCKET, "object", old);
    assert_eq!(world.s3.get(BUCKET, "object").await.ok().text(), "old");
    world.store.buckets().get_mut(BUCKET).expect("there").clear();
    world.s3.get(BUCKET, "object").await.fails(404, "NoSuchKey");
}

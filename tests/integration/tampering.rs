//! An operator who alters what he stores: every read notices, and no wrong byte passes.

mod answers;
mod stored;

use bytes::Bytes;

use crate::harness::verdict::{Verdict, judge};
use crate::harness::{BUCKET, S3, World, noise};

/// Ways to read, each with the plaintext it should give.
pub(super) const RANGES: [(&str, usize, usize); 3] =
    [("bytes=0-9", 0, 10), ("bytes=-7", 7, 0), ("bytes=400-699", 400, 700)];

/// The plaintext of a range of [`RANGES`].
pub(super) fn slice_of((_, from, to): (&str, usize, usize), body: &Bytes) -> Bytes {
    if to == 0 { body.slice(body.len() - from..) } else { body.slice(from..to) }
}

/// What came of all the reads of one tampered object.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    pub(super) whole: Vec<Verdict>,
    pub(super) ranges: Vec<Verdict>,
    pub(super) heads: Vec<Verdict>,
}

/// Reads in every way, and judges. `warm` had read the object before it was tampered with.
pub(super) async fn read_all(what: &str, world: &World, warm: &S3, key: &str, body: &Bytes) -> Verdicts {
    let mut verdicts = Verdicts::default();
    for range in RANGES {
        let expected = slice_of(range, body);
        let (_proxy, cold) = world.fresh().await;
        for (temperature, s3) in [("cold", &cold), ("warm", warm)] {
            let answer = s3.get_range(BUCKET, key, range.0).await;
            let what = format!("{what}, {} bytes, {temperature} {}", body.len(), range.0);
            let verdict = judge(&what, &answer, &expected);
            if verdict == Verdict::Right {
                assert_eq!(answer.status, 206, "{what}");
                assert!(answer.header("content-range").ends_with(&format!("/{}", body.len())), "{what}: {answer:?}");
            }
            verdicts.ranges.push(verdict);
        }
    }
    let (_proxy, cold) = world.fresh().await;
    for (temperature, s3) in [("cold", &cold), ("warm", warm)] {
        let what = format!("{what}, {} bytes, {temperature}", body.len());
        verdicts.whole.push(judge(&format!("{what} GET"), &s3.get(BUCKET, key).await, body));
        let head = s3.head(BUCKET, key).await;
        verdicts.heads.push(if head.status == 200 {
            assert_eq!(head.header("content-length"), body.len().to_string(), "{what} HEAD");
            assert_eq!(head.header("x-amz-meta-owner"), key, "{what} HEAD");
            Verdict::Right
        } else {
            assert!(head.status == 0 || head.status >= 400, "{what}: {head:?}");
            Verdict::Refused
        });
    }
    verdicts
}

/// Stores an object, reads it in every way (it must be right), and leaves `world.s3` knowing its layout.
pub(super) async fn prepare(world: &World, key: &str, size: usize) -> Bytes {
    let body = noise(size, key.len() as u64 * 1000 + size as u64);
    let ask = world.s3.ask(http::Method::PUT, BUCKET, key).body(body.clone()).header("x-amz-meta-owner", key);
    ask.send().await.ok();
    let verdicts = read_all("untampered", world, &world.s3, key, &body).await;
    let all = [verdicts.whole, verdicts.ranges, verdicts.heads].concat();
    assert!(all.iter().all(|verdict| *verdict == Verdict::Right), "untampered reads succeed");
    body
}

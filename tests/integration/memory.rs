//! Memory does not grow with the size of an object, nor with the number of requests.
//!
//! Measured in a process of its own, with nothing else in it: this test runs itself again.

use std::process::Command;

use bytes::Bytes;
use claviger::crypto::{Digest, DigestAlgorithm};
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use crate::harness::store::SPOOL;
use crate::harness::{BUCKET, World, noise};

const SIZE: usize = 256 << 20;
const PIECE: usize = 256 << 10;
const GROWTH_MAX_KIB: u64 = 64 << 10;

/// A value of /proc/self/status, in KiB.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("it is there");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn run_alone(test: &str) {
    let program = std::env::current_exe().expect("this program");
    let outcome = Command::new(program).args(["--exact", test, "--ignored", "--nocapture"]).output().expect("starts");
    let said = String::from_utf8_lossy(&outcome.stdout);
    assert!(
        outcome.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&outcome.stderr)
    );
}

#[test]
fn a_large_object_passes_in_little_memory() {
    run_alone("memory::alone::large_object");
}

#[test]
fn many_requests_leave_nothing_behind() {
    run_alone("memory::alone::many_requests");
}

fn piece(number: usize) -> Bytes {
    noise(PIECE, number as u64)
}

mod alone {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "runs in a process of its own, see above"]
    async fn large_object() {
        let world = World::new().await;
        world.store.create(SPOOL);
        // Whatever is set up once.
        world.s3.put(SPOOL, "warm", noise(1 << 20, 1)).await.ok();
        world.s3.get(SPOOL, "warm").await.ok();
        let before = status("VmRSS");

        let frames = futures_util::stream::iter((0..SIZE / PIECE).map(|number| Ok(Frame::data(piece(number)))));
        let body = StreamBody::new(frames).boxed_unsync();
        let ask = world.s3.ask(Method::PUT, SPOOL, "large").header("content-length", &SIZE.to_string());
        ask.stream(body).send().await.ok();

        let mut hash = Digest::new(DigestAlgorithm::Sha256);
        let answer = world.s3.ask(Method::GET, SPOOL, "large").send_each(|data| hash.update(&data)).await;
        assert_eq!((answer.status, answer.cut), (200, false));
        let mut expected = Digest::new(DigestAlgorithm::Sha256);
        (0..SIZE / PIECE).for_each(|number| expected.update(&piece(number)));
        assert_eq!(hash.finish(), expected.finish());

        let growth = status("VmHWM").saturating_sub(before);
        assert!(growth < GROWTH_MAX_KIB, "the process grew by {growth} KiB at its peak");
    }

    #[tokio::test]
    #[ignore = "runs in a process of its own, see above"]
    async fn many_requests() {
        let world = World::new().await;
        let round = async |from: usize| {
            for number in from..from + 1000 {
                let key = format!("key-{}", number % 50);
                world.s3.put(BUCKET, &key, noise(1000, 1)).await.ok();
                world.s3.get(BUCKET, &key).await.ok();
                world.s3.get(BUCKET, &format!("missing-{number}")).await.fails(404, "NoSuchKey");
            }
            world.store.take_whole_log();
        };
        // What is remembered of objects, up to a bound, and what the allocator keeps for the next time.
        round(0).await;
        round(1000).await;
        let before = status("VmRSS");
        round(2000).await;
        let growth = status("VmRSS").saturating_sub(before);
        assert!(growth < 2 << 10, "3,000 requests left {growth} KiB behind");
    }
}

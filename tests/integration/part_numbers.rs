//! Objects that were uploaded in parts, read whole, in ranges and by part number, at the price in storage requests
//! that the design allows.
//!
//! They are made here with the format alone, so that also the largest ones can be had.

mod stored;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use claviger::format::checksum::{Algorithm, Checksum, Kind};
use http::Method;

use crate::harness::{Answer, BUCKET, S3, World, noise};
use stored::{Maker, Part};

const MIN: usize = 5 << 20;

/// Parts of odd sizes and numbers, each with a checksum, the last shorter than any other may be.
fn odd_parts() -> Vec<Part> {
    let sizes = [(1, MIN + 3), (2, MIN), (5, MIN + 65_536), (10_000, 1000)];
    let part = |(number, size)| Part { number, body: noise(size, u64::from(number)), checksum: [number as u8; 4] };
    sizes.map(part).into()
}

fn composite() -> Checksum {
    Checksum::new(Algorithm::Crc32, Kind::Composite, &[7; 4]).expect("four bytes")
}

fn whole(parts: &[Part]) -> Bytes {
    parts.iter().flat_map(|part| part.body.clone()).collect()
}

fn ask_part(s3: &S3, method: Method, key: &str, number: u32) -> crate::harness::client::Ask {
    s3.ask(method, BUCKET, key).query("partNumber", &number.to_string()).header("x-amz-checksum-mode", "ENABLED")
}

fn is_part(answer: &Answer, span: (usize, usize), length: usize, parts: &str) {
    let (first, size) = span;
    assert_eq!(answer.status, 206, "{answer:?}");
    assert_eq!(answer.header("content-range"), format!("bytes {first}-{}/{length}", first + size - 1));
    assert_eq!((answer.header("content-length"), answer.header("x-amz-mp-parts-count")), (&*size.to_string(), parts));
}

#[tokio::test]
async fn a_part_is_read_by_its_number() {
    let world = World::new().await;
    let parts = odd_parts();
    let body = whole(&parts);
    let maker = Maker::new(&world, "object").await;
    world.store.plant(BUCKET, "object", maker.stored(&parts, Some(&composite())));
    assert!(world.s3.get(BUCKET, "object").await.ok().body == body, "the object is a good one");
    let mut first = 0;
    for part in &parts {
        let (number, size) = (part.number, part.body.len());
        let checksum = STANDARD.encode(part.checksum);
        let (_proxy, cold) = world.fresh().await;
        for (method, most) in [(Method::HEAD, 1), (Method::GET, 1), (Method::HEAD, 1)] {
            world.store.take_log();
            let answer = ask_part(&cold, method.clone(), "object", number).send().await.ok();
            assert!(world.store.take_log().len() <= most, "{method} {number}");
            is_part(&answer, (first, size), body.len(), "4");
            assert_eq!(answer.header("x-amz-checksum-crc32"), checksum, "{method} {number}");
            assert_eq!(answer.header("x-amz-checksum-type"), "COMPOSITE");
            assert!(answer.body == if method == Method::GET { part.body.clone() } else { Bytes::new() });
        }
        let (_proxy, cold) = world.fresh().await;
        world.store.take_log();
        let answer = ask_part(&cold, Method::GET, "object", number).send().await.ok();
        assert!(world.store.take_log().len() <= 2, "GET {number}");
        assert!(answer.body == part.body, "{number}");
        first += size;
    }
    for (method, number) in [(Method::GET, 3), (Method::HEAD, 3), (Method::GET, 9_999), (Method::GET, 4)] {
        let (_proxy, cold) = world.fresh().await;
        for s3 in [&cold, &world.s3] {
            let refused = ask_part(s3, method.clone(), "object", number).send().await;
            let code = if method == Method::GET { "InvalidPartNumber" } else { "" };
            let refused = refused.fails(416, code).text();
            let count = "<ActualPartCount>4</ActualPartCount>";
            assert!(method == Method::HEAD || refused.contains(count), "{refused}");
        }
    }
    // Of the whole there is the checksum of the checksums.
    let head = world.s3.ask(Method::HEAD, BUCKET, "object").header("x-amz-checksum-mode", "ENABLED").send().await.ok();
    assert_eq!(head.header("x-amz-checksum-crc32"), format!("{}-4", STANDARD.encode([7; 4])));
    assert!(!head.headers.contains_key("x-amz-mp-parts-count"));
    let range = world.s3.ask(Method::GET, BUCKET, "object").header("x-amz-checksum-mode", "ENABLED");
    let range = range.header("range", "bytes=0-9").send().await.ok();
    assert!(!range.headers.contains_key("x-amz-checksum-crc32"), "{range:?}");
}

#[tokio::test]
async fn a_part_may_be_empty_and_without_a_checksum() {
    let world = World::new().await;
    let part = |number, size| Part { number, body: noise(size, 1), checksum: [0; 4] };
    let maker = Maker::new(&world, "object").await;
    world.store.plant(BUCKET, "object", maker.stored(&[part(1, MIN), part(2, 0)], None));
    for method in [Method::GET, Method::HEAD, Method::GET] {
        let answer = ask_part(&world.s3, method, "object", 2).send().await.ok();
        assert_eq!((answer.status, answer.header("content-length"), answer.body.len()), (206, "0", 0), "{answer:?}");
        assert!(!answer.headers.contains_key("content-range") && !answer.headers.contains_key("x-amz-checksum-crc32"));
        assert_eq!(answer.header("x-amz-mp-parts-count"), "2");
    }
}

#[tokio::test]
async fn an_object_of_one_put_is_one_part() {
    let world = World::new().await;
    for size in [0, 1, 65_536, 400_000] {
        let body = noise(size, 1);
        world.s3.put(BUCKET, "object", body.clone()).await.ok();
        let (_proxy, cold) = world.fresh().await;
        for method in [Method::GET, Method::HEAD, Method::GET] {
            let answer = ask_part(&cold, method.clone(), "object", 1).send().await.ok();
            if size > 0 {
                is_part(&answer, (0, size), size, "");
            } else {
                assert_eq!((answer.status, answer.header("content-length")), (200, "0"));
            }
            assert_eq!(answer.header("x-amz-checksum-type"), "FULL_OBJECT", "{method} {size}");
            assert!(method == Method::HEAD || answer.body == body, "{size}");
            let refused = ask_part(&cold, method.clone(), "object", 2).send().await;
            let code = if method == Method::GET { "InvalidPartNumber" } else { "" };
            refused.fails(416, code);
        }
    }
}

#[tokio::test]
async fn part_numbers_that_make_no_sense() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    world.store.take_log();
    for method in [Method::GET, Method::HEAD] {
        let code = |code| if method == Method::GET { code } else { "" };
        for range in ["bytes=0-0", "nonsense"] {
            let both = ask_part(&world.s3, method.clone(), "object", 1).header("range", range);
            both.send().await.fails(400, code("InvalidRequest"));
        }
        for number in ["0", "10001", "-1", "1x"] {
            let ask = world.s3.ask(method.clone(), BUCKET, "object").query("partNumber", number);
            ask.send().await.fails(400, code("InvalidArgument"));
        }
    }
    assert!(world.store.take_log().is_empty());
}

#[tokio::test]
async fn part_numbers_and_conditions() {
    let world = World::new().await;
    let parts = odd_parts();
    let maker = Maker::new(&world, "object").await;
    world.store.plant(BUCKET, "object", maker.stored(&parts, None));
    let etag = world.s3.head(BUCKET, "object").await.ok().header("etag").to_owned();
    for _ in 0..2 {
        let ask = |name: &str, value: &str| ask_part(&world.s3, Method::GET, "object", 2).header(name, value).send();
        ask("if-match", "\"other\"").await.fails(412, "PreconditionFailed");
        assert_eq!(ask("if-none-match", &etag).await.status, 304);
        // If-Range is about ranges.
        for given in [ask("if-match", &etag).await, ask("if-range", "\"other\"").await] {
            assert!(given.ok().body == parts[1].body);
        }
    }
}

#[tokio::test]
async fn neither_another_attempt_nor_another_part_passes() {
    let world = World::new().await;
    let parts = odd_parts();
    let maker = Maker::new(&world, "object").await;
    let (stored, again) = (maker.stored(&parts, None), maker.stored(&parts, None));
    // Of the same upload, key and plaintext, but the second part's other attempt.
    let sealed = |size: usize| size + 28 * size.div_ceil(65_536);
    let (from, to) = (sealed(MIN + 3), sealed(MIN + 3) + sealed(MIN));
    let mixed = [&stored.body[..from], &again.body[from..to], &stored.body[to..]].concat();
    let end = stored.body.len() - 2000;
    let other_list = [&stored.body[..end], &again.body[end..]].concat();
    for body in [mixed, other_list] {
        world.store.plant(BUCKET, "object", stored::Stored { body: body.into(), ..stored.clone() });
        let (_proxy, cold) = world.fresh().await;
        for _ in 0..2 {
            let answer = ask_part(&cold, Method::GET, "object", 2).send().await;
            let verdict = crate::harness::verdict::judge("a mixture", &answer, &parts[1].body);
            assert_ne!(verdict, crate::harness::verdict::Verdict::Right);
            assert!(answer.body.len() < MIN);
        }
    }
}

#[tokio::test]
async fn a_range_of_a_huge_object_costs_two_requests_and_then_one() {
    const GIB: u64 = 1 << 30;
    for (size, part) in [(10 * GIB, 8 << 20), (10 * GIB, (8 << 20) + 12_345), (14 * GIB, MIN as u64)] {
        let world = World::new().await;
        let maker = Maker::new(&world, "huge").await;
        let huge = maker.huge(&world, size, part);
        for first in [size / 2, 5, size - (1 << 20), size - 100] {
            let last = (first + (1 << 20)).min(size) - 1;
            let (_proxy, cold) = world.fresh().await;
            for (temperature, most) in [("cold", 2), ("warm", 1)] {
                world.store.take_log();
                let answer = cold.get_range(BUCKET, "huge", &format!("bytes={first}-{last}")).await.ok();
                let requests = world.store.take_log().len();
                assert!(requests <= most, "{size} {part} {first} {temperature}: {requests} requests");
                assert_eq!(answer.header("content-range"), format!("bytes {first}-{last}/{size}"));
                assert!(answer.body == huge.plaintext(first, last), "{size} {part} {first} {temperature}");
            }
        }
    }
}

#[tokio::test]
async fn what_lies_far_inside_the_largest_object_costs_two_requests() {
    let world = World::new().await;
    let maker = Maker::new(&world, "huge").await;
    let part = 50 << 20;
    let huge = maker.huge(&world, 10_000 * part, part);
    let (first, last) = (5_000 * part - 10, 5_000 * part + 10);
    for part in [None, Some("9000")] {
        let (_proxy, cold) = world.fresh().await;
        let ask = match part {
            None => cold.ask(Method::GET, BUCKET, "huge").header("range", &format!("bytes={first}-{last}")),
            Some(number) => cold.ask(Method::HEAD, BUCKET, "huge").query("partNumber", number),
        };
        world.store.take_log();
        let answer = ask.send().await.ok();
        let requests = world.store.take_log().len();
        assert!(requests <= 2, "{requests} requests");
        assert!(part.is_some() || answer.body == huge.plaintext(first, last));
    }
}

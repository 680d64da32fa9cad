//! What a client promises about its body is checked, and what does not keep the promise is never stored.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use claviger::crypto::sha256;
use crc_fast::CrcAlgorithm;
use futures_util::stream;
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use md5::{Digest as _, Md5};

use crate::harness::chunked::Chunked;
use crate::harness::client::{Ask, ClientBody};
use crate::harness::raw::{Raw, head_of};
use crate::harness::{BUCKET, LONG, World, noise, until};

/// In memory, and streamed.
const SIZES: [usize; 3] = [0, 1000, 200_000];

fn crc32(data: &[u8]) -> String {
    let sum = u32::try_from(crc_fast::checksum(CrcAlgorithm::Crc32IsoHdlc, data)).expect("32 bits");
    STANDARD.encode(sum.to_be_bytes())
}

fn crc64(data: &[u8]) -> String {
    STANDARD.encode(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, data).to_be_bytes())
}

fn md5(data: &[u8]) -> String {
    STANDARD.encode(Md5::digest(data))
}

fn put(world: &World) -> Ask {
    world.s3.ask(Method::PUT, BUCKET, "object")
}

/// Nothing was stored. (Uploads that were under way have been given up by now: the answer came after that.)
#[track_caller]
fn nothing_stored(world: &World, what: &str) {
    assert!(world.store.object(BUCKET, "object").is_none(), "{what}: it was stored");
}

async fn stored(world: &World, data: &[u8], what: &str) {
    assert!(*world.s3.get(BUCKET, "object").await.ok().body == *data, "{what}");
    world.s3.ask(Method::DELETE, BUCKET, "object").send().await.ok();
}

#[tokio::test]
async fn promises_in_headers() {
    let world = World::new().await;
    for size in SIZES {
        let (data, other) = (noise(size, 1), noise(size + 1, 2));
        let sha = |data: &[u8]| STANDARD.encode(sha256(data));
        for (name, right, wrong, code) in [
            ("content-md5", md5(&data), md5(&other), "BadDigest"),
            ("x-amz-checksum-crc32", crc32(&data), crc32(&other), "BadDigest"),
            ("x-amz-checksum-crc64nvme", crc64(&data), crc64(&other), "BadDigest"),
            ("x-amz-checksum-sha256", sha(&data), sha(&other), "BadDigest"),
            ("content-md5", md5(&data), "junk".into(), "InvalidDigest"),
            ("x-amz-checksum-crc32", crc32(&data), "junk".into(), "InvalidRequest"),
            ("x-amz-checksum-sha9", String::new(), sha(&data), "InvalidRequest"),
        ] {
            let what = format!("{name}, {size} bytes");
            put(&world).body(data.clone()).header(name, &wrong).send().await.fails(400, code);
            nothing_stored(&world, &what);
            if !right.is_empty() {
                put(&world).body(data.clone()).header(name, &right).send().await.ok();
                stored(&world, &data, &what).await;
            }
        }
    }
}

#[tokio::test]
async fn the_hash_in_the_signature() {
    let world = World::new().await;
    for size in SIZES {
        let data = noise(size, 1);
        let wrong = crate::harness::client::hex(&sha256(b"another body"));
        put(&world).body(data.clone()).payload(&wrong).send().await.fails(400, "XAmzContentSHA256Mismatch");
        nothing_stored(&world, "x-amz-content-sha256");
        put(&world).body(data.clone()).send().await.ok();
        stored(&world, &data, "right hash").await;
        put(&world).body(data.clone()).payload("UNSIGNED-PAYLOAD").send().await.ok();
        stored(&world, &data, "unsigned").await;
    }
}

#[tokio::test]
async fn trailers_are_verified_and_not_skipped() {
    let world = World::new().await;
    for size in SIZES {
        let data = noise(size, 1);
        let right = Chunked::new(data.clone()).trailer("x-amz-checksum-crc32", &crc32(&data));
        let wrong = Chunked::new(data.clone()).trailer("x-amz-checksum-crc32", &crc32(b"another body"));
        let missing = Chunked { drop_trailer: true, ..right.clone() };
        wrong.send_unsigned(put(&world)).await.fails(400, "BadDigest");
        nothing_stored(&world, "wrong trailer");
        wrong.send_signed(put(&world)).await.fails(400, "BadDigest");
        nothing_stored(&world, "wrong signed trailer");
        missing.send_unsigned(put(&world)).await.fails(400, "MalformedTrailerError");
        nothing_stored(&world, "missing trailer");
        missing.send_signed(put(&world)).await.fails(400, "MalformedTrailerError");
        nothing_stored(&world, "missing signed trailer");
        right.send_unsigned(put(&world)).await.ok();
        stored(&world, &data, "right trailer").await;
        right.send_signed(put(&world)).await.ok();
        stored(&world, &data, "right signed trailer").await;
    }
}

#[tokio::test]
async fn chunk_signatures() {
    let world = World::new().await;
    for size in SIZES {
        let data = noise(size, 1);
        let right = Chunked { chunk: 8192, ..Chunked::new(data.clone()) };
        let chunks = size.div_ceil(right.chunk);
        for forge in [0, chunks / 2, chunks] {
            let forged = Chunked { forge_chunk: Some(forge), ..right.clone() };
            forged.send_signed(put(&world)).await.fails(403, "SignatureDoesNotMatch");
            nothing_stored(&world, &format!("chunk {forge} forged"));
        }
        let trailer = right.clone().trailer("x-amz-checksum-crc32", &crc32(&data));
        let forged = Chunked { forge_trailer: true, ..trailer };
        forged.send_signed(put(&world)).await.fails(403, "SignatureDoesNotMatch");
        nothing_stored(&world, "trailer signature forged");
        right.send_signed(put(&world)).await.ok();
        stored(&world, &data, "right signatures").await;
    }
}

#[tokio::test]
async fn a_decoded_length_that_lies() {
    let world = World::new().await;
    for size in [1000, 200_000] {
        let data = noise(size, 1);
        for announced in [0, size - 1, size + 1, 2 * size] {
            let lying = Chunked { announced: Some(announced), ..Chunked::new(data.clone()) };
            lying.send_signed(put(&world)).await.fails(400, "IncompleteBody");
            nothing_stored(&world, "signed");
            lying.send_unsigned(put(&world)).await.fails(400, "IncompleteBody");
            nothing_stored(&world, "unsigned");
        }
    }
}

#[tokio::test]
async fn aws_chunked_is_no_encoding_of_the_object() {
    let world = World::new().await;
    let data = noise(1000, 1);
    Chunked::new(data.clone()).send_unsigned(put(&world).header("content-language", "de")).await.ok();
    let answer = world.s3.get(BUCKET, "object").await.ok();
    assert_eq!((answer.header("content-encoding"), answer.header("content-language")), ("", "de"));
    // Framing that the signature does not speak of would be stored as data.
    put(&world).body(data).header("content-encoding", "aws-chunked").send().await.fails(400, "InvalidArgument");
}

#[tokio::test]
async fn checksums_are_kept_and_told_to_those_who_ask() {
    let world = World::new().await;
    for size in SIZES {
        let data = noise(size, 1);
        let sum = crc32(&data);
        let answer = put(&world).body(data.clone()).header("x-amz-checksum-crc32", &sum).send().await.ok();
        assert_eq!(answer.header("x-amz-checksum-crc32"), sum);
        let ask = |method| world.s3.ask(method, BUCKET, "object").header("x-amz-checksum-mode", "ENABLED").send();
        assert_eq!(ask(Method::HEAD).await.ok().header("x-amz-checksum-crc32"), sum, "{size}");
        for _ in 0..2 {
            let told = ask(Method::GET).await.ok();
            let told = told.header("x-amz-checksum-crc32");
            assert!(told == sum || told.is_empty(), "{size}: the plaintext's or none, not {told}");
        }
        let unasked = world.s3.get(BUCKET, "object").await.ok();
        assert!(!unasked.headers.contains_key("x-amz-checksum-crc32"));
    }
}

fn frames(pieces: Vec<Bytes>, fails: bool) -> ClientBody {
    let mut frames: Vec<Result<_, claviger::net::BoxError>> =
        pieces.into_iter().map(|piece| Ok(Frame::data(piece))).collect();
    if fails {
        frames.push(Err("the client hangs up".into()));
    }
    StreamBody::new(stream::iter(frames)).boxed_unsync()
}

#[tokio::test]
async fn a_client_that_hangs_up_in_the_middle() {
    let world = World::new().await;
    for (number, size) in [1000, 200_000, 3 << 20].into_iter().enumerate() {
        let body = frames(vec![noise(size / 2, 1), noise(size / 2 - 1, 2)], true);
        let ask = put(&world).header("content-length", &size.to_string()).stream(body);
        assert_eq!(ask.send().await.status, 0);
        let world = &world;
        if size > 100_000 {
            until("the proxy gives the upload up", || world.store.broken_uploads() >= number).await;
        }
        nothing_stored(world, "hung up");
    }
    assert_eq!(world.store.broken_uploads(), 2, "the small one never went out");
    put(&world).body("afterwards").send().await.ok();
}

#[tokio::test]
async fn a_body_that_is_shorter_than_announced_and_then_nothing() {
    let world = World::with(crate::harness::Setup {
        body_timeout: std::time::Duration::from_millis(300),
        ..Default::default()
    })
    .await;
    for size in [1000, 200_000] {
        let length = format!("content-length: {size}");
        let head = head_of("PUT", &put(&world).payload("UNSIGNED-PAYLOAD"), &[&length]);
        let mut raw = Raw::connect(world.proxy.address).await;
        raw.send(head).await;
        raw.send(noise(size - 1, 1)).await;
        let (answer, _) = raw.rest(LONG).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("<Code>RequestTimeout</Code>"), "{answer}");
        nothing_stored(&world, "short");
    }
}

#[tokio::test]
async fn sizes_that_cannot_be() {
    let world = World::new().await;
    for (line, status, code) in [
        ("content-length: 5368709120", 400, "EntityTooLarge"),
        ("content-length: 18446744073709551615", 400, "EntityTooLarge"),
        ("transfer-encoding: chunked", 411, "MissingContentLength"),
    ] {
        let head = head_of("PUT", &put(&world).payload("UNSIGNED-PAYLOAD"), &[line]);
        let mut raw = Raw::connect(world.proxy.address).await;
        raw.send(head).await;
        let (answer, _) = raw.rest(std::time::Duration::from_millis(500)).await;
        let right = answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(code);
        // The HTTP library itself may refuse what is no number of bytes that it could count.
        let refused_by_library = line.contains("1844") && answer.starts_with("HTTP/1.1 4");
        assert!(right || refused_by_library, "{line}: {answer}");
        nothing_stored(&world, line);
    }
    let huge = Chunked { announced: Some(usize::MAX), ..Chunked::new("x") };
    huge.send_unsigned(put(&world)).await.fails(400, "EntityTooLarge");
    let ask = put(&world).body("x").header("x-amz-meta-long", &"v".repeat(3000));
    ask.send().await.fails(400, "MetadataTooLarge");
    nothing_stored(&world, "metadata");
}

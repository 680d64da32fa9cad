//! What a client promises about a part is checked as in a PUT, and what does not keep the promise never counts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger::crypto::sha256;
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};

use super::{BUCKET, KEY, PART, SIZES, create, list, put_part, rows, state_of};
use crate::harness::chunked::Chunked;
use crate::harness::{World, noise};

fn crc32(data: &[u8]) -> String {
    let sum = u32::try_from(crc_fast::checksum(CrcAlgorithm::Crc32IsoHdlc, data)).expect("32 bits");
    STANDARD.encode(sum.to_be_bytes())
}

fn sha(data: &[u8]) -> String {
    STANDARD.encode(sha256(data))
}

/// No marker tells of a part, nothing is held, and the storage server has none.
#[track_caller]
fn no_part(world: &World, what: &str) {
    assert_eq!(state_of(world, "/part/").len() + state_of(world, "/held/").len(), 0, "{what}");
    assert!(world.store.uploads().values().all(|upload| upload.parts.is_empty()), "{what}");
}

#[tokio::test]
async fn promises_in_headers_and_the_signature() {
    let world = World::new().await;
    let id = world.s3.create_upload(BUCKET, KEY).await;
    for size in SIZES {
        let (data, other) = (noise(size, 1), noise(size, 2));
        for (name, wrong, code) in [
            ("content-md5", STANDARD.encode(Md5::digest(&other)), "BadDigest"),
            ("content-md5", "junk".into(), "InvalidDigest"),
            ("x-amz-checksum-crc32", crc32(&other), "BadDigest"),
            ("x-amz-checksum-sha256", sha(&other), "BadDigest"),
            ("x-amz-checksum-sha9", sha(&data), "InvalidRequest"),
        ] {
            put_part(&world.s3, &id, 1, data.clone()).header(name, &wrong).send().await.fails(400, code);
            no_part(&world, &format!("{name}, {size} bytes"));
        }
        let wrong = crate::harness::client::hex(&sha256(&other));
        let ask = put_part(&world.s3, &id, 1, data.clone()).payload(&wrong);
        ask.send().await.fails(400, "XAmzContentSHA256Mismatch");
        no_part(&world, "the hash in the signature");
    }
    let data = noise(PART, 1);
    let answer =
        put_part(&world.s3, &id, 1, data.clone()).header("x-amz-checksum-crc32", &crc32(&data)).send().await.ok();
    assert_eq!(answer.header("x-amz-checksum-crc32"), crc32(&data), "the client's own");
}

#[tokio::test]
async fn trailers_and_chunk_signatures() {
    let world = World::new().await;
    let id = world.s3.create_upload(BUCKET, KEY).await;
    for size in SIZES {
        let data = noise(size, 1);
        let ask = || put_part(&world.s3, &id, 1, "");
        let right = Chunked::new(data.clone()).trailer("x-amz-checksum-crc32", &crc32(&data));
        let wrong = Chunked::new(data.clone()).trailer("x-amz-checksum-crc32", &crc32(b"another body"));
        wrong.send_unsigned(ask()).await.fails(400, "BadDigest");
        wrong.send_signed(ask()).await.fails(400, "BadDigest");
        let missing = Chunked { drop_trailer: true, ..right.clone() };
        missing.send_unsigned(ask()).await.fails(400, "MalformedTrailerError");
        let forged = Chunked { forge_chunk: Some(size.div_ceil(right.chunk)), ..Chunked::new(data.clone()) };
        forged.send_signed(ask()).await.fails(403, "SignatureDoesNotMatch");
        let longer = Chunked { announced: Some(size + 1), ..right.clone() };
        longer.send_unsigned(ask()).await.fails(400, "IncompleteBody");
        no_part(&world, &format!("{size} bytes"));
    }
    for (number, size) in (1..).zip(SIZES) {
        let data = noise(size, 1);
        let right = Chunked::new(data.clone()).trailer("x-amz-checksum-crc32", &crc32(&data));
        let answer = right.send_unsigned(put_part(&world.s3, &id, number, "")).await.ok();
        assert_eq!(answer.header("x-amz-checksum-crc32"), crc32(&data));
        right.send_signed(put_part(&world.s3, &id, number + 10, "")).await.ok();
    }
    assert_eq!(rows(&list(&world.s3, &id, &[]).await.ok()).len(), 6);
}

#[tokio::test]
async fn an_algorithm_that_the_client_chose_is_kept_to() {
    let world = World::new().await;
    let ask =
        create(&world.s3).header("x-amz-checksum-algorithm", "CRC32").header("x-amz-checksum-type", "FULL_OBJECT");
    let id = ask.send().await.ok().leaf("UploadId");
    for size in SIZES {
        let data = noise(size, 1);
        let other = put_part(&world.s3, &id, 1, data.clone()).header("x-amz-checksum-sha256", &sha(&data)).send().await;
        let told = other.fails(400, "InvalidRequest").leaf("Message");
        assert!(told.contains("expected checksum Type: crc32, actual checksum Type: sha256"), "{told}");
        no_part(&world, "another algorithm");
    }
    let data = noise(PART, 1);
    let plain = put_part(&world.s3, &id, 1, data.clone()).send().await.ok();
    assert_eq!(plain.header("x-amz-checksum-crc32"), crc32(&data), "computed where the client sends none");
    let listed = list(&world.s3, &id, &[]).await.ok();
    let told = (listed.leaf("ChecksumAlgorithm"), listed.leaf("ChecksumType"), listed.leaf("ChecksumCRC32"));
    assert_eq!(told, ("CRC32".into(), "FULL_OBJECT".into(), crc32(&data)));
}

#[tokio::test]
async fn choices_that_s3_does_not_offer() {
    let world = World::new().await;
    for (algorithm, kind) in [("CRC64NVME", "COMPOSITE"), ("SHA256", "FULL_OBJECT"), ("CRC16", ""), ("", "COMPOSITE")] {
        let mut ask = create(&world.s3);
        for (name, value) in [("x-amz-checksum-algorithm", algorithm), ("x-amz-checksum-type", kind)] {
            if !value.is_empty() {
                ask = ask.header(name, value);
            }
        }
        ask.send().await.fails(400, "InvalidRequest");
    }
    let long = "v".repeat(3000);
    create(&world.s3).header("x-amz-meta-long", &long).send().await.fails(400, "MetadataTooLarge");
    assert_eq!((world.store.uploads().len(), state_of(&world, "").len()), (0, 0));
}

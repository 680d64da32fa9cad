//! What comes out of uploads that nobody disturbs, and which lists are refused.

use http::Method;

use super::{KEY, OBJECT, PART, Parts, assert_object, begin, body_of, part, whole};
use crate::harness::{BUCKET, S3, STATE, World, contains, until};

/// Uploads whose parts are legal.
const LEGAL: &[&[(u32, usize)]] = &[
    &[(1, 1)],
    &[(1, 70_000)],
    &[(7, 100)],
    &[(1, PART)],
    &[(1, PART + 17)],
    &[(1, PART), (2, 1)],
    &[(1, PART), (2, 0)],
    &[(1, PART), (2, PART + 1), (3, 65_536)],
    &[(3, PART + 65_535), (77, PART), (9_999, 12_345)],
    &[(1, PART), (10_000, 5)],
    &[(1, PART), (10_000, PART + 3)],
    &[(10_000, 1)],
    &[(9_999, PART), (10_000, PART)],
];

#[tokio::test]
async fn legal_parts_of_all_kinds() {
    let world = World::new().await;
    let (_other, fresh) = world.fresh().await;
    for lengths in LEGAL {
        let (id, parts) = begin(&world.s3, lengths).await;
        let answer = world.s3.complete(OBJECT, &id, &parts).await.ok();
        assert_eq!(answer.leaf("Bucket"), BUCKET);
        assert_eq!(answer.leaf("Key"), KEY);
        assert!(answer.leaf("Location").ends_with("/records/the/object"), "{}", answer.text());
        assert_eq!(answer.leaf("ETag"), world.s3.head(BUCKET, KEY).await.ok().header("etag"));
        for s3 in [&world.s3, &fresh] {
            assert_object(s3, &whole(lengths)).await;
        }
        assert!(world.store.uploads().is_empty(), "{lengths:?}");
    }
}

#[tokio::test]
async fn each_step_through_another_proxy_and_out_of_order() {
    let world = World::new().await;
    let mut proxies = Vec::new();
    for _ in 0..4 {
        proxies.push(world.fresh().await);
    }
    let s3 = |at: usize| &proxies[at].1;
    let id = s3(0).create_upload(BUCKET, KEY).await;
    let (third, first, second) =
        tokio::join!(part(s3(1), &id, 3, 1000), part(s3(2), &id, 1, PART), part(s3(3), &id, 2, PART + 5));
    world.s3.complete(OBJECT, &id, &[first, second, third]).await.ok();
    assert_object(s3(0), &whole(&[(1, PART), (2, PART + 5), (3, 1000)])).await;
}

#[tokio::test]
async fn the_list_says_which_parts_and_which_attempts_count() {
    let world = World::new().await;
    let s3 = &world.s3;
    let id = s3.create_upload(BUCKET, KEY).await;
    let again = |number, length, seed| {
        let id = id.clone();
        async move {
            let body = crate::harness::noise(length, seed);
            let answer = s3.upload_part(OBJECT, &id, number, body).await.ok();
            (number, answer.header("etag").to_owned())
        }
    };
    let forgotten = again(1, PART, 1).await;
    let first = again(1, PART + 1, 2).await;
    let (held, other) = (again(3, 100, 3).await, again(3, 200, 4).await);
    again(2, PART, 5).await;
    // The storage server has only the last attempt of a part that is not held.
    s3.complete(OBJECT, &id, &[forgotten, held.clone()]).await.fails(400, "InvalidPart");
    s3.complete(OBJECT, &id, &[first, held]).await.ok();
    let body = [crate::harness::noise(PART + 1, 2), crate::harness::noise(100, 3)].concat();
    assert_object(s3, &body).await;
    drop(other);
}

#[tokio::test]
async fn what_s3_refuses() {
    let world = World::new().await;
    let s3 = &world.s3;
    let (id, parts) = begin(s3, &[(1, PART), (2, 10), (3, 10)]).await;
    let [first, second, third] = [0, 1, 2].map(|at: usize| parts[at].clone());
    let other = s3.create_upload(BUCKET, KEY).await;
    let foreign = s3.upload_part(OBJECT, &other, 1, body_of(1, PART)).await.ok().header("etag").to_owned();
    let cases: [(&[(u32, String)], &str); 8] = [
        (&[second.clone(), first.clone()], "InvalidPartOrder"),
        (&[second.clone(), third.clone()], "EntityTooSmall"),
        (&[first.clone(), second.clone(), third.clone()], "EntityTooSmall"),
        (&[first.clone(), (4, third.1.clone())], "InvalidPart"),
        (&[first.clone(), (2, third.1.clone())], "InvalidPart"),
        (&[(1, foreign)], "InvalidPart"),
        (&[(1, "\"9b2cf535f27731c974343645a3985328\"".into())], "InvalidPart"),
        (&[], "MalformedXML"),
    ];
    for (list, code) in cases {
        s3.complete(OBJECT, &id, list).await.fails(400, code);
    }
    let document = |text: &'static str| s3.ask(Method::POST, BUCKET, KEY).query("uploadId", &id).body(text).send();
    for wrong in ["", "text", "<Delete/>", "<CompleteMultipartUpload><Part/></CompleteMultipartUpload>"] {
        document(wrong).await.fails(400, "MalformedXML");
    }
    s3.complete((BUCKET, "another"), &id, std::slice::from_ref(&first)).await.fails(404, "NoSuchUpload");
    s3.complete(OBJECT, "no-such-upload", std::slice::from_ref(&first)).await.fails(404, "NoSuchUpload");
    s3.get(BUCKET, KEY).await.fails(404, "NoSuchKey");
    s3.complete(OBJECT, &id, &[first, third]).await.ok();
    assert_object(s3, &whole(&[(1, PART), (3, 10)])).await;
}

#[tokio::test]
async fn conditions_are_those_of_the_storage_server() {
    let world = World::new().await;
    let s3 = &world.s3;
    let old = s3.put(BUCKET, KEY, "old").await.ok().header("etag").to_owned();
    let (id, parts) = begin(s3, &[(1, 10)]).await;
    let with = |name: &'static str, value: &str| s3.ask_complete(OBJECT, &id, &parts).header(name, value).send();
    with("if-none-match", "*").await.fails(412, "PreconditionFailed");
    with("if-match", "\"another\"").await.fails(412, "PreconditionFailed");
    assert_eq!(s3.get(BUCKET, KEY).await.ok().text(), "old");
    with("if-match", &old).await.ok();
    // The answer got lost, the client asks again: its own success is not a conflict.
    with("if-match", &old).await.ok();
    assert_object(s3, &whole(&[(1, 10)])).await;
    let (id, parts) = begin(s3, &[(1, 10)]).await;
    world.store.buckets().get_mut(BUCKET).expect("there").clear();
    for _ in 0..2 {
        s3.ask_complete(OBJECT, &id, &parts).header("if-none-match", "*").send().await.ok();
    }
}

fn checksummed(parts: &Parts, element: &str, values: &[String]) -> String {
    let part = |((number, etag), value): (&(u32, String), &String)| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><{element}>{value}</{element}></Part>")
    };
    let parts: String = parts.iter().zip(values).map(part).collect();
    format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>")
}

fn digest(algorithm: &str, body: &[u8]) -> String {
    use claviger::s3::checksum::{Algorithm, Hasher};
    let mut hasher = Hasher::new(Algorithm::from_wire_name(algorithm).expect("known"));
    hasher.update(body);
    hasher.finish().to_base64()
}

fn composite(algorithm: &str, bodies: &[&[u8]]) -> String {
    use claviger::s3::checksum::{Algorithm, Digest};
    let known = Algorithm::from_wire_name(algorithm).expect("known");
    let digests = bodies.iter().map(|body| Digest::from_base64(known, &digest(algorithm, body)).expect("a digest"));
    let all: Vec<u8> = digests.flat_map(|digest| digest.as_bytes().to_vec()).collect();
    format!("{}-{}", digest(algorithm, &all), bodies.len())
}

async fn begin_with(s3: &S3, algorithm: &str, kind: &str, bodies: &[&[u8]]) -> (String, Parts) {
    let ask = s3.ask(Method::POST, BUCKET, KEY).query_text("uploads");
    let ask = ask.header("x-amz-checksum-algorithm", algorithm).header("x-amz-checksum-type", kind);
    let id = ask.send().await.ok().leaf("UploadId");
    let mut parts = Vec::new();
    for (number, body) in (1..).zip(bodies) {
        let ask = s3.ask(Method::PUT, BUCKET, KEY).query("uploadId", &id).query("partNumber", &format!("{number}"));
        let name = format!("x-amz-checksum-{}", algorithm.to_ascii_lowercase());
        let answer = ask.header(&name, &digest(algorithm, body)).body(body.to_vec()).send().await.ok();
        parts.push((number, answer.header("etag").to_owned()));
    }
    (id, parts)
}

#[tokio::test]
async fn composite_checksums() {
    let world = World::new().await;
    let (one, two) = (body_of(1, PART), body_of(2, 100));
    let bodies: [&[u8]; 2] = [&one, &two];
    for algorithm in ["SHA256", "SHA1", "CRC32", "CRC32C"] {
        let (id, parts) = begin_with(&world.s3, algorithm, "COMPOSITE", &bodies).await;
        let right = composite(algorithm, &bodies);
        let name = format!("x-amz-checksum-{}", algorithm.to_ascii_lowercase());
        let element = format!("Checksum{algorithm}");
        let values = bodies.map(|body| digest(algorithm, body));
        let ask = |document: String| world.s3.ask(Method::POST, BUCKET, KEY).query("uploadId", &id).body(document);
        if algorithm.starts_with("SHA") {
            world.s3.complete(OBJECT, &id, &parts).await.fails(400, "InvalidRequest");
        }
        let list = checksummed(&parts, &element, &values);
        let swapped = checksummed(&parts, &element, &[values[1].clone(), values[0].clone()]);
        ask(swapped).send().await.fails(400, "InvalidPart");
        ask(list.clone()).header(&name, "bad").send().await.fails(400, "InvalidRequest");
        ask(list.clone()).header(&name, &digest(algorithm, b"another")).send().await.fails(400, "BadDigest");
        ask(list.clone()).header(&name, &right.replace("-2", "-3")).send().await.fails(400, "BadDigest");
        let kind = ask(list.clone()).header("x-amz-checksum-type", "FULL_OBJECT");
        kind.send().await.fails(400, "InvalidRequest");
        let answer = ask(list).header(&name, &right).send().await.ok();
        assert_eq!((answer.leaf(&element), answer.leaf("ChecksumType")), (right.clone(), "COMPOSITE".into()));
        let head = world.s3.ask(Method::HEAD, BUCKET, KEY).header("x-amz-checksum-mode", "ENABLED").send().await.ok();
        assert_eq!((head.header(&name), head.header("x-amz-checksum-type")), (right.as_str(), "COMPOSITE"));
    }
}

#[tokio::test]
async fn full_object_checksums() {
    let world = World::new().await;
    let (one, two) = (body_of(1, PART + 1), body_of(2, 100));
    let bodies: [&[u8]; 2] = [&one, &two];
    let all = bodies.concat();
    for algorithm in ["CRC64NVME", "CRC32", "CRC32C"] {
        let (id, parts) = begin_with(&world.s3, algorithm, "FULL_OBJECT", &bodies).await;
        let name = format!("x-amz-checksum-{}", algorithm.to_ascii_lowercase());
        let ask = || world.s3.ask_complete(OBJECT, &id, &parts);
        ask().header(&name, &digest(algorithm, b"another")).send().await.fails(400, "BadDigest");
        ask().header("x-amz-mp-object-size", "17").send().await.fails(400, "InvalidRequest");
        let size = all.len().to_string();
        let answer =
            ask().header(&name, &digest(algorithm, &all)).header("x-amz-mp-object-size", &size).send().await.ok();
        let shown = (answer.leaf(&format!("Checksum{algorithm}")), answer.leaf("ChecksumType"));
        assert_eq!(shown, (digest(algorithm, &all), "FULL_OBJECT".into()));
        assert_object(&world.s3, &all).await;
    }
    // S3's own choice.
    let (id, parts) = begin(&world.s3, &[(1, PART), (2, 3)]).await;
    let answer = world.s3.complete(OBJECT, &id, &parts).await.ok();
    assert_eq!(answer.leaf("ChecksumCRC64NVME"), digest("CRC64NVME", &whole(&[(1, PART), (2, 3)])));
}

#[tokio::test]
async fn the_store_never_sees_plaintext_and_forgets() {
    const WORDS: [&str; 3] = ["patient 4711 has the flu", "Ward-Seven", "application/x-medical"];
    let world = World::new().await;
    let ask = world.s3.ask(Method::POST, BUCKET, KEY).query_text("uploads");
    let ask = ask.header("x-amz-meta-place", WORDS[1]).header("content-type", WORDS[2]);
    let id = ask.send().await.ok().leaf("UploadId");
    let text = WORDS[0].repeat(PART / WORDS[0].len() + 1);
    let mut parts = Vec::new();
    for (number, body) in [(1, text.clone()), (2, WORDS[0].to_owned())] {
        let answer = world.s3.upload_part(OBJECT, &id, number, body).await.ok();
        parts.push((number, answer.header("etag").to_owned()));
    }
    let hides = || {
        let uploads = world.store.uploads();
        let attempts = uploads.values().flat_map(|upload| upload.parts.values().flatten());
        let headers: Vec<String> = uploads.values().map(|upload| format!("{:?}", upload.headers)).collect();
        let pieces: Vec<bytes::Bytes> = attempts.map(|attempt| attempt.body.clone()).collect();
        drop(uploads);
        let buckets = world.store.buckets();
        let objects = buckets.values().flat_map(|bucket| bucket.iter());
        let mut shown = headers.join(" ");
        for (name, stored) in objects.clone() {
            shown.push_str(&format!("{name} {:?}", stored.headers));
        }
        let mut bodies = pieces;
        bodies.extend(objects.map(|(_, stored)| stored.body.clone()));
        drop(buckets);
        for word in WORDS {
            assert!(!shown.contains(word), "{word} is in {shown}");
            assert!(!bodies.iter().any(|body| contains(body, word.as_bytes())), "{word} is in a body");
        }
    };
    hides();
    world.s3.complete(OBJECT, &id, &parts).await.ok();
    hides();
    for sent in world.store.take_whole_log() {
        let sent = format!("{sent:?}");
        assert!(!WORDS.iter().any(|word| sent.contains(word)), "a request shows it: {sent}");
    }
    let read = world.s3.get(BUCKET, KEY).await.ok();
    assert_eq!((read.header("x-amz-meta-place"), read.header("content-type")), (WORDS[1], WORDS[2]));
    // Of the upload only its record stays, for a while, so that the completion can be repeated.
    let left = || world.store.keys(STATE).into_iter().filter(|key| key.starts_with("upload/")).collect::<Vec<_>>();
    until("the state is forgotten", || left().len() == 1).await;
    assert!(left()[0].ends_with("/record"));
    world.s3.complete(OBJECT, &id, &parts).await.ok();
}

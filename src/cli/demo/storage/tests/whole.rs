//! Objects that come whole.

use super::*;

#[tokio::test]
async fn all_keys_of_s3_are_objects_of_their_own() {
    let fixture = fixture().await;
    let long = "ü".repeat(512);
    let keys = ["../b", "/b", "a", "a/", "a/./b", "a//b", "a/b", "a\u{0}b", "a\u{fffd}b", "a𝄞b", &long, "折り紙/鶴"];
    for key in keys {
        fixture.put(key, key).await;
    }
    let mut sorted = keys.map(str::to_owned);
    sorted.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    assert_eq!(fixture.keys().await, sorted);
    fixture.delete("a//b").await;
    for key in keys.into_iter().filter(|key| *key != "a//b") {
        assert_eq!(fixture.get(key).await.expect(key), key.as_bytes());
    }
    assert_eq!(code(fixture.get("a//b").await), "NoSuchKey");
}

#[tokio::test]
async fn an_upload_that_breaks_off_or_is_wrong_leaves_what_was_there() {
    let fixture = fixture().await;
    fixture.put("old", "whole").await;
    for key in ["new", "old"] {
        let gone = || Err(std::io::Error::other("gone"));
        let broken = PutObjectInput { body: body(vec![Ok(Bytes::from_static(b"half")), gone()]), ..put(key, "") };
        assert_eq!(code(fixture.storage.put_object(request(broken)).await), "IncompleteBody");
        let md5 = Some("1B2M2Y8AsgTpgAmY7PhCfg==".to_owned());
        let wrong = PutObjectInput { content_md5: md5, ..put(key, "content") };
        assert_eq!(code(fixture.storage.put_object(request(wrong)).await), "BadDigest");
        let wrong = PutObjectInput { checksum_crc32: Some("AAAAAA==".to_owned()), ..put(key, "content") };
        assert_eq!(code(fixture.storage.put_object(request(wrong)).await), "BadDigest");
        let elsewhere = PutObjectInput { bucket: "absent".to_owned(), ..put(key, "content") };
        assert_eq!(code(fixture.storage.put_object(request(elsewhere)).await), "NoSuchBucket");
    }
    assert_eq!(fixture.keys().await, ["old"]);
    assert_eq!(fixture.get("old").await.expect("there"), b"whole");
    assert_eq!(fixture.files(), 1);
}

#[tokio::test]
async fn conditions_of_writes_are_checked() {
    let fixture = fixture().await;
    let write = |if_match, if_none_match| {
        let input = PutObjectInput { if_match, if_none_match, ..put("key", "content") };
        fixture.storage.put_object(request(input))
    };
    let any = || Some(ETagCondition::Any);
    assert_eq!(code(write(any(), None).await), "NoSuchKey");
    assert_eq!(code(write(None, any()).await), "no error");
    assert_eq!(code(write(None, any()).await), "PreconditionFailed");
    assert_eq!(code(write(etag("other"), None).await), "PreconditionFailed");
    assert_eq!(code(write(etag("9a0364b9e99bb480dd25e1f0284c8555"), None).await), "no error");
    assert_eq!(code(write(None, etag("other")).await), "NotImplemented");
    assert_eq!(fixture.files(), 1);
    let delete = |if_match| {
        let key = "key".to_owned();
        let input = DeleteObjectInput { bucket: BUCKET.to_owned(), key, if_match, ..Default::default() };
        fixture.storage.delete_object(request(input))
    };
    assert_eq!(code(delete(etag("other")).await), "PreconditionFailed");
    assert_eq!(code(delete(etag("9a0364b9e99bb480dd25e1f0284c8555")).await), "no error");
    assert_eq!((fixture.keys().await.len(), fixture.files()), (0, 0));
}

#[tokio::test]
async fn of_many_that_create_a_key_at_once_one_does() {
    let fixture = fixture().await;
    let create = |at: usize| {
        let input = PutObjectInput { if_none_match: Some(ETagCondition::Any), ..put("key", at.to_string()) };
        let storage = fixture.storage.clone();
        tokio::spawn(async move { storage.put_object(request(input)).await.is_ok() })
    };
    let tasks: Vec<_> = (0..20).map(create).collect();
    let mut created = 0;
    for task in tasks {
        created += usize::from(task.await.expect("ends"));
    }
    assert_eq!((created, fixture.files()), (1, 1));
}

#[tokio::test]
async fn conditions_of_reads_are_checked() {
    let fixture = fixture().await;
    let found = fixture.put("key", "content").await;
    let read = |if_match: Option<&str>, if_none_match: Option<&str>, since: Option<i64>, unless: Option<i64>| {
        let time = |offset| Timestamp::from(time::OffsetDateTime::now_utc() + time::Duration::hours(offset));
        let input = HeadObjectInput {
            bucket: BUCKET.to_owned(),
            key: "key".to_owned(),
            if_match: if_match.and_then(etag),
            if_none_match: if_none_match.and_then(etag),
            if_modified_since: since.map(time),
            if_unmodified_since: unless.map(time),
            ..Default::default()
        };
        fixture.storage.head_object(request(input))
    };
    let cases = [
        (Some(&*found), None, None, None, "no error"),
        (Some("other"), None, None, None, "PreconditionFailed"),
        (None, Some(&*found), None, None, "NotModified"),
        (None, Some("other"), None, None, "no error"),
        (None, None, Some(1), None, "NotModified"),
        (None, None, Some(-1), None, "no error"),
        (None, None, None, Some(-1), "PreconditionFailed"),
        (None, None, None, Some(1), "no error"),
        // An ETag says more than a time.
        (Some(&*found), None, None, Some(-1), "no error"),
        (None, Some("other"), Some(1), None, "no error"),
    ];
    for (if_match, if_none_match, since, unless, expected) in cases {
        let outcome = code(read(if_match, if_none_match, since, unless).await);
        assert_eq!(outcome, expected, "{if_match:?} {if_none_match:?} {since:?} {unless:?}");
    }
}

#[tokio::test]
async fn every_form_of_range_is_read() {
    let fixture = fixture().await;
    fixture.put("key", "0123456789").await;
    fixture.put("empty", "").await;
    let read = async |key: &str, range: Range| {
        let input = GetObjectInput { range: Some(range), ..get(key) };
        let output = fixture.storage.get_object(request(input)).await?.output;
        let range = output.content_range.clone().expect("a range");
        S3Result::Ok((String::from_utf8(bytes(output).await).expect("digits"), range))
    };
    let part = |content: &str, range: &str| Some((content.to_owned(), format!("bytes {range}/10")));
    let cases = [
        (Range::Int { first: 2, last: Some(4) }, part("234", "2-4")),
        (Range::Int { first: 7, last: None }, part("789", "7-9")),
        (Range::Int { first: 9, last: Some(100) }, part("9", "9-9")),
        (Range::Suffix { length: 3 }, part("789", "7-9")),
        (Range::Suffix { length: 300 }, part("0123456789", "0-9")),
        (Range::Suffix { length: 0 }, None),
        (Range::Int { first: 10, last: None }, None),
    ];
    for (range, expected) in cases {
        assert_eq!(read("key", range).await.ok(), expected, "{range:?}");
    }
    assert_eq!(code(read("empty", Range::Suffix { length: 5 }).await), "InvalidRange");
}

#[tokio::test]
async fn headers_and_tags_come_back() {
    let fixture = fixture().await;
    let input = PutObjectInput {
        content_type: Some("text/csv".to_owned()),
        content_encoding: Some("aws-chunked,gzip".to_owned()),
        cache_control: Some("no-store".to_owned()),
        metadata: Some([("claviger".to_owned(), "ümläut".to_owned())].into_iter().collect()),
        tagging: Some("colour=dark+blue&empty=".to_owned()),
        ..put("key", "content")
    };
    fixture.storage.put_object(request(input)).await.expect("stores");
    let output = fixture.storage.get_object(request(get("key"))).await.expect("there").output;
    assert_eq!(output.content_type.as_deref(), Some("text/csv"));
    assert_eq!(output.content_encoding.as_deref(), Some("gzip"));
    assert_eq!(output.cache_control.as_deref(), Some("no-store"));
    assert_eq!(output.metadata.expect("there").get("claviger").map(String::as_str), Some("ümläut"));
    assert_eq!(output.tag_count, Some(2));
    let input = GetObjectTaggingInput { bucket: BUCKET.to_owned(), key: "key".to_owned(), ..Default::default() };
    let tags = fixture.storage.get_object_tagging(request(input)).await.expect("there").output.tag_set;
    assert_eq!(tags[0].value.as_deref(), Some("dark blue"));
    let large = Some([("claviger".to_owned(), "x".repeat(2048))].into_iter().collect());
    let input = PutObjectInput { metadata: large, ..put("key", "content") };
    assert_eq!(code(fixture.storage.put_object(request(input)).await), "MetadataTooLarge");
}

#[tokio::test]
async fn a_bucket_with_objects_is_not_deleted() {
    let fixture = fixture().await;
    fixture.put("key", "content").await;
    let delete = || {
        let input = DeleteBucketInput { bucket: BUCKET.to_owned(), ..Default::default() };
        fixture.storage.delete_bucket(request(input))
    };
    assert_eq!(code(delete().await), "BucketNotEmpty");
    let gone = ObjectIdentifier { key: "key".to_owned(), ..Default::default() };
    let absent = ObjectIdentifier { key: "absent".to_owned(), ..Default::default() };
    let versioned = ObjectIdentifier { version_id: Some("v".to_owned()), ..gone.clone() };
    let delete_objects = Delete { objects: vec![gone, absent, versioned], quiet: None };
    let input = DeleteObjectsInput::builder().bucket(BUCKET.to_owned()).delete(delete_objects).build();
    let output = fixture.storage.delete_objects(request(input.expect("complete"))).await.expect("deletes").output;
    assert_eq!(output.deleted.map(|deleted| deleted.len()), Some(2));
    assert_eq!(output.errors.expect("one")[0].code.as_deref(), Some("NotImplemented"));
    assert_eq!((code(delete().await), fixture.files()), ("no error".to_owned(), 0));
    assert_eq!(code(delete().await), "NoSuchBucket");
}

#[tokio::test]
async fn readers_see_bytes_and_metadata_of_one_upload() {
    let fixture = Arc::new(fixture().await);
    let write = |content: &'static str| {
        let metadata = Some([("claviger".to_owned(), content.to_owned())].into_iter().collect());
        PutObjectInput { metadata, ..put("key", content) }
    };
    fixture.storage.put_object(request(write("key"))).await.expect("stores");
    let writer = |content: &'static str| {
        let storage = fixture.storage.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                storage.put_object(request(write(content))).await.expect("stores");
            }
        })
    };
    let writers = [writer("one"), writer("another")];
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        let output = fixture.storage.get_object(request(get("key"))).await.expect("reads").output;
        let described = output.metadata.as_ref().and_then(|metadata| metadata.get("claviger").cloned());
        assert_eq!(bytes(output).await, described.expect("metadata").into_bytes());
    }
    assert_eq!(fixture.files(), 1);
}

//! Tests of targets and queries.

use http::{HeaderMap, HeaderValue};

use super::*;

fn domains() -> Vec<String> {
    vec!["example.org".to_owned(), "S3.example.org".to_owned()]
}

fn object(bucket: &str, key: &str) -> Target {
    Target::Object {
        bucket: LogicalBucket::new(bucket).expect("a bucket name"),
        key: ObjectKey::new(key).expect("a key"),
    }
}

fn bucket(name: &str) -> Target {
    Target::Bucket(LogicalBucket::new(name).expect("a bucket name"))
}

#[test]
fn path_style_is_for_addresses_the_domain_itself_and_unknown_hosts() {
    for host in [
        "localhost",
        "localhost:9000",
        "https://localhost:9000",
        "127.0.0.1:8443",
        "[::1]:9000",
        "[::1]",
        "s3.example.org",
        "EXAMPLE.org.:443",
        "elsewhere.net",
    ] {
        let parse = |path| Target::parse(host, path, &domains());
        assert_eq!(parse("/"), Ok(Target::Service), "{host}");
        assert_eq!(parse("/records"), Ok(bucket("records")), "{host}");
        assert_eq!(parse("/records/"), Ok(bucket("records")), "{host}");
        assert_eq!(parse("/records/2026/a.txt"), Ok(object("records", "2026/a.txt")), "{host}");
    }
    assert_eq!(Target::parse("records.s3.example.org", "/records/k", &[]), Ok(object("records", "k")));
}

#[test]
fn virtual_hosted_style_takes_the_bucket_from_the_host() {
    let parse = |host, path| Target::parse(host, path, &domains());
    assert_eq!(parse("records.s3.example.org:443", "/"), Ok(bucket("records")));
    assert_eq!(parse("Records.S3.Example.Org", "/a/b"), Ok(object("records", "a/b")));
    assert_eq!(parse("my.dotted.bucket.s3.example.org", "/records/a"), Ok(object("my.dotted.bucket", "records/a")));
    assert_eq!(parse("records.example.org", "//"), Ok(object("records", "/")));
    assert_eq!(parse("ab.s3.example.org", "/a"), Err(TargetError::BucketName));
    assert_eq!(parse("rec_ords.s3.example.org", "/a"), Err(TargetError::BucketName));
    // Not within the domain, although it ends like it.
    assert_eq!(parse("records-s3.example.net", "/abc/k"), Ok(object("abc", "k")));
    assert_eq!(parse("myexample.org", "/abc/k"), Ok(object("abc", "k")));
}

#[test]
fn keys_are_never_normalised() {
    for (path, key) in [
        ("/abc//", "/"),
        ("/abc///a", "//a"),
        ("/abc/a/../b", "a/../b"),
        ("/abc/./a/.", "./a/."),
        ("/abc/a/..", "a/.."),
        ("/abc/a%5C..", "a\\.."),
        ("/abc/a/b/../../", "a/b/../../"),
        ("/abc/..a/...", "..a/..."),
        ("/abc/a/", "a/"),
        ("/abc/a%2Fb%2f", "a/b/"),
        ("/abc/a+b%2Bc%20d", "a+b+c d"),
        ("/abc/%25%32%35", "%25"),
        ("/abc/%E2%82%AC%F0%9F%94%91", "€🔑"),
        ("/abc/e%CC%81", "e\u{301}"),
        ("/abc/€", "€"),
        ("/abc/%01%0A%7f", "\u{1}\n\u{7f}"),
        ("/abc/a%3Fversions%23x", "a?versions#x"),
    ] {
        assert_eq!(Target::parse("localhost", path, &[]), Ok(object("abc", key)), "{path}");
    }
}

#[test]
fn hostile_paths_and_hosts_are_refused() {
    for (path, error) in [
        ("", TargetError::NotAPath),
        ("*", TargetError::NotAPath),
        ("abc/k", TargetError::NotAPath),
        ("/abc/k?acl", TargetError::NotAPath),
        ("//", TargetError::BucketName),
        ("//abc", TargetError::BucketName),
        ("/abc%2Fk", TargetError::BucketName),
        ("/..", TargetError::BucketName),
        ("/Records/a", TargetError::BucketName),
        ("/abc/%", TargetError::MalformedEscape),
        ("/abc/%4", TargetError::MalformedEscape),
        ("/abc/%zz", TargetError::MalformedEscape),
        ("/abc/%+1", TargetError::MalformedEscape),
        ("/abc/%%30", TargetError::MalformedEscape),
        ("/abc/%C3%28", TargetError::NotUtf8),
        ("/abc/%ED%A0%80", TargetError::NotUtf8),
        ("/abc/a%00b", TargetError::NulInKey),
    ] {
        assert_eq!(Target::parse("localhost", path, &[]), Err(error), "{path}");
    }
    for host in [
        "",
        "https://",
        "https://https://a",
        "ftp://a",
        ":80",
        "a b",
        "host:port",
        "[::1",
        "[abc]",
        "[::1]x",
        "a/b",
        "a@b",
        "::1",
        "host:123456",
        ".",
    ] {
        assert_eq!(Target::parse(host, "/", &[]), Err(TargetError::Host), "{host}");
    }
}

#[test]
fn keys_end_at_1024_bytes_after_decoding() {
    let longest = format!("/abc/{}", "%C3%A9".repeat(512));
    assert_eq!(Target::parse("localhost", &longest, &[]), Ok(object("abc", &"é".repeat(512))));
    assert_eq!(Target::parse("localhost", &format!("{longest}a"), &[]), Err(TargetError::KeyTooLong));
    assert_eq!(ObjectKey::new(""), Err(TargetError::EmptyKey));
}

#[test]
fn keys_that_lead_out_of_the_bucket_are_refused() {
    for path in [
        "..",
        "../up",
        "a/../../claviger-state/branch/records/0/v1",
        "a/../../abc/b",
        "a/b/../../../c/d/e",
        "./../a",
        "//../a",
        "a//../../b",
        "a/./../../b",
        "a/../..",
        "a/../../",
        "%2E%2e/a",
        "a%2F..%2f..%2Fb",
        "..%5Ca",
        "a%5C..%5C..%5Cb",
        "a/..%5C../b",
        // Two names to go up from where a backslash separates, one where it does not.
        "a%5Cb/../../c",
    ] {
        let parsed = Target::parse("localhost", &format!("/abc/{path}"), &[]);
        assert_eq!(parsed, Err(TargetError::OutOfBucket), "{path}");
    }
    assert_eq!(TargetError::OutOfBucket.code(), Code::InvalidArgument);
    let in_host = Target::parse("abc.example.org", "/../claviger-state/a", &domains());
    assert_eq!(in_host, Err(TargetError::OutOfBucket));
}

#[test]
fn encoded_keys_decode_to_themselves() {
    for key in ["a b/ü+%2F", "//a/../.", "~-._", "\u{1}\n€🔑", "a?b#c&d=e"] {
        let key = ObjectKey::new(key).expect("a key");
        let target = Target::parse("localhost", &format!("/abc/{}", key.encoded()), &[]);
        assert_eq!(target.expect("a target").key(), Some(&key));
    }
    assert_eq!(ObjectKey::new("a b/ü+%").expect("a key").encoded(), "a%20b/%C3%BC%2B%25");
}

#[test]
fn queries_keep_order_and_tell_absent_from_empty() {
    let query =
        Query::parse("prefix=a%2Fb+c&&delimiter=%2F&acl&marker=&list-type=2&x-id=ListObjects").expect("a query");
    let names: Vec<&str> = query.operational().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["prefix", "delimiter", "acl", "marker", "list-type"]);
    assert_eq!(query.get("prefix"), Some("a/b c"));
    assert_eq!(query.get("acl"), Some(""));
    assert_eq!(query.get("marker"), Some(""));
    assert!(!query.has("Prefix") && !query.has("x-id"));
    assert_eq!(Query::parse("a=b=c").expect("a query").get("a"), Some("b=c"));
}

#[test]
fn hostile_queries_are_refused() {
    for (raw, error) in [
        ("acl&acl", QueryError::Twice("acl".to_owned())),
        ("versionId=1&a&version%49d=2", QueryError::Twice("versionId".to_owned())),
        ("x-id=a&x-id=b", QueryError::Twice("x-id".to_owned())),
        ("a=%", QueryError::MalformedEscape),
        ("%4=1", QueryError::MalformedEscape),
        ("a=%ff", QueryError::NotText),
        ("%00acl", QueryError::NotText),
        ("a%0d%0ab", QueryError::NotText),
    ] {
        assert_eq!(Query::parse(raw), Err(error), "{raw}");
    }
    let many: Vec<String> = (0..65).map(|number| format!("p{number}")).collect();
    assert_eq!(Query::parse(&many.join("&")), Err(QueryError::TooMany));
}

#[test]
fn presigned_urls_are_taken_apart() {
    let query = Query::parse(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%2F20260101%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Expires=60\
         &X-Amz-Signature=00ff&X-Amz-Acl=private&x-amz-meta-who=me&x-id=PutObject&versionId=7&x-amz-new-thing=1",
    )
    .expect("a query");
    assert_eq!(query.presign().len(), 4);
    assert_eq!(query.get("versionId"), Some("7"));
    assert!(query.has("x-amz-new-thing"), "what we do not know stays an unknown parameter");
    let mut headers = HeaderMap::new();
    query.restore_hoisted(&mut headers).expect("no contradiction");
    query.restore_hoisted(&mut headers).expect("nor the second time");
    assert_eq!(headers.len(), 2);
    assert_eq!(headers.get("x-amz-acl"), Some(&HeaderValue::from_static("private")));
    headers.insert("x-amz-acl", HeaderValue::from_static("public-read"));
    assert!(matches!(query.restore_hoisted(&mut headers), Err(QueryError::Contradiction(_))));
}

#[test]
fn moved_headers_count_only_in_presigned_urls_and_once() {
    assert!(Query::parse("x-amz-acl=public-read").expect("a query").has("x-amz-acl"));
    assert!(matches!(Query::parse("X-Amz-Signature=0&x-amz-acl=a&X-Amz-Acl=b"), Err(QueryError::Twice(_))));
    assert!(matches!(Query::parse("X-Amz-Signature=0&x-amz-acl=a%0d%0ab"), Err(QueryError::NotAHeader(_))));
}

proptest::proptest! {
    #[test]
    fn nothing_from_outside_panics(host in "\\PC*", path in "\\PC*", query in "[ -~\u{e9}\0]{0,200}") {
        let _ = Target::parse(&host, &path, &domains());
        let _ = Target::parse("localhost", &format!("/{path}"), &domains());
        let _ = Query::parse(&query);
    }

    #[test]
    fn every_key_survives_its_encoding(key in "[^\0]{1,200}") {
        proptest::prop_assume!(!leads_out(&key));
        let key = ObjectKey::new(&key).expect("a key");
        let target = Target::parse("localhost", &format!("/abc/{}", key.encoded()), &[]).expect("a target");
        proptest::prop_assert_eq!(target.key(), Some(&key));
    }
}

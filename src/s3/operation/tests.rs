//! Tests of operations and header policies.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;
use crate::s3::error::Code;
use crate::s3::target::{Query, Target};

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name: HeaderName = name.parse().expect("a header name");
        headers.append(name, HeaderValue::from_str(value).expect("a header value"));
    }
    headers
}

fn parse_with(method: &str, uri: &str, given: &[(&str, &str)]) -> Result<Operation, OperationError> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let target = Target::parse("localhost", path, &[]).expect("a target");
    let query = Query::parse(query).expect("a query");
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    Operation::parse(&method, target, &query, &mut headers(given))
}

fn parse(method: &str, uri: &str) -> Result<Operation, OperationError> {
    parse_with(method, uri, &[])
}

#[test]
fn each_operation_has_its_shape_name_and_needs() {
    use Access::{Bucket, Configure, Delete, List, Read, Write};
    let table: &[(&str, &str, &str, &[Access])] = &[
        ("GET", "/", "ListBuckets", &[List]),
        ("GET", "/?x-id=ListBuckets&max-buckets=10&prefix=a", "ListBuckets", &[List]),
        ("PUT", "/abc", "CreateBucket", &[Bucket]),
        ("PUT", "/abc/?x-id=CreateBucket", "CreateBucket", &[Bucket]),
        ("HEAD", "/abc", "HeadBucket", &[List]),
        ("DELETE", "/abc", "DeleteBucket", &[Bucket]),
        ("GET", "/abc?location", "GetBucketLocation", &[List]),
        ("GET", "/abc", "ListObjects", &[List]),
        ("GET", "/abc?delimiter=%2F&marker=&max-keys=5&prefix=&encoding-type=url", "ListObjects", &[List]),
        ("GET", "/abc?allow-unordered=true", "ListObjects", &[List]),
        ("GET", "/abc?list-type=2&fetch-owner=true&start-after=a&continuation-token=b", "ListObjectsV2", &[List]),
        ("POST", "/abc?delete", "DeleteObjects", &[Delete]),
        ("POST", "/abc/?delete=", "DeleteObjects", &[Delete]),
        ("PUT", "/abc/k", "PutObject", &[Write]),
        ("PUT", "/abc/k?x-id=PutObject", "PutObject", &[Write]),
        ("GET", "/abc/k?versionId=1", "GetObject", &[Read]),
        ("HEAD", "/abc/k", "HeadObject", &[Read]),
        ("DELETE", "/abc/k?versionId=null", "DeleteObject", &[Delete]),
        ("GET", "/abc?encryption", "GetBucketEncryption", &[List]),
        ("PUT", "/abc?encryption=", "PutBucketEncryption", &[Configure]),
        ("DELETE", "/abc?encryption", "DeleteBucketEncryption", &[Configure]),
        ("POST", "/abc/k?restore&versionId=1", "RestoreObject", &[Write]),
        ("GET", "/abc?acl", "GetBucketAcl", &[List]),
        ("PUT", "/abc?policy", "PutBucketPolicy", &[Configure]),
        ("GET", "/abc/k?acl", "GetObjectAcl", &[Read]),
        ("PUT", "/abc/k?acl&versionId=3", "PutObjectAcl", &[Configure]),
        ("PUT", "/abc/k?retention=", "PutObjectRetention", &[Configure]),
        ("DELETE", "/abc/k?tagging", "DeleteObjectTagging", &[Write]),
        ("GET", "/abc?inventory", "ListBucketInventoryConfigurations", &[List]),
        ("GET", "/abc?inventory&id=7", "GetBucketInventoryConfiguration", &[List]),
    ];
    for (method, uri, name, needs) in table {
        let operation = parse(method, uri).unwrap_or_else(|error| panic!("{method} {uri}: {error}"));
        assert_eq!((operation.name(), operation.needs()), (*name, *needs), "{method} {uri}");
        assert_eq!(Some(&operation.class()), needs.first());
        assert_eq!(operation.bucket().is_some(), uri.starts_with("/abc"));
        assert_eq!(operation.key().is_some(), uri.starts_with("/abc/k"));
    }
}

#[test]
fn every_known_sub_resource_passes_through_with_its_methods_only() {
    let bucket: &[(&str, &[&str])] = &[
        ("accelerate", &["GET", "PUT"]),
        ("acl", &["GET", "PUT"]),
        ("analytics&id=1", &["GET", "PUT", "DELETE"]),
        ("cors", &["GET", "PUT", "DELETE"]),
        ("intelligent-tiering&id=1", &["GET", "PUT", "DELETE"]),
        ("inventory&id=1", &["GET", "PUT", "DELETE"]),
        ("lifecycle", &["GET", "PUT", "DELETE"]),
        ("logging", &["GET", "PUT"]),
        ("metrics&id=1", &["GET", "PUT", "DELETE"]),
        ("notification", &["GET", "PUT"]),
        ("object-lock", &["GET", "PUT"]),
        ("ownershipControls", &["GET", "PUT", "DELETE"]),
        ("policy", &["GET", "PUT", "DELETE"]),
        ("policyStatus", &["GET"]),
        ("publicAccessBlock", &["GET", "PUT", "DELETE"]),
        ("replication", &["GET", "PUT", "DELETE"]),
        ("requestPayment", &["GET", "PUT"]),
        ("tagging", &["GET", "PUT", "DELETE"]),
        ("versioning", &["GET", "PUT"]),
    ];
    let object: &[(&str, &[&str])] = &[
        ("acl", &["GET", "PUT"]),
        ("tagging&versionId=1", &["GET", "PUT", "DELETE"]),
        ("retention", &["GET", "PUT"]),
        ("legal-hold", &["GET", "PUT"]),
        ("restore&versionId=1", &["POST"]),
    ];
    for (path, table) in [("/abc", bucket), ("/abc/k", object)] {
        for (query, methods) in table {
            for method in ["GET", "PUT", "DELETE", "HEAD", "POST", "PATCH"] {
                let parsed = parse(method, &format!("{path}?{query}"));
                match parsed {
                    Ok(Operation::Bucket(_, BucketOperation::PassThrough(pass)))
                    | Ok(Operation::Object(_, _, ObjectOperation::PassThrough(pass))) => {
                        assert!(methods.contains(&method), "{method} {path}?{query}");
                        assert_eq!(pass.parameters().as_slice().len(), query.split('&').count());
                        assert_eq!(query.split('&').next(), Some(pass.sub_resource().name()));
                    }
                    refused => {
                        assert!(!methods.contains(&method), "{method} {path}?{query}");
                        assert_eq!(refused.map_err(|error| error.code()), Err(Code::NotImplemented));
                    }
                }
            }
        }
    }
}

#[test]
fn hostile_query_strings_never_become_an_operation() {
    let on_objects = [
        "uploads=1",
        "uploads&uploadId=1",
        "uploadId",
        "uploadId=",
        "uploadId=a%20b",
        "partNumber=0&uploadId=2",
        "partNumber=10001&uploadId=2",
        "partNumber=%2B1&uploadId=2",
        "partNumber=0",
        "partNumber=1&uploadId=2&new",
        "attributes=1",
        "attributes&new",
        "torrent",
        "restore=1",
        "restore&new",
        "restore&uploads",
        "restore&select&select-type=2",
        "select&select-type=2",
        "versions",
        "renameObject",
        "append&position=0",
        "new-thing",
        "new-thing=1",
        "ACL",
        "acL",
        "acl%00",
        "acl&tagging",
        "acl&new-thing",
        "tagging&uploads",
        "tagging&partNumber=1",
        "versionid=1",
        "versionId=1&new",
        "=",
        "=acl",
        "%20",
        "acl=x",
        "tagging=x",
        "acl&versionId=1&id=2",
        "encryption",
        "website",
        "cors",
        "lifecycle",
        "policy",
        "list-type=2",
        "prefix=a",
        "location",
        "delete",
        "X-Amz-Acl=private",
        "x-amz-copy-source=a%2Fb",
        "X-Amz-Signature=0&x-amz-new-thing=1",
        "X-Amz-Signature=0&x-amz-copy-source=a%2Fb",
        "response-content-typ=a",
        "x-amz-signature=0",
        "AWSAccessKeyId=a&Signature=b&Expires=1",
        "x-oss-process=image",
        "metadata",
        "metadata=true",
        "compose",
        "lambdaArn=a",
        "legal-hold&retention",
        "versionId",
        "versionId=",
        "object-lock",
        "X-ID=PutObject",
    ];
    for query in on_objects {
        for method in ["PUT", "POST", "DELETE", "GET", "HEAD"] {
            let uri = format!("/abc/k?{query}");
            let Ok(parsed) = Query::parse(query) else { continue };
            let target = Target::parse("localhost", "/abc/k", &[]).expect("a target");
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let result = Operation::parse(&method, target, &parsed, &mut HeaderMap::new());
            let code = result.expect_err(&uri).code();
            let expected = matches!(code, Code::NotImplemented | Code::InvalidArgument | Code::NoSuchUpload);
            assert!(expected, "{method} {uri}: {code}");
        }
    }
    let on_buckets = [
        "versions=1",
        "versions&marker=a",
        "uploads=1",
        "uploads&max-keys=1",
        "uploads&max-uploads=-1",
        "encryption=1",
        "encryption&new",
        "encryption&acl",
        "restore",
        "website",
        "new-thing",
        "versionId=1",
        "retention",
        "legal-hold",
        "location&new",
        "location=x",
        "delete&new",
        "delete=x",
        "list-type=1&new",
        "list-type=3",
        "list-type",
        "list-type=2&marker=a",
        "list-type=2&allow-anything=true",
        "start-after=a",
        "metadata=true",
        "session",
        "metadataTable",
        "abac",
        "acl&policy",
        "acl&id=1",
        "policy=x",
        "policy&versionId=1",
        "inventory&id=1&new",
        "max-keys=-1",
        "max-keys=1x",
        "max-keys=%2B1",
        "max-keys=2147483648",
        "encoding-type=base64",
        "list-type=2&encoding-type=",
    ];
    for query in on_buckets {
        for method in ["PUT", "POST", "DELETE", "GET", "HEAD", "OPTIONS"] {
            let code = parse(method, &format!("/abc?{query}")).expect_err(query).code();
            assert!(matches!(code, Code::NotImplemented | Code::InvalidArgument), "{method} ?{query}: {code}");
        }
    }
    for uri in ["/?acl", "/?bucket-region=a", "/?max-buckets=0", "/?max-buckets=10001", "/?Action=AssumeRole"] {
        assert!(parse("GET", uri).is_err(), "{uri}");
    }
}

#[test]
fn listings_do_not_look_outside_the_bucket() {
    for (parameter, listing) in [
        ("prefix", "max-keys=1"),
        ("prefix", "list-type=2"),
        ("marker", "max-keys=1"),
        ("start-after", "list-type=2"),
        ("continuation-token", "list-type=2"),
        ("key-marker", "versions"),
        ("version-id-marker", "versions"),
        ("key-marker", "uploads"),
        ("upload-id-marker", "uploads"),
        ("id", "inventory"),
        ("continuation-token", "inventory"),
    ] {
        for value in ["", "a/../b", "..a", "a//", "/", "a/..", "./a"] {
            let uri = format!("/abc?{listing}&{parameter}={value}");
            assert!(parse("GET", &uri).is_ok(), "{uri}");
        }
        for value in ["..", "../claviger-state", "a/../../claviger-state/", "..%5Ca", "a%2F..%2F..%2F"] {
            let uri = format!("/abc?{listing}&{parameter}={value}");
            let refused = parse("GET", &uri).expect_err(&uri);
            assert_eq!(refused, OperationError::OutOfBucket(parameter), "{uri}");
            assert_eq!(refused.code(), Code::InvalidArgument);
        }
    }
}

/// A server that keeps uploads as folders would remove another bucket for it.
#[test]
fn hostile_upload_ids_are_no_paths_out() {
    let on_uploads = [("PUT", "&partNumber=1"), ("GET", ""), ("POST", ""), ("DELETE", "")];
    for (method, further) in on_uploads {
        let with = |id: &str| parse(method, &format!("/abc/k?uploadId={id}{further}"));
        for id in ["2~a.b-c_d", "a..b", "YS9i%2FYw==", "a/../b"] {
            assert!(with(id).is_ok(), "{method} {id}");
        }
        for id in ["..", "../claviger-state", "a/../../claviger-state", "..%5Cclaviger-state", "%2F..%2Fx", "./.."] {
            assert_eq!(with(id), Err(OperationError::NoSuchUpload), "{method} {id}");
        }
    }
    for (method, verb) in [("GET", "read"), ("PUT", "set"), ("DELETE", "removed")] {
        let refused = parse(method, "/abc?inventory&id=../../claviger-state").expect_err(verb);
        assert_eq!(refused, OperationError::OutOfBucket("id"), "{method}");
    }
}

#[test]
fn version_ids_are_bounded_and_no_paths_out() {
    let longest = "v".repeat(1024);
    for (method, query) in [("GET", ""), ("HEAD", ""), ("DELETE", ""), ("GET", "tagging&"), ("PUT", "acl&")] {
        let with = |version: &str| parse(method, &format!("/abc/k?{query}versionId={version}"));
        assert!(with("null").is_ok() && with(&longest).is_ok(), "{method} {query}");
        for version in ["", &format!("{longest}v"), "/../../claviger-state/a", "..%5Ca"] {
            assert_eq!(with(version), Err(OperationError::Value("versionId")), "{method} {query}{version}");
        }
    }
}

#[test]
fn refusals_name_what_was_asked() {
    for (method, uri, words) in [
        ("PUT", "/abc/k?new-thing=1", "new-thing"),
        ("PUT", "/abc/k?partNumber=0&uploadId=2", "partNumber"),
        ("PATCH", "/abc/k?uploadId=2", "PATCH on an upload"),
        ("PATCH", "/abc/k", "PATCH"),
        ("OPTIONS", "/abc", "OPTIONS"),
        ("POST", "/abc", "multipart/form-data"),
        ("POST", "/abc?encryption", "POST on encryption"),
        ("GET", "/abc/k?restore", "GET on restore"),
        ("DELETE", "/abc?acl", "DELETE on acl"),
        ("PUT", "/abc?inventory", "id"),
    ] {
        let error = parse(method, uri).expect_err(uri).to_string();
        assert!(error.contains(words), "{error}");
    }
    let long = parse("GET", &format!("/abc/k?{}", "é".repeat(900))).expect_err("unknown").to_string();
    assert!(long.len() < 256, "{long}");
}

#[test]
fn headers_that_ask_for_something_else_are_refused() {
    for (method, name, code) in [
        ("PUT", "x-amz-copy-source", Code::InvalidArgument),
        ("PUT", "X-Amz-Copy-Source-If-Match", Code::InvalidArgument),
        ("GET", "x-amz-copy-source", Code::InvalidArgument),
        ("PUT", "x-amz-write-offset-bytes", Code::NotImplemented),
        ("PUT", "x-amz-rename-source", Code::NotImplemented),
        ("PUT", "x-amz-website-redirect-location", Code::NotImplemented),
        ("GET", "x-amz-server-side-encryption", Code::InvalidArgument),
        ("HEAD", "x-amz-server-side-encryption-aws-kms-key-id", Code::InvalidArgument),
        ("DELETE", "x-amz-if-match-size", Code::NotImplemented),
        ("PUT", "x-amz-meta-claviger", Code::InvalidArgument),
        ("PUT", "X-AMZ-META-Claviger", Code::InvalidArgument),
    ] {
        let error = parse_with(method, "/abc/k", &[(name, "value")]).expect_err(name);
        assert_eq!(error.code(), code, "{method} {name}");
    }
    assert!(parse_with("PUT", "/abc/k", &[("x-amz-server-side-encryption", "aws:kms")]).is_ok());
    assert!(parse_with("PUT", "/abc/k", &[("x-amz-meta-claviger-2", "mine")]).is_ok());
}

#[test]
fn headers_in_a_presigned_url_count_as_headers() {
    let target = || Target::parse("localhost", "/abc/k", &[]).expect("a target");
    let query = Query::parse("X-Amz-Signature=0&X-Amz-Acl=public-read&x-amz-meta-a=b&x-id=PutObject").expect("a query");
    let mut given = HeaderMap::new();
    let operation = Operation::parse(&Method::PUT, target(), &query, &mut given).expect("a PutObject");
    assert_eq!(operation.needs(), [Access::Write, Access::Configure]);
    assert_eq!(given, headers(&[("x-amz-acl", "public-read"), ("x-amz-meta-a", "b")]));
    let mut given = headers(&[("x-amz-acl", "private")]);
    let refused = Operation::parse(&Method::PUT, target(), &query, &mut given).expect_err("a contradiction");
    assert_eq!(refused.code(), Code::InvalidRequest);
}

#[test]
fn granting_locking_and_bypassing_need_more() {
    let needs = |method, uri, header: (&str, &str)| parse_with(method, uri, &[header]).expect("an operation").needs();
    let both = [Access::Write, Access::Configure];
    assert_eq!(needs("PUT", "/abc/k", ("x-amz-acl", "private")), [Access::Write]);
    assert_eq!(needs("PUT", "/abc/k", ("x-amz-acl", "bucket-owner-full-control")), [Access::Write]);
    assert_eq!(needs("PUT", "/abc/k", ("x-amz-acl", "public-read")), both);
    assert_eq!(needs("PUT", "/abc/k", ("x-amz-grant-read", "id=1")), both);
    assert_eq!(needs("PUT", "/abc/k", ("x-amz-object-lock-mode", "COMPLIANCE")), both);
    let made = [Access::Bucket, Access::Configure];
    for (name, value, expected) in [
        ("x-amz-acl", "private", &made[..1]),
        ("x-amz-acl", "public-read-write", &made),
        ("x-amz-acl", "bucket-owner-full-control", &made),
        ("x-amz-grant-write", "id=1", &made),
        ("x-amz-bucket-object-lock-enabled", "true", &made),
        ("x-amz-bucket-object-lock-enabled", "false", &made[..1]),
        ("x-amz-object-ownership", "ObjectWriter", &made),
    ] {
        assert_eq!(needs("PUT", "/abc", (name, value)), expected, "{name}: {value}");
    }
    let bypass = ("x-amz-bypass-governance-retention", "true");
    assert_eq!(needs("DELETE", "/abc/k", bypass), [Access::Delete, Access::Configure]);
    assert_eq!(needs("POST", "/abc?delete", bypass), [Access::Delete, Access::Configure]);
    assert_eq!(needs("DELETE", "/abc/k", ("x-amz-bypass-governance-retention", "False")), [Access::Delete]);
}

#[test]
fn parameters_arrive_parsed() {
    let Ok(Operation::Object(_, key, ObjectOperation::GetObject(read))) =
        parse("GET", "/abc/a%2Fb?versionId=v1&response-content-type=text%2Fplain&response-expires=0&x-id=GetObject")
    else {
        panic!("a GetObject");
    };
    assert_eq!((key.as_str(), read.version_id.as_deref()), ("a/b", Some("v1")));
    let overrides: Vec<_> = read.overrides.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    assert_eq!(overrides, [("content-type", &b"text/plain"[..]), ("expires", b"0")]);
    assert!(parse("GET", "/abc/k?response-content-type=a%0d%0ab").is_err());

    let Ok(Operation::Bucket(_, BucketOperation::ListObjectsV1(listing))) =
        parse("GET", "/abc?prefix=a%20b&max-keys=5000&delimiter")
    else {
        panic!("a ListObjects");
    };
    assert_eq!((listing.get("prefix"), listing.get("max-keys")), (Some("a b"), Some("1000")));
    assert_eq!((listing.get("delimiter"), listing.get("marker")), (Some(""), None));

    let list = parse("GET", "/?max-buckets=10&continuation-token=abc&prefix=");
    let expected = ListBuckets { prefix: None, continuation_token: Some("abc".to_owned()), max_buckets: Some(10) };
    assert_eq!(list, Ok(Operation::ListBuckets(expected)));
}

#[test]
fn what_describes_plaintext_never_reaches_the_storage_server() {
    let withheld = [
        "authorization",
        "host",
        "date",
        "x-amz-date",
        "x-amz-content-sha256",
        "x-amz-security-token",
        "x-amz-checksum-crc32",
        "x-amz-checksum-mode",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-trailer",
        "x-amz-decoded-content-length",
        "content-md5",
        "content-length",
        "content-type",
        "content-encoding",
        "content-disposition",
        "content-language",
        "cache-control",
        "expires",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "upgrade",
        "expect",
        "range",
        "cookie",
        "x-amz-meta-colour",
        "if-match",
        "if-none-match",
        "if-range",
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-aws-kms-key-id",
        "x-claviger-reason",
        "x-forwarded-for",
        "via",
        "forwarded",
        "accept-encoding",
        "x-http-method-override",
        "x_amz_copy_source",
        "x_amz_meta_claviger",
        "x-minio-extract",
        "x-minio-force-delete",
        "seaweed-ttl",
        "x-rgw-x",
    ];
    let mut given: Vec<(&str, &str)> = withheld.iter().map(|name| (*name, "v")).collect();
    let kept = [("x-amz-acl", "private"), ("x-amz-tagging", "a=b"), ("x-amz-object-lock-legal-hold", "ON")];
    given.extend(kept);
    let put = parse("PUT", "/abc/k").expect("a PutObject");
    assert_eq!(forwardable_request_headers(&put, &headers(&given)), headers(&kept));

    let pass = parse("PUT", "/abc?policy").expect("a PutBucketPolicy");
    let forwarded = forwardable_request_headers(&pass, &headers(&[("content-type", "a/b"), ("content-md5", "x")]));
    assert_eq!(forwarded, headers(&[("content-type", "a/b")]));
}

/// One request of each kind.
const EVERY_KIND: [(&str, &str); 19] = [
    ("GET", "/"),
    ("PUT", "/abc"),
    ("HEAD", "/abc"),
    ("DELETE", "/abc"),
    ("GET", "/abc?location"),
    ("GET", "/abc"),
    ("GET", "/abc?list-type=2"),
    ("POST", "/abc?delete"),
    ("GET", "/abc?cors"),
    ("GET", "/abc?inventory"),
    ("PUT", "/abc?policy"),
    ("DELETE", "/abc?lifecycle"),
    ("PUT", "/abc/k"),
    ("GET", "/abc/k"),
    ("HEAD", "/abc/k"),
    ("DELETE", "/abc/k"),
    ("GET", "/abc/k?acl"),
    ("PUT", "/abc/k?tagging"),
    ("DELETE", "/abc/k?tagging"),
];

#[test]
fn hostile_no_operation_forwards_an_unknown_header() {
    let unknown = [
        "x-amz-new-thing",
        "x-amz-acl-2",
        "x-amz-grant-new",
        "x-amz-object-lock-new",
        "x-amz-tagging-directive",
        "x-amz-meta-patient",
        "x-amz-bucket-namespace",
        "x-amzn-trace-id",
        "x_amz_acl",
        "x-other",
        "x-api-key",
        "x-auth-token",
        "x-user-email",
        "x-correlation-id",
        "traceparent",
        "baggage",
        "referer",
        "from",
        "cf-access-jwt-assertion",
        "cf-connecting-ip",
        "true-client-ip",
        "x-ceph-mtime",
        "x-emc-meta",
        "x-emc-namespace",
        "x-ntap-sg-trace-id",
        "x-goog-copy-source",
        "x-object-meta-a",
        "x-delete-at",
        "x-wasabi-set-compliance",
        "x-bz-file-name",
        "x-scal-s3-replication-status-specific-location",
        "accept",
        "accept-language",
        "access-control-request-private-network",
        "dnt",
        "priority",
    ];
    let given: Vec<(&str, &str)> = unknown.iter().map(|name| (*name, "v")).collect();
    for (method, uri) in EVERY_KIND {
        let operation = parse(method, uri).expect(uri);
        let forwarded = forwardable_request_headers(&operation, &headers(&given));
        assert!(forwarded.is_empty(), "{method} {uri}: {forwarded:?}");
    }
}

#[test]
fn hostile_uploads_under_way_change_no_settings() {
    let settings = [
        "x-amz-acl",
        "x-amz-grant-read",
        "x-amz-grant-full-control",
        "x-amz-object-lock-mode",
        "x-amz-object-lock-retain-until-date",
        "x-amz-object-lock-legal-hold",
        "x-amz-bypass-governance-retention",
        "x-amz-tagging",
        "x-amz-storage-class",
        "x-amz-mfa",
    ];
    let kept = [("x-amz-expected-bucket-owner", "1"), ("x-amz-request-payer", "requester"), ("origin", "https://a")];
    let mut given: Vec<(&str, &str)> = settings.iter().map(|name| (*name, "v")).collect();
    given.extend(kept);
    for (method, query, copied) in [
        ("PUT", "uploadId=1&partNumber=1", None),
        ("PUT", "uploadId=1&partNumber=1", Some(("x-amz-copy-source", "/abc/other"))),
        ("GET", "uploadId=1", None),
        ("POST", "uploadId=1", None),
        ("DELETE", "uploadId=1", None),
    ] {
        let copied: Vec<_> = copied.into_iter().collect();
        let operation = parse_with(method, &format!("/abc/k?{query}"), &copied).expect(query);
        assert_eq!(operation.needs(), [Access::Write], "{method}");
        assert_eq!(forwardable_request_headers(&operation, &headers(&given)), headers(&kept), "{method} {query}");
    }
    // What creates the upload says them, and needs the rights.
    let create = parse_with("POST", "/abc/k?uploads", &[("x-amz-acl", "public-read")]).expect("a creation");
    assert!(create.needs().contains(&Access::Configure));
    assert_eq!(forwardable_request_headers(&create, &headers(&given)).len(), given.len());
}

#[test]
fn of_a_referer_only_the_site_is_forwarded() {
    let get = parse("GET", "/abc/k").expect("a GetObject");
    let forwarded = |given: &[(&str, &str)]| {
        let forwarded = forwardable_request_headers(&get, &headers(given));
        forwarded.get("referer").map(|value| value.to_str().expect("text").to_owned())
    };
    for (referer, site) in [
        ("http://www.example.com", Some("http://www.example.com")),
        ("https://www.example.com/", Some("https://www.example.com/")),
        ("https://www.example.com:8443/patients/7?token=s#x", Some("https://www.example.com:8443/")),
        ("https://www.example.com?token=s", Some("https://www.example.com/")),
        ("https://user:secret@www.example.com/", None),
        ("file:///home/user", None),
        ("https://", None),
        ("https:///patients", None),
        ("about:blank", None),
    ] {
        assert_eq!(forwarded(&[("referer", referer)]).as_deref(), site, "{referer}");
    }
    assert_eq!(forwarded(&[("referer", "https://a/"), ("referer", "https://b/")]), None);
}

#[test]
fn hostile_connection_takes_no_header_off() {
    let known = [("x-amz-object-lock-mode", "COMPLIANCE"), ("x-amz-acl", "private"), ("x-amz-tagging", "a=b")];
    let mut given = known.to_vec();
    given.push(("connection", "close, X-Amz-Object-Lock-Mode, x-amz-acl"));
    given.push(("connection", "x-amz-tagging"));
    for (method, uri) in EVERY_KIND {
        let operation = parse(method, uri).expect(uri);
        assert_eq!(forwardable_request_headers(&operation, &headers(&given)), headers(&known), "{method} {uri}");
    }
}

#[test]
fn what_describes_ciphertext_never_reaches_the_client() {
    let dropped = [
        "x-amz-checksum-crc32",
        "x-amz-checksum-type",
        "content-length",
        "content-type",
        "content-encoding",
        "etag",
        "content-disposition",
        "cache-control",
        "expires",
        "x-amz-meta-claviger",
        "x-amz-server-side-encryption",
        "accept-ranges",
        "content-range",
        "connection",
        "transfer-encoding",
        "server",
        "set-cookie",
        "date",
        "strict-transport-security",
        "x-amz-request-id",
        "x-amz-id-2",
        "x-amz-missing-meta",
        "x-amz-mp-parts-count",
        "location",
        "x-amz-website-redirect-location",
        "x-amz-object-size",
        "x-amz-new-thing",
    ];
    let mut given: Vec<(&str, &str)> = dropped.iter().map(|name| (*name, "v")).collect();
    let kept = [
        ("last-modified", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ("x-amz-version-id", "3"),
        ("x-amz-storage-class", "GLACIER"),
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-tagging-count", "2"),
    ];
    given.extend(kept);
    let get = parse("GET", "/abc/k").expect("a GetObject");
    assert_eq!(clean_response_headers(&get, &headers(&given)), headers(&kept));
    let pass = parse("GET", "/abc?policy").expect("a GetBucketPolicy");
    assert!(clean_response_headers(&pass, &headers(&given)).contains_key("content-type"));
    assert_eq!(storage_request_id(&headers(&[("x-amz-request-id", "7")])), Some("7"));
}

#[test]
fn answers_are_checked_for_being_what_was_asked() {
    let answered = |method, uri, given: &[(&str, &str)], body: &str| {
        let pass = match parse(method, uri) {
            Ok(Operation::Bucket(_, BucketOperation::PassThrough(pass)))
            | Ok(Operation::Object(_, _, ObjectOperation::PassThrough(pass))) => pass,
            other => panic!("{other:?}"),
        };
        pass.is_answered_by(&headers(given), body.as_bytes())
    };
    let tagging = "<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet/></Tagging>";
    assert!(answered("GET", "/abc/k?tagging", &[], tagging));
    assert!(!answered("GET", "/abc/k?acl", &[], tagging));
    assert!(!answered("GET", "/abc/k?tagging", &[], "the object's own bytes"));
    assert!(!answered("GET", "/abc/k?tagging", &[], ""));
    assert!(answered("PUT", "/abc/k?tagging", &[], ""));
    assert!(!answered("PUT", "/abc/k?tagging", &[("etag", "\"1\"")], ""));
    assert!(answered("GET", "/abc?policy", &[], "{\"Version\":\"2012-10-17\",\"Statement\":[]}"));
    assert!(!answered("GET", "/abc?policy", &[], "<ListBucketResult/>"));
    assert!(answered("GET", "/abc?metrics", &[], "<ListMetricsConfigurationsResult/>"));
    assert!(!answered("GET", "/abc?metrics", &[], "<ListBucketResult/>"));
    assert!(answered("DELETE", "/abc?cors", &[], ""));
    let block = "<BlockPublicAccessBlockConfiguration><BlockPublicAcls>false</BlockPublicAcls></BlockPublicAccessBlockConfiguration>";
    assert!(answered("GET", "/abc?publicAccessBlock", &[], block));
    assert!(!answered("GET", "/abc?cors", &[], block));
}

#[test]
fn documents_are_checked_for_being_what_they_are_sent_as() {
    let asked = |method, uri, given: &[(&str, &str)], document: &str| {
        let pass = match parse(method, uri) {
            Ok(Operation::Bucket(_, BucketOperation::PassThrough(pass)))
            | Ok(Operation::Object(_, _, ObjectOperation::PassThrough(pass))) => pass,
            other => panic!("{other:?}"),
        };
        pass.is_asked_by(&headers(given), document.as_bytes())
    };
    for (uri, document) in [
        ("/abc/k?tagging", "<?xml version='1.0'?><Tagging xmlns='u'><TagSet/></Tagging>"),
        ("/abc/k?retention", "<Retention><Mode>GOVERNANCE</Mode></Retention>"),
        ("/abc/k?legal-hold", "<LegalHold><Status>ON</Status></LegalHold>"),
        ("/abc/k?acl", "<AccessControlPolicy/>"),
        ("/abc?versioning", "<VersioningConfiguration/>"),
        ("/abc?inventory&id=1", "<InventoryConfiguration/>"),
        ("/abc?policy", " {\"Version\":\"2012-10-17\",\"Statement\":[{}]}\n"),
    ] {
        assert!(asked("PUT", uri, &[], document), "{uri}");
        assert!(!asked("GET", uri, &[], document) && asked("GET", uri, &[], ""), "{uri}");
        let acl = &[("x-amz-acl", "private")];
        for wrong in ["", "a record", "<Record/>", "[{}]", "\"{}\"", "{} {}", "{\"a\":}", "<Tagging>", "null"] {
            assert!(!asked("PUT", uri, &[], wrong), "{uri} {wrong}");
            let in_headers = uri.ends_with("acl") && wrong.is_empty();
            assert_eq!(asked("PUT", uri, acl, wrong), in_headers, "{uri} {wrong}");
        }
    }
    assert!(asked("PUT", "/abc?acl", &[("x-amz-grant-read", "id=1")], ""));
    assert!(!asked("PUT", "/abc/k?tagging", &[], "<AccessControlPolicy/>"));
}

proptest::proptest! {
    #[test]
    fn an_unknown_parameter_never_becomes_a_put(name in "[a-zA-Z][a-zA-Z-]{0,20}", value in "[a-z0-9]{0,5}") {
        let unknown = !["x-id", "acl", "tagging", "retention", "legal-hold", "restore"].contains(&name.as_str());
        let refused = parse("PUT", &format!("/abc/k?{name}={value}")).is_err();
        proptest::prop_assert!(!unknown || refused);
    }
}

//! Signatures made by botocore 1.44.5, for names and values that its users do have.

use super::{Request, datetime};

const HOST: (&str, &str) = ("host", "proxy.example:8443");
const DATE: (&str, &str) = ("x-amz-date", "20130524T000000Z");
const ODD_KEY: &str = "/bucket/a%20b%2Bc//../%C3%A9%25~%24%26%3D.txt";

#[test]
fn botocore_put_of_an_odd_key() {
    let request = Request::new(
        "PUT",
        ODD_KEY,
        None,
        &[
            HOST,
            DATE,
            ("content-type", "text/plain"),
            ("x-amz-meta-note", "  two  spaces "),
            ("x-amz-content-sha256", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/eu-central-1/s3/aws4_request, \
            SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-meta-note, \
            Signature=ab1a6dd9d7996deb3c8ea06c1647713d14f73d9fea58ea869e2907ab2388174f",
            ),
        ],
    );
    assert_eq!(request.verify().expect("a true signature").region(), "eu-central-1");
}

#[test]
fn botocore_list_with_a_session_token() {
    let query = "list-type=2&prefix=a%20b%2Fc%2B&delimiter=%2F&continuation-token=x%3D%3D";
    let mut request = Request::new(
        "GET",
        "/bucket",
        Some(query),
        &[
            HOST,
            DATE,
            ("x-amz-security-token", "to/ken+="),
            ("x-amz-content-sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/eu-central-1/s3/aws4_request, \
            SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, \
            Signature=9d923fafa84393699a27f7dd70418e8bbfb91d3986d6df638d917238c74395e0",
            ),
        ],
    );
    request.verify().expect("a true signature");
    // The same query as an HTML form would send it.
    request.query = Some(query.replace("%20", "+"));
    request.verify().expect("a plus is a space");
}

#[test]
fn botocore_presigned_get_of_an_odd_key() {
    let query = "response-content-disposition=attachment%3B%20filename%3D%22a%2Bb%22&X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Feu-central-1%2Fs3%2Faws4_request\
        &X-Amz-Date=20130524T000000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host\
        &X-Amz-Security-Token=to%2Fken%2B%3D\
        &X-Amz-Signature=e6ff3d311f4f03f1de7adb5de11c545c746445511b542eba2de6284eeb86fa38";
    let request = Request::new("GET", ODD_KEY, Some(query), &[HOST]);
    request.verify_at(datetime!(2013-05-24 1:00 UTC)).expect("a true signature");
}

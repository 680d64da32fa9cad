//! Nothing but the request that was signed passes, and only in its time.

use proptest::prelude::*;
use time::{Duration, OffsetDateTime};

use super::super::{
    AuthError, Credentials, Malformed, Payload, PayloadHash, Presented, SignError, SigningTarget, VerifySettings,
    presign, sign, uri_encode_path, uri_encode_query,
};
use super::{ACCESS_KEY, NOW, Request, secret};
use crate::secret::SecretBytes;

fn credentials(token: Option<&str>) -> Credentials {
    let session_token = token.map(|token| SecretBytes::new(token.into()).expect("not empty"));
    Credentials { access_key: ACCESS_KEY.to_owned(), secret: secret(), session_token }
}

fn target(request: &Request) -> SigningTarget<'_> {
    SigningTarget { method: &request.method, raw_path: &request.path, raw_query: request.query.as_deref() }
}

fn signed(mut request: Request, payload: PayloadHash) -> Request {
    let mut headers = request.headers.clone();
    sign(&credentials(None), "us-east-1", NOW, &target(&request), &mut headers, payload).expect("can be signed");
    request.headers = headers;
    request
}

fn presigned(mut request: Request, expires_s: u32) -> Request {
    let query = presign(&credentials(None), "us-east-1", NOW, expires_s, &target(&request), &request.headers);
    request.query = Some(query.expect("can be signed"));
    request
}

fn put() -> Request {
    Request::new(
        "PUT",
        "/bucket/key",
        Some("partNumber=1&uploadId=u"),
        &[("host", "h"), ("content-type", "text/plain"), ("x-amz-meta-a", "1"), ("x-amz-meta-a", "2")],
    )
}

type Tampering = (&'static str, fn(&mut Request));

/// Each change to a signed request, and how it is refused; the query ones do for presigned requests also.
fn tamperings() -> Vec<Tampering> {
    vec![
        ("method", |request| request.method = "DELETE".into()),
        ("path", |request| request.path = "/bucket/kez".into()),
        ("a slash more", |request| request.path = "/bucket//key".into()),
        ("a dot segment", |request| request.path = "/bucket/./key".into()),
        ("path escaped twice", |request| request.path = "/bucket/k%2565y".into()),
        ("query value", |request| {
            request.query = request.query.take().map(|query| query.replace("uploadId=u", "uploadId=v"));
        }),
        ("query parameter added", |request| {
            request.query = request.query.take().map(|query| format!("acl&{query}"));
        }),
        ("query removed", |request| {
            request.query = request.query.take().map(|query| query.replace("partNumber=1&", ""));
        }),
        ("header value", |request| request.set("content-type", "text/html")),
        ("header value among several", |request| request.append("x-amz-meta-a", "3")),
        ("host", |request| request.set("host", "other")),
    ]
}

#[test]
fn changes_to_a_signed_request_are_noticed() {
    let good = signed(put(), PayloadHash::of(b"body"));
    assert_eq!(good.verify().expect("untouched").access_key(), ACCESS_KEY);
    for (what, tamper) in tamperings() {
        let mut bad = good.clone();
        tamper(&mut bad);
        assert_eq!(bad.verify().err(), Some(AuthError::SignatureMismatch), "{what}");
    }
    let mut bad = good.clone();
    bad.set("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    assert_eq!(bad.verify().err(), Some(AuthError::SignatureMismatch));
}

#[test]
fn changes_to_a_presigned_request_are_noticed() {
    let good = presigned(put(), 60);
    good.verify().expect("untouched");
    for (what, tamper) in tamperings() {
        let mut bad = good.clone();
        tamper(&mut bad);
        assert_eq!(bad.verify().err(), Some(AuthError::SignatureMismatch), "{what}");
    }
    for (from, to) in [
        ("Expires=60", "Expires=600"),
        ("Date=20130524T000000Z", "Date=20130524T000001Z"),
        ("us-east-1", "us-west-1"),
        ("EXAMPLE", "EXAMPLF"),
        ("SignedHeaders=content-type%3B", "SignedHeaders="),
    ] {
        let mut bad = good.clone();
        bad.query = bad.query.map(|query| query.replace(from, to));
        assert_ne!(bad.query, good.query);
        assert_eq!(bad.verify().err(), Some(AuthError::SignatureMismatch), "{from}");
    }
}

#[test]
fn changes_to_the_authorization_are_noticed() {
    let good = signed(put(), PayloadHash::Unsigned);
    assert!(matches!(good.verify().expect("untouched").payload(), Payload::Unsigned));
    let text = good.headers.get("authorization").expect("signed").to_str().expect("text").to_owned();
    let last = text.chars().last().expect("not empty");
    let flipped = if last == '0' { '1' } else { '0' };
    for changed in [
        text.replace("us-east-1", "us-west-1"),
        text.replace("content-type;", ""),
        format!("{}{flipped}", text.strip_suffix(last).expect("its last")),
    ] {
        let mut bad = good.clone();
        bad.set("authorization", &changed);
        assert_eq!(bad.verify().err(), Some(AuthError::SignatureMismatch), "{changed}");
    }
    let mut bad = good.clone();
    bad.set("x-amz-date", "20130524T000001Z");
    assert_eq!(bad.verify().err(), Some(AuthError::SignatureMismatch));
    let mut bad = good.clone();
    bad.set("x-amz-date", "20130525T000000Z");
    assert_eq!(bad.verify().err(), Some(AuthError::Header(Malformed::ScopeDate)));
}

#[test]
fn another_secret_does_not_verify() {
    let good = signed(put(), PayloadHash::Unsigned);
    let presented = Presented::parse(&good.view()).expect("valid").expect("presented");
    let other = SecretBytes::new(b"another".to_vec()).expect("not empty");
    let verified = presented.verify(&good.view(), &other.into(), NOW, &VerifySettings::default());
    assert_eq!(verified.err(), Some(AuthError::SignatureMismatch));
}

#[test]
fn only_configured_regions_are_accepted() {
    let with = |request: Request, regions: &[&str]| {
        let presented = Presented::parse(&request.view()).expect("valid").expect("presented");
        let regions = regions.iter().map(|region| (*region).to_owned()).collect();
        let settings = VerifySettings { regions, ..VerifySettings::default() };
        presented.verify(&request.view(), &secret(), NOW, &settings).err()
    };
    let header = || signed(put(), PayloadHash::Unsigned);
    assert_eq!(with(header(), &["eu-central-1", "us-east-1"]), None);
    assert_eq!(with(header(), &["eu-central-1"]), Some(AuthError::Header(Malformed::Region)));
    assert_eq!(with(presigned(put(), 60), &["eu-central-1"]), Some(AuthError::Query(Malformed::Region)));
}

#[test]
fn unsigned_headers_of_s3_and_ours_are_refused_and_others_pass() {
    for mut request in [signed(put(), PayloadHash::Unsigned), presigned(put(), 60)] {
        request.append("user-agent", "curl");
        request.append("x-amzn-trace-id", "1");
        request.verify().expect("neither x-amz- nor x-claviger-");
        for (name, value) in [("x-amz-acl", "public-read"), ("x-claviger-reason", "customer-support")] {
            let mut bad = request.clone();
            bad.append(name, value);
            assert_eq!(bad.verify().err(), Some(AuthError::HeaderNotSigned(http::HeaderName::from_static(name))));
        }
    }
    let mut with_reason = put();
    with_reason.append("x-claviger-reason", "customer-support");
    for mut request in [signed(with_reason.clone(), PayloadHash::Unsigned), presigned(with_reason, 60)] {
        request.verify().expect("signed with it");
        request.set("x-claviger-reason", "customer-initiated");
        assert_eq!(request.verify().err(), Some(AuthError::SignatureMismatch));
    }
}

#[test]
fn the_host_must_be_signed_and_single() {
    let good = signed(put(), PayloadHash::Unsigned);
    let host = http::HeaderName::from_static("host");
    let mut unsigned = good.clone();
    let text = good.headers.get("authorization").expect("signed").to_str().expect("text");
    unsigned.set("authorization", &text.replace("host;", ""));
    assert_eq!(unsigned.verify().err(), Some(AuthError::HostNotSigned));
    let mut missing = good.clone();
    missing.headers.remove("host");
    assert_eq!(missing.verify().err(), Some(AuthError::SignedHeaderMissing(host.clone())));
    let mut twice = good;
    twice.append("host", "other");
    assert_eq!(twice.verify().err(), Some(AuthError::RepeatedHeader(host)));
    let mut headers = http::HeaderMap::new();
    let target = SigningTarget { method: "GET", raw_path: "/", raw_query: None };
    let result = sign(&credentials(None), "r", NOW, &target, &mut headers, PayloadHash::Unsigned);
    assert!(matches!(result, Err(SignError::HostMissing)));
}

#[test]
fn header_signatures_hold_for_a_quarter_of_an_hour_either_way() {
    let request = signed(put(), PayloadHash::Unsigned);
    let at = |offset_s: i64| request.verify_at(NOW + Duration::seconds(offset_s)).err();
    assert_eq!((at(900), at(-900)), (None, None));
    assert_eq!((at(901), at(-901)), (Some(AuthError::Skewed), Some(AuthError::Skewed)));
}

#[test]
fn presigned_requests_hold_for_as_long_as_they_say() {
    let request = presigned(put(), 3600);
    let at = |offset_s: i64| request.verify_at(NOW + Duration::seconds(offset_s)).err();
    assert_eq!((at(3600), at(-900)), (None, None));
    assert_eq!((at(3601), at(-901)), (Some(AuthError::Expired), Some(AuthError::NotYetValid)));
    assert_eq!(request.verify_at(OffsetDateTime::UNIX_EPOCH).err(), Some(AuthError::NotYetValid));
    let mut never = presigned(put(), 3600);
    never.query = never.query.map(|query| query.replace("Expires=3600", "Expires=0"));
    assert_eq!(never.verify_at(NOW - Duration::seconds(1)).err(), Some(AuthError::Expired));
    for expires_s in [0, 604_801] {
        let result = presign(&credentials(None), "r", NOW, expires_s, &target(&put()), &put().headers);
        assert!(matches!(result, Err(SignError::Expires(_))));
    }
}

#[test]
fn the_payload_word_is_needed_and_known() {
    let refused = |word: Option<&str>| {
        let mut request = signed(put(), PayloadHash::Unsigned);
        request.headers.remove("x-amz-content-sha256");
        let text = request.headers.get("authorization").expect("signed").to_str().expect("text").to_owned();
        match word {
            Some(word) => request.append("x-amz-content-sha256", word),
            None => request.set("authorization", &text.replace("x-amz-content-sha256;", "")),
        }
        request.verify().err()
    };
    assert_eq!(refused(None), Some(AuthError::ContentSha256Missing));
    assert_eq!(refused(Some("")), Some(AuthError::ContentSha256Invalid));
    assert_eq!(refused(Some("STREAMING-ELSE")), Some(AuthError::ContentSha256Invalid));
    assert_eq!(refused(Some("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD")), Some(AuthError::Ecdsa));
    let streaming = signed(put(), PayloadHash::StreamingUnsignedTrailer).verify().expect("untouched");
    assert!(matches!(streaming.payload(), Payload::StreamingUnsignedTrailer));
}

#[test]
fn presigned_requests_may_carry_a_body_hash() {
    let hash = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    let mut request = put();
    request.query = Some(format!("X-Amz-Content-Sha256={hash}"));
    // Our own presigning does not cover bodies, so what it signs here is another payload line.
    assert_eq!(presigned(request.clone(), 60).verify().err(), Some(AuthError::SignatureMismatch));
    request.query = Some("X-Amz-Content-Sha256=UNSIGNED-PAYLOAD".into());
    presigned(request.clone(), 60).verify().expect("the same word");
    request.append("x-amz-content-sha256", hash);
    assert_eq!(presigned(request, 60).verify().err(), Some(AuthError::ContentSha256Invalid));
}

#[test]
fn session_tokens_are_signed_and_shown_to_nobody() {
    let with_token = credentials(Some("token-value"));
    assert!(!format!("{with_token:?}").contains("token-value"));
    let mut request = put();
    let mut headers = request.headers.clone();
    sign(&with_token, "r", NOW, &target(&request), &mut headers, PayloadHash::Unsigned).expect("can be signed");
    request.headers = headers;
    assert!(!format!("{:?}", request.headers).contains("token-value"));
    request.verify().expect("untouched");
    assert!(Presented::parse(&request.view()).expect("valid").expect("presented").has_security_token());
    request.set("x-amz-security-token", "other");
    assert_eq!(request.verify().err(), Some(AuthError::SignatureMismatch));
}

proptest! {
    #[test]
    fn what_is_signed_verifies(
        key in proptest::collection::vec(any::<u8>(), 0..60),
        pairs in proptest::collection::vec(("[ -~é]{1,9}", "[ -~é]{0,9}"), 0..6),
        value in "[!-~]([ -~]{0,20}[!-~])?",
        length in 0usize..200,
    ) {
        let mut path = b"/bucket/".to_vec();
        path.extend_from_slice(&key);
        let mut request = Request::new("PUT", &uri_encode_path(&path), None, &[("host", "h"), ("x-amz-meta-v", &value)]);
        request.query = Some(uri_encode_query(pairs));
        let header = signed(request.clone(), PayloadHash::of(&vec![7; length]));
        prop_assert!(header.verify().is_ok());
        prop_assert!(presigned(request, 1).verify().is_ok());
        let mut other = header;
        other.path.push('/');
        prop_assert_eq!(other.verify().err(), Some(AuthError::SignatureMismatch));
    }
}

//! Which credentials are read, and how wrong ones are told apart.

use proptest::prelude::*;

use super::super::{AuthError, Field, Malformed, Presented};
use super::Request;

const SIGNATURE: &str = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
const CREDENTIAL: &str = "Credential=AK/20130524/us-east-1/s3/aws4_request";

fn parse(query: Option<&str>, authorization: &[&str]) -> Result<Option<Presented>, AuthError> {
    let mut request = Request::new("GET", "/b/k", query, &[("host", "h"), ("x-amz-date", "20130524T000000Z")]);
    authorization.iter().for_each(|value| request.append("authorization", value));
    Presented::parse(&request.view())
}

fn header(text: &str) -> Result<Option<Presented>, AuthError> {
    parse(None, &[text])
}

fn good_header() -> String {
    format!("AWS4-HMAC-SHA256 {CREDENTIAL}, SignedHeaders=host, Signature={SIGNATURE}")
}

/// A presigned query in which one parameter is replaced, or left out when the value is empty.
fn query_with(name: &str, value: &str) -> Result<Option<Presented>, AuthError> {
    let parameters = [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Credential", "AK/20130524/us-east-1/s3/aws4_request"),
        ("X-Amz-Date", "20130524T000000Z"),
        ("X-Amz-Expires", "604800"),
        ("X-Amz-SignedHeaders", "host;range"),
        ("X-Amz-Signature", SIGNATURE),
    ];
    let replaced = parameters.iter().map(|(n, v)| (*n, if *n == name { value } else { *v }));
    let kept: Vec<String> = replaced.filter(|(_, v)| !v.is_empty()).map(|(n, v)| format!("{n}={v}")).collect();
    parse(Some(&kept.join("&")), &[])
}

#[test]
fn both_forms_are_read() {
    let presented = header(&good_header()).expect("valid").expect("presented");
    assert_eq!((presented.access_key(), presented.region()), ("AK", "us-east-1"));
    assert!(!presented.is_presigned() && !presented.has_security_token());
    assert_eq!(presented.timestamp().as_str(), "20130524T000000Z");
    // minio-go puts no space after the commas.
    assert!(matches!(header(&good_header().replace(", ", ",")), Ok(Some(_))));
    let slash = header(&good_header().replace("=AK/", "=A/K/")).expect("valid").expect("presented");
    assert_eq!(slash.access_key(), "A/K");
    let presigned = query_with("", "").expect("valid").expect("presented");
    assert!(presigned.is_presigned());
    assert_eq!(presigned.access_key(), "AK");
}

#[test]
fn requests_without_credentials_are_anonymous() {
    assert!(matches!(parse(None, &[]), Ok(None)));
    assert!(matches!(parse(Some("list-type=2&X-Amz-Date=x"), &[]), Ok(None)));
}

#[test]
fn other_mechanisms_are_told_apart() {
    let good = good_header();
    assert_eq!(header("AWS AK:c2ln").err(), Some(AuthError::SignatureV2));
    assert_eq!(parse(Some("AWSAccessKeyId=AK&Signature=x&Expires=1"), &[]).err(), Some(AuthError::SignatureV2));
    assert_eq!(header("Basic QTpC").err(), Some(AuthError::UnsupportedScheme));
    assert_eq!(header("").err(), Some(AuthError::UnsupportedScheme));
    assert_eq!(header("AWS4-ECDSA-P256-SHA256 Credential=x").err(), Some(AuthError::Ecdsa));
    assert_eq!(query_with("X-Amz-Algorithm", "AWS4-ECDSA-P256-SHA256").err(), Some(AuthError::Ecdsa));
    assert_eq!(parse(None, &[&good, &good]).err(), Some(AuthError::SeveralMechanisms));
    assert_eq!(parse(Some("X-Amz-Signature=x"), &[&good]).err(), Some(AuthError::SeveralMechanisms));
    assert!(matches!(parse(Some("a=%f"), &[&good]), Err(AuthError::Uri(_))));
}

#[test]
fn malformed_headers_are_told_apart() {
    let good = good_header();
    let signature = format!(", Signature={SIGNATURE}");
    let long = format!("{good},{}", " ".repeat(9000));
    let cases = [
        ("AWS4-HMAC-SHA256", Malformed::Syntax),
        (&long, Malformed::Syntax),
        (&format!("{good}, Extra=1"), Malformed::Syntax),
        (&format!("{good}{signature}"), Malformed::Duplicate(Field::Signature)),
        (&good.replace(&signature, ""), Malformed::Missing(Field::Signature)),
        (&good.replace("f0e8", "F0E8"), Malformed::Invalid(Field::Signature)),
        (&good.replace("f0e8", "f0e"), Malformed::Invalid(Field::Signature)),
        (&good.replace("=host", "="), Malformed::Invalid(Field::SignedHeaders)),
        (&good.replace("=host", "=Host"), Malformed::Invalid(Field::SignedHeaders)),
        (&good.replace("=host", "=range;host"), Malformed::Invalid(Field::SignedHeaders)),
        (&good.replace("=host", "=host;host"), Malformed::Invalid(Field::SignedHeaders)),
        (&good.replace("=AK/", "=/"), Malformed::Credential),
        (&good.replace("=AK/", "="), Malformed::Credential),
        (&good.replace("aws4_request", "aws4"), Malformed::Credential),
        (&good.replace("/us-east-1/", "//"), Malformed::Credential),
        (&good.replace("/s3/", "/sts/"), Malformed::Service),
        (&good.replace("/20130524/", "/2013-5-4/"), Malformed::Credential),
        (&good.replace("/20130524/", "/20130525/"), Malformed::ScopeDate),
    ];
    for (text, cause) in cases {
        assert_eq!(header(text).err(), Some(AuthError::Header(cause)), "{text}");
    }
}

#[test]
fn malformed_queries_are_told_apart() {
    let cases = [
        ("X-Amz-Algorithm", "", Malformed::Missing(Field::Algorithm)),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA1", Malformed::Invalid(Field::Algorithm)),
        ("X-Amz-Credential", "", Malformed::Missing(Field::Credential)),
        ("X-Amz-Credential", "AK", Malformed::Credential),
        ("X-Amz-Credential", "AK/20130525/r/s3/aws4_request", Malformed::ScopeDate),
        ("X-Amz-Date", "", Malformed::Missing(Field::Date)),
        ("X-Amz-Date", "yesterday", Malformed::Invalid(Field::Date)),
        ("X-Amz-Date", "20130524T000000Z&X-Amz-Date=20130524T000000Z", Malformed::Duplicate(Field::Date)),
        ("X-Amz-Expires", "", Malformed::Missing(Field::Expires)),
        ("X-Amz-Expires", "604801", Malformed::Invalid(Field::Expires)),
        ("X-Amz-Expires", "-1", Malformed::Invalid(Field::Expires)),
        ("X-Amz-Expires", "%2B1", Malformed::Invalid(Field::Expires)),
        ("X-Amz-SignedHeaders", "", Malformed::Missing(Field::SignedHeaders)),
        ("X-Amz-Signature", "", Malformed::Missing(Field::Signature)),
        ("X-Amz-Signature", "00", Malformed::Invalid(Field::Signature)),
        ("X-Amz-Signature", "%ff", Malformed::Invalid(Field::Signature)),
    ];
    for (name, value, cause) in cases {
        assert_eq!(query_with(name, value).err(), Some(AuthError::Query(cause)), "{name}={value}");
    }
}

#[test]
fn the_date_may_stand_in_either_header_but_must_be_one() {
    let with = |headers: &[(&str, &str)]| {
        let mut request = Request::new("GET", "/", None, headers);
        request.append("authorization", &good_header());
        Presented::parse(&request.view()).map(|presented| presented.expect("presented").timestamp().as_str().to_owned())
    };
    let expected = Ok("20130524T000000Z".to_owned());
    assert_eq!(with(&[("date", "Fri, 24 May 2013 00:00:00 GMT")]), expected);
    assert_eq!(with(&[("date", "20130524T000000Z")]), expected);
    assert_eq!(with(&[("x-amz-date", "20130524T000000Z"), ("date", "nonsense")]), expected);
    assert_eq!(with(&[]), Err(AuthError::DateMissing));
    assert_eq!(with(&[("date", "nonsense")]), Err(AuthError::DateInvalid));
    assert_eq!(with(&[("x-amz-date", "Fri, 24 May 2013 00:00:00 GMT")]), Err(AuthError::DateInvalid));
    let name = http::HeaderName::from_static("x-amz-date");
    let twice = [("x-amz-date", "20130524T000000Z"), ("x-amz-date", "20130524T000001Z")];
    assert_eq!(with(&twice), Err(AuthError::RepeatedHeader(name)));
}

proptest! {
    #[test]
    fn junk_never_panics(
        path in "\\PC{0,40}",
        query in proptest::option::of("(X-Amz-(Date|Expires|Credential|Signature|Algorithm|SignedHeaders)=[ -~]{0,9}&?|\\PC{0,9}){0,8}"),
        authorization in "(AWS4-HMAC-SHA256 )?((Credential|SignedHeaders|Signature)=[!-~]{0,30},? ?|[ -~]{0,9}){0,5}",
        date in "[0-9TZ]{14,17}|[ -~]{0,30}",
    ) {
        let mut request = Request::new("GET", &path, query.as_deref(), &[("host", "h"), ("x-amz-date", date.trim())]);
        let _ = Presented::parse(&request.view());
        request.append("authorization", authorization.trim());
        let _ = Presented::parse(&request.view());
    }
}

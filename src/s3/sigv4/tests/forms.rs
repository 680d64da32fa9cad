//! Signatures of browser forms: AWS's published example, and what is changed about it.
//!
//! Source: AWS S3 API reference, "Example: Browser-Based Upload using HTTP POST (Using AWS Signature Version 4)".

use time::OffsetDateTime;
use time::macros::datetime;

use super::super::{AuthError, Field, Malformed, PresentedPolicy, VerifiedSignature, VerifySettings};
use super::{ACCESS_KEY, secret};

const NOW: OffsetDateTime = datetime!(2015-12-29 1:00 UTC);
const POLICY: &str = "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7ImJ1Y2tldCI6ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91c2VyMS8iXSwNCiAgICB7ImFjbCI6ICJwdWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3QiOiAiaHR0cDovL3NpZ3Y0ZXhhbXBsZWJ1Y2tldC5zMy5hbWF6b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGUiLCAiaW1hZ2UvIl0sDQogICAgeyJ4LWFtei1tZXRhLXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1zaWRlLWVuY3J5cHRpb24iOiAiQUVTMjU2In0sDQogICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7IngtYW16LWNyZWRlbnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdCJ9LA0KICAgIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAiMjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9";
const SIGNATURE: &str = "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e";

/// The example's fields, with some changed; an empty value takes one out.
fn verify(changes: &[(&str, &str)]) -> Result<Option<VerifiedSignature>, AuthError> {
    let credential = format!("{ACCESS_KEY}/20151229/us-east-1/s3/aws4_request");
    let fields = [
        ("policy", POLICY),
        ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
        ("x-amz-credential", &credential),
        ("x-amz-date", "20151229T000000Z"),
        ("x-amz-signature", SIGNATURE),
    ];
    let field = |name: &str| {
        let value = changes.iter().chain(&fields).find(|(known, _)| *known == name).map(|(_, value)| *value);
        value.filter(|value| !value.is_empty())
    };
    let Some(presented) = PresentedPolicy::parse(field)? else { return Ok(None) };
    presented.verify(&secret(), NOW, &VerifySettings::default()).map(Some)
}

#[test]
fn the_published_example_verifies() {
    let proof = verify(&[]).expect("AWS's own").expect("credentials");
    assert_eq!((proof.access_key(), proof.region()), (ACCESS_KEY, "us-east-1"));
}

#[test]
fn nothing_of_it_can_be_changed_or_left_out() {
    let other = "9afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e";
    let scope = |scope: &str| format!("{ACCESS_KEY}/{scope}");
    let (region, date) = (scope("20151229/eu-west-1/s3/aws4_request"), scope("20151230/us-east-1/s3/aws4_request"));
    for changed in [("policy", "e30="), ("x-amz-signature", other), ("x-amz-credential", region.as_str())] {
        assert_eq!(verify(&[changed]).err(), Some(AuthError::SignatureMismatch), "{changed:?}");
    }
    let wrong = |cause| Some(AuthError::Form(cause));
    assert_eq!(verify(&[("x-amz-credential", &date)]).err(), wrong(Malformed::ScopeDate));
    assert_eq!(verify(&[("x-amz-date", "2015-12-29")]).err(), wrong(Malformed::Invalid(Field::Date)));
    assert_eq!(verify(&[("x-amz-algorithm", "AWS4-HMAC-SHA1")]).err(), wrong(Malformed::Invalid(Field::Algorithm)));
    assert_eq!(verify(&[("x-amz-signature", "00")]).err(), wrong(Malformed::Invalid(Field::Signature)));
    for (name, field) in [
        ("policy", Field::Policy),
        ("x-amz-algorithm", Field::Algorithm),
        ("x-amz-credential", Field::Credential),
        ("x-amz-date", Field::Date),
        ("x-amz-signature", Field::Signature),
    ] {
        assert_eq!(verify(&[(name, "")]).err(), wrong(Malformed::Missing(field)), "{name}");
    }
    let later = [("x-amz-date", "20151229T020000Z")];
    assert_eq!(verify(&later).err(), Some(AuthError::NotYetValid));
}

#[test]
fn version_2_is_refused_and_none_is_none() {
    assert_eq!(verify(&[("awsaccesskeyid", ACCESS_KEY)]).err(), Some(AuthError::SignatureV2));
    assert_eq!(verify(&[("signature", "c2ln")]).err(), Some(AuthError::SignatureV2));
    assert!(PresentedPolicy::parse(|_| None).expect("nothing wrong").is_none());
}

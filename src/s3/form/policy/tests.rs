//! Conditions that hold and do not, documents that are no policies.

use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-01-01 0:00 UTC);

fn policy(conditions: &str) -> Result<Policy, PolicyError> {
    document(&format!("{{\"expiration\": \"2026-01-01T00:00:01.000Z\", \"conditions\": [{conditions}]}}"))
}

fn document(json: &str) -> Result<Policy, PolicyError> {
    Policy::parse(&base64::engine::general_purpose::STANDARD.encode(json))
}

fn check(conditions: &str, fields: &[(&str, &str)]) -> Result<(), PolicyError> {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    policy(conditions)?.check(NOW, "records", &Fields::new(fields, "x.txt"))
}

const BASE: &str = r#"{"bucket": "records"}, ["starts-with", "$key", "up/"]"#;

#[test]
fn every_condition_holds_and_every_field_has_one() {
    let unmet = |name: &str| Err(PolicyError::Unmet(name.into()));
    let uncovered = |name: &str| Err(PolicyError::Uncovered(name.into()));
    let with = |more: &str, fields: &[(&str, &str)]| {
        let fields: Vec<_> = [("key", "up/a")].iter().chain(fields).copied().collect();
        check(&format!("{BASE}{more}"), &fields)
    };
    assert_eq!(with("", &[]), Ok(()));
    assert_eq!(check(BASE, &[("key", "elsewhere")]), unmet("key"));
    assert_eq!(check(BASE, &[]), unmet("key"));
    assert_eq!(check(r#"["starts-with", "$key", ""]"#, &[("key", "a")]), uncovered("bucket"));
    assert_eq!(check(r#"{"bucket": "records"}"#, &[("key", "a")]), uncovered("key"));
    assert_eq!(check(r#"{"bucket": "other"}, ["eq", "$key", "a"]"#, &[("key", "a")]), unmet("bucket"));
    // A field cannot stand for the bucket that the form is sent to.
    assert_eq!(
        check(r#"{"bucket": "other"}, ["eq", "$key", "a"]"#, &[("key", "a"), ("bucket", "other")]),
        unmet("bucket")
    );
    assert_eq!(with("", &[("bucket", "other")]), unmet("bucket"));
    assert_eq!(with("", &[("acl", "public-read")]), uncovered("acl"));
    assert_eq!(with(r#", {"acl": "private"}"#, &[("acl", "public-read")]), unmet("acl"));
    assert_eq!(with(r#", {"AcL": "private"}"#, &[("acl", "private")]), Ok(()));
    assert_eq!(with(r#", {"acl": "private"}"#, &[]), unmet("acl"));
    assert_eq!(with(r#", ["eq", "$x-amz-meta-a", ""]"#, &[]), unmet("x-amz-meta-a"));
    assert_eq!(with(r#", ["Starts-With", "$x-amz-meta-a", ""]"#, &[("x-amz-meta-a", "anything")]), Ok(()));
    assert_eq!(with("", &[("x-amz-date", "20260101T000000Z")]), uncovered("x-amz-date"));
    assert_eq!(with("", &[("x-ignore-me", "1"), ("policy", "p"), ("x-amz-signature", "s")]), Ok(()));
    // A list of types is not covered by its first.
    let images = r#", ["starts-with", "$Content-Type", "image/"]"#;
    assert_eq!(with(images, &[("content-type", "image/png, image/gif")]), Ok(()));
    assert_eq!(with(images, &[("content-type", "image/png,text/html")]), unmet("content-type"));
}

#[test]
fn the_key_counts_as_it_is_stored() {
    let exactly = r#"{"bucket": "records"}, ["eq", "$key", "up/x.txt"]"#;
    assert_eq!(check(exactly, &[("key", "up/${filename}")]), Ok(()));
    let literally = r#"{"bucket": "records"}, ["eq", "$key", "up/${filename}"]"#;
    assert_eq!(check(literally, &[("key", "up/${filename}")]), Err(PolicyError::Unmet("key".into())));
}

#[test]
fn it_ends_when_it_says() {
    let policy = policy(BASE).expect("a policy");
    let fields = Fields::new(vec![("key".into(), "up/a".into())], "");
    let later = NOW + time::Duration::SECOND;
    assert_eq!(policy.check(later, "records", &fields), Err(PolicyError::Expired));
}

#[test]
fn lengths() {
    let ranged = policy(r#"["content-length-range", 3, "10"], ["content-length-range", 0, 7]"#).expect("a policy");
    assert_eq!(ranged.check_length(2), Err(PolicyError::TooSmall { length: 2, least: 3 }));
    assert_eq!((ranged.check_length(3), ranged.check_length(7)), (Ok(()), Ok(())));
    assert_eq!(ranged.check_length(8), Err(PolicyError::TooLarge { length: 8, most: 7 }));
    assert_eq!(policy(BASE).expect("a policy").check_length(u64::MAX), Ok(()));
}

#[test]
fn what_is_no_policy() {
    let invalid = |policy: Result<Policy, PolicyError>, what: &str| {
        assert!(matches!(policy, Err(PolicyError::Invalid(_))), "{what}");
    };
    for conditions in [
        "{}",
        r#"{"a": "b", "c": "d"}"#,
        r#"{"a": 1}"#,
        "1",
        "[]",
        r#"["eq", "$a"]"#,
        r#"["eq", "$a", "b", "c"]"#,
        r#"["eq", "a", "b"]"#,
        r#"["eq", "$a", 1]"#,
        r#"["ends-with", "$a", "b"]"#,
        r#"["content-length-range", 0]"#,
        r#"["content-length-range", -1, 0]"#,
        r#"["content-length-range", 0, 1.5]"#,
        r#"["content-length-range", 2, 1]"#,
        r#"["content-length-range", "", "1"]"#,
    ] {
        invalid(policy(conditions), conditions);
    }
    for json in [
        "",
        "[]",
        r#"{"conditions": []}"#,
        r#"{"expiration": "2026-01-01T00:00:01Z"}"#,
        r#"{"EXPIRATION": "2026-01-01T00:00:01Z", "conditions": []}"#,
        r#"{"expiration": "2026-01-01T00:00:01Z", "CONDITIONS": []}"#,
        r#"{"expiration": "2026-01-01 00:00:01", "conditions": []}"#,
        r#"{"expiration": "2026-01-01T00:00:01+02:00", "conditions": []}"#,
        r#"{"expiration": "2026-01-01T00:00:01Z", "conditions": {}}"#,
        r#"{"expiration": "2026-01-01T00:00:01Z", "expiration": "2036-01-01T00:00:01Z", "conditions": []}"#,
        r#"{"expiration": "2026-01-01T00:00:01Z", "conditions": [], "more": 1}"#,
    ] {
        invalid(document(json), json);
    }
    invalid(Policy::parse("???"), "no base64");
    let lines =
        base64::engine::general_purpose::STANDARD.encode(r#"{"expiration":"2030-01-01T00:00:00Z","conditions":[]}"#);
    let (first, second) = lines.split_at(40);
    assert!(Policy::parse(&format!("{first}\r\n{second}\n")).is_ok());
}

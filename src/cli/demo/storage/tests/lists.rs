//! Listings against a model: a sorted map in memory, and what AWS documents.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A page as the model has it: keys and common prefixes in order.
#[derive(Debug, PartialEq)]
struct Shown {
    keys: Vec<String>,
    prefixes: Vec<String>,
    truncated: bool,
}

/// What follows `after` (exclusively; of a whole group if it is one).
fn model(keys: &BTreeSet<String>, prefix: &str, delimiter: &str, after: &str, max: usize) -> (Shown, String) {
    let mut shown = Shown { keys: Vec::new(), prefixes: Vec::new(), truncated: false };
    let mut last = String::new();
    let group_of = |key: &str| {
        let at = if delimiter.is_empty() { None } else { key.strip_prefix(prefix)?.find(delimiter) }?;
        Some(key[..prefix.len() + at + delimiter.len()].to_owned())
    };
    let is_group = group_of(after).as_deref() == Some(after);
    for key in keys.iter().filter(|key| key.starts_with(prefix)) {
        if key.as_str() <= after || (is_group && key.starts_with(after)) {
            continue;
        }
        let group = group_of(key);
        if group.is_some() && group.as_ref() == shown.prefixes.last() {
            continue;
        }
        if shown.keys.len() + shown.prefixes.len() == max {
            shown.truncated = max > 0;
            break;
        }
        last = group.clone().unwrap_or_else(|| key.clone());
        match group {
            Some(group) => shown.prefixes.push(group),
            None => shown.keys.push(key.clone()),
        }
    }
    (shown, last)
}

fn shown(contents: Option<ObjectList>, prefixes: Option<CommonPrefixList>, truncated: Option<bool>) -> Shown {
    Shown {
        keys: contents.unwrap_or_default().into_iter().filter_map(|object| object.key).collect(),
        prefixes: prefixes.unwrap_or_default().into_iter().filter_map(|common| common.prefix).collect(),
        truncated: truncated.expect("said"),
    }
}

/// The index without files: listings do not look at them.
async fn with_keys(keys: &BTreeSet<String>) -> Fixture {
    let fixture = fixture().await;
    let mut change = fixture.storage.index.begin().await.expect("begins");
    for key in keys {
        let sql = "INSERT INTO objects (bucket, key, content, etag, size, modified, headers) VALUES (1, $1, '', '', 0, 0, '{}')";
        sqlx::query(sql).bind(key.as_bytes()).execute(change.connection()).await.expect("inserts");
    }
    change.commit().await.expect("commits");
    fixture
}

async fn v1(fixture: &Fixture, prefix: &str, delimiter: &str, marker: &str, max: i32) -> ListObjectsOutput {
    let input = ListObjectsInput {
        bucket: BUCKET.to_owned(),
        prefix: Some(prefix.to_owned()),
        delimiter: Some(delimiter.to_owned()).filter(|delimiter| !delimiter.is_empty()),
        marker: Some(marker.to_owned()),
        max_keys: Some(max),
        ..Default::default()
    };
    fixture.storage.list_objects(request(input)).await.expect("lists").output
}

async fn v2(
    fixture: &Fixture,
    prefix: &str,
    delimiter: &str,
    start_after: &str,
    token: Option<String>,
    max: i32,
) -> ListObjectsV2Output {
    let input = ListObjectsV2Input {
        bucket: BUCKET.to_owned(),
        prefix: Some(prefix.to_owned()),
        delimiter: Some(delimiter.to_owned()).filter(|delimiter| !delimiter.is_empty()),
        start_after: Some(start_after.to_owned()),
        continuation_token: token,
        max_keys: Some(max),
        ..Default::default()
    };
    fixture.storage.list_objects_v2(request(input)).await.expect("lists").output
}

async fn agrees(keys: BTreeSet<String>, prefix: String, delimiter: String, start: String, max: usize) {
    let fixture = with_keys(&keys).await;
    let (mut after, mut token) = (start.clone(), None);
    let asked = i32::try_from(max).expect("small");
    for _ in 0..=keys.len() {
        let (expected, last) = model(&keys, &prefix, &delimiter, &after, max);
        let first = v1(&fixture, &prefix, &delimiter, &after, asked).await;
        let marker = Some(last.clone()).filter(|_| expected.truncated && !delimiter.is_empty());
        assert_eq!(first.next_marker, marker);
        assert_eq!(shown(first.contents, first.common_prefixes, first.is_truncated), expected);
        let second = v2(&fixture, &prefix, &delimiter, &start, token, asked).await;
        token = second.next_continuation_token;
        assert_eq!(second.key_count, i32::try_from(expected.keys.len() + expected.prefixes.len()).ok());
        assert_eq!(shown(second.contents, second.common_prefixes, second.is_truncated), expected);
        assert_eq!(token.is_some(), expected.truncated);
        if !expected.truncated {
            return;
        }
        after = last;
    }
    panic!("the pages do not end");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn pages_are_those_of_the_model(
        keys in proptest::collection::btree_set("[ab/é\u{10ffff}]{1,5}", 0..40),
        prefix in "[ab/é]{0,2}",
        delimiter in "(|/|a|ab|é/)",
        start in "[ab/é]{0,4}",
        max in 0..6_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
        runtime.block_on(agrees(keys, prefix, delimiter, start, max));
    }
}

#[tokio::test]
async fn large_groups_are_skipped_and_pages_hold_a_thousand() {
    let keys = (0..3).flat_map(|group| (0..700).map(move |key| format!("group-{group}/{key:03}"))).collect();
    let fixture = with_keys(&keys).await;
    let grouped = v2(&fixture, "", "/", "", None, 1000).await;
    let expected = ["group-0/", "group-1/", "group-2/"].map(str::to_owned).to_vec();
    let found = shown(grouped.contents, grouped.common_prefixes, grouped.is_truncated);
    assert_eq!(found, Shown { keys: Vec::new(), prefixes: expected, truncated: false });
    let all = v2(&fixture, "", "", "", None, 5000).await;
    assert_eq!((all.max_keys, all.key_count, all.is_truncated), (Some(1000), Some(1000), Some(true)));
}

#[tokio::test]
async fn keys_are_encoded_where_that_is_asked_for() {
    let fixture = with_keys(&["a b/+\u{1}é", "a b/x~y*z-_.", "other"].map(str::to_owned).into()).await;
    let input = ListObjectsInput {
        bucket: BUCKET.to_owned(),
        prefix: Some("a b/".to_owned()),
        delimiter: Some("é".to_owned()),
        encoding_type: Some(EncodingType::from_static(EncodingType::URL)),
        ..Default::default()
    };
    let output = fixture.storage.list_objects(request(input)).await.expect("lists").output;
    assert_eq!(output.prefix.as_deref(), Some("a%20b/"));
    assert_eq!(output.delimiter.as_deref(), Some("%C3%A9"));
    let found = shown(output.contents, output.common_prefixes, output.is_truncated);
    assert_eq!(
        (found.keys, found.prefixes),
        (vec!["a%20b/x~y*z-_.".to_owned()], vec!["a%20b/%2B%01%C3%A9".to_owned()])
    );
}

#[tokio::test]
async fn what_is_no_listing_is_refused() {
    let fixture = fixture().await;
    let list = |change: fn(&mut ListObjectsV2Input)| {
        let mut input = ListObjectsV2Input { bucket: BUCKET.to_owned(), ..Default::default() };
        change(&mut input);
        fixture.storage.list_objects_v2(request(input))
    };
    assert_eq!(code(list(|input| input.max_keys = Some(-1)).await), "InvalidArgument");
    assert_eq!(code(list(|input| input.continuation_token = Some("§".to_owned())).await), "InvalidArgument");
    assert_eq!(code(list(|input| input.continuation_token = Some(String::new())).await), "InvalidArgument");
    assert_eq!(code(list(|input| input.encoding_type = Some("xml".to_owned().into())).await), "InvalidArgument");
    assert_eq!(code(list(|input| input.bucket = "absent".to_owned()).await), "NoSuchBucket");
}

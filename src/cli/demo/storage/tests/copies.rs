//! Copies.

use super::*;

fn copy(from: &str, to: &str) -> CopyObjectInput {
    let source = CopySource::Bucket { bucket: BUCKET.into(), key: from.into(), version_id: None };
    let mut input = CopyObjectInput::builder();
    input.set_bucket(BUCKET.to_owned()).set_key(to.to_owned()).set_copy_source(source);
    input.build().expect("complete")
}

fn metadata(owner: &str) -> Option<Metadata> {
    Some([("owner".to_owned(), owner.to_owned())].into_iter().collect())
}

async fn owner(fixture: &Fixture, key: &str) -> Option<String> {
    let output = fixture.storage.get_object(request(get(key))).await.expect("there").output;
    output.metadata.and_then(|metadata| metadata.get("owner").cloned())
}

#[tokio::test]
async fn a_copy_shares_bytes_and_outlives_its_source() {
    let fixture = fixture().await;
    let input = PutObjectInput { metadata: metadata("livia"), ..put("source", "content") };
    fixture.storage.put_object(request(input)).await.expect("stores");
    fixture.storage.copy_object(request(copy("source", "copy"))).await.expect("copies");
    let replaced = CopyObjectInput {
        metadata: metadata("claudia"),
        metadata_directive: Some(MetadataDirective::from_static(MetadataDirective::REPLACE)),
        ..copy("source", "replaced")
    };
    fixture.storage.copy_object(request(replaced)).await.expect("copies");
    assert_eq!(fixture.files(), 1);
    fixture.delete("source").await;
    assert_eq!(fixture.get("copy").await.expect("there"), b"content");
    assert_eq!(owner(&fixture, "copy").await.as_deref(), Some("livia"));
    assert_eq!(owner(&fixture, "replaced").await.as_deref(), Some("claudia"));
    fixture.delete("copy").await;
    fixture.delete("replaced").await;
    assert_eq!(fixture.files(), 0);
}

#[tokio::test]
async fn a_copy_onto_itself_changes_the_headers_only() {
    let fixture = fixture().await;
    fixture.put("key", "content").await;
    assert_eq!(code(fixture.storage.copy_object(request(copy("key", "key"))).await), "InvalidRequest");
    let replaced = CopyObjectInput {
        metadata: metadata("claudia"),
        metadata_directive: Some(MetadataDirective::from_static(MetadataDirective::REPLACE)),
        ..copy("key", "key")
    };
    fixture.storage.copy_object(request(replaced)).await.expect("copies");
    assert_eq!(owner(&fixture, "key").await.as_deref(), Some("claudia"));
    assert_eq!((fixture.get("key").await.expect("there"), fixture.files()), (b"content".to_vec(), 1));
}

#[tokio::test]
async fn conditions_on_the_source_are_checked() {
    let fixture = fixture().await;
    let found = fixture.put("source", "content").await;
    let cases = [
        (Some(&*found), None, "no error"),
        (Some("other"), None, "PreconditionFailed"),
        (None, Some("other"), "no error"),
        (None, Some(&*found), "PreconditionFailed"),
    ];
    for (if_match, if_none_match, expected) in cases {
        let mut input = copy("source", "copy");
        (input.copy_source_if_match, input.copy_source_if_none_match) =
            (if_match.and_then(etag), if_none_match.and_then(etag));
        assert_eq!(code(fixture.storage.copy_object(request(input)).await), expected);
    }
    assert_eq!(code(fixture.storage.copy_object(request(copy("absent", "copy"))).await), "NoSuchKey");
}

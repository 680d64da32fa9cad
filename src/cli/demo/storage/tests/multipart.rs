//! Uploads in parts.

use super::*;

impl Fixture {
    async fn begin(&self, key: &str) -> String {
        let input = CreateMultipartUploadInput { bucket: BUCKET.to_owned(), key: key.to_owned(), ..Default::default() };
        let output = self.storage.create_multipart_upload(request(input)).await.expect("begins").output;
        output.upload_id.expect("an id")
    }

    async fn part(&self, key: &str, id: &str, number: i32, content: impl AsRef<[u8]>) -> S3Result<CompletedPart> {
        let input = UploadPartInput {
            bucket: BUCKET.to_owned(),
            key: key.to_owned(),
            upload_id: id.to_owned(),
            part_number: number,
            body: whole(content),
            ..Default::default()
        };
        let e_tag = self.storage.upload_part(request(input)).await?.output.e_tag;
        Ok(CompletedPart { part_number: Some(number), e_tag, ..CompletedPart::default() })
    }

    async fn complete(&self, key: &str, id: &str, parts: &[CompletedPart]) -> S3Result<String> {
        let input = CompleteMultipartUploadInput {
            bucket: BUCKET.to_owned(),
            key: key.to_owned(),
            upload_id: id.to_owned(),
            multipart_upload: Some(CompletedMultipartUpload { parts: Some(parts.to_vec()) }),
            ..Default::default()
        };
        let output = self.storage.complete_multipart_upload(request(input)).await?.output;
        Ok(output.e_tag.expect("an ETag").into_value())
    }
}

#[tokio::test]
async fn parts_become_one_object() {
    let fixture = fixture().await;
    fixture.put("key", "before").await;
    let id = fixture.begin("key").await;
    let last = fixture.part("key", &id, 10_000, "the end").await.expect("stores");
    fixture.part("key", &id, 3, vec![9; PART]).await.expect("stores");
    let first = fixture.part("key", &id, 3, vec![1; PART]).await.expect("stores again");
    fixture.part("key", &id, 7, "not listed").await.expect("stores");
    assert_eq!(fixture.get("key").await.expect("there"), b"before");
    let etag = fixture.complete("key", &id, &[first.clone(), last.clone()]).await.expect("completes");
    // md5(md5(part 3) || md5(part 10,000)), by coreutils.
    assert_eq!(etag, "f9e2693f803bfc17746a14ed6edff4ee-2");
    let content = [vec![1; PART], b"the end".to_vec()].concat();
    assert_eq!(fixture.get("key").await.expect("there"), content);
    assert_eq!(fixture.files(), 2);
    // Across the parts' border, and by a part's number.
    let border = Range::Int { first: PART as u64 - 2, last: Some(PART as u64 + 2) };
    let output = fixture.storage.get_object(request(GetObjectInput { range: Some(border), ..get("key") })).await;
    assert_eq!(bytes(output.expect("there").output).await, [1, 1, b't', b'h', b'e']);
    let by_number = GetObjectInput { part_number: Some(10_000), ..get("key") };
    let output = fixture.storage.get_object(request(by_number)).await.expect("there").output;
    assert_eq!((output.parts_count, bytes(output).await), (Some(2), b"the end".to_vec()));
    // Once more is as good.
    assert_eq!(fixture.complete("key", &id, &[first, last.clone()]).await.expect("completes"), etag);
    assert_eq!(code(fixture.complete("key", &id, &[last]).await), "InvalidPart");
    fixture.delete("key").await;
    assert_eq!(fixture.files(), 0);
}

#[tokio::test]
async fn what_is_no_list_of_the_parts_is_refused() {
    let fixture = fixture().await;
    let id = fixture.begin("key").await;
    let small = fixture.part("key", &id, 1, "small").await.expect("stores");
    let next = fixture.part("key", &id, 2, "next").await.expect("stores");
    let other = CompletedPart { part_number: Some(3), ..next.clone() };
    let swapped = CompletedPart { part_number: Some(1), ..next.clone() };
    let cases = [
        (vec![], "MalformedXML"),
        (vec![next.clone(), small.clone()], "InvalidPartOrder"),
        (vec![small.clone(), small.clone()], "InvalidPartOrder"),
        (vec![small.clone(), other], "InvalidPart"),
        (vec![swapped, next.clone()], "InvalidPart"),
        (vec![small, next], "EntityTooSmall"),
    ];
    for (parts, expected) in cases {
        assert_eq!(code(fixture.complete("key", &id, &parts).await), expected);
    }
    for number in [0, 10_001, -1] {
        assert_eq!(code(fixture.part("key", &id, number, "part").await), "InvalidArgument");
    }
    assert_eq!(code(fixture.part("other", &id, 1, "part").await), "NoSuchUpload");
    assert_eq!(fixture.files(), 2);
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_nothing() {
    let fixture = fixture().await;
    let id = fixture.begin("key").await;
    fixture.part("key", &id, 1, "part").await.expect("stores");
    let abort = || {
        let input = AbortMultipartUploadInput {
            bucket: BUCKET.to_owned(),
            key: "key".to_owned(),
            upload_id: id.clone(),
            ..Default::default()
        };
        fixture.storage.abort_multipart_upload(request(input))
    };
    assert_eq!(code(abort().await), "no error");
    assert_eq!(code(abort().await), "NoSuchUpload");
    assert_eq!(code(fixture.part("key", &id, 1, "part").await), "NoSuchUpload");
    assert_eq!(fixture.files(), 0);
}

#[tokio::test]
async fn parts_are_copied_from_ranges_and_listed_in_pages() {
    let fixture = fixture().await;
    fixture.put("source", "0123456789").await;
    let id = fixture.begin("key").await;
    let copy = |number: i32, range: Option<&str>| {
        let source = CopySource::Bucket { bucket: BUCKET.into(), key: "source".into(), version_id: None };
        let mut input = UploadPartCopyInput::builder();
        input.set_bucket(BUCKET.to_owned()).set_key("key".to_owned()).set_upload_id(id.clone());
        input.set_part_number(number).set_copy_source(source).set_copy_source_range(range.map(str::to_owned));
        fixture.storage.upload_part_copy(request(input.build().expect("complete")))
    };
    for number in [1, 5, 8] {
        copy(number, Some("bytes=2-4")).await.expect("copies");
    }
    copy(10_000, None).await.expect("copies");
    assert_eq!(code(copy(2, Some("bytes=2-10")).await), "InvalidRange");
    assert_eq!(code(copy(2, Some("bytes=2-")).await), "InvalidArgument");
    let list = async |after: i32, max: i32| {
        let input = ListPartsInput {
            bucket: BUCKET.to_owned(),
            key: "key".to_owned(),
            upload_id: id.clone(),
            part_number_marker: Some(after),
            max_parts: Some(max),
            ..Default::default()
        };
        let output = fixture.storage.list_parts(request(input)).await.expect("lists").output;
        let parts = output.parts.unwrap_or_default();
        let shown: Vec<_> = parts.into_iter().map(|part| (part.part_number, part.size)).collect();
        (shown, output.is_truncated, output.next_part_number_marker)
    };
    assert_eq!(list(0, 2).await, (vec![(Some(1), Some(3)), (Some(5), Some(3))], Some(true), Some(5)));
    assert_eq!(list(5, 2).await, (vec![(Some(8), Some(3)), (Some(10_000), Some(10))], Some(false), None));
}

#[tokio::test]
async fn uploads_are_listed_by_key_and_start() {
    let fixture = fixture().await;
    let mut expected = Vec::new();
    for key in ["a/1", "a/2", "b", "b", "b", "c"] {
        expected.push((key.to_owned(), fixture.begin(key).await));
    }
    let list = async |input: ListMultipartUploadsInput| {
        let input = ListMultipartUploadsInput { bucket: BUCKET.to_owned(), ..input };
        fixture.storage.list_multipart_uploads(request(input)).await.expect("lists").output
    };
    let (mut found, mut key_marker, mut upload_id_marker) = (Vec::new(), None, None);
    loop {
        let page =
            ListMultipartUploadsInput { key_marker, upload_id_marker, max_uploads: Some(2), ..Default::default() };
        let page = list(page).await;
        let uploads = page.uploads.unwrap_or_default();
        found.extend(uploads.into_iter().filter_map(|upload| upload.key.zip(upload.upload_id)));
        (key_marker, upload_id_marker) = (page.next_key_marker, page.next_upload_id_marker);
        if page.is_truncated != Some(true) {
            break;
        }
    }
    expected[2..5].sort();
    assert_eq!(found, expected);
    let grouped = list(ListMultipartUploadsInput { delimiter: Some("/".to_owned()), ..Default::default() }).await;
    assert_eq!(grouped.common_prefixes.map(|prefixes| prefixes.len()), Some(1));
    assert_eq!(grouped.uploads.map(|uploads| uploads.len()), Some(4));
}

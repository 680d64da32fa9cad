//! Where the folder behaves as S3 and `s3s-fs` alone does not.

use tempfile::TempDir;

use super::*;

const BUCKET: &str = "records";

struct Fixture {
    folder: Folder,
    /// Removed at the end.
    _root: TempDir,
}

async fn fixture() -> Fixture {
    let root = tempfile::tempdir().expect("a folder");
    let folder = Folder::open(root.path()).expect("opens");
    let bucket = CreateBucketInput::builder().bucket(BUCKET.to_owned()).build().expect("complete");
    folder.create_bucket(internal(bucket)).await.expect("makes a bucket");
    Fixture { folder, _root: root }
}

fn body(pieces: Vec<Result<&'static str, std::io::Error>>) -> StreamingBlob {
    StreamingBlob::wrap(stream::iter(pieces).map_ok(|piece| Bytes::from_static(piece.as_bytes())))
}

impl Fixture {
    async fn put_pieces(&self, key: &str, pieces: Vec<Result<&'static str, std::io::Error>>) -> S3Result<()> {
        let mut input = PutObjectInput::builder();
        input.set_bucket(BUCKET.to_owned()).set_key(key.to_owned()).set_body(Some(body(pieces)));
        input.set_metadata(Some([("claviger".to_owned(), key.to_owned())].into_iter().collect()));
        self.folder.put_object(internal(input.build().expect("complete"))).await.map(|_| ())
    }

    async fn put(&self, key: &str, content: &'static str) -> S3Result<()> {
        self.put_pieces(key, vec![Ok(content)]).await
    }

    async fn get(&self, key: &str, range: Option<Range>) -> S3Result<(Vec<u8>, Option<Metadata>)> {
        let mut input = GetObjectInput::builder();
        input.set_bucket(BUCKET.to_owned()).set_key(key.to_owned()).set_range(range);
        let output = self.folder.get_object(internal(input.build().expect("complete"))).await?.output;
        let chunks: Vec<Bytes> = output.body.expect("a body").try_collect().await.expect("reads");
        Ok((chunks.concat(), output.metadata))
    }

    async fn delete(&self, key: &str) -> S3Result<()> {
        let input = DeleteObjectInput::builder().bucket(BUCKET.to_owned()).key(key.to_owned()).build();
        self.folder.delete_object(internal(input.expect("complete"))).await.map(|_| ())
    }

    async fn list(&self, prefix: &str, delimiter: Option<&str>) -> ListObjectsV2Output {
        let mut input = ListObjectsV2Input::builder();
        input.set_bucket(BUCKET.to_owned()).set_prefix(Some(prefix.to_owned()));
        input.set_delimiter(delimiter.map(str::to_owned));
        self.folder.list_objects_v2(internal(input.build().expect("complete"))).await.expect("lists").output
    }

    async fn keys(&self, prefix: &str) -> Vec<String> {
        let listed = self.list(prefix, None).await.contents.unwrap_or_default();
        listed.into_iter().filter_map(|object| object.key).collect()
    }
}

fn code<T>(result: S3Result<T>) -> String {
    result.err().map_or("no error".to_owned(), |error| error.code().as_str().to_owned())
}

#[tokio::test]
async fn keys_that_are_no_paths_are_objects_of_their_own() {
    let fixture = fixture().await;
    for key in ["a/b", "a//b", "a/./b", "../b", "/b", "folder/", "folder/in"] {
        fixture.put(key, "content").await.expect(key);
        let (_, metadata) = fixture.get(key, None).await.expect(key);
        assert_eq!(metadata.expect("metadata").get("claviger").map(String::as_str), Some(key));
    }
    assert_eq!(fixture.keys("a/").await, ["a/./b", "a//b", "a/b"]);
    assert_eq!(fixture.keys("folder").await, ["folder/", "folder/in"]);
    let page = fixture.list("a/", Some("/")).await;
    let common: Vec<_> =
        page.common_prefixes.unwrap_or_default().into_iter().filter_map(|common| common.prefix).collect();
    assert_eq!(common, ["a/./", "a//"].map(str::to_owned));
    fixture.delete("a//b").await.expect("deletes");
    assert_eq!(fixture.get("a/b", None).await.expect("still there").0, b"content");
}

#[tokio::test]
async fn a_folder_is_no_object_and_its_name_is_free_again_when_it_is_empty() {
    let fixture = fixture().await;
    fixture.put("a/b/c", "deep").await.expect("stores");
    assert_eq!(code(fixture.get("a", None).await), "NoSuchKey");
    assert_eq!(code(fixture.put("a", "file").await), "InvalidArgument");
    assert_eq!(code(fixture.put("a/b/c/d", "below a file").await), "InvalidArgument");
    fixture.delete("a/b").await.expect("nothing there");
    assert_eq!(fixture.keys("").await, ["a/b/c"]);
    fixture.delete("a/b/c").await.expect("deletes");
    fixture.put("a", "file").await.expect("the name is free");
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_what_was_there() {
    let fixture = fixture().await;
    let broken = || vec![Ok("half of it"), Err(std::io::Error::other("gone"))];
    assert_ne!(code(fixture.put_pieces("new", broken()).await), "no error");
    assert!(fixture.keys("").await.is_empty());
    fixture.put("old", "whole").await.expect("stores");
    assert_ne!(code(fixture.put_pieces("old", broken()).await), "no error");
    assert_eq!(fixture.get("old", None).await.expect("still there").0, b"whole");
}

#[tokio::test]
async fn what_cannot_be_stored_whole_is_not_stored_at_all() {
    let fixture = fixture().await;
    assert_eq!(code(fixture.put(&"n".repeat(200), "long").await), "KeyTooLongError");
    let mut input = PutObjectInput::builder();
    input.set_bucket(BUCKET.to_owned()).set_key("wrong".to_owned()).set_body(Some(body(vec![Ok("content")])));
    input.set_content_md5(Some("1B2M2Y8AsgTpgAmY7PhCfg==".to_owned()));
    assert_eq!(code(fixture.folder.put_object(internal(input.build().expect("complete"))).await), "BadDigest");
    assert!(fixture.keys("").await.is_empty());
    let mut elsewhere = PutObjectInput::builder();
    elsewhere.set_bucket("absent".to_owned()).set_key("key".to_owned()).set_body(Some(body(vec![Ok("x")])));
    let stored = fixture.folder.put_object(internal(elsewhere.build().expect("complete"))).await;
    assert_eq!(code(stored), "NoSuchBucket");
}

#[tokio::test]
async fn listings_have_etags_and_suffixes_of_nothing_are_refused() {
    let fixture = fixture().await;
    fixture.put("empty", "").await.expect("stores");
    let listed = fixture.list("", None).await.contents.unwrap_or_default();
    assert!(listed.iter().all(|object| object.e_tag.is_some()) && listed.len() == 1);
    assert_eq!(code(fixture.get("empty", Some(Range::Suffix { length: 5 })).await), "InvalidRange");
    fixture.put("short", "123").await.expect("stores");
    let (content, _) = fixture.get("short", Some(Range::Suffix { length: 2 })).await.expect("reads");
    assert_eq!(content, b"23");
}

#[tokio::test]
async fn conditions_of_reads_are_checked() {
    let fixture = fixture().await;
    fixture.put("key", "content").await.expect("stores");
    let read = |if_match: Option<&str>, if_none_match: Option<&str>| {
        let condition = |etag: &str| ETagCondition::ETag(ETag::Strong(etag.to_owned()));
        let mut input = HeadObjectInput::builder();
        input.set_bucket(BUCKET.to_owned()).set_key("key".to_owned());
        input.set_if_match(if_match.map(condition)).set_if_none_match(if_none_match.map(condition));
        fixture.folder.head_object(internal(input.build().expect("complete")))
    };
    let etag = "9a0364b9e99bb480dd25e1f0284c8555";
    assert!(read(Some(etag), None).await.is_ok());
    assert_eq!(code(read(Some("other"), None).await), "PreconditionFailed");
    assert_eq!(code(read(None, Some(etag)).await), "NotModified");
    assert!(read(None, Some("other")).await.is_ok());
}

#[tokio::test]
async fn a_bucket_with_objects_is_not_deleted() {
    let fixture = fixture().await;
    fixture.put("key", "content").await.expect("stores");
    let delete = || {
        let input = DeleteBucketInput::builder().bucket(BUCKET.to_owned()).build().expect("complete");
        fixture.folder.delete_bucket(internal(input))
    };
    assert_eq!(code(delete().await), "BucketNotEmpty");
    fixture.delete("key").await.expect("deletes");
    assert!(delete().await.is_ok());
}

#[tokio::test]
async fn readers_see_bytes_and_metadata_of_one_upload() {
    let fixture = Arc::new(fixture().await);
    fixture.put("key", "0").await.expect("stores");
    let writer = |content: &'static str| {
        let fixture = Arc::clone(&fixture);
        tokio::spawn(async move {
            for _ in 0..50 {
                let mut input = PutObjectInput::builder();
                input.set_bucket(BUCKET.to_owned()).set_key("key".to_owned()).set_body(Some(body(vec![Ok(content)])));
                input.set_metadata(Some([("claviger".to_owned(), content.to_owned())].into_iter().collect()));
                fixture.folder.put_object(internal(input.build().expect("complete"))).await.expect("stores");
            }
        })
    };
    fixture.put("key", "key").await.expect("stores");
    let writers = [writer("one"), writer("another")];
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        let (content, metadata) = fixture.get("key", None).await.expect("reads");
        let described = metadata.and_then(|metadata| metadata.get("claviger").cloned()).expect("metadata");
        assert_eq!(String::from_utf8_lossy(&content), described);
        tokio::task::yield_now().await;
    }
}

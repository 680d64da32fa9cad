//! The storage through its trait, as the server calls it.

mod copies;
mod crashes;
mod lists;
mod multipart;
mod whole;

use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use tempfile::TempDir;

use super::*;

const BUCKET: &str = "records";
/// Fewest bytes of a part that is not the last.
const PART: usize = 5 << 20;

/// A storage with one bucket.
struct Fixture {
    storage: FolderStorage,
    root: TempDir,
}

async fn fixture() -> Fixture {
    let root = tempfile::tempdir().expect("a folder");
    let storage = FolderStorage::open(root.path()).await.expect("opens");
    let bucket = CreateBucketInput { bucket: BUCKET.to_owned(), ..Default::default() };
    storage.create_bucket(request(bucket)).await.expect("makes a bucket");
    Fixture { storage, root }
}

fn request<T>(input: T) -> S3Request<T> {
    S3Request {
        input,
        method: http::Method::HEAD,
        uri: http::Uri::from_static("/"),
        headers: http::HeaderMap::new(),
        extensions: http::Extensions::new(),
        credentials: None,
        region: None,
        service: None,
        trailing_headers: None,
    }
}

fn body(pieces: Vec<Result<Bytes, std::io::Error>>) -> Option<StreamingBlob> {
    Some(StreamingBlob::wrap(stream::iter(pieces)))
}

fn whole(content: impl AsRef<[u8]>) -> Option<StreamingBlob> {
    body(vec![Ok(Bytes::copy_from_slice(content.as_ref()))])
}

fn put(key: &str, content: impl AsRef<[u8]>) -> PutObjectInput {
    PutObjectInput { bucket: BUCKET.to_owned(), key: key.to_owned(), body: whole(content), ..Default::default() }
}

fn get(key: &str) -> GetObjectInput {
    GetObjectInput { bucket: BUCKET.to_owned(), key: key.to_owned(), ..Default::default() }
}

fn code<T>(result: S3Result<T>) -> String {
    result.err().map_or("no error".to_owned(), |error| error.code().as_str().to_owned())
}

fn etag(value: &str) -> Option<ETagCondition> {
    Some(ETagCondition::ETag(ETag::Strong(value.to_owned())))
}

async fn bytes(output: GetObjectOutput) -> Vec<u8> {
    let chunks: Vec<Bytes> = output.body.expect("a body").try_collect().await.expect("reads");
    chunks.concat()
}

impl Fixture {
    async fn put(&self, key: &str, content: impl AsRef<[u8]>) -> String {
        let output = self.storage.put_object(request(put(key, content))).await.expect("stores").output;
        output.e_tag.expect("an ETag").into_value()
    }

    async fn get(&self, key: &str) -> S3Result<Vec<u8>> {
        Ok(bytes(self.storage.get_object(request(get(key))).await?.output).await)
    }

    async fn delete(&self, key: &str) {
        let input = DeleteObjectInput { bucket: BUCKET.to_owned(), key: key.to_owned(), ..Default::default() };
        self.storage.delete_object(request(input)).await.expect("deletes");
    }

    async fn keys(&self) -> Vec<String> {
        let input = ListObjectsV2Input { bucket: BUCKET.to_owned(), ..Default::default() };
        let listed = self.storage.list_objects_v2(request(input)).await.expect("lists").output.contents;
        listed.unwrap_or_default().into_iter().filter_map(|object| object.key).collect()
    }

    /// How many files there are.
    fn files(&self) -> usize {
        let count = |folder: &Path| std::fs::read_dir(folder).expect("there").count();
        let shards = std::fs::read_dir(self.root.path().join(STORED)).expect("there");
        let stored: usize = shards.map(|shard| count(&shard.expect("reads").path())).sum();
        stored + count(&self.root.path().join(INCOMING))
    }
}

//! Whoever runs one of the storage servers has a copy of another's: nothing of it passes for his own bucket's.

use http::Method;

use super::{ARCHIVE, PART, PHYSICAL, Regions};
use crate::harness::store::{Instead, Stored};
use crate::harness::{BUCKET, Reply, STATE, noise};

/// Everything that Virginia has in the state bucket, put into Singapore's.
fn plant_state(regions: &Regions) {
    let state = regions.virginia.buckets().get(STATE).cloned().unwrap_or_default();
    assert!(!state.is_empty());
    for (key, stored) in state {
        regions.singapore.plant(STATE, &key, stored);
    }
}

fn stolen(regions: &Regions, key: &str) -> Stored {
    regions.virginia.object(BUCKET, key).expect("it is there")
}

#[tokio::test]
async fn an_object_of_another_server_does_not_open_under_the_same_names() {
    let regions = Regions::start().await;
    let (small, large) = (noise(1000, 1), noise(PART, 2));
    regions.s3.put(BUCKET, "small", small.clone()).await.ok();
    regions.s3.put(BUCKET, "large", large.clone()).await.ok();
    regions.s3.put(ARCHIVE, "small", noise(1000, 3)).await.ok();
    plant_state(&regions);
    for key in ["small", "large"] {
        regions.singapore.plant(PHYSICAL, key, stolen(&regions, key));
        let (_proxy, s3) = regions.fresh().await;
        for answer in [
            s3.get(ARCHIVE, key).await,
            s3.get_range(ARCHIVE, key, "bytes=0-9").await,
            s3.head(ARCHIVE, key).await,
            s3.ask(Method::PUT, BUCKET, "copy").header("x-amz-copy-source", &format!("{ARCHIVE}/{key}")).send().await,
        ] {
            assert!(answer.status >= 400, "{answer:?}");
        }
        let (_proxy, s3) = regions.fresh().await;
        s3.get(BUCKET, key).await.ok();
    }
}

#[tokio::test]
async fn an_envelope_of_another_server_opens_no_body() {
    let regions = Regions::start().await;
    regions.s3.put(BUCKET, "x", noise(1000, 1)).await.ok();
    regions.s3.put(ARCHIVE, "x", noise(1000, 2)).await.ok();
    plant_state(&regions);
    let theirs = stolen(&regions, "x");
    regions.singapore.tamper(PHYSICAL, "x", |own| own.headers = theirs.headers);
    let (_proxy, s3) = regions.fresh().await;
    assert!(s3.get(ARCHIVE, "x").await.status >= 400);
}

#[tokio::test]
async fn an_upload_of_another_server_is_gone_on_with_by_nobody() {
    let regions = Regions::start().await;
    let s3 = &regions.s3;
    let id = s3.create_upload(BUCKET, "x").await;
    let part = s3.upload_part((BUCKET, "x"), &id, 1, noise(PART, 1)).await.ok();
    let part = (1, part.header("etag").to_owned());
    plant_state(&regions);
    // Singapore would take any upload for its own.
    regions.singapore.before(|seen| {
        let of_upload = seen.bucket == PHYSICAL && seen.has("uploadId");
        of_upload.then(|| Instead::Answer(Reply::new(200, "").header("etag", "\"0123456789abcdef0123456789abcdef\"")))
    });
    let (_proxy, fresh) = regions.fresh().await;
    let more = fresh.upload_part((ARCHIVE, "x"), &id, 2, noise(100, 2)).await;
    more.fails(404, "NoSuchUpload");
    let listed = fresh.ask(Method::GET, ARCHIVE, "x").query("uploadId", &id).send().await;
    listed.fails(404, "NoSuchUpload");
    fresh.complete((ARCHIVE, "x"), &id, std::slice::from_ref(&part)).await.fails(404, "NoSuchUpload");
    fresh.complete((BUCKET, "x"), &id, &[part]).await.ok();
    assert!(fresh.get(BUCKET, "x").await.ok().body == noise(PART, 1));
}

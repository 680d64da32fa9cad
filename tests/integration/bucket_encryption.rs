//! `?encryption` is answered by the proxy: the bucket's KEK, and nothing that would change it.

use http::Method;

use crate::harness::client::Ask;
use crate::harness::{BUCKET, World};

fn ask(world: &World, method: Method, bucket: &str) -> Ask {
    world.s3.ask(method, bucket, "").query_text("encryption")
}

fn document(inner: &str) -> String {
    let apply = format!("<ApplyServerSideEncryptionByDefault>{inner}</ApplyServerSideEncryptionByDefault>");
    format!("<ServerSideEncryptionConfiguration><Rule>{apply}</Rule></ServerSideEncryptionConfiguration>")
}

#[tokio::test]
async fn it_says_the_buckets_kek_and_lets_itself_be_set_to_that() {
    let world = World::new().await;
    let says = |text: &str| {
        for part in
            ["<SSEAlgorithm>aws:kms</SSEAlgorithm>", "<KMSMasterKeyID>demo</KMSMasterKeyID>", "<BucketKeyEnabled>true<"]
        {
            assert!(text.contains(part), "{text}");
        }
    };
    says(&ask(&world, Method::GET, BUCKET).send().await.ok().text());
    for good in [
        "<SSEAlgorithm>AES256</SSEAlgorithm>",
        "<SSEAlgorithm>aws:kms</SSEAlgorithm>",
        "<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>demo</KMSMasterKeyID>",
    ] {
        ask(&world, Method::PUT, BUCKET).body(document(good)).send().await.ok();
    }
    for (inner, code) in [
        ("<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>other</KMSMasterKeyID>", "KMS.NotFoundException"),
        ("<SSEAlgorithm>AES256</SSEAlgorithm><KMSMasterKeyID>demo</KMSMasterKeyID>", "InvalidArgument"),
        ("<SSEAlgorithm>aws:kms:dsse</SSEAlgorithm>", "InvalidArgument"),
        ("<SSEAlgorithm/>", "InvalidArgument"),
        ("", "MalformedXML"),
    ] {
        ask(&world, Method::PUT, BUCKET).body(document(inner)).send().await.fails(400, code);
    }
    assert_eq!(ask(&world, Method::DELETE, BUCKET).send().await.status, 204);
    says(&ask(&world, Method::GET, BUCKET).send().await.ok().text());
    let seen = world.store.take_whole_log();
    assert!(seen.iter().all(|seen| seen.method == Method::HEAD && seen.query.is_empty()), "{seen:?}");
}

#[tokio::test]
async fn a_bucket_that_is_not_there_has_none() {
    let world = World::new().await;
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(ask(&world, method, "missing-bucket").send().await.status, 404);
    }
    let good = document("<SSEAlgorithm>AES256</SSEAlgorithm>");
    assert_eq!(ask(&world, Method::PUT, "missing-bucket").body(good).send().await.status, 404);
    ask(&world, Method::POST, BUCKET).send().await.fails(501, "NotImplemented");
    world
        .s3
        .ask(Method::PUT, BUCKET, "key")
        .query_text("encryption")
        .body("x")
        .send()
        .await
        .fails(501, "NotImplemented");
    world.s3.ask(Method::GET, BUCKET, "").query_text("encryption&other").send().await.fails(501, "NotImplemented");
}

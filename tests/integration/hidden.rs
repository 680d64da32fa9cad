//! Names that are nobody's: the state bucket's, and the storage server's name of a bucket that goes by another. Whatever is
//! asked of them, they do not exist, and nothing goes to the storage server for it.

use claviger::names::LogicalBucket;
use claviger::object::access::{BucketPattern, Grant};
use http::{HeaderMap, HeaderValue, Method};

use crate::forms::Form;
use crate::harness::client::Ask;
use crate::harness::proxy::{EVERYTHING, bucket_rule, client, key_rule};
use crate::harness::{BUCKET, S3, STATE, Setup, World};
use crate::presigned::by_url;

const PHYSICAL: &str = "va-payroll";

const BUCKET_SETTINGS: [(&str, &str); 20] = [
    ("accelerate", "<AccelerateConfiguration/>"),
    ("acl", "<AccessControlPolicy/>"),
    ("analytics&id=1", "<AnalyticsConfiguration/>"),
    ("cors", "<CORSConfiguration/>"),
    ("encryption", "<ServerSideEncryptionConfiguration/>"),
    ("intelligent-tiering&id=1", "<IntelligentTieringConfiguration/>"),
    ("inventory&id=1", "<InventoryConfiguration/>"),
    ("lifecycle", "<LifecycleConfiguration/>"),
    ("logging", "<BucketLoggingStatus/>"),
    ("metrics&id=1", "<MetricsConfiguration/>"),
    ("notification", "<NotificationConfiguration/>"),
    ("object-lock", "<ObjectLockConfiguration/>"),
    ("ownershipControls", "<OwnershipControls/>"),
    ("policy", "{}"),
    ("publicAccessBlock", "<PublicAccessBlockConfiguration/>"),
    ("replication", "<ReplicationConfiguration/>"),
    ("requestPayment", "<RequestPaymentConfiguration/>"),
    ("tagging", "<Tagging/>"),
    ("versioning", "<VersioningConfiguration/>"),
    ("policyStatus", ""),
];

const OBJECT_SETTINGS: [(&str, &str); 4] = [
    ("acl", "<AccessControlPolicy/>"),
    ("legal-hold", "<LegalHold/>"),
    ("retention", "<Retention/>"),
    ("tagging", "<Tagging/>"),
];

/// Every operation there is, on `bucket`.
fn operations(s3: &S3, bucket: &str) -> Vec<Ask> {
    let on_bucket = |method: Method, query: &str| s3.ask(method, bucket, "").query_text(query);
    let on_object = |method: Method, query: &str| s3.ask(method, bucket, "key").query_text(query);
    let delete = "<Delete><Object><Key>key</Key></Object></Delete>";
    let source = format!("/{BUCKET}/object");
    let mut asks = vec![
        on_bucket(Method::PUT, ""),
        on_bucket(Method::HEAD, ""),
        on_bucket(Method::DELETE, ""),
        on_bucket(Method::GET, ""),
        on_bucket(Method::GET, "list-type=2"),
        on_bucket(Method::GET, "versions"),
        on_bucket(Method::GET, "uploads"),
        on_bucket(Method::GET, "location"),
        on_bucket(Method::POST, "delete").body(delete),
        on_object(Method::PUT, "").body("x"),
        on_object(Method::PUT, "").header("x-amz-copy-source", &source),
        on_object(Method::GET, ""),
        on_object(Method::HEAD, ""),
        on_object(Method::DELETE, ""),
        on_object(Method::GET, "attributes").header("x-amz-object-attributes", "ETag"),
        on_object(Method::POST, "restore").body("<RestoreRequest/>"),
        on_object(Method::POST, "uploads"),
        on_object(Method::PUT, "partNumber=1&uploadId=u").body("x"),
        on_object(Method::PUT, "partNumber=1&uploadId=u").header("x-amz-copy-source", &source),
        on_object(Method::GET, "uploadId=u"),
        on_object(Method::POST, "uploadId=u").body("<CompleteMultipartUpload/>"),
        on_object(Method::DELETE, "uploadId=u"),
    ];
    for (name, document) in BUCKET_SETTINGS {
        asks.push(on_bucket(Method::GET, name));
        if !document.is_empty() {
            asks.push(on_bucket(Method::PUT, name).body(document));
        }
    }
    for name in ["cors", "encryption", "lifecycle", "policy", "replication", "tagging", "publicAccessBlock"] {
        asks.push(on_bucket(Method::DELETE, name));
    }
    for (name, document) in OBJECT_SETTINGS {
        asks.push(on_object(Method::GET, name));
        asks.push(on_object(Method::PUT, name).body(document));
    }
    asks.push(on_object(Method::DELETE, "tagging"));
    asks
}

async fn world() -> World {
    let rules = vec![bucket_rule("payroll", PHYSICAL, key_rule("demo"))];
    let world = World::with(Setup { rules, ..Setup::default() }).await;
    world.store.create(PHYSICAL);
    world.s3.put("payroll", "key", "x").await.ok();
    world.s3.put(BUCKET, "object", "x").await.ok();
    world.store.take_whole_log();
    world
}

#[tokio::test]
async fn no_operation_finds_them() {
    let world = world().await;
    for bucket in [STATE, PHYSICAL] {
        for ask in operations(&world.s3, bucket) {
            let (what, headless) = (format!("{ask:?}"), ask.is_head());
            let answer = ask.send().await;
            assert_eq!(answer.status, 404, "{what}: {answer:?}");
            assert!(headless || answer.code() == "NoSuchBucket", "{what}: {answer:?}");
        }
        for key in ["", "key"] {
            for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
                let answer = by_url(&world.s3, method, bucket, key, "", bytes::Bytes::new()).await;
                assert_eq!(answer.status, 404, "{answer:?}");
            }
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_str(&world.s3.host).expect("ASCII"));
            headers.insert("origin", HeaderValue::from_static("https://app.example"));
            headers.insert("access-control-request-method", HeaderValue::from_static("GET"));
            world.s3.ask(Method::OPTIONS, bucket, key).send_with(headers).await.fails(404, "NoSuchBucket");
        }
        Form::new(bucket, "key").signed(&world.s3).send(&world.s3, bucket, "x").await.fails(404, "NoSuchBucket");
        for query in ["", "partNumber=1&uploadId=u"] {
            let ask = world.s3.ask(Method::PUT, BUCKET, "copy").query_text(query);
            let ask = ask.header("x-amz-copy-source", &format!("/{bucket}/key"));
            ask.send().await.fails(404, "NoSuchBucket");
        }
        // By host as well.
        let by_host = S3 { host: format!("{bucket}.s3.test"), ..world.s3.clone() };
        by_host.ask(Method::GET, "key", "").send().await.fails(404, "NoSuchBucket");
    }
    let seen = world.store.take_whole_log();
    assert!(seen.is_empty(), "{seen:?}");
}

#[tokio::test]
async fn the_list_of_buckets_leaves_them_out() {
    let world = world().await;
    let list = world.s3.ask(Method::GET, "", "").send().await.ok().text();
    for (name, shown) in [(BUCKET, true), ("payroll", true), (STATE, false), (PHYSICAL, false)] {
        assert_eq!(list.contains(&format!("<Name>{name}</Name>")), shown, "{list}");
    }
}

#[tokio::test]
async fn no_setting_has_the_storage_server_write_to_the_state_bucket() {
    let world = world().await;
    let logging = |bucket: &str| {
        let target = format!("<LoggingEnabled><TargetBucket>{bucket}</TargetBucket><TargetPrefix/></LoggingEnabled>");
        ("logging", format!("<BucketLoggingStatus>{target}</BucketLoggingStatus>"))
    };
    let replication = |bucket: &str| {
        let rule = format!("<Rule><Destination><Bucket>{bucket}</Bucket></Destination></Rule>");
        ("replication", format!("<ReplicationConfiguration>{rule}</ReplicationConfiguration>"))
    };
    let inventory = |bucket: &str| {
        let place = format!(
            "<Destination><S3BucketDestination><a:Bucket xmlns:a='x'>{bucket}</a:Bucket></S3BucketDestination></Destination>"
        );
        ("inventory&id=1", format!("<InventoryConfiguration>{place}</InventoryConfiguration>"))
    };
    for name in [
        STATE.to_owned(),
        format!("arn:aws:s3:::{STATE}"),
        format!(" arn:aws:s3:::{STATE}/x"),
        format!("{STATE}:x"),
        format!("x/{STATE}"),
        "Claviger&#45;State".into(),
    ] {
        for (query, document) in [logging(&name), replication(&name), inventory(&name)] {
            let ask = world.s3.ask(Method::PUT, BUCKET, "").query_text(query).body(document);
            ask.send().await.fails(404, "NoSuchBucket");
        }
    }
    assert!(world.store.take_whole_log().is_empty());
    for (query, document) in [logging("logs"), replication("arn:aws:s3:::elsewhere")] {
        world.s3.ask(Method::PUT, BUCKET, "").query_text(query).body(document).send().await;
        assert_eq!(world.store.take_whole_log().len(), 1);
    }
}

#[tokio::test]
async fn no_setting_has_the_storage_server_write_where_its_client_may_not() {
    let grant = Grant {
        buckets: vec![BucketPattern::Exactly(LogicalBucket::new(BUCKET).expect("legal"))],
        access: EVERYTHING.to_vec(),
    };
    let clients = vec![client("AKGUEST", vec![grant])];
    let world = World::with(Setup { clients, ..Setup::default() }).await;
    let s3 = world.proxy.s3_as("AKGUEST");
    let logging = |bucket: &str| {
        let target = format!("<LoggingEnabled><TargetBucket>{bucket}</TargetBucket><TargetPrefix/></LoggingEnabled>");
        let document = format!("<BucketLoggingStatus>{target}</BucketLoggingStatus>");
        s3.ask(Method::PUT, BUCKET, "").query_text("logging").body(document)
    };
    world.store.take_whole_log();
    for name in ["others", "Others", "arn:aws:s3:::others", "arn:aws:s3:::others/x"] {
        logging(name).send().await.fails(404, "NoSuchBucket");
    }
    assert!(world.store.take_whole_log().is_empty());
    logging(BUCKET).send().await;
    assert_eq!(world.store.take_whole_log().len(), 1);
}

#[tokio::test]
async fn archived_objects_are_restored_but_not_queried() {
    let world = world().await;
    world.store.before(|seen| {
        seen.has("restore").then(|| crate::harness::store::Instead::Answer(crate::harness::Reply::new(202, "")))
    });
    let restore =
        |document: &'static str| world.s3.ask(Method::POST, BUCKET, "object").query_text("restore").body(document);
    assert_eq!(restore("<RestoreRequest><Days>1</Days></RestoreRequest>").send().await.status, 202);
    let seen = world.store.take_whole_log();
    assert!(matches!(seen.as_slice(), [seen] if seen.method == Method::POST && seen.key == "object"), "{seen:?}");
    for refused in [
        "",
        "<Other/>",
        "<RestoreRequest><SelectParameters/></RestoreRequest>",
        "<RestoreRequest><Type>SELECT</Type><OutputLocation><S3><BucketName>b</BucketName></S3></OutputLocation></RestoreRequest>",
    ] {
        restore(refused).send().await.fails(400, "MalformedXML");
    }
    assert!(world.store.take_whole_log().is_empty());
}

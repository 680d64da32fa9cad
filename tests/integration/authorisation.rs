//! Nothing is allowed that no grant names, and what is refused never reaches the storage server.

use claviger::names::LogicalBucket;
use claviger::object::access::{BucketPattern, Grant};
use claviger::s3::operation::Access;
use http::Method;

use crate::harness::client::Ask;
use crate::harness::proxy::{ADMIN, EVERYTHING, client, everything};
use crate::harness::store::Instead;
use crate::harness::{BUCKET, Proxy, Reply, S3, STATE, Setup, World};

const DELETE: &str = "<Delete><Object><Key>object</Key></Object></Delete>";
const TAGS: &str = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";

/// A request of each kind, with what it needs.
fn requests(s3: &S3, bucket: &str) -> Vec<(&'static str, Ask, &'static [Access])> {
    use Access::{Bucket, Configure, Delete, List, Read, Write};
    let object = |method: Method| s3.ask(method, bucket, "object");
    let whole = |method: Method| s3.ask(method, bucket, "");
    vec![
        ("GetObject", object(Method::GET), &[Read]),
        ("GetObject range", object(Method::GET).header("range", "bytes=0-0"), &[Read]),
        ("HeadObject", object(Method::HEAD), &[Read]),
        ("GetObjectTagging", object(Method::GET).query_text("tagging"), &[Read]),
        ("GetObjectAcl", object(Method::GET).query_text("acl"), &[Read]),
        ("PutObject", object(Method::PUT).body("new"), &[Write]),
        ("PutObjectTagging", object(Method::PUT).query_text("tagging").body(TAGS), &[Write]),
        ("PutObject public", object(Method::PUT).body("new").header("x-amz-acl", "public-read"), &[Write, Configure]),
        ("PutObject granting", object(Method::PUT).body("new").header("x-amz-grant-read", "id=1"), &[Write, Configure]),
        (
            "PutObject locking",
            object(Method::PUT).body("new").header("x-amz-object-lock-legal-hold", "ON"),
            &[Write, Configure],
        ),
        ("PutObjectAcl", object(Method::PUT).query_text("acl").body("<AccessControlPolicy/>"), &[Configure]),
        ("DeleteObject", object(Method::DELETE), &[Delete]),
        (
            "DeleteObject in spite of governance",
            object(Method::DELETE).header("x-amz-bypass-governance-retention", "true"),
            &[Delete, Configure],
        ),
        ("DeleteObjects", whole(Method::POST).query_text("delete").body(DELETE), &[Delete]),
        ("ListObjects", whole(Method::GET), &[List]),
        ("ListObjectsV2", whole(Method::GET).query_text("list-type=2"), &[List]),
        ("HeadBucket", whole(Method::HEAD), &[List]),
        ("GetBucketLocation", whole(Method::GET).query_text("location"), &[List]),
        ("GetBucketVersioning", whole(Method::GET).query_text("versioning"), &[List]),
        (
            "PutBucketVersioning",
            whole(Method::PUT).query_text("versioning").body("<VersioningConfiguration/>"),
            &[Configure],
        ),
        ("PutBucketPolicy", whole(Method::PUT).query_text("policy").body("{}"), &[Configure]),
        ("CreateBucket", whole(Method::PUT), &[Bucket]),
        ("CreateBucket public", whole(Method::PUT).header("x-amz-acl", "public-read"), &[Bucket, Configure]),
        ("DeleteBucket", whole(Method::DELETE), &[Bucket]),
    ]
}

fn grant(buckets: Vec<BucketPattern>, access: &[Access]) -> Vec<Grant> {
    vec![Grant { buckets, access: access.to_vec() }]
}

fn exactly(bucket: &str) -> BucketPattern {
    BucketPattern::Exactly(LogicalBucket::new(bucket).expect("legal"))
}

async fn world_with(grants: Vec<(&str, Vec<Grant>)>) -> World {
    let clients = grants.into_iter().map(|(key, grants)| client(key, grants));
    let clients = clients.chain([client(ADMIN, everything())]).collect();
    World::with(Setup { clients, ..Setup::default() }).await
}

#[tokio::test]
async fn who_has_no_grant_may_do_nothing() {
    let world = world_with(vec![
        ("AKNONE", Vec::new()),
        ("AKEMPTY", grant(vec![BucketPattern::All], &[])),
        ("AKELSEWHERE", grant(vec![exactly("elsewhere"), BucketPattern::Prefix("tenant-".into())], &EVERYTHING)),
    ])
    .await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    world.store.take_whole_log();
    for key in ["AKNONE", "AKEMPTY", "AKELSEWHERE"] {
        for (what, ask, _) in requests(&world.proxy.s3_as(key), BUCKET) {
            let answer = ask.send().await;
            assert_eq!(answer.status, 403, "{key} {what}: {answer:?}");
            assert!(what.starts_with("Head") || answer.code() == "AccessDenied", "{key} {what}: {answer:?}");
        }
    }
    assert!(world.store.take_whole_log().is_empty(), "nothing reached the storage server");
    let elsewhere = world.proxy.s3_as("AKELSEWHERE");
    for bucket in ["elsewhere", "tenant-1"] {
        elsewhere.ask(Method::PUT, bucket, "").send().await.ok();
        elsewhere.put(bucket, "object", "x").await.ok();
    }
}

#[tokio::test]
async fn each_kind_of_access_allows_what_it_names_and_nothing_else() {
    let names = ["AKREAD", "AKWRITE", "AKDELETE", "AKLIST", "AKBUCKET", "AKCONFIGURE"];
    let clients = names.iter().zip(EVERYTHING).map(|(name, access)| (*name, grant(vec![exactly(BUCKET)], &[access])));
    let world = world_with(clients.collect()).await;
    for (name, access) in names.iter().zip(EVERYTHING) {
        for (what, ask, needs) in requests(&world.proxy.s3_as(name), BUCKET) {
            world.store.create(BUCKET);
            world.s3.put(BUCKET, "object", "x").await.ok();
            world.store.take_whole_log();
            let answer = ask.send().await;
            let reached = !world.store.take_whole_log().is_empty();
            if needs == [access] {
                assert!(answer.status != 403 && reached, "{name} {what}: {answer:?}");
            } else {
                assert!(answer.status == 403 && !reached, "{name} {what}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn all_kinds_together_allow_everything() {
    let world = World::new().await;
    for (what, ask, _) in requests(&world.s3, BUCKET) {
        world.store.create(BUCKET);
        world.s3.put(BUCKET, "object", "x").await.ok();
        let answer = ask.send().await;
        assert!(answer.status != 403, "{what}: {answer:?}");
    }
}

#[tokio::test]
async fn the_list_of_buckets_shows_only_those_that_one_may_list() {
    let world = world_with(vec![
        ("AKLIST", grant(vec![exactly(BUCKET)], &[Access::List])),
        ("AKREAD", grant(vec![BucketPattern::All], &[Access::Read])),
    ])
    .await;
    for bucket in ["other-bucket", "third-bucket"] {
        world.store.create(bucket);
    }
    let list = |key: &str| {
        let s3 = world.proxy.s3_as(key);
        async move { s3.ask(Method::GET, "", "").send().await }
    };
    let shown = list("AKLIST").await.ok().text();
    assert!(shown.contains("<Name>records</Name>") && !shown.contains("other-bucket"), "{shown}");
    list("AKREAD").await.fails(403, "AccessDenied");
    let shown = list(ADMIN).await.ok().text();
    assert!(shown.contains("other-bucket") && !shown.contains(STATE), "{shown}");
}

#[tokio::test]
async fn the_state_bucket_is_invisible_in_every_way() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    let entry = world.store.keys(STATE).pop().expect("a branch key");
    world.store.take_whole_log();
    for (what, ask, _) in requests(&world.s3, STATE) {
        let answer = ask.send().await;
        assert_eq!(answer.status, 404, "{what}: {answer:?}");
        assert!(what.starts_with("Head") || answer.code() == "NoSuchBucket", "{what}: {answer:?}");
    }
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
        assert_eq!(world.s3.ask(method, STATE, &entry).send().await.status, 404);
    }
    let copy = world.s3.ask(Method::PUT, BUCKET, "copy").header("x-amz-copy-source", &format!("/{STATE}/{entry}"));
    copy.send().await.fails(404, "NoSuchBucket");
    // Virtual-hosted, and in letters that some servers take for the same.
    let by_host = S3 { host: format!("{STATE}.s3.test"), ..world.s3.clone() };
    by_host.ask(Method::GET, "", "").send().await.fails(404, "NoSuchBucket");
    for other in ["Claviger-state", "claviger%2Dstate", "./claviger-state", "records/../claviger-state"] {
        let answer = world.s3.ask(Method::GET, other, &entry).send().await;
        assert!(answer.status >= 400, "{other}: {answer:?}");
    }
    let forwarded = world.store.take_whole_log();
    assert!(forwarded.iter().all(|seen| seen.bucket != STATE), "{forwarded:?}");
    assert_eq!(world.store.keys(STATE), [entry]);
    let buckets = world.s3.ask(Method::GET, "", "").send().await.ok().text();
    assert!(buckets.contains(BUCKET) && !buckets.contains(STATE), "{buckets}");
}

#[tokio::test]
async fn a_bucket_that_no_rule_names_does_not_exist() {
    let rules = vec![crate::harness::proxy::bucket_rule("ledger", BUCKET, crate::harness::proxy::key_rule("demo"))];
    let world = World::with(Setup { rules, others: None, ..Setup::default() }).await;
    for (what, ask, _) in requests(&world.s3, "unknown-bucket") {
        assert_eq!(ask.send().await.status, 404, "{what}");
    }
    assert!(world.store.take_whole_log().is_empty());
    world.s3.put("ledger", "object", "x").await.ok();
    assert_eq!(world.store.keys(BUCKET), ["object"]);
    // With a rule for others, its physical name is still no way in.
    let rules = vec![crate::harness::proxy::bucket_rule("ledger", BUCKET, crate::harness::proxy::key_rule("demo"))];
    let open = Proxy::start(&world.store, Setup { rules, ..Setup::default() }).await;
    open.s3().get(BUCKET, "object").await.fails(404, "NoSuchBucket");
    assert_eq!(open.s3().get("ledger", "object").await.ok().text(), "x");
}

#[tokio::test]
async fn reasons_are_from_the_list() {
    let world = World::new().await;
    let ask =
        |reason: &str| world.s3.ask(Method::PUT, BUCKET, "object").body("x").header("x-claviger-reason", reason).send();
    ask("customer-support").await.ok();
    ask("because").await.fails(400, "InvalidArgument");
    let sent = world.store.take_whole_log();
    assert!(sent.iter().all(|seen| seen.header("x-claviger-reason").is_none()), "the reason is not the operator's");
}

#[tokio::test]
async fn each_client_sees_the_buckets_of_its_own_identity_on_the_storage_server() {
    use claviger::object::access::Client;
    use claviger::s3::sigv4::Credentials;
    use claviger::secret::SecretBytes;
    let secret = SecretBytes::new(b"the tenant's secret on the storage server".to_vec()).expect("not empty");
    let credentials = Credentials { access_key: "TENANT".into(), secret: secret.into(), session_token: None };
    let tenant = Client { storage_credentials: Some(credentials), ..client("AKTENANT", everything()) };
    let clients = vec![tenant, client(ADMIN, everything())];
    let world = World::with(Setup { clients, ..Setup::default() }).await;
    world.store.before(|seen| {
        let tenants = seen.header("authorization").is_some_and(|text| text.contains("Credential=TENANT/"));
        let bucket = "<Buckets><Bucket><Name>of-tenant</Name></Bucket></Buckets>";
        let list = format!("<ListAllMyBucketsResult>{bucket}</ListAllMyBucketsResult>");
        tenants.then(|| Instead::Answer(Reply::xml(200, list)))
    });
    let list = world.proxy.s3_as("AKTENANT").ask(Method::GET, "", "").send().await.ok().text();
    assert!(list.contains("<Name>of-tenant</Name>") && !list.contains(BUCKET), "{list}");
    let list = world.s3.ask(Method::GET, "", "").send().await.ok().text();
    assert!(list.contains(BUCKET) && !list.contains("of-tenant"), "{list}");
}

#[tokio::test]
async fn the_owner_that_a_client_expects_is_the_storage_servers_to_check() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    world.store.take_log();
    let owner = |ask: Ask| ask.header("x-amz-expected-bucket-owner", "111122223333").send();
    owner(world.s3.ask(Method::GET, BUCKET, "object")).await.ok();
    owner(world.s3.ask(Method::PUT, BUCKET, "object").body("x")).await.ok();
    owner(world.s3.ask(Method::GET, BUCKET, "").query_text("encryption")).await.ok();
    let seen = world.store.take_log();
    assert!(seen.iter().all(|seen| seen.header("x-amz-expected-bucket-owner") == Some("111122223333")), "{seen:?}");
}

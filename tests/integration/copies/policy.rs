//! A copy is no way around grants, hidden buckets, KEKs and accepted writers.

use claviger::format::envelope::Unverified;
use claviger::names::LogicalBucket;
use claviger::object::access::{BucketPattern, Grant};
use claviger::object::bucket::KeyRule;
use claviger::s3::operation::Access;
use http::Method;

use super::{BUCKET, NO_DATA, OTHER, ask, copy, put_described, setup, world};
use crate::harness::custodian::shared_in;
use crate::harness::proxy::{ADMIN, bucket_rule, client, domain, everything, key_rule};
use crate::harness::{Proxy, STATE, Setup, noise};

fn grant(bucket: &str, access: &[Access]) -> Grant {
    let bucket = BucketPattern::Exactly(LogicalBucket::new(bucket).expect("legal"));
    Grant { buckets: vec![bucket], access: access.to_vec() }
}

#[tokio::test]
async fn the_source_has_to_be_readable_and_the_destination_writable() {
    let clients = vec![
        client(ADMIN, everything()),
        client("AKMOVER", vec![grant(BUCKET, &[Access::Read]), grant(OTHER, &[Access::Write])]),
        client("AKWRITER", vec![grant(BUCKET, &[Access::Write]), grant(OTHER, &[Access::Write, Access::List])]),
        client("AKREADER", vec![grant(BUCKET, &[Access::Read]), grant(OTHER, &[Access::Read])]),
    ];
    let world = world(Setup { clients, ..setup() }).await;
    put_described(&world.s3, "from", noise(1000, 1)).await;
    world.store.take_log();
    for (who, status) in [("AKMOVER", 200), ("AKWRITER", 403), ("AKREADER", 403)] {
        let s3 = world.proxy.s3_as(who);
        assert_eq!(copy(&s3, "records/from", OTHER, "to").await.status, status, "{who}");
        assert_eq!(world.store.take_log().is_empty(), status == 403, "{who}");
    }
    let mover = world.proxy.s3_as("AKMOVER");
    let public = ask(&mover, "records/from", OTHER, "to").header("x-amz-acl", "public-read");
    public.send().await.fails(403, "AccessDenied");
}

#[tokio::test]
async fn hidden_buckets_are_no_sources() {
    let world = world(setup()).await;
    put_described(&world.s3, "from", noise(1000, 1)).await;
    let state = world.store.keys(STATE).first().expect("a branch key").clone();
    world.store.take_log();
    for source in [format!("{STATE}/{state}"), format!("/{STATE}/{state}?versionId=null"), "tenant-physical/x".into()] {
        copy(&world.s3, &source, BUCKET, "to").await.fails(404, "NoSuchBucket");
    }
    assert!(world.store.take_log().is_empty(), "the storage server was asked");
}

#[tokio::test]
async fn a_kek_that_the_buckets_do_not_name_opens_and_wraps_nothing() {
    let world = world(setup()).await;
    put_described(&world.s3, "from", noise(1000, 1)).await;
    let chosen = |kek: &str| {
        let ask = ask(&world.s3, "records/from", OTHER, "to").header("x-amz-server-side-encryption", "aws:kms");
        ask.header("x-amz-server-side-encryption-aws-kms-key-id", kek).send()
    };
    chosen("other").await.ok();
    chosen("demo").await.fails(400, "KMS.NotFoundException");
    // An object under a KEK that its bucket does not accept is no source either.
    let narrow = bucket_rule(BUCKET, BUCKET, key_rule("other"));
    let (_proxy, narrow) = world.fresh_with(Setup { rules: vec![narrow], ..Setup::default() }).await;
    copy(&narrow, "records/from", BUCKET, "to").await.fails(403, "InvalidObjectState");
}

#[tokio::test]
async fn who_may_not_write_here_does_not_leave_a_dek_here() {
    let accepting = KeyRule { accept_writers: vec![domain("us"), domain("sg")], ..key_rule("demo") };
    let rules = vec![bucket_rule(BUCKET, BUCKET, accepting), bucket_rule(OTHER, "tenant-physical", key_rule("other"))];
    let world = world(Setup { rules, ..Setup::default() }).await;
    let foreign = Setup { region: "sg", custodian: shared_in("sg"), ..Setup::default() };
    let foreign = Proxy::start(&world.store, foreign).await;
    let body = noise(200_000, 1);
    put_described(&foreign.s3(), "from", body.clone()).await;
    world.store.take_traffic();
    copy(&world.s3, "records/from", OTHER, "to").await.ok();
    assert!(world.store.take_traffic().received > 200_000, "its writer knows the DEK");
    let commitment = |bucket: &str, key: &str| {
        let stored = world.store.object(bucket, key).expect("stored");
        *Unverified::parse(stored.envelope()).expect("an envelope").commitment()
    };
    assert_ne!(commitment(BUCKET, "from"), commitment("tenant-physical", "to"));
    assert!(world.s3.get(OTHER, "to").await.ok().body == body);
    // Nor by way of a copy where its writer is accepted: that one would name us as its writer.
    world.store.take_traffic();
    copy(&world.s3, "records/from", BUCKET, "between").await.ok();
    assert!(world.store.take_traffic().received > 200_000, "its writer knows the DEK");
    assert_ne!(commitment(BUCKET, "from"), commitment(BUCKET, "between"));
    copy(&world.s3, "records/between", OTHER, "to").await.ok();
    assert_ne!(commitment(BUCKET, "from"), commitment("tenant-physical", "to"));
    // The DEK of that copy is ours.
    assert!(world.store.take_traffic().received < NO_DATA);
    assert_eq!(commitment(BUCKET, "between"), commitment("tenant-physical", "to"));
    assert!(world.s3.get(OTHER, "to").await.ok().body == body);
    // A writer that the source's bucket does not accept makes no source.
    world.store.plant("tenant-physical", "from", world.store.object(BUCKET, "from").expect("stored"));
    copy(&world.s3, &format!("{OTHER}/from"), BUCKET, "to").await.fails(403, "InvalidObjectState");
}

#[tokio::test]
async fn the_custodian_is_asked_for_both_keys() {
    let world = world(Setup { custodian: shared_in("us"), ..setup() }).await;
    put_described(&world.s3, "from", noise(1000, 1)).await;
    copy(&world.s3, "records/from", OTHER, "to").await.ok();
    let keys = world.store.keys(STATE);
    assert!(keys.iter().any(|key| key.starts_with("branch/other/")), "{keys:?}");
    // Without the destination's KEK nothing is written.
    let rules = vec![bucket_rule(OTHER, "tenant-physical", key_rule("nobodys"))];
    let (_proxy, s3) = world.fresh_with(Setup { rules, ..Setup::default() }).await;
    world.store.take_log();
    assert!(copy(&s3, "records/from", OTHER, "other").await.status >= 400);
    let log = world.store.take_log();
    assert!(log.iter().all(|seen| seen.method != Method::PUT), "{log:?}");
}

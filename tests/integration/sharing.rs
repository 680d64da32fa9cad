//! Several proxies over one storage server.

use std::sync::Arc;

use claviger::custody::Custodian as _;
use claviger::custody::context::BranchContext;
use claviger::custody::directory::Directory as _;
use claviger::custody::wrapped::WrappedKey;
use claviger::format::envelope::Unverified;
use claviger::names::{LogicalBucket, Purpose};

use crate::harness::custodian::{custodian, kek, officer, retire, shared_in};
use crate::harness::proxy::{domain, key_rule};
use crate::harness::{BUCKET, Proxy, STATE, Setup, World, noise};

#[tokio::test]
async fn each_reads_what_the_other_wrote() {
    let world = World::new().await;
    let (_proxy, other) = world.fresh().await;
    for (size, seed) in [(100, 1), (300_000, 2)] {
        world.s3.put(BUCKET, "from-one", noise(size, seed)).await.ok();
        other.put(BUCKET, "from-two", noise(size, seed + 10)).await.ok();
        assert!(other.get(BUCKET, "from-one").await.ok().body == noise(size, seed));
        assert!(world.s3.get(BUCKET, "from-two").await.ok().body == noise(size, seed + 10));
    }
    assert_eq!(world.store.keys(STATE).len(), 2, "what was loaded does not wrap: a branch key for each process");
}

#[tokio::test]
async fn the_envelopes_copy_is_enough() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", noise(100, 1)).await.ok();
    world.store.buckets().remove(STATE);
    let (_proxy, other) = world.fresh().await;
    assert!(other.get(BUCKET, "object").await.ok().body == noise(100, 1));
}

#[tokio::test]
async fn a_writer_domain_that_the_bucket_does_not_accept_is_refused() {
    let world = World::new().await;
    let foreign =
        Proxy::start(&world.store, Setup { region: "sg", custodian: shared_in("sg"), ..Setup::default() }).await;
    foreign.s3().put(BUCKET, "object", noise(200_000, 1)).await.ok();
    world.s3.get(BUCKET, "object").await.fails(403, "InvalidObjectState");
    world.s3.get_range(BUCKET, "object", "bytes=0-9").await.fails(403, "InvalidObjectState");
    world.s3.head(BUCKET, "object").await.fails(403, "");
    let mut keys = key_rule("demo");
    keys.accept_writers.push(domain("sg"));
    let accepting = Proxy::start(&world.store, Setup { others: Some(keys), ..Setup::default() }).await;
    assert!(accepting.s3().get(BUCKET, "object").await.ok().body == noise(200_000, 1));
}

/// The branch key of an object, as its envelope tells.
fn branch_of(world: &World, key: &str) -> (BranchContext, WrappedKey) {
    let stored = world.store.object(BUCKET, key).expect("stored");
    let envelope = Unverified::parse(stored.envelope()).expect("an envelope");
    let branch = envelope.branch();
    let bucket = LogicalBucket::new(BUCKET).expect("legal");
    let context = BranchContext { purpose: Purpose::Object, bucket, writer: branch.writer.clone(), id: branch.id };
    (context, WrappedKey::new(branch.version, branch.wrapped.clone()).expect("its length"))
}

#[tokio::test]
async fn after_a_retired_version_the_directory_has_the_key() {
    let (embedded, _folder) = custodian(&["demo"]);
    let custodian = Arc::new(embedded.clone());
    let setup = || Setup { custodian: custodian.clone(), ..Setup::default() };
    let world = World::with(setup()).await;
    world.s3.put(BUCKET, "object", noise(100, 1)).await.ok();

    let who = embedded.requester().expect("random");
    embedded.engine().rotate(&who, &kek("demo")).await.expect("rotates");
    let (context, old) = branch_of(&world, "object");
    let new = custodian.rewrap(&kek("demo"), &context, &old, &officer()).await.expect("rewraps");
    let found = Proxy::start(&world.store, setup()).await;
    found.state.publish(&kek("demo"), &context, &new).await.expect("publishes");
    let read_back = found.state.branch_entry(&kek("demo"), context.id, new.version()).await.expect("reads");
    let read = [(context.id, read_back)];
    embedded.engine().confirm_branches(&who, &kek("demo"), "main", &read).await.expect("confirms");
    retire(&embedded, "demo", 2).await;
    assert!(found.s3().get(BUCKET, "object").await.ok().body == noise(100, 1));

    world.store.buckets().remove(STATE);
    let lost = Proxy::start(&world.store, setup()).await;
    lost.s3().get(BUCKET, "object").await.fails(400, "KMS.KMSInvalidStateException");
}

#[tokio::test]
async fn an_entry_of_the_directory_is_never_overwritten() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    let (context, wrapped) = branch_of(&world, "object");
    let publish = |wrapped: WrappedKey| {
        let (state, context) = (&world.proxy.state, context.clone());
        async move { state.publish(&kek("demo"), &context, &wrapped).await }
    };
    publish(wrapped.clone()).await.expect("the same again");
    let mut other = wrapped.bytes().to_vec();
    other[20] ^= 1;
    let other = WrappedKey::new(wrapped.version(), other).expect("its length");
    assert!(publish(other).await.is_err());
}

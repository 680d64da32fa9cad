//! A state bucket that is missing, forbidden or lying: no branch key is used that was not published.

use claviger::custody::context::BranchContext;
use claviger::custody::wrapped::WrappedKey;
use claviger::names::{BranchId, KekVersion, LogicalBucket, Purpose};
use http::Method;

use crate::harness::custodian::kek;
use crate::harness::proxy::domain;
use crate::harness::store::Instead;
use crate::harness::{Answer, BUCKET, Reply, STATE, World, noise};

#[track_caller]
fn may_come_again(answer: Answer, code: &str) {
    let answer = answer.fails(503, code);
    assert!(answer.header("retry-after").parse::<u32>().is_ok(), "{answer:?}");
}

#[tokio::test]
async fn a_missing_state_bucket_is_made() {
    let world = World::new().await;
    assert!(!world.store.buckets().contains_key(STATE));
    let puts = futures_util::future::join_all((0..8).map(|number| {
        let s3 = world.s3.clone();
        async move { s3.put(BUCKET, &format!("object-{number}"), "x").await }
    }));
    for answer in puts.await {
        answer.ok();
    }
    assert_eq!(world.store.keys(STATE).len(), 1, "one branch key for all who came at the same time");
}

#[tokio::test]
async fn a_forbidden_state_bucket_stops_writing_and_not_reading() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    for answer in [403, 404, 409, 500] {
        let (_proxy, fresh) = world.fresh().await;
        world
            .store
            .before(move |seen| (seen.bucket == STATE).then(|| Instead::Answer(Reply::error(answer, "AccessDenied"))));
        for size in [10, 300_000] {
            may_come_again(fresh.put(BUCKET, "new", noise(size, 1)).await, "ServiceUnavailable");
        }
        assert_eq!(fresh.get(BUCKET, "object").await.ok().text(), "x");
        assert_eq!(world.s3.put(BUCKET, "object", "x").await.status, 200, "a published key works on");
        world.store.honest();
    }
    assert_eq!(world.store.keys(BUCKET), ["object"]);
}

#[tokio::test]
async fn a_state_bucket_that_pretends_to_keep_a_key() {
    let world = World::new().await;
    world.store.create(STATE);
    let other = noise(60, 1);
    world.store.before(move |seen| {
        (seen.bucket == STATE).then(|| {
            Instead::Answer(match seen.method {
                Method::GET => Reply::new(200, other.clone()),
                _ => Reply::error(412, "PreconditionFailed"),
            })
        })
    });
    may_come_again(world.s3.put(BUCKET, "object", "x").await, "ServiceUnavailable");
    assert!(world.store.keys(BUCKET).is_empty());
}

#[tokio::test]
async fn branch_keys_are_listed_whole_over_the_borders_of_pages() {
    let world = World::new().await;
    let (state, kek) = (&world.proxy.state, kek("demo"));
    let version = |number| KekVersion::new(number).expect("not zero");
    for id in 0..7_u8 {
        let id = BranchId::from_bytes([id; 16]);
        let (bucket, writer) = (LogicalBucket::new(BUCKET).expect("legal"), domain("us"));
        let context = BranchContext { purpose: Purpose::Object, bucket, writer, id };
        for number in [1, 2, 10, 11] {
            let wrapped = WrappedKey::new(version(number), vec![7; 60]).expect("60 bytes");
            state.add_branch_entry(&kek, &context, &wrapped).await.expect("writes");
        }
    }
    let stray = world.store.object(STATE, &format!("branch/demo/{}/v1", "00".repeat(16))).expect("written");
    world.store.plant(STATE, "branch/demo/no-branch-key", stray.clone());
    world.store.plant(STATE, &format!("branch/demo-2/{}/v1", "01".repeat(16)), stray);
    for page in [1, 3, 4, 1_000] {
        world.store.shorten_listings(page);
        let (mut listing, mut found) = (state.branch_listing(&kek), Vec::new());
        while let Some(page) = listing.next().await.expect("lists") {
            found.extend(page);
        }
        let ids: Vec<u8> = found.iter().map(|branch| branch.id.as_bytes()[0]).collect();
        assert_eq!((ids, listing.passed()), ((0..7).collect(), 1), "{page}");
        let versions = [1, 2, 10, 11].map(version);
        assert!(
            found.iter().all(|branch| branch.versions == versions && branch.newest() == version(11)),
            "{page}: {found:?}"
        );
    }
}

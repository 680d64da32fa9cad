//! What the storage server knows of an object goes along: tags, storage class, locks, ACL.

use claviger::object::renewal::Choice;
use http::Method;

use super::{AT_ONCE, IN_PARTS, MANNER, PART, re_encrypt, re_encrypt_by, re_encrypt_with, rebind, upload};
use crate::harness::proxy::workbench;
use crate::harness::store::{Instead, Seen};
use crate::harness::{BUCKET, Reply, Setup, World, noise};

const TAGS: &str = "<Tagging><TagSet><Tag><Key>a b</Key><Value>1&amp;2</Value></Tag></TagSet></Tagging>";
const ACL: &str = "<AccessControlPolicy><Owner><ID>me</ID></Owner><AccessControlList><Grant><Grantee><ID>me</ID></Grantee>\
     <Permission>FULL_CONTROL</Permission></Grant><Grant><Grantee><ID>you</ID></Grantee><Permission>READ</Permission>\
     </Grant><Grant><Grantee><ID>them</ID></Grantee><Permission>READ</Permission></Grant></AccessControlList>\
     </AccessControlPolicy>";
const EXPECTED: [(&str, &str); 6] = [
    ("x-amz-storage-class", "STANDARD_IA"),
    ("x-amz-object-lock-mode", "GOVERNANCE"),
    ("x-amz-object-lock-retain-until-date", "2999-01-01T00:00:00Z"),
    ("x-amz-object-lock-legal-hold", "ON"),
    ("x-amz-grant-read", "id=\"you\", id=\"them\""),
    ("x-amz-grant-full-control", "id=\"me\""),
];

/// The storage server knows all that of every object.
fn knows(world: &World, acl: impl Fn() -> Reply + Send + Sync + 'static) {
    world.store.before(move |seen| match seen.method {
        Method::GET if seen.has("tagging") => Some(Instead::Answer(Reply::xml(200, TAGS))),
        Method::GET if seen.has("acl") => Some(Instead::Answer(acl())),
        _ => None,
    });
    world.store.after(|seen, reply| {
        if matches!(seen.method, Method::GET | Method::HEAD) {
            for (name, value) in &EXPECTED[..4] {
                reply.set(name, value);
            }
        }
    });
}

fn is_write(seen: &Seen) -> bool {
    seen.method == Method::PUT && !seen.has("uploadId") || seen.has("uploads")
}

fn assert_carried(writes: &[Seen], tags: &str) {
    for write in writes {
        for (name, value) in EXPECTED {
            assert_eq!(write.header(name), Some(value), "{write:?}");
        }
        assert_eq!(write.header("x-amz-tagging").unwrap_or_default(), tags, "{write:?}");
    }
}

fn writes(world: &World) -> Vec<Seen> {
    let log = world.store.take_log();
    for part in log.iter().filter(|seen| seen.has("uploadId")) {
        assert_eq!(part.header("x-amz-object-lock-mode"), None, "{part:?}");
    }
    log.into_iter().filter(is_write).collect()
}

#[tokio::test]
async fn all_of_it_stands_in_the_request_that_writes_anew() {
    for limit in [AT_ONCE, IN_PARTS] {
        it_stands_in_the_request(limit).await;
    }
}

async fn it_stands_in_the_request(limit: u64) {
    let world = World::new().await;
    world.s3.put(BUCKET, "single", noise(70_000, 1)).await.ok();
    upload(&world.s3, "parts", None, &[(1, PART), (2, 5)]).await;
    knows(&world, || Reply::xml(200, ACL));
    world.store.take_log();
    assert_eq!(re_encrypt_by(&world.store, Choice::default(), limit).await.counts(), (2, 0, 0, 0));
    let writes = writes(&world);
    assert_eq!(writes.len(), 2);
    assert_carried(&writes, "a%20b=1%262");
}

#[tokio::test]
async fn and_in_the_copy_that_binds() {
    for (copies, tags) in [((true, 5 << 30), ""), ((true, 5 << 20), "a%20b=1%262"), ((false, 5 << 30), "a%20b=1%262")] {
        let world = World::new().await;
        world.s3.put(BUCKET, "old", noise(6 << 20, 1)).await.ok();
        let stored = world.store.object(BUCKET, "old").expect("stored");
        world.store.plant(BUCKET, "new", stored);
        knows(&world, || Reply::xml(200, ACL));
        world.store.take_log();
        let objects = workbench(&world.store, Setup { copies, ..Setup::default() });
        let report = rebind(objects, (BUCKET, "new"), (BUCKET, "old"), MANNER).await;
        assert_eq!(report.counts(), (1, 0, 0, 0), "{report:?}");
        let writes = writes(&world);
        assert_eq!(writes.len(), 1);
        assert_carried(&writes, tags);
        // A copy takes the tags along by itself.
        let copies = writes[0].header("x-amz-copy-source").is_some();
        assert!(!copies || writes[0].header("x-amz-tagging-directive").is_none());
    }
}

#[tokio::test]
async fn of_tags_that_nobody_can_read_there_are_none() {
    let world = World::new().await;
    world.s3.put(BUCKET, "single", noise(70_000, 1)).await.ok();
    world.store.before(|seen| seen.has("tagging").then(|| Instead::Answer(Reply::new(200, ""))));
    assert_eq!(re_encrypt(&world.store, Choice::default()).await.counts(), (1, 0, 0, 0));
}

#[tokio::test]
async fn an_acl_that_is_not_told_is_said_to_be_lost() {
    let world = World::new().await;
    world.s3.put(BUCKET, "single", noise(70_000, 1)).await.ok();
    knows(&world, || Reply::error(403, "AccessDenied"));
    let run = || re_encrypt_with(workbench(&world.store, Setup::default()), Choice::default(), MANNER, false);
    let (report, notes) = run().await;
    assert_eq!(report.counts(), (1, 0, 0, 0));
    assert!(notes.iter().any(|note| note.contains("ACL")), "{notes:?}");
    knows(&world, || Reply::error(501, "NotImplemented"));
    assert!(run().await.1.is_empty());
    knows(&world, || Reply::xml(200, "<Nonsense/>"));
    let (report, _) = run().await;
    assert_eq!(report.counts(), (0, 0, 0, 1), "what is not understood is not thrown away: {report:?}");
}

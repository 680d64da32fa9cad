//! `re-encrypt`: what it chooses, what stays, and what it refuses.

use std::time::{Duration, SystemTime};

use claviger::names::KekVersion;
use claviger::object::renewal::{Choice, Manner};

use super::{
    AT_ONCE, IN_PARTS, MANNER, envelope, fresh, objects_of_each_kind, re_encrypt, re_encrypt_by, re_encrypt_with, seen,
    upload,
};
use crate::customer_keys::{KEY, keyed};
use crate::harness::custodian::{kek, shared_in};
use crate::harness::proxy::{bucket_rule, domain, key_rule, workbench};
use crate::harness::{BUCKET, STATE, Seen, Setup, World, noise};

#[tokio::test]
async fn clients_see_the_same_objects_under_other_keys() {
    for limit in [AT_ONCE, IN_PARTS] {
        the_same_objects_under_other_keys(limit).await;
    }
}

async fn the_same_objects_under_other_keys(limit: u64) {
    let world = World::new().await;
    let written = objects_of_each_kind(&world.s3).await;
    let mut before = Vec::new();
    for (key, body) in &written {
        let (seen, envelope) = (seen(&world.s3, BUCKET, key).await, envelope(&world.store, BUCKET, key));
        assert!(seen[0].2 == *body, "{key}");
        before.push((seen, envelope, world.store.object(BUCKET, key).expect("there").body));
    }
    world.store.take_log();
    let report = re_encrypt_by(&world.store, Choice::default(), limit).await;
    assert_eq!(report.counts(), (written.len() as u64, 0, 0, 0), "{report:?}");
    let uploads = world.store.take_log().iter().filter(|seen| seen.has("uploads")).count();
    assert_eq!(uploads, if limit == AT_ONCE { 0 } else { 2 });
    assert_eq!(report.bytes, written.iter().map(|(_, body)| body.len() as u64).sum::<u64>());
    assert!(world.store.uploads().is_empty());
    let s3 = fresh(&world).await;
    for ((key, _), (was, old, stored)) in written.iter().zip(before) {
        assert_eq!(seen(&s3, BUCKET, key).await, was, "{key}");
        // A proxy that remembers the one before, too.
        assert_eq!(seen(&world.s3, BUCKET, key).await, was, "{key}");
        let new = envelope(&world.store, BUCKET, key);
        assert_ne!(new.commitment(), old.commitment(), "{key}: the same DEK");
        assert_ne!(new.branch().id, old.branch().id, "{key}: the same branch key");
        assert_eq!(new.layout(), old.layout());
        let body = world.store.object(BUCKET, key).expect("there").body;
        assert!(body.len() == stored.len() && (body.is_empty() || body != stored), "{key}");
    }
}

#[tokio::test]
async fn nothing_is_left_in_the_state_bucket_but_branch_keys() {
    let world = World::new().await;
    upload(&world.s3, "parts", None, &[(1, super::PART), (2, 7)]).await;
    re_encrypt_by(&world.store, Choice::default(), IN_PARTS).await.counts();
    // Of the client's completed upload the record stays for a while, so that its completion can be repeated.
    let uploads = || world.store.keys(STATE).iter().filter(|key| key.starts_with("upload/")).count();
    crate::harness::until("the client's parts go", || uploads() == 1).await;
}

#[tokio::test]
async fn the_branch_key_chooses() {
    let world = World::new().await;
    for key in ["one", "two"] {
        world.s3.put(BUCKET, key, noise(1000, 1)).await.ok();
    }
    let s3 = fresh(&world).await;
    s3.put(BUCKET, "other", noise(1000, 1)).await.ok();
    let [one, other] = ["one", "other"].map(|key| envelope(&world.store, BUCKET, key));
    assert_ne!(one.branch().id, other.branch().id);
    let choice = || Choice { branch: Some(one.branch().id), ..Choice::default() };
    assert_eq!(re_encrypt(&world.store, choice()).await.counts(), (2, 1, 0, 0));
    assert_eq!(envelope(&world.store, BUCKET, "other"), other);
    assert_ne!(envelope(&world.store, BUCKET, "one").branch().id, one.branch().id);
    assert_eq!(re_encrypt(&world.store, choice()).await.counts(), (0, 3, 0, 0));
}

#[tokio::test]
async fn the_date_of_writing_chooses_and_not_the_storage_servers() {
    let world = World::new().await;
    world.s3.put(BUCKET, "one", noise(1000, 1)).await.ok();
    let now_ms = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let before = now_ms();
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.s3.put(BUCKET, "two", noise(1000, 2)).await.ok();
    // The operator says that it is as old as can be, and the other as young.
    world.store.tamper(BUCKET, "two", |stored| stored.modified = SystemTime::UNIX_EPOCH);
    world.store.tamper(BUCKET, "one", |stored| stored.modified = SystemTime::now() + Duration::from_secs(9999));
    let choice = || Choice { before_ms: Some(before + 10), ..Choice::default() };
    let two = envelope(&world.store, BUCKET, "two");
    assert_eq!(re_encrypt(&world.store, choice()).await.counts(), (1, 1, 0, 0));
    assert_eq!(envelope(&world.store, BUCKET, "two"), two);
    // What was encrypted anew is young.
    assert_eq!(re_encrypt(&world.store, choice()).await.counts(), (0, 2, 0, 0));
}

#[tokio::test]
async fn the_kek_and_its_version_choose() {
    let mut keys = key_rule("demo");
    keys.further_keks = vec![kek("other")];
    let rules = || vec![bucket_rule(BUCKET, BUCKET, keys.clone())];
    let world = World::with(Setup { rules: rules(), ..Setup::default() }).await;
    world.s3.put(BUCKET, "demo", noise(1000, 1)).await.ok();
    let ask = world.s3.ask(http::Method::PUT, BUCKET, "other").body(noise(1000, 2));
    let ask = ask.header("x-amz-server-side-encryption", "aws:kms");
    ask.header("x-amz-server-side-encryption-aws-kms-key-id", "other").send().await.ok();
    let run = |choice| {
        re_encrypt_with(workbench(&world.store, Setup { rules: rules(), ..Setup::default() }), choice, MANNER, false)
    };
    let below = |number| Choice { below: KekVersion::new(number), ..Choice::default() };
    assert_eq!(run(below(1)).await.0.counts(), (0, 2, 0, 0));
    assert_eq!(run(below(2)).await.0.counts(), (2, 0, 0, 0));
    assert_eq!(envelope(&world.store, BUCKET, "other").branch().kek, kek("other"), "a tenant's KEK stays");
    let onto = Choice { onto: Some(kek("demo")), ..Choice::default() };
    assert_eq!(run(onto).await.0.counts(), (1, 1, 0, 0));
    let shown = fresh(&world).await.head(BUCKET, "other").await.ok();
    assert_eq!(shown.header("x-amz-server-side-encryption-aws-kms-key-id"), "demo");
    let unknown = Choice { onto: Some(kek("former")), ..Choice::default() };
    assert_eq!(run(unknown).await.0.counts(), (0, 0, 0, 2), "the bucket does not offer it");
}

#[tokio::test]
async fn an_object_under_a_former_kek_comes_under_the_buckets() {
    let old = Setup { rules: vec![bucket_rule(BUCKET, BUCKET, key_rule("former"))], ..Setup::default() };
    let world = World::with(old).await;
    let body = objects_of_each_kind(&world.s3).await;
    let mut keys = key_rule("demo");
    keys.former_keks = vec![kek("former")];
    let setup = || Setup { rules: vec![bucket_rule(BUCKET, BUCKET, keys.clone())], ..Setup::default() };
    let (report, _) = re_encrypt_with(workbench(&world.store, setup()), Choice::default(), MANNER, false).await;
    assert_eq!(report.counts(), (body.len() as u64, 0, 0, 0), "{report:?}");
    for (key, body) in body {
        assert_eq!(envelope(&world.store, BUCKET, key).branch().kek, kek("demo"));
        let (_proxy, s3) = world.fresh_with(setup()).await;
        assert!(s3.get(BUCKET, key).await.ok().body == body);
    }
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let world = World::new().await;
    let written = objects_of_each_kind(&world.s3).await;
    let stored = |key: &str| world.store.object(BUCKET, key).map(|stored| (stored.headers, stored.body));
    let before: Vec<_> = written.iter().map(|(key, _)| stored(key)).collect();
    world.store.take_whole_log();
    let manner = Manner { dry_run: true, ..MANNER };
    let objects = workbench(&world.store, Setup::default());
    let (report, _) = re_encrypt_with(objects, Choice::default(), manner, false).await;
    assert_eq!(report.counts(), (written.len() as u64, 0, 0, 0));
    assert!(report.bytes > 10 << 20, "{report:?}");
    for (before, (key, _)) in before.iter().zip(&written) {
        assert_eq!(*before, stored(key));
    }
    // (The proxy that wrote them may be clearing up after its uploads.)
    let is_write = |seen: &Seen| seen.method == http::Method::PUT || seen.has("uploads") || seen.bucket != STATE;
    let reads = [http::Method::GET, http::Method::HEAD];
    let log = world.store.take_whole_log();
    assert!(!log.iter().any(|seen| is_write(seen) && !reads.contains(&seen.method)), "{log:?}");
}

#[tokio::test]
async fn objects_under_customer_keys_are_told_and_left() {
    let world = World::new().await;
    keyed(world.s3.ask(http::Method::PUT, BUCKET, "theirs").body(noise(1000, 1)), &KEY).send().await.ok();
    world.s3.put(BUCKET, "ours", noise(1000, 1)).await.ok();
    let before = envelope(&world.store, BUCKET, "theirs");
    for choice in [Choice::default(), Choice { branch: Some(before.branch().id), ..Choice::default() }] {
        let objects = workbench(&world.store, Setup::default());
        let (report, notes) = re_encrypt_with(objects, choice, MANNER, false).await;
        assert_eq!((report.skipped, report.found.len()), (1 + u64::from(report.done == 0), 0), "{report:?}");
        assert!(notes.iter().any(|note| note.contains("customer key") && note.ends_with(": 1")), "{notes:?}");
    }
    assert_eq!(envelope(&world.store, BUCKET, "theirs"), before);
}

#[tokio::test]
async fn what_is_damaged_is_found_and_left() {
    for limit in [AT_ONCE, IN_PARTS] {
        damaged_objects_are_found_and_left(limit).await;
    }
}

async fn damaged_objects_are_found_and_left(limit: u64) {
    let world = World::new().await;
    let written = objects_of_each_kind(&world.s3).await;
    let spoil = |key: &str, at: usize| {
        world.store.tamper(BUCKET, key, |stored| {
            let mut body = stored.body.to_vec();
            body[at] ^= 1;
            stored.body = body.into();
        });
    };
    // In the first segment, in a later part, in the footer.
    spoil("b/long & ö", 100_000);
    spoil("c/parts", super::PART + 2000);
    let length = world.store.object(BUCKET, "a/one").expect("there").body.len();
    spoil("a/one", length - 1);
    let plain = crate::harness::store::Stored {
        headers: http::HeaderMap::new(),
        body: "not encrypted".into(),
        ..world.store.object(BUCKET, "a/segment").expect("there")
    };
    world.store.plant(BUCKET, "a/segment", plain);
    let stolen = world.store.object(BUCKET, "c/sparse").expect("there");
    world.store.plant(BUCKET, "c/short", stolen);
    let before = |key: &str| world.store.object(BUCKET, key).map(|stored| (stored.headers, stored.body));
    let damaged = ["a/one", "a/segment", "b/long & ö", "c/parts", "c/short"];
    let stood = damaged.map(before);
    let report = re_encrypt_by(&world.store, Choice::default(), limit).await;
    let mut found: Vec<&str> = report.found.iter().map(|(key, _)| key.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, damaged, "{report:?}");
    assert_eq!(report.done, (written.len() - damaged.len()) as u64);
    assert!(damaged.map(before) == stood, "they are as they were");
    assert!(world.store.uploads().is_empty());
}

#[tokio::test]
async fn versions_that_stay_are_told() {
    let world = World::new().await;
    world.store.keep_versions(BUCKET);
    for seed in 1..=2 {
        world.s3.put(BUCKET, "twice", noise(70_000, seed)).await.ok();
    }
    world.s3.put(BUCKET, "gone", noise(70_000, 3)).await.ok();
    world.s3.ask(http::Method::DELETE, BUCKET, "gone").send().await.ok();
    let leaked = envelope(&world.store, BUCKET, "twice").branch().id;
    let choice = || Choice { branch: Some(leaked), ..Choice::default() };
    let run = |versions| re_encrypt_with(workbench(&world.store, Setup::default()), choice(), MANNER, versions);
    let (report, notes) = run(false).await;
    assert_eq!(report.counts(), (1, 0, 0, 0), "{report:?}");
    assert!(notes.iter().any(|note| note.contains("the version before is as it was")), "{notes:?}");
    assert!(world.s3.get(BUCKET, "twice").await.ok().body == noise(70_000, 2));
    // Two of one, and the deleted one.
    let (report, _) = run(true).await;
    assert_eq!(report.counts(), (0, 1, 0, 3), "{report:?}");
    assert!(report.found.iter().all(|(_, error)| error.contains("S3 cannot replace it. Delete it")), "{report:?}");
    // And what one run both replaces and leaves.
    world.s3.put(BUCKET, "new", noise(10, 4)).await.ok();
    let (report, _) = run(true).await;
    assert_eq!(report.counts().3, 4, "{report:?}");
    assert!(report.found.iter().any(|(key, error)| key == "new" && error.contains("as a new version")), "{report:?}");
    assert_ne!(envelope(&world.store, BUCKET, "new").branch().id, leaked);
}

#[tokio::test]
async fn a_bucket_that_would_not_read_it_again_is_left() {
    let world = World::new().await;
    world.s3.put(BUCKET, "one", noise(10, 1)).await.ok();
    let mut keys = key_rule("demo");
    keys.accept_writers = vec![domain("us")];
    let setup = Setup { region: "sg", custodian: shared_in("sg"), others: Some(keys), ..Setup::default() };
    let (report, _) = re_encrypt_with(workbench(&world.store, setup), Choice::default(), MANNER, false).await;
    assert_eq!(report.counts(), (0, 0, 0, 1));
    assert!(report.found[0].1.contains("accept_writers"), "{report:?}");
}

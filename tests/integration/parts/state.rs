//! The state of an upload on a storage server that fails, and on one that puts other things in its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use claviger::custody::keys::Revocation;
use claviger::object::access::{BucketPattern, Grant};
use claviger::s3::operation::Access;
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::Semaphore;

use super::{BUCKET, KEY, OBJECT, PART, SIZES, create, list, put_part, rows, state_of};
use crate::harness::custodian::{Failing, shared_in};
use crate::harness::proxy::{ADMIN, client, domain, everything, key_rule};
use crate::harness::store::{Instead, Stored};
use crate::harness::{Answer, Proxy, Reply, S3, STATE, Setup, World, noise, until};

/// Renames an entry of the state bucket; the old one stays.
fn copy_state(world: &World, from: &str, to: &str) {
    let stored = world.store.object(STATE, from).expect("it is there");
    world.store.plant(STATE, to, stored);
}

/// The folder of the one upload whose record holds `id`.
fn folder_of(world: &World, id: &str) -> String {
    let records = state_of(world, "/record");
    let record = records.into_iter().find(|key| {
        let stored = world.store.object(STATE, key).expect("listed");
        crate::harness::contains(&stored.body, id.as_bytes())
    });
    record.expect("it has a record").trim_end_matches("record").to_owned()
}

async fn begun(s3: &S3, key: &str) -> String {
    s3.create_upload(BUCKET, key).await
}

#[tokio::test]
async fn an_upload_without_a_record_is_aborted() {
    let world = World::new().await;
    world.s3.put(BUCKET, "warm", "x").await.ok();
    for answer in [403, 404, 500] {
        world.store.before(move |seen| {
            let record = seen.bucket == STATE && seen.key.ends_with("/record");
            record.then(|| Instead::Answer(Reply::error(answer, "AccessDenied")))
        });
        create(&world.s3).send().await.fails(503, "ServiceUnavailable");
        world.store.honest();
        assert_eq!((world.store.uploads().len(), state_of(&world, "").len()), (0, 0), "{answer}");
    }
}

#[tokio::test]
async fn answers_that_are_none() {
    let world = World::new().await;
    for document in
        ["<ListPartsResult/>", "", "<InitiateMultipartUploadResult><UploadId/></InitiateMultipartUploadResult>"]
    {
        world.store.before(move |seen| {
            (seen.method == Method::POST).then(|| Instead::Answer(Reply::xml(200, document.to_owned())))
        });
        create(&world.s3).send().await.fails(500, "InternalError");
    }
    world.store.honest();
    assert_eq!(state_of(&world, "").len(), 0);
    let id = begun(&world.s3, KEY).await;
    world.store.after(|seen, reply| {
        if seen.method == Method::PUT && seen.has("uploadId") {
            reply.headers.remove("etag");
        }
    });
    put_part(&world.s3, &id, 1, noise(PART, 1)).send().await.fails(500, "InternalError");
    world.store.after(|seen, reply| {
        if seen.method == Method::PUT && seen.has("uploadId") {
            reply.headers.insert("etag", "e".repeat(65).parse().expect("legal"));
        }
    });
    put_part(&world.s3, &id, 1, noise(PART, 1)).send().await.fails(500, "InternalError");
    world.store.before(|seen| {
        let asks = seen.method == Method::GET && seen.has("uploadId");
        asks.then(|| Instead::Answer(Reply::xml(200, "<ListBucketResult/>".to_owned())))
    });
    list(&world.s3, &id, &[]).await.fails(500, "InternalError");
    put_part(&world.s3, &id, 1, "short").send().await.fails(500, "InternalError");
    world.store.honest();
    assert!(rows(&list(&world.s3, &id, &[]).await.ok()).is_empty(), "no part counts");
}

#[tokio::test]
async fn a_proxy_that_is_killed_between_the_steps_leaves_an_upload_to_go_on_with() {
    for size in SIZES {
        for served in [false, true] {
            for step in 0.. {
                let world = World::new().await;
                let id = begun(&world.s3, KEY).await;
                let before = put_part(&world.s3, &id, 2, noise(PART, 2)).send().await.ok().header("etag").to_owned();
                world.store.dies_at(step, served);
                let killed = put_part(&world.s3, &id, 1, noise(size, 1)).send().await;
                world.store.honest();
                let (_proxy, other) = world.fresh().await;
                let listed = rows(&list(&other, &id, &[]).await.ok());
                assert!(listed.contains(&(2, before.clone(), PART)), "{listed:?}");
                // The marker is the last step. Without it there is no part; with it there is one that nobody was told of.
                if killed.status == 200 {
                    assert_eq!(listed.first(), Some(&(1, killed.header("etag").to_owned(), size)));
                    break;
                }
                assert!(listed.len() == 1 || served, "step {step}: {listed:?}");
                let again = put_part(&other, &id, 1, noise(size, 1)).send().await.ok();
                let listed = rows(&list(&other, &id, &[]).await.ok());
                assert_eq!(listed.first(), Some(&(1, again.header("etag").to_owned(), size)), "step {step}");
                assert!(step < 10, "it never ends");
            }
        }
    }
}

#[tokio::test]
async fn short_parts_are_sent_again_when_the_server_fails() {
    let world = World::new().await;
    let id = begun(&world.s3, KEY).await;
    let failures = AtomicUsize::new(0);
    world.store.before(move |seen| {
        let stores = seen.method == Method::PUT && seen.key.contains("/held/");
        let fails = stores && failures.fetch_add(1, Ordering::SeqCst) < 2;
        fails.then(|| Instead::Answer(Reply::error(503, "SlowDown")))
    });
    put_part(&world.s3, &id, 1, noise(60_000, 1)).send().await.ok();
    world.store.before(|seen| {
        let stores = seen.method == Method::PUT && (seen.key.contains("/held/") || seen.has("partNumber"));
        stores.then(|| Instead::Answer(Reply::error(503, "SlowDown")))
    });
    for size in [200_000, PART] {
        let answer = put_part(&world.s3, &id, 2, noise(size, 1)).send().await;
        assert_eq!(answer.status, 503, "a stream is sent once: {answer:?}");
    }
    world.store.honest();
    assert_eq!(rows(&list(&world.s3, &id, &[]).await.ok()).len(), 1);
}

#[tokio::test]
async fn of_attempts_at_a_last_part_few_are_held() {
    let world = World::new().await;
    let id = begun(&world.s3, KEY).await;
    put_part(&world.s3, &id, 3, noise(100, 1)).send().await.ok();
    for (number, size) in [(2, 300), (10_000, PART)] {
        let mut etags = Vec::new();
        for seed in 0..6 {
            let stored = put_part(&world.s3, &id, number, noise(size, seed)).send().await.ok();
            etags.push(stored.header("etag").to_owned());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        for folder in ["held", "part"] {
            assert_eq!(state_of(&world, &format!("/{folder}/{number:05}/")).len(), 4, "{folder} {number}");
        }
        let held = state_of(&world, &format!("/held/{number:05}/"));
        let is_held = |etag: &String| held.iter().any(|name| name.ends_with(&etag[1..33]));
        assert_eq!(etags.iter().map(is_held).collect::<Vec<_>>(), [false, false, true, true, true, true], "{number}");
        world.s3.complete((BUCKET, KEY), &id, &[(number, etags[1].clone())]).await.fails(400, "InvalidPart");
    }
    assert_eq!(state_of(&world, "/held/00003/").len(), 1, "another part");
}

#[tokio::test]
async fn records_that_are_moved_or_replaced_open_nothing() {
    let world = World::new().await;
    let (one, two) = (begun(&world.s3, KEY).await, begun(&world.s3, KEY).await);
    let elsewhere = begun(&world.s3, "another key").await;
    let mine = folder_of(&world, &one);
    let honest = world.store.object(STATE, &format!("{mine}record")).expect("there");
    let refused_as = |what: &'static str, code: &'static str| {
        let (s3, id) = (world.s3.clone(), one.clone());
        async move {
            for size in SIZES {
                let answer = put_part(&s3, &id, 1, noise(size, 1)).send().await;
                assert!(answer.code() == code, "{what}: {answer:?}");
            }
            assert_eq!(list(&s3, &id, &[]).await.code(), code);
        }
    };
    let refused = |what| refused_as(what, "InvalidObjectState");
    // One that says itself that it is of another object is none of this one's.
    for (other, code) in [(&two, "InvalidObjectState"), (&elsewhere, "NoSuchUpload")] {
        copy_state(&world, &format!("{}record", folder_of(&world, other)), &format!("{mine}record"));
        refused_as("another upload's", code).await;
        world.store.plant(STATE, &format!("{mine}record"), honest.clone());
    }
    for change in [0, honest.body.len() / 2, honest.body.len() - 1] {
        let mut body = honest.body.to_vec();
        body[change] ^= 1;
        world.store.plant(STATE, &format!("{mine}record"), Stored { body: body.into(), ..honest.clone() });
        refused("a flipped bit").await;
    }
    world.store.plant(STATE, &format!("{mine}record"), Stored { body: "".into(), ..honest.clone() });
    refused("an empty one").await;
    let long = Stored { body: vec![0; 70_000].into(), ..honest.clone() };
    world.store.plant(STATE, &format!("{mine}record"), long);
    put_part(&world.s3, &one, 1, "x").send().await.fails(503, "ServiceUnavailable");
    world.store.plant(STATE, &format!("{mine}record"), honest);
    put_part(&world.s3, &one, 1, noise(PART, 1)).send().await.ok();
    assert_eq!(world.store.uploads()[&one].parts.len(), 1, "and nothing of the refused ones");
}

#[tokio::test]
async fn an_upload_belongs_to_its_key() {
    let world = World::new().await;
    let id = begun(&world.s3, KEY).await;
    let ask = world.s3.ask(Method::PUT, BUCKET, "another key").query("partNumber", "1").query("uploadId", &id);
    ask.body(noise(PART, 1)).send().await.fails(404, "NoSuchUpload");
    world.s3.abort((BUCKET, "another key"), &id).await.fails(404, "NoSuchUpload");
    put_part(&world.s3, &id, 1, "x").send().await.ok();
    put_part(&world.s3, "no-such-id", 1, "x").send().await.fails(404, "NoSuchUpload");
}

#[tokio::test]
async fn another_domains_uploads_are_not_ours() {
    let world = World::new().await;
    let accepting = |region: &'static str| {
        let mut keys = key_rule("demo");
        keys.accept_writers.push(domain("sg"));
        Setup { region, custodian: shared_in(region), others: Some(keys), ..Setup::default() }
    };
    let foreign = Proxy::start(&world.store, accepting("sg")).await;
    let id = begun(&foreign.s3(), KEY).await;
    put_part(&foreign.s3(), &id, 1, "x").send().await.ok();
    // Not even where the bucket accepts the other domain's objects.
    let ours = Proxy::start(&world.store, accepting("us")).await;
    for size in SIZES {
        put_part(&ours.s3(), &id, 2, noise(size, 1)).send().await.fails(403, "InvalidObjectState");
    }
    list(&ours.s3(), &id, &[]).await.fails(403, "InvalidObjectState");
}

#[tokio::test]
async fn markers_that_are_moved_or_made_up_are_no_parts() {
    let world = World::new().await;
    let (one, two) = (begun(&world.s3, KEY).await, begun(&world.s3, KEY).await);
    let etag = put_part(&world.s3, &one, 5, noise(PART, 1)).send().await.ok().header("etag").to_owned();
    put_part(&world.s3, &two, 6, noise(PART, 1)).send().await.ok();
    let (mine, other) = (folder_of(&world, &one), folder_of(&world, &two));
    let marker = |folder: &str| {
        let key = state_of(&world, "/part/").into_iter().find(|key| key.starts_with(folder)).expect("it has one");
        (key.clone(), key.rsplit('/').next().unwrap_or_default().to_owned())
    };
    let ((mine_at, mine_name), (_, other_name)) = (marker(&mine), marker(&other));
    let mut strange: Vec<String> = ["00004", "00006", "5", "000005", "00000", "10001", "+0005"]
        .map(|number| format!("{mine}part/{number}/{mine_name}"))
        .into();
    strange.push(format!("{mine}part/00006/{other_name}"));
    strange.push(format!("{mine}part/00005/{other_name}"));
    strange.push(format!("{mine}part/00005/{mine_name}A"));
    strange.push(format!("{mine}part/00005/{mine_name}/x"));
    strange.push(format!("{mine}part/junk"));
    for key in &strange {
        copy_state(&world, &mine_at, key);
    }
    let listed = rows(&list(&world.s3, &one, &[]).await.ok());
    assert_eq!(listed, [(5, etag.clone(), PART)]);
    world.store.buckets().get_mut(STATE).expect("there").remove(&mine_at);
    assert!(rows(&list(&world.s3, &one, &[]).await.ok()).is_empty());
    world.s3.abort(OBJECT, &one).await.ok();
    assert!(state_of(&world, &mine).is_empty(), "strange names go, too");
    assert_eq!(rows(&list(&world.s3, &two, &[]).await.ok()).len(), 1, "and no other upload's");
}

#[tokio::test]
async fn thousands_of_names_and_endless_listings() {
    let world = World::new().await;
    let id = begun(&world.s3, KEY).await;
    let folder = folder_of(&world, &id);
    let etag = put_part(&world.s3, &id, 10, noise(PART, 1)).send().await.ok().header("etag").to_owned();
    let record = world.store.object(STATE, &format!("{folder}record")).expect("there");
    for number in 0..2500 {
        world.store.plant(
            STATE,
            &format!("{folder}part/00001/{number:05}"),
            Stored { body: "".into(), ..record.clone() },
        );
    }
    assert_eq!(rows(&list(&world.s3, &id, &[]).await.ok()), [(10, etag, PART)]);
    let prefix = folder.clone();
    world.store.after(move |seen, reply| {
        if seen.value("prefix").is_some_and(|asked| asked.starts_with(&prefix)) {
            let text = String::from_utf8_lossy(&reply.body).into_owned();
            reply.body = text.replace("<IsTruncated>false", "<IsTruncated>true").into();
        }
    });
    list(&world.s3, &id, &[]).await.fails(503, "ServiceUnavailable");
    let page = "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>upload/other</Key></Contents></ListBucketResult>";
    world.store.before(move |seen| {
        (seen.bucket == STATE && seen.has("prefix")).then(|| Instead::Answer(Reply::xml(200, page.to_owned())))
    });
    list(&world.s3, &id, &[]).await.fails(503, "ServiceUnavailable");
    world.store.honest();
    world.s3.abort(OBJECT, &id).await.ok();
    assert!(state_of(&world, "").is_empty());
}

/// A part whose second half waits for the gate, and is on its way.
async fn storing(world: &World, id: &str, size: usize) -> (Arc<Semaphore>, tokio::task::JoinHandle<Answer>) {
    let gate = Arc::new(Semaphore::new(0));
    let frames = futures_util::stream::unfold((0, Arc::clone(&gate)), move |(step, gate)| async move {
        if step == 1 {
            gate.acquire().await.expect("open").forget();
        }
        let length = if step == 0 { size / 2 } else { size - size / 2 };
        let frame = Ok::<_, claviger::net::BoxError>(Frame::data(noise(length, step)));
        (step < 2).then_some((frame, (step + 1, gate)))
    });
    world.store.take_whole_log();
    let ask = put_part(&world.s3, id, 1, "").header("content-length", &size.to_string());
    let running = tokio::spawn(ask.stream(StreamBody::new(frames).boxed_unsync()).send());
    until("the part arrives", || {
        let log = world.store.take_whole_log();
        log.iter().any(|seen| seen.method == Method::PUT && (seen.has("partNumber") || seen.key.contains("/held/")))
    })
    .await;
    (gate, running)
}

/// What becomes of a running part when `happens` at the custodian.
async fn interrupted(size: usize, happens: impl Fn(&World, &Failing)) -> (Answer, usize) {
    let custodian = Failing::new();
    let world = World::with(Setup { custodian: custodian.clone(), ..Setup::default() }).await;
    let id = begun(&world.s3, KEY).await;
    put_part(&world.s3, &id, 2, "warm").send().await.ok();
    let (gate, running) = storing(&world, &id, size).await;
    happens(&world, &custodian);
    gate.add_permits(10);
    let answer = running.await.expect("no panic");
    custodian.denies.store(false, Ordering::SeqCst);
    let (_proxy, fresh) = world.fresh().await;
    let listed = rows(&list(&fresh, &id, &[]).await.ok()).len();
    if answer.status != 200 {
        assert_eq!(state_of(&world, "/held/").len(), 1, "only the other part's");
        assert!(world.store.uploads()[&id].parts.is_empty());
    }
    (answer, listed)
}

#[tokio::test]
async fn a_revocation_ends_a_running_part_and_an_ended_lease_is_renewed_first() {
    for size in [1 << 20, PART + 9] {
        let (answer, listed) = interrupted(size, |world, _| world.proxy.keys.revoke(&Revocation::All)).await;
        answer.fails(503, "ServiceUnavailable");
        assert_eq!(listed, 1, "{size}");
        let (answer, listed) = interrupted(size, |world, _| world.proxy.keys.end_leases(&Revocation::All)).await;
        answer.ok();
        assert_eq!(listed, 2, "{size}");
        let (answer, listed) = interrupted(size, |world, custodian| {
            custodian.denies.store(true, Ordering::SeqCst);
            world.proxy.keys.end_leases(&Revocation::All);
        })
        .await;
        answer.fails(403, "AccessDenied");
        assert_eq!(listed, 1, "{size}");
    }
}

#[tokio::test]
async fn a_client_without_the_right_to_write_begins_and_touches_nothing() {
    let reads = Grant { buckets: vec![BucketPattern::All], access: vec![Access::Read, Access::List, Access::Delete] };
    let clients = vec![client(ADMIN, everything()), client("AKREADS", vec![reads])];
    let world = World::with(Setup { clients, ..Setup::default() }).await;
    let id = begun(&world.s3, KEY).await;
    world.store.take_whole_log();
    let reader = world.proxy.s3_as("AKREADS");
    create(&reader).send().await.fails(403, "AccessDenied");
    put_part(&reader, &id, 1, "x").send().await.fails(403, "AccessDenied");
    list(&reader, &id, &[]).await.fails(403, "AccessDenied");
    reader.abort(OBJECT, &id).await.fails(403, "AccessDenied");
    assert!(world.store.take_whole_log().is_empty());
}

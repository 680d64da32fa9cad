//! One proxy before several storage servers: each bucket lies on one of them, and nothing of it gets to another.

mod attacks;
mod rewrapping;

use claviger::object::access::Client;
use claviger::s3::sigv4::Credentials;
use claviger::secret::SecretBytes;
use http::Method;

use crate::harness::proxy::{ADMIN, bucket_rule, client, everything, key_rule};
use crate::harness::store::{ACCESS_KEY, Instead, SECRET};
use crate::harness::{BUCKET, Proxy, S3, STATE, Seen, Setup, Store, noise};

/// A bucket in Singapore.
const ARCHIVE: &str = "archive";
/// Its name there, which is that of a bucket in Virginia, too.
const PHYSICAL: &str = BUCKET;
/// The least of a part that is not the last.
const PART: usize = 5 << 20;

/// Virginia is the default, Singapore has one bucket.
struct Regions {
    virginia: Store,
    singapore: Store,
    proxy: Proxy,
    s3: S3,
}

fn setup(singapore: &Store) -> Setup {
    let archive = bucket_rule(ARCHIVE, PHYSICAL, key_rule("demo"));
    let own = Credentials {
        access_key: ACCESS_KEY.into(),
        secret: SecretBytes::new(SECRET.into()).expect("not empty").into(),
        session_token: None,
    };
    let tenant = Client { storage_credentials: Some(own), ..client("AKTENANT", everything()) };
    Setup {
        sites: vec![("singapore", singapore.address, vec![archive])],
        clients: vec![client(ADMIN, everything()), tenant],
        attempts: 1,
        ..Setup::default()
    }
}

impl Regions {
    async fn start() -> Self {
        let (virginia, singapore) = (Store::start().await, Store::start().await);
        virginia.create(BUCKET);
        singapore.create(PHYSICAL);
        let proxy = Proxy::start(&virginia, setup(&singapore)).await;
        let s3 = proxy.s3();
        Self { virginia, singapore, proxy, s3 }
    }

    /// A proxy that remembers nothing, and a client of it.
    async fn fresh(&self) -> (Proxy, S3) {
        let proxy = Proxy::start(&self.virginia, setup(&self.singapore)).await;
        let s3 = proxy.s3();
        (proxy, s3)
    }
}

/// The directory's entries.
fn branches(store: &Store) -> Vec<String> {
    store.keys(STATE).into_iter().filter(|key| key.starts_with("branch/")).collect()
}

fn is_down(_: &Seen) -> Option<Instead> {
    Some(Instead::HangUp)
}

#[tokio::test]
async fn a_bucket_its_uploads_and_its_branch_keys_are_on_its_own_server() {
    let regions = Regions::start().await;
    let Regions { virginia, singapore, s3, .. } = &regions;
    s3.put(BUCKET, "at home", noise(1000, 1)).await.ok();
    assert!(singapore.take_whole_log().is_empty() && singapore.keys(STATE).is_empty());
    let of_virginia = branches(virginia);
    virginia.take_whole_log();
    s3.put(ARCHIVE, "abroad", noise(1000, 2)).await.ok();
    let id = s3.create_upload(ARCHIVE, "large").await;
    let mut parts = Vec::new();
    for (number, size) in [(1, PART), (2, 300)] {
        let part = s3.upload_part((ARCHIVE, "large"), &id, number, noise(size, u64::from(number))).await.ok();
        parts.push((number, part.header("etag").to_owned()));
    }
    s3.complete((ARCHIVE, "large"), &id, &parts).await.ok();
    assert!(virginia.take_whole_log().is_empty(), "Virginia heard nothing of it");
    assert_eq!((virginia.keys(BUCKET), branches(virginia)), (vec!["at home".to_owned()], of_virginia.clone()));
    assert_eq!(singapore.keys(PHYSICAL), ["abroad", "large"]);
    let of_singapore = branches(singapore);
    assert!(!of_singapore.is_empty() && of_singapore.iter().all(|key| !of_virginia.contains(key)));

    let (_proxy, fresh) = regions.fresh().await;
    assert_eq!(fresh.get(BUCKET, "at home").await.ok().body, noise(1000, 1));
    assert_eq!(fresh.get(ARCHIVE, "abroad").await.ok().body, noise(1000, 2));
    let large = fresh.get(ARCHIVE, "large").await.ok().body;
    assert!(large[..PART] == noise(PART, 1) && large[PART..] == noise(300, 2));
    fresh.get(ARCHIVE, "at home").await.fails(404, "NoSuchKey");
    fresh.get(BUCKET, "abroad").await.fails(404, "NoSuchKey");
    let listed = fresh.list(ARCHIVE, &[("list-type", "2")]).await.ok();
    assert!(listed.text().contains("<Key>abroad</Key><") && !listed.text().contains("at home"), "{}", listed.text());
    fresh.ask(Method::DELETE, ARCHIVE, "abroad").send().await.ok();
    assert_eq!((virginia.keys(BUCKET).len(), singapore.keys(PHYSICAL).len()), (1, 1));
}

#[tokio::test]
async fn one_server_that_is_gone_takes_nothing_of_the_others_with_it() {
    let Regions { virginia, singapore, proxy: _proxy, s3 } = Regions::start().await;
    s3.put(BUCKET, "x", noise(200_000, 1)).await.ok();
    s3.put(ARCHIVE, "x", noise(200_000, 2)).await.ok();
    for (gone, there, lost, kept, seed) in
        [(&singapore, &virginia, ARCHIVE, BUCKET, 1), (&virginia, &singapore, BUCKET, ARCHIVE, 2)]
    {
        gone.before(is_down);
        assert!(matches!(s3.get(lost, "x").await.status, 500 | 503));
        assert!(matches!(s3.put(lost, "y", noise(10, 3)).await.status, 500 | 503));
        assert_eq!(s3.get(kept, "x").await.ok().body, noise(200_000, seed));
        s3.put(kept, "y", noise(100, 4)).await.ok();
        s3.list(kept, &[("list-type", "2")]).await.ok();
        s3.ask(Method::DELETE, kept, "y").send().await.ok();
        // A list without its buckets would say that they are gone.
        assert!(matches!(s3.ask(Method::GET, "", "").send().await.status, 500 | 503));
        gone.honest();
        there.honest();
        assert!(s3.get(lost, "x").await.ok().body.len() == 200_000);
    }
}

#[tokio::test]
async fn the_list_of_buckets_has_those_of_all_servers_by_their_names_for_clients() {
    let Regions { virginia, singapore, proxy: _proxy, s3 } = Regions::start().await;
    virginia.create("further");
    // What another server has under a bucket's name is not that bucket, and what has no rule there is nobody's.
    virginia.create(ARCHIVE);
    singapore.create("nobody's");
    let listed = s3.ask(Method::GET, "", "").send().await.ok().text();
    let names: Vec<&str> =
        listed.split("<Name>").skip(1).filter_map(|rest| rest.split_once("</Name>")).map(|(name, _)| name).collect();
    assert_eq!(names, [ARCHIVE, "further", BUCKET]);
    let page = s3.ask(Method::GET, "", "").query("max-buckets", "2").send().await.ok();
    assert_eq!((page.leaf("Name"), page.leaf("ContinuationToken")), (ARCHIVE.into(), "further".into()));
}

#[tokio::test]
async fn copies_between_servers_go_through_the_proxy_and_name_no_server_to_the_other() {
    let Regions { virginia, singapore, proxy: _proxy, s3 } = Regions::start().await;
    for (from, to, source, destination) in
        [(BUCKET, ARCHIVE, &virginia, &singapore), (ARCHIVE, BUCKET, &singapore, &virginia)]
    {
        for size in [0, 1, 65_537, PART + 70_000] {
            let key = format!("secret-name-{size}");
            let put = s3.ask(Method::PUT, from, &key).body(noise(size, 1)).header("content-type", "text/csv");
            put.header("x-amz-meta-owner", "alice").send().await.ok();
            destination.take_whole_log();
            source.take_whole_log();
            let copy = s3.ask(Method::PUT, to, "copied").header("x-amz-copy-source", &format!("{from}/{key}"));
            let copied = copy.send().await.ok();
            let heard = destination.take_whole_log();
            assert!(!heard.is_empty() && heard.iter().all(|seen| seen.header("x-amz-copy-source").is_none()));
            assert!(!format!("{heard:?}").contains("secret-name"), "{heard:?}");
            let read = source.take_whole_log();
            assert!(
                read.iter().all(|seen| seen.method == Method::GET) && !format!("{read:?}").contains("copied"),
                "{read:?}"
            );
            let got = s3.get(to, "copied").await.ok();
            assert!(got.body == noise(size, 1), "{size}");
            assert_eq!((got.header("content-type"), got.header("x-amz-meta-owner")), ("text/csv", "alice"));
            assert_eq!(copied.leaf("ETag"), got.header("etag"));
        }
        let key = format!("secret-name-{}", PART + 70_000);
        let id = s3.create_upload(to, "in parts").await;
        destination.take_whole_log();
        let part = s3.ask(Method::PUT, to, "in parts").query("partNumber", "1").query("uploadId", &id);
        let part = part
            .header("x-amz-copy-source", &format!("{from}/{key}"))
            .header("x-amz-copy-source-range", "bytes=10-70009");
        let etag = part.send().await.ok().leaf("ETag");
        let heard = destination.take_whole_log();
        assert!(!format!("{heard:?}").contains("secret-name"), "{heard:?}");
        s3.complete((to, "in parts"), &id, &[(1, etag)]).await.ok();
        assert!(s3.get(to, "in parts").await.ok().body == noise(PART + 70_000, 1).slice(10..70_010));
    }
    let refused = s3.ask(Method::PUT, ARCHIVE, "copied").header("x-amz-copy-source", "records/absent").send().await;
    refused.fails(404, "NoSuchKey");
    let condition = s3.ask(Method::PUT, ARCHIVE, "copied").header("x-amz-copy-source", "records/secret-name-1");
    condition.header("x-amz-copy-source-if-match", "\"another\"").send().await.fails(412, "PreconditionFailed");
}

#[tokio::test]
async fn a_clients_own_credentials_are_shown_to_no_other_server() {
    let Regions { virginia: _virginia, singapore, proxy, s3 } = Regions::start().await;
    s3.put(ARCHIVE, "x", noise(100, 1)).await.ok();
    singapore.take_whole_log();
    let tenant = proxy.s3_as("AKTENANT");
    tenant.put(BUCKET, "x", noise(100, 2)).await.ok();
    assert_eq!(tenant.get(BUCKET, "x").await.ok().body, noise(100, 2));
    tenant.get(ARCHIVE, "x").await.fails(403, "AccessDenied");
    tenant.put(ARCHIVE, "y", noise(100, 3)).await.fails(403, "AccessDenied");
    let copy = |to: &str, from: &str| tenant.ask(Method::PUT, to, "copy").header("x-amz-copy-source", from);
    copy(BUCKET, "archive/x").send().await.fails(403, "AccessDenied");
    copy(ARCHIVE, "records/x").send().await.fails(403, "AccessDenied");
    let listed = tenant.ask(Method::GET, "", "").send().await.ok().text();
    assert!(listed.contains(BUCKET) && !listed.contains(ARCHIVE), "{listed}");
    assert!(singapore.take_whole_log().is_empty());
}

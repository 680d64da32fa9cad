//! Buckets with versions: old ones are read and listed as plaintext, delete markers are told, locks hold.

use http::Method;

use crate::harness::store::Instead;
use crate::harness::{Answer, BUCKET, Reply, World, noise};

const SIZES: [usize; 3] = [0, 1000, 400_000];

/// A bucket with versions, and an object that was written three times and then deleted; the versions' ids.
async fn deleted() -> (World, Vec<String>) {
    let world = World::new().await;
    world.store.keep_versions(BUCKET);
    let mut ids = Vec::new();
    for size in SIZES {
        let put = world.s3.put(BUCKET, "a & b", noise(size, size as u64)).await.ok();
        ids.push(put.header("x-amz-version-id").to_owned());
    }
    let marker = world.s3.ask(Method::DELETE, BUCKET, "a & b").send().await.ok();
    assert_eq!(marker.header("x-amz-delete-marker"), "true");
    ids.push(marker.header("x-amz-version-id").to_owned());
    assert!(ids.iter().all(|id| !id.is_empty()), "{ids:?}");
    (world, ids)
}

fn entries(listing: &Answer, name: &str) -> Vec<String> {
    let text = listing.text();
    let open = format!("<{name}>");
    text.split(&open)
        .skip(1)
        .map(|entry| entry.split(&format!("</{name}>")).next().unwrap_or_default().into())
        .collect()
}

#[tokio::test]
async fn versions_are_read_by_their_ids() {
    let (world, ids) = deleted().await;
    for (id, size) in ids.iter().zip(SIZES) {
        for method in [Method::GET, Method::HEAD] {
            let answer = world.s3.ask(method.clone(), BUCKET, "a & b").query("versionId", id).send().await.ok();
            assert_eq!(answer.header("content-length"), size.to_string(), "{method}");
            assert_eq!(answer.header("x-amz-version-id"), id);
            assert!(method == Method::HEAD || answer.body == noise(size, size as u64));
        }
    }
    let range = world.s3.ask(Method::GET, BUCKET, "a & b").query("versionId", &ids[2]).header("range", "bytes=7-8");
    assert!(range.send().await.ok().body == noise(400_000, 400_000)[7..9]);
    let gone = world.s3.ask(Method::DELETE, BUCKET, "a & b").query("versionId", &ids[3]).send().await.ok();
    assert_eq!(gone.status, 204);
    assert!(world.s3.get(BUCKET, "a & b").await.ok().body == noise(400_000, 400_000), "without its marker it is back");
}

#[tokio::test]
async fn what_is_remembered_of_one_version_is_not_taken_for_another() {
    let (world, ids) = deleted().await;
    let unknown = world.s3.ask(Method::GET, BUCKET, "a & b").query("versionId", "v0").send().await;
    unknown.fails(404, "NoSuchVersion");
    for _ in 0..2 {
        for (id, size) in ids.iter().zip(SIZES).rev() {
            let got = world.s3.ask(Method::GET, BUCKET, "a & b").query("versionId", id).send().await.ok();
            assert_eq!((got.body.len(), got.header("x-amz-version-id")), (size, id.as_str()));
        }
    }
}

#[tokio::test]
async fn delete_markers_are_told_on_errors() {
    let (world, ids) = deleted().await;
    world.store.after(|_, reply| reply.set("x-amz-meta-note", "none of a client's business"));
    for method in [Method::GET, Method::HEAD] {
        let code = |code| if method == Method::GET { code } else { "" };
        let ask = || world.s3.ask(method.clone(), BUCKET, "a & b");
        let gone = ask().send().await.fails(404, code("NoSuchKey"));
        assert_eq!((gone.header("x-amz-delete-marker"), gone.header("x-amz-version-id")), ("true", ids[3].as_str()));
        let range = ask().header("range", "bytes=0-0").send().await.fails(404, code("NoSuchKey"));
        assert_eq!(range.header("x-amz-delete-marker"), "true");
        let marker = ask().query("versionId", &ids[3]).send().await.fails(405, code("MethodNotAllowed"));
        assert_eq!(marker.header("x-amz-delete-marker"), "true");
        for answer in [gone, range, marker] {
            assert!(!answer.headers.contains_key("x-amz-meta-note"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn versions_are_listed_with_the_sizes_and_etags_of_plaintext() {
    let (world, ids) = deleted().await;
    world.s3.put(BUCKET, "other", noise(65_537, 1)).await.ok();
    let mut etags = Vec::new();
    for id in &ids[..3] {
        let head = world.s3.ask(Method::HEAD, BUCKET, "a & b").query("versionId", id).send().await.ok();
        etags.push(head.header("etag").trim_matches('"').to_owned());
    }
    world.store.take_log();
    let listing = world.s3.list(BUCKET, &[("versions", "")]).await.ok();
    assert_eq!(world.store.take_log().len(), 1, "a listing is one request");
    assert!(listing.text().contains(&format!("<Name>{BUCKET}</Name>")), "{listing:?}");
    let (versions, markers) = (entries(&listing, "Version"), entries(&listing, "DeleteMarker"));
    assert_eq!((versions.len(), markers.len()), (4, 1), "{}", listing.text());
    for ((id, size), etag) in ids.iter().zip(SIZES).zip(&etags) {
        let entry =
            versions.iter().find(|entry| entry.contains(&format!("<VersionId>{id}</VersionId>"))).expect("listed");
        assert!(entry.contains("<Key>a &amp; b</Key>") && entry.contains(&format!("<Size>{size}</Size>")), "{entry}");
        assert!(entry.contains(etag.as_str()) && etag.ends_with("-0"), "{entry}");
    }
    let marker = &markers[0];
    assert!(marker.contains(&ids[3]) && marker.contains("<IsLatest>true</IsLatest>"), "{marker}");
    assert!(!marker.contains("Size") && marker.contains("<Owner>"), "{marker}");
    let encoded = world.s3.list(BUCKET, &[("versions", ""), ("encoding-type", "url")]).await.ok().text();
    assert!(encoded.contains("<Key>a%20%26%20b</Key>") && encoded.contains("<Size>65537</Size>"), "{encoded}");
    let none = world.s3.list(BUCKET, &[("versions", ""), ("prefix", "x")]).await.ok();
    assert!(entries(&none, "Version").is_empty());
}

#[tokio::test]
async fn versions_are_listed_in_pages() {
    let (world, _) = deleted().await;
    let leaf = |text: &str, name: &str| -> Option<String> {
        Some(text.split_once(&format!("<{name}>"))?.1.split('<').next()?.replace("&amp;", "&"))
    };
    let (mut seen, mut marker) = (0, None::<(String, String)>);
    loop {
        let mut query = vec![("versions", ""), ("max-keys", "3")];
        if let Some((key, id)) = &marker {
            query.extend([("key-marker", key.as_str()), ("version-id-marker", id.as_str())]);
        }
        let page = world.s3.list(BUCKET, &query).await.ok();
        seen += entries(&page, "Version").len() + entries(&page, "DeleteMarker").len();
        let text = page.text();
        if leaf(&text, "IsTruncated").as_deref() == Some("false") {
            break;
        }
        marker = leaf(&text, "NextKeyMarker").zip(leaf(&text, "NextVersionIdMarker"));
        assert!(marker.is_some() && seen == 3, "{text}");
    }
    assert_eq!(seen, 4);
}

#[tokio::test]
async fn listings_of_versions_that_are_none_are_refused() {
    let (world, _) = deleted().await;
    for lie in [
        "<ListBucketResult/>",
        "<ListVersionsResult><Version><Size>-1</Size></Version></ListVersionsResult>",
        "<ListVersionsResult><Version><Size>1</Size>",
        "<!DOCTYPE x><ListVersionsResult/>",
        "what is stored",
        "",
    ] {
        world.store.before(move |_| Some(Instead::Answer(Reply::xml(200, lie))));
        world.s3.list(BUCKET, &[("versions", "")]).await.fails(500, "InternalError");
    }
}

#[tokio::test]
async fn what_is_locked_stays_and_the_servers_own_error_says_so() {
    let (world, ids) = deleted().await;
    let locked = ids[2].clone();
    world.store.before(move |seen| {
        let forbidden = seen.method == Method::DELETE
            && seen.value("versionId") == Some(&locked)
            && seen.header("x-amz-bypass-governance-retention").is_none();
        forbidden.then(|| Instead::Answer(Reply::error(403, "AccessDenied").header("x-amz-version-id", &locked)))
    });
    let ask = || world.s3.ask(Method::DELETE, BUCKET, "a & b").query("versionId", &ids[2]);
    let refused = ask().send().await.fails(403, "AccessDenied");
    assert!(refused.text().contains("the store says AccessDenied"), "{refused:?}");
    assert_eq!(refused.header("x-amz-version-id"), ids[2]);
    ask().header("x-amz-bypass-governance-retention", "true").send().await.ok();
    world.store.before(|_| Some(Instead::Answer(Reply::error(400, "InvalidRequest"))));
    let refused = ask().send().await.fails(400, "InvalidRequest");
    assert!(refused.text().contains("the store says InvalidRequest"), "{refused:?}");
}

#[tokio::test]
async fn what_the_server_says_of_an_object_beside_its_bytes_passes() {
    let (world, ids) = deleted().await;
    let told = [
        ("x-amz-tagging-count", "3"),
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-object-lock-legal-hold", "ON"),
        ("x-amz-expiration", "rule-id=\"x\""),
        ("x-amz-restore", "ongoing-request=\"true\""),
    ];
    world.store.after(move |_, reply| told.iter().for_each(|(name, value)| reply.set(name, value)));
    for (id, method) in ids[..3].iter().flat_map(|id| [(id, Method::GET), (id, Method::HEAD)]) {
        let answer = world.s3.ask(method, BUCKET, "a & b").query("versionId", id).send().await.ok();
        for (name, value) in told {
            assert_eq!(answer.header(name), value, "{name}: {answer:?}");
        }
    }
}

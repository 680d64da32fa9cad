//! What the proxy does not know is refused before anything goes to the storage server, which would ignore it and store
//! plaintext, or answer with ciphertext.

use http::Method;

use crate::harness::{BUCKET, Reply, World, noise};

/// Queries on objects that are not implemented, or not known to anybody.
const QUERIES: [&str; 30] = [
    "new-thing",
    "new-thing=1",
    "NEW",
    "append",
    "append&position=0",
    "renameObject",
    "select",
    "select&select-type=2",
    "torrent",
    "encryption",
    "versions",
    "website",
    "policy",
    "lifecycle",
    "versioning",
    "cors",
    "delete",
    "list-type=2",
    "metadata",
    "compress",
    "x-amz-acl=private",
    "X-Amz-Copy-Source=/records/object",
    "symlink",
    "sequential",
    "fetch",
    "img=resize",
    "versionid=1",
    "Acl",
    "tagging&new-thing",
    "acl&versionId=1&uploads",
];

#[tokio::test]
async fn unknown_queries_on_objects() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "mine").await.ok();
    let before = world.store.object(BUCKET, "object").expect("stored").body;
    world.store.take_whole_log();
    for query in QUERIES {
        for method in [Method::PUT, Method::GET, Method::POST, Method::DELETE, Method::HEAD] {
            let what = format!("{method} ?{query}");
            let ask = world.s3.ask(method.clone(), BUCKET, "object").query_text(query).body("plaintext");
            let answer = ask.send().await;
            assert_eq!(answer.status, 501, "{what}: {answer:?}");
            assert!(method == Method::HEAD || answer.code() == "NotImplemented", "{what}: {answer:?}");
        }
    }
    assert!(world.store.take_whole_log().is_empty(), "a request reached the storage server");
    assert_eq!(world.store.object(BUCKET, "object").expect("stored").body, before);
    // The server really is that careless.
    world.s3.ask(Method::GET, BUCKET, "object").query_text("versionId=1").send().await.ok();
}

#[tokio::test]
async fn unknown_queries_on_buckets_and_the_service() {
    let world = World::new().await;
    for query in ["new-thing", "website", "session", "restore", "select", "object=1"] {
        for method in [Method::PUT, Method::GET, Method::POST, Method::DELETE] {
            let ask = world.s3.ask(method.clone(), BUCKET, "").query_text(query).body("<Document/>");
            ask.send().await.fails(501, "NotImplemented");
        }
        world.s3.ask(Method::GET, "", "").query_text(query).send().await.fails(501, "NotImplemented");
    }
    for method in [Method::PUT, Method::POST, Method::DELETE] {
        world.s3.ask(method, "", "").send().await.fails(501, "NotImplemented");
    }
    assert!(world.store.take_whole_log().is_empty(), "a request reached the storage server");
}

#[tokio::test]
async fn headers_that_would_make_another_operation_of_it() {
    let world = World::new().await;
    for (name, value) in [
        ("x-amz-write-offset-bytes", "0"),
        ("x-amz-rename-source", "/records/object"),
        ("x-amz-website-redirect-location", "/elsewhere"),
    ] {
        let ask = world.s3.ask(Method::PUT, BUCKET, "object").body("plaintext").header(name, value);
        ask.send().await.fails(501, "NotImplemented");
    }
    world.s3.ask(Method::POST, BUCKET, "").body("form").send().await.fails(412, "PreconditionFailed");
    for method in ["PATCH", "TRACE", "COPY", "PROPFIND"] {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let answer = world.s3.ask(method.clone(), BUCKET, "object").send().await;
        assert_eq!(answer.status, 501, "{method}: {answer:?}");
    }
    assert!(world.store.take_whole_log().is_empty(), "a request reached the storage server");
}

#[tokio::test]
async fn headers_that_some_server_might_obey_stay_here() {
    let world = World::new().await;
    let mut ask = world.s3.ask(Method::PUT, BUCKET, "object").body("plaintext");
    let withheld = [
        ("x-http-method-override", "DELETE"),
        ("x-method-override", "DELETE"),
        ("x-forwarded-host", "elsewhere"),
        ("x-original-url", "/records/other"),
        ("x-rewrite-url", "/records/other"),
        ("x-minio-extract", "true"),
        ("x-rgw-object-type", "x"),
        ("x_amz_copy_source", "/records/other"),
        ("x-amz-meta-secret", "value"),
        ("x-amz-storage-class", "STANDARD_IA"),
    ];
    for (name, value) in withheld {
        ask = ask.header(name, value);
    }
    ask.send().await.ok();
    let log = world.store.take_log();
    let sent = log.iter().find(|seen| seen.is(Method::PUT, "object")).expect("stored");
    for (name, _) in &withheld[..9] {
        assert!(sent.header(name).is_none(), "{name} went to the storage server");
    }
    assert_eq!(sent.header("x-amz-storage-class"), Some("STANDARD_IA"), "what does no harm passes");
}

#[tokio::test]
async fn a_server_that_ignores_known_sub_resources_is_found_out() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", noise(1000, 1)).await.ok();
    for query in ["acl", "tagging", "retention", "legal-hold"] {
        let answer = world.s3.ask(Method::GET, BUCKET, "object").query_text(query).send().await;
        answer.fails(500, "InternalError");
    }
    for query in ["acl", "tagging", "policy", "cors", "lifecycle"] {
        let answer = world.s3.ask(Method::GET, BUCKET, "").query_text(query).send().await;
        answer.fails(500, "InternalError");
    }
    let ask = world.s3.ask(Method::PUT, BUCKET, "object").query_text("tagging").body("<Tagging/>");
    ask.send().await.fails(500, "InternalError");
}

#[tokio::test]
async fn records_do_not_pass_for_the_documents_of_sub_resources() {
    let world = World::new().await;
    for (key, query) in
        [("object", "tagging"), ("object", "retention"), ("object", "acl"), ("", "policy"), ("", "cors")]
    {
        for record in ["patient 4711 has the flu", "<Record>patient 4711</Record>", ""] {
            let ask = world.s3.ask(Method::PUT, BUCKET, key).query_text(query).body(record);
            ask.send().await.fails(400, "MalformedXML");
        }
    }
    assert!(world.store.take_whole_log().is_empty(), "a request reached the storage server");
}

#[tokio::test]
async fn a_server_that_knows_a_sub_resource_is_believed() {
    let world = World::new().await;
    let tags = "<Tagging><TagSet/></Tagging>";
    world.store.after(move |seen, reply| {
        if seen.has("tagging") {
            *reply = Reply::xml(200, if seen.method == Method::GET { tags } else { "" });
        }
    });
    let ask = |method: Method| world.s3.ask(method, BUCKET, "object").query_text("tagging");
    ask(Method::PUT).body(tags).send().await.ok();
    assert_eq!(ask(Method::GET).send().await.ok().text(), tags);
    ask(Method::DELETE).send().await.ok();
    world.store.after(|_, reply| *reply = Reply::error(404, "NoSuchTagSet"));
    ask(Method::GET).send().await.fails(404, "NoSuchTagSet");
}

//! Listings as jobs walk them: odd keys, pages, and what a hostile or careless server says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use claviger::maintenance::job::JobError;
use claviger::object::error::{Error, WrongAnswer};

use super::{Noting, bench, fill, run, scope};
use crate::harness::{BUCKET, Reply, World, noise};

const ODD: [&str; 9] =
    ["a b", "a+b", "a%2Fb", "\u{f6}/\u{1f511}", "x//y", "/lead", "tail/", "<&>\"'", "tab\tand\rreturn"];

#[tokio::test]
async fn odd_keys_come_as_they_are_whatever_the_server_makes_of_encoding() {
    let world = World::new().await;
    for key in ODD {
        world.s3.put(BUCKET, key, noise(10, 1)).await.ok();
    }
    let mut all: Vec<String> = ODD.iter().map(|key| (*key).to_owned()).collect();
    all.sort();
    let objects = bench(&world.store);
    type Change = fn(String) -> String;
    let ways: [Change; 3] = [|page| page, |page| page.replace("%20", "+"), |page| page.replace("%2F", "/")];
    for change in ways {
        world.store.after(move |seen, reply| {
            if seen.has("list-type") {
                reply.body = change(String::from_utf8(reply.body.to_vec()).expect("text")).into();
            }
        });
        let work = Arc::new(Noting::default());
        assert_eq!(run(&objects, &scope("", false), Arc::clone(&work) as _).await.outcome(), (9, 0, 0, 0));
        assert_eq!(work.keys(), all);
    }
    world.store.honest();
    // A server that knows of no encoding.
    world.store.before(|seen| {
        if !seen.has("list-type") || !seen.has("encoding-type") {
            return None;
        }
        let key = "<Contents><Key>a+b%20c</Key><Size>1</Size></Contents>";
        let page = format!("<ListBucketResult><IsTruncated>false</IsTruncated>{key}</ListBucketResult>");
        Some(crate::harness::store::Instead::Answer(Reply::xml(200, page)))
    });
    let work = Arc::new(Noting::default());
    run(&objects, &scope("", false), Arc::clone(&work) as _).await.outcome();
    assert_eq!(work.keys(), ["a+b%20c"]);
}

#[tokio::test]
async fn pages_follow_each_other_also_of_versions_and_in_no_order() {
    let world = World::new().await;
    world.store.keep_versions(BUCKET);
    let keys = fill(&world.s3, 12).await;
    for key in &keys[..5] {
        world.s3.put(BUCKET, key, noise(5, 2)).await.ok();
    }
    let objects = bench(&world.store);
    // Pages of five: the requests are answered by one without `max-keys`, cut here.
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    world.store.shorten_listings(5);
    world.store.before(move |seen| {
        counted.fetch_add(usize::from(seen.key.is_empty() && seen.bucket == BUCKET), Ordering::SeqCst);
        None
    });
    let work = Arc::new(Noting::default());
    assert_eq!(run(&objects, &scope("", false), Arc::clone(&work) as _).await.outcome(), (12, 0, 0, 0));
    assert_eq!((work.keys(), asked.swap(0, Ordering::SeqCst)), (keys.clone(), 3));
    let work = Arc::new(Noting::default());
    assert_eq!(run(&objects, &scope("", true), Arc::clone(&work) as _).await.outcome(), (17, 0, 0, 0));
    assert_eq!(asked.swap(0, Ordering::SeqCst), 4);
    let mut versions = work.seen();
    versions.dedup();
    assert_eq!(versions.len(), 17);
    let work = Arc::new(Noting::default());
    assert_eq!(run(&objects, &scope("k00", false), Arc::clone(&work) as _).await.outcome(), (10, 0, 0, 0));
}

#[tokio::test]
async fn a_listing_that_lies_ends_the_job() {
    let world = World::new().await;
    fill(&world.s3, 3).await;
    let objects = bench(&world.store);
    let key = |key: &str| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
    let truncated = "<IsTruncated>true</IsTruncated>";
    let pages = [
        // For ever the same page, with and without a token.
        format!("{truncated}{}", key("p/a")),
        format!("{truncated}<NextContinuationToken>t</NextContinuationToken>{}", key("p/a")),
        format!("{truncated}<NextContinuationToken>t</NextContinuationToken>"),
        // Nothing, and more of it.
        truncated.to_owned(),
        // Not what was asked for.
        key("q"),
        "<Contents><Size>1</Size></Contents>".to_owned(),
        "<CommonPrefixes>".to_owned(),
    ];
    for page in pages {
        let document = format!("<ListBucketResult>{page}</ListBucketResult>");
        world.store.before(move |seen| {
            let reply = Reply::xml(200, document.clone());
            seen.has("list-type").then(|| crate::harness::store::Instead::Answer(reply))
        });
        let ran = run(&objects, &scope("p/", false), Arc::new(Noting::default())).await;
        assert!(matches!(ran.end, Err(JobError::Object(_))), "{page}: {ran:?}");
    }
}

#[tokio::test]
async fn a_listing_that_goes_round_ends_the_job() {
    let world = World::new().await;
    fill(&world.s3, 3).await;
    let objects = bench(&world.store);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    world.store.before(move |seen| {
        if !seen.has("list-type") {
            return None;
        }
        // Two pages in turn, under another token each time.
        let number = counted.fetch_add(1, Ordering::SeqCst);
        let key = ["p/a", "p/b"][number % 2];
        let page = format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
        let token = format!("<NextContinuationToken>{number}</NextContinuationToken>");
        let page = format!("<ListBucketResult><IsTruncated>true</IsTruncated>{token}{page}</ListBucketResult>");
        Some(crate::harness::store::Instead::Answer(Reply::xml(200, page)))
    });
    let ran = run(&objects, &scope("p/", false), Arc::new(Noting::default())).await;
    assert!(matches!(ran.end, Err(JobError::Object(Error::WrongAnswer(WrongAnswer::Endless)))), "{ran:?}");
    assert!(asked.load(Ordering::SeqCst) < 20);
}

//! An operator who interferes with uploads: whatever comes of it is right, or is refused; never a wrong byte.

use bytes::Bytes;

use super::{KEY, OBJECT, PART, Parts, begin, body_of, whole};
use crate::harness::store::{Piece, Stored, Uploading};
use crate::harness::verdict::{Verdict, judge};
use crate::harness::{BUCKET, Reply, S3, STATE, World};

const SEALED: usize = 65_536 + 28;
const LENGTHS: [(u32, usize); 3] = [(1, PART), (2, PART), (3, 300)];

/// Reads the object cold in several ways. Whole reads must not be right.
async fn assert_spoiled(what: &str, world: &World, body: &Bytes) {
    let (_proxy, s3) = world.fresh().await;
    let verdict = judge(what, &s3.get(BUCKET, KEY).await, body);
    assert_ne!(verdict, Verdict::Right, "{what}: a whole object passed");
    for (first, last) in [(0, 9), (PART - 5, PART + 5), (2 * PART - 1, 2 * PART + 3), (body.len() - 7, body.len() - 1)]
    {
        let (_proxy, s3) = world.fresh().await;
        let answer = s3.get_range(BUCKET, KEY, &format!("bytes={first}-{last}")).await;
        judge(&format!("{what}, {first}-{last}"), &answer, &body[first..=last]);
    }
}

type Change = fn(&Uploading, &mut Vec<Piece>);

fn body_with(piece: &mut Piece, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut body = piece.body.to_vec();
    edit(&mut body);
    piece.body = body.into();
}

/// The first attempt at a part, of which there are two.
fn older(upload: &Uploading, number: u32) -> Bytes {
    let attempts = &upload.parts[&number];
    assert_eq!(attempts.len(), 2);
    attempts[0].body.clone()
}

const CHANGES: &[(&str, Change)] = &[
    ("the first part dropped", |_, pieces| drop(pieces.remove(0))),
    ("the second part dropped", |_, pieces| drop(pieces.remove(1))),
    ("the last part dropped", |_, pieces| drop(pieces.pop())),
    ("a part doubled", |_, pieces| pieces.insert(1, pieces[1].clone())),
    ("the end doubled", |_, pieces| pieces.push(pieces[2].clone())),
    ("a part in place of another", |_, pieces| pieces[0].body = pieces[1].body.clone()),
    ("parts swapped", |_, pieces| pieces.swap(0, 1)),
    ("all parts reversed", |_, pieces| pieces.reverse()),
    ("an older attempt", |upload, pieces| pieces[1].body = older(upload, 2)),
    ("an older attempt begins", |upload, pieces| {
        let old = older(upload, 2);
        body_with(&mut pieces[1], |body| body[..SEALED].copy_from_slice(&old[..SEALED]));
    }),
    ("an older attempt ends", |upload, pieces| {
        let old = older(upload, 2);
        let at = old.len() - SEALED;
        body_with(&mut pieces[1], |body| body[at..].copy_from_slice(&old[at..]));
    }),
    ("segments of two parts swapped", |_, pieces| {
        let other = pieces[1].body.slice(SEALED..2 * SEALED);
        body_with(&mut pieces[0], |body| body[SEALED..2 * SEALED].copy_from_slice(&other));
    }),
    ("the border of two parts moved", |_, pieces| {
        let moved = pieces[0].body.slice(..SEALED);
        body_with(&mut pieces[0], |body| drop(body.drain(..SEALED)));
        body_with(&mut pieces[1], |body| body.extend_from_slice(&moved));
    }),
    ("a part cut by a segment", |_, pieces| body_with(&mut pieces[0], |body| body.truncate(body.len() - SEALED))),
    ("a byte flipped", |_, pieces| body_with(&mut pieces[1], |body| body[1_000_000] ^= 1)),
    ("a byte of the held part flipped", |_, pieces| body_with(&mut pieces[2], |body| body[100] ^= 1)),
    ("a byte of the part list flipped", |_, pieces| {
        body_with(&mut pieces[2], |body| {
            let at = body.len() - 300;
            body[at] ^= 1;
        });
    }),
    ("the last byte flipped", |_, pieces| body_with(&mut pieces[2], |body| *body.last_mut().expect("not empty") ^= 1)),
];

#[tokio::test]
async fn pieces_dropped_doubled_swapped_and_replaced() {
    let world = World::new().await;
    let (_proxy, fresh) = world.fresh().await;
    for (what, change) in CHANGES {
        let (id, mut parts) = begin(&world.s3, &LENGTHS).await;
        // A second attempt, with the same bytes.
        parts[1] = super::part(&world.s3, &id, 2, PART).await;
        world.store.at_completion(*change);
        let answer = fresh.complete(OBJECT, &id, &parts).await;
        assert!(answer.status == 200, "{what}: {answer:?}");
        world.store.honest();
        assert_spoiled(what, &world, &whole(&LENGTHS)).await;
        world.store.buckets().get_mut(BUCKET).expect("there").clear();
    }
}

#[tokio::test]
async fn parts_and_ends_of_another_upload_of_the_same_key() {
    for what in ["a part", "the held part and the end", "the envelope", "a whole object that was not asked for"] {
        let world = World::new().await;
        // Of the same plaintext, so that only the key tells them apart.
        let (other, other_parts) = begin(&world.s3, &LENGTHS).await;
        let foreign: Vec<Bytes> = {
            let uploads = world.store.uploads();
            [1, 2].map(|number| uploads[&other].parts[&number][0].body.clone()).to_vec()
        };
        world.s3.complete(OBJECT, &other, &other_parts).await.ok();
        let old: Stored = world.store.object(BUCKET, KEY).expect("stored");
        let (id, parts) = begin(&world.s3, &LENGTHS).await;
        let end = old.body.slice(foreign.iter().map(Bytes::len).sum::<usize>()..);
        world.store.at_completion(move |_, pieces| match what {
            "a part" => pieces[0].body = foreign[0].clone(),
            "the held part and the end" => pieces[2].body = end.clone(),
            _ => {}
        });
        world.s3.complete(OBJECT, &id, &parts).await.ok();
        world.store.honest();
        match what {
            "the envelope" => world.store.tamper(BUCKET, KEY, |stored| stored.headers = old.headers.clone()),
            "a whole object that was not asked for" => {
                // The operator can put an older object back: SECURITY.md says so. It is whole, and the client's own.
                world.store.plant(BUCKET, KEY, old);
                let (_proxy, s3) = world.fresh().await;
                assert!(s3.get(BUCKET, KEY).await.ok().body == whole(&LENGTHS));
                continue;
            }
            _ => {}
        }
        assert_spoiled(what, &world, &whole(&LENGTHS)).await;
    }
}

/// The names of an upload's state: its record, then the rest.
fn state(world: &World) -> Vec<String> {
    let mut names = world.store.keys(STATE);
    names.retain(|name| name.starts_with("upload/"));
    names.sort_by_key(|name| !name.ends_with("/record"));
    names
}

#[tokio::test]
async fn another_uploads_record() {
    let world = World::new().await;
    let (id, parts) = begin(&world.s3, &[(1, 300)]).await;
    let mine = state(&world)[0].clone();
    // Of the same key, of another key, of another bucket.
    world.store.create("other");
    let mut records = Vec::new();
    for (bucket, key) in [(BUCKET, KEY), (BUCKET, "another"), ("other", KEY)] {
        let before = state(&world);
        world.s3.create_upload(bucket, key).await;
        let new = state(&world).into_iter().find(|name| !before.contains(name)).expect("a record");
        records.push(world.store.object(STATE, &new).expect("stored"));
    }
    let right = world.store.object(STATE, &mine).expect("stored");
    let mut cut = right.clone();
    cut.body = cut.body.slice(..cut.body.len() - 1);
    let mut flipped = right.clone();
    flipped.body = {
        let mut body = flipped.body.to_vec();
        *body.last_mut().expect("not empty") ^= 1;
        body.into()
    };
    let empty = Stored { body: Bytes::new(), ..right.clone() };
    records.extend([cut, flipped, empty]);
    for (at, record) in records.into_iter().enumerate() {
        world.store.plant(STATE, &mine, record);
        let (_proxy, s3) = world.fresh().await;
        for answer in [
            s3.complete(OBJECT, &id, &parts).await,
            s3.upload_part(OBJECT, &id, 1, body_of(1, 100)).await,
            s3.upload_part(OBJECT, &id, 1, body_of(1, PART)).await,
        ] {
            // One that says itself that it is of another object is none of this one's.
            let code = if (1..3).contains(&at) { "NoSuchUpload" } else { "InvalidObjectState" };
            assert_eq!(answer.code(), code, "{at}: {answer:?}");
        }
    }
    world.store.plant(STATE, &mine, right);
    world.s3.complete(OBJECT, &id, &parts).await.ok();
    assert!(world.s3.get(BUCKET, KEY).await.ok().body == whole(&[(1, 300)]));
}

/// An upload with two attempts at each of two parts; the ETags of the later ones.
async fn twice(s3: &S3) -> (String, Parts) {
    let (id, _) = begin(s3, &[(1, PART), (2, 300)]).await;
    let parts = vec![super::part(s3, &id, 1, PART).await, super::part(s3, &id, 2, 300).await];
    (id, parts)
}

#[tokio::test]
async fn hidden_forged_and_foreign_markers() {
    let world = World::new().await;
    let (other, _) = twice(&world.s3).await;
    let foreign: Vec<String> = state(&world).into_iter().filter(|name| name.contains("/part/")).collect();
    let (id, parts) = twice(&world.s3).await;
    let mine: Vec<String> =
        state(&world).into_iter().filter(|name| name.contains("/part/") && !foreign.contains(name)).collect();
    assert_eq!((foreign.len(), mine.len()), (4, 4));
    let folder = mine[0].split("/part/").next().expect("a folder").to_owned();
    let marker = |name: &str| name.rsplit('/').next().expect("a name").to_owned();
    let stored = world.store.object(STATE, &mine[0]).expect("stored");
    // Strangers, whose presence must not matter.
    let mut strangers: Vec<String> =
        foreign.iter().map(|name| name.replacen(name.split("/part/").next().expect("a folder"), &folder, 1)).collect();
    strangers.push(format!("{folder}/part/00002/{}", marker(&mine[0])));
    strangers.push(format!("{folder}/part/00001/{}", marker(&mine[3])));
    strangers.push(format!("{folder}/part/00001/AAAA"));
    strangers.push(format!("{folder}/part/1/{}", marker(&mine[0])));
    strangers.push(format!("{folder}/part/00000/{}", marker(&mine[0])));
    strangers.push(format!("{folder}/part/10001/{}", marker(&mine[0])));
    strangers.push(format!("{folder}/part/+0001/{}", marker(&mine[0])));
    strangers.push(format!("{folder}/part/00001/{}x", marker(&mine[0])));
    strangers.push(format!("{folder}/part/junk"));
    for name in &strangers {
        world.store.plant(STATE, name, stored.clone());
    }
    let (_proxy, s3) = world.fresh().await;
    // Each marker hidden in turn: the upload ends as it should, or the part is said to be missing.
    let mut right = 0;
    for name in &mine {
        let hidden = world.store.buckets().get_mut(STATE).and_then(|state| state.remove(name)).expect("there");
        let list = world.store.object(BUCKET, KEY).is_none().then_some(&parts).expect("not completed yet");
        let first = s3.complete(OBJECT, &id, &[(1, "\"00000000000000000000000000000000-0\"".to_owned())]).await;
        first.fails(400, "InvalidPart");
        if needed(&s3, &id, list).await {
            s3.complete(OBJECT, &id, list).await.fails(400, "InvalidPart");
        } else {
            right += 1;
        }
        world.store.plant(STATE, name, hidden);
    }
    assert_eq!(right, 2, "of each part one attempt is not in the list");
    s3.complete(OBJECT, &id, &parts).await.ok();
    let (_proxy, s3) = world.fresh().await;
    assert!(s3.get(BUCKET, KEY).await.ok().body == whole(&[(1, PART), (2, 300)]));
    drop(other);
}

/// Whether a marker of the list is not to be seen just now, as ListParts tells.
async fn needed(s3: &S3, id: &str, list: &Parts) -> bool {
    let listed = s3.ask(http::Method::GET, BUCKET, KEY).query("uploadId", id).send().await.ok().text();
    list.iter().any(|(_, etag)| !listed.contains(etag.trim_matches('"')))
}

#[tokio::test]
async fn a_listing_of_markers_that_lies() {
    let world = World::new().await;
    let (id, parts) = twice(&world.s3).await;
    let lies: [fn(&str) -> String; 7] = [
        |xml| xml.replace("<IsTruncated>false", "<IsTruncated>true"),
        |xml| xml.replace("upload/", "uplaod/"),
        |xml| xml.replace("/part/00001/", "/part/00002/"),
        |xml| xml.replace("</Contents>", "</Contents><Contents><Key>upload/x</Key><Size>0</Size></Contents>"),
        |xml| xml[..xml.len() / 2].to_owned(),
        |_| "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>".to_owned(),
        |_| "<Other/>".to_owned(),
    ];
    for (at, lie) in lies.into_iter().enumerate() {
        world.store.after(move |seen, reply| {
            if seen.bucket == STATE && seen.has("list-type") {
                *reply = Reply::xml(200, lie(&String::from_utf8_lossy(&reply.body)));
            }
        });
        let (_proxy, s3) = world.fresh().await;
        let answer = s3.complete(OBJECT, &id, &parts).await;
        world.store.honest();
        if answer.status == 200 {
            let (_proxy, s3) = world.fresh().await;
            assert!(s3.get(BUCKET, KEY).await.ok().body == whole(&[(1, PART), (2, 300)]), "{at}");
            return;
        }
        assert!(answer.status >= 400, "{at}: {answer:?}");
        assert!(world.store.object(BUCKET, KEY).is_none(), "{at}");
    }
    world.s3.complete(OBJECT, &id, &parts).await.ok();
}

#[tokio::test]
async fn held_bytes_of_another_attempt_or_upload() {
    for what in ["another attempt", "another upload", "nothing", "shorter", "longer", "gone"] {
        let world = World::new().await;
        begin(&world.s3, &[(1, 300)]).await;
        let foreign = state(&world).into_iter().find(|name| name.contains("/held/")).expect("held");
        let foreign = world.store.object(STATE, &foreign).expect("stored");
        let (id, _) = begin(&world.s3, &[(1, 300)]).await;
        let held = |but: &[String]| -> Vec<String> {
            let names = state(&world).into_iter().filter(|name| name.contains("/held/"));
            names.filter(|name| !but.contains(name)).collect()
        };
        let before = held(&[]);
        let older = world.store.object(STATE, &before[before.len() - 1]).expect("stored");
        let parts = vec![super::part(&world.s3, &id, 1, 300).await];
        let mine = held(&before)[0].clone();
        let right = world.store.object(STATE, &mine).expect("stored");
        let planted = match what {
            "another attempt" => older.body,
            "another upload" => foreign.body,
            "nothing" => Bytes::new(),
            "shorter" => right.body.slice(1..),
            "longer" => [&right.body[..], b"x"].concat().into(),
            _ => {
                world.store.buckets().get_mut(STATE).expect("there").remove(&mine);
                Bytes::new()
            }
        };
        if what != "gone" {
            world.store.plant(STATE, &mine, Stored { body: planted, ..right.clone() });
        }
        let answer = world.s3.complete(OBJECT, &id, &parts).await;
        if answer.status == 200 {
            let (_proxy, s3) = world.fresh().await;
            let read = s3.get(BUCKET, KEY).await;
            assert_ne!(judge(what, &read, &whole(&[(1, 300)])), Verdict::Right, "{what}");
            continue;
        }
        assert!(answer.status >= 400, "{what}: {answer:?}");
        assert!(world.store.object(BUCKET, KEY).is_none(), "{what}");
        world.store.plant(STATE, &mine, right);
        world.s3.complete(OBJECT, &id, &parts).await.ok();
        assert!(world.s3.get(BUCKET, KEY).await.ok().body == whole(&[(1, 300)]), "{what}");
    }
}

fn shift_size(reply: &mut Reply, by: i64) {
    let Some(range) = reply.headers.get("content-range").and_then(|range| range.to_str().ok()) else {
        let length: i64 = reply.body.len().try_into().expect("short");
        return reply.set("content-length", &(length + by).to_string());
    };
    let (range, size) = range.split_once('/').expect("a size");
    let size: i64 = size.parse().expect("a number");
    let range = format!("{range}/{}", size + by);
    reply.set("content-range", &range);
}

#[tokio::test]
async fn sizes_with_lies() {
    let world = World::new().await;
    let (id, parts) = begin(&world.s3, &LENGTHS).await;
    world.s3.complete(OBJECT, &id, &parts).await.ok();
    let body = whole(&LENGTHS);
    for by in [-1, 1, -65_564, 65_564, 1 << 40] {
        world.store.after(move |seen, reply| {
            if seen.key == KEY {
                shift_size(reply, by);
            }
        });
        for s3 in [&world.fresh().await.1, &world.s3] {
            let head = s3.head(BUCKET, KEY).await;
            assert!(head.status >= 400, "{by}: {head:?}");
            let what = format!("sizes off by {by}");
            assert_ne!(judge(&what, &s3.get(BUCKET, KEY).await, &body), Verdict::Right, "{what}");
            judge(&what, &s3.get_range(BUCKET, KEY, "bytes=0-9").await, &body[..10]);
        }
        world.store.honest();
        super::assert_object(&world.s3, &body).await;
    }
}

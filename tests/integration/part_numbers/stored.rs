//! Stored objects of layout multipart, sealed with the format alone: whole, or part by part as somebody asks for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use claviger::custody::caller::Caller;
use claviger::custody::reason::Reason;
use claviger::format::body::PartSealer;
use claviger::format::checksum::Checksum;
use claviger::format::envelope::{self, Binding, Branch, Layout, Wrapping};
use claviger::format::footer;
use claviger::format::keys::Dek;
use claviger::format::layout::{PartEntry, PartMap};
use claviger::format::metadata::Metadata;
use claviger::format::segment::AttemptId;
use claviger::names::{LogicalBucket, Principal, Purpose};
use http::HeaderMap;

use crate::harness::custodian::kek;
pub(super) use crate::harness::store::Stored;
use crate::harness::store::{Instead, Seen};
use crate::harness::{BUCKET, Reply, World, noise};

/// A part in the making.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) number: u32,
    pub(super) body: Bytes,
    /// The first bytes of its checksum; the others are zeros.
    pub(super) checksum: [u8; 4],
}

/// One key and one envelope for it.
pub(super) struct Maker {
    dek: Arc<Dek>,
    headers: HeaderMap,
}

impl Maker {
    /// For the object `key`, in the name of the tests' client.
    pub(super) async fn new(world: &World, key: &str) -> Self {
        let bucket = LogicalBucket::new(BUCKET).expect("legal");
        let caller = Caller { principal: Principal::new("akadmin").expect("legal"), reason: Reason::CustomerInitiated };
        let branch = world.proxy.keys.for_writing(&kek("demo"), Purpose::Object, &bucket, &caller, 1).await;
        let branch = branch.expect("a branch key");
        let wrapping = Wrapping { branch_key: branch.secret().expect("fresh"), customer_key: None };
        let of = Branch {
            kek: branch.kek().clone(),
            id: branch.context().id,
            writer: branch.context().writer.clone(),
            version: branch.wrapped().version(),
            wrapped: branch.wrapped().bytes().to_vec(),
        };
        let binding = Binding { purpose: Purpose::Object, bucket: &bucket, key, upload_id: "" };
        let dek = Arc::new(Dek::random().expect("random"));
        let text = envelope::wrap(&dek, Layout::Multipart, &Metadata::default(), of, wrapping, binding).expect("wraps");
        let mut headers = HeaderMap::new();
        headers.insert(envelope::HEADER, text.parse().expect("ASCII"));
        Self { dek, headers }
    }

    /// An object of these parts, each in a new attempt.
    pub(super) fn stored(&self, parts: &[Part], checksum: Option<&Checksum>) -> Stored {
        let (mut body, mut entries) = (Vec::new(), Vec::new());
        for part in parts {
            let mut kept = [0; 32];
            kept[..4].copy_from_slice(&part.checksum);
            let attempt = AttemptId::random().expect("random");
            let entry = PartEntry { number: part.number, length: part.body.len() as u64, attempt, checksum: kept };
            body.extend_from_slice(&sealed(&self.dek, entry, part.body.clone()));
            entries.push(entry);
        }
        let map = PartMap::new(&entries).expect("legal");
        body.extend_from_slice(&footer::seal(&self.dek, Layout::Multipart, &map, checksum).expect("fits"));
        Stored {
            body: body.into(),
            headers: self.headers.clone(),
            etag: "an-etag-7".into(),
            modified: SystemTime::now(),
            spooled: None,
            version: None,
        }
    }

    /// Has the storage server answer for an object `huge` of `size` bytes in parts of `part`, which it makes as they are
    /// asked for.
    pub(super) fn huge(&self, world: &World, size: u64, part: u64) -> Arc<Huge> {
        let lengths = (0..size.div_ceil(part)).map(|index| part.min(size - index * part));
        let attempt = AttemptId::random().expect("random");
        let entry = |(index, length)| PartEntry { number: index, length, attempt, checksum: [0; 32] };
        let entries: Vec<_> = (1..).zip(lengths).map(entry).collect();
        let map = PartMap::new(&entries).expect("legal");
        let footer = footer::seal(&self.dek, Layout::Multipart, &map, None).expect("fits");
        let huge = Arc::new(Huge {
            dek: Arc::clone(&self.dek),
            entries,
            footer: footer.into(),
            sealed: map.sealed(),
            headers: self.headers.clone(),
            made: Mutex::default(),
        });
        let serving = Arc::clone(&huge);
        world.store.before(move |seen| (seen.key == "huge").then(|| Instead::Answer(serving.answer(seen))));
        huge
    }
}

fn plaintext_of(entry: PartEntry) -> Bytes {
    noise(usize::try_from(entry.length).expect("fits"), u64::from(entry.number))
}

fn sealed(dek: &Dek, entry: PartEntry, mut plaintext: Bytes) -> Bytes {
    let mut sealer = PartSealer::new(dek, entry);
    let mut sealed = Vec::with_capacity(plaintext.len() + plaintext.len() / 1000 + 100);
    while !plaintext.is_empty() {
        if let Some(segment) = sealer.push(&mut plaintext).expect("as announced") {
            sealed.extend_from_slice(segment.as_bytes());
        }
    }
    sealed.extend_from_slice(sealer.finish().expect("as announced").as_bytes());
    sealed.into()
}

/// An object that is larger than memory.
pub(super) struct Huge {
    dek: Arc<Dek>,
    entries: Vec<PartEntry>,
    footer: Bytes,
    /// Stored bytes before the footer.
    sealed: u64,
    headers: HeaderMap,
    /// Parts that were sealed, as they must come out the same for each request.
    made: Mutex<HashMap<u32, Bytes>>,
}

impl Huge {
    /// Plaintext from the first byte to the last.
    pub(super) fn plaintext(&self, first: u64, last: u64) -> Bytes {
        self.pieces(first, last + 1, |entry| entry.length, plaintext_of)
    }

    fn pieces(
        &self,
        first: u64,
        end: u64,
        length: impl Fn(PartEntry) -> u64,
        make: impl Fn(PartEntry) -> Bytes,
    ) -> Bytes {
        let (mut at, mut pieces) = (0, Vec::new());
        for entry in &self.entries {
            let next = at + length(*entry);
            if next > first && at < end {
                let (from, to) = (first.max(at) - at, end.min(next) - at);
                pieces.extend_from_slice(&make(*entry)[from as usize..to as usize]);
            }
            at = next;
        }
        pieces.into()
    }

    fn answer(&self, seen: &Seen) -> Reply {
        let size = self.sealed + self.footer.len() as u64;
        let range = seen.header("range").and_then(|range| range.strip_prefix("bytes=")).expect("a range");
        let (first, end) = match range.split_once('-').expect("a range") {
            ("", count) => (size - count.parse::<u64>().expect("digits"), size),
            (first, last) => (first.parse().expect("digits"), last.parse::<u64>().expect("digits") + 1),
        };
        let make = |entry: PartEntry| {
            let mut made = self.made.lock().expect("no panic");
            made.entry(entry.number).or_insert_with(|| sealed(&self.dek, entry, plaintext_of(entry))).clone()
        };
        let length = |entry: PartEntry| claviger::format::size::sealed_part(entry.length);
        let mut body = self.pieces(first, end.min(self.sealed), length, make).to_vec();
        let of_footer = first.max(self.sealed) - self.sealed..end.max(self.sealed) - self.sealed;
        body.extend_from_slice(&self.footer[of_footer.start as usize..of_footer.end as usize]);
        let mut reply = Reply::new(206, body).header("content-range", &format!("bytes {first}-{}/{size}", end - 1));
        reply.headers.extend(self.headers.clone());
        reply.header("etag", "\"an-etag-7\"")
    }
}

//! Speed of the segment codec, as a share of the AES-256-GCM that it is made of.
//!
//! Everything is measured in one process by turns: each turn lets every case handle [`TURN`] bytes, so that whatever else
//! the machine does falls on all of them. A case's share is the median, over all turns, of raw time / its own time.
//!
//! The raw case is the library's AES-256-GCM on one buffer of 64 KiB that stays in the cache. It is reached through
//! `crypto::AeadKey`, whose `seal_in_place` only draws the nonce and whose `open_in_place` only passes on, because `src/crypto.rs` alone
//! may name the library.
//!
//! The codec's cases run over an object of [`OBJECT`] bytes. "Arriving" pieces were written right before they are handed in, as
//! the socket or TLS layer above does it, so they are in the cache; "resting" ones are slices of an object that is larger than it.

#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use claviger::crypto::{AeadKey, TAG_LEN, random_secret};
use claviger::format::body::{RangeOpener, SingleSealer};
use claviger::format::keys::Dek;
use claviger::format::layout::PartMap;
use claviger::format::size::{SEGMENT, SEGMENT_OVERHEAD};

/// Plaintext bytes of the object.
const OBJECT: usize = 64 << 20;
/// Plaintext bytes that a case handles in one turn.
const TURN: usize = 4 * SEGMENT as usize;
/// How often the object is gone through.
const ROUNDS: usize = 8;
/// The least share of the raw speed that arriving pieces should reach.
const GOAL: f64 = 0.8;

/// How the bytes come in.
#[derive(Clone, Copy)]
enum Input {
    Arriving { piece: usize },
    Resting { piece: usize },
}

/// Gives out an object's bytes, turn by turn.
struct Source {
    object: Bytes,
    input: Input,
    receive_buffer: BytesMut,
}

impl Source {
    fn new(object: &Bytes, input: Input) -> Self {
        Self { object: object.clone(), input, receive_buffer: BytesMut::new() }
    }

    fn pieces(&mut self, turn: Range<usize>) -> Vec<Bytes> {
        let (piece, mut turn) = match self.input {
            Input::Resting { piece } => (piece, self.object.slice(turn)),
            Input::Arriving { piece } => {
                self.receive_buffer.extend_from_slice(&self.object[turn]);
                (piece, self.receive_buffer.split().freeze())
            }
        };
        std::iter::from_fn(|| (!turn.is_empty()).then(|| turn.split_to(piece.min(turn.len())))).collect()
    }
}

impl Input {
    fn name(self) -> String {
        match self {
            Self::Arriving { piece } => format!("arriving in {:3} KiB", piece >> 10),
            Self::Resting { piece } => format!("resting, in {:3} KiB", piece >> 10),
        }
    }
}

/// A case: handles the turn of that number and says how long it took.
type Case = Box<dyn FnMut(usize) -> Duration>;

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn raw_seal() -> Case {
    let key = AeadKey::new(&random_secret().expect("random"));
    let mut buffer = vec![7; SEGMENT as usize];
    Box::new(move |_| {
        timed(|| {
            for _ in 0..TURN / buffer.len() {
                black_box(key.seal_in_place(b"", black_box(&mut buffer)).expect("random"));
            }
        })
    })
}

fn raw_open() -> Case {
    let key = AeadKey::new(&random_secret().expect("random"));
    let mut sealed = vec![7; SEGMENT as usize + TAG_LEN];
    let (text, tag) = sealed.split_at_mut(SEGMENT as usize);
    let (nonce, of_text) = key.seal_in_place(b"", text).expect("random");
    tag.copy_from_slice(&of_text);
    let mut buffer = sealed.clone();
    Box::new(move |_| {
        let open = |_| {
            buffer.copy_from_slice(&sealed);
            timed(|| {
                black_box(key.open_in_place(nonce, b"", black_box(&mut buffer)).expect("authentic"));
            })
        };
        (0..TURN / SEGMENT as usize).map(open).sum()
    })
}

fn codec_seal(mut source: Source, dek: Arc<Dek>) -> Case {
    let new = move || SingleSealer::new(Arc::clone(&dek), OBJECT as u64);
    let mut sealer = new();
    Box::new(move |turn| {
        if turn == 0 {
            sealer = new();
        }
        let pieces = source.pieces(turn * TURN..(turn + 1) * TURN);
        timed(|| {
            for mut piece in pieces {
                while !piece.is_empty() {
                    black_box(sealer.push(&mut piece).expect("as long as announced"));
                }
            }
        })
    })
}

fn codec_open(mut source: Source, dek: Arc<Dek>) -> Case {
    let map = Arc::new(PartMap::single(OBJECT as u64));
    let new = move || RangeOpener::new(&dek, Arc::clone(&map), &map.plan_all());
    let mut opener = new();
    let stored_turn = TURN + (TURN / SEGMENT as usize) * SEGMENT_OVERHEAD as usize;
    Box::new(move |turn| {
        if turn == 0 {
            opener = new();
        }
        let pieces = source.pieces(turn * stored_turn..(turn + 1) * stored_turn);
        timed(|| {
            for mut piece in pieces {
                while !piece.is_empty() {
                    black_box(opener.push(&mut piece).expect("authentic"));
                }
            }
        })
    })
}

/// The stored segments of the object.
fn sealed(object: &Bytes, dek: &Arc<Dek>) -> Bytes {
    let mut sealer = SingleSealer::new(Arc::clone(dek), OBJECT as u64);
    let (mut rest, mut stored) = (object.clone(), Vec::new());
    while !rest.is_empty() {
        sealer.push(&mut rest).expect("fits").iter().for_each(|segment| stored.extend_from_slice(segment.as_bytes()));
    }
    let [last, _footer] = sealer.finish(None).expect("whole");
    stored.extend_from_slice(last.as_bytes());
    stored.into()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs a raw case and the codec's by turns and prints their table. Whether the arriving pieces reach the goal.
fn compare(what: &str, mut raw: Case, mut cases: Vec<(Input, Case)>) -> bool {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); cases.len() + 1];
    for _ in 0..ROUNDS {
        for turn in 0..OBJECT / TURN {
            times[0].push(raw(turn).as_secs_f64());
            for ((_, case), times) in cases.iter_mut().zip(times.iter_mut().skip(1)) {
                times.push(case(turn).as_secs_f64());
            }
        }
    }
    let gib_per_s = |times: &[f64]| TURN as f64 / f64::from(1 << 30) / median(times.to_vec());
    println!("{what:5} raw, one 64 KiB buffer      {:5.2} GiB/s", gib_per_s(&times[0]));
    let mut reached = true;
    for ((input, _), own) in cases.iter().zip(times.iter().skip(1)) {
        let share = median(times[0].iter().zip(own).map(|(raw, own)| raw / own).collect());
        println!("{what:5} codec, {:20} {:5.2} GiB/s  {:3.0} %", input.name(), gib_per_s(own), share * 100.0);
        reached &= share >= GOAL || matches!(input, Input::Resting { .. });
    }
    reached
}

fn main() {
    let inputs = [
        Input::Arriving { piece: 64 << 10 },
        Input::Arriving { piece: 16 << 10 },
        Input::Resting { piece: 64 << 10 },
        Input::Resting { piece: 1 << 20 },
    ];
    let object = Bytes::from((0u8..251).cycle().take(OBJECT).collect::<Vec<u8>>());
    let dek = Arc::new(Dek::random().expect("random"));
    let stored = sealed(&object, &dek);
    let seal = inputs.map(|input| (input, codec_seal(Source::new(&object, input), Arc::clone(&dek))));
    let open = inputs.map(|input| (input, codec_open(Source::new(&stored, input), Arc::clone(&dek))));
    let sealing = compare("seal", raw_seal(), seal.into());
    let opening = compare("open", raw_open(), open.into());
    let verdict = if sealing && opening { "reached" } else { "missed" };
    println!("goal: arriving pieces at {:.0} % of the raw speed or more: {verdict}", GOAL * 100.0);
}

//! What servers answer, and what an operator writes.

use bytes::Bytes;
use claviger::cli::fuzz_scrape;
use claviger::config::fuzz_config;
use claviger::object::fuzz_place;
use claviger::telemetry::traces;
use claviger::transit::fuzz_answer;
use claviger::transit::watch::{fuzz_line, fuzz_stream};
use http::HeaderValue;

use super::input::{Numbers, pieces};

/// Whatever a custodian answers is read or refused; a key that is read has its 32 bytes.
pub fn transit_answer(bytes: &[u8]) {
    fuzz_answer(bytes);
}

/// A line of the watch that is not understood is taken for a change that may concern anything.
pub fn watch_line(bytes: &[u8]) {
    fuzz_line(bytes);
}

/// A configuration is taken, or refused for a reason that is told.
pub fn config(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        fuzz_config(text);
    }
}

/// However the stream of a watch is cut, the same lines come of it.
pub fn watch_stream(bytes: &[u8]) {
    let mut numbers = Numbers(bytes);
    let size = numbers.below(256) + 1;
    fuzz_stream(numbers.0, pieces(numbers.0, size));
}

/// What a storage server says of the bytes that it sends is refused, or is what was asked for, within the object.
pub fn content_range(bytes: &[u8]) {
    let mut numbers = Numbers(bytes);
    let (partial, from, length, last) =
        (numbers.below(2) == 1, numbers.below(1 << 12), numbers.below(1 << 12), numbers.below(1 << 12));
    let number = |number: usize| u64::try_from(number).expect("small");
    // A range that is asked for has a byte at least.
    let asked = (number(from), number(from + length + 1), number(last + 1));
    if let Ok(value) = HeaderValue::from_bytes(numbers.0) {
        fuzz_place(partial, &value, asked);
    }
}

/// Whatever a collector of traces answers, a number of rejected spans comes of it.
pub fn collector_answer(bytes: &[u8]) {
    traces::fuzz_answer(Bytes::copy_from_slice(bytes));
}

/// What a server shows as its metrics makes rates and quantiles, whatever it is.
pub fn scrape(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        fuzz_scrape(text);
    }
}

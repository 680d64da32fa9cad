//! What the applications wrote, and what a read may therefore show.
//!
//! Each key has one writer, that does one thing after the other. A write that was not acknowledged may have happened or not, and may still
//! happen: its key is not written again, and may hold what was there or what was to be.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::scan::MARKER;

/// A version and its length; `None`: deleted.
pub(crate) type Value = Option<(usize, usize)>;

/// `values[settled]` is what was acknowledged last; what follows may be there. At first there is nothing.
struct Record {
    values: Vec<Value>,
    settled: usize,
    open: bool,
    /// The operator put an older state back, or may have: any value may show that there ever was.
    put_back: bool,
    /// The operator broke what is stored: it may not be readable.
    damaged: bool,
}

#[derive(Default)]
pub(crate) struct Records(BTreeMap<String, Record>);

/// The content of a version of a key.
pub(crate) fn content(key: &str, (version, length): (usize, usize)) -> Bytes {
    let mut line = MARKER.to_vec();
    line.extend_from_slice(format!(" {key} {version}|").as_bytes());
    let mut content = line.repeat(length / line.len() + 1);
    content.truncate(length);
    content.into()
}

impl Records {
    /// Begins a write, or without a length a deletion, and gives its value.
    pub(crate) fn begin(&mut self, key: &str, length: Option<usize>) -> Value {
        let new = || Record { values: vec![None], settled: 0, open: false, put_back: false, damaged: false };
        let record = self.0.entry(key.to_owned()).or_insert_with(new);
        let value = length.map(|length| (record.values.len(), length));
        record.values.push(value);
        record.open = true;
        value
    }

    pub(crate) fn acknowledge(&mut self, key: &str) {
        let record = self.0.get_mut(key).expect("it was begun");
        (record.settled, record.open) = (record.values.len() - 1, false);
    }

    /// How far it is now, for `fits` after a read.
    pub(crate) fn settled(&self, key: &str) -> usize {
        self.0[key].settled
    }

    /// Keys of this writer that it may go on with.
    pub(crate) fn usable(&self, writer: &str) -> Vec<String> {
        let usable = self.0.iter().filter(|(key, record)| key.starts_with(writer) && !record.open);
        usable.map(|(key, _)| key.clone()).collect()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    pub(crate) fn put_back(&mut self, key: &str) {
        self.0.get_mut(key).expect("a known key").put_back = true;
    }

    pub(crate) fn damage(&mut self, key: &str) {
        self.0.get_mut(key).expect("a known key").damaged = true;
    }

    pub(crate) fn is_damaged(&self, key: &str) -> bool {
        self.0[key].damaged
    }

    /// Whether a read that began when `since` was settled may show `data`, of which `range` was asked. `None`: there is nothing.
    pub(crate) fn fits(
        &self,
        key: &str,
        since: usize,
        data: Option<&[u8]>,
        range: Option<(usize, usize)>,
    ) -> Option<Value> {
        let record = &self.0[key];
        let since = if record.put_back { 0 } else { since };
        let fits = |value: &&Value| match (value, data) {
            (None, None) => true,
            (Some(version), Some(data)) => {
                let whole = content(key, *version);
                match range {
                    None => whole == data,
                    Some((first, last)) => whole.get(first..whole.len().min(last + 1)) == Some(data),
                }
            }
            _ => false,
        };
        record.values[since..].iter().find(fits).copied()
    }
}

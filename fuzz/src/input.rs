//! Turns a fuzzer's bytes into what a property needs.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Takes numbers off the front of `bytes`; zeros when it is used up.
pub(crate) struct Numbers<'a>(pub(crate) &'a [u8]);

impl Numbers<'_> {
    /// The next number, below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let (taken, rest) = self.0.split_at(self.0.len().min(3));
        self.0 = rest;
        taken.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)) % limit
    }
}

/// `bytes` in pieces of `size` (at least 1).
pub(crate) fn pieces(bytes: &[u8], size: usize) -> impl Iterator<Item = Bytes> {
    bytes.chunks(size.max(1)).map(Bytes::copy_from_slice)
}

/// A request as lines: method, path, query (empty for none), and headers as `name: value`. Lines that are no headers are passed over.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: HeaderMap,
}

impl<'a> Request<'a> {
    /// None when `bytes` are not text.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(bytes).ok()?.split('\n');
        let (method, path, query) = (lines.next()?, lines.next()?, lines.next()?);
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((HeaderName::try_from(name).ok()?, HeaderValue::from_str(value.trim()).ok()?))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.filter_map(header) {
            headers.append(name, value);
        }
        Some(Self { method, path, query: Some(query).filter(|query| !query.is_empty()), headers })
    }

    /// The value of the header, where there is one and it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

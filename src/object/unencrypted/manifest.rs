//! What a manifest says, and its encoding: a head, a table of contents, and pages of entries in the order of their keys.
//!
//! All are deterministic CBOR. The head is the only one that changes; everything else stands under the run's id and never does.

use minicbor::decode::Decoder;

use crate::cbor::{NotCanonical, encode, parse};
use crate::crypto::sha256;
use crate::names::LogicalBucket;
use crate::s3::sigv4::hex;

/// Most entries of a page.
pub const PAGE: usize = 1_000;
/// Most pages of a manifest.
pub const MOST_PAGES: usize = 50_000;
/// Most bytes of a page: 1,000 keys of 1,024 bytes, with their ETags and sizes.
pub(super) const MAX_PAGE: usize = 2 << 20;
/// Most bytes of a table of contents.
pub(super) const MAX_CONTENTS: usize = MOST_PAGES * 1_030;
/// Most bytes of a head.
pub(super) const MAX_HEAD: usize = 1 << 10;

/// An object that is listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// The storage server's ETag, without quotes.
    pub etag: String,
    /// Its bytes.
    pub size: u64,
    /// The ETag is the MD5 of its bytes, by what the storage server said when it was listed.
    pub md5: bool,
}

impl Entry {
    /// The MD5 of its bytes, if that is known.
    pub(in crate::object) fn digest(&self) -> Option<Vec<u8>> {
        md5(&self.etag).filter(|_| self.md5)
    }
}

/// The MD5 that an ETag is, if it has the form of one.
pub(super) fn md5(etag: &str) -> Option<Vec<u8>> {
    let digits = etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    let pairs = (0..16).map(|at| u8::from_str_radix(etag.get(at * 2..at * 2 + 2)?, 16).ok());
    if digits { pairs.collect() } else { None }
}

/// Which manifest counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The number of the run, one more with each manifest of the bucket.
    pub serial: u64,
    /// The run, 16 random bytes in hexadecimal.
    pub run: String,
    /// Its pages.
    pub pages: u32,
    /// Its entries.
    pub entries: u64,
    /// Nothing that it listed is left as it was; it lists nothing any more.
    pub done: bool,
}

impl Head {
    /// Whether this one may follow on `other`: the same run, as far as that or further, or a later one.
    pub(super) fn follows(&self, other: &Self) -> bool {
        if self.run == other.run {
            self.serial == other.serial && self.done >= other.done
        } else {
            self.serial > other.serial
        }
    }

    /// Its encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(|encoder| {
            encoder.array(5)?.u64(self.serial)?.str(&self.run)?.u32(self.pages)?.u64(self.entries)?.bool(self.done)?;
            Ok(())
        })
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`NotCanonical`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NotCanonical> {
        let read = |decoder: &mut Decoder<'_>| {
            array(decoder, 5)?;
            let (serial, run, pages) = (decoder.u64()?, decoder.str()?.to_owned(), decoder.u32()?);
            Ok(Self { serial, run, pages, entries: decoder.u64()?, done: decoder.bool()? })
        };
        let head = parse(bytes, read, Self::to_bytes)?;
        let legal = head.run.len() == 32 && head.run.bytes().all(|byte| byte.is_ascii_hexdigit());
        if legal { Ok(head) } else { Err(NotCanonical) }
    }
}

/// A page of entries, in rising order of their keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page(Vec<Entry>);

impl Page {
    /// Of entries in rising order of their keys.
    pub fn new(entries: Vec<Entry>) -> Self {
        Self(entries)
    }

    /// Its entries.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// The entry of a key.
    pub fn find(&self, key: &str) -> Option<&Entry> {
        let at = self.0.binary_search_by(|entry| entry.key.as_str().cmp(key)).ok()?;
        self.0.get(at)
    }

    /// Its encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(|encoder| {
            encoder.array(self.0.len() as u64)?;
            for entry in &self.0 {
                encoder.array(4)?.str(&entry.key)?.str(&entry.etag)?.u64(entry.size)?.bool(entry.md5)?;
            }
            Ok(())
        })
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`NotCanonical`], also when it is longer than a page, or not in order.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotCanonical> {
        let read = |decoder: &mut Decoder<'_>| {
            let count = bounded(decoder, PAGE)?;
            let mut entries = Vec::with_capacity(count);
            for _ in 0..count {
                array(decoder, 4)?;
                let (key, etag) = (decoder.str()?.to_owned(), decoder.str()?.to_owned());
                entries.push(Entry { key, etag, size: decoder.u64()?, md5: decoder.bool()? });
            }
            Ok(Self(entries))
        };
        let page = parse(bytes, read, Self::to_bytes)?;
        if page.0.is_sorted_by(|one, next| one.key < next.key) { Ok(page) } else { Err(NotCanonical) }
    }
}

/// The first key of each page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents(pub Vec<String>);

impl Contents {
    /// The page that would have `key`.
    pub fn page_of(&self, key: &str) -> Option<u32> {
        let after = self.0.partition_point(|first| first.as_str() <= key);
        u32::try_from(after.checked_sub(1)?).ok()
    }

    /// Its encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(|encoder| {
            encoder.array(self.0.len() as u64)?;
            for key in &self.0 {
                encoder.str(key)?;
            }
            Ok(())
        })
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`NotCanonical`], also when it is not in order.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotCanonical> {
        let read = |decoder: &mut Decoder<'_>| {
            let count = bounded(decoder, MOST_PAGES)?;
            let keys = (0..count).map(|_| Ok(decoder.str()?.to_owned()));
            keys.collect::<Result<_, NotCanonical>>().map(Self)
        };
        let contents = parse(bytes, read, Self::to_bytes)?;
        if contents.0.is_sorted_by(|one, next| one < next) { Ok(contents) } else { Err(NotCanonical) }
    }
}

/// The pages of which nothing is left as it was: the place where a run goes on.
pub(super) fn progress_bytes(pages: &std::collections::BTreeSet<u32>) -> Vec<u8> {
    encode(|encoder| {
        encoder.array(pages.len() as u64)?;
        for page in pages {
            encoder.u32(*page)?;
        }
        Ok(())
    })
}

/// Reads [`progress_bytes`].
pub(super) fn parse_progress(bytes: &[u8]) -> Result<std::collections::BTreeSet<u32>, NotCanonical> {
    let read = |decoder: &mut Decoder<'_>| {
        let count = bounded(decoder, MOST_PAGES)?;
        (0..count).map(|_| Ok(decoder.u32()?)).collect()
    };
    parse(bytes, read, progress_bytes)
}

fn array(decoder: &mut Decoder<'_>, length: u64) -> Result<(), NotCanonical> {
    if decoder.array()? == Some(length) { Ok(()) } else { Err(NotCanonical) }
}

fn bounded(decoder: &mut Decoder<'_>, most: usize) -> Result<usize, NotCanonical> {
    let count = decoder.array()?.and_then(|count| usize::try_from(count).ok());
    count.filter(|count| *count <= most).ok_or(NotCanonical)
}

/// Where a bucket's manifests lie in the state bucket: `manifest/HASH/`, of the first 16 bytes of the SHA-256 of its name.
pub(super) fn folder(bucket: &LogicalBucket) -> String {
    let hash = sha256(bucket.as_str().as_bytes());
    format!("manifest/{}/", hex(hash.get(..16).unwrap_or_default()))
}

pub(super) fn head_name(bucket: &LogicalBucket) -> String {
    format!("{}head", folder(bucket))
}

pub(super) fn contents_name(bucket: &LogicalBucket, run: &str) -> String {
    format!("{}{run}/contents", folder(bucket))
}

pub(super) fn progress_name(bucket: &LogicalBucket, run: &str) -> String {
    format!("{}{run}/progress", folder(bucket))
}

pub(super) fn page_name(bucket: &LogicalBucket, run: &str, page: u32) -> String {
    format!("{}{run}/{page:08}", folder(bucket))
}

/// What parses as a part of a manifest is written back byte for byte.
#[doc(hidden)]
pub fn fuzz_manifest(bytes: &[u8]) {
    if let Ok(head) = Head::parse(bytes) {
        assert_eq!(head.to_bytes(), bytes);
        assert!(head.follows(&head));
    }
    if let Ok(page) = Page::parse(bytes) {
        assert_eq!(page.to_bytes(), bytes);
        for entry in page.entries() {
            assert_eq!(page.find(&entry.key), Some(entry));
            let _ = entry.digest();
        }
    }
    if let Ok(contents) = Contents::parse(bytes) {
        assert_eq!(contents.to_bytes(), bytes);
        for (page, first) in (0_u32..).zip(&contents.0) {
            assert_eq!(contents.page_of(first), Some(page));
        }
    }
    if let Ok(pages) = parse_progress(bytes) {
        assert_eq!(progress_bytes(&pages), bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, size: u64) -> Entry {
        Entry { key: key.to_owned(), etag: "e".to_owned(), size, md5: false }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let page = Page::new(vec![entry("a", 0), entry("b", u64::MAX)]);
        let bytes = page.to_bytes();
        assert_eq!(Page::parse(&bytes), Ok(page.clone()));
        assert_eq!(page.find("b"), Some(&entry("b", u64::MAX)));
        assert_eq!(page.find("c"), None);
        assert!(Page::parse(&[bytes.as_slice(), &[0]].concat()).is_err());
        for wrong in [vec![entry("b", 1), entry("a", 1)], vec![entry("a", 1), entry("a", 2)]] {
            assert!(Page::parse(&Page::new(wrong).to_bytes()).is_err());
        }
        let many = (0..=PAGE).map(|number| entry(&format!("{number:05}"), 0)).collect();
        assert!(Page::parse(&Page::new(many).to_bytes()).is_err());
        let head = Head { serial: 3, run: "0f".repeat(16), pages: 7, entries: 6_500, done: false };
        assert_eq!(Head::parse(&head.to_bytes()), Ok(head.clone()));
        assert!(Head::parse(&Head { run: "../../x".to_owned(), ..head }.to_bytes()).is_err());
        let progress = [0, 7, 9].into_iter().collect();
        assert_eq!(parse_progress(&progress_bytes(&progress)), Ok(progress));
    }

    #[test]
    fn a_key_is_looked_for_in_one_page() {
        let contents = Contents(vec!["b".to_owned(), "d".to_owned()]);
        assert_eq!(Contents::parse(&contents.to_bytes()), Ok(contents.clone()));
        let found = ["a", "b", "c", "d", "z"].map(|key| contents.page_of(key));
        assert_eq!(found, [None, Some(0), Some(0), Some(1), Some(1)]);
    }

    #[test]
    fn neither_an_older_head_follows_nor_another_one_of_the_same_number() {
        let head = |serial, done| Head { serial, run: format!("{serial:032x}"), pages: 0, entries: 0, done };
        assert!(head(2, false).follows(&head(1, true)) && head(1, true).follows(&head(1, false)));
        assert!(!head(1, false).follows(&head(1, true)) && !head(1, true).follows(&head(2, false)));
        let another = Head { run: "0f".repeat(16), ..head(2, true) };
        assert!(!another.follows(&head(2, false)) && !head(2, true).follows(&another));
        assert!(another.follows(&head(1, true)) && !Head { serial: 3, ..head(2, false) }.follows(&head(2, false)));
    }
}

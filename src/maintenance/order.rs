//! The order of a listing, as far as a job may rely on it, and that it comes to an end.

use crate::crypto::Digest;
use crate::crypto::DigestAlgorithm;
use crate::object::error::{Error, WrongAnswer};
use crate::object::stored::StoredPage;
use crate::s3::xml::StoredEntry;

/// So many pages without entries, one after the other, are an end that does not come.
const MOST_EMPTY: u32 = 1_000;

/// What is known of a listing's order.
#[derive(Debug, Default)]
pub(super) struct Order {
    last: String,
    versions: bool,
    is_broken: bool,
    empty: u32,
    /// A page seen before (Brent): the next one that looks like it closes a circle. Replaced after twice as many pages each time.
    saved: Option<[u8; 32]>,
    since: u64,
    until: u64,
}

impl Order {
    /// Of a listing after `key`, of all versions or not.
    pub(super) fn after(key: &str, versions: bool) -> Self {
        Self { last: key.to_owned(), versions, ..Self::default() }
    }

    /// Looks at the next page.
    ///
    /// # Errors
    /// [`WrongAnswer::Endless`] when it was there before, or nothing comes any more.
    pub(super) fn take(&mut self, page: &StoredPage) -> Result<(), Error> {
        for entry in &page.entries {
            let rises = entry.key > self.last || (self.versions && entry.key == self.last);
            self.is_broken |= !rises;
            entry.key.clone_into(&mut self.last);
        }
        self.empty = if page.entries.is_empty() { self.empty + 1 } else { 0 };
        let is_circle = look(page).is_some_and(|look| self.closes(look));
        if is_circle || self.empty > MOST_EMPTY { Err(WrongAnswer::Endless.into()) } else { Ok(()) }
    }

    /// Whether keys came in the order of their bytes so far.
    pub(super) fn is_rising(&self) -> bool {
        !self.is_broken
    }

    fn closes(&mut self, look: [u8; 32]) -> bool {
        if self.saved == Some(look) {
            return true;
        }
        self.since += 1;
        if self.since >= self.until {
            (self.saved, self.since, self.until) = (Some(look), 0, self.until.max(1).saturating_mul(2));
        }
        false
    }
}

/// What tells a page from others.
fn look(page: &StoredPage) -> Option<[u8; 32]> {
    let mut digest = Digest::new(DigestAlgorithm::Sha256);
    for StoredEntry { key, version, .. } in [page.entries.first()?, page.entries.last()?] {
        for text in [key.as_str(), version.as_deref().unwrap_or_default()] {
            digest.update(&(text.len() as u64).to_be_bytes());
            digest.update(text.as_bytes());
        }
    }
    digest.update(&(page.entries.len() as u64).to_be_bytes());
    digest.finish().as_slice().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(keys: &[&str]) -> StoredPage {
        let entry = |key: &&str| StoredEntry {
            key: (*key).to_owned(),
            version: None,
            is_latest: true,
            is_delete_marker: false,
            etag: String::new(),
            size: 0,
            modified: String::new(),
            storage_class: String::new(),
        };
        StoredPage { entries: keys.iter().map(entry).collect(), next: None }
    }

    /// Whether all pages were taken as rising ones.
    fn rises(after: &str, versions: bool, pages: &[&[&str]]) -> bool {
        let mut order = Order::after(after, versions);
        pages.iter().for_each(|keys| order.take(&page(keys)).expect("it goes on"));
        order.is_rising()
    }

    #[test]
    fn keys_rise_within_pages_and_across_them() {
        assert!(rises("", false, &[&["a", "b"], &[], &["c"]]));
        assert!(rises("a", false, &[&["a-", "a/"]]));
        assert!(!rises("", false, &[&["b", "a"]]) && !rises("", false, &[&["b"], &["a"]]));
        assert!(!rises("b", false, &[&["a", "c"]]) && !rises("b", false, &[&["b"]]));
        assert!(!rises("", false, &[&["a", "a"]]) && rises("", true, &[&["a", "a"], &["a", "b"]]));
    }

    #[test]
    fn a_circle_of_pages_is_noticed_whatever_leads_into_it() {
        for (before, length) in [(0, 1), (0, 2), (3, 2), (10, 7), (100, 1)] {
            let mut order = Order::default();
            let pages = (0..before).chain((before..before + length).cycle());
            let noticed = pages.take(1_000).position(|number| order.take(&page(&[&format!("{number:05}")])).is_err());
            assert!(
                noticed.is_some_and(|at| at >= before && at < 4 * (before + length) + 2),
                "{before} {length}: {noticed:?}"
            );
        }
        let mut order = Order::default();
        let empty = (0..).position(|_| order.take(&page(&[])).is_err());
        assert_eq!(empty, Some(MOST_EMPTY as usize));
        let mut order = Order::default();
        assert!((0..10_000).all(|number| order.take(&page(&[&format!("{number:05}")])).is_ok()));
    }
}

//! Pages of listings: which entries follow a place, with common prefixes in the place of what a delimiter groups.
//!
//! What lies below a common prefix is skipped, not read.

use s3s::S3Result;

/// Rows that are read at once where most of them may lie below common prefixes.
const GROUPED_BATCH: usize = 64;

/// A place in the order of keys; the ids of uploads order those of the same key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Place {
    pub(super) key: Vec<u8>,
    /// Empty before all rows of the key.
    pub(super) id: String,
}

/// What is asked for.
pub(super) struct Query<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    /// Rows behind this place only.
    pub(super) from: Place,
    pub(super) max: usize,
}

/// An entry of a page.
#[derive(Debug)]
pub(super) enum Entry<R> {
    Row(R),
    Common(String),
}

/// Entries, and whether there are more.
pub(super) struct Page<R> {
    pub(super) entries: Vec<Entry<R>>,
    pub(super) truncated: bool,
}

/// Rows in order.
pub(super) trait Rows {
    type Row: Send;

    /// At most `limit` rows behind `from` whose keys are less than `end`.
    fn fetch(
        &mut self,
        from: &Place,
        end: Option<&[u8]>,
        limit: usize,
    ) -> impl Future<Output = S3Result<Vec<Self::Row>>> + Send;

    fn key(row: &Self::Row) -> &str;

    /// The place that has `row`, and nothing else, between itself and what was before.
    fn place(row: &Self::Row) -> Place;
}

/// Less than every key that comes after all keys that begin with `prefix`, and greater than those. None: there are no such keys.
fn behind(prefix: &str) -> Option<Vec<u8>> {
    let mut bytes = prefix.as_bytes().to_vec();
    // No byte of UTF-8 is the greatest.
    *bytes.last_mut()? += 1;
    Some(bytes)
}

/// The group that `key` belongs to.
fn common<'k>(key: &'k str, prefix: &str, delimiter: Option<&str>) -> Option<&'k str> {
    let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let at = key.strip_prefix(prefix)?.find(delimiter)?;
    key.get(..prefix.len() + at + delimiter.len())
}

/// Where a listing goes on after the key, or the common prefix, `marker`.
pub(super) fn after(marker: &str, prefix: &str, delimiter: Option<&str>) -> Place {
    let is_group = common(marker, prefix, delimiter) == Some(marker);
    let key = if is_group { behind(marker) } else { None };
    let key = key.unwrap_or_else(|| [marker.as_bytes(), &[0]].concat());
    Place { key, id: String::new() }
}

/// The page that `query` asks for.
pub(super) async fn page<R: Rows>(rows: &mut R, query: &Query<'_>) -> S3Result<Page<R::Row>> {
    let mut page = Page { entries: Vec::new(), truncated: false };
    if query.max == 0 {
        return Ok(page);
    }
    let end = behind(query.prefix);
    let start = Place { key: query.prefix.as_bytes().to_vec(), id: String::new() };
    let mut at = query.from.clone().max(start);
    loop {
        // One more than fits tells whether there are more.
        let left = query.max + 1 - page.entries.len();
        let limit = if query.delimiter.is_some() { left.min(GROUPED_BATCH) } else { left };
        let found = rows.fetch(&at, end.as_deref(), limit).await?;
        let last = found.len() < limit;
        let mut group: Option<String> = None;
        for row in found {
            if group.as_deref().is_some_and(|group| R::key(&row).starts_with(group)) {
                continue;
            }
            if page.entries.len() == query.max {
                page.truncated = true;
                return Ok(page);
            }
            group = common(R::key(&row), query.prefix, query.delimiter).map(str::to_owned);
            at = R::place(&row);
            page.entries.push(group.clone().map_or(Entry::Row(row), Entry::Common));
        }
        if let Some(key) = group.as_deref().and_then(behind) {
            at = Place { key, id: String::new() };
        }
        if last {
            return Ok(page);
        }
    }
}

//! Tiles and entry bundles: their paths and contents (C2SP tlog-tiles).

use std::fmt;

use super::merkle::{HASH_LEN, Hash};

/// Hashes in a full tile and entries in a full bundle.
pub const WIDTH: u64 = 256;
/// Binary levels of the tree that one level of tiles spans.
pub(super) const TILE_HEIGHT: u32 = 8;
/// Levels of tiles that a tree of 2^64 entries has.
pub(super) const LEVELS: u8 = 8;
/// Most bytes of a full bundle: the length prefix allows entries of 65,535 bytes.
pub(super) const MAX_BUNDLE_LEN: u64 = WIDTH * (2 + 0xffff);

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Content {
    /// Hashes of subtrees of `256^level` entries.
    Hashes {
        /// 0 to 63; trees of up to 2^64 entries use 0 to 7.
        level: u8,
    },
    /// Entries.
    Entries,
}

/// The place of a tile or of an entry bundle.
///
/// **Invariant:** a level of at most 63 and a width of 1 to 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    content: Content,
    index: u64,
    width: u16,
}

/// This is no path of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a tile or entry bundle")]
pub struct InvalidPath;

/// This is not the content of a tile or bundle of that width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the content of a tile or entry bundle of that width")]
pub struct InvalidContent;

impl Tile {
    /// The tile number `index` of a tree of `size` entries; `None` where that tree has none.
    pub fn of_size(content: Content, index: u64, size: u64) -> Option<Self> {
        let level = match content {
            Content::Hashes { level } => level,
            Content::Entries => 0,
        };
        let hashes = size.checked_shr(TILE_HEIGHT * u32::from(level)).unwrap_or(0);
        let width = hashes.saturating_sub(index.checked_mul(WIDTH)?).min(WIDTH);
        let width = u16::try_from(width).ok().filter(|width| *width > 0)?;
        Some(Self { content, index, width })
    }

    /// What it holds.
    pub fn content(&self) -> Content {
        self.content
    }

    /// Its number within its level.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Hashes or entries in it: 1 to 256.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Whether nothing will be added to it.
    pub fn is_full(&self) -> bool {
        u64::from(self.width) == WIDTH
    }

    /// The full tile at the same place.
    #[must_use]
    pub fn full(self) -> Self {
        Self { width: 256, ..self }
    }

    /// The folder of the partial tiles at this place.
    pub(super) fn partials(&self) -> String {
        format!("{}.p", self.full())
    }

    /// Reads a path as [`Tile`] prints it.
    ///
    /// # Errors
    /// [`InvalidPath`].
    pub fn parse(path: &str) -> Result<Self, InvalidPath> {
        let rest = path.strip_prefix("tile/").ok_or(InvalidPath)?;
        let (content, rest) = rest.split_once('/').ok_or(InvalidPath)?;
        let content = match content {
            "entries" => Content::Entries,
            level => Content::Hashes { level: decimal(level, 63).ok_or(InvalidPath)? },
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => {
                (number, decimal(width, 255).filter(|width| *width > 0).ok_or(InvalidPath)?.into())
            }
            None => (rest, 256),
        };
        let (folders, last) = number.rsplit_once('/').map_or((None, number), |(folders, last)| (Some(folders), last));
        let folders = folders.into_iter().flat_map(|folders| folders.split('/')).map(|part| part.strip_prefix('x'));
        let mut index = 0u64;
        for part in folders.chain([Some(last)]) {
            let part = part.filter(|part| part.len() == 3 && part.bytes().all(|byte| byte.is_ascii_digit()));
            let part: u64 = part.and_then(|part| part.parse().ok()).ok_or(InvalidPath)?;
            index = index.checked_mul(1000).and_then(|index| index.checked_add(part)).ok_or(InvalidPath)?;
        }
        let tile = Self { content, index, width };
        // Superfluous leading groups of zeros are another spelling of the same place.
        if tile.to_string() == path { Ok(tile) } else { Err(InvalidPath) }
    }
}

fn decimal(text: &str, most: u8) -> Option<u8> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|number| plain && *number <= most)
}

/// The path below the log's folder, with `/`.
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.content {
            Content::Hashes { level } => write!(f, "tile/{level}/")?,
            Content::Entries => f.write_str("tile/entries/")?,
        }
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        groups[1..].iter().rev().try_for_each(|group| write!(f, "x{group:03}/"))?;
        write!(f, "{:03}", groups[0])?;
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

/// Appends `entry` to a bundle, after its length as a big-endian u16.
///
/// # Errors
/// [`InvalidContent`] when it is longer than 65,535 bytes.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), InvalidContent> {
    let length = u16::try_from(entry.len()).map_err(|_| InvalidContent)?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entry that `bundle` begins with, and what follows; `None` if it is cut off.
pub(super) fn split_entry(bundle: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bundle.split_first_chunk()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

/// The entries of a bundle; it has `width` of them and nothing else.
///
/// # Errors
/// [`InvalidContent`].
pub fn parse_entries(bundle: &[u8], width: u16) -> Result<Vec<&[u8]>, InvalidContent> {
    let mut entries = Vec::with_capacity(width.into());
    let mut rest = bundle;
    for _ in 0..width {
        let (entry, after) = split_entry(rest).ok_or(InvalidContent)?;
        entries.push(entry);
        rest = after;
    }
    if rest.is_empty() { Ok(entries) } else { Err(InvalidContent) }
}

/// The hashes of a tile; it has `width` of them and nothing else.
///
/// # Errors
/// [`InvalidContent`].
pub fn parse_hashes(tile: &[u8], width: u16) -> Result<Vec<Hash>, InvalidContent> {
    let (hashes, rest) = tile.as_chunks::<HASH_LEN>();
    if !rest.is_empty() || hashes.len() != usize::from(width) {
        return Err(InvalidContent);
    }
    Ok(hashes.iter().copied().map(Hash).collect())
}

/// The content of a tile.
pub fn hashes_to_bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAVES: Content = Content::Hashes { level: 0 };

    fn paths(content: Content, indices: std::ops::Range<u64>, size: u64) -> Vec<String> {
        indices.filter_map(|index| Tile::of_size(content, index, size)).map(|tile| tile.to_string()).collect()
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        let tile = Tile { content: Content::Entries, index: 1_234_067, width: 256 };
        assert_eq!(tile.to_string(), "tile/entries/x001/x234/067");
        let tile = Tile { content: Content::Hashes { level: 4 }, index: 1_234_067, width: 1 };
        assert_eq!(tile.to_string(), "tile/4/x001/x234/067.p/1");
        assert_eq!(tile.partials(), "tile/4/x001/x234/067.p");
        let size = 70_000;
        assert_eq!(paths(LEAVES, 0..1000, size).len(), 274);
        assert_eq!(paths(LEAVES, 272..1000, size), ["tile/0/272", "tile/0/273.p/112"]);
        assert_eq!(paths(Content::Hashes { level: 1 }, 0..9, size), ["tile/1/000", "tile/1/001.p/17"]);
        assert_eq!(paths(Content::Hashes { level: 2 }, 0..9, size), ["tile/2/000.p/1"]);
        assert!(paths(Content::Hashes { level: 3 }, 0..9, size).is_empty());
        assert_eq!(paths(LEAVES, 0..9, 256), ["tile/0/000"]);
        assert_eq!(paths(Content::Hashes { level: 1 }, 0..9, 256), ["tile/1/000.p/1"]);
    }

    #[test]
    fn paths_are_read_back_and_others_refused() {
        for path in [
            "tile/0/000",
            "tile/63/x001/x234/067.p/255",
            "tile/entries/999.p/1",
            "tile/0/x018/x446/x744/x073/x709/x551/615",
        ] {
            assert_eq!(Tile::parse(path).map(|tile| tile.to_string()).as_deref(), Ok(path));
        }
        for path in [
            "",
            "tile/0/",
            "tile/64/000",
            "tile/00/000",
            "tile/+1/000",
            "tile/0/1",
            "tile/0/+12",
            "tile/0/x000/001",
            "tile/0/001/002",
            "tile/0/x001",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/../000",
            "tile/data/000",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
            "/tile/0/000",
        ] {
            assert_eq!(Tile::parse(path), Err(InvalidPath), "{path}");
        }
    }

    #[test]
    fn contents_have_exactly_their_width() {
        let mut bundle = Vec::new();
        push_entry(&mut bundle, b"one").expect("short");
        push_entry(&mut bundle, b"").expect("short");
        assert_eq!(bundle, b"\x00\x03one\x00\x00");
        assert_eq!(parse_entries(&bundle, 2), Ok(vec![&b"one"[..], b""]));
        assert_eq!(parse_entries(&bundle, 1), Err(InvalidContent));
        assert_eq!(parse_entries(&bundle, 3), Err(InvalidContent));
        assert_eq!(parse_entries(&bundle[..6], 2), Err(InvalidContent));
        assert_eq!(push_entry(&mut bundle, &[0; 65_536]), Err(InvalidContent));
        let hashes = [Hash([1; 32]), Hash([2; 32])];
        let tile = hashes_to_bytes(&hashes);
        assert_eq!(parse_hashes(&tile, 2).as_deref(), Ok(&hashes[..]));
        assert_eq!(parse_hashes(&tile, 1), Err(InvalidContent));
        assert_eq!(parse_hashes(&tile[..63], 2), Err(InvalidContent));
    }
}

//! Keys as paths of files: safely, and so that the key can be read off the path.
//!
//! A key is split at `/`, and each piece becomes a folder, the last one the file. In a piece, `%` and control characters are written `%XX`,
//! with two hexadecimal digits. A piece that is empty is `%empty`; `.` and `..` are `%2E` and `%2E%2E`; and at the top, what begins like
//! our own files has `%2E` for its dot. A piece of more than 200 bytes is a folder with its beginning, which ends in `%more`, and in it
//! the rest. Where an object's name is also the folder of others, whichever comes second gets `%file` or `%dir` appended.
//!
//! A path that would be longer than systems take is `%long/` and the SHA-256 of the key. Where the file system takes two names for one,
//! as many do that do not tell case or Unicode normal forms apart, the second file gets `%` and half of that appended. Of these the
//! manifest has the key.

use crate::crypto::sha256;
use crate::s3::sigv4::hex;

/// Most bytes of a folder's or file's name, before `%more`, `%dir` and `%file`.
const LONGEST: usize = 200;
/// How our own files in the target begin.
pub(super) const OURS: &str = ".claviger-";
const EMPTY: &str = "%empty";
const MORE: &str = "%more";
/// What the folder's name ends in where a file has the plain one.
pub(super) const FOLDER: &str = "%dir";
/// What the file's name ends in where a folder has the plain one.
pub(super) const FILE: &str = "%file";

/// Where files are whose path would be too long.
const LONG: &str = "%long";
/// Most bytes of a path. Linux takes 4,095.
const LONGEST_PATH: usize = 3_500;

/// What is appended to the name of a file that would take the place of another key's.
pub(super) fn apart(key: &str) -> String {
    format!("%{}", hex(sha256(key.as_bytes()).get(..16).unwrap_or_default()))
}

/// The folders and the file of a key below a target whose own path has `before` bytes.
pub(super) fn path(key: &str, before: usize) -> Vec<String> {
    let pieces = pieces(key);
    let length: usize = pieces.iter().map(|piece| "/".len() + piece.len() + FOLDER.len()).sum();
    if before.saturating_add(length) <= LONGEST_PATH {
        return pieces;
    }
    vec![LONG.to_owned(), hex(&sha256(key.as_bytes()))]
}

/// The folders and the file of a key.
fn pieces(key: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    for (at, piece) in key.split('/').enumerate() {
        let mut name = escaped(piece, at == 0);
        while let Some(at) = cut(&name) {
            let rest = name.split_off(at);
            pieces.push(format!("{name}{MORE}"));
            name = if matches!(rest.as_str(), "." | "..") { rest.replace('.', "%2E") } else { rest };
        }
        pieces.push(name);
    }
    pieces
}

fn escaped(piece: &str, top: bool) -> String {
    match piece {
        "" => return EMPTY.to_owned(),
        "." | ".." => return piece.replace('.', "%2E"),
        _ => {}
    }
    let mut name = String::with_capacity(piece.len());
    for (at, character) in piece.char_indices() {
        let ours = top && at == 0 && piece.starts_with(OURS);
        if character == '%' || character.is_ascii_control() || ours {
            name.push_str(&format!("%{:02X}", u32::from(character)));
        } else {
            name.push(character);
        }
    }
    name
}

/// Where a name that is too long is cut: between characters, and not within an escape.
fn cut(name: &str) -> Option<usize> {
    let splits_escape =
        |at: usize| name.as_bytes().get(at.saturating_sub(2)..at).is_none_or(|last| last.contains(&b'%'));
    let is_good = |at: &usize| name.is_char_boundary(*at) && !splits_escape(*at);
    (name.len() > LONGEST).then(|| (1..=LONGEST).rev().find(is_good)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of a path.
    fn key(path: &str) -> String {
        let mut key = String::new();
        let count = path.split('/').count();
        for (at, name) in path.split('/').enumerate() {
            let name =
                if at + 1 == count { name.strip_suffix(FILE) } else { name.strip_suffix(FOLDER) }.unwrap_or(name);
            let (name, more) = match name.strip_suffix(MORE) {
                Some(name) => (name, true),
                None => (name, false),
            };
            if name != EMPTY {
                key.push_str(&percent_encoding::percent_decode_str(name).decode_utf8().expect("UTF-8"));
            }
            if !more && at + 1 < count {
                key.push('/');
            }
        }
        key
    }

    fn path(key: &str) -> String {
        pieces(key).join("/")
    }

    #[test]
    fn keys_become_paths_that_stay_below_the_target() {
        assert_eq!(path("a/b c/\u{f6}.txt"), "a/b c/\u{f6}.txt");
        assert_eq!(path("/etc/passwd"), "%empty/etc/passwd");
        assert_eq!(path("a//b/"), "a/%empty/b/%empty");
        assert_eq!(path("../../x/./.."), "%2E%2E/%2E%2E/x/%2E/%2E%2E");
        assert_eq!(path("a\0b\n%41\x7f"), "a%00b%0A%2541%7F");
        assert_eq!(path(".claviger-metadata.jsonl"), "%2Eclaviger-metadata.jsonl");
        assert_eq!(path("x/.claviger-y"), "x/.claviger-y");
        assert_eq!(path("a%dir/%empty"), "a%25dir/%25empty");
    }

    #[test]
    fn a_path_that_would_be_too_long_is_a_hash() {
        let slashes = "/".repeat(1024);
        let [folder, name] = super::path(&slashes, 0).try_into().expect("two");
        assert_eq!((folder.as_str(), name.len()), (LONG, 64));
        assert_ne!(super::path(&"/".repeat(1023), 0)[1], name);
        assert_eq!(super::path("a/b", 100), ["a", "b"]);
        assert_eq!(super::path("a/b", 4_000)[0], LONG);
        // No key's own path leads there.
        assert_eq!(super::path("%long/x", 0), ["%25long", "x"]);
        for count in 0..1_024 {
            let path = super::path(&("/".repeat(count) + "x"), 90);
            assert!(path.iter().map(|piece| piece.len() + 5).sum::<usize>() + 90 <= LONGEST_PATH, "{count}");
        }
    }

    #[test]
    fn every_key_can_be_read_off_its_path() {
        let long: [String; 6] = [
            "x".repeat(1024),
            "x".repeat(LONGEST) + "../..",
            "x".repeat(LONGEST) + ".",
            "%".repeat(1024),
            "\u{f6}".repeat(512),
            "\u{1}".repeat(300) + "/" + &"\u{1f511}".repeat(200),
        ];
        let odd = [
            "a",
            "/",
            "//",
            "..",
            "a/../b",
            "%",
            "%2E",
            "%empty",
            "a%more/b",
            "a%more",
            "a\tb",
            ".claviger-x",
            " ",
            "a/%file",
        ];
        for key_there in odd.into_iter().map(str::to_owned).chain(long) {
            let path = path(&key_there);
            assert_eq!(key(&path), key_there, "{path}");
            for name in path.split('/') {
                assert!(!name.is_empty() && name != "." && name != ".." && name.len() <= LONGEST + 9, "{path}");
            }
        }
        assert_eq!((key("a%dir/b"), key("a%file")), ("a/b".to_owned(), "a".to_owned()));
    }

    proptest::proptest! {
        #[test]
        fn any_key_can_be_read_off_its_path(text in "[ -~\\PC\u{0}-\u{1f}/.%]{1,400}") {
            proptest::prop_assert_eq!(key(&path(&text)), text);
        }
    }
}

//! Keys as names of files, both ways: `a//b`, `folder/` and `..` are keys like others, but no paths.
//!
//! Each component of a key that is empty or consists of dots, or that begins with the mark itself, gets the mark in front.

/// A control character, which keys hardly have, and which stands before all others in listings.
const MARK: char = '\u{2}';

/// The name under which `key` is stored.
pub(super) fn stored(key: &str) -> String {
    let components: Vec<String> = key.split('/').map(component).collect();
    components.join("/")
}

fn component(text: &str) -> String {
    let needs_mark = matches!(text, "" | "." | "..") || text.starts_with(MARK);
    if needs_mark { format!("{MARK}{text}") } else { text.to_owned() }
}

/// What the stored names of all keys that begin with `prefix` begin with.
pub(super) fn stored_prefix(prefix: &str) -> String {
    match prefix.rsplit_once('/') {
        Some((folders, last)) => format!("{}/{last}", stored(folders)),
        None => prefix.to_owned(),
    }
}

/// The key that is stored as `name`; also of a prefix that ends in `/`.
pub(super) fn key(name: &str) -> String {
    let components: Vec<&str> = name.split('/').map(|text| text.strip_prefix(MARK).unwrap_or(text)).collect();
    components.join("/")
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_key_is_a_plain_relative_path_and_comes_back(name in "[a./\u{2}]{1,12}") {
            prop_assert_eq!(key(&stored(&name)), name.clone());
            let stored = stored(&name);
            let path = Path::new(&stored);
            prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
            let rejoined: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
            prop_assert_eq!(rejoined.join("/"), stored);
        }

        #[test]
        fn prefixes_that_end_a_folder_stay_prefixes(name in "[ab/]{1,12}") {
            for (at, _) in name.match_indices('/') {
                prop_assert!(stored(&name).starts_with(&stored_prefix(&name[..=at])));
            }
        }
    }

    #[test]
    fn ordinary_keys_are_stored_as_they_are() {
        assert_eq!(stored("2026/07/report.pdf"), "2026/07/report.pdf");
        assert_ne!(stored("a//b"), stored("a/b"));
    }
}

//! What policy knows a KEK by, such as `jurisdiction=us`.

use std::collections::BTreeMap;

/// Most labels of one KEK.
pub const LABELS_MAX: usize = 16;
const KEY_MAX: usize = 31;
const VALUE_MAX: usize = 63;

/// Labels that are too many or not of the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "labels are at most {LABELS_MAX}, each 1 to {KEY_MAX} of 'a-z0-9_-' with a value of 1 to {VALUE_MAX} of 'A-Za-z0-9._-'"
)]
pub struct InvalidLabels;

/// Keys `[a-z0-9_-]{1,31}` with values `[A-Za-z0-9._-]{1,63}`, at most [`LABELS_MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Checks and takes the labels.
    ///
    /// # Errors
    /// [`InvalidLabels`].
    pub fn new(labels: BTreeMap<String, String>) -> Result<Self, InvalidLabels> {
        let legal = |(key, value): (&String, &String)| is_key(key) && is_value(value);
        if labels.len() <= LABELS_MAX && labels.iter().all(legal) { Ok(Self(labels)) } else { Err(InvalidLabels) }
    }

    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Where the KEK belongs, if a label says so.
    pub fn jurisdiction(&self) -> Option<&str> {
        self.get("jurisdiction")
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// These, and those of `others` that are not among them.
    ///
    /// # Errors
    /// [`InvalidLabels`] if that is more than a KEK may have.
    pub fn with_defaults(&self, others: &Self) -> Result<Self, InvalidLabels> {
        Self::new(others.0.iter().chain(&self.0).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn is_key(key: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(legal)
}

fn is_value(value: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=VALUE_MAX).contains(&value.len()) && value.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Result<Labels, InvalidLabels> {
        Labels::new(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn defaults_fill_gaps_only() {
        let (own, defaults) = (labels(&[("team", "hr"), ("a", "1")]), labels(&[("jurisdiction", "us"), ("a", "2")]));
        let both = own.expect("good").with_defaults(&defaults.expect("good")).expect("few");
        assert_eq!(both.iter().collect::<Vec<_>>(), [("a", "1"), ("jurisdiction", "us"), ("team", "hr")]);
    }

    #[test]
    fn labels_keep_their_form() {
        let good = labels(&[("jurisdiction", "us"), ("class-2_x", "A.b_c-9")]).expect("good");
        assert_eq!(
            (good.jurisdiction(), good.get("class-2_x"), good.get("other")),
            (Some("us"), Some("A.b_c-9"), None)
        );
        assert_eq!(good.iter().collect::<Vec<_>>(), [("class-2_x", "A.b_c-9"), ("jurisdiction", "us")]);
        assert!(labels(&[(&"k".repeat(KEY_MAX), &"v".repeat(VALUE_MAX))]).is_ok());
        let bad = [("", "v"), ("k", ""), ("K", "v"), ("k.", "v"), ("k", "v w"), ("k", "v=w"), ("k\0", "v"), ("ä", "v")];
        for pair in bad {
            assert_eq!(labels(&[pair]), Err(InvalidLabels), "{pair:?}");
        }
        assert!(labels(&[(&"k".repeat(KEY_MAX + 1), "v")]).is_err());
        assert!(labels(&[("k", &"v".repeat(VALUE_MAX + 1))]).is_err());
        let many = |count: usize| Labels::new((0..count).map(|n| (format!("k{n}"), "v".to_owned())).collect());
        assert!(many(LABELS_MAX).is_ok() && many(LABELS_MAX + 1).is_err());
    }
}

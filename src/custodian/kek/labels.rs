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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

//! The names that format, custody and configuration share. Each is checked once, when it is made.

use std::fmt;

use crate::crypto::{RandomFailed, random_array};

/// A name that does not have the form its kind asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} must be {form}")]
pub struct InvalidName {
    kind: &'static str,
    form: &'static str,
}

macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $form:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks and takes the name.
            ///
            /// # Errors
            /// [`InvalidName`] saying which form is expected; the offending text is not repeated.
            pub fn new(name: &str) -> Result<Self, InvalidName> {
                let check: fn(&str) -> bool = $check;
                if check(name) { Ok(Self(name.into())) } else { Err(InvalidName { kind: $kind, form: $form }) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn within(name: &str, longest: usize, extra: &[u8]) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || extra.contains(&byte);
    (1..=longest).contains(&name.len()) && name.bytes().all(legal)
}

text_name!(
    /// The name of a key-encryption key: `[A-Za-z0-9_-]{1,64}`.
    KekName, "a KEK name", "1 to 64 letters, digits, '_' or '-'", |name| within(name, 64, b"_-")
);

text_name!(
    /// The role and region of the proxies that generated a branch key, such as `proxy/us`:
    /// `[A-Za-z0-9._-]{1,31}/[A-Za-z0-9._-]{1,31}`.
    WriterDomain, "a writer domain", "ROLE/REGION, each 1 to 31 letters, digits, '.', '_' or '-'", |name| {
        name.split_once('/').is_some_and(|(role, region)| within(role, 31, b"._-") && within(region, 31, b"._-"))
    }
);

text_name!(
    /// A logical bucket: the name that clients use, whatever the bucket is called on the storage server
    /// (3 to 63 lower-case letters, digits, '.' or '-', as S3 has it).
    LogicalBucket, "a bucket name", "3 to 63 lower-case letters, digits, '.' or '-'", |name| {
        name.len() >= 3
            && within(name, 63, b".-")
            && !name.bytes().any(|byte| byte.is_ascii_uppercase())
            && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
    }
);

text_name!(
    /// The one on whose behalf a key is used (a client of the proxy): `[A-Za-z0-9._@/+-]{1,128}`.
    Principal, "a principal", "1 to 128 letters, digits or '._@/+-'", |name| within(name, 128, b"._@/+-")
);

/// The version of a KEK: 1 and up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KekVersion(u32);

impl KekVersion {
    /// The first version of every KEK.
    pub const FIRST: Self = Self(1);

    /// `None` for 0.
    pub fn new(version: u32) -> Option<Self> {
        (version > 0).then_some(Self(version))
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for KekVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// The identifier of a branch key: 16 random bytes, shown in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BranchId([u8; 16]);

impl BranchId {
    /// A fresh one.
    ///
    /// # Errors
    /// [`RandomFailed`].
    pub fn random() -> Result<Self, RandomFailed> {
        random_array().map(Self)
    }

    /// From its bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Reads 32 lower-case hexadecimal digits, as it is shown.
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let digits = (text.len() == 32 && text.bytes().all(digit)).then_some(text)?;
        u128::from_str_radix(digits, 16).ok().map(|number| Self(number.to_be_bytes()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for BranchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BranchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BranchId({self})")
    }
}

/// What a key is for. It is part of every key's context, so that what was made for one purpose does not
/// open for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// A stored object.
    Object,
    /// The record of a multipart upload under way.
    Upload,
    /// What jobs keep in the state bucket: checkpoints and manifests.
    Job,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Object, Self::Upload, Self::Job];

    /// As it stands in contexts and associated data.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Upload => "upload",
            Self::Job => "job",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_key_is_read_as_it_is_shown() {
        let id = BranchId::from_bytes(*b"\0\x01\xfebranch-key-id");
        assert_eq!(BranchId::parse(&id.to_string()), Some(id));
        let (shown, long) = (id.to_string(), format!("0{id}"));
        for other in
            [&shown[1..], &shown.to_uppercase(), &shown.replacen('0', "+", 1), &shown.replacen('0', " ", 1), &long, ""]
        {
            assert_eq!(BranchId::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn names_keep_their_forms() {
        assert!(KekName::new("records-2026_a").is_ok());
        for bad in ["", "a/b", "a b", "ä", &"k".repeat(65), "..", "a\0"] {
            assert!(KekName::new(bad).is_err(), "{bad:?}");
        }
        assert!(WriterDomain::new("proxy/us").is_ok());
        for bad in ["proxy", "proxy/", "/us", "a/b/c", ""] {
            assert!(WriterDomain::new(bad).is_err(), "{bad:?}");
        }
        assert!(LogicalBucket::new("records.2026").is_ok());
        for bad in ["ab", "Records", "-records", "re/cords", &"b".repeat(64)] {
            assert!(LogicalBucket::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(KekVersion::new(0), None);
    }
}

//! Bucket and key from host and path, and the query parameters.
//!
//! **Invariant:** a key is what the client wrote, byte for byte after percent-decoding: `//`, `.`, `..` and a
//! trailing `/` are part of it and are never normalised.
//!
//! **Invariant:** a key that leads out of its bucket on a storage server that resolves paths is no key.

use std::fmt;
use std::net::Ipv6Addr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::names::LogicalBucket;

use super::error::Code;

mod query;

pub use query::{Query, QueryError};

/// The longest key, in bytes of UTF-8 (AWS, "Naming Amazon S3 objects").
pub const LONGEST_KEY: usize = 1024;

/// The longest version id, in bytes (AWS, "How S3 Versioning works").
pub const LONGEST_VERSION_ID: usize = 1024;

/// Why a request's host and path name nothing here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The path does not begin with `/`, or carries a query or fragment.
    #[error("the request path must begin with '/'")]
    NotAPath,
    /// A `%` that is not followed by two hexadecimal digits.
    #[error("the request path has a '%' that is not followed by two hexadecimal digits")]
    MalformedEscape,
    /// The decoded bucket or key is not UTF-8.
    #[error("bucket and key must be UTF-8")]
    NotUtf8,
    /// The bucket name has not the form of one.
    #[error("the bucket name must be 3 to 63 lower-case letters, digits, '.' or '-'")]
    BucketName,
    /// An empty key.
    #[error("the key must not be empty")]
    EmptyKey,
    /// A key over [`LONGEST_KEY`] bytes.
    #[error("the key must be at most 1024 bytes of UTF-8")]
    KeyTooLong,
    /// A key with a NUL.
    #[error("the key must not contain a NUL character")]
    NulInKey,
    /// A key that, read as a path, goes up past its bucket.
    #[error(
        "the key, read as a path, leads out of the bucket: leave out each '..' with nothing before it to go up from"
    )]
    OutOfBucket,
    /// The Host header cannot be read.
    #[error("the Host header must be a host name or an address, with or without a port")]
    Host,
}

impl TargetError {
    /// The S3 code that goes with it.
    pub fn code(&self) -> Code {
        match self {
            Self::NotAPath | Self::MalformedEscape | Self::NotUtf8 => Code::InvalidUri,
            Self::BucketName => Code::InvalidBucketName,
            Self::EmptyKey | Self::NulInKey | Self::OutOfBucket => Code::InvalidArgument,
            Self::KeyTooLong => Code::KeyTooLong,
            Self::Host => Code::InvalidRequest,
        }
    }
}

/// The key of an object: 1 to 1,024 bytes of UTF-8 without NUL, that does not lead out of its bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(Box<str>);

impl ObjectKey {
    /// Checks and takes a key that is not percent-encoded.
    ///
    /// # Errors
    /// [`TargetError::EmptyKey`], [`TargetError::KeyTooLong`], [`TargetError::NulInKey`], [`TargetError::OutOfBucket`].
    pub fn new(key: &str) -> Result<Self, TargetError> {
        match key {
            "" => Err(TargetError::EmptyKey),
            key if key.len() > LONGEST_KEY => Err(TargetError::KeyTooLong),
            key if key.contains('\0') => Err(TargetError::NulInKey),
            key if leads_out(key) => Err(TargetError::OutOfBucket),
            key => Ok(Self(key.into())),
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key percent-encoded for a path, as Signature Version 4 asks: everything but letters, digits,
    /// `-._~` and `/`.
    pub fn encoded(&self) -> String {
        const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
        utf8_percent_encode(&self.0, KEPT).to_string()
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The service as a whole: `/`.
    Service,
    /// A bucket.
    Bucket(LogicalBucket),
    /// An object.
    Object {
        /// Its bucket.
        bucket: LogicalBucket,
        /// Its key.
        key: ObjectKey,
    },
}

impl Target {
    /// From the Host header or `:authority` (a port is passed over), the path as it was sent (without query,
    /// still percent-encoded), and the domains under which buckets are host names.
    ///
    /// A host of the form `BUCKET.DOMAIN` is virtual-hosted style; every other one, addresses and
    /// `localhost` among them, is path style.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn parse(host: &str, raw_path: &str, base_domains: &[String]) -> Result<Self, TargetError> {
        let path = raw_path.strip_prefix('/').ok_or(TargetError::NotAPath)?;
        if path.contains(['?', '#']) {
            return Err(TargetError::NotAPath);
        }
        let host = host_name(host)?;
        let (bucket, key) = match bucket_in_host(&host, base_domains) {
            Some(bucket) => (bucket.to_owned(), path),
            None if path.is_empty() => return Ok(Self::Service),
            None => {
                let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
                (decoded(bucket)?, key)
            }
        };
        let bucket = LogicalBucket::new(&bucket).map_err(|_| TargetError::BucketName)?;
        if key.is_empty() {
            return Ok(Self::Bucket(bucket));
        }
        Ok(Self::Object { bucket, key: ObjectKey::new(&decoded(key)?)? })
    }

    /// The bucket, if it is about one.
    pub fn bucket(&self) -> Option<&LogicalBucket> {
        match self {
            Self::Service => None,
            Self::Bucket(bucket) | Self::Object { bucket, .. } => Some(bucket),
        }
    }

    /// The key, if it is about an object.
    pub fn key(&self) -> Option<&ObjectKey> {
        match self {
            Self::Service | Self::Bucket(_) => None,
            Self::Object { key, .. } => Some(key),
        }
    }
}

/// Whether `text`, read as a path from within a bucket, is above the bucket at any point. S3 itself refuses such keys
/// (AWS, "Naming Amazon S3 objects", relative path elements). Storage servers that keep objects as files would find
/// other buckets there, the one with the branch keys among them.
///
/// Some separate by `/` alone, some by `\` as well, which makes more names and more steps up: it must hold either way.
pub(super) fn leads_out(text: &str) -> bool {
    rises(text.split('/')) || rises(text.split(['/', '\\']))
}

fn rises<'a>(mut segments: impl Iterator<Item = &'a str>) -> bool {
    let below = segments.try_fold(0_usize, |depth, segment| match segment {
        "" | "." => Some(depth),
        ".." => depth.checked_sub(1),
        _ => Some(depth + 1),
    });
    below.is_none()
}

/// Whether `text` can be the version id of an object. There are servers that make a file's name of it.
pub(super) fn is_version_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_VERSION_ID && !leads_out(text)
}

/// The host without port and final dot, in lower case.
fn host_name(host: &str) -> Result<String, TargetError> {
    // Some clients write the whole origin; storage servers take it, and it names the same.
    let host = host.strip_prefix("https://").or_else(|| host.strip_prefix("http://")).unwrap_or(host);
    let name = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(TargetError::Host)?;
            let port_is_one = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            if !port_is_one || address.parse::<Ipv6Addr>().is_err() {
                return Err(TargetError::Host);
            }
            address
        }
        None => match host.split_once(':') {
            Some((name, port)) if is_port(port) => name,
            Some(_) => return Err(TargetError::Host),
            None => host,
        },
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if name.is_empty() || !name.bytes().all(legal) {
        return Err(TargetError::Host);
    }
    Ok(name.to_ascii_lowercase())
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The bucket of a virtual-hosted request. Where one domain lies within another, the longer one counts.
fn bucket_in_host<'a>(host: &'a str, base_domains: &[String]) -> Option<&'a str> {
    let within = |domain: &String| {
        let domain = domain.trim_matches('.').to_ascii_lowercase();
        if host == domain {
            return Some("");
        }
        host.strip_suffix(&domain)?.strip_suffix('.')
    };
    let bucket = base_domains.iter().filter_map(within).min_by_key(|bucket| bucket.len())?;
    (!bucket.is_empty()).then_some(bucket)
}

fn decoded(text: &str) -> Result<String, TargetError> {
    if !escapes_are_whole(text) {
        return Err(TargetError::MalformedEscape);
    }
    percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).map_err(|_| TargetError::NotUtf8)
}

fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let mut digits = after.bytes();
        [digits.next(), digits.next()].iter().all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit()))
    })
}

#[cfg(test)]
mod tests;

//! The query parameters: what is asked, apart from how it is signed.

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use crate::s3::error::Code;

/// More parameters than any operation has.
const MOST_PARAMETERS: usize = 64;

/// What Signature Version 4 puts into a presigned URL. Names are exact, as in S3.
const PRESIGN: &[&str] = &[
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "X-Amz-Content-Sha256",
];

/// Request headers that SDKs move into a presigned URL and S3 reads from there. Any other `x-amz-` parameter
/// is an unknown one.
const HOISTED: &[&str] = &[
    "x-amz-acl",
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write",
    "x-amz-grant-write-acp",
    "x-amz-storage-class",
    "x-amz-tagging",
    "x-amz-copy-source",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-context",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-object-lock-legal-hold",
    "x-amz-bypass-governance-retention",
    "x-amz-website-redirect-location",
    "x-amz-request-payer",
    "x-amz-expected-bucket-owner",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-user-agent",
];

/// Families of them.
const HOISTED_FAMILIES: &[&str] = &["x-amz-meta-", "x-amz-checksum-"];

/// Why a query string is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A `%` that is not followed by two hexadecimal digits.
    #[error("the query string has a '%' that is not followed by two hexadecimal digits")]
    MalformedEscape,
    /// Not UTF-8, or with control characters.
    #[error("query parameters must be UTF-8, and their names without control characters")]
    NotText,
    /// The same parameter twice: which one counts would be anyone's guess.
    #[error("the query parameter {0:?} is given more than once")]
    Twice(String),
    /// More than any operation has.
    #[error("there are more than 64 query parameters")]
    TooMany,
    /// A header moved into the URL says something else than the header itself.
    #[error("the header {0} is given in the URL and, with another value, in the request")]
    Contradiction(HeaderName),
    /// A header moved into the URL with a value that no header can have.
    #[error("the query parameter {0} has a value that a header cannot have")]
    NotAHeader(HeaderName),
}

impl QueryError {
    /// The S3 code that goes with it.
    pub fn code(&self) -> Code {
        match self {
            Self::MalformedEscape | Self::NotText => Code::InvalidUri,
            Self::Twice(_) | Self::TooMany | Self::NotAHeader(_) => Code::InvalidArgument,
            Self::Contradiction(_) => Code::InvalidRequest,
        }
    }
}

/// The decoded parameters of a request, each once, sorted by what they are for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    operational: Vec<(String, Option<String>)>,
    presign: Vec<(String, String)>,
    hoisted: Vec<(HeaderName, HeaderValue)>,
}

impl Query {
    /// From the query string as it was sent, without the `?`. `+` is a space. `x-id`, by which SDKs name the
    /// operation for logs, is left out. Headers that were moved into a presigned URL are kept apart; in a
    /// URL that is not presigned they are ordinary (so: unknown) parameters.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn parse(raw: &str) -> Result<Self, QueryError> {
        let mut pairs: Vec<(String, Option<String>)> = Vec::new();
        for piece in raw.split('&').filter(|piece| !piece.is_empty()) {
            let (name, value) = match piece.split_once('=') {
                Some((name, value)) => (decoded(name)?, Some(decoded(value)?)),
                None => (decoded(piece)?, None),
            };
            if name.chars().any(char::is_control) {
                return Err(QueryError::NotText);
            }
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(QueryError::Twice(name));
            }
            if pairs.len() >= MOST_PARAMETERS {
                return Err(QueryError::TooMany);
            }
            pairs.push((name, value));
        }
        Self::sorted(pairs)
    }

    fn sorted(pairs: Vec<(String, Option<String>)>) -> Result<Self, QueryError> {
        let presigned = pairs.iter().any(|(name, _)| name == "X-Amz-Signature");
        let mut query = Self::default();
        for (name, value) in pairs {
            if name == "x-id" {
                continue;
            }
            if PRESIGN.contains(&name.as_str()) {
                query.presign.push((name, value.unwrap_or_default()));
                continue;
            }
            match presigned.then(|| hoisted_name(&name)).flatten() {
                Some(header) => query.push_hoisted(header, &value.unwrap_or_default())?,
                None => query.operational.push((name, value)),
            }
        }
        Ok(query)
    }

    fn push_hoisted(&mut self, name: HeaderName, value: &str) -> Result<(), QueryError> {
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| QueryError::NotAHeader(name.clone()))?;
        // `X-Amz-Acl` and `x-amz-acl` are two parameters but one header.
        if self.hoisted.iter().any(|(known, _)| *known == name) {
            return Err(QueryError::Twice(name.as_str().to_owned()));
        }
        self.hoisted.push((name, value));
        Ok(())
    }

    /// The value of a parameter: `None` if it is absent, `Some("")` if it has none.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.operational.iter().find(|(known, _)| known == name)?;
        Some(value.as_deref().unwrap_or_default())
    }

    /// Whether a parameter is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The parameters that say what is asked, in the order in which they were sent.
    pub fn operational(&self) -> &[(String, Option<String>)] {
        &self.operational
    }

    /// The parameters of a presigned URL, which belong to authentication.
    pub fn presign(&self) -> &[(String, String)] {
        &self.presign
    }

    /// Headers that were moved into the presigned URL.
    pub fn hoisted(&self) -> &[(HeaderName, HeaderValue)] {
        &self.hoisted
    }

    /// Puts the headers that were moved into the presigned URL back among the headers, where everything
    /// else looks for them. Doing it twice changes nothing.
    ///
    /// # Errors
    /// [`QueryError::Contradiction`] if the request has the same header with another value.
    pub fn restore_hoisted(&self, headers: &mut HeaderMap) -> Result<(), QueryError> {
        for (name, value) in &self.hoisted {
            if headers.get_all(name).iter().any(|present| present != value) {
                return Err(QueryError::Contradiction(name.clone()));
            }
            headers.insert(name.clone(), value.clone());
        }
        Ok(())
    }
}

fn hoisted_name(name: &str) -> Option<HeaderName> {
    let lower = name.to_ascii_lowercase();
    let known = HOISTED.contains(&lower.as_str()) || HOISTED_FAMILIES.iter().any(|family| lower.starts_with(family));
    if !known {
        return None;
    }
    HeaderName::from_bytes(lower.as_bytes()).ok()
}

fn decoded(text: &str) -> Result<String, QueryError> {
    if !super::escapes_are_whole(text) {
        return Err(QueryError::MalformedEscape);
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().map(|text| text.into_owned()).map_err(|_| QueryError::NotText)
}

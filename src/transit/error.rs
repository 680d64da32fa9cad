//! What goes wrong between us and a Transit server, as the source of a [`CustodyError`].
//!
//! **Invariant:** no variant repeats what a server said: its words may hold a token or a key.

use serde_json::error::Category;

use crate::custody::CustodyError;
use crate::net::body::BodyError;
use crate::net::client::ClientError;

use super::ciphertext::InvalidCiphertext;
use super::token_file::TokenFileError;

/// The causes behind [`CustodyError::Unreachable`] and [`CustodyError::Malformed`].
#[derive(Debug, thiserror::Error)]
pub enum TransitError {
    /// What the custodian says of its ledger cannot be read.
    #[error("what the custodian says of its ledger cannot be read")]
    Ledger,
    /// It is no custodian of ours.
    #[error("this custodian has no ledger of branch keys: it is an OpenBao or Vault server")]
    NoLedger,
    /// No response came.
    #[error("the request to the custodian failed")]
    Request(#[from] ClientError),
    /// Our certificate's time is over: nothing is asked with it, over connections from before neither.
    #[error("our own certificate for the custodian ended at {ended}: put a new one in its place")]
    CertificateEnded {
        /// When.
        ended: time::OffsetDateTime,
    },
    /// The response's body did not come, or not as it should.
    #[error("the custodian's answer could not be read")]
    Body(#[from] BodyError),
    /// The time for one call is over, all addresses, attempts and logins included.
    #[error("the custodian did not answer within {} s", limit.as_secs_f32())]
    Deadline {
        /// The time there was.
        limit: std::time::Duration,
    },
    /// The server is up and cannot serve: on standby, not initialised, overloaded, or broken inside.
    #[error("the custodian cannot serve now (HTTP status {status})")]
    Unavailable {
        /// The HTTP status.
        status: u16,
    },
    /// The server points somewhere else, where we do not follow: only configured addresses get our token.
    #[error("the custodian redirects (HTTP status {status}): give the active server's own address")]
    Redirected {
        /// The HTTP status.
        status: u16,
    },
    /// A 404: no Transit engine answers at that path.
    #[error("the custodian has nothing at the configured mount (HTTP status 404): check `mount`")]
    NoRoute,
    /// A 404 to the watch: the custodian is none of ours.
    #[error("the custodian has no watch (HTTP status 404): OpenBao and Vault have none, leave `watch` out with them")]
    NoWatch,
    /// A line of the watch has another form than agreed.
    #[error("the custodian's watch says something that is no event")]
    WatchLine,
    /// The watch's lines come later and later after they were made.
    #[error("what the custodian's watch says arrives late: the way to it is overloaded, or someone holds it back")]
    WatchLags,
    /// The watch came to an end, which it should not.
    #[error("the custodian ended the watch")]
    WatchEnded,
    /// A status or an error that has no meaning here.
    #[error("the custodian refused the request for a reason that is not known here (HTTP status {status})")]
    Unexpected {
        /// The HTTP status.
        status: u16,
    },
    /// The answer is not marked as JSON.
    #[error("the answer's Content-Type is not application/json: is this a custodian?")]
    ContentType,
    /// The answer is not JSON, or not of the shape that belongs to the request. The parser's own words are left out, as
    /// they quote what they found.
    #[error("the answer is not the expected JSON ({category:?} error at line {line}, column {column})")]
    Json {
        /// Syntax, shape or a premature end.
        category: Category,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// The wrapped key's text does not do.
    #[error("the wrapped key in the answer does not do")]
    Ciphertext(#[source] InvalidCiphertext),
    /// The branch key in the clear is not 32 bytes in base64, or all zeros.
    #[error("the branch key in the answer is not a key of 256 bits in base64")]
    KeyMaterial,
    /// A rewrap came back under an older KEK version.
    #[error("the custodian rewrapped to an older KEK version")]
    OlderVersion,
    /// The token is not one that fits into a header.
    #[error("the token given at login is not printable ASCII")]
    Token,
    /// There is no token because the file with it does not do.
    #[error("there is no token for the custodian")]
    TokenFile(#[from] TokenFileError),
    /// The last login failed a moment ago, and is tried again only after a pause; or there is no token in the file.
    #[error("there is no token for the custodian; it is tried again in a moment")]
    NoToken,
}

impl TransitError {
    pub(super) fn unreachable(self) -> CustodyError {
        CustodyError::Unreachable(Box::new(self))
    }

    pub(super) fn malformed(self) -> CustodyError {
        CustodyError::Malformed(Box::new(self))
    }
}

impl From<TransitError> for CustodyError {
    /// For the causes that lie in an answer's shape.
    fn from(error: TransitError) -> Self {
        error.malformed()
    }
}

impl From<serde_json::Error> for TransitError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json { category: error.classify(), line: error.line(), column: error.column() }
    }
}

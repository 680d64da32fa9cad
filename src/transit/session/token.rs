//! A token as it goes into requests.

use bytes::Bytes;
use http::HeaderValue;

use crate::crypto::constant_time_eq;
use crate::secret::SecretBytes;
use crate::transit::error::TransitError;

/// A token. Its bytes are zeroized when the last request with it is done.
pub(in crate::transit) struct Token {
    header: HeaderValue,
    serial: u64,
}

/// Gives the secret to [`Bytes`], which drops it, and thereby zeroizes it, at its end.
struct Owner(SecretBytes);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

impl Token {
    pub(super) fn new(token: SecretBytes, serial: u64) -> Result<Self, TransitError> {
        let shared = Bytes::from_owner(Owner(token));
        let mut header = HeaderValue::from_maybe_shared(shared).map_err(|_| TransitError::Token)?;
        header.set_sensitive(true);
        Ok(Self { header, serial })
    }

    pub(in crate::transit) fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// Whether its text is that of `token`.
    pub(super) fn is(&self, token: &SecretBytes) -> bool {
        constant_time_eq(self.header.as_bytes(), token.expose())
    }

    /// Whether it came of the same login or reading of the file.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.serial == other.serial
    }
}

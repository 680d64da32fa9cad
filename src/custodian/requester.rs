//! Who asks the custodian for something, from where, and why.

use std::net::IpAddr;

use crate::crypto::{self, RandomFailed, random_array};
use crate::custody::reason::Reason;
use crate::names::Principal;
use crate::telemetry::request_id::RequestId;

use super::identity::{self, InvalidIdentity, SpiffeId};

/// The one behind a request. All but `behalf`, `reason` and `for_request` are what TLS proved; those are what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester {
    /// The id in its certificate.
    pub id: SpiffeId,
    /// SHA-256 of that certificate's DER.
    pub certificate_sha256: [u8; 32],
    /// SHA-256 of the public key in it, which stays the same in other certificates of the same key.
    pub key_sha256: [u8; 32],
    /// The address that the connection came from.
    pub source: IpAddr,
    /// Why it asks; [`Reason::Unspecified`] when it did not say.
    pub reason: Reason,
    /// For whom it asks: a client of the proxy.
    pub behalf: Option<Principal>,
    /// Names the request in answers and in the audit log.
    pub request_id: [u8; 16],
    /// The request of a client that a proxy works on meanwhile, as the proxy says.
    pub for_request: Option<RequestId>,
}

impl Requester {
    /// From a certificate (DER) that TLS has verified, with no reason given and for nobody else.
    ///
    /// # Errors
    /// [`InvalidIdentity`].
    pub fn from_certificate(der: &[u8], source: IpAddr, request_id: [u8; 16]) -> Result<Self, InvalidIdentity> {
        let id = identity::from_certificate(der)?;
        let certificate_sha256 = crypto::sha256(der);
        let key_sha256 = identity::key_sha256(der)?;
        let reason = Reason::Unspecified;
        Ok(Self { id, certificate_sha256, key_sha256, source, reason, behalf: None, request_id, for_request: None })
    }

    /// The request's id as a UUID: `8-4-4-4-12` hexadecimal digits.
    pub fn request_uuid(&self) -> String {
        let number = u128::from_be_bytes(self.request_id);
        let group = |shift: u32, digits: u32| (number >> shift) & ((1 << (digits * 4)) - 1);
        let (a, b, c, d, e) = (group(96, 8), group(80, 4), group(64, 4), group(48, 4), group(0, 12));
        format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
    }
}

/// A fresh id for a request: the bytes of a random UUID (RFC 9562, version 4).
///
/// # Errors
/// [`RandomFailed`].
pub fn random_request_id() -> Result<[u8; 16], RandomFailed> {
    let mut bytes: [u8; 16] = random_array()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_shown_as_uuids() {
        let mut who = Requester {
            id: SpiffeId::parse("spiffe://example.org/region/us/proxy/p1").expect("legal"),
            certificate_sha256: [0; 32],
            key_sha256: [0; 32],
            source: IpAddr::from([127, 0, 0, 1]),
            reason: Reason::Unspecified,
            behalf: None,
            request_id: *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff",
            for_request: None,
        };
        assert_eq!(who.request_uuid(), "00112233-4455-6677-8899-aabbccddeeff");
        who.request_id = random_request_id().expect("random");
        let shown = who.request_uuid();
        assert_eq!((shown.len(), shown.as_bytes()[14]), (36, b'4'), "{shown}");
        assert!(b"89ab".contains(&shown.as_bytes()[19]), "{shown}");
    }
}

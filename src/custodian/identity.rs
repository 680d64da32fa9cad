//! Who a client is: the SPIFFE id in its certificate.
//!
//! Ids follow the SPIFFE ID standard (<https://spiffe.io/docs/latest/spiffe-specs/spiffe-id/>), narrowed to one shape.
//!
//! **Invariant:** a [`SpiffeId`] has the one legal text for what it names: nothing in it is escaped, empty, `.` or `..`.

use std::fmt;
use std::sync::Arc;

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::crypto;
use crate::names::WriterDomain;

/// Longest id, in bytes.
const ID_LEN_MAX: usize = 255;
/// Longest certificate that is looked into, in bytes.
const CERTIFICATE_LEN_MAX: usize = 32 << 10;
/// The role of people who may administer.
const OFFICER: &str = "officer";

/// The text or certificate names no client of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentity {
    /// More bytes than an id may have.
    #[error("the id has more than {ID_LEN_MAX} bytes")]
    TooLong,
    /// Another scheme than `spiffe`.
    #[error("the id does not start with spiffe://")]
    NotSpiffe,
    /// The trust domain is no name of a domain in lower case.
    #[error("the id's trust domain must be labels of a-z, 0-9 and '-' between dots, without port or user")]
    TrustDomain,
    /// The path is not `region/REGION/ROLE/NAME`.
    #[error("the id's path must be /region/REGION/ROLE/NAME, each 1 to 31 letters, digits, '.', '_' or '-'")]
    Path,
    /// The bytes are no X.509 certificate.
    #[error("not an X.509 certificate with readable alternative names")]
    NotACertificate,
    /// The certificate has no URI among its alternative names.
    #[error("the certificate has no URI among its alternative names")]
    NoUri,
    /// The certificate has several URIs, so it does not say who its holder is.
    #[error("the certificate has more than one URI among its alternative names")]
    SeveralUris,
}

/// `spiffe://DOMAIN/region/REGION/ROLE/NAME`, such as `spiffe://example.org/region/us/proxy/p1`; at most 255 bytes.
///
/// DOMAIN is a domain name in lower case; REGION, ROLE and NAME are `[A-Za-z0-9._-]{1,31}`, but not `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId(Arc<str>);

impl SpiffeId {
    /// Checks and takes the id.
    ///
    /// # Errors
    /// [`InvalidIdentity`]; the offending text is not repeated.
    pub fn parse(text: &str) -> Result<Self, InvalidIdentity> {
        if text.len() > ID_LEN_MAX {
            return Err(InvalidIdentity::TooLong);
        }
        let rest = text.strip_prefix("spiffe://").ok_or(InvalidIdentity::NotSpiffe)?;
        let (domain, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !domain.split('.').all(is_label) {
            return Err(InvalidIdentity::TrustDomain);
        }
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["region", region, role, name] if [region, role, name].into_iter().all(is_part) => Ok(Self(text.into())),
            _ => Err(InvalidIdentity::Path),
        }
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// DOMAIN: whose certificates these are.
    pub fn trust_domain(&self) -> &str {
        self.between_slashes(2)
    }

    /// REGION: the jurisdiction that the client is in.
    pub fn region(&self) -> &str {
        self.between_slashes(4)
    }

    /// ROLE: `proxy`, `officer`, …
    pub fn role(&self) -> &str {
        self.between_slashes(5)
    }

    /// NAME: which of its role and region.
    pub fn name(&self) -> &str {
        self.between_slashes(6)
    }

    /// The writer domain whose branch keys this client may ask for: `ROLE/REGION`.
    pub fn writer_domain(&self) -> WriterDomain {
        WriterDomain::new(&format!("{}/{}", self.role(), self.region()))
            .expect("role and region have the form of a part")
    }

    /// Whether this is a person who may approve and administer.
    pub fn is_officer(&self) -> bool {
        self.role() == OFFICER
    }

    /// `spiffe:`, nothing, DOMAIN, `region`, REGION, ROLE and NAME stand between slashes.
    fn between_slashes(&self, index: usize) -> &str {
        self.0.split('/').nth(index).unwrap_or_default()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({self})")
    }
}

/// A label of a domain name, in lower case: `[a-z0-9-]{1,63}`.
fn is_label(label: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&label.len()) && label.bytes().all(legal)
}

fn is_part(part: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=31).contains(&part.len()) && part.bytes().all(legal) && part != "." && part != ".."
}

/// The id in a certificate (DER) that TLS has verified already: its one URI among the alternative names.
///
/// Names of other kinds may stand besides.
///
/// # Errors
/// [`InvalidIdentity`], also where a name cannot be read: it might be a second URI.
pub fn from_certificate(der: &[u8]) -> Result<SpiffeId, InvalidIdentity> {
    if der.len() > CERTIFICATE_LEN_MAX {
        return Err(InvalidIdentity::NotACertificate);
    }
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| InvalidIdentity::NotACertificate)?;
    let names = certificate.subject_alternative_name().map_err(|_| InvalidIdentity::NotACertificate)?;
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    if !rest.is_empty() || names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
        return Err(InvalidIdentity::NotACertificate);
    }
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => SpiffeId::parse(uri),
        (None, _) => Err(InvalidIdentity::NoUri),
        (Some(_), Some(_)) => Err(InvalidIdentity::SeveralUris),
    }
}

/// SHA-256 of the bits of the public key in a certificate (DER) that TLS has verified already.
///
/// # Errors
/// [`InvalidIdentity::NotACertificate`].
pub fn key_sha256(der: &[u8]) -> Result<[u8; 32], InvalidIdentity> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| InvalidIdentity::NotACertificate)?;
    Ok(crypto::sha256(&certificate.public_key().subject_public_key.data))
}

#[cfg(test)]
mod tests;

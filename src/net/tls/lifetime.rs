//! From when to when a certificate is valid.

use std::path::Path;

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::TlsError;

/// When a certificate is valid (RFC 5280, section 4.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// Not before.
    pub begins: OffsetDateTime,
    /// Not after.
    pub ends: OffsetDateTime,
}

impl Lifetime {
    /// Of a certificate; `None` if it cannot be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let validity = certificate.validity();
        Some(Self { begins: validity.not_before.to_datetime(), ends: validity.not_after.to_datetime() })
    }
}

/// Refuses the certificate in `path` if it is not valid now.
pub(super) fn check(certificate: &CertificateDer<'_>, path: &Path) -> Result<(), TlsError> {
    let (now, path) = (OffsetDateTime::now_utc(), path.to_owned());
    match Lifetime::of(certificate) {
        Some(Lifetime { ends, .. }) if ends < now => Err(TlsError::Expired { path, ended: ends }),
        Some(Lifetime { begins, .. }) if begins > now => Err(TlsError::NotYetValid { path, begins }),
        _ => Ok(()),
    }
}

//! Which certificate a server shows to whom, by the name that the client asks for (SNI, RFC 6066, section 3).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::issuer::Issuer;
use super::{IdentityFiles, TlsError, check_lifetime, load_identity, mismatch};

/// The certificates of a server, each for the names that stand in it.
#[derive(Debug)]
pub(super) struct ServerNames {
    /// For whoever asks for no name, or for one that no other certificate is for.
    first: Arc<CertifiedKey>,
    by_name: HashMap<String, Arc<CertifiedKey>>,
    issuer: Option<Issuer>,
}

impl ServerNames {
    /// Of the certificate in `first`, those in `further`, and what `issuer` makes for names that none of them is for. Where two are
    /// for one name, the former is shown.
    pub(super) fn load(
        first: &IdentityFiles,
        further: &[IdentityFiles],
        issuer: Option<Issuer>,
        provider: &CryptoProvider,
    ) -> Result<Self, TlsError> {
        let mut names = Self { first: load(first, provider)?, by_name: HashMap::new(), issuer };
        names.add(Arc::clone(&names.first));
        for identity in further {
            names.add(load(identity, provider)?);
        }
        Ok(names)
    }

    fn add(&mut self, shown: Arc<CertifiedKey>) {
        for name in shown.cert.first().map(dns_names).unwrap_or_default() {
            self.by_name.entry(name).or_insert_with(|| Arc::clone(&shown));
        }
    }

    /// What is shown to whoever asks for `name`. A wildcard stands for one label (RFC 6125, section 6.4.3).
    fn shown_for(&self, name: &str) -> Arc<CertifiedKey> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let wildcard = || name.split_once('.').and_then(|(_, parent)| self.by_name.get(&format!("*.{parent}")));
        if let Some(shown) = self.by_name.get(&name).or_else(wildcard) {
            return Arc::clone(shown);
        }
        let issued = self.issuer.as_ref().and_then(|issuer| issuer.certificate_for(&name));
        issued.unwrap_or_else(|| Arc::clone(&self.first))
    }
}

impl ResolvesServerCert for ServerNames {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(match hello.server_name() {
            Some(name) => self.shown_for(name),
            None => Arc::clone(&self.first),
        })
    }
}

fn load(identity: &IdentityFiles, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let (certificates, key) = load_identity(identity)?;
    check_lifetime(identity)?;
    let shown = CertifiedKey::from_der(certificates, key, provider).map_err(|source| mismatch(identity, source))?;
    Ok(Arc::new(shown))
}

/// The DNS names in a certificate, in small letters.
fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(dns).collect()
}

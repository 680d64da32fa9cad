//! By which names the custodian knows this proxy: the SPIFFE id in its certificate, and the certificate's hash.

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::crypto::sha256;
use crate::net::tls::{ClientTls, own_certificate};

const SPIFFE: &str = "spiffe://";
const CERTIFICATE: &str = "certificate:";

/// The names; none where there is no certificate.
pub(super) struct OwnNames(Vec<String>);

/// Whom a principal's name means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    Ourselves,
    /// Another certificate or workload.
    Another,
    /// A certificate or workload, and we do not know our own.
    Unclear,
    /// One of the proxies' clients.
    Client,
}

impl OwnNames {
    /// Those of the certificate in `tls` as it lies there now.
    pub(super) fn of(tls: &ClientTls) -> Self {
        let Some(Ok(certificate)) = tls.identity.as_ref().map(own_certificate) else { return Self(Vec::new()) };
        let hash: String = sha256(&certificate).iter().map(|byte| format!("{byte:02x}")).collect();
        let mut names = vec![format!("{CERTIFICATE}{hash}")];
        names.extend(uris(&certificate).into_iter().filter(|uri| uri.starts_with(SPIFFE)));
        Self(names)
    }

    #[cfg(test)]
    pub(super) fn assume(names: &[&str]) -> Self {
        Self(names.iter().map(ToString::to_string).collect())
    }

    pub(super) fn look_up(&self, principal: &str) -> Named {
        if self.0.iter().any(|own| own.eq_ignore_ascii_case(principal)) {
            return Named::Ourselves;
        }
        let kind = [SPIFFE, CERTIFICATE].into_iter().find(|kind| principal.starts_with(kind));
        match kind {
            None => Named::Client,
            Some(kind) if self.0.iter().any(|own| own.starts_with(kind)) => Named::Another,
            Some(_) => Named::Unclear,
        }
    }
}

fn uris(certificate: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    uris.collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;
    use crate::net::tests::write_file;
    use crate::net::tls::IdentityFiles;

    #[test]
    fn they_are_read_from_the_certificate() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = "spiffe://example.org/region/us/proxy/p1";
        let mut params = CertificateParams::new(vec!["proxy".to_owned()]).expect("a name");
        params.subject_alt_names.push(SanType::URI(own.try_into().expect("ASCII")));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signs");
        let identity = IdentityFiles {
            certificates: write_file(folder.path(), "proxy.pem", certificate.pem().as_bytes()),
            key: write_file(folder.path(), "proxy.key", key.serialize_pem().as_bytes()),
        };
        let names = OwnNames::of(&ClientTls { ca_file: None, identity: Some(identity) });
        let hash: String = sha256(certificate.der()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(names.0, [format!("certificate:{hash}"), own.to_owned()]);
        assert_eq!(names.look_up(own), Named::Ourselves);
        assert_eq!(names.look_up("spiffe://example.org/region/us/proxy/p2"), Named::Another);
        assert_eq!(names.look_up("certificate:00"), Named::Another);
        assert_eq!(names.look_up("alice"), Named::Client);
        assert_eq!(OwnNames::of(&ClientTls::default()).look_up(own), Named::Unclear);
    }
}

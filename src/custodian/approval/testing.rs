//! People with certificates, for the tests of whatever they approve.

use std::net::IpAddr;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::custodian::requester::Requester;

use super::{Approval, Subject, Verb, sign_approval};

/// The time of most tests.
pub(in crate::custodian) const NOW: i64 = 1_800_000_000;
const DAY_S: i64 = 24 * 3600;

/// An authority whose certificates are valid for a day around [`NOW`].
pub(in crate::custodian) struct People(CertifiedIssuer<'static, KeyPair>);

/// Someone with a certificate and its key.
pub(in crate::custodian) struct Person {
    pub(in crate::custodian) key: KeyPair,
    pub(in crate::custodian) certificate: Vec<u8>,
}

fn params() -> CertificateParams {
    let day = |offset: i64| OffsetDateTime::from_unix_timestamp(NOW + offset).expect("a time");
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (day(-DAY_S), day(DAY_S));
    params
}

impl People {
    pub(in crate::custodian) fn new() -> Self {
        let mut params = params();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs itself"))
    }

    pub(in crate::custodian) fn ca(&self) -> Vec<CertificateDer<'static>> {
        vec![self.0.der().clone()]
    }

    /// `name` is what follows the region: `officer/alice`.
    pub(in crate::custodian) fn person(&self, name: &str) -> Person {
        self.person_with_key(name, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key"))
    }

    pub(in crate::custodian) fn person_with_ed25519(&self, name: &str) -> Person {
        self.person_with_key(name, KeyPair::generate_for(&PKCS_ED25519).expect("a key"))
    }

    pub(in crate::custodian) fn person_with_key(&self, name: &str, key: KeyPair) -> Person {
        let id = Ia5String::try_from(format!("spiffe://example.org/region/us/{name}")).expect("ASCII");
        let mut params = params();
        params.subject_alt_names = vec![SanType::URI(id)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.0).expect("signs").der().to_vec();
        Person { key, certificate }
    }
}

impl Person {
    /// The same key.
    pub(in crate::custodian) fn key_again(&self) -> KeyPair {
        KeyPair::from_pem(&self.key.serialize_pem()).expect("what it wrote itself")
    }

    /// As TLS shows it to the custodian.
    pub(in crate::custodian) fn asks(&self) -> Requester {
        Requester::from_certificate(&self.certificate, IpAddr::from([127, 0, 0, 1]), [7; 16]).expect("has an id")
    }

    pub(in crate::custodian) fn signs(&self, subject: Subject, verb: Verb, hash: &[u8; 32]) -> Approval {
        let pem = self.key.serialize_pem();
        sign_approval(pem.as_bytes(), &self.certificate, subject, verb, hash, NOW).expect("signs")
    }
}

//! What custodians over one store have in common: folder, authority, shares of the seal.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use claviger::custodian::seal::share::Share;
use claviger::net::tls::{ClientTls, IdentityFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use tempfile::TempDir;

use crate::harness::custodian::id;

/// What all custodians over one store share.
pub(super) struct Place {
    pub(super) folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(super) shares: Vec<Share>,
    issued: AtomicU64,
}

impl Place {
    pub(super) fn new(folder: TempDir, shares: Vec<Share>) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs itself");
        let place = Self { folder, issuer, shares, issued: AtomicU64::new(0) };
        place.write("ca.pem", &place.issuer.pem());
        place
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("own folder");
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("own file");
        path
    }

    pub(super) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(super) fn store_file(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    /// A certificate for `spiffe://localhost/region/us/…`.
    pub(super) fn issue(&self, rest: &str) -> IdentityFiles {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.subject_alt_names.push(SanType::URI(id("us", rest).as_str().try_into().expect("ASCII")));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        IdentityFiles {
            certificates: self.write(&format!("{number}.pem"), &certificate.pem()),
            key: self.write(&format!("{number}.key"), &key.serialize_pem()),
        }
    }

    pub(super) fn tls(&self, identity: &IdentityFiles) -> ClientTls {
        ClientTls { ca_file: Some(self.ca_file()), identity: Some(identity.clone()) }
    }
}

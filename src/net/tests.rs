//! What the tests of several modules need: certificates in files.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::tls::IdentityFiles;

/// A certificate authority whose files lie in a test's folder.
pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
    pub(crate) file: PathBuf,
}

impl Ca {
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("signs itself");
        let file = write_file(dir, &format!("{name}.pem"), issuer.pem().as_bytes());
        Self { issuer, dir: dir.into(), file }
    }

    pub(crate) fn issue(&self, name: &str, alt_names: &[&str]) -> IdentityFiles {
        let alt_names: Vec<String> = alt_names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(alt_names).expect("good names");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        IdentityFiles {
            certificates: write_file(&self.dir, &format!("{name}.pem"), certificate.pem().as_bytes()),
            key: write_file(&self.dir, &format!("{name}.key"), key.serialize_pem().as_bytes()),
        }
    }
}

/// Writes a file that only its owner can read.
pub(crate) fn write_file(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, content).expect("test folder is writable");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("own file");
    }
    path
}

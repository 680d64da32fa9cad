//! Certificates: a CA, the servers, and any number of proxies.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use claviger::net::tls::{ClientTls, IdentityFiles, client_config};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::ClientConfig;

/// Who issues certificates, and the folder that they lie in.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority = Self { issuer, folder: folder.to_owned() };
        authority.write("ca.pem", &authority.issuer.pem())?;
        authority.issue("server", "custodian/bench", ExtendedKeyUsagePurpose::ServerAuth)?;
        Ok(authority)
    }

    /// TLS as a client with this role and name.
    pub(crate) fn client(&self, role: &str, name: &str) -> Result<Arc<ClientConfig>> {
        let file = format!("{role}-{name}");
        self.issue(&file, &format!("{role}/{name}"), ExtendedKeyUsagePurpose::ClientAuth)?;
        let tls =
            ClientTls { ca_file: Some(self.folder.join("ca.pem")), identity: Some(identity(&self.folder, &file)) };
        Ok(Arc::new(client_config(&tls)?))
    }

    fn issue(&self, file: &str, id: &str, usage: ExtendedKeyUsagePurpose) -> Result<()> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        let id = format!("spiffe://localhost/region/us/{id}");
        params.subject_alt_names.push(SanType::URI(id.as_str().try_into()?));
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        self.write(&format!("{file}.pem"), &certificate.pem())?;
        self.write(&format!("{file}.key"), &key.serialize_pem())
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.folder.join(name);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        std::io::Write::write_all(&mut file, content.as_bytes()).with_context(|| format!("cannot write {name}"))
    }
}

/// Where a party's certificate and key are.
pub(crate) fn identity(folder: &Path, file: &str) -> IdentityFiles {
    IdentityFiles { certificates: folder.join(format!("{file}.pem")), key: folder.join(format!("{file}.key")) }
}

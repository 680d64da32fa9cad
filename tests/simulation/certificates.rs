//! Certificates for the custodians and the proxies, made once a run.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use claviger::net::tls::{ClientTls, IdentityFiles, mutual_server_config};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::ServerConfig;
use tempfile::TempDir;

pub(crate) struct Certificates {
    _folder: TempDir,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: ClientTls,
}

pub(crate) fn certificates() -> &'static Certificates {
    static MADE: OnceLock<Certificates> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs itself");
        let ca_file = write(folder.path(), "ca.pem", &ca.pem());
        let issue = |name: &str, hosts: &[&str], uri: &str| {
            let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            let mut params = CertificateParams::new(hosts).expect("names");
            params.subject_alt_names.push(SanType::URI(uri.try_into().expect("ASCII")));
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &ca).expect("signs");
            IdentityFiles {
                certificates: write(folder.path(), &format!("{name}.pem"), &certificate.pem()),
                key: write(folder.path(), &format!("{name}.key"), &key.serialize_pem()),
            }
        };
        let hosts = ["custodian-1", "custodian-2"];
        let server = issue("custodian", &hosts, "spiffe://example.org/region/us/custodian/c1");
        let proxy = issue("proxy", &["proxy"], "spiffe://example.org/region/us/proxy/p1");
        let server = mutual_server_config(&server, &ca_file, None).expect("good files");
        Certificates { _folder: folder, server, client: ClientTls { ca_file: Some(ca_file), identity: Some(proxy) } }
    })
}

fn write(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join(name);
    std::fs::write(&path, text).expect("writes");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("own file");
    path
}

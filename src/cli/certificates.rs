//! Private CAs, and the certificates that they give servers and clients.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
    PKCS_ECDSA_P256_SHA256, SanType, string::Ia5String,
};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::crypto;
use crate::custodian::identity::SpiffeId;

/// How long the CA's own certificate is valid.
const CA_DAYS: i64 = 3650;
/// How long a certificate is valid: some clients trust none that is valid for longer.
const LEAF_DAYS: i64 = 825;
/// Clocks of clients may lag.
const LAG: Duration = Duration::days(1);

/// A private CA that issues for a deployment. ECDSA over P-256.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    key: Zeroizing<String>,
}

/// A certificate that was issued, and its key, as PEM.
pub(super) struct Issued {
    /// The certificate.
    pub(super) certificate: String,
    /// Its key.
    pub(super) key: Zeroizing<String>,
}

impl Authority {
    /// A new one, for `purpose` as its name says.
    pub(super) fn new(purpose: &str) -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make the CA's key")?;
        let pem = Zeroizing::new(key.serialize_pem());
        // With a name of its own, so that a trust store can hold several.
        let tag: String = crypto::random_array::<4>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let params = ca_params(&format!("Claviger {purpose} CA {tag}"), 1);
        let issuer = CertifiedIssuer::self_signed(params, key).context("cannot make the CA's certificate")?;
        Ok(Self { issuer, key: pem })
    }

    /// A CA below this one, for a proxy that makes certificates when somebody asks for a name: it can do so for `domains` and names
    /// below them alone, and for no IP address: constraints say nothing of a form of name that they do not mention.
    pub(super) fn names(&self, domains: &[String]) -> Result<Issued> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make the CA's key")?;
        let mut params = ca_params("Claviger names CA", 0);
        let permitted_subtrees = domains.iter().cloned().map(GeneralSubtree::DnsName).collect();
        let every_address = [CidrSubnet::V4([0; 4], [0; 4]), CidrSubnet::V6([0; 16], [0; 16])];
        let excluded_subtrees = every_address.into_iter().map(GeneralSubtree::IpAddress).collect();
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees });
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, LEAF_DAYS);
        let certificate = params.signed_by(&key, &self.issuer).context("cannot make the CA's certificate")?;
        Ok(Issued { certificate: certificate.pem(), key: Zeroizing::new(key.serialize_pem()) })
    }

    /// The CA's certificate, as PEM: what its peers trust.
    pub(super) fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// The CA's key, as PEM.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// For a server that is reached as `localhost`, by the loopback addresses and as `hosts`: IP addresses, or DNS names. With
    /// `wildcards`, these are also covered as domains of buckets (`*.HOST`).
    pub(super) fn server(&self, name: &str, hosts: &[String], wildcards: bool) -> Result<Issued> {
        issue(server_params(hosts, wildcards)?, name, ExtendedKeyUsagePurpose::ServerAuth, &self.issuer)
    }

    /// For a custodian, which has an id besides.
    pub(super) fn custodian(&self, id: &SpiffeId, hosts: &[String]) -> Result<Issued> {
        let mut params = server_params(hosts, false)?;
        params.subject_alt_names.push(uri(id)?);
        issue(params, id.name(), ExtendedKeyUsagePurpose::ServerAuth, &self.issuer)
    }

    /// For a client, whose one URI name is `id`.
    pub(super) fn client(&self, id: &SpiffeId) -> Result<Issued> {
        issue(client_params(id)?, id.name(), ExtendedKeyUsagePurpose::ClientAuth, &self.issuer)
    }
}

/// For a client, from a CA whose certificate and key are given as PEM.
pub(super) fn issue_client(ca: &str, ca_key: &str, id: &SpiffeId) -> Result<Issued> {
    let key = KeyPair::from_pem(ca_key).context("the CA's key is not an unencrypted private key in PEM")?;
    let issuer = Issuer::from_ca_cert_pem(ca, key).context("the CA's certificate is not a certificate in PEM")?;
    issue(client_params(id)?, id.name(), ExtendedKeyUsagePurpose::ClientAuth, &issuer)
}

/// For a server that is reached as `hosts`, from a CA whose certificate and key are given as PEM. A custodian's has `id` besides.
pub(super) fn issue_server(ca: &str, ca_key: &str, id: &SpiffeId, hosts: &[String]) -> Result<Issued> {
    let key = KeyPair::from_pem(ca_key).context("the CA's key is not an unencrypted private key in PEM")?;
    let issuer = Issuer::from_ca_cert_pem(ca, key).context("the CA's certificate is not a certificate in PEM")?;
    let mut params = CertificateParams::new(hosts.to_vec()).context("a host name cannot stand in a certificate")?;
    if id.role() == "custodian" {
        params.subject_alt_names.push(uri(id)?);
    }
    issue(params, id.name(), ExtendedKeyUsagePurpose::ServerAuth, &issuer)
}

fn server_params(hosts: &[String], wildcards: bool) -> Result<CertificateParams> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    for host in hosts {
        names.push(host.clone());
        if wildcards && host.parse::<IpAddr>().is_err() && host.contains('.') {
            names.push(format!("*.{host}"));
        }
    }
    names.sort();
    names.dedup();
    CertificateParams::new(names).context("a host name cannot stand in a certificate")
}

fn uri(id: &SpiffeId) -> Result<SanType> {
    Ok(SanType::URI(Ia5String::try_from(id.as_str())?))
}

fn client_params(id: &SpiffeId) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(id)?];
    Ok(params)
}

fn issue(
    mut params: CertificateParams,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<Issued> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")?;
    params.distinguished_name = named(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    // Strict verifiers (Python 3.13's, for one) want it.
    params.use_authority_key_identifier_extension = true;
    valid_for(&mut params, LEAF_DAYS);
    let leaf = params.signed_by(&key, issuer).context("cannot make a certificate")?;
    Ok(Issued { certificate: leaf.pem(), key: Zeroizing::new(key.serialize_pem()) })
}

/// `below`: how many CAs may stand between it and a certificate.
fn ca_params(name: &str, below: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, CA_DAYS);
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn valid_for(params: &mut CertificateParams, days: i64) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - LAG;
    params.not_after = now - LAG + Duration::days(days);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConnection, ServerConnection};
    use rustls_pki_types::ServerName;

    use super::*;
    use crate::net::tests::carry;
    use crate::net::tls::{ClientTls, IdentityFiles, client_config, server_config};

    #[test]
    fn the_certificate_is_good_for_its_names_and_no_others() {
        let ca = Authority::new("server").expect("makes");
        let hosts = ["s3.example.org".to_owned(), "10.1.2.3".to_owned()];
        let issued = ca.server("proxy", &hosts, true).expect("issues");
        for name in ["localhost", "127.0.0.1", "::1", "s3.example.org", "records.s3.example.org", "10.1.2.3"] {
            assert!(is_good_for(&ca, &issued.certificate, &issued.key, name), "{name}");
        }
        for name in ["example.org", "a.b.s3.example.org", "10.1.2.4"] {
            assert!(!is_good_for(&ca, &issued.certificate, &issued.key, name), "{name}");
        }
    }

    #[test]
    fn who_has_the_key_of_the_names_ca_passes_for_its_domains_alone() {
        let ca = Authority::new("server").expect("makes");
        let names = ca.names(&["s3.example.org".to_owned()]).expect("issues");
        let key = KeyPair::from_pem(&names.key).expect("a key");
        let issuer = Issuer::from_ca_cert_pem(&names.certificate, key).expect("a CA");
        for (name, is_good) in [
            ("s3.example.org", true),
            ("records.s3.example.org", true),
            ("example.org", false),
            ("10.1.2.3", false),
            ("127.0.0.1", false),
            ("::1", false),
        ] {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
            let leaf = params.signed_by(&key, &issuer).expect("issues");
            let chain = leaf.pem() + &names.certificate;
            assert_eq!(is_good_for(&ca, &chain, &key.serialize_pem(), name), is_good, "{name}");
        }
    }

    /// Whether a client that trusts `ca` takes a server with `chain` for `name`.
    fn is_good_for(ca: &Authority, chain: &str, key: &str, name: &str) -> bool {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            crate::cli::files::write_private(&path, content.as_bytes()).expect("writes");
            path
        };
        let identity = IdentityFiles { certificates: file("crt", chain), key: file("key", key) };
        let server = server_config(&identity, None).expect("an identity");
        let trusted = ClientTls { ca_file: Some(file("ca", &ca.certificate())), identity: None };
        let client = Arc::new(client_config(&trusted).expect("a CA"));
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut client = ClientConnection::new(client, name).expect("a client");
        let mut server = ServerConnection::new(server).expect("a server");
        while client.is_handshaking() {
            carry(&mut client, &mut server).expect("the server refuses nothing");
            if carry(&mut server, &mut client).is_err() {
                return false;
            }
        }
        true
    }
}

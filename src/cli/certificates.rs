//! A private CA, and the certificate that it gives the proxy.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::crypto;

/// How long the CA's own certificate is valid.
const CA_DAYS: i64 = 3650;
/// How long the proxy's certificate is valid: some clients trust none that is valid for longer.
const LEAF_DAYS: i64 = 825;
/// Clocks of clients may lag.
const LAG: Duration = Duration::days(1);

/// What was issued, all as PEM. ECDSA over P-256.
pub(super) struct Issued {
    /// The CA's certificate: what clients trust.
    pub(super) ca: String,
    /// The CA's key, which signs further certificates.
    pub(super) ca_key: Zeroizing<String>,
    /// The proxy's certificate.
    pub(super) certificate: String,
    /// The proxy's key.
    pub(super) key: Zeroizing<String>,
}

/// A new CA, and a certificate from it for `localhost`, the loopback addresses and `hosts`: IP addresses, or DNS names,
/// which are also covered as domains of buckets (`*.HOST`).
pub(super) fn issue(hosts: &[String]) -> Result<Issued> {
    let ca_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make the CA's key")?;
    let ca_key_pem = Zeroizing::new(ca_key.serialize_pem());
    // With a name of its own, so that a trust store can hold several.
    let tag: String = crypto::random_array::<4>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let ca = CertifiedIssuer::self_signed(ca_params(&tag), ca_key).context("cannot make the CA's certificate")?;

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make the proxy's key")?;
    let leaf = leaf_params(hosts)?.signed_by(&key, &ca).context("cannot make the proxy's certificate")?;
    Ok(Issued { ca: ca.pem(), ca_key: ca_key_pem, certificate: leaf.pem(), key: Zeroizing::new(key.serialize_pem()) })
}

fn ca_params(tag: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("Claviger private CA {tag}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, CA_DAYS);
    params
}

fn leaf_params(hosts: &[String]) -> Result<CertificateParams> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    for host in hosts {
        names.push(host.clone());
        if host.parse::<IpAddr>().is_err() && host.contains('.') {
            names.push(format!("*.{host}"));
        }
    }
    names.sort();
    names.dedup();
    let mut params = CertificateParams::new(names).context("a host name cannot stand in a certificate")?;
    params.distinguished_name = named("claviger proxy");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Strict verifiers (Python 3.13's, for one) want it.
    params.use_authority_key_identifier_extension = true;
    valid_for(&mut params, LEAF_DAYS);
    Ok(params)
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

    use rustls::{ClientConnection, ConnectionCommon, ServerConnection};
    use rustls_pki_types::ServerName;

    use super::*;
    use crate::net::tls::{ClientTls, IdentityFiles, client_config, server_config};

    /// Moves what one side wants to send to the other.
    fn carry<A, B>(from: &mut ConnectionCommon<A>, to: &mut ConnectionCommon<B>) -> Result<(), rustls::Error> {
        let mut bytes = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut bytes).expect("memory");
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            to.read_tls(&mut rest).expect("memory");
            to.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn the_certificate_is_good_for_its_names_and_no_others() {
        let issued = issue(&["s3.example.org".to_owned(), "10.1.2.3".to_owned()]).expect("issues");
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            crate::cli::files::write_private(&path, content.as_bytes()).expect("writes");
            path
        };
        let identity = IdentityFiles { certificates: file("crt", &issued.certificate), key: file("key", &issued.key) };
        let server = server_config(&identity, None).expect("an identity");
        let trusted = ClientTls { ca_file: Some(file("ca", &issued.ca)), identity: None };
        let client = Arc::new(client_config(&trusted).expect("a CA"));
        let good_for = |name: &str| {
            let name = ServerName::try_from(name.to_owned()).expect("a name");
            let mut client = ClientConnection::new(Arc::clone(&client), name).expect("a client");
            let mut server = ServerConnection::new(Arc::clone(&server)).expect("a server");
            while client.is_handshaking() {
                carry(&mut client, &mut server).expect("the server refuses nothing");
                if carry(&mut server, &mut client).is_err() {
                    return false;
                }
            }
            true
        };
        for name in ["localhost", "127.0.0.1", "::1", "s3.example.org", "records.s3.example.org", "10.1.2.3"] {
            assert!(good_for(name), "{name}");
        }
        for name in ["example.org", "a.b.s3.example.org", "10.1.2.4"] {
            assert!(!good_for(name), "{name}");
        }
    }
}

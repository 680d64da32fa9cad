//! `claviger certificate`: a client certificate for one more proxy, officer or auditor, or a server's for one more proxy or custodian.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use zeroize::Zeroizing;

use super::Usage;
use super::certificates::{issue_client, issue_server};
use super::files::{write_private, write_public};
use crate::custodian::identity::SpiffeId;

/// Most bytes of a CA's file.
const CA_MAX: u64 = 64 << 10;

#[derive(Args)]
pub(super) struct Arguments {
    /// Whose it is: spiffe://DOMAIN/region/REGION/ROLE/NAME, ROLE being proxy, custodian, officer, auditor or witness
    id: String,
    /// A name or address by which clients reach it; give it several times for several. Without it, the certificate is a client's
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// The certificate of the CA: certs/clients-ca.crt, which the custodian trusts, or, with --host, certs/ca.crt
    #[arg(long, value_name = "FILE")]
    ca_file: PathBuf,
    /// The key of that CA
    #[arg(long, value_name = "FILE")]
    ca_key_file: PathBuf,
    /// Write PREFIX.crt and PREFIX.key, which must not exist
    #[arg(long, value_name = "PREFIX")]
    out: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let id = SpiffeId::parse(&arguments.id).map_err(|error| Usage(format!("{:?}: {error}", arguments.id)))?;
    let ca = read(&arguments.ca_file)?;
    let ca_key = read(&arguments.ca_key_file)?;
    let issued = match arguments.hosts.as_slice() {
        [] if id.role() == "custodian" => {
            return Err(
                Usage("a custodian is a server: give the names by which it is reached with --host".to_owned()).into()
            );
        }
        [] => issue_client(&ca, &ca_key, &id)?,
        hosts => {
            if !matches!(id.role(), "custodian" | "proxy") {
                return Err(Usage("--host is for proxies and custodians: nobody else is a server".to_owned()).into());
            }
            issue_server(&ca, &ca_key, &id, hosts)?
        }
    };
    let [certificate, key] = ["crt", "key"].map(|ending| {
        let mut name = arguments.out.clone().into_os_string();
        name.push(".");
        name.push(ending);
        PathBuf::from(name)
    });
    // The key first: a certificate without one is of no use and in the way.
    write_private(&key, issued.key.as_bytes())?;
    write_public(&certificate, issued.certificate.as_bytes())?;
    println!("Wrote {} and {} for {id}.", certificate.display(), key.display());
    Ok(())
}

fn read(path: &PathBuf) -> Result<Zeroizing<String>> {
    let read = || {
        let length = std::fs::metadata(path)?.len();
        if length > CA_MAX {
            return Err(std::io::Error::from(std::io::ErrorKind::FileTooLarge));
        }
        std::fs::read_to_string(path).map(Zeroizing::new)
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::certificates::Authority;
    use crate::custodian::identity::from_certificate;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;

    #[test]
    fn a_certificate_of_the_given_ca_names_its_owner_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let ca = Authority::new("client").expect("makes");
        write_public(&at("ca.crt"), ca.certificate().as_bytes()).expect("writes");
        write_private(&at("ca.key"), ca.key().as_bytes()).expect("writes");
        let arguments = |id: &str| Arguments {
            id: id.to_owned(),
            hosts: Vec::new(),
            ca_file: at("ca.crt"),
            ca_key_file: at("ca.key"),
            out: at("proxy.sg"),
        };
        let id = "spiffe://example.org/region/sg/proxy/p1";
        run(&arguments(id)).expect("issues");
        let made = CertificateDer::from_pem_file(at("proxy.sg.crt")).expect("a certificate");
        assert_eq!(from_certificate(&made).expect("one name").as_str(), id);
        assert!(run(&arguments(id)).is_err(), "exists");
        let server = |id: &str, hosts: &[&str]| Arguments {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            out: at("server"),
            ..arguments(id)
        };
        let custodian = "spiffe://example.org/region/us/custodian/c2";
        assert!(run(&server(custodian, &[])).is_err_and(|error| error.is::<Usage>()));
        let officer = "spiffe://example.org/region/us/officer/alice";
        assert!(run(&server(officer, &["h"])).is_err_and(|error| error.is::<Usage>()));
        run(&server(custodian, &["c2.example.org", "10.0.0.2"])).expect("issues");
        let made = CertificateDer::from_pem_file(at("server.crt")).expect("a certificate");
        assert_eq!(from_certificate(&made).expect("one name").as_str(), custodian);
        assert!(run(&arguments("https://example.org")).is_err_and(|error| error.is::<Usage>()));
    }
}

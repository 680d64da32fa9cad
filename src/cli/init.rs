//! `claviger init`: the configuration, keys and certificates of a new deployment.
//!
//! **Invariant:** nothing that exists is overwritten, so that no key is ever lost to a second run.

mod configuration;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use zeroize::Zeroizing;

use self::configuration::Shape;
use super::Usage;
use super::certificates::{Authority, Issued};
use super::files::{make_private_folder, write_private, write_public};
use crate::crypto;
use crate::custodian::identity::SpiffeId;
use crate::names::KekName;
use crate::storage::Endpoint;
use crate::tlog::note::{Use, VerifierKey};

/// Officers that are made when none are named: one asks, two others approve.
pub(super) const OFFICERS: [&str; 3] = ["alice", "bob", "carol"];
/// Most officers that are made at once.
const OFFICERS_MAX: usize = 32;

#[derive(Args)]
pub(super) struct Arguments {
    /// The folder to write into; it is made if it is not there
    dir: PathBuf,
    /// A name or address by which clients reach the proxy; give it several times for several
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// The name or address by which proxies and officers reach the custodian
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    custodian_host: String,
    /// The storage server
    #[arg(long, value_name = "URL", default_value = "https://s3.example.org")]
    storage_url: String,
    /// The KEK to encrypt every bucket under
    #[arg(long, value_name = "NAME", default_value = "records")]
    kek: String,
    /// The region of proxy, custodian and officers, as key contexts and policies name it; also the jurisdiction of KEKs
    #[arg(long, value_name = "NAME", default_value = "us")]
    region: String,
    /// The trust domain of the names in client certificates: spiffe://DOMAIN/region/REGION/ROLE/NAME
    #[arg(long, value_name = "DOMAIN", default_value = "claviger.internal")]
    trust_domain: String,
    /// An officer, who administers keys and approves; give it several times for several [default: alice, bob, carol]
    #[arg(long = "officer", value_name = "NAME")]
    officers: Vec<String>,
    /// Have the proxy make certificates for names below --host when somebody asks for them: for bucket names with dots, which a
    /// wildcard is not for. It gets a CA that can sign for those names alone
    #[arg(long)]
    issue_certificates: bool,
    /// Write into a folder that has other files in it. Existing files are kept and make it fail all the same
    #[arg(long)]
    force: bool,
}

/// The files of a deployment, relative to its folder.
pub(super) mod names {
    pub(crate) const CONFIG: &str = "proxy.toml";
    pub(crate) const CUSTODIAN_CONFIG: &str = "custodian.toml";
    pub(crate) const POLICY: &str = "policy.cedar";
    /// Signs the certificates of servers; what their clients trust.
    pub(crate) const CA: &str = "certs/ca.crt";
    pub(crate) const CA_KEY: &str = "certs/ca.key";
    /// Signs the certificates with which proxies and officers prove themselves; what the custodian trusts.
    pub(crate) const CLIENT_CA: &str = "certs/clients-ca.crt";
    pub(crate) const CLIENT_CA_KEY: &str = "certs/clients-ca.key";
    pub(crate) const CERTIFICATE: &str = "certs/proxy.crt";
    pub(crate) const KEY: &str = "certs/proxy.key";
    /// Signs certificates for names below the proxy's.
    pub(crate) const NAMES_CA: &str = "certs/names-ca.crt";
    pub(crate) const NAMES_CA_KEY: &str = "certs/names-ca.key";
    pub(crate) const PROXY_CLIENT: &str = "certs/proxy-client.crt";
    pub(crate) const PROXY_CLIENT_KEY: &str = "certs/proxy-client.key";
    pub(crate) const CUSTODIAN: &str = "certs/custodian.crt";
    pub(crate) const CUSTODIAN_KEY: &str = "certs/custodian.key";
    pub(crate) const AUDITOR: &str = "certs/auditor.crt";
    pub(crate) const AUDITOR_KEY: &str = "certs/auditor.key";
    pub(crate) const STORAGE_SECRET: &str = "secrets/storage.key";
    pub(crate) const CLIENT_SECRET: &str = "secrets/client.key";
    pub(crate) const STORE: &str = "custodian/store.db";
    pub(crate) const AUDIT: &str = "custodian/audit";
    /// What checkpoints of the custodian's log are verified with.
    pub(crate) const AUDIT_KEY: &str = "custodian/audit.vkey";
    pub(crate) const ACCESS_LOG: &str = "access-log";
    pub(crate) const ACCESS_LOG_SEED: &str = "secrets/access-log.key";
    /// What checkpoints of the proxy's log are verified with.
    pub(crate) const ACCESS_LOG_KEY: &str = "access-log.vkey";

    /// Certificate and key of an officer.
    pub(crate) fn officer(name: &str) -> [String; 2] {
        ["crt", "key"].map(|ending| format!("certs/officer-{name}.{ending}"))
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let dir = &arguments.dir;
    let usage = |error: &dyn std::fmt::Display| Usage(error.to_string());
    let kek = KekName::new(&arguments.kek).map_err(|error| usage(&error))?;
    Endpoint::parse(&arguments.storage_url, false).map_err(|error| usage(&error))?;
    let domains = check_hosts(&arguments.hosts)?;
    check_hosts(std::slice::from_ref(&arguments.custodian_host))?;
    crate::names::WriterDomain::new(&format!("proxy/{}", arguments.region)).map_err(|error| usage(&error))?;
    let people = People::new(&arguments.trust_domain, &arguments.region, &arguments.officers)?;
    if arguments.issue_certificates && domains.is_empty() {
        return Err(
            Usage("--issue-certificates is for names below --host: give one that is a DNS name".to_owned()).into()
        );
    }
    let all = all_files(&people);
    refuse_to_overwrite(dir, &all, arguments.force)?;

    make_folders(dir)?;
    let issued_for = if arguments.issue_certificates { &domains[..] } else { &[] };
    let hosts = Hosts { proxy: &arguments.hosts, custodian: &arguments.custodian_host, issued_for };
    write_certificates(dir, &hosts, &people)?;
    let access_key = new_access_key()?;
    write_private(&dir.join(names::CLIENT_SECRET), new_secret()?.as_bytes())?;
    write_private(&dir.join(names::STORAGE_SECRET), b"")?;
    let access_log_origin = format!("claviger.example/proxy-{}", arguments.region);
    make_access_log_key(dir, &access_log_origin)?;
    let config = Shape {
        access_key: &access_key,
        kek: &kek,
        region: &arguments.region,
        access_log_origin: &access_log_origin,
        storage_url: &arguments.storage_url,
        domains: &domains,
        custodian_host: &arguments.custodian_host,
        trust_domain: &arguments.trust_domain,
        issues: arguments.issue_certificates,
    };
    write_public(&dir.join(names::CONFIG), config.to_text().as_bytes())?;
    write_public(&dir.join(names::CUSTODIAN_CONFIG), config.custodian_text().as_bytes())?;
    write_public(&dir.join(names::POLICY), POLICY_TEXT.as_bytes())?;
    println!("{}", what_next(arguments, &access_key, &kek, &people));
    Ok(())
}

/// The policy that a deployment begins with.
pub(super) const POLICY_TEXT: &str = include_str!("../../examples/policies/default.cedar");

/// Who gets a certificate with an id.
pub(super) struct People {
    custodian: SpiffeId,
    proxy: SpiffeId,
    auditor: SpiffeId,
    officers: Vec<SpiffeId>,
}

impl People {
    /// One custodian, one proxy, one auditor, and the named officers, or else the usual three.
    pub(super) fn new(domain: &str, region: &str, officers: &[String]) -> Result<Self> {
        let usual = OFFICERS.map(str::to_owned);
        let officers = if officers.is_empty() { &usual[..] } else { officers };
        if officers.len() > OFFICERS_MAX {
            return Err(Usage(format!("at most {OFFICERS_MAX} officers are made at once")).into());
        }
        let id = |role: &str, name: &str| {
            let text = format!("spiffe://{domain}/region/{region}/{role}/{name}");
            SpiffeId::parse(&text).map_err(|error| Usage(format!("{text:?} cannot stand in a certificate: {error}")))
        };
        let mut named: Vec<SpiffeId> = officers.iter().map(|name| id("officer", name)).collect::<Result<_, _>>()?;
        named.sort();
        named.dedup();
        let custodian = id("custodian", "custodian-1")?;
        Ok(Self { custodian, proxy: id("proxy", "proxy-1")?, auditor: id("auditor", "auditor-1")?, officers: named })
    }
}

/// By which names servers are reached.
pub(super) struct Hosts<'a> {
    pub(super) proxy: &'a [String],
    pub(super) custodian: &'a str,
    /// Domains that the proxy makes certificates for.
    pub(super) issued_for: &'a [String],
}

/// The DNS names among the hosts, below which buckets may be names of hosts too.
fn check_hosts(hosts: &[String]) -> Result<Vec<String>> {
    let mut domains = Vec::new();
    for host in hosts {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        if host.parse::<std::net::IpAddr>().is_ok() {
            continue;
        }
        let well_formed = host.bytes().all(legal) && !host.split('.').any(str::is_empty);
        if !well_formed {
            return Err(Usage(format!("{host:?} is neither an IP address nor a DNS name in lower case")).into());
        }
        domains.push(host.clone());
    }
    Ok(domains)
}

/// Every file that is written.
fn all_files(people: &People) -> Vec<String> {
    let fixed = [
        names::CONFIG,
        names::CUSTODIAN_CONFIG,
        names::POLICY,
        names::STORAGE_SECRET,
        names::CLIENT_SECRET,
        names::ACCESS_LOG_SEED,
        names::ACCESS_LOG_KEY,
    ];
    fixed.map(str::to_owned).into_iter().chain(certificate_files(people)).collect()
}

/// Every file that [`write_certificates`] may write.
pub(super) fn certificate_files(people: &People) -> Vec<String> {
    let fixed = [
        names::CA,
        names::CA_KEY,
        names::CLIENT_CA,
        names::CLIENT_CA_KEY,
        names::CERTIFICATE,
        names::KEY,
        names::NAMES_CA,
        names::NAMES_CA_KEY,
        names::PROXY_CLIENT,
        names::PROXY_CLIENT_KEY,
        names::CUSTODIAN,
        names::CUSTODIAN_KEY,
        names::AUDITOR,
        names::AUDITOR_KEY,
    ];
    let officers = people.officers.iter().flat_map(|officer| names::officer(officer.name()));
    fixed.map(str::to_owned).into_iter().chain(officers).collect()
}

fn refuse_to_overwrite(dir: &Path, files: &[String], force: bool) -> Result<()> {
    let occupied = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(error).with_context(|| format!("cannot look into {}", dir.display())),
    };
    if occupied && !force {
        let dir = dir.display();
        return Err(Usage(format!("{dir} is not empty: choose a new folder, or give --force to add to it")).into());
    }
    if let Some(there) = files.iter().map(|name| dir.join(name)).find(|path| path.exists()) {
        let there = there.display();
        return Err(Usage(format!("{there} exists and is never overwritten: choose another folder")).into());
    }
    Ok(())
}

pub(super) fn make_folders(dir: &Path) -> Result<()> {
    ["certs", "secrets", "custodian"].iter().try_for_each(|name| make_private_folder(&dir.join(name)))
}

/// Two CAs, and what they give servers and clients.
pub(super) fn write_certificates(dir: &Path, hosts: &Hosts<'_>, people: &People) -> Result<()> {
    let write = |certificate: &str, key: &str, issued: &Issued| {
        write_public(&dir.join(certificate), issued.certificate.as_bytes())?;
        write_private(&dir.join(key), issued.key.as_bytes())
    };
    let servers = Authority::new("server")?;
    write_public(&dir.join(names::CA), servers.certificate().as_bytes())?;
    write_private(&dir.join(names::CA_KEY), servers.key().as_bytes())?;
    write(names::CERTIFICATE, names::KEY, &servers.server("claviger proxy", hosts.proxy, true)?)?;
    if !hosts.issued_for.is_empty() {
        write(names::NAMES_CA, names::NAMES_CA_KEY, &servers.names(hosts.issued_for)?)?;
    }
    let custodian = servers.custodian(&people.custodian, &[hosts.custodian.to_owned()])?;
    write(names::CUSTODIAN, names::CUSTODIAN_KEY, &custodian)?;

    let clients = Authority::new("client")?;
    write_public(&dir.join(names::CLIENT_CA), clients.certificate().as_bytes())?;
    write_private(&dir.join(names::CLIENT_CA_KEY), clients.key().as_bytes())?;
    write(names::PROXY_CLIENT, names::PROXY_CLIENT_KEY, &clients.client(&people.proxy)?)?;
    write(names::AUDITOR, names::AUDITOR_KEY, &clients.client(&people.auditor)?)?;
    for officer in &people.officers {
        let [certificate, key] = names::officer(officer.name());
        write(&certificate, &key, &clients.client(officer)?)?;
    }
    Ok(())
}

/// The key that signs the log of record accesses, and beside it what others verify the log with.
pub(super) fn make_access_log_key(dir: &Path, origin: &str) -> Result<()> {
    let key = crypto::SigningKey::generate()?;
    let mut seed = Zeroizing::new(String::with_capacity(44));
    URL_SAFE_NO_PAD.encode_string(key.seed().expose(), &mut seed);
    seed.push('\n');
    write_private(&dir.join(names::ACCESS_LOG_SEED), seed.as_bytes())?;
    let verifier =
        VerifierKey::new(origin, Use::Log, *key.public()).context("the region is no part of a log's name")?;
    write_public(&dir.join(names::ACCESS_LOG_KEY), format!("{verifier}\n").as_bytes())
}

/// 32 random bytes as text, and a line feed.
pub(super) fn new_secret() -> Result<Zeroizing<String>> {
    let secret = crypto::random_secret::<32>()?;
    let mut text = Zeroizing::new(String::with_capacity(44));
    URL_SAFE_NO_PAD.encode_string(secret.expose(), &mut text);
    text.push('\n');
    Ok(text)
}

/// 20 letters and digits, as S3's own access keys have.
pub(super) fn new_access_key() -> Result<String> {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let letter = |byte: &u8| char::from(LETTERS[usize::from(byte % 32)]);
    Ok("CLAV".chars().chain(crypto::random_array::<16>()?.iter().map(letter)).collect())
}

fn what_next(arguments: &Arguments, access_key: &str, kek: &KekName, people: &People) -> String {
    let dir = &arguments.dir;
    let at = |name: &str| dir.join(name).display().to_string();
    let officers: Vec<&str> = people.officers.iter().map(SpiffeId::name).collect();
    let [officer, officer_key] = names::officer(officers.first().expect("at least one officer"));
    format!(
        "Wrote {config}, {custodian_config}, {policy}, certificates, keys and secrets.

The custodian, on a machine of its own in the trusted jurisdiction:
  1. Look through {custodian_config} and {policy}: who may do what, in Cedar.
  2. claviger policy check {policy}
  3. claviger custodian init --config {custodian_config}     # makes its store, and the shares that unseal it: hand them out
  4. claviger custodian --config {custodian_config}          # starts sealed
  5. As an officer, with these in the environment:
       export VAULT_ADDR=https://{custodian_host}:8200 VAULT_CACERT={ca} \\
         VAULT_CLIENT_CERT={officer} VAULT_CLIENT_KEY={officer_key}
       claviger unseal                                         # once for each share that is needed
       claviger key create {kek}
The proxy:
  6. Look through {config}: the address, the storage server, its access key.
  7. Write the storage server's secret key into {storage_secret}
  8. claviger check --config {config}
  9. claviger proxy --config {config}
Clients trust {ca}, and sign as {access_key} with the secret in {client_secret}

Then give each officer ({officer_names}) and the auditor their certificate and key, and keep none of the keys here.
Move {ca_key} and {client_ca_key} off this machine: whoever has them can pass for the custodian, a proxy or an officer.",
        config = at(names::CONFIG),
        custodian_config = at(names::CUSTODIAN_CONFIG),
        policy = at(names::POLICY),
        custodian_host = arguments.custodian_host,
        ca = at(names::CA),
        officer = at(&officer),
        officer_key = at(&officer_key),
        officer_names = officers.join(", "),
        storage_secret = at(names::STORAGE_SECRET),
        client_secret = at(names::CLIENT_SECRET),
        ca_key = at(names::CA_KEY),
        client_ca_key = at(names::CLIENT_CA_KEY),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::{self, custodian_server};

    fn arguments(dir: &Path) -> Arguments {
        Arguments {
            dir: dir.to_owned(),
            hosts: vec!["s3.example.org".to_owned(), "10.0.0.7".to_owned()],
            custodian_host: "custodian.example.org".to_owned(),
            storage_url: "https://s3.virginia.example.org".to_owned(),
            kek: "records".to_owned(),
            region: "us".to_owned(),
            trust_domain: "example.org".to_owned(),
            officers: Vec::new(),
            issue_certificates: false,
            force: false,
        }
    }

    #[test]
    fn what_it_writes_lacks_only_the_storage_secret() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("new");
        run(&arguments(&dir)).expect("writes");
        let file = dir.join(names::CONFIG);
        let problems = config::load(&file).expect_err("the storage secret is missing");
        let keys: Vec<_> = problems.list.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["storage.secret_key_file"], "{problems}");

        std::fs::write(dir.join(names::STORAGE_SECRET), "the-storage-secret\n").expect("writes");
        let config = config::load(&file).expect("right");
        assert_eq!(config.proxy.domains, ["s3.example.org"]);
        let audit = config.audit.as_ref().expect("accesses are logged");
        let verifier = VerifierKey::new(&audit.origin, Use::Log, *audit.key.public()).expect("a name").to_string();
        assert_eq!(std::fs::read_to_string(dir.join(names::ACCESS_LOG_KEY)).expect("reads").trim_end(), verifier);
        assert_eq!(config.proxy.writer.as_str(), "proxy/us");
        assert!(config.custodian.watch);

        let custodian = custodian_server::load(&dir.join(names::CUSTODIAN_CONFIG)).expect("right");
        let id = custodian.server.identity.as_str();
        assert_eq!(id, "spiffe://example.org/region/us/custodian/custodian-1");
    }

    #[test]
    fn a_proxy_that_issues_certificates_gets_a_ca_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("new");
        let issuing = Arguments { issue_certificates: true, ..arguments(&dir) };
        run(&issuing).expect("writes");
        std::fs::write(dir.join(names::STORAGE_SECRET), "the-storage-secret\n").expect("writes");
        config::load(&dir.join(names::CONFIG)).expect("right");
        let nameless = Arguments { hosts: vec!["10.0.0.7".to_owned()], dir: folder.path().join("other"), ..issuing };
        assert!(run(&nameless).is_err_and(|error| error.is::<Usage>()));
    }

    #[test]
    fn secrets_are_for_their_owner_alone_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path();
        std::fs::write(dir.join("other"), "x").expect("writes");
        assert!(run(&arguments(dir)).is_err(), "not empty");
        let forced = Arguments { force: true, ..arguments(dir) };
        run(&forced).expect("writes");
        let [_, officer_key] = names::officer("carol");
        let secret = [
            names::CA_KEY,
            names::CLIENT_CA_KEY,
            names::KEY,
            names::PROXY_CLIENT_KEY,
            names::CUSTODIAN_KEY,
            names::AUDITOR_KEY,
            names::STORAGE_SECRET,
            names::CLIENT_SECRET,
            names::ACCESS_LOG_SEED,
            &officer_key,
        ];
        for name in secret {
            let mode = std::fs::metadata(dir.join(name)).expect(name).permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let before = std::fs::read(dir.join(names::CLIENT_SECRET)).expect("reads");
        assert!(run(&forced).is_err(), "files exist");
        assert_eq!(std::fs::read(dir.join(names::CLIENT_SECRET)).expect("reads"), before);
    }

    #[test]
    fn names_that_cannot_stand_in_a_certificate_are_refused_before_anything_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("new");
        let bad = [
            Arguments { officers: vec!["al ice".to_owned()], ..arguments(&dir) },
            Arguments { trust_domain: "example.org/x".to_owned(), ..arguments(&dir) },
            Arguments { custodian_host: "https://x".to_owned(), ..arguments(&dir) },
            Arguments { region: "u/s".to_owned(), ..arguments(&dir) },
        ];
        for arguments in bad {
            assert!(run(&arguments).is_err_and(|error| error.is::<Usage>()));
            assert!(!dir.exists());
        }
    }

    #[test]
    fn two_deployments_share_no_secret() {
        let secrets = [new_secret(), new_secret()].map(|secret| secret.expect("random"));
        assert!(secrets[0] != secrets[1] && secrets[0].len() == 44);
        assert_ne!(new_access_key().expect("random"), new_access_key().expect("random"));
    }

    #[test]
    fn hosts_that_are_no_names_are_refused() {
        for bad in ["S3.example.org", "a..b", "a b", "https://x", "x:8443", ""] {
            assert!(check_hosts(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}

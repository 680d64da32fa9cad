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
use super::files::{make_private_folder, write_private, write_public};
use super::{Usage, certificates, wiring};
use crate::crypto;
use crate::custodian::audit::{AuditLog, FileSink};
use crate::custodian::authorise::EveryoneInProcess;
use crate::custodian::engine::Engine;
use crate::custodian::passphrase::Passphrase;
use crate::custodian::seal::{ITERATIONS_DEFAULT, Unsealed};
use crate::names::KekName;
use crate::storage::Endpoint;
use crate::tlog::note::{Use, VerifierKey};

#[derive(Args)]
pub(super) struct Arguments {
    /// The folder to write into; it is made if it is not there
    dir: PathBuf,
    /// A name or address by which clients reach the proxy; give it several times for several
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// The storage server
    #[arg(long, value_name = "URL", default_value = "https://s3.example.org")]
    storage_url: String,
    /// The KEK to make and to encrypt every bucket under
    #[arg(long, value_name = "NAME", default_value = "records")]
    kek: String,
    /// The region of this proxy, as key contexts and policies name it
    #[arg(long, value_name = "NAME", default_value = "home")]
    region: String,
    /// Write into a folder that has other files in it. Existing files are kept and make it fail all the same
    #[arg(long)]
    force: bool,
}

/// The files of a deployment, relative to its folder.
pub(super) mod names {
    pub(crate) const CONFIG: &str = "proxy.toml";
    pub(crate) const CA: &str = "certs/ca.crt";
    pub(crate) const CA_KEY: &str = "certs/ca.key";
    pub(crate) const CERTIFICATE: &str = "certs/proxy.crt";
    pub(crate) const KEY: &str = "certs/proxy.key";
    pub(crate) const STORAGE_SECRET: &str = "secrets/storage.key";
    pub(crate) const CLIENT_SECRET: &str = "secrets/client.key";
    pub(crate) const ACCESS_LOG_SEED: &str = "secrets/access-log.key";
    pub(crate) const ACCESS_LOG_KEY: &str = "access-log.vkey";
    pub(crate) const ACCESS_LOG: &str = "access-log";
    pub(crate) const KEYRING: &str = "custodian/keyring";
    pub(crate) const PASSPHRASE: &str = "custodian/passphrase";
    pub(crate) const AUDIT: &str = "custodian/audit.jsonl";
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let dir = &arguments.dir;
    let usage = |error: &dyn std::fmt::Display| Usage(error.to_string());
    let kek = KekName::new(&arguments.kek).map_err(|error| usage(&error))?;
    Endpoint::parse(&arguments.storage_url, false).map_err(|error| usage(&error))?;
    let domains = check_hosts(&arguments.hosts)?;
    crate::names::WriterDomain::new(&format!("proxy/{}", arguments.region)).map_err(|error| usage(&error))?;
    refuse_to_overwrite(dir, arguments.force)?;

    make_folders(dir)?;
    write_certificates(dir, &arguments.hosts)?;
    let access_key = new_access_key()?;
    write_private(&dir.join(names::CLIENT_SECRET), new_secret()?.as_bytes())?;
    write_private(&dir.join(names::STORAGE_SECRET), b"")?;
    make_custodian(dir, &kek, ITERATIONS_DEFAULT)?;
    let access_log_origin = format!("claviger.example/proxy-{}", arguments.region);
    make_access_log_key(dir, &access_log_origin)?;
    let config = Shape {
        access_key: &access_key,
        kek: &kek,
        region: &arguments.region,
        access_log_origin: &access_log_origin,
        storage_url: &arguments.storage_url,
        domains: &domains,
    };
    write_public(&dir.join(names::CONFIG), config.to_text().as_bytes())?;
    println!("{}", what_next(dir, &access_key));
    Ok(())
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

fn refuse_to_overwrite(dir: &Path, force: bool) -> Result<()> {
    let occupied = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(error).with_context(|| format!("cannot look into {}", dir.display())),
    };
    if occupied && !force {
        let dir = dir.display();
        return Err(Usage(format!("{dir} is not empty: choose a new folder, or give --force to add to it")).into());
    }
    let all = [
        names::CONFIG,
        names::CA,
        names::CA_KEY,
        names::CERTIFICATE,
        names::KEY,
        names::STORAGE_SECRET,
        names::CLIENT_SECRET,
        names::ACCESS_LOG_SEED,
        names::ACCESS_LOG_KEY,
        names::KEYRING,
        names::PASSPHRASE,
    ];
    if let Some(there) = all.iter().map(|name| dir.join(name)).find(|path| path.exists()) {
        let there = there.display();
        return Err(Usage(format!("{there} exists and is never overwritten: choose another folder")).into());
    }
    Ok(())
}

pub(super) fn make_folders(dir: &Path) -> Result<()> {
    ["certs", "secrets", "custodian"].iter().try_for_each(|name| make_private_folder(&dir.join(name)))
}

pub(super) fn write_certificates(dir: &Path, hosts: &[String]) -> Result<()> {
    let issued = certificates::issue(hosts)?;
    write_public(&dir.join(names::CA), issued.ca.as_bytes())?;
    write_private(&dir.join(names::CA_KEY), issued.ca_key.as_bytes())?;
    write_public(&dir.join(names::CERTIFICATE), issued.certificate.as_bytes())?;
    write_private(&dir.join(names::KEY), issued.key.as_bytes())
}

/// The passphrase, and a key store with one KEK that it opens.
pub(super) fn make_custodian(dir: &Path, kek: &KekName, iterations: u32) -> Result<()> {
    let text = new_secret()?;
    write_private(&dir.join(names::PASSPHRASE), text.as_bytes())?;
    let passphrase = Passphrase::from_file(&dir.join(names::PASSPHRASE))?;
    let unsealed = Unsealed::create(&dir.join(names::KEYRING), &passphrase, iterations)?;
    let audit = AuditLog::new(FileSink::open(&dir.join(names::AUDIT))?);
    Engine::new(unsealed, EveryoneInProcess, audit).create(kek, &wiring::itself()).context("cannot make the KEK")?;
    Ok(())
}

/// The key that signs the log of record accesses, and beside it what others verify the log with.
fn make_access_log_key(dir: &Path, origin: &str) -> Result<()> {
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

fn what_next(dir: &Path, access_key: &str) -> String {
    let at = |name: &str| dir.join(name).display().to_string();
    format!(
        "Wrote {config}, certificates, keys and secrets.

Next:
  1. Look through {config}: the address, the storage server, its access key.
  2. Write the storage server's secret key into {storage_secret}
  3. claviger check --config {config}
  4. claviger proxy --config {config}
Clients trust {ca}, and sign as {access_key} with the secret in {client_secret}

Then move {ca_key} off this machine: whoever has it can pass for the proxy.
Keep copies of {keyring} and {passphrase}, apart from each other: without both, no record opens.",
        config = at(names::CONFIG),
        storage_secret = at(names::STORAGE_SECRET),
        ca = at(names::CA),
        client_secret = at(names::CLIENT_SECRET),
        ca_key = at(names::CA_KEY),
        keyring = at(names::KEYRING),
        passphrase = at(names::PASSPHRASE),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config;

    fn arguments(dir: &Path) -> Arguments {
        Arguments {
            dir: dir.to_owned(),
            hosts: vec!["s3.example.org".to_owned(), "10.0.0.7".to_owned()],
            storage_url: "https://s3.virginia.example.org".to_owned(),
            kek: "records".to_owned(),
            region: "us".to_owned(),
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
        wiring::check_custodian(&config).expect("the KEK is there");

        let text = std::fs::read_to_string(&file).expect("reads");
        std::fs::write(&file, text.replace("kek = \"records\"\n", "kek = \"other\"\n")).expect("writes");
        let config = config::load(&file).expect("well-formed");
        let problems = wiring::check_custodian(&config).expect_err("no such KEK").to_string();
        assert!(
            problems.contains("[default_bucket.kek] the custodian has no KEK of this name; it has: records"),
            "{problems}"
        );
    }

    #[test]
    fn secrets_are_for_their_owner_alone_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path();
        std::fs::write(dir.join("other"), "x").expect("writes");
        assert!(run(&arguments(dir)).is_err(), "not empty");
        let forced = Arguments { force: true, ..arguments(dir) };
        run(&forced).expect("writes");
        let secret = [
            names::CA_KEY,
            names::KEY,
            names::STORAGE_SECRET,
            names::CLIENT_SECRET,
            names::ACCESS_LOG_SEED,
            names::KEYRING,
            names::PASSPHRASE,
            names::AUDIT,
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

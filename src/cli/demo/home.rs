//! The demo's folder: certificates, keys, configuration, and the environment for clients.
//!
//! **Invariant:** `env.sh` is there only while the demo that wrote it is ready, or after it ended.

use std::fs::{File, OpenOptions, TryLockError};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::cli::files::{make_private_folder, replace_private, shell_quoted, write_private};
use crate::cli::init::{self, names};
use crate::custodian::seal::ITERATIONS_DEFAULT;
use crate::names::KekName;
use crate::secret::SecretBytes;

/// The application's access key.
pub(super) const CLIENT_ACCESS_KEY: &str = "CLAVIGERDEMOCLIENT";
/// The access key of the embedded storage server.
pub(super) const STORAGE_ACCESS_KEY: &str = "CLAVIGERDEMOSTORAGE";
/// The KEK of every bucket.
const KEK: &str = "demo";
/// How a configuration of ours begins.
const OURS: &str = "# Written anew by each `claviger demo` in this folder.";
/// The names in the certificate.
const HOSTS: &str = "certs/hosts";
const ENVIRONMENT: &str = "env.sh";

/// The folder of one demo at a time.
pub(super) struct Home {
    dir: PathBuf,
    /// Held as long as this exists.
    _lock: File,
    /// Removed with all that is in it when this is dropped.
    temporary: Option<TempDir>,
}

/// Who holds the KEK.
pub(super) enum CustodianAccess {
    /// One in this process, with its files in the folder.
    Embedded,
    /// One on the network that speaks Transit, where the KEK exists.
    Transit { url: String, ca_file: Option<PathBuf>, token_file: PathBuf },
}

/// How the storage server is reached.
pub(super) struct StorageAccess {
    pub(super) url: String,
    pub(super) region: String,
    pub(super) access_key: String,
    pub(super) secret_file: PathBuf,
}

impl Home {
    /// Takes `dir`, or a fresh temporary folder. What an earlier demo said in `env.sh` no longer holds and is removed.
    pub(super) fn open(dir: Option<&Path>) -> Result<Self> {
        let temporary = match dir {
            Some(_) => None,
            None => {
                let made = tempfile::Builder::new().prefix("claviger-demo-").tempdir();
                Some(made.context("cannot make a temporary folder")?)
            }
        };
        let dir = dir.or(temporary.as_ref().map(TempDir::path)).unwrap_or(Path::new("."));
        make_private_folder(dir)?;
        let dir = dir.canonicalize().with_context(|| format!("cannot use {}", dir.display()))?;
        refuse_others(&dir)?;
        let lock = lock(&dir)?;
        match std::fs::remove_file(dir.join(ENVIRONMENT)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context("cannot remove the env.sh of an earlier demo");
            }
            _ => {}
        }
        Ok(Self { dir, _lock: lock, temporary })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    pub(super) fn environment_file(&self) -> PathBuf {
        self.path(ENVIRONMENT)
    }

    /// Makes the certificates and secrets that are not there yet.
    pub(super) fn furnish(&self, address: IpAddr) -> Result<()> {
        init::make_folders(&self.dir)?;
        self.certificates(address)?;
        let secret = self.path(names::CLIENT_SECRET);
        if !secret.exists() {
            write_private(&secret, init::new_secret()?.as_bytes())?;
        }
        Ok(())
    }

    /// Makes the embedded custodian's files if they are not there yet.
    pub(super) fn own_custodian(&self) -> Result<()> {
        if !self.path(names::KEYRING).exists() {
            // Left behind by a run that did not come to the key store: it opens nothing.
            self.remove(&[names::PASSPHRASE])?;
            let kek = KekName::new(KEK).expect("a legal KEK name");
            init::make_custodian(&self.dir, &kek, ITERATIONS_DEFAULT)?;
        }
        Ok(())
    }

    /// The file of hosts is written last: if it is there and right, so are the others.
    fn certificates(&self, address: IpAddr) -> Result<()> {
        let hosts = if address.is_loopback() { Vec::new() } else { vec![address.to_string()] };
        let listed = format!("localhost {}\n", hosts.join(" "));
        if std::fs::read_to_string(self.path(HOSTS)).is_ok_and(|found| found == listed) {
            return Ok(());
        }
        self.remove(&[names::CA, names::CA_KEY, names::CERTIFICATE, names::KEY])?;
        init::write_certificates(&self.dir, &hosts)?;
        replace_private(&self.path(HOSTS), listed.as_bytes())
    }

    fn remove(&self, files: &[&str]) -> Result<()> {
        for path in files.iter().map(|name| self.path(name)).filter(|path| path.exists()) {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    /// The secret of the embedded storage server.
    pub(super) fn own_storage_secret(&self) -> Result<PathBuf> {
        let path = self.path(names::STORAGE_SECRET);
        if !path.exists() {
            write_private(&path, init::new_secret()?.as_bytes())?;
        }
        Ok(path)
    }

    /// Where the embedded storage server keeps what it is given.
    pub(super) fn storage_folder(&self) -> Result<PathBuf> {
        let path = self.path("storage");
        make_private_folder(&path)?;
        Ok(path)
    }

    /// Writes the proxy's configuration and returns its path.
    pub(super) fn write_config(
        &self,
        address: SocketAddr,
        storage: &StorageAccess,
        custodian: &CustodianAccess,
    ) -> Result<PathBuf> {
        let path = self.path(names::CONFIG);
        replace_private(&path, configuration(address, storage, custodian).as_bytes())?;
        Ok(path)
    }

    /// Writes what clients, and whoever wants to look as the operator, set in their environment.
    pub(super) fn write_environment(&self, address: SocketAddr, storage: &StorageAccess) -> Result<()> {
        let secret = |path: &Path| {
            let text = Zeroizing::new(read_secret(path)?.expose().to_vec());
            anyhow::Ok(Zeroizing::new(String::from_utf8_lossy(&text).into_owned()))
        };
        let (client, operator) = (secret(&self.path(names::CLIENT_SECRET))?, secret(&storage.secret_file)?);
        let (ca, config) = (self.path(names::CA), self.path(names::CONFIG));
        let exports = [
            ("AWS_ENDPOINT_URL", format!("https://{address}").as_str()),
            ("AWS_CA_BUNDLE", &ca.to_string_lossy()),
            ("AWS_ACCESS_KEY_ID", CLIENT_ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", &client),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("CLAVIGER_STORAGE_URL", &storage.url),
            ("CLAVIGER_STORAGE_ACCESS_KEY", &storage.access_key),
            ("CLAVIGER_STORAGE_SECRET_KEY", &operator),
            ("CLAVIGER_CONFIG", &config.to_string_lossy()),
        ]
        .map(|(name, value)| format!("export {name}={}\n", shell_quoted(value)));
        let note = "# For clients of the demo, and (CLAVIGER_STORAGE_…) to look as the storage operator would.\n";
        let text = Zeroizing::new(format!("{note}{}", exports.concat()));
        replace_private(&self.environment_file(), text.as_bytes())
    }
}

/// A folder with another configuration is a deployment's, and not for demonstrations.
fn refuse_others(dir: &Path) -> Result<()> {
    let path = dir.join(names::CONFIG);
    match std::fs::read(&path) {
        Ok(text) if !text.starts_with(OURS.as_bytes()) => {
            bail!("{} was not written by a demo, and is not overwritten; choose another folder", path.display())
        }
        _ => Ok(()),
    }
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(".lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another demo runs in {}", dir.display()),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

pub(super) fn read_secret(path: &Path) -> Result<SecretBytes> {
    let read = || anyhow::Ok(SecretBytes::new_trimmed(std::fs::read(path)?)?);
    read().with_context(|| format!("cannot read the secret in {}", path.display()))
}

impl CustodianAccess {
    /// As the lines of `[custodian]`.
    fn to_text(&self) -> String {
        match self {
            Self::Embedded => format!(
                "kind = \"embedded\"\nkeyring_file = \"{}\"\npassphrase_file = \"{}\"\naudit_file = \"{}\"",
                names::KEYRING,
                names::PASSPHRASE,
                names::AUDIT
            ),
            Self::Transit { url, ca_file, token_file } => {
                let ca_file = ca_file.as_ref().map(|path| format!("ca_file = {}\n", text(&path.to_string_lossy())));
                format!(
                    "kind = \"transit\"\nurls = [{}]\n{}token_file = {}",
                    text(url),
                    ca_file.unwrap_or_default(),
                    text(&token_file.to_string_lossy())
                )
            }
        }
    }
}

/// As a value in TOML.
fn text(value: &str) -> String {
    toml::Value::from(value).to_string()
}

fn configuration(address: SocketAddr, storage: &StorageAccess, custodian: &CustodianAccess) -> String {
    format!(
        r#"{OURS}
# A deployment's configuration is written by `claviger init`.

[proxy]
listen = "{address}"
region = "demo"
certificate_file = "{certificate}"
key_file = "{key}"
drain_s = 5

[storage]
url = {url}
region = {region}
access_key = {access_key}
secret_key_file = {secret_file}

[custodian]
{custodian}

[default_bucket]
kek = "{KEK}"

[[client]]
access_key = "{CLIENT_ACCESS_KEY}"
secret_key_file = "{client_secret}"
principal = "demo-application"
reason = "customer-initiated"

[[client.grant]]
buckets = ["*"]
access = ["read", "write", "delete", "list", "bucket", "configure"]
"#,
        certificate = names::CERTIFICATE,
        key = names::KEY,
        url = text(&storage.url),
        region = text(&storage.region),
        access_key = text(&storage.access_key),
        secret_file = text(&storage.secret_file.to_string_lossy()),
        custodian = custodian.to_text(),
        client_secret = names::CLIENT_SECRET,
    )
}

#[cfg(test)]
mod tests;

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
use crate::cli::init::{self, Hosts, People, names};
use crate::secret::SecretBytes;

/// The application's access key.
pub(super) const CLIENT_ACCESS_KEY: &str = "CLAVIGERDEMOCLIENT";
/// The access key of the embedded storage server.
pub(super) const STORAGE_ACCESS_KEY: &str = "CLAVIGERDEMOSTORAGE";
/// The KEK of every bucket.
pub(super) const KEK: &str = "demo";
/// How a configuration of ours begins.
const OURS: &str = "# Written anew by each `claviger demo` in this folder.";
/// The names in the certificate.
const HOSTS: &str = "certs/hosts";
/// What opens the seal of the demo's own custodian.
const PASSPHRASE: &str = "custodian/passphrase";
const TRUST_DOMAIN: &str = "demo.claviger.internal";
const REGION: &str = "us";
const ACCESS_LOG_ORIGIN: &str = "claviger.example/demo-proxy";
const ENVIRONMENT: &str = "env.sh";

/// The folder of one demo at a time.
pub(super) struct Home {
    dir: PathBuf,
    /// Held as long as this exists.
    _lock: File,
    /// Removed with all that is in it when this is dropped.
    temporary: Option<TempDir>,
}

/// How the custodian is reached, where the KEK is.
pub(super) struct CustodianAccess {
    pub(super) url: String,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) token_file: Option<PathBuf>,
    /// The client's certificate and its key.
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
    pub(super) login_mount: Option<String>,
    /// Whether it is the demo's own.
    pub(super) own: bool,
    /// Where its metrics are shown, if it is.
    pub(super) metrics: Option<SocketAddr>,
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
        // Written last of the two.
        if !self.path(names::ACCESS_LOG_KEY).exists() {
            self.remove(&[names::ACCESS_LOG_SEED.to_owned()])?;
            init::make_access_log_key(&self.dir, ACCESS_LOG_ORIGIN)?;
        }
        Ok(())
    }

    /// Writes the configuration of a custodian at `address`, which shows its metrics at `metrics`, and what it needs besides. It makes
    /// its store itself.
    pub(super) fn own_custodian(&self, address: SocketAddr, metrics: SocketAddr) -> Result<CustodianAccess> {
        if !self.path(names::STORE).exists() {
            // Left behind by a run that did not come to the store: it opens nothing.
            self.remove(&[PASSPHRASE.to_owned()])?;
            write_private(&self.path(PASSPHRASE), init::new_secret()?.as_bytes())?;
        }
        if !self.path(names::POLICY).exists() {
            replace_private(&self.path(names::POLICY), init::POLICY_TEXT.as_bytes())?;
        }
        replace_private(&self.path(names::CUSTODIAN_CONFIG), custodian_configuration(address, metrics).as_bytes())?;
        Ok(CustodianAccess {
            url: format!("https://{address}"),
            ca_file: Some(self.path(names::CA)),
            token_file: None,
            certificate: Some((self.path(names::PROXY_CLIENT), self.path(names::PROXY_CLIENT_KEY))),
            login_mount: None,
            own: true,
            metrics: Some(metrics),
        })
    }

    /// Certificate and key of the officer whom commands speak for.
    pub(super) fn officer(&self) -> [String; 2] {
        names::officer(init::OFFICERS[0])
    }

    /// The file of hosts is written last: if it is there and right, so are the others.
    fn certificates(&self, address: IpAddr) -> Result<()> {
        let hosts = if address.is_loopback() { Vec::new() } else { vec![address.to_string()] };
        let listed = format!("localhost {}\n", hosts.join(" "));
        if std::fs::read_to_string(self.path(HOSTS)).is_ok_and(|found| found == listed) {
            return Ok(());
        }
        let people = People::new(TRUST_DOMAIN, REGION, &[])?;
        self.remove(&init::certificate_files(&people))?;
        init::write_certificates(
            &self.dir,
            &Hosts { proxy: &hosts, custodian: "localhost", issued_for: &[] },
            &people,
        )?;
        replace_private(&self.path(HOSTS), listed.as_bytes())
    }

    fn remove(&self, files: &[String]) -> Result<()> {
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

    /// Writes the configuration of a proxy at `address`, which shows its metrics at `metrics`, and returns its path.
    pub(super) fn write_config(
        &self,
        [address, metrics]: [SocketAddr; 2],
        storage: &StorageAccess,
        custodian: &CustodianAccess,
    ) -> Result<PathBuf> {
        let path = self.path(names::CONFIG);
        replace_private(&path, configuration([address, metrics], storage, custodian).as_bytes())?;
        Ok(path)
    }

    /// Writes what clients, officers, and whoever wants to look as the storage operator set in their environment.
    pub(super) fn write_environment(
        &self,
        [address, metrics]: [SocketAddr; 2],
        storage: &StorageAccess,
        custodian: &CustodianAccess,
    ) -> Result<()> {
        let secret = |path: &Path| {
            let text = Zeroizing::new(read_secret(path)?.expose().to_vec());
            anyhow::Ok(Zeroizing::new(String::from_utf8_lossy(&text).into_owned()))
        };
        let (client, operator) = (secret(&self.path(names::CLIENT_SECRET))?, secret(&storage.secret_file)?);
        let export = |name: &str, value: &str| Zeroizing::new(format!("export {name}={}\n", shell_quoted(value)));
        let export_path = |name: &str, path: &Path| export(name, &path.to_string_lossy());
        let mut exports = vec![
            export("AWS_ENDPOINT_URL", &format!("https://{address}")),
            export_path("AWS_CA_BUNDLE", &self.path(names::CA)),
            export("AWS_ACCESS_KEY_ID", CLIENT_ACCESS_KEY),
            export("AWS_SECRET_ACCESS_KEY", &client),
            export("AWS_DEFAULT_REGION", "us-east-1"),
            export("CLAVIGER_STORAGE_URL", &storage.url),
            export("CLAVIGER_STORAGE_ACCESS_KEY", &storage.access_key),
            export("CLAVIGER_STORAGE_SECRET_KEY", &operator),
            export_path("CLAVIGER_CONFIG", &self.path(names::CONFIG)),
            export("VAULT_ADDR", &custodian.url),
            export("CLAVIGER_METRICS_URL", &metrics_url(metrics)),
        ];
        exports
            .extend(custodian.metrics.map(|address| export("CLAVIGER_CUSTODIAN_METRICS_URL", &metrics_url(address))));
        exports.extend(custodian.ca_file.iter().map(|path| export_path("VAULT_CACERT", path)));
        exports.extend(custodian.token_file.iter().map(|path| export_path("CLAVIGER_TOKEN_FILE", path)));
        let certificate = match &custodian.certificate {
            // As an officer: the proxy itself may not administer keys.
            Some(_) if custodian.own => Some(self.officer().map(|name| self.path(&name))),
            other => other.clone().map(|(certificate, key)| [certificate, key]),
        };
        if let Some([certificate, key]) = certificate {
            exports.extend([export_path("VAULT_CLIENT_CERT", &certificate), export_path("VAULT_CLIENT_KEY", &key)]);
        }
        if custodian.own {
            let log = self.path(names::AUDIT);
            exports.extend([
                export_path("CLAVIGER_AUDIT_LOG", &log),
                export_path("CLAVIGER_AUDIT_KEY", &self.path(names::AUDIT_KEY)),
            ]);
        }
        let note =
            "# For clients and officers of the demo, and (CLAVIGER_STORAGE_…) to look as the storage operator would.\n";
        // With room enough from the start, no copy of the secrets is left behind by growing.
        let room = note.len() + exports.iter().map(|export| export.len()).sum::<usize>();
        let mut text = Zeroizing::new(String::with_capacity(room));
        text.push_str(note);
        exports.iter().for_each(|export| text.push_str(export));
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
        let path = |path: &Path| text(&path.to_string_lossy());
        let mut lines = vec!["kind = \"transit\"".to_owned(), format!("urls = [{}]", text(&self.url))];
        lines.extend(self.ca_file.iter().map(|file| format!("ca_file = {}", path(file))));
        lines.extend(self.token_file.iter().map(|file| format!("token_file = {}", path(file))));
        if let Some((certificate, key)) = &self.certificate {
            lines.push(format!("certificate_file = {}\nkey_file = {}", path(certificate), path(key)));
        }
        lines.extend(self.login_mount.iter().map(|mount| format!("login_mount = {}", text(mount))));
        if self.own {
            lines.push("watch = true".to_owned());
        }
        lines.join("\n")
    }
}

fn metrics_url(address: SocketAddr) -> String {
    format!("http://{address}/metrics")
}

/// As a value in TOML.
fn text(value: &str) -> String {
    toml::Value::from(value).to_string()
}

fn configuration([address, metrics]: [SocketAddr; 2], storage: &StorageAccess, custodian: &CustodianAccess) -> String {
    format!(
        r#"{OURS}
# A deployment's configuration is written by `claviger init`.

[proxy]
listen = "{address}"
region = "{REGION}"
certificate_file = "{certificate}"
key_file = "{key}"
drain_s = 5

[metrics]
listen = "{metrics}"

[storage]
url = {url}
region = {region}
access_key = {access_key}
secret_key_file = {secret_file}

[custodian]
{custodian}

[audit]
folder = "{access_log}"
key_file = "{access_log_seed}"
origin = "{ACCESS_LOG_ORIGIN}"

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
        access_log = names::ACCESS_LOG,
        access_log_seed = names::ACCESS_LOG_SEED,
    )
}

fn custodian_configuration(address: SocketAddr, metrics: SocketAddr) -> String {
    format!(
        r#"{OURS}
# A deployment's configuration is written by `claviger init`.

[custodian]
listen = "{address}"
instance = "demo"
certificate_file = "{certificate}"
key_file = "{key}"
client_ca_file = "{client_ca}"
default_jurisdiction = "{REGION}"

[metrics]
listen = "{metrics}"

[store]
kind = "sqlite"
file = "{store}"

# It opens the store by itself, and lies beside it: right for a demonstration only.
[[seal]]
kind = "passphrase"
passphrase_file = "{PASSPHRASE}"

[audit]
folder = "{audit}"
origin = "claviger.example/demo-custodian"

[policy]
file = "{policy}"

[approvals]
required = 2
grants_required = 1

# For looking only: waits of hours and days are seconds here. Never set these where keys matter: use destroy_wait_days = 30.
[keys]
insecure_retire_wait_s = 2
insecure_destroy_wait_s = 2

[log]
filter = "warn"
"#,
        certificate = names::CUSTODIAN,
        key = names::CUSTODIAN_KEY,
        client_ca = names::CLIENT_CA,
        store = names::STORE,
        audit = names::AUDIT,
        policy = names::POLICY,
    )
}

#[cfg(test)]
mod tests;

//! The configuration of the custodian's server: where it listens and who it is, its store, seals, audit log and policy.

mod keys;
mod seals;
mod store;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::files;
use super::problem::{Mistake, Problems};
use super::section::{Section, Text, if_sound};
use super::traces;
use crate::custodian::audit::AuditSettings;
use crate::custodian::engine::POLICY_LEN_MAX;
use crate::custodian::identity::{self, SpiffeId};
use crate::custodian::kek::Labels;
use crate::custodian::policy::Policy;
use crate::net::tls::{self, IdentityFiles, TlsError};
use crate::telemetry::LogFormat;
use crate::telemetry::traces::TraceSettings;
use crate::tlog::note::{Use, VerifierKey};

pub use keys::KeysSection;
pub(super) use keys::site;
pub use seals::{RemoteSeal, SealSection};
pub use store::StoreSection;

/// The files that the TLS side is made of. They may be replaced while the server runs.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// The server's own certificate and key.
    pub identity: IdentityFiles,
    /// Whose certificates clients show.
    pub client_ca: PathBuf,
    /// Which of those are revoked.
    pub client_crl: Option<PathBuf>,
}

impl ServerTls {
    /// The configuration that the files make now.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        tls::mutual_server_config(&self.identity, &self.client_ca, self.client_crl.as_deref())
    }
}

/// `[custodian]`.
pub struct ServerSection {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The name of this custodian among those that share a store.
    pub instance: String,
    /// The custodian's own id.
    pub identity: SpiffeId,
    /// Certificates.
    pub tls: ServerTls,
    /// Their configuration as it was when the file was read.
    pub tls_config: Arc<ServerConfig>,
    /// The labels of KEKs that are made without any.
    pub default_labels: Labels,
    /// How long running requests may go on after the shutdown began.
    pub drain: Duration,
    /// Connections at a time.
    pub max_connections: usize,
    /// Requests at a time.
    pub max_requests: usize,
    /// Watches at a time.
    pub max_watches: usize,
}

/// `[audit]`.
pub struct AuditSection {
    /// Where it is written, and as whom.
    pub settings: AuditSettings,
    /// Who may cosign its checkpoints.
    pub witnesses: Vec<VerifierKey>,
}

/// `[approvals]`.
#[derive(Debug, Clone, Copy)]
pub struct ApprovalsSection {
    /// Officers for a gated change.
    pub required: u8,
    /// Officers for an access grant.
    pub grants_required: u8,
}

/// A checked configuration of the custodian's server.
pub struct CustodianConfig {
    /// The file.
    pub file: PathBuf,
    /// The listening side.
    pub server: ServerSection,
    /// The store.
    pub store: StoreSection,
    /// One or two seals.
    pub seals: Vec<SealSection>,
    /// The audit log.
    pub audit: AuditSection,
    /// The policy file.
    pub policy_file: PathBuf,
    /// What was in it.
    pub policy: String,
    /// How many people it takes.
    pub approvals: ApprovalsSection,
    /// What the life of keys is bound to.
    pub keys: KeysSection,
    /// Where metrics are shown, if they are.
    pub metrics: Option<SocketAddr>,
    /// Where spans are sent, if they are made.
    pub traces: Option<TraceSettings>,
    /// How a line of the log looks.
    pub log_format: LogFormat,
    /// Which events are logged.
    pub log_filter: String,
}

/// Reads and checks `file`.
///
/// # Errors
/// [`Problems`]: all that is wrong with it.
pub fn load(file: &Path) -> Result<CustodianConfig, Problems> {
    super::load_with(file, |root| read(root, file))
}

/// Why `text` would be refused, if it would be.
pub(super) fn refused(text: &str, file: super::NamedFile) -> Option<Vec<super::Problem>> {
    let path = file.path().to_owned();
    super::parse(text, file, |root| read(root, &path)).err()
}

/// Reads the policy file again. What is in it is not checked.
///
/// # Errors
/// [`Mistake`].
pub fn policy_text(path: &Path) -> Result<String, Mistake> {
    use std::io::Read as _;
    let failed = |source| Mistake::File { path: path.to_owned(), source };
    let mut text = String::new();
    let file = files::open(path)?;
    file.take(POLICY_LEN_MAX as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() > POLICY_LEN_MAX {
        Err(failed(std::io::Error::other("larger than a policy may be")))
    } else {
        Ok(text)
    }
}

fn read(root: Section<'_>, file: &Path) -> Option<CustodianConfig> {
    let server = root.required_section("custodian").and_then(server);
    let store = root.required_section("store").and_then(store::read);
    let seals = seals::read(&root);
    let audit = root.required_section("audit").and_then(|section| audit(section, server.as_ref()));
    let policy = root.required_section("policy").and_then(policy);
    let approvals = approvals(root.section("approvals"));
    let keys = keys::read(root.section("keys"));
    let metrics = root.section("metrics").map(super::metrics::read);
    let traces = root.section("traces").map(|section| traces::read(section, traces::Role::Custodian));
    let (log_format, log_filter) = super::log(root.section("log"));
    root.finish();
    let (policy_file, policy) = policy?;
    Some(CustodianConfig {
        file: file.to_owned(),
        server: server?,
        store: store?,
        seals: seals?,
        audit: audit?,
        policy_file,
        policy,
        approvals,
        keys: keys?,
        metrics: if_sound(metrics)?,
        traces: if_sound(traces)?,
        log_format,
        log_filter,
    })
}

fn server(section: Section<'_>) -> Option<ServerSection> {
    let listen =
        section.required("listen").and_then(|text| text.parsed(|text| text.parse().map_err(|_| Mistake::Address)));
    let instance = section.required("instance").and_then(|text| text.parsed(instance));
    let tls = transport(&section);
    let identity = own_identity(&section, tls.as_ref().map(|(tls, _)| tls));
    let default_labels = section.text("default_jurisdiction").map_or(Some(Labels::default()), |text| {
        let label = [("jurisdiction".to_owned(), text.text.to_owned())];
        text.parsed(|_| Labels::new(label.into()))
    });
    let drain = Duration::from_secs(section.number("drain_s", 0..=3600, 30));
    let max_connections = section.number("max_connections", 1..=1_000_000, 1024);
    let max_requests = section.number("max_requests", 1..=1_000_000, 512);
    let max_watches = section.number("max_watches", 1..=1_000_000, 1024);
    section.finish();
    let (tls, tls_config) = tls?;
    Some(ServerSection {
        listen: listen?,
        instance: instance?,
        identity: identity?,
        tls,
        tls_config,
        default_labels: default_labels?,
        drain,
        max_connections,
        max_requests,
        max_watches,
    })
}

fn instance(text: &str) -> Result<String, Mistake> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(legal) { Ok(text.to_owned()) } else { Err(Mistake::Instance) }
}

fn transport(section: &Section<'_>) -> Option<(ServerTls, Arc<ServerConfig>)> {
    let certificates = section.required("certificate_file");
    let key = section.required("key_file");
    let client_ca = section.required("client_ca_file");
    let crl = section.text("client_crl_file");
    let (certificates, key, client_ca) = (certificates?, key?, client_ca?);
    let tls = ServerTls {
        identity: IdentityFiles { certificates: certificates.path(), key: key.path() },
        client_ca: client_ca.path(),
        client_crl: crl.as_ref().map(Text::path),
    };
    match tls.load() {
        Ok(config) => Some((tls, config)),
        Err(error) => {
            let mut at = [crl.as_ref(), Some(&client_ca), Some(&key)].into_iter().flatten();
            let at = at.find(|text| error.file() == Some(text.path().as_path()));
            at.unwrap_or(&certificates).note(error);
            None
        }
    }
}

/// The id that is given, or else the one in the certificate.
fn own_identity(section: &Section<'_>, tls: Option<&ServerTls>) -> Option<SpiffeId> {
    if let Some(text) = section.text("identity") {
        return text.parsed(SpiffeId::parse);
    }
    let certificate = CertificateDer::from_pem_file(&tls?.identity.certificates).ok()?;
    let found = identity::from_certificate(&certificate).ok();
    if found.is_none() {
        section.note_at("certificate_file", Mistake::NoIdentity);
    }
    found
}

fn audit(section: Section<'_>, server: Option<&ServerSection>) -> Option<AuditSection> {
    let folder = section.required("folder").and_then(|text| {
        let path = text.path();
        let folder_is_there = path.parent().is_none_or(|above| above.as_os_str().is_empty() || above.is_dir());
        text.parsed(|_| if folder_is_there { Ok(path) } else { Err(Mistake::NoFolder { path }) })
    });
    let usual = server.map(|server| format!("{}/{}", server.identity.trust_domain(), server.instance));
    let origin = match section.text("origin") {
        None => usual,
        Some(text) => text.parsed(origin),
    };
    let interval_ms = section.number("checkpoint_interval_ms", 10..=5000, 1000);
    let witnesses = section.texts("witnesses");
    let known: Vec<VerifierKey> = witnesses.iter().filter_map(|text| text.parsed(witness)).collect();
    let all_known = known.len() == witnesses.len();
    section.finish();
    let instance = server?.instance.clone();
    let checkpoint_interval = Duration::from_millis(interval_ms);
    let settings = AuditSettings { folder: folder?, instance, origin: origin?, checkpoint_interval };
    all_known.then_some(AuditSection { settings, witnesses: known })
}

fn origin(text: &str) -> Result<String, Mistake> {
    // Any key shows whether the name is one.
    VerifierKey::new(text, Use::Log, [0; 32]).map(|_| text.to_owned()).map_err(|_| Mistake::Origin)
}

fn witness(text: &str) -> Result<VerifierKey, Mistake> {
    VerifierKey::parse(text).ok().filter(|key| key.usage() == Use::Witness).ok_or(Mistake::Witness)
}

fn policy(section: Section<'_>) -> Option<(PathBuf, String)> {
    let text = section.required("file");
    let read = text.and_then(|text| {
        let path = text.path();
        let content = text.parsed(|_| policy_text(&path))?;
        text.parsed(|_| Policy::parse(&content))?;
        Some((path, content))
    });
    section.finish();
    read
}

fn approvals(section: Option<Section<'_>>) -> ApprovalsSection {
    let standard = ApprovalsSection { required: 2, grants_required: 1 };
    let Some(section) = section else { return standard };
    let approvals = ApprovalsSection {
        required: section.number("required", 2..=16, standard.required),
        grants_required: section.number("grants_required", 1..=16, standard.grants_required),
    };
    section.finish();
    approvals
}

#[cfg(test)]
mod tests;

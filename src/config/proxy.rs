//! `[proxy]`: where it listens, by which names, and with which certificate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::problem::Mistake;
use super::section::Section;
use crate::names::WriterDomain;
use crate::net::tls::{self, IdentityFiles};

/// The listening side of the proxy.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Role and region, with which the branch keys generated here are marked.
    pub writer: WriterDomain,
    /// Domains below which buckets are names of hosts.
    pub domains: Vec<String>,
    /// The TLS configuration; without it plain HTTP, on a loopback address.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// How long running requests may go on after the shutdown began.
    pub drain: Duration,
    /// How long a client may pause within a body.
    pub body_timeout: Duration,
    /// Connections at a time.
    pub max_connections: usize,
    /// Requests at a time; further ones are told to slow down.
    pub max_requests: usize,
}

pub(super) fn read(section: Section<'_>) -> Option<ProxySettings> {
    let listen =
        section.required("listen").and_then(|text| text.parsed(|text| text.parse().map_err(|_| Mistake::Address)));
    let writer = writer(&section);
    let domains = section.texts("domains");
    let domains = domains.iter().filter_map(|text| text.parsed(domain)).collect();
    let tls = transport(&section, listen);
    let drain = Duration::from_secs(section.number("drain_s", 0..=3600, 30));
    let body_timeout = Duration::from_secs(section.number("body_timeout_s", 1..=3600, 60));
    let max_connections = section.number("max_connections", 1..=1_000_000, 1024);
    let max_requests = section.number("max_requests", 1..=1_000_000, 512);
    section.finish();
    let (listen, writer, tls) = (listen?, writer?, tls?);
    Some(ProxySettings { listen, writer, domains, tls, drain, body_timeout, max_connections, max_requests })
}

/// The region has no default: it says in which jurisdiction keys are used.
fn writer(section: &Section<'_>) -> Option<WriterDomain> {
    let role = section.text("role").map_or("proxy", |role| role.text);
    let region = section.required("region")?;
    region.parsed(|region| WriterDomain::new(&format!("{role}/{region}")))
}

fn domain(text: &str) -> Result<String, Mistake> {
    let label = |label: &str| {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(legal) && !label.starts_with('-') && !label.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(label) { Ok(text.to_owned()) } else { Err(Mistake::Domain) }
}

/// `Some(None)` stands for plain HTTP, `None` for a mistake.
#[allow(clippy::option_option, reason = "the outer option says whether the section is right")]
fn transport(section: &Section<'_>, listen: Option<SocketAddr>) -> Option<Option<Arc<rustls::ServerConfig>>> {
    let plain_http = section.flag("plain_http_on_loopback");
    if plain_http != Some(false) {
        let unused = ["certificate_file", "key_file"].map(|key| section.text(key));
        plain_http?;
        if listen.is_some_and(|listen| !listen.ip().is_loopback()) {
            section.note_at("plain_http_on_loopback", Mistake::PlainHttpBeyondLoopback);
        }
        for unused in unused.into_iter().flatten() {
            unused.note(Mistake::UnusedWithPlainHttp);
        }
        return Some(None);
    }
    let certificates = section.required("certificate_file");
    let key = section.required("key_file");
    let (certificates, key) = (certificates?, key?);
    let files = IdentityFiles { certificates: certificates.path(), key: key.path() };
    match tls::server_config(&files, None) {
        Ok(config) => Some(Some(config)),
        Err(error) => {
            let at_key = concerns(&error, &files.key);
            (if at_key { key } else { certificates }).note(error);
            None
        }
    }
}

/// Whether the error is about that file alone.
pub(super) fn concerns(error: &tls::TlsError, file: &std::path::Path) -> bool {
    use tls::TlsError::{
        BadRoot, ClientCa, Identity, NoCertificate, NoKey, NoRevocationList, NotPem, OpenToAll, Read, TooLarge,
        Versions,
    };
    match error {
        Read { path, .. }
        | TooLarge { path }
        | OpenToAll { path, .. }
        | NotPem { path, .. }
        | NoCertificate { path } => path == file,
        NoKey { path } | NoRevocationList { path } | BadRoot { path, .. } | ClientCa { path, .. } => path == file,
        Identity { .. } | Versions(_) => false,
    }
}

//! `[proxy]`: where it listens, by which names, and with which certificate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::problem::Mistake;
use super::section::{Section, Text, if_sound};
use crate::names::WriterDomain;
use crate::net::tls::{self, IdentityFiles, ServerIdentities, TlsError};

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
    /// The certificate and key that it was made of.
    pub identity: Option<IdentityFiles>,
    /// How long it goes on serving after it was asked to end, while clients are sent elsewhere.
    pub leave: Duration,
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
    let domains: Vec<String> = domains.iter().filter_map(|text| text.parsed(domain)).collect();
    let tls = transport(&section, listen, &domains);
    let leave = Duration::from_secs(section.number("leave_s", 0..=300, 0));
    let drain = Duration::from_secs(section.number("drain_s", 0..=3600, 30));
    let body_timeout = Duration::from_secs(section.number("body_timeout_s", 1..=3600, 60));
    let max_connections = section.number("max_connections", 1..=1_000_000, 1024);
    let max_requests = section.number("max_requests", 1..=1_000_000, 512);
    section.finish();
    let (listen, writer, (tls, identity)) = (listen?, writer?, tls?.unzip());
    Some(ProxySettings {
        listen,
        writer,
        domains,
        tls,
        identity,
        leave,
        drain,
        body_timeout,
        max_connections,
        max_requests,
    })
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
fn transport(
    section: &Section<'_>,
    listen: Option<SocketAddr>,
    domains: &[String],
) -> Option<Option<(Arc<rustls::ServerConfig>, IdentityFiles)>> {
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
        for unused in ["certificate", "issuer"].into_iter().filter(|key| section.has(key)) {
            section.note_at(unused, Mistake::UnusedWithPlainHttp);
        }
        return Some(None);
    }
    let first = Pair::read(section);
    let further = section.sections("certificate").into_iter().map(Pair::alone).collect::<Option<Vec<_>>>();
    let issuer = section.section("issuer").map(Pair::alone);
    if section.has("issuer") && domains.is_empty() {
        section.note_at("issuer", Mistake::IssuerWithoutDomains);
    }
    let (first, further) = (first?, further?);
    let issuer = if_sound(issuer)?;
    if std::iter::once(&first).chain(&further).filter(|pair| !pair.is_right()).count() > 0 {
        return None;
    }
    let identities = ServerIdentities {
        first: first.files(),
        further: further.iter().map(Pair::files).collect(),
        issuer: issuer.as_ref().map(|issuer| (issuer.files(), domains.to_vec())),
    };
    match tls::server_config_by_name(&identities) {
        Ok(config) => Some(Some((config, identities.first))),
        Err(error) => {
            issuer.as_ref().unwrap_or(&first).note(error);
            None
        }
    }
}

/// A certificate and its key, as the configuration names them.
struct Pair<'s> {
    certificates: Text<'s>,
    key: Text<'s>,
}

impl<'s> Pair<'s> {
    fn read(section: &Section<'s>) -> Option<Self> {
        let (certificates, key) = (section.required("certificate_file"), section.required("key_file"));
        Some(Self { certificates: certificates?, key: key? })
    }

    /// Of a section with nothing else in it.
    fn alone(section: Section<'s>) -> Option<Self> {
        let pair = Self::read(&section);
        section.finish();
        pair
    }

    fn files(&self) -> IdentityFiles {
        IdentityFiles { certificates: self.certificates.path(), key: self.key.path() }
    }

    /// Whether a server can show itself with it; what is wrong is noted.
    fn is_right(&self) -> bool {
        tls::server_config(&self.files(), None).map_err(|error| self.note(error)).is_ok()
    }

    fn note(&self, error: TlsError) {
        let at_key = error.file() == Some(self.key.path().as_path());
        (if at_key { &self.key } else { &self.certificates }).note(error);
    }
}

//! Where a storage server is and how patiently it is spoken to.
//!
//! **Invariant:** an [`Endpoint`] is `https`, or `http` to this machine, or `http` by explicit permission.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Scheme};

use crate::net::client::ClientSettings;
use crate::net::tls::{ClientTls, TlsError};

/// Idle connections to an address that are kept. Where more requests than that run at once, each further one makes a connection of its own,
/// with its TLS handshake.
const IDLE_MAX: usize = 1024;

/// The settings of a storage server do not do.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not a URL of a server.
    #[error("{given:?} is not a storage URL: write `https://HOST[:PORT]`, without a path, query or user name")]
    Url {
        /// What was given.
        given: String,
    },
    /// `http` to another machine.
    #[error(
        "{given:?} would carry credentials and requests unencrypted to another machine: use `https`, or allow plaintext explicitly"
    )]
    Plaintext {
        /// What was given.
        given: String,
    },
    /// No attempt is no way to send.
    #[error("at least one attempt is needed to send a request")]
    NoAttempts,
    /// A time-out of zero lets nothing through.
    #[error("time-outs must be longer than zero")]
    ZeroTimeout,
    /// A certificate or key file does not do.
    #[error("the TLS files do not do")]
    Tls(#[from] TlsError),
}

/// The scheme, host and port of a storage server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    scheme: Scheme,
    authority: Authority,
}

impl Endpoint {
    /// Reads `https://HOST[:PORT]`, or `http://…` where HOST is this machine (`localhost` or a loopback address)
    /// or `allow_plaintext` is set.
    ///
    /// # Errors
    /// [`SettingsError::Url`], [`SettingsError::Plaintext`].
    pub fn parse(url: &str, allow_plaintext: bool) -> Result<Self, SettingsError> {
        let malformed = || SettingsError::Url { given: url.to_owned() };
        let parts = url.parse::<Uri>().map_err(|_| malformed())?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else { return Err(malformed()) };
        let bare = parts.path_and_query.is_none_or(|path| path == "/");
        let known = scheme == Scheme::HTTP || scheme == Scheme::HTTPS;
        let port_is_whole =
            authority.port().is_some() == authority.as_str().trim_start_matches(authority.host()).contains(':');
        if !bare || !known || !port_is_whole || authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(malformed());
        }
        if scheme == Scheme::HTTP && !allow_plaintext && !is_this_machine(authority.host()) {
            return Err(SettingsError::Plaintext { given: url.to_owned() });
        }
        Ok(Self { scheme, authority })
    }

    /// Whether connections to it are encrypted.
    pub fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    pub(super) fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Its host, and its port.
    pub(super) fn server(&self) -> (&str, u16) {
        let port = self.authority.port_u16().unwrap_or(if self.is_tls() { 443 } else { 80 });
        (self.authority.host(), port)
    }

    /// Host and port as the `Host` header has them: without the scheme's own port.
    pub(super) fn host_and_port(&self) -> &str {
        let own_port = if self.is_tls() { ":443" } else { ":80" };
        self.authority.as_str().strip_suffix(own_port).unwrap_or(self.authority.as_str())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host_and_port())
    }
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Where the bucket's name stands in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Addressing {
    /// `https://host/bucket/key`.
    #[default]
    Path,
    /// `https://bucket.host/key`. Buckets with a dot in their name go by path over TLS, as no certificate covers
    /// `a.b.host`.
    VirtualHosted,
}

/// How often and how long what can be sent again is sent again.
#[derive(Debug, Clone)]
pub struct RetrySettings {
    /// Attempts in all; 1 means no retry.
    pub max_attempts: u32,
    /// No attempt begins later than this after the first.
    pub deadline: Duration,
    /// The first pause is a random time up to this; each further one up to twice as long.
    pub backoff_base: Duration,
    /// No pause is longer, whatever the server asks for.
    pub backoff_cap: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            deadline: Duration::from_secs(60),
            backoff_base: Duration::from_millis(50),
            backoff_cap: Duration::from_secs(2),
        }
    }
}

/// Everything about one storage server but the credentials.
#[derive(Debug, Clone)]
pub struct StorageSettings {
    /// The server.
    pub endpoint: Endpoint,
    /// Further addresses of the same cluster, which has the same objects at each. An earlier one is preferred.
    pub further_endpoints: Vec<Endpoint>,
    /// After so long without an answer, a read is sent to a second address too, and the first answer counts; `None`: never.
    pub hedge_after: Option<Duration>,
    /// The region that signatures name.
    pub region: String,
    /// Path-style or virtual-hosted.
    pub addressing: Addressing,
    /// Whom to trust, and the client certificate.
    pub tls: ClientTls,
    /// Connection pool, and the time-outs of connecting and of response bodies.
    pub client: ClientSettings,
    /// How long the server may take to answer once it has the request, or to take a piece of its body.
    pub head_timeout: Duration,
    /// Retries.
    pub retry: RetrySettings,
    /// Bytes of user metadata that the server keeps for an object (AWS: 2,048).
    pub metadata_limit_bytes: usize,
    /// Whether the server copies objects itself when it is asked to. If not, copies go through the proxy.
    pub server_side_copy: bool,
    /// Most stored bytes that the server copies in one request (AWS: 5 GiB). Larger objects are copied in pieces.
    pub copy_limit_bytes: u64,
    /// Most requests in a second, each attempt counted; `None`: as fast as it goes.
    pub requests_max_s: Option<u32>,
}

impl StorageSettings {
    /// The defaults for `endpoint`.
    pub fn new(endpoint: Endpoint, region: impl Into<String>) -> Self {
        Self {
            endpoint,
            further_endpoints: Vec::new(),
            hedge_after: None,
            region: region.into(),
            addressing: Addressing::default(),
            tls: ClientTls::default(),
            client: ClientSettings { pool_max_idle_per_host: IDLE_MAX, ..ClientSettings::default() },
            head_timeout: Duration::from_secs(60),
            retry: RetrySettings::default(),
            metadata_limit_bytes: 2048,
            server_side_copy: true,
            copy_limit_bytes: 5 << 30,
            requests_max_s: None,
        }
    }

    /// All addresses, the preferred one first.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        std::iter::once(&self.endpoint).chain(&self.further_endpoints)
    }

    pub(super) fn check(&self) -> Result<(), SettingsError> {
        if self.retry.max_attempts == 0 {
            return Err(SettingsError::NoAttempts);
        }
        let timeouts = [self.head_timeout, self.client.connect_timeout, self.client.body_timeout];
        if timeouts.iter().any(Duration::is_zero) {
            return Err(SettingsError::ZeroTimeout);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_goes_to_this_machine_only() {
        for url in ["http://localhost:9000", "http://127.0.0.1", "http://[::1]:80/", "http://127.8.9.1:1"] {
            assert!(Endpoint::parse(url, false).is_ok(), "{url}");
        }
        for url in ["http://10.0.0.1", "http://localhost.example.org", "http://[::2]:80", "http://s3.example.org:9000"]
        {
            assert!(matches!(Endpoint::parse(url, false), Err(SettingsError::Plaintext { .. })), "{url}");
            assert!(Endpoint::parse(url, true).is_ok(), "{url}");
        }
    }

    #[test]
    fn only_urls_of_servers_are_endpoints() {
        let bad = [
            "s3.example.org",
            "https://",
            "ftp://h",
            "https://h/path",
            "https://h?q",
            "https://u:p@h",
            "https://h:x",
            "https://h:",
            "",
        ];
        for url in bad {
            assert!(matches!(Endpoint::parse(url, false), Err(SettingsError::Url { .. })), "{url}");
        }
    }

    #[test]
    fn the_own_port_is_left_out_of_the_host() {
        let host = |url| Endpoint::parse(url, false).expect("good URL").host_and_port().to_owned();
        assert_eq!(host("https://s3.example.org:443"), "s3.example.org");
        assert_eq!(host("https://s3.example.org:80"), "s3.example.org:80");
        assert_eq!(host("http://[::1]:80"), "[::1]");
    }
}

//! Where the custodian is, and how we show it who we are.
//!
//! **Invariant:** an [`Address`] is `https`, or `http` to this machine: tokens and keys cross no network in the clear.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Scheme};

use crate::net::network::ClientNetwork;
use crate::net::tls::{ClientTls, TlsError};

/// Most addresses of one custodian.
pub const ADDRESSES_MAX: usize = 16;
/// Most bytes of a mount's path.
const MOUNT_MAX: usize = 128;

/// The settings of a custodian do not do.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not a URL of a server.
    #[error("{given:?} is not a custodian's URL: write `https://HOST[:PORT]`, without a path, query or user name")]
    Url {
        /// What was given.
        given: String,
    },
    /// `http` to another machine.
    #[error("{given:?} would carry keys unencrypted to another machine: use `https`")]
    Plaintext {
        /// What was given.
        given: String,
    },
    /// Not the path of a mount.
    #[error(
        "{given:?} is not the path of a mount: write names of letters, digits, '.', '_' or '-', with '/' between them"
    )]
    Mount {
        /// What was given.
        given: String,
    },
    /// None, or too many.
    #[error("a custodian has 1 to {ADDRESSES_MAX} addresses")]
    Addresses,
    /// A deadline of zero lets nothing through, one of minutes lets requests pile up.
    #[error("the deadline must be longer than zero and at most 60 s")]
    Deadline,
    /// Authentication by certificate without a certificate, or over `http`.
    #[error("to authenticate by certificate, give the TLS client certificate and use `https` addresses only")]
    NoCertificate,
    /// A certificate or key file does not do.
    #[error("the TLS files do not do")]
    Tls(#[from] TlsError),
}

/// The scheme, host and port of one server of the custodian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    scheme: Scheme,
    authority: Authority,
}

impl Address {
    /// Reads `https://HOST[:PORT]`, or `http://…` where HOST is this machine (`localhost` or a loopback address).
    ///
    /// # Errors
    /// [`SettingsError::Url`], [`SettingsError::Plaintext`].
    pub fn parse(url: &str) -> Result<Self, SettingsError> {
        let malformed = || SettingsError::Url { given: url.to_owned() };
        let parts = url.parse::<Uri>().map_err(|_| malformed())?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else { return Err(malformed()) };
        let bare = parts.path_and_query.is_none_or(|path| path == "/");
        let known = scheme == Scheme::HTTP || scheme == Scheme::HTTPS;
        let after_host = authority.as_str().trim_start_matches(authority.host());
        let port_is_whole = after_host.contains(':') == authority.port_u16().is_some();
        if !bare || !known || !port_is_whole || authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(malformed());
        }
        if scheme == Scheme::HTTP && !is_this_machine(authority.host()) {
            return Err(SettingsError::Plaintext { given: url.to_owned() });
        }
        Ok(Self { scheme, authority })
    }

    /// Whether what is said to it is encrypted.
    pub fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// Its host, and its port.
    pub(super) fn server(&self) -> (&str, u16) {
        let port = self.authority.port_u16().unwrap_or(if self.is_tls() { 443 } else { 80 });
        (self.authority.host(), port)
    }

    /// `path` after `/v1/`, of names that need no escaping.
    pub(super) fn uri(&self, path: &str) -> Uri {
        let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone());
        uri.path_and_query(format!("/v1/{path}")).build().expect("mounts and KEK names are legal in a path")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The path of a secrets engine or authentication method: `[A-Za-z0-9._-]+` once or more, with `/` between, at most 128
/// bytes, no `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount(String);

impl Mount {
    /// Checks and takes the path.
    ///
    /// # Errors
    /// [`SettingsError::Mount`].
    pub fn parse(path: &str) -> Result<Self, SettingsError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let name = |name: &str| !name.is_empty() && name != "." && name != ".." && name.bytes().all(legal);
        if path.len() > MOUNT_MAX || !path.split('/').all(name) {
            return Err(SettingsError::Mount { given: path.to_owned() });
        }
        Ok(Self(path.to_owned()))
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How the custodian knows us.
#[derive(Debug, Clone)]
pub enum Authentication {
    /// By the TLS client certificate alone, without a token: our own custodian.
    Certificate,
    /// By a token that the TLS client certificate is exchanged for (`POST auth/cert/login`).
    CertificateLogin {
        /// Where the method is mounted, usually `auth/cert`.
        mount: Mount,
        /// The certificate role to log in as; without it the server tries all.
        role: Option<String>,
    },
    /// By a token in a file, as an agent writes it. The file is read again when it changes, and the token renewed if it can
    /// be. The file must not be open to all users.
    TokenFile(PathBuf),
}

/// Everything about one custodian.
#[derive(Debug, Clone)]
pub struct TransitSettings {
    /// The servers, 1 to 16: of one cluster, or several custodians over one store. They are tried in this order, but the one
    /// that last answered is asked first.
    pub addresses: Vec<Address>,
    /// The Transit engine, usually `transit`.
    pub mount: Mount,
    /// How the custodian knows us.
    pub authentication: Authentication,
    /// Whom to trust, and the client certificate.
    pub tls: ClientTls,
    /// For one call of the custodian, all addresses, attempts and logins included; at most 60 s. Default 2 s.
    pub deadline: Duration,
    /// Whether the custodian is one of ours, and its watch is to be held open ([`super::Transit::watch`]). Default: no.
    pub watch: bool,
    /// How long leased keys work on without it; `None` for as long as a lease for reading.
    pub watch_grace: Option<Duration>,
    /// Where the servers are.
    pub network: ClientNetwork,
}

impl TransitSettings {
    /// The defaults for `addresses`: mount `transit`, the TLS client certificate alone.
    pub fn new(addresses: Vec<Address>, tls: ClientTls) -> Self {
        Self {
            addresses,
            mount: Mount("transit".to_owned()),
            authentication: Authentication::Certificate,
            tls,
            deadline: Duration::from_secs(2),
            watch: false,
            watch_grace: None,
            network: ClientNetwork::default(),
        }
    }

    pub(super) fn check(&self) -> Result<(), SettingsError> {
        if self.addresses.is_empty() || self.addresses.len() > ADDRESSES_MAX {
            return Err(SettingsError::Addresses);
        }
        if self.deadline.is_zero() || self.deadline > Duration::from_secs(60) {
            return Err(SettingsError::Deadline);
        }
        let by_certificate = match &self.authentication {
            Authentication::Certificate | Authentication::CertificateLogin { .. } => true,
            Authentication::TokenFile(_) => false,
        };
        let encrypted = self.addresses.iter().all(Address::is_tls);
        if by_certificate && (self.tls.identity.is_none() || !encrypted) {
            return Err(SettingsError::NoCertificate);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_unencrypted_to_this_machine_only() {
        for url in ["http://localhost:8200", "http://127.0.0.1", "http://[::1]:80/", "https://bao.example.org:8200"] {
            assert!(Address::parse(url).is_ok(), "{url}");
        }
        for url in ["http://10.0.0.1", "http://localhost.example.org", "http://[::2]:80"] {
            assert!(matches!(Address::parse(url), Err(SettingsError::Plaintext { .. })), "{url}");
        }
        let bad =
            ["bao.example.org", "https://", "ftp://h", "https://h/v1", "https://h?q", "https://u:p@h", "https://h:x"];
        for url in bad.into_iter().chain(["https://h:", "https://h:99999", ""]) {
            assert!(matches!(Address::parse(url), Err(SettingsError::Url { .. })), "{url}");
        }
    }

    #[test]
    fn a_mount_is_a_plain_path() {
        for path in ["transit", "team/transit", "auth/cert", "a-b_c.d"] {
            assert_eq!(Mount::parse(path).expect("legal").as_str(), path);
        }
        let long = "a".repeat(MOUNT_MAX + 1);
        for path in ["", "/", "transit/", "/transit", "a//b", "..", "a/../b", ".", "a b", "a?b", "a%2fb", "é", &long] {
            assert!(matches!(Mount::parse(path), Err(SettingsError::Mount { .. })), "{path:?}");
        }
    }

    #[test]
    fn a_certificate_is_asked_for_where_it_is_needed() {
        let address = Address::parse("https://localhost:8200").expect("legal");
        let mut settings = TransitSettings::new(vec![address], ClientTls::default());
        assert!(matches!(settings.check(), Err(SettingsError::NoCertificate)));
        settings.authentication = Authentication::TokenFile("token".into());
        assert!(settings.check().is_ok());
        settings.deadline = Duration::ZERO;
        assert!(matches!(settings.check(), Err(SettingsError::Deadline)));
        settings.addresses.clear();
        assert!(matches!(settings.check(), Err(SettingsError::Addresses)));
    }
}

//! Where spans go, and what is in them.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;

use crate::net::tls::ClientTls;

/// Not the URL of a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not the URL of a collector; write for example \"http://127.0.0.1:4318/v1/traces\", without a query or user name"
)]
pub struct InvalidCollector;

/// The URL that spans are sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector(Uri);

impl Collector {
    /// Reads `https://HOST[:PORT]/PATH`, or the same with `http`.
    ///
    /// # Errors
    /// [`InvalidCollector`].
    pub fn parse(url: &str) -> Result<Self, InvalidCollector> {
        let uri: Uri = url.parse().map_err(|_| InvalidCollector)?;
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else { return Err(InvalidCollector) };
        let known = *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS;
        let after_host = authority.as_str().trim_start_matches(authority.host());
        let port_is_whole = after_host.contains(':') == authority.port_u16().is_some();
        let bad = authority.host().is_empty() || authority.as_str().contains('@');
        if !known || !port_is_whole || bad || uri.path().len() < 2 || uri.query().is_some() || url.contains('#') {
            return Err(InvalidCollector);
        }
        Ok(Self(uri))
    }

    /// Whether what is sent there is encrypted.
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }

    /// Whether it is on this machine.
    pub fn is_here(&self) -> bool {
        let host = self.0.host().unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What else than operation, result and times may be in spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reveal {
    /// The bucket's name.
    pub bucket: bool,
    /// The record's name.
    pub key: bool,
    /// Who asks.
    pub principal: bool,
    /// From which address.
    pub peer: bool,
}

/// Where spans go, how many, and what is in them.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    /// The collector.
    pub collector: Collector,
    /// Whom to trust, and how to show ourselves.
    pub tls: ClientTls,
    /// What the process is called.
    pub service_name: String,
    /// Which one of those that are called so; a random one without.
    pub instance: Option<String>,
    /// Which share of the traces that begin here is made.
    pub sample_ratio: f64,
    /// Whether the traces of those who send requests go on here, and are made if they are made there.
    pub trust_client: bool,
    /// What may be in spans.
    pub reveal: Reveal,
    /// Most spans that wait to be sent.
    pub queue_max: usize,
    /// Most spans in one request to the collector.
    pub batch_max: usize,
    /// How long a span waits for others to be sent with.
    pub interval: Duration,
    /// How long the collector has for one request.
    pub timeout: Duration,
}

impl TraceSettings {
    /// The defaults for `collector`.
    pub fn new(collector: Collector, service_name: &str) -> Self {
        Self {
            collector,
            tls: ClientTls::default(),
            service_name: service_name.to_owned(),
            instance: None,
            sample_ratio: 1.0,
            trust_client: false,
            reveal: Reveal::default(),
            queue_max: 4096,
            batch_max: 512,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_are_urls_with_a_path_and_without_secrets() {
        for (url, tls, here) in [
            ("http://127.0.0.1:4318/v1/traces", false, true),
            ("http://[::1]:4318/v1/traces", false, true),
            ("http://localhost/v1/traces", false, true),
            ("http://127.0.0.1.example.org/v1/traces", false, false),
            ("https://collector.example.org/v1/traces", true, false),
        ] {
            let collector = Collector::parse(url).expect(url);
            assert_eq!((collector.is_tls(), collector.is_here()), (tls, here), "{url}");
            assert_eq!(collector.to_string(), url);
        }
        for url in [
            "",
            "127.0.0.1:4318",
            "/v1/traces",
            "http://127.0.0.1:4318",
            "http://127.0.0.1:4318/",
            "http://127.0.0.1:/v1/traces",
            "http://me:secret@127.0.0.1/v1/traces",
            "http://127.0.0.1/v1/traces?api-key=secret",
            "http://127.0.0.1/v1/traces#x",
            "grpc://127.0.0.1:4317/v1/traces",
        ] {
            assert_eq!(Collector::parse(url), Err(InvalidCollector), "{url:?}");
        }
    }
}

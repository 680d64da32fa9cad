//! Who is on a connection, by the client certificate that TLS verified.
//!
//! **Invariant:** what is remembered is what the very same certificate says; whether its time is over is looked at with each request.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

use super::answer::Failure;
use crate::crypto;
use crate::custodian::identity::{self, SpiffeId};
use crate::custodian::requester::Requester;
use crate::custody::reason::Reason;
use crate::net::listener::ConnectionInfo;

/// Most certificates whose content is remembered.
const IDENTITIES_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("is not zero");

/// A client certificate, as far as it is of interest besides the id in it.
pub(super) struct Certificate {
    /// Its serial number, in decimal.
    pub(super) serial: String,
    /// The key's identifier and that of the CA's key, in hexadecimal with colons; empty without one.
    pub(super) subject_key_id: String,
    pub(super) authority_key_id: String,
    /// When its time began, in seconds since 1970.
    pub(super) issued_s: i64,
    /// When its time is over.
    pub(super) expires_s: i64,
}

/// What a certificate says, which is the same whenever it is shown.
struct Shown {
    id: SpiffeId,
    certificate_sha256: [u8; 32],
    key_sha256: [u8; 32],
    certificate: Arc<Certificate>,
}

/// What the certificates say that were shown last, by their SHA-256, so that they are not read again with each request.
pub(super) struct Identities(Mutex<LruCache<[u8; 32], Arc<Shown>>>);

impl Identities {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(IDENTITIES_MAX)))
    }

    /// Who is on the connection. A certificate that ran out while the connection stood is no longer one.
    pub(super) fn identify(
        &self,
        info: &ConnectionInfo,
        request_id: [u8; 16],
        now_s: i64,
    ) -> Result<(Requester, Arc<Certificate>), Failure> {
        let der = info.client_certificate.as_ref().filter(|_| info.tls).ok_or_else(Failure::denied)?;
        let shown = self.shown(der)?;
        let who = Requester {
            id: shown.id.clone(),
            certificate_sha256: shown.certificate_sha256,
            key_sha256: shown.key_sha256,
            source: canonical(info.peer.ip()),
            reason: Reason::Unspecified,
            behalf: None,
            request_id,
            for_request: None,
        };
        let certificate = Arc::clone(&shown.certificate);
        if now_s > certificate.expires_s { Err(Failure::denied()) } else { Ok((who, certificate)) }
    }

    fn shown(&self, der: &[u8]) -> Result<Arc<Shown>, Failure> {
        let certificate_sha256 = crypto::sha256(der);
        if let Some(shown) = self.known().get(&certificate_sha256) {
            return Ok(Arc::clone(shown));
        }
        let shown = Arc::new(read_certificate(der, certificate_sha256)?);
        self.known().put(certificate_sha256, Arc::clone(&shown));
        Ok(shown)
    }

    fn known(&self) -> MutexGuard<'_, LruCache<[u8; 32], Arc<Shown>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_certificate(der: &[u8], certificate_sha256: [u8; 32]) -> Result<Shown, Failure> {
    let id = identity::from_certificate(der).map_err(|_| Failure::denied())?;
    let key_sha256 = identity::key_sha256(der).map_err(|_| Failure::denied())?;
    let (_, parsed) = X509Certificate::from_der(der).map_err(|_| Failure::denied())?;
    let validity = parsed.validity();
    let (mut subject_key_id, mut authority_key_id) = (String::new(), String::new());
    for extension in parsed.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => subject_key_id = with_colons(id.0),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                authority_key_id = id.key_identifier.as_ref().map_or_else(String::new, |id| with_colons(id.0));
            }
            _ => {}
        }
    }
    let certificate = Arc::new(Certificate {
        serial: parsed.serial.to_string(),
        subject_key_id,
        authority_key_id,
        issued_s: validity.not_before.timestamp(),
        expires_s: validity.not_after.timestamp(),
    });
    Ok(Shown { id, certificate_sha256, key_sha256, certificate })
}

fn with_colons(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// An IPv4 address is one, also where the socket listens on both kinds.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use rcgen::{CertificateParams, KeyPair, SanType};
    use rustls_pki_types::CertificateDer;
    use time::{Duration, OffsetDateTime};

    use super::*;

    const ID: &str = "spiffe://example.org/region/us/proxy/p1";

    fn certificate(uris: &[&str], days: i64) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        let uri = |uri: &&str| SanType::URI((*uri).try_into().expect("ASCII"));
        params.subject_alt_names = uris.iter().map(uri).collect();
        params.not_before = OffsetDateTime::now_utc() - Duration::days(10);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(days);
        params.self_signed(&KeyPair::generate().expect("a key")).expect("signs").der().clone()
    }

    fn identified(uris: &[&str], days: i64, tls: bool) -> Result<Requester, StatusCode> {
        let client_certificate = Some(Arc::new(certificate(uris, days)));
        let info = ConnectionInfo { peer: "[::ffff:10.1.2.3]:9".parse().expect("an address"), tls, client_certificate };
        let now_s = OffsetDateTime::now_utc().unix_timestamp();
        Identities::new().identify(&info, [7; 16], now_s).map(|(who, _)| who).map_err(|failure| failure.status)
    }

    #[test]
    fn one_spiffe_id_in_a_certificate_whose_time_is_not_over() {
        let who = identified(&[ID], 1, true).expect("good");
        assert_eq!((who.id.as_str(), who.source.to_string().as_str()), (ID, "10.1.2.3"));
        let denied = Err(StatusCode::FORBIDDEN);
        assert_eq!(identified(&[ID], -1, true), denied, "over");
        assert_eq!(identified(&[ID], 1, false), denied, "without TLS");
        assert_eq!(identified(&[], 1, true), denied);
        assert_eq!(identified(&[ID, "spiffe://example.org/region/us/proxy/p2"], 1, true), denied);
        assert_eq!(identified(&["https://example.org/"], 1, true), denied);
        let info = ConnectionInfo { peer: "10.1.2.3:9".parse().expect("one"), tls: true, client_certificate: None };
        assert!(Identities::new().identify(&info, [7; 16], 0).is_err());
    }

    #[test]
    fn a_certificate_that_is_remembered_runs_out_all_the_same_and_another_is_another() {
        let identities = Identities::new();
        let info = |uri: &str| ConnectionInfo {
            peer: "10.1.2.3:9".parse().expect("an address"),
            tls: true,
            client_certificate: Some(Arc::new(certificate(&[uri], 1))),
        };
        let (one, other) = (info(ID), info("spiffe://example.org/region/us/proxy/p2"));
        let now_s = OffsetDateTime::now_utc().unix_timestamp();
        for _ in 0..2 {
            for info in [&one, &other] {
                let (who, _) = identities.identify(info, [7; 16], now_s).map_err(|failed| failed.status).expect("good");
                let der = info.client_certificate.as_ref().expect("is there");
                let fresh = Requester::from_certificate(der, [10, 1, 2, 3].into(), [7; 16]).expect("good");
                assert_eq!(who, fresh);
            }
        }
        let later_s = now_s + 2 * 86_400;
        assert!(identities.identify(&one, [7; 16], later_s).is_err());
    }
}

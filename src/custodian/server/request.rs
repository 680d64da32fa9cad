//! A request's head and body: who asks and why, with which token, and what.
//!
//! **Invariant:** a body is in zeroized memory of ours from its first frame on, and has [`BODY_MAX`] bytes at most.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Buf as _;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};
use zeroize::Zeroizing;

use super::answer::Failure;
use crate::custodian::requester::Requester;
use crate::custody::reason::Reason;
use crate::names::Principal;
use crate::net::listener::ConnectionInfo;

/// Most bytes of a body.
pub(super) const BODY_MAX: usize = 1 << 20;
/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// Most bytes of a body that are taken and thrown away, and how long that may last.
const DISCARD_MAX: usize = 64 << 10;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
/// Room for a body that does not say how long it is.
const BODY_START: usize = 4096;

/// Why the key is used.
const REASON_HEADER: &str = "x-claviger-reason";
/// For whom the requester asks.
const PRINCIPAL_HEADER: &str = "x-claviger-principal";
/// A token.
const TOKEN_HEADER: &str = "x-vault-token";

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

/// Who is on the connection. A certificate that ran out while the connection stood is no longer one.
pub(super) fn identify(
    info: &ConnectionInfo,
    request_id: [u8; 16],
    now_s: i64,
) -> Result<(Requester, Certificate), Failure> {
    let der = info.client_certificate.as_ref().filter(|_| info.tls).ok_or_else(Failure::denied)?;
    let source = canonical(info.peer.ip());
    let who = Requester::from_certificate(der, source, request_id).map_err(|_| Failure::denied())?;
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
    let certificate = Certificate {
        serial: parsed.serial.to_string(),
        subject_key_id,
        authority_key_id,
        issued_s: validity.not_before.timestamp(),
        expires_s: validity.not_after.timestamp(),
    };
    if now_s > certificate.expires_s { Err(Failure::denied()) } else { Ok((who, certificate)) }
}

fn with_colons(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// An IPv4 address is one, also where the socket listens on both kinds.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Takes in why, and for whom, the request is made. Each is given once, or not.
pub(super) fn with_claims(who: Requester, headers: &HeaderMap) -> Result<Requester, Failure> {
    let reason = match single(headers, REASON_HEADER)? {
        None => Reason::Unspecified,
        Some(text) => text.parse().map_err(|_| {
            let known = Reason::ALL.map(Reason::as_str).join(", ");
            Failure::bad(format!("X-Claviger-Reason is none of: {known}"))
        })?,
    };
    let behalf = match single(headers, PRINCIPAL_HEADER)? {
        None => None,
        Some(text) => {
            let refused = |_| Failure::bad("X-Claviger-Principal must be 1 to 128 letters, digits or '._@/+-'");
            Some(Principal::new(text).map_err(refused)?)
        }
    };
    Ok(Requester { reason, behalf, ..who })
}

/// The header's value, which is there once at most and is text.
fn single<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, Failure> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (values.next(), value.to_str()) {
        (None, Ok(text)) => Ok(Some(text)),
        _ => Err(Failure::bad(format!("{name} must be given once, as plain text"))),
    }
}

/// The token, if there is one: `X-Vault-Token`, or else `Authorization: Bearer`. Empty ones do not count, several do not do.
pub(super) fn token(headers: &HeaderMap) -> Result<Option<&[u8]>, Failure> {
    let given = |name: &str| {
        let mut values = headers.get_all(name).iter().map(|value| value.as_bytes().trim_ascii());
        let first = values.next();
        if values.next().is_some() { Err(Failure::denied()) } else { Ok(first) }
    };
    if let Some(token) = given(TOKEN_HEADER)?.filter(|token| !token.is_empty()) {
        return Ok(Some(token));
    }
    let bearer = given(AUTHORIZATION.as_str())?.and_then(|value| {
        let (scheme, rest) = value.split_at_checked(6)?;
        let after = rest.first().is_none_or(u8::is_ascii_whitespace);
        (scheme.eq_ignore_ascii_case(b"bearer") && after).then(|| rest.trim_ascii())
    });
    Ok(bearer.filter(|token| !token.is_empty()))
}

/// Reads the whole body.
pub(super) async fn read_body(body: &mut Incoming) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match tokio::time::timeout(BODY_TIMEOUT, collect(body)).await {
        Ok(read) => read,
        Err(_) => Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "the request's body did not come in time")),
    }
}

/// Takes what is left of a small body that nobody looked at: some clients miss the answer if it comes before they have sent all.
pub(super) async fn discard(body: &mut Incoming) {
    let small = usize::try_from(body.size_hint().lower()).is_ok_and(|length| length <= DISCARD_MAX);
    if body.is_end_stream() || !small {
        return;
    }
    let taking = async {
        let mut taken = 0;
        while let Some(Ok(frame)) = body.frame().await {
            taken += frame.data_ref().map_or(0, |data| data.remaining());
            if taken > DISCARD_MAX {
                return;
            }
        }
    };
    // Whoever is late is answered all the same.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, taking).await;
}

async fn collect(body: &mut Incoming) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let too_large = || Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "http: request body too large");
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > BODY_MAX {
        return Err(too_large());
    }
    let start = if body.size_hint().exact() == Some(0) { 0 } else { declared.max(BODY_START) };
    let mut collected = Zeroizing::new(Vec::with_capacity(start));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::bad("the request's body broke off"))?;
        let Ok(mut data) = frame.into_data() else { continue };
        let needed = collected.len() + data.remaining();
        if needed > BODY_MAX {
            return Err(too_large());
        }
        if needed > collected.capacity() {
            // Vec would move its bytes and leave a copy behind.
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * collected.capacity()).min(BODY_MAX)));
            larger.extend_from_slice(&collected);
            collected = larger;
        }
        while data.has_remaining() {
            let taken = data.chunk().len();
            collected.extend_from_slice(data.chunk());
            data.advance(taken);
        }
    }
    Ok(collected)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderValue;
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
        identify(&info, [7; 16], now_s).map(|(who, _)| who).map_err(|failure| failure.status)
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
        assert!(identify(&info, [7; 16], 0).is_err());
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    fn claims(pairs: &[(&'static str, &str)]) -> Result<(Reason, Option<String>), StatusCode> {
        let who = identified(&[ID], 1, true).expect("good");
        let claimed = with_claims(who, &headers(pairs)).map_err(|failure| failure.status)?;
        Ok((claimed.reason, claimed.behalf.map(|behalf| behalf.as_str().to_owned())))
    }

    #[test]
    fn a_reason_is_given_once_and_is_of_the_taxonomy() {
        assert_eq!(claims(&[]), Ok((Reason::Unspecified, None)));
        let given = [("x-claviger-reason", "customer-support"), ("x-claviger-principal", "alice")];
        assert_eq!(claims(&given), Ok((Reason::CustomerSupport, Some("alice".to_owned()))));
        let bad = Err(StatusCode::BAD_REQUEST);
        for reason in ["", "because", "Customer-Support", "customer-support "] {
            let claimed = claims(&[("x-claviger-reason", reason)]);
            assert!(claimed == bad || reason.ends_with(' '), "{reason:?}");
        }
        assert_eq!(claims(&[given[0], given[0]]), bad);
        assert_eq!(claims(&[given[1], given[1]]), bad);
        assert_eq!(claims(&[("x-claviger-principal", "a b")]), bad);
    }

    #[test]
    fn tokens_come_in_two_headers_and_empty_ones_do_not_count() {
        let found = |pairs: &[(&'static str, &str)]| {
            token(&headers(pairs)).map(|token| token.map(|token| String::from_utf8_lossy(token).into_owned())).ok()
        };
        let some = |text: &str| Some(Some(text.to_owned()));
        assert_eq!(found(&[]), Some(None));
        assert_eq!(found(&[("x-vault-token", "")]), Some(None));
        assert_eq!(found(&[("authorization", "Bearer ")]), Some(None));
        assert_eq!(found(&[("authorization", "Bearer")]), Some(None));
        assert_eq!(found(&[("authorization", "Basic YTpi")]), Some(None));
        assert_eq!(found(&[("authorization", "Bearerclv.x")]), Some(None));
        assert_eq!(found(&[("x-vault-token", "clv.a")]), some("clv.a"));
        assert_eq!(found(&[("x-vault-token", ""), ("authorization", "bearer clv.b")]), some("clv.b"));
        assert_eq!(found(&[("x-vault-token", "clv.a"), ("authorization", "Bearer clv.b")]), some("clv.a"));
        assert_eq!(found(&[("x-vault-token", "clv.a"), ("x-vault-token", "clv.b")]), None);
    }
}

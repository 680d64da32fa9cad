//! A request's head and body: why and for whom it is made, with which token, and what it asks for.
//!
//! **Invariant:** a body is in zeroized memory of ours from its first frame on, and has [`BODY_MAX`] bytes at most; a backup may have more.

use std::time::Duration;

use bytes::Buf as _;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use zeroize::Zeroizing;

use super::answer::Failure;
use crate::custodian::requester::Requester;
use crate::custody::reason::Reason;
use crate::names::Principal;
use crate::telemetry::request_id::{self, RequestId};

/// Most bytes of a body.
pub(super) const BODY_MAX: usize = 1 << 20;
/// Most bytes of a body with a backup of KEKs.
pub(super) const RESTORE_BODY_MAX: usize = 4 << 20;
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

/// The request of a client that a proxy works on when it asks. It helps to find things and decides nothing.
pub(super) fn for_request(headers: &HeaderMap) -> Option<RequestId> {
    headers.get(request_id::HEADER)?.to_str().ok()?.parse().ok()
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
    Ok(Requester { reason, behalf, for_request: for_request(headers), ..who })
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
    read_body_up_to(body, BODY_MAX).await
}

/// As [`read_body`], of a request that may have another length.
pub(super) async fn read_body_up_to(body: &mut Incoming, most: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match tokio::time::timeout(BODY_TIMEOUT, collect(body, most)).await {
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

async fn collect(body: &mut Incoming, most: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let too_large = || Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "http: request body too large");
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > most {
        return Err(too_large());
    }
    let start = if body.size_hint().exact() == Some(0) { 0 } else { declared.max(BODY_START) };
    let mut collected = Zeroizing::new(Vec::with_capacity(start));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::bad("the request's body broke off"))?;
        let Ok(mut data) = frame.into_data() else { continue };
        let needed = collected.len() + data.remaining();
        if needed > most {
            return Err(too_large());
        }
        if needed > collected.capacity() {
            // Vec would move its bytes and leave a copy behind.
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * collected.capacity()).min(most)));
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
    use http::HeaderValue;

    use super::*;
    use crate::custodian::identity::SpiffeId;

    fn who() -> Requester {
        Requester {
            id: SpiffeId::parse("spiffe://example.org/region/us/proxy/p1").expect("legal"),
            certificate_sha256: [0; 32],
            key_sha256: [0; 32],
            source: [10, 1, 2, 3].into(),
            reason: Reason::Unspecified,
            behalf: None,
            request_id: [7; 16],
            for_request: None,
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    fn claims(pairs: &[(&'static str, &str)]) -> Result<(Reason, Option<String>), StatusCode> {
        let claimed = with_claims(who(), &headers(pairs)).map_err(|failure| failure.status)?;
        Ok((claimed.reason, claimed.behalf.map(|behalf| behalf.as_str().to_owned())))
    }

    #[test]
    fn a_reason_is_given_once_and_is_of_the_taxonomy() {
        assert_eq!(claims(&[]), Ok((Reason::Unspecified, None)));
        let given = [("x-claviger-reason", "customer-support"), ("x-claviger-principal", "alice")];
        assert_eq!(claims(&given), Ok((Reason::CustomerSupport, Some("alice".to_owned()))));
        let bad = Err(StatusCode::BAD_REQUEST);
        for reason in ["", "because", "Customer-Support", "customer-support,maintenance"] {
            assert_eq!(claims(&[("x-claviger-reason", reason)]), bad, "{reason:?}");
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

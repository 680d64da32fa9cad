//! From a signed request to an [`Authenticated`] client.

use std::str::FromStr as _;
use std::sync::Arc;

use http::request::Parts;
use time::OffsetDateTime;

use crate::custody::reason::Reason;
use crate::object::access::Authenticated;
use crate::s3::error::Code;
use crate::s3::sigv4::{Payload, Presented, RequestView};

use super::Front;
use super::fault::Fault;

/// In which a client says why it needs the record.
const REASON: &str = "x-claviger-reason";

impl Front {
    /// Who sent the request, proven by its signature, and what the signature says about the body.
    pub(super) fn authenticate(&self, parts: &Parts) -> Result<(Authenticated, Payload), Fault> {
        let view = RequestView {
            method: parts.method.as_str(),
            raw_path: parts.uri.path(),
            raw_query: parts.uri.query(),
            headers: &parts.headers,
        };
        let presented = Presented::parse(&view)?;
        let presented =
            presented.ok_or(Fault::new(Code::AccessDenied, "Anonymous requests are refused: sign the request."))?;
        if presented.has_security_token() {
            return Err(Fault::new(Code::InvalidToken, "Session tokens are not accepted: use the access key alone."));
        }
        let client = self.clients.get(presented.access_key());
        let client = client.ok_or(Fault::new(
            Code::InvalidAccessKeyId,
            "The proxy's configuration has no client with this access key.",
        ))?;
        let proof = presented.verify(&view, &client.secret, OffsetDateTime::now_utc(), &self.verify)?;
        let reason = reason_of(parts)?;
        let who = Authenticated::new(Arc::clone(client), &proof, reason)
            .map_err(|_| Fault::new(Code::SignatureDoesNotMatch, "The signature belongs to another access key."))?;
        Ok((who, proof.into_parts().1))
    }
}

fn reason_of(parts: &Parts) -> Result<Option<Reason>, Fault> {
    let mut values = parts.headers.get_all(REASON).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Fault::new(Code::InvalidArgument, format!("{REASON} is given more than once: give one reason.")));
    }
    let reason = value.to_str().ok().and_then(|text| Reason::from_str(text).ok());
    let unknown = || {
        let known: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        Fault::new(Code::InvalidArgument, format!("{REASON} must be one of: {}.", known.join(", ")))
    };
    reason.map(Some).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(reasons: &[&str]) -> Result<Option<Reason>, Fault> {
        let request = reasons.iter().fold(http::Request::builder(), |request, reason| request.header(REASON, *reason));
        reason_of(&request.body(()).expect("a request").into_parts().0)
    }

    #[test]
    fn a_request_has_one_reason_or_none() {
        let one = Reason::ALL[0].as_str();
        assert_eq!(given(&[]).expect("none"), None);
        assert_eq!(given(&[one]).expect("one"), Some(Reason::ALL[0]));
        for refused in [&["because"][..], &[""], &[one, one], &[one, Reason::ALL[1].as_str()], &[one, "because"]] {
            assert_eq!(given(refused).expect_err("refused").code, "InvalidArgument", "{refused:?}");
        }
    }
}

//! From a signed request to an [`Authenticated`] client; from one without a signature to nobody, if that is configured.

use std::str::FromStr as _;
use std::sync::Arc;

use http::HeaderMap;
use http::request::Parts;
use time::OffsetDateTime;

use crate::custody::reason::Reason;
use crate::object::access::{Authenticated, Client};
use crate::s3::error::Code;
use crate::s3::operation::{ObjectOperation, Operation};
use crate::s3::sigv4::{Payload, Presented, RequestView, VerifiedSignature};

use super::Front;
use super::fault::Fault;

/// In which a client says why it needs the record.
const REASON: &str = "x-claviger-reason";

impl Front {
    /// Who sent the request, proven by its signature, and what the signature says about the body.
    pub(super) fn authenticate(&self, parts: &Parts) -> Result<(Authenticated, Payload), Fault> {
        let view = RequestView::of(parts);
        let Some(presented) = Presented::parse(&view)? else {
            return Ok((self.nobody(&parts.headers)?, Payload::of_unsigned(&parts.headers)?));
        };
        if presented.has_security_token() {
            return Err(Fault::new(Code::InvalidToken, "Session tokens are not accepted: use the access key alone."));
        }
        let client = self.client(presented.access_key())?;
        let proof = presented.verify(&view, &client.secret, OffsetDateTime::now_utc(), &self.verify)?;
        let who = authenticated(client, &proof, &parts.headers)?;
        Ok((who, proof.into_parts().1))
    }

    pub(super) fn client(&self, access_key: &str) -> Result<&Arc<Client>, Fault> {
        let client = self.clients.get(access_key);
        client.ok_or(Fault::new(
            Code::InvalidAccessKeyId,
            "The proxy's configuration has no client with this access key.",
        ))
    }

    /// Who asks without a signature.
    pub(super) fn nobody(&self, headers: &HeaderMap) -> Result<Authenticated, Fault> {
        let anonymous = self.anonymous.as_ref();
        let anonymous =
            anonymous.ok_or(Fault::new(Code::AccessDenied, "Anonymous requests are refused: sign the request."))?;
        if headers.contains_key(REASON) {
            let message = format!("{REASON} is for signed requests: leave it out.");
            return Err(Fault::new(Code::InvalidRequest, message));
        }
        Ok(Authenticated::anonymous(Arc::clone(anonymous)))
    }
}

/// The client that signed, with the reason that `headers` give.
pub(super) fn authenticated(
    client: &Arc<Client>,
    proof: &VerifiedSignature,
    headers: &HeaderMap,
) -> Result<Authenticated, Fault> {
    Authenticated::new(Arc::clone(client), proof, reason_of(headers)?)
        .map_err(|_| Fault::new(Code::SignatureDoesNotMatch, "The signature belongs to another access key."))
}

/// Whoever passes a link on shall not choose what it is taken for: with a signature that is the signer's word (AWS,
/// GetObject, "Overriding Response Header Values").
pub(super) fn overrides_are_signed(who: &Authenticated, operation: &Operation) -> Result<(), Fault> {
    use ObjectOperation::{GetObject, HeadObject};
    match operation {
        Operation::Object(_, _, GetObject(read) | HeadObject(read))
            if who.is_anonymous() && !read.overrides.is_empty() =>
        {
            let message = "The response- parameters are for signed requests: leave them out, or sign the request.";
            Err(Fault::new(Code::InvalidRequest, message))
        }
        _ => Ok(()),
    }
}

fn reason_of(headers: &HeaderMap) -> Result<Option<Reason>, Fault> {
    let mut values = headers.get_all(REASON).iter();
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
        reason_of(request.body(()).expect("a request").headers())
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

//! The endpoints about tokens: log in, look up, renew, revoke.

use serde_json::{Value as Json, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use super::answer::{Answer, Content, Failure, SecretJson};
use super::certificate::Certificate;
use super::json::Object;
use super::state::Unsealed;
use super::token::{TOKEN_TTL_S, Token};
use crate::custodian::requester::Requester;

/// A token that was given with the request, and is good.
pub(super) type Given<'t> = Option<(&'t [u8], Token)>;

fn rfc3339(unix_s: u64) -> String {
    let time = i64::try_from(unix_s).ok().and_then(|unix_s| OffsetDateTime::from_unix_timestamp(unix_s).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

/// What Vault calls policies: here the role, as Cedar policies decide by more than names.
fn policies(who: &Requester) -> Json {
    json!([who.id.role()])
}

fn metadata(who: &Requester, certificate: &Certificate) -> Json {
    json!({
        "authority_key_id": certificate.authority_key_id,
        "cert_name": who.id.role(),
        "common_name": who.id.as_str(),
        "serial_number": certificate.serial,
        "subject_key_id": certificate.subject_key_id,
    })
}

fn auth(who: &Requester, certificate: &Certificate, text: &str, token: &Token, now_s: u64) -> SecretJson {
    let mut auth = SecretJson::with_capacity(2048);
    let rest = json!({
        "policies": policies(who),
        "token_policies": policies(who),
        "metadata": metadata(who, certificate),
        "lease_duration": token.ttl_s(now_s),
        "renewable": true,
        "entity_id": "",
        "token_type": "service",
        "orphan": true,
        "mfa_requirement": null,
        "num_uses": 0,
        "accessor": token.accessor(),
    });
    let rest = rest.to_string();
    auth.raw("{\"client_token\":").text(text).raw(",").raw(rest.strip_prefix('{').unwrap_or_default());
    auth
}

/// `POST auth/cert/login`. A role that is named must be the certificate's own.
pub(super) fn log_in(
    unsealed: &Unsealed,
    who: &Requester,
    certificate: &Certificate,
    body: &Object<'_>,
    now_s: u64,
) -> Result<Answer, Failure> {
    let role = body.text("name")?.unwrap_or_default();
    if !role.is_empty() && role != who.id.role() {
        return Err(Failure::bad("invalid certificate or no client certificate supplied"));
    }
    let issued = unsealed.tokens.issue(&who.certificate_sha256, now_s);
    let (token, text) = issued.map_err(|error| Failure::internal(&error.to_string()))?;
    Ok(Answer::new(Content::Auth(auth(who, certificate, &text, &token, now_s))).with_warnings(body.warning(&["name"])))
}

/// `GET auth/token/lookup-self`: of the token, or without one of the certificate.
pub(super) fn look_up(who: &Requester, certificate: &Certificate, token: Given<'_>, now_s: u64) -> Answer {
    let unsigned = |time: i64| u64::try_from(time).unwrap_or_default();
    let (issued_s, expires_s, kind) = match &token {
        Some((_, token)) => (token.issued_s, token.expires_s, "service"),
        None => (unsigned(certificate.issued_s), unsigned(certificate.expires_s), "certificate"),
    };
    let told = json!({
        "accessor": token.as_ref().map(|(_, token)| token.accessor()).unwrap_or_default(),
        "creation_time": issued_s,
        "creation_ttl": if token.is_some() { TOKEN_TTL_S } else { expires_s.saturating_sub(issued_s) },
        "display_name": format!("cert-{}", who.id.role()),
        "entity_id": "",
        "expire_time": rfc3339(expires_s),
        "explicit_max_ttl": 0,
        "issue_time": rfc3339(issued_s),
        "meta": metadata(who, certificate),
        "num_uses": 0,
        "orphan": true,
        "path": "auth/cert/login",
        "policies": policies(who),
        "renewable": token.is_some(),
        "ttl": expires_s.saturating_sub(now_s),
        "type": kind,
    });
    let told = told.to_string();
    let text = token.map_or(&b""[..], |(text, _)| text);
    let text = Zeroizing::new(String::from_utf8_lossy(text).into_owned());
    let mut data = SecretJson::with_capacity(2048);
    data.raw("{\"id\":").text(&text).raw(",").raw(told.strip_prefix('{').unwrap_or_default());
    Answer::new(Content::Secret(data))
}

/// `POST auth/token/renew-self`.
pub(super) fn renew(
    unsealed: &Unsealed,
    who: &Requester,
    certificate: &Certificate,
    token: Given<'_>,
    body: &Object<'_>,
    now_s: u64,
) -> Result<Answer, Failure> {
    let (text, token) = token.ok_or_else(Failure::denied)?;
    let asked = body.seconds("increment")?.filter(|seconds| *seconds > 0).unwrap_or(TOKEN_TTL_S);
    let renewed = unsealed.tokens.renew(token, asked, now_s);
    let renewed = renewed.map_err(|error| Failure::internal(&error.to_string()))?;
    let text = Zeroizing::new(String::from_utf8_lossy(text).into_owned());
    Ok(Answer::new(Content::Auth(auth(who, certificate, &text, &renewed, now_s))))
}

/// `POST auth/token/revoke-self`.
pub(super) fn revoke(unsealed: &Unsealed, token: Given<'_>, now_s: u64) -> Result<Answer, Failure> {
    let (_, token) = token.ok_or_else(Failure::denied)?;
    unsealed.tokens.revoke(token, now_s).map_err(|error| Failure::internal(&error.to_string()))?;
    Ok(Answer::new(Content::Nothing))
}

//! The endpoints below `sys/claviger/` that Transit does not have: revocations, proposals, grants, the policy.

use serde_json::{Value as Json, json};
use time::OffsetDateTime;
use tokio::task::spawn_blocking;

use super::answer::{Answer, Content, Failure};
use super::base64;
use super::json::Object;
use super::refusal::{self, Asked};
use crate::custodian::approval::json::hex;
use crate::custodian::approval::{Approval, Verb};
use crate::custodian::engine::{Done, Engine, EngineError, GatedCall};
use crate::custodian::grant::NewGrant;
use crate::custodian::requester::Requester;

fn now_unix_s() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

pub(super) fn told<T>(done: Result<Done<T>, EngineError>, data: impl FnOnce(T) -> Json) -> Result<Answer, Failure> {
    let Done { value, receipt, .. } = done.map_err(|error| refusal::failure(&error, Asked::Other, None))?;
    Ok(Answer::data(data(value)).with_receipt(receipt))
}

fn done<T>(done: Result<Done<T>, EngineError>) -> Result<Answer, Failure> {
    let Done { receipt, .. } = done.map_err(|error| refusal::failure(&error, Asked::Other, None))?;
    Ok(Answer::new(Content::Nothing).with_receipt(receipt))
}

/// `GET revocations`.
pub(super) async fn revocations(engine: &Engine, who: &Requester) -> Result<Answer, Failure> {
    told(
        engine.revocations(who).await,
        |all| json!({ "revocations": all.iter().map(|one| one.to_json()).collect::<Vec<_>>() }),
    )
}

/// `POST revocations` `{principal, note}`.
pub(super) async fn revoke(engine: &Engine, who: &Requester, body: &Object<'_>) -> Result<Answer, Failure> {
    let principal = body.text("principal")?.ok_or_else(|| Failure::bad("missing principal"))?;
    let note = body.text("note")?.unwrap_or_default();
    told(engine.revoke_principal(who, principal, note).await, |one| one.to_json())
}

/// `DELETE revocations/:principal`.
pub(super) async fn reinstate(
    engine: &Engine,
    who: &Requester,
    principal: &str,
    call: &GatedCall,
) -> Result<Answer, Failure> {
    done(engine.reinstate(who, principal, call).await)
}

/// `GET proposals`.
pub(super) async fn proposals(engine: &Engine, who: &Requester) -> Result<Answer, Failure> {
    let now = now_unix_s();
    let found = engine.proposals(who).await.map_err(|error| refusal::failure(&error, Asked::Other, None))?;
    // There may be thousands, whose signatures are checked where nobody did yet.
    let all = found.value;
    let shown = spawn_blocking(move || all.iter().map(|one| one.to_json(now)).collect::<Vec<_>>()).await;
    let shown = shown.map_err(|_| Failure::internal("the proposals could not be shown"))?;
    Ok(Answer::data(json!({ "proposals": shown })).with_receipt(found.receipt))
}

/// `GET proposals/:id`.
pub(super) async fn proposal(engine: &Engine, who: &Requester, id: &str) -> Result<Answer, Failure> {
    let now = now_unix_s();
    told(engine.proposal(who, id).await, |one| one.to_json(now))
}

/// The officer's signature in the body: `{certificate, signature}`, both in base64.
fn approval(body: &Object<'_>, verb: Verb) -> Result<Approval, Failure> {
    let bytes = |name: &'static str| {
        let text = body.text(name)?.ok_or_else(|| Failure::bad(format!("missing {name}")))?;
        base64::decode(text).map(|bytes| bytes.to_vec()).map_err(|error| Failure::bad(format!("{name}: {error}")))
    };
    let (certificate, signature) = (bytes("certificate")?, bytes("signature")?);
    Approval::new(verb, certificate, signature, now_unix_s()).map_err(|error| Failure::bad(error.to_string()))
}

/// `POST proposals/:id/approve` and `deny`.
pub(super) async fn vote(
    engine: &Engine,
    who: &Requester,
    id: &str,
    verb: Verb,
    body: &Object<'_>,
) -> Result<Answer, Failure> {
    let approval = approval(body, verb)?;
    let now = now_unix_s();
    let voted = match verb {
        Verb::Approve => engine.approve(who, id, approval).await,
        Verb::Veto => engine.veto(who, id, approval).await,
    };
    told(voted, |one| one.to_json(now))
}

/// `GET grants`.
pub(super) async fn grants(engine: &Engine, who: &Requester) -> Result<Answer, Failure> {
    let now = now_unix_s();
    told(
        engine.grants(who).await,
        |all| json!({ "grants": all.iter().map(|one| one.to_json(now)).collect::<Vec<_>>() }),
    )
}

/// `POST grants`.
pub(super) async fn request_grant(engine: &Engine, who: &Requester, body: &Object<'_>) -> Result<Answer, Failure> {
    let wanted = NewGrant::from_json(&body.to_plain()).map_err(|invalid| Failure::bad(invalid.to_string()))?;
    let now = now_unix_s();
    told(engine.request_grant(who, wanted).await, |one| one.to_json(now))
}

/// `POST grants/:id/approve`.
pub(super) async fn approve_grant(
    engine: &Engine,
    who: &Requester,
    id: &str,
    body: &Object<'_>,
) -> Result<Answer, Failure> {
    let approval = approval(body, Verb::Approve)?;
    let now = now_unix_s();
    told(engine.approve_grant(who, id, approval).await, |one| one.to_json(now))
}

/// `DELETE grants/:id`; an officer who refuses a request may sign that.
pub(super) async fn end_grant(
    engine: &Engine,
    who: &Requester,
    id: &str,
    body: &Object<'_>,
) -> Result<Answer, Failure> {
    let veto = if body.has("signature") { Some(approval(body, Verb::Veto)?) } else { None };
    let now = now_unix_s();
    told(engine.end_grant(who, id, veto).await, |one| one.to_json(now))
}

/// `GET policy`.
pub(super) async fn policy(engine: &Engine, who: &Requester) -> Result<Answer, Failure> {
    told(engine.policy(who).await, |(hash, text)| json!({ "sha256": hex(&hash), "policy": text }))
}

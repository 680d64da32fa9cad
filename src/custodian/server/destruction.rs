//! The endpoints about destroying KEKs: schedule, cancel, erase, tell.

use serde_json::json;
use time::OffsetDateTime;

use super::answer::{Answer, Failure};
use super::json::Object;
use super::refusal::{self, Asked};
use crate::custodian::destruction::{Destruction, Target};
use crate::custodian::engine::{Done, Engine, EngineError, GatedCall};
use crate::custodian::requester::Requester;
use crate::names::{KekName, KekVersion};

const FIELDS: &[&str] = &["version"];

/// The whole KEK, or with `{"version":N}` that version and all before it.
fn target(kek: &KekName, body: &Object<'_>) -> Result<Target, Failure> {
    let given = body.integer("version")?;
    let version = |number| u32::try_from(number).ok().and_then(KekVersion::new);
    let through = given.map(|number| version(number).ok_or_else(|| Failure::bad("version must be 1 or more")));
    Ok(Target { kek: kek.clone(), through: through.transpose()? })
}

fn told(done: Result<Done<Destruction>, EngineError>, kek: &KekName, body: &Object<'_>) -> Result<Answer, Failure> {
    let Done { value, receipt, .. } = done.map_err(|error| refusal::failure(&error, Asked::Other, Some(kek)))?;
    let now = OffsetDateTime::now_utc().unix_timestamp();
    Ok(Answer::data(value.to_json(now)).with_receipt(receipt).with_warnings(body.warning(FIELDS)))
}

/// `POST keys/:n/destroy` `{version}`.
pub(super) async fn destroy(
    engine: &Engine,
    who: &Requester,
    kek: &KekName,
    body: &Object<'_>,
    call: &GatedCall,
) -> Result<Answer, Failure> {
    told(engine.destroy(who, &target(kek, body)?, call).await, kek, body)
}

/// `POST keys/:n/destroy/cancel` `{version}`.
pub(super) async fn cancel(
    engine: &Engine,
    who: &Requester,
    kek: &KekName,
    body: &Object<'_>,
) -> Result<Answer, Failure> {
    told(engine.cancel_destruction(who, &target(kek, body)?).await, kek, body)
}

/// `POST keys/:n/erase` `{version}`.
pub(super) async fn erase(
    engine: &Engine,
    who: &Requester,
    kek: &KekName,
    body: &Object<'_>,
    call: &GatedCall,
) -> Result<Answer, Failure> {
    told(engine.erase(who, &target(kek, body)?, call).await, kek, body)
}

/// `GET keys/:n/destruction`.
pub(super) async fn read(engine: &Engine, who: &Requester, kek: &KekName) -> Result<Answer, Failure> {
    let done = engine.destructions(who, kek).await;
    let Done { value, receipt, .. } = done.map_err(|error| refusal::failure(&error, Asked::Read, Some(kek)))?;
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let all: Vec<_> = value.iter().map(|one| one.to_json(now)).collect();
    Ok(Answer::data(json!({ "kek": kek.as_str(), "destructions": all })).with_receipt(receipt))
}

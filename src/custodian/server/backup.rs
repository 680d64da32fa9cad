//! The endpoints about backups of KEKs: make one, take one in, take its branch keys in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use super::answer::{Answer, Failure};
use super::json::{Object, Value};
use super::ours::told;
use super::refusal::{self, Asked};
use crate::custodian::approval::canonical_json;
use crate::custodian::approval::json::{hex, unhex};
use crate::custodian::backup::{Audience, Backup};
use crate::custodian::engine::{Done, Engine, EngineError, GatedCall, RESTORED_BRANCHES_MAX, RestoredBranch};
use crate::custodian::kek::Ciphertext;
use crate::custodian::requester::Requester;
use crate::custody::context::BranchContext;
use crate::names::{BranchId, KekName, KekVersion};

fn failed(error: &EngineError) -> Failure {
    refusal::failure(error, Asked::Other, None)
}

fn refused(error: impl Into<EngineError>) -> Failure {
    failed(&error.into())
}

/// A list of texts; `None` when it is absent.
fn texts<'o>(body: &'o Object<'_>, name: &str) -> Result<Option<Vec<&'o str>>, Failure> {
    let texts = match body.get(name) {
        None => return Ok(None),
        Some(Value::List(items)) => items.iter().map(Value::as_text).collect::<Option<Vec<_>>>(),
        Some(_) => None,
    };
    texts.map(Some).ok_or_else(|| Failure::bad(format!("{name} must be a list of strings")))
}

/// `POST backup` `{keks, recipients, threshold}`.
pub(super) async fn make(
    engine: &Engine,
    who: &Requester,
    body: &Object<'_>,
    call: &GatedCall,
) -> Result<Answer, Failure> {
    let recipients = texts(body, "recipients")?.ok_or_else(|| Failure::bad("missing recipients"))?;
    let threshold = body.integer("threshold")?;
    let threshold = threshold.ok_or_else(|| Failure::bad("missing threshold"))?;
    let audience = Audience::new(recipients, u64::try_from(threshold).unwrap_or_default()).map_err(refused)?;
    let kek = |name: &str| KekName::new(name).map_err(|error| Failure::bad(error.to_string()));
    let keks = texts(body, "keks")?.map(|names| names.into_iter().map(kek).collect::<Result<Vec<_>, _>>());
    let done = engine.back_up(who, keks.transpose()?.as_deref(), &audience, call).await;
    let Done { value, receipt, .. } = done.map_err(|error| failed(&error))?;
    let names = |keks: &[KekName]| keks.iter().map(|kek| kek.as_str().to_owned()).collect::<Vec<_>>();
    let keks: Vec<KekName> = value.note.keks.iter().map(|(name, _)| name.clone()).collect();
    let data = json!({
        "id": value.note.id,
        "keks": names(&keks),
        "left_out": names(&value.left_out),
        "backup": value.text,
    });
    Ok(Answer::data(data).with_receipt(receipt).with_warnings(body.warning(&["keks", "recipients", "threshold"])))
}

/// `POST restore` `{backup_sha256}` to propose it, and `{backup}` to have it done with the shares that officers sent, or `{backup, shares}`
/// with those that somebody collected. What is proposed is the hash alone, so that no
/// share ever stands in a proposal.
pub(super) async fn restore(
    engine: &Engine,
    who: &Requester,
    body: &Object<'_>,
    path: &str,
) -> Result<Answer, Failure> {
    let backup = body.text("backup")?.map(|text| Backup::parse(text).map_err(refused)).transpose()?;
    let given = body.text("backup_sha256")?;
    let sha256 = match (&backup, given) {
        (Some(backup), None) => backup.sha256(),
        (None, Some(digits)) => unhex(digits).ok_or_else(|| Failure::bad("backup_sha256 must be 64 hex digits"))?,
        _ => return Err(Failure::bad("give either backup, with its shares, or backup_sha256")),
    };
    let call = restoring(&sha256, path);
    let shares = texts(body, "shares")?.unwrap_or_default();
    let whole = backup.as_ref().map(|backup| (backup, shares.as_slice()));
    let done = engine.restore_backup(who, whole, &call).await;
    let Done { value, receipt, .. } = done.map_err(|error| failed(&error))?;
    let restored: Vec<&str> = value.restored.iter().map(KekName::as_str).collect();
    let refused = |(kek, error): &(KekName, EngineError)| json!({ "kek": kek.as_str(), "error": error.to_string() });
    let refused: Vec<Json> = value.refused.iter().map(refused).collect();
    let data = json!({
        "restored": restored,
        "refused": refused,
        "opened_with": value.opened_with,
        "stray_shares": value.stray_shares,
    });
    Ok(Answer::data(data).with_receipt(receipt))
}

/// What officers approve.
fn restoring(backup_sha256: &[u8; 32], path: &str) -> GatedCall {
    let body = canonical_json(&json!({ "backup_sha256": hex(backup_sha256) }));
    GatedCall { method: "POST", path: path.to_owned(), body }
}

/// `POST restore/share` `{backup_sha256, share}`: an officer's own share, for a restoring that was approved.
pub(super) async fn give_share(
    engine: &Engine,
    who: &Requester,
    body: &Object<'_>,
    path: &str,
) -> Result<Answer, Failure> {
    let sha256 = body.text("backup_sha256")?.and_then(unhex);
    let sha256 = sha256.ok_or_else(|| Failure::bad("backup_sha256 must be 64 hex digits"))?;
    let share = body.text("share")?.ok_or_else(|| Failure::bad("missing share"))?;
    let call = restoring(&sha256, path.strip_suffix("/share").unwrap_or(path));
    told(engine.give_share(who, share.trim_ascii(), &call).await, |held| json!({ "shares": held }))
}

/// `POST restore/branches` `{kek, branches: [{id, context, generated, ciphertexts}]}`.
pub(super) async fn restore_branches(engine: &Engine, who: &Requester, body: &Object<'_>) -> Result<Answer, Failure> {
    let name = body.text("kek")?;
    let name = KekName::new(name.ok_or_else(|| Failure::bad("missing kek"))?);
    let name = name.map_err(|error| Failure::bad(error.to_string()))?;
    let Some(Value::List(items)) = body.get("branches") else { return Err(Failure::bad("missing branches")) };
    if items.len() > RESTORED_BRANCHES_MAX {
        return Err(Failure::bad(format!("more than {RESTORED_BRANCHES_MAX} branches at once")));
    }
    let branches: Option<Vec<RestoredBranch>> = items.iter().map(branch).collect();
    let branches = branches.ok_or_else(|| {
        Failure::bad(
            "a branch is {id, context, generated, ciphertexts}: 32 hex digits, base64, a number, a list of strings",
        )
    })?;
    let done = engine.restore_branches(who, &name, &branches).await;
    let Done { value, receipt, .. } = done.map_err(|error| failed(&error))?;
    let refused: Vec<String> = value.refused.iter().map(BranchId::to_string).collect();
    Ok(Answer::data(json!({ "taken": value.taken, "refused": refused })).with_receipt(receipt))
}

/// `POST keys/:n/ledger-whole`.
pub(super) async fn declare_whole(
    engine: &Engine,
    who: &Requester,
    kek: &KekName,
    call: &GatedCall,
) -> Result<Answer, Failure> {
    told(engine.declare_whole(who, kek, call).await, |()| json!({ "kek": kek.as_str() }))
}

fn branch(value: &Value<'_>) -> Option<RestoredBranch> {
    let Value::Object(branch) = value else { return None };
    let context = STANDARD.decode(branch.text("context").ok()??).ok()?;
    let generated = u32::try_from(branch.integer("generated").ok()??).ok()?;
    let ciphertexts = texts(branch, "ciphertexts").ok()??;
    Some(RestoredBranch {
        id: BranchId::parse(branch.text("id").ok()??)?,
        context: BranchContext::parse(&context).ok()?,
        generated: KekVersion::new(generated)?,
        wrapped: ciphertexts.into_iter().map(Ciphertext::parse).collect::<Result<_, _>>().ok()?,
    })
}

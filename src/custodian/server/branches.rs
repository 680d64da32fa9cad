//! The endpoints below `sys/claviger/keys/:n` about branch keys: `census`, `branches`, `rewrap`, `confirm`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use super::answer::{Answer, Failure};
use super::json::{Object, Value};
use super::ours::told;
use super::router::parameter;
use crate::custodian::approval::json::rfc3339;
use crate::custodian::engine::{BRANCHES_AT_ONCE_MAX, BranchFailure, BranchList, Census, Each, Engine, Retirement};
use crate::custodian::kek::Ciphertext;
use crate::custodian::requester::Requester;
use crate::custodian::store::{BranchState, Cursor};
use crate::custody::wrapped::WrappedKey;
use crate::names::{BranchId, KekName, KekVersion};

/// `GET census`.
pub(super) async fn census(engine: &Engine, who: &Requester, kek: &KekName) -> Result<Answer, Failure> {
    told(engine.census(who, kek).await, |census| census_json(kek, &census))
}

fn census_json(kek: &KekName, census: &Census) -> Json {
    let versions = census.versions.iter();
    let versions = versions.map(|(version, count)| (version.number().to_string(), json!({ "branch_keys": count })));
    json!({
        "kek": kek.as_str(),
        "latest": census.latest.number(),
        "min_decryption": census.min_decryption.number(),
        "rotated": rfc3339(census.rotated_unix_s),
        "sites": census.sites,
        "branch_keys": census.branch_keys,
        "without_context": census.without_context,
        "versions": versions.collect::<serde_json::Map<_, _>>(),
        "retire": {
            "before": census.retire.before.number(),
            "allowed": census.retire.is_allowed(),
            "needed": census.retire.needed,
            "unconfirmed": census.retire.unconfirmed,
            "wait_s": census.retire.wait_s,
            "why": why(&census.retire),
        },
    })
}

fn why(retire: &Retirement) -> Vec<String> {
    let before = retire.before;
    let mut why = Vec::new();
    if let Some(through) = retire.restored_through {
        why.push(format!(
            "it came from a backup (of version {through}), and the ledger may not know all branch keys: claviger key adopt"
        ));
    }
    if retire.needed > 0 {
        why.push(format!("{} branch keys still need a version before {before}: claviger key rewrap", retire.needed));
    }
    if retire.wait_s > 0 {
        why.push(format!("proxies may be given branch keys under an older version for {} s more", retire.wait_s));
    }
    if retire.unconfirmed > 0 {
        why.push(format!("{} branch keys have to be read back once more: claviger key retire", retire.unconfirmed));
    }
    why
}

/// `GET branches?before=N&after=CURSOR&limit=n`.
pub(super) async fn list(engine: &Engine, who: &Requester, kek: &KekName, query: &str) -> Result<Answer, Failure> {
    let version = |text: &str| text.parse().ok().and_then(KekVersion::new);
    let before = parameter(query, "before").map(|text| version(text).ok_or_else(|| Failure::bad("invalid before")));
    let after = parameter(query, "after").map(|text| Cursor::parse(text).ok_or_else(|| Failure::bad("invalid after")));
    let limit = parameter(query, "limit").map(|text| text.parse().map_err(|_| Failure::bad("invalid limit")));
    let (before, after, limit) = (before.transpose()?, after.transpose()?, limit.transpose()?);
    let listed = engine.branches(who, kek, before, after, limit.unwrap_or(BRANCHES_AT_ONCE_MAX)).await;
    told(listed, |BranchList { branches, next }| {
        let next = next.map(Cursor::to_text);
        json!({ "branches": branches.iter().map(branch_json).collect::<Vec<_>>(), "next": next })
    })
}

fn branch_json(state: &BranchState) -> Json {
    let confirmed = state.confirmed.iter().map(|(site, found)| (site.clone(), found.version.number().into()));
    json!({
        "id": state.id.to_string(),
        "context": state.context().map(|context| STANDARD.encode(context.to_bytes())),
        "generated": state.generated().number(),
        "created": state.created_unix_s(),
        "newest": state.newest().wrapped.version().number(),
        "ciphertext": Ciphertext::of(&state.newest().wrapped).to_text(),
        "confirmed": confirmed.collect::<serde_json::Map<_, _>>(),
    })
}

/// `POST rewrap` `{ids}`.
pub(super) async fn rewrap(
    engine: &Engine,
    who: &Requester,
    kek: &KekName,
    body: &Object<'_>,
) -> Result<Answer, Failure> {
    let ids =
        items(body, "ids")?.iter().map(|value| value.as_text().and_then(BranchId::parse)).collect::<Option<Vec<_>>>();
    let ids = ids.ok_or_else(|| Failure::bad("ids are texts of 32 hexadecimal digits"))?;
    told(engine.rewrap_branches(who, kek, &ids).await, |each| {
        let done = each.done.iter();
        let done =
            done.map(|(id, wrapped)| json!({ "id": id.to_string(), "ciphertext": Ciphertext::of(wrapped).to_text() }));
        json!({ "branches": done.collect::<Vec<_>>(), "failed": failed(&each) })
    })
}

/// `POST confirm` `{site, branches: [{id, ciphertext}]}`.
pub(super) async fn confirm(
    engine: &Engine,
    who: &Requester,
    kek: &KekName,
    body: &Object<'_>,
) -> Result<Answer, Failure> {
    let site = body.text("site")?.ok_or_else(|| Failure::bad("missing site"))?;
    let read: Vec<_> = items(body, "branches")?.iter().map(read_back).collect::<Result<_, _>>()?;
    told(
        engine.confirm_branches(who, kek, site, &read).await,
        |each| json!({ "confirmed": each.done.len(), "refused": failed(&each) }),
    )
}

fn read_back(value: &Value<'_>) -> Result<(BranchId, Option<WrappedKey>), Failure> {
    let Value::Object(one) = value else { return Err(Failure::bad("branches are objects with id and ciphertext")) };
    let id = one.text("id")?.and_then(BranchId::parse).ok_or_else(|| Failure::bad("invalid id"))?;
    let wrapped = one.text("ciphertext")?.map(|text| {
        let parsed = Ciphertext::parse(text).map_err(|error| Failure::bad(error.to_string()))?;
        WrappedKey::new(parsed.version(), parsed.bytes().to_vec())
            .map_err(|_| Failure::bad("invalid ciphertext length"))
    });
    Ok((id, wrapped.transpose()?))
}

/// The list in a field, which is there and not too long.
fn items<'a, 'b>(body: &'a Object<'b>, name: &'static str) -> Result<&'a [Value<'b>], Failure> {
    match body.get(name) {
        Some(Value::List(list)) if list.len() <= BRANCHES_AT_ONCE_MAX => Ok(list),
        Some(Value::List(_)) => Err(Failure::bad(format!("more than {BRANCHES_AT_ONCE_MAX} branch keys at once"))),
        _ => Err(Failure::bad(format!("missing {name}, a list"))),
    }
}

fn failed<T>(each: &Each<T>) -> Vec<Json> {
    let failed = each.failed.iter();
    failed
        .map(|(id, error): &(BranchId, BranchFailure)| json!({ "id": id.to_string(), "error": error.to_string() }))
        .collect()
}

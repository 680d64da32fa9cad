//! The endpoints about KEKs as a whole: make, tell, list, rotate, configure, trim, set aside, delete, switch off and on.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Value as Json, json};

use super::answer::{Answer, Content, Failure};
use super::json::{Object, Value};
use super::refusal::{self, Asked};
use crate::custodian::engine::{Done, Engine, EngineError, GatedCall};
use crate::custodian::kek::{KekInfo, KeyChange, KeyOptions, KeyType, KeyringError, Labels};
use crate::custodian::requester::Requester;
use crate::names::KekName;

const CREATE_FIELDS: &[&str] = &[
    "type",
    "derived",
    "exportable",
    "allow_plaintext_backup",
    "auto_rotate_period",
    "convergent_encryption",
    "key_size",
    "context",
    "labels",
    "name",
];
const CONFIG_FIELDS: &[&str] = &[
    "min_decryption_version",
    "min_encryption_version",
    "deletion_allowed",
    "exportable",
    "allow_plaintext_backup",
    "auto_rotate_period",
    "name",
];

/// What Vault tells of a key, and in `claviger` what is ours.
fn told(info: &KekInfo) -> Json {
    // Vault keeps versions that are no longer opened to itself.
    let shown = info.versions.iter().filter(|(version, _)| version.number() >= info.min_decryption);
    let keys: BTreeMap<String, i64> = shown.map(|(version, made)| (version.number().to_string(), *made)).collect();
    let labels: BTreeMap<&str, &str> = info.labels.iter().collect();
    let mut told = json!({
        "allow_plaintext_backup": info.allow_plaintext_backup,
        "auto_rotate_period": info.auto_rotate_period_s,
        "claviger": { "disabled": info.disabled, "labels": labels },
        "deletion_allowed": info.deletion_allowed,
        "derived": info.derived,
        "exportable": info.exportable,
        "imported_key": false,
        "keys": keys,
        "latest_version": info.latest.number(),
        "min_available_version": info.min_available,
        "min_decryption_version": info.min_decryption,
        "min_encryption_version": info.min_encryption,
        "name": info.name.as_str(),
        "soft_deleted": info.soft_deleted,
        "supports_decryption": true,
        "supports_derivation": true,
        "supports_encryption": true,
        "supports_signing": false,
        "type": info.key_type.as_str(),
    });
    if let (true, Some(told)) = (info.derived, told.as_object_mut()) {
        told.insert("kdf".to_owned(), "hkdf_sha256".into());
        told.insert("convergent_encryption".to_owned(), false.into());
    }
    told
}

fn answer(done: Result<Done<KekInfo>, EngineError>, asked: Asked, kek: &KekName) -> Result<Answer, Failure> {
    let Done { value, receipt, .. } = done.map_err(|error| refusal::failure(&error, asked, Some(kek)))?;
    Ok(Answer::data(told(&value)).with_receipt(receipt))
}

/// The answer to a change that tells nothing itself.
fn changed<T>(
    engine: &Engine,
    done: Result<Done<T>, EngineError>,
    asked: Asked,
    kek: &KekName,
) -> Result<Answer, Failure> {
    let Done { receipt, .. } = done.map_err(|error| refusal::failure(&error, asked, Some(kek)))?;
    let content = engine.glance(kek).map_or(Content::Nothing, |info| Content::Data(told(&info)));
    Ok(Answer::new(content).with_receipt(receipt))
}

/// `POST keys/:n`.
pub(super) async fn create(
    engine: &Engine,
    who: &Requester,
    kek: &KekName,
    body: &Object<'_>,
    call: &GatedCall,
) -> Result<Answer, Failure> {
    let options = options(body)?;
    let done = engine.create(who, kek, options, call).await;
    let existed = done.as_ref().is_ok_and(|done| done.existed);
    let warning = existed.then(|| format!("key {kek} already existed"));
    Ok(answer(done, Asked::Other, kek)?.with_warnings(warning).with_warnings(body.warning(CREATE_FIELDS)))
}

fn options(body: &Object<'_>) -> Result<KeyOptions, Failure> {
    let kind = body.text("type")?.unwrap_or("aes256-gcm96");
    let key_type = KeyType::from_name(kind).ok_or_else(|| Failure::bad(format!("unknown key type {}", shown(kind))))?;
    if body.flag("convergent_encryption")? == Some(true) {
        return Err(Failure::bad("convergent encryption is not supported"));
    }
    if body.integer("key_size")?.unwrap_or_default() != 0 {
        return Err(Failure::bad(format!("key_size is not valid for algorithm {}", key_type.as_str())));
    }
    let flag = |name| Ok::<_, Failure>(body.flag(name)?.unwrap_or_default());
    Ok(KeyOptions {
        key_type,
        derived: flag("derived")?,
        exportable: flag("exportable")?,
        allow_plaintext_backup: flag("allow_plaintext_backup")?,
        auto_rotate_period_s: body.seconds("auto_rotate_period")?.unwrap_or_default(),
        labels: labels(body)?,
    })
}

/// A type that is unknown, where it looks like one at all.
fn shown(kind: &str) -> &str {
    let legal = kind.len() <= 64 && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if legal { kind } else { "" }
}

fn labels(body: &Object<'_>) -> Result<Labels, Failure> {
    let Some(object) = body.object("labels")? else { return Ok(Labels::default()) };
    let pair = |(name, value): (&str, &Value<'_>)| Some((name.to_owned(), value.as_text()?.to_owned()));
    let labels = object.pairs().map(pair).collect::<Option<BTreeMap<_, _>>>();
    let labels = labels.ok_or_else(|| Failure::bad("the values of labels are strings"))?;
    Labels::new(labels).map_err(|invalid| Failure::bad(invalid.to_string()))
}

/// `GET keys/:n`.
pub(super) async fn read(engine: &Engine, who: &Requester, kek: &KekName) -> Result<Answer, Failure> {
    answer(engine.key(who, kek).await, Asked::Read, kek)
}

/// `LIST keys`.
pub(super) async fn list(engine: &Engine, who: &Requester) -> Result<Answer, Failure> {
    let done = engine.keys(who).await.map_err(|error| refusal::failure(&error, Asked::Other, None))?;
    if done.value.is_empty() {
        return Err(Failure::empty(StatusCode::NOT_FOUND));
    }
    let mut names: Vec<&str> = done.value.iter().map(KekName::as_str).collect();
    names.sort_unstable();
    Ok(Answer::data(json!({ "keys": names })).with_receipt(done.receipt))
}

/// `POST keys/:n/rotate`.
pub(super) async fn rotate(engine: &Engine, who: &Requester, kek: &KekName) -> Result<Answer, Failure> {
    changed(engine, engine.rotate(who, kek).await, Asked::Rotate, kek)
}

/// `POST keys/:n/config`.
pub(super) async fn configure(
    engine: &Engine,
    who: &Requester,
    kek: &KekName,
    body: &Object<'_>,
    call: &GatedCall,
) -> Result<Answer, Failure> {
    let min_decryption = version(body, "min_decryption_version", "min decryption version cannot be negative")?;
    let forced = (min_decryption == Some(0)).then(|| {
        "since Vault 0.3 (prior to the OpenBao fork), transit key numbering starts at 1; forcing minimum to 1"
            .to_owned()
    });
    let flag = |name| body.flag(name);
    let change = KeyChange {
        min_decryption_version: min_decryption,
        min_encryption_version: version(body, "min_encryption_version", "min encryption version cannot be negative")?,
        deletion_allowed: flag("deletion_allowed")?,
        exportable: flag("exportable")?,
        allow_plaintext_backup: flag("allow_plaintext_backup")?,
        auto_rotate_period_s: body.seconds("auto_rotate_period")?,
    };
    let done = engine.configure(who, kek, change, call).await;
    Ok(answer(done, Asked::Configure, kek)?.with_warnings(forced).with_warnings(body.warning(CONFIG_FIELDS)))
}

/// A version number. One that is too large for a version is above every latest one.
fn version(body: &Object<'_>, name: &'static str, negative: &str) -> Result<Option<u32>, Failure> {
    let Some(number) = body.integer(name)? else { return Ok(None) };
    if number < 0 {
        return Err(Failure::bad(negative));
    }
    Ok(Some(u32::try_from(number).unwrap_or(u32::MAX)))
}

/// `POST keys/:n/trim`.
pub(super) async fn trim(
    engine: &Engine,
    who: &Requester,
    kek: &KekName,
    body: &Object<'_>,
    call: &GatedCall,
) -> Result<Answer, Failure> {
    let asked = version(body, "min_available_version", "minimum available version cannot be negative")?;
    let min_available = asked.ok_or_else(|| Failure::bad("missing min_available_version"))?;
    let done = engine.trim(who, kek, min_available, call).await;
    Ok(answer(done, Asked::Trim, kek)?.with_warnings(body.warning(&["min_available_version", "name"])))
}

/// `DELETE keys/:n`.
pub(super) async fn delete(
    engine: &Engine,
    who: &Requester,
    kek: &KekName,
    call: &GatedCall,
) -> Result<Answer, Failure> {
    let done = engine.delete(who, kek, call).await;
    let done = done.map_err(|error| refusal::failure(&error, Asked::Delete, Some(kek)))?;
    Ok(Answer::new(Content::Nothing).with_receipt(done.receipt))
}

/// `DELETE keys/:n/soft-delete` and `POST keys/:n/soft-delete-restore`, which say nothing of a key that is not there.
pub(super) async fn set_aside(engine: &Engine, who: &Requester, kek: &KekName, aside: bool) -> Result<Answer, Failure> {
    let done = if aside { engine.soft_delete(who, kek).await } else { engine.restore(who, kek).await };
    if let Err(EngineError::Keyring(KeyringError::Unknown)) = done {
        return Ok(Answer::new(Content::Nothing));
    }
    changed(engine, done, Asked::Other, kek)
}

/// `POST keys/:n/disable`.
pub(super) async fn disable(engine: &Engine, who: &Requester, kek: &KekName) -> Result<Answer, Failure> {
    changed(engine, engine.disable(who, kek).await, Asked::Other, kek)
}

/// `POST keys/:n/enable`.
pub(super) async fn enable(
    engine: &Engine,
    who: &Requester,
    kek: &KekName,
    call: &GatedCall,
) -> Result<Answer, Failure> {
    changed(engine, engine.enable(who, kek, call).await, Asked::Other, kek)
}

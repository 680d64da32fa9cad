//! `encrypt`, `decrypt`, `rewrap` and `datakey`: one item, or a batch of them.
//!
//! A batch's items are decided, logged and done one by one: the results come in order, and an item that is refused says why in its
//! place. With `encrypt` and `decrypt` a bad item makes the whole answer a 400, unless `partial_failure_response_code` says
//! otherwise; `rewrap` answers 200 all the same, as Vault does.

use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use zeroize::Zeroizing;

use super::answer::{Answer, Content, Failure, SecretJson, base64_len};
use super::base64;
use super::json::{Object, Value};
use super::refusal::{self, Asked};
use crate::custodian::engine::{Done, EncryptRequest, Engine, EngineError, GenerateRequest};
use crate::custodian::kek::{Ciphertext, DataKeyLen, KeyringError};
use crate::custodian::requester::Requester;
use crate::names::{KekName, KekVersion};
use crate::tlog::Receipt;

/// Most items of a batch.
const BATCH_MAX: usize = 1024;
/// How many items of a batch are under way at once.
const AT_ONCE: usize = 64;
/// Characters of an item's JSON besides what it holds.
const ITEM_ROOM: usize = 128;

const ENCRYPT_FIELDS: &[&str] = &[
    "plaintext",
    "context",
    "nonce",
    "key_version",
    "associated_data",
    "batch_input",
    "reference",
    "type",
    "convergent_encryption",
    "partial_failure_response_code",
    "name",
];
const DECRYPT_FIELDS: &[&str] = &[
    "ciphertext",
    "context",
    "nonce",
    "associated_data",
    "batch_input",
    "reference",
    "partial_failure_response_code",
    "name",
];
const REWRAP_FIELDS: &[&str] = &["ciphertext", "context", "nonce", "key_version", "batch_input", "reference", "name"];
const DATA_KEY_FIELDS: &[&str] = &["context", "nonce", "bits", "key_version", "associated_data", "name", "plaintext"];

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Encrypt,
    Decrypt,
    Rewrap,
}

impl Operation {
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Encrypt => ENCRYPT_FIELDS,
            Self::Decrypt => DECRYPT_FIELDS,
            Self::Rewrap => REWRAP_FIELDS,
        }
    }

    fn input(self) -> &'static str {
        if self == Self::Encrypt { "plaintext" } else { "ciphertext" }
    }

    fn missing(self) -> &'static str {
        if self == Self::Encrypt { "missing plaintext to encrypt" } else { "missing ciphertext to decrypt" }
    }

    fn asked(self) -> Asked {
        if self == Self::Encrypt { Asked::Encrypt } else { Asked::Decrypt }
    }
}

/// One item, read.
struct Item {
    input: Input,
    context: Vec<u8>,
    aad: Vec<u8>,
    version: Option<KekVersion>,
}

enum Input {
    Plaintext(Zeroizing<Vec<u8>>),
    Ciphertext(Ciphertext),
}

/// What came of an item.
enum Outcome {
    Plaintext(Zeroizing<Vec<u8>>),
    Ciphertext(Ciphertext),
    /// It is bad, and this is why.
    Bad(String),
    Denied,
}

/// Does what `body` asks for with `kek`.
pub(super) async fn perform(
    engine: &Engine,
    who: &Requester,
    operation: Operation,
    kek: &KekName,
    body: &Object<'_>,
) -> Result<Answer, Failure> {
    let batch = match body.get("batch_input") {
        None => None,
        Some(Value::List(list)) => Some(list.as_slice()),
        Some(_) => return Err(Failure::bad("failed to parse batch input: source data must be an array or slice")),
    };
    let objects = match batch {
        None => vec![body],
        Some(list) => batch_objects(list, operation)?,
    };
    let items = read_items(&objects, operation, batch.is_some())?;
    let asked = items.into_iter().map(|item| one(engine, who, operation, kek, item));
    // In order, so that the first failure of all is the same whenever it is asked for again.
    let done: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    let mut outcomes = Vec::with_capacity(done.len());
    let mut receipts = Vec::new();
    for outcome in done {
        let (outcome, receipt) = outcome?;
        outcomes.push(outcome);
        receipts.extend(receipt);
    }
    if outcomes.iter().all(|outcome| matches!(outcome, Outcome::Denied)) {
        return Err(Failure::denied());
    }
    let answer = match batch {
        None => single_answer(outcomes.pop().expect("there is one item"), operation)?,
        Some(_) => batch_answer(&outcomes, &objects, operation, body)?,
    };
    let warnings = body.warning(operation.fields());
    Ok(Answer { receipts, ..answer }.with_warnings(warnings))
}

fn batch_objects<'v, 'b>(list: &'v [Value<'b>], operation: Operation) -> Result<Vec<&'v Object<'b>>, Failure> {
    if list.is_empty() {
        return Err(Failure::bad("missing batch input to process"));
    }
    if list.len() > BATCH_MAX {
        return Err(Failure::bad(format!("a batch has at most {BATCH_MAX} items")));
    }
    let object = |(index, value): (usize, &'v Value<'b>)| match value {
        Value::Object(object) => Ok(object),
        _ => Err(Failure::bad(format!("failed to parse batch input: [{index}] expected a map"))),
    };
    let objects = list.iter().enumerate().map(object).collect::<Result<Vec<_>, _>>()?;
    let absent = objects.iter().position(|object| !object.has(operation.input()));
    match absent.filter(|_| operation != Operation::Rewrap) {
        Some(at) => {
            let (input, missing) = (operation.input(), operation.missing());
            Err(Failure::bad(format!("failed to parse batch input: '[{at}].{input}' {missing}")))
        }
        None => Ok(objects),
    }
}

/// Reads all items; a bad one is kept as the reason why. What concerns the batch as a whole fails.
fn read_items(
    objects: &[&Object<'_>],
    operation: Operation,
    batch: bool,
) -> Result<Vec<Result<Item, String>>, Failure> {
    let mut items = Vec::with_capacity(objects.len());
    let mut with_context = None;
    for object in objects {
        let context = object.text("context")?.unwrap_or_default();
        if *with_context.get_or_insert(!context.is_empty()) == context.is_empty() {
            return Err(Failure::bad("context should be set either in all the request blocks or in none"));
        }
        let input = object.text(operation.input())?;
        let version = object.integer("key_version")?.unwrap_or_default();
        let aad = object.text("associated_data")?.unwrap_or_default();
        if object.flag("convergent_encryption")? == Some(true) {
            return Err(Failure::bad("convergent encryption is not supported"));
        }
        // `null` is an empty plaintext, as it is for Vault.
        let given = input.or(object.has(operation.input()).then_some("").filter(|_| operation == Operation::Encrypt));
        if given.is_none() && !batch {
            return Err(Failure::bad(operation.missing()));
        }
        items.push(item(operation, given, context, aad, version));
    }
    Ok(items)
}

fn item(operation: Operation, input: Option<&str>, context: &str, aad: &str, version: i64) -> Result<Item, String> {
    let input = input.filter(|input| operation == Operation::Encrypt || !input.is_empty());
    let input = input.ok_or_else(|| operation.missing().to_owned())?;
    let input = match operation {
        Operation::Encrypt => Input::Plaintext(base64::decode(input)?),
        Operation::Decrypt | Operation::Rewrap => {
            Input::Ciphertext(Ciphertext::parse(input).map_err(|invalid| invalid.to_string())?)
        }
    };
    let context = base64::decode(context)?.to_vec();
    let aad = base64::decode(aad)?.to_vec();
    Ok(Item { input, context, aad, version: key_version(version)? })
}

/// 0 stands for the newest.
fn key_version(version: i64) -> Result<Option<KekVersion>, String> {
    if version < 0 {
        return Err("requested version for encryption is negative".to_owned());
    }
    let too_high = "requested version for encryption is higher than the latest key version";
    u32::try_from(version).map(KekVersion::new).map_err(|_| too_high.to_owned())
}

type Settled = (Outcome, Option<Receipt>);

async fn one(
    engine: &Engine,
    who: &Requester,
    operation: Operation,
    kek: &KekName,
    item: Result<Item, String>,
) -> Result<Settled, Failure> {
    let Item { input, context, aad, version } = match item {
        Ok(item) => item,
        Err(bad) => return Ok((Outcome::Bad(bad), None)),
    };
    match (operation, input) {
        (_, Input::Plaintext(plaintext)) => {
            let request = EncryptRequest { plaintext, context, aad, version };
            settle(engine.encrypt(who, kek, request).await, Outcome::Ciphertext, operation.asked(), kek)
        }
        (Operation::Rewrap, Input::Ciphertext(ciphertext)) => {
            let newer = version.is_some_and(|version| version >= ciphertext.version());
            let asked = if newer { Asked::Encrypt } else { Asked::Decrypt };
            let done = engine.rewrap(who, kek, &ciphertext, version, &context, &aad).await;
            settle(done, Outcome::Ciphertext, asked, kek)
        }
        (_, Input::Ciphertext(ciphertext)) => {
            let done = engine.decrypt(who, kek, &ciphertext, &context, &aad).await;
            settle(done, Outcome::Plaintext, operation.asked(), kek)
        }
    }
}

/// What is wrong with one item is its outcome; what is wrong with the KEK, or here, is everyone's.
fn settle<T>(
    done: Result<Done<T>, EngineError>,
    outcome: impl FnOnce(T) -> Outcome,
    asked: Asked,
    kek: &KekName,
) -> Result<Settled, Failure> {
    match done {
        Ok(Done { value, receipt, .. }) => Ok((outcome(value), Some(receipt))),
        Err(EngineError::Denied | EngineError::ContextOfOther) => Ok((Outcome::Denied, None)),
        Err(EngineError::Keyring(
            error @ (KeyringError::VersionTooOld
            | KeyringError::VersionUnknown
            | KeyringError::VersionNotForEncryption
            | KeyringError::NotAuthentic
            | KeyringError::MissingContext),
        )) => Ok((Outcome::Bad(refusal::text(&error, asked, Some(kek))), None)),
        Err(error) => Err(refusal::failure(&error, asked, Some(kek))),
    }
}

fn single_answer(outcome: Outcome, operation: Operation) -> Result<Answer, Failure> {
    match outcome {
        Outcome::Bad(error) => Err(Failure::bad(error)),
        outcome => {
            let mut json = SecretJson::with_capacity(room(&outcome));
            json.raw("{");
            write(&mut json, &outcome, operation);
            json.raw("}");
            Ok(Answer::new(Content::Secret(json)))
        }
    }
}

fn batch_answer(
    outcomes: &[Outcome],
    objects: &[&Object<'_>],
    operation: Operation,
    body: &Object<'_>,
) -> Result<Answer, Failure> {
    let partial = body.integer("partial_failure_response_code")?;
    let mut json = SecretJson::with_capacity(32 + outcomes.iter().map(room).sum::<usize>());
    json.raw("{\"batch_results\":[");
    for (index, (outcome, object)) in outcomes.iter().zip(objects).enumerate() {
        json.raw(if index == 0 { "{" } else { ",{" });
        write(&mut json, outcome, operation);
        let reference = object.text("reference")?.unwrap_or_default();
        json.raw(",\"reference\":").text(reference).raw("}");
    }
    json.raw("]}");
    let is_bad = |outcome: &Outcome| matches!(outcome, Outcome::Bad(_) | Outcome::Denied);
    let bad = outcomes.iter().filter(|outcome| is_bad(outcome)).count();
    let status = if bad == 0 || operation == Operation::Rewrap {
        StatusCode::OK
    } else {
        let asked = partial.and_then(|code| u16::try_from(code).ok()).filter(|code| (200..600).contains(code));
        let asked = asked.filter(|_| bad < outcomes.len()).and_then(|code| StatusCode::from_u16(code).ok());
        asked.unwrap_or(StatusCode::BAD_REQUEST)
    };
    Ok(Answer::new(Content::Secret(json)).with_status(status))
}

fn room(outcome: &Outcome) -> usize {
    let held = match outcome {
        Outcome::Plaintext(bytes) => base64_len(bytes.len()),
        Outcome::Ciphertext(ciphertext) => base64_len(ciphertext.bytes().len()),
        Outcome::Bad(_) | Outcome::Denied => 0,
    };
    held + ITEM_ROOM
}

fn write(json: &mut SecretJson, outcome: &Outcome, operation: Operation) {
    match outcome {
        Outcome::Plaintext(bytes) => {
            json.raw("\"plaintext\":").base64(bytes);
        }
        Outcome::Ciphertext(ciphertext) => write_ciphertext(json, ciphertext),
        Outcome::Bad(_) | Outcome::Denied => {
            if operation == Operation::Decrypt {
                json.raw("\"plaintext\":\"\",");
            }
            let error = if let Outcome::Bad(error) = outcome { error } else { "permission denied" };
            json.raw("\"error\":").text(error);
        }
    }
}

fn write_ciphertext(json: &mut SecretJson, ciphertext: &Ciphertext) {
    json.raw("\"ciphertext\":").text(&ciphertext.to_text());
    json.raw(",\"key_version\":").raw(&ciphertext.version().number().to_string());
}

/// Makes a key and wraps it under `kek`.
pub(super) async fn data_key(
    engine: &Engine,
    who: &Requester,
    kek: &KekName,
    plaintext: bool,
    body: &Object<'_>,
) -> Result<Answer, Failure> {
    let context = body.text("context")?.unwrap_or_default();
    let context = base64::decode(context).map_err(|_| Failure::bad("failed to base64-decode context"))?.to_vec();
    let aad = body.text("associated_data")?.unwrap_or_default();
    let aad = base64::decode(aad).map_err(Failure::bad)?.to_vec();
    let bits = body.integer("bits")?.unwrap_or(256);
    let length = u32::try_from(bits).ok().and_then(DataKeyLen::from_bits);
    let length = length.ok_or_else(|| Failure::bad("invalid bit length"))?;
    let version = body.integer("key_version")?.unwrap_or_default();
    let version = key_version(version).map_err(Failure::bad)?;
    let request = GenerateRequest { context, aad, version, plaintext };
    let done = engine.generate(who, kek, length, request).await;
    let Done { value, receipt, .. } = done.map_err(|error| refusal::failure(&error, Asked::Encrypt, Some(kek)))?;
    let mut json = SecretJson::with_capacity(512);
    json.raw("{");
    write_ciphertext(&mut json, &value.ciphertext);
    if let Some(key) = &value.plaintext {
        json.raw(",\"plaintext\":").base64(key);
    }
    json.raw("}");
    Ok(Answer::new(Content::Secret(json)).with_receipt(receipt).with_warnings(body.warning(DATA_KEY_FIELDS)))
}

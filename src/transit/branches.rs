//! Branch keys in the ledger of a custodian of ours: listed, moved to the newest version, confirmed at a site.
//!
//! OpenBao and Vault have no ledger: there, [`lacks_ledger`] is true of the error of these calls.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::custody::CustodyError;
use crate::custody::caller::Caller;
use crate::custody::context::BranchContext;
use crate::custody::wrapped::WrappedKey;
use crate::names::{BranchId, KekName, KekVersion};

use super::answer::{Envelope, parse};
use super::error::TransitError;
use super::exchange::Call;
use super::{Transit, ciphertext};

/// Branch keys of one call: fewer than the custodian takes, so that one call does not hold its database for long.
pub const AT_ONCE_MAX: usize = 200;
/// How long a call about many branch keys may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// A branch key of the ledger.
#[derive(Debug, Clone)]
pub struct LedgerKey {
    /// Its id.
    pub id: BranchId,
    /// What it is bound to, if the ledger tells.
    pub context: Option<BranchContext>,
    /// Its newest wrapping.
    pub newest: WrappedKey,
    /// The KEK version that it was generated under.
    pub generated: KekVersion,
    /// Which version was read back last, by site.
    pub confirmed: BTreeMap<String, u32>,
}

/// Some branch keys of the ledger.
#[derive(Debug, Default)]
pub struct LedgerKeys {
    /// The branch keys.
    pub keys: Vec<LedgerKey>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
}

/// A branch key with which it did not go well, and why, in the custodian's words.
pub type Refused = (BranchId, String);

/// Whether a call failed because the custodian is an OpenBao or Vault server. Ours says on each answer that it is ours.
pub fn lacks_ledger(error: &CustodyError) -> bool {
    let CustodyError::Malformed(cause) = error else { return false };
    matches!(cause.downcast_ref(), Some(TransitError::NoLedger))
}

#[derive(Deserialize)]
struct ListAnswer {
    branches: Vec<KeyAnswer>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct KeyAnswer {
    id: String,
    context: Option<String>,
    generated: u32,
    ciphertext: String,
    confirmed: BTreeMap<String, u32>,
}

#[derive(Deserialize)]
struct MovedAnswer {
    branches: Vec<MovedKey>,
    failed: Vec<FailedKey>,
}

#[derive(Deserialize)]
struct MovedKey {
    id: String,
    ciphertext: String,
}

#[derive(Deserialize)]
struct FailedKey {
    id: String,
    error: String,
}

#[derive(Deserialize)]
struct ConfirmedAnswer {
    refused: Vec<FailedKey>,
}

impl Transit {
    /// What hangs on which version of the KEK: the custodian's own document.
    ///
    /// # Errors
    /// [`CustodyError`].
    pub async fn census(&self, kek: &KekName, caller: &Caller) -> Result<Value, CustodyError> {
        let answer = self.on_branches(kek, "census", None, caller).await?;
        let Envelope { data }: Envelope<Value> = parse(&answer)?;
        Ok(data)
    }

    /// Branch keys that need a version below `before`, or all.
    ///
    /// # Errors
    /// [`CustodyError`].
    pub async fn ledger_keys(
        &self,
        kek: &KekName,
        before: Option<KekVersion>,
        after: Option<&str>,
        caller: &Caller,
    ) -> Result<LedgerKeys, CustodyError> {
        let mut query = format!("branches?limit={AT_ONCE_MAX}");
        if let Some(before) = before {
            query += &format!("&before={}", before.number());
        }
        if let Some(after) = after {
            query += &format!("&after={after}");
        }
        let answer = self.on_branches(kek, &query, None, caller).await?;
        let Envelope { data }: Envelope<ListAnswer> = parse(&answer)?;
        let next = data.next.filter(|cursor| cursor.len() <= 256 && cursor.bytes().all(|b| b.is_ascii_alphanumeric()));
        let keys: Option<Vec<LedgerKey>> = data.branches.into_iter().map(KeyAnswer::read).collect();
        let keys = keys.filter(|keys| keys.len() <= AT_ONCE_MAX).ok_or_else(malformed)?;
        Ok(LedgerKeys { keys, next })
    }

    /// Has the custodian move branch keys to the newest version. Gives their wrappings, and those that failed.
    ///
    /// # Errors
    /// [`CustodyError`].
    pub async fn rewrap_ledger_keys(
        &self,
        kek: &KekName,
        ids: &[BranchId],
        caller: &Caller,
    ) -> Result<(Vec<(BranchId, WrappedKey)>, Vec<Refused>), CustodyError> {
        let ids: Vec<String> = ids.iter().map(BranchId::to_string).collect();
        let answer = self.on_branches(kek, "rewrap", Some(json!({ "ids": ids })), caller).await?;
        let Envelope { data }: Envelope<MovedAnswer> = parse(&answer)?;
        let read =
            |moved: MovedKey| Some((BranchId::parse(&moved.id)?, ciphertext::from_text(&moved.ciphertext).ok()?));
        let moved: Option<Vec<_>> = data.branches.into_iter().map(read).collect();
        Ok((moved.ok_or_else(malformed)?, refused(data.failed)?))
    }

    /// Tells the custodian what was read back from `site`; `None` where nothing good was there. Gives those that it does not open.
    ///
    /// # Errors
    /// [`CustodyError`].
    pub async fn confirm_ledger_keys(
        &self,
        kek: &KekName,
        site: &str,
        read: &[(BranchId, Option<WrappedKey>)],
        caller: &Caller,
    ) -> Result<Vec<Refused>, CustodyError> {
        let one = |(id, wrapped): &(BranchId, Option<WrappedKey>)| json!({ "id": id.to_string(), "ciphertext": wrapped.as_ref().map(ciphertext::to_text) });
        let body = json!({ "site": site, "branches": read.iter().map(one).collect::<Vec<_>>() });
        let answer = self.on_branches(kek, "confirm", Some(body), caller).await?;
        let Envelope { data }: Envelope<ConfirmedAnswer> = parse(&answer)?;
        refused(data.refused)
    }

    async fn on_branches(
        &self,
        kek: &KekName,
        what: &str,
        body: Option<Value>,
        caller: &Caller,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, CustodyError> {
        let path = format!("sys/claviger/keys/{kek}/{what}");
        let deadline = Instant::now() + DEADLINE;
        let call = match body {
            Some(body) => Call::post("branch keys", &path, Bytes::from(body.to_string())),
            None => Call::get("branch keys", &path),
        };
        let asked = self.authenticated_call(call.long().ours_alone(), caller, deadline);
        let answered = tokio::time::timeout_at(deadline, asked).await;
        answered.unwrap_or_else(|_| Err(TransitError::Deadline { limit: DEADLINE }.unreachable()))
    }
}

impl KeyAnswer {
    fn read(self) -> Option<LedgerKey> {
        let context = match self.context {
            Some(text) => Some(BranchContext::parse(&STANDARD.decode(text).ok()?).ok()?),
            None => None,
        };
        Some(LedgerKey {
            id: BranchId::parse(&self.id)?,
            context,
            newest: ciphertext::from_text(&self.ciphertext).ok()?,
            generated: KekVersion::new(self.generated)?,
            confirmed: self.confirmed,
        })
    }
}

fn refused(failed: Vec<FailedKey>) -> Result<Vec<Refused>, CustodyError> {
    let shown = |text: &str| text.chars().filter(|one| !one.is_control()).take(200).collect();
    let read = |one: FailedKey| Some((BranchId::parse(&one.id)?, shown(&one.error)));
    failed.into_iter().map(read).collect::<Option<_>>().ok_or_else(malformed)
}

fn malformed() -> CustodyError {
    TransitError::Ledger.malformed()
}

/// As [`fuzz_answer`](super::fuzz_answer), of the ledger.
pub(super) fn fuzz_answer(body: &[u8]) {
    if let Ok(Envelope { data: ListAnswer { branches, .. } }) = parse(body) {
        for key in branches {
            let id = key.id.clone();
            assert!(key.read().is_none_or(|key| key.id.to_string() == id));
        }
    }
    if let Ok(Envelope { data: MovedAnswer { failed, .. } }) = parse(body) {
        let _ = refused(failed);
    }
}

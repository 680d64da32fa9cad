//! Leave to use keys for a time: someone who otherwise may not asks with a reason, officers approve, and it ends by itself.
//!
//! ```text
//! hash = SHA-256(["claviger/1 grant", id, principal, [kek…], [action…], reason, justification, requester, requested, duration, required])
//!        in deterministic CBOR
//! ```
//!
//! **Invariant:** a grant covers only the principal, KEKs, actions and reason that officers signed for, and only within its time.

mod codec;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::crypto::{self, RandomFailed};
use crate::custody::reason::Reason;
use crate::names::{KekName, Principal};

use super::approval::{self, APPROVALS_MAX, Approval, ApprovalError, Ballot, Question, Subject, json as texts};
use super::audit::Use;
use super::identity::SpiffeId;
use super::requester::Requester;

/// Longest that a grant can be in force, in seconds: 7 days.
pub const DURATION_MAX_S: u32 = 7 * 24 * 3600;
/// Shortest, in seconds.
pub const DURATION_MIN_S: u32 = 60;
/// How long a request may be approved, in seconds: 72 hours.
pub const REQUEST_LIFE_S: i64 = 72 * 3600;
/// Most KEKs of one grant.
pub const KEKS_MAX: usize = 64;
/// Most bytes of a justification.
pub const JUSTIFICATION_LEN_MAX: usize = 500;

/// What can be granted: the uses of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GrantedAction {
    /// Make a key and give it out.
    Generate,
    /// Encrypt.
    Encrypt,
    /// Unwrap, or decrypt.
    Unwrap,
    /// Move to another version.
    Rewrap,
}

impl GrantedAction {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Generate, Self::Encrypt, Self::Unwrap, Self::Rewrap];

    /// The name of the action in policies and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Encrypt => "encrypt",
            Self::Unwrap => "unwrap",
            Self::Rewrap => "rewrap",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == text)
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGrant {
    /// For whom: a SPIFFE id, or the name of a proxy's client.
    pub principal: String,
    /// Which KEKs.
    pub keks: BTreeSet<KekName>,
    /// Which uses of them.
    pub actions: BTreeSet<GrantedAction>,
    /// The reason that each use must state.
    pub reason: Reason,
    /// Why, in words, for those who decide.
    pub justification: String,
    /// For how long once approved, in seconds.
    pub duration_s: u32,
}

/// What is asked for, by whom and when: all that the hash covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantDocument {
    /// `g-` and 16 hexadecimal digits.
    pub id: String,
    /// What is asked for.
    pub wanted: NewGrant,
    /// Who asks.
    pub requested_by: SpiffeId,
    /// When.
    pub requested_unix_s: i64,
    /// How many officers must approve.
    pub required: u8,
}

/// Why a request for a grant is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGrant {
    /// The id does not have the form.
    #[error("the id is not g- and 16 hexadecimal digits")]
    Id,
    /// Neither of the two kinds.
    #[error("the principal is neither a SPIFFE id nor the name of a proxy's client")]
    Principal,
    /// None, too many, or no names.
    #[error("a grant names 1 to {KEKS_MAX} keys")]
    Keks,
    /// None, or others than uses of a key.
    #[error("a grant names actions of generate, encrypt, unwrap and rewrap")]
    Actions,
    /// None of the taxonomy, or one that says nothing.
    #[error("the reason is not one of the taxonomy that says why")]
    Reason,
    /// Empty, too long, or with control characters.
    #[error("the justification is empty, longer than {JUSTIFICATION_LEN_MAX} bytes, or has control characters")]
    Justification,
    /// Too short or too long.
    #[error("the duration is not {DURATION_MIN_S} to {DURATION_MAX_S} s")]
    Duration,
    /// None, or more than there can be.
    #[error("a grant needs 1 to {APPROVALS_MAX} officers")]
    Required,
    /// A field is missing or has another form.
    #[error("not a grant: a field is missing or has another form")]
    Form,
}

/// Where a grant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantState {
    /// Too few officers have approved.
    Requested,
    /// In force.
    Active,
    /// An officer said no.
    Denied,
    /// It was ended early.
    Revoked,
    /// Its time is over, or it was not approved in time.
    Expired,
}

impl GrantState {
    /// As it stands in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Active => "active",
            Self::Denied => "denied",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// A request for leave and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    document: GrantDocument,
    requester_key: Option<[u8; 32]>,
    ballot: Ballot,
    started_unix_s: Option<i64>,
    revoked: Option<(SpiffeId, i64)>,
}

impl NewGrant {
    /// Checks all fields against their forms and bounds.
    ///
    /// # Errors
    /// [`InvalidGrant`].
    pub fn check(&self) -> Result<(), InvalidGrant> {
        let text = &self.justification;
        let told =
            !text.trim().is_empty() && text.len() <= JUSTIFICATION_LEN_MAX && !text.chars().any(char::is_control);
        if SpiffeId::parse(&self.principal).is_err() && Principal::new(&self.principal).is_err() {
            Err(InvalidGrant::Principal)
        } else if !(1..=KEKS_MAX).contains(&self.keks.len()) {
            Err(InvalidGrant::Keks)
        } else if self.actions.is_empty() {
            Err(InvalidGrant::Actions)
        } else if matches!(self.reason, Reason::Unspecified | Reason::NotExpected) {
            Err(InvalidGrant::Reason)
        } else if !told {
            Err(InvalidGrant::Justification)
        } else if !(DURATION_MIN_S..=DURATION_MAX_S).contains(&self.duration_s) {
            Err(InvalidGrant::Duration)
        } else {
            Ok(())
        }
    }

    /// `{"principal", "keks": […], "actions": […], "reason", "justification", "duration_s"}`.
    pub fn to_json(&self) -> Value {
        json!({
            "principal": self.principal,
            "keks": self.keks.iter().map(KekName::as_str).collect::<Vec<_>>(),
            "actions": self.actions.iter().map(|action| action.as_str()).collect::<Vec<_>>(),
            "reason": self.reason.as_str(),
            "justification": self.justification,
            "duration_s": self.duration_s,
        })
    }

    /// Reads what [`NewGrant::to_json`] gave; fields besides are not looked at.
    ///
    /// # Errors
    /// [`InvalidGrant`].
    pub fn from_json(value: &Value) -> Result<Self, InvalidGrant> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).ok_or(InvalidGrant::Form);
        let list = |name: &str| value.get(name).and_then(Value::as_array).ok_or(InvalidGrant::Form);
        let kek = |name: &Value| name.as_str().and_then(|name| KekName::new(name).ok()).ok_or(InvalidGrant::Keks);
        let action = |name: &Value| name.as_str().and_then(GrantedAction::parse).ok_or(InvalidGrant::Actions);
        let duration_s = value.get("duration_s").and_then(Value::as_u64).ok_or(InvalidGrant::Form)?;
        let wanted = Self {
            principal: text("principal")?.to_owned(),
            keks: list("keks")?.iter().take(KEKS_MAX + 1).map(kek).collect::<Result<_, _>>()?,
            actions: list("actions")?.iter().take(KEKS_MAX).map(action).collect::<Result<_, _>>()?,
            reason: text("reason")?.parse().map_err(|_| InvalidGrant::Reason)?,
            justification: text("justification")?.to_owned(),
            duration_s: u32::try_from(duration_s).map_err(|_| InvalidGrant::Duration)?,
        };
        wanted.check()?;
        Ok(wanted)
    }
}

impl GrantDocument {
    /// Whether `id` has the form of one.
    pub fn is_id(id: &str) -> bool {
        approval::is_id("g-", id)
    }

    /// A fresh id for one.
    ///
    /// # Errors
    /// [`RandomFailed`].
    pub fn random_id() -> Result<String, RandomFailed> {
        approval::random_id("g-")
    }

    /// Checks all fields against their forms and bounds.
    ///
    /// # Errors
    /// [`InvalidGrant`].
    pub fn check(&self) -> Result<(), InvalidGrant> {
        if !Self::is_id(&self.id) {
            return Err(InvalidGrant::Id);
        }
        if self.required < 1 || usize::from(self.required) > APPROVALS_MAX {
            return Err(InvalidGrant::Required);
        }
        if !texts::is_time(self.requested_unix_s) {
            return Err(InvalidGrant::Form);
        }
        self.wanted.check()
    }

    /// What approvals sign.
    pub fn hash(&self) -> [u8; 32] {
        crypto::sha256(&codec::document_bytes(self))
    }

    /// All of it, and its hash.
    pub fn to_json(&self) -> Value {
        let mut value = self.wanted.to_json();
        value["id"] = self.id.as_str().into();
        value["requested_by"] = self.requested_by.as_str().into();
        value["requested"] = texts::rfc3339(self.requested_unix_s).into();
        value["required"] = self.required.into();
        value["hash"] = texts::hex(&self.hash()).into();
        value
    }

    /// Reads what [`GrantDocument::to_json`] gave; fields besides are not looked at. The hash among them is not believed: ask
    /// [`GrantDocument::hash`].
    ///
    /// # Errors
    /// [`InvalidGrant`].
    pub fn from_json(value: &Value) -> Result<Self, InvalidGrant> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).ok_or(InvalidGrant::Form);
        let required = value.get("required").and_then(Value::as_u64).and_then(|number| u8::try_from(number).ok());
        let document = Self {
            id: text("id")?.to_owned(),
            wanted: NewGrant::from_json(value)?,
            requested_by: SpiffeId::parse(text("requested_by")?).map_err(|_| InvalidGrant::Form)?,
            requested_unix_s: texts::unix_s(text("requested")?).ok_or(InvalidGrant::Form)?,
            required: required.ok_or(InvalidGrant::Required)?,
        };
        document.check()?;
        Ok(document)
    }
}

impl Grant {
    /// A new request. `requester_key` is the hash of the requester's public key ([`Requester::key_sha256`]), which then
    /// cannot approve.
    ///
    /// # Errors
    /// [`InvalidGrant`].
    pub fn new(document: GrantDocument, requester_key: Option<[u8; 32]>) -> Result<Self, InvalidGrant> {
        document.check()?;
        Ok(Self { document, requester_key, ballot: Ballot::default(), started_unix_s: None, revoked: None })
    }

    /// What is asked for, by whom and when.
    pub fn document(&self) -> &GrantDocument {
        &self.document
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.document.id
    }

    /// What approvals sign.
    pub fn hash(&self) -> [u8; 32] {
        self.document.hash()
    }

    /// Who approved.
    pub fn approvals(&self) -> &[Approval] {
        self.ballot.approvals()
    }

    /// From when on it ends by itself, once it was approved.
    pub fn expires_unix_s(&self) -> Option<i64> {
        self.started_unix_s.map(|start| start.saturating_add(self.document.wanted.duration_s.into()))
    }

    /// Where it stands at `now_unix_s`.
    pub fn state(&self, now_unix_s: i64) -> GrantState {
        if self.ballot.stopped_by().is_some() {
            GrantState::Denied
        } else if self.revoked.is_some() {
            GrantState::Revoked
        } else if let Some(expires) = self.expires_unix_s() {
            if now_unix_s < expires { GrantState::Active } else { GrantState::Expired }
        } else if now_unix_s < self.document.requested_unix_s.saturating_add(REQUEST_LIFE_S) {
            GrantState::Requested
        } else {
            GrantState::Expired
        }
    }

    /// Whether it is for whoever has that id, and not for the client of a proxy.
    pub fn is_for(&self, id: &SpiffeId) -> bool {
        self.document.wanted.principal == id.as_str()
    }

    /// Whether it is leave for `who` to do `what` now.
    ///
    /// A grant for the name of a proxy's client counts only where the proxy says that very name. Any proxy can: whether this one may
    /// do it at all, the caller has to ask.
    pub fn covers(&self, who: &Requester, what: &Use, now_unix_s: i64) -> bool {
        let wanted = &self.document.wanted;
        let begun = self.started_unix_s.is_some_and(|start| start <= now_unix_s);
        let named =
            self.is_for(&who.id) || who.behalf.as_ref().is_some_and(|client| client.as_str() == wanted.principal);
        begun
            && self.state(now_unix_s) == GrantState::Active
            && named
            && wanted.reason == who.reason
            && what.kek.as_ref().is_some_and(|kek| wanted.keks.contains(kek))
            && GrantedAction::parse(what.action.as_str()).is_some_and(|action| wanted.actions.contains(&action))
    }

    /// Takes in the approval of the officer `who`, whose certificate TLS has verified. With the last one that it needs, the grant
    /// is in force.
    ///
    /// # Errors
    /// [`ApprovalError`].
    pub fn approve(&mut self, who: &Requester, approval: Approval, now_unix_s: i64) -> Result<(), ApprovalError> {
        self.refuse_unless_requested(now_unix_s)?;
        let hash = self.hash();
        let question = question(&self.document, self.requester_key, &hash);
        self.ballot.approve(&question, who, approval)?;
        if self.ballot.is_carried(&question, self.document.required) {
            self.started_unix_s = Some(now_unix_s);
        }
        Ok(())
    }

    /// An officer says no before it is in force.
    ///
    /// # Errors
    /// [`ApprovalError`].
    pub fn deny(&mut self, who: &Requester, veto: Approval, now_unix_s: i64) -> Result<(), ApprovalError> {
        self.refuse_unless_requested(now_unix_s)?;
        let hash = self.hash();
        self.ballot.stop(&question(&self.document, self.requester_key, &hash), who, veto)
    }

    /// Ends it at once, or takes the request back. Whether `by` may is for policy to say.
    ///
    /// # Errors
    /// [`ApprovalError`] when it has ended already.
    pub fn revoke(&mut self, by: &SpiffeId, now_unix_s: i64) -> Result<(), ApprovalError> {
        match self.state(now_unix_s) {
            GrantState::Requested | GrantState::Active => {
                self.revoked = Some((by.clone(), now_unix_s));
                Ok(())
            }
            GrantState::Denied | GrantState::Revoked => Err(ApprovalError::Stopped),
            GrantState::Expired => Err(ApprovalError::Expired),
        }
    }

    /// With `state` at `now_unix_s`, for the API.
    pub fn to_json(&self, now_unix_s: i64) -> Value {
        let mut value = self.document.to_json();
        value["state"] = self.state(now_unix_s).as_str().into();
        value["approvals"] = self.approvals().iter().map(Approval::to_json).collect();
        value["denied"] = self.ballot.stopped_by().map(Approval::to_json).into();
        value["started"] = self.started_unix_s.map(texts::rfc3339).into();
        value["expires"] = self.expires_unix_s().map(texts::rfc3339).into();
        value["revoked_by"] = self.revoked.as_ref().map(|(by, _)| by.as_str()).into();
        value["revoked"] = self.revoked.as_ref().map(|(_, at)| texts::rfc3339(*at)).into();
        value
    }

    fn refuse_unless_requested(&self, now_unix_s: i64) -> Result<(), ApprovalError> {
        match self.state(now_unix_s) {
            GrantState::Requested => Ok(()),
            GrantState::Active => Err(ApprovalError::InForce),
            GrantState::Denied | GrantState::Revoked => Err(ApprovalError::Stopped),
            GrantState::Expired => Err(ApprovalError::Expired),
        }
    }
}

fn question<'a>(document: &'a GrantDocument, requester_key: Option<[u8; 32]>, hash: &'a [u8; 32]) -> Question<'a> {
    Question {
        subject: Subject::Grant,
        hash,
        requester: &document.requested_by,
        requester_key,
        beneficiary: Some(&document.wanted.principal),
    }
}

#[cfg(test)]
mod tests;

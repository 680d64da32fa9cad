//! Proposals: what cannot be undone waits here until enough officers have signed for it.
//!
//! ```text
//! hash = SHA-256(["claviger/1 proposal", id, requester, method, path, body, kek, version, policy, created, expires, required])
//!        in deterministic CBOR
//! ```
//!
//! **Invariant:** the hash covers all that would be done, so that what is carried out is what was approved.
//! **Invariant:** an approved proposal is carried out once, by the one who proposed it, before it expires.

mod ballot;
pub(super) mod codec;
pub mod json;
pub mod signature;

use serde_json::{Value, json};

use crate::crypto::{self, RandomFailed};
use crate::names::{KekName, KekVersion};

use super::identity::SpiffeId;
use super::requester::Requester;

pub(super) use ballot::{Ballot, Question};

pub use json::{canonical_json, parse_json};
pub use signature::{Approval, ApprovalError, Subject, Verb, sign_approval, verify, verify_offline};

/// How long a proposal may be approved and carried out, in seconds: 72 hours.
pub const PROPOSAL_LIFE_S: i64 = 72 * 3600;
/// Fewest officers that a proposal needs.
pub const REQUIRED_MIN: u8 = 2;
/// Most officers that a proposal can need, and most approvals that are kept.
pub const APPROVALS_MAX: usize = 16;
/// Most bytes of a proposal's body.
pub const BODY_LEN_MAX: usize = 8 << 10;
/// Most bytes of its path.
const PATH_LEN_MAX: usize = 1 << 10;
/// By how much the clocks of two custodians may differ, in seconds.
const SKEW_S: i64 = 300;
const LABEL: &str = "claviger/1 proposal";

/// What is proposed: all that the hash covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposalDocument {
    /// `p-` and 16 hexadecimal digits.
    pub id: String,
    /// Who wants it, and would carry it out.
    pub requester: SpiffeId,
    /// The HTTP method of the call.
    pub method: String,
    /// Its path.
    pub path: String,
    /// Its body as [`canonical_json`]; empty without one.
    pub body: String,
    /// The KEK that it concerns.
    pub kek: Option<KekName>,
    /// That KEK's newest version when it was proposed, or the version that it concerns.
    pub version: Option<KekVersion>,
    /// SHA-256 of the policy in force when it was proposed.
    pub policy: [u8; 32],
    /// When it was proposed.
    pub created_unix_s: i64,
    /// From when on it is worth nothing.
    pub expires_unix_s: i64,
    /// How many officers must approve.
    pub required: u8,
}

/// What a call must be to be proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProposal {
    /// The id does not have the form.
    #[error("the id is not p- and 16 hexadecimal digits")]
    Id,
    /// The method is none.
    #[error("the method is not 1 to 16 capital letters")]
    Method,
    /// The path is none, or too long.
    #[error(
        "the path does not start with /, is longer than {PATH_LEN_MAX} bytes, or has other than visible characters"
    )]
    Path,
    /// The body is too long, or not in its canonical form.
    #[error("the body is longer than {BODY_LEN_MAX} bytes, or not canonical JSON")]
    Body,
    /// One person alone, or more than there can be.
    #[error("a proposal needs {REQUIRED_MIN} to {APPROVALS_MAX} officers")]
    Required,
    /// The times are out of order or out of range.
    #[error("the proposal does not expire {PROPOSAL_LIFE_S} s after it was made")]
    Times,
    /// A field is missing or of another form.
    #[error("not a proposal: a field is missing or has another form")]
    Form,
}

/// Where a proposal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProposalState {
    /// Too few officers have approved.
    Pending,
    /// It may be carried out.
    Approved,
    /// It was carried out.
    Executed,
    /// An officer stopped it.
    Vetoed,
    /// Its time is over, or lies ahead by this machine's clock.
    Expired,
}

impl ProposalState {
    /// As it stands in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Executed => "executed",
            Self::Vetoed => "vetoed",
            Self::Expired => "expired",
        }
    }
}

/// A proposal and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    document: ProposalDocument,
    requester_key: Option<[u8; 32]>,
    ballot: Ballot,
    executed_unix_s: Option<i64>,
}

/// A fresh id: `prefix` and 16 hexadecimal digits.
pub(super) fn random_id(prefix: &str) -> Result<String, RandomFailed> {
    Ok(format!("{prefix}{}", json::hex(&crypto::random_array::<8>()?)))
}

pub(super) fn is_id(prefix: &str, id: &str) -> bool {
    let digits = id.strip_prefix(prefix).unwrap_or_default();
    digits.len() == 16 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl ProposalDocument {
    /// A fresh id for one.
    ///
    /// # Errors
    /// [`RandomFailed`].
    pub fn random_id() -> Result<String, RandomFailed> {
        random_id("p-")
    }

    /// Whether `id` has the form of one.
    pub fn is_id(id: &str) -> bool {
        is_id("p-", id)
    }

    /// Checks all fields against their forms and bounds. The body's form is checked by [`Proposal::new`].
    ///
    /// # Errors
    /// [`InvalidProposal`].
    pub fn check(&self) -> Result<(), InvalidProposal> {
        let life = self.expires_unix_s.checked_sub(self.created_unix_s);
        let method = (1..=16).contains(&self.method.len()) && self.method.bytes().all(|byte| byte.is_ascii_uppercase());
        let path = self.path.starts_with('/')
            && self.path.len() <= PATH_LEN_MAX
            && self.path.bytes().all(|byte| byte.is_ascii_graphic());
        if !Self::is_id(&self.id) {
            Err(InvalidProposal::Id)
        } else if !method {
            Err(InvalidProposal::Method)
        } else if !path {
            Err(InvalidProposal::Path)
        } else if self.body.len() > BODY_LEN_MAX {
            Err(InvalidProposal::Body)
        } else if self.required < REQUIRED_MIN || usize::from(self.required) > APPROVALS_MAX {
            Err(InvalidProposal::Required)
        } else if life != Some(PROPOSAL_LIFE_S) || !json::is_time(self.created_unix_s) {
            Err(InvalidProposal::Times)
        } else {
            Ok(())
        }
    }

    /// What approvals sign.
    pub fn hash(&self) -> [u8; 32] {
        crypto::sha256(&codec::document_bytes(self))
    }

    /// All of it, and its hash, as the API and the audit log have it.
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "requester": self.requester.as_str(),
            "method": self.method,
            "path": self.path,
            "body": self.body,
            "kek": self.kek.as_ref().map(KekName::as_str),
            "version": self.version.map(KekVersion::number),
            "policy_sha256": json::hex(&self.policy),
            "created": json::rfc3339(self.created_unix_s),
            "expires": json::rfc3339(self.expires_unix_s),
            "required": self.required,
            "hash": json::hex(&self.hash()),
        })
    }

    /// Reads what [`ProposalDocument::to_json`] gave; fields besides are not looked at. The hash among them is not believed:
    /// ask [`ProposalDocument::hash`].
    ///
    /// # Errors
    /// [`InvalidProposal`].
    pub fn from_json(value: &Value) -> Result<Self, InvalidProposal> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).ok_or(InvalidProposal::Form);
        let optional = |name: &str| value.get(name).filter(|value| !value.is_null());
        let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
        let kek = optional("kek").map(|name| name.as_str().and_then(|name| KekName::new(name).ok()));
        let version = optional("version").map(|value| number(value).and_then(KekVersion::new));
        let required = value.get("required").and_then(number).and_then(|required| u8::try_from(required).ok());
        let document = Self {
            id: text("id")?.to_owned(),
            requester: SpiffeId::parse(text("requester")?).map_err(|_| InvalidProposal::Form)?,
            method: text("method")?.to_owned(),
            path: text("path")?.to_owned(),
            body: text("body")?.to_owned(),
            kek: kek.map(|kek| kek.ok_or(InvalidProposal::Form)).transpose()?,
            version: version.map(|version| version.ok_or(InvalidProposal::Form)).transpose()?,
            policy: json::unhex(text("policy_sha256")?).ok_or(InvalidProposal::Form)?,
            created_unix_s: json::unix_s(text("created")?).ok_or(InvalidProposal::Form)?,
            expires_unix_s: json::unix_s(text("expires")?).ok_or(InvalidProposal::Form)?,
            required: required.ok_or(InvalidProposal::Form)?,
        };
        document.check()?;
        Ok(document)
    }
}

impl Proposal {
    /// A new one. `requester_key` is the hash of the requester's public key ([`Requester::key_sha256`]), which then cannot approve.
    ///
    /// # Errors
    /// [`InvalidProposal`].
    pub fn new(document: ProposalDocument, requester_key: Option<[u8; 32]>) -> Result<Self, InvalidProposal> {
        document.check()?;
        if !document.body.is_empty() {
            let body = parse_json(document.body.as_bytes()).map_err(|_| InvalidProposal::Body)?;
            if canonical_json(&body) != document.body {
                return Err(InvalidProposal::Body);
            }
        }
        Ok(Self { document, requester_key, ballot: Ballot::default(), executed_unix_s: None })
    }

    /// What is proposed.
    pub fn document(&self) -> &ProposalDocument {
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

    /// Who stopped it.
    pub fn stopped_by(&self) -> Option<&Approval> {
        self.ballot.stopped_by()
    }

    /// When it was carried out.
    pub fn executed_unix_s(&self) -> Option<i64> {
        self.executed_unix_s
    }

    /// Where it stands at `now_unix_s`.
    pub fn state(&self, now_unix_s: i64) -> ProposalState {
        let from = self.document.created_unix_s.saturating_sub(SKEW_S);
        if self.executed_unix_s.is_some() {
            ProposalState::Executed
        } else if self.ballot.stopped_by().is_some() {
            ProposalState::Vetoed
        } else if !(from..self.document.expires_unix_s).contains(&now_unix_s) {
            ProposalState::Expired
        } else if self.is_carried_by(self.document.required) {
            ProposalState::Approved
        } else {
            ProposalState::Pending
        }
    }

    /// Whether so many approved it, different people with different keys.
    pub fn is_carried_by(&self, required: u8) -> bool {
        self.ballot.is_carried(&question(&self.document, self.requester_key, &self.hash()), required)
    }

    /// Whether this is the proposal of that very call by that very requester.
    pub fn is_for(&self, method: &str, path: &str, body: &str, requester: &SpiffeId) -> bool {
        let document = &self.document;
        document.method == method && document.path == path && document.body == body && document.requester == *requester
    }

    /// Takes in the approval of the officer `who`, whose certificate TLS has verified.
    ///
    /// # Errors
    /// [`ApprovalError`].
    pub fn approve(&mut self, who: &Requester, approval: Approval, now_unix_s: i64) -> Result<(), ApprovalError> {
        self.refuse_unless_open(now_unix_s)?;
        let hash = self.hash();
        self.ballot.approve(&question(&self.document, self.requester_key, &hash), who, approval)
    }

    /// Stops it for good: any officer may, also the requester.
    ///
    /// # Errors
    /// [`ApprovalError`].
    pub fn veto(&mut self, who: &Requester, veto: Approval, now_unix_s: i64) -> Result<(), ApprovalError> {
        self.refuse_unless_open(now_unix_s)?;
        let hash = self.hash();
        self.ballot.stop(&question(&self.document, self.requester_key, &hash), who, veto)
    }

    /// Notes that `who` carries it out now. The caller stores this together with what is carried out, in one change.
    ///
    /// # Errors
    /// [`ApprovalError`] when it may not be.
    pub fn execute(&mut self, who: &SpiffeId, now_unix_s: i64) -> Result<(), ApprovalError> {
        if self.document.requester != *who {
            return Err(ApprovalError::NotTheRequester);
        }
        self.refuse_unless_open(now_unix_s)?;
        if self.state(now_unix_s) != ProposalState::Approved {
            return Err(ApprovalError::NotApproved);
        }
        self.executed_unix_s = Some(now_unix_s);
        Ok(())
    }

    /// With `state` at `now_unix_s`, for the API.
    pub fn to_json(&self, now_unix_s: i64) -> Value {
        let mut value = self.document.to_json();
        value["state"] = self.state(now_unix_s).as_str().into();
        value["approvals"] = self.approvals().iter().map(Approval::to_json).collect();
        value["veto"] = self.stopped_by().map(Approval::to_json).into();
        value["executed"] = self.executed_unix_s.map(json::rfc3339).into();
        value
    }

    fn refuse_unless_open(&self, now_unix_s: i64) -> Result<(), ApprovalError> {
        match self.state(now_unix_s) {
            ProposalState::Pending | ProposalState::Approved => Ok(()),
            ProposalState::Executed => Err(ApprovalError::Executed),
            ProposalState::Vetoed => Err(ApprovalError::Stopped),
            ProposalState::Expired => Err(ApprovalError::Expired),
        }
    }
}

fn question<'a>(document: &'a ProposalDocument, requester_key: Option<[u8; 32]>, hash: &'a [u8; 32]) -> Question<'a> {
    let requester = &document.requester;
    Question { subject: Subject::Proposal, hash, requester, requester_key, beneficiary: None }
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

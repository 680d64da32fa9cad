//! Changes to records, as the store takes them.

use zeroize::Zeroizing;

use crate::custodian::approval::Proposal;
use crate::custodian::backup::BackupNote;
use crate::custodian::barrier::Kind;
use crate::custodian::destruction::Destruction;
use crate::custodian::grant::Grant;
use crate::custodian::kek::Kek;
use crate::custodian::policy::Policy;
use crate::custodian::revocation::Revocation;
use crate::custodian::store::{Change, NewRecord};
use crate::names::KekName;

/// The name of the record with the policy in force.
pub(super) const POLICY_NAME: &str = "active";

/// What a record is to be; `None` removes it.
pub(super) enum Item {
    Kek(KekName, Option<Kek>),
    Proposal(String, Option<Proposal>),
    Grant(String, Option<Grant>),
    Revocation(String, Option<Revocation>),
    Policy(Policy),
    Destruction(Destruction),
    Backup(BackupNote),
}

/// A change to one record.
pub(super) struct Edit {
    /// The version that the record has now; 0 if there is none.
    pub(super) expected: u64,
    pub(super) item: Item,
}

/// An edit as bytes.
pub(super) struct Encoded {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) expected: u64,
    /// `None` removes.
    pub(super) body: Option<Zeroizing<Vec<u8>>>,
}

impl Edit {
    pub(super) fn proposal(expected: u64, proposal: Proposal) -> Self {
        Self { expected, item: Item::Proposal(proposal.id().to_owned(), Some(proposal)) }
    }

    pub(super) fn encode(&self) -> Encoded {
        let plain = |bytes: Vec<u8>| Zeroizing::new(bytes);
        let (kind, name, body) = match &self.item {
            Item::Kek(name, kek) => (Kind::Kek, name.as_str(), kek.as_ref().map(Kek::to_bytes)),
            Item::Proposal(id, value) => (Kind::Proposal, id.as_str(), value.as_ref().map(|v| plain(v.to_bytes()))),
            Item::Grant(id, value) => (Kind::Grant, id.as_str(), value.as_ref().map(|v| plain(v.to_bytes()))),
            Item::Revocation(principal, value) => {
                (Kind::Revocation, principal.as_str(), value.as_ref().map(|v| plain(v.to_bytes())))
            }
            Item::Backup(note) => (Kind::Backup, note.id.as_str(), Some(plain(note.to_bytes()))),
            Item::Destruction(value) => {
                let body = Some(plain(value.to_bytes()));
                return Encoded {
                    kind: Kind::Destruction,
                    name: value.target.record_name(),
                    expected: self.expected,
                    body,
                };
            }
            Item::Policy(policy) => (Kind::Policy, POLICY_NAME, Some(plain(policy.text().as_bytes().to_vec()))),
        };
        Encoded { kind, name: name.to_owned(), expected: self.expected, body }
    }
}

impl Encoded {
    pub(super) fn change(&self) -> Change<'_> {
        let Self { kind, name, expected, body } = self;
        match body {
            Some(body) => {
                Change::Put(NewRecord { kind: *kind, name, expected: *expected, state: 0, expires_unix_s: None, body })
            }
            None => Change::Remove { kind: *kind, name, expected: *expected },
        }
    }
}

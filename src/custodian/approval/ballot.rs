//! Who said yes and who said no: the rules of distinct people, shared by proposals and grants.
//!
//! **Invariant:** each approval in a ballot was verified when it came in, by the officer whose connection it came over.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use crate::crypto;
use crate::custodian::identity::SpiffeId;
use crate::custodian::requester::Requester;

use super::APPROVALS_MAX;
use super::signature::{self, Approval, ApprovalError, PublicKey, Subject, Verb};

/// What officers are asked.
#[derive(Clone, Copy)]
pub(in crate::custodian) struct Question<'a> {
    pub(in crate::custodian) subject: Subject,
    pub(in crate::custodian) hash: &'a [u8; 32],
    pub(in crate::custodian) requester: &'a SpiffeId,
    /// SHA-256 of the requester's public key, where it is of a kind that signs.
    pub(in crate::custodian) requester_key: Option<[u8; 32]>,
    /// Who would gain by it, and so cannot approve it either.
    pub(in crate::custodian) beneficiary: Option<&'a str>,
}

/// The answers to one question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::custodian) struct Ballot {
    approvals: Vec<Approval>,
    stopped_by: Option<Approval>,
    weighed: Weighed,
}

/// How many distinct people with distinct keys have signed, if all signatures hold; once that was asked. Clones share it, and it is no
/// part of what a ballot says.
#[derive(Debug, Clone, Default)]
struct Weighed(Arc<OnceLock<Option<usize>>>);

impl PartialEq for Weighed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Weighed {}

impl Ballot {
    /// As it was stored.
    pub(in crate::custodian) fn stored(approvals: Vec<Approval>, stopped_by: Option<Approval>) -> Self {
        Self { approvals, stopped_by, weighed: Weighed::default() }
    }

    pub(in crate::custodian) fn approvals(&self) -> &[Approval] {
        &self.approvals
    }

    pub(in crate::custodian) fn stopped_by(&self) -> Option<&Approval> {
        self.stopped_by.as_ref()
    }

    pub(in crate::custodian) fn approve(
        &mut self,
        question: &Question<'_>,
        who: &Requester,
        approval: Approval,
    ) -> Result<(), ApprovalError> {
        check(question, Some(who), &approval, Verb::Approve)?;
        let key = may_approve(question, &approval)?;
        for other in &self.approvals {
            if other.officer == approval.officer {
                return Err(ApprovalError::AlreadyApproved);
            }
            if PublicKey::of(&other.certificate)? == key {
                return Err(ApprovalError::SameKey);
            }
        }
        if self.approvals.len() >= APPROVALS_MAX {
            return Err(ApprovalError::TooMany);
        }
        self.approvals.push(approval);
        self.weighed = Weighed::default();
        Ok(())
    }

    pub(in crate::custodian) fn stop(
        &mut self,
        question: &Question<'_>,
        who: &Requester,
        veto: Approval,
    ) -> Result<(), ApprovalError> {
        check(question, Some(who), &veto, Verb::Veto)?;
        self.stopped_by = Some(veto);
        Ok(())
    }

    /// Whether enough distinct people with distinct keys have signed. All signatures are checked again, once for a ballot as it is in memory.
    pub(in crate::custodian) fn is_carried(&self, question: &Question<'_>, required: u8) -> bool {
        let weight = self.weighed.0.get_or_init(|| self.weigh(question));
        weight.is_some_and(|weight| weight >= usize::from(required.max(1)))
    }

    fn weigh(&self, question: &Question<'_>) -> Option<usize> {
        let (mut people, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for approval in &self.approvals {
            check(question, None, approval, Verb::Approve).ok()?;
            people.insert(&approval.officer);
            keys.insert(may_approve(question, approval).ok()?);
        }
        Some(people.len().min(keys.len()))
    }
}

fn check(
    question: &Question<'_>,
    who: Option<&Requester>,
    approval: &Approval,
    verb: Verb,
) -> Result<(), ApprovalError> {
    if approval.verb != verb {
        return Err(ApprovalError::WrongVerb);
    }
    if let Some(who) = who {
        let presented = crypto::sha256(&approval.certificate);
        if who.id != approval.officer || who.certificate_sha256 != presented {
            return Err(ApprovalError::OtherCertificate);
        }
    }
    signature::verify(approval, question.subject, question.hash)
}

fn may_approve(question: &Question<'_>, approval: &Approval) -> Result<PublicKey, ApprovalError> {
    let key = PublicKey::of(&approval.certificate)?;
    let own = approval.officer == *question.requester
        || question.requester_key == Some(key.sha256())
        || question.beneficiary == Some(approval.officer.as_str());
    if own { Err(ApprovalError::OwnRequest) } else { Ok(key) }
}

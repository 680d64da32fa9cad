//! Proposals and approvals as bytes, in deterministic CBOR.
//!
//! ```text
//! document = ["claviger/1 proposal", id, requester, method, path, body, kek / null, version / null, policy, created, expires, required]
//! approval = [officer, verb, at, certificate, signature]
//! proposal = ["claviger/1 stored proposal", document, requester key / null, [approval…], approval / null, executed / null]
//! ```

use std::convert::Infallible;

use minicbor::data::Type;
use minicbor::decode::Decoder;
use minicbor::encode::{Encoder, Error};

use crate::cbor::{self, NotCanonical};
use crate::custodian::identity::SpiffeId;
use crate::names::{KekName, KekVersion};

use super::ballot::Ballot;
use super::signature::{Approval, CERTIFICATE_LEN_MAX, SIGNATURE_LEN_MAX, Verb};
use super::{APPROVALS_MAX, LABEL, Proposal, ProposalDocument, json};

const STORED: &str = "claviger/1 stored proposal";

type Written = Result<(), Error<Infallible>>;
type Out<'a, 'b> = &'a mut Encoder<&'b mut Vec<u8>>;

impl Proposal {
    /// The bytes that [`Proposal::parse`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::encode(|e| {
            e.array(6)?.str(STORED)?;
            write_document(e, &self.document)?;
            write_or_null(e, self.requester_key.as_ref(), |e, key| e.bytes(key).map(drop))?;
            write_ballot(e, &self.ballot)?;
            write_or_null(e, self.executed_unix_s, |e, at| e.i64(at).map(drop))
        })
    }

    /// Reads what [`Proposal::to_bytes`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`NotCanonical`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NotCanonical> {
        cbor::parse(
            bytes,
            |d| {
                array(d, 6)?;
                label(d, STORED)?;
                let document = document(d)?;
                let requester_key = or_null(d, |d| d.bytes()?.try_into().map_err(|_| NotCanonical))?;
                let ballot = ballot(d)?;
                let executed_unix_s = or_null(d, time)?;
                Ok(Self { document, requester_key, ballot, executed_unix_s })
            },
            Self::to_bytes,
        )
    }
}

pub(super) fn document_bytes(document: &ProposalDocument) -> Vec<u8> {
    cbor::encode(|e| write_document(e, document))
}

fn write_document(e: Out<'_, '_>, document: &ProposalDocument) -> Written {
    e.array(12)?.str(LABEL)?.str(&document.id)?.str(document.requester.as_str())?;
    e.str(&document.method)?.str(&document.path)?.str(&document.body)?;
    write_or_null(e, document.kek.as_ref(), |e, kek| e.str(kek.as_str()).map(drop))?;
    write_or_null(e, document.version, |e, version| e.u32(version.number()).map(drop))?;
    e.bytes(&document.policy)?.i64(document.created_unix_s)?.i64(document.expires_unix_s)?.u8(document.required)?;
    Ok(())
}

fn document(d: &mut Decoder<'_>) -> Result<ProposalDocument, NotCanonical> {
    array(d, 12)?;
    label(d, LABEL)?;
    let document = ProposalDocument {
        id: d.str()?.to_owned(),
        requester: spiffe_id(d)?,
        method: d.str()?.to_owned(),
        path: d.str()?.to_owned(),
        body: d.str()?.to_owned(),
        kek: or_null(d, |d| KekName::new(d.str()?).map_err(|_| NotCanonical))?,
        version: or_null(d, |d| KekVersion::new(d.u32()?).ok_or(NotCanonical))?,
        policy: d.bytes()?.try_into().map_err(|_| NotCanonical)?,
        created_unix_s: time(d)?,
        expires_unix_s: time(d)?,
        required: d.u8()?,
    };
    document.check().map_err(|_| NotCanonical)?;
    Ok(document)
}

/// `[approval…], approval / null`: who approved, and who stopped it.
pub(in crate::custodian) fn write_ballot(e: Out<'_, '_>, ballot: &Ballot) -> Written {
    e.array(ballot.approvals().len() as u64)?;
    ballot.approvals().iter().try_for_each(|one| write_approval(e, one))?;
    write_or_null(e, ballot.stopped_by(), write_approval)
}

/// Reads what [`write_ballot`] wrote.
pub(in crate::custodian) fn ballot(d: &mut Decoder<'_>) -> Result<Ballot, NotCanonical> {
    let approvals = (0..length(d, APPROVALS_MAX)?).map(|_| approval(d)).collect::<Result<_, _>>()?;
    Ok(Ballot::stored(approvals, or_null(d, approval)?))
}

fn write_approval(e: Out<'_, '_>, approval: &Approval) -> Written {
    e.array(5)?.str(approval.officer.as_str())?.str(approval.verb.as_str())?.i64(approval.at_unix_s)?;
    e.bytes(&approval.certificate)?.bytes(&approval.signature)?;
    Ok(())
}

fn approval(d: &mut Decoder<'_>) -> Result<Approval, NotCanonical> {
    array(d, 5)?;
    let officer = spiffe_id(d)?;
    let verb = d.str()?;
    let verb = [Verb::Approve, Verb::Veto].into_iter().find(|known| known.as_str() == verb).ok_or(NotCanonical)?;
    let at_unix_s = time(d)?;
    let (certificate, signature) = (d.bytes()?, d.bytes()?);
    if certificate.len() > CERTIFICATE_LEN_MAX || signature.len() > SIGNATURE_LEN_MAX {
        return Err(NotCanonical);
    }
    Ok(Approval { officer, certificate: certificate.to_vec(), signature: signature.to_vec(), at_unix_s, verb })
}

pub(in crate::custodian) fn write_or_null<T>(
    e: Out<'_, '_>,
    value: Option<T>,
    write: impl FnOnce(Out<'_, '_>, T) -> Written,
) -> Written {
    match value {
        Some(value) => write(e, value),
        None => e.null().map(drop),
    }
}

pub(in crate::custodian) fn or_null<T>(
    d: &mut Decoder<'_>,
    read: impl FnOnce(&mut Decoder<'_>) -> Result<T, NotCanonical>,
) -> Result<Option<T>, NotCanonical> {
    if d.datatype()? == Type::Null {
        d.null()?;
        return Ok(None);
    }
    read(d).map(Some)
}

pub(in crate::custodian) fn array(d: &mut Decoder<'_>, expected: u64) -> Result<(), NotCanonical> {
    if d.array()? == Some(expected) { Ok(()) } else { Err(NotCanonical) }
}

pub(in crate::custodian) fn length(d: &mut Decoder<'_>, most: usize) -> Result<usize, NotCanonical> {
    let length = d.array()?.and_then(|length| usize::try_from(length).ok());
    length.filter(|length| *length <= most).ok_or(NotCanonical)
}

pub(in crate::custodian) fn label(d: &mut Decoder<'_>, expected: &str) -> Result<(), NotCanonical> {
    if d.str()? == expected { Ok(()) } else { Err(NotCanonical) }
}

pub(in crate::custodian) fn time(d: &mut Decoder<'_>) -> Result<i64, NotCanonical> {
    let unix_s = d.i64()?;
    if json::is_time(unix_s) { Ok(unix_s) } else { Err(NotCanonical) }
}

pub(in crate::custodian) fn spiffe_id(d: &mut Decoder<'_>) -> Result<SpiffeId, NotCanonical> {
    SpiffeId::parse(d.str()?).map_err(|_| NotCanonical)
}

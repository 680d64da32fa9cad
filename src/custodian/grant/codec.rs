//! Grants as bytes, in deterministic CBOR.
//!
//! ```text
//! document = ["claviger/1 grant", id, principal, [kek…], [action…], reason, justification, requester, requested, duration, required]
//! grant    = ["claviger/1 stored grant", document, requester key / null, [approval…], approval / null, started / null, [by, at] / null]
//! ```

use std::collections::BTreeSet;
use std::convert::Infallible;

use minicbor::decode::Decoder;
use minicbor::encode::{Encoder, Error};

use crate::cbor::{self, NotCanonical};
use crate::names::KekName;

use super::super::approval::codec;
use super::{Grant, GrantDocument, GrantedAction, KEKS_MAX, NewGrant};

const LABEL: &str = "claviger/1 grant";
const STORED: &str = "claviger/1 stored grant";

impl Grant {
    /// The bytes that [`Grant::parse`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::encode(|e| {
            e.array(7)?.str(STORED)?;
            write_document(e, &self.document)?;
            codec::write_or_null(e, self.requester_key.as_ref(), |e, key| e.bytes(key).map(drop))?;
            codec::write_ballot(e, &self.ballot)?;
            codec::write_or_null(e, self.started_unix_s, |e, at| e.i64(at).map(drop))?;
            codec::write_or_null(e, self.revoked.as_ref(), |e, (by, at)| {
                e.array(2)?.str(by.as_str())?.i64(*at).map(drop)
            })
        })
    }

    /// Reads what [`Grant::to_bytes`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`NotCanonical`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NotCanonical> {
        cbor::parse(
            bytes,
            |d| {
                codec::array(d, 7)?;
                codec::label(d, STORED)?;
                let document = document(d)?;
                let requester_key = codec::or_null(d, |d| d.bytes()?.try_into().map_err(|_| NotCanonical))?;
                let ballot = codec::ballot(d)?;
                let started_unix_s = codec::or_null(d, codec::time)?;
                let revoked = codec::or_null(d, |d| {
                    codec::array(d, 2)?;
                    Ok((codec::spiffe_id(d)?, codec::time(d)?))
                })?;
                Ok(Self { document, requester_key, ballot, started_unix_s, revoked })
            },
            Self::to_bytes,
        )
    }
}

pub(super) fn document_bytes(document: &GrantDocument) -> Vec<u8> {
    cbor::encode(|e| write_document(e, document))
}

fn write_document(e: &mut Encoder<&mut Vec<u8>>, document: &GrantDocument) -> Result<(), Error<Infallible>> {
    let wanted = &document.wanted;
    e.array(11)?.str(LABEL)?.str(&document.id)?.str(&wanted.principal)?;
    e.array(wanted.keks.len() as u64)?;
    wanted.keks.iter().try_for_each(|kek| e.str(kek.as_str()).map(drop))?;
    e.array(wanted.actions.len() as u64)?;
    wanted.actions.iter().try_for_each(|action| e.str(action.as_str()).map(drop))?;
    e.str(wanted.reason.as_str())?.str(&wanted.justification)?.str(document.requested_by.as_str())?;
    e.i64(document.requested_unix_s)?.u32(wanted.duration_s)?.u8(document.required)?;
    Ok(())
}

fn document(d: &mut Decoder<'_>) -> Result<GrantDocument, NotCanonical> {
    codec::array(d, 11)?;
    codec::label(d, LABEL)?;
    let (id, principal) = (d.str()?.to_owned(), d.str()?.to_owned());
    let kek = |d: &mut Decoder<'_>| KekName::new(d.str()?).map_err(|_| NotCanonical);
    let keks = (0..codec::length(d, KEKS_MAX)?).map(|_| kek(d)).collect::<Result<BTreeSet<_>, _>>()?;
    let action = |d: &mut Decoder<'_>| GrantedAction::parse(d.str()?).ok_or(NotCanonical);
    let most = GrantedAction::ALL.len();
    let actions = (0..codec::length(d, most)?).map(|_| action(d)).collect::<Result<BTreeSet<_>, _>>()?;
    let reason = d.str()?.parse().map_err(|_| NotCanonical)?;
    let justification = d.str()?.to_owned();
    let (requested_by, requested_unix_s) = (codec::spiffe_id(d)?, codec::time(d)?);
    let wanted = NewGrant { principal, keks, actions, reason, justification, duration_s: d.u32()? };
    let document = GrantDocument { id, wanted, requested_by, requested_unix_s, required: d.u8()? };
    document.check().map_err(|_| NotCanonical)?;
    Ok(document)
}

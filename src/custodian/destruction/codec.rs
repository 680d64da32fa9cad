//! Destructions as bytes, in deterministic CBOR.
//!
//! ```text
//! destruction = ["claviger/1 destruction", kek, through / null, [[label, value]…], wait, insecure, scheduled proposal, state]
//! state       = ["waiting"] / ["cancelled", by, at] / ["erased", at, certificate]
//! ```

use std::collections::BTreeMap;
use std::convert::Infallible;

use minicbor::decode::Decoder;
use minicbor::encode::{Encoder, Error};

use crate::cbor::{self, NotCanonical};
use crate::custodian::approval::Proposal;
use crate::custodian::approval::codec::{array, label, length, or_null, spiffe_id, time, write_or_null};
use crate::custodian::kek::{LABELS_MAX, Labels};
use crate::names::{KekName, KekVersion};
use crate::tlog::note::MAX_NOTE_LEN;

use super::{Destruction, State, Target, Wait};

const LABEL: &str = "claviger/1 destruction";
/// The longest wait: ten years.
const WAIT_MAX_S: u64 = 10 * 366 * super::DAY_S;

impl Destruction {
    /// The bytes that [`Destruction::parse`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::encode(|e| {
            e.array(8)?.str(LABEL)?.str(self.target.kek.as_str())?;
            write_or_null(e, self.target.through, |e, version| e.u32(version.number()).map(drop))?;
            e.array(self.labels.iter().len() as u64)?;
            for (key, value) in self.labels.iter() {
                e.array(2)?.str(key)?.str(value)?;
            }
            e.u64(self.wait.seconds)?.bool(self.wait.insecure)?.bytes(&self.scheduled.to_bytes())?;
            write_state(e, &self.state)
        })
    }

    /// Reads what [`Destruction::to_bytes`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`NotCanonical`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NotCanonical> {
        cbor::parse(bytes, read, Self::to_bytes)
    }
}

fn write_state(e: &mut Encoder<&mut Vec<u8>>, state: &State) -> Result<(), Error<Infallible>> {
    match state {
        State::Waiting => e.array(1)?.str("waiting")?,
        State::Cancelled { by, at_unix_s } => e.array(3)?.str("cancelled")?.str(by.as_str())?.i64(*at_unix_s)?,
        State::Erased { at_unix_s, certificate } => e.array(3)?.str("erased")?.i64(*at_unix_s)?.str(certificate)?,
    };
    Ok(())
}

fn read(d: &mut Decoder<'_>) -> Result<Destruction, NotCanonical> {
    array(d, 8)?;
    label(d, LABEL)?;
    let kek = KekName::new(d.str()?).map_err(|_| NotCanonical)?;
    let through = or_null(d, |d| KekVersion::new(d.u32()?).ok_or(NotCanonical))?;
    let labels = labels(d)?;
    let wait = Wait { seconds: d.u64()?, insecure: d.bool()? };
    let scheduled = Proposal::parse(d.bytes()?)?;
    if wait.seconds > WAIT_MAX_S || scheduled.executed_unix_s().is_none() {
        return Err(NotCanonical);
    }
    Ok(Destruction { target: Target { kek, through }, labels, wait, scheduled, state: state(d)? })
}

fn labels(d: &mut Decoder<'_>) -> Result<Labels, NotCanonical> {
    let mut labels = BTreeMap::new();
    for _ in 0..length(d, LABELS_MAX)? {
        array(d, 2)?;
        labels.insert(d.str()?.to_owned(), d.str()?.to_owned());
    }
    Labels::new(labels).map_err(|_| NotCanonical)
}

fn state(d: &mut Decoder<'_>) -> Result<State, NotCanonical> {
    let parts = d.array()?;
    let state = d.str()?;
    match (parts, state) {
        (Some(1), "waiting") => Ok(State::Waiting),
        (Some(3), "cancelled") => Ok(State::Cancelled { by: spiffe_id(d)?, at_unix_s: time(d)? }),
        (Some(3), "erased") => {
            let at_unix_s = time(d)?;
            let certificate = d.str()?.to_owned();
            if certificate.len() > MAX_NOTE_LEN {
                Err(NotCanonical)
            } else {
                Ok(State::Erased { at_unix_s, certificate })
            }
        }
        _ => Err(NotCanonical),
    }
}

//! Which part of a log enough witnesses vouch for.

use anyhow::Result;

use super::finding::Finding;
use crate::cli::Usage;
use crate::cli::audit::{moment, verifier_key};
use crate::tlog::checkpoint::SignedCheckpoint;
use crate::tlog::note::{Use, VerifierKey};
use crate::tlog::witness::{NoQuorum, WitnessPolicy};

/// The witnesses that were named, and how many of them have to vouch.
pub(super) struct Witnesses {
    keys: Vec<VerifierKey>,
    quorum: usize,
}

/// What a witness vouches for: the first `size` entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Witnessed {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) time_s: u64,
}

/// What enough witnesses vouch for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vouched {
    pub(super) quorum: usize,
    /// The first so many entries.
    pub(super) size: u64,
    pub(super) by: Vec<Witnessed>,
}

impl Witnesses {
    /// `None` if none were named.
    pub(super) fn new(keys: &[String], quorum: Option<usize>) -> Result<Option<Self>> {
        if keys.is_empty() {
            return Ok(None);
        }
        let keys = keys.iter().map(|key| verifier_key(key, Use::Witness)).collect::<Result<Vec<_>>>()?;
        let quorum = quorum.unwrap_or(keys.len());
        WitnessPolicy::new(keys.clone(), quorum).map_err(|error| Usage(error.to_string()))?;
        Ok(Some(Self { keys, quorum }))
    }

    /// Looks for cosignatures on the log's checkpoint and the older ones, all of which were found to be of one history.
    ///
    /// A witness that cosigned an older checkpoint vouches for its entries; those after it are the log's word alone.
    pub(super) fn check(&self, checkpoint: &SignedCheckpoint, older: &[SignedCheckpoint]) -> Result<Vouched> {
        let mut by = Vec::new();
        for key in &self.keys {
            let mut best: Option<Witnessed> = None;
            for signed in older.iter().chain([checkpoint]) {
                let size = signed.checkpoint().size();
                if let Some(time_s) = cosigned(key, signed)? {
                    let better = best.as_ref().is_none_or(|best| (size, time_s) > (best.size, best.time_s));
                    best = if better { Some(Witnessed { name: key.name().to_owned(), size, time_s }) } else { best };
                }
            }
            by.extend(best);
        }
        if by.len() < self.quorum {
            let error = NoQuorum::TooFew { found: by.len(), quorum: self.quorum };
            return Err(Finding::of_witnesses(&error).into());
        }
        let mut sizes: Vec<u64> = by.iter().map(|witnessed| witnessed.size).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Vouched { quorum: self.quorum, size: sizes[self.quorum - 1], by })
    }
}

/// When `key` cosigned the checkpoint, if it did.
fn cosigned(key: &VerifierKey, checkpoint: &SignedCheckpoint) -> Result<Option<u64>> {
    let alone = WitnessPolicy::new(vec![key.clone()], 1).map_err(|error| Usage(error.to_string()))?;
    match alone.verify(checkpoint, moment::now_s()) {
        Ok(found) => Ok(found.first().map(|cosigned| cosigned.time_s)),
        Err(NoQuorum::TooFew { .. }) => Ok(None),
        Err(error) => Err(Finding::of_witnesses(&error).into()),
    }
}

//! Checks a proof of one entry, without the log.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Arguments;
use super::finding::Finding;
use super::witnesses::{Vouched, Witnesses};
use crate::cli::audit::read_bounded;
use crate::tlog::checkpoint::SignedCheckpoint;
use crate::tlog::proof_file::{InclusionProof, MAX_PROOF_LEN};

/// Most bytes of an entry: what the format allows.
const ENTRY_LEN_MAX: u64 = 0xffff;

/// An entry that is in a log.
pub(super) struct Proved {
    index: u64,
    checkpoint: SignedCheckpoint,
    vouched: Option<Vouched>,
}

pub(super) fn check(arguments: &Arguments, proof: &Path, entry: &Path) -> Result<Proved> {
    let key = arguments.log.key()?;
    let witnesses = Witnesses::new(&arguments.witness, arguments.quorum)?;
    let text = read_bounded(proof, MAX_PROOF_LEN as u64)?;
    let proof = InclusionProof::parse(&text).with_context(|| proof.display().to_string())?;
    let checkpoint = proof.verify(&read_bounded(entry, ENTRY_LEN_MAX)?, &key).map_err(Finding::of_proof)?;
    let vouched = witnesses.map(|witnesses| witnesses.check(&checkpoint, &[])).transpose()?;
    Ok(Proved { index: proof.index(), checkpoint, vouched })
}

impl Proved {
    pub(super) fn as_text(&self) -> String {
        let checkpoint = self.checkpoint.checkpoint();
        let witnesses =
            self.vouched.as_ref().map_or(String::new(), |vouched| format!(", cosigned by {}", vouched.by.len()));
        format!(
            "The entry is number {} of {}, in its signed checkpoint of {} entries{witnesses}.\n",
            self.index,
            super::super::entry::escaped(checkpoint.origin()),
            checkpoint.size()
        )
    }

    pub(super) fn as_json(&self) -> Value {
        let checkpoint = self.checkpoint.checkpoint();
        json!({
            "ok": true,
            "origin": checkpoint.origin(),
            "index": self.index,
            "size": checkpoint.size(),
            "witnesses": self.vouched.as_ref().map(Vouched::as_json),
        })
    }
}

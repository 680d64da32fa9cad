//! `claviger audit verify`: proves offline that a log is whole and goes on from what others know of it.

mod alone;
mod approvals;
mod finding;
mod report;
mod witnesses;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;

use self::approvals::{Approvals, Approved};
use self::finding::Finding;
use self::report::Checked;
use self::witnesses::Witnesses;
use super::entry::Entry;
use super::fetch::Need;
use super::local::LocalLog;
use super::walk::walk;
use super::{LogArguments, read_bounded, verifier_key};
use crate::cli::{Bad, Usage};
use crate::tlog;
use crate::tlog::checkpoint::SignedCheckpoint;
use crate::tlog::merkle::{Frontier, Hash};
use crate::tlog::note::{MAX_NOTE_LEN, Use, VerifierKey};
use crate::tlog::proof::verify_consistency;
use crate::tlog::reader::Reader;
use crate::tlog::verify::VerifyError;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    log: LogArguments,
    /// A checkpoint of the log that was kept elsewhere, a witness's too: the log must go on from it. May be repeated
    #[arg(long, value_name = "CHECKPOINT-FILE")]
    older: Vec<PathBuf>,
    /// The verifier key of a witness that must have cosigned the log's checkpoint or one of the older ones. May be repeated
    #[arg(long, value_name = "VKEY|FILE")]
    witness: Vec<String>,
    /// How many of the witnesses must have [default: all]
    #[arg(long, value_name = "N", requires = "witness")]
    quorum: Option<usize>,
    /// A receipt of the custodian, as it stands in X-Claviger-Receipt, with a colon for the space. May be repeated
    #[arg(long, value_name = "INDEX:HASH", value_parser = receipt)]
    receipt: Vec<(u64, Hash)>,
    /// The certificates of the officers' CA: checks every approval in the log again, and that nothing gated was done without enough
    #[arg(long, value_name = "FILE")]
    officers_ca: Option<PathBuf>,
    /// The log of another custodian on the same store, where proposals may have been made and approved. May be repeated
    #[arg(long, value_name = "DIR|URL", requires = "officers_ca", requires = "peer_key")]
    peer: Vec<String>,
    /// The verifier key of each peer's log, in the same order
    #[arg(long, value_name = "VKEY|FILE", requires = "peer")]
    peer_key: Vec<String>,
    /// Check a proof of one entry instead of a log
    #[arg(long, value_name = "FILE", requires = "entry", conflicts_with_all = ["older", "receipt", "officers_ca"])]
    proof: Option<PathBuf>,
    /// The entry that the proof is of
    #[arg(long, value_name = "FILE", requires = "proof")]
    entry: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: &Arguments) -> Result<()> {
    let checked = match (&arguments.proof, &arguments.entry) {
        (Some(proof), Some(entry)) => {
            alone::check(arguments, proof, entry).map(|checked| (checked.as_json(), checked.as_text()))
        }
        _ => check(arguments).await.map(|checked| (checked.as_json(), checked.as_text())),
    };
    match checked {
        Ok((json, _)) if arguments.json => println!("{json:#}"),
        Ok((_, text)) => print!("{text}"),
        Err(error) if arguments.json && !error.is::<Usage>() => {
            println!("{:#}", Finding::json_of(&error));
            return Err(Bad.into());
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn check(arguments: &Arguments) -> Result<Checked> {
    let log = arguments.log.open()?;
    let key = log.key();
    let witnesses = Witnesses::new(&arguments.witness, arguments.quorum)?;
    let mut older = arguments.older.iter().map(|path| older(path, key)).collect::<Result<Vec<_>>>()?;
    if witnesses.is_some() {
        // Before the latest one, so that it is not newer.
        let cosigned = log.cosigned().await?;
        older
            .extend(cosigned.map(|note| SignedCheckpoint::open(&note, key).map_err(Finding::of_cosigned)).transpose()?);
    }
    log.refresh(Need::Everything).await?;
    let newest = older.iter().max_by_key(|older| older.checkpoint().size());
    let report = tlog::verify::verify(log.folder(), key, newest).map_err(Finding::of_log)?;
    let reader = Reader::new(log.folder(), report.checkpoint.clone());
    older.iter().try_for_each(|older| goes_on_from(&reader, older))?;
    let vouched = witnesses.as_ref().map(|witnesses| witnesses.check(&report.checkpoint, &older)).transpose()?;
    arguments.receipt.iter().try_for_each(|receipt| has(&reader, report.after_checkpoint, receipt))?;
    let approved = match &arguments.officers_ca {
        Some(officers_ca) => Some(approved(arguments, officers_ca, &reader).await?),
        None => None,
    };
    let size = report.checkpoint.checkpoint().size();
    Ok(Checked {
        key: key.clone(),
        first: time_of(&reader, 0)?,
        last: size.checked_sub(1).map(|last| time_of(&reader, last)).transpose()?.flatten(),
        older: older.iter().map(|older| older.checkpoint().size()).collect(),
        vouched,
        approved,
        receipts: arguments.receipt.len(),
        report,
    })
}

/// Checks the approvals in the log, and in those of its peers.
async fn approved(arguments: &Arguments, officers_ca: &Path, reader: &Reader) -> Result<Approved> {
    if arguments.peer.len() != arguments.peer_key.len() {
        return Err(Usage("give one --peer-key for each --peer, in the same order".to_owned()).into());
    }
    let mut approvals = Approvals::new(officers_ca)?;
    let mut take = |log, reader: &Reader| {
        walk(reader, &mut Frontier::default(), |index, bytes| approvals.take(log, &Entry::new(index, bytes)))
    };
    take(0, reader)?;
    for (number, (place, key)) in (1..).zip(arguments.peer.iter().zip(&arguments.peer_key)) {
        let peer = LocalLog::open(place, verifier_key(key, Use::Log)?, &arguments.log.connection, None)?;
        peer.refresh(Need::Everything).await?;
        let report = tlog::verify::verify(peer.folder(), peer.key(), None).map_err(Finding::of_log)?;
        take(number, &Reader::new(peer.folder(), report.checkpoint))?;
    }
    approvals.check()
}

/// An older checkpoint in a file.
fn older(path: &Path, key: &VerifierKey) -> Result<SignedCheckpoint> {
    let note = read_bounded(path, MAX_NOTE_LEN as u64)?;
    SignedCheckpoint::open(&note, key).map_err(|source| Finding::of_older(path, source).into())
}

/// That the checked log goes on from `older`.
fn goes_on_from(reader: &Reader, older: &SignedCheckpoint) -> Result<()> {
    let (now, older) = (reader.checkpoint().checkpoint(), older.checkpoint());
    if older.size() > now.size() {
        return Err(Finding::of_log(VerifyError::RolledBack { size: now.size(), older: older.size() }).into());
    }
    let proof = reader.prove_consistency(older.size())?;
    verify_consistency(&proof, (older.size(), older.root()), (now.size(), now.root()))
        .map_err(|_| Finding::of_log(VerifyError::Fork { older: older.size() }).into())
}

/// That the checked log has what a receipt says.
fn has(reader: &Reader, after_checkpoint: u64, (index, leaf): &(u64, Hash)) -> Result<()> {
    let size = reader.checkpoint().checkpoint().size();
    if *index >= size {
        return Err(Finding::not_covered(*index, size, after_checkpoint).into());
    }
    if reader.leaf(*index)? == *leaf { Ok(()) } else { Err(Finding::other_entry(*index).into()) }
}

fn time_of(reader: &Reader, index: u64) -> Result<Option<String>> {
    let entry = reader.entries(index).next().transpose()?;
    Ok(entry.and_then(|(index, bytes)| Entry::new(index, bytes).text("time").map(super::entry::escaped)))
}

/// `INDEX:HASH` or `INDEX HASH`, the hash in base64.
fn receipt(text: &str) -> Result<(u64, Hash)> {
    let wrong = "write a receipt as INDEX:HASH, the hash in base64";
    let (index, hash) = text.trim().split_once([':', ' ']).context(wrong)?;
    let hash = STANDARD.decode(hash).ok().and_then(|hash| hash.try_into().ok()).context(wrong)?;
    Ok((index.parse().context(wrong)?, Hash(hash)))
}

#[cfg(test)]
mod tests;

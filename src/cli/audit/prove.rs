//! `claviger audit prove`: a proof that one entry is in the log.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::LogArguments;
use super::fetch::Need;
use crate::cli::files;
use crate::tlog::proof_file::InclusionProof;
use crate::tlog::reader::{Reader, ReaderError};

#[derive(Args)]
pub(super) struct Arguments {
    /// The entry's index, as its receipt says
    #[arg(value_name = "INDEX")]
    index: u64,
    #[command(flatten)]
    log: LogArguments,
    /// Write the proof here instead of showing it; the usual ending is `.tlog-proof`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the entry itself here: the proof is checked against its bytes
    #[arg(long, value_name = "FILE")]
    entry_out: Option<PathBuf>,
}

pub(super) async fn run(arguments: &Arguments) -> Result<()> {
    let log = arguments.log.open()?;
    log.refresh(Need::Inclusion(arguments.index)).await?;
    let (proof, entry) = prove(&log.reader()?, arguments.index, log.key())?;
    if let Some(path) = &arguments.entry_out {
        files::write_private(path, &entry)?;
    }
    match &arguments.out {
        Some(path) => files::write_private(path, proof.to_string().as_bytes()),
        None => {
            print!("{proof}");
            Ok(())
        }
    }
}

/// The proof, which holds, and the entry.
fn prove(reader: &Reader, index: u64, key: &crate::tlog::note::VerifierKey) -> Result<(InclusionProof, Vec<u8>)> {
    let proof = InclusionProof::of(reader, index).map_err(|error| match error {
        ReaderError::NotCovered { size, .. } => {
            anyhow::anyhow!("the log's checkpoint covers {size} entries: entry {index} is not in it, or not yet")
        }
        other => other.into(),
    })?;
    let (_, entry) = reader.entries(index).next().context("the entry cannot be read")??;
    proof.verify(&entry, key).context("what the log holds does not prove it; run `claviger audit verify`")?;
    Ok((proof, entry))
}

#[cfg(test)]
mod tests;

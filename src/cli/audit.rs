//! `claviger audit`: checks, shows and witnesses an append-only log, without trusting whoever keeps it.

mod entry;
mod fetch;
mod local;
mod moment;
mod prove;
mod reconcile;
mod remote;
mod show;
#[cfg(test)]
mod testing;
mod verify;
mod walk;
mod witness;
mod witness_key;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use self::local::LocalLog;
use self::remote::Connection;
use super::{Usage, runtime};
use crate::tlog::note::{Use, VerifierKey};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prove that a log is whole, or say what was done to it
    ///
    /// Checks each entry, each tile and the signed checkpoint; with `--older`, that the log goes on from what it was; with
    /// `--witness`, that other parties saw the same. Exits with 0 if all is good, 1 if something is bad, 2 on wrong usage.
    Verify(verify::Arguments),
    /// Show the entries of a log
    Show(show::Arguments),
    /// Write a proof that one entry is in the log, which is checked without the log
    Prove(prove::Arguments),
    /// Watch another party's log: cosign what only grew, and refuse what was rewritten
    Witness(witness::Arguments),
    /// Make a witness's key and print its public half
    WitnessKey(witness_key::Arguments),
    /// Compare the record accesses in a proxy's log with the key uses in the custodian's
    Reconcile(reconcile::Arguments),
}

pub(super) fn run(arguments: Arguments) -> Result<()> {
    let runtime = runtime()?;
    match arguments.command {
        Command::Verify(arguments) => runtime.block_on(verify::run(&arguments)),
        Command::Show(arguments) => runtime.block_on(show::run(&arguments)),
        Command::Prove(arguments) => runtime.block_on(prove::run(&arguments)),
        Command::Witness(arguments) => runtime.block_on(witness::run(arguments)),
        Command::WitnessKey(arguments) => witness_key::run(&arguments),
        Command::Reconcile(arguments) => runtime.block_on(reconcile::run(&arguments)),
    }
}

/// Which log, and whom to believe that it is that one.
#[derive(Args)]
struct LogArguments {
    /// The log: a folder, or the URL that it is served under; a custodian's URL without a path will do
    #[arg(long, env = "CLAVIGER_AUDIT_LOG", value_name = "DIR|URL")]
    log: Option<String>,
    /// The log's verifier key, or a file with it; have it from its owner, not from whoever serves the log
    #[arg(long, env = "CLAVIGER_AUDIT_KEY", value_name = "VKEY|FILE")]
    key: Option<String>,
    #[command(flatten)]
    connection: Connection,
    /// Keep full tiles of a log behind a URL here, and do not fetch those again: what is served now in their place is not
    /// looked at then
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

impl LogArguments {
    fn key(&self) -> Result<VerifierKey> {
        let key = self.key.as_deref();
        let key =
            key.ok_or_else(|| Usage("give the log's verifier key with --key or CLAVIGER_AUDIT_KEY".to_owned()))?;
        verifier_key(key, Use::Log)
    }

    fn open(&self) -> Result<LocalLog> {
        let log = self.log.as_deref();
        let log = log.ok_or_else(|| Usage("name the log with --log or CLAVIGER_AUDIT_LOG".to_owned()))?;
        LocalLog::open(log, self.key()?, &self.connection, self.cache.as_deref())
    }
}

/// A verifier key given as text, or as the name of a file with one.
pub(super) fn verifier_key(given: &str, usage: Use) -> Result<VerifierKey> {
    let key = match VerifierKey::parse(given.trim()) {
        Ok(key) => key,
        Err(_) => {
            let text = read_bounded(Path::new(given), 4096)
                .map_err(|_| Usage(format!("{given:?} is neither a verifier key nor a file that can be read")))?;
            let text = String::from_utf8(text).map_err(|_| Usage(format!("{given} holds no verifier key")))?;
            VerifierKey::parse(text.trim()).map_err(|error| Usage(format!("{given}: {error}")))?
        }
    };
    let wanted = match usage {
        Use::Log => "a log's key",
        Use::Witness => "a witness's key",
    };
    if key.usage() == usage { Ok(key) } else { Err(Usage(format!("{key} is not {wanted}")).into()) }
}

/// A file of at most `limit` bytes.
pub(super) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let read = || {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = read().with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(bytes.len() as u64 <= limit, "{} has more than {limit} bytes", path.display());
    Ok(bytes)
}

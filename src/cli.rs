//! The command line: one file per subcommand; the only place where concrete parts are wired together.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 officers have to approve it first,
//! 4 interrupted: run again to go on.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a command shows goes to stdout, and why it failed to stderr"
)]

mod audit;
mod certificate;
mod certificates;
mod check;
mod custodian;
mod custodian_client;
mod demo;
mod descriptors;
mod export;
mod files;
mod gc;
mod grant;
mod hardening;
mod init;
mod inspect;
mod jobs;
mod key;
mod maintain;
mod migrate;
mod notify;
mod policy;
mod progress;
mod proposals;
mod proxy;
mod re_encrypt;
mod rebind;
mod revoke;
mod seeing;
mod serving;
mod status;
mod unseal;
mod verify;
mod vote;
mod wiring;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};

use self::custodian_client::Gated;
use crate::config::{self, Config, Problems};
use crate::crypto;
use crate::custodian::approval::Verb;
use crate::telemetry;

#[doc(hidden)]
pub use status::fuzz_scrape;

/// For `--version`: also what does the cryptography.
static LONG_VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{} ({})", env!("CARGO_PKG_VERSION"), crypto::LIBRARY));

#[derive(Parser)]
#[command(
    name = "claviger",
    version,
    long_version = LONG_VERSION.as_str(),
    about = "An encrypting S3 storage proxy with key custody",
    disable_help_subcommand = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Try everything on this machine: storage server, custodian and proxy
    Demo(demo::Arguments),
    /// Write the configuration, keys and certificates of a deployment into a folder
    Init(init::Arguments),
    /// Issue a certificate for one more proxy, custodian, officer or auditor
    Certificate(certificate::Arguments),
    /// Say what is wrong with a configuration, a proxy's or a custodian's
    ///
    /// Looks into the files that it names, too, and asks no server: a custodian on the network is not contacted.
    Check(check::Arguments),
    /// Run the proxy
    Proxy(ConfigFile),
    /// Run the custodian: the server that holds the KEKs
    Custodian(custodian::Arguments),
    /// Show how proxies and custodians are, on a terminal each second anew
    ///
    /// Reads their metrics ([metrics] in their configurations). With a custodian to ask, it counts each key's branch keys by version
    /// too, once a minute; each count has an entry in the audit log.
    Status(status::Arguments),
    /// Give the custodian a share of its seal
    Unseal(unseal::Arguments),
    /// Show whether the custodian is sealed, and how far its unsealing is
    SealStatus(unseal::OnlyFlags),
    /// Seal the custodian at once: it gives no key out until it is unsealed
    Seal(unseal::OnlyFlags),
    /// Show what the storage server knows of an object: its envelope
    Inspect(inspect::Arguments),
    /// Encrypt what was in a bucket before the proxies, in its place, while applications work
    ///
    /// The bucket's configuration has to say unencrypted = "migrate". First a manifest is sealed of all objects that are not
    /// encrypted, with --begin; the proxies serve those, and nothing else, as they are. Then each is encrypted. What applications write
    /// meanwhile wins. An object keeps its bytes, headers, tags and storage class; its ETag and date become others. Run it again,
    /// without --begin, to go on after an interruption. Whatever lies in the bucket without an envelope when a manifest is sealed is
    /// taken for the clients': so --begin is for the first time, and --restart, which seals a new one, for when you know why.
    Migrate(migrate::Arguments),
    /// Read and authenticate everything in a bucket, and tell what is damaged
    ///
    /// An object is damaged if it is not what was written under its name: altered, cut, swapped, encrypted under a key that the bucket
    /// does not accept, or not encrypted at all. What is written or deleted meanwhile is none. What the storage server does not list
    /// cannot be looked at. Objects under a customer key (SSE-C), archived ones, and those that a migration has not reached cannot be
    /// verified here, and count as failed, but for the number that --allow-skipped gives. A run that was interrupted
    /// is gone on with for a day (and for a week after the first one began), in the faith that what it had verified has not changed: --restart verifies everything now. Exits
    /// with 1 if anything is damaged.
    Verify(verify::Arguments),
    /// Decrypt a bucket's objects out into files
    ///
    /// The newest version of each object (old versions are not exported) becomes a file below the folder, by its key; the folder's
    /// .claviger-metadata.jsonl has a line of JSON for each: key, path, size, SHA-256, ETag, date, headers and tags. A key that makes no
    /// safe path is escaped: control characters and % as %XX; an empty piece between slashes as %empty, . and .. with %2E; pieces of
    /// more than 200 bytes are cut, %more at the end of the folder that holds the rest; where a name is an object and a folder of
    /// others, the second one ends in %dir or %file. A path that would be too long is %long/ and the key's SHA-256; where the file system takes two
    /// names for one, the second file ends in % and the beginning of that hash. Keys whose names it does not take are shown, and left out. What cannot be verified counts as failed, as with verify. Run it again to go on: files that are there with the recorded size and hash are
    /// left alone. Files are readable for their owner alone.
    Export(export::Arguments),
    /// Delete what uploads that are over, and jobs that nobody went on with, left in the state bucket
    ///
    /// An upload's state is deleted if nothing in it is younger than the time given, and the storage server, asked for that upload, says
    /// that there is none. What cannot be told, such as a record that somebody moved or altered, is left alone and shown. Branch keys
    /// and manifests are never touched. Run it now and then, such as once a day.
    Gc(gc::Arguments),
    /// Encrypt objects anew: another DEK, under another branch key, for when one of theirs may have leaked
    ///
    /// Without a choice, all objects of the bucket. An object keeps its bytes, headers, checksum, parts, tags, storage class,
    /// retention and legal hold; its ETag, date and, in buckets with versions, its version become others. What applications write
    /// meanwhile wins. In buckets with versions the old versions stay: delete them, or they can be read under the old keys.
    ReEncrypt(re_encrypt::Arguments),
    /// Bind objects to the name that they have, which were copied or restored under it without the proxy
    ///
    /// An object opens only under the name that it was written under. Given that name, it is bound to the one that it has now;
    /// the data stays where it lies. An object that opens already is left alone, and one that opens under neither name is
    /// reported. The other bucket has to be in the configuration, with the keys that its objects were written under. While this runs,
    /// the storage server's operator can have any object of the other name bound, also over one that lived under this one: see
    /// with --dry-run --list FILE what would be bound, and bind with --list FILE nothing else.
    Rebind(rebind::Arguments),
    /// Check, show and witness an append-only log
    Audit(audit::Arguments),
    /// Check a custodian's policy, and what it decides
    Policy(policy::Arguments),
    /// Make, show, rotate and switch off the custodian's keys
    #[command(subcommand)]
    Key(key::Command),
    /// Keep branch keys on the newest version of their keys, and their directory whole
    Maintain(maintain::Arguments),
    /// Show what waits for the approval of officers
    Proposals(proposals::Arguments),
    /// Approve a proposal, as an officer: shows it in full and signs it on this machine
    Approve(vote::Arguments),
    /// Deny a proposal for good, as an officer
    Deny(vote::Arguments),
    /// Leave to use keys for a time: ask, approve, list, end
    #[command(subcommand)]
    Grant(grant::Command),
    /// Cut off a client, a person or a certificate, at once
    Revoke(revoke::Revoke),
    /// Let in again who was cut off; officers have to approve it
    Reinstate(revoke::Reinstate),
    /// Show who is cut off
    Revocations(revoke::List),
}

/// Which configuration a command works with.
#[derive(Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(long = "config", env = "CLAVIGER_CONFIG", value_name = "FILE")]
    file: PathBuf,
}

impl ConfigFile {
    fn load(&self) -> Result<Config> {
        Ok(config::load(&self.file)?)
    }
}

/// The user asked for something that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// What is shown was shown, and what it shows is bad.
#[derive(Debug, thiserror::Error)]
#[error("what was checked is not right")]
struct Shown;

/// What was checked was found bad, and that was shown.
#[derive(Debug, thiserror::Error)]
#[error("what was checked is bad")]
struct Bad;

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    let command = CommandLine::parse().command;
    // Also a command for a moment may have an officer's share in its memory, and a job has keys and what they open.
    let ready = crypto::check_mode().map_err(anyhow::Error::from).and_then(|()| hardening::close_memory());
    match ready.and_then(|()| run(command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Certificate(arguments) => certificate::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Proxy(config) => proxy::run(&config),
        Command::Custodian(arguments) => custodian::run(arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Unseal(arguments) => unseal::run(&arguments),
        Command::SealStatus(arguments) => unseal::status(&arguments),
        Command::Seal(arguments) => unseal::seal(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Migrate(arguments) => migrate::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Export(arguments) => export::run(arguments),
        Command::Gc(arguments) => gc::run(arguments),
        Command::ReEncrypt(arguments) => re_encrypt::run(arguments),
        Command::Rebind(arguments) => rebind::run(arguments),
        Command::Audit(arguments) => audit::run(arguments),
        Command::Policy(arguments) => policy::run(&arguments),
        Command::Key(command) => key::run(&command),
        Command::Maintain(arguments) => maintain::run(&arguments),
        Command::Proposals(arguments) => proposals::run(&arguments),
        Command::Approve(arguments) => vote::run(&arguments, Verb::Approve),
        Command::Deny(arguments) => vote::run(&arguments, Verb::Veto),
        Command::Grant(command) => grant::run(&command),
        Command::Revoke(arguments) => revoke::run(&arguments),
        Command::Reinstate(arguments) => revoke::reinstate(&arguments),
        Command::Revocations(arguments) => revoke::list(&arguments),
    }
}

fn report(error: &anyhow::Error) -> ExitCode {
    if error.is::<Shown>() {
        return ExitCode::from(2);
    }
    if error.is::<Bad>() {
        return ExitCode::FAILURE;
    }
    if error.is::<jobs::Interrupted>() {
        eprintln!("claviger: {error:#}");
        return ExitCode::from(4);
    }
    if let Some(problems) = error.downcast_ref::<Problems>() {
        let count = problems.list.len();
        eprintln!("claviger: the configuration has {count} mistake{}:\n{problems}", if count == 1 { "" } else { "s" });
        return ExitCode::from(2);
    }
    if let Some(gated) = error.downcast_ref::<Gated>() {
        eprint!("claviger: {}", gated.advice());
        return ExitCode::from(3);
    }
    eprintln!("claviger: {error:#}");
    ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
}

/// An asynchronous runtime for one command.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

/// Sends log lines to stderr.
fn start_logs(config: &Config) -> Result<()> {
    telemetry::init(config.log_format, &config.log_filter).map_err(|error| Usage(error.to_string()))?;
    Ok(())
}

/// What resolves when the process is asked to end, by SIGTERM or Ctrl-C. From this call on, they end nothing by themselves.
fn asked_to_end() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Resolves at each SIGHUP, if that is watched for.
async fn hung_up(hangup: &mut Option<tokio::signal::unix::Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_long_version_names_the_cryptographic_library() {
        let long = CommandLine::command().render_long_version();
        assert_eq!(long, format!("claviger {} ({})\n", env!("CARGO_PKG_VERSION"), crypto::LIBRARY));
    }
}

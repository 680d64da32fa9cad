//! The command line: one file per subcommand; the only place where concrete parts are wired together.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a command shows goes to stdout, and why it failed to stderr"
)]

mod certificates;
mod check;
mod demo;
mod files;
mod init;
mod inspect;
mod proxy;
mod wiring;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, Problems};
use crate::telemetry;

#[derive(Parser)]
#[command(
    name = "claviger",
    version,
    about = "An encrypting S3 storage proxy with key custody",
    disable_help_subcommand = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Try everything on this machine: storage server, custodian and proxy in one process
    Demo(demo::Arguments),
    /// Write the configuration, keys and certificates of a deployment into a folder
    Init(init::Arguments),
    /// Say what is wrong with a configuration
    ///
    /// Looks into the files that it names, too, and asks no server: a custodian on the network is not contacted.
    Check(check::Arguments),
    /// Run the proxy
    Proxy(ConfigFile),
    /// Show what the storage server knows of an object: its envelope
    Inspect(inspect::Arguments),
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
#[error("the configuration is not right")]
struct Shown;

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    let done = match CommandLine::parse().command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Proxy(config) => proxy::run(&config),
        Command::Inspect(arguments) => inspect::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn report(error: &anyhow::Error) -> ExitCode {
    if error.is::<Shown>() {
        return ExitCode::from(2);
    }
    if let Some(problems) = error.downcast_ref::<Problems>() {
        let count = problems.list.len();
        eprintln!("claviger: the configuration has {count} mistake{}:\n{problems}", if count == 1 { "" } else { "s" });
        return ExitCode::from(2);
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

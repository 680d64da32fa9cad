//! `claviger audit witness`: another party's eye on a log. It cosigns what only grew, and keeps the proof of what did not.
//!
//! **Invariant:** what was seen is durable before a cosignature of it exists.

mod state;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use serde::Deserialize;

use self::state::State;
use super::fetch::Need;
use super::local::LocalLog;
use super::moment::{duration, now_s};
use super::remote::{Connection, Remote, is_url};
use super::{read_bounded, verifier_key, witness_key};
use crate::cli::{Usage, notify};
use crate::tlog::checkpoint::SignedCheckpoint;
use crate::tlog::note::{Signature, Signer, Use};
use crate::tlog::witness::{CosignError, cosign};

const INTERVAL: Duration = Duration::from_secs(5);
/// The log's server is not asked more often than that.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const CONFIG_LEN_MAX: u64 = 64 * 1024;

#[derive(Args, Default)]
pub(super) struct Arguments {
    /// A TOML file with these settings (log, log_key, key_file, state, interval, push, ca_file, client_cert, client_key);
    /// what it leaves out is taken from the arguments
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The log: a folder, or the URL that it is served under; a custodian's URL without a path will do
    #[arg(long, env = "CLAVIGER_AUDIT_LOG", value_name = "DIR|URL")]
    log: Option<String>,
    /// The log's verifier key, or a file with it
    #[arg(long, env = "CLAVIGER_AUDIT_KEY", value_name = "VKEY|FILE")]
    log_key: Option<String>,
    /// The witness's own key, as `claviger audit witness-key` made it
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The folder for what was seen, the cosigned checkpoint and evidence; never put back an old copy of it
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How often to look [default: 5s]
    #[arg(long, value_parser = duration)]
    interval: Option<Duration>,
    /// Look once, and end
    #[arg(long)]
    once: bool,
    /// Hand each cosignature to the custodian whose log it is
    #[arg(long)]
    push: bool,
    #[command(flatten)]
    connection: Connection,
}

/// The file's half of the settings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    log: Option<String>,
    log_key: Option<String>,
    key_file: Option<PathBuf>,
    state: Option<PathBuf>,
    interval: Option<String>,
    push: Option<bool>,
    ca_file: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
}

impl Arguments {
    /// With what the file says. Paths in it are from its folder on.
    fn with_config(mut self) -> Result<Self> {
        let Some(path) = self.config.take() else { return Ok(self) };
        let wrong = |error: &dyn fmt::Display| Usage(format!("{}: {error}", path.display()));
        let text = String::from_utf8(read_bounded(&path, CONFIG_LEN_MAX)?).map_err(|error| wrong(&error))?;
        let config: Config = toml::from_str(&text).map_err(|error| wrong(&error))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let within = |path: PathBuf| folder.join(path);
        let interval = config.interval.map(|text| duration(&text)).transpose().map_err(|error| wrong(&error))?;
        let log = config.log.map(|log| if is_url(&log) { log } else { folder.join(log).display().to_string() });
        let connection = Connection {
            ca_file: config.ca_file.map(within).or(self.connection.ca_file),
            client_cert: config.client_cert.map(within).or(self.connection.client_cert),
            client_key: config.client_key.map(within).or(self.connection.client_key),
        };
        Ok(Self {
            config: None,
            log: log.or(self.log),
            log_key: config.log_key.or(self.log_key),
            key_file: config.key_file.map(within).or(self.key_file),
            state: config.state.map(within).or(self.state),
            interval: interval.or(self.interval),
            once: self.once,
            push: config.push.unwrap_or(self.push),
            connection,
        })
    }
}

pub(super) async fn run(arguments: Arguments) -> Result<()> {
    let arguments = arguments.with_config()?;
    let interval = arguments.interval.unwrap_or(INTERVAL).max(INTERVAL_MIN);
    let mut witness = Witness::new(&arguments)?;
    notify::ready("looking");
    loop {
        match witness.step().await {
            Ok(Step::Unchanged) => {}
            Ok(Step::Cosigned { size }) => println!("cosigned {} at {size} entries", witness.log.key().name()),
            Err(error) if arguments.once || error.is::<Alarm>() => return Err(error),
            Err(error) => eprintln!("claviger: {error:#}; trying again"),
        }
        if arguments.once {
            return Ok(());
        }
        tokio::time::sleep(interval).await;
    }
}

/// The log is not what it was.
#[derive(Debug, thiserror::Error)]
#[error(
    "ALARM: {log} is not what it was: {cause}\n  Nothing was cosigned. Both checkpoints are kept in {}: together they prove it. Ask \
     whoever runs the log, and tell those who rely on it.",
    evidence.display()
)]
struct Alarm {
    log: String,
    cause: String,
    evidence: PathBuf,
}

/// What came of looking once.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Unchanged,
    Cosigned { size: u64 },
}

struct Witness {
    log: LocalLog,
    signer: Signer,
    state: State,
    push: Option<Remote>,
    /// A cosignature that the custodian does not have yet.
    unpushed: Option<Signature>,
}

impl Witness {
    fn new(arguments: &Arguments) -> Result<Self> {
        let needed = |what: &str| Usage(format!("give {what}, or set it in the file of --config"));
        let place = arguments.log.as_deref().ok_or_else(|| needed("--log"))?;
        let log_key = arguments.log_key.as_deref().ok_or_else(|| needed("--log-key"))?;
        let key_file = arguments.key_file.as_deref().ok_or_else(|| needed("--key-file"))?;
        let folder = arguments.state.as_deref().ok_or_else(|| needed("--state"))?;
        let log_key = verifier_key(log_key, Use::Log)?;
        let push = match (arguments.push, is_url(place)) {
            (false, _) => None,
            (true, true) => Some(Remote::new(place, &arguments.connection)?),
            (true, false) => return Err(Usage("--push needs a log behind a URL".to_owned()).into()),
        };
        let signer = witness_key::load(key_file)?;
        let state = State::open(folder, &log_key)?;
        let log = LocalLog::open(place, log_key, &arguments.connection, None)?;
        Ok(Self { log, signer, state, push, unpushed: None })
    }

    /// Looks at the log, and cosigns what is new.
    async fn step(&mut self) -> Result<Step> {
        let step = self.look().await?;
        if let (Some(custodian), Some(signature)) = (&self.push, &self.unpushed) {
            custodian.push(&signature.to_string()).await.context("the cosignature was not handed over")?;
            self.unpushed = None;
        }
        Ok(step)
    }

    async fn look(&mut self) -> Result<Step> {
        let offered = self.log.checkpoint().await?;
        let signed = match SignedCheckpoint::open(&offered, self.log.key()) {
            Ok(signed) => signed,
            Err(error) => {
                // Anyone on the way can do that, so it proves nothing against the log.
                let kept = self.state.keep_evidence(&offered, now_s())?;
                return Err(anyhow!(error).context(format!("what was served is kept in {}", kept.display())));
            }
        };
        if self.state.has_published(signed.checkpoint()) {
            return Ok(Step::Unchanged);
        }
        let size = signed.checkpoint().size();
        let proof = match self.state.seen().map(|seen| seen.checkpoint().size()) {
            Some(seen) if 0 < seen && seen < size => {
                self.log.reader_at(signed.clone(), Need::Consistency(seen)).await?.prove_consistency(seen)?
            }
            _ => Vec::new(),
        };
        let seen = self.state.seen().map(|seen| seen.checkpoint().clone());
        let record = |_: &_| self.state.record(&signed);
        let signature = match cosign(&signed, &self.signer, seen.as_ref(), &proof, now_s(), record) {
            Ok(signature) => signature,
            Err(error @ (CosignError::NotAWitness | CosignError::Record(_))) => return Err(error.into()),
            Err(error) => {
                let evidence = self.state.keep_evidence(&offered, now_s())?;
                let log = self.log.key().name().to_owned();
                return Err(Alarm { log, cause: error.to_string(), evidence }.into());
            }
        };
        self.state.publish(signed.with_cosignature(signature.clone())?)?;
        self.unpushed = Some(signature);
        Ok(Step::Cosigned { size })
    }
}

#[cfg(test)]
mod tests;

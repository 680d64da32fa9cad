//! What the commands that run jobs have in common: flags, wiring, progress, report.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{Bad, ConfigFile, Usage, asked_to_end, start_logs, wiring};
use crate::custody::caller::Caller;
use crate::custody::reason::Reason;
use crate::maintenance::job::{self, Finding, Scope};
use crate::maintenance::progress::Progress;
use crate::maintenance::work::Work;
use crate::names::{LogicalBucket, Principal};
use crate::object::access::Authenticated;

/// Most findings in a report.
const MOST_FINDINGS: usize = 1_000;
/// How often it is told how far a job is, where nobody looks at a terminal.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The flags of every job over objects.
#[derive(Args)]
pub(super) struct JobFlags {
    #[command(flatten)]
    pub(super) config: ConfigFile,
    /// Objects treated at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) concurrency: u16,
    /// Most requests to the storage server in a second; without it, as fast as it goes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_requests_s: Option<u32>,
    /// Change nothing, and say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// `BUCKET` or `BUCKET/PREFIX`, with or without `s3://`.
pub(super) fn target(text: &str) -> Result<(LogicalBucket, String)> {
    let text = text.strip_prefix("s3://").unwrap_or(text);
    let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
    let bucket = LogicalBucket::new(bucket).map_err(|error| Usage(error.to_string()))?;
    Ok((bucket, prefix.to_owned()))
}

/// Who a job is, towards the custodian and in its log.
pub(super) fn who() -> Authenticated {
    let principal = Principal::new("claviger").expect("a legal principal");
    Authenticated::program(Caller { principal, reason: Reason::Maintenance })
}

/// Puts together what a job works with, and sends log lines to stderr.
pub(super) async fn prepare(flags: &JobFlags) -> Result<wiring::Workbench> {
    let mut config = flags.config.load()?;
    start_logs(&config)?;
    config.storage.settings.requests_max_s = flags.max_requests_s;
    wiring::prepare_job(config).await
}

/// Runs a job over objects, and shows what came of it; `notes` are told at the end.
pub(super) async fn carry_out(
    flags: &JobFlags,
    bench: &wiring::Workbench,
    scope: &Scope,
    work: &dyn Work,
    notes: impl FnOnce() -> Vec<String>,
) -> Result<()> {
    let (progress, begun, end) = (Progress::default(), Instant::now(), asked_to_end()?);
    let mut findings = Vec::new();
    let found = |finding: Finding| {
        let Finding { key, version, error } = finding;
        let error = format!("{:#}", anyhow::Error::from(error));
        if !flags.json {
            let version = version.as_ref().map(|version| format!(" version {version}")).unwrap_or_default();
            println!("{key}{version}: {error}");
        }
        if findings.len() < MOST_FINDINGS {
            findings.push(json!({ "key": key, "version": version, "error": error }));
        }
    };
    let complete = tokio::select! {
        done = job::run(&bench.objects, scope, work, &progress, found) => done.map(|()| true)?,
        () = end => false,
        () = tell(&progress, begun) => unreachable!("it tells for ever"),
    };
    let counters = [
        ("listed", &progress.listed),
        ("done", &progress.done),
        ("skipped", &progress.skipped),
        ("overtaken", &progress.overtaken),
        ("failed", &progress.failed),
        ("bytes", &progress.bytes),
    ];
    if flags.json {
        let mut report = json!({
            "job": work.name(), "bucket": scope.bucket.as_str(), "prefix": scope.prefix, "findings": findings, "notes": notes(),
            "seconds": begun.elapsed().as_secs(), "requests": bench.storage.requests(), "complete": complete,
        });
        for (name, counter) in counters {
            report[name] = Progress::of(counter).into();
        }
        println!("{report:#}");
    } else {
        println!("{}", counters.map(|(name, counter)| format!("{} {name}", Progress::of(counter))).join(", "));
        notes().iter().for_each(|note| println!("{note}"));
    }
    if !complete {
        return Err(Interrupted.into());
    }
    if Progress::of(&progress.failed) > 0 { Err(Bad.into()) } else { Ok(()) }
}

/// The process was asked to end before the job was through.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; run the same command again to go on")]
pub(super) struct Interrupted;

/// Tells on stderr how far a job is: in one line that is written over on a terminal, else as a JSON line now and then.
async fn tell(progress: &Progress, begun: Instant) {
    let bar = std::io::stderr().is_terminal().then(|| {
        let bar = indicatif::ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    });
    loop {
        tokio::time::sleep(if bar.is_some() { Duration::from_millis(500) } else { TOLD_EVERY }).await;
        let [listed, done, failed, bytes] =
            [&progress.listed, &progress.done, &progress.failed, &progress.bytes].map(Progress::of);
        let seconds = begun.elapsed().as_secs().max(1);
        match &bar {
            Some(bar) => bar.set_message(format!(
                "{listed} listed, {done} done, {failed} failed, {} MiB, {} objects/s",
                bytes >> 20,
                listed / seconds
            )),
            None => {
                eprintln!(
                    "{}",
                    json!({ "seconds": seconds, "listed": listed, "done": done, "failed": failed, "bytes": bytes })
                );
            }
        }
    }
}

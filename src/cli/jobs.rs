//! What the commands that run jobs have in common: flags, wiring, progress, report, and how they end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

use super::progress::{self, Shown};
use super::{Bad, ConfigFile, Usage, asked_to_end, start_logs, wiring};
use crate::custody::caller::Caller;
use crate::custody::reason::Reason;
use crate::maintenance::checkpoint::{Checkpoint, Checkpoints, Note};
use crate::maintenance::job::{self, End, Finding, Patience, Run, Scope};
use crate::maintenance::progress::Progress;
use crate::maintenance::verify::Passed;
use crate::maintenance::work::Work;
use crate::names::{LogicalBucket, Principal};
use crate::object::access::Authenticated;

/// Findings that stand in a report.
pub(super) const MOST_FINDINGS: usize = 1_000;
/// How often a checkpoint is written.
pub(super) const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

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
    /// Begin anew, whatever an earlier run that did not end has left
    #[arg(long)]
    pub(super) restart: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// For jobs that come upon objects which cannot be verified.
#[derive(Args)]
pub(super) struct Expected {
    /// So many objects, at most, may be passed over, because they are under a customer key (SSE-C), in an archive, or listed by
    /// a migration's manifest as not encrypted yet. Any more count as failed: that an object is such a one is only the
    /// storage server's word
    #[arg(long, value_name = "N", default_value_t = 0)]
    allow_skipped: u64,
}

impl Expected {
    pub(super) fn passed(&self) -> Passed {
        Passed::allowing(self.allow_skipped)
    }
}

/// The process was asked to end before the job was through.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; run the same command again to go on")]
pub(super) struct Interrupted;

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

/// Puts together what a job on that bucket works with, and sends log lines to stderr.
pub(super) async fn prepare(flags: &JobFlags, bucket: &LogicalBucket) -> Result<wiring::Workbench> {
    let config = flags.config.load()?;
    start_logs(&config)?;
    wiring::prepare_job(config, flags.max_requests_s, bucket).await
}

/// Becomes true when the process is asked to end.
pub(super) fn stop() -> Result<watch::Receiver<bool>> {
    let (sender, stop) = watch::channel(false);
    let asked = asked_to_end()?;
    tokio::spawn(async move {
        asked.await;
        eprintln!("claviger: stopping; what is begun is given a few seconds");
        // Nobody may be there any more to be stopped.
        let _ = sender.send(true);
        std::future::pending::<()>().await;
    });
    Ok(stop)
}

/// Runs the job over `scope`, shows how far it is, and reports.
pub(super) async fn run_job(
    flags: &JobFlags,
    bench: &wiring::Workbench,
    scope: Scope,
    work: Arc<dyn Work>,
) -> Result<()> {
    let stop = stop()?;
    let checkpoints = (!flags.dry_run && work.keeps_checkpoints())
        .then(|| Checkpoints::new(Arc::clone(&bench.objects), &scope, work.as_ref()));
    let from = match checkpoints.as_ref().filter(|_| !flags.restart) {
        Some(checkpoints) => checkpoints.load(Patience::default()).await?,
        None => None,
    };
    let mut report = Report::new(&scope, work.name(), from.as_ref(), flags.json);
    let progress = Arc::new(Progress::default());
    let counting = progress::is_watched().then(|| {
        let (objects, scope, progress) = (Arc::clone(&bench.objects), scope.clone(), Arc::clone(&progress));
        tokio::spawn(async move { job::count(&objects, &scope, &progress).await })
    });
    let shown = Shown::begin(work.name(), Arc::clone(&progress), bench.storage.clone());
    let run = Run {
        progress: Arc::clone(&progress),
        stop,
        checkpoints,
        from,
        every: CHECKPOINT_EVERY,
        patience: Patience::default(),
        is_part: false,
    };
    let found = |finding| shown.aside(|| report.take(&finding));
    let outcome = job::run(&bench.objects, &scope, Arc::clone(&work), run, found).await;
    drop(shown);
    if let Some(counting) = counting {
        counting.abort();
    }
    report.show(&progress, bench.storage.requests(), matches!(outcome, Ok(End::Complete)), work.as_ref());
    match outcome? {
        End::Stopped => Err(Interrupted.into()),
        End::Complete if Progress::of(&progress.failed) > 0 => Err(Bad.into()),
        End::Complete => Ok(()),
    }
}

/// What a job tells in the end.
struct Report {
    job: &'static str,
    scope: Scope,
    begun: Instant,
    /// Where the run went on from, and when the first run began.
    resumed: Option<(String, String)>,
    findings: Vec<Note>,
    is_json: bool,
}

impl Report {
    fn new(scope: &Scope, job: &'static str, from: Option<&Checkpoint>, is_json: bool) -> Self {
        let resumed = from.map(|from| (from.reached.clone(), moment(from.begun_ms)));
        if let Some((reached, begun)) = &resumed {
            eprintln!(
                "claviger: going on after {reached:?}, up to where a run that began at {begun} came; --restart begins anew"
            );
        }
        let findings = from.map(|from| from.notes.clone()).unwrap_or_default();
        let report = Self { job, scope: scope.clone(), begun: Instant::now(), resumed, findings, is_json };
        if !is_json {
            report.findings.iter().for_each(show);
        }
        report
    }

    fn take(&mut self, finding: &Finding) {
        let note = Note::new(&finding.key, finding.version.as_deref(), finding.error.as_ref());
        if !self.is_json {
            show(&note);
        }
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(note);
        }
    }

    fn show(&self, progress: &Progress, requests: u64, complete: bool, work: &dyn Work) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let counts = progress.counts();
        if !self.is_json {
            let named = counts.named().into_iter().filter(|(name, _)| *name != "bytes");
            let named: Vec<String> = named.map(|(name, count)| format!("{count} {name}")).collect();
            let (bytes, span) = (progress::bytes(counts.bytes), progress::span(seconds));
            println!("{}: {}; {bytes} in {span}, {requests} requests", self.job, named.join(", "));
            if let Some((reached, begun)) = &self.resumed {
                println!("of these, those up to {reached:?} by a run that began at {begun}");
            }
            work.notes().iter().for_each(|note| println!("{}", visible(note)));
            return;
        }
        let mut report = json!({
            "job": self.job,
            "bucket": self.scope.bucket.as_str(),
            "prefix": self.scope.prefix,
            "findings": self.findings.iter().map(as_json).collect::<Vec<_>>(),
            "notes": work.notes(),
            "seconds": (seconds * 1000.0).round() / 1000.0,
            "requests": requests,
            "complete": complete,
        });
        for (name, count) in counts.named() {
            report[name] = count.into();
        }
        for (name, count) in work.passed_over() {
            report["passed_over"][name] = count.into();
        }
        if let Some((reached, begun)) = &self.resumed {
            report["resumed"] = json!({ "after": reached, "begun": begun });
        }
        println!("{report}");
    }
}

pub(super) fn show(note: &Note) {
    let version = note.version.as_deref().map(|version| format!(" version {}", visible(version))).unwrap_or_default();
    // A key may have anything in it, and goes to a terminal.
    println!("{}{version}: {}", note.key.escape_debug(), visible(&note.error));
}

/// A text that may have anything in it, such as a key, for a terminal: what is not to be seen is escaped.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '\'' | '"' | '\\') {
            shown.push(character);
        } else {
            shown.extend(character.escape_debug());
        }
    }
    shown
}

fn as_json(note: &Note) -> Value {
    json!({ "key": note.key, "version": note.version, "error": note.error })
}

fn moment(unix_ms: u64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms / 1000) * 1_000_000_000);
    moment.ok().and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_terminal_comes_through() {
        assert_eq!(visible("it's \"a\\b\", \u{f6} \u{1f511}"), "it's \"a\\b\", \u{f6} \u{1f511}");
        assert_eq!(visible("\u{1b}[2J\r\n\u{202e}\u{9b}x"), "\\u{1b}[2J\\r\\n\\u{202e}\\u{9b}x");
    }
}

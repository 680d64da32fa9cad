//! `claviger migrate`.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::jobs::{self, Interrupted, JobFlags};
use super::progress::Shown;
use super::re_encrypt::Stopped;
use super::{Bad, Usage, asked_to_end, runtime};
use crate::maintenance::checkpoint::Note;
use crate::maintenance::job::Finding;
use crate::maintenance::migrate::{Ended, Migrate, PAUSE, Start};
use crate::maintenance::progress::Progress;
use crate::object::unencrypted::Pages;
use crate::object::unencrypted::manifest::{Entry, Head};

/// Most findings in a report.
const MOST_FINDINGS: usize = 1_000;

#[derive(Args)]
pub(super) struct Arguments {
    /// The bucket
    #[arg(value_name = "BUCKET")]
    bucket: String,
    #[command(flatten)]
    job: JobFlags,
    /// Seal the bucket's first manifest, of all that is not encrypted now; without this, there has to be one
    #[arg(long, conflicts_with_all = ["restart", "run", "dry_run"])]
    begin: bool,
    /// Go on with (or, with --restart, replace) the manifest of this run only
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// Seal the manifest, and encrypt nothing yet
    #[arg(long)]
    manifest_only: bool,
    /// In the end find old versions that are not encrypted, which cannot be replaced: they have to be deleted
    #[arg(long)]
    versions: bool,
    #[command(flatten)]
    stopped: Stopped,
}

/// A run, and what it tells in the end.
struct Run {
    job: Migrate,
    arguments: Arguments,
    progress: Arc<Progress>,
    findings: Vec<(String, Option<String>, String)>,
    /// The manifest that is gone through.
    manifest: Option<Head>,
}

pub(super) fn run(arguments: Arguments) -> Result<()> {
    runtime()?.block_on(migrate(arguments))
}

async fn migrate(arguments: Arguments) -> Result<()> {
    let (bucket, prefix) = jobs::target(&arguments.bucket)?;
    if !prefix.is_empty() {
        return Err(Usage("a bucket is migrated as a whole: name it without a prefix".to_owned()).into());
    }
    let end = asked_to_end()?;
    let bench = jobs::prepare(&arguments.job, &bucket).await?;
    let objects = Arc::clone(&bench.objects);
    objects.check_migrating(&bucket).map_err(|error| Usage(error.to_string()))?;
    let writes = !arguments.job.dry_run && !arguments.manifest_only;
    let conditional = arguments.stopped.manner(&objects, !writes).await?.conditional;
    let concurrency = usize::from(arguments.job.concurrency);
    let (remaining, without_acl) = Default::default();
    let who = jobs::who();
    let job = Migrate { objects, who, bucket, concurrency, conditional, pause: PAUSE, remaining, without_acl };
    let mut run = Run { job, arguments, progress: Arc::default(), findings: Vec::new(), manifest: None };
    let begun = Instant::now();
    let shown = Shown::begin("migrate", Arc::clone(&run.progress), bench.storage.clone());
    let complete = tokio::select! {
        complete = run.go(&shown) => complete?,
        () = end => return Err(Interrupted.into()),
    };
    drop(shown);
    run.report(begun, complete);
    if complete && run.findings.is_empty() { Ok(()) } else { Err(Bad.into()) }
}

impl Run {
    /// Whether nothing is left to do.
    async fn go(&mut self, shown: &Shown) -> Result<bool> {
        let Some(pages) = self.pages(shown).await? else { return Ok(true) };
        let json = self.arguments.job.json;
        if self.arguments.manifest_only {
            return Ok(true);
        }
        let mut ended = Ended::Closed;
        if !pages.head.done {
            let findings = &mut self.findings;
            ended =
                self.job.run(pages, &self.progress, |finding| shown.aside(|| note(findings, finding, json))).await?;
        }
        if self.arguments.versions {
            let findings = &mut self.findings;
            self.job.find_old_versions(|finding| shown.aside(|| note(findings, finding, json))).await?;
        }
        if !json {
            shown.aside(|| println!("{}", advice(ended)));
        }
        Ok(ended != Ended::Failed)
    }

    /// The manifest to go through; `None` when nothing is to be encrypted.
    async fn pages(&mut self, shown: &Shown) -> Result<Option<Pages>> {
        let (job, flags) = (&self.job, &self.arguments.job);
        if flags.dry_run {
            let show = |entry: Entry| {
                if !flags.json {
                    let (key, etag) = (entry.key.escape_debug(), jobs::visible(&entry.etag));
                    shown.aside(|| println!("{key} ({} bytes, ETag {etag})", entry.size));
                }
                Ok(())
            };
            job.find(&self.progress, show).await?;
            return Ok(None);
        }
        let start = match (self.arguments.begin, flags.restart) {
            (true, _) => Start::Begin,
            (false, true) => Start::Restart,
            (false, false) => Start::GoOn,
        };
        let (pages, sealed) = job.manifest(start, self.arguments.run.as_deref(), &self.progress).await?;
        self.manifest = Some(pages.head.clone());
        if !flags.json {
            let said = about(&pages.head, sealed, job.bucket.as_str());
            shown.aside(|| println!("{said}"));
        }
        Ok(Some(pages))
    }

    fn report(&self, begun: Instant, complete: bool) {
        let progress = &self.progress;
        let counters = [
            ("listed", &progress.listed),
            ("done", &progress.done),
            ("skipped", &progress.skipped),
            ("overtaken", &progress.overtaken),
            ("failed", &progress.failed),
            ("bytes", &progress.bytes),
        ];
        if !self.arguments.job.json {
            let counts = counters.map(|(name, counter)| format!("{} {name}", Progress::of(counter)));
            println!("{}", counts.join(", "));
            self.job.notes().iter().for_each(|note| println!("{note}"));
            return;
        }
        let findings: Vec<_> = self
            .findings
            .iter()
            .take(MOST_FINDINGS)
            .map(|(key, version, error)| json!({ "key": key, "version": version, "error": error }))
            .collect();
        let mut report = json!({
            "job": "migrate", "bucket": self.job.bucket.as_str(), "prefix": "", "findings": findings,
            "seconds": begun.elapsed().as_secs(), "complete": complete,
        });
        for (name, counter) in counters {
            report[name] = Progress::of(counter).into();
        }
        if let Some(Head { run, serial, entries, .. }) = &self.manifest {
            report["manifest"] = json!({ "run": run, "number": serial, "entries": entries });
        }
        println!("{report}");
    }
}

/// Keeps what was found, and shows it.
fn note(findings: &mut Vec<(String, Option<String>, String)>, finding: Finding, json: bool) {
    let Finding { key, version, error } = finding;
    let error = Note::new(&key, version.as_deref(), error.as_ref()).error;
    if !json {
        jobs::show(&Note { key: key.clone(), version: version.clone(), error: error.clone() });
    }
    findings.push((key, version, error));
}

/// What is said of the manifest first.
fn about(head: &Head, sealed: bool, bucket: &str) -> String {
    let Head { run, serial, entries, .. } = head;
    if head.done {
        return format!(
            "the manifest (run {run}, number {serial}) is closed already; with --restart, a new one is sealed of what is not encrypted now"
        );
    }
    let is = if sealed { "was sealed just now" } else { "is there" };
    let next = if sealed { "; to go on after an interruption, leave --begin or --restart out" } else { "" };
    format!(
        "the manifest (run {run}, number {serial}) {is}: it lists {entries} objects of {bucket} that are not encrypted{next}"
    )
}

fn advice(ended: Ended) -> &'static str {
    match ended {
        Ended::Closed => {
            "nothing that the manifest listed is left unencrypted, and it is closed; set unencrypted = \"refuse\" for this \
             bucket, and restart the proxies"
        }
        Ended::Failed => "objects failed; the manifest stays open: run the command again",
        Ended::Elsewhere => "another run of this job was through first, or sealed a new manifest",
    }
}

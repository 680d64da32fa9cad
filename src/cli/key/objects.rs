//! `claviger key census --objects`: objects counted by the KEK version in their envelopes, bucket after bucket.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};

use crate::cli::jobs::{self, CHECKPOINT_EVERY, Interrupted, JobFlags};
use crate::cli::progress::Shown;
use crate::cli::{ConfigFile, start_logs, wiring};
use crate::maintenance::census::{Census, Counted};
use crate::maintenance::checkpoint::Checkpoints;
use crate::maintenance::job::{self, End, Patience, Run, Scope};
use crate::maintenance::progress::{Counts, Progress};
use crate::maintenance::work::Work;
use crate::names::{KekName, LogicalBucket};
use crate::telemetry;

#[derive(Args)]
#[command(next_help_heading = "Objects")]
pub(super) struct ObjectFlags {
    /// Count objects, too, by the version that the copy of the branch key in their envelope is under: of these buckets, or of all
    ///
    /// One request for each object, as the proxy of --config. Each envelope is opened, which proves its KEK and branch key; which version the
    /// copy in it is under, and which objects there are, is the storage server's word, so that no decision hangs on these counts. Objects
    /// with an old copy open by the directory once the version is retired. An interrupted count is gone on with for a day.
    #[arg(long, value_name = "BUCKET[/PREFIX]", num_args = 0.., requires = "config")]
    pub(super) objects: Option<Vec<String>>,
    /// Count all versions of objects, and not only the newest; always from the beginning
    #[arg(long, requires = "objects")]
    versions: bool,
    /// Objects looked at at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// Most requests to the storage server in a second; without it, as fast as it goes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_requests_s: Option<u32>,
    /// Begin anew, whatever an earlier count that did not end has left
    #[arg(long, requires = "objects")]
    restart: bool,
}

/// What was counted of all buckets.
pub(super) struct Objects {
    counts: Counts,
    buckets: Vec<String>,
    findings: Vec<Value>,
}

impl ObjectFlags {
    /// Counts the objects of `kek`.
    pub(super) async fn count(&self, kek: &KekName, config: PathBuf, is_json: bool) -> Result<Objects> {
        let &Self { concurrency, max_requests_s, restart, .. } = self;
        let config = ConfigFile { file: config };
        let flags = JobFlags { config, concurrency, max_requests_s, dry_run: false, restart, json: is_json };
        let config = flags.config.load()?;
        start_logs(&config)?;
        let benches = wiring::prepare_jobs(config, max_requests_s).await?;
        let asked = self.objects.as_deref().unwrap_or_default();
        let targets: Vec<(LogicalBucket, String)> = if asked.is_empty() {
            let mut all = Vec::new();
            for bench in &benches.all {
                let cannot = || format!("cannot list the buckets at the site {}: name them", bench.site);
                all.extend(bench.objects.stored_buckets().await.with_context(cannot)?);
            }
            all.into_iter().map(|bucket| (bucket, String::new())).collect()
        } else {
            asked.iter().map(|target| jobs::target(target)).collect::<Result<_>>()?
        };
        let stop = jobs::stop()?;
        let mut counted = Objects { counts: Counts::default(), buckets: Vec::new(), findings: Vec::new() };
        let mut done: Vec<Checkpoints> = Vec::new();
        for (bucket, prefix) in targets {
            let bench = benches.of(&bucket);
            counted.buckets.push(format!("{bucket}/{prefix}").trim_end_matches('/').to_owned());
            let scope = Scope { bucket, prefix, versions: self.versions, concurrency: usize::from(concurrency) };
            let work = self.work(kek, bench);
            let checkpoints =
                work.keeps_checkpoints().then(|| Checkpoints::new(Arc::clone(&bench.objects), &scope, &work));
            done.extend(checkpoints.clone());
            let counts = counted.one(bench, &scope, work, checkpoints, stop.clone(), restart).await?;
            counted.counts = std::mem::take(&mut counted.counts).and(counts);
        }
        for checkpoints in done {
            checkpoints.delete().await.context("cannot delete a checkpoint; say --restart the next time")?;
        }
        Ok(counted)
    }

    fn work(&self, kek: &KekName, bench: &wiring::Workbench) -> Census {
        Census { objects: Arc::clone(&bench.objects), who: jobs::who(), kek: kek.clone(), versions: self.versions }
    }
}

impl Objects {
    /// Counts one bucket. Its last checkpoint stays until all of them are counted.
    async fn one(
        &mut self,
        bench: &wiring::Workbench,
        scope: &Scope,
        work: Census,
        checkpoints: Option<Checkpoints>,
        stop: tokio::sync::watch::Receiver<bool>,
        restart: bool,
    ) -> Result<Counts> {
        let from = match checkpoints.as_ref().filter(|_| !restart) {
            Some(checkpoints) => checkpoints.load(Patience::default()).await?,
            None => None,
        };
        let notes = from.iter().flat_map(|from| &from.notes);
        self.findings
            .extend(notes.map(|note| json!({ "bucket": scope.bucket.as_str(), "key": note.key, "error": note.error })));
        let progress = Arc::new(Progress::default());
        let shown = Shown::begin(work.name(), Arc::clone(&progress), bench.storage.clone());
        let (every, patience, is_part) = (CHECKPOINT_EVERY, Patience::default(), true);
        let run = Run { progress: Arc::clone(&progress), stop, checkpoints, from, every, patience, is_part };
        let found = |finding: job::Finding| {
            let error = telemetry::chain(finding.error.as_ref()).escape_debug().to_string();
            let (bucket, key) = (scope.bucket.as_str(), finding.key.escape_debug().to_string());
            shown.aside(|| eprintln!("claviger: {bucket}/{key}: {error}"));
            if self.findings.len() < jobs::MOST_FINDINGS {
                self.findings.push(json!({ "bucket": bucket, "key": finding.key, "error": error }));
            }
        };
        let outcome = job::run(&bench.objects, scope, Arc::new(work), run, found).await;
        drop(shown);
        match outcome.with_context(|| format!("the objects of {} were not all counted", scope.bucket))? {
            End::Stopped => Err(Interrupted.into()),
            End::Complete => Ok(progress.counts()),
        }
    }

    /// Whether there were objects of which nothing can be said.
    pub(super) fn any_failed(&self) -> bool {
        self.counts.failed > 0
    }

    /// Puts the counts beside those of the branch keys.
    pub(super) fn write_into(&self, census: &mut Value) {
        let counted = Counted::of(&self.counts.classes);
        let Some(versions) = census["versions"].as_object_mut() else { return };
        for number in counted.versions.keys() {
            versions.entry(number.to_string()).or_insert_with(|| json!({ "branch_keys": 0 }));
        }
        let mut unopened = 0;
        for (number, found) in versions.iter_mut() {
            let of =
                number.parse().ok().and_then(|number: u32| counted.versions.get(&number)).copied().unwrap_or_default();
            found["objects"] = of.opened.into();
            if of.unopened > 0 {
                found["unopened_objects"] = of.unopened.into();
            }
            unopened += of.unopened;
        }
        census["objects"] = json!({
            "buckets": self.buckets,
            "listed": self.counts.listed,
            "unopened": unopened,
            "unencrypted": counted.unencrypted,
            "other_keks": counted.other_keks,
            "failed": self.counts.failed,
            "overtaken": self.counts.overtaken,
            "passed_over": self.counts.skipped,
            "findings": self.findings,
            "note": NOTE,
        });
    }
}

/// What is said of every count of objects.
const NOTE: &str = "objects are counted by what the storage server lists and by the copy in their envelope; envelopes were opened, but for those \
     under a customer key and those that name another KEK";

/// The counts of objects of a version in words; nothing where none were counted.
pub(super) fn of_version(found: &Value) -> String {
    let Some(objects) = found["objects"].as_u64() else { return String::new() };
    let unopened = found["unopened_objects"].as_u64().map(|count| format!(", {count} not opened")).unwrap_or_default();
    format!(", {objects} objects{unopened}")
}

/// What else there is to say of the objects, in lines.
pub(super) fn summary(census: &Value) -> String {
    let objects = &census["objects"];
    let Some(listed) = objects["listed"].as_u64() else { return String::new() };
    let count = |name: &str| objects[name].as_u64().unwrap_or(0);
    let (unencrypted, other, failed) = (count("unencrypted"), count("other_keks"), count("failed"));
    let unopened = count("unopened");
    format!(
        "{listed} objects looked at: {other} under other keys, {unencrypted} not encrypted, {unopened} under a customer key, {failed} could not be \
         read\n{NOTE}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_stand_beside_the_branch_keys_of_their_version() {
        // Unencrypted, another KEK, v1 opened, v1 not opened, v3 opened.
        let classes = [(0, 4), (1, 5), (2, 6), (3, 7), (6, 8)].into();
        let counts = Counts { listed: 31, done: 30, failed: 1, classes, ..Counts::default() };
        let objects = Objects { counts, buckets: vec!["ledger".into()], findings: Vec::new() };
        let mut census = json!({ "kek": "records", "versions": { "1": {"branch_keys": 2}, "2": {"branch_keys": 3} } });
        assert_eq!((of_version(&census["versions"]["1"]), summary(&census)), (String::new(), String::new()));
        objects.write_into(&mut census);
        assert_eq!(
            census["versions"],
            json!({
                "1": {"branch_keys": 2, "objects": 6, "unopened_objects": 7},
                "2": {"branch_keys": 3, "objects": 0},
                "3": {"branch_keys": 0, "objects": 8},
            })
        );
        let all = &census["objects"];
        assert_eq!([&all["unencrypted"], &all["other_keks"], &all["unopened"], &all["failed"]], [4, 5, 7, 1]);
        assert_eq!(of_version(&census["versions"]["1"]), ", 6 objects, 7 not opened");
        assert!(objects.any_failed() && summary(&census).starts_with("31 objects looked at: 5 under other keys"));
    }
}

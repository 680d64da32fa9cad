//! What all jobs have in common, tried with a job that notes what it is given; and the jobs verify, export and gc.

pub(crate) mod checkpoints;
mod collecting;
mod counting;
mod exporting;
mod listings;
pub(crate) mod verifying;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use claviger::maintenance::checkpoint::{Checkpoint, Checkpoints};
use claviger::maintenance::job::{self, End, JobError, Patience, Run, Scope};
use claviger::maintenance::progress::{Counts, Progress};
use claviger::maintenance::work::{Item, Outcome, Work};
use claviger::names::LogicalBucket;
use claviger::object::Objects;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::harness::proxy::workbench;
use crate::harness::{BUCKET, S3, Setup, Store, noise};

pub(crate) use crate::renewal::who;

/// Tries again soon, and not for long.
const PATIENCE: Patience = Patience { tries: 4, pause: Duration::from_millis(2), longest: Duration::from_millis(10) };

pub(crate) fn scope(prefix: &str, versions: bool) -> Scope {
    let bucket = LogicalBucket::new(BUCKET).expect("legal");
    Scope { bucket, prefix: prefix.to_owned(), versions, concurrency: 3 }
}

fn bench(store: &Store) -> Arc<Objects> {
    workbench(store, Setup::default())
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) end: Result<End, JobError>,
    pub(crate) counts: Counts,
    /// Keys, versions and errors.
    found: Vec<(String, Option<String>, String)>,
}

impl Ran {
    pub(crate) fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = self.found.iter().map(|(key, _, _)| key.as_str()).collect();
        keys.sort_unstable();
        keys
    }

    /// Done, skipped, overtaken and failed, of a run that came to its end.
    pub(crate) fn outcome(&self) -> (u64, u64, u64, u64) {
        assert!(matches!(self.end, Ok(End::Complete)), "{self:?}");
        let Counts { done, skipped, overtaken, failed, .. } = self.counts;
        (done, skipped, overtaken, failed)
    }
}

/// Runs a job from its checkpoint, if there is one.
pub(crate) async fn run(objects: &Arc<Objects>, scope: &Scope, work: Arc<dyn Work>) -> Ran {
    if !work.keeps_checkpoints() {
        return run_with(objects, scope, work, simple()).await;
    }
    let checkpoints = Checkpoints::new(Arc::clone(objects), scope, work.as_ref());
    let from = checkpoints.load(PATIENCE).await.expect("read");
    let run = Run { checkpoints: Some(checkpoints), from, every: Duration::from_millis(5), ..simple() };
    run_with(objects, scope, work, run).await
}

fn simple() -> Run {
    Run { patience: PATIENCE, ..Run::simple(Arc::default()) }
}

async fn run_with(objects: &Arc<Objects>, scope: &Scope, work: Arc<dyn Work>, run: Run) -> Ran {
    let (progress, mut found): (Arc<Progress>, _) = (Arc::clone(&run.progress), Vec::new());
    let keep = |finding: job::Finding| found.push((finding.key, finding.version, finding.error.to_string()));
    let end = job::run(objects, scope, work, run, keep).await;
    Ran { end, counts: progress.counts(), found }
}

/// A job that notes what it is given.
#[derive(Default)]
struct Noting {
    seen: Mutex<Vec<(String, Option<String>)>>,
    parameters: String,
    /// Takes so long.
    pause: Duration,
    /// Never ends with this one.
    stuck_at: Option<&'static str>,
}

impl Noting {
    fn seen(&self) -> Vec<(String, Option<String>)> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        seen.sort();
        seen
    }

    fn keys(&self) -> Vec<String> {
        self.seen().into_iter().map(|(key, _)| key).collect()
    }
}

impl Work for Noting {
    fn name(&self) -> &'static str {
        "noting"
    }

    fn parameters(&self) -> String {
        self.parameters.clone()
    }

    fn treat<'a>(&'a self, item: &'a Item) -> BoxFuture<'a, Outcome> {
        async move {
            if self.stuck_at == Some(item.key.as_str()) {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(self.pause).await;
            let seen = (item.entry.key.clone(), item.entry.version.clone());
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
            Outcome::Done { bytes: 1 }
        }
        .boxed()
    }
}

/// Objects `k000` and so on.
async fn fill(s3: &S3, count: usize) -> Vec<String> {
    let keys: Vec<String> = (0..count).map(|at| format!("k{at:03}")).collect();
    for key in &keys {
        s3.put(BUCKET, key, noise(100, 1)).await.ok();
    }
    keys
}

/// The names of checkpoints in the state bucket.
fn kept(store: &Store) -> Vec<String> {
    store.keys(crate::harness::STATE).into_iter().filter(|name| name.starts_with("job/")).collect()
}

/// The checkpoint of that job.
async fn checkpoint(objects: &Arc<Objects>, scope: &Scope, work: &dyn Work) -> Option<Checkpoint> {
    Checkpoints::new(Arc::clone(objects), scope, work).load(PATIENCE).await.expect("read")
}

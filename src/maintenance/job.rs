//! Runs a [`Work`] over a bucket: listing, several objects at a time, repetitions, counters, findings, and checkpoints.
//!
//! **Invariant:** a checkpoint says of no object that it is treated before it is, and of none that failed because the storage server or the
//! custodian was not there.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use crate::crypto::random_array;
use crate::names::LogicalBucket;
use crate::object::Objects;
use crate::object::error::Error;
use crate::object::stored::Position;

use super::checkpoint::{Checkpoint, Checkpoints, Note, now_ms};
use super::frontier::Frontier;
use super::order::Order;
use super::progress::{Counts, Progress};
use super::walk::{Step, Walk};
use super::work::{Item, Outcome, Work};

/// How long objects that are being treated may take after the job was asked to stop.
const GRACE: Duration = Duration::from_secs(5);
/// So many objects in a row that failed for want of a server end the job; more where more are treated at a time.
const MOST_LOST: usize = 16;

/// What a job goes over.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The bucket, by the name for clients.
    pub bucket: LogicalBucket,
    /// The beginning of the keys.
    pub prefix: String,
    /// All versions and not only the newest.
    pub versions: bool,
    /// Objects treated at a time; 1 and up.
    pub concurrency: usize,
}

/// An object that failed.
#[derive(Debug)]
pub struct Finding {
    /// The key.
    pub key: String,
    /// The version, where versions are gone over.
    pub version: Option<String>,
    /// Why.
    pub error: Box<dyn std::error::Error + Send + Sync>,
}

/// Why a job could not go on.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The bucket cannot be listed, or what else the job needs failed.
    #[error(transparent)]
    Object(#[from] Error),
    /// The storage server or the custodian is not there, for many objects in a row.
    #[error("the job cannot go on, {count} objects in a row failed for want of a server; run it again to go on")]
    Lost {
        /// Objects.
        count: usize,
        /// Why the last one failed.
        source: Error,
    },
    /// The job itself cannot go on.
    #[error("the job cannot go on")]
    Stuck(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All was gone over.
    Complete,
    /// It was asked to stop.
    Stopped,
}

/// How often what fails for the moment is tried again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Attempts in all; 1 and up.
    pub tries: u32,
    /// The first pause is up to this; each further one up to twice as long.
    pub pause: Duration,
    /// No pause is longer.
    pub longest: Duration,
}

impl Default for Patience {
    /// About half a minute in all.
    fn default() -> Self {
        Self { tries: 10, pause: Duration::from_millis(200), longest: Duration::from_secs(10) }
    }
}

impl Patience {
    /// The pause after an attempt; none after the last one.
    fn pause_after(&self, attempt: u32) -> Option<Duration> {
        let most = self.pause.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(self.longest);
        (attempt < self.tries).then(|| half_to_all_of(most))
    }

    /// Tries until it succeeds, fails for good, or was tried often enough.
    pub async fn with<T, F: Future<Output = Result<T, Error>>>(&self, attempt: impl Fn() -> F) -> Result<T, Error> {
        let mut count = 1;
        loop {
            let outcome = attempt().await;
            let passes = matches!(&outcome, Err(error) if error.is_transient());
            let Some(pause) = self.pause_after(count).filter(|_| passes) else { return outcome };
            tokio::time::sleep(pause).await;
            count += 1;
        }
    }

    async fn treat(&self, work: &dyn Work, item: &Item) -> Outcome {
        let mut count = 1;
        loop {
            let outcome = work.treat(item).await;
            let Outcome::Failed { error } = &outcome else { return outcome };
            let Some(pause) = self.pause_after(count).filter(|_| error.is_transient()) else { return outcome };
            tracing::debug!(key = item.entry.key, %error, attempt = count, "an object failed for the moment; trying again");
            tokio::time::sleep(pause).await;
            count += 1;
        }
    }
}

/// A random time between the half and all of it.
fn half_to_all_of(most: Duration) -> Duration {
    let random = random_array::<2>().map_or(u16::MAX, u16::from_be_bytes);
    most / 2 + (most / 2).mul_f64(f64::from(random) / f64::from(u16::MAX))
}

/// How a run goes.
pub struct Run {
    /// What is counted, for whoever wants to see it.
    pub progress: Arc<Progress>,
    /// When this becomes true, the run stops.
    pub stop: watch::Receiver<bool>,
    /// Where checkpoints go; nowhere in a dry run.
    pub checkpoints: Option<Checkpoints>,
    /// The checkpoint that the run begins from.
    pub from: Option<Checkpoint>,
    /// How often a checkpoint is written.
    pub every: Duration,
    /// How often an object is tried.
    pub patience: Patience,
    /// The run is a part of a larger one: its last checkpoint stays, also when all is gone over, until somebody deletes it.
    pub is_part: bool,
}

impl Run {
    /// From the beginning, without checkpoints, and not to be stopped.
    pub fn simple(progress: Arc<Progress>) -> Self {
        let (_, stop) = watch::channel(false);
        let (every, patience) = (Duration::from_secs(5), Patience::default());
        Self { progress, stop, checkpoints: None, from: None, every, patience, is_part: false }
    }
}

/// Goes over all that is in `scope`; `found` hears of each object that failed in this run.
///
/// # Errors
/// [`JobError`]: the job is not through, and can be run again.
pub async fn run(
    objects: &Arc<Objects>,
    scope: &Scope,
    work: Arc<dyn Work>,
    run: Run,
    found: impl FnMut(Finding) + Send,
) -> Result<End, JobError> {
    let Run { progress, mut stop, checkpoints, from, every, patience, is_part } = run;
    let begun_ms = from.as_ref().map_or_else(now_ms, |from| from.begun_ms);
    let after =
        Position { key: from.as_ref().map(|from| from.reached.clone()).unwrap_or_default(), ..Position::default() };
    let frontier = match from {
        Some(Checkpoint { reached, counts, notes, .. }) => {
            work.go_on(&counts);
            progress.add_all(&counts);
            Frontier::from(Some(reached), counts, notes)
        }
        None => Frontier::default(),
    };
    let mut keeper = Keeper { checkpoints, begun_ms, kept: None, writing: JoinSet::new() };
    let most_lost = MOST_LOST.max(2 * scope.concurrency);
    let mut ledger = Ledger { progress, frontier, lost: Vec::new(), most_lost, found };
    let mut walk = Walk::new(Arc::clone(objects), scope.clone(), patience, after);
    let outcome =
        go(scope.concurrency.max(1), &work, patience, &mut walk, &mut ledger, &mut keeper, &mut stop, every).await;
    if matches!(outcome, Ok(End::Complete)) {
        ledger.take_lost();
    }
    keeper.end(&ledger.frontier, matches!(outcome, Ok(End::Complete)) && !is_part, walk.is_rising()).await;
    outcome
}

/// Counts what is in `scope`, for those who want to know how much is left. What is not known then is not told.
pub async fn count(objects: &Objects, scope: &Scope, progress: &Progress) {
    let (mut after, mut count) = (Position::default(), 0);
    let mut order = Order::after("", scope.versions);
    loop {
        let page = || objects.stored(&scope.bucket, &scope.prefix, &after, scope.versions);
        let Ok(page) = Patience::default().with(page).await else { return };
        if order.take(&page).is_err() {
            return;
        }
        count += page.entries.iter().filter(|entry| !entry.is_delete_marker).count() as u64;
        match page.next {
            Some(next) => after = next,
            None => return Progress::add(&progress.total, count),
        }
    }
}

type Treated = (u64, Item, Outcome);

#[expect(clippy::too_many_arguments, reason = "the parts of one loop")]
async fn go<F: FnMut(Finding) + Send>(
    concurrency: usize,
    work: &Arc<dyn Work>,
    patience: Patience,
    walk: &mut Walk,
    ledger: &mut Ledger<F>,
    keeper: &mut Keeper,
    stop: &mut watch::Receiver<bool>,
    every: Duration,
) -> Result<End, JobError> {
    let mut tasks: JoinSet<Treated> = JoinSet::new();
    let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut walked, mut stopping) = (false, None);
    loop {
        if tasks.is_empty() && stopping.is_some() {
            return Ok(End::Stopped);
        }
        if tasks.is_empty() && walked {
            return Ok(End::Complete);
        }
        tokio::select! {
            biased;
            () = asked_to_stop(stop), if stopping.is_none() => stopping = Some(Instant::now() + GRACE),
            () = tokio::time::sleep_until(stopping.unwrap_or_else(Instant::now)), if stopping.is_some() => return Ok(End::Stopped),
            Some(treated) = tasks.join_next(), if !tasks.is_empty() => ledger.take(treated)?,
            _ = ticks.tick() => keeper.keep(&ledger.frontier, walk.is_rising()),
            step = walk.next(), if !walked && stopping.is_none() && tasks.len() < concurrency => match step? {
                Step::End => walked = true,
                Step::NoKey => ledger.pass_over(),
                Step::Object { item, position } => {
                    let number = ledger.begin(position);
                    let work = Arc::clone(work);
                    tasks.spawn(async move {
                        let outcome = patience.treat(work.as_ref(), &item).await;
                        (number, item, outcome)
                    });
                }
            },
        }
    }
}

/// Never, if there is nobody any more who could ask.
async fn asked_to_stop(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What became of the objects.
struct Ledger<F> {
    progress: Arc<Progress>,
    frontier: Frontier,
    /// Objects in a row that failed for want of a server. They count as failed once another one shows that the servers are there.
    lost: Vec<(u64, Item, Error)>,
    most_lost: usize,
    found: F,
}

impl<F: FnMut(Finding) + Send> Ledger<F> {
    fn begin(&mut self, position: String) -> u64 {
        Progress::add(&self.progress.listed, 1);
        self.frontier.begin(position)
    }

    /// A key that cannot be one is nobody's.
    fn pass_over(&mut self) {
        tracing::warn!("the storage server lists a key that no client can name; it is passed over");
        Progress::add(&self.progress.listed, 1);
        Progress::add(&self.progress.skipped, 1);
    }

    fn take(&mut self, treated: Result<Treated, JoinError>) -> Result<(), JobError> {
        let (number, item, outcome) = treated.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let counts = match outcome {
            Outcome::Done { bytes } => Counts { done: 1, bytes, ..Counts::default() },
            Outcome::Counted { class } => Counts { done: 1, classes: [(class, 1)].into(), ..Counts::default() },
            Outcome::Skipped => Counts { skipped: 1, ..Counts::default() },
            Outcome::Overtaken => Counts { overtaken: 1, ..Counts::default() },
            Outcome::Stuck { error } => return Err(JobError::Stuck(error)),
            Outcome::Failed { error } if error.is_transient() => {
                self.lost.push((number, item, error));
                return self.check_lost();
            }
            Outcome::Failed { error } => {
                self.take_lost();
                self.fail(number, item, error.into());
                return Ok(());
            }
            Outcome::Unfit { error } => {
                self.take_lost();
                self.fail(number, item, error);
                return Ok(());
            }
        };
        self.take_lost();
        self.progress.add_all(&counts);
        self.frontier.end(number, Counts { listed: 1, ..counts }, None);
        Ok(())
    }

    fn check_lost(&mut self) -> Result<(), JobError> {
        let count = self.lost.len();
        match self.lost.pop_if(|_| count >= self.most_lost) {
            Some((_, _, source)) => Err(JobError::Lost { count, source }),
            None => Ok(()),
        }
    }

    /// The servers are there, and those objects failed all the same.
    fn take_lost(&mut self) {
        for (number, item, error) in std::mem::take(&mut self.lost) {
            self.fail(number, item, error.into());
        }
    }

    fn fail(&mut self, number: u64, item: Item, error: Box<dyn std::error::Error + Send + Sync>) {
        let counts = Counts { failed: 1, ..Counts::default() };
        self.progress.add_all(&counts);
        let note = Note::new(&item.entry.key, item.entry.version.as_deref(), error.as_ref());
        self.frontier.end(number, Counts { listed: 1, ..counts }, Some(note));
        (self.found)(Finding { key: item.entry.key, version: item.entry.version, error });
    }
}

/// Writes checkpoints, one at a time and beside the work.
struct Keeper {
    checkpoints: Option<Checkpoints>,
    begun_ms: u64,
    /// Up to where the last one said.
    kept: Option<String>,
    writing: JoinSet<()>,
}

impl Keeper {
    /// Writes one if there is something new to say. Of a listing that does not rise, it would say what is not so.
    fn keep(&mut self, frontier: &Frontier, is_rising: bool) {
        if !is_rising {
            return self.give_up();
        }
        let Some(checkpoints) = &self.checkpoints else { return };
        let Some(reached) = frontier.reached().filter(|reached| self.kept.as_deref() != Some(*reached)) else { return };
        while self.writing.try_join_next().is_some() {}
        if !self.writing.is_empty() {
            return;
        }
        self.kept = Some(reached.to_owned());
        let checkpoint = Checkpoint {
            reached: reached.to_owned(),
            begun_ms: self.begun_ms,
            written_ms: now_ms(),
            counts: frontier.counts(),
            notes: frontier.notes(),
        };
        let checkpoints = checkpoints.clone();
        self.writing.spawn(async move {
            if let Err(error) = checkpoints.save(&checkpoint).await {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(error, "the checkpoint cannot be written; a run after this one may treat objects again");
            }
        });
    }

    /// Keeps no checkpoints any more, nor the last one.
    fn give_up(&mut self) {
        let Some(checkpoints) = self.checkpoints.take() else { return };
        tracing::warn!(
            "the storage server lists keys in another order than that of their bytes: after an interruption the job begins anew"
        );
        let mut before = std::mem::take(&mut self.writing);
        self.writing.spawn(async move {
            while before.join_next().await.is_some() {}
            if let Err(error) = checkpoints.delete().await {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(error, "the checkpoint cannot be deleted; begin the next run with --restart");
            }
        });
    }

    /// The last checkpoint; none once all is done.
    async fn end(&mut self, frontier: &Frontier, complete: bool, is_rising: bool) {
        let writing = async {
            while self.writing.join_next().await.is_some() {}
            if !complete {
                self.keep(frontier, is_rising);
                while self.writing.join_next().await.is_some() {}
            } else if let Some(checkpoints) = &self.checkpoints
                && let Err(error) = checkpoints.delete().await
            {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(error, "the checkpoint cannot be deleted; begin the next run with --restart");
            }
        };
        if tokio::time::timeout(GRACE * 2, writing).await.is_err() {
            tracing::warn!("the last checkpoint was not written in time");
        }
    }
}

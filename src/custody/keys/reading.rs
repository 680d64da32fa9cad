//! Branch keys leased for reading: cached for one caller each, for at most the read lease.
//!
//! **Invariant:** when the custodian denies a caller a branch key, none that it leased to that caller before works on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::custody::CustodyError;
use crate::custody::branch::{BranchKey, ReadingKey};
use crate::custody::caller::Caller;
use crate::custody::context::BranchContext;
use crate::custody::lease::LeaseSettings;
use crate::custody::wrapped::WrappedKey;
use crate::names::KekName;

use super::BranchKeyError;
use super::flight::Flights;
use super::generations::Generations;
use super::leased::Leased;
use super::lessor::{Granted, Lessor};
use super::metrics::Tally;
use super::refusals::Refusals;

/// How often a lease is asked for that ended before its holder got to it.
const TRIES: usize = 3;

/// What a lease is for. All of the context is in it, so that an entry serves only envelopes that agree in everything.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct ReadId {
    pub(super) kek: KekName,
    pub(super) context: BranchContext,
    pub(super) caller: Caller,
}

/// A question to the custodian. The copy is part of it: an attacker who puts garbage beside a good branch key's id
/// must not have the refusal handed to those who come with the good copy.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Question {
    id: ReadId,
    copy: [u8; 32],
}

struct Entry {
    key: ReadingKey,
    refresh_from: Instant,
}

struct Hit {
    key: ReadingKey,
    /// The holder of this hit is the one to renew the entry.
    refresh: bool,
}

pub(super) struct ReadCache {
    lessor: Arc<Lessor>,
    entries: Mutex<Generations<ReadId, Entry>>,
    /// Also those that are no entries any more, because they were renewed or evicted, or lost a race.
    leased: Mutex<Leased>,
    refusals: Mutex<Refusals<Question>>,
    flights: Flights<Question, Result<ReadingKey, BranchKeyError>>,
}

impl ReadCache {
    pub(super) fn new(lessor: Arc<Lessor>) -> Self {
        Self {
            entries: Mutex::new(Generations::new(lessor.settings.read_entries_max)),
            leased: Mutex::new(Leased::default()),
            refusals: Mutex::new(Refusals::new(&lessor.settings)),
            flights: Flights::new(),
            lessor,
        }
    }

    fn entries(&self) -> MutexGuard<'_, Generations<ReadId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leased(&self) -> MutexGuard<'_, Leased> {
        self.leased.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals<Question>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn key(self: &Arc<Self>, id: ReadId, copy: &WrappedKey) -> Result<ReadingKey, BranchKeyError> {
        for _ in 0..TRIES {
            let key = self.cached_or_fetched(id.clone(), copy).await?;
            if key.is_usable() {
                return Ok(key);
            }
        }
        Err(BranchKeyError::Revoked)
    }

    async fn cached_or_fetched(self: &Arc<Self>, id: ReadId, copy: &WrappedKey) -> Result<ReadingKey, BranchKeyError> {
        let metrics = &self.lessor.metrics.reads;
        if let Some(hit) = self.hit(&id) {
            metrics.hit.inc();
            if hit.refresh {
                self.refresh(id, hit.key.wrapped().clone());
            }
            return Ok(hit.key);
        }
        let question = Question { id, copy: copy.fingerprint() };
        if let Some(refused) = self.refusals().of(&question.id.context.bucket, &question) {
            metrics.refused.inc();
            return Err(refused);
        }
        metrics.miss.inc();
        let (cache, asked, copy) = (Arc::clone(self), question.clone(), copy.clone());
        let work = || async move { cache.fetch_unless_there(asked, &copy).await };
        self.flights.join(question, work).await.unwrap_or(Err(BranchKeyError::NotReady))
    }

    fn hit(&self, id: &ReadId) -> Option<Hit> {
        let mut entries = self.entries();
        let entry = entries.get(id)?;
        if !entry.key.is_usable() {
            entries.remove(id);
            return None;
        }
        let now = Instant::now();
        let refresh = now >= entry.refresh_from;
        if refresh {
            entry.refresh_from = now + LeaseSettings::refresh_pause(self.lessor.settings.read_lease());
        }
        Some(Hit { key: entry.key.clone(), refresh })
    }

    /// Renews in the background, with the copy that opened before and not with one that an envelope brought.
    fn refresh(self: &Arc<Self>, id: ReadId, copy: WrappedKey) {
        let question = Question { id, copy: copy.fingerprint() };
        let (cache, asked) = (Arc::clone(self), question.clone());
        self.flights.start(question, || async move { cache.fetch(&asked, &copy).await });
    }

    /// The custodian took its grants back: every lease for `id` ends now, also in streams under way.
    fn withdraw(&self, id: &ReadId) {
        self.entries().remove(id);
        self.leased().revoke(id);
    }

    async fn fetch_unless_there(&self, question: Question, copy: &WrappedKey) -> Result<ReadingKey, BranchKeyError> {
        // Another flight may have landed between the caller's look and the start of this one.
        if let Some(hit) = self.hit(&question.id) {
            return Ok(hit.key);
        }
        let result = self.fetch(&question, copy).await;
        if let Err(error) = &result {
            let bucket = question.id.context.bucket.clone();
            self.refusals().remember(&bucket, question, error);
        }
        result
    }

    async fn fetch(&self, question: &Question, copy: &WrappedKey) -> Result<ReadingKey, BranchKeyError> {
        let ReadId { kek, context, caller } = &question.id;
        let opened = self.lessor.open(kek, context, copy, caller).await;
        let Granted { right, asked } = opened.inspect_err(|error| {
            if let Some(CustodyError::Denied | CustodyError::Disabled | CustodyError::UnknownKek) = error.custody() {
                self.withdraw(&question.id);
            }
        })?;
        self.leased().add(&question.id, right.material());
        let lease = self.lessor.settings.read_lease();
        let key = ReadingKey::new(BranchKey::new(right, asked + lease));
        let refresh_from = asked + self.lessor.settings.refresh_after(lease);
        self.entries().insert(question.id.clone(), Entry { key: key.clone(), refresh_from });
        Ok(key)
    }

    /// Adds how many there are, and how old.
    pub(super) fn tally(&self, tally: &mut Tally) {
        let (entries, now, lease) = (self.entries(), Instant::now(), self.lessor.settings.read_lease());
        for entry in entries.values() {
            tally.read_entries += 1;
            if entry.key.is_usable() {
                tally.reading.add(lease.saturating_sub(entry.key.ends().saturating_duration_since(now)));
            }
        }
    }

    pub(super) fn forget_unusable(&self) {
        self.entries().retain(|_, entry| entry.key.is_usable());
    }
}

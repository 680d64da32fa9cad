//! `verify`: everything is read and authenticated, and what is not what was written is told.
//!
//! What the storage server does not list is not looked at: nobody can tell an object that it deleted from one that never was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;

use crate::format::size;
use crate::object::Objects;
use crate::object::access::Authenticated;
use crate::object::answer::AnswerBody;
use crate::object::error::Error;
use crate::object::read_back::{Readable, is_encrypted};
use crate::object::unencrypted::MigrationError;

use super::progress::Counts;
use super::work::{Item, Outcome, Work};

/// How often an object that is overwritten all the time is looked at.
const MOST_LOOKS: u32 = 5;
/// The pause before a second look.
const PAUSE: Duration = Duration::from_millis(100);

/// The job.
pub struct Verify {
    /// Where the objects are.
    pub objects: Arc<Objects>,
    /// Who the job is.
    pub who: Authenticated,
    /// Envelopes and ends of objects only, and not their bytes.
    pub headers_only: bool,
    /// All versions are gone over.
    pub versions: bool,
    /// Nothing is read, only listed.
    pub dry_run: bool,
    /// What was not looked at.
    pub passed: Passed,
}

/// Objects that cannot be verified here.
///
/// That an object is such a one is the storage server's word: whoever damaged it can say so. So they count as failed, but for as many
/// as the operator of the job expects.
#[derive(Debug, Default)]
pub struct Passed {
    allowed: u64,
    /// Of those that are allowed.
    used: AtomicU64,
    customer_keys: AtomicU64,
    archived: AtomicU64,
    unencrypted: AtomicU64,
}

impl Passed {
    /// So many of them, at most, are passed over.
    pub fn allowing(allowed: u64) -> Self {
        Self { allowed, ..Self::default() }
    }

    /// So many were passed over by the runs before this one.
    pub(super) fn go_on(&self, before: u64) {
        self.used.fetch_add(before, Ordering::Relaxed);
    }

    /// What becomes of an object that fails so.
    pub(super) fn outcome(&self, error: Error) -> Outcome {
        let counter = match &error {
            Error::MissingCustomerKey => &self.customer_keys,
            error if is_passed(error) => &self.archived,
            _ => return Outcome::Failed { error },
        };
        self.pass(counter, error)
    }

    /// What becomes of an object that the manifest of its bucket lists as not encrypted yet.
    pub(super) fn unencrypted(&self) -> Outcome {
        self.pass(&self.unencrypted, MigrationError::NotYet.into())
    }

    fn pass(&self, counter: &AtomicU64, error: Error) -> Outcome {
        counter.fetch_add(1, Ordering::Relaxed);
        let is_allowed = self.used.fetch_add(1, Ordering::Relaxed) < self.allowed;
        if is_allowed { Outcome::Skipped } else { Outcome::Failed { error } }
    }

    /// Whether one more may be passed over.
    pub(super) fn allows_more(&self) -> bool {
        self.used.load(Ordering::Relaxed) < self.allowed
    }

    /// How many there were, also of those that were not allowed.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts =
            [("customer_keys", &self.customer_keys), ("archived", &self.archived), ("unencrypted", &self.unencrypted)];
        counts.map(|(name, counter)| (name, counter.load(Ordering::Relaxed))).to_vec()
    }

    /// Sentences about them.
    pub(super) fn notes(&self, unencrypted: &str) -> Vec<String> {
        let told = [
            "under a customer key (SSE-C), which nobody here has",
            "in an archive, and would have to be restored first",
            unencrypted,
        ];
        let counts = self.counts().into_iter().map(|(_, count)| count).zip(told).filter(|(count, _)| *count > 0);
        let mut notes: Vec<String> = counts.map(|(count, what)| format!("objects {what}: {count}")).collect();
        let beyond = self.used.load(Ordering::Relaxed).saturating_sub(self.allowed);
        if beyond > 0 {
            notes.push(format!("of these, {beyond} more than --allow-skipped {} allows count as failed", self.allowed));
        }
        notes
    }
}

impl Verify {
    fn readable<'a>(&self, item: &'a Item) -> Readable<'a> {
        let version = item.entry.version.as_deref().filter(|_| self.versions);
        Readable { bucket: &item.bucket, key: &item.key, version }
    }

    /// Reads the object once; bytes of plaintext that were authentic.
    async fn look(&self, item: &Item) -> Result<Looked, Error> {
        let object = self.readable(item);
        if self.headers_only {
            let answer = self.objects.head_back(&self.who, object).await?;
            return Ok(if is_encrypted(&answer) { Looked::Authentic(0) } else { Looked::Unencrypted });
        }
        let answer = self.objects.read_back(&self.who, object).await?;
        let (is_encrypted, mut count) = (is_encrypted(&answer), 0);
        match answer.body {
            AnswerBody::Empty => {}
            AnswerBody::Full(bytes) => count = bytes.len() as u64,
            AnswerBody::Stream(mut body) => {
                while let Some(frame) = body.frame().await {
                    count += frame?.data_ref().map_or(0, bytes::Bytes::len) as u64;
                }
            }
        }
        Ok(if is_encrypted { Looked::Authentic(count) } else { Looked::Unencrypted })
    }

    async fn verify(&self, item: &Item) -> Result<Outcome, Error> {
        let mut entry_before = None;
        for _ in 1..MOST_LOOKS {
            let error = match self.look(item).await {
                Ok(looked) => return Ok(self.seen(looked)),
                Err(error) => error,
            };
            if error.is_transient() || is_passed(&error) {
                return Err(error);
            }
            // It is damaged if the same object fails twice: it may have been written or deleted while it was read.
            let now = self.etag_now(item).await?;
            match &now {
                None if !self.objects.is_still_listed(&item.bucket, &item.entry).await? => {
                    return Ok(Outcome::Overtaken);
                }
                now if entry_before.as_ref() == Some(now) => return Err(error),
                _ => entry_before = Some(now),
            }
            tokio::time::sleep(PAUSE).await;
        }
        // Whoever gives it another ETag each time does not talk himself out of it.
        self.look(item).await.map(|looked| self.seen(looked))
    }

    fn seen(&self, looked: Looked) -> Outcome {
        match looked {
            Looked::Authentic(bytes) => Outcome::Done { bytes },
            Looked::Unencrypted => self.passed.unencrypted(),
        }
    }

    /// The storage server's ETag of the object now; `None` where there is no object.
    async fn etag_now(&self, item: &Item) -> Result<Option<String>, Error> {
        let Readable { bucket, key, version } = self.readable(item);
        match self.objects.stored_head(bucket, key, version).await {
            Ok(head) => {
                let etag = head.headers.get(http::header::ETAG).and_then(|etag| etag.to_str().ok());
                Ok(Some(etag.unwrap_or_default().to_owned()))
            }
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What an object turned out to be.
enum Looked {
    /// It is what was written; so many bytes.
    Authentic(u64),
    /// It has no envelope, and is what the manifest of its bucket lists.
    Unencrypted,
}

/// Whether an object that fails so is one that cannot be verified here.
fn is_passed(error: &Error) -> bool {
    matches!(error, Error::MissingCustomerKey) || error.is_archived()
}

impl Work for Verify {
    fn name(&self) -> &'static str {
        "verify"
    }

    fn parameters(&self) -> String {
        if self.headers_only { "headers only".to_owned() } else { String::new() }
    }

    fn treat<'a>(&'a self, item: &'a Item) -> BoxFuture<'a, Outcome> {
        async move {
            if self.dry_run {
                let bytes = size::plaintext(item.entry.size).unwrap_or(item.entry.size);
                return Outcome::Done { bytes };
            }
            match self.verify(item).await {
                Ok(outcome) => outcome,
                Err(error) => self.passed.outcome(error),
            }
        }
        .boxed()
    }

    fn go_on(&self, before: &Counts) {
        self.passed.go_on(before.skipped);
    }

    fn passed_over(&self) -> Vec<(&'static str, u64)> {
        self.passed.counts()
    }

    fn notes(&self) -> Vec<String> {
        self.passed
            .notes("not encrypted yet, as the bucket is being migrated, so that only its manifest says what they are")
    }
}

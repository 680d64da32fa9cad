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
use crate::object::read_back::Readable;

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
#[derive(Debug, Default)]
pub struct Passed {
    customer_keys: AtomicU64,
    archived: AtomicU64,
    unencrypted: AtomicU64,
}

impl Passed {
    /// What becomes of an object that fails so; none if the error is not about such an object.
    pub(super) fn outcome(&self, error: &Error) -> Option<Outcome> {
        let counter = match error {
            Error::MissingCustomerKey => &self.customer_keys,
            error if error.is_archived() => &self.archived,
            _ => return None,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        Some(Outcome::Skipped)
    }

    pub(super) fn unencrypted(&self) {
        self.unencrypted.fetch_add(1, Ordering::Relaxed);
    }

    /// Sentences about them.
    pub(super) fn notes(&self, unencrypted: &str) -> Vec<String> {
        let notes = [
            (&self.customer_keys, "under a customer key (SSE-C), which nobody here has: skipped"),
            (&self.archived, "in an archive, and would have to be restored first: skipped"),
            (&self.unencrypted, unencrypted),
        ];
        let notes = notes.into_iter().map(|(counter, what)| (counter.load(Ordering::Relaxed), what));
        notes.filter(|(count, _)| *count > 0).map(|(count, what)| format!("objects {what}: {count}")).collect()
    }
}

impl Verify {
    fn readable<'a>(&self, item: &'a Item) -> Readable<'a> {
        let version = item.entry.version.as_deref().filter(|_| self.versions);
        Readable { bucket: &item.bucket, key: &item.key, version }
    }

    /// Reads the object once; bytes of plaintext that were authentic.
    async fn look(&self, item: &Item) -> Result<u64, Error> {
        let object = self.readable(item);
        if self.headers_only {
            return self.objects.head_back(&self.who, object).await.map(|_| 0);
        }
        match self.objects.read_back(&self.who, object).await?.body {
            AnswerBody::Empty => Ok(0),
            AnswerBody::Full(bytes) => Ok(bytes.len() as u64),
            AnswerBody::Stream(mut body) => {
                let mut count = 0;
                while let Some(frame) = body.frame().await {
                    count += frame?.data_ref().map_or(0, bytes::Bytes::len) as u64;
                }
                Ok(count)
            }
        }
    }

    async fn verify(&self, item: &Item) -> Result<Outcome, Error> {
        if self.objects.is_unencrypted_yet(self.readable(item)).await? {
            self.passed.unencrypted();
            return Ok(Outcome::Skipped);
        }
        let mut entry_before = None;
        for _ in 1..MOST_LOOKS {
            let error = match self.look(item).await {
                Ok(bytes) => return Ok(Outcome::Done { bytes }),
                Err(error) => error,
            };
            if let Some(outcome) = self.passed.outcome(&error) {
                return Ok(outcome);
            }
            if error.is_transient() {
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
        self.look(item).await.map(|bytes| Outcome::Done { bytes })
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
                Err(error) => Outcome::Failed { error },
            }
        }
        .boxed()
    }

    fn notes(&self) -> Vec<String> {
        let unencrypted =
            "not encrypted yet, as the bucket is being migrated, so that nothing proves what they are: skipped";
        self.passed.notes(unencrypted)
    }
}

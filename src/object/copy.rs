//! CopyObject: by the storage server itself where that is safe, through the proxy where not.
//!
//! The storage server copies ciphertext; what makes it the destination's object is the same DEK wrapped anew, for the
//! destination's name and under its KEK.
//!
//! **Invariant:** a copy is reported only after its end was read back and opened with the source's DEK: some servers
//! ignore the condition that it be of the very object that was opened.
//!
//! **Invariant:** an object is copied onto itself there only by a server that heeds that condition.
//!
//! **Invariant:** a storage server copies only what lies on it: another one's buckets and keys are never named to it.
//!
//! **Invariant:** a DEK goes on only if our own writer domain made it, and the destination accepts that one. Who knows a
//! DEK can write under it, and the copy's envelope names us, not who made the DEK.

mod answer;
mod directives;
mod error;
mod heeding;
mod onto_itself;
mod pieces;
mod server_side;
mod streamed;
mod unencrypted;

use http::StatusCode;
use http::header::{HeaderMap, HeaderValue, IF_MATCH};

use crate::format::checksum::Kind;
use crate::format::envelope::Layout;
use crate::format::size;
use crate::s3::copy_source::CopySource;

use super::answer::Answer;
use super::error::Error;
use super::metadata;
use super::source::{END, Source};
use super::{Call, Named, Objects};

use directives::Wanted;
use server_side::Verdict;

pub use error::CopyError;
pub(super) use heeding::Heeding;
pub(super) use onto_itself::OntoItself;
pub(super) use streamed::{TAGGING, is_object};

/// Most plaintext bytes of a source (AWS, CopyObject).
const MAX_SOURCE: u64 = 5 << 30;
/// How often a copy is tried because source or destination were overwritten meanwhile.
const MOST_ATTEMPTS: usize = 3;

impl Objects {
    /// The source lies at `sources`, which is another storage server or this one.
    pub(super) async fn copy(
        &self,
        call: &Call,
        object: Named<'_>,
        (sources, from): (&Self, &CopySource),
    ) -> Result<Answer, Error> {
        sources.source_bucket(call, from)?;
        let wanted = Wanted::new(call, object, from)?;
        match self.copy_encrypted(call, object, (sources, from), &wanted).await {
            Err(Error::NotEncrypted) if Self::migrates(sources.source_bucket(call, from)?) => {
                self.copy_unencrypted(call, object, (sources, from), &wanted).await
            }
            outcome => outcome,
        }
    }

    async fn copy_encrypted(
        &self,
        call: &Call,
        object: Named<'_>,
        (sources, from): (&Self, &CopySource),
        wanted: &Wanted,
    ) -> Result<Answer, Error> {
        if !self.storage.settings().server_side_copy || !std::ptr::eq(self, sources) {
            return self.copy_through(call, object, (sources, from), wanted).await;
        }
        let mut conditions = wanted.conditions.clone();
        // The last refusal of a condition, with the source's ETag at that time.
        let mut refused: Option<(Option<HeaderValue>, Error)> = None;
        let mut failed = Error::Overwritten;
        for _ in 0..MOST_ATTEMPTS {
            let source = self.open_source(call, from, size::TAIL).await?;
            check_length(source.length())?;
            if let Some((etag, error)) = refused.take()
                && etag.as_ref() == source.etag()
            {
                // It was not the source's condition that did not hold.
                return Err(error);
            }
            if !self.may_stay(object, &source, wanted) || (source.is(object) && !self.heeds_copy_conditions().await) {
                return self.copy_through(call, object, (sources, from), wanted).await;
            }
            match self.copy_there(call, object, wanted, &source, &conditions).await {
                Ok((_, Verdict::Copied(copied))) => {
                    self.tails.forget(object, None);
                    return Ok(answer::of_copy(call, wanted, &source, &copied));
                }
                Ok((written, Verdict::Spoiled)) => {
                    failed = CopyError::NotCopied.into();
                    conditions = take_place_of(&conditions, written.as_ref());
                }
                Ok((_, Verdict::Replaced)) => failed = CopyError::Replaced.into(),
                Err(error) if is_condition(&error) => refused = Some((source.etag().cloned(), error)),
                Err(error) if is_not_implemented(&error) => {
                    return self.copy_through(call, object, (sources, from), wanted).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(failed)
    }

    /// Decrypts and encrypts anew.
    async fn copy_through(
        &self,
        call: &Call,
        object: Named<'_>,
        (sources, from): (&Self, &CopySource),
        wanted: &Wanted,
    ) -> Result<Answer, Error> {
        for _ in 0..MOST_ATTEMPTS {
            let source = sources.open_source(call, from, END).await?;
            check_length(source.length())?;
            match self.copy_streamed(call, object, wanted, source).await {
                Err(Error::Overwritten) => {}
                outcome => return outcome,
            }
        }
        Err(Error::Overwritten)
    }

    /// Whether the ciphertext may stay as it is.
    fn may_stay(&self, object: Named<'_>, source: &Source<'_>, wanted: &Wanted) -> bool {
        let kept = source.checksum().is_some_and(|kept| {
            kept.kind() == Kind::FullObject && Some(metadata::of_format(kept.algorithm())) == wanted.algorithm
        });
        source.lies_at(self)
            && source.opened.layout != Layout::Empty
            && source.writer == *self.keys.writer()
            && object.bucket.keys.accept_writers.contains(&source.writer)
            && (wanted.algorithm.is_none() || kept)
    }
}

fn check_length(length: u64) -> Result<(), Error> {
    if length > MAX_SOURCE { Err(CopyError::TooLarge { length, limit: MAX_SOURCE }.into()) } else { Ok(()) }
}

/// The conditions for replacing what an attempt of ours left, of that ETag. Those of the client held before it, and would
/// not now; where nobody knows what it left, they stay.
fn take_place_of(conditions: &HeaderMap, written: Option<&HeaderValue>) -> HeaderMap {
    match written {
        Some(etag) if !conditions.is_empty() => HeaderMap::from_iter([(IF_MATCH, etag.clone())]),
        _ => conditions.clone(),
    }
}

fn is_condition(error: &Error) -> bool {
    error.is_status(StatusCode::PRECONDITION_FAILED)
}

fn is_not_implemented(error: &Error) -> bool {
    error.is_status(StatusCode::NOT_IMPLEMENTED) || error.refusal_code() == Some("NotImplemented")
}

//! An object whose envelope is replaced, and whose body stays where it lies.

use http::header::{HeaderMap, HeaderValue, IF_MATCH};

use crate::names::KekName;

use super::super::error::Error;
use super::super::source::Source;
use super::super::{Call, Named, Objects};
use super::directives::Wanted;
use super::server_side::Verdict;
use super::{CopyError, is_condition, is_not_implemented};

/// What came of it.
pub(in crate::object) enum OntoItself {
    /// The storage server's headers of its answer.
    Copied(HeaderMap),
    /// Somebody else wrote or deleted it meanwhile.
    Overtaken,
    /// It cannot be done safely here, and was not tried, or not carried out.
    Unsafe,
}

impl Objects {
    /// Has the storage server copy `source` onto itself with its DEK wrapped anew for `object`, which is its name now. `condition`
    /// is its ETag, unless nobody else writes.
    pub(in crate::object) async fn copy_onto_itself(
        &self,
        call: &Call,
        object: Named<'_>,
        source: &Source<'_>,
        kek: &KekName,
        condition: Option<HeaderValue>,
    ) -> Result<OntoItself, Error> {
        let settings = self.storage.settings();
        let wanted = Wanted::as_it_is(&source.opened.metadata, kek);
        let heeded = settings.server_side_copy && self.heeds_copy_conditions().await;
        if !heeded || !self.may_stay(object, source, &wanted) {
            return Ok(OntoItself::Unsafe);
        }
        // The source's condition alone says nothing of the moment of writing: in pieces it holds for each of them and not for the
        // completion, and SeaweedFS 4.48 checks it a while before it writes.
        let conditions = condition.map(|etag| (IF_MATCH, etag)).into_iter().collect();
        let outcome = self.copy_there(call, object, &wanted, source, &conditions).await;
        self.tails.forget(object, None);
        match outcome {
            Ok((_, Verdict::Copied(copied))) => Ok(OntoItself::Copied(copied.headers)),
            Ok((_, Verdict::Replaced)) => Ok(OntoItself::Overtaken),
            Ok((_, Verdict::Spoiled)) => Err(CopyError::NotCopied.into()),
            Err(error) if is_condition(&error) || error.refusal_code() == Some("NoSuchKey") => {
                Ok(OntoItself::Overtaken)
            }
            Err(error) if is_not_implemented(&error) => Ok(OntoItself::Unsafe),
            Err(error) => Err(error),
        }
    }
}

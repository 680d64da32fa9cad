//! An object that was written under another name, and was copied or restored without the proxy, bound to the name that it has now.
//!
//! **Security.** Envelopes are bound to names so that the operator of the storage server cannot put one object in another one's
//! place. Whoever binds an object to a name says that it belongs there: the log tells each one.
//!
//! **Invariant:** its envelope and its end opened under the old name, by the rules of that name's bucket (KEKs, accepted writers).
//! The body between is authenticated by whoever reads it.

use http::HeaderMap;

use crate::custody::CustodyError;
use crate::names::LogicalBucket;
use crate::s3::operation::ObjectOperation;
use crate::s3::target::ObjectKey;

use super::super::access::Authenticated;
use super::super::copy::OntoItself;
use super::super::error::Error;
use super::super::source::{END, Source};
use super::super::{Named, Objects};
use super::{Done, Manner, RenewalError, Renewed, at_once, call, done, etag_of, is_gone, kek_for, place};

impl Objects {
    /// Binds the object to its name if it was written as `written`. One that opens under its own name is left as it is.
    ///
    /// The DEK stays, and the body where it lies, if this writer domain made them and the storage server heeds conditions on
    /// copies; or else it is encrypted anew.
    ///
    /// # Errors
    /// [`Error`]: the object is as it was, unless it says that the storage server's answer got lost.
    pub async fn rebind(
        &self,
        who: &Authenticated,
        (bucket, key): (&LogicalBucket, &ObjectKey),
        written: (&LogicalBucket, &ObjectKey),
        manner: Manner,
    ) -> Result<Renewed, Error> {
        let object = self.renewable(bucket, key)?;
        let former = Named { bucket: self.bucket_named(written.0)?, key: written.1 };
        let (reading, from) = (call(who, object, at_once(), HeaderMap::new()), place(bucket, key, None));
        let source = match self.open_source_of(&reading, &from, former, END).await {
            Ok(source) => source,
            Err(Error::MissingCustomerKey) => return Ok(Renewed::CustomerKey),
            Err(error) if is_gone(&error) => return Ok(Renewed::Overtaken),
            Err(error) if is_of_another_name(&error) => {
                return match self.open_source(&reading, &from, END).await {
                    Ok(_) => Ok(Renewed::NotChosen),
                    Err(error) if is_gone(&error) => Ok(Renewed::Overtaken),
                    Err(error) if is_of_another_name(&error) => Err(neither(former)),
                    Err(error) => Err(error),
                };
            }
            Err(error) => return Err(error),
        };
        if manner.dry_run {
            return Ok(Renewed::Done(Done { bytes: source.length(), ..Done::default() }));
        }
        let renewed = self.bind(who, object, source, manner).await?;
        if let Renewed::Done(_) = renewed {
            let (was_bucket, was_key) = (former.bucket.name, former.key.as_str());
            let key = object.key.as_str();
            tracing::info!(%bucket, key, %was_bucket, was_key, "an object was bound to another name, as its operator says");
        }
        Ok(renewed)
    }

    async fn bind(
        &self,
        who: &Authenticated,
        object: Named<'_>,
        source: Source<'_>,
        manner: Manner,
    ) -> Result<Renewed, Error> {
        let own = source.opened.kek.clone();
        let kek = kek_for(object.bucket.keys, &own);
        let (bytes, version) = (source.length(), source.version_id().cloned());
        let mut carried = self.carried(&source, false).await?;
        let copying = ObjectOperation::CopyObject {
            source: place(object.bucket.name, object.key, None),
            grants: false,
            locks: false,
        };
        let copying = call(who, object, copying, carried.headers.clone());
        let condition = if manner.conditional { Some(etag_of(&source)?) } else { None };
        match self.copy_onto_itself(&copying, object, &source, kek, condition).await? {
            OntoItself::Copied(headers) => Ok(Renewed::Done(done(bytes, version.as_ref(), &carried, &headers))),
            OntoItself::Overtaken => Ok(Renewed::Overtaken),
            OntoItself::Unsafe => {
                carried.headers.extend(self.tags_of(&source).await?.map(|tags| (super::super::copy::TAGGING, tags)));
                let written = self.write_anew(who, object, source, kek, (&carried, manner.conditional)).await?;
                Ok(written.map_or(Renewed::Overtaken, |headers| {
                    Renewed::Done(done(bytes, version.as_ref(), &carried, &headers))
                }))
            }
        }
    }
}

/// Whether what does not open so may open under another name.
fn is_of_another_name(error: &Error) -> bool {
    match error {
        Error::NotAuthentic | Error::ForeignKek(_) | Error::ForeignWriter(_) => true,
        Error::Key(error) => matches!(error.custody(), Some(CustodyError::NotAuthentic)),
        _ => false,
    }
}

fn neither(former: Named<'_>) -> Error {
    RenewalError::NeitherName { bucket: former.bucket.name.clone(), key: former.key.as_str().to_owned() }.into()
}

//! An object under a new DEK and another branch key, in its own place.

use crate::names::LogicalBucket;
use crate::s3::target::ObjectKey;

use super::super::access::Authenticated;
use super::super::error::Error;
use super::super::opened::envelope_of;
use super::super::source::{END, Source};
use super::super::{Named, Objects};
use super::{Choice, Done, Manner, RenewalError, Renewed, at_once, call, done, is_gone, kek_for, place};

impl Objects {
    /// Encrypts the object anew if it is among those of `choice`. `old` names an old version instead, which cannot be replaced: one
    /// that is chosen is an error.
    ///
    /// # Errors
    /// [`Error`]: the object is as it was, unless it says that the storage server's answer got lost.
    pub async fn re_encrypt(
        &self,
        who: &Authenticated,
        (bucket, key): (&LogicalBucket, &ObjectKey),
        old: Option<&str>,
        choice: &Choice,
        manner: Manner,
    ) -> Result<Renewed, Error> {
        let object = self.renewable(bucket, key)?;
        let (call, from) = (call(who, object, at_once(), http::HeaderMap::new()), place(bucket, key, old));
        if choice.is_of_envelopes() {
            let head = match self.stored_head(bucket, key, old).await {
                Ok(head) => head,
                Err(error) if is_gone(&error) => return Ok(Renewed::Overtaken),
                Err(error) => return Err(error),
            };
            if !choice.covers(&envelope_of(&head.headers)?) {
                return Ok(Renewed::NotChosen);
            }
        }
        let source = match self.open_source(&call, &from, END).await {
            Ok(source) => source,
            Err(Error::MissingCustomerKey) => return Ok(Renewed::CustomerKey),
            Err(error) if is_gone(&error) => return Ok(Renewed::Overtaken),
            Err(error) => return Err(error),
        };
        // It may be another one by now.
        let chosen = choice.covers(&envelope_of(&source.headers)?);
        if !chosen || !choice.covers_date(&source.opened.metadata, &source.headers) {
            return Ok(Renewed::NotChosen);
        }
        if old.is_some() {
            let locked_until = super::carried::locked_until(&source.headers);
            return Err(RenewalError::OldVersion { locked_until }.into());
        }
        if manner.dry_run {
            return Ok(Renewed::Done(Done { bytes: source.length(), ..Done::default() }));
        }
        self.replace(who, object, source, choice, manner).await
    }

    async fn replace(
        &self,
        who: &Authenticated,
        object: Named<'_>,
        source: Source<'_>,
        choice: &Choice,
        manner: Manner,
    ) -> Result<Renewed, Error> {
        let carried = self.carried(&source, true).await?;
        let own = source.opened.kek.clone();
        let kek = choice.onto.as_ref().unwrap_or_else(|| kek_for(object.bucket.keys, &own));
        if !object.bucket.keys.encrypts(kek) {
            return Err(Error::UnknownKek);
        }
        let (bytes, version) = (source.length(), source.version_id().cloned());
        let written = self.write_anew(who, object, source, kek, (&carried, manner.conditional)).await?;
        Ok(written
            .map_or(Renewed::Overtaken, |headers| Renewed::Done(done(bytes, version.as_ref(), &carried, &headers))))
    }
}

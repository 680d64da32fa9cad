//! Copies of what is not encrypted yet, where the bucket's manifest lists it: encrypted as they stream.

use crate::names::Purpose;
use crate::s3::copy_source::CopySource;

use super::super::answer::Answer;
use super::super::error::Error;
use super::super::metadata;
use super::super::plaintext::Plaintext;
use super::super::put::now_ms;
use super::super::{Call, Named, Objects};
use super::answer;
use super::check_length;
use super::directives::Wanted;

impl Objects {
    pub(super) async fn copy_unencrypted(
        &self,
        call: &Call,
        object: Named<'_>,
        (sources, from): (&Self, &CopySource),
        wanted: &Wanted,
    ) -> Result<Answer, Error> {
        let source = sources.unencrypted_source(call, from, None).await?;
        let length = source.length;
        check_length(length)?;
        let mut tags = None;
        if !wanted.replaces_tags {
            let named = Named { bucket: sources.source_bucket(call, from)?, key: &from.key };
            tags = sources.tags_at(call, named, from.version_id.as_deref()).await?;
        }
        let request = self.copying(call, object, wanted, tags);
        let (bucket, caller) = (object.bucket.name, call.who.caller());
        let key = self.keys.for_writing(&wanted.kek, Purpose::Object, bucket, caller, length).await?;
        let version = source.headers.get("x-amz-version-id").cloned();
        let metadata = wanted.metadata(&metadata::of_headers(&source.headers), now_ms());
        let plaintext = Plaintext::of_copy(source.body, length, wanted.algorithm);
        let stored = self.store(call, object, metadata, plaintext, key, request).await?;
        self.tails.forget(object, None);
        Ok(answer::of_stream(call, wanted, &stored, version.as_ref()))
    }
}

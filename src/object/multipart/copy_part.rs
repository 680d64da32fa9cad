//! UploadPartCopy: a part made of another object's bytes, decrypted and encrypted anew as they stream.

use http::StatusCode;

use crate::s3::copy_source::CopySource;
use crate::s3::operation::PartOf;
use crate::s3::xml::copy_part_result;

use super::super::answer::{Answer, moment};
use super::super::error::Error;
use super::super::metadata::{self, of_format};
use super::super::plaintext::Plaintext;
use super::super::{Call, Named, Objects};
use super::state::client_etag;

impl Objects {
    pub(in crate::object) async fn copy_part(
        &self,
        call: &Call,
        object: Named<'_>,
        part: &PartOf,
        (sources, source): (&Self, &CopySource),
    ) -> Result<Answer, Error> {
        sources.source_bucket(call, source)?;
        let upload = self.open_upload(call, object, &part.upload).await?;
        let read = sources.read_source(call, source).await?;
        let algorithm = of_format(upload.settings.checksum.algorithm);
        let plaintext = Plaintext::of_copy(read.body, read.length, Some(algorithm));
        let stored = self.store_part(call, object, &upload, part.number, plaintext).await?;
        let (mut headers, record) = (stored.headers, stored.record);
        if let Some(version) = read.version_id {
            headers.insert("x-amz-copy-source-version-id", version);
        }
        let customer_key = call.customer_keys.target.as_ref();
        metadata::describe_encryption(&mut headers, customer_key, upload.metadata.asked, &upload.kek);
        let digest = stored.verified.digest().to_base64();
        let etag = format!("\"{}\"", client_etag(record.entry.attempt));
        let document = copy_part_result(&etag, &moment(record.written_ms), Some((algorithm, &digest)));
        Ok(Answer::xml(StatusCode::OK, headers, document))
    }
}

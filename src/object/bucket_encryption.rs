//! The bucket encryption configuration: it is the proxy's to say, and the proxy's configuration says it.
//!
//! A client that sets what holds anyway is told that it went well, so that tools which set up buckets go on.

use http::{Method, StatusCode};

use crate::names::KekName;
use crate::s3::operation::{Verb, clean_response_headers};
use crate::s3::xml::{DefaultEncryption, default_encryption, default_encryption_xml};

use super::answer::Answer;
use super::bucket::{Bucket, KeyRule};
use super::error::Error;
use super::plaintext::Upload;
use super::{Call, Objects};

impl Objects {
    pub(super) async fn bucket_encryption(
        &self,
        call: &Call,
        bucket: Bucket<'_>,
        verb: Verb,
        upload: Upload,
    ) -> Result<Answer, Error> {
        if verb == Verb::Put {
            let document = self.document(call, upload).await?;
            holds(&default_encryption(&document).map_err(Error::Xml)?, bucket.keys)?;
        }
        // Is it there, and may the client know?
        let there = self.request(call, Method::HEAD, bucket, None);
        let there = self.send(call, there).await?.checked().await?;
        let headers = clean_response_headers(&call.operation, &there.headers);
        Ok(match verb {
            Verb::Put => Answer::empty(StatusCode::OK, headers),
            // On AWS too something holds without a configuration, so that nothing is taken away by removing one.
            Verb::Delete => Answer::empty(StatusCode::NO_CONTENT, headers),
            _ => Answer::xml(StatusCode::OK, headers, default_encryption_xml(bucket.keys.kek.as_str())),
        })
    }
}

/// Whether the bucket is encrypted as `asked`. `AES256` asks for encryption and leaves the key to the server.
fn holds(asked: &DefaultEncryption, keys: &KeyRule) -> Result<(), Error> {
    match (asked.algorithm.as_str(), &asked.key) {
        ("AES256" | "aws:kms", None) => Ok(()),
        ("aws:kms", Some(key)) if KekName::new(key).is_ok_and(|key| key == keys.kek) => Ok(()),
        ("aws:kms", Some(_)) => Err(Error::OtherDefaultKek),
        _ => Err(Error::AskedEncryption),
    }
}

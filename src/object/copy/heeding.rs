//! Whether the storage server heeds the condition that a copy be of the very object that was opened.
//!
//! Where it does not, an object that is overwritten while it is copied onto itself would be lost: the newcomer's body would
//! stand under the envelope of the object before. So this is tried out, on an object of ours, before the first such copy.

use http::Method;
use http::header::HeaderValue;
use tokio::sync::OnceCell;

use crate::format::ciphertext::CipherBytes;
use crate::storage::{StorageBody, StorageRequest};

use super::super::Objects;
use super::super::error::Error;
use super::server_side::made;
use super::{is_condition, is_not_implemented};

/// The object that is tried on, in the state bucket. It says nothing.
const TRIED_ON: &str = "probe/copy-condition";
/// No object's ETag.
const NEVER: &str = "\"claviger-never\"";

/// What was found out, once for each process.
#[derive(Default)]
pub(in crate::object) struct Heeding(OnceCell<bool>);

impl Objects {
    /// Whether it does. Not if that cannot be found out now.
    pub(super) async fn heeds_copy_conditions(&self) -> bool {
        match self.heeding.0.get_or_try_init(|| self.try_copy_condition()).await {
            Ok(heeds) => *heeds,
            Err(error) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(error, "cannot find out whether the storage server heeds conditions on copies");
                false
            }
        }
    }

    async fn try_copy_condition(&self) -> Result<bool, Error> {
        let bucket = self.buckets.state_bucket();
        let about = || StorageRequest::object(Method::PUT, bucket, TRIED_ON);
        // No data of anybody's.
        let body = StorageBody::Replayable(CipherBytes::assume_ciphertext("probe".into()));
        self.storage.send(about().body(body), None).await?.checked().await?;
        let mut copy = about().replay_unsafe();
        let source = HeaderValue::try_from(format!("{bucket}/{TRIED_ON}")).expect("bucket names are legal in headers");
        copy.headers.insert("x-amz-copy-source", source);
        copy.headers.insert("x-amz-copy-source-if-match", HeaderValue::from_static(NEVER));
        copy.headers.insert("x-amz-metadata-directive", HeaderValue::from_static("REPLACE"));
        match made(self.storage.send(copy, None).await?, "CopyObjectResult").await {
            Ok(_) => {
                tracing::warn!(
                    "the storage server ignores conditions on the source of a copy; objects are copied onto themselves through the proxy"
                );
                Ok(false)
            }
            Err(error) if is_condition(&error) => Ok(true),
            Err(error) if is_not_implemented(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

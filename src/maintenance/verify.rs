//! `verify`: reads and authenticates what is stored, and says what is not as it was written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http_body_util::BodyExt as _;

use crate::object::access::Authenticated;
use crate::object::answer::{AnswerBody, ReadFailure};
use crate::object::error::Error;
use crate::object::plaintext::Upload;
use crate::object::{Call, Objects};
use crate::s3::customer_key::CustomerKeys;
use crate::s3::operation::{ObjectOperation, Operation, Read};

use super::work::{Item, Outcome, Work};

/// The job.
pub struct Verify {
    /// Where the objects are.
    pub objects: Arc<Objects>,
    /// Who the job is.
    pub who: Authenticated,
    /// Nothing but the authenticated size, checksum and metadata of each.
    pub headers_only: bool,
    /// Objects under a key of the client's, which cannot be verified without it.
    pub under_customer_keys: AtomicU64,
}

/// What a read of one object came to.
enum Verdict {
    Whole(u64),
    Gone,
    CustomerKey,
}

impl Verify {
    async fn read(&self, item: &Item) -> Result<Verdict, Failure> {
        let read = Read { version_id: item.entry.version.clone(), ..Read::default() };
        let operation = match self.headers_only {
            true => ObjectOperation::HeadObject(read),
            false => ObjectOperation::GetObject(read),
        };
        let operation = Operation::Object(item.bucket.clone(), item.key.clone(), operation);
        let (headers, customer_keys) = (HeaderMap::new(), CustomerKeys::default());
        let call = Call { who: self.who.clone(), operation, headers, customer_keys };
        let answer = match self.objects.perform(&call, Upload::none()).await {
            Err(Error::MissingCustomerKey) => return Ok(Verdict::CustomerKey),
            Err(error) if error.is_status(http::StatusCode::NOT_FOUND) => return Ok(Verdict::Gone),
            Err(error) => return Err(Failure::Refused(error)),
            Ok(answer) => answer,
        };
        let mut bytes = 0;
        match answer.body {
            AnswerBody::Empty => {}
            AnswerBody::Full(body) => bytes = body.len() as u64,
            AnswerBody::Stream(mut body) => {
                while let Some(frame) = body.frame().await {
                    let data = frame.map_err(Failure::CutOff)?.into_data().unwrap_or_default();
                    bytes += data.len() as u64;
                }
            }
        }
        Ok(Verdict::Whole(bytes))
    }
}

/// Why an object was not read to its end.
enum Failure {
    Refused(Error),
    CutOff(ReadFailure),
}

impl Work for Verify {
    fn name(&self) -> &'static str {
        "verify"
    }

    fn treat<'a>(&'a self, item: &'a Item) -> BoxFuture<'a, Outcome> {
        async move {
            match self.read(item).await {
                Ok(Verdict::Whole(bytes)) => Outcome::Done { bytes },
                Ok(Verdict::Gone) => Outcome::Overtaken,
                Ok(Verdict::CustomerKey) => {
                    self.under_customer_keys.fetch_add(1, Ordering::Relaxed);
                    Outcome::Skipped
                }
                Err(Failure::Refused(error)) => Outcome::Failed { error },
                Err(Failure::CutOff(failure)) => Outcome::Failed { error: Error::CutOff(failure) },
            }
        }
        .boxed()
    }
}

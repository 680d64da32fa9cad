//! The id of the request that is being worked on, and its trace: they go along with the work, to the log, the custodian and the storage
//! server.
//!
//! An id is random and says nothing of its request, so that whoever runs a server may see it.

use std::fmt;
use std::str::FromStr;

use http::HeaderValue;
use tracing::Instrument as _;

use super::traces::Trace;
use crate::crypto::random_array;

/// The header in which servers are told it.
pub const HEADER: &str = "x-claviger-request-id";

/// Characters of an id.
const LENGTH: usize = 16;

tokio::task_local! {
    static CURRENT: Work;
}

/// 16 characters, unique enough to find a request in the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; LENGTH]);

/// Not an id of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 16 hexadecimal digits in capitals")]
pub struct InvalidRequestId;

impl RequestId {
    /// A new one.
    pub fn random() -> Self {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let bytes: [u8; LENGTH / 2] = random_array().unwrap_or_default();
        let mut id = [0; LENGTH];
        for (pair, byte) in id.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        Self(id)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// As the value of a header.
    pub fn to_header(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).unwrap_or(HeaderValue::from_static("-"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RequestId {
    type Err = InvalidRequestId;

    fn from_str(text: &str) -> Result<Self, InvalidRequestId> {
        let id = Self(text.as_bytes().try_into().map_err(|_| InvalidRequestId)?);
        let legal = |byte: &u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(byte);
        if id.0.iter().all(legal) { Ok(id) } else { Err(InvalidRequestId) }
    }
}

/// What is done for a request.
#[derive(Debug, Clone)]
pub struct Work {
    id: RequestId,
    trace: Option<Trace>,
}

impl Work {
    /// That of the request `id`, with its trace if it is traced.
    pub fn new(id: RequestId, trace: Option<Trace>) -> Self {
        Self { id, trace }
    }

    /// `work` as a part of it. The log's lines about it have the id in their span.
    pub fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        let span = self.span();
        CURRENT.scope(self, work.instrument(span))
    }

    /// As [`Work::scope`], for a piece of work that does not wait.
    pub fn sync_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }

    fn span(&self) -> tracing::Span {
        let trace_id = self.trace.as_ref().and_then(Trace::id);
        tracing::error_span!("request", request_id = self.id.as_str(), trace_id)
    }
}

/// The request that the current task works on, if it works on one.
pub fn current() -> Option<RequestId> {
    CURRENT.try_with(|work| work.id).ok()
}

/// Its trace, if it is traced.
pub(super) fn trace() -> Option<Trace> {
    CURRENT.try_with(|work| work.trace.clone()).ok().flatten()
}

/// `work` for another task, which works on the same request.
pub fn carried<F: Future + Send + 'static>(work: F) -> impl Future<Output = F::Output> + Send + 'static {
    let (current, work) = (CURRENT.try_with(Work::clone).ok(), work.in_current_span());
    async move {
        match current {
            Some(current) => CURRENT.scope(current, work).await,
            None => work.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_other_texts() {
        let id = RequestId::random();
        assert_eq!(id.as_str().parse(), Ok(id));
        assert_ne!(id, RequestId::random());
        for text in ["", "0123456789ABCDE", "0123456789ABCDEF0", "0123456789abcdef", "0123456789ABCDE\n", "ÄÄÄÄÄÄÄÄ"]
        {
            assert_eq!(text.parse::<RequestId>(), Err(InvalidRequestId), "{text:?}");
        }
    }

    #[tokio::test]
    async fn it_goes_along_with_the_work_and_with_no_other() {
        assert_eq!(current(), None);
        let id = RequestId::random();
        let (here, carried_on, left) = Work::new(id, None)
            .scope(async {
                let carried_on = tokio::spawn(carried(async { current() })).await;
                let left = tokio::spawn(async { current() }).await;
                (current(), carried_on.expect("runs"), left.expect("runs"))
            })
            .await;
        assert_eq!((here, carried_on, left), (Some(id), Some(id), None));
        assert_eq!(Work::new(id, None).sync_scope(current), Some(id));
        assert_eq!(current(), None);
    }
}

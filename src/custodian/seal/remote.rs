//! Wrapping by another key server, for unsealing without people: what the seal needs of it, and no more.

use std::error::Error;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::secret::Secret;

/// How long a key server may take for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The other key server did not do it.
#[derive(Debug, thiserror::Error)]
pub enum RemoteFailed {
    /// No answer, or none in time. Trying again later may help.
    #[error("the key server that unseals this one cannot be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// It answered, and refused: the token, the policy or the key is not right.
    #[error("the key server that unseals this one refuses")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
}

/// Wraps and unwraps under a key that it keeps, as the Transit API of OpenBao and Vault does.
pub trait RemoteWrap: Send + Sync {
    /// `key`, wrapped for `context`: 1 to 1,024 bytes that [`RemoteWrap::unwrap`] takes.
    ///
    /// # Errors
    /// [`RemoteFailed`].
    fn wrap<'a>(&'a self, key: &'a Secret<32>, context: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, RemoteFailed>>;

    /// What was wrapped for the same `context`.
    ///
    /// # Errors
    /// [`RemoteFailed`].
    fn unwrap<'a>(&'a self, wrapped: &'a [u8], context: &'a [u8]) -> BoxFuture<'a, Result<Secret<32>, RemoteFailed>>;
}

/// Gives up on `answer` after ten seconds.
pub(super) async fn in_time<T>(answer: BoxFuture<'_, Result<T, RemoteFailed>>) -> Result<T, RemoteFailed> {
    tokio::time::timeout(ANSWER_MAX, answer).await.unwrap_or_else(|late| Err(RemoteFailed::Unreachable(late.into())))
}

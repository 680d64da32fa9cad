//! Which outcomes are tried again, and after which pause.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, Response, StatusCode};

use super::error::StorageError;
use super::request::Replay;
use super::settings::RetrySettings;
use crate::crypto::random_array;

impl RetrySettings {
    /// The pause before the next attempt at a server with so many addresses, or none if `outcome` stands: full jitter over an exponentially growing
    /// time, and not less than the server asks for (up to the cap).
    pub(super) fn pause_after<B>(
        &self,
        outcome: &Result<Response<B>, StorageError>,
        replay: Replay,
        attempt: u32,
        addresses: usize,
    ) -> Option<Duration> {
        let worth_it = match outcome {
            Ok(response) => is_passing(response.status(), replay),
            Err(error) => is_replayable(error, replay),
        };
        if !worth_it || attempt as usize >= addresses.max(self.max_attempts as usize) {
            return None;
        }
        let most = self.backoff_base.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(self.backoff_cap);
        let asked = outcome.as_ref().ok().and_then(|response| retry_after(response.headers())).unwrap_or_default();
        Some(jitter(most).max(asked.min(self.backoff_cap)))
    }
}

fn is_passing(status: StatusCode, replay: Replay) -> bool {
    match status {
        StatusCode::SERVICE_UNAVAILABLE => true,
        StatusCode::INTERNAL_SERVER_ERROR => replay != Replay::Unsafe,
        // A gateway's word, that does not know what became of it.
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => replay == Replay::Safe,
        _ => false,
    }
}

fn is_replayable(error: &StorageError, replay: Replay) -> bool {
    match error {
        StorageError::Unreachable(source) => source.nothing_was_sent(),
        StorageError::Timeout { .. } | StorageError::Broken(_) => replay == Replay::Safe,
        StorageError::Request(_) | StorageError::Garbage(_) | StorageError::Refused(_) | StorageError::Aborted(_) => {
            false
        }
    }
}

/// Seconds of a `Retry-After` header. Its form as a date is rare from S3 servers, and not worth a clock's trust.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// A random time up to `most`; all of it if there is no randomness to be had.
fn jitter(most: Duration) -> Duration {
    let Ok(random) = random_array::<4>() else { return most };
    most.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX))
}

/// No header of a storage server has us wait longer than our own bound.
#[doc(hidden)]
pub fn fuzz_retry_after(value: &http::HeaderValue) {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(RETRY_AFTER, value.clone());
    let settings = RetrySettings::default();
    let pause = settings.pause_after(&Ok(response), Replay::Safe, 1, 1).expect("worth another try");
    assert!(pause <= settings.backoff_cap);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<&str>) -> Result<Response<()>, StorageError> {
        let mut response = Response::builder().status(status);
        if let Some(value) = retry_after {
            response = response.header(RETRY_AFTER, value);
        }
        Ok(response.body(()).expect("good response"))
    }

    #[test]
    fn only_passing_failures_are_tried_again() {
        let settings = RetrySettings::default();
        for status in [500, 502, 503, 504] {
            assert!(settings.pause_after(&answer(status, None), Replay::Safe, 1, 1).is_some(), "{status}");
        }
        for status in [200, 304, 400, 403, 404, 412, 501] {
            assert!(settings.pause_after(&answer(status, None), Replay::Safe, 1, 1).is_none(), "{status}");
        }
        let silent = Err::<Response<()>, _>(StorageError::Timeout { limit: Duration::from_secs(1) });
        assert!(settings.pause_after(&silent, Replay::Safe, 2, 1).is_some());
        assert!(settings.pause_after(&silent, Replay::Safe, 3, 1).is_none(), "attempts are used up");
    }

    #[test]
    fn what_may_have_been_done_is_not_replayed_when_that_is_unsafe() {
        let settings = RetrySettings::default();
        let silent = Err::<Response<()>, _>(StorageError::Timeout { limit: Duration::from_secs(1) });
        assert!(settings.pause_after(&silent, Replay::Unsafe, 1, 1).is_none());
        assert!(settings.pause_after(&answer(500, None), Replay::Unsafe, 1, 1).is_none());
        assert!(settings.pause_after(&answer(503, None), Replay::Unsafe, 1, 1).is_some());
    }

    #[test]
    fn a_write_is_replayed_once_it_was_answered_and_not_while_it_may_be_carried_out_yet() {
        let settings = RetrySettings::default();
        for status in [500, 503] {
            assert!(settings.pause_after(&answer(status, None), Replay::Answered, 1, 1).is_some(), "{status}");
        }
        for status in [502, 504] {
            assert!(settings.pause_after(&answer(status, None), Replay::Answered, 1, 1).is_none(), "{status}");
        }
        let silent = Err::<Response<()>, _>(StorageError::Timeout { limit: Duration::from_secs(1) });
        assert!(settings.pause_after(&silent, Replay::Answered, 1, 2).is_none());
    }

    #[test]
    fn pauses_grow_to_the_cap_and_heed_the_server_up_to_it() {
        let settings = RetrySettings { max_attempts: 100, ..RetrySettings::default() };
        for attempt in 1..90 {
            let pause = settings.pause_after(&answer(503, None), Replay::Safe, attempt, 1).expect("retried");
            assert!(pause <= settings.backoff_cap);
            assert!(attempt > 1 || pause <= settings.backoff_base);
        }
        let second = Some(Duration::from_secs(1));
        assert_eq!(settings.pause_after(&answer(503, Some("1")), Replay::Safe, 1, 1), second);
        assert_eq!(settings.pause_after(&answer(503, Some("3600")), Replay::Safe, 1, 1), Some(settings.backoff_cap));
    }
}

//! A custodian with a deadline on each call, a bound on calls at once, a stopwatch, and a log line when it fails.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::names::KekName;
use crate::secret::Secret;
use crate::telemetry::metrics::seconds_since;

use super::caller::Caller;
use super::context::BranchContext;
use super::keys::KeyMetrics;
use super::lease::LeaseSettings;
use super::wrapped::WrappedKey;
use super::{Custodian, CustodyError};

pub(super) struct Bounded {
    custodian: Arc<dyn Custodian>,
    calls: Semaphore,
    deadline: Duration,
    metrics: KeyMetrics,
}

impl Bounded {
    pub(super) fn new(custodian: Arc<dyn Custodian>, settings: &LeaseSettings, metrics: KeyMetrics) -> Self {
        let calls = Semaphore::new(settings.calls_max.clamp(1, Semaphore::MAX_PERMITS));
        Self { custodian, calls, deadline: settings.rpc_deadline(), metrics }
    }

    /// Waiting for a free place counts towards the deadline: a caller never waits longer than that.
    async fn call<T>(
        &self,
        operation: &'static str,
        kek: &KekName,
        caller: &Caller,
        call: impl Future<Output = Result<T, CustodyError>>,
    ) -> Result<T, CustodyError> {
        let begun = Instant::now();
        let in_turn = async {
            let _place = self.calls.acquire().await.expect("the semaphore is never closed");
            call.await
        };
        let result = tokio::time::timeout(self.deadline, in_turn).await;
        let result = result.unwrap_or_else(|elapsed| Err(CustodyError::Unreachable(elapsed.into())));
        self.metrics.called(operation, &result, seconds_since(begun));
        if let Err(error) = &result {
            report(operation, kek, caller, error);
        }
        result
    }
}

fn report(operation: &'static str, kek: &KekName, caller: &Caller, error: &CustodyError) {
    let Caller { principal, reason } = caller;
    match error {
        CustodyError::Unreachable(source) | CustodyError::Malformed(source) => {
            tracing::warn!(operation, %kek, %principal, %reason, %source, "{error}");
        }
        CustodyError::Sealed | CustodyError::UnknownKek | CustodyError::Random(_) | CustodyError::VersionUnknown => {
            tracing::warn!(operation, %kek, %principal, %reason, "{error}");
        }
        CustodyError::Denied | CustodyError::Disabled => {
            tracing::info!(operation, %kek, %principal, %reason, "{error}");
        }
        CustodyError::VersionTooOld | CustodyError::NotAuthentic => {
            tracing::debug!(operation, %kek, %principal, %reason, "{error}");
        }
    }
}

impl Custodian for Bounded {
    fn generate<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<(Secret<32>, WrappedKey), CustodyError>> {
        Box::pin(self.call("generate", kek, caller, self.custodian.generate(kek, context, caller)))
    }

    fn unwrap<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        wrapped: &'a WrappedKey,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Secret<32>, CustodyError>> {
        Box::pin(self.call("unwrap", kek, caller, self.custodian.unwrap(kek, context, wrapped, caller)))
    }

    fn rewrap<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        wrapped: &'a WrappedKey,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<WrappedKey, CustodyError>> {
        Box::pin(self.call("rewrap", kek, caller, self.custodian.rewrap(kek, context, wrapped, caller)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custody::fake::{self, FakeCustodian};

    #[tokio::test(start_paused = true)]
    async fn a_custodian_that_does_not_answer_is_unreachable_after_the_deadline() {
        let fake = Arc::new(FakeCustodian::default());
        fake.delay_ms(60_000);
        let bounded = Bounded::new(fake, &LeaseSettings::default(), KeyMetrics::default());
        let asked = tokio::time::Instant::now();
        let result = bounded.generate(&fake::kek(), &fake::context(1), &fake::caller("alice")).await;
        assert!(matches!(result, Err(CustodyError::Unreachable(_))));
        assert_eq!(asked.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_place_counts_towards_the_deadline() {
        let fake = Arc::new(FakeCustodian::default());
        fake.delay_ms(1500);
        let settings = LeaseSettings { calls_max: 1, ..LeaseSettings::default() };
        let bounded = Bounded::new(fake, &settings, KeyMetrics::default());
        let (kek, context, caller) = (fake::kek(), fake::context(1), fake::caller("alice"));
        let (first, second) =
            tokio::join!(bounded.generate(&kek, &context, &caller), bounded.generate(&kek, &context, &caller));
        assert!(first.is_ok());
        assert!(matches!(second, Err(CustodyError::Unreachable(_))));
    }
}

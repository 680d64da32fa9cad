//! From a span's end to the exporter, without waiting.

use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::metrics::{Dropped, TraceMetrics};

/// The near end of the queue. The library has one as well, which does not tell how many spans it drops and exports on a thread of its
/// own, where our HTTP client cannot work.
#[derive(Debug)]
pub(super) struct Queue {
    sender: Sender<SpanData>,
    metrics: TraceMetrics,
}

impl Queue {
    pub(super) fn new(sender: Sender<SpanData>, metrics: TraceMetrics) -> Self {
        Self { sender, metrics }
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        // Counted first: the exporter may be done with it before this goes on.
        self.metrics.queued();
        match self.sender.try_send(span) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.metrics.dropped(Dropped::QueueFull, 1),
            Err(TrySendError::Closed(_)) => self.metrics.dropped(Dropped::Ended, 1),
        }
    }

    /// [`Exporting`](super::Exporting) does that, and waits.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

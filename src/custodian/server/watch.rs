//! The watch: a response without end, a line of JSON for each thing that happens, and heartbeats in between.
//!
//! A heartbeat says that the custodian has seen its store within the grace, so that a client which hears one knows that whatever was
//! switched off before it has been told. When the store is out of sight there is none. Each line says how long after the greeting it was
//! made, so that a client notices when someone on the way holds the lines back.
//!
//! **Invariant:** a watch holds a few lines at most; a client that does not take them loses the watch.
//! **Invariant:** it ends when the custodian is sealed or ends, and when the one who watches is shut out, may watch no longer, or has a
//! certificate that ran out.

use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use serde_json::{Value as Json, json};
use time::OffsetDateTime;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::answer::ResponseBody;
use super::places::Place;
use super::state::Unsealed;
use crate::custodian::approval::json::hex;
use crate::custodian::audit::Action;
use crate::custodian::engine::Event;
use crate::custodian::requester::Requester;
use crate::net::BoxError;
use crate::telemetry::metrics::InFlight;

/// Between two heartbeats.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(250);
/// Lines that wait for the client.
const LINES_MAX: usize = 64;
/// How long a client may leave them all untaken.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a watch is made of.
pub(super) struct Watch {
    /// Weak, because what is unsealed must not outlast the sealing for the sake of those who watch.
    pub(super) unsealed: Weak<Unsealed>,
    pub(super) who: Requester,
    /// When the certificate of who watches runs out, in seconds since 1970.
    pub(super) expires_s: i64,
    pub(super) events: broadcast::Receiver<Event>,
    pub(super) instance: String,
    pub(super) policy: [u8; 32],
    /// Turns true when the custodian ends.
    pub(super) ending: watch::Receiver<bool>,
    pub(super) slot: Place,
    pub(super) _counted: InFlight,
}

/// Starts the watch; it ends when its body is dropped.
pub(super) fn start(watch: Watch) -> ResponseBody {
    let (lines, receiver) = mpsc::channel(LINES_MAX);
    tokio::spawn(watch.run(lines));
    Lines(receiver).boxed_unsync()
}

impl Watch {
    async fn run(mut self, lines: mpsc::Sender<Bytes>) {
        let who = self.who.id.clone();
        let ended = self.tell(&lines).await;
        drop(self.slot);
        tracing::debug!(principal = %who, cause = ended, "a watch ended");
    }

    /// Tells until there is a reason not to.
    async fn tell(&mut self, lines: &mpsc::Sender<Bytes>) -> &'static str {
        let greeted = Instant::now();
        let hello = json!({
            "event": "hello",
            "instance": self.instance,
            "heartbeat_ms": u64::try_from(HEARTBEAT.as_millis()).unwrap_or(u64::MAX),
            "policy_sha256": hex(&self.policy),
        });
        if let Err(ended) = send(lines, &hello).await {
            return ended;
        }
        let Some(mut sealed) = self.unsealed.upgrade().map(|unsealed| unsealed.sealed.subscribe()) else {
            return "the custodian is sealed";
        };
        // The first at once: nobody uses a key before hearing one.
        let mut heartbeats = interval(HEARTBEAT);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (mut line, last) = tokio::select! {
                biased;
                () = turns(&mut self.ending) => return "the custodian ends",
                () = turns(&mut sealed) => return "the custodian is sealed",
                () = lines.closed() => return "the client is gone",
                event = self.events.recv() => match event {
                    Ok(event) => (line_of(&event), self.shuts_out(&event) || self.forbids(&event)),
                    // Among what was missed may be that this client was shut out.
                    Err(broadcast::error::RecvError::Lagged(_)) => (json!({ "event": "lagged" }), !self.may_watch()),
                    Err(broadcast::error::RecvError::Closed) => return "the custodian is sealed",
                },
                _ = heartbeats.tick() => {
                    let Some(unsealed) = self.unsealed.upgrade() else { return "the custodian is sealed" };
                    if OffsetDateTime::now_utc().unix_timestamp() > self.expires_s {
                        return "the client's certificate ran out";
                    }
                    if !unsealed.engine.health().store_ok {
                        continue;
                    }
                    (json!({ "event": "heartbeat" }), false)
                }
            };
            line["elapsed_ms"] = u64::try_from(greeted.elapsed().as_millis()).unwrap_or(u64::MAX).into();
            match send(lines, &line).await {
                Ok(()) if last => return "the client may watch no longer",
                Ok(()) => {}
                Err(ended) => return ended,
            }
        }
    }

    fn shuts_out(&self, event: &Event) -> bool {
        let Event::Principal { principal, revoked: true } = event else { return false };
        let certificate = format!("certificate:{}", hex(&self.who.certificate_sha256));
        principal == self.who.id.as_str() || *principal == certificate
    }

    /// Whether it is another policy, by which this client may not watch.
    fn forbids(&self, event: &Event) -> bool {
        matches!(event, Event::Policy { .. }) && !self.may_watch()
    }

    fn may_watch(&self) -> bool {
        self.unsealed.upgrade().is_some_and(|unsealed| unsealed.engine.may(&self.who, Action::Watch))
    }
}

/// Resolves when it turns true, or when nobody is left to tell.
async fn turns(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|is_set| *is_set).await;
}

async fn send(lines: &mpsc::Sender<Bytes>, line: &Json) -> Result<(), &'static str> {
    let mut text = line.to_string();
    text.push('\n');
    match timeout(PATIENCE, lines.send(text.into())).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err("the client is gone"),
        Err(_) => Err("the client does not take its lines"),
    }
}

fn line_of(event: &Event) -> Json {
    match event {
        Event::Kek { name, change } => json!({ "event": "kek", "name": name.as_str(), "change": change.as_str() }),
        Event::Principal { principal, revoked } => {
            let change = if *revoked { "revoked" } else { "reinstated" };
            json!({ "event": "principal", "principal": principal, "change": change })
        }
        Event::Policy { hash } => json!({ "event": "policy", "sha256": hex(hash) }),
        Event::Grants => json!({ "event": "grants" }),
    }
}

/// The lines as a body.
struct Lines(mpsc::Receiver<Bytes>);

impl Body for Lines {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

#[cfg(test)]
mod tests;

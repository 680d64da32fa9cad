//! The custodian's watch, held open: `GET /v1/sys/claviger/watch` of our own custodian, a line of JSON per event.
//!
//! What it tells goes to [`custody::watch::Watch`](Watch), which acts on it. Heartbeats come between events, so that a
//! custodian that is cut off without a word is missed within three of them.
//!
//! **Invariant:** only heartbeats, with which the custodian vouches that it sees its store, keep leased keys working. A line
//! that cannot be understood never passes for one: an unknown event ends all leases, a malformed line breaks the watch off.
//! **Invariant:** nor does a late one: who holds the lines back longer than a missing heartbeat would be noticed ends the watch.

mod lag;
mod line;
mod own_names;

#[doc(hidden)]
pub use line::{fuzz_line, fuzz_stream};
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::custody::CustodyError;
use crate::custody::watch::Watch;
use crate::net::client::ResponseBody;

use super::Transit;
use super::error::TransitError;
use super::exchange::Call;
use super::failover::Failover;
use super::pause::Backoff;
use super::session::Session;
use super::token_api::TokenApi;
use lag::Lag;
use line::{Lines, Said, Told};
use own_names::OwnNames;

const PATH: &str = "sys/claviger/watch";
/// Pauses between attempts to open the watch anew.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A watch that lasted so long was a good one, and the next attempt comes soon.
const GOOD: Duration = Duration::from_secs(10);

/// The watch is held open as long as this exists.
pub struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Watcher {
    failover: Arc<Failover>,
    session: Option<Arc<Session<TokenApi>>>,
    /// For each address to open the watch.
    limit: Duration,
    watch: Watch,
    /// The address that is tried first.
    first: usize,
}

/// An open watch.
struct Open {
    lines: Lines,
    silence: Duration,
    lag: Lag,
    own_names: OwnNames,
    /// Of the certificates with which it was opened.
    generation: u64,
}

/// Why a watch ended.
enum End {
    /// The certificates were replaced, and it is opened anew with them.
    Renewed,
    Broken(TransitError),
}

impl Transit {
    /// Opens the custodian's watch, at the first of the addresses that has it, and keeps it open in the background: `watch`
    /// is told of every event, and when the watch is lost.
    ///
    /// # Errors
    /// [`CustodyError`], when no address opens it now. [`TransitError::NoWatch`] is the source where the custodian is none of
    /// ours.
    pub async fn watch(&self, watch: Watch) -> Result<Watching, CustodyError> {
        let (failover, session) = (Arc::clone(&self.failover), self.session.clone());
        let mut watcher = Watcher { failover, session, limit: self.deadline, watch, first: 0 };
        let open = watcher.open().await?;
        Ok(Watching(tokio::spawn(watcher.run(open))))
    }
}

impl Watcher {
    async fn run(mut self, mut open: Open) {
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
        loop {
            let begun = Instant::now();
            let end = self.follow(open).await;
            self.watch.lost();
            if begun.elapsed() >= GOOD {
                pause.succeeded();
            }
            if let End::Broken(error) = end {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "the custodian's watch broke off; it is opened anew");
                self.first += 1;
                pause.wait().await;
            }
            open = self.reopen(&mut pause).await;
            tracing::info!("the custodian's watch is open again");
        }
    }

    async fn reopen(&mut self, pause: &mut Backoff) -> Open {
        let mut told = false;
        loop {
            match self.open().await {
                Ok(open) => return open,
                Err(error) if !std::mem::replace(&mut told, true) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, cause, "the custodian's watch cannot be opened; tried again until it can");
                }
                Err(_) => {}
            }
            pause.wait().await;
        }
    }

    /// Asks one address after the other until one greets.
    async fn open(&mut self) -> Result<Open, CustodyError> {
        let mut told = None;
        for _ in 0..self.failover.addresses() {
            match self.open_at(self.first).await {
                Ok(open) => {
                    self.watch.opened(open.silence);
                    return Ok(open);
                }
                Err(error) => told = Some(error),
            }
            self.first = (self.first + 1) % self.failover.addresses();
        }
        Err(told.unwrap_or_else(|| TransitError::Deadline { limit: self.limit }.unreachable()))
    }

    /// Open is a watch from its first heartbeat on: a custodian that does not see its store greets, and has no heartbeat.
    async fn open_at(&self, index: usize) -> Result<Open, CustodyError> {
        let overdue = |limit: Duration| move |_| TransitError::Deadline { limit }.unreachable();
        let greeted = timeout(self.limit, self.greeting(index)).await;
        let mut open = greeted.map_err(overdue(self.limit))??;
        let silence = open.silence;
        let beats = async {
            while !matches!(self.next(&mut open).await?, Said::Heartbeat) {}
            Ok(())
        };
        timeout(silence, beats).await.map_err(overdue(silence))?.map_err(TransitError::unreachable)?;
        Ok(open)
    }

    async fn greeting(&self, index: usize) -> Result<Open, CustodyError> {
        let generation = self.failover.generation();
        let own_names = OwnNames::of(self.failover.tls());
        let mut lines = Lines::new(self.request(index).await.map_err(no_route_is_no_watch)?);
        let hello = line::parse(&lines.next().await.map_err(TransitError::unreachable)?, &own_names);
        let Ok(Told { said: Said::Hello { heartbeat }, .. }) = hello else {
            return Err(TransitError::WatchLine.malformed());
        };
        let silence = heartbeat * 3;
        Ok(Open { lines, silence, lag: Lag::new(silence), own_names, generation })
    }

    async fn request(&self, index: usize) -> Result<ResponseBody, CustodyError> {
        let (call, limit) = (Call::get("watch", PATH), self.limit);
        let Some(session) = &self.session else { return self.failover.open(index, &call, limit).await };
        let token = session.token().await?;
        match self.failover.open(index, &call.with_token(&token), limit).await {
            Err(CustodyError::Denied) => {}
            settled => return settled,
        }
        let newer = session.replaced(&token).await?.ok_or(CustodyError::Denied)?;
        self.failover.open(index, &call.with_token(&newer), limit).await
    }

    /// Passes on what is said until it ends.
    async fn follow(&self, mut open: Open) -> End {
        loop {
            let silence = open.silence;
            match timeout(silence, self.next(&mut open)).await {
                Ok(Ok(Said::Heartbeat)) => self.watch.heard(silence),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return End::Broken(error),
                Err(_) => return End::Broken(TransitError::Deadline { limit: silence }),
            }
            if self.failover.generation() != open.generation {
                return End::Renewed;
            }
        }
    }

    /// The next line; an event has been passed on then.
    async fn next(&self, open: &mut Open) -> Result<Said, TransitError> {
        let Told { said, made } = line::parse(&open.lines.next().await?, &open.own_names)?;
        match &said {
            Said::Event(event) => self.watch.tell(event),
            Said::Heartbeat | Said::Nothing => {}
            // A second greeting has no meaning.
            Said::Hello { .. } => return Err(TransitError::WatchLine),
        }
        // After the event: also a late one is acted on.
        if !open.lag.allows(made.ok_or(TransitError::WatchLine)?) {
            return Err(TransitError::WatchLags);
        }
        Ok(said)
    }
}

fn no_route_is_no_watch(error: CustodyError) -> CustodyError {
    match error {
        CustodyError::Malformed(cause) if matches!(cause.downcast_ref(), Some(TransitError::NoRoute)) => {
            TransitError::NoWatch.malformed()
        }
        error => error,
    }
}

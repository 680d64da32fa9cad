//! The token that we show the custodian: had by logging in or read from a file, renewed, replaced.
//!
//! **Invariant:** attempts are bounded in time whatever the server answers: renewals and look-ups to one per [`TICK_MIN`],
//! failing ones to one per [`TICK`], logins by a growing pause after each failure and by [`TOKEN_AGE_MIN`] after each success.

mod schedule;
#[cfg(test)]
mod tests;
mod token;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::custody::CustodyError;
use crate::secret::SecretBytes;

use super::error::TransitError;
use super::pause::{Backoff, between};
use super::token_file::{self, TokenFileError};
use schedule::{Care, Schedule};
pub(super) use token::Token;

/// How often the token is looked after.
const TICK: Duration = Duration::from_secs(5);
/// As [`TICK`], where a renewal is due before.
const TICK_MIN: Duration = Duration::from_secs(2);
/// A file is read again at most this often.
const READ_EVERY: Duration = Duration::from_secs(1);
/// As [`READ_EVERY`], after the custodian refused what was read last.
const READ_REFUSED_EVERY: Duration = Duration::from_millis(100);
/// A token that is refused, or whose lease ended, is replaced by a login only if it is at least this old. A caller whom policy
/// denies is told so with the same status as one whose token is gone, and must not cause a login with each request.
const TOKEN_AGE_MIN: Duration = Duration::from_secs(10);
/// Pauses after failed logins.
const LOGIN_PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// Pauses after failed renewals and look-ups.
const CARE_PAUSE: (Duration, Duration) = (TICK, Duration::from_secs(120));

/// How long a token lives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    /// 0: without end.
    pub(super) seconds: u64,
    pub(super) renewable: bool,
}

/// What a login gives.
pub(super) struct Grant {
    pub(super) token: SecretBytes,
    pub(super) lease: Lease,
}

/// The calls about a token.
pub(super) trait TokenCalls: Send + Sync + 'static {
    fn log_in(&self) -> BoxFuture<'_, Result<Grant, CustodyError>>;
    fn renew<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<Lease, CustodyError>>;
    fn look_up<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<Lease, CustodyError>>;
}

/// The token and what is known about it.
pub(super) struct Session<C> {
    calls: C,
    /// Read from here, or else had by logging in.
    file: Option<PathBuf>,
    held: Mutex<Held>,
}

struct Held {
    token: Option<Arc<Token>>,
    serial: u64,
    taken: Instant,
    schedule: Schedule,
    login_pause: Backoff,
    care_pause: Backoff,
    /// The custodian refused the last login, as opposed to failing over it.
    login_denied: bool,
    file_read: Option<Instant>,
    file_failing: bool,
}

impl<C: TokenCalls> Session<C> {
    pub(super) fn by_login(calls: C) -> Self {
        Self::new(calls, None)
    }

    pub(super) fn from_file(calls: C, path: PathBuf) -> Self {
        Self::new(calls, Some(path))
    }

    fn new(calls: C, file: Option<PathBuf>) -> Self {
        let held = Held {
            token: None,
            serial: 0,
            taken: Instant::now(),
            schedule: Schedule::Unknown,
            login_pause: Backoff::new(LOGIN_PAUSE.0, LOGIN_PAUSE.1),
            care_pause: Backoff::new(CARE_PAUSE.0, CARE_PAUSE.1),
            login_denied: false,
            file_read: None,
            file_failing: false,
        };
        Self { calls, file, held: Mutex::new(held) }
    }

    /// The token of the moment. Where there is none, all wait for one login.
    pub(super) async fn token(&self) -> Result<Arc<Token>, CustodyError> {
        let mut held = self.held.lock().await;
        if let Some(path) = &self.file {
            held.refresh(path, READ_EVERY).await.map_err(|error| TransitError::from(error).unreachable())?;
            return held.token.clone().ok_or_else(|| TransitError::NoToken.unreachable());
        }
        match &held.token {
            Some(token) if !held.is_over() => Ok(Arc::clone(token)),
            _ => self.log_in(&mut held).await,
        }
    }

    /// After the custodian refused `token`: another one, if there is one to have.
    pub(super) async fn replaced(&self, token: &Token) -> Result<Option<Arc<Token>>, CustodyError> {
        let mut held = self.held.lock().await;
        if let Some(path) = &self.file {
            // What cannot be read now leaves us with the refused token.
            let _ = held.refresh(path, READ_REFUSED_EVERY).await;
        }
        match &held.token {
            Some(current) if !current.is_same(token) => Ok(Some(Arc::clone(current))),
            _ if self.file.is_some() || held.taken.elapsed() < TOKEN_AGE_MIN => Ok(None),
            _ => self.log_in(&mut held).await.map(Some),
        }
    }

    async fn log_in(&self, held: &mut Held) -> Result<Arc<Token>, CustodyError> {
        held.begin_login()?;
        held.finish_login(self.calls.log_in().await)
    }

    /// One round of care. It keeps nobody waiting for the token while a call runs.
    async fn tend(&self) {
        let Some((token, care)) = self.due().await else { return };
        let outcome = match care {
            Care::LookUp => self.calls.look_up(&token).await,
            Care::Renew => self.calls.renew(&token).await,
            Care::Replace => return self.replace(&token).await,
        };
        let mut held = self.held.lock().await;
        if !held.holds(&token) {
            return;
        }
        match outcome {
            Ok(lease) if self.file.is_none() && held.schedule.is_running_out(lease) => {
                drop(held);
                self.replace(&token).await;
            }
            Ok(lease) => {
                held.care_pause.succeeded();
                held.schedule = Schedule::of(lease);
                if self.file.is_some() && lease.seconds > 0 && !lease.renewable {
                    tracing::info!(left_s = lease.seconds, "the custodian's token cannot be renewed: its file must be");
                }
            }
            Err(error) if error.is_transient() || self.file.is_some() => {
                tracing::warn!(?care, %error, "the custodian's token could not be looked after; tried again later");
            }
            Err(error) => {
                tracing::info!(%error, "the custodian's token was not renewed; logging in anew");
                drop(held);
                self.replace(&token).await;
            }
        }
    }

    /// How long until the token may want care: a tick, or less if its renewal is due before.
    async fn rest(&self) -> Duration {
        let tick = between(TICK.mul_f64(0.8), TICK.mul_f64(1.2));
        self.held.lock().await.schedule.until_renewal().map_or(tick, |due| due.max(TICK_MIN).min(tick))
    }

    /// What is to be done about the token now. Asking counts as an attempt.
    async fn due(&self) -> Option<(Arc<Token>, Care)> {
        let mut held = self.held.lock().await;
        if let Some(path) = &self.file {
            // What is wrong with it has been logged.
            let _ = held.refresh(path, READ_EVERY).await;
        }
        let care = held.schedule.due(self.file.is_some())?;
        let token = held.token.clone()?;
        if !held.care_pause.may_try() {
            return None;
        }
        held.care_pause.begin();
        Some((token, care))
    }

    /// Logs in while `token` still serves, unless that is young.
    async fn replace(&self, token: &Token) {
        {
            let mut held = self.held.lock().await;
            if !held.holds(token) || held.taken.elapsed() < TOKEN_AGE_MIN || held.begin_login().is_err() {
                return;
            }
        }
        let outcome = self.calls.log_in().await;
        // A failure has been logged, and is met again when the token's time is over.
        let _ = self.held.lock().await.finish_login(outcome);
    }
}

impl Held {
    fn holds(&self, token: &Token) -> bool {
        self.token.as_ref().is_some_and(|held| held.is_same(token))
    }

    fn is_over(&self) -> bool {
        self.schedule.is_over() && self.taken.elapsed() >= TOKEN_AGE_MIN
    }

    fn begin_login(&mut self) -> Result<(), CustodyError> {
        if !self.login_pause.may_try() {
            return Err(if self.login_denied { CustodyError::Denied } else { TransitError::NoToken.unreachable() });
        }
        self.login_pause.begin();
        Ok(())
    }

    fn finish_login(&mut self, outcome: Result<Grant, CustodyError>) -> Result<Arc<Token>, CustodyError> {
        let taken = match outcome {
            Ok(Grant { token, lease }) => self.take(token, Schedule::of(lease)).map_err(TransitError::malformed),
            Err(error) => Err(error),
        };
        match &taken {
            Ok(_) => self.login_pause.succeeded(),
            Err(error) => tracing::warn!(%error, "cannot log in to the custodian"),
        }
        self.login_denied = matches!(taken, Err(CustodyError::Denied));
        taken
    }

    fn take(&mut self, token: SecretBytes, schedule: Schedule) -> Result<Arc<Token>, TransitError> {
        self.serial += 1;
        let token = Arc::new(Token::new(token, self.serial)?);
        self.token = Some(Arc::clone(&token));
        self.taken = Instant::now();
        self.schedule = schedule;
        self.care_pause.succeeded();
        Ok(token)
    }

    /// Reads the file, if it was not read a moment ago. A token that was read once serves on while the file cannot be read:
    /// it may just be written.
    async fn refresh(&mut self, path: &Path, every: Duration) -> Result<(), TokenFileError> {
        if self.file_read.is_some_and(|read| read.elapsed() < every) {
            return Ok(());
        }
        self.file_read = Some(Instant::now());
        let owned = path.to_owned();
        let outcome = tokio::task::spawn_blocking(move || token_file::read(&owned)).await;
        let outcome = outcome.unwrap_or_else(|lost| {
            Err(TokenFileError::Read { path: path.into(), source: std::io::Error::other(lost) })
        });
        let failed_before = std::mem::replace(&mut self.file_failing, outcome.is_err());
        match outcome {
            Ok(token) if self.token.as_ref().is_some_and(|held| held.is(&token)) => Ok(()),
            Ok(token) => {
                let taken = self.take(token, Schedule::Unknown);
                taken.map(|_| ()).map_err(|_| TokenFileError::NotToken { path: path.into() })
            }
            Err(error) => {
                if !failed_before {
                    tracing::warn!(%error, "cannot read the custodian's token");
                }
                if self.token.is_some() { Ok(()) } else { Err(error) }
            }
        }
    }
}

/// The task that looks after a token; it ends when this is dropped.
pub(super) struct Keeper(JoinHandle<()>);

impl Keeper {
    pub(super) fn start<C: TokenCalls>(session: Arc<Session<C>>) -> Self {
        Self(tokio::spawn(async move {
            loop {
                let rest = session.rest().await;
                tokio::time::sleep(rest).await;
                session.tend().await;
            }
        }))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

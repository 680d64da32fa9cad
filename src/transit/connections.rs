//! The HTTP client, made anew when a certificate or CA file changes: certificates are replaced while a proxy runs.
//!
//! **Invariant:** what a watch is held open on carried no key before: its buffers would keep that one as long as it lasts.
//! **Invariant:** after a change no further request goes out under the old certificate, over kept connections neither, nor under one
//! whose time is over. Files that do not do change nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::net::client::{ClientSettings, HttpClient};
use crate::net::stamp::Stamp;
use crate::net::tls::{ClientTls, Lifetime, TlsError, client_config, own_certificate};

use super::error::TransitError;
use super::settings::{SettingsError, TransitSettings};

/// The files are looked at at most this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a connection is kept that nobody uses: its buffers still hold the last answer, which may have a key in it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) type Client = HttpClient<Full<Bytes>>;

/// See the module.
pub(super) struct Connections {
    tls: ClientTls,
    settings: ClientSettings,
    state: Mutex<State>,
}

#[derive(Clone)]
struct Clients {
    answering: Client,
    watching: Client,
}

struct State {
    clients: Clients,
    /// When our certificate is no longer valid.
    ends: Option<OffsetDateTime>,
    /// How often the client was made anew.
    generation: u64,
    files: Vec<Stamp>,
    looked: Instant,
    failing: bool,
}

fn stamps(tls: &ClientTls) -> Vec<Stamp> {
    let identity = tls.identity.iter().flat_map(|identity| [&identity.certificates, &identity.key]);
    identity.chain(&tls.ca_file).map(|path| Stamp::of(path)).collect()
}

fn clients(tls: &ClientTls, settings: &ClientSettings) -> Result<(Clients, Option<OffsetDateTime>), TlsError> {
    let own = tls.identity.as_ref().map(own_certificate).transpose()?;
    let ends = own.and_then(|certificate| Lifetime::of(&certificate)).map(|lifetime| lifetime.ends);
    let config = client_config(tls)?;
    let (answering, watching) = (HttpClient::new(config.clone(), settings), HttpClient::new(config, settings));
    Ok((Clients { answering, watching }, ends))
}

impl Connections {
    pub(super) fn new(settings: &TransitSettings) -> Result<Self, SettingsError> {
        let tls = settings.tls.clone();
        // What limits a whole call is the caller's deadline; the pause within a body matters to the watch alone.
        let (connect_timeout, network) = (settings.deadline, settings.network.clone());
        let pool_idle_timeout = IDLE_TIMEOUT;
        let settings = ClientSettings { connect_timeout, network, pool_idle_timeout, ..ClientSettings::default() };
        let (files, (clients, ends)) = (stamps(&tls), clients(&tls, &settings)?);
        let state = State { clients, ends, generation: 0, files, looked: Instant::now(), failing: false };
        Ok(Self { tls, settings, state: Mutex::new(state) })
    }

    /// How we show ourselves, and whom we trust.
    pub(super) fn tls(&self) -> &ClientTls {
        &self.tls
    }

    /// The client of the moment, for calls that are answered at once.
    ///
    /// # Errors
    /// [`TransitError::CertificateEnded`]: the custodian would take it for a stranger, and its refusal be taken for one of our client.
    pub(super) fn current(&self) -> Result<Client, TransitError> {
        self.clients().map(|clients| clients.answering)
    }

    /// As [`Connections::current`], for answers that do not end.
    ///
    /// # Errors
    /// [`TransitError::CertificateEnded`].
    pub(super) fn watching(&self) -> Result<Client, TransitError> {
        self.clients().map(|clients| clients.watching)
    }

    fn clients(&self) -> Result<Clients, TransitError> {
        let state = self.looked();
        match state.ends {
            Some(ended) if ended < OffsetDateTime::now_utc() => Err(TransitError::CertificateEnded { ended }),
            _ => Ok(state.clients.clone()),
        }
    }

    /// How often the client was made anew.
    pub(super) fn generation(&self) -> u64 {
        self.looked().generation
    }

    fn looked(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK_EVERY {
            state.looked = Instant::now();
            self.look(&mut state);
        }
        state
    }

    fn look(&self, state: &mut State) {
        // Taken before the files are read: what changes in between is seen the next time.
        let files = stamps(&self.tls);
        if files == state.files {
            return;
        }
        match clients(&self.tls, &self.settings) {
            Ok((clients, ends)) => {
                tracing::info!("the certificates for the custodian have changed and are used from now on");
                *state = State { clients, ends, generation: state.generation + 1, files, failing: false, ..*state };
            }
            // Certificate and key are written one after the other, so that this may pass.
            Err(error) if !std::mem::replace(&mut state.failing, true) => {
                tracing::warn!(%error, "the changed certificates for the custodian do not do; the old ones stay in use");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tests::{Ca, write_file};
    use crate::transit::settings::Address;

    #[tokio::test(start_paused = true)]
    async fn changed_files_make_a_new_client_and_broken_ones_do_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = Ca::new(folder.path(), "ca");
        let tls = ClientTls { ca_file: Some(ca.file.clone()), identity: Some(ca.issue("proxy", &["proxy"])) };
        let address = Address::parse("https://localhost:1").expect("legal");
        let connections = Connections::new(&TransitSettings::new(vec![address], tls)).expect("good files");
        let generation = || connections.generation();
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(generation(), 0, "nothing changed");
        ca.issue("proxy", &["proxy", "renewed"]);
        assert_eq!(generation(), 0, "not looked at with each request");
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(generation(), 1);
        let key = std::fs::read(folder.path().join("proxy.key")).expect("reads");
        write_file(folder.path(), "proxy.key", b"half a ke");
        for _ in 0..3 {
            tokio::time::advance(LOOK_EVERY).await;
            assert_eq!(generation(), 1, "the old one stays");
        }
        write_file(folder.path(), "proxy.key", &key);
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(generation(), 2);
        std::fs::remove_file(folder.path().join("proxy.pem")).expect("removes");
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(generation(), 2);
    }
    #[tokio::test(start_paused = true)]
    async fn nothing_goes_out_under_a_certificate_whose_time_is_over_until_it_is_renewed() {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = Ca::new(folder.path(), "ca");
        let ended = OffsetDateTime::now_utc() - time::Duration::minutes(1);
        let identity = ca.issue_until("proxy", &["proxy"], ended);
        let tls = ClientTls { ca_file: Some(ca.file.clone()), identity: Some(identity) };
        let address = Address::parse("https://localhost:1").expect("legal");
        let connections = Connections::new(&TransitSettings::new(vec![address], tls)).expect("good files");
        let refused = connections.current().err();
        assert!(
            matches!(refused, Some(TransitError::CertificateEnded { ended: when }) if when <= ended),
            "{refused:?}"
        );
        ca.issue("proxy", &["proxy"]);
        tokio::time::advance(LOOK_EVERY).await;
        assert!(connections.current().is_ok());
    }
}

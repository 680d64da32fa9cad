//! Files that may be replaced while the custodian runs: the policy, and the certificates of the TLS side.
//!
//! **Invariant:** what does not do is told and changes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::hung_up;
use crate::config::custodian_server::{ServerTls, policy_text};
use crate::custodian::engine::Offer;
use crate::custodian::server::Server;
use crate::net::stamp::Stamp;

/// How often the files are looked at. SIGHUP has them read at once.
const EVERY: Duration = Duration::from_secs(1);

/// The files.
pub(super) struct Files {
    pub(super) policy: PathBuf,
    pub(super) tls: ServerTls,
}

impl Files {
    fn policy_stamp(&self) -> Stamp {
        Stamp::of(&self.policy)
    }

    fn tls_stamps(&self) -> Vec<Stamp> {
        let ServerTls { identity, client_ca, client_crl } = &self.tls;
        let files = [Some(&identity.certificates), Some(&identity.key), Some(client_ca), client_crl.as_ref()];
        files.into_iter().flatten().map(|path| Stamp::of(path)).collect()
    }
}

/// Looks at the files until it is aborted.
pub(super) async fn keep_looking(files: Files, server: Arc<Server>, tls: watch::Sender<Arc<ServerConfig>>) {
    let mut hangup = signal(SignalKind::hangup()).ok();
    let (mut policy, mut certificates) = (files.policy_stamp(), files.tls_stamps());
    let mut every = tokio::time::interval(EVERY);
    loop {
        let asked = tokio::select! {
            _ = every.tick() => false,
            () = hung_up(&mut hangup) => true,
        };
        let (policy_now, certificates_now) = (files.policy_stamp(), files.tls_stamps());
        if (asked || policy_now != policy) && policy_now.exists() {
            policy = policy_now;
            renew_policy(&files, &server).await;
        }
        if asked || certificates_now != certificates {
            certificates = certificates_now;
            renew_tls(&files, &tls);
        }
    }
}

async fn renew_policy(files: &Files, server: &Server) {
    let path = files.policy.display();
    let text = match policy_text(&files.policy) {
        Ok(text) => text,
        Err(mistake) => return tracing::error!(%mistake, "the policy file cannot be read; the policy in force stays"),
    };
    match server.offer_policy(&text).await {
        Ok(Some(Offer::InForce)) => tracing::info!(file = %path, "the policy file is the policy in force"),
        Ok(Some(Offer::Proposed { proposal_id })) => {
            tracing::warn!(file = %path, proposal_id, "the policy file changed; it comes into force when officers approve");
        }
        Ok(None) => tracing::info!(file = %path, "the policy file changed while sealed"),
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::error!(file = %path, error, "the policy file is not taken; the policy in force stays");
        }
    }
}

fn renew_tls(files: &Files, tls: &watch::Sender<Arc<ServerConfig>>) {
    match files.tls.load() {
        Ok(config) => {
            tls.send_replace(config);
            tracing::info!(
                "certificates and revocation lists were read again; connections are made anew and go by them"
            );
        }
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, "certificates or revocation lists do not do; new connections go by the former ones");
        }
    }
}

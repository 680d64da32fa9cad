//! `sys/health`, `sys/seal-status`, `sys/unseal`: how the custodian is, for people, load balancers and the `bao` command line.

use http::StatusCode;
use serde_json::{Value as Json, json};
use time::OffsetDateTime;

use super::Server;
use super::answer::{Answer, Content, Failure};
use super::json::Object;
use super::router::parameter;
use super::state::{OpenFailed, SealStatus};
use crate::custodian::requester::Requester;
use crate::custodian::seal::UnsealError;
use crate::custodian::seal::config::SealKind;
use crate::custodian::seal::share::Share;
use crate::custodian::store::StoreError;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn store_failed(failed: &StoreError) -> Failure {
    tracing::error!(error = failed as &dyn std::error::Error, "the store does not tell of its seals");
    Failure::internal(&failed.to_string())
}

/// The status that the query gives for a state, or the usual one.
fn code(query: &str, parameter_name: &str, usual: StatusCode) -> Result<StatusCode, Failure> {
    let Some(text) = parameter(query, parameter_name) else { return Ok(usual) };
    let code = text.parse().ok().filter(|code| (200..600).contains(code));
    code.and_then(|code: u16| StatusCode::from_u16(code).ok()).ok_or_else(|| Failure::empty(StatusCode::BAD_REQUEST))
}

/// `GET sys/health`.
pub(super) async fn health(server: &Server, query: &str) -> Result<Answer, Failure> {
    let active = code(query, "activecode", StatusCode::OK)?;
    let sealed = code(query, "sealedcode", StatusCode::SERVICE_UNAVAILABLE)?;
    let uninitialized = code(query, "uninitcode", StatusCode::NOT_IMPLEMENTED)?;
    let mut told = json!({
        "initialized": true,
        "sealed": true,
        "standby": true,
        "replication_performance_mode": "unknown",
        "replication_dr_mode": "unknown",
        "server_time_utc": OffsetDateTime::now_utc().unix_timestamp(),
        "version": VERSION,
    });
    let mut tell = |name: &str, value: Json| told.as_object_mut().map(|told| told.insert(name.to_owned(), value));
    let status = if let Some(unsealed) = server.state.unsealed() {
        let health = unsealed.engine.health();
        tell("sealed", false.into());
        tell("standby", false.into());
        tell("replication_performance_mode", "disabled".into());
        tell("replication_dr_mode", "disabled".into());
        tell("cluster_name", server.settings.instance.as_str().into());
        tell("cluster_id", server.cluster_id().await.into());
        let word = |well: bool| if well { "ok" } else { "failed" };
        let (audit, store) = (word(health.audit_ok), word(health.store_ok));
        tell("claviger", json!({ "audit": audit, "store": store, "generation": health.generation }));
        if health.audit_ok && health.store_ok { active } else { StatusCode::INTERNAL_SERVER_ERROR }
    } else {
        match server.state.seal_status().await {
            Ok(Some(_)) => sealed,
            Ok(None) => {
                tell("initialized", false.into());
                uninitialized
            }
            Err(failed) => {
                let cause: &dyn std::error::Error = &failed;
                tracing::error!(error = cause, "the store does not tell of its seals");
                tell("claviger", json!({ "store": "failed" }));
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    };
    Ok(Answer::new(Content::Bare(told)).with_status(status))
}

/// `GET sys/seal-status`, and the answer to `sys/unseal`.
pub(super) async fn seal_status(server: &Server) -> Result<Answer, Failure> {
    let status = server.state.seal_status().await.map_err(|failed| store_failed(&failed))?;
    let is_sealed = server.state.unsealed().is_none();
    Ok(Answer::new(Content::Bare(told(server, status.as_ref(), is_sealed))))
}

fn told(server: &Server, status: Option<&SealStatus>, is_sealed: bool) -> Json {
    let kind = match status.map(|status| status.kind) {
        Some(SealKind::Shares { .. }) | None => "shamir",
        Some(SealKind::Passphrase) => "passphrase",
        Some(SealKind::Pkcs11) => "pkcs11",
        Some(SealKind::Remote) => "transit",
    };
    let progress = status.and_then(|status| status.progress);
    let given = progress.filter(|_| is_sealed).map_or(0, |progress| progress.given);
    let mut told = json!({
        "type": kind,
        "initialized": status.is_some(),
        "sealed": is_sealed,
        "t": progress.map_or(0, |progress| progress.threshold),
        "n": progress.map_or(0, |progress| progress.count),
        "progress": given,
        "nonce": "",
        "version": VERSION,
        "commit_date": "",
        "migration": false,
        "recovery_seal": false,
        "storage_type": server.settings.storage_type,
    });
    if let (false, Some(status), Some(told)) = (is_sealed, status, told.as_object_mut()) {
        told.insert("cluster_name".to_owned(), server.settings.instance.as_str().into());
        told.insert("cluster_id".to_owned(), uuid(status.id).into());
    }
    told
}

/// `GET sys/leader`, which `bao status` asks, too: there is none, as each custodian serves by itself.
pub(super) fn leader() -> Answer {
    let told = json!({
        "ha_enabled": false,
        "is_self": false,
        "active_time": "0001-01-01T00:00:00Z",
        "leader_address": "",
        "leader_cluster_address": "",
    });
    Answer::new(Content::Bare(told))
}

pub(super) fn uuid(bytes: [u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// `POST sys/unseal`: one share, or `reset`. Officers alone may, as wrong shares undo what others gave.
pub(super) async fn unseal(server: &Server, who: &Requester, body: &Object<'_>) -> Result<Answer, Failure> {
    if !who.id.is_officer() {
        return Err(Failure::denied());
    }
    if body.flag("reset")? == Some(true) {
        server.state.reset().await.map_err(|failed| unseal_failure(&failed))?;
        tracing::info!(principal = %who.id, "the shares given so far are forgotten");
        return seal_status(server).await;
    }
    let text = body.text("key")?.filter(|text| !text.is_empty());
    let missing = "'key' must be specified in request body as JSON, or 'reset' set to true";
    let share = Share::parse(text.ok_or_else(|| Failure::bad(missing))?);
    let share = share.map_err(|invalid| Failure::bad(format!("invalid key: {invalid}")))?;
    let index = share.index();
    let taken = server.state.submit(share).await;
    // The audit log is behind the seal, so that the program's own log has to tell this.
    tracing::info!(principal = %who.id, source = %who.source, share = index, taken = taken.is_ok(), "a share was given");
    taken.map_err(|failed| unseal_failure(&failed))?;
    seal_status(server).await
}

fn unseal_failure(failed: &OpenFailed) -> Failure {
    match failed {
        OpenFailed::Seal(error @ (UnsealError::Share(_) | UnsealError::WrongShares)) => {
            Failure::bad(format!("invalid key: {error}"))
        }
        OpenFailed::Unsealed => Failure::bad(failed.to_string()),
        OpenFailed::Store(StoreError::Empty) => {
            Failure::bad("the store was not made yet: run `claviger custodian init`")
        }
        _ => {
            tracing::error!(error = failed as &dyn std::error::Error, "cannot unseal");
            Failure::internal(&failed.to_string())
        }
    }
}

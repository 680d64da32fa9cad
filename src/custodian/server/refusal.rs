//! What the engine's refusals are in the words of the Transit API.
//!
//! OpenBao's and Vault's own texts, because clients go by them (`sdk/helper/keysutil`, `builtin/logical/transit`).

use http::StatusCode;
use serde_json::json;

use super::answer::Failure;
use crate::custodian::approval::ApprovalError;
use crate::custodian::backup::BackupRefused;
use crate::custodian::engine::EngineError;
use crate::custodian::kek::KeyringError;
use crate::names::KekName;

/// What was asked of a KEK. The same cause has another text in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Encrypt, generate.
    Encrypt,
    /// Decrypt, rewrap.
    Decrypt,
    Read,
    Configure,
    Rotate,
    Trim,
    Delete,
    /// Anything else.
    Other,
}

/// The failure of a call about `kek`.
pub(super) fn failure(error: &EngineError, asked: Asked, kek: Option<&KekName>) -> Failure {
    match error {
        EngineError::Keyring(error) => of_keyring(error, asked, kek),
        EngineError::Denied | EngineError::ContextOfOther => Failure::denied(),
        EngineError::DeniedTooOften => Failure::new(StatusCode::TOO_MANY_REQUESTS, error.to_string()),
        EngineError::Gated { proposal_id } => Failure {
            data: Some(json!({ "proposal_id": proposal_id })),
            ..Failure::new(StatusCode::FORBIDDEN, "approval required")
        },
        EngineError::NoSuchProposal | EngineError::NoSuchGrant | EngineError::NoSuchRevocation => {
            Failure::empty(StatusCode::NOT_FOUND)
        }
        EngineError::Audit(_)
        | EngineError::Store(_)
        | EngineError::Ledger(_)
        | EngineError::Stale
        | EngineError::Halted => {
            tracing::error!(error = error as &dyn std::error::Error, "a request cannot be done");
            Failure::internal(&error.to_string())
        }
        // Some proxies ask again, of another custodian and for the same id, when an answer was lost: that may pass.
        EngineError::Busy | EngineError::BranchTaken => {
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
        }
        EngineError::Random(_) | EngineError::Backup(BackupRefused::Random) => Failure::internal(&error.to_string()),
        EngineError::Approval(
            ApprovalError::NotAnOfficer
            | ApprovalError::OwnRequest
            | ApprovalError::OtherCertificate
            | ApprovalError::NotTheRequester,
        ) => Failure::new(StatusCode::FORBIDDEN, error.to_string()),
        EngineError::Backup(_)
        | EngineError::Destruction(_)
        | EngineError::CertificateTooLong
        | EngineError::NotDerived
        | EngineError::Approval(_)
        | EngineError::Proposal(_)
        | EngineError::Grant(_)
        | EngineError::Revocation(_)
        | EngineError::Labels(_)
        | EngineError::TooMany
        | EngineError::StillNeeded(_)
        | EngineError::LedgerNotWhole(_)
        | EngineError::HasBranchKeys
        | EngineError::TrimsBranchKeys
        | EngineError::NoSuchSite
        | EngineError::Policy(_)
        | EngineError::PolicyTooLong => Failure::bad(error.to_string()),
    }
}

fn of_keyring(error: &KeyringError, asked: Asked, kek: Option<&KekName>) -> Failure {
    match error {
        KeyringError::Unknown if asked == Asked::Read => Failure::empty(StatusCode::NOT_FOUND),
        KeyringError::Disabled => Failure::new(StatusCode::FORBIDDEN, "encryption key is disabled"),
        KeyringError::TooLong(_) => Failure::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        KeyringError::Random(_) => Failure::internal(&error.to_string()),
        _ => Failure::bad(text(error, asked, kek)),
    }
}

/// Vault's text for a cause that lies with the request.
pub(super) fn text(error: &KeyringError, asked: Asked, kek: Option<&KekName>) -> String {
    let name = kek.map_or("", KekName::as_str);
    let known = match (error, asked) {
        (KeyringError::Unknown, Asked::Configure) => return format!("no existing key named {name} could be found"),
        (KeyringError::Unknown, Asked::Delete) => {
            return format!("error deleting policy {name}: could not delete key; not found");
        }
        (KeyringError::DeletionNotAllowed, _) => {
            return format!("error deleting policy {name}: deletion is not allowed for this key");
        }
        (KeyringError::Exists, _) => return format!("key {name} already existed"),
        (KeyringError::BadChange(refused), _) => return refused.to_string(),
        (KeyringError::Unknown, Asked::Rotate) => "key not found",
        (KeyringError::Unknown, Asked::Trim) => "invalid key name",
        (KeyringError::Unknown, _) => "encryption key not found",
        (KeyringError::SoftDeleted, _) => "refusing to use soft-deleted key",
        (KeyringError::Disabled, _) => "encryption key is disabled",
        (KeyringError::VersionTooOld, _) => "ciphertext or signature version is disallowed by policy (too old)",
        (KeyringError::VersionUnknown, Asked::Decrypt) => "invalid ciphertext: version is too new",
        (KeyringError::VersionUnknown, _) => "requested version for encryption is higher than the latest key version",
        (KeyringError::VersionNotForEncryption, _) => {
            "requested version for encryption is less than the minimum encryption key version"
        }
        (KeyringError::NotAuthentic, _) => "cipher: message authentication failed",
        (KeyringError::MissingContext, _) => {
            "missing 'context' for key derivation; the key was created using a derived key, which means additional, \
             per-request information must be included in order to perform operations with the key"
        }
        (
            KeyringError::TooLong(_) | KeyringError::TooMany | KeyringError::NotApproved(_) | KeyringError::Random(_),
            _,
        ) => return error.to_string(),
    };
    known.to_owned()
}

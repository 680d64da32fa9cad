//! Why a KEK does not do what it is asked. Where the Transit API has a text of its own for a cause, the variant quotes it.

use crate::crypto::{NotApproved, RandomFailed};

use super::{AAD_MAX, CONTEXT_MAX, PLAINTEXT_MAX, VERSIONS_MAX};

/// Why the KEK does not do it.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// There is no KEK of that name. Transit: 400 `encryption key not found` where a key is used; where it is changed, 400
    /// `no existing key named %s could be found` (config), `key not found` (rotate), `invalid key name` (trim),
    /// `could not delete key; not found` (delete); where it is read, 404 without a text.
    #[error("there is no KEK of that name")]
    Unknown,
    /// There is one already. Transit: 200 with a warning, `key %s already existed`.
    #[error("a KEK of that name exists")]
    Exists,
    /// The KEK is switched off. Ours alone: 403 `encryption key is disabled`.
    #[error("the KEK is disabled")]
    Disabled,
    /// The KEK is set aside for deletion. Transit: 400 `refusing to use soft-deleted key`.
    #[error("the KEK is soft-deleted")]
    SoftDeleted,
    /// The ciphertext's version is below the oldest that is opened. Transit: 400
    /// `ciphertext or signature version is disallowed by policy (too old)`.
    #[error("the KEK version is older than the oldest that is opened")]
    VersionTooOld,
    /// The version is above the newest. Transit: 400 `invalid ciphertext: version is too new` of a ciphertext, and
    /// `requested version for encryption is higher than the latest key version` of a version to encrypt under.
    #[error("the KEK has no such version")]
    VersionUnknown,
    /// The version does not encrypt any more. Transit: 400
    /// `requested version for encryption is less than the minimum encryption key version`.
    #[error("the KEK version does not encrypt any more")]
    VersionNotForEncryption,
    /// Ciphertext, context or associated data are not those that belong together. Transit: 400
    /// `cipher: message authentication failed` (AES), `chacha20poly1305: message authentication failed`.
    #[error("not what was encrypted under this KEK, context and associated data")]
    NotAuthentic,
    /// A derived KEK needs a context. Transit: 400 `missing 'context' for key derivation; the key was created using a derived key,
    /// which means additional, per-request information must be included in order to perform operations with the key`.
    #[error("the KEK is derived and there is no context")]
    MissingContext,
    /// What was given is longer than the custodian takes. Ours alone: 413.
    #[error(transparent)]
    TooLong(#[from] Part),
    /// A change that a KEK does not take.
    #[error(transparent)]
    BadChange(#[from] ChangeRefused),
    /// The KEK, or the keyring, is full.
    #[error("no more KEKs, or no more than {VERSIONS_MAX} versions of one")]
    TooMany,
    /// Its configuration does not allow to delete it. Transit: 400
    /// `error deleting policy %s: deletion is not allowed for this key`, with the name.
    #[error("the KEK may not be deleted")]
    DeletionNotAllowed,
    /// Its algorithm is not one of this build's. Ours alone: 400.
    #[error(transparent)]
    NotApproved(#[from] NotApproved),
    /// No randomness on this machine.
    #[error(transparent)]
    Random(#[from] RandomFailed),
}

/// What is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Part {
    /// What is to be encrypted.
    #[error("the plaintext has more than {PLAINTEXT_MAX} bytes")]
    Plaintext,
    /// The context.
    #[error("the context has more than {CONTEXT_MAX} bytes")]
    Context,
    /// The associated data.
    #[error("the associated data has more than {AAD_MAX} bytes")]
    AssociatedData,
}

/// A change that a KEK does not take. Transit answers each with 400 and the text quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefused {
    /// `cannot set min decryption version of %d, latest key version is %d`.
    #[error("cannot set min decryption version of {asked}, latest key version is {latest}")]
    MinDecryptionAboveLatest {
        /// What was asked for.
        asked: u32,
        /// The newest version.
        latest: u32,
    },
    /// `cannot set min encryption version of %d, latest key version is %d`.
    #[error("cannot set min encryption version of {asked}, latest key version is {latest}")]
    MinEncryptionAboveLatest {
        /// What was asked for.
        asked: u32,
        /// The newest version.
        latest: u32,
    },
    /// `cannot set min encryption/decryption values; min encryption version of %d must be greater than or equal to min decryption
    /// version of %d`.
    #[error(
        "cannot set min encryption/decryption values; min encryption version of {min_encryption} must be greater than or equal \
         to min decryption version of {min_decryption}"
    )]
    MinEncryptionBelowMinDecryption {
        /// The oldest version that would encrypt.
        min_encryption: u32,
        /// The oldest version that would be opened.
        min_decryption: u32,
    },
    /// `min encryption version should not be less than min available version`; so it is not set back to 0 after a trim.
    #[error("min encryption version should not be less than min available version")]
    MinEncryptionBelowAvailable,
    /// `min decryption version should not be less then min available version`, as Transit spells it.
    #[error("min decryption version should not be less then min available version")]
    MinDecryptionBelowAvailable,
    /// `auto rotate period must be 0 to disable or at least an hour`.
    #[error("auto rotate period must be 0 to disable or at least an hour")]
    AutoRotatePeriod,
    /// `minimum available version cannot be decremented`.
    #[error("minimum available version cannot be decremented")]
    AvailableDecremented,
    /// `minimum available version cannot be set when minimum encryption version is not set`.
    #[error("minimum available version cannot be set when minimum encryption version is not set")]
    AvailableWithoutMinEncryption,
    /// `minimum available version cannot be greater than minmum encryption version`, as Transit spells it.
    #[error("minimum available version cannot be greater than minmum encryption version")]
    AvailableAboveMinEncryption,
    /// `minimum available version cannot be greater than minimum decryption version`.
    #[error("minimum available version cannot be greater than minimum decryption version")]
    AvailableAboveMinDecryption,
    /// `minimum available version should be positive`.
    #[error("minimum available version should be positive")]
    AvailableZero,
}

pub(super) fn check_length(part: Part, bytes: &[u8], max: usize) -> Result<(), Part> {
    if bytes.len() > max { Err(part) } else { Ok(()) }
}

//! Why a seal is not made or not opened.

use crate::crypto::RandomFailed;

use super::pkcs11::Pkcs11Error;
use super::remote::RemoteFailed;
use super::share::ShareError;

/// Why a seal is not made or not opened.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// None, or more than two.
    #[error("a store has one or two seals")]
    SealCount,
    /// Not M of N as it should be.
    #[error("shares are 2 of 3 and up: 2 to COUNT of 3 to 255")]
    Threshold,
    /// PBKDF2 iterations out of bounds.
    #[error("{0} PBKDF2 iterations are out of bounds")]
    Iterations(u32),
    /// The bytes are not a list of seals of this version.
    #[error("not a list of seals of this version")]
    NotSeals,
    /// The store has no seal of the kind that was tried.
    #[error("the store has no seal of this kind")]
    NoSuchSeal,
    /// A share is not one of this seal's, or was given before.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// Enough shares were given, but at least one is not what was handed out. All are forgotten; start again.
    #[error("at least one of the shares is wrong; all given so far are forgotten")]
    WrongShares,
    /// The passphrase is another, or the seal was altered: cryptography cannot tell which.
    #[error("wrong passphrase for this seal, or the seal was altered")]
    WrongPassphrase,
    /// What the token or the other OpenBao gave back does not open the root key.
    #[error("the wrapping key that was given back does not open this seal, or the seal was altered")]
    WrongKey,
    /// The root key opened, but the list of seals is not the one that was written with it.
    #[error("the list of seals was altered")]
    Altered,
    /// The token.
    #[error(transparent)]
    Pkcs11(#[from] Pkcs11Error),
    /// The other OpenBao.
    #[error(transparent)]
    Remote(#[from] RemoteFailed),
    /// The program is shutting down.
    #[error("the work was given up")]
    GivenUp(#[from] tokio::task::JoinError),
    /// No randomness on this machine.
    #[error(transparent)]
    Random(#[from] RandomFailed),
}

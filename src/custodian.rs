//! The custodian: KEKs, the seal and the store that they live behind, and the audit entry before each use.
//!
//! What is here runs inside the proxy's process ([`embedded`]), for demonstration and tests only: whoever controls that
//! process then holds the KEKs too. The engine itself does not care who calls it.
//!
//! **Invariant:** an [`engine::Engine`] exists only while unsealed.
//! **Invariant:** no key is used, made or changed before the decision about it stands durably in the audit log.

pub mod audit;
pub mod authorise;
pub mod barrier;
pub mod embedded;
pub mod engine;
pub mod kek;
pub mod keyring;
pub mod passphrase;
pub mod seal;
pub mod store;

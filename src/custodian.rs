//! The custodian: KEKs, the seal and the store that they live behind, and the audit entry before each use.
//!
//! The [`engine`] decides, writes the decision into the [`audit`] log and then acts, whoever calls it: in the proxy's process
//! ([`embedded`]) it is for demonstration and tests only, because whoever controls that process then holds the KEKs too.
//!
//! **Invariant:** an [`engine::Engine`] exists only while unsealed.
//! **Invariant:** no key is used, made or changed before the decision about it stands durably in the audit log.

pub mod approval;
pub mod audit;
pub mod backup;
pub mod barrier;
pub mod destruction;
pub mod embedded;
pub mod engine;
pub mod grant;
pub mod identity;
pub mod kek;
pub mod passphrase;
pub mod policy;
pub mod requester;
pub mod revocation;
pub mod seal;
pub mod server;
pub mod store;

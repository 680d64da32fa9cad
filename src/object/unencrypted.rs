//! Objects that were in a bucket before the proxy, while they are being encrypted.
//!
//! `claviger migrate` seals a manifest of what it finds without an envelope: key, ETag and size. Only what the manifest lists is
//! served without one, and only where the bucket's configuration says so. The job then encrypts each object that is listed, on the
//! condition that it still is what was listed, and closes the manifest.
//!
//! **Invariant:** an object without an envelope is served only if key, ETag and size of the very answer stand in the manifest
//! that was sealed last. What else lies there, was put there by somebody who may not, and is refused.
//!
//! **Invariant:** where the manifest cannot be read, or is older than one that was seen, nothing is served without an envelope.

mod checked;
mod encrypt;
mod known;
pub mod manifest;
mod reading;
mod settled;
mod store;

pub(super) use checked::Pieces;
pub use encrypt::Encrypted;
pub(super) use known::Manifests;
pub use store::{Draft, Found, Pages};

/// Why an object was not migrated, or a bucket.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The configuration does not say that the bucket is migrated.
    #[error(
        "the bucket's configuration does not say unencrypted = \"migrate\": no proxy would serve what is not encrypted yet"
    )]
    NotMigrating,
    /// The manifest that is there is older than one that was seen.
    #[error("the manifest is older than one that was there before: somebody put it back")]
    OldManifest,
    /// The manifest that was there is not.
    #[error("the manifest that was there before is gone: somebody took it away")]
    Hidden,
    /// There is none to go on with.
    #[error(
        "there is no manifest. If none was sealed yet, seal the first one with --begin. If one was, somebody took it away, who may \
         have put objects of his own into the bucket, too: do not say --begin before you know what happened"
    )]
    NoManifest,
    /// There is one to go on with.
    #[error(
        "there is a manifest already, of run {0}: leave --begin out to go on with it; --restart seals a new one in its place"
    )]
    AlreadyBegun(String),
    /// It is not the one that was to be gone on with.
    #[error(
        "the manifest that is there is of run {is}, and not of {wanted}: somebody sealed another one, or put it back"
    )]
    NotThatRun {
        /// The run that is there.
        is: String,
        /// The run that was given.
        wanted: String,
    },
    /// It is listed, and nothing else proves what it is.
    #[error("it is not encrypted yet: the bucket is being migrated, and nothing but its manifest says what it is")]
    NotYet,
    /// A page of the manifest is missing.
    #[error("page {0} of the manifest is missing")]
    MissingPage(u32),
    /// Another run of the job took over.
    #[error("another manifest was sealed meanwhile; run the job again to go on with that one")]
    OtherRun,
    /// More objects than a manifest holds.
    #[error("the bucket has more than {0} objects without an envelope, which is more than a manifest holds")]
    TooMany(usize),
    /// More objects than are put in order here.
    #[error(
        "the storage server lists keys in another order than that of their bytes, and the bucket has more than {0} bytes of keys of \
         objects without an envelope, which is more than are put in order in memory"
    )]
    TooManyUnordered(usize),
    /// S3 replaces no old version.
    #[error("this old version is not encrypted, and S3 cannot replace it. Delete it when it is no longer needed")]
    OldVersion,
    /// In a bucket with versions, what was replaced stays.
    #[error("it was encrypted as a new version; the version {0} is as it was. Delete it when it is no longer needed")]
    VersionRemains(String),
}

//! Multipart uploads, without a database: what an upload is, and what its parts are, stands in the state bucket.
//!
//! Below `upload/`, and there below the hash of the storage server's bucket and upload id:
//! `record` is the upload ([`crate::format::upload`]); `part/NNNNN/MARKER` an empty object for each attempt to upload a
//! part, whose sealed name says all of it; `held/NNNNN/ATTEMPT` the stored bytes of parts that can only be the last.
//!
//! **Invariant:** lengths, attempts and checksums of parts come from authentic markers, never from the storage server's
//! word; which attempt counts is what the client says, whose part ETags name attempts.

mod abort;
mod again;
mod checksum_choice;
mod complete;
mod copy_part;
mod create;
pub mod leftover;
mod list_parts;
mod part;
mod state;
mod unencrypted;

pub use checksum_choice::ChecksumChoiceError;
pub use complete::CompleteError;

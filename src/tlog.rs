//! Append-only logs that nobody can quietly rewrite: durable, tiled Merkle trees on the local disk.
//!
//! [`log::Log`] appends, [`reader::Reader`] reads and proves, [`verify::verify`] checks a whole log offline, [`witness`] cosigns what other
//! parties' logs say. The formats are those of C2SP ([tlog-tiles](https://c2sp.org/tlog-tiles), [tlog-checkpoint](https://c2sp.org/tlog-checkpoint),
//! [signed-note](https://c2sp.org/signed-note), [tlog-cosignature](https://c2sp.org/tlog-cosignature)) over RFC 6962 trees, so that the
//! folder, served as static files, is a log that any tlog-tiles client reads:
//!
//! ```text
//! checkpoint                 the latest signed checkpoint
//! tile/<level>/<index>       hashes, 256 to a tile; partial ones in <index>.p/<width>
//! tile/entries/<index>       entries, 256 to a bundle
//! journal/<first index>      ours: entries that are durable, but not in full bundles yet; while it is written, zeros after them
//! journal/spare              ours: zeros, of which the next segment of a busy log is made
//! lock                       ours: held by the process that appends
//! ```
//!
//! An entry goes into the journal, is durable, is acknowledged with its receipt, and only then gets into tiles under a signed checkpoint, at
//! most one interval later. After a crash the journal is replayed. Entries are opaque bytes here.
//!
//! **Invariant:** what was acknowledged is in every later checkpoint, or the log refuses to open.
//!
//! What a log cannot notice by itself: that someone put back the whole folder as it was once, or cut off acknowledged batches that no
//! checkpoint covers yet. Older checkpoints and receipts kept elsewhere show both, and a witness refuses to cosign the first.

pub mod checkpoint;
mod edge;
pub mod fuzz;
mod journal;
pub mod log;
pub mod merkle;
pub mod note;
pub mod proof;
pub mod proof_file;
mod publisher;
pub mod reader;
mod recover;
mod shared;
mod shelf;
pub mod storage;
#[cfg(test)]
pub(crate) mod testing;
pub mod tile;
pub mod verify;
pub mod witness;
mod writer;

pub use recover::OpenError;
pub use shared::{Failure, Lag, LogError, Step};
pub use shelf::ReadError;
pub use writer::Receipt;

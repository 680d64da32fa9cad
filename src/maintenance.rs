//! Jobs over what is stored: rewrap, census, re-encrypt, migrate, verify, export, gc.
//!
//! They run beside the applications, on any number of machines, are resumed from checkpoints in the state bucket, and are safe to run
//! twice. A job over objects is a [`Work`](work::Work); [`run`](job::run) walks the listing and gives it one object after the other.
//!
//! **Invariant:** nothing is printed here: [`progress`] counts, and whoever started the job shows it.

pub mod census;
pub mod checkpoint;
pub mod export;
mod frontier;
pub mod gc;
pub mod job;
pub mod keys;
pub mod migrate;
mod order;
pub mod progress;
pub mod re_encrypt;
pub mod rebind;
pub mod renewing;
pub mod verify;
mod walk;
pub mod work;

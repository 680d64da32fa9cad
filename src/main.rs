//! The `claviger` binary: everything is in the library's `cli`, but the allocator.
//!
//! **Invariant:** memory of the heap that was freed holds nothing of what was in it, whoever had it: a secret that hyper or rustls copied
//! into a buffer of theirs, or that a vector left behind when it grew, is gone with it.

use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

/// glibc's keeps what a burst of requests took, as small things that live on lie between; this one gives it back within seconds.
#[cfg(target_env = "gnu")]
use tikv_jemallocator::Jemalloc as Inner;

#[cfg(not(target_env = "gnu"))]
use std::alloc::System as Inner;

#[global_allocator]
static ALLOCATOR: ZeroAlloc<Inner> = ZeroAlloc(Inner);

fn main() -> ExitCode {
    claviger::cli::main()
}

//! The `claviger` binary: everything is in the library's `cli`.

use std::process::ExitCode;

/// glibc's keeps what a burst of requests took, as small things that live on lie between; this one gives it back within seconds.
#[cfg(target_env = "gnu")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    claviger::cli::main()
}

//! What keeps others out of the memory of a process that has keys in it.

use anyhow::{Context as _, Result};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core file, no debugger and no look into `/proc/…/mem`, but for the administrator of the machine.
pub(super) fn close_memory() -> Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).context("cannot switch core files off")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("cannot close this process's memory to debuggers")
}

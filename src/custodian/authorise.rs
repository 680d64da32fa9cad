//! Who may do what with which KEK.

use crate::custody::caller::Caller;

use super::audit::{Decision, Use};

/// Decides about each use of a KEK.
pub trait Authoriser: Send + Sync {
    /// Whether `who` may do `what`.
    fn decide(&self, who: &Caller, what: &Use) -> Decision;
}

/// Allows everyone everything: right only where custodian and proxy are one process, which decides about its clients itself.
#[derive(Debug, Clone, Copy)]
pub struct EveryoneInProcess;

impl Authoriser for EveryoneInProcess {
    fn decide(&self, _who: &Caller, _what: &Use) -> Decision {
        Decision::Allow
    }
}

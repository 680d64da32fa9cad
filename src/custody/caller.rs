//! On whose behalf, and why, a key is used.

use crate::names::Principal;

use super::reason::Reason;

/// The end principal and its reason. Leases are kept apart by it, so that one client's grant does not open for another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The client of the proxy.
    pub principal: Principal,
    /// Why it asks.
    pub reason: Reason,
}

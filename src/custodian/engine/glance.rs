//! What may be looked at without an entry in the log: what a call that was written down leaves behind, and whether one would be allowed.

use crate::custodian::audit::{Action, Decision, Use};
use crate::custodian::kek::KekInfo;
use crate::custodian::requester::Requester;
use crate::names::KekName;

use super::Engine;

impl Engine {
    /// The KEK as it is now, to answer a change of it that was allowed.
    pub fn glance(&self, name: &KekName) -> Option<KekInfo> {
        let view = self.view();
        let mut info = view.snapshot.keks.get(name)?.value.info(name);
        info.disabled |= view.is_stopped(name);
        Some(info)
    }

    /// Whether the requester may do what concerns no key. For what is asked for so often that the log would consist of nothing else,
    /// and gives no key away: reading the log itself. What is not allowed is then asked for with [`Engine::authorise`], and logged.
    pub fn may(&self, who: &Requester, action: Action) -> bool {
        let Ok(view) = self.fresh() else { return false };
        self.decide(&view, who, &Use::of_custodian(action), None).decision == Decision::Allow
    }
}

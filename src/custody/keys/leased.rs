//! Which branch keys are alive for whom: so that a denial reaches also those that streams hold and the cache let go.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use crate::custody::branch::Material;

use super::reading::ReadId;

/// Weak references to what was leased for reading, by what it was leased for.
#[derive(Default)]
pub(super) struct Leased {
    keys: HashMap<ReadId, Vec<Weak<Material>>>,
    held: usize,
    prune_at: usize,
}

impl Leased {
    pub(super) fn add(&mut self, id: &ReadId, material: &Arc<Material>) {
        if self.held >= self.prune_at {
            self.prune();
        }
        self.keys.entry(id.clone()).or_default().push(Arc::downgrade(material));
        self.held += 1;
    }

    /// Revokes all that was leased for `id`.
    pub(super) fn revoke(&mut self, id: &ReadId) {
        let keys = self.keys.remove(id).unwrap_or_default();
        self.held -= keys.len();
        keys.iter().filter_map(Weak::upgrade).for_each(|key| key.revoke());
    }

    /// Forgets what nobody holds any more. Done each time that their number has doubled, it costs little.
    fn prune(&mut self) {
        self.keys.retain(|_, keys| {
            keys.retain(|key| key.strong_count() > 0);
            !keys.is_empty()
        });
        self.held = self.keys.values().map(Vec::len).sum();
        self.prune_at = (2 * self.held).max(64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custody::fake;
    use crate::secret::Secret;

    fn lease(leased: &mut Leased, branch: u8, principal: &str) -> Arc<Material> {
        let (kek, context) = (fake::kek(), fake::context(branch));
        let id = ReadId { kek: kek.clone(), context: context.clone(), caller: fake::caller(principal) };
        let secret = Secret::from_slice(&[7; 32]).expect("a key");
        let material = Arc::new(Material::new(kek, context, fake::garbage(1), secret));
        leased.add(&id, &material);
        material
    }

    #[test]
    fn a_denial_reaches_all_of_one_caller_and_branch_key_and_nothing_else() {
        let mut leased = Leased::default();
        let keys = [(1, "alice"), (1, "alice"), (1, "bob"), (2, "alice")];
        let keys = keys.map(|(branch, principal)| lease(&mut leased, branch, principal));
        leased.revoke(&ReadId { kek: fake::kek(), context: fake::context(1), caller: fake::caller("alice") });
        assert_eq!(keys.map(|key| key.is_revoked()), [true, true, false, false]);
    }

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let mut leased = Leased::default();
        let held = lease(&mut leased, 1, "alice");
        for branch in 0..=255 {
            for principal in ["alice", "bob"] {
                lease(&mut leased, branch, principal);
            }
        }
        assert!(leased.keys.len() <= 65 && leased.held <= 65, "{}", leased.held);
        leased.revoke(&ReadId { kek: fake::kek(), context: fake::context(1), caller: fake::caller("alice") });
        assert!(held.is_revoked());
    }
}

//! What a backup's head says of the branch keys below it.

use serde_json::{Value, json};

use crate::crypto;
use crate::custodian::approval::json::{hex, rfc3339, unhex, unix_s};
use crate::names::BranchId;

/// The branch keys of a KEK that were made before a moment: how many, and a hash of which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerSum {
    before_unix_s: i64,
    branch_keys: u64,
    sha256: [u8; 32],
}

impl LedgerSum {
    /// Of branch keys and when each was made, in any order.
    pub fn of(before_unix_s: i64, branch_keys: impl IntoIterator<Item = (BranchId, i64)>) -> Self {
        let before = branch_keys.into_iter().filter(|(_, created_unix_s)| *created_unix_s < before_unix_s);
        let mut ids: Vec<[u8; 16]> = before.map(|(id, _)| *id.as_bytes()).collect();
        ids.sort_unstable();
        ids.dedup();
        Self { before_unix_s, branch_keys: ids.len() as u64, sha256: crypto::sha256(ids.as_flattened()) }
    }

    /// How many they are.
    pub fn branch_keys(&self) -> u64 {
        self.branch_keys
    }

    /// Whether those are just the ones that are meant; such as were made later may be among them.
    pub fn holds(&self, branch_keys: impl IntoIterator<Item = (BranchId, i64)>) -> bool {
        Self::of(self.before_unix_s, branch_keys) == *self
    }

    pub(super) fn to_json(&self) -> Value {
        let before = rfc3339(self.before_unix_s);
        json!({ "before": before, "branch_keys": self.branch_keys, "ids_sha256": hex(&self.sha256) })
    }

    pub(super) fn parse(value: &Value) -> Option<Self> {
        Some(Self {
            before_unix_s: unix_s(value["before"].as_str()?)?,
            branch_keys: value["branch_keys"].as_u64()?,
            sha256: unhex(value["ids_sha256"].as_str()?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_those_that_were_meant_and_whatever_came_later() {
        let one = |number: u8, created: i64| (BranchId::from_bytes([number; 16]), created);
        let sum = LedgerSum::of(100, [one(3, 99), one(1, 5), one(2, 100)]);
        assert_eq!(sum.branch_keys(), 2);
        assert_eq!(LedgerSum::parse(&sum.to_json()), Some(sum.clone()));
        assert!(sum.holds([one(1, 5), one(3, 99)]) && sum.holds([one(3, 99), one(1, 5), one(7, 100), one(1, 5)]));
        for other in [vec![one(1, 5)], vec![one(1, 5), one(4, 99)], vec![one(1, 5), one(3, 100)], vec![]] {
            assert!(!sum.holds(other.clone()), "{other:?}");
        }
        assert!(!sum.holds([one(1, 5), one(3, 99), one(4, 99)]), "one that was not there");
    }
}

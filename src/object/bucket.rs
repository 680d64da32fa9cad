//! Buckets: which name they have on the storage server, and which keys encrypt them.
//!
//! **Invariant:** the state bucket, and the physical name of a bucket that goes by another logical name, are
//! no names for a client: looking them up finds nothing, whatever the operation.

use std::collections::{HashMap, HashSet};

use crate::names::{KekName, LogicalBucket, WriterDomain};

/// What becomes of objects that were stored without a proxy, and have no envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unencrypted {
    /// They are refused.
    #[default]
    Refuse,
    /// Those that the bucket's manifest lists are served as they are, until `claviger migrate` has encrypted them.
    Migrate,
}

/// Which keys encrypt and open a bucket's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRule {
    /// The KEK of new objects.
    pub kek: KekName,
    /// Further KEKs that a client may choose by `x-amz-server-side-encryption-aws-kms-key-id`, and whose objects open.
    pub further_keks: Vec<KekName>,
    /// KEKs of old objects: they open, but nothing new is encrypted under them.
    pub former_keks: Vec<KekName>,
    /// The writer domains whose objects are opened.
    pub accept_writers: Vec<WriterDomain>,
    /// What becomes of objects without an envelope.
    pub unencrypted: Unencrypted,
}

impl KeyRule {
    /// Whether an object under `kek` may be opened.
    pub fn opens(&self, kek: &KekName) -> bool {
        self.encrypts(kek) || self.former_keks.contains(kek)
    }

    /// Whether a client may choose `kek` for a new object.
    pub fn encrypts(&self, kek: &KekName) -> bool {
        *kek == self.kek || self.further_keks.contains(kek)
    }
}

/// A bucket that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketRule {
    /// Its name for clients, to which its objects are bound.
    pub name: LogicalBucket,
    /// Its name on the storage server.
    pub physical: String,
    /// Its keys.
    pub keys: KeyRule,
}

/// The table of buckets is contradictory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketsError {
    /// Two rules for one logical name.
    #[error("bucket {0} is configured twice")]
    Duplicate(LogicalBucket),
    /// Two logical buckets on one physical one.
    #[error("the storage bucket {0} is used by two buckets")]
    SharedPhysical(String),
    /// A bucket that would be the state bucket.
    #[error("bucket {0} would lie in the state bucket")]
    StateBucket(LogicalBucket),
}

/// A bucket as a request sees it.
#[derive(Debug, Clone, Copy)]
pub struct Bucket<'a> {
    /// Its name for clients.
    pub name: &'a LogicalBucket,
    /// Its name on the storage server.
    pub physical: &'a str,
    /// Its keys.
    pub keys: &'a KeyRule,
}

/// All buckets: those that the configuration names, and the rule for every other one, if there is one.
#[derive(Debug)]
pub struct Buckets {
    rules: HashMap<LogicalBucket, BucketRule>,
    logical_of: HashMap<String, LogicalBucket>,
    others: Option<KeyRule>,
    /// Names of buckets on other storage servers.
    elsewhere: HashSet<LogicalBucket>,
    state_bucket: String,
}

impl Buckets {
    /// Checks the table. `others` is the rule for buckets that have none of their own; without it they do not exist.
    ///
    /// # Errors
    /// [`BucketsError`].
    pub fn new(rules: Vec<BucketRule>, others: Option<KeyRule>, state_bucket: String) -> Result<Self, BucketsError> {
        let (rules_of, logical_of, elsewhere) = (HashMap::new(), HashMap::new(), HashSet::new());
        let mut buckets = Self { rules: rules_of, logical_of, others, elsewhere, state_bucket };
        for rule in rules {
            if rule.physical == buckets.state_bucket || rule.name.as_str() == buckets.state_bucket {
                return Err(BucketsError::StateBucket(rule.name));
            }
            if buckets.rules.contains_key(&rule.name) {
                return Err(BucketsError::Duplicate(rule.name));
            }
            if buckets.logical_of.insert(rule.physical.clone(), rule.name.clone()).is_some() {
                return Err(BucketsError::SharedPhysical(rule.physical));
            }
            buckets.rules.insert(rule.name.clone(), rule);
        }
        Ok(buckets)
    }

    /// The same, but that these buckets lie on other storage servers: here they do not exist, whatever the rule for others says.
    #[must_use]
    pub fn without(self, elsewhere: impl IntoIterator<Item = LogicalBucket>) -> Self {
        Self { elsewhere: elsewhere.into_iter().collect(), ..self }
    }

    /// The buckets that have a rule of their own.
    pub fn named(&self) -> impl Iterator<Item = &LogicalBucket> {
        self.rules.keys()
    }

    /// Whether buckets exist that have no rule of their own.
    pub fn has_others(&self) -> bool {
        self.others.is_some()
    }

    /// The bucket that clients call `name`; `None` when there is no rule for it, so that for clients it does not exist.
    pub fn find<'a>(&'a self, name: &'a LogicalBucket) -> Option<Bucket<'a>> {
        if let Some(rule) = self.rules.get(name) {
            return Some(Bucket { name: &rule.name, physical: &rule.physical, keys: &rule.keys });
        }
        let keys = self.others.as_ref()?;
        let taken = name.as_str() == self.state_bucket
            || self.logical_of.contains_key(name.as_str())
            || self.elsewhere.contains(name);
        (!taken).then_some(Bucket { name, physical: name.as_str(), keys })
    }

    /// What clients call the storage server's bucket `physical`; `None` when they may not know of it.
    pub fn logical_name(&self, physical: &str) -> Option<LogicalBucket> {
        if let Some(name) = self.logical_of.get(physical) {
            return Some(name.clone());
        }
        let name = LogicalBucket::new(physical).ok()?;
        self.find(&name).is_some_and(|bucket| bucket.physical == physical).then_some(name)
    }

    /// The name of the state bucket on the storage server.
    pub fn state_bucket(&self) -> &str {
        &self.state_bucket
    }

    /// All KEKs that objects may be under, former ones too.
    pub fn all_keks(&self) -> Vec<KekName> {
        let rules = self.rules.values().map(|rule| &rule.keys).chain(&self.others);
        let all = rules.flat_map(|keys| [&keys.kek].into_iter().chain(&keys.further_keks).chain(&keys.former_keks));
        all.cloned().collect()
    }

    /// All KEKs that the configuration names, for checks at start.
    pub fn keks(&self) -> Vec<&KekName> {
        let rules = self.rules.values().map(|rule| &rule.keys).chain(&self.others);
        let mut keks: Vec<_> = rules.flat_map(|keys| [&keys.kek].into_iter().chain(&keys.further_keks)).collect();
        keks.sort();
        keks.dedup();
        keks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> KeyRule {
        let kek = KekName::new("demo").expect("legal");
        let (further_keks, former_keks, accept_writers) = (Vec::new(), Vec::new(), Vec::new());
        KeyRule { kek, further_keks, former_keks, accept_writers, unencrypted: Unencrypted::Refuse }
    }

    fn name(name: &str) -> LogicalBucket {
        LogicalBucket::new(name).expect("legal")
    }

    fn rule(logical: &str, physical: &str) -> BucketRule {
        BucketRule { name: name(logical), physical: physical.into(), keys: keys() }
    }

    #[test]
    fn hidden_names_are_nobodys() {
        let rules = vec![rule("records", "va-records")];
        let buckets = Buckets::new(rules, Some(keys()), "claviger-state".into()).expect("consistent");
        assert_eq!(buckets.find(&name("records")).expect("there").physical, "va-records");
        assert_eq!(buckets.find(&name("free")).expect("there").physical, "free");
        assert!(buckets.find(&name("claviger-state")).is_none());
        assert!(buckets.find(&name("va-records")).is_none());
        assert_eq!(buckets.logical_name("va-records"), Some(name("records")));
        assert_eq!(buckets.logical_name("claviger-state"), None);
        assert_eq!(buckets.logical_name("records"), None);
        assert_eq!(buckets.logical_name("free"), Some(name("free")));
    }

    #[test]
    fn without_a_rule_for_others_they_do_not_exist() {
        let buckets =
            Buckets::new(vec![rule("records", "records")], None, "claviger-state".into()).expect("consistent");
        assert!(buckets.find(&name("free")).is_none());
        assert_eq!(buckets.logical_name("free"), None);
    }

    #[test]
    fn contradictions_are_refused() {
        let state = || "claviger-state".to_owned();
        assert!(Buckets::new(vec![rule("aaa", "xxx"), rule("aaa", "yyy")], None, state()).is_err());
        assert!(Buckets::new(vec![rule("aaa", "xxx"), rule("bbb", "xxx")], None, state()).is_err());
        assert!(Buckets::new(vec![rule("aaa", "claviger-state")], None, state()).is_err());
        assert!(Buckets::new(vec![rule("claviger-state", "aaa")], None, state()).is_err());
    }
}

//! Remembers verdicts: the same question has the same answer, as long as no rule looks at the clock.
//!
//! **Invariant:** all that a question tells Cedar, but the time, is compared; beside a rule that may look at the time nothing is remembered.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cedar_policy::PolicySet;
use lru::LruCache;
use serde_json::Value;

use crate::custodian::audit::{Action, Use, Verdict};
use crate::custodian::identity::SpiffeId;
use crate::custodian::kek::Labels;
use crate::custodian::requester::Requester;
use crate::custody::context::BranchContext;
use crate::custody::reason::Reason;
use crate::names::{KekName, LogicalBucket, Principal, Purpose, WriterDomain};

/// Most verdicts that are remembered.
const VERDICTS_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("is not zero");

/// What Cedar is told, but the time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    id: SpiffeId,
    source: IpAddr,
    reason: Reason,
    behalf: Option<Principal>,
    action: Action,
    kek: Option<KekName>,
    labels: Labels,
    branch: Option<(LogicalBucket, Purpose, WriterDomain)>,
    granted: bool,
}

impl Asked {
    pub(super) fn new(who: &Requester, what: &Use, granted: bool) -> Self {
        // Named one by one: what is added to them has to be thought of here.
        let Requester {
            id,
            certificate_sha256: _,
            key_sha256: _,
            source,
            reason,
            behalf,
            request_id: _,
            for_request: _,
        } = who;
        let Use { action, kek, version: _, labels, context_hash: _, branch, subject: _ } = what;
        let branch = branch
            .as_ref()
            .map(|BranchContext { purpose, bucket, writer, id: _ }| (bucket.clone(), *purpose, writer.clone()));
        Self {
            id: id.clone(),
            source: source.to_canonical(),
            reason: *reason,
            behalf: behalf.clone(),
            action: *action,
            kek: kek.clone(),
            labels: labels.clone(),
            branch,
            granted,
        }
    }
}

/// The verdicts of one policy.
pub(super) struct Memo(Mutex<LruCache<Asked, Verdict>>);

impl Memo {
    /// For these rules, unless one of them may look at the time.
    pub(super) fn of(rules: &PolicySet) -> Option<Self> {
        let timeless = rules.policies().all(|rule| rule.to_json().is_ok_and(|rule| !may_read_time(&rule)));
        timeless.then(|| Self(Mutex::new(LruCache::new(VERDICTS_MAX))))
    }

    /// The verdict that is remembered, or the one that `decide` gives.
    pub(super) fn verdict(&self, asked: Asked, decide: impl FnOnce() -> Verdict) -> Verdict {
        if let Some(verdict) = self.known().get(&asked) {
            return verdict.clone();
        }
        let verdict = decide();
        self.known().put(asked, verdict.clone());
        verdict
    }

    fn known(&self) -> MutexGuard<'_, LruCache<Asked, Verdict>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a rule, in Cedar's JSON (<https://docs.cedarpolicy.com/policies/json-format.html>), has the word `time` anywhere, or takes the
/// context for anything but one of its fields.
fn may_read_time(rule: &Value) -> bool {
    const TIME: &str = "time";
    match rule {
        Value::String(text) => text == TIME,
        Value::Array(items) => items.iter().any(may_read_time),
        Value::Object(fields) => fields.iter().any(|(name, value)| match name.as_str() {
            TIME => true,
            "Var" => value == "context",
            "." | "has" => {
                let is_context = |value: &Value| *value == serde_json::json!({"Var": "context"});
                let parts = value.as_object();
                parts.is_none_or(|parts| {
                    parts.iter().any(|(name, part)| {
                        let a_field_of_it = name == "left" && is_context(part);
                        !a_field_of_it && may_read_time(part)
                    })
                })
            }
            _ => may_read_time(value),
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_remembered(condition: &str) -> bool {
        let rule = format!("permit (principal, action, resource) when {{ {condition} }};");
        Memo::of(&rule.parse().expect("a rule")).is_some()
    }

    #[test]
    fn nothing_is_remembered_beside_a_rule_that_may_look_at_the_time() {
        for condition in [
            "true",
            "principal.role == \"proxy\" && resource has jurisdiction",
            "context.granted || (context has bucket && context.bucket == \"payroll\")",
            "context.reason == Claviger::Reason::\"maintenance\" && context.source.isInRange(ip(\"10.0.0.0/8\"))",
            "!(if context[\"granted\"] then true else principal.name like \"*time*\")",
        ] {
            assert!(is_remembered(condition), "{condition}");
        }
        for condition in [
            "context.time < datetime(\"2030-01-01\")",
            "context[\"time\"] < datetime(\"2030-01-01\")",
            "context[\"\\u{74}ime\"] < datetime(\"2030-01-01\")",
            "context has time",
            "context == {granted: true}",
            "[context].contains(context)",
            "(if true then context else context).granted",
            "[1, 2].contains(1) && {a: context}.a.granted",
            "principal.name == \"time\"",
        ] {
            assert!(!is_remembered(condition), "{condition}");
        }
        let two =
            "permit (principal, action, resource); forbid (principal, action, resource) unless { context has time };";
        assert!(Memo::of(&two.parse().expect("rules")).is_none());
    }
}

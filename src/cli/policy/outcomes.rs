//! What a table of cases came to, for people and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::custodian::approval::json::hex;
use crate::custodian::audit::{Decision, Verdict};
use crate::custodian::policy::Policy;
use crate::custodian::policy::cases::{Case, Outcome};

/// Most wrong cases of one row that are shown.
const SHOWN_MAX: usize = 20;

pub(super) fn count(outcomes: &[Outcome<'_>]) -> usize {
    outcomes.iter().map(|outcome| outcome.row.count()).sum()
}

pub(super) fn wrong(outcomes: &[Outcome<'_>]) -> usize {
    outcomes.iter().map(|outcome| outcome.wrong.len()).sum()
}

/// A line for each row, and below it the cases that are decided otherwise.
pub(super) fn as_text(outcomes: &[Outcome<'_>]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let (row, wrong) = (outcome.row, outcome.wrong.len());
        let word = if wrong == 0 { "pass" } else { "FAIL" };
        let rules = rules(outcome.rules.iter().map(String::as_str));
        let count = match (wrong, row.count()) {
            (0, 1) => "1 case".to_owned(),
            (0, all) => format!("{all} cases"),
            (wrong, all) => format!("{wrong} of {all} otherwise"),
        };
        writeln!(text, "{word}  line {}: {}  [{count}; {rules}]", row.line, row.text).expect("a String takes all");
        for (case, verdict) in outcome.wrong.iter().take(SHOWN_MAX) {
            writeln!(text, "      {}: {case}  [{}]", decided(verdict), why(verdict)).expect("a String takes all");
        }
        if wrong > SHOWN_MAX {
            writeln!(text, "      and {} more", wrong - SHOWN_MAX).expect("a String takes all");
        }
    }
    let (all, wrong) = (count(outcomes), wrong(outcomes));
    let rows = outcomes.len();
    writeln!(text, "{} of {all} cases as expected, in {rows} rows", all - wrong).expect("a String takes all");
    text
}

pub(super) fn as_json(policy: &Policy, outcomes: &[Outcome<'_>]) -> Value {
    let rows = outcomes.iter().map(|outcome| {
        json!({
            "line": outcome.row.line,
            "row": outcome.row.text,
            "expect": name(outcome.row.expect),
            "cases": outcome.row.count(),
            "ok": outcome.wrong.is_empty(),
            "rules": outcome.rules,
            "wrong": outcome.wrong.iter().take(SHOWN_MAX).map(wrong_as_json).collect::<Vec<_>>(),
            "wrong_count": outcome.wrong.len(),
        })
    });
    let rows: Vec<Value> = rows.collect();
    let (all, wrong) = (count(outcomes), wrong(outcomes));
    json!({"policy_sha256": hex(&policy.hash()), "ok": wrong == 0, "cases": all, "wrong": wrong, "rows": rows})
}

fn wrong_as_json((case, verdict): &(&Case, Verdict)) -> Value {
    let decision = decided(verdict);
    json!({"case": case.to_string(), "decision": decision, "rules": verdict.rules, "denied_by": verdict.denied_by})
}

fn decided(verdict: &Verdict) -> &'static str {
    name(verdict.decision)
}

fn name(decision: Decision) -> &'static str {
    match decision {
        Decision::Allow => "allow",
        Decision::Deny => "deny",
    }
}

fn why(verdict: &Verdict) -> String {
    let rules = rules(verdict.rules.iter().map(String::as_str));
    verdict.denied_by.map_or(rules.clone(), |fixed| format!("{fixed}: {rules}"))
}

fn rules<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "no rule".to_owned() } else { names.join(", ") }
}

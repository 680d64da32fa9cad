//! Who may do what with which KEK, from where, when and why: a Cedar policy (<https://docs.cedarpolicy.com>), checked against our schema.
//!
//! **Invariant:** what no rule permits is denied, what a rule forbids is denied whatever others permit, and so is what cannot be decided.
//! **Invariant:** a [`Policy`] has passed the guard and Cedar's strict validation without a warning.

pub mod cases;
mod guard;
mod memo;
mod question;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{AuthorizationError, Effect, ParseErrors, PolicyId, PolicySet, Response, ValidationMode};
use time::OffsetDateTime;

use crate::crypto;

use super::audit::{Decision, Use, Verdict};
use super::requester::Requester;

use memo::{Asked, Memo};
use question::VOCABULARY;

/// What policies can speak of, as a Cedar schema.
pub const SCHEMA: &str = include_str!("policy/schema.cedarschema");

/// Most problems that are told of one policy, and most bytes of each.
const PROBLEMS_MAX: usize = 64;
const PROBLEM_LEN_MAX: usize = 400;
/// Most rules that a verdict names.
const NAMED_MAX: usize = 8;
/// Longest name of a rule.
const RULE_NAME_MAX: usize = 64;
/// Why a request is denied that a rule could not be evaluated for.
const POLICY_ERROR: &str = "policy error";

/// A policy that was checked.
pub struct Policy {
    text: String,
    hash: [u8; 32],
    rules: PolicySet,
    /// What the rules are called: by their `@id`, or `policyN`, counted from 0.
    names: HashMap<PolicyId, String>,
    /// Verdicts that were given before.
    memo: Option<Memo>,
}

/// The policy is not right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct PolicyError {
    /// Every mistake, by line; at most 64 are listed.
    pub problems: Vec<Problem>,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The line that it is on, where it is on one: 1 and up.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
}

impl Problem {
    /// Without control characters, and cut where it is long: it may quote what is wrong.
    fn new(line: Option<usize>, what: String) -> Self {
        let mut what: String = what.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if what.len() > PROBLEM_LEN_MAX {
            what.truncate(what.floor_char_boundary(PROBLEM_LEN_MAX));
            what.push('…');
        }
        Self { line, what }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.problems.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl Policy {
    /// Reads and checks a policy of at most 256 KiB, 1,000 rules and 512 operators in each, with brackets nested at most 64 deep.
    ///
    /// # Errors
    /// [`PolicyError`], which lists all that is wrong. A warning of Cedar's is a mistake, too.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let found = guard::check(text).map_err(|problem| PolicyError { problems: vec![problem] })?;
        let rules: PolicySet = text.parse().map_err(|errors| refused(unparsed(text, &found, &errors)))?;
        let checked = Checked { text, rules: &rules, found: &found };
        let (names, mut problems) = checked.names();
        problems.extend(checked.validate());
        if !problems.is_empty() {
            return Err(refused(problems));
        }
        let (hash, memo) = (crypto::sha256(text.as_bytes()), Memo::of(&rules));
        Ok(Self { text: text.to_owned(), hash, rules, names, memo })
    }

    /// SHA-256 of the text.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// The text, as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many rules permit, and how many forbid.
    pub fn counts(&self) -> (usize, usize) {
        let permits = self.rules.policies().filter(|rule| rule.effect() == Effect::Permit).count();
        (permits, self.rules.num_of_policies() - permits)
    }

    /// Decides whether `who` may do `what` at `now`. `granted` is the access grant that covers it, if one does.
    pub fn decide(&self, who: &Requester, what: &Use, granted: Option<&str>, now: OffsetDateTime) -> Verdict {
        let decide = || self.ask(who, what, granted.is_some(), now);
        let verdict = match &self.memo {
            Some(memo) => memo.verdict(Asked::new(who, what, granted.is_some()), decide),
            None => decide(),
        };
        let grant = granted.filter(|_| verdict.decision == Decision::Allow);
        Verdict { grant: grant.map(str::to_owned), ..verdict }
    }

    /// Puts the question to Cedar. The verdict does not say which grant there is.
    fn ask(&self, who: &Requester, what: &Use, granted: bool, now: OffsetDateTime) -> Verdict {
        let verdict =
            |decision, rules, denied_by| Verdict { decision, policy: self.hash, rules, grant: None, denied_by };
        let Ok(response) = VOCABULARY.ask(&self.rules, who, what, granted, now) else {
            return verdict(Decision::Deny, Vec::new(), Some(POLICY_ERROR));
        };
        let errors = response.diagnostics().errors().map(|AuthorizationError::PolicyEvaluationError(e)| e.policy_id());
        let errors = self.named(errors);
        if !errors.is_empty() {
            return verdict(Decision::Deny, errors, Some(POLICY_ERROR));
        }
        let rules = self.named(response.diagnostics().reason());
        let decision = if is_allowed(&response) { Decision::Allow } else { Decision::Deny };
        verdict(decision, rules, None)
    }

    /// The names of these rules, in order, the first [`NAMED_MAX`].
    fn named<'a>(&self, ids: impl Iterator<Item = &'a PolicyId>) -> Vec<String> {
        let names: BTreeSet<String> =
            ids.map(|id| self.names.get(id).cloned().unwrap_or_else(|| id.to_string())).collect();
        names.into_iter().take(NAMED_MAX).collect()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("rules", &self.rules.num_of_policies()).finish_non_exhaustive()
    }
}

fn is_allowed(response: &Response) -> bool {
    response.decision() == cedar_policy::Decision::Allow
}

/// A policy that Cedar could parse.
struct Checked<'a> {
    text: &'a str,
    rules: &'a PolicySet,
    /// Its rules.
    found: &'a [guard::Rule],
}

impl Checked<'_> {
    /// What the rules are called, and what is wrong with that.
    fn names(&self) -> (HashMap<PolicyId, String>, Vec<Problem>) {
        let (mut names, mut taken, mut problems) = (HashMap::new(), HashSet::new(), Vec::new());
        for template in self.rules.templates() {
            let what = "a slot such as ?principal, which nothing fills".to_owned();
            problems.push(Problem::new(self.line(template.id()), what));
        }
        if self.rules.is_empty() {
            problems.push(Problem::new(None, "the policy has no rule and would deny everything".to_owned()));
        }
        let mut ids: Vec<&PolicyId> = self.rules.policies().map(cedar_policy::Policy::id).collect();
        ids.sort_by_key(|id| self.line(id));
        for id in ids {
            let name = self.rules.annotation(id, "id").map_or_else(|| id.to_string(), str::to_owned);
            if !is_rule_name(&name) {
                let what = format!("an @id must be 1 to {RULE_NAME_MAX} letters, digits, '.', '_' or '-'");
                problems.push(Problem::new(self.line(id), what));
            } else if !taken.insert(name.clone()) {
                problems.push(Problem::new(self.line(id), format!("another rule is called {name:?}, too")));
            }
            names.insert(id.clone(), name);
        }
        (names, problems)
    }

    /// What the schema does not allow or Cedar warns of.
    fn validate(&self) -> Vec<Problem> {
        let found = VOCABULARY.validator.validate(self.rules, ValidationMode::Strict);
        let errors = found.validation_errors().map(|error| (DetailedError::from(error), error.policy_id()));
        let warnings = found.validation_warnings().map(|warning| (DetailedError::from(warning), warning.policy_id()));
        let found = errors.chain(warnings);
        found.map(|(error, id)| problem(self.text, &error, 0, Some((id, self.line(id))))).collect()
    }

    /// Cedar calls the rules `policy0`, `policy1` and so on, in the order of the text.
    fn line(&self, id: &PolicyId) -> Option<usize> {
        let number: usize = id.to_string().strip_prefix("policy")?.parse().ok()?;
        self.found.get(number).map(|rule| rule.line)
    }
}

fn is_rule_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=RULE_NAME_MAX).contains(&name.len()) && name.bytes().all(legal)
}

fn refused(mut problems: Vec<Problem>) -> PolicyError {
    problems.sort();
    problems.dedup();
    problems.truncate(PROBLEMS_MAX);
    PolicyError { problems }
}

/// What is wrong with a text that Cedar cannot parse. It stops at the first mistake, so each rule is tried by itself.
fn unparsed(text: &str, found: &[guard::Rule], whole: &ParseErrors) -> Vec<Problem> {
    let tried =
        found.iter().filter_map(|rule| Some((rule.start, text.get(rule.start..rule.end)?.parse::<PolicySet>().err()?)));
    let problems: Vec<Problem> = tried.flat_map(|(start, errors)| told(text, &errors, start)).collect();
    if problems.is_empty() { told(text, whole, 0) } else { problems }
}

fn told(text: &str, errors: &ParseErrors, start: usize) -> Vec<Problem> {
    errors.iter().map(|error| problem(text, &DetailedError::from(error), start, None)).collect()
}

/// What Cedar found in the part of `text` from `start` on, or in the rule given with its line: not every error says where it is.
fn problem(text: &str, error: &DetailedError, start: usize, rule: Option<(&PolicyId, Option<usize>)>) -> Problem {
    let at = error.source_locations.first().map(|label| start + label.loc.start);
    let before = at.and_then(|at| text.as_bytes().get(..at));
    let line = before.map(|before| before.iter().filter(|byte| **byte == b'\n').count() + 1);
    let line = line.or(rule.and_then(|(_, line)| line));
    let prefix = rule.map(|(id, _)| format!("for policy `{id}`, ")).unwrap_or_default();
    let what = error.message.strip_prefix(&prefix).unwrap_or(&error.message);
    // Cedar's guesses at names are another each time, and far from what was meant.
    let help = error.help.as_ref().filter(|help| !help.starts_with("did you mean"));
    let help = help.map(|help| format!(" ({help})")).unwrap_or_default();
    Problem::new(line, format!("{what}{help}"))
}

#[cfg(test)]
mod tests;

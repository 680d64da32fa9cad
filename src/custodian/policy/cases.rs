//! Tables of who, what, where and why with the decision that is expected: what a policy is to be held to before it is put in force.
//!
//! ```text
//! principals:                                   # who `*` stands for; a short name may come first
//!     us-proxy   spiffe://example.org/region/us/proxy/p1
//!     sg-proxy   spiffe://example.org/region/sg/proxy/p1
//! keys:                                         # KEKs with their labels
//!     records    jurisdiction=us
//!
//! who              | action         | key     | reason | expect
//! us-proxy         | generate,unwrap| records | *      | allow
//! !*/region/us/*   | unwrap         | records | *      | deny    # nobody outside of us, whatever the reason
//! ```
//!
//! A cell is a value, several between commas, or a pattern: `*` stands for any text and so for all known values that match; with `!`
//! in front, for those that do not. An action may be the name of a group. What a column leaves out, or a cell leaves empty or gives
//! as `-`, has its default. Lines and ends of lines from `#` on are comments.
//!
//! | column | known values | default |
//! |---|---|---|
//! | `who` | the list `principals:` | – |
//! | `action` | all that can be asked of a KEK, or of the custodian where `key` is empty | – |
//! | `key` | the list `keys:` | the custodian itself |
//! | `labels` (`name=value`, blanks between) | – | as in `keys:` |
//! | `reason` | all | `unspecified` |
//! | `from` | the list `sources:` | `127.0.0.1` |
//! | `at` (RFC 3339) | the list `times:` | `2026-01-01T12:00:00Z` |
//! | `bucket` | the list `buckets:` | none: not a branch key |
//! | `purpose` | `object`, `upload` | `object` |
//! | `writer` | – | role and region of `who` |
//! | `behalf` | the list `clients:` | nobody |
//! | `granted` | `yes`, `no` | `no` |
//! | `expect` | – (`allow` or `deny`) | – |

mod expand;
mod read;

use std::collections::BTreeSet;
use std::fmt;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::custodian::audit::{Decision, Use, Verdict};
use crate::custodian::requester::Requester;

use super::{Policy, Problem};

/// Longest table, in bytes.
const LEN_MAX: usize = 256 << 10;
/// Most cases that all rows together may stand for.
const CASES_MAX: usize = 100_000;

/// The rows of a table.
#[derive(Debug)]
pub struct Cases {
    rows: Vec<Row>,
}

/// A row, and the cases that it stands for: one at least.
#[derive(Debug)]
pub struct Row {
    /// Where it stands.
    pub line: usize,
    /// As it was written, without blanks at its ends and doubled ones.
    pub text: String,
    /// What is expected of each of its cases.
    pub expect: Decision,
    cases: Vec<Case>,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Case {
    who: Requester,
    what: Use,
    granted: bool,
    at: OffsetDateTime,
}

/// What a policy makes of a row.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The row.
    pub row: &'a Row,
    /// The rules that decided about any of its cases.
    pub rules: BTreeSet<String>,
    /// The cases that are decided otherwise than expected.
    pub wrong: Vec<(&'a Case, Verdict)>,
}

/// The table is not right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the table of cases is not right")]
pub struct CasesError {
    /// Every mistake, by line; at most 64 are listed.
    pub problems: Vec<Problem>,
}

impl Cases {
    /// Reads a table of at most 256 KiB, which stands for at most 100,000 cases.
    ///
    /// # Errors
    /// [`CasesError`], which lists all that is wrong.
    pub fn parse(text: &str) -> Result<Self, CasesError> {
        if text.len() > LEN_MAX {
            let what = format!("the table has more than {} KiB", LEN_MAX >> 10);
            return Err(CasesError { problems: vec![Problem::new(None, what)] });
        }
        let (table, mut problems) = read::table(text);
        let mut rows = Vec::new();
        let mut left = CASES_MAX;
        for line in &table.lines {
            match expand::row(&table.known, line, left) {
                Ok(row) => {
                    left -= row.cases.len();
                    rows.push(row);
                }
                Err(what) => problems.push(Problem::new(Some(line.number), what)),
            }
        }
        if table.lines.is_empty() && problems.is_empty() {
            problems.push(Problem::new(None, "there is no case".to_owned()));
        }
        if problems.is_empty() {
            return Ok(Self { rows });
        }
        problems.sort();
        problems.truncate(super::PROBLEMS_MAX);
        Err(CasesError { problems })
    }

    /// Its rows, in order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Puts every case to the policy.
    pub fn run<'a>(&'a self, policy: &Policy) -> Vec<Outcome<'a>> {
        self.rows.iter().map(|row| row.run(policy)).collect()
    }
}

impl Row {
    /// How many cases it stands for.
    pub fn count(&self) -> usize {
        self.cases.len()
    }

    fn run(&self, policy: &Policy) -> Outcome<'_> {
        let mut outcome = Outcome { row: self, rules: BTreeSet::new(), wrong: Vec::new() };
        for case in &self.cases {
            let grant = case.granted.then_some("granted");
            let verdict = policy.decide(&case.who, &case.what, grant, case.at);
            outcome.rules.extend(verdict.rules.iter().cloned());
            if verdict.decision != self.expect {
                outcome.wrong.push((case, verdict));
            }
        }
        outcome
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.who.id, self.what.action.as_str())?;
        if let Some(kek) = &self.what.kek {
            write!(f, " {kek}")?;
            let labels: Vec<String> = self.what.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            if !labels.is_empty() {
                write!(f, " ({})", labels.join(" "))?;
            }
        }
        let at = self.at.format(&Rfc3339).map_err(|_| fmt::Error)?;
        write!(f, ", reason {}, from {}, at {at}", self.who.reason, self.who.source)?;
        if let Some(branch) = &self.what.branch {
            write!(f, ", {} of bucket {} by {}", branch.purpose.as_str(), branch.bucket, branch.writer)?;
        }
        if let Some(behalf) = &self.who.behalf {
            write!(f, ", for {behalf}")?;
        }
        if self.granted { f.write_str(", with a grant") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;

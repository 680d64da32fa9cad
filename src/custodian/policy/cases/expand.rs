//! The cases that a row stands for: each cell's values, and every combination of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;

use crate::crypto;
use crate::custodian::audit::{Action, Decision, Use};
use crate::custodian::identity::SpiffeId;
use crate::custodian::kek::Labels;
use crate::custodian::policy::question::VOCABULARY;
use crate::custodian::requester::Requester;
use crate::custody::context::BranchContext;
use crate::custody::reason::Reason;
use crate::names::{BranchId, KekName, LogicalBucket, Principal, Purpose, WriterDomain};

use super::read::{Column, Known, Line};
use super::{CASES_MAX, Case, Row};

/// Most items of one cell.
const ITEMS_MAX: usize = 256;
/// When it is where a row does not say.
const AT: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

type Lists = BTreeMap<Column, Vec<Known>>;

/// The row that `line` makes, of at most `left` cases.
pub(super) fn row(lists: &Lists, line: &Line<'_>, left: usize) -> Result<Row, String> {
    if let Some((column, _)) = line.cells.iter().find(|(_, cell)| cell.split(',').count() > ITEMS_MAX) {
        return Err(format!("more than {ITEMS_MAX} values of {}", column.name()));
    }
    let cells = Cells { lists, line };
    let expect = match line.cells.get(&Column::Expect) {
        Some(&"allow") => Decision::Allow,
        Some(&"deny") => Decision::Deny,
        _ => return Err("expect must be allow or deny".to_owned()),
    };
    let cases = cells.combinations(left)?;
    if cases.is_empty() {
        return Err("the row stands for no case".to_owned());
    }
    let text = line.text.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(Row { line: line.number, text, expect, cases })
}

struct Cells<'a> {
    lists: &'a Lists,
    line: &'a Line<'a>,
}

/// What the columns other than `who`, `action` and `key` come down to, once.
#[derive(Clone)]
struct Rest {
    reason: Reason,
    source: IpAddr,
    at: OffsetDateTime,
    bucket: Option<LogicalBucket>,
    purpose: Purpose,
    writer: Option<WriterDomain>,
    behalf: Option<Principal>,
    granted: bool,
}

impl Cells<'_> {
    fn combinations(&self, left: usize) -> Result<Vec<Case>, String> {
        let too_many = || format!("the table stands for more than {CASES_MAX} cases");
        let principals = self.who()?;
        let (keys, rest) = (self.keys()?, self.rest(left)?.ok_or_else(too_many)?);
        let mut cases = Vec::new();
        for who in &principals {
            for (kek, labels) in &keys {
                for action in self.actions(kek.is_some())? {
                    if cases.len() + rest.len() > left {
                        return Err(too_many());
                    }
                    cases.extend(rest.iter().map(|rest| case(who, kek.as_ref(), labels, action, rest)));
                }
            }
        }
        Ok(cases)
    }

    fn who(&self) -> Result<Vec<SpiffeId>, String> {
        let ids = self.values(Column::Who, |text| SpiffeId::parse(text).map_err(|error| error.to_string()))?;
        let ids: Option<Vec<SpiffeId>> = ids.into_iter().collect();
        ids.ok_or_else(|| "there must be a who".to_owned())
    }

    /// KEKs with their labels, or the custodian.
    fn keys(&self) -> Result<Vec<(Option<KekName>, Labels)>, String> {
        let keys = self.values(Column::Key, |text| KekName::new(text).map_err(|error| error.to_string()))?;
        let given = self.values(Column::Labels, labels)?;
        let mut found = Vec::new();
        for key in keys {
            let name = key.as_ref().map(KekName::as_str);
            let listed =
                self.lists.get(&Column::Key).into_iter().flatten().find(|known| Some(known.value.as_str()) == name);
            let listed = listed.map(|known| labels(&known.labels)).transpose()?.unwrap_or_default();
            if key.is_none() && given.iter().any(Option::is_some) {
                return Err("labels without a key".to_owned());
            }
            found.extend(given.iter().map(|given| (key.clone(), given.clone().unwrap_or_else(|| listed.clone()))));
        }
        Ok(found)
    }

    /// Those that can be asked of a KEK, or of the custodian. One that is given by its own name must be among them.
    fn actions(&self, of_key: bool) -> Result<Vec<Action>, String> {
        let cell = self.line.cells.get(&Column::Action).ok_or("there must be an action")?;
        let can = |action: &Action| VOCABULARY.applies(*action, of_key);
        let all = || Action::ALL.iter().copied();
        let mut found = Choice::new(cell, all().filter(can).collect());
        for item in found.items() {
            let (item, excluded) = split(item);
            let named = all().find(|action| action.as_str() == item);
            match named {
                Some(action) if !can(&action) && !excluded => {
                    let of = if of_key { "a KEK" } else { "the custodian itself" };
                    return Err(format!("{item} is not asked of {of}"));
                }
                Some(action) => found.take(&[action], excluded),
                None => {
                    let fits =
                        |action: &Action| matches(item, action.as_str()) || VOCABULARY.is_in_group(*action, item);
                    let fitting: Vec<Action> = all().filter(fits).collect();
                    if fitting.is_empty() {
                        return Err(format!("there is no action or group of actions '{item}'"));
                    }
                    let fitting: Vec<Action> = fitting.into_iter().filter(can).collect();
                    found.take(&fitting, excluded);
                }
            }
        }
        Ok(found.chosen)
    }

    /// Every combination of the other columns; `None` if there are more than `left`.
    fn rest(&self, left: usize) -> Result<Option<Vec<Rest>>, String> {
        let source = |text: &str| text.parse::<IpAddr>().map_err(|_| format!("'{text}' is no IP address"));
        let at =
            |text: &str| OffsetDateTime::parse(text, &Rfc3339).map_err(|_| format!("'{text}' is no RFC 3339 time"));
        let reason = |text: &str| text.parse::<Reason>().map_err(|error| format!("'{text}': {error}"));
        let bucket = |text: &str| LogicalBucket::new(text).map_err(|error| error.to_string());
        let writer = |text: &str| WriterDomain::new(text).map_err(|error| error.to_string());
        let behalf = |text: &str| Principal::new(text).map_err(|error| error.to_string());
        let branch_only = [Column::Purpose, Column::Writer];
        let has = |column: &Column| self.line.cells.contains_key(column);
        if branch_only.iter().any(has) && !has(&Column::Bucket) {
            return Err("purpose and writer go with a bucket".to_owned());
        }
        let plain = Rest {
            reason: Reason::Unspecified,
            source: Ipv4Addr::LOCALHOST.into(),
            at: AT,
            bucket: None,
            purpose: Purpose::Object,
            writer: None,
            behalf: None,
            granted: false,
        };
        let mut all = Combinations { all: vec![plain], left };
        all.by(self.values(Column::Reason, reason)?, |rest, value| rest.reason = value);
        all.by(self.values(Column::From, source)?, |rest, value| rest.source = value);
        all.by(self.values(Column::At, at)?, |rest, value| rest.at = value);
        all.by(self.values(Column::Bucket, bucket)?, |rest, value| rest.bucket = Some(value));
        all.by(self.values(Column::Purpose, purpose)?, |rest, value| rest.purpose = value);
        all.by(self.values(Column::Writer, writer)?, |rest, value| rest.writer = Some(value));
        all.by(self.values(Column::Behalf, behalf)?, |rest, value| rest.behalf = Some(value));
        all.by(self.values(Column::Granted, yes_or_no)?, |rest, value| rest.granted = value);
        Ok((!all.all.is_empty()).then_some(all.all))
    }

    /// The values of a cell, one at least. `None` is the column's default.
    fn values<T>(&self, column: Column, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<Option<T>>, String> {
        let Some(cell) = self.line.cells.get(&column) else { return Ok(vec![None]) };
        let known = self.known(column);
        let mut chosen = Choice::new(cell, known.iter().map(|(value, _)| *value).collect());
        for item in chosen.items() {
            let (item, excluded) = split(item);
            let alias = known.iter().find(|(_, alias)| *alias == Some(item)).map(|(value, _)| *value);
            match alias {
                Some(value) => chosen.take(&[value], excluded),
                None if !item.contains('*') => chosen.take(&[item], excluded),
                None => {
                    let fitting: Vec<&str> =
                        known.iter().map(|(value, _)| *value).filter(|it| matches(item, it)).collect();
                    if fitting.is_empty() {
                        return Err(format!("'{item}' matches no known value of {}", column.name()));
                    }
                    chosen.take(&fitting, excluded);
                }
            }
        }
        if chosen.chosen.is_empty() {
            return Err(format!("nothing is left of {}", column.name()));
        }
        chosen.chosen.into_iter().map(|text| if text == "-" { Ok(None) } else { read(text).map(Some) }).collect()
    }

    /// The known values of a column, with the short names that some have.
    fn known(&self, column: Column) -> Vec<(&str, Option<&str>)> {
        let fixed: Vec<&str> = match column {
            Column::Reason => Reason::ALL.map(Reason::as_str).to_vec(),
            Column::Purpose => Purpose::ALL.map(Purpose::as_str).to_vec(),
            Column::Granted => vec!["yes", "no"],
            _ => Vec::new(),
        };
        let listed = self.lists.get(&column).into_iter().flatten();
        let listed = listed.map(|known| (known.value.as_str(), known.alias.as_deref()));
        fixed.into_iter().map(|value| (value, None)).chain(listed).collect()
    }
}

/// The values that a cell's items choose, in turn: a plain item adds, one with `!` takes away, and from all if it comes first.
struct Choice<'a, T> {
    cell: &'a str,
    chosen: Vec<T>,
}

impl<'a, T: Clone + PartialEq> Choice<'a, T> {
    fn new(cell: &'a str, all: Vec<T>) -> Self {
        Self { cell, chosen: if cell.starts_with('!') { all } else { Vec::new() } }
    }

    fn items(&self) -> impl Iterator<Item = &'a str> + use<'a, T> {
        self.cell.split(',').map(str::trim)
    }

    fn take(&mut self, values: &[T], excluded: bool) {
        self.chosen.retain(|chosen| !values.contains(chosen));
        if !excluded {
            self.chosen.extend_from_slice(values);
        }
    }
}

/// Without the `!`, and whether there was one.
fn split(item: &str) -> (&str, bool) {
    item.strip_prefix('!').map_or((item, false), |rest| (rest.trim_start(), true))
}

struct Combinations {
    all: Vec<Rest>,
    left: usize,
}

impl Combinations {
    /// Each of what is there, with each of the values. Of too many, nothing is left.
    fn by<T: Clone>(&mut self, values: Vec<Option<T>>, set: impl Fn(&mut Rest, T)) {
        if self.all.len().saturating_mul(values.len()) > self.left {
            self.all.clear();
        }
        let with = |rest: &Rest, value: &Option<T>| {
            let mut rest = rest.clone();
            if let Some(value) = value {
                set(&mut rest, value.clone());
            }
            rest
        };
        let with = &with;
        self.all = self.all.iter().flat_map(|rest| values.iter().map(move |value| with(rest, value))).collect();
    }
}

/// Whether `text` is what `pattern` describes, in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match left.split_once(piece) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    left.ends_with(last)
}

fn labels(text: &str) -> Result<Labels, String> {
    let pairs = text.split_whitespace().map(|word| word.split_once('=').ok_or("a label is NAME=VALUE"));
    let pairs = pairs.map(|pair| pair.map(|(name, value)| (name.to_owned(), value.to_owned())));
    Labels::new(pairs.collect::<Result<_, _>>()?).map_err(|error| error.to_string())
}

fn purpose(text: &str) -> Result<Purpose, String> {
    let known = Purpose::ALL.into_iter().find(|known| known.as_str() == text);
    known.ok_or_else(|| "purpose must be object or upload".to_owned())
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("granted must be yes or no".to_owned()),
    }
}

fn case(id: &SpiffeId, kek: Option<&KekName>, labels: &Labels, action: Action, rest: &Rest) -> Case {
    let who = Requester {
        id: id.clone(),
        certificate_sha256: [0; 32],
        key_sha256: [0; 32],
        source: rest.source,
        reason: rest.reason,
        behalf: rest.behalf.clone(),
        request_id: [0; 16],
        for_request: None,
    };
    let branch = rest.bucket.as_ref().map(|bucket| BranchContext {
        purpose: rest.purpose,
        bucket: bucket.clone(),
        writer: rest.writer.clone().unwrap_or_else(|| id.writer_domain()),
        id: BranchId::from_bytes([0; 16]),
    });
    let context_hash = branch.as_ref().map(|branch| crypto::sha256(&branch.to_bytes()));
    let what = Use { kek: kek.cloned(), labels: labels.clone(), context_hash, branch, ..Use::of_custodian(action) };
    Case { who, what, granted: rest.granted, at: rest.at }
}

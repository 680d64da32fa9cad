//! Which key use allows which record access.

use std::collections::HashMap;
use std::fmt::Write as _;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::cli::audit::entry::Entry;

/// Most key uses that are held in memory: give `--since` and a shorter copy of the log where there are more.
const USES_MAX: u64 = 20_000_000;

/// How long a key use counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leases {
    pub(super) read_ms: i64,
    pub(super) write_ms: i64,
    pub(super) margin_ms: i64,
}

/// Who, why, and in which bucket.
type Purpose = (String, String, String);

/// An access to records under a leased key.
pub(super) struct RecordAccess {
    purpose: Purpose,
    pub(super) time: OffsetDateTime,
    writes: bool,
    /// It succeeded, so it had a key. What failed or went on may have had one.
    had_key: bool,
}

/// An entry of a proxy's log.
pub(super) enum Access {
    /// Of records.
    Records(RecordAccess),
    /// Of nothing that is encrypted.
    NoKey,
    /// It lacks what the comparison needs.
    Unknown,
}

impl Access {
    pub(super) fn of(entry: &Entry) -> Self {
        let text = |name: &str| entry.text(name).map(str::to_owned);
        let event = entry.text("event");
        if event == Some("probe") {
            return Self::NoKey;
        }
        let Some(operation) = entry.action() else { return Self::Unknown };
        let Some(writes) = writes_records(operation) else { return Self::NoKey };
        let succeeded =
            entry.field("status").and_then(Value::as_u64).is_some_and(|status| (200..300).contains(&status));
        match (text("principal"), text("reason"), text("bucket"), entry.time()) {
            (Some(principal), Some(reason), Some(bucket), Some(time)) => {
                let had_key = succeeded && event != Some("end");
                Self::Records(RecordAccess { purpose: (principal, reason, bucket), time, writes, had_key })
            }
            _ => Self::Unknown,
        }
    }

    /// What a copy reads, beside what it writes.
    pub(super) fn of_source(entry: &Entry) -> Option<RecordAccess> {
        let Self::Records(copy) = Self::of(entry) else { return None };
        let bucket = entry.text("copied_bucket")?.to_owned();
        let (principal, reason, _) = copy.purpose;
        Some(RecordAccess { purpose: (principal, reason, bucket), writes: false, ..copy })
    }
}

/// Whether an operation writes records (`true`) or reads them; `None` if it needs no key.
fn writes_records(operation: &str) -> Option<bool> {
    match operation {
        "PutObject"
        | "CreateMultipartUpload"
        | "UploadPart"
        | "CompleteMultipartUpload"
        | "CopyObject"
        | "UploadPartCopy" => Some(true),
        "GetObject" | "HeadObject" | "GetObjectAttributes" => Some(false),
        _ => None,
    }
}

struct KeyUse {
    time_ms: i64,
    index: u64,
    accessed: bool,
}

/// The key uses, and the accesses that none of them allows.
pub(super) struct Ledger {
    leases: Leases,
    limit: usize,
    uses: HashMap<Purpose, Vec<KeyUse>>,
    use_count: u64,
    access_count: u64,
    without_use: Unmatched,
}

impl Ledger {
    pub(super) fn new(leases: Leases, limit: usize) -> Self {
        Self { leases, limit, uses: HashMap::new(), use_count: 0, access_count: 0, without_use: Unmatched::default() }
    }

    /// Takes in an entry of the custodian's log, if it gave a branch key to someone.
    pub(super) fn note_use(&mut self, entry: &Entry) -> Result<()> {
        let gives = matches!(entry.text("action"), Some("generate" | "unwrap"));
        if !gives || entry.text("decision") != Some("allow") {
            return Ok(());
        }
        let text = |name: &str| entry.text(name).map(str::to_owned);
        let purpose = (text("behalf"), text("reason"), text("bucket"), entry.time());
        let (Some(behalf), Some(reason), Some(bucket), Some(time)) = purpose else { return Ok(()) };
        self.use_count += 1;
        ensure!(self.use_count <= USES_MAX, "the custodian's log has more than {USES_MAX} key uses");
        let uses = self.uses.entry((behalf, reason, bucket)).or_default();
        uses.push(KeyUse { time_ms: unix_ms(time), index: entry.index(), accessed: false });
        Ok(())
    }

    /// After the last use, before the first access.
    pub(super) fn sort(&mut self) {
        self.uses.values_mut().for_each(|uses| uses.sort_by_key(|used| used.time_ms));
    }

    /// Takes in an access of the proxy's log.
    pub(super) fn note_access(&mut self, entry: &Entry, access: &RecordAccess) {
        self.access_count += u64::from(access.had_key);
        let lease = if access.writes { self.leases.write_ms } else { self.leases.read_ms };
        let at = unix_ms(access.time);
        let (from, to) = (at - lease - self.leases.margin_ms, at + self.leases.margin_ms);
        let uses = self.uses.get_mut(&access.purpose).map_or(&mut [][..], Vec::as_mut_slice);
        let first = uses.partition_point(|used| used.time_ms < from);
        let mut found = false;
        for used in uses[first..].iter_mut().take_while(|used| used.time_ms <= to) {
            used.accessed = true;
            found = true;
        }
        if !found && access.had_key {
            self.without_use.add(self.limit, || (entry.index(), entry.as_text(), entry.as_json()));
        }
    }

    /// The uses, of those between the two times, that no access followed.
    pub(super) fn uses_without_access(&self, from_ms: Option<i64>, until_ms: Option<i64>) -> Unmatched {
        let mut found: Vec<(u64, &Purpose, i64)> = Vec::new();
        for (purpose, uses) in &self.uses {
            let asked = |used: &&KeyUse| {
                !used.accessed
                    && from_ms.is_none_or(|from| used.time_ms >= from)
                    && until_ms.is_none_or(|until| used.time_ms < until)
            };
            found.extend(uses.iter().filter(asked).map(|used| (used.index, purpose, used.time_ms)));
        }
        found.sort_unstable_by_key(|(index, _, _)| *index);
        let mut unmatched = Unmatched::default();
        for (index, (principal, reason, bucket), time_ms) in found {
            unmatched.add(self.limit, || {
                let fields = json!({"behalf": principal, "reason": reason, "bucket": bucket, "time_ms": time_ms});
                let entry = Entry::new(index, fields.to_string().into_bytes());
                let [principal, reason, bucket] =
                    [principal, reason, bucket].map(|text| crate::cli::audit::entry::escaped(text));
                (index, format!("{index:>8}  for {principal} in {bucket} because {reason}"), entry.as_json())
            });
        }
        unmatched
    }

    pub(super) fn into_counts(self) -> (u64, u64, Unmatched) {
        (self.access_count, self.use_count, self.without_use)
    }
}

/// Entries that have no counterpart: how many, and the first of them.
#[derive(Debug, Default)]
pub(super) struct Unmatched {
    pub(super) total: u64,
    shown: Vec<(u64, String, String)>,
}

impl Unmatched {
    fn add(&mut self, limit: usize, entry: impl FnOnce() -> (u64, String, String)) {
        self.total += 1;
        if self.shown.len() < limit {
            self.shown.push(entry());
        }
    }

    pub(super) fn as_json(&self) -> Value {
        let first: Vec<Value> = self.shown.iter().filter_map(|(_, _, json)| serde_json::from_str(json).ok()).collect();
        json!({"total": self.total, "first": first})
    }

    pub(super) fn as_text(&self, what: &str, meaning: &str) -> String {
        let mut text = format!("{} {what}.\n", self.total);
        if self.total > 0 {
            let _ = writeln!(text, "  {meaning}");
        }
        self.shown.iter().for_each(|(_, line, _)| {
            let _ = writeln!(text, "{line}");
        });
        if self.total > self.shown.len() as u64 {
            let _ = writeln!(text, "       … and {} more", self.total - self.shown.len() as u64);
        }
        text
    }

    #[cfg(test)]
    pub(super) fn indices(&self) -> Vec<u64> {
        self.shown.iter().map(|(index, _, _)| *index).collect()
    }
}

/// Milliseconds since 1970.
pub(super) fn unix_ms(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX / 4)
}

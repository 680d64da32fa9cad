//! What was checked and found good.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::approvals::Approved;
use super::witnesses::Vouched;
use crate::cli::audit::entry::escaped;
use crate::cli::audit::moment::seconds;
use crate::tlog::note::VerifierKey;
use crate::tlog::verify::Report;

/// A log that is good.
pub(super) struct Checked {
    pub(super) key: VerifierKey,
    pub(super) report: Report,
    /// The time in the first entry, where it has one.
    pub(super) first: Option<String>,
    /// And in the last.
    pub(super) last: Option<String>,
    /// Sizes of the older checkpoints that it goes on from.
    pub(super) older: Vec<u64>,
    pub(super) vouched: Option<Vouched>,
    pub(super) approved: Option<Approved>,
    /// How many receipts were found in it.
    pub(super) receipts: usize,
}

impl Vouched {
    pub(super) fn as_json(&self) -> Value {
        let by = self.by.iter().map(|by| json!({"name": by.name, "size": by.size, "time": seconds(by.time_s)}));
        json!({"quorum": self.quorum, "size": self.size, "by": by.collect::<Vec<_>>()})
    }
}

impl Checked {
    fn root(&self) -> String {
        STANDARD.encode(self.report.checkpoint.checkpoint().root().0)
    }

    pub(super) fn as_json(&self) -> Value {
        let checkpoint = self.report.checkpoint.checkpoint();
        json!({
            "ok": true,
            "origin": checkpoint.origin(),
            "key": self.key.to_string(),
            "size": checkpoint.size(),
            "root": self.root(),
            "first": self.first,
            "last": self.last,
            "after_checkpoint": self.report.after_checkpoint,
            "torn_bytes": self.report.torn_bytes,
            "older": self.older,
            "witnesses": self.vouched.as_ref().map(Vouched::as_json),
            "approvals": self.approved.as_ref().map(Approved::as_json),
            "receipts": self.receipts,
        })
    }

    pub(super) fn as_text(&self) -> String {
        let checkpoint = self.report.checkpoint.checkpoint();
        let unknown = || "no time".to_owned();
        let mut rows = vec![
            ("entries", format!("{}, each as it was signed, in its place", checkpoint.size())),
            (
                "first, last",
                format!(
                    "{}, {}",
                    self.first.clone().unwrap_or_else(unknown),
                    self.last.clone().unwrap_or_else(unknown)
                ),
            ),
            ("root", self.root()),
            ("signed by", self.key.to_string()),
        ];
        if self.report.after_checkpoint > 0 {
            rows.push((
                "journal",
                format!("{} more after the checkpoint, signed in batches", self.report.after_checkpoint),
            ));
        }
        if self.report.torn_bytes > 0 {
            let bytes = self.report.torn_bytes;
            rows.push((
                "journal's end",
                format!("{bytes} bytes of a batch that was never acknowledged, or is being written"),
            ));
        }
        rows.extend(self.older.iter().map(|size| ("goes on from", format!("the older checkpoint of {size} entries"))));
        if self.receipts > 0 {
            rows.push(("receipts", format!("{} found in it", self.receipts)));
        }
        if let Some(Approved { proposals, votes, changes, notes }) = &self.approved {
            let text =
                format!("{changes} approved changes, {votes} approvals and vetoes, {proposals} proposals: all hold");
            rows.push(("two people", text));
            rows.extend(notes.iter().map(|note| ("to look at", note.clone())));
        }
        for by in self.vouched.iter().flat_map(|vouched| &vouched.by) {
            let name = escaped(&by.name);
            rows.push((
                "witness",
                format!("{name} vouches for the first {} entries, since {}", by.size, seconds(by.time_s)),
            ));
        }
        let mut text = format!("The log {} is whole.\n", escaped(checkpoint.origin()));
        for (label, value) in rows {
            let _ = writeln!(text, "  {label:<14}{value}");
        }
        text.push_str(&self.limits());
        text
    }

    /// What this does not show.
    fn limits(&self) -> String {
        let size = self.report.checkpoint.checkpoint().size();
        match &self.vouched {
            Some(vouched) if vouched.size < size => format!(
                "{} of {} entries are vouched for by {} witnesses; those after them are the log's word alone.\n",
                vouched.size, size, vouched.quorum
            ),
            Some(_) => String::new(),
            None if !self.older.is_empty() => String::new(),
            None => "Not shown by this: that nobody put back an older state of the whole log, or shows others another one.\n\
                     For that give checkpoints that were kept elsewhere (--older) or witnesses (--witness).\n"
                .to_owned(),
        }
    }
}

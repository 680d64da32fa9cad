//! An entry of a log as people and programs read it.
//!
//! **Invariant:** what is printed has no control characters and nothing that turns text around, whatever is in the entry.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::tlog::merkle::leaf_hash;

/// Most characters of an entry that is no JSON object, and of a value, in a line for people.
const SHOWN_MAX: usize = 200;
/// Fields that a line shows in its first part, or not at all, because they are long and seldom asked for.
const NOT_AT_THE_END: &[&str] = &[
    "time",
    "instance",
    "request_id",
    "for_request",
    "principal",
    "region",
    "role",
    "certificate_sha256",
    "behalf",
    "reason",
    "action",
    "operation",
    "kek",
    "version",
    "context_sha256",
    "decision",
    "status",
    "policy_sha256",
    "generation",
    "detail",
];

/// An entry with its index.
pub(super) struct Entry {
    index: u64,
    bytes: Vec<u8>,
    /// `None` when it is no JSON object.
    fields: Option<Map<String, Value>>,
}

impl Entry {
    pub(super) fn new(index: u64, bytes: Vec<u8>) -> Self {
        let fields = serde_json::from_slice(&bytes).ok();
        Self { index, bytes, fields }
    }

    pub(super) fn index(&self) -> u64 {
        self.index
    }

    pub(super) fn field(&self, name: &str) -> Option<&Value> {
        self.fields.as_ref()?.get(name)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.field(name)?.as_str()
    }

    /// What was done: the custodian calls it an action, a proxy an operation.
    pub(super) fn action(&self) -> Option<&str> {
        self.text("action").or_else(|| self.text("operation"))
    }

    pub(super) fn time(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::parse(self.text("time")?, &Rfc3339).ok()
    }

    /// One JSON object on one line.
    pub(super) fn as_json(&self) -> String {
        let leaf = STANDARD.encode(leaf_hash(&self.bytes).0);
        let value = match &self.fields {
            Some(fields) => json!({"index": self.index, "leaf": leaf, "entry": fields}),
            None => json!({"index": self.index, "leaf": leaf, "raw": STANDARD.encode(&self.bytes)}),
        };
        let mut line = String::new();
        for c in value.to_string().chars() {
            if is_harmless(c) {
                line.push(c);
            } else {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().for_each(|unit| {
                    let _ = write!(line, "\\u{unit:04x}");
                });
            }
        }
        line
    }

    /// One line for people.
    pub(super) fn as_text(&self) -> String {
        let Some(fields) = &self.fields else {
            let raw = shortened(&String::from_utf8_lossy(&self.bytes));
            return format!("{:>8}  (not an entry of ours)  {raw}", self.index);
        };
        let or_dash = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), shortened);
        let mut line = format!(
            "{:>8}  {}  {:<5} {:<10} {}",
            self.index,
            or_dash(self.text("time")),
            self.field("decision").or_else(|| self.field("status")).map_or_else(|| "-".to_owned(), shown),
            or_dash(self.action()),
            or_dash(self.text("principal")),
        );
        let mut add = |before: &str, text: Option<String>| {
            if let Some(text) = text {
                let _ = write!(line, " {before}{text}");
            }
        };
        add("for ", self.text("behalf").map(shortened));
        add("", self.text("kek").map(shortened));
        add("v", self.field("version").map(shown));
        add("because ", self.text("reason").map(shortened));
        for (name, value) in fields {
            if !NOT_AT_THE_END.contains(&name.as_str()) {
                add("", Some(format!("{}={}", shortened(name), shown(value))));
            }
        }
        line
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => shortened(text),
        other => shortened(&other.to_string()),
    }
}

/// At most [`SHOWN_MAX`] characters of `text`, all of them harmless.
fn shortened(text: &str) -> String {
    let mut shown = escaped(&text.chars().take(SHOWN_MAX).collect::<String>());
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// `text` with everything escaped that a terminal would act on.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmless(c) { escaped.push(c) } else { escaped.extend(c.escape_unicode()) }
    }
    escaped
}

/// Whether `c` shows as itself: no control character, line separator, or mark that turns text around or hides it.
fn is_harmless(c: char) -> bool {
    let hides = matches!(
        u32::from(c),
        0x00ad | 0x061c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb
            | 0xe0000..=0xe007f
    );
    !c.is_control() && !hides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_act_on() {
        let nasty = "a\u{1b}[2J\r\n\u{9b}0m\u{202e}b\u{2028}\u{7f}\u{200b}";
        let entries = [
            json!({"time": nasty, "principal": nasty, "action": nasty, nasty: nasty, "list": [nasty]})
                .to_string()
                .into_bytes(),
            nasty.as_bytes().to_vec(),
            vec![0xff, 0x1b, b'c'],
            b"[1]".to_vec(),
        ];
        for (index, bytes) in (0..).zip(entries) {
            let entry = Entry::new(index, bytes);
            for line in [entry.as_text(), entry.as_json()] {
                assert!(line.chars().all(is_harmless), "{line}");
            }
            assert_eq!(entry.fields.is_some(), index == 0);
        }
    }

    #[test]
    fn json_lines_give_back_what_was_logged() {
        let fields = json!({"principal": "a\u{1b}b\u{e0001}", "version": 3});
        let entry = Entry::new(7, fields.to_string().into_bytes());
        let line: Value = serde_json::from_str(&entry.as_json()).expect("JSON");
        assert_eq!((&line["index"], &line["entry"]), (&json!(7), &fields));
        let raw: Value = serde_json::from_str(&Entry::new(8, b"x".to_vec()).as_json()).expect("JSON");
        assert_eq!(raw["raw"], "eA==");
    }

    #[test]
    fn a_line_says_who_did_what_and_why() {
        let entry = json!({
            "time": "2026-01-01T00:00:00.000Z", "principal": "spiffe://example.org/region/us/proxy/p1", "behalf": "alice",
            "reason": "customer-initiated", "action": "unwrap", "kek": "records", "version": 3, "bucket": "hr",
            "decision": "allow", "policy_sha256": "00",
        });
        let line = Entry::new(12, entry.to_string().into_bytes()).as_text();
        assert_eq!(
            line,
            "      12  2026-01-01T00:00:00.000Z  allow unwrap     spiffe://example.org/region/us/proxy/p1 for alice records v3 \
             because customer-initiated bucket=hr"
        );
        let long = Entry::new(0, vec![b'x'; 10_000]).as_text();
        assert!(long.len() < 300 && long.ends_with('…'));
    }
}

//! What scrapes say of proxies and custodians, as rows for people and as JSON.

use serde_json::{Value, json};

use super::scrape::Scrape;
use crate::cli::progress::span;
use crate::s3::error::Code;

/// One process, by two scrapes of it.
pub(super) struct Seen<'a> {
    pub(super) url: &'a str,
    /// `None` when it cannot be reached.
    pub(super) now: Option<&'a Scrape>,
    pub(super) before: Option<&'a Scrape>,
}

impl Seen<'_> {
    /// Whether it is a custodian.
    pub(super) fn is_custodian(&self) -> bool {
        self.now.and_then(|now| now.label("claviger_build_info", "role")) == Some("custodian")
    }

    fn value(&self, name: &str) -> Option<f64> {
        self.now?.value(name)
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.value(name).map(|value| value != 0.0)
    }

    fn rate(&self, name: &str, wanted: impl Fn(&str, &str) -> bool) -> Option<f64> {
        Some(self.now?.rate(self.before?, name, wanted))
    }

    fn p99(&self, name: &str) -> Option<f64> {
        self.now?.quantile(self.before, name, 0.99)
    }

    fn leases(&self, kind: &str) -> Option<f64> {
        self.now?.sum("claviger_leases", |label, value| label != "kind" || value == kind)
    }

    fn common(&self) -> Value {
        json!({
            "url": self.url,
            "reachable": self.now.is_some(),
            "ready": self.flag("claviger_ready").unwrap_or(false),
            "version": self.now.and_then(|now| now.label("claviger_build_info", "version")),
            "connections": self.value("claviger_connections"),
            "certificate_expiry_s": self.now.and_then(|now| now.least("claviger_certificate_expiry_seconds")),
        })
    }

    /// A proxy as JSON.
    pub(super) fn proxy(&self) -> Value {
        let mut told = self.common();
        told["requests_s"] = json!(self.rate("claviger_requests_total", |_, _| true));
        told["errors_s"] = json!(self.rate("claviger_requests_total", is_error));
        told["requests_in_flight"] = json!(self.value("claviger_requests_in_flight"));
        told["p99_s"] = json!({
            "client": self.p99("claviger_request_duration_seconds"),
            "custodian": self.p99("claviger_custodian_call_duration_seconds"),
            "storage": self.p99("claviger_storage_call_duration_seconds"),
        });
        told["leases"] = json!({ "read": self.leases("read"), "write": self.leases("write") });
        told["watch_connected"] = json!(self.flag("claviger_custodian_watch_connected"));
        told["integrity_alarms"] = json!(self.value("claviger_integrity_alarms_total"));
        told
    }

    /// A custodian as JSON.
    pub(super) fn custodian(&self) -> Value {
        let mut told = self.common();
        told["sealed"] = json!(self.flag("claviger_custodian_sealed"));
        told["requests_s"] = json!(self.rate("claviger_custodian_requests_total", |_, _| true));
        told["watches"] = json!(self.value("claviger_custodian_watches"));
        told["p99_s"] = json!(self.p99("claviger_custodian_request_duration_seconds"));
        told["audit"] = json!({
            "well": self.flag("claviger_custodian_audit_well"),
            "entries": self.value("claviger_custodian_audit_entries"),
            "pending": self.value("claviger_custodian_audit_pending_entries"),
            "checkpoint_age_s": self.value("claviger_custodian_audit_checkpoint_age_seconds"),
        });
        told
    }
}

/// Whether a request failed by our fault or a server's.
fn is_error(label: &str, value: &str) -> bool {
    let by_code = || Code::ALL.iter().any(|code| code.as_str() == value && code.status().is_server_error());
    label != "result" || value == "5xx" || by_code()
}

/// The columns of proxies.
pub(super) const PROXIES: [&str; 9] =
    ["PROXY", "READY", "REQ/S", "ERR/S", "P99 CLIENT", "CUSTODIAN", "STORAGE", "LEASES R/W", "CERTIFICATE"];
/// Those of custodians.
pub(super) const CUSTODIANS: [&str; 8] =
    ["CUSTODIAN", "READY", "SEALED", "REQ/S", "P99", "WATCHES", "CHECKPOINT", "CERTIFICATE"];
/// Those of keys.
pub(super) const KEYS: [&str; 4] = ["KEY", "NEWEST", "OPENS FROM", "BRANCH KEYS BY VERSION"];

/// A proxy's row.
pub(super) fn proxy_row(told: &Value) -> Vec<String> {
    let p99 = |hop: &str| milliseconds(&told["p99_s"][hop]);
    vec![
        text(&told["url"]),
        readiness(told),
        number(&told["requests_s"], 1),
        number(&told["errors_s"], 1),
        p99("client"),
        p99("custodian"),
        p99("storage"),
        format!("{}/{}", number(&told["leases"]["read"], 0), number(&told["leases"]["write"], 0)),
        lasting(&told["certificate_expiry_s"]),
    ]
}

/// A custodian's row.
pub(super) fn custodian_row(told: &Value) -> Vec<String> {
    let age = told["audit"]["checkpoint_age_s"].as_f64();
    vec![
        text(&told["url"]),
        readiness(told),
        told["sealed"].as_bool().map_or("-", |sealed| if sealed { "SEALED" } else { "no" }).to_owned(),
        number(&told["requests_s"], 1),
        milliseconds(&told["p99_s"]),
        number(&told["watches"], 0),
        age.map_or("-".to_owned(), |age| format!("{} ago", span(age))),
        lasting(&told["certificate_expiry_s"]),
    ]
}

/// A key's row, of what the custodian counts.
pub(super) fn key_row(census: &Value) -> Vec<String> {
    let version = |field: &str| census[field].as_u64().map_or("-".to_owned(), |version| format!("v{version}"));
    let versions = census["versions"].as_object().into_iter().flatten();
    let counted: Vec<String> =
        versions.map(|(version, found)| format!("v{version}: {}", found["branch_keys"])).collect();
    let counted = if counted.is_empty() { "none".to_owned() } else { counted.join(", ") };
    vec![text(&census["name"]), version("latest"), version("min_decryption"), counted]
}

fn readiness(told: &Value) -> String {
    let is = |name: &str| told[name].as_bool() == Some(true);
    match (is("reachable"), is("ready")) {
        (false, _) => "GONE",
        (true, false) => "NO",
        (true, true) => "yes",
    }
    .to_owned()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

fn number(value: &Value, decimals: usize) -> String {
    value.as_f64().map_or("-".to_owned(), |value| format!("{value:.decimals$}"))
}

fn milliseconds(seconds: &Value) -> String {
    match seconds.as_f64() {
        None => "-".to_owned(),
        Some(seconds) if seconds < 10.0 => format!("{:.1} ms", seconds * 1000.0),
        Some(seconds) => span(seconds),
    }
}

fn lasting(seconds: &Value) -> String {
    match seconds.as_f64() {
        None => "-".to_owned(),
        Some(seconds) if seconds <= 0.0 => "EXPIRED".to_owned(),
        Some(seconds) if seconds < 2.0 * 86_400.0 => span(seconds),
        Some(seconds) => format!("{:.0} days", seconds / 86_400.0),
    }
}

/// Columns below their headings.
pub(super) fn columns(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&headings).chain(rows).collect();
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &&Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const BEFORE: &str = "claviger_build_info{version=\"1\",role=\"proxy\"} 1\nclaviger_ready 1\n\
        claviger_requests_total{operation=\"GetObject\",result=\"2xx\"} 0\n";
    const NOW: &str = "claviger_build_info{version=\"1\",role=\"proxy\"} 1\nclaviger_ready 1\n\
        claviger_requests_total{operation=\"GetObject\",result=\"2xx\"} 30\n\
        claviger_requests_total{operation=\"GetObject\",result=\"NoSuchKey\"} 10\n\
        claviger_requests_total{operation=\"GetObject\",result=\"SlowDown\"} 4\n\
        claviger_requests_total{operation=\"GetObject\",result=\"5xx\"} 6\n\
        claviger_request_duration_seconds_bucket{le=\"0.01\",operation=\"GetObject\"} 40\n\
        claviger_request_duration_seconds_bucket{le=\"+Inf\",operation=\"GetObject\"} 40\n\
        claviger_leases{kind=\"read\",age=\"0-1m\"} 2\nclaviger_leases{kind=\"read\",age=\"1-5m\"} 1\n\
        claviger_leases{kind=\"write\",age=\"0-1m\"} 5\n\
        claviger_certificate_expiry_seconds{role=\"server\"} 864000\n\
        claviger_certificate_expiry_seconds{role=\"custodian-client\"} 260000\n";

    #[test]
    fn a_proxy_is_told_by_two_scrapes() {
        let begun = Instant::now();
        let (before, now) = (Scrape::parse(BEFORE, begun), Scrape::parse(NOW, begun + Duration::from_secs(10)));
        let seen = Seen { url: "http://p", now: Some(&now), before: Some(&before) };
        assert!(!seen.is_custodian());
        let row = proxy_row(&seen.proxy());
        assert_eq!(row, ["http://p", "yes", "5.0", "1.0", "9.9 ms", "-", "-", "3/5", "3 days"]);
        let gone = Seen { url: "http://p", now: None, before: Some(&now) };
        assert_eq!(proxy_row(&gone.proxy())[1], "GONE");
    }

    #[test]
    fn a_custodian_and_its_keys_are_told() {
        let text = "claviger_build_info{version=\"1\",role=\"custodian\"} 1\nclaviger_ready 0\nclaviger_custodian_sealed 1\n\
            claviger_certificate_expiry_seconds{role=\"server\"} -5\n";
        let now = Scrape::parse(text, Instant::now());
        let seen = Seen { url: "http://c", now: Some(&now), before: None };
        assert!(seen.is_custodian());
        let row = custodian_row(&seen.custodian());
        assert_eq!(row, ["http://c", "NO", "SEALED", "-", "-", "-", "-", "EXPIRED"]);
        let census = json!({ "name": "demo", "latest": 3, "min_decryption": 1,
            "versions": { "1": { "branch_keys": 2 }, "3": { "branch_keys": 7 } } });
        let shown = columns(&KEYS, &[key_row(&census)]);
        assert!(shown.contains("demo  v3      v1          v1: 2, v3: 7\n"), "{shown}");
    }
}

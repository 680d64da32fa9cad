//! `claviger audit reconcile`: holds the record accesses in a proxy's log against the key uses in the custodian's.
//!
//! A record is opened or written under a leased branch key, so each access has a key use before it, by the same principal, for
//! the same reason and bucket, no longer ago than the lease. An access without one was made under a key that the custodian
//! did not give for it, or one of the two logs is not the whole truth.

mod matching;

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use time::OffsetDateTime;

use self::matching::{Access, Leases, Ledger, Unmatched};
use super::entry::Entry;
use super::fetch::Need;
use super::local::LocalLog;
use super::moment::{duration, moment};
use super::remote::Connection;
use super::verifier_key;
use super::walk::walk;
use crate::cli::Bad;
use crate::tlog::merkle::Frontier;
use crate::tlog::note::Use;

#[derive(Args)]
pub(super) struct Arguments {
    /// The custodian's audit log: a folder or a URL
    #[arg(long, env = "CLAVIGER_AUDIT_LOG", value_name = "DIR|URL")]
    custodian: String,
    /// Its verifier key, or a file with it
    #[arg(long, env = "CLAVIGER_AUDIT_KEY", value_name = "VKEY|FILE")]
    custodian_key: String,
    /// The proxy's access log: a folder or a URL
    #[arg(long, env = "CLAVIGER_ACCESS_LOG", value_name = "DIR|URL")]
    proxy: String,
    /// Its verifier key, or a file with it
    #[arg(long, env = "CLAVIGER_ACCESS_KEY", value_name = "VKEY|FILE")]
    proxy_key: String,
    /// How long the proxy may open records with one key use (its `read_lease_s`)
    #[arg(long, value_name = "DURATION", default_value = "300s", value_parser = duration)]
    read_lease: Duration,
    /// How long it may write with one (its `write_renew_s`)
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    write_lease: Duration,
    /// How far the clocks of the two may be apart
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    clock_margin: Duration,
    /// Only accesses since this time: RFC 3339, a date, or how long ago (such as 2h)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<OffsetDateTime>,
    /// Only accesses before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<OffsetDateTime>,
    /// Show at most so many of each kind
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    connection: Connection,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the comparison gave.
struct Reconciled {
    accesses: u64,
    uses: u64,
    /// Of no use to the comparison: entries that lack what it needs.
    unknown: u64,
    without_use: Unmatched,
    without_access: Unmatched,
}

pub(super) async fn run(arguments: &Arguments) -> Result<()> {
    let open =
        |place: &str, key: &str| LocalLog::open(place, verifier_key(key, Use::Log)?, &arguments.connection, None);
    let custodian = open(&arguments.custodian, &arguments.custodian_key)?;
    let proxy = open(&arguments.proxy, &arguments.proxy_key)?;
    // First, so that each access that is seen has its key use in what is read afterwards.
    proxy.refresh(Need::EntriesFrom(0)).await?;
    let accesses = proxy.reader()?;
    custodian.refresh(Need::EntriesFrom(0)).await?;
    let reconciled = reconcile(arguments, &custodian.reader()?, &accesses)?;
    if arguments.json {
        println!("{:#}", reconciled.as_json());
    } else {
        print!("{}", reconciled.as_text());
    }
    if reconciled.without_use.total == 0 { Ok(()) } else { Err(Bad.into()) }
}

fn reconcile(
    arguments: &Arguments,
    custodian: &crate::tlog::reader::Reader,
    proxy: &crate::tlog::reader::Reader,
) -> Result<Reconciled> {
    let leases = Leases {
        read_ms: milliseconds(arguments.read_lease),
        write_ms: milliseconds(arguments.write_lease),
        margin_ms: milliseconds(arguments.clock_margin),
    };
    let mut ledger = Ledger::new(leases, arguments.limit);
    let mut unknown = 0;
    walk(custodian, &mut Frontier::default(), |index, bytes| ledger.note_use(&Entry::new(index, bytes)))?;
    ledger.sort();
    walk(proxy, &mut Frontier::default(), |index, bytes| {
        let entry = Entry::new(index, bytes);
        match Access::of(&entry) {
            Access::Records(access) if within(arguments, access.time) => ledger.note_access(&entry, &access),
            Access::Unknown => unknown += 1,
            Access::Records(_) | Access::NoKey => {}
        }
        if let Some(read) = Access::of_source(&entry).filter(|read| within(arguments, read.time)) {
            ledger.note_access(&entry, &read);
        }
        Ok(())
    })?;
    let from_ms = arguments.since.map(matching::unix_ms);
    let until_ms = arguments.until.map(matching::unix_ms);
    let without_access = ledger.uses_without_access(from_ms, until_ms);
    let (accesses, uses, without_use) = ledger.into_counts();
    Ok(Reconciled { accesses, uses, unknown, without_use, without_access })
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

fn within(arguments: &Arguments, time: OffsetDateTime) -> bool {
    arguments.since.is_none_or(|since| time >= since) && arguments.until.is_none_or(|until| time < until)
}

impl Reconciled {
    fn as_json(&self) -> serde_json::Value {
        json!({
            "ok": self.without_use.total == 0,
            "accesses": self.accesses,
            "key_uses": self.uses,
            "entries_not_understood": self.unknown,
            "accesses_without_key_use": self.without_use.as_json(),
            "key_uses_without_access": self.without_access.as_json(),
        })
    }

    fn as_text(&self) -> String {
        let mut text = format!("{} record accesses, {} key uses on behalf of clients.\n", self.accesses, self.uses);
        if self.unknown > 0 {
            text += &format!("{} entries of the proxy's log are not understood, and not compared.\n", self.unknown);
        }
        text += &self.without_use.as_text(
            "record accesses without a key use before them",
            "The proxy opened or wrote records under keys that the custodian's log does not show it getting for that principal, \
             reason and bucket: one of the two logs is not the whole truth, or the leases given here are too short.",
        );
        text += &self.without_access.as_text(
            "key uses without a record access after them",
            "A client that went away, a failed request or a refresh ahead of time leaves some. Many of one principal and bucket \
             mean that keys are fetched for something that the proxy's log does not show.",
        );
        text
    }
}

#[cfg(test)]
mod tests;

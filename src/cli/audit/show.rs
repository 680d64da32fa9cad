//! `claviger audit show`: the entries of a log, filtered.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use time::OffsetDateTime;

use super::LogArguments;
use super::entry::Entry;
use super::fetch::Need;
use super::local::LocalLog;
use super::moment::moment;
use super::walk::walk;
use crate::cli::Usage;
use crate::tlog::merkle::Frontier;

/// How often a log that is followed is looked at.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// Most entries that `--limit` keeps in memory.
const LIMIT_MAX: usize = 100_000;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    log: LogArguments,
    #[command(flatten)]
    filter: Filter,
    /// Only the last N of them
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Go on showing entries as checkpoints cover them
    #[arg(long)]
    follow: bool,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

/// Which entries are shown.
#[derive(Args, Default)]
pub(super) struct Filter {
    /// Since this time: RFC 3339, a date, or how long ago (such as 2h)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<OffsetDateTime>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<OffsetDateTime>,
    /// By or on behalf of this principal; the end of a SPIFFE id will do, such as proxy/p1
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Option<String>,
    /// Under this KEK
    #[arg(long, value_name = "KEK")]
    kek: Option<String>,
    /// This action, such as unwrap
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only what was allowed, or only what was denied
    #[arg(long, value_name = "DECISION")]
    decision: Option<Decision>,
    /// For this reason, such as customer-support
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Decision {
    Allow,
    Deny,
}

impl Filter {
    fn takes(&self, entry: &Entry) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || found == wanted.as_deref();
        let principal = self.principal.as_ref().is_none_or(|wanted| {
            let names =
                |found: &str| found == wanted || found.strip_suffix(wanted).is_some_and(|rest| rest.ends_with('/'));
            [entry.text("principal"), entry.text("behalf")].into_iter().flatten().any(names)
        });
        let decision = self.decision.is_none_or(|wanted| {
            let wanted = if wanted == Decision::Allow { "allow" } else { "deny" };
            entry.text("decision") == Some(wanted)
        });
        self.in_time(entry)
            && principal
            && decision
            && is(&self.kek, entry.text("kek"))
            && is(&self.action, entry.action())
            && is(&self.reason, entry.text("reason"))
    }

    /// An entry without a time is at none that could be asked for.
    fn in_time(&self, entry: &Entry) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let Some(time) = entry.time() else { return false };
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

pub(super) async fn run(arguments: &Arguments) -> Result<()> {
    if arguments.limit.is_some_and(|limit| limit > LIMIT_MAX) {
        return Err(Usage(format!("--limit is at most {LIMIT_MAX}")).into());
    }
    let log = arguments.log.open()?;
    let mut show = Show { arguments, edge: Frontier::default() };
    let mut out = std::io::stdout().lock();
    let shown = async {
        show.first(&log, &mut out).await?;
        if !arguments.follow {
            return Ok(());
        }
        loop {
            tokio::time::sleep(FOLLOW_EVERY).await;
            show.more(&log, &mut out).await?;
        }
    };
    match shown.await {
        // Whoever read the output has seen enough.
        Err(error) if is_closed_pipe(&error) => Ok(()),
        other => other,
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

struct Show<'a> {
    arguments: &'a Arguments,
    /// What was read, shown or not.
    edge: Frontier,
}

impl Show<'_> {
    async fn first(&mut self, log: &LocalLog, out: &mut impl std::io::Write) -> Result<()> {
        let Some(limit) = self.arguments.limit else { return self.more(log, out).await };
        log.refresh(Need::EntriesFrom(0)).await?;
        let mut last = VecDeque::with_capacity(limit);
        walk(&log.reader()?, &mut self.edge, |index, bytes| {
            let entry = Entry::new(index, bytes);
            if self.arguments.filter.takes(&entry) && limit > 0 {
                if last.len() == limit {
                    last.pop_front();
                }
                last.push_back(entry);
            }
            Ok(())
        })?;
        last.iter().try_for_each(|entry| self.arguments.print(entry, out))?;
        Ok(out.flush()?)
    }

    /// Shows what came after that.
    async fn more(&mut self, log: &LocalLog, out: &mut impl std::io::Write) -> Result<()> {
        log.refresh(Need::EntriesFrom(self.edge.size())).await?;
        let walked = walk(&log.reader()?, &mut self.edge, |index, bytes| {
            let entry = Entry::new(index, bytes);
            if self.arguments.filter.takes(&entry) { self.arguments.print(&entry, out) } else { Ok(()) }
        });
        out.flush()?;
        walked
    }
}

impl Arguments {
    fn print(&self, entry: &Entry, out: &mut impl std::io::Write) -> Result<()> {
        let line = if self.json { entry.as_json() } else { entry.as_text() };
        Ok(writeln!(out, "{line}")?)
    }
}

#[cfg(test)]
mod tests;

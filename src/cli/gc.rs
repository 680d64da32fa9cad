//! `claviger gc`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::jobs::{self, Interrupted, MOST_FINDINGS};
use super::{Bad, ConfigFile, progress, runtime, start_logs, wiring};
use crate::maintenance::gc::{Collected, Gc, Left};
use crate::maintenance::job::{End, Patience};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Delete nothing younger than this, such as 24h or 7d; an hour at least
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = age)]
    older_than: Duration,
    /// Most requests to the storage server in a second; without it, as fast as it goes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_requests_s: Option<u32>,
    /// Delete nothing, and say what would be deleted
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Hours or days.
fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "a time is a number of hours or days: 24h, 7d".to_owned();
    let unit = text.chars().next_back().filter(char::is_ascii_alphabetic).ok_or_else(wrong)?;
    let hours = match unit {
        'h' => 1,
        'd' => 24,
        _ => return Err(wrong()),
    };
    let number: u64 = text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    let hours = number.checked_mul(hours).filter(|hours| (1..=24 * 3650).contains(hours)).ok_or_else(wrong)?;
    Ok(Duration::from_secs(hours * 3600))
}

pub(super) fn run(arguments: Arguments) -> Result<()> {
    runtime()?.block_on(gc(arguments))
}

async fn gc(arguments: Arguments) -> Result<()> {
    let config = arguments.config.load()?;
    start_logs(&config)?;
    let benches = wiring::prepare_jobs(config, arguments.max_requests_s).await?;
    let (begun, stop) = (Instant::now(), jobs::stop()?);
    let (mut found, mut failed) = (Vec::new(), false);
    let (mut end, mut all, mut broken) = (End::Complete, Collected::default(), None);
    for bench in &benches.all {
        let job = Gc {
            objects: Arc::clone(&bench.objects),
            who: jobs::who(),
            older_than: arguments.older_than,
            dry_run: arguments.dry_run,
            patience: Patience::default(),
            stop: stop.clone(),
        };
        let outcome = job.run(|name, left| {
            failed |= matches!(left, Left::Failed(_));
            let why = format!("{:#}", anyhow::Error::from(left));
            if !arguments.json {
                println!("{name}: left alone: {why}");
            }
            if found.len() < MOST_FINDINGS {
                found.push(json!({ "name": name, "error": why, "site": bench.site }));
            }
        });
        match outcome.await {
            Ok((ended, collected)) => (end, all) = (ended, all.and(collected)),
            // One site that fails holds no other up.
            Err(error) => {
                let error = anyhow::Error::from(error).context(format!("the site {}", bench.site));
                if let Some(before) = broken.replace(error) {
                    eprintln!("claviger: {before:#}");
                }
            }
        }
        if end == End::Stopped {
            break;
        }
    }
    if let Some(error) = broken {
        return Err(error);
    }
    let Collected { uploads, kept, deleted, entries, unknown, checkpoints } = all;
    let requests: u64 = benches.all.iter().map(|bench| bench.storage.requests()).sum();
    let seconds = begun.elapsed().as_secs_f64();
    if arguments.json {
        let complete = end == End::Complete;
        let report = json!({
            "job": "gc", "dry_run": arguments.dry_run, "uploads": uploads, "kept": kept, "deleted": deleted, "entries": entries,
            "unknown": unknown, "checkpoints": checkpoints, "findings": found, "requests": requests,
            "seconds": (seconds * 1000.0).round() / 1000.0, "complete": complete,
        });
        println!("{report}");
    } else {
        let verb = if arguments.dry_run { "would be deleted" } else { "deleted" };
        println!(
            "gc: {uploads} uploads: {kept} kept, {deleted} {verb} ({entries} entries), {unknown} left alone; {checkpoints} checkpoints \
             {verb}; {}, {requests} requests",
            progress::span(seconds)
        );
    }
    match end {
        End::Stopped => Err(Interrupted.into()),
        End::Complete if failed => Err(Bad.into()),
        End::Complete => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_hours_or_days() {
        assert_eq!(age("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(age("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for wrong in ["", "24", "h", "0h", "-1d", "1w", "1hh", "99999999d", "\u{f6}"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }
}

//! `claviger maintain`: keeps branch keys on the newest version of their KEKs, and the directory whole.

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use super::key::movers;
use super::{Bad, ConfigFile, asked_to_end, notify, runtime, start_logs};
use crate::maintenance::keys::{KeyMover, KeyOptions};
use crate::names::KekName;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// One round, and then end; exit code 1 if something was not right
    #[arg(long)]
    once: bool,
    /// Seconds between rounds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval_s: u64,
    /// Requests to the storage server at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let config = arguments.config.load()?;
    start_logs(&config)?;
    let keks = config.all_keks();
    runtime()?.block_on(async {
        let mut ending = std::pin::pin!(asked_to_end()?);
        let movers = movers(config, usize::from(arguments.concurrency))?;
        notify::ready("looking after branch keys");
        loop {
            let round = async {
                let mut well = true;
                for kek in &keks {
                    for mover in &movers {
                        well &= one(mover, kek).await;
                    }
                }
                well
            };
            let well = tokio::select! {
                well = round => well,
                () = &mut ending => return Ok(()),
            };
            if arguments.once {
                return if well { Ok(()) } else { Err(Bad.into()) };
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(arguments.interval_s)) => {}
                () = &mut ending => return Ok(()),
            }
        }
    })
}

/// One KEK at one site: rewrapped if something needs an older version, and all that is missing in the directory written again.
async fn one(mover: &KeyMover, kek: &KekName) -> bool {
    let options = KeyOptions { repair: true, dry_run: false };
    let moved = mover.rewrap(kek, options).await;
    let site = mover.site.as_str();
    match moved.with_context(|| format!("the branch keys of {kek} at {site}")) {
        Ok(report) => {
            let (moved, read_back, mended, failed) = (report.moved, report.confirmed, report.mended, report.failed);
            tracing::info!(%kek, site, moved, read_back, mended, failed, "branch keys looked after");
            for (branch, what) in &report.findings {
                tracing::error!(%kek, site, %branch, what, "a branch key is not in order");
            }
            failed == 0
        }
        Err(error) => {
            tracing::error!(%kek, error = format!("{error:#}"), "branch keys could not be looked after");
            false
        }
    }
}

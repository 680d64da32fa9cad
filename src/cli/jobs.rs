//! What the commands that run jobs have in common: flags, wiring, progress, report.

use anyhow::Result;
use clap::Args;

use super::{ConfigFile, Usage, start_logs, wiring};
use crate::custody::caller::Caller;
use crate::custody::reason::Reason;
use crate::names::{LogicalBucket, Principal};
use crate::object::access::Authenticated;

/// The flags of every job over objects.
#[derive(Args)]
pub(super) struct JobFlags {
    #[command(flatten)]
    pub(super) config: ConfigFile,
    /// Objects treated at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) concurrency: u16,
    /// Most requests to the storage server in a second; without it, as fast as it goes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_requests_s: Option<u32>,
    /// Change nothing, and say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Begin anew, whatever an earlier run that did not end has left
    #[arg(long)]
    pub(super) restart: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// `BUCKET` or `BUCKET/PREFIX`, with or without `s3://`.
pub(super) fn target(text: &str) -> Result<(LogicalBucket, String)> {
    let text = text.strip_prefix("s3://").unwrap_or(text);
    let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
    let bucket = LogicalBucket::new(bucket).map_err(|error| Usage(error.to_string()))?;
    Ok((bucket, prefix.to_owned()))
}

/// Who a job is, towards the custodian and in its log.
pub(super) fn who() -> Authenticated {
    let principal = Principal::new("claviger").expect("a legal principal");
    Authenticated::program(Caller { principal, reason: Reason::Maintenance })
}

/// Puts together what a job works with, and sends log lines to stderr.
pub(super) async fn prepare(flags: &JobFlags) -> Result<wiring::Workbench> {
    let config = flags.config.load()?;
    start_logs(&config)?;
    wiring::prepare_job(config).await
}

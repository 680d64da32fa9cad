//! `claviger verify`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use clap::Args;

use super::jobs::{self, JobFlags};
use super::runtime;
use crate::maintenance::job::Scope;
use crate::maintenance::verify::Verify;

#[derive(Args)]
pub(super) struct Arguments {
    /// The bucket, or the bucket and the beginning of the keys
    #[arg(value_name = "BUCKET[/PREFIX]")]
    target: String,
    #[command(flatten)]
    job: JobFlags,
    /// Authenticate size, checksum and metadata of each object, and leave its bytes unread
    #[arg(long)]
    headers_only: bool,
    /// Old versions, too
    #[arg(long)]
    versions: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<()> {
    runtime()?.block_on(verify(arguments))
}

async fn verify(arguments: Arguments) -> Result<()> {
    let Arguments { target, job: flags, headers_only, versions } = arguments;
    let (bucket, prefix) = jobs::target(&target)?;
    let bench = jobs::prepare(&flags).await?;
    let headers_only = headers_only || flags.dry_run;
    let (objects, who) = (Arc::clone(&bench.objects), jobs::who());
    let work = Verify { objects, who, headers_only, under_customer_keys: AtomicU64::new(0) };
    let scope = Scope { bucket, prefix, versions, concurrency: usize::from(flags.concurrency) };
    let notes = || match work.under_customer_keys.load(Ordering::Relaxed) {
        0 => Vec::new(),
        count => vec![format!("{count} objects are under keys of clients' own (SSE-C), and were not verified")],
    };
    jobs::carry_out(&flags, &bench, &scope, &work, notes).await
}

//! `claviger verify`.

use std::sync::Arc;

use anyhow::Result;
use clap::Args;

use super::jobs::{self, Expected, JobFlags};
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
    #[command(flatten)]
    expected: Expected,
    /// Open envelopes and the ends of objects only, which is quicker, and leave their bytes unread
    #[arg(long)]
    headers_only: bool,
    /// Verify all versions, and not only the newest
    #[arg(long)]
    versions: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<()> {
    runtime()?.block_on(verify(arguments))
}

async fn verify(arguments: Arguments) -> Result<()> {
    let Arguments { target, job: flags, expected, headers_only, versions } = arguments;
    let (bucket, prefix) = jobs::target(&target)?;
    let bench = jobs::prepare(&flags, &bucket).await?;
    let (objects, who, passed) = (Arc::clone(&bench.objects), jobs::who(), expected.passed());
    let work = Verify { objects, who, headers_only, versions, dry_run: flags.dry_run, passed };
    let scope = Scope { bucket, prefix, versions, concurrency: usize::from(flags.concurrency) };
    jobs::run_job(&flags, &bench, scope, Arc::new(work)).await
}

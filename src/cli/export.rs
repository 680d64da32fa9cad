//! `claviger export`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;

use super::jobs::{self, Expected, JobFlags};
use super::{Usage, runtime};
use crate::maintenance::export::{Export, ExportError, Target};
use crate::maintenance::job::Scope;

#[derive(Args)]
pub(super) struct Arguments {
    /// The bucket, or the bucket and the beginning of the keys
    #[arg(value_name = "BUCKET[/PREFIX]")]
    target: String,
    /// The folder, empty or of an earlier export
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    job: JobFlags,
    #[command(flatten)]
    expected: Expected,
}

pub(super) fn run(arguments: Arguments) -> Result<()> {
    runtime()?.block_on(export(arguments))
}

async fn export(arguments: Arguments) -> Result<()> {
    let Arguments { target, to, job: flags, expected } = arguments;
    let (bucket, prefix) = jobs::target(&target)?;
    let target = (!flags.dry_run).then(|| Target::open(&to, &bucket)).transpose().map_err(|error| match error {
        ExportError::Files { .. } => anyhow::Error::from(error),
        refused => Usage(refused.to_string()).into(),
    })?;
    let bench = jobs::prepare(&flags, &bucket).await?;
    let (objects, who, passed) = (Arc::clone(&bench.objects), jobs::who(), expected.passed());
    let work = Export { objects, who, target, passed };
    let scope = Scope { bucket, prefix, versions: false, concurrency: usize::from(flags.concurrency) };
    jobs::run_job(&flags, &bench, scope, Arc::new(work)).await
}

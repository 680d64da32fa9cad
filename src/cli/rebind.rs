//! `claviger rebind`.

use std::sync::Arc;

use anyhow::Result;
use clap::Args;

use super::jobs::{self, JobFlags};
use super::re_encrypt::Stopped;
use super::{Usage, runtime};
use crate::maintenance::job::Scope;
use crate::maintenance::rebind::Rebind;
use crate::maintenance::renewing::Tally;

#[derive(Args)]
pub(super) struct Arguments {
    /// The name that the objects have now: a bucket, or a bucket and the beginning of the keys
    #[arg(value_name = "BUCKET[/KEY]")]
    target: String,
    /// The name under which they were written: what stands here in place of the other name, the rest of the keys the same
    #[arg(long, value_name = "OLDBUCKET[/OLDKEY]")]
    from: String,
    #[command(flatten)]
    job: JobFlags,
    #[command(flatten)]
    stopped: Stopped,
}

pub(super) fn run(arguments: Arguments) -> Result<()> {
    runtime()?.block_on(rebind(arguments))
}

async fn rebind(arguments: Arguments) -> Result<()> {
    let Arguments { target, from, job: flags, stopped } = arguments;
    let ((bucket, prefix), (from_bucket, from_prefix)) = (jobs::target(&target)?, jobs::target(&from)?);
    if (&bucket, &prefix) == (&from_bucket, &from_prefix) {
        return Err(Usage("--from is the name that the objects have already".to_owned()).into());
    }
    let bench = jobs::prepare(&flags).await?;
    let objects = Arc::clone(&bench.objects);
    let manner = stopped.manner(&objects, flags.dry_run).await?;
    let (who, tally, keys) = (jobs::who(), Tally::default(), prefix.clone());
    let work = Rebind { objects, who, prefix: keys, from_bucket, from_prefix, manner, tally };
    let scope = Scope { bucket, prefix, versions: false, concurrency: usize::from(flags.concurrency) };
    jobs::run_job(&flags, &bench, scope, Arc::new(work)).await
}

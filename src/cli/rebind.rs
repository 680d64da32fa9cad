//! `claviger rebind`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use clap::Args;

use super::jobs::{self, JobFlags};
use super::re_encrypt::Stopped;
use super::{Usage, runtime};
use crate::maintenance::job::Scope;
use crate::maintenance::rebind::Rebind;
use crate::maintenance::renewing::Tally;

/// Most bytes of a list of keys.
const LONGEST_LIST: u64 = 1 << 30;

#[derive(Args)]
pub(super) struct Arguments {
    /// The name that the objects have now: a bucket, or a bucket and the beginning of the keys
    #[arg(value_name = "BUCKET[/KEY]")]
    target: String,
    /// The name under which they were written: what stands here in place of the other name, the rest of the keys the same
    #[arg(long, value_name = "OLDBUCKET[/OLDKEY]")]
    from: String,
    /// With --dry-run, write the keys of what would be bound into this file, each as JSON in a line of its own; without it, bind what
    /// is in the file and nothing else
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    #[command(flatten)]
    job: JobFlags,
    #[command(flatten)]
    stopped: Stopped,
}

pub(super) fn run(arguments: Arguments) -> Result<()> {
    runtime()?.block_on(rebind(arguments))
}

async fn rebind(arguments: Arguments) -> Result<()> {
    let Arguments { target, from, list, job: flags, stopped } = arguments;
    let ((bucket, prefix), (from_bucket, from_prefix)) = (jobs::target(&target)?, jobs::target(&from)?);
    if (&bucket, &prefix) == (&from_bucket, &from_prefix) {
        return Err(Usage("--from is the name that the objects have already".to_owned()).into());
    }
    let only = list.as_deref().filter(|_| !flags.dry_run).map(read_list).transpose()?;
    let bench = jobs::prepare(&flags, &bucket).await?;
    let objects = Arc::clone(&bench.objects);
    if !objects.has_bucket(&from_bucket) {
        let site = &bench.site;
        let wrong = format!("the configuration has no bucket {from_bucket} on the storage server of {bucket} ({site})");
        return Err(Usage(wrong).into());
    }
    let manner = stopped.manner(&objects, flags.dry_run).await?;
    let (who, tally, keys) = (jobs::who(), Tally::default(), prefix.clone());
    let would = Mutex::default();
    let work = Arc::new(Rebind { objects, who, prefix: keys, from_bucket, from_prefix, only, would, manner, tally });
    let scope = Scope { bucket, prefix, versions: false, concurrency: usize::from(flags.concurrency) };
    let outcome = jobs::run_job(&flags, &bench, scope, Arc::clone(&work) as _).await;
    if let Some(list) = list.filter(|_| flags.dry_run) {
        write_list(&list, &work.would.lock().unwrap_or_else(PoisonError::into_inner))?;
    }
    outcome
}

fn write_list(list: &Path, keys: &[String]) -> Result<()> {
    let cannot = || format!("cannot write {}", list.display());
    let mut file = BufWriter::new(File::create(list).with_context(cannot)?);
    for key in keys {
        writeln!(file, "{}", serde_json::Value::from(key.as_str())).with_context(cannot)?;
    }
    file.flush().with_context(cannot)
}

fn read_list(list: &Path) -> Result<BTreeSet<String>> {
    let cannot = || format!("cannot read {}", list.display());
    let mut text = String::new();
    File::open(list).with_context(cannot)?.take(LONGEST_LIST + 1).read_to_string(&mut text).with_context(cannot)?;
    if text.len() as u64 > LONGEST_LIST {
        return Err(Usage(format!("{} is longer than a list of keys may be", list.display())).into());
    }
    let keys = text.lines().filter(|line| !line.is_empty()).map(|line| {
        let wrong = |_| Usage(format!("{} has a line that is no key as JSON: {line:?}", list.display()));
        serde_json::from_str(line).map_err(|error| wrong(error).into())
    });
    keys.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written_and_nothing_else_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("list");
        let keys = ["a b", "\u{f6}\n\u{1b}\"", "//"].map(str::to_owned);
        write_list(&path, &keys).expect("writes");
        assert_eq!(read_list(&path).expect("reads"), keys.into_iter().collect());
        std::fs::write(&path, "a\n").expect("writes");
        assert!(read_list(&path).is_err());
    }
}

//! `claviger re-encrypt`.

use std::sync::Arc;

use anyhow::Result;
use clap::{ArgGroup, Args};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use super::jobs::{self, JobFlags};
use super::{Usage, runtime};
use crate::maintenance::job::Scope;
use crate::maintenance::re_encrypt::ReEncrypt;
use crate::maintenance::renewing::{self, RefusedServer, Tally};
use crate::names::{BranchId, KekName, KekVersion};
use crate::object::Objects;
use crate::object::renewal::{Choice, Manner};

#[derive(Args)]
#[command(group(ArgGroup::new("choice").multiple(true)))]
pub(super) struct Arguments {
    /// The bucket, or the bucket and the beginning of the keys
    #[arg(value_name = "BUCKET[/PREFIX]")]
    target: String,
    #[command(flatten)]
    job: JobFlags,
    /// Objects under this branch key (32 hexadecimal digits, as `claviger inspect` shows it)
    #[arg(long, value_name = "ID", value_parser = branch, group = "choice")]
    branch: Option<BranchId>,
    /// Objects written before this moment, such as 2026-11-25 or 2026-11-25T07:30:00Z
    #[arg(long, value_name = "DATE", value_parser = moment_ms, group = "choice")]
    before: Option<u64>,
    /// Objects whose envelope is under a lower version of its KEK than this
    #[arg(long, value_name = "N", value_parser = version, group = "choice")]
    kek_version: Option<KekVersion>,
    /// Objects under another KEK than this, under which they then are
    #[arg(long, value_name = "NAME", value_parser = KekName::new, group = "choice")]
    kek: Option<KekName>,
    /// Find old versions that are chosen, too, which cannot be replaced: they have to be deleted
    #[arg(long, requires = "choice")]
    versions: bool,
    #[command(flatten)]
    stopped: Stopped,
}

/// For storage servers that heed no conditions on writes.
#[derive(Args)]
pub(super) struct Stopped {
    /// Nobody else writes to the bucket: go on where the storage server heeds no conditions on writes
    #[arg(long = "applications-are-stopped")]
    pub(super) applications_are_stopped: bool,
}

fn branch(text: &str) -> Result<BranchId, String> {
    BranchId::parse(text).ok_or_else(|| "a branch key's id has 32 hexadecimal digits".to_owned())
}

fn version(text: &str) -> Result<KekVersion, String> {
    let number = text.trim_start_matches('v').parse().ok().and_then(KekVersion::new);
    number.ok_or_else(|| "a KEK's version is a number, 1 and up".to_owned())
}

fn moment_ms(text: &str) -> Result<u64, String> {
    let date = || Date::parse(text, format_description!(version = 2, "[year]-[month]-[day]"));
    let moment = OffsetDateTime::parse(text, &Rfc3339).or_else(|_| date().map(|date| date.midnight().assume_utc()));
    let moment = moment.map_err(|_| "a date is YYYY-MM-DD, or as in RFC 3339: 2026-11-25T07:30:00Z".to_owned())?;
    u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).map_err(|_| "the date is before 1970".to_owned())
}

pub(super) fn run(arguments: Arguments) -> Result<()> {
    runtime()?.block_on(re_encrypt(arguments))
}

async fn re_encrypt(arguments: Arguments) -> Result<()> {
    let Arguments { target, job: flags, branch, before, kek_version, kek, versions, stopped } = arguments;
    let (bucket, prefix) = jobs::target(&target)?;
    let bench = jobs::prepare(&flags, &bucket).await?;
    let objects = Arc::clone(&bench.objects);
    let manner = stopped.manner(&objects, flags.dry_run).await?;
    let choice = Choice { branch, below: kek_version, onto: kek, before_ms: before };
    let work = ReEncrypt { objects, who: jobs::who(), choice, manner, versions, tally: Tally::default() };
    let scope = Scope { bucket, prefix, versions, concurrency: usize::from(flags.concurrency) };
    jobs::run_job(&flags, &bench, scope, Arc::new(work)).await
}

impl Stopped {
    /// How objects are replaced on this storage server. In a dry run it is not tried out.
    pub(super) async fn manner(&self, objects: &Objects, dry_run: bool) -> Result<Manner> {
        if dry_run {
            return Ok(Manner { dry_run, conditional: true });
        }
        match renewing::conditional(objects, self.applications_are_stopped).await {
            Ok(conditional) => Ok(Manner { dry_run, conditional }),
            Err(refused @ RefusedServer::Unconditional(_)) => Err(Usage(refused.to_string()).into()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_chooses_is_read() {
        assert_eq!(moment_ms("1970-01-02"), Ok(86_400_000));
        assert_eq!(moment_ms("1970-01-01T01:00:00.5+01:00"), Ok(500));
        for wrong in ["", "yesterday", "1969-12-31", "2026-13-01", "2026-11-25T07:30"] {
            assert!(moment_ms(wrong).is_err(), "{wrong}");
        }
        assert_eq!(version("v7"), version("7"));
        assert!(version("0").is_err() && version("").is_err());
        assert!(branch(&"0f".repeat(16)).is_ok());
        assert!(branch(&"0f".repeat(15)).is_err() && branch("").is_err());
    }
}

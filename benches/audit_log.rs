//! How many entries a log takes: 64 appenders at once, waiting for the disk and not; and how long it takes to verify 100,000 entries.
//!
//! Run: `cargo bench --bench audit_log`. The folder is made under the current one, because /tmp may be memory.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use claviger::crypto::SigningKey;
use claviger::tlog::log::{Log, Settings};
use claviger::tlog::note::{Signer, Use, VerifierKey};
use claviger::tlog::storage::Disk;
use claviger::tlog::verify::verify;

const APPENDERS: usize = 64;
const RUN: Duration = Duration::from_secs(5);
/// What an entry of the custodian is like.
const ENTRY_LEN: usize = 400;

fn signer() -> Result<Signer> {
    Ok(Signer::new("example.com/bench", Use::Log, SigningKey::generate()?)?)
}

/// Appends for [`RUN`]; gives all latencies, sorted.
async fn append(log: &Arc<Log>) -> Result<Vec<Duration>> {
    let until = Instant::now() + RUN;
    let appender = |number: usize| {
        let log = Arc::clone(log);
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < until {
                let entry = vec![u8::try_from(number).unwrap_or(0); ENTRY_LEN];
                let begun = Instant::now();
                log.append(entry).await?;
                latencies.push(begun.elapsed());
            }
            Ok::<_, claviger::tlog::LogError>(latencies)
        })
    };
    let tasks: Vec<_> = (0..APPENDERS).map(appender).collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    latencies.sort_unstable();
    Ok(latencies)
}

async fn measure(name: &str, disk: Disk) -> Result<()> {
    let folder = tempfile::tempdir_in(".")?;
    let log = Arc::new(Log::open_on(Arc::new(disk), folder.path(), signer()?, &Settings::default())?);
    let latencies = append(&log).await?;
    log.close().await?;
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or_default();
    let per_second = latencies.len() as f64 / RUN.as_secs_f64();
    report(&format!(
        "{name}: {per_second:.0} appends/s of {ENTRY_LEN} bytes by {APPENDERS}, p50 {:.2?}, p99 {:.2?}, max {:.2?}",
        at(0.5),
        at(0.99),
        at(1.0 - f64::EPSILON)
    ));
    Ok(())
}

async fn verify_100_000() -> Result<()> {
    let folder = tempfile::tempdir_in(".")?;
    let log = Log::open(folder.path(), signer()?, &Settings::default())?;
    let begun = Instant::now();
    for _ in 0..100 {
        let batch = (0..1000).map(|_| log.append(vec![7; ENTRY_LEN]));
        futures_util::future::try_join_all(batch).await?;
    }
    log.close().await?;
    report(&format!("100,000 entries appended in batches of 1,000 and published, durable: {:.2?}", begun.elapsed()));
    let key = log.verifier().clone();
    check(folder.path(), &key)
}

fn check(folder: &Path, key: &VerifierKey) -> Result<()> {
    let begun = Instant::now();
    let found = verify(folder, key, None).context("the log is whole")?;
    ensure!(found.checkpoint.checkpoint().size() == 100_000, "entries are missing");
    report(&format!("100,000 entries verified: {:.2?}", begun.elapsed()));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a benchmark's output")]
fn report(line: &str) {
    println!("{line}");
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        measure("waiting for the disk", Disk::durable()).await?;
        measure("not waiting for the disk", Disk::assume_no_power_loss()).await?;
        verify_100_000().await
    })
}

//! `claviger key rewrap | census | retire | schedule`: how a version of a KEK comes to its end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::{as_text, legal, look};
use crate::cli::custodian_client::{CallError, Client, CustodianFlags, plain, table};
use crate::cli::{Bad, ConfigFile, Usage, runtime, start_logs, wiring};
use crate::custody::caller::Caller;
use crate::custody::reason::Reason;
use crate::maintenance::keys::{KeyMover, KeyOptions, KeyReport};
use crate::names::{KekName, KekVersion};

#[derive(Args)]
pub(in crate::cli) struct Rewrap {
    /// The key
    name: String,
    #[command(flatten)]
    flags: SiteFlags,
    /// Write nothing, and count what would be moved
    #[arg(long)]
    dry_run: bool,
    /// Look at every branch key, and write entries that are missing or damaged again from the custodian's ledger
    #[arg(long, conflicts_with = "dry_run")]
    repair: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Which site's directory, and how fast.
#[derive(Args)]
struct SiteFlags {
    #[command(flatten)]
    config: ConfigFile,
    /// Requests to the storage server at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
}

#[derive(Args)]
pub(in crate::cli) struct Census {
    /// The key
    name: String,
    #[command(flatten)]
    custodian: CustodianFlags,
}

#[derive(Args)]
pub(in crate::cli) struct Retire {
    /// The key
    name: String,
    /// The oldest version that is to be opened from now on, such as v2
    #[arg(long, value_name = "vN")]
    before: String,
    #[command(flatten)]
    flags: SiteFlags,
    #[command(flatten)]
    custodian: CustodianFlags,
}

#[derive(Args)]
pub(in crate::cli) struct Schedule {
    /// The key
    name: String,
    /// How often a version is added, such as 90d or 12h; `off` for never
    #[arg(long, value_name = "TIME")]
    every: String,
    #[command(flatten)]
    custodian: CustodianFlags,
}

impl SiteFlags {
    fn mover(&self) -> Result<KeyMover> {
        let config = self.config.load()?;
        start_logs(&config)?;
        mover(config, usize::from(self.concurrency))
    }
}

/// What moves branch keys at the site of this configuration, as its proxy towards the custodian.
pub(in crate::cli) fn mover(config: crate::config::Config, concurrency: usize) -> Result<KeyMover> {
    let site = config.storage.site.clone();
    let (transit, state) = wiring::custodian_and_state(config)?;
    let caller = Caller { reason: Reason::Maintenance, ..wiring::itself() };
    Ok(KeyMover { transit: Arc::new(transit), state, site, caller, concurrency })
}

pub(in crate::cli) fn rewrap(arguments: &Rewrap) -> Result<()> {
    let name = legal(&arguments.name)?;
    let options = KeyOptions { dry_run: arguments.dry_run, repair: arguments.repair };
    let report = runtime()?.block_on(async {
        let mover = arguments.flags.mover()?;
        let moved = mover.rewrap(&name, options).await;
        moved
            .with_context(|| format!("the branch keys of {name} were not all rewrapped; run it again to go on{ADVICE}"))
    })?;
    if arguments.json {
        println!("{:#}", report_json(&name, &report, options.dry_run));
    } else {
        tell(&report, options.dry_run);
    }
    if report.failed > 0 { Err(Bad.into()) } else { Ok(()) }
}

/// What to think of when a custodian does not know of a ledger.
const ADVICE: &str = " (only `claviger custodian` has a ledger of branch keys; OpenBao and Vault have none)";

fn report_json(name: &KekName, report: &KeyReport, dry_run: bool) -> Value {
    let findings = report.findings.iter();
    let findings = findings.map(|(id, what)| json!({ "branch": id.to_string(), "error": what }));
    json!({
        "kek": name.as_str(),
        "dry_run": dry_run,
        "moved": report.moved,
        "confirmed": report.confirmed,
        "mended": report.mended,
        "failed": report.failed,
        "findings": findings.collect::<Vec<_>>(),
    })
}

fn tell(report: &KeyReport, dry_run: bool) {
    for (id, what) in &report.findings {
        eprintln!("claviger: branch key {id}: {}", plain(what));
    }
    let mended = if report.mended > 0 { format!(", {} entries mended", report.mended) } else { String::new() };
    if dry_run {
        println!("{} branch keys would be moved or read back", report.moved);
    } else {
        println!(
            "{} branch keys moved, {} read back{mended}, {} failed",
            report.moved, report.confirmed, report.failed
        );
    }
}

pub(in crate::cli) fn census(arguments: &Census) -> Result<()> {
    let name = legal(&arguments.name)?;
    let client = Client::new(&arguments.custodian)?;
    let path = format!("keys/{name}/census");
    let asked = client.ours(Method::GET, &path, None, "a ledger of branch keys");
    let answer = runtime()?.block_on(asked).with_context(|| format!("cannot count what hangs on {name}"))?;
    let census = &answer.data;
    if client.json() {
        println!("{census:#}");
        return Ok(());
    }
    let versions = census["versions"].as_object().into_iter().flatten();
    let mut counts: Vec<(u64, String)> = versions
        .filter_map(|(version, found)| Some((version.parse().ok()?, found["branch_keys"].to_string())))
        .collect();
    counts.sort_unstable();
    let named: Vec<(String, String)> =
        counts.into_iter().map(|(version, count)| (format!("v{version}"), format!("{count} branch keys"))).collect();
    println!("{name}: what the branch keys need, the oldest version that each hangs on");
    print!("{}", table(named.iter().map(|(version, count)| (version.as_str(), count.clone()))));
    let why = census["retire"]["why"].as_array().into_iter().flatten().filter_map(Value::as_str);
    why.for_each(|why| println!("not to be retired yet: {}", plain(why)));
    Ok(())
}

pub(in crate::cli) fn retire(arguments: &Retire) -> Result<()> {
    let name = legal(&arguments.name)?;
    let number = arguments.before.strip_prefix('v').unwrap_or(&arguments.before).parse().ok();
    let before = number.and_then(KekVersion::new).ok_or_else(|| Usage("--before wants a version such as v2".into()))?;
    let client = Client::new(&arguments.custodian)?;
    runtime()?.block_on(async {
        let mover = arguments.flags.mover()?;
        let census = mover.transit.census(&name, &mover.caller).await;
        let census = census.with_context(|| format!("cannot count what hangs on {name}{ADVICE}"))?;
        let retire = &census["retire"];
        let needed = retire["needed"].as_u64().unwrap_or(u64::MAX);
        // The census speaks of the newest version; what an older one would need, the custodian says itself.
        if census["latest"].as_u64() == Some(u64::from(before.number())) && needed > 0 {
            bail!("{needed} branch keys of {name} still need a version before {before}: run `claviger key rewrap {name}` first");
        }
        let wait_s = retire["wait_s"].as_u64().unwrap_or(0);
        if wait_s > 0 {
            eprintln!("claviger: proxies may still be given branch keys under an older version; going on in {wait_s} s");
            tokio::time::sleep(Duration::from_secs(wait_s + 1)).await;
        }
        let report = mover.read_back(&name, before).await?;
        tell(&report, false);
        ensure!(report.failed == 0, "not every branch key could be read back: run `claviger key rewrap {name} --repair`");
        let body = json!({ "min_decryption_version": before.number() });
        let changed = client.transit(Method::POST, &format!("keys/{name}/config"), Some(&body)).await?;
        let answer = if changed.data.is_null() { look(&client, &name).await? } else { changed };
        if client.json() { println!("{:#}", answer.data) } else { print!("{}", as_text(&answer.data)) }
        Ok(())
    })
}

pub(in crate::cli) fn schedule(arguments: &Schedule) -> Result<()> {
    let name = legal(&arguments.name)?;
    let every = if arguments.every == "off" { "0" } else { arguments.every.as_str() };
    let client = Client::new(&arguments.custodian)?;
    let body = json!({ "auto_rotate_period": every });
    let changed = runtime()?.block_on(client.transit(Method::POST, &format!("keys/{name}/config"), Some(&body)));
    let changed = match changed {
        Err(error) if matches!(error.downcast_ref(), Some(CallError::NotFound { .. })) => {
            bail!("there is no key {name}")
        }
        changed => changed?,
    };
    if client.json() {
        println!("{:#}", changed.data);
    } else if every == "0" {
        println!("{name} is not rotated by itself");
    } else {
        println!("{name} gets a new version every {every}; `claviger maintain` rewraps its branch keys");
    }
    Ok(())
}

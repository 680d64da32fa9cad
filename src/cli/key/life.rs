//! `claviger key rewrap | census | retire | schedule`: how a version of a KEK comes to its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::objects::{ObjectFlags, of_version, summary};
use super::without_ledger::{NOT_PROOF, REFUSED, Retirement, census as listed_census};
use super::{as_text, legal, look};
use crate::cli::custodian_client::{Answer, CallError, Client, CustodianFlags, plain, table};
use crate::cli::{Bad, ConfigFile, Usage, runtime, start_logs, wiring};
use crate::config::Config;
use crate::custody::caller::Caller;
use crate::custody::reason::Reason;
use crate::maintenance::keys::{KeyMover, KeyOptions, KeyReport};
use crate::names::{KekName, KekVersion};
use crate::object::bucket::Buckets;
use crate::transit::branches::lacks_ledger;

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
    /// A proxy's configuration, for --objects; and where the custodian is an OpenBao or Vault server, which has no ledger, the branch keys are counted that
    /// the storage server lists
    #[arg(long, env = "CLAVIGER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    objects: ObjectFlags,
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
    /// For an OpenBao or Vault server, which has no ledger of branch keys: take the storage server's word for which there are. A branch
    /// key that it hides is lost, with all objects under it
    #[arg(long)]
    without_ledger: bool,
    /// With --without-ledger: ask nobody whether that is meant
    #[arg(long, requires = "without_ledger")]
    yes: bool,
    /// With --without-ledger: for how long after the rotation proxies may still write under an older version: the longest write_renew_s
    /// of any of them, and what clocks may be apart [default: write_renew_s of this configuration, and 300]
    #[arg(long, value_name = "SECONDS", requires = "without_ledger")]
    wait_s: Option<u64>,
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
    fn load(&self) -> Result<Config> {
        let config = self.config.load()?;
        start_logs(&config)?;
        Ok(config)
    }

    fn movers(&self, config: Config) -> Result<Vec<KeyMover>> {
        movers(config, usize::from(self.concurrency))
    }
}

/// What moves branch keys at each site of this configuration, the default one first, as its proxy towards the custodian.
pub(in crate::cli) fn movers(config: Config, concurrency: usize) -> Result<Vec<KeyMover>> {
    let placement = config.placement();
    let buckets = std::iter::once(&config.buckets).chain(config.sites.iter().map(|site| &site.buckets));
    let keks: Vec<Vec<KekName>> = buckets.map(Buckets::all_keks).collect();
    let (transit, states) = (wiring::transit(&config.custodian)?, wiring::states(config)?);
    let caller = Caller { reason: Reason::Maintenance, ..wiring::itself() };
    let mover = |((site, state), keks)| {
        let (transit, placement, caller) = (Arc::clone(&transit), placement.clone(), caller.clone());
        KeyMover { transit, state, site, placement, keks, caller, concurrency }
    };
    Ok(states.into_iter().zip(keks).map(mover).collect())
}

pub(in crate::cli) fn rewrap(arguments: &Rewrap) -> Result<()> {
    let name = legal(&arguments.name)?;
    let options = KeyOptions { dry_run: arguments.dry_run, repair: arguments.repair };
    let sites = runtime()?.block_on(async {
        let mut sites = Vec::new();
        for mover in arguments.flags.movers(arguments.flags.load()?)? {
            let moved = mover.rewrap(&name, options).await;
            sites.push((mover.site, moved));
        }
        anyhow::Ok(sites)
    })?;
    // One site that fails holds no other up, and is told at the end.
    let (mut done, mut broken) = (Vec::new(), None);
    for (site, moved) in sites {
        match moved {
            Ok(report) => done.push((site, report)),
            Err(error) => {
                let error = anyhow::Error::from(error).context(format!("the site {site}"));
                if let Some(before) = broken.replace(error) {
                    eprintln!("claviger: {before:#}");
                }
            }
        }
    }
    if arguments.json && broken.is_none() {
        println!("{:#}", report_json(&name, &done, options.dry_run));
    } else {
        tell_sites(&done, options.dry_run);
    }
    if let Some(error) = broken {
        let again = format!("the branch keys of {name} were not all rewrapped; run it again to go on");
        return Err(error.context(again));
    }
    if done.iter().any(|(_, report)| report.failed > 0) { Err(Bad.into()) } else { Ok(()) }
}

/// By how much clocks may be apart, and the way to the custodian may take.
const MARGIN_S: u64 = 300;

/// Of all sites together, and of each.
fn report_json(name: &KekName, sites: &[(String, KeyReport)], dry_run: bool) -> Value {
    let sum = |count: fn(&KeyReport) -> u64| sites.iter().map(|(_, report)| count(report)).sum::<u64>();
    let findings = sites.iter().flat_map(|(site, report)| {
        report.findings.iter().map(move |(id, what)| json!({ "branch": id.to_string(), "error": what, "site": site }))
    });
    let each = sites.iter().map(|(site, report)| {
        let KeyReport { moved, confirmed, mended, failed, .. } = report;
        (site.clone(), json!({ "moved": moved, "confirmed": confirmed, "mended": mended, "failed": failed }))
    });
    json!({
        "kek": name.as_str(),
        "dry_run": dry_run,
        "moved": sum(|report| report.moved),
        "confirmed": sum(|report| report.confirmed),
        "mended": sum(|report| report.mended),
        "failed": sum(|report| report.failed),
        "findings": findings.collect::<Vec<_>>(),
        "sites": each.collect::<serde_json::Map<_, _>>(),
        "source": if sites.iter().any(|(_, report)| report.listed) { "listing" } else { "ledger" },
    })
}

fn tell_sites(sites: &[(String, KeyReport)], dry_run: bool) {
    for (site, report) in sites {
        if sites.len() > 1 {
            print!("{site}: ");
        }
        tell(report, dry_run);
    }
}

pub(super) fn tell(report: &KeyReport, dry_run: bool) {
    if report.listed {
        eprintln!("claviger: {NOT_PROOF}");
    }
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
    let (census, any_failed) = runtime()?.block_on(async {
        let asked = client.ours(Method::GET, &format!("keys/{name}/census"), None, "a ledger of branch keys").await;
        let cannot = || format!("cannot count what hangs on {name}");
        let lacks = |error: &anyhow::Error| matches!(error.downcast_ref(), Some(CallError::NotHere { .. }));
        let mut census = match (asked, &arguments.config) {
            (Err(error), Some(file)) if lacks(&error) => {
                let config = ConfigFile { file: file.clone() }.load()?;
                // Whoever counts objects does it.
                if arguments.objects.objects.is_none() {
                    start_logs(&config)?;
                }
                listed_census(&name, &movers(config, 1)?, &client).await?
            }
            (Err(error), None) if lacks(&error) => {
                let advice = format!("{}: give --config, to count what the storage server lists", cannot());
                return Err(error.context(advice));
            }
            (asked, _) => asked.with_context(cannot)?.data,
        };
        let mut any_failed = false;
        if let (Some(_), Some(file)) = (&arguments.objects.objects, &arguments.config) {
            let objects = arguments.objects.count(&name, file.clone(), client.json()).await?;
            objects.write_into(&mut census);
            any_failed = objects.any_failed();
        }
        Ok::<_, anyhow::Error>((census, any_failed))
    })?;
    if client.json() {
        println!("{census:#}");
    } else {
        print!("{}", census_text(&name, &census));
    }
    if any_failed { Err(Bad.into()) } else { Ok(()) }
}

fn census_text(name: &KekName, census: &Value) -> String {
    let versions = census["versions"].as_object().into_iter().flatten();
    let mut counts: Vec<(u64, String)> = versions
        .filter_map(|(version, found)| {
            Some((version.parse().ok()?, format!("{} branch keys{}", found["branch_keys"], of_version(found))))
        })
        .collect();
    counts.sort_unstable();
    let named: Vec<(String, String)> =
        counts.into_iter().map(|(version, count)| (format!("v{version}"), count)).collect();
    let title = match census["note"].as_str() {
        Some(note) => format!("{name}: the version of each branch key's newest entry; {}", plain(note)),
        None => format!("{name}: what the branch keys need, the oldest version that each hangs on"),
    };
    let why = census["retire"]["why"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let why: String = why.map(|why| format!("not to be retired yet: {}\n", plain(why))).collect();
    let rows = table(named.iter().map(|(version, count)| (version.as_str(), count.clone())));
    format!("{title}\n{rows}{}{why}", summary(census))
}

pub(in crate::cli) fn retire(arguments: &Retire) -> Result<()> {
    let name = legal(&arguments.name)?;
    let number = arguments.before.strip_prefix('v').unwrap_or(&arguments.before).parse().ok();
    let before = number.and_then(KekVersion::new).ok_or_else(|| Usage("--before wants a version such as v2".into()))?;
    let client = Client::new(&arguments.custodian)?;
    runtime()?.block_on(async {
        let config = arguments.flags.load()?;
        let wait_s = arguments.wait_s.unwrap_or(config.leases.write_renew_s + MARGIN_S);
        let movers = arguments.flags.movers(config)?;
        let main = movers.first().expect("there is a default site");
        let answer = match main.transit.census(&name, &main.caller).await {
            Err(error) if lacks_ledger(&error) => {
                ensure!(arguments.without_ledger, REFUSED);
                let retirement = Retirement { name: &name, before, wait_s, yes: arguments.yes };
                retirement.carry_out(&movers, &client).await?;
                look(&client, &name).await?
            }
            Ok(_) if arguments.without_ledger => {
                let has = "this custodian has a ledger of branch keys, and decides by it: leave --without-ledger out";
                return Err(Usage(has.to_owned()).into());
            }
            census => {
                let census = census.with_context(|| format!("cannot count what hangs on {name}"))?;
                retire_by_ledger((&name, before), &census, &movers, &client).await?
            }
        };
        if client.json() {
            println!("{:#}", answer.data)
        } else {
            print!("{}", as_text(&answer.data))
        }
        Ok(())
    })
}

/// Has every branch key read back, and asks the custodian, which decides by what it then knows.
async fn retire_by_ledger(
    (name, before): (&KekName, KekVersion),
    census: &Value,
    movers: &[KeyMover],
    client: &Client,
) -> Result<Answer> {
    let retire = &census["retire"];
    let needed = retire["needed"].as_u64().unwrap_or(u64::MAX);
    // The census speaks of the newest version; what an older one would need, the custodian says itself.
    if census["latest"].as_u64() == Some(u64::from(before.number())) && needed > 0 {
        bail!(
            "{needed} branch keys of {name} still need a version before {before}: run `claviger key rewrap {name}` first"
        );
    }
    let wait_s = retire["wait_s"].as_u64().unwrap_or(0);
    if wait_s > 0 {
        eprintln!("claviger: proxies may still be given branch keys under an older version; going on in {wait_s} s");
        tokio::time::sleep(Duration::from_secs(wait_s + 1)).await;
    }
    let mut sites = Vec::new();
    for mover in movers {
        let read = mover.read_back(name, before).await;
        sites.push((mover.site.clone(), read.with_context(|| format!("the site {} was not read back", mover.site))?));
    }
    tell_sites(&sites, false);
    let failed: u64 = sites.iter().map(|(_, report)| report.failed).sum();
    ensure!(failed == 0, "not every branch key could be read back: run `claviger key rewrap {name} --repair`");
    let body = json!({ "min_decryption_version": before.number() });
    let changed = client.transit(Method::POST, &format!("keys/{name}/config"), Some(&body)).await?;
    if changed.data.is_null() { look(client, name).await } else { Ok(changed) }
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

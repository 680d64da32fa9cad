//! `claviger key adopt | declare-whole`: what a restored key needs before old versions of it may go.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::restore::{Counts, PAGE};
use super::{Named, legal, movers};
use crate::cli::custodian_client::{Client, CustodianFlags};
use crate::cli::{Bad, ConfigFile, runtime, start_logs};
use crate::custodian::kek::Ciphertext;
use crate::custody::context::BranchContext;
use crate::custody::wrapped::WrappedKey;
use crate::maintenance::keys::KeyMover;
use crate::names::{KekName, KekVersion};

const WHAT: &str = "a ledger of branch keys";

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// The key
    name: String,
    #[command(flatten)]
    config: ConfigFile,
    /// Requests to the storage server at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    #[command(flatten)]
    custodian: CustodianFlags,
}

/// What was found in a directory.
#[derive(Default)]
struct Found {
    counts: Counts,
    /// Entries that do not say what they are bound to, or are none.
    others: u64,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> Result<()> {
    let name = legal(&arguments.name)?;
    let client = Client::new(&arguments.custodian)?;
    let config = arguments.config.load()?;
    start_logs(&config)?;
    let concurrency = usize::from(arguments.concurrency);
    let sites = runtime()?.block_on(async {
        let mut sites = Vec::new();
        for mover in movers(config, concurrency)? {
            let found = walk(&client, &mover, &name).await;
            let cannot = || format!("not all of the directory at {} was read; run it again", mover.site);
            sites.push((mover.site.clone(), found.with_context(cannot)?));
        }
        anyhow::Ok(sites)
    })?;
    if client.json() {
        println!("{:#}", as_json(&name, &sites));
    } else {
        for (site, Found { counts: Counts { taken, refused }, others }) in &sites {
            println!(
                "{taken} entries of the directory at {site} are in the ledger, {refused} do not open, {others} do not tell their context"
            );
        }
    }
    if sites.iter().any(|(_, found)| found.counts.refused > 0 || found.others > 0) {
        eprintln!(
            "claviger: what the directory does not tell, objects may: `claviger verify BUCKET --headers-only` for every bucket under {name}"
        );
        return Err(Bad.into());
    }
    Ok(())
}

/// Of all sites together; `site` names them.
fn as_json(name: &KekName, sites: &[(String, Found)]) -> Value {
    let found = || sites.iter().map(|(_, found)| found);
    json!({
        "kek": name.as_str(),
        "site": sites.iter().map(|(site, _)| site.as_str()).collect::<Vec<_>>().join(","),
        "taken": found().map(|found| found.counts.taken).sum::<u64>(),
        "refused": found().map(|found| found.counts.refused).sum::<usize>(),
        "others": found().map(|found| found.others).sum::<u64>(),
    })
}

async fn walk(client: &Client, mover: &KeyMover, name: &KekName) -> Result<Found> {
    let census = client.ours(Method::GET, &format!("keys/{name}/census"), None, WHAT).await?.data;
    let oldest = census["min_decryption"].as_u64().and_then(|number| KekVersion::new(u32::try_from(number).ok()?));
    let oldest = oldest.context("the custodian's census is malformed")?;
    let (mut found, mut after) = (Found::default(), String::new());
    loop {
        let page = mover.state.branch_entries(name, oldest, &after, mover.concurrency).await?;
        found.others += page.others;
        let branches: Vec<Value> = page.found.iter().map(|(context, wrapped)| branch(context, wrapped)).collect();
        for some in branches.chunks(PAGE) {
            found.counts.send(client, name.as_str(), some).await?;
        }
        match page.next {
            Some(next) => after = next,
            None => return Ok(found),
        }
    }
}

/// As the custodian takes it in; which version it was generated under, an entry does not say.
fn branch(context: &BranchContext, wrapped: &WrappedKey) -> Value {
    json!({
        "id": context.id.to_string(),
        "context": STANDARD.encode(context.to_bytes()),
        "generated": 1,
        "ciphertexts": [Ciphertext::of(wrapped).to_text()],
    })
}

pub(in crate::cli) fn declare_whole(arguments: &Named) -> Result<()> {
    let name = legal(&arguments.name)?;
    let client = Client::new(&arguments.custodian)?;
    let path = format!("keys/{name}/ledger-whole");
    let done = runtime()?.block_on(client.ours(Method::POST, &path, None, WHAT));
    done.with_context(|| format!("the ledger of {name} was not declared whole"))?;
    if !client.json() {
        println!("the ledger of {name} is whole: its old versions can be retired again");
    }
    Ok(())
}

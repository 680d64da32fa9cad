//! `claviger proposals`: what waits for the approval of officers.

use anyhow::Result;
use clap::Args;
use http::Method;
use serde_json::Value;

use super::custodian_client::{Client, CustodianFlags, plain, table};
use super::runtime;

#[derive(Args)]
pub(super) struct Arguments {
    /// Also those that were carried out, denied or have expired
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    custodian: CustodianFlags,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let client = Client::new(&arguments.custodian)?;
    let answer = runtime()?.block_on(client.ours(Method::GET, "proposals", None, "proposals"))?;
    let proposals = answer.data.get("proposals").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let open = |proposal: &&Value| matches!(proposal["state"].as_str(), Some("pending" | "approved"));
    let shown: Vec<&Value> = proposals.iter().filter(|proposal| arguments.all || open(proposal)).collect();
    if client.json() {
        println!("{:#}", Value::from_iter(shown.into_iter().cloned()));
        return Ok(());
    }
    if shown.is_empty() {
        println!("no proposals");
    }
    for proposal in shown {
        print!("{}", line(proposal));
    }
    Ok(())
}

/// What there is to see before deciding whether to look closer: `claviger approve` shows all.
fn line(proposal: &Value) -> String {
    let text = |name: &str| plain(proposal[name].as_str().unwrap_or("-"));
    let officers = officers(&proposal["approvals"]);
    let approvals = format!("{} of {}", officers.len(), proposal["required"]);
    let by = if officers.is_empty() { String::new() } else { format!(": {}", officers.join(", ")) };
    let rows = [
        ("call", format!("{} {}", text("method"), text("path"))),
        ("with", text("body")),
        ("proposed by", text("requester")),
        ("approved by", format!("{approvals}{by}")),
        ("expires", text("expires")),
    ];
    format!("{} {}\n{}", text("id"), text("state"), table(rows))
}

/// The officers of a list of approvals.
pub(super) fn officers(approvals: &Value) -> Vec<String> {
    let approvals = approvals.as_array().into_iter().flatten();
    approvals.filter_map(|approval| approval["officer"].as_str().map(plain)).collect()
}

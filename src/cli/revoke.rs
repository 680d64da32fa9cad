//! `claviger revoke`, `reinstate` and `revocations`: who is cut off.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use http::Method;
use serde_json::json;

use super::custodian_client::{Client, CustodianFlags, plain, table};
use super::runtime;

const WHAT: &str = "revocations";

#[derive(Args)]
pub(super) struct Revoke {
    /// A SPIFFE id, the name of a proxy's client, or certificate: and its SHA-256 in hexadecimal
    principal: String,
    /// Why, for those who come after
    #[arg(long, default_value = "")]
    note: String,
    #[command(flatten)]
    custodian: CustodianFlags,
}

#[derive(Args)]
pub(super) struct Reinstate {
    /// Who is let in again, as `claviger revocations` shows it
    principal: String,
    #[command(flatten)]
    custodian: CustodianFlags,
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    custodian: CustodianFlags,
}

pub(super) fn run(arguments: &Revoke) -> Result<()> {
    let client = Client::new(&arguments.custodian)?;
    let body = json!({ "principal": arguments.principal, "note": arguments.note });
    runtime()?.block_on(client.ours(Method::POST, "revocations", Some(&body), WHAT))?;
    if !client.json() {
        println!("{} is cut off; proxies that are connected drop its keys within a second", arguments.principal);
    }
    Ok(())
}

pub(super) fn reinstate(arguments: &Reinstate) -> Result<()> {
    let client = Client::new(&arguments.custodian)?;
    let path = format!("revocations/{}", URL_SAFE_NO_PAD.encode(&arguments.principal));
    runtime()?.block_on(client.ours(Method::DELETE, &path, None, WHAT))?;
    if !client.json() {
        println!("{} is no longer cut off", arguments.principal);
    }
    Ok(())
}

pub(super) fn list(arguments: &List) -> Result<()> {
    let client = Client::new(&arguments.custodian)?;
    let answer = runtime()?.block_on(client.ours(Method::GET, "revocations", None, WHAT))?;
    let all = answer.data.get("revocations").cloned().unwrap_or_else(|| json!([]));
    if client.json() {
        println!("{all:#}");
        return Ok(());
    }
    let all = all.as_array().map_or(&[][..], Vec::as_slice);
    if all.is_empty() {
        println!("nobody is cut off");
    }
    for one in all {
        let text = |name: &str| one[name].as_str().map(plain).unwrap_or_default();
        let rows = [("since", text("at")), ("by", text("by")), ("note", text("note"))];
        print!("{}\n{}", text("principal"), table(rows.into_iter().filter(|(_, value)| !value.is_empty())));
    }
    Ok(())
}

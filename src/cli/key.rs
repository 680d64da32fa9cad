//! `claviger key`: the custodian's KEKs.

mod adopt;
mod backup;
mod certificate;
mod destroy;
mod life;
mod objects;
mod restore;
mod without_ledger;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::custodian_client::{Answer, CallError, Client, CustodianFlags, plain, table};
use super::{Usage, runtime};
use crate::custodian::kek::Labels;
use crate::names::KekName;

pub(super) use life::movers;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a key; one that exists is left as it is
    Create(Create),
    /// Show the names of all keys
    List(List),
    /// Show one key: its settings and versions
    Show(Named),
    /// Add a version, under which everything new is encrypted
    Rotate(Named),
    /// Move the branch keys to the newest version: in the custodian's ledger, and in the directory of each site
    ///
    /// An OpenBao or Vault server has no ledger: there, those are moved that the storage server lists in the directory, and what it hides is
    /// not missed.
    Rewrap(life::Rewrap),
    /// Count the branch keys by the oldest version that they still need, and on request the objects by their envelopes
    Census(life::Census),
    /// Stop opening old versions once nothing needs them, which officers have to approve
    ///
    /// The custodian decides by its ledger. An OpenBao or Vault server has none: see --without-ledger.
    Retire(life::Retire),
    /// Have the custodian rotate a key by itself
    Schedule(life::Schedule),
    /// Switch a key off, at once and by one person; only our custodian has it
    Disable(Named),
    /// Switch it on again, which officers have to approve; only our custodian has it
    Enable(Named),
    /// Destroy a key for good, step by step: says where that stands and what is next
    Destroy(destroy::Arguments),
    /// Show the certificate that a key was destroyed, or check one offline
    Certificate(certificate::Arguments),
    /// Write keys into a file that only several officers together can open; officers have to approve it
    Backup(backup::Arguments),
    /// Bring keys back from a backup; officers have to approve it
    Restore(restore::Restore),
    /// After a restore: bring the branch keys of a site's directory into the custodian's ledger
    Adopt(adopt::Arguments),
    /// After a restore: say that the ledger has all branch keys of a key, which officers have to approve; versions can be retired then
    DeclareWhole(Named),
    /// Open an officer's share of a backup, without asking any server
    BackupShare(restore::BackupShare),
    /// Make an age identity for an officer, and print the recipient that backups are made for
    OfficerIdentity(restore::OfficerIdentity),
}

#[derive(Args)]
pub(super) struct Create {
    /// 1 to 64 letters, digits, '_' or '-'
    name: String,
    /// What it encrypts with
    #[arg(long = "type", value_parser = ["aes256-gcm96", "aes128-gcm96", "chacha20-poly1305"], default_value = "aes256-gcm96")]
    kind: String,
    /// Where its data must stay, as policies name it; the same as --label jurisdiction=NAME
    #[arg(long, value_name = "NAME")]
    jurisdiction: Option<String>,
    /// A label for policies; give it several times for several. They never change afterwards
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Do not bind what is encrypted to a context. The proxy refuses such keys
    #[arg(long)]
    no_derived: bool,
    #[command(flatten)]
    custodian: CustodianFlags,
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    custodian: CustodianFlags,
}

#[derive(Args)]
pub(super) struct Named {
    /// The key
    name: String,
    #[command(flatten)]
    custodian: CustodianFlags,
}

pub(super) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Create(arguments) => create(arguments),
        Command::List(arguments) => list(arguments),
        Command::Show(arguments) => show(arguments),
        Command::Rotate(arguments) => rotate(arguments),
        Command::Rewrap(arguments) => life::rewrap(arguments),
        Command::Census(arguments) => life::census(arguments),
        Command::Retire(arguments) => life::retire(arguments),
        Command::Schedule(arguments) => life::schedule(arguments),
        Command::Disable(arguments) => switch(arguments, "disable", "disabling of keys"),
        Command::Enable(arguments) => switch(arguments, "enable", "enabling of keys"),
        Command::Destroy(arguments) => destroy::run(arguments),
        Command::Certificate(arguments) => certificate::run(arguments),
        Command::Backup(arguments) => backup::run(arguments),
        Command::Restore(arguments) => restore::run(arguments),
        Command::Adopt(arguments) => adopt::run(arguments),
        Command::DeclareWhole(arguments) => adopt::declare_whole(arguments),
        Command::BackupShare(arguments) => restore::backup_share(arguments),
        Command::OfficerIdentity(arguments) => restore::officer_identity(arguments),
    }
}

fn legal(name: &str) -> Result<KekName> {
    Ok(KekName::new(name).map_err(|error| Usage(error.to_string()))?)
}

fn create(arguments: &Create) -> Result<()> {
    let name = legal(&arguments.name)?;
    let labels = labels(&arguments.labels, arguments.jurisdiction.as_deref())?;
    let client = Client::new(&arguments.custodian)?;
    let mut body = json!({ "type": arguments.kind, "derived": !arguments.no_derived });
    if !labels.is_empty() {
        body["labels"] = labels.iter().map(|(key, value)| (key.to_owned(), Value::from(value))).collect();
    }
    let answer = runtime()?.block_on(async {
        let answer = client.transit(Method::POST, &format!("keys/{name}"), Some(&body)).await?;
        // Older servers answer with nothing.
        if answer.data.is_null() { look(&client, &name).await } else { Ok(answer) }
    })?;
    if !labels.is_empty() && !answer.ours {
        eprintln!("claviger: this server is an OpenBao or Vault server, which keeps no labels: they are lost");
    }
    tell(&client, &answer)
}

/// `pairs` as KEY=VALUE, and the jurisdiction among them.
fn labels(pairs: &[String], jurisdiction: Option<&str>) -> Result<Labels> {
    let mut labels = BTreeMap::new();
    let jurisdiction = jurisdiction.map(|name| format!("jurisdiction={name}"));
    for pair in pairs.iter().chain(&jurisdiction) {
        let (key, value) = pair.split_once('=').ok_or_else(|| Usage(format!("{pair:?} is not KEY=VALUE")))?;
        if labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(Usage(format!("two values for the label {key}")).into());
        }
    }
    Ok(Labels::new(labels).map_err(|error| Usage(error.to_string()))?)
}

async fn look(client: &Client, name: &KekName) -> Result<Answer> {
    client.transit(Method::GET, &format!("keys/{name}"), None).await
}

fn list(arguments: &List) -> Result<()> {
    let client = Client::new(&arguments.custodian)?;
    let answer = runtime()?.block_on(client.transit(Method::GET, "keys?list=true", None));
    let keys = match answer {
        Ok(answer) => answer.data.get("keys").cloned().unwrap_or_else(|| json!([])),
        // Vault's way to say that there are none.
        Err(error) if matches!(error.downcast_ref(), Some(CallError::NotFound { texts }) if texts.is_empty()) => {
            json!([])
        }
        Err(error) => return Err(error),
    };
    if client.json() {
        println!("{keys:#}");
        return Ok(());
    }
    let names = keys.as_array().into_iter().flatten().filter_map(Value::as_str);
    names.for_each(|name| println!("{}", plain(name)));
    Ok(())
}

fn show(arguments: &Named) -> Result<()> {
    let name = legal(&arguments.name)?;
    let client = Client::new(&arguments.custodian)?;
    let answer = runtime()?.block_on(look(&client, &name))?;
    tell(&client, &answer)
}

fn rotate(arguments: &Named) -> Result<()> {
    let name = legal(&arguments.name)?;
    let client = Client::new(&arguments.custodian)?;
    let answer = runtime()?.block_on(async {
        let answer = client.transit(Method::POST, &format!("keys/{name}/rotate"), None).await?;
        if answer.data.is_null() { look(&client, &name).await } else { Ok(answer) }
    })?;
    tell(&client, &answer)
}

fn switch(arguments: &Named, verb: &str, what: &'static str) -> Result<()> {
    let name = legal(&arguments.name)?;
    let client = Client::new(&arguments.custodian)?;
    let done = runtime()?.block_on(client.ours(Method::POST, &format!("keys/{name}/{verb}"), None, what));
    done.with_context(|| format!("cannot {verb} {name}"))?;
    if !client.json() {
        println!("{verb}d {name}");
    }
    Ok(())
}

fn tell(client: &Client, answer: &Answer) -> Result<()> {
    if client.json() {
        println!("{:#}", answer.data);
    } else {
        print!("{}", as_text(&answer.data));
    }
    Ok(())
}

fn as_text(key: &Value) -> String {
    let text = |name: &str| key[name].as_str().map(plain).unwrap_or_default();
    let yes = |value: &Value| if value == &json!(true) { "yes" } else { "no" }.to_owned();
    let mut rows = vec![
        ("type", text("type")),
        ("derived", yes(&key["derived"])),
        ("newest", format!("v{}", key["latest_version"])),
        ("decrypts from", format!("v{}", key["min_decryption_version"])),
        ("deletable", yes(&key["deletion_allowed"])),
        ("exportable", yes(&key["exportable"])),
    ];
    let ours = &key["claviger"];
    if ours.is_object() {
        rows.push(("disabled", yes(&ours["disabled"])));
        let labels = ours["labels"].as_object().into_iter().flatten();
        let labels = labels.map(|(key, value)| format!("{}={}", plain(key), plain(value.as_str().unwrap_or_default())));
        rows.push(("labels", labels.collect::<Vec<_>>().join(", ")));
    }
    format!("{}\n{}", text("name"), table(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_pairs_and_none_is_given_twice() {
        let pairs = |pairs: &[&str]| pairs.iter().map(ToString::to_string).collect::<Vec<_>>();
        let both = labels(&pairs(&["team=billing"]), Some("us")).expect("legal");
        assert_eq!((both.get("team"), both.jurisdiction()), (Some("billing"), Some("us")));
        assert!(labels(&[], None).expect("none").is_empty());
        for (bad, jurisdiction) in [
            (&["team"][..], None),
            (&["team=a", "team=b"], None),
            (&["jurisdiction=us"], Some("sg")),
            (&["Team=a"], None),
            (&["team="], None),
        ] {
            assert!(labels(&pairs(bad), jurisdiction).is_err(), "{bad:?}");
        }
    }
}

//! `claviger grant`: leave to use keys for a time.

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::custodian_client::{Client, CustodianFlags, ascii, plain, table};
use super::proposals::officers;
use super::vote::{body, checked, confirm, signed};
use super::{Usage, runtime};
use crate::custodian::approval::{Subject, Verb};
use crate::custodian::grant::{DURATION_MAX_S, GrantDocument, GrantedAction, NewGrant};
use crate::names::KekName;

const WHAT: &str = "access grants";

#[derive(Subcommand)]
pub(super) enum Command {
    /// Ask for leave; --reason is the reason that each use must then state
    Request(Request),
    /// Approve a request, as an officer: shows it in full and signs it on this machine
    Approve(Approve),
    /// Show requests and grants in force
    List(List),
    /// End a grant at once, or take a request back
    Revoke(Revoke),
}

#[derive(Args)]
pub(super) struct Request {
    /// For whom: a SPIFFE id, or the name of a proxy's client
    #[arg(long, value_name = "PRINCIPAL")]
    principal: String,
    /// A key; give it several times for several
    #[arg(long = "key", required = true, value_name = "NAME")]
    keys: Vec<String>,
    /// What may be done with the keys; give it several times for several
    #[arg(long = "action", required = true, value_parser = parse_action, value_name = "ACTION")]
    actions: Vec<GrantedAction>,
    /// Why, in words, for the officers who decide
    #[arg(long, value_name = "TEXT")]
    justification: String,
    /// For how long once it is approved, such as 30m, 8h or 2d; at most 7d
    #[arg(long = "for", value_parser = parse_duration, value_name = "DURATION")]
    duration_s: u32,
    #[command(flatten)]
    custodian: CustodianFlags,
}

#[derive(Args)]
pub(super) struct Approve {
    /// The grant: g- and 16 hexadecimal digits
    id: String,
    /// Do not ask before signing
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    custodian: CustodianFlags,
}

#[derive(Args)]
pub(super) struct List {
    /// Also those that have ended
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    custodian: CustodianFlags,
}

#[derive(Args)]
pub(super) struct Revoke {
    /// The grant: g- and 16 hexadecimal digits
    id: String,
    #[command(flatten)]
    custodian: CustodianFlags,
}

fn parse_action(text: &str) -> Result<GrantedAction, String> {
    let known = GrantedAction::ALL.into_iter().find(|action| action.as_str() == text);
    known.ok_or_else(|| format!("one of {}", GrantedAction::ALL.map(GrantedAction::as_str).join(", ")))
}

fn parse_duration(text: &str) -> Result<u32, String> {
    let wrong = || "a number and s, m, h or d, such as 30m; at most 7d".to_owned();
    let unit_s = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 24 * 3600,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(unit_s).filter(|duration_s| *duration_s <= DURATION_MAX_S).ok_or_else(wrong)
}

pub(super) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Request(arguments) => request(arguments),
        Command::Approve(arguments) => approve(arguments),
        Command::List(arguments) => list(arguments),
        Command::Revoke(arguments) => revoke(arguments),
    }
}

fn request(arguments: &Request) -> Result<()> {
    let client = Client::new(&arguments.custodian)?;
    let reason = client.reason().ok_or_else(|| Usage("a request needs --reason".to_owned()))?;
    let keks = arguments.keys.iter().map(|name| KekName::new(name).map_err(|error| Usage(error.to_string())));
    let wanted = NewGrant {
        principal: arguments.principal.clone(),
        keks: keks.collect::<Result<_, _>>()?,
        actions: arguments.actions.iter().copied().collect(),
        reason,
        justification: arguments.justification.clone(),
        duration_s: arguments.duration_s,
    };
    wanted.check().map_err(|error| Usage(error.to_string()))?;
    let answer = runtime()?.block_on(client.ours(Method::POST, "grants", Some(&wanted.to_json()), WHAT))?.data;
    if client.json() {
        println!("{answer:#}");
        return Ok(());
    }
    let document = GrantDocument::from_json(&answer).context("what the custodian shows is no grant")?;
    println!("requested {}: officers approve it with", document.id);
    println!("  claviger grant approve {}", document.id);
    println!("It is in force once {} other than {} did.", people(document.required), document.requested_by);
    Ok(())
}

fn people(required: u8) -> String {
    if required == 1 { "one officer".to_owned() } else { format!("{required} officers") }
}

fn legal(id: &str) -> Result<&str> {
    let refused = || Usage(format!("{id:?} is no grant: they are g- and 16 hexadecimal digits"));
    Ok(Some(id).filter(|id| GrantDocument::is_id(id)).ok_or_else(refused)?)
}

fn approve(arguments: &Approve) -> Result<()> {
    let id = legal(&arguments.id)?;
    let client = Client::new(&arguments.custodian)?;
    runtime()?.block_on(async {
        let all = client.ours(Method::GET, "grants", None, WHAT).await?.data;
        let found = all["grants"].as_array().into_iter().flatten().find(|grant| grant["id"] == id);
        let found = found.with_context(|| format!("the custodian shows no grant {id}"))?;
        let document = GrantDocument::from_json(found).context("what the custodian shows is no grant")?;
        let hash = checked(document.hash(), found, &document.id, id)?;
        eprint!("{}", in_full(&document, found));
        confirm(arguments.yes, Verb::Approve)?;
        let approval = signed(&client, Subject::Grant, Verb::Approve, &hash)?;
        let answer = client.ours(Method::POST, &format!("grants/{id}/approve"), Some(&body(&approval)), WHAT).await?;
        if client.json() {
            println!("{:#}", answer.data);
        } else if let Some(expires) = answer.data["expires"].as_str() {
            println!("approved {id}: it is in force until {}", plain(expires));
        } else {
            println!("approved {id}: {} of {}", officers(&answer.data["approvals"]).len(), document.required);
        }
        Ok(())
    })
}

/// What is signed, from what was read of it and not from what the server says besides.
fn in_full(document: &GrantDocument, found: &Value) -> String {
    let wanted = &document.wanted;
    let officers = officers(&found["approvals"]);
    let rows = [
        ("for", wanted.principal.clone()),
        ("keys", wanted.keks.iter().map(KekName::as_str).collect::<Vec<_>>().join(", ")),
        ("may", wanted.actions.iter().map(|action| action.as_str()).collect::<Vec<_>>().join(", ")),
        ("reason", wanted.reason.to_string()),
        ("because", plain(&wanted.justification)),
        ("duration", format!("{} s from the last approval", wanted.duration_s)),
        ("requested by", document.requested_by.to_string()),
        ("needs", people(document.required)),
        ("approved by", if officers.is_empty() { "-".to_owned() } else { officers.join(", ") }),
    ];
    format!("grant {} ({})\n{}", document.id, ascii(found["state"].as_str().unwrap_or("?")), table(rows))
}

fn list(arguments: &List) -> Result<()> {
    let client = Client::new(&arguments.custodian)?;
    let answer = runtime()?.block_on(client.ours(Method::GET, "grants", None, WHAT))?.data;
    let open = |grant: &&Value| matches!(grant["state"].as_str(), Some("requested" | "active"));
    let all = answer["grants"].as_array().map_or(&[][..], Vec::as_slice);
    let shown: Vec<&Value> = all.iter().filter(|grant| arguments.all || open(grant)).collect();
    if client.json() {
        println!("{:#}", Value::from_iter(shown.into_iter().cloned()));
        return Ok(());
    }
    if shown.is_empty() {
        println!("no grants");
    }
    for grant in shown {
        let document = GrantDocument::from_json(grant).context("what the custodian shows is no grant")?;
        let until = grant["expires"].as_str().map(|expires| table([("in force to", plain(expires))]));
        print!("{}{}", in_full(&document, grant), until.unwrap_or_default());
    }
    Ok(())
}

fn revoke(arguments: &Revoke) -> Result<()> {
    let id = legal(&arguments.id)?;
    let client = Client::new(&arguments.custodian)?;
    runtime()?.block_on(client.ours(Method::DELETE, &format!("grants/{id}"), None, WHAT))?;
    if !client.json() {
        println!("ended {id}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, expected) in [("90s", 90), ("30m", 1800), ("8h", 28_800), ("7d", 604_800)] {
            assert_eq!(parse_duration(text), Ok(expected));
        }
        for bad in ["", "8", "h", "-1h", "8d", "1.5h", "8 h", "99999999999d", "8é"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }
}

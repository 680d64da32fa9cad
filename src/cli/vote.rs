//! `claviger approve` and `claviger deny`: an officer's signature for or against a proposal.
//!
//! **Invariant:** what is signed is the hash that this machine reckons of what it has shown; the server's word counts for nothing.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use http::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::custodian_client::{Client, CustodianFlags, ascii, table};
use super::proposals::officers;
use super::{Usage, runtime};
use crate::custodian::approval::json::hex;
use crate::custodian::approval::{Approval, ProposalDocument, Subject, Verb, sign_approval};
use crate::net::tls;

#[derive(Args)]
pub(super) struct Arguments {
    /// The proposal: p- and 16 hexadecimal digits
    #[arg(value_name = "ID")]
    id: String,
    /// Do not ask before signing
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    custodian: CustodianFlags,
}

pub(super) fn run(arguments: &Arguments, verb: Verb) -> Result<()> {
    if !ProposalDocument::is_id(&arguments.id) {
        return Err(Usage(format!("{:?} is no proposal: they are p- and 16 hexadecimal digits", arguments.id)).into());
    }
    let client = Client::new(&arguments.custodian)?;
    runtime()?.block_on(vote(&client, arguments, verb))
}

async fn vote(client: &Client, arguments: &Arguments, verb: Verb) -> Result<()> {
    let id = &arguments.id;
    let found = client.ours(Method::GET, &format!("proposals/{id}"), None, "proposals").await?.data;
    let document = ProposalDocument::from_json(&found).context("what the custodian shows is no proposal")?;
    let hash = checked(document.hash(), &found, &document.id, id)?;
    eprint!("{}", shown(&document, &found));
    confirm(arguments.yes, verb)?;
    let approval = signed(client, Subject::Proposal, verb, &hash)?;
    let path = format!("proposals/{id}/{}", if verb == Verb::Approve { "approve" } else { "deny" });
    let answer = client.ours(Method::POST, &path, Some(&body(&approval)), "proposals").await?;
    if client.json() {
        println!("{:#}", answer.data);
        return Ok(());
    }
    let count = officers(&answer.data["approvals"]).len();
    match (verb, answer.data["state"].as_str()) {
        (Verb::Veto, _) => println!("denied {id}: it can no longer be carried out"),
        (Verb::Approve, Some("approved")) => {
            println!("approved {id}: {count} of {}; {} may now carry it out", document.required, document.requester);
        }
        (Verb::Approve, _) => println!("approved {id}: {count} of {}", document.required),
    }
    Ok(())
}

/// `own`, the hash that was reckoned here of what is shown, if the server claims the same.
pub(super) fn checked(own: [u8; 32], found: &Value, shown_id: &str, asked_id: &str) -> Result<[u8; 32]> {
    let claimed = found["hash"].as_str().unwrap_or_default();
    let honest = claimed == hex(&own) && shown_id == asked_id;
    honest.then_some(own).context(
        "the custodian shows one thing and asks for a signature of another: nothing was signed; tell the other officers",
    )
}

fn shown(document: &ProposalDocument, found: &Value) -> String {
    let none = || "-".to_owned();
    let officers = officers(&found["approvals"]);
    let rows = [
        ("proposed by", document.requester.to_string()),
        ("call", format!("{} {}", document.method, ascii(&document.path))),
        ("with", if document.body.is_empty() { none() } else { ascii(&document.body) }),
        ("key", document.kek.as_ref().map_or_else(none, ToString::to_string)),
        ("key version", document.version.map_or_else(none, |version| version.to_string())),
        ("policy", hex(&document.policy)),
        ("proposed", found["created"].as_str().map(ascii).unwrap_or_default()),
        ("expires", found["expires"].as_str().map(ascii).unwrap_or_default()),
        ("needs", format!("{} officers", document.required)),
        ("approved by", if officers.is_empty() { none() } else { officers.join(", ") }),
        ("hash", hex(&document.hash())),
    ];
    format!("proposal {} ({})\n{}", document.id, ascii(found["state"].as_str().unwrap_or("?")), table(rows))
}

/// Asks the person, where there is one.
pub(super) fn confirm(yes: bool, verb: Verb) -> Result<()> {
    if yes || !std::io::stdin().is_terminal() {
        return Ok(());
    }
    let what = if verb == Verb::Approve { "Approve this" } else { "Deny this for good" };
    eprint!("{what}? Type yes: ");
    std::io::stderr().flush().context("cannot ask")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    if answer.trim() == "yes" { Ok(()) } else { Err(Usage("nothing was signed".to_owned()).into()) }
}

/// The caller's signature, with the key of the certificate that it calls with.
pub(super) fn signed(client: &Client, subject: Subject, verb: Verb, hash: &[u8; 32]) -> Result<Approval> {
    let identity = client.identity().ok_or_else(|| {
        Usage("an officer signs with the key of a certificate: give --certificate-file and --key-file".to_owned())
    })?;
    let certificates = tls::load_certificates(&identity.certificates)?;
    let leaf = certificates.first().context("no certificate")?;
    let key = tls::load_private(&identity.key)?;
    let now = OffsetDateTime::now_utc().unix_timestamp();
    sign_approval(&key, leaf, subject, verb, hash, now)
        .with_context(|| format!("cannot sign with {}", identity.key.display()))
}

/// As the API takes it.
pub(super) fn body(approval: &Approval) -> Value {
    json!({
        "certificate": STANDARD.encode(&approval.certificate),
        "signature": STANDARD.encode(&approval.signature),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::custodian_client::tests::{Fake, document, officer};
    use crate::custodian::approval::verify;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    /// What `claviger approve` does with a custodian that shows `shown`: its outcome and the calls that it made.
    async fn approve(shown: Value, verb: Verb) -> (Result<()>, Vec<(String, Value)>) {
        let fake = Fake::start(move |_| (200, true, json!({ "data": shown }))).await;
        let folder = tempfile::tempdir().expect("a folder");
        let mut line = vec!["approve".to_owned(), "p-0123456789abcdef".to_owned(), "--yes".to_owned()];
        line.extend(["--custodian-url".to_owned(), fake.url.clone()]);
        line.extend(officer(folder.path()));
        let arguments = Line::try_parse_from(line).unwrap_or_else(|error| panic!("{error}")).arguments;
        let client = Client::new(&arguments.custodian).expect("good flags");
        let done = vote(&client, &arguments, verb).await;
        (done, fake.seen().into_iter().map(|(call, _, _, body)| (call, body)).collect())
    }

    fn honest() -> Value {
        let mut shown = document();
        shown["hash"] = hex(&ProposalDocument::from_json(&shown).expect("legal").hash()).into();
        shown
    }

    #[tokio::test]
    async fn what_is_posted_is_a_signature_of_what_was_shown() {
        for (verb, path) in [(Verb::Approve, "approve"), (Verb::Veto, "deny")] {
            let (done, calls) = approve(honest(), verb).await;
            done.expect("signs");
            assert_eq!(calls[0].0, "GET /v1/sys/claviger/proposals/p-0123456789abcdef");
            assert_eq!(calls[1].0, format!("POST /v1/sys/claviger/proposals/p-0123456789abcdef/{path}"));
            let bytes = |name: &str| STANDARD.decode(calls[1].1[name].as_str().expect("a text")).expect("base64");
            let approval = Approval::new(verb, bytes("certificate"), bytes("signature"), 0).expect("an officer");
            let hash = ProposalDocument::from_json(&honest()).expect("legal").hash();
            assert_eq!(verify(&approval, Subject::Proposal, &hash), Ok(()));
        }
    }

    #[tokio::test]
    async fn a_custodian_that_shows_one_thing_and_means_another_gets_no_signature() {
        let with = |field: &str, value: Value| {
            let mut shown = honest();
            shown[field] = value;
            shown
        };
        let other_id = {
            let mut shown = document();
            shown["id"] = "p-0123456789abcdee".into();
            shown["hash"] = hex(&ProposalDocument::from_json(&shown).expect("legal").hash()).into();
            shown
        };
        for shown in [
            with("body", "{\"min_available_version\":1}".into()),
            with("path", "/v1/transit/keys/records/config".into()),
            with("hash", "00".repeat(32).into()),
            with("hash", Value::Null),
            with("kek", Value::Null),
            with("required", 1.into()),
            with("requester", "nobody".into()),
            other_id,
        ] {
            let (done, calls) = approve(shown.clone(), Verb::Approve).await;
            assert!(done.is_err(), "{shown}");
            assert_eq!(calls.len(), 1, "nothing is posted: {shown}");
        }
    }
}

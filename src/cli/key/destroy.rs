//! `claviger key destroy`: one command for all stages of destroying a key, or its retired versions.

use anyhow::{Context as _, Result};
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::legal;
use crate::cli::custodian_client::{Client, CustodianFlags, Gated, plain};
use crate::cli::{Usage, runtime};
use crate::names::{KekName, KekVersion};

const WHAT: &str = "the destruction of keys";

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// The key; with :vN after it, its versions up to N, which must be retired
    #[arg(value_name = "NAME[:vN]")]
    target: String,
    /// Call the destruction off. The key stays switched off until officers have it enabled
    #[arg(long)]
    cancel: bool,
    #[command(flatten)]
    custodian: CustodianFlags,
}

/// A key, or its versions up to one.
pub(super) struct Target {
    pub(super) kek: KekName,
    pub(super) through: Option<KekVersion>,
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let Some((name, version)) = text.split_once(':') else { return Ok(Self { kek: legal(text)?, through: None }) };
        let number = version.strip_prefix('v').and_then(|number| number.parse().ok()).and_then(KekVersion::new);
        let through = number.ok_or_else(|| Usage(format!("{version:?} is no version: write NAME:v2 for version 2")))?;
        Ok(Self { kek: legal(name)?, through: Some(through) })
    }

    fn body(&self) -> Value {
        self.through.map_or_else(|| json!({}), |version| json!({ "version": version.number() }))
    }

    /// As the user wrote it.
    pub(super) fn text(&self) -> String {
        match self.through {
            None => self.kek.as_str().to_owned(),
            Some(version) => format!("{}:v{}", self.kek, version.number()),
        }
    }
}

pub(in crate::cli) fn run(arguments: &Arguments) -> Result<()> {
    let target = Target::parse(&arguments.target)?;
    let client = Client::new(&arguments.custodian)?;
    runtime()?.block_on(go_on(&client, &target, arguments.cancel))
}

/// What the custodian knows of the destruction of `target`.
pub(super) async fn known(client: &Client, target: &Target) -> Result<Option<Value>> {
    let answer = client.ours(Method::GET, &format!("keys/{}/destruction", target.kek), None, WHAT).await?;
    let wanted = json!(target.through.map(KekVersion::number));
    let all = answer.data["destructions"].as_array();
    Ok(all.into_iter().flatten().find(|one| one["version"] == wanted).cloned())
}

async fn go_on(client: &Client, target: &Target, cancel: bool) -> Result<()> {
    let (name, body) = (target.text(), target.body());
    if cancel {
        let path = format!("keys/{}/destroy/cancel", target.kek);
        let done = client.ours(Method::POST, &path, Some(&body), WHAT).await;
        return tell(client, target, &done.with_context(|| format!("cannot cancel the destruction of {name}"))?.data);
    }
    let known = known(client, target).await?;
    let verb = match known.as_ref().and_then(|known| known["state"].as_str()) {
        Some("due") => "erase",
        Some("waiting" | "erased") => return tell(client, target, &known.unwrap_or_default()),
        _ => "destroy",
    };
    let done = client.ours(Method::POST, &format!("keys/{}/{verb}", target.kek), Some(&body), WHAT).await;
    if let Err(error) = &done
        && error.is::<Gated>()
    {
        eprint!("{}", before_approval(target, verb));
    }
    tell(client, target, &done.with_context(|| format!("cannot destroy {name}"))?.data)
}

/// What happens with the approval, and what happened already.
fn before_approval(target: &Target, verb: &str) -> String {
    let name = target.text();
    match (verb, target.through) {
        ("erase", _) => format!(
            "claviger: the waiting period of {name} is over; a second quorum now decides about erasing it, which nobody can undo\n"
        ),
        (_, None) => format!(
            "claviger: {name} is switched off from now on; with the approvals its waiting period begins, and nothing is erased yet\n"
        ),
        (_, Some(_)) => {
            format!("claviger: with the approvals the waiting period of {name} begins; nothing is erased yet\n")
        }
    }
}

fn tell(client: &Client, target: &Target, known: &Value) -> Result<()> {
    if client.json() {
        println!("{known:#}");
    } else {
        print!("{}", as_text(target, known));
    }
    Ok(())
}

/// Where it stands, and what to do next.
fn as_text(target: &Target, known: &Value) -> String {
    let (name, text) = (target.text(), |name: &str| plain(known[name].as_str().unwrap_or("-")));
    let insecure =
        if known["insecure_wait"] == json!(true) { " (an insecure waiting period, for looking only)" } else { "" };
    match known["state"].as_str() {
        Some("erased") => format!(
            "{name} was destroyed on {}{insecure}: nothing opens under it any more, and the name is never used again\n  \
             its certificate: claviger key certificate {name} --out FILE\n",
            text("erased")
        ),
        Some("cancelled") if target.through.is_none() => format!(
            "the destruction of {name} is cancelled; it stays switched off\n  to use it again: claviger key enable {name}\n"
        ),
        Some("cancelled") => format!("the destruction of {name} is cancelled\n"),
        Some("due") => {
            format!("the waiting period of {name} is over{insecure}\n  to erase it: the same command again\n")
        }
        _ => format!(
            "{name} can be erased from {} on{insecure}\n  to go on then: the same command again; it needs a second quorum\n  \
             to call it off until then: claviger key destroy {name} --cancel\n",
            text("due")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::custodian_client::tests::Fake;

    #[test]
    fn targets_are_keys_or_their_versions() {
        let parsed = |text: &str| Target::parse(text).map(|target| (target.text(), target.body())).ok();
        assert_eq!(parsed("records"), Some(("records".to_owned(), json!({}))));
        assert_eq!(parsed("records:v2"), Some(("records:v2".to_owned(), json!({ "version": 2 }))));
        for bad in ["", "records:", "records:2", "records:v0", "records:v", "records:v1:v2", "a.b"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }

    /// The calls that `destroy` makes of a custodian that knows of `state`.
    async fn calls(state: Option<&'static str>, target: &str, cancel: bool) -> Vec<(String, Value)> {
        let fake = Fake::start(move |_| {
            let known: Vec<Value> = state.iter().map(|state| json!({ "version": 2, "state": state })).collect();
            (200, true, json!({ "data": { "destructions": known } }))
        });
        let fake = fake.await;
        go_on(&fake.client(&[]), &Target::parse(target).expect("legal"), cancel).await.expect("goes on");
        fake.seen().into_iter().map(|(call, _, _, body)| (call, body)).collect()
    }

    #[tokio::test]
    async fn each_stage_makes_the_call_that_is_next_and_what_is_done_makes_none() {
        let base = "/v1/sys/claviger/keys/records";
        let (read, body) = ((format!("GET {base}/destruction"), Value::Null), json!({ "version": 2 }));
        let post = |rest: &str, body: &Value| (format!("POST {base}/{rest}"), body.clone());
        let target = "records:v2";
        assert_eq!(calls(None, target, false).await, [read.clone(), post("destroy", &body)]);
        assert_eq!(calls(Some("cancelled"), target, false).await, [read.clone(), post("destroy", &body)]);
        assert_eq!(calls(Some("due"), target, false).await, [read.clone(), post("erase", &body)]);
        assert_eq!(calls(Some("waiting"), target, false).await, std::slice::from_ref(&read));
        assert_eq!(calls(Some("erased"), target, false).await, std::slice::from_ref(&read));
        assert_eq!(calls(Some("waiting"), target, true).await, [post("destroy/cancel", &body)]);
        let whole = calls(Some("due"), "records", false).await;
        assert_eq!(whole, [read, post("destroy", &json!({}))], "that of its versions is another");
    }
}

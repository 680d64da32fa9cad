//! `claviger unseal`, `seal-status` and `seal`: the custodian's seal, from outside.

use std::io::{IsTerminal as _, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use http::Method;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::custodian_client::{Client, CustodianFlags, plain};
use super::{Usage, runtime};
use crate::custodian::seal::share::{SHARE_TEXT_LEN, Share};

#[derive(Args)]
pub(super) struct Arguments {
    /// The file with your share; without it the share is read from the terminal, unseen, or from standard input
    file: Option<PathBuf>,
    /// Forget the shares that were given so far
    #[arg(long, conflicts_with = "file")]
    reset: bool,
    #[command(flatten)]
    custodian: CustodianFlags,
}

#[derive(Args)]
pub(super) struct OnlyFlags {
    #[command(flatten)]
    custodian: CustodianFlags,
}

/// Gives one share.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let client = Client::new(&arguments.custodian)?;
    let body = if arguments.reset {
        json!({ "reset": true })
    } else {
        let text = share(arguments.file.as_deref())?;
        // A slip of the pen is found here and never sent.
        Share::parse(&text).map_err(|invalid| Usage(invalid.to_string()))?;
        json!({ "key": text.trim() })
    };
    let status = runtime()?.block_on(client.system(Method::POST, "unseal", Some(&body)))?;
    show(&client, &status);
    Ok(())
}

/// Tells how the seal is.
pub(super) fn status(arguments: &OnlyFlags) -> Result<()> {
    let client = Client::new(&arguments.custodian)?;
    let status = runtime()?.block_on(client.system(Method::GET, "seal-status", None))?;
    show(&client, &status);
    Ok(())
}

/// Seals it at once.
pub(super) fn seal(arguments: &OnlyFlags) -> Result<()> {
    let client = Client::new(&arguments.custodian)?;
    runtime()?.block_on(client.system(Method::POST, "seal", None))?;
    if !client.json() {
        println!("sealed");
    }
    Ok(())
}

fn show(client: &Client, status: &Value) {
    if client.json() {
        println!("{status:#}");
        return;
    }
    let number = |name: &str| status.get(name).and_then(Value::as_u64).unwrap_or_default();
    let flag = |name: &str| status.get(name).and_then(Value::as_bool).unwrap_or_default();
    let text = |name: &str| plain(status.get(name).and_then(Value::as_str).unwrap_or("-"));
    let state = match (flag("initialized"), flag("sealed")) {
        (false, _) => "not made yet: run `claviger custodian init`".to_owned(),
        (true, false) => "unsealed".to_owned(),
        (true, true) if number("t") > 0 => {
            format!("sealed: {} of {} shares given, {} were handed out", number("progress"), number("t"), number("n"))
        }
        (true, true) => "sealed".to_owned(),
    };
    println!("{state}");
    println!("seal {}, store {}, version {}", text("type"), text("storage_type"), text("version"));
}

/// Reads the share from where it is.
fn share(file: Option<&Path>) -> Result<Zeroizing<String>> {
    if let Some(path) = file {
        let opened = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        return read(opened).with_context(|| format!("cannot read {}", path.display()));
    }
    let input = std::io::stdin();
    if !input.is_terminal() {
        return read(input.lock()).context("cannot read the share");
    }
    eprint!("Share: ");
    let mut line = Zeroizing::new(String::with_capacity(4 * SHARE_TEXT_LEN));
    {
        let _hidden = Hidden::start()?;
        input.read_line(&mut line).context("cannot read the share")?;
    }
    eprintln!();
    Ok(line)
}

fn read(from: impl std::io::Read) -> std::io::Result<Zeroizing<String>> {
    // More than a share has, so that what is too long is seen to be.
    let limit = 4 * SHARE_TEXT_LEN;
    let mut text = Zeroizing::new(String::with_capacity(limit + 1));
    from.take(limit as u64).read_to_string(&mut text)?;
    Ok(text)
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn start() -> Result<Self> {
        let before = tcgetattr(std::io::stdin().as_fd()).context("cannot ask the terminal")?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin().as_fd(), OptionalActions::Flush, &hidden).context("cannot hide what is typed")?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Flush, &self.0);
    }
}

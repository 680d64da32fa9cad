//! `claviger check`: what is wrong with a configuration, all at once.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{ConfigFile, Shown, wiring};
use crate::config::{self, Problems};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let checked = config::load(&arguments.config.file).and_then(|config| wiring::check_custodian(&config));
    if arguments.json {
        println!("{:#}", as_json(arguments, checked.as_ref().err()));
    } else {
        match &checked {
            Ok(()) => println!("ok"),
            Err(problems) => println!("{problems}"),
        }
    }
    checked.map_err(|_| Shown.into())
}

fn as_json(arguments: &Arguments, problems: Option<&Problems>) -> serde_json::Value {
    let list = problems.map_or(&[][..], |problems| &problems.list);
    let list = list.iter().map(|problem| json!({"line": problem.line, "key": problem.key, "problem": problem.what()}));
    json!({
        "file": arguments.config.file.display().to_string(),
        "ok": problems.is_none(),
        "problems": list.collect::<Vec<_>>(),
    })
}

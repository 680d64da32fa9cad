//! `claviger check`: what is wrong with a configuration, all at once.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{ConfigFile, Shown};
use crate::config::{self, Problems, custodian_server};

/// Most bytes that are looked through for whose configuration it is.
const LOOK_MAX: u64 = 1 << 20;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let file = &arguments.config.file;
    let checked =
        if is_custodians(file) { custodian_server::load(file).map(drop) } else { config::load(file).map(drop) };
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

/// Whether it is a custodian's configuration. What cannot be told is taken for a proxy's.
fn is_custodians(file: &Path) -> bool {
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(LOOK_MAX).read_to_string(&mut text));
    let table = read.ok().and_then(|_| text.parse::<toml::Table>().ok());
    table.is_some_and(|table| table.contains_key("store") && !table.contains_key("proxy"))
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

//! `claviger policy`: whether a policy is right, and whether it decides as expected, before it is put in force.

mod outcomes;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Shown, Usage};
use crate::custodian::approval::json::hex;
use crate::custodian::policy::cases::Cases;
use crate::custodian::policy::{Policy, Problem};

/// Files are read no further than their parsers would go.
const LEN_MAX: u64 = 1 << 20;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what is wrong with a policy
    Check(Check),
    /// Put a table of cases to a policy and say which are decided otherwise than expected
    ///
    /// Exit code 0: all as expected; 1: some are not; 2: policy or table is not right. examples/policies shows how to write
    /// both.
    Test(Test),
}

#[derive(Args)]
struct Check {
    /// The policy
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Test {
    /// The policy
    file: PathBuf,
    /// The table of cases
    cases: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.command {
        Command::Check(check) => check.run(),
        Command::Test(test) => test.run(),
    }
}

impl Check {
    fn run(&self) -> Result<()> {
        let policy = parsed(&self.file, self.json, |text| Policy::parse(text).map_err(|error| error.problems))?;
        let (permits, forbids) = policy.counts();
        let sha256 = hex(&policy.hash());
        if self.json {
            let (file, ok) = (self.file.display().to_string(), true);
            println!("{:#}", json!({"file": file, "ok": ok, "sha256": sha256, "permits": permits, "forbids": forbids}));
        } else {
            println!("ok: {permits} permit, {forbids} forbid; SHA-256 {sha256}");
        }
        Ok(())
    }
}

impl Test {
    fn run(&self) -> Result<()> {
        let policy = parsed(&self.file, self.json, |text| Policy::parse(text).map_err(|error| error.problems))?;
        let cases = parsed(&self.cases, self.json, |text| Cases::parse(text).map_err(|error| error.problems))?;
        let outcomes = cases.run(&policy);
        if self.json {
            println!("{:#}", outcomes::as_json(&policy, &outcomes));
        } else {
            print!("{}", outcomes::as_text(&outcomes));
        }
        let wrong = outcomes::wrong(&outcomes);
        if wrong > 0 {
            anyhow::bail!("{wrong} of {} cases are decided otherwise than expected", outcomes::count(&outcomes));
        }
        Ok(())
    }
}

/// What `file` holds. Its problems are shown.
fn parsed<T>(file: &Path, json: bool, parse: impl Fn(&str) -> Result<T, Vec<Problem>>) -> Result<T> {
    let text = read(file).map_err(|error| Usage(format!("{error:#}")))?;
    parse(&text).map_err(|problems| {
        if json {
            let list = problems.iter().map(|problem| json!({"line": problem.line, "problem": problem.what}));
            let (file, list) = (file.display().to_string(), list.collect::<Vec<_>>());
            println!("{:#}", json!({"file": file, "ok": false, "problems": list}));
        } else {
            problems.iter().for_each(|problem| println!("{}: {problem}", file.display()));
        }
        Shown.into()
    })
}

fn read(file: &Path) -> Result<String> {
    let about = || format!("cannot read {}", file.display());
    let length = std::fs::metadata(file).with_context(about)?.len();
    anyhow::ensure!(length <= LEN_MAX, "{} has more than {} KiB", file.display(), LEN_MAX >> 10);
    std::fs::read_to_string(file).with_context(about)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the process would exit with.
    fn code(command: Command) -> i32 {
        match run(&Arguments { command }) {
            Ok(()) => 0,
            Err(error) if error.is::<Shown>() || error.is::<Usage>() => 2,
            Err(_) => 1,
        }
    }

    #[test]
    fn exit_codes_tell_wrong_decisions_from_bad_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).expect("written");
            file
        };
        let good = write("good", "permit(principal, action == Claviger::Action::\"list\", resource);");
        let bad = write("bad", "permit(principal, action == Claviger::Action::\"lost\", resource);");
        let row = "who | action | expect\nspiffe://example.org/region/us/proxy/p1 | list | ";
        let (allow, deny) = (write("allow", &format!("{row}allow")), write("deny", &format!("{row}deny")));
        let missing = folder.path().join("missing");
        let large = write("large", &" ".repeat(2 << 20));
        let binary = folder.path().join("binary");
        std::fs::write(&binary, b"\xff\xfe").expect("written");
        for json in [false, true] {
            for (file, expected) in [(&good, 0), (&bad, 2), (&missing, 2), (&large, 2), (&binary, 2)] {
                let command = Command::Check(Check { file: file.clone(), json });
                assert_eq!(code(command), expected, "check {}", file.display());
            }
            for (file, cases, expected) in
                [(&good, &allow, 0), (&good, &deny, 1), (&bad, &allow, 2), (&good, &bad, 2), (&good, &missing, 2)]
            {
                let command = Command::Test(Test { file: file.clone(), cases: cases.clone(), json });
                assert_eq!(code(command), expected, "test {} {}", file.display(), cases.display());
            }
        }
    }
}

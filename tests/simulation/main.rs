//! Proxies, custodians, a storage server and applications in one process, on a simulated network and clock, in the hands of an adversary
//! who does everything by a seed. docs/ARCHITECTURE.md tells what it is and why it is made so.
//!
//! `CLAVIGER_SIMULATION_SEEDS=10000` runs so many seeds, `CLAVIGER_SIMULATION_SEED=1234` one, with its trace.

mod adversary;
mod certificates;
mod client;
mod custodian;
mod network;
mod proxy;
mod random;
mod records;
mod scan;
mod storage;
mod trace;
mod world;

use std::io::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use trace::Outcome;
use world::Fault;

/// Where the applications' records are.
const BUCKET: &str = "ledger";
/// What the proxies share.
const STATE: &str = "claviger-state";
/// Seeds that are run where nothing else is asked for.
const SEEDS: u64 = 50;
/// In the environment: the one seed to run, and what to do wrong.
const SEED: &str = "CLAVIGER_SIMULATION_SEED";
const FAULT: &str = "CLAVIGER_SIMULATION_FAULT";
/// The test that runs it.
const THE_TEST: &str = "nothing_that_must_not_happen_happens";
/// Around the trace of a run in what its process prints.
const BEGINS: &str = "\n-- the seed begins\n";
const ENDS: &str = "\n-- the seed is at its end\n";

/// Also where another task panicked with it, which ends the test anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn asked(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} has to be a number")))
}

/// Runs one seed in a process of its own: what the libraries count for the whole of a process would make it another run the next time.
fn run(seed: u64, fault: Option<Fault>) -> Outcome {
    let mut process = Command::new(std::env::current_exe().expect("this program"));
    process.args(["--exact", "--nocapture", THE_TEST]).env(SEED, seed.to_string());
    match fault {
        Some(fault) => process.env(FAULT, fault.name()),
        None => process.env_remove(FAULT),
    };
    let ended = process.output().expect("starts");
    let (printed, said) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    let lines = printed.split_once(BEGINS).and_then(|(_, rest)| rest.split_once(ENDS));
    let (lines, _) = lines.unwrap_or_else(|| panic!("seed {seed} did not come to its end:\n{printed}\n{said}"));
    Outcome::new(lines.trim().lines().map(ToOwned::to_owned).collect())
}

/// Runs one seed in this process, on a thread of its own, as all randomness of a thread follows from its seed.
fn run_here(seed: u64, fault: Option<Fault>) -> Outcome {
    let run = move || {
        claviger_simulated_os::seed(seed);
        world::run(seed, fault)
    };
    let thread = thread::Builder::new().stack_size(16 << 20).spawn(run).expect("a thread");
    thread.join().expect("the simulation does not panic")
}

fn told(seed: u64, outcome: &Outcome) -> String {
    let (trace, wrong) = (outcome.lines.join("\n"), outcome.wrong.join("\n"));
    format!("{trace}\n\nseed {seed} fails; {SEED}={seed} runs it again:\n{wrong}")
}

#[test]
fn nothing_that_must_not_happen_happens() {
    if let Some(seed) = asked(SEED) {
        let fault = std::env::var(FAULT).ok().map(|name| Fault::named(&name).expect("the name of a fault"));
        let outcome = run_here(seed, fault);
        // Past the test harness, which would keep it.
        let lines = format!("{BEGINS}{}{ENDS}", outcome.lines.join("\n"));
        std::io::stdout().write_all(lines.as_bytes()).expect("writes");
        assert!(outcome.wrong.is_empty(), "seed {seed} fails:\n{}", outcome.wrong.join("\n"));
        return;
    }
    let first = asked("CLAVIGER_SIMULATION_FIRST").unwrap_or(0);
    let (next, end) = (AtomicU64::new(first), first + asked("CLAVIGER_SIMULATION_SEEDS").unwrap_or(SEEDS));
    let failed = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            let outcome = run(seed, None);
            if !outcome.wrong.is_empty() {
                failed.lock().expect("no panic holds it").push((seed, told(seed, &outcome)));
            }
        }
    };
    thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().expect("no panic holds it");
    let seeds: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    assert!(failed.is_empty(), "{}\n\nfailing seeds: {seeds:?}", failed[0].1);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 14, 15] {
        let (one, other) = (run(seed, None), run(seed, None));
        let differs = one.lines.iter().zip(&other.lines).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert!(one.lines == other.lines && one.lines.len() > 100, "seed {seed}: {} lines", one.lines.len());
    }
    assert!(run(3, None).lines != run(4, None).lines, "the seeds do not differ");
}

/// The checks see what they are there for.
fn is_noticed(fault: Fault, words: &str) {
    let noticed = (0..3).any(|seed| run(seed, Some(fault)).wrong.iter().any(|wrong| wrong.contains(words)));
    assert!(noticed, "{fault:?} went unnoticed");
}

#[test]
fn a_record_in_the_clear_is_noticed() {
    is_noticed(Fault::Plaintext, "a record in the clear");
}

#[test]
fn a_branch_key_in_the_clear_is_noticed() {
    is_noticed(Fault::BareKey, "a branch key in the clear");
}

#[test]
fn a_wrong_byte_is_noticed() {
    is_noticed(Fault::WrongByte, "never written there");
}

#[test]
fn a_lost_write_is_noticed() {
    is_noticed(Fault::LostWrite, "never written there");
}

#[test]
fn a_key_that_is_used_after_its_revocation_is_noticed() {
    is_noticed(Fault::Unwatched, "after the bound");
}

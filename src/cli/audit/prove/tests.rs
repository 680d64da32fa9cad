//! A proof comes with the entry that it is of, and not from a log that does not hold.

use std::fs;

use super::*;
use crate::cli::audit::Command;
use crate::cli::audit::testing::{entry, handed_over, log_key, log_signer, text, typed, with_entries};

fn arguments(words: &[&str]) -> Arguments {
    let Command::Prove(arguments) = typed(words) else { panic!("it is prove") };
    arguments
}

#[tokio::test]
async fn a_proof_and_its_entry_are_written() {
    let folder = handed_over((0..300).map(entry)).await;
    let [out, entry_out] = ["out", "entry"].map(|name| text(&folder.path().join(name)));
    let (log, key) = (text(folder.path()), log_key());
    let words = ["prove", "299", "--log", &log, "--key", &key, "--out", &out, "--entry-out", &entry_out];
    run(&arguments(&words)).await.expect("proves");
    let proof = InclusionProof::parse(&fs::read(&out).expect("reads")).expect("a proof");
    let bytes = fs::read(&entry_out).expect("reads");
    assert_eq!(bytes, entry(299).to_string().into_bytes());
    proof.verify(&bytes, log_signer().verifier()).expect("holds");
    assert!(run(&arguments(&words)).await.is_err(), "nothing is overwritten");

    let beyond = run(&arguments(&["prove", "300", "--log", &log, "--key", &key])).await.expect_err("no such entry");
    assert!(beyond.to_string().contains("covers 300 entries"), "{beyond}");
}

#[tokio::test]
async fn nothing_is_proved_from_a_log_that_does_not_hold() {
    let folder = handed_over((0..300).map(entry)).await;
    let altered = with_entries(folder.path(), |entries| entries[12][1] ^= 1);
    let (log, key) = (text(altered.path()), log_key());
    run(&arguments(&["prove", "13", "--log", &log, "--key", &key])).await.expect("that one is there");
    let error = run(&arguments(&["prove", "12", "--log", &log, "--key", &key])).await.expect_err("altered");
    assert!(error.to_string().contains("claviger audit verify"), "{error}");
}

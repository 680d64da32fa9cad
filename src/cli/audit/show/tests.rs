//! What is shown of a log, and what is not.

use serde_json::Value;

use super::*;
use crate::cli::audit::Command;
use crate::cli::audit::testing::{append, entry, handed_over, log_key, open, text, typed, with_entries};

fn arguments(folder: &std::path::Path, more: &[&str]) -> Arguments {
    let (folder, key) = (text(folder), log_key());
    let words = [&["show", "--json", "--log", &folder, "--key", &key], more].concat();
    let Command::Show(arguments) = typed(&words) else { panic!("it is show") };
    arguments
}

fn numbers(out: &[u8]) -> Vec<u64> {
    let lines = std::str::from_utf8(out).expect("text").lines();
    lines.map(|line| serde_json::from_str::<Value>(line).expect("JSON")["index"].as_u64().expect("an index")).collect()
}

async fn shown(folder: &std::path::Path, more: &[&str]) -> (Vec<u64>, Result<()>) {
    let arguments = arguments(folder, more);
    let mut out = Vec::new();
    let mut show = Show { arguments: &arguments, edge: Frontier::default() };
    let done = show.first(&arguments.log.open().expect("a log"), &mut out).await;
    (numbers(&out), done)
}

#[tokio::test]
async fn filters_are_of_what_entries_say() {
    let folder = handed_over((0..300).map(entry)).await;
    let all = |keep: &dyn Fn(u64) -> bool| (0..300).filter(|index| keep(*index)).collect::<Vec<u64>>();
    for (words, expected) in [
        (&[][..], all(&|_| true)),
        (&["--principal", "alice"], all(&|index| index % 2 == 0)),
        (&["--principal", "proxy/p1", "--limit", "2"], vec![298, 299]),
        (&["--principal", "p2"], vec![]),
        (&["--principal", "1"], vec![]),
        (&["--action", "generate", "--decision", "deny"], all(&|index| index % 30 == 9)),
        (&["--decision", "allow", "--kek", "records"], all(&|index| index % 10 != 9)),
        (&["--kek", "other"], vec![]),
        (&["--reason", "customer-support"], vec![]),
        (&["--since", "2026-01-01T04:58:00Z"], vec![298, 299]),
        (&["--until", "2026-01-01T00:02:00Z"], vec![0, 1]),
        (&["--limit", "0"], vec![]),
    ] {
        let (found, done) = shown(folder.path(), words).await;
        done.expect("whole");
        assert_eq!(found, expected, "{words:?}");
    }
}

#[tokio::test]
async fn what_was_not_signed_is_not_passed_off_as_shown_well() {
    let folder = handed_over((0..300).map(entry)).await;
    let altered = with_entries(folder.path(), |entries| entries[12][1] ^= 1);
    let (_, done) = shown(altered.path(), &[]).await;
    assert!(done.expect_err("altered").to_string().contains("claviger audit verify"));
    let (found, done) = shown(altered.path(), &["--limit", "5"]).await;
    assert!(found.is_empty() && done.is_err());
}

#[tokio::test]
async fn following_shows_what_comes_and_notices_a_rollback() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    append(&log, (0..3).map(entry)).await;
    let checkpoint = std::fs::read(folder.path().join("checkpoint")).expect("reads");
    let arguments = arguments(folder.path(), &["--follow"]);
    let local = arguments.log.open().expect("a log");
    let mut show = Show { arguments: &arguments, edge: Frontier::default() };
    let mut out = Vec::new();
    show.first(&local, &mut out).await.expect("shows");
    append(&log, (3..5).map(entry)).await;
    show.more(&local, &mut out).await.expect("shows");
    show.more(&local, &mut out).await.expect("nothing new");
    assert_eq!(numbers(&out), [0, 1, 2, 3, 4]);
    std::fs::write(folder.path().join("checkpoint"), checkpoint).expect("writes");
    assert!(show.more(&local, &mut out).await.expect_err("rolled back").to_string().contains("rolled back"));
}

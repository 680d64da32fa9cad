//! What an inspector finds in copies of a log, whole and tampered with.

use std::fs;
use std::path::Path;

use super::*;
use crate::cli::audit::Command;
use crate::cli::audit::testing::{
    append, copy, entry, handed_over, log_key, log_signer, open, signer, text, typed, with_entries,
};
use crate::tlog::note::Use;
use crate::tlog::proof_file::InclusionProof;
use crate::tlog::witness::cosign;

const SIZE: u64 = 600;

fn arguments(folder: &Path, more: &[&str]) -> Arguments {
    let (folder, key) = (text(folder), log_key());
    let words = [&["verify", "--log", &folder, "--key", &key], more].concat();
    let Command::Verify(arguments) = typed(&words) else { panic!("it is verify") };
    arguments
}

async fn checked(folder: &Path, more: &[&str]) -> Checked {
    check(&arguments(folder, more)).await.unwrap_or_else(|error| panic!("it is good, but: {error:#}"))
}

/// The problem that is found, and at which entry.
async fn problem(folder: &Path, more: &[&str]) -> (&'static str, Option<u64>) {
    let error = check(&arguments(folder, more)).await.err().expect("it is bad");
    let finding = error.downcast_ref::<Finding>().unwrap_or_else(|| panic!("not found out: {error:#}"));
    assert_eq!(Finding::json_of(&error)["ok"], false);
    finding.problem()
}

async fn whole() -> tempfile::TempDir {
    handed_over((0..SIZE).map(entry)).await
}

/// Writes a checkpoint into a file of its own.
fn kept(folder: &Path, name: &str, checkpoint: &SignedCheckpoint) -> String {
    let path = folder.join(name);
    fs::write(&path, checkpoint.note().to_string()).expect("writes");
    text(&path)
}

#[tokio::test]
async fn a_whole_log_is_reported_with_sizes_and_times() {
    let folder = whole().await;
    let checked = checked(folder.path(), &[]).await;
    let report = checked.as_text();
    assert!(report.starts_with("The log claviger.example/one is whole.\n"), "{report}");
    for part in ["600, each", "2026-01-01T00:00:00.000Z, 2026-01-01T09:59:00.000Z", "Not shown by this"] {
        assert!(report.contains(part), "{part} in {report}");
    }
    let json = checked.as_json();
    assert_eq!((&json["ok"], &json["size"]), (&true.into(), &SIZE.into()));
    assert!(report.contains(json["root"].as_str().expect("text")));
}

#[tokio::test]
async fn each_change_of_entries_is_found_and_named() {
    let folder = whole().await;
    let altered = with_entries(folder.path(), |entries| entries[300][20] ^= 1);
    assert_eq!(problem(altered.path(), &[]).await, ("altered", Some(300)));
    let removed = with_entries(folder.path(), |entries| drop(entries.remove(41)));
    assert_eq!(problem(removed.path(), &[]).await, ("removed", Some(41)));
    let reordered = with_entries(folder.path(), |entries| entries.swap(511, 512));
    assert_eq!(problem(reordered.path(), &[]).await, ("reordered", Some(511)));
    let truncated = with_entries(folder.path(), |entries| entries.truncate(590));
    assert_eq!(problem(truncated.path(), &[]).await, ("truncated", Some(590)));
    let inserted = with_entries(folder.path(), |entries| entries.insert(7, b"{}".to_vec()));
    assert_eq!(problem(inserted.path(), &[]).await, ("inserted", Some(7)));
    fs::write(inserted.path().join("tile/1/000.p/2"), [0; 64]).expect("writes");
    let tile = with_entries(folder.path(), |_| ());
    fs::write(tile.path().join("tile/1/000.p/2"), [0; 64]).expect("writes");
    assert_eq!(problem(tile.path(), &[]).await, ("tile-altered", None));
}

#[tokio::test]
async fn a_forged_checkpoint_is_found() {
    let folder = whole().await;
    let place = folder.path().join("checkpoint");
    let good = fs::read_to_string(&place).expect("reads");
    fs::write(&place, good.replace("\n600\n", "\n599\n")).expect("writes");
    assert_eq!(problem(folder.path(), &[]).await, ("forged", None));
    fs::write(&place, "garbage").expect("writes");
    assert_eq!(problem(folder.path(), &[]).await, ("forged", None));
    fs::remove_file(&place).expect("removes");
    assert_eq!(problem(folder.path(), &[]).await, ("no-checkpoint", None));
    fs::write(&place, good).expect("writes");
    let other = signer("claviger.example/one", Use::Log, 8).verifier().to_string();
    let mut arguments = arguments(folder.path(), &[]);
    arguments.log.key = Some(other);
    let error = check(&arguments).await.err().expect("another key");
    assert_eq!(error.downcast_ref::<Finding>().map(Finding::problem), Some(("forged", None)));
}

#[tokio::test]
async fn forks_and_rollbacks_show_against_checkpoints_kept_elsewhere() {
    let kept_elsewhere = tempfile::tempdir().expect("a folder");
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let first = append(&log, (0..300).map(entry)).await;
    let earlier = tempfile::tempdir().expect("a folder");
    copy(folder.path(), earlier.path());
    let second = append(&log, (300..SIZE).map(entry)).await;
    let [first, second] =
        [("first", &first), ("second", &second)].map(|(name, it)| kept(kept_elsewhere.path(), name, it));

    let good = checked(folder.path(), &["--older", &first, "--older", &second]).await;
    assert_eq!(good.older, [300, 600]);
    assert!(good.as_text().contains("the older checkpoint of 300 entries") && !good.as_text().contains("Not shown"));

    assert_eq!(problem(earlier.path(), &["--older", &second]).await, ("rolled-back", Some(300)));

    // The same key signs another history.
    let fork = handed_over((0..SIZE).map(|index| entry(index + u64::from(index == 299)))).await;
    checked(fork.path(), &[]).await;
    assert_eq!(problem(fork.path(), &["--older", &first]).await, ("fork", None));
    assert_eq!(problem(fork.path(), &["--older", &second]).await, ("fork", None));
    // One that agrees does not hide one that does not.
    let own = text(&fork.path().join("checkpoint"));
    assert_eq!(problem(fork.path(), &["--older", &own, "--older", &first]).await, ("fork", None));

    let forged = fs::read_to_string(&first).expect("reads").replace("\n300\n", "\n301\n");
    fs::write(&first, forged).expect("writes");
    assert_eq!(problem(folder.path(), &["--older", &first]).await, ("older-forged", None));
}

#[tokio::test]
async fn enough_witnesses_vouch_for_a_part_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let older = append(&log, (0..300).map(entry)).await;
    append(&log, (300..SIZE).map(entry)).await;
    let witnesses = [1u8, 2, 3].map(|seed| signer(&format!("w{seed}"), Use::Witness, seed));
    let [one, two, three] = witnesses.each_ref().map(|witness| witness.verifier().to_string());
    let line = |witness| {
        let signed = cosign(&older, witness, None, &[], 1000, |_| Ok::<_, std::convert::Infallible>(()));
        signed.expect("cosigns")
    };
    let cosigned = older.clone().with_cosignature(line(&witnesses[0])).expect("fits");
    let cosigned = cosigned.with_cosignature(line(&witnesses[1])).expect("fits");
    let path = kept(folder.path(), "cosigned", &cosigned);

    let good = checked(folder.path(), &["--older", &path, "--witness", &one, "--witness", &two]).await;
    let vouched = good.vouched.as_ref().expect("witnesses");
    assert_eq!((vouched.quorum, vouched.size, vouched.by.len()), (2, 300, 2));
    assert!(good.as_text().contains("300 of 600 entries are vouched for by 2 witnesses"));
    let all = ["--older", &path, "--witness", &one, "--witness", &two, "--witness", &three];
    assert_eq!(problem(folder.path(), &all).await, ("no-quorum", None));
    checked(folder.path(), &[&all[..], &["--quorum", "2"]].concat()).await;
    assert_eq!(problem(folder.path(), &["--witness", &one]).await, ("no-quorum", None));

    let forged = cosigned.note().to_string().replace("— w1 ", "— w3 ");
    fs::write(&path, forged).expect("writes");
    assert_eq!(problem(folder.path(), &["--older", &path, "--witness", &one]).await, ("no-quorum", None));
    for words in
        [&["--witness", &log_key()][..], &["--witness", &one, "--witness", &one], &["--witness", &one, "--quorum", "2"]]
    {
        let error = check(&arguments(folder.path(), words)).await.err().expect("makes no sense");
        assert!(error.is::<Usage>(), "{error}");
    }
}

#[tokio::test]
async fn receipts_are_looked_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let mut receipts = Vec::new();
    for index in 0..5 {
        let receipt = log.append(entry(index).to_string().into_bytes()).await.expect("appends");
        receipts.push(format!("{}:{}", receipt.index, STANDARD.encode(receipt.leaf.0)));
        if index == 3 {
            log.publish().await.expect("publishes");
        }
    }
    let good = checked(folder.path(), &["--receipt", &receipts[0], "--receipt", &receipts[3].replace(':', " ")]).await;
    assert_eq!((good.receipts, good.report.after_checkpoint), (2, 1));
    let other = receipts[1].replace("1:", "2:");
    assert_eq!(problem(folder.path(), &["--receipt", &other]).await, ("receipt-differs", Some(2)));
    assert_eq!(problem(folder.path(), &["--receipt", &receipts[4]]).await, ("not-covered-yet", Some(4)));
    let missing = receipts[4].replace("4:", "5:");
    assert_eq!(problem(folder.path(), &["--receipt", &missing]).await, ("receipt-missing", Some(5)));
    for bad in ["", "1", "1:", "x:AA==", "1:AA==", "-1:AA=="] {
        assert!(receipt(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_proof_is_checked_without_the_log() {
    let folder = whole().await;
    let reader = Reader::open(folder.path(), log_signer().verifier()).expect("opens");
    let proof = InclusionProof::of(&reader, 500).expect("proves").to_string();
    let place = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).expect("writes");
        text(&path)
    };
    let (proof_file, good, bad) =
        (place("proof", &proof), place("good", &entry(500).to_string()), place("bad", &entry(501).to_string()));
    let check = |proof: &str, entry: &str, key: &str| {
        let words = ["verify", "--proof", proof, "--entry", entry, "--key", key];
        let Command::Verify(arguments) = typed(&words) else { panic!("it is verify") };
        alone::check(&arguments, Path::new(proof), Path::new(entry))
    };
    let proved = check(&proof_file, &good, &log_key()).expect("proves");
    assert!(proved.as_text().contains("number 500 of claviger.example/one"));
    assert_eq!(proved.as_json()["index"], 500);
    let found = |result: Result<alone::Proved>| {
        let error = result.err().expect("proves nothing");
        error.downcast_ref::<Finding>().map(Finding::problem)
    };
    assert_eq!(found(check(&proof_file, &bad, &log_key())), Some(("not-proved", Some(500))));
    let other = signer("claviger.example/one", Use::Log, 8).verifier().to_string();
    assert_eq!(found(check(&proof_file, &good, &other)), Some(("forged", None)));
    let moved = place("moved", &proof.replace("index 500", "index 501"));
    assert_eq!(found(check(&moved, &good, &log_key())), Some(("not-proved", Some(501))));
}

#[tokio::test]
async fn what_is_missing_in_the_question_is_said() {
    let folder = whole().await;
    let mut arguments = arguments(folder.path(), &[]);
    for (log, key) in
        [(None, Some(log_key())), (Some(text(folder.path())), None), (Some("/nowhere".to_owned()), Some(log_key()))]
    {
        (arguments.log.log, arguments.log.key) = (log, key);
        assert!(check(&arguments).await.err().expect("cannot be").is::<Usage>());
    }
    let file = folder.path().join("key");
    fs::write(&file, format!("{}\n", log_key())).expect("writes");
    (arguments.log.log, arguments.log.key) = (Some(text(folder.path())), Some(text(&file)));
    assert!(check(&arguments).await.is_ok());
}

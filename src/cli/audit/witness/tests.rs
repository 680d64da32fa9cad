//! A witness cosigns what grows, and nothing else, and forgets nothing.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::cli::audit::Command;
use crate::cli::audit::testing::{append, copy, entry, handed_over, log_key, log_signer, open, text, typed};
use crate::tlog::note::VerifierKey;
use crate::tlog::witness::WitnessPolicy;

/// A folder for the witness, with its key.
struct Home {
    folder: TempDir,
    vkey: VerifierKey,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let out = text(&folder.path().join("key"));
        let Command::WitnessKey(arguments) = typed(&["witness-key", "--name", "w.example", "--out", &out]) else {
            panic!("it is witness-key")
        };
        witness_key::run(&arguments).expect("makes a key");
        let vkey = witness_key::load(Path::new(&out)).expect("loads").verifier().clone();
        Self { folder, vkey }
    }

    fn place(&self, name: &str) -> String {
        text(&self.folder.path().join(name))
    }

    fn arguments(&self, log: &Path, more: &[&str]) -> Arguments {
        let (log, key, own, state) = (text(log), log_key(), self.place("key"), self.place("state"));
        let words = ["witness", "--log", &log, "--log-key", &key, "--key-file", &own, "--state", &state];
        let Command::Witness(arguments) = typed(&[&words[..], more].concat()) else { panic!("it is witness") };
        arguments
    }

    fn witness(&self, log: &Path) -> Result<Witness> {
        Witness::new(&self.arguments(log, &[]))
    }

    /// Looks once, as a process that starts anew.
    async fn once(&self, log: &Path) -> Result<Step> {
        self.witness(log)?.step().await
    }

    /// Entries that the published checkpoint vouches for.
    fn vouched(&self) -> u64 {
        let note = fs::read(self.place("state/checkpoint")).expect("is published");
        let signed = SignedCheckpoint::open(&note, log_signer().verifier()).expect("is the log's");
        let policy = WitnessPolicy::new(vec![self.vkey.clone()], 1).expect("makes sense");
        policy.verify(&signed, now_s()).expect("is cosigned");
        signed.checkpoint().size()
    }

    fn evidence(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.place("state/evidence")) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("listed").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn what_only_grows_is_cosigned_by_one_process_after_the_other() {
    let (home, folder) = (Home::new(), tempfile::tempdir().expect("a folder"));
    let log = open(folder.path());
    let mut size = 0;
    for more in [0, 1, 299, 0, 300] {
        append(&log, (size..size + more).map(entry)).await;
        size += more;
        let step = home.once(folder.path()).await.expect("cosigns");
        let unchanged = more == 0 && size > 0;
        assert_eq!(step, if unchanged { Step::Unchanged } else { Step::Cosigned { size } });
        assert_eq!(home.vouched(), size);
    }
    assert!(home.evidence().is_empty());
}

#[tokio::test]
async fn forks_and_rollbacks_are_refused_and_kept_as_evidence() {
    let (home, folder, earlier) =
        (Home::new(), tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let log = open(folder.path());
    append(&log, (0..300).map(entry)).await;
    copy(folder.path(), earlier.path());
    append(&log, (300..400).map(entry)).await;
    home.once(folder.path()).await.expect("cosigns");
    let forked = |size: u64| handed_over((0..size).map(|index| entry(index + u64::from(index == 350))));
    let (same, longer) = (forked(400).await, forked(500).await);
    let before = [fs::read(home.place("state/seen")), fs::read(home.place("state/checkpoint"))].map(Result::unwrap);
    for (bad, kept) in [(earlier.path(), 2), (same.path(), 4), (longer.path(), 6), (longer.path(), 6)] {
        let error = home.once(bad).await.expect_err("is refused");
        assert!(error.is::<Alarm>(), "{error:#}");
        assert!(error.to_string().contains("ALARM"), "{error}");
        assert_eq!(home.evidence().len(), kept);
    }
    let after = [fs::read(home.place("state/seen")), fs::read(home.place("state/checkpoint"))].map(Result::unwrap);
    assert_eq!(before, after);
    // The two notes of a piece of evidence are both the log's, and contradict each other.
    for name in home.evidence() {
        let note = fs::read(home.folder.path().join("state/evidence").join(name)).expect("reads");
        SignedCheckpoint::open(&note, log_signer().verifier()).expect("signed by the log");
    }
    // The good history goes on being cosigned.
    append(&log, (400..410).map(entry)).await;
    assert_eq!(home.once(folder.path()).await.expect("cosigns"), Step::Cosigned { size: 410 });
}

#[tokio::test]
async fn a_checkpoint_that_is_not_the_logs_is_no_alarm_and_not_cosigned() {
    let (home, folder) = (Home::new(), handed_over((0..3).map(entry)).await);
    let note = fs::read_to_string(folder.path().join("checkpoint")).expect("reads");
    fs::write(folder.path().join("checkpoint"), note.replace("\n3\n", "\n4\n")).expect("writes");
    let error = home.once(folder.path()).await.expect_err("forged");
    assert!(!error.is::<Alarm>() && format!("{error:#}").contains("forged"), "{error:#}");
    assert_eq!(home.evidence().len(), 1);
    assert!(!Path::new(&home.place("state/seen")).exists());
}

#[tokio::test]
async fn what_is_seen_is_remembered_before_it_is_cosigned() {
    let (home, folder) = (Home::new(), handed_over((0..3).map(entry)).await);
    // Publishing fails, as after a crash between the two.
    let state = home.place("state");
    fs::create_dir_all(format!("{state}/checkpoint.tmp")).expect("makes a folder");
    home.once(folder.path()).await.expect_err("cannot publish");
    assert!(Path::new(&home.place("state/seen")).exists());
    let fork = handed_over((0..3).map(|index| entry(index + 1))).await;
    assert!(home.once(fork.path()).await.expect_err("another history").is::<Alarm>());
    fs::remove_dir(format!("{state}/checkpoint.tmp")).expect("removes");
    assert_eq!(home.once(folder.path()).await.expect("cosigns"), Step::Cosigned { size: 3 });

    // And nothing is cosigned that cannot be remembered.
    fs::create_dir(format!("{state}/seen.tmp")).expect("makes a folder");
    let longer = handed_over((0..5).map(entry)).await;
    home.once(longer.path()).await.expect_err("cannot record");
    assert_eq!(home.vouched(), 3);
}

#[tokio::test]
async fn a_memory_that_is_lost_shared_or_of_another_log_is_refused() {
    let (home, folder) = (Home::new(), handed_over((0..3).map(entry)).await);
    home.once(folder.path()).await.expect("cosigns");
    let first = home.witness(folder.path()).expect("opens");
    let refused = |what: &str| {
        let error = home.witness(folder.path()).err().unwrap_or_else(|| panic!("{what}"));
        assert!(format!("{error:#}").contains(what), "{error:#}");
    };
    refused("another witness works");
    drop(first);
    let seen = fs::read(home.place("state/seen")).expect("reads");
    fs::remove_file(home.place("state/seen")).expect("removes");
    refused("has lost what it had seen");
    fs::write(home.place("state/seen"), "x").expect("writes");
    refused("damaged");
    fs::write(home.place("state/seen"), seen).expect("writes");
    fs::write(home.place("state/log"), "x").expect("writes");
    refused("another log");
}

#[tokio::test]
async fn settings_may_stand_in_a_file() {
    let (home, folder) = (Home::new(), handed_over((0..3).map(entry)).await);
    let config = home.place("witness.toml");
    let settings =
        format!("log = {:?}\nlog_key = {:?}\nkey_file = \"key\"\nstate = \"state\"\n", text(folder.path()), log_key());
    fs::write(&config, &settings).expect("writes");
    let arguments = || {
        let Command::Witness(arguments) = typed(&["witness", "--once", "--config", &config]) else {
            panic!("it is witness")
        };
        arguments
    };
    run(arguments()).await.expect("cosigns");
    assert_eq!(home.vouched(), 3);
    for wrong in ["colour = 1", "interval = \"5\"", "push = true"] {
        fs::write(&config, format!("{settings}{wrong}\n")).expect("writes");
        let error = run(arguments()).await.expect_err(wrong);
        assert!(error.is::<Usage>(), "{error:#}");
    }
}

//! Logs that grow, fail, crash and come back.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::tlog::merkle::Hash;
use crate::tlog::merkle::vectors::naive_root;
use crate::tlog::proof::{verify_consistency, verify_inclusion};
use crate::tlog::shared::Step;
use crate::tlog::testing::{Faulty, append, append_all, copy, entry, leaf, open, settings, signer};
use crate::tlog::verify::verify;

fn root(size: u64) -> Hash {
    naive_root(&(0..size).map(leaf).collect::<Vec<_>>())
}

/// The log verifies, and has `size` entries of which `signed` are in its checkpoint.
fn assert_whole(folder: &Path, signed: u64, size: u64) {
    let report = verify(folder, signer().verifier(), None).expect("whole");
    assert_eq!(report.checkpoint.checkpoint().size(), signed);
    assert_eq!(*report.checkpoint.checkpoint().root(), root(signed));
    assert_eq!((report.after_checkpoint, report.torn_bytes), (size - signed, 0));
    let reader = Reader::open(folder, signer().verifier()).expect("opens");
    let entries: Vec<_> = reader.entries(0).collect::<Result<_, _>>().expect("reads");
    assert!(entries.iter().cloned().eq((0..signed).map(|index| (index, entry(index)))));
}

#[tokio::test]
async fn room_made_in_advance_is_no_part_of_a_log_that_crashed_or_was_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut current = folder.path().join("0");
    for round in 0..4 {
        let small = Settings { segment_len: 4096, ..settings() };
        let log = Log::open(&current, signer(), &small).expect("opens");
        append_all(&log, round * 300..(round + 1) * 300).await;
        let crashed = folder.path().join((round + 1).to_string());
        copy(&current, &crashed);
        let segments = crate::tlog::shelf::segments(&crashed).expect("lists");
        let last = fs::read(&segments.last().expect("one").1).expect("reads");
        assert!(journal::is_room(&last[last.len() - 256..]), "it was made");
        assert_whole(&crashed, 0, (round + 1) * 300);
        drop(log.close().await.expect("closes"));
        for (_, path) in crate::tlog::shelf::segments(&current).expect("lists") {
            let closed = fs::read(path).expect("reads");
            assert!(!journal::is_room(&closed[closed.len().saturating_sub(64)..]), "ends with a signature");
        }
        current = crashed;
    }
}

#[tokio::test]
async fn a_busy_log_goes_on_in_a_segment_that_was_made_ready() {
    let folder = tempfile::tempdir().expect("a folder");
    let spare = folder.path().join("journal/spare");
    let busy = Settings { checkpoint_interval: Duration::from_millis(20), ..settings() };
    let log = Log::open(folder.path(), signer(), &busy).expect("opens");
    let large = || vec![b'x'; 8 << 10];
    let (mut size, began) = (0, Instant::now());
    while crate::tlog::shelf::segments(folder.path()).expect("lists").len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(60), "no second segment");
        for appended in futures_util::future::join_all((0..16).map(|_| log.append(large()))).await {
            appended.expect("appends");
            size += 1;
        }
    }
    let crashed = tempfile::tempdir().expect("a folder");
    copy(folder.path(), crashed.path());
    let report = verify(crashed.path(), signer().verifier(), None).expect("whole");
    assert_eq!((report.checkpoint.checkpoint().size() + report.after_checkpoint, report.torn_bytes), (size, 0));
    let again = open(crashed.path()).expect("opens");
    assert_eq!(again.append(large()).await.expect("appends").index, size);
    again.close().await.expect("closes");
    assert_eq!(log.close().await.expect("closes").checkpoint().size(), size);
    assert!(!spare.exists() && !crashed.path().join("journal/spare").exists());
}

#[tokio::test]
async fn entries_are_kept_signed_proved_and_continued() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut size = 0;
    for more in [0, 1, 255, 1, 300, 700, 0] {
        let log = open(folder.path()).expect("opens");
        append_all(&log, size..size + more).await;
        size += more;
        let signed = log.close().await.expect("closes");
        assert_eq!((signed.checkpoint().size(), *signed.checkpoint().root()), (size, root(size)));
        assert!(matches!(log.append(Vec::new()).await, Err(LogError::Closed)));
        assert_whole(folder.path(), size, size);
    }
    let reader = Reader::open(folder.path(), signer().verifier()).expect("opens");
    for index in [0, 1, 255, 256, 557, 1255, 1256] {
        let proof = reader.prove_inclusion(index).expect("proves");
        assert_eq!(reader.leaf(index).expect("reads"), leaf(index));
        assert_eq!(verify_inclusion(&proof, &leaf(index), index, size, &root(size)), Ok(()));
        let proof = reader.prove_consistency(index).expect("proves");
        assert_eq!(verify_consistency(&proof, (index, &root(index)), (size, &root(size))), Ok(()));
        let first = reader.entries(index).next().expect("one").expect("reads");
        assert_eq!(first, (index, entry(index)));
    }
    assert!(reader.prove_inclusion(size).is_err() && reader.prove_consistency(size + 1).is_err());
    assert_eq!(reader.entries(size).count(), 0);
}

#[tokio::test]
async fn the_folder_is_a_static_tiled_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path()).expect("opens");
    append_all(&log, 0..200).await;
    log.publish().await.expect("publishes");
    append_all(&log, 200..600).await;
    log.close().await.expect("closes");
    let read = |path: &str| fs::read(folder.path().join(path)).expect(path);
    let leaves: Vec<u8> = (0..600).flat_map(|index| leaf(index).0).collect();
    assert_eq!([read("tile/0/000"), read("tile/0/001"), read("tile/0/002.p/88")].concat(), leaves);
    let roots = [0, 256].map(|first| naive_root(&(first..first + 256).map(leaf).collect::<Vec<_>>()).0);
    assert_eq!(read("tile/1/000.p/2"), roots.concat());
    let bundle = |range: std::ops::Range<u64>| {
        range.flat_map(|n| [&(entry(n).len() as u16).to_be_bytes()[..], &entry(n)].concat()).collect::<Vec<u8>>()
    };
    assert_eq!(read("tile/entries/000"), bundle(0..256));
    assert_eq!(read("tile/entries/002.p/88"), bundle(512..600));
    assert!(!folder.path().join("tile/0/000.p").exists(), "a full tile replaces its partial ones");
    let names = fs::read_dir(folder.path().join("journal")).expect("a folder").count();
    assert_eq!(names, 1);
}

#[tokio::test]
async fn checkpoints_follow_by_themselves() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings { checkpoint_interval: Duration::from_millis(50), ..Settings::default() };
    let log = Log::open(folder.path(), signer(), &settings).expect("opens");
    let mut checkpoints = log.checkpoints();
    for size in 1..4 {
        append_all(&log, size - 1..size).await;
        let signed = checkpoints.wait_for(|signed| signed.checkpoint().size() == size);
        timeout(Duration::from_secs(5), signed).await.expect("in time").expect("goes on");
        assert_eq!(log.reader().checkpoint().checkpoint().size(), size);
    }
}

#[tokio::test]
async fn one_opens_it_at_a_time_and_a_dropped_log_finishes() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path()).expect("opens");
    append_all(&log, 0..3).await;
    assert!(matches!(open(folder.path()), Err(OpenError::InUse)));
    let mut checkpoints = log.checkpoints();
    drop(log);
    let last = checkpoints.wait_for(|signed| signed.checkpoint().size() == 3);
    assert!(timeout(Duration::from_secs(5), last).await.expect("in time").is_ok());
}

#[tokio::test]
async fn wrong_keys_and_long_entries_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path()).expect("opens");
    assert!(matches!(log.append(vec![0; MAX_ENTRY_LEN + 1]).await, Err(LogError::TooLong { length: 16_385 })));
    assert_eq!(log.append(vec![0; MAX_ENTRY_LEN]).await.expect("appends").index, 0);
    log.close().await.expect("closes");
    let other = |usage| {
        let key = crate::crypto::SigningKey::generate().expect("random");
        let other = Signer::new("example.com/audit", usage, key).expect("a name");
        Log::open(folder.path(), other, &settings()).err()
    };
    assert!(matches!(other(Use::Log), Some(OpenError::Checkpoint(_))));
    assert!(matches!(other(Use::Witness), Some(OpenError::NotALogKey)));
}

#[tokio::test]
async fn one_sync_serves_many_appends() {
    let folder = tempfile::tempdir().expect("a folder");
    let faulty = Arc::new(Faulty { sync_delay: Duration::from_millis(5), ..Faulty::new() });
    let log = Arc::new(faulty.open(folder.path(), &settings()).expect("opens"));
    let tasks = (0..64).map(|_| {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            for _ in 0..10 {
                log.append(b"x".to_vec()).await.expect("appends");
            }
        })
    });
    futures_util::future::try_join_all(tasks).await.expect("no panic");
    let syncs = faulty.syncs.load(Ordering::SeqCst);
    assert!((10..=80).contains(&syncs), "{syncs} syncs for 640 appends");
    assert_eq!(log.close().await.expect("closes").checkpoint().size(), 640);
}

#[tokio::test]
async fn a_full_or_broken_disk_fails_all_who_wait_and_nothing_is_lost() {
    for step in [Step::Write, Step::Sync] {
        let folder = tempfile::tempdir().expect("a folder");
        let faulty = Arc::new(Faulty::new());
        let log = faulty.open(folder.path(), &settings()).expect("opens");
        append_all(&log, 0..300).await;
        log.publish().await.expect("publishes");
        append_all(&log, 300..310).await;
        let fault = if step == Step::Write { &faulty.full } else { &faulty.broken };
        fault.store(true, Ordering::SeqCst);
        for receipt in append(&log, 310..330).await {
            assert!(matches!(receipt, Err(LogError::Failed(failure)) if failure.step == step));
        }
        fault.store(false, Ordering::SeqCst);
        let begun = Instant::now();
        assert!(matches!(log.append(entry(310)).await, Err(LogError::Failed(_))));
        assert!(matches!(log.publish().await, Err(LogError::Failed(_))));
        assert!(matches!(log.close().await, Err(LogError::Failed(_))));
        assert!(begun.elapsed() < Duration::from_secs(2));
        let log = open(folder.path()).expect("opens again");
        append_all(&log, 310..320).await;
        assert_eq!(log.close().await.expect("closes").checkpoint().size(), 320);
        assert_whole(folder.path(), 320, 320);
    }
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_written_fails_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let faulty = Arc::new(Faulty::new());
    let log = faulty.open(folder.path(), &settings()).expect("opens");
    append_all(&log, 0..10).await;
    faulty.full.store(true, Ordering::SeqCst);
    assert!(matches!(log.publish().await, Err(LogError::Failed(failure)) if failure.step == Step::Publish));
    assert!(matches!(log.append(entry(10)).await, Err(LogError::Failed(_))));
    assert!(log.failure().is_some());
    assert!(matches!(log.close().await, Err(LogError::Failed(_))));
    let log = open(folder.path()).expect("opens again");
    assert_eq!(log.close().await.expect("closes").checkpoint().size(), 10);
}

#[tokio::test]
async fn a_disk_that_hangs_delays_nobody_beyond_the_deadline() {
    let folder = tempfile::tempdir().expect("a folder");
    let faulty = Arc::new(Faulty::new());
    let settings = Settings { deadline: Duration::from_millis(200), queue: 4, ..settings() };
    let log = faulty.open(folder.path(), &settings).expect("opens");
    faulty.hang.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    for receipt in append(&log, 0..20).await {
        assert!(matches!(receipt, Err(LogError::Deadline)));
    }
    assert!(begun.elapsed() < Duration::from_secs(2));
    faulty.hang.store(false, Ordering::SeqCst);
    log.append(b"later".to_vec()).await.expect("appends");
    log.close().await.expect("closes");
}

#[tokio::test]
async fn a_journal_cut_at_any_byte_loses_only_what_was_not_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path()).expect("opens");
    append_all(&log, 0..257).await;
    log.publish().await.expect("publishes");
    let journal = folder.path().join("journal").join(journal::segment_name(0));
    // The length of the journal after so many entries.
    let mut ends = vec![(257, fs::metadata(&journal).expect("is there").len())];
    for index in 257..262 {
        append_all(&log, index..index + 1).await;
        ends.push((index + 1, fs::metadata(&journal).expect("is there").len()));
    }
    let crashed = tempfile::tempdir().expect("a folder");
    copy(folder.path(), crashed.path());
    log.close().await.expect("closes");
    let journal = crashed.path().join("journal").join(journal::segment_name(0));
    let whole = fs::read(&journal).expect("reads");
    for length in (0..=whole.len() as u64).rev() {
        OpenOptions::new().write(true).open(&journal).and_then(|file| file.set_len(length)).expect("cuts");
        let recovered = recover::recover(crashed.path(), &signer(), &Disk::durable());
        let kept = ends.iter().rev().find(|(_, end)| *end <= length);
        match (recovered, kept) {
            (Ok(recovered), Some((size, end))) => {
                assert_eq!((recovered.frontier.size(), recovered.frontier.root()), (*size, root(*size)));
                assert_eq!((recovered.kept, recovered.torn), (*end, length - end));
            }
            (Err(OpenError::Truncated { signed: 257, found: 0..257 }), None) => {}
            (recovered, kept) => panic!("{length}: {kept:?} {:?}", recovered.err()),
        }
    }
    for (size, end) in ends {
        for torn in [0, 1, 30] {
            fs::write(&journal, &whole[..whole.len().min(usize::try_from(end).expect("small") + torn)])
                .expect("writes");
            let again = tempfile::tempdir().expect("a folder");
            copy(crashed.path(), again.path());
            let log = open(again.path()).expect("opens");
            append_all(&log, size..size + 2).await;
            log.close().await.expect("closes");
            assert_whole(again.path(), size + 2, size + 2);
        }
    }
}

/// What a process does that is killed at some point; gives the entries that were acknowledged.
async fn live(faulty: &Arc<Faulty>, folder: &Path) -> u64 {
    let settings = Settings { segment_len: 4000, ..settings() };
    let mut acknowledged = 0;
    for _ in 0..2 {
        let Ok(log) = faulty.open(folder, &settings) else { return acknowledged };
        for more in [3, 260, 1] {
            let receipts = append(&log, acknowledged..acknowledged + more).await;
            acknowledged += receipts.iter().filter(|receipt| receipt.is_ok()).count() as u64;
            let _ = log.publish().await;
        }
        let _ = log.close().await;
    }
    acknowledged
}

#[tokio::test]
async fn killed_in_any_operation_it_keeps_what_it_acknowledged() {
    for life in 0.. {
        let folder = tempfile::tempdir().expect("a folder");
        let faulty = Arc::new(Faulty::new());
        faulty.life.store(life, Ordering::SeqCst);
        let acknowledged = live(&faulty, folder.path()).await;
        let log = open(folder.path()).unwrap_or_else(|error| panic!("killed in operation {life}: {error:?}"));
        let size = log.close().await.expect("closes").checkpoint().size();
        // A batch that was whole on disk when the process died before its answers is kept.
        assert!((acknowledged..=acknowledged + 260).contains(&size), "{life}: {acknowledged} {size}");
        assert_whole(folder.path(), size, size);
        if !faulty.is_dead() {
            assert!(acknowledged == 528 && life > 25, "{life} operations for {acknowledged} entries");
            break;
        }
    }
}

#[tokio::test]
async fn spent_segments_are_removed_and_full_ones_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings { segment_len: 2000, ..settings() };
    let log = Log::open(folder.path(), signer(), &settings).expect("opens");
    let segments = || shelf_segments(folder.path());
    for first in (0..1000).step_by(50) {
        append_all(&log, first..first + 50).await;
    }
    assert!(segments().len() > 5);
    log.publish().await.expect("publishes");
    let left = segments();
    assert!(left[0] <= 768 && left[1] > 768, "{left:?}");
    append_all(&log, 1000..1010).await;
    log.close().await.expect("closes");
    assert_whole(folder.path(), 1010, 1010);
    let log = Log::open(folder.path(), signer(), &settings).expect("opens");
    append_all(&log, 1010..1300).await;
    log.close().await.expect("closes");
    assert_whole(folder.path(), 1300, 1300);
}

fn shelf_segments(folder: &Path) -> Vec<u64> {
    let segments = crate::tlog::shelf::segments(folder).expect("lists");
    segments.into_iter().map(|(index, _)| index).collect()
}

#[tokio::test]
async fn a_log_that_contradicts_its_checkpoint_is_not_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path()).expect("opens");
    append_all(&log, 0..300).await;
    let old = log.publish().await.expect("publishes");
    append_all(&log, 300..600).await;
    log.close().await.expect("closes");
    // Only the last bundle's entries stay in the journal.
    let settings = Settings { segment_len: 1000, ..settings() };
    let log = Log::open(folder.path(), signer(), &settings).expect("opens");
    append_all(&log, 600..800).await;
    append_all(&log, 800..900).await;
    log.close().await.expect("closes");
    let first = shelf_segments(folder.path())[0];
    assert!(first > 300);
    let opened = |tamper: &dyn Fn(&Path)| {
        let copied = tempfile::tempdir().expect("a folder");
        copy(folder.path(), copied.path());
        tamper(copied.path());
        open(copied.path()).err()
    };
    assert!(opened(&|_| ()).is_none());
    let remove = |path: &'static str| move |folder: &Path| fs::remove_file(folder.join(path)).expect("removes");
    assert!(matches!(opened(&remove("checkpoint")), Some(OpenError::NoCheckpoint)));
    assert!(matches!(opened(&remove("tile/1/000.p/3")), Some(OpenError::Read(_))));
    let rolled_back = |folder: &Path| fs::write(folder.join("checkpoint"), old.note().to_string()).expect("writes");
    assert!(matches!(opened(&rolled_back), Some(OpenError::CheckpointRolledBack { signed: 300, .. })));
    let no_journal = |folder: &Path| fs::remove_dir_all(folder.join("journal")).expect("removes");
    assert!(matches!(opened(&no_journal), Some(OpenError::Truncated { signed: 900, found: 768 })));
    let flip = |path: String, at: usize| {
        move |folder: &Path| {
            let mut bytes = fs::read(folder.join(&path)).expect("reads");
            bytes[at] ^= 1;
            fs::write(folder.join(&path), bytes).expect("writes");
        }
    };
    assert!(opened(&flip("tile/1/000.p/3".to_owned(), 5)).is_some());
    assert!(matches!(opened(&flip("checkpoint".to_owned(), 40)), Some(OpenError::Checkpoint(_))));
    let segment = format!("journal/{}", journal::segment_name(first));
    assert!(matches!(opened(&flip(segment, 60)), Some(OpenError::JournalDamaged { .. })));
    let gap = |folder: &Path| {
        let segments = crate::tlog::shelf::segments(folder).expect("lists");
        assert!(segments.len() > 1);
        fs::remove_file(&segments[segments.len() - 1].1).expect("removes");
    };
    assert!(matches!(opened(&gap), Some(OpenError::Truncated { signed: 900, .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_batches_and_checkpoints_give_the_tree_of_the_definition(
        steps in proptest::collection::vec((0u64..120, any::<bool>(), prop::bool::weighted(0.2)), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let folder = tempfile::tempdir().expect("a folder");
            let mut log = open(folder.path()).expect("opens");
            let mut size = 0;
            for (more, publish, reopen) in steps {
                append_all(&log, size..size + more).await;
                size += more;
                if publish {
                    assert_eq!(*log.publish().await.expect("publishes").checkpoint().root(), root(size));
                }
                if reopen {
                    log.close().await.expect("closes");
                    log = open(folder.path()).expect("opens");
                }
            }
            assert_eq!(*log.close().await.expect("closes").checkpoint().root(), root(size));
            assert_whole(folder.path(), size, size);
        });
    }
}

#[tokio::test]
async fn what_waits_for_a_checkpoint_is_told_and_for_how_long() {
    let folder = tempfile::tempdir().expect("a folder");
    let slow = Settings { checkpoint_interval: Duration::from_secs(60), ..settings() };
    let log = Log::open(folder.path(), signer(), &slow).expect("opens");
    assert_eq!(log.lag(), Lag::default());
    append_all(&log, 0..3).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let lag = log.lag();
    assert_eq!((lag.entries, lag.checkpoint_age), (3, None));
    assert!(lag.oldest.is_some_and(|oldest| oldest >= Duration::from_millis(20)), "{lag:?}");
    log.publish().await.expect("publishes");
    let lag = log.lag();
    assert_eq!((lag.entries, lag.oldest), (0, None));
    assert!(lag.checkpoint_age.is_some_and(|age| age < Duration::from_secs(60)), "{lag:?}");
    log.close().await.expect("closes");
}

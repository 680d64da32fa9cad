//! A log that is fetched is checked as one that lies here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;
use crate::cli::audit::local::LocalLog;
use crate::cli::audit::testing::{append, entry, handed_over, log_signer, open, with_entries};
use crate::tlog::verify::{VerifyError, verify};

/// The files of a folder, with what was asked for.
#[derive(Clone)]
struct Served {
    folder: PathBuf,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Served {
    fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), asked: Arc::default() }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("not poisoned")).into_keys().collect()
    }

    fn log(&self, cache: Option<&Path>) -> LocalLog {
        let key = log_signer().verifier().clone();
        LocalLog::mirrored(Box::new(self.clone()), key, cache).expect("opens")
    }
}

#[async_trait]
impl Fetch for Served {
    async fn get(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        *self.asked.lock().expect("not poisoned").entry(path.to_owned()).or_default() += 1;
        let bytes = std::fs::read(self.folder.join(path)).ok();
        ensure!(bytes.as_ref().is_none_or(|bytes| bytes.len() <= limit), "too large");
        Ok(bytes)
    }
}

async fn fetched(served: &Served) -> Result<u64, VerifyError> {
    let log = served.log(None);
    log.refresh(Need::Everything).await.expect("fetches");
    verify(log.folder(), log.key(), None).map(|report| report.checkpoint.checkpoint().size())
}

async fn whole() -> TempDir {
    handed_over((0..600).map(entry)).await
}

#[tokio::test]
async fn a_fetched_log_is_whole_or_not_as_the_one_there() {
    let folder = whole().await;
    assert_eq!(fetched(&Served::new(folder.path())).await.expect("whole"), 600);
    let altered = with_entries(folder.path(), |entries| entries[300][20] ^= 1);
    let found = fetched(&Served::new(altered.path())).await;
    assert!(matches!(found, Err(VerifyError::Altered { index: 300 })), "{found:?}");
    std::fs::remove_file(folder.path().join("tile/entries/001")).expect("removes");
    let found = fetched(&Served::new(folder.path())).await;
    assert!(matches!(found, Err(VerifyError::Removed { index: 256 })), "{found:?}");
}

#[tokio::test]
async fn a_proof_needs_few_files() {
    let folder = whole().await;
    let served = Served::new(folder.path());
    let log = served.log(None);
    log.refresh(Need::Inclusion(3)).await.expect("fetches");
    assert_eq!(served.asked(), ["checkpoint", "tile/0/000", "tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/000"]);
    let reader = log.reader().expect("opens");
    assert!(crate::tlog::proof_file::InclusionProof::of(&reader, 3).is_ok());

    let log = served.log(None);
    let signed = reader.checkpoint().clone();
    let reader = log.reader_at(signed, Need::Consistency(300)).await.expect("fetches");
    assert_eq!(served.asked(), ["tile/0/001", "tile/0/002.p/88", "tile/1/000.p/2"]);
    assert!(reader.prove_consistency(300).is_ok());
}

#[tokio::test]
async fn only_full_tiles_are_believed_to_stay() {
    let (folder, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let log = open(folder.path());
    append(&log, (0..300).map(entry)).await;
    let served = Served::new(folder.path());
    for more in [300..300, 300..310, 310..520] {
        append(&log, more.map(entry)).await;
        let mirrored = served.log(Some(cache.path()));
        mirrored.refresh(Need::Everything).await.expect("fetches");
        verify(mirrored.folder(), mirrored.key(), None).expect("whole");
    }
    let asked = served.asked.lock().expect("not poisoned").clone();
    assert_eq!((asked["checkpoint"], asked["tile/0/000"], asked["tile/entries/000"]), (3, 1, 1));
    assert_eq!((asked["tile/0/001.p/44"], asked["tile/0/001.p/54"], asked["tile/0/001"]), (1, 1, 1));

    // A copy that was cut is fetched again.
    let mirrored = served.log(Some(cache.path()));
    std::fs::write(mirrored.folder().join("tile/0/000"), "cut").expect("writes");
    mirrored.refresh(Need::Everything).await.expect("fetches");
    verify(mirrored.folder(), mirrored.key(), None).expect("whole");
}

#[tokio::test]
async fn nothing_is_fetched_for_a_checkpoint_that_is_not_signed() {
    let folder = whole().await;
    let note = std::fs::read_to_string(folder.path().join("checkpoint")).expect("reads");
    std::fs::write(folder.path().join("checkpoint"), note.replace("\n600\n", "\n9999999999\n")).expect("writes");
    let served = Served::new(folder.path());
    assert!(served.log(None).refresh(Need::Everything).await.is_err());
    assert_eq!(served.asked(), ["checkpoint"]);
}

#[tokio::test]
async fn a_tile_that_grew_meanwhile_is_read_from_the_full_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let signed = append(&log, (0..300).map(entry)).await;
    append(&log, (300..600).map(entry)).await;
    assert!(!folder.path().join("tile/0/001.p/44").exists());
    let mirrored = Served::new(folder.path()).log(None);
    let reader = mirrored.reader_at(signed, Need::Everything).await.expect("fetches");
    let mut edge = crate::tlog::merkle::Frontier::default();
    crate::cli::audit::walk::walk(&reader, &mut edge, |_, _| Ok(())).expect("whole");
    assert_eq!(edge.size(), 300);
}

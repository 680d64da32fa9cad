//! The audit log for those who check it: checkpoint, tiles and entry bundles as C2SP tlog-tiles has them, and cosignatures.
//!
//! A witness cosigns a checkpoint that it read, and hands the line over when the log may have newer ones; so some are remembered. The
//! newest one with cosignatures also lies beside the log, as `checkpoint.cosigned`.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use tokio::task::JoinHandle;

use super::answer::{Answer, Content, Failure};
use crate::tlog::checkpoint::SignedCheckpoint;
use crate::tlog::log::Log;
use crate::tlog::note::{Signature, VerifierKey};
use crate::tlog::tile::{Content as Holds, Tile};

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";
/// Checkpoints that can still be cosigned.
const RECENT_MAX: usize = 256;
/// Most bytes of a file of the log: a full bundle of the longest entries.
const FILE_MAX: u64 = 256 * (2 + 0xffff);
const COSIGNED: &str = "checkpoint.cosigned";

/// The published log.
pub(super) struct LogFiles {
    log: Arc<Log>,
    folder: PathBuf,
    witnesses: Vec<VerifierKey>,
    recent: Arc<Mutex<VecDeque<SignedCheckpoint>>>,
    follower: JoinHandle<()>,
}

impl Drop for LogFiles {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

fn locked(recent: &Mutex<VecDeque<SignedCheckpoint>>) -> MutexGuard<'_, VecDeque<SignedCheckpoint>> {
    recent.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers `signed`, the newest, unless it is remembered.
fn remember(recent: &Mutex<VecDeque<SignedCheckpoint>>, signed: &SignedCheckpoint) {
    let mut recent = locked(recent);
    if recent.back().is_some_and(|last| last.note().text() == signed.note().text()) {
        return;
    }
    if recent.len() >= RECENT_MAX {
        recent.pop_front();
    }
    recent.push_back(signed.clone());
}

impl LogFiles {
    /// Of the log in `folder`. A task of the runtime follows its checkpoints.
    pub(super) fn new(log: Arc<Log>, folder: &Path, witnesses: Vec<VerifierKey>) -> Self {
        let recent: Arc<Mutex<VecDeque<SignedCheckpoint>>> = Arc::default();
        let mut checkpoints = log.checkpoints();
        let remembered = Arc::clone(&recent);
        let follower = tokio::spawn(async move {
            loop {
                let newest = checkpoints.borrow_and_update().clone();
                remember(&remembered, &newest);
                if checkpoints.changed().await.is_err() {
                    return;
                }
            }
        });
        Self { log, folder: folder.to_owned(), witnesses, recent, follower }
    }

    /// `GET audit/key`: what checkpoints are verified with.
    pub(super) fn key(&self) -> Answer {
        Answer::new(Content::Raw { content_type: TEXT, bytes: format!("{}\n", self.log.verifier()).into_bytes() })
    }

    /// `GET audit/checkpoint`: the newest, or the newest that a witness cosigned.
    pub(super) fn checkpoint(&self, cosigned: bool) -> Result<Answer, Failure> {
        let newest = self.log.checkpoints().borrow().clone();
        remember(&self.recent, &newest);
        let recent = locked(&self.recent);
        let mut newest_first = recent.iter().rev();
        let found = newest_first.find(|one| !cosigned || one.note().signatures().len() > 1);
        let found = found.ok_or_else(|| Failure::empty(StatusCode::NOT_FOUND))?;
        Ok(Answer::new(Content::Raw { content_type: TEXT, bytes: found.note().to_string().into_bytes() }))
    }

    /// `GET audit/tile/…`.
    pub(super) async fn tile(&self, tile: Tile) -> Result<Answer, Failure> {
        // A partial tile is gone once it is full; its hashes are then the first of the full one.
        let found = read(self.folder.join(tile.to_string())).await;
        let found = match found {
            Ok(None) if !tile.is_full() => {
                let full = read(self.folder.join(tile.full().to_string())).await;
                full.map(|bytes| bytes.and_then(|bytes| beginning(bytes, tile)))
            }
            other => other,
        };
        let bytes = found.map_err(|error| {
            tracing::error!(%error, tile = %tile, "the audit log cannot be read");
            Failure::internal("the audit log cannot be read")
        })?;
        let bytes = bytes.ok_or_else(|| Failure::empty(StatusCode::NOT_FOUND))?;
        Ok(Answer::new(Content::Raw { content_type: BYTES, bytes }))
    }

    /// `POST audit/cosignature`: the line of a witness that is configured.
    pub(super) async fn cosign(&self, body: &[u8]) -> Result<Answer, Failure> {
        let line = std::str::from_utf8(body).ok().map(str::trim_end);
        let signature = line.and_then(|line| Signature::parse(line).ok());
        let signature = signature.ok_or_else(|| Failure::bad("the body is not the line of a signature"))?;
        let of = |witness: &&VerifierKey| witness.name() == signature.name() && witness.id() == signature.id();
        let witness =
            self.witnesses.iter().find(of).ok_or_else(|| Failure::bad("not a signature of a known witness"))?;
        let cosigned = self.add(witness, &signature)?;
        let (path, text) = (self.folder.join(COSIGNED), cosigned.note().to_string());
        let written = tokio::task::spawn_blocking(move || replace(&path, text.as_bytes())).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "the cosigned checkpoint cannot be written beside the log");
        }
        Ok(Answer::new(Content::Nothing))
    }

    fn add(&self, witness: &VerifierKey, signature: &Signature) -> Result<SignedCheckpoint, Failure> {
        let mut recent = locked(&self.recent);
        for one in recent.iter_mut().rev() {
            // The signature alone with the text says for which checkpoint it is.
            let Ok(with) = one.clone().with_cosignature(signature.clone()) else { continue };
            if witness.verify(with.note()).is_ok() {
                *one = with.clone();
                return Ok(with);
            }
        }
        Err(Failure::bad("not the signature of a recent checkpoint of this log"))
    }
}

async fn read(path: PathBuf) -> std::io::Result<Option<Vec<u8>>> {
    match tokio::fs::metadata(&path).await {
        Ok(found) if found.is_file() && found.len() <= FILE_MAX => tokio::fs::read(&path).await.map(Some),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first hashes or entries of a full tile.
fn beginning(mut full: Vec<u8>, tile: Tile) -> Option<Vec<u8>> {
    let length = match tile.content() {
        Holds::Hashes { .. } => usize::from(tile.width()) * 32,
        Holds::Entries => {
            let mut at = 0;
            for _ in 0..tile.width() {
                let prefix = full.get(at..at + 2)?.try_into().ok()?;
                at += 2 + usize::from(u16::from_be_bytes(prefix));
            }
            at
        }
    };
    (length <= full.len()).then(|| {
        full.truncate(length);
        full
    })
}

fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

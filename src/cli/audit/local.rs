//! A log on the local disk: as it lies there, or fetched from where it is served.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::fetch::{Fetch, Mirror, Need};
use super::read_bounded;
use super::remote::{Connection, Remote, is_url};
use crate::cli::{Usage, files};
use crate::crypto::sha256;
use crate::tlog::checkpoint::SignedCheckpoint;
use crate::tlog::note::{MAX_NOTE_LEN, VerifierKey};
use crate::tlog::reader::Reader;

/// A log whose files can be read from a folder once [`LocalLog::refresh`] was called.
pub(super) struct LocalLog {
    folder: PathBuf,
    key: VerifierKey,
    mirror: Option<Mirror>,
    _temporary: Option<TempDir>,
}

impl LocalLog {
    /// The log at `place`, a folder or a URL. Nothing is read yet.
    pub(super) fn open(place: &str, key: VerifierKey, connection: &Connection, cache: Option<&Path>) -> Result<Self> {
        if !is_url(place) {
            let folder = PathBuf::from(place);
            if !folder.is_dir() {
                return Err(Usage(format!("{place} is not a folder")).into());
            }
            return Ok(Self { folder, key, mirror: None, _temporary: None });
        }
        let remote = Remote::new(place, connection)?;
        Self::mirrored(Box::new(remote), key, cache)
    }

    /// The log whose files `fetch` gives.
    pub(super) fn mirrored(fetch: Box<dyn Fetch>, key: VerifierKey, cache: Option<&Path>) -> Result<Self> {
        let (folder, temporary) = match cache {
            // One folder for each log: the tiles of two must not mix.
            Some(cache) => {
                let name: String =
                    sha256(key.to_string().as_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect();
                (cache.join(name), None)
            }
            None => {
                let temporary = tempfile::tempdir().context("cannot make a temporary folder")?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        files::make_private_folder(&folder)?;
        let mirror = Some(Mirror::new(fetch, &folder, key.clone()));
        Ok(Self { folder, key, mirror, _temporary: temporary })
    }

    /// Where its files are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What its checkpoints are verified with.
    pub(super) fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// Has what `need` asks for in the folder, up to the log's latest checkpoint.
    pub(super) async fn refresh(&self, need: Need) -> Result<()> {
        match &self.mirror {
            Some(mirror) => mirror.refresh(need).await,
            None => Ok(()),
        }
    }

    /// The log's latest checkpoint, as bytes that nobody has checked.
    pub(super) async fn checkpoint(&self) -> Result<Vec<u8>> {
        match &self.mirror {
            Some(mirror) => mirror.checkpoint().await,
            None => read_bounded(&self.folder.join("checkpoint"), MAX_NOTE_LEN as u64),
        }
    }

    /// The log's latest checkpoint that a witness cosigned, as the custodian keeps it; nobody has checked it.
    pub(super) async fn cosigned(&self) -> Result<Option<Vec<u8>>> {
        if let Some(mirror) = &self.mirror {
            return mirror.cosigned().await;
        }
        let path = self.folder.join("checkpoint.cosigned");
        if path.exists() { read_bounded(&path, MAX_NOTE_LEN as u64).map(Some) } else { Ok(None) }
    }

    /// A reader of what was refreshed.
    pub(super) fn reader(&self) -> Result<Reader> {
        Ok(Reader::open(&self.folder, &self.key)?)
    }

    /// A reader of the log up to `checkpoint`, with what `need` asks for.
    pub(super) async fn reader_at(&self, checkpoint: SignedCheckpoint, need: Need) -> Result<Reader> {
        if let Some(mirror) = &self.mirror {
            mirror.tiles(checkpoint.checkpoint().size(), need).await?;
        }
        Ok(Reader::new(&self.folder, checkpoint))
    }
}

//! The files with objects' bytes.
//!
//! **Invariant:** a file has its name only when it is whole and on disk, and never changes afterwards.
//! **Invariant:** a file that somebody reads stays until they are done.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempfile::TempPath;

use super::index::Index;
use crate::cli::files::make_private_folder;
use crate::crypto::random_array;
use crate::custodian::approval::json::hex;

/// Whole files, in folders by the first two digits of their names.
pub(super) const STORED: &str = "stored_files";
/// Those that are being written.
pub(super) const INCOMING: &str = "incoming_files";

/// The files of one folder.
#[derive(Clone)]
pub(super) struct Files {
    root: PathBuf,
    held: Arc<Mutex<HashMap<String, Hold>>>,
}

#[derive(Default)]
struct Hold {
    readers: usize,
    /// To be removed when the last reader is done.
    doomed: bool,
}

/// A file that is being written. It is removed when this is dropped.
pub(super) struct Incoming {
    pub(super) file: tokio::fs::File,
    path: TempPath,
}

/// A whole file that the index does not tell of yet. It is removed when this is dropped.
pub(super) struct Kept {
    name: String,
    files: Option<Files>,
}

/// Keeps files from being removed.
pub(super) struct Held {
    names: Vec<String>,
    files: Files,
}

impl Files {
    /// Those in `root`. Nobody else uses them.
    pub(super) fn open(root: &Path) -> anyhow::Result<Self> {
        let incoming = root.join(INCOMING);
        make_private_folder(&incoming)?;
        for file in std::fs::read_dir(&incoming)? {
            std::fs::remove_file(file?.path())?;
        }
        make_private_folder(&root.join(STORED))?;
        for shard in 0..=u8::MAX {
            make_private_folder(&root.join(STORED).join(hex(&[shard])))?;
        }
        File::open(root.join(STORED))?.sync_all()?;
        Ok(Self { root: root.to_owned(), held: Arc::default() })
    }

    /// Removes what `index` does not tell of: a crash left it behind.
    pub(super) async fn remove_orphans(&self, index: &Index) -> anyhow::Result<()> {
        for shard in 0..=u8::MAX {
            let shard = hex(&[shard]);
            let told: std::collections::HashSet<String> = index.files(&shard).await?.into_iter().collect();
            for file in std::fs::read_dir(self.root.join(STORED).join(shard))? {
                let file = file?;
                if !file.file_name().to_str().is_some_and(|name| told.contains(name)) {
                    std::fs::remove_file(file.path())?;
                }
            }
        }
        Ok(())
    }

    /// Begins a file.
    pub(super) fn begin(&self) -> io::Result<Incoming> {
        // Made with mode 0600.
        let (file, path) = tempfile::NamedTempFile::new_in(self.root.join(INCOMING))?.into_parts();
        Ok(Incoming { file: tokio::fs::File::from_std(file), path })
    }

    /// Gives a whole file its name.
    pub(super) async fn keep(&self, incoming: Incoming) -> io::Result<Kept> {
        incoming.file.sync_all().await?;
        let files = self.clone();
        tokio::task::spawn_blocking(move || {
            let name = hex(&random_array::<16>().map_err(io::Error::other)?);
            let path = files.path(&name);
            incoming.path.persist(&path).map_err(|error| error.error)?;
            // From here on it is removed if anything fails.
            let kept = Kept { name, files: Some(files) };
            let folder = path.parent().expect("a shard's");
            File::open(folder)?.sync_all()?;
            Ok(kept)
        })
        .await?
    }

    pub(super) fn open_file(&self, name: &str) -> io::Result<File> {
        File::open(self.path(name))
    }

    /// Keeps `names` from being removed, if they are there still.
    pub(super) fn hold(&self, names: Vec<String>) -> Held {
        let mut held = self.held();
        for name in &names {
            held.entry(name.clone()).or_default().readers += 1;
        }
        drop(held);
        Held { names, files: self.clone() }
    }

    /// Removes `names`, which the index does not tell of any more.
    pub(super) async fn remove(&self, names: Vec<String>) {
        if names.is_empty() {
            return;
        }
        let files = self.clone();
        let removed = tokio::task::spawn_blocking(move || names.iter().for_each(|name| files.remove_one(name)));
        // What stays is removed at the next start.
        let _ = removed.await;
    }

    fn remove_one(&self, name: &str) {
        match self.held().get_mut(name) {
            Some(hold) => hold.doomed = true,
            // What stays is removed at the next start.
            None => drop(std::fs::remove_file(self.path(name))),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        let shard = name.get(..2).unwrap_or("00");
        self.root.join(STORED).join(shard).join(name)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Hold>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Leaves it to the index whether it stays.
    pub(super) fn settle(mut self) -> String {
        self.files = None;
        std::mem::take(&mut self.name)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(files) = &self.files {
            files.remove_one(&self.name);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.files.held();
        let mut doomed = Vec::new();
        for name in &self.names {
            let Some(hold) = held.get_mut(name) else { continue };
            hold.readers -= 1;
            if hold.readers == 0 {
                doomed.extend(held.remove(name).filter(|hold| hold.doomed).map(|_| name));
            }
        }
        drop(held);
        doomed.into_iter().for_each(|name| self.files.remove_one(name));
    }
}

//! What a witness remembers, in a folder of its own.
//!
//! ```text
//! log          the verifier key of the log that it watches
//! seen         the latest checkpoint of it that was cosigned or is about to be
//! checkpoint   the latest cosigned checkpoint, for others to have
//! evidence/    checkpoints that were refused, each beside the one that it contradicts
//! lock         held by the process that watches
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::cli::audit::read_bounded;
use crate::cli::files;
use crate::crypto::sha256;
use crate::tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::tlog::note::{MAX_NOTE_LEN, VerifierKey};
use crate::tlog::storage::{Disk, Storage as _};

const LOG: &str = "log";
const SEEN: &str = "seen";
const CHECKPOINT: &str = "checkpoint";
const EVIDENCE: &str = "evidence";
/// Most refused checkpoints that are kept.
const EVIDENCE_MAX: usize = 1000;

pub(super) struct State {
    folder: PathBuf,
    log: VerifierKey,
    seen: Option<SignedCheckpoint>,
    published: Option<SignedCheckpoint>,
    _lock: File,
}

impl State {
    /// The memory in `folder` of the log with key `log`; a new one if there is none.
    ///
    /// One that has lost what it saw is refused: it could be made to cosign another history.
    pub(super) fn open(folder: &Path, log: &VerifierKey) -> Result<Self> {
        files::make_private_folder(folder)?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"));
        let lock = lock.with_context(|| format!("cannot write in {}", folder.display()))?;
        ensure!(lock.try_lock().is_ok(), "another witness works in {}", folder.display());
        let there =
            |name: &str| fs::exists(folder.join(name)).with_context(|| format!("cannot read {}", folder.display()));
        let read = |name: &str| read_bounded(&folder.join(name), MAX_NOTE_LEN as u64);
        if there(LOG)? {
            let watched = read(LOG)?;
            ensure!(watched == line(log), "{} is the memory of a witness of another log", folder.display());
        }
        let seen = if there(SEEN)? {
            let seen = SignedCheckpoint::open(&read(SEEN)?, log);
            Some(seen.with_context(|| format!("{} is damaged", folder.join(SEEN).display()))?)
        } else {
            if there(LOG)? || there(CHECKPOINT)? {
                bail!(
                    "{} has lost what it had seen; a witness that forgets can be made to cosign a fork",
                    folder.display()
                );
            }
            None
        };
        let published = if there(CHECKPOINT)? { SignedCheckpoint::open(&read(CHECKPOINT)?, log).ok() } else { None };
        Ok(Self { folder: folder.to_owned(), log: log.clone(), seen, published, _lock: lock })
    }

    /// The latest checkpoint that was cosigned, or was about to be.
    pub(super) fn seen(&self) -> Option<&SignedCheckpoint> {
        self.seen.as_ref()
    }

    /// Remembers `signed`; it is durable at return.
    pub(super) fn record(&mut self, signed: &SignedCheckpoint) -> io::Result<()> {
        let mut files = vec![(SEEN.to_owned(), signed.note().to_string().into_bytes())];
        if self.seen.is_none() {
            // After the other, so that where this is, that is.
            files.push((LOG.to_owned(), line(&self.log)));
        }
        Disk::durable().publish(&self.folder, &files)?;
        self.seen = Some(signed.clone());
        Ok(())
    }

    /// Whether a cosignature of just this was published.
    pub(super) fn has_published(&self, checkpoint: &Checkpoint) -> bool {
        self.published.as_ref().is_some_and(|published| published.checkpoint() == checkpoint)
    }

    /// Publishes a cosigned checkpoint.
    pub(super) fn publish(&mut self, cosigned: SignedCheckpoint) -> Result<()> {
        let note = cosigned.note().to_string().into_bytes();
        let published = Disk::durable().publish(&self.folder, &[(CHECKPOINT.to_owned(), note)]);
        published.with_context(|| format!("cannot write in {}", self.folder.display()))?;
        self.published = Some(cosigned);
        Ok(())
    }

    /// Keeps a checkpoint that was refused, and the one that was seen before it. The same one is kept once.
    pub(super) fn keep_evidence(&self, offered: &[u8], now_s: u64) -> Result<PathBuf> {
        let folder = self.folder.join(EVIDENCE);
        let hash: String = sha256(offered)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let kept: Vec<String> = fs::read_dir(&folder).map_or_else(
            |_| Vec::new(),
            |entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect(),
        );
        if let Some(name) = kept.iter().find(|name| name.ends_with(&format!("{hash}.offered"))) {
            return Ok(folder.join(name));
        }
        ensure!(kept.len() < EVIDENCE_MAX, "{} is full: look at it, and move it away", folder.display());
        let name = format!("{now_s}-{hash}");
        let mut files = vec![(format!("{EVIDENCE}/{name}.offered"), offered.to_vec())];
        files.extend(
            self.seen.as_ref().map(|seen| (format!("{EVIDENCE}/{name}.seen"), seen.note().to_string().into_bytes())),
        );
        let written = Disk::durable().publish(&self.folder, &files);
        written.with_context(|| format!("cannot write in {}", folder.display()))?;
        Ok(folder.join(format!("{name}.offered")))
    }
}

fn line(key: &VerifierKey) -> Vec<u8> {
    format!("{key}\n").into_bytes()
}

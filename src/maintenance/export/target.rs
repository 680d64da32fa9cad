//! The folder that objects are exported to.
//!
//! **Invariant:** a file has its name only once all of it is on the disk; folders and files are readable for their owner alone, as they
//! hold what was encrypted.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::crypto::{Digest, DigestAlgorithm, random_array};
use crate::names::LogicalBucket;
use crate::s3::sigv4::hex;

use super::ExportError;
use super::manifest::{self, Manifest, Record};
use super::names::{FILE, FOLDER, OURS};

/// Files that are being written.
const TEMPORARY: &str = ".claviger-temporary";
/// Locked by the export under way. It says which bucket is exported to the folder.
const LOCK: &str = ".claviger-lock";
/// Bytes of a file that are read at a time.
const PIECE: usize = 256 << 10;

/// A folder that objects are exported to, and that no other export writes to.
#[derive(Clone)]
pub struct Target {
    folder: PathBuf,
    manifest: Arc<Mutex<Manifest>>,
    _lock: Arc<File>,
}

fn files(path: &Path) -> impl Fn(io::Error) -> ExportError {
    let path = path.to_owned();
    move |source| ExportError::Files { path: path.clone(), source }
}

impl Target {
    /// Opens `folder`, which is made if need be, has been a target for the same bucket before, or is empty.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn open(folder: &Path, bucket: &LogicalBucket) -> Result<Self, ExportError> {
        let to_folder = files(folder);
        make_folders(folder).map_err(&to_folder)?;
        if !folder.join(manifest::NAME).exists() {
            let mut entries = folder.read_dir().map_err(&to_folder)?.filter_map(Result::ok);
            if entries.any(|entry| !entry.file_name().to_string_lossy().starts_with(OURS)) {
                return Err(ExportError::Foreign(folder.to_owned()));
            }
        }
        let lock =
            File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK));
        let mut lock = lock.map_err(&to_folder)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ExportError::Busy(folder.to_owned())),
            Err(TryLockError::Error(error)) => return Err(to_folder(error)),
        }
        let mut before = String::new();
        lock.read_to_string(&mut before).map_err(&to_folder)?;
        match before.trim() {
            "" => lock.write_all(bucket.as_str().as_bytes()).map_err(&to_folder)?,
            name if name == bucket.as_str() => {}
            other => return Err(ExportError::OtherBucket(folder.to_owned(), other.to_owned())),
        }
        // What an earlier run was writing when it ended.
        let temporary = folder.join(TEMPORARY);
        if temporary.exists() {
            std::fs::remove_dir_all(&temporary).map_err(files(&temporary))?;
        }
        make_folders(&temporary).map_err(files(&temporary))?;
        let manifest = Manifest::open(folder).map_err(files(&folder.join(manifest::NAME)))?;
        Ok(Self { folder: folder.to_owned(), manifest: Arc::new(Mutex::new(manifest)), _lock: Arc::new(lock) })
    }

    fn manifest(&self) -> MutexGuard<'_, Manifest> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the manifest says of a key.
    pub(super) fn find(&self, key: &str) -> Result<Option<Record>, ExportError> {
        self.manifest().find(key).map_err(files(&self.folder.join(manifest::NAME)))
    }

    /// Adds a line to the manifest.
    pub(super) fn note(&self, record: &Record) -> Result<(), ExportError> {
        self.manifest().add(record).map_err(files(&self.folder.join(manifest::NAME)))
    }

    /// Whether the file is there, with the size and the bytes that the manifest says.
    pub(super) async fn has(&self, record: &Record) -> bool {
        // A path of our own making has no `..`; the manifest may have been edited.
        if record.path.split('/').any(|name| matches!(name, "" | "." | "..")) {
            return false;
        }
        let path = self.folder.join(&record.path);
        let is_file = std::fs::symlink_metadata(&path).is_ok_and(|there| there.is_file() && there.len() == record.size);
        is_file && hash_of(&path).await.is_ok_and(|hash| hash == record.sha256)
    }

    /// Begins a file.
    pub(super) async fn begin(&self) -> Result<Writing, ExportError> {
        let name = random_array::<16>().map_err(|error| files(&self.folder)(io::Error::other(error)))?;
        let path = self.folder.join(TEMPORARY).join(hex(&name));
        let file = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).await;
        let file = file.map_err(files(&path))?;
        let digest = Digest::new(DigestAlgorithm::Sha256);
        Ok(Writing { target: self.clone(), path: Temporary(path), file, digest, size: 0 })
    }
}

/// Removed unless it got its name.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Renamed already, as a rule.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A file that is being written.
pub(super) struct Writing {
    target: Target,
    path: Temporary,
    file: tokio::fs::File,
    digest: Digest,
    size: u64,
}

impl Writing {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.digest.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes).await.map_err(files(&self.path.0))
    }

    /// Has it on the disk, and gives it its name: its bytes, their SHA-256, and the path below the target.
    pub(super) async fn finish(mut self, names: &[String]) -> Result<(u64, String, String), ExportError> {
        self.file.flush().await.map_err(files(&self.path.0))?;
        self.file.sync_all().await.map_err(files(&self.path.0))?;
        let path = place(&self.target.folder, &self.path.0, names)?;
        Ok((self.size, hex(&self.digest.finish()), path))
    }
}

/// Gives the file at `from` its name below `target`; other folders and files stay where they are.
fn place(target: &Path, from: &Path, names: &[String]) -> Result<String, ExportError> {
    let (mut folder, mut path) = (target.to_owned(), String::new());
    let Some((last, folders)) = names.split_last() else { unreachable!("a key has at least one piece") };
    for name in folders {
        let name = match make_folder(&folder.join(name)) {
            Ok(true) => name.clone(),
            Ok(false) => {
                // A file has the name.
                let name = format!("{name}{FOLDER}");
                make_folder(&folder.join(&name)).map_err(files(&folder.join(&name)))?;
                name
            }
            Err(error) => return Err(files(&folder.join(name))(error)),
        };
        folder.push(&name);
        path.push_str(&name);
        path.push('/');
    }
    let to = folder.join(last);
    let is_folder = || std::fs::symlink_metadata(&to).is_ok_and(|there| there.is_dir());
    if !is_folder() {
        match std::fs::rename(from, &to) {
            Ok(()) => return Ok(path + last),
            // A folder was made of this name in this moment.
            Err(_) if is_folder() => {}
            Err(error) => return Err(files(&to)(error)),
        }
    }
    let last = format!("{last}{FILE}");
    let to = folder.join(&last);
    std::fs::rename(from, &to).map_err(files(&to))?;
    Ok(path + &last)
}

/// Makes a folder; whether there is one now, rather than something else.
fn make_folder(path: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(std::fs::symlink_metadata(path)?.is_dir()),
        Err(error) => Err(error),
    }
}

fn make_folders(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

async fn hash_of(path: &Path) -> io::Result<String> {
    let mut file = tokio::fs::File::open(path).await?;
    let (mut digest, mut piece) = (Digest::new(DigestAlgorithm::Sha256), vec![0; PIECE]);
    loop {
        match file.read(&mut piece).await? {
            0 => return Ok(hex(&digest.finish())),
            count => digest.update(&piece[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(name: &str) -> LogicalBucket {
        LogicalBucket::new(name).expect("legal")
    }

    async fn export(target: &Target, key: &str, bytes: &[u8]) -> String {
        let mut writing = target.begin().await.expect("begins");
        writing.write(bytes).await.expect("writes");
        let (size, hash, path) = writing.finish(&super::super::names::pieces(key)).await.expect("places");
        assert_eq!(size, bytes.len() as u64);
        assert_eq!(std::fs::read(target.folder.join(&path)).expect("reads"), bytes);
        assert_eq!(hash_of(&target.folder.join(&path)).await.expect("reads"), hash);
        path
    }

    #[tokio::test]
    async fn a_file_and_a_folder_of_one_name_both_have_a_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = Target::open(folder.path(), &bucket("records")).expect("opens");
        assert_eq!(export(&target, "a", b"1").await, "a");
        assert_eq!(export(&target, "a/b", b"2").await, "a%dir/b");
        assert_eq!(export(&target, "c/d", b"3").await, "c/d");
        assert_eq!(export(&target, "c", b"4").await, "c%file");
        // Again, over what is there.
        assert_eq!(export(&target, "a/b", b"22").await, "a%dir/b");
        assert_eq!(export(&target, "c", b"44").await, "c%file");
        assert_eq!(export(&target, "a", b"11").await, "a");
        assert_eq!(folder.path().join(TEMPORARY).read_dir().expect("reads").count(), 0);
    }

    #[tokio::test]
    async fn only_one_export_writes_to_a_folder_and_to_none_of_somebody_elses() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = Target::open(folder.path(), &bucket("records")).expect("opens");
        export(&target, "x", b"1").await;
        assert!(matches!(Target::open(folder.path(), &bucket("records")), Err(ExportError::Busy(_))));
        // Given up in the middle.
        let mut writing = target.begin().await.expect("begins");
        writing.write(b"half").await.expect("writes");
        let half = writing.path.0.clone();
        drop(writing);
        std::fs::write(&half, "half").expect("writes");
        drop(target);
        assert!(matches!(Target::open(folder.path(), &bucket("others")), Err(ExportError::OtherBucket(..))));
        Target::open(folder.path(), &bucket("records")).expect("opens again");
        assert!(!half.exists());
        let other = tempfile::tempdir().expect("a folder");
        std::fs::write(other.path().join("mine"), "x").expect("writes");
        assert!(matches!(Target::open(other.path(), &bucket("records")), Err(ExportError::Foreign(_))));
        assert_eq!(std::fs::read(other.path().join("mine")).expect("reads"), b"x");
    }
}

//! The folder that objects are exported to.
//!
//! **Invariant:** a file has its name only once all of it is on the disk; folders and files are readable for their owner alone, as they
//! hold what was encrypted.
//!
//! **Invariant:** a file takes the place only of one that the manifest has for the same key, whatever the file system takes for one name.

use std::fs::{DirBuilder, File, Metadata, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::geteuid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::crypto::{Digest, DigestAlgorithm, random_array};
use crate::names::LogicalBucket;
use crate::s3::sigv4::hex;

use super::ExportError;
use super::manifest::{self, Manifest, Record};
use super::names::{self, FILE, FOLDER, OURS};

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
    /// Held while a file is given its name.
    placing: Arc<Mutex<()>>,
    _lock: Arc<File>,
}

fn files(path: &Path) -> impl Fn(io::Error) -> ExportError {
    let path = path.to_owned();
    move |source| ExportError::Files { path: path.clone(), source }
}

/// Whether nobody else may change what lies in a folder, or lead us elsewhere: its owner may, whatever its mode is.
fn is_ours_alone(folder: &Metadata, we: u32) -> bool {
    [we, 0].contains(&folder.uid()) && folder.permissions().mode() & 0o022 == 0
}

impl Target {
    /// Opens `folder`, which is made if need be, has been a target for the same bucket before, or is empty.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn open(folder: &Path, bucket: &LogicalBucket) -> Result<Self, ExportError> {
        let to_folder = files(folder);
        make_folders(folder).map_err(&to_folder)?;
        if !is_ours_alone(&folder.metadata().map_err(&to_folder)?, geteuid().as_raw()) {
            return Err(ExportError::Shared(folder.to_owned()));
        }
        for name in [LOCK, manifest::NAME] {
            // Nor does a link lead us elsewhere.
            if std::fs::symlink_metadata(folder.join(name)).is_ok_and(|there| !there.is_file()) {
                return Err(ExportError::Foreign(folder.to_owned()));
            }
        }
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
        if std::fs::symlink_metadata(&temporary).is_ok_and(|there| !there.is_dir()) {
            return Err(ExportError::Foreign(folder.to_owned()));
        }
        if temporary.exists() {
            std::fs::remove_dir_all(&temporary).map_err(files(&temporary))?;
        }
        make_folders(&temporary).map_err(files(&temporary))?;
        let manifest = Manifest::open(folder).map_err(files(&folder.join(manifest::NAME)))?;
        let manifest = Arc::new(Mutex::new(manifest));
        Ok(Self { folder: folder.to_owned(), manifest, placing: Arc::default(), _lock: Arc::new(lock) })
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

    /// Has it on the disk, and gives it the name of `key`: its bytes, their SHA-256, and the path below the target.
    pub(super) async fn finish(mut self, key: &str) -> Result<(u64, String, String), ExportError> {
        self.file.flush().await.map_err(files(&self.path.0))?;
        self.file.sync_all().await.map_err(files(&self.path.0))?;
        let before = self.target.find(key)?.map(|record| record.path);
        let _placing = self.target.placing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = place(&self.target.folder, &self.path.0, key, before.as_deref())?;
        Ok((self.size, hex(&self.digest.finish()), path))
    }
}

/// Gives the file at `from` its name below `target`, in place of the one of the same key at `before`; other folders and files stay
/// where they are.
fn place(target: &Path, from: &Path, key: &str, before: Option<&str>) -> Result<String, ExportError> {
    let names = names::path(key, target.as_os_str().len());
    let (mut folder, mut path) = (target.to_owned(), String::new());
    let Some((last, folders)) = names.split_last() else { unreachable!("a key has at least one piece") };
    for name in folders {
        let name = folder_of(&folder, name)?;
        folder.push(&name);
        path.push_str(&name);
        path.push('/');
    }
    let is_folder = std::fs::symlink_metadata(folder.join(last)).is_ok_and(|there| there.is_dir());
    let name = if is_folder { format!("{last}{FILE}") } else { last.clone() };
    for name in [name, format!("{last}{}", names::apart(key))] {
        let (to, path) = (folder.join(&name), format!("{path}{name}"));
        let is_own = before == Some(path.as_str()) || name.ends_with(&names::apart(key));
        match std::fs::symlink_metadata(&to) {
            // A folder, or the file of another key: the file system may take several names for one.
            Ok(there) if there.is_dir() || !is_own => {}
            Ok(_) => return std::fs::rename(from, &to).map_err(files(&to)).map(|()| path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return std::fs::rename(from, &to).map_err(files(&to)).map(|()| path);
            }
            Err(error) => return Err(files(&to)(error)),
        }
    }
    Err(files(&folder.join(last))(io::ErrorKind::AlreadyExists.into()))
}

/// Makes the folder `name`, or one of another name where a file has that; the name that it has.
fn folder_of(folder: &Path, name: &str) -> Result<String, ExportError> {
    for name in [name.to_owned(), format!("{name}{FOLDER}")] {
        let path = folder.join(&name);
        if make_folder(&path).map_err(files(&path))? {
            return Ok(name);
        }
    }
    Err(files(&folder.join(name))(io::ErrorKind::AlreadyExists.into()))
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
        let (size, sha256, path) = writing.finish(key).await.expect("places");
        assert_eq!(size, bytes.len() as u64);
        assert_eq!(std::fs::read(target.folder.join(&path)).expect("reads"), bytes);
        assert_eq!(hash_of(&target.folder.join(&path)).await.expect("reads"), sha256);
        let (etag, last_modified) = (String::new(), String::new());
        let (key, headers, path_there) = (key.to_owned(), Vec::new(), path.clone());
        let record = Record { key, path: path_there, size, sha256, etag, last_modified, headers, tags: None };
        target.note(&record).expect("notes");
        path
    }

    #[test]
    fn a_folder_that_others_may_change_is_no_target() {
        let folder = tempfile::tempdir().expect("a folder");
        let of_mode = |mode| {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).expect("ours");
            folder.path().metadata().expect("is there")
        };
        let (closed, open) = (of_mode(0o755), of_mode(0o775));
        let owner = closed.uid();
        assert!(is_ours_alone(&closed, owner) && !is_ours_alone(&open, owner));
        // Its owner is somebody else, but for the administrator, who may everything anyway.
        assert_eq!(is_ours_alone(&closed, owner + 1), owner == 0);
        let refused = Target::open(folder.path(), &bucket("records")).err();
        assert!(matches!(refused, Some(ExportError::Shared(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn two_keys_that_are_one_name_for_the_file_system_do_not_share_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = Target::open(folder.path(), &bucket("records")).expect("opens");
        assert_eq!(export(&target, "x/report", b"1").await, "x/report");
        // What a file system shows that folds case.
        std::fs::hard_link(folder.path().join("x/report"), folder.path().join("x/Report")).expect("links");
        let other = export(&target, "x/Report", b"2").await;
        assert!(other.starts_with("x/Report%") && other.len() == "x/Report%".len() + 32, "{other}");
        for key in ["report", "Report"] {
            assert_eq!(std::fs::read(folder.path().join("x").join(key)).expect("reads"), b"1");
        }
        // Each keeps its place, also in the runs to come.
        drop(target);
        let target = Target::open(folder.path(), &bucket("records")).expect("opens");
        assert_eq!(export(&target, "x/Report", b"22").await, other);
        assert_eq!(export(&target, "x/report", b"11").await, "x/report");
        assert_eq!(std::fs::read(folder.path().join(&other)).expect("reads"), b"22");
    }

    #[tokio::test]
    async fn links_and_folders_that_others_write_to_are_refused() {
        let (folder, elsewhere) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let target = Target::open(folder.path(), &bucket("records")).expect("opens");
        export(&target, "a", b"1").await;
        for name in ["b", "b%dir"] {
            std::os::unix::fs::symlink(elsewhere.path(), folder.path().join(name)).expect("links");
        }
        let mut writing = target.begin().await.expect("begins");
        writing.write(b"2").await.expect("writes");
        let refused = writing.finish("b/c").await;
        assert!(matches!(&refused, Err(error) if !error.is_of_target()), "{refused:?}");
        assert_eq!(elsewhere.path().read_dir().expect("reads").count(), 0);
        drop(target);
        for name in [LOCK, manifest::NAME] {
            let (path, aside) = (folder.path().join(name), elsewhere.path().join("aside"));
            std::fs::rename(&path, &aside).expect("moves");
            std::os::unix::fs::symlink(&aside, &path).expect("links");
            assert!(matches!(Target::open(folder.path(), &bucket("records")), Err(ExportError::Foreign(_))), "{name}");
            std::fs::rename(&aside, &path).expect("moves");
        }
        for (mode, refused) in [(0o770, true), (0o702, true), (0o755, false)] {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).expect("own folder");
            let opened = Target::open(folder.path(), &bucket("records"));
            assert_eq!(matches!(opened, Err(ExportError::Shared(_))), refused, "{mode:o}");
            assert_eq!(opened.is_ok(), !refused);
        }
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

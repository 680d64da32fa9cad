//! How a log writes: the few operations that have to be durable, behind a trait so that tests can count them and make them fail.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A file to publish: its path below the log's folder, with `/`, and its content.
pub type Published = (String, Vec<u8>);

/// Where a log is written. Reading goes to the file system directly.
pub trait Storage: Send + Sync + 'static {
    /// Opens a journal segment for appending, and makes it first, durably and empty, where it is not there.
    ///
    /// # Errors
    /// Those of the file system.
    fn segment(&self, path: &Path) -> io::Result<Box<dyn Segment>>;

    /// Writes `files` below `folder`, each in one step: a reader sees the old file or the new one, never half of it. All are durable at return.
    ///
    /// # Errors
    /// Those of the file system; some of the files may be in place then.
    fn publish(&self, folder: &Path, files: &[Published]) -> io::Result<()>;

    /// Removes a file, or a folder with all in it; that it is not there is no error.
    ///
    /// # Errors
    /// Those of the file system.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// A journal segment.
pub trait Segment: Send {
    /// Writes at the end.
    ///
    /// # Errors
    /// Those of the file system; a part may be written then.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Returns when all that was appended is durable.
    ///
    /// # Errors
    /// Those of the file system; it is then unknown what is durable.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts off what is after `length` bytes.
    ///
    /// # Errors
    /// Those of the file system.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

/// The local disk. Files are made with mode 0600, folders with 0700.
#[derive(Debug, Clone, Copy)]
pub struct Disk {
    sync: bool,
}

impl Disk {
    /// Waits for the disk, as a log has to.
    pub fn durable() -> Self {
        Self { sync: true }
    }

    /// Does not wait for the disk: what was acknowledged survives the end of the process, but not of the machine. For measuring what durability costs.
    pub fn assume_no_power_loss() -> Self {
        Self { sync: false }
    }

    fn sync_folder(self, path: &Path) -> io::Result<()> {
        if self.sync { File::open(path)?.sync_all() } else { Ok(()) }
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a folder and those above it that are missing, durably.
pub(super) fn make_folder_durably(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let above = path.parent().unwrap_or(path);
    make_folder_durably(above)?;
    make_folder(path)?;
    let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
    File::open(above)?.sync_all()
}

impl Storage for Disk {
    fn segment(&self, path: &Path) -> io::Result<Box<dyn Segment>> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        if let Some(folder) = path.parent() {
            self.sync_folder(folder)?;
        }
        Ok(Box::new(DiskSegment { file, sync: self.sync }))
    }

    fn publish(&self, folder: &Path, files: &[Published]) -> io::Result<()> {
        let mut written: Vec<(PathBuf, PathBuf, File)> = Vec::with_capacity(files.len());
        let mut folders = BTreeSet::new();
        for (path, content) in files {
            let place = folder.join(path);
            let temporary = folder.join(format!("{path}.tmp"));
            let parent = place.parent().unwrap_or(folder);
            if folders.insert(parent.to_owned()) {
                make_folder(parent)?;
            }
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(content)?;
            written.push((temporary, place, file));
        }
        if self.sync {
            // All are written before the first is waited for: the kernel then writes them together.
            written.iter().try_for_each(|(_, _, file)| file.sync_all())?;
        }
        written.iter().try_for_each(|(temporary, place, _)| fs::rename(temporary, place))?;
        let above: BTreeSet<&Path> =
            folders.iter().flat_map(|path| path.ancestors().take_while(|path| path.starts_with(folder))).collect();
        above.into_iter().try_for_each(|path| self.sync_folder(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = match fs::symlink_metadata(path) {
            Ok(there) if there.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
    }
}

struct DiskSegment {
    file: File,
    sync: bool,
}

impl Segment for DiskSegment {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.sync { self.file.sync_data() } else { Ok(()) }
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.sync()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn published_files_are_replaced_whole_and_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::durable();
        for content in ["first, and longer", "second"] {
            let files = ["a", "tile/0/x001/000.p/3"].map(|path| (path.to_owned(), content.as_bytes().to_vec()));
            disk.publish(folder.path(), &files).expect("writes");
            for (path, content) in files {
                assert_eq!(fs::read(folder.path().join(&path)).expect("reads"), content);
                let mode = fs::metadata(folder.path().join(&path)).expect("is there").permissions().mode();
                assert_eq!(mode & 0o777, 0o600);
            }
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
        for _ in 0..2 {
            disk.remove(&folder.path().join("tile")).expect("removes");
            disk.remove(&folder.path().join("a")).expect("removes");
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn segments_grow_and_are_cut() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("segment");
        for _ in 0..2 {
            let mut segment = Disk::durable().segment(&path).expect("opens");
            segment.append(b"abcd").expect("writes");
            segment.sync().expect("syncs");
        }
        let mut segment = Disk::durable().segment(&path).expect("opens");
        segment.truncate(6).expect("cuts");
        segment.append(b"!").expect("writes");
        assert_eq!(fs::read(&path).expect("reads"), b"abcdab!");
    }
}

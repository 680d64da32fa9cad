//! How a log writes: the few operations that have to be durable, behind a trait so that tests can count them and make them fail.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// By how many bytes a segment that has no room left grows beyond what it needs.
const ROOM: usize = 64 << 10;
/// A segment that is all room, for when the current one has none left.
const SPARE: &str = "spare";
/// The same while it is being made.
const UNFINISHED_SPARE: &str = "spare.tmp";
/// How many bytes of it are written at a time.
const SPARE_PIECE: usize = 256 << 10;

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

    /// Has room for a segment of `length` bytes ready in the folder of the journal, of which [`Storage::segment`] makes the next one; gives
    /// up when `goes_on` says no. No log needs it, it only makes it faster.
    ///
    /// # Errors
    /// Those of the file system.
    fn prepare(&self, _journal: &Path, _length: u64, _goes_on: &dyn Fn() -> bool) -> io::Result<()> {
        Ok(())
    }

    /// Removes a file, or a folder with all in it; that it is not there is no error.
    ///
    /// # Errors
    /// Those of the file system.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// A journal segment. While it is open, there may be zeros after its end: room made in advance.
pub trait Segment: Send {
    /// Writes at the end.
    ///
    /// # Errors
    /// Those of the file system; a part may be written then.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Whether there is no room here for so many bytes, but there is for the next segment.
    fn yields(&self, _length: usize) -> bool {
        false
    }

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

/// Removes room that was made for a next segment, in the folder of a journal that nobody writes.
pub(super) fn forget_spare(journal: &Path) {
    // What cannot be removed is only in the way.
    let _ = fs::remove_file(journal.join(SPARE));
    let _ = fs::remove_file(journal.join(UNFINISHED_SPARE));
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

/// Writes a file of zeros; false if it gave up.
fn make_spare(path: &Path, length: u64, goes_on: &dyn Fn() -> bool) -> io::Result<bool> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let zeros = vec![0; SPARE_PIECE];
    let mut left = length;
    while left > 0 && goes_on() {
        let piece = zeros.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.write_all(&zeros[..piece])?;
        // Piece by piece: who else waits for the disk waits for one of them at most.
        file.sync_data()?;
        left -= piece as u64;
    }
    Ok(left == 0)
}

impl Storage for Disk {
    fn segment(&self, path: &Path) -> io::Result<Box<dyn Segment>> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let spare = folder.join(SPARE);
        let is_room = self.sync && !path.exists() && fs::rename(&spare, path).is_ok();
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        self.sync_folder(folder)?;
        let room = file.metadata()?.len();
        let length = if is_room { 0 } else { room };
        Ok(Box::new(DiskSegment { file, sync: self.sync, length, room, spare }))
    }

    fn prepare(&self, journal: &Path, length: u64, goes_on: &dyn Fn() -> bool) -> io::Result<()> {
        let spare = journal.join(SPARE);
        if !self.sync || spare.exists() {
            return Ok(());
        }
        let unfinished = journal.join(UNFINISHED_SPARE);
        match make_spare(&unfinished, length, goes_on) {
            Ok(true) => fs::rename(&unfinished, &spare),
            // On a full disk the entries need what it took.
            other => fs::remove_file(&unfinished).and(other.map(drop)),
        }
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

/// The file is longer than what was appended: where it does not grow, syncing it writes the data and nothing else, while the length of a
/// growing file goes through the file system's own journal, and so waits for whatever others write.
struct DiskSegment {
    file: File,
    sync: bool,
    /// Bytes that were appended.
    length: u64,
    /// Bytes of the file.
    room: u64,
    /// Where room for the next segment may be.
    spare: PathBuf,
}

impl Segment for DiskSegment {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.length + bytes.len() as u64;
        if self.sync && end > self.room {
            // On a full disk there may yet be room for the entries themselves.
            match self.file.write_all_at(&[0; ROOM], end) {
                Ok(()) => self.room = end + ROOM as u64,
                Err(_) => self.file.set_len(self.length)?,
            }
        }
        self.file.write_all_at(bytes, self.length)?;
        self.length = end;
        self.room = self.room.max(end);
        Ok(())
    }

    fn yields(&self, length: usize) -> bool {
        self.sync && self.length + length as u64 > self.room && self.spare.exists()
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.sync { self.file.sync_data() } else { Ok(()) }
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        (self.length, self.room) = (length, length);
        self.sync()
    }
}

impl Drop for DiskSegment {
    fn drop(&mut self) {
        if self.length < self.room {
            // Room that is left does no harm.
            let _ = self.file.set_len(self.length);
        }
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
    fn the_next_segment_is_made_of_room_that_is_ready() {
        let folder = tempfile::tempdir().expect("a folder");
        let (disk, spare) = (Disk::durable(), folder.path().join(SPARE));
        let mut first = disk.segment(&folder.path().join("1")).expect("opens");
        first.append(b"abcd").expect("writes");
        disk.prepare(folder.path(), 1 << 19, &|| false).expect("gives up");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
        assert!(!first.yields(ROOM + 1));
        disk.prepare(folder.path(), 300_000, &|| true).expect("prepares");
        assert_eq!(fs::read(&spare).expect("is there"), vec![0; 300_000]);
        assert!(first.yields(ROOM + 1) && !first.yields(ROOM));
        let mut second = disk.segment(&folder.path().join("2")).expect("opens");
        assert!(!spare.exists() && !second.yields(300_000) && !second.yields(300_001));
        second.append(b"efgh").expect("writes");
        assert_eq!(fs::read(folder.path().join("2")).expect("reads")[..5], *b"efgh\0");
        drop((first, second));
        for (name, content) in [("1", b"abcd"), ("2", b"efgh")] {
            assert_eq!(fs::read(folder.path().join(name)).expect("reads"), content);
        }
        // What is there is opened as it is.
        disk.prepare(folder.path(), 10, &|| true).expect("prepares");
        disk.segment(&folder.path().join("1")).expect("opens").append(b"!").expect("writes");
        assert_eq!(fs::read(folder.path().join("1")).expect("reads"), b"abcd!");
        forget_spare(folder.path());
        assert!(!spare.exists());
    }

    #[test]
    fn segments_grow_and_are_cut() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("segment");
        for round in 0..2 {
            let mut segment = Disk::durable().segment(&path).expect("opens");
            segment.append(b"abcd").expect("writes");
            segment.sync().expect("syncs");
            let open = fs::read(&path).expect("reads");
            assert!(open.len() > 1 << 16 && open[4 * (round + 1)..].iter().all(|byte| *byte == 0));
        }
        let mut segment = Disk::durable().segment(&path).expect("opens");
        segment.truncate(6).expect("cuts");
        segment.append(b"!").expect("writes");
        drop(segment);
        assert_eq!(fs::read(&path).expect("reads"), b"abcdab!");
    }
}

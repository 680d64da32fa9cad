//! Opens what a path leads to if that is a regular file: whoever may write to its folder may have put something else in its place.
//!
//! **Invariant:** nothing is waited for. A pipe is opened without waiting for somebody to write to it, and then refused.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens `path` for reading.
///
/// # Errors
/// As [`File::open`], and when it is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    // For regular files the flag means nothing.
    let at_once = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(at_once).open(path)?;
    // The open file is asked, not the path, so that nobody can swap it in between.
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs::DirBuilder;
    use std::io::Read as _;
    use std::sync::mpsc;
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// Puts a pipe at `path`, to which nobody writes, in the place of what is there.
    pub(crate) fn put_pipe(path: &Path) {
        let _ = std::fs::remove_file(path);
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    }

    /// What `act` gives, which must not wait for anything.
    pub(crate) fn at_once<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || sender.send(act()));
        receiver.recv_timeout(Duration::from_secs(30)).expect("it waits for somebody to write to the pipe")
    }

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let [file, pipe, below] = ["file", "pipe", "below"].map(|name| folder.path().join(name));
        std::fs::write(&file, "text").expect("own file");
        let mut text = String::new();
        open(&file).expect("regular").read_to_string(&mut text).expect("reads");
        assert_eq!(text, "text");
        put_pipe(&pipe);
        DirBuilder::new().create(&below).expect("own folder");
        for other in [pipe, below, "/dev/null".into()] {
            let refused = at_once(move || open(&other)).expect_err("refused");
            assert_eq!(refused.to_string(), "not a regular file");
        }
        assert_eq!(open(&folder.path().join("absent")).expect_err("absent").kind(), io::ErrorKind::NotFound);
    }
}

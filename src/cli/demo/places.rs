//! Where objects lie in the demo's folder, and what can lie there.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use s3s::{S3Result, s3_error};

/// Most bytes of a file's name.
const FILE_NAME_MAX: usize = 255;
/// Bytes of an upload's id, which can be part of one.
const UPLOAD_ID_LEN: usize = 36;

/// The folder: `BUCKET/NAME` are objects' bytes.
pub(super) struct Places {
    root: PathBuf,
}

impl Places {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Refuses requests about buckets that are not there.
    pub(super) fn bucket_is_there(&self, bucket: &str) -> S3Result<()> {
        if self.root.join(bucket).is_dir() { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }

    /// Whether there is an object; a folder is none.
    pub(super) fn has(&self, bucket: &str, name: &str) -> bool {
        self.root.join(bucket).join(name).is_file()
    }

    /// Refuses requests about objects that are not there.
    pub(super) fn object_is_there(&self, bucket: &str, name: &str) -> S3Result<()> {
        self.bucket_is_there(bucket)?;
        if self.has(bucket, name) { Ok(()) } else { Err(s3_error!(NoSuchKey)) }
    }

    /// Whether an object can be stored under `name`: keys are names of files here, with their limits.
    pub(super) fn can_store(&self, bucket: &str, name: &str) -> S3Result<()> {
        self.bucket_is_there(bucket)?;
        // `s3s-fs` keeps metadata in files of this name, and would notice only after it stored the bytes.
        let base64 = |text: &str| (text.len() * 4).div_ceil(3);
        let metadata_file =
            ".bucket-.object-.upload-.metadata.json".len() + UPLOAD_ID_LEN + base64(bucket) + base64(name);
        if metadata_file > FILE_NAME_MAX || name.split('/').any(|component| component.len() > FILE_NAME_MAX) {
            return Err(s3_error!(KeyTooLongError, "the demo's storage takes keys of about 140 bytes"));
        }
        let bucket = self.root.join(bucket);
        let path = bucket.join(name);
        let folders = path.ancestors().skip(1).take_while(|folder| *folder != bucket);
        if path.is_dir() || folders.into_iter().any(Path::is_file) {
            let message = "the demo's storage keeps keys as files: `a` and `a/b` cannot both be there";
            return Err(s3_error!(InvalidArgument, "{message}"));
        }
        Ok(())
    }

    /// Which file lies under `name` now.
    pub(super) fn inode(&self, bucket: &str, name: &str) -> Option<u64> {
        std::fs::metadata(self.root.join(bucket).join(name)).ok().map(|metadata| metadata.ino())
    }

    /// Removes the folders that a deleted object leaves empty, so that their names are free for objects.
    pub(super) fn prune(&self, bucket: &str, name: &str) {
        let bucket = self.root.join(bucket);
        let path = bucket.join(name);
        let mut folders = path.ancestors().skip(1).take_while(|folder| *folder != bucket);
        // The first that is not empty ends it.
        while folders.next().is_some_and(|folder| std::fs::remove_dir(folder).is_ok()) {}
    }

    /// Removes an object's bytes.
    pub(super) fn remove(&self, bucket: &str, name: &str) {
        // What cannot be removed stays; the caller reports what went wrong before.
        let _ = std::fs::remove_file(self.root.join(bucket).join(name));
        self.prune(bucket, name);
    }
}

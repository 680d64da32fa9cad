//! `export`: objects decrypted out into files, so that nobody is locked in.
//!
//! Each file is written under another name first, and is whole when it has its own. What stands beside the bytes goes to a manifest, which
//! has the key of each file, too. A further run leaves files alone that are what the manifest says.

mod manifest;
mod names;
mod target;

#[doc(hidden)]
pub use manifest::fuzz_manifest;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http::header::{ETAG, LAST_MODIFIED};
use http_body_util::BodyExt as _;

use crate::format::size;
use crate::object::Objects;
use crate::object::access::Authenticated;
use crate::object::answer::{Answer, AnswerBody};
use crate::object::error::Error;
use crate::object::read_back::{Readable, is_encrypted};
use crate::s3::etag;

use manifest::Record;
use target::Writing;

use super::verify::Passed;
use super::work::{Item, Outcome, Work};

pub use target::Target;

/// Why files cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A folder that has something else in it.
    #[error("{} is not empty and no target of an export: choose another folder", .0.display())]
    Foreign(PathBuf),
    /// Another bucket was exported to it.
    #[error("{} is the target of an export of the bucket {}: choose another folder", .0.display(), .1.escape_debug())]
    OtherBucket(PathBuf, String),
    /// Another export writes to it.
    #[error("another export to {} is under way", .0.display())]
    Busy(PathBuf),
    /// A folder in which others could change files, or lead us elsewhere.
    #[error("others own {} or may write to it: choose a folder of your own, or take their right away (chown, chmod go-w)", .0.display())]
    Shared(PathBuf),
    /// The file system.
    #[error("cannot write to {}", path.display())]
    Files {
        /// What was to be written.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl ExportError {
    /// Whether nothing more can be written to the target. Else it is about one object, whose name or size the file system does not take.
    fn is_of_target(&self) -> bool {
        let Self::Files { source, .. } = self else { return true };
        let is_io = source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::ReadOnlyFilesystem];
        is_io || full.contains(&source.kind())
    }
}

/// The job.
pub struct Export {
    /// Where the objects are.
    pub objects: Arc<Objects>,
    /// Who the job is.
    pub who: Authenticated,
    /// Where the files go; nowhere in a dry run.
    pub target: Option<Target>,
    /// What is not exported.
    pub passed: Passed,
}

/// What came in the way.
enum Failure {
    Object(Error),
    /// This object cannot be written.
    Unfit(ExportError),
    /// Nothing can be written.
    Files(ExportError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Object(error)
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        if error.is_of_target() { Self::Files(error) } else { Self::Unfit(error) }
    }
}

impl Export {
    async fn export(&self, item: &Item, target: &Target) -> Result<Outcome, Failure> {
        let key = item.key.as_str();
        let listed = etag::client_from_storage(&item.entry.etag);
        if let Some(record) = target.find(key).map_err(Failure::Files)?
            && etag::same_strong(&record.etag, &listed)
            && target.has(&record).await
        {
            return Ok(Outcome::Skipped);
        }
        let object = Readable { bucket: &item.bucket, key: &item.key, version: None };
        let answer = self.objects.read_back(&self.who, object).await?;
        let is_encrypted = is_encrypted(&answer);
        if !is_encrypted && !self.passed.allows_more() {
            return Ok(self.passed.unencrypted());
        }
        let Answer { headers, body, .. } = answer;
        // What does not even take a file of a name of ours, takes none.
        let mut writing = target.begin().await.map_err(Failure::Files)?;
        match body {
            AnswerBody::Empty => {}
            AnswerBody::Full(bytes) => writing.write(&bytes).await?,
            AnswerBody::Stream(mut body) => {
                while let Some(frame) = body.frame().await {
                    let frame = frame.map_err(Error::from)?;
                    writing.write(frame.data_ref().unwrap_or(&bytes::Bytes::new())).await?;
                }
            }
        }
        let tags = match has_tags(&headers) {
            true => self.objects.tags_back(&self.who, object).await?,
            false => None,
        };
        let bytes = keep(target, item, &headers, tags, writing).await?;
        if !is_encrypted && let refused @ Outcome::Failed { .. } = self.passed.unencrypted() {
            return Ok(refused);
        }
        Ok(Outcome::Done { bytes })
    }
}

/// The file gets its name, and the manifest a line.
async fn keep(
    target: &Target,
    item: &Item,
    headers: &HeaderMap,
    tags: Option<String>,
    writing: Writing,
) -> Result<u64, ExportError> {
    let key = item.key.as_str();
    let (size, sha256, path) = writing.finish(key).await?;
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let told = headers.iter().filter(|(name, _)| is_kept(name.as_str()));
    let told =
        told.map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let record = Record {
        key: key.to_owned(),
        path,
        size,
        sha256,
        etag: text(ETAG).unwrap_or_default(),
        last_modified: text(LAST_MODIFIED).unwrap_or_default(),
        headers: told.collect(),
        tags,
    };
    target.note(&record)?;
    Ok(size)
}

fn has_tags(headers: &HeaderMap) -> bool {
    headers.get("x-amz-tagging-count").is_some_and(|count| count != "0")
}

/// Headers that say what the client stored.
fn is_kept(name: &str) -> bool {
    let content = matches!(
        name,
        "content-type"
            | "content-encoding"
            | "content-disposition"
            | "content-language"
            | "cache-control"
            | "expires"
            | "x-amz-website-redirect-location"
            | "x-amz-storage-class"
    );
    content
        || name.starts_with("x-amz-meta-")
        || name.starts_with("x-amz-checksum-")
        || name.starts_with("x-amz-object-lock-")
}

impl Work for Export {
    fn name(&self) -> &'static str {
        "export"
    }

    fn keeps_checkpoints(&self) -> bool {
        // What is there is seen in the target, which may be another one next time.
        false
    }

    fn treat<'a>(&'a self, item: &'a Item) -> BoxFuture<'a, Outcome> {
        async move {
            let Some(target) = &self.target else {
                let bytes = size::plaintext(item.entry.size).unwrap_or(item.entry.size);
                return Outcome::Done { bytes };
            };
            match self.export(item, target).await {
                Ok(outcome) => outcome,
                Err(Failure::Files(error)) => Outcome::Stuck { error: error.into() },
                Err(Failure::Unfit(error)) => Outcome::Unfit { error: error.into() },
                Err(Failure::Object(error)) if error.is_gone() => {
                    match self.objects.is_still_listed(&item.bucket, &item.entry).await {
                        Ok(true) => Outcome::Failed { error },
                        Ok(false) => Outcome::Overtaken,
                        Err(error) => Outcome::Failed { error },
                    }
                }
                Err(Failure::Object(error)) => self.passed.outcome(error),
            }
        }
        .boxed()
    }

    fn passed_over(&self) -> Vec<(&'static str, u64)> {
        self.passed.counts()
    }

    fn notes(&self) -> Vec<String> {
        self.passed
            .notes("not encrypted yet, as the bucket is being migrated, so that only its manifest says what they are")
    }
}

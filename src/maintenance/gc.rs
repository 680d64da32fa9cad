//! `gc`: what uploads that are over, and jobs that nobody went on with, left in the state bucket.
//!
//! Looked at are `upload/` and `job/`; nothing else is touched: not the branch keys (`branch/`), not manifests, not what other versions
//! of this program may keep there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::object::Objects;
use crate::object::access::Authenticated;
use crate::object::error::Error;
use crate::object::multipart::leftover::{Standing, StatePage, Unknown};
use crate::object::stored::Position;

use super::job::{End, Patience};

const UPLOADS: &str = "upload/";
const JOBS: &str = "job/";

/// The job.
pub struct Gc {
    /// Where the state bucket is.
    pub objects: Arc<Objects>,
    /// Who the job is.
    pub who: Authenticated,
    /// Nothing younger is deleted.
    pub older_than: Duration,
    /// Nothing is deleted.
    pub dry_run: bool,
    /// How often something is tried.
    pub patience: Patience,
    /// When this becomes true, the run stops.
    pub stop: watch::Receiver<bool>,
}

/// What a run did, or would have done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Uploads of which something was found.
    pub uploads: u64,
    /// Of these: under way, or younger than asked.
    pub kept: u64,
    /// Of these: over, and deleted.
    pub deleted: u64,
    /// Entries of those that were deleted.
    pub entries: u64,
    /// Of the uploads: left alone, as it cannot be told what they are.
    pub unknown: u64,
    /// Checkpoints that were deleted.
    pub checkpoints: u64,
}

impl Collected {
    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            uploads: self.uploads + other.uploads,
            kept: self.kept + other.kept,
            deleted: self.deleted + other.deleted,
            entries: self.entries + other.entries,
            unknown: self.unknown + other.unknown,
            checkpoints: self.checkpoints + other.checkpoints,
        }
    }
}

/// Something that was left alone.
#[derive(Debug, thiserror::Error)]
pub enum Left {
    /// An upload's folder.
    #[error(transparent)]
    Upload(#[from] Unknown),
    /// Names that no upload has.
    #[error("it has entries that no upload has")]
    Strange,
    /// The storage server or the custodian failed.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// The entries of an upload's folder, as far as they were listed.
#[derive(Debug)]
struct Folder {
    hash: String,
    entries: u64,
    youngest_ms: u64,
    has_record: bool,
    is_strange: bool,
}

/// The hash in `HASH/rest`, and the rest.
fn hash_and_rest(name: &str) -> Option<(&str, &str)> {
    let (hash, rest) = name.split_once('/')?;
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (hash.len() == 32 && hash.bytes().all(digit)).then_some((hash, rest))
}

fn is_of_upload(rest: &str) -> bool {
    rest == "record" || rest.starts_with("part/") || rest.starts_with("held/")
}

/// Whether it is the name of a checkpoint: `NAME/HASH/checkpoint`.
fn is_checkpoint(name: &str) -> bool {
    let Some((job, rest)) = name.split_once('/') else { return false };
    let is_name = !job.is_empty() && job.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    is_name && hash_and_rest(rest).is_some_and(|(_, rest)| rest == "checkpoint")
}

impl Gc {
    /// Goes over the state bucket; `left` hears of what was left alone, by its name.
    ///
    /// # Errors
    /// [`Error`] when the state bucket cannot be listed: run it again.
    pub async fn run(&self, mut left: impl FnMut(String, Left) + Send) -> Result<(End, Collected), Error> {
        let mut collected = Collected::default();
        let end = self.uploads(&mut collected, &mut left).await?;
        if end == End::Complete {
            self.checkpoints(&mut collected).await?;
        }
        Ok((end, collected))
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    async fn page(&self, prefix: &str, after: &Position) -> Result<StatePage, Error> {
        self.patience.with(|| self.objects.state_entries(prefix, after)).await
    }

    async fn uploads(
        &self,
        collected: &mut Collected,
        left: &mut (impl FnMut(String, Left) + Send),
    ) -> Result<End, Error> {
        let mut after = Position::default();
        // One folder at a time is open: its entries stand together.
        let mut open: Option<Folder> = None;
        let mut seen = Folders::default();
        loop {
            let StatePage { page, ages_ms } = self.page(UPLOADS, &after).await?;
            for (entry, age_ms) in page.entries.iter().zip(ages_ms) {
                let name = entry.key.strip_prefix(UPLOADS).unwrap_or_default();
                let Some((hash, rest)) = hash_and_rest(name) else { continue };
                if let Some(ended) = open.take_if(|folder| folder.hash != hash) {
                    seen.end(ended);
                }
                let folder = open.get_or_insert_with(|| seen.begin(hash));
                folder.entries += 1;
                folder.youngest_ms = folder.youngest_ms.min(age_ms);
                folder.has_record |= rest == "record";
                folder.is_strange |= !is_of_upload(rest);
            }
            let is_last = page.next.is_none();
            if let Some(ended) = open.take_if(|_| is_last) {
                seen.end(ended);
            }
            for folder in seen.take() {
                if self.is_stopped() {
                    return Ok(End::Stopped);
                }
                self.settle(folder, collected, left).await;
            }
            match page.next {
                Some(next) => after = next,
                None => return Ok(End::Complete),
            }
        }
    }

    /// Decides about an upload's folder.
    async fn settle(&self, folder: Folder, collected: &mut Collected, left: &mut (impl FnMut(String, Left) + Send)) {
        collected.uploads += 1;
        let name = format!("{UPLOADS}{}/", folder.hash);
        if folder.youngest_ms < self.least_age_ms() {
            collected.kept += 1;
            return;
        }
        let outcome = match folder.is_strange {
            true => Err(Left::Strange),
            false => self.collect(&folder).await,
        };
        match outcome {
            Ok(true) => {
                collected.deleted += 1;
                collected.entries += folder.entries;
            }
            Ok(false) => collected.kept += 1,
            Err(why) => {
                collected.unknown += 1;
                left(name, why);
            }
        }
    }

    /// Whether the folder was deleted, or would have been.
    async fn collect(&self, folder: &Folder) -> Result<bool, Left> {
        let asked = (folder.hash.as_str(), folder.has_record);
        let standing = self.patience.with(|| self.objects.upload_standing(&self.who, asked, self.older_than));
        match standing.await? {
            Standing::UnderWay | Standing::Young => Ok(false),
            Standing::Unknown(why) => Err(why.into()),
            Standing::Over if self.dry_run => Ok(true),
            Standing::Over => {
                self.patience.with(|| self.objects.delete_upload_folder(&folder.hash)).await?;
                Ok(true)
            }
        }
    }

    async fn checkpoints(&self, collected: &mut Collected) -> Result<(), Error> {
        let mut after = Position::default();
        loop {
            let StatePage { page, ages_ms } = self.page(JOBS, &after).await?;
            for (entry, age_ms) in page.entries.iter().zip(ages_ms) {
                let is_one = entry.key.strip_prefix(JOBS).is_some_and(is_checkpoint);
                if !is_one || age_ms < self.least_age_ms() {
                    continue;
                }
                if !self.dry_run {
                    self.patience.with(|| self.objects.remove_entry(&entry.key)).await?;
                }
                collected.checkpoints += 1;
            }
            match page.next {
                Some(next) => after = next,
                None => return Ok(()),
            }
        }
    }

    fn least_age_ms(&self) -> u64 {
        u64::try_from(self.older_than.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Folders whose end was seen, on one page.
#[derive(Default)]
struct Folders(BTreeMap<String, Folder>);

impl Folders {
    /// A folder that begins, or goes on where a listing is in no order.
    fn begin(&mut self, hash: &str) -> Folder {
        let fresh = || Folder {
            hash: hash.to_owned(),
            entries: 0,
            youngest_ms: u64::MAX,
            has_record: false,
            is_strange: false,
        };
        self.0.remove(hash).unwrap_or_else(fresh)
    }

    fn end(&mut self, folder: Folder) {
        self.0.insert(folder.hash.clone(), folder);
    }

    fn take(&mut self) -> Vec<Folder> {
        std::mem::take(&mut self.0).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_its_own_are_known() {
        let hash = "0f".repeat(16);
        assert!(is_checkpoint(&format!("re-encrypt/{hash}/checkpoint")));
        for other in ["", "verify", "verify/x/checkpoint", "/checkpoint", "checkpoint"] {
            assert!(!is_checkpoint(other), "{other}");
        }
        let upper = hash.to_uppercase();
        for other in [
            format!("Verify/{hash}/checkpoint"),
            format!("verify/{upper}/checkpoint"),
            format!("verify/{hash}/checkpoint/x"),
        ] {
            assert!(!is_checkpoint(&other), "{other}");
        }
        assert_eq!(hash_and_rest(&format!("{hash}/part/00001/x")), Some((hash.as_str(), "part/00001/x")));
        assert_eq!(hash_and_rest(&hash), None);
        assert!(is_of_upload("record") && is_of_upload("held/1/2") && !is_of_upload("records") && !is_of_upload(""));
    }
}

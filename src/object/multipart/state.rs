//! The state of an upload under way: its record opened, its markers written and read, all of it forgotten at the end.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::crypto::sha256;
use crate::format::envelope::{Binding, Layout};
use crate::format::keys::Dek;
use crate::format::metadata::Metadata;
use crate::format::segment::AttemptId;
use crate::format::size;
use crate::format::upload::{MAX_RECORD, MAX_SENDER, PartRecord, Unverified, UploadKey, UploadSettings};
use crate::names::{KekName, Principal, Purpose};
use crate::s3::operation::{HIGHEST_PART, UploadId};
use crate::s3::sigv4::hex;
use crate::storage::ResponseStream;
use crate::telemetry::request_id::carried;

use super::super::error::Error;
use super::super::lease::Lease;
use super::super::state::{StateBucket, StateError};
use super::super::{Call, Named, Objects};

/// Most pages of an upload's names that are read: twenty attempts at each of 10,000 parts.
const MOST_PAGES: usize = 200;
/// Attempts at a held part that are kept. Only one counts in the end; clients that send a part again may name a former one.
const MOST_HELD: usize = 4;
/// How long the record of a completed upload stays, so that its completion can be repeated.
const COMPLETED_STAYS: Duration = Duration::from_secs(600);

/// How many completed uploads stay so long at a time.
static WAITING: Semaphore = Semaphore::const_new(10_000);

/// The folder of an upload in the state bucket: `upload/HASH/`. Upload ids may be long, and have characters that some
/// servers' file systems do not take.
#[derive(Debug, Clone)]
pub(super) struct Folder(String);

impl Folder {
    /// `HASH` is the first 16 bytes of SHA-256(physical bucket ‖ 0 ‖ upload id), in hexadecimal.
    pub(super) fn new(physical: &str, id: &UploadId) -> Self {
        let hash = sha256(&[physical.as_bytes(), &[0], id.as_str().as_bytes()].concat());
        Self(format!("upload/{}/", hex(&hash[..16])))
    }

    /// That of which only the hash is known.
    pub(super) fn of_hash(hash: &str) -> Self {
        Self(format!("upload/{hash}/"))
    }

    pub(super) fn record(&self) -> String {
        format!("{}record", self.0)
    }

    fn parts(&self) -> String {
        format!("{}part/", self.0)
    }

    fn part(&self, number: u32) -> String {
        format!("{}{number:05}/", self.parts())
    }

    /// Where the stored bytes of a held part lie.
    pub(super) fn held(&self, number: u32, attempt: AttemptId) -> String {
        format!("{}held/{number:05}/{}", self.0, hex(attempt.as_bytes()))
    }
}

/// A part's ETag as clients see it, without quotes: it names the attempt. A bare MD5 is the one form it must not have.
pub(super) fn client_etag(attempt: AttemptId) -> String {
    format!("{}-0", hex(attempt.as_bytes()))
}

/// An upload whose record was opened for the bucket, key and id that a request names.
pub(super) struct OpenUpload {
    pub(super) id: UploadId,
    pub(super) dek: Arc<Dek>,
    pub(super) kek: KekName,
    pub(super) metadata: Metadata,
    pub(super) settings: UploadSettings,
    /// The right to go on, which streams renew.
    pub(super) lease: Lease,
    pub(super) folder: Folder,
    key: UploadKey,
}

/// What upload records are bound to.
pub(super) fn binding_of<'a>(object: Named<'a>, id: &'a UploadId) -> Binding<'a> {
    let (bucket, key) = (object.bucket.name, object.key.as_str());
    Binding { purpose: Purpose::Upload, bucket, key, upload_id: id.as_str() }
}

impl Objects {
    /// Reads and opens the record of an upload.
    pub(super) async fn open_upload(&self, call: &Call, object: Named<'_>, id: &UploadId) -> Result<OpenUpload, Error> {
        let folder = Folder::new(object.bucket.physical, id);
        let record = self.state.read(&folder.record(), MAX_RECORD).await?.ok_or(Error::NoSuchUpload)?;
        let record = Unverified::parse(&record)?;
        if (record.bucket(), record.key()) != (object.bucket.name, object.key.as_str()) {
            // The upload of another object: S3 says no more than this.
            return Err(Error::NoSuchUpload);
        }
        let (binding, customer_key) = (binding_of(object, id), call.customer_keys.target.as_ref());
        let (opened, lease) = self.unwrap(call, object.bucket, record.envelope(), binding, customer_key).await?;
        let kek = record.envelope().branch().kek.clone();
        if opened.layout != Layout::Multipart {
            return Err(Error::NotAuthentic);
        }
        let key = UploadKey::new(&opened.dek);
        let settings = record.open(&key, binding)?;
        let (dek, metadata) = (Arc::new(opened.dek), opened.metadata);
        Ok(OpenUpload { id: id.clone(), dek, kek, metadata, settings, lease, folder, key })
    }

    /// Notes an attempt to upload a part that was stored.
    pub(super) async fn write_marker(
        &self,
        upload: &OpenUpload,
        part: &PartRecord,
        sender: &Principal,
    ) -> Result<(), Error> {
        let marker = upload.key.seal_marker(upload.id.as_str(), part)?;
        let name = format!("{}{marker}", upload.folder.part(part.entry.number));
        let sender = upload.key.seal_sender(upload.id.as_str(), &part.entry, sender)?;
        Ok(self.state.put(&name, &sender).await?)
    }

    /// Who sent the attempt whose marker is called `name`, if that is told.
    pub(super) async fn sender(
        &self,
        upload: &OpenUpload,
        part: &PartRecord,
        name: &str,
    ) -> Result<Option<Principal>, Error> {
        let sealed = self.state.read(name, MAX_SENDER).await?;
        Ok(sealed.and_then(|sealed| upload.key.open_sender(upload.id.as_str(), &part.entry, &sealed).ok()))
    }

    /// Keeps of the attempts at a held part the newest few, and `newest` in any case.
    pub(super) async fn forget_older(&self, upload: &OpenUpload, newest: &PartRecord) -> Result<(), Error> {
        let (number, prefix) = (newest.entry.number, upload.folder.parts());
        let page = self.state.list(&upload.folder.part(number), "").await?;
        let parts = page.keys.iter().filter_map(|name| Some((upload.marker(name.strip_prefix(&prefix)?)?, name)));
        let is_older = |part: &PartRecord| part.held && part.entry.attempt != newest.entry.attempt;
        let mut older: Vec<(PartRecord, &String)> = parts.filter(|(part, _)| is_older(part)).collect();
        older.sort_by_key(|(part, _)| std::cmp::Reverse(part.written_ms));
        let names = older.iter().skip(MOST_HELD - 1).map(|(part, name)| {
            let held = upload.folder.held(number, part.entry.attempt);
            [held, (*name).clone()]
        });
        let names: Vec<String> = names.flatten().collect();
        if names.is_empty() {
            return Ok(());
        }
        Ok(self.state.delete(&names.iter().map(String::as_str).collect::<Vec<_>>()).await?)
    }

    /// Gives `take` each attempt at each part with a higher number than `after`, and what its marker is called, in the order of the
    /// numbers, until it breaks off. Names that are no authentic markers of this upload are passed over.
    pub(super) async fn markers(
        &self,
        upload: &OpenUpload,
        after: u32,
        mut take: impl FnMut(PartRecord, &str) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let prefix = upload.folder.parts();
        // Nothing of the part `after` comes after this, and all of the next one does.
        let mut last = format!("{prefix}{after:05}~");
        let mut strange = 0_u64;
        let mut broken_off = false;
        for _ in 0..MOST_PAGES {
            let page = self.state.list(&prefix, &last).await?;
            for key in &page.keys {
                match upload.marker(key.strip_prefix(&prefix).unwrap_or_default()) {
                    Some(part) => broken_off = broken_off || take(part, key).is_break(),
                    None => strange += 1,
                }
                if broken_off {
                    break;
                }
            }
            match page.keys.into_iter().next_back() {
                Some(key) if page.truncated && !broken_off => last = key,
                _ => {
                    warn_of_strangers(&upload.folder, strange);
                    return Ok(());
                }
            }
        }
        warn_of_strangers(&upload.folder, strange);
        Err(StateError::TooMany.into())
    }

    /// The stored bytes of a held part. They are opened by nobody here: segments authenticate themselves when they are read.
    pub(super) async fn held_part(&self, upload: &OpenUpload, part: &PartRecord) -> Result<ResponseStream, Error> {
        let name = upload.folder.held(part.entry.number, part.entry.attempt);
        let stored = self.state.stream(&name, size::sealed_part(part.entry.length)).await?;
        stored.ok_or(Error::NotAuthentic)
    }

    /// Deletes the state of an upload that was completed, in the background: the parts at once, the record later, so that
    /// the completion can be repeated. Where that became an empty object, which says nothing of parts, they stay as long.
    pub(super) fn forget_upload(&self, upload: OpenUpload, empty: bool) {
        let (state, folder) = (self.state.clone(), upload.folder);
        tokio::spawn(carried(async move {
            // Without a permit, nothing is kept.
            let waits = WAITING.try_acquire().ok();
            let pause = || async {
                if waits.is_some() {
                    tokio::time::sleep(COMPLETED_STAYS).await;
                }
            };
            if empty {
                pause().await;
            }
            let outcome = forget_parts(&state, &folder).await;
            if !empty {
                pause().await;
            }
            tell(match outcome {
                Ok(()) => forget_record(&state, &folder).await,
                failed => failed,
            });
        }));
    }

    /// Deletes the state of an upload. What remains after a failure is the garbage collector's.
    pub(super) async fn forget_folder(&self, folder: &Folder) {
        let parts = forget_parts(&self.state, folder).await;
        tell(match parts {
            Ok(()) => forget_record(&self.state, folder).await,
            failed => failed,
        });
    }
}

impl OpenUpload {
    /// The attempt that `NNNNN/MARKER` speaks of.
    fn marker(&self, name: &str) -> Option<PartRecord> {
        let (digits, marker) = name.split_once('/')?;
        let number = digits.parse().ok().filter(|number| (1..=HIGHEST_PART).contains(number))?;
        if format!("{number:05}") != digits {
            return None;
        }
        self.key.open_marker(self.id.as_str(), number, marker).ok()
    }
}

fn warn_of_strangers(folder: &Folder, strange: u64) {
    if strange > 0 {
        let folder = folder.0.as_str();
        tracing::warn!(
            folder,
            strange,
            "names in the state bucket are no markers of their upload, and are passed over"
        );
    }
}

fn tell(outcome: Result<(), StateError>) {
    if let Err(error) = outcome {
        let error: &(dyn std::error::Error + 'static) = &error;
        tracing::warn!(error, "the state of an upload that ended could not be deleted; gc will");
    }
}

/// All but the record, which says whose the rest is.
pub(super) async fn forget_parts(state: &StateBucket, folder: &Folder) -> Result<(), StateError> {
    let record = folder.record();
    let mut last = String::new();
    for _ in 0..MOST_PAGES {
        let page = state.list(&folder.0, &last).await?;
        let names: Vec<&str> = page.keys.iter().map(String::as_str).filter(|key| *key != record).collect();
        state.delete(&names).await?;
        match page.keys.into_iter().next_back() {
            Some(key) if page.truncated => last = key,
            _ => return Ok(()),
        }
    }
    Err(StateError::TooMany)
}

pub(super) async fn forget_record(state: &StateBucket, folder: &Folder) -> Result<(), StateError> {
    state.delete(&[&folder.record()]).await
}

//! The source of a copy: opened under the client's right to read it, then given as plaintext or left where it lies.
//!
//! **Invariant:** a source is what a GET of the client would find: same buckets, same grants, same keys, same checks.
//!
//! **Invariant:** its length comes from its authenticated end. Where a second request is needed, its answer must carry
//! the commitment of the first.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderValue, IF_MATCH};
use http::{HeaderMap, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};

use crate::format::body::RangeOpener;
use crate::format::checksum::Checksum;
use crate::format::envelope::Layout;
use crate::format::footer::Tail;
use crate::format::layout::PlainOffset;
use crate::format::size;
use crate::names::WriterDomain;
use crate::s3::conditions::source_conditions;
use crate::s3::copy_source::CopySource;
use crate::s3::operation::{Access, Read};

use super::answer::ReadFailure;
use super::bucket::Bucket;
use super::copy::CopyError;
use super::decrypting::{DecryptingBody, Opener};
use super::error::{Error, WrongAnswer};
use super::fetch::{Fetched, Piece, Stored, known_from};
use super::opened::{Opened, envelope_of};
use super::reading::overwritten;
use super::tails::Known;
use super::{Call, Named, Objects};

/// Stored bytes at the end that are fetched where the plaintext is wanted, too.
pub(super) const END: u64 = 64 << 10;
/// How often a read begins anew because the source was overwritten between two requests.
const MOST_OVERWRITES: usize = 3;

/// Verified plaintext as it comes.
pub(super) type PlainStream = UnsyncBoxBody<Bytes, ReadFailure>;

/// The source of a copy as plaintext.
pub(super) struct SourceRead {
    /// Plaintext bytes of the range that was asked for.
    pub(super) length: u64,
    /// The plaintext of the range.
    pub(super) body: PlainStream,
    /// The version that was read.
    pub(super) version_id: Option<HeaderValue>,
}

/// A source whose end was read.
pub(super) struct Source<'a> {
    /// Where it lies.
    pub(super) at: &'a Objects,
    pub(super) named: Named<'a>,
    /// The call as a GET of the source.
    call: Call,
    read: Read,
    /// The storage server's headers of it.
    pub(super) headers: HeaderMap,
    /// Stored bytes.
    pub(super) size: u64,
    pub(super) opened: Opened,
    /// Who wrote it.
    pub(super) writer: WriterDomain,
    /// None: the object is empty.
    tail: Option<Tail>,
    /// The last stored bytes, and where they begin.
    end: (u64, Bytes),
}

impl Source<'_> {
    /// Plaintext bytes.
    pub(super) fn length(&self) -> u64 {
        self.tail.as_ref().map_or(0, Tail::length)
    }

    /// Parts that it was written in.
    pub(super) fn parts(&self) -> u32 {
        self.tail.as_ref().map_or(1, Tail::parts)
    }

    /// The checksum that is kept with it.
    pub(super) fn checksum(&self) -> Option<&Checksum> {
        match &self.tail {
            Some(tail) => tail.checksum(),
            None => self.opened.metadata.empty_checksum.as_ref(),
        }
    }

    /// The storage server's ETag.
    pub(super) fn etag(&self) -> Option<&HeaderValue> {
        self.headers.get(http::header::ETAG)
    }

    /// Whether it goes by that name.
    pub(super) fn is(&self, object: Named<'_>) -> bool {
        self.named.bucket.name == object.bucket.name && self.named.key == object.key
    }

    /// Whether it lies on that storage server.
    pub(super) fn lies_at(&self, objects: &Objects) -> bool {
        std::ptr::eq(self.at, objects)
    }

    /// The call as a GET of it.
    pub(super) fn call(&self) -> &Call {
        &self.call
    }

    /// Whether its tail is this one.
    pub(super) fn ends_in(&self, tail: &Tail) -> bool {
        self.tail.as_ref() == Some(tail)
    }

    /// The version that was asked for.
    pub(super) fn asked_version(&self) -> Option<&str> {
        self.read.version_id.as_deref()
    }

    /// The version that was found.
    pub(super) fn version_id(&self) -> Option<&HeaderValue> {
        self.headers.get("x-amz-version-id")
    }
}

impl Objects {
    /// The bytes of `source` that a part is to be made of, once its conditions were found to hold.
    pub(super) async fn read_source(&self, call: &Call, source: &CopySource) -> Result<SourceRead, Error> {
        for _ in 0..MOST_OVERWRITES {
            let opened = match self.open_source(call, source, END).await {
                Err(Error::NotEncrypted) if Self::migrates(self.source_bucket(call, source)?) => {
                    return self.read_unencrypted(call, source).await;
                }
                outcome => outcome?,
            };
            match self.stream_source(opened, source.range).await {
                Err(Error::Overwritten) => {}
                outcome => return outcome,
            }
        }
        Err(Error::Overwritten)
    }

    async fn read_unencrypted(&self, call: &Call, source: &CopySource) -> Result<SourceRead, Error> {
        let read = self.unencrypted_source(call, source, source.range).await?;
        let version_id = read.headers.get("x-amz-version-id").cloned();
        Ok(SourceRead { length: read.length, body: read.body, version_id })
    }

    /// The bucket of a source, as the client may see and read it.
    pub(super) fn source_bucket<'a>(&'a self, call: &Call, source: &'a CopySource) -> Result<Bucket<'a>, Error> {
        if !call.who.may(Access::Read, Some(&source.bucket)) {
            return Err(Error::Denied);
        }
        self.buckets.find(&source.bucket).ok_or(Error::NoSuchBucket)
    }

    /// Opens the source and its last `end` stored bytes, or all of them, under the call's conditions on it.
    pub(super) async fn open_source<'a>(
        &'a self,
        call: &Call,
        source: &'a CopySource,
        end: u64,
    ) -> Result<Source<'a>, Error> {
        let named = Named { bucket: self.source_bucket(call, source)?, key: &source.key };
        self.open_source_of(call, source, named, end).await
    }

    /// The same for an object that was written under the name `written`, by the rules of that name's bucket, and now lies
    /// under that of `source`.
    pub(super) async fn open_source_of<'a>(
        &'a self,
        call: &Call,
        source: &'a CopySource,
        written: Named<'_>,
        end: u64,
    ) -> Result<Source<'a>, Error> {
        let named = Named { bucket: self.source_bucket(call, source)?, key: &source.key };
        let read = Read { version_id: source.version_id.clone(), ..Read::default() };
        let conditions = source_conditions(&call.headers)?;
        let customer_key = call.customer_keys.source.as_ref();
        let call = as_read(call, source, &read);
        let stored = match self.fetch_source(&call, named, &read, Piece::Last(end), &conditions).await? {
            Some(stored) => stored,
            None => {
                let whole = self.fetch_source(&call, named, &read, Piece::Whole, &conditions).await?;
                whole.ok_or(WrongAnswer::Range)?
            }
        };
        let opened = self.open_with(&call, written, &stored.headers, customer_key).await?;
        let writer = envelope_of(&stored.headers)?.branch().writer.clone();
        self.tails.check(named, read.version_id.as_deref(), stored.etag(), &opened.commitment)?;
        if read.version_id.is_none() && written.bucket.name == named.bucket.name && written.key == named.key {
            self.settle(named.bucket, named.key.as_str());
        }
        let (headers, size) = (stored.headers.clone(), stored.size);
        let (tail, end) = if opened.layout == Layout::Empty {
            if size != 0 {
                return Err(Error::NotAuthentic);
            }
            (None, (0, Bytes::new()))
        } else {
            let (first, bytes) = stored.collect(end).await?;
            let tail = tail_of(&opened, &bytes, size)?;
            (Some(tail), (first, bytes))
        };
        Ok(Source { at: self, named, call, read, headers, size, opened, writer, tail, end })
    }

    /// `None`: there are no such bytes.
    async fn fetch_source(
        &self,
        call: &Call,
        named: Named<'_>,
        read: &Read,
        piece: Piece,
        conditions: &HeaderMap,
    ) -> Result<Option<Stored>, Error> {
        match self.fetch(call, named, read, piece, conditions).await {
            Ok(Fetched::Found(stored)) => Ok(Some(stored)),
            Ok(Fetched::Unsatisfiable) => Ok(None),
            Ok(Fetched::NotModified(_)) => Err(CopyError::SourceCondition.into()),
            Err(error) if error.is_status(StatusCode::METHOD_NOT_ALLOWED) && read.version_id.is_some() => {
                Err(CopyError::DeleteMarker.into())
            }
            Err(error) => Err(error),
        }
    }

    /// The plaintext of an opened source: of the bytes from the first to the last of `range`, or all.
    pub(super) async fn stream_source(
        &self,
        source: Source<'_>,
        range: Option<(u64, u64)>,
    ) -> Result<SourceRead, Error> {
        let whole_length = source.length();
        if range.is_some_and(|(first, last)| first > last || last >= whole_length) {
            return Err(CopyError::Range { length: whole_length }.into());
        }
        let version_id = source.version_id().cloned();
        let length = range.map_or(whole_length, |(first, last)| last - first + 1);
        let body = match source.tail {
            None => Full::default().map_err(|never| match never {}).boxed_unsync(),
            Some(_) => {
                let known = self.layout_of(&source).await?;
                self.plaintext_of(&source, &known, range).await?
            }
        };
        Ok(SourceRead { length, body, version_id })
    }

    /// The parts of a source that is not empty.
    pub(super) async fn layout_of(&self, source: &Source<'_>) -> Result<Known, Error> {
        let place = (source.size, source.etag().cloned());
        let known = match known_from(&source.opened, place.clone(), &source.end.1)? {
            Some(known) => known,
            None => self.read_footer(&source.call, source.named, &source.read, &source.opened, place).await?,
        };
        self.tails.put(source.named, source.asked_version(), known.clone());
        Ok(known)
    }

    /// The plaintext of a source with that layout: of the bytes from the first to the last of `range`, or all.
    pub(super) async fn plaintext_of(
        &self,
        source: &Source<'_>,
        known: &Known,
        range: Option<(u64, u64)>,
    ) -> Result<PlainStream, Error> {
        let plan = match range {
            None => known.map.plan_all(),
            Some((first, last)) => known.map.plan(PlainOffset(first), PlainOffset(last)).ok_or(Error::NotAuthentic)?,
        };
        let opener = Opener::Range(RangeOpener::new(&source.opened.dek, Arc::clone(&known.map), &plan));
        let stored = if plan.stored.start.0 >= source.end.0 {
            let from = usize::try_from(plan.stored.start.0 - source.end.0).map_err(|_| Error::NotAuthentic)?;
            Full::new(source.end.1.slice(from..)).map_err(|never| match never {}).boxed_unsync()
        } else {
            let piece = Piece::Range(plan.stored.start, plan.stored.end);
            self.fetch_rest(source, known, piece, source.etag().cloned()).await?.body
        };
        Ok(DecryptingBody::new(stored, opener, source.opened.lease.share(), plan.length()).boxed_unsync())
    }

    /// Stored bytes of the object whose end was read.
    async fn fetch_rest(
        &self,
        source: &Source<'_>,
        known: &Known,
        piece: Piece,
        etag: Option<HeaderValue>,
    ) -> Result<Stored, Error> {
        let mut conditions = HeaderMap::new();
        conditions.extend(etag.map(|etag| (IF_MATCH, etag)));
        let stored = self.fetch_source(&source.call, source.named, &source.read, piece, &conditions).await;
        let stored = stored.map_err(overwritten)?.ok_or(WrongAnswer::Range)?;
        let same = stored.belongs_to(&known.commitment, known.map.length());
        if same { Ok(stored) } else { Err(Error::Overwritten) }
    }
}

/// The tail in the last bytes of a stored object of `size` bytes.
pub(super) fn tail_of(opened: &Opened, end: &[u8], size: u64) -> Result<Tail, Error> {
    let tail_len = usize::try_from(size::TAIL).unwrap_or(usize::MAX);
    let at = end.len().checked_sub(tail_len).ok_or(Error::NotAuthentic)?;
    Ok(Tail::open(&opened.dek, opened.layout, end.get(at..).unwrap_or_default(), size)?)
}

/// The call as a GET of the source, with those of its headers that speak of the source.
fn as_read(call: &Call, source: &CopySource, read: &Read) -> Call {
    let mut headers = HeaderMap::new();
    for (theirs, ours) in [
        ("x-amz-source-expected-bucket-owner", "x-amz-expected-bucket-owner"),
        ("x-amz-request-payer", "x-amz-request-payer"),
    ] {
        if let Some(value) = call.headers.get(theirs) {
            headers.insert(ours, value.clone());
        }
    }
    call.as_read(&source.bucket, &source.key, read, headers)
}

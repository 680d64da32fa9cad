//! Sealed entries of the state bucket, in which jobs keep what they and the proxies have to know.
//!
//! An entry is `length of the envelope u32 ‖ envelope ‖ body`: a DEK of its own, wrapped for [`Purpose::Job`] and bound to bucket and
//! name, so that an entry moved to another name, or made by another writer domain, does not open.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use crate::custody::caller::Caller;
use crate::custody::reason::Reason;
use crate::format::body::SingleSealer;
use crate::format::ciphertext::CipherBytes;
use crate::format::envelope::{self, Binding, Layout, Malformed, Unverified, Wrapping};
use crate::format::keys::Dek;
use crate::format::metadata::Metadata;
use crate::names::{LogicalBucket, Principal, Purpose};
use crate::s3::operation::{BucketOperation, Operation};

use super::access::Authenticated;
use super::decrypting::open_in_memory;
use super::error::Error;
use super::put::branch_of;
use super::{Call, Objects};
use crate::format::body::SingleOpener;

/// Most bytes that sealing adds: the length, the envelope, nonces and tags of segments, and the footer.
const OVERHEAD: usize = 64 << 10;

fn binding<'a>(bucket: &'a LogicalBucket, name: &'a str) -> Binding<'a> {
    Binding { purpose: Purpose::Job, bucket, key: name, upload_id: "" }
}

/// The program's own call about a bucket.
fn own_call(bucket: &LogicalBucket) -> Call {
    let principal = Principal::new("claviger").expect("a legal principal");
    let who = Authenticated::program(Caller { principal, reason: Reason::Maintenance });
    let operation = Operation::Bucket(bucket.clone(), BucketOperation::HeadBucket);
    Call::new(who, operation, HeaderMap::new())
}

impl Objects {
    /// Writes an entry, over what is there. `bytes` are not empty.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn seal_entry(&self, bucket: &LogicalBucket, name: &str, bytes: Bytes) -> Result<(), Error> {
        let rule = self.bucket_named(bucket)?;
        let (call, length) = (own_call(bucket), bytes.len() as u64);
        let key = self.keys.for_writing(&rule.keys.kek, Purpose::Job, bucket, call.who.caller(), length).await?;
        let dek = Arc::new(Dek::random()?);
        let wrapping = Wrapping { branch_key: key.secret()?, customer_key: None };
        let branch = branch_of(&key, key.kek());
        let text = envelope::wrap(&dek, Layout::Single, &Metadata::default(), branch, wrapping, binding(bucket, name))?;
        let mut sealer = SingleSealer::new(dek, length);
        let (mut plaintext, mut pieces) = (bytes, Vec::new());
        while !plaintext.is_empty() {
            pieces.extend(sealer.push(&mut plaintext)?);
        }
        pieces.extend(sealer.finish(None)?);
        let body = CipherBytes::concat(&pieces);
        let count = u32::try_from(text.len()).map_err(|_| Malformed)?;
        let entry = [count.to_be_bytes().as_slice(), text.as_bytes(), body.as_bytes()].concat();
        Ok(self.state.put(name, &entry).await?)
    }

    /// The bytes of an entry, at most `limit`; `None` when there is none of this name.
    ///
    /// # Errors
    /// [`Error`], also when there is something else than what was sealed under this name.
    pub async fn open_entry(&self, bucket: &LogicalBucket, name: &str, limit: usize) -> Result<Option<Bytes>, Error> {
        let rule = self.bucket_named(bucket)?;
        let most = limit + limit / 1000 + OVERHEAD;
        let Some(entry) = self.state.read(name, most).await? else { return Ok(None) };
        let (text, body) = split(&entry).ok_or(Malformed)?;
        let unverified = Unverified::parse(text)?;
        let (opened, _lease) = self.unwrap(&own_call(bucket), rule, &unverified, binding(bucket, name), None).await?;
        if opened.layout != Layout::Single {
            return Err(Error::NotAuthentic);
        }
        let opener = SingleOpener::new(Arc::new(opened.dek), body.len() as u64).ok_or(Error::NotAuthentic)?;
        let (plaintext, _) = open_in_memory(opener, entry.slice_ref(body))?;
        if plaintext.len() > limit { Err(Error::NotAuthentic) } else { Ok(Some(plaintext.into())) }
    }

    /// Deletes an entry; one that is not there counts as deleted.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn remove_entry(&self, name: &str) -> Result<(), Error> {
        Ok(self.state.delete(&[name]).await?)
    }
}

fn split(entry: &[u8]) -> Option<(&str, &[u8])> {
    let (count, rest) = entry.split_first_chunk::<4>()?;
    let (text, body) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*count)).ok()?)?;
    Some((std::str::from_utf8(text).ok()?, body))
}

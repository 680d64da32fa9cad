//! A stored object whose envelope was opened: the step from the storage server's word to what the writer said.

use std::sync::Arc;

use http::HeaderMap;

use crate::custody::context::BranchContext;
use crate::custody::wrapped::WrappedKey;
use crate::format::envelope::{self, Binding, Layout, Malformed, Unverified, Wrapping};
use crate::format::keys::{Commitment, Dek};
use crate::format::metadata::Metadata;
use crate::names::{KekName, Purpose};
use crate::s3::customer_key::CustomerKey;

use super::bucket::Bucket;
use super::error::Error;
use super::lease::{Grounds, Lease};
use super::put::binding_of;
use super::{Call, Named, Objects};

/// A stored object's key and what the client once said of it, verified.
pub(super) struct Opened {
    pub(super) dek: Arc<Dek>,
    pub(super) layout: Layout,
    pub(super) metadata: Metadata,
    pub(super) commitment: Commitment,
    pub(super) kek: KekName,
    /// The right to decrypt, which streams renew.
    pub(super) lease: Lease,
}

impl Opened {
    /// Waits until what was decrypted may be given out: the branch key may have been revoked, or its lease have ended, while bytes
    /// of the object were waited for.
    pub(super) async fn may_be_given(&mut self) -> Result<(), Error> {
        Ok(self.lease.good().await?)
    }
}

/// The envelope in the headers of a storage server's answer.
pub(super) fn envelope_of(headers: &HeaderMap) -> Result<Unverified, Error> {
    let mut values = headers.get_all(envelope::HEADER).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(Error::NotEncrypted),
        (Some(value), None) => Ok(Unverified::parse(value.to_str().map_err(|_| Malformed)?)?),
        (Some(_), Some(_)) => Err(Malformed.into()),
    }
}

impl Objects {
    /// Opens the envelope in `headers` for the name under which it was asked for, with the customer key for what the
    /// request reads or writes.
    pub(super) async fn open(&self, call: &Call, object: Named<'_>, headers: &HeaderMap) -> Result<Opened, Error> {
        self.open_with(call, object, headers, call.customer_keys.target.as_ref()).await
    }

    /// The same with `customer_key`. The KEK's name and the writer are checked against the bucket's lists, and whether
    /// there has to be a customer key, before anybody is asked for a key.
    pub(super) async fn open_with(
        &self,
        call: &Call,
        object: Named<'_>,
        headers: &HeaderMap,
        customer_key: Option<&CustomerKey>,
    ) -> Result<Opened, Error> {
        let unverified = envelope_of(headers)?;
        let (opened, lease) = self.unwrap(call, object.bucket, &unverified, binding_of(object), customer_key).await?;
        let (layout, metadata) = (opened.layout, opened.metadata);
        let (commitment, kek) = (*unverified.commitment(), unverified.branch().kek.clone());
        Ok(Opened { dek: Arc::new(opened.dek), layout, metadata, commitment, kek, lease })
    }

    /// Unwraps the DEK of an object, or of an upload's or job's record. Whose it may be: of objects, any writer's that the
    /// bucket accepts; of records, our own domain's, so that nobody who may merely generate keys elsewhere makes an upload that
    /// this proxy then encrypts under.
    pub(super) async fn unwrap(
        &self,
        call: &Call,
        bucket: Bucket<'_>,
        unverified: &Unverified,
        binding: Binding<'_>,
        customer_key: Option<&CustomerKey>,
    ) -> Result<(envelope::Opened, Lease), Error> {
        match (unverified.needs_customer_key(), customer_key) {
            (true, None) => return Err(Error::MissingCustomerKey),
            (false, Some(_)) => return Err(Error::NeedlessCustomerKey),
            (true, Some(_)) | (false, None) => {}
        }
        let branch = unverified.branch();
        if !bucket.keys.opens(&branch.kek) {
            return Err(Error::ForeignKek(branch.kek.clone()));
        }
        let accepted = match binding.purpose {
            Purpose::Object => bucket.keys.accept_writers.contains(&branch.writer),
            Purpose::Upload | Purpose::Job => branch.writer == *self.keys.writer(),
        };
        if !accepted {
            return Err(Error::ForeignWriter(branch.writer.clone()));
        }
        let (purpose, writer) = (binding.purpose, branch.writer.clone());
        let context = BranchContext { purpose, bucket: bucket.name.clone(), writer, id: branch.id };
        let copy = WrappedKey::new(branch.version, branch.wrapped.clone()).map_err(|_| Malformed)?;
        let grounds = Grounds { kek: branch.kek.clone(), context, copy, caller: call.who.caller().clone() };
        let lease = Lease::new(&self.keys, grounds).await?;
        let wrapping =
            Wrapping { branch_key: lease.key().secret()?, customer_key: customer_key.map(CustomerKey::secret) };
        let opened = unverified.open(wrapping, binding)?;
        Ok((opened, lease))
    }
}

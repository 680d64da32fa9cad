//! The storage servers behind one proxy: which bucket lies on which, and what concerns more than one of them.
//!
//! **Invariant:** a bucket lies on one storage server. Its objects, its uploads and its branch keys go there and nowhere else, and what
//! another server has under the same name is never asked for.
//!
//! **Invariant:** credentials of a client's own are for the default storage server; no other gets a request of that client.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, try_join_all};
use http::{HeaderMap, StatusCode};

use crate::custody::context::BranchContext;
use crate::custody::directory::{Directory, DirectoryError};
use crate::custody::wrapped::WrappedKey;
use crate::names::{KekName, LogicalBucket};
use crate::s3::operation::{Access, ListBuckets, Operation};
use crate::s3::target::ObjectKey;

use super::answer::Answer;
use super::error::Error;
use super::plaintext::Upload;
use super::state::StateBucket;
use super::{Call, Objects};

/// On which storage server, by name, each bucket lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    main: String,
    /// Of the buckets that lie elsewhere.
    further: BTreeMap<LogicalBucket, String>,
}

impl Placement {
    /// All on the server `main`, but those in `further`.
    pub fn new(main: String, further: impl IntoIterator<Item = (LogicalBucket, String)>) -> Self {
        Self { main, further: further.into_iter().collect() }
    }

    /// The name of the default storage server.
    pub fn main(&self) -> &str {
        &self.main
    }

    /// The name of the storage server that the bucket lies on.
    pub fn site_of(&self, bucket: &LogicalBucket) -> &str {
        self.further.get(bucket).unwrap_or(&self.main)
    }
}

/// The branch-key directories of several storage servers as one: each branch key is in that of its bucket's.
pub struct Directories {
    placement: Placement,
    states: BTreeMap<String, StateBucket>,
}

/// A bucket's storage server is not among those that there are.
#[derive(Debug, thiserror::Error)]
#[error("there is no state bucket at the site {0}")]
struct NoState(String);

impl Directories {
    /// Of the state buckets of all sites, by their names.
    pub fn new(placement: Placement, states: impl IntoIterator<Item = (String, StateBucket)>) -> Self {
        Self { placement, states: states.into_iter().collect() }
    }

    fn of(&self, context: &BranchContext) -> Result<&StateBucket, DirectoryError> {
        let site = self.placement.site_of(&context.bucket);
        self.states.get(site).ok_or_else(|| DirectoryError::new(NoState(site.to_owned())))
    }
}

impl Directory for Directories {
    fn publish<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        wrapped: &'a WrappedKey,
    ) -> BoxFuture<'a, Result<(), DirectoryError>> {
        async move { self.of(context)?.publish(kek, context, wrapped).await }.boxed()
    }

    fn newest<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
    ) -> BoxFuture<'a, Result<Option<WrappedKey>, DirectoryError>> {
        async move { self.of(context)?.newest(kek, context).await }.boxed()
    }
}

/// A storage server beside the default one, and what its buckets are.
struct Site {
    name: String,
    objects: Arc<Objects>,
}

/// Carries out operations on the objects of several storage servers.
pub struct Sites {
    main: Arc<Objects>,
    further: Vec<Site>,
}

impl From<Objects> for Sites {
    /// One storage server.
    fn from(main: Objects) -> Self {
        Self::new(main, [])
    }
}

impl Sites {
    /// The default storage server, and further ones by name. No bucket is known to two of them.
    pub fn new(main: Objects, further: impl IntoIterator<Item = (String, Objects)>) -> Self {
        let further = further.into_iter().map(|(name, objects)| Site { name, objects: Arc::new(objects) }).collect();
        Self { main: Arc::new(main), further }
    }

    /// The same, in the place of `former`: what that saw at a storage server of the same name is not forgotten.
    ///
    /// # Panics
    /// If it serves already.
    #[must_use]
    pub fn in_place_of(self, former: &Self) -> Self {
        let in_place = |objects: Arc<Objects>, former: &Objects| {
            let objects = Arc::into_inner(objects).expect("nobody else has it before it serves");
            Arc::new(objects.in_place_of(former))
        };
        let main = in_place(self.main, &former.main);
        let further = self.further.into_iter().map(|Site { name, objects }| {
            let objects = match former.further.iter().find(|site| site.name == name) {
                Some(former) => in_place(objects, &former.objects),
                None => objects,
            };
            Site { name, objects }
        });
        let further = further.collect();
        Self { main, further }
    }

    /// The one that the bucket lies on; the default one also where there is no such bucket.
    pub fn of(&self, bucket: &LogicalBucket) -> &Arc<Objects> {
        self.site_of(bucket).map_or(&self.main, |site| &site.objects)
    }

    /// All, the default one first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Objects>> {
        std::iter::once(&self.main).chain(self.further.iter().map(|site| &site.objects))
    }

    fn site_of(&self, bucket: &LogicalBucket) -> Option<&Site> {
        self.further.iter().find(|site| site.objects.buckets.find(bucket).is_some())
    }

    /// The one that the bucket lies on, for what `call` wants of it.
    fn for_call(&self, call: &Call, bucket: &LogicalBucket) -> Result<&Objects, Error> {
        match self.site_of(bucket) {
            None => Ok(&self.main),
            Some(site) if !call.who.has_own_credentials() => Ok(&site.objects),
            Some(site) => {
                let (site, access_key) = (&site.name, call.who.access_key());
                tracing::warn!(%bucket, site, access_key, "the client's own credentials are not for this bucket's storage server: refused");
                Err(Error::Denied)
            }
        }
    }

    /// Carries out `call`. `upload` is the request's body; operations without one leave it unread.
    ///
    /// # Errors
    /// [`Error`]: nothing was committed, unless it says that the storage server's answer got lost.
    pub async fn perform(&self, call: &Call, upload: Upload) -> Result<Answer, Error> {
        let bucket = match &call.operation {
            Operation::ListBuckets(list) => return self.list_buckets(call, list).await,
            Operation::Bucket(bucket, _) | Operation::Object(bucket, ..) => bucket,
        };
        let at = self.for_call(call, bucket)?;
        let sources = call.operation.source().map_or(Ok(at), |source| self.for_call(call, &source.bucket))?;
        at.perform(call, upload, sources).await
    }

    /// Asks the storage server what the CORS configuration of `bucket` says to the request in `headers`.
    ///
    /// # Errors
    /// As for the one storage server.
    pub async fn preflight(
        &self,
        bucket: &LogicalBucket,
        key: Option<&ObjectKey>,
        headers: &HeaderMap,
    ) -> Result<Answer, Error> {
        self.of(bucket).preflight(bucket, key, headers).await
    }

    /// The buckets of all storage servers. Where one of them does not tell, there is no list: a shorter one would say that its buckets
    /// are gone. One with no bucket that the client may see is not asked.
    async fn list_buckets(&self, call: &Call, asked: &ListBuckets) -> Result<Answer, Error> {
        self.main.permit(call)?;
        let visible = |site: &&Site| {
            let mut named = site.objects.buckets.named();
            !call.who.has_own_credentials() && named.any(|bucket| call.who.may(Access::List, Some(bucket)))
        };
        let further = self.further.iter().filter(visible).map(|site| async move {
            let list = site.objects.buckets_of(call).await;
            list.inspect_err(|error| {
                let error: &(dyn std::error::Error + 'static) = error;
                tracing::warn!(
                    site = site.name,
                    error,
                    "a storage server does not list its buckets, so that there is no list"
                );
            })
        });
        let (main, further) = tokio::try_join!(self.main.buckets_of(call), try_join_all(further))?;
        let (headers, mut list) = main;
        list.buckets.extend(further.into_iter().flat_map(|(_, list)| list.buckets));
        list.buckets.sort_by(|one, other| one.name.cmp(&other.name));
        let list = list.page(asked.prefix.as_deref(), asked.continuation_token.as_deref(), asked.max_buckets);
        Ok(Answer::xml(StatusCode::OK, headers, list.to_xml(asked.prefix.as_deref())))
    }
}

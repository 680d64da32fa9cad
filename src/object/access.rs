//! Who may do what: the clients of the proxy and the proof that a request comes from one.
//!
//! **Invariant:** an [`Authenticated`] is made only from a signature that verified under that client's own
//! secret, and every operation on objects asks for one.

use std::sync::Arc;

use crate::custody::caller::Caller;
use crate::custody::reason::Reason;
use crate::names::{LogicalBucket, Principal};
use crate::s3::operation::Access;
use crate::s3::sigv4::{Credentials, VerifiedSignature};
use crate::secret::SecretBytes;

/// Which buckets a grant speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketPattern {
    /// Every bucket.
    All,
    /// This one.
    Exactly(LogicalBucket),
    /// Those whose name begins so.
    Prefix(String),
}

impl BucketPattern {
    fn matches(&self, bucket: &LogicalBucket) -> bool {
        match self {
            Self::All => true,
            Self::Exactly(name) => name == bucket,
            Self::Prefix(prefix) => bucket.as_str().starts_with(prefix),
        }
    }
}

/// Permission for some kinds of access to some buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The buckets.
    pub buckets: Vec<BucketPattern>,
    /// The kinds of access.
    pub access: Vec<Access>,
}

/// A client: an access key with what it may do. Nothing is allowed that no grant names.
#[derive(Debug)]
pub struct Client {
    /// The access key id that it signs with.
    pub access_key: String,
    /// The secret that goes with it.
    pub secret: SecretBytes,
    /// Its name towards the custodian and in logs.
    pub principal: Principal,
    /// The reason for its key uses when a request names none.
    pub reason: Reason,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// Its own credentials on the storage server, in place of the proxy's.
    pub storage_credentials: Option<Credentials>,
}

impl Client {
    /// Whether it may have `access` to `bucket` (`None`: to the list of buckets, for which any `List` grant does).
    fn may(&self, access: Access, bucket: Option<&LogicalBucket>) -> bool {
        self.grants.iter().any(|grant| {
            let there = bucket.is_none_or(|bucket| grant.buckets.iter().any(|pattern| pattern.matches(bucket)));
            there && grant.access.contains(&access)
        })
    }
}

/// The signature is not this client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the verified signature belongs to another access key")]
pub struct OtherClient;

/// A request's client, proven by its signature.
#[derive(Debug, Clone)]
pub struct Authenticated {
    client: Arc<Client>,
    caller: Caller,
}

impl Authenticated {
    /// From the proof that the request is signed with the client's secret, and the reason that the request gives.
    ///
    /// # Errors
    /// [`OtherClient`].
    pub fn new(client: Arc<Client>, proof: &VerifiedSignature, reason: Option<Reason>) -> Result<Self, OtherClient> {
        if proof.access_key() != client.access_key {
            return Err(OtherClient);
        }
        let caller = Caller { principal: client.principal.clone(), reason: reason.unwrap_or(client.reason) };
        Ok(Self { client, caller })
    }

    /// Whether it may have `access` to `bucket`; `None` stands for the service itself.
    pub fn may(&self, access: Access, bucket: Option<&LogicalBucket>) -> bool {
        self.client.may(access, bucket)
    }

    /// The access key id that it signed with.
    pub fn access_key(&self) -> &str {
        &self.client.access_key
    }

    /// On whose behalf, and why, keys are used.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The client's own credentials on the storage server, if it has some.
    pub(super) fn storage_credentials(&self) -> Option<&Credentials> {
        self.client.storage_credentials.as_ref()
    }
}

//! Who may do what: the clients of the proxy and the proof that a request comes from one.
//!
//! **Invariant:** an [`Authenticated`] is made only from a signature that verified under that client's own
//! secret, or from the part of the configuration that admits requests without one ([`Anonymous`]), or for a job of ours; every operation on
//! objects asks for one.
//!
//! **Invariant:** what an anonymous request asks of the storage server goes there unsigned, so that nobody gets from
//! there by the proxy's own rights what that server does not give to everybody.

use std::sync::Arc;

use crate::custody::caller::Caller;
use crate::custody::reason::Reason;
use crate::names::{LogicalBucket, Principal};
use crate::s3::operation::Access;
use crate::s3::sigv4::{Credentials, SecretKey, VerifiedSignature};
use crate::storage::Signer;

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
    pub secret: SecretKey,
    /// Its name towards the custodian and in logs.
    pub principal: Principal,
    /// The reason for its key uses when a request names none.
    pub reason: Reason,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// Its own credentials on the storage server, in place of the proxy's.
    pub storage_credentials: Option<Credentials>,
}

/// What requests without a signature may do. Besides, the storage server has to allow it to everybody.
#[derive(Debug)]
pub struct Anonymous {
    /// The reason for their key uses.
    pub reason: Reason,
    /// What they may do.
    pub grants: Vec<Grant>,
}

/// The principal of requests without a signature, towards the custodian and in logs. No client is called so.
pub const ANONYMOUS: &str = "anonymous";

/// Whether `grants` cover `access` to `bucket` (`None`: to the list of buckets, for which any `List` grant does).
fn covers(grants: &[Grant], access: Access, bucket: Option<&LogicalBucket>) -> bool {
    grants.iter().any(|grant| {
        let there = bucket.is_none_or(|bucket| grant.buckets.iter().any(|pattern| pattern.matches(bucket)));
        there && grant.access.contains(&access)
    })
}

/// The signature is not this client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the verified signature belongs to another access key")]
pub struct OtherClient;

/// Whose request it is: a client's, proven by its signature, or nobody's, where the configuration admits that.
#[derive(Debug, Clone)]
pub struct Authenticated {
    party: Party,
    caller: Caller,
}

#[derive(Debug, Clone)]
enum Party {
    Client(Arc<Client>),
    Anonymous(Arc<Anonymous>),
    /// A job of ours, which its operator started.
    Program,
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
        Ok(Self { party: Party::Client(client), caller })
    }

    /// Of a request that nobody signed, which `anonymous` admits.
    pub fn anonymous(anonymous: Arc<Anonymous>) -> Self {
        let principal = Principal::new(ANONYMOUS).expect("a legal principal");
        let caller = Caller { principal, reason: anonymous.reason };
        Self { party: Party::Anonymous(anonymous), caller }
    }

    /// Of a job that the operator of this configuration runs. It may do everything here that the custodian lets it, and signs as the
    /// proxy towards the storage server. No request that comes from outside leads here.
    pub fn program(caller: Caller) -> Self {
        Self { party: Party::Program, caller }
    }

    /// Whether nobody signed the request.
    pub fn is_anonymous(&self) -> bool {
        matches!(self.party, Party::Anonymous(_))
    }

    /// Whether it may have `access` to `bucket`; `None` stands for the service itself.
    pub fn may(&self, access: Access, bucket: Option<&LogicalBucket>) -> bool {
        let grants = match &self.party {
            Party::Client(client) => &client.grants,
            Party::Anonymous(anonymous) => &anonymous.grants,
            Party::Program => return true,
        };
        covers(grants, access, bucket)
    }

    /// The access key id that it signed with; `-` when it is not signed.
    pub fn access_key(&self) -> &str {
        match &self.party {
            Party::Client(client) => &client.access_key,
            Party::Anonymous(_) | Party::Program => "-",
        }
    }

    /// Whether it is a client with credentials of its own on the storage server.
    pub fn has_own_credentials(&self) -> bool {
        matches!(&self.party, Party::Client(client) if client.storage_credentials.is_some())
    }

    /// On whose behalf, and why, keys are used.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// In whose name its requests go to the storage server. (Those about the state bucket are the proxy's own.)
    pub(super) fn signer(&self) -> Signer<'_> {
        match &self.party {
            Party::Client(client) => client.storage_credentials.as_ref().map_or(Signer::Proxy, Signer::Client),
            Party::Anonymous(_) => Signer::Nobody,
            Party::Program => Signer::Proxy,
        }
    }
}

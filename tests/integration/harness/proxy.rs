//! The proxy under test, in this process, on a port of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use claviger::custody::Custodian;
use claviger::custody::keys::BranchKeys;
use claviger::custody::lease::LeaseSettings;
use claviger::custody::reason::Reason;
use claviger::names::{LogicalBucket, Principal, WriterDomain};
use claviger::net::client::ClientSettings;
use claviger::net::listener::{DrainReport, ListenerLimits};
use claviger::net::tls::{IdentityFiles, server_config};
use claviger::object::Objects;
use claviger::object::access::{Anonymous, BucketPattern, Client, Grant};
use claviger::object::bucket::{BucketRule, Buckets, KeyRule, Unencrypted};
use claviger::object::state::StateBucket;
use claviger::proxy::access_log::AccessLog;
use claviger::proxy::{Front, FrontSettings};
use claviger::s3::operation::Access;
use claviger::s3::sigv4::{Credentials, VerifySettings};
use claviger::secret::SecretBytes;
use claviger::storage::{Endpoint, RetrySettings, Storage, StorageSettings};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::client::S3;
use super::custodian::{kek, shared};
use super::store::{ACCESS_KEY, SECRET, Store};
use super::{LONG, STATE};

/// The client that may do everything.
pub(crate) const ADMIN: &str = "AKADMIN";

pub(crate) const EVERYTHING: [Access; 6] =
    [Access::Read, Access::Write, Access::Delete, Access::List, Access::Bucket, Access::Configure];

/// The secret of a test's client.
pub(crate) fn secret_of(access_key: &str) -> String {
    format!("secret of {access_key}, long enough")
}

pub(crate) fn client(access_key: &str, grants: Vec<Grant>) -> Client {
    Client {
        access_key: access_key.to_owned(),
        secret: SecretBytes::new(secret_of(access_key).into()).expect("not empty"),
        principal: Principal::new(&access_key.to_ascii_lowercase()).expect("legal"),
        reason: Reason::CustomerInitiated,
        grants,
        storage_credentials: None,
    }
}

pub(crate) fn everything() -> Vec<Grant> {
    vec![Grant { buckets: vec![BucketPattern::All], access: EVERYTHING.to_vec() }]
}

pub(crate) fn key_rule(name: &str) -> KeyRule {
    let (kek, accept_writers) = (kek(name), vec![domain("us")]);
    KeyRule { kek, further_keks: Vec::new(), former_keks: Vec::new(), accept_writers, unencrypted: Unencrypted::Refuse }
}

pub(crate) fn domain(region: &str) -> WriterDomain {
    WriterDomain::new(&format!("proxy/{region}")).expect("legal")
}

pub(crate) fn bucket_rule(logical: &str, physical: &str, keys: KeyRule) -> BucketRule {
    BucketRule { name: LogicalBucket::new(logical).expect("legal"), physical: physical.to_owned(), keys }
}

/// How a proxy is set up.
pub(crate) struct Setup {
    pub(crate) rules: Vec<BucketRule>,
    pub(crate) others: Option<KeyRule>,
    pub(crate) clients: Vec<Client>,
    pub(crate) anonymous: Option<Anonymous>,
    pub(crate) custodian: Arc<dyn Custodian>,
    pub(crate) leases: LeaseSettings,
    pub(crate) region: &'static str,
    pub(crate) limits: ListenerLimits,
    pub(crate) body_timeout: Duration,
    pub(crate) max_requests: usize,
    pub(crate) access_log: Option<Arc<AccessLog>>,
    pub(crate) head_timeout: Duration,
    pub(crate) storage_body_timeout: Duration,
    /// Whether connections to the storage server are kept.
    pub(crate) pooled: bool,
    pub(crate) tls: bool,
    /// Whether the storage server is asked to copy, and how many bytes in one request.
    pub(crate) copies: (bool, u64),
    /// Another storage server than the one that the tests start.
    pub(crate) storage: Option<SocketAddr>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            others: Some(key_rule("demo")),
            clients: vec![client(ADMIN, everything())],
            anonymous: None,
            custodian: shared(),
            leases: LeaseSettings::default(),
            region: "us",
            limits: ListenerLimits { drain: Duration::from_secs(2), ..ListenerLimits::default() },
            body_timeout: LONG,
            max_requests: 1024,
            access_log: None,
            head_timeout: LONG,
            storage_body_timeout: LONG,
            pooled: true,
            tls: false,
            copies: (true, 5 << 30),
            storage: None,
        }
    }
}

/// A running proxy. It ends with the test's runtime, or by [`Proxy::stop`].
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) keys: BranchKeys,
    pub(crate) state: StateBucket,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<DrainReport>,
    certificates: Option<(TempDir, IdentityFiles)>,
}

impl Proxy {
    pub(crate) async fn start(store: &Store, setup: Setup) -> Self {
        let address = setup.storage.unwrap_or(store.address);
        let storage = storage(address, &setup);
        let state = StateBucket::new(storage.clone(), STATE.into());
        let keys = BranchKeys::new(setup.custodian, Arc::new(state.clone()), setup.leases, domain(setup.region));
        let buckets = Buckets::new(setup.rules, setup.others, STATE.into()).expect("consistent");
        let settings = FrontSettings {
            clients: setup.clients,
            anonymous: setup.anonymous,
            domains: vec!["s3.test".into()],
            verify: VerifySettings::default(),
            body_timeout: setup.body_timeout,
            max_requests: setup.max_requests,
            access_log: setup.access_log,
        };
        let objects = Objects::new(storage, keys.clone(), buckets, state.clone());
        let front = Front::new(objects, settings).expect("consistent");
        let certificates = setup.tls.then(self_signed);
        let tls = certificates.as_ref().map(|(_, identity)| server_config(identity, None).expect("good files"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            // A dropped sender is no wish to stop: the runtime ends it then.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let task = tokio::spawn(Arc::new(front).serve(listener, tls, setup.limits, shutdown));
        Self { address, keys, state, stop: Some(stop), task, certificates }
    }

    /// A client that may do everything.
    pub(crate) fn s3(&self) -> S3 {
        self.s3_as(ADMIN)
    }

    pub(crate) fn s3_as(&self, access_key: &str) -> S3 {
        S3::new(self.address, self.ca_file(), access_key, &secret_of(access_key))
    }

    pub(crate) fn ca_file(&self) -> Option<&Path> {
        self.certificates.as_ref().map(|(_, identity)| identity.certificates.as_path())
    }

    /// Begins the drain.
    pub(crate) fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).expect("the proxy runs");
        }
    }

    /// How the drain went.
    pub(crate) async fn stop(mut self) -> DrainReport {
        self.begin_stop();
        self.task.await.expect("no panic")
    }
}

/// What a job on a machine of its own works with.
pub(crate) fn workbench(store: &Store, setup: Setup) -> Arc<Objects> {
    let storage = storage(setup.storage.unwrap_or(store.address), &setup);
    let state = StateBucket::new(storage.clone(), STATE.into());
    let keys = BranchKeys::new(setup.custodian, Arc::new(state.clone()), setup.leases, domain(setup.region));
    let buckets = Buckets::new(setup.rules, setup.others, STATE.into()).expect("consistent");
    Arc::new(Objects::new(storage, keys, buckets, state))
}

fn storage(address: SocketAddr, setup: &Setup) -> Storage {
    let endpoint = Endpoint::parse(&format!("http://{address}"), false).expect("loopback");
    let client = ClientSettings {
        body_timeout: setup.storage_body_timeout,
        pool_max_idle_per_host: if setup.pooled { 8 } else { 0 },
        ..ClientSettings::default()
    };
    let retry = RetrySettings { backoff_base: Duration::from_millis(1), ..RetrySettings::default() };
    let head_timeout = setup.head_timeout;
    let (server_side_copy, copy_limit_bytes) = setup.copies;
    let settings = StorageSettings {
        client,
        retry,
        head_timeout,
        server_side_copy,
        copy_limit_bytes,
        ..StorageSettings::new(endpoint, "us-east-1")
    };
    let secret = SecretBytes::new(SECRET.into()).expect("not empty");
    let credentials = Credentials { access_key: ACCESS_KEY.into(), secret, session_token: None };
    Storage::new(settings, credentials).expect("usable")
}

/// A certificate for this machine, which clients take for its own CA.
fn self_signed() -> (TempDir, IdentityFiles) {
    let folder = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into(), "localhost".into()]).expect("makes");
    let identity =
        IdentityFiles { certificates: folder.path().join("proxy.pem"), key: folder.path().join("proxy.key") };
    std::fs::write(&identity.certificates, made.cert.pem()).expect("writes");
    std::fs::write(&identity.key, made.signing_key.serialize_pem()).expect("writes");
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&identity.key, std::fs::Permissions::from_mode(0o600)).expect("own file");
    (folder, identity)
}

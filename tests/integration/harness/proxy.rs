//! The proxy under test, in this process, on a port of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use claviger::custody::Custodian;
use claviger::custody::keys::{BranchKeys, KeyMetrics};
use claviger::custody::lease::LeaseSettings;
use claviger::custody::reason::Reason;
use claviger::names::{LogicalBucket, Principal, WriterDomain};
use claviger::net::client::ClientSettings;
use claviger::net::listener::{DrainReport, Former, ListenerLimits, Tls};
use claviger::net::tls::{IdentityFiles, server_config};
use claviger::object::Objects;
use claviger::object::access::{Anonymous, BucketPattern, Client, Grant};
use claviger::object::bucket::{BucketRule, Buckets, KeyRule, Unencrypted};
use claviger::object::sites::{Directories, Placement, Sites};
use claviger::object::state::StateBucket;
use claviger::proxy::access_log::AccessLog;
use claviger::proxy::{Front, FrontMetrics, FrontSettings};
use claviger::s3::operation::Access;
use claviger::s3::sigv4::{Credentials, VerifySettings};
use claviger::secret::SecretBytes;
use claviger::storage::{Endpoint, RetrySettings, Storage, StorageMetrics, StorageSettings};
use claviger::telemetry::traces::Tracer;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
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
        secret: SecretBytes::new(secret_of(access_key).into()).expect("not empty").into(),
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

/// Where a proxy counts.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    pub(crate) front: FrontMetrics,
    pub(crate) storage: StorageMetrics,
    pub(crate) keys: KeyMetrics,
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
    pub(crate) metrics: Metrics,
    pub(crate) tracer: Tracer,
    pub(crate) head_timeout: Duration,
    pub(crate) storage_body_timeout: Duration,
    /// Whether connections to the storage server are kept.
    pub(crate) pooled: bool,
    /// How often the storage server is asked before a request failed.
    pub(crate) attempts: u32,
    pub(crate) tls: bool,
    /// Whether the storage server is asked to copy, and how many bytes in one request.
    pub(crate) copies: (bool, u64),
    /// Another storage server than the one that the tests start.
    pub(crate) storage: Option<SocketAddr>,
    /// Further storage servers: their names, where they are, and the buckets there.
    pub(crate) sites: Vec<(&'static str, SocketAddr, Vec<BucketRule>)>,
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
            metrics: Metrics::default(),
            tracer: Tracer::default(),
            head_timeout: LONG,
            storage_body_timeout: LONG,
            pooled: true,
            attempts: RetrySettings::default().max_attempts,
            tls: false,
            copies: (true, 5 << 30),
            storage: None,
            sites: Vec::new(),
        }
    }
}

/// A running proxy. It ends with the test's runtime, or by [`Proxy::stop`].
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) keys: BranchKeys,
    pub(crate) state: StateBucket,
    fronts: watch::Sender<Arc<Front>>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<DrainReport>,
    certificates: Option<(TempDir, IdentityFiles)>,
}

impl Proxy {
    pub(crate) async fn start(store: &Store, setup: Setup) -> Self {
        let certificates = setup.tls.then(self_signed);
        let limits = setup.limits.clone();
        let (front, keys, state) = front(store, setup);
        let config = certificates.as_ref().map(|(_, identity)| server_config(identity, None).expect("good files"));
        let tls = config.map(|config| Tls { config: watch::channel(config).1, former: Former::Stay });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            // A dropped sender is no wish to stop: the runtime ends it then.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let (fronts, served) = watch::channel(Arc::new(front));
        let task = tokio::spawn(Front::serve(served, listener, tls, limits, shutdown));
        Self { address, keys, state, fronts, stop: Some(stop), task, certificates }
    }

    /// Has it go by another setup from now on, as when its configuration was changed.
    pub(crate) fn take_over(&self, store: &Store, setup: Setup) {
        let (front, ..) = front(store, setup);
        self.fronts.send_modify(|former| *former = Arc::new(front.in_place_of(former)));
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

/// The listener side over the storage server.
fn front(store: &Store, setup: Setup) -> (Front, BranchKeys, StateBucket) {
    let address = setup.storage.unwrap_or(store.address);
    let storage = storage(address, &setup);
    let state = StateBucket::new(storage.clone(), STATE.into());
    let rules = setup.sites.iter().flat_map(|(name, _, rules)| rules.iter().map(move |rule| (name, rule)));
    let elsewhere: Vec<_> = rules.map(|(name, rule)| (rule.name.clone(), (*name).to_owned())).collect();
    let further: Vec<_> = setup.sites.iter().map(|(name, at, _)| (*name, self::storage(*at, &setup))).collect();
    let states = further.iter().map(|(name, of)| (*name, StateBucket::new(of.clone(), STATE.into())));
    let states: Vec<_> = states.collect();
    let all = states.iter().cloned().chain([("main", state.clone())]).map(|(name, state)| (name.to_owned(), state));
    let placement = Placement::new("main".into(), elsewhere.clone());
    let directory = Arc::new(Directories::new(placement, all));
    let counted = setup.metrics.keys;
    let keys = BranchKeys::metered(setup.custodian, directory, setup.leases, domain(setup.region), counted);
    let buckets = Buckets::new(setup.rules, setup.others, STATE.into()).expect("consistent");
    let buckets = buckets.without(elsewhere.into_iter().map(|(bucket, _)| bucket));
    let settings = FrontSettings {
        clients: setup.clients,
        anonymous: setup.anonymous,
        domains: vec!["s3.test".into()],
        verify: VerifySettings::default(),
        body_timeout: setup.body_timeout,
        max_requests: setup.max_requests,
        access_log: setup.access_log,
        company: None,
        metrics: setup.metrics.front,
        tracer: setup.tracer,
    };
    let objects = Objects::new(storage, keys.clone(), buckets, state.clone());
    let further =
        further.into_iter().zip(states).zip(setup.sites).map(|(((name, storage), (_, state)), (.., rules))| {
            let buckets = Buckets::new(rules, None, STATE.into()).expect("consistent");
            (name.to_owned(), Objects::new(storage, keys.clone(), buckets, state))
        });
    (Front::new(Sites::new(objects, further), settings).expect("consistent"), keys, state)
}

/// What a job on a machine of its own works with.
pub(crate) fn workbench(store: &Store, setup: Setup) -> Arc<Objects> {
    let storage = storage(setup.storage.unwrap_or(store.address), &setup);
    let state = StateBucket::new(storage.clone(), STATE.into());
    let keys = BranchKeys::new(setup.custodian, Arc::new(state.clone()), setup.leases, domain(setup.region));
    let buckets = Buckets::new(setup.rules, setup.others, STATE.into()).expect("consistent");
    Arc::new(Objects::new(storage, keys, buckets, state))
}

/// The state bucket as a job on a machine of its own sees it.
pub(crate) fn state_bucket(store: &Store, attempts: u32) -> StateBucket {
    let setup = Setup { attempts, ..Setup::default() };
    StateBucket::new(storage(store.address, &setup), STATE.into())
}

fn storage(address: SocketAddr, setup: &Setup) -> Storage {
    let endpoint = Endpoint::parse(&format!("http://{address}"), false).expect("loopback");
    let client = ClientSettings {
        body_timeout: setup.storage_body_timeout,
        pool_max_idle_per_host: if setup.pooled { 8 } else { 0 },
        ..ClientSettings::default()
    };
    let backoff_base = Duration::from_millis(1);
    let retry = RetrySettings { max_attempts: setup.attempts, backoff_base, ..RetrySettings::default() };
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
    let credentials = Credentials { access_key: ACCESS_KEY.into(), secret: secret.into(), session_token: None };
    Storage::metered(settings, credentials, setup.metrics.storage.clone()).expect("usable")
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

//! A proxy as the program puts it together, but without TLS towards clients and storage server: listener, front, objects, leased keys
//! under the custodian's watch, and the clients of both servers.

use std::sync::Arc;
use std::time::Duration;

use claviger::custody::keys::BranchKeys;
use claviger::custody::lease::LeaseSettings;
use claviger::custody::reason::Reason;
use claviger::custody::watch::Watch;
use claviger::names::{KekName, Principal, WriterDomain};
use claviger::net::client::ClientSettings;
use claviger::net::listener::ListenerLimits;
use claviger::net::network::ClientNetwork;
use claviger::net::tls::ClientTls;
use claviger::object::Objects;
use claviger::object::access::{BucketPattern, Client, Grant};
use claviger::object::bucket::{Buckets, KeyRule, Unencrypted};
use claviger::object::state::StateBucket;
use claviger::proxy::{Front, FrontMetrics, FrontSettings};
use claviger::s3::operation::Access;
use claviger::s3::sigv4::{Credentials, VerifySettings};
use claviger::secret::SecretBytes;
use claviger::storage::{Endpoint, Storage, StorageSettings};
use claviger::telemetry::traces::Tracer;
use claviger::transit::Transit;
use claviger::transit::settings::{Address, TransitSettings};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::STATE;
use crate::network::HostNet;
use crate::storage::{ACCESS_KEY, SECRET};

/// How long leased keys work on after the custodian was last heard.
pub(crate) const WATCH_GRACE: Duration = Duration::from_secs(3);
/// All clients, and who looks at everything in the end.
pub(crate) const CLIENTS: [&str; 4] = ["alice", "bob", "carol", "auditor"];

pub(crate) fn secret_of(principal: &str) -> SecretBytes {
    SecretBytes::new(format!("the secret of {principal}, long enough").into()).expect("not empty")
}

/// What does not differ between proxies.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) tls: ClientTls,
    /// Whether the custodian's watch is held open, as it has to be.
    pub(crate) watched: bool,
}

/// Runs a proxy until its host crashes.
pub(crate) async fn serve(net: HostNet, setup: Setup) {
    let network = ClientNetwork::given(Arc::new(net.clone()));
    let endpoint = Endpoint::parse("http://storage:9000", true).expect("legal");
    let client = ClientSettings { network: network.clone(), ..ClientSettings::default() };
    let head_timeout = Duration::from_secs(10);
    let settings = StorageSettings { client, head_timeout, ..StorageSettings::new(endpoint, "us-east-1") };
    let secret = SecretBytes::new(SECRET.into()).expect("not empty");
    let credentials = Credentials { access_key: ACCESS_KEY.into(), secret: secret.into(), session_token: None };
    let storage = Storage::new(settings, credentials).expect("usable");
    let state = StateBucket::new(storage.clone(), STATE.into());

    let address = |name: &str| Address::parse(&format!("https://{name}:8200")).expect("legal");
    let addresses = ["custodian-1", "custodian-2"].map(address).to_vec();
    let settings = TransitSettings { network, ..TransitSettings::new(addresses, setup.tls) };
    let transit = Arc::new(Transit::new(&settings).expect("usable"));
    let writer = WriterDomain::new("proxy/us").expect("legal");
    let leases = LeaseSettings { read_lease_s: 60, write_renew_s: 90, ..LeaseSettings::default() };
    let keys = BranchKeys::new(Arc::clone(&transit) as _, Arc::new(state.clone()), leases, writer);
    // A process that cannot open it ends, and is started again.
    let mut watching = None;
    while setup.watched && watching.is_none() {
        watching = transit.watch(Watch::new(keys.clone(), WATCH_GRACE)).await.ok();
        sleep(Duration::from_millis(500)).await;
    }
    let buckets = Buckets::new(Vec::new(), Some(key_rule()), STATE.into()).expect("consistent");
    let front = front(Objects::new(storage, keys, buckets, state));
    let (_sender, fronts) = watch::channel(Arc::new(front));
    Front::serve(fronts, net.listen(), None, ListenerLimits::default(), std::future::pending()).await;
    drop((watching, transit));
}

fn key_rule() -> KeyRule {
    KeyRule {
        kek: KekName::new("records").expect("legal"),
        further_keks: Vec::new(),
        former_keks: Vec::new(),
        accept_writers: vec![WriterDomain::new("proxy/us").expect("legal")],
        unencrypted: Unencrypted::Refuse,
    }
}

fn front(objects: Objects) -> Front {
    let access = vec![Access::Read, Access::Write, Access::Delete, Access::List];
    let client = |name: &&str| Client {
        access_key: name.to_ascii_uppercase(),
        secret: secret_of(name).into(),
        principal: Principal::new(name).expect("legal"),
        reason: Reason::CustomerInitiated,
        grants: vec![Grant { buckets: vec![BucketPattern::All], access: access.clone() }],
        storage_credentials: None,
    };
    let settings = FrontSettings {
        clients: CLIENTS.iter().map(client).collect(),
        anonymous: None,
        domains: Vec::new(),
        verify: VerifySettings::default(),
        body_timeout: Duration::from_secs(10),
        max_requests: 64,
        access_log: None,
        company: None,
        metrics: FrontMetrics::default(),
        tracer: Tracer::default(),
    };
    Front::new(objects, settings).expect("consistent")
}

//! Custodians as servers over mutual TLS, as jobs and proxies in processes of their own reach them, and the officers who ask and approve.

mod people;
mod place;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use claviger::custodian::audit::AuditSettings;
use claviger::custodian::engine::EngineSettings;
use claviger::custodian::seal::RootKey;
use claviger::custodian::seal::config::SealList;
use claviger::custodian::seal::make::NewSeal;
use claviger::custodian::server::{Opening, Server, ServerSettings};
use claviger::custodian::store::{SealedStore, SqlStore, Store as _, StoreSettings, create_sqlite, open_sqlite};
use claviger::maintenance::keys::KeyMover;
use claviger::net::listener::{DrainReport, ListenerLimits};
use claviger::net::tls::mutual_server_config;
use claviger::object::sites::Placement;
use claviger::telemetry::traces::Tracer;
use claviger::tlog::storage::Disk;
use claviger::transit::Transit;
use claviger::transit::settings::{Address, TransitSettings};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use people::Person;
pub(crate) use people::Told;
use place::Place;

use super::custodian::{id, officer};
use super::proxy::state_bucket;
use super::{LONG, Store};

const POLICY: &str = r#"@id("us")
permit (principal, action, resource) when { principal.region == "us" };
"#;
/// How soon a custodian sees what another one did to their store.
const SOON: Duration = Duration::from_millis(50);
/// Not within any test, and it goes on all the same.
const NEVER: Duration = Duration::from_secs(3600);

/// A running server.
struct Running {
    store: Arc<SqlStore>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<DrainReport>,
    _tls: watch::Sender<Arc<rustls::ServerConfig>>,
}

/// A custodian, with three officers.
pub(crate) struct Office {
    place: Arc<Place>,
    name: &'static str,
    sees: Duration,
    port: u16,
    officers: [Person; 3],
    running: Option<Running>,
    tracer: Tracer,
}

impl Office {
    /// A custodian with a store of its own, unsealed, with the given KEKs. It retires without waiting.
    pub(crate) async fn open(keks: &[&str]) -> Self {
        Self::traced(keks, Tracer::default()).await
    }

    /// The same, whose requests are traced.
    pub(crate) async fn traced(keks: &[&str], tracer: Tracer) -> Self {
        let root = RootKey::random().expect("random");
        let (seals, shares) =
            SealList::make(&root, &[NewSeal::Shares { threshold: 2, count: 3 }]).await.expect("makes");
        let place = Place::new(tempfile::tempdir().expect("a folder"), shares);
        let store = create_sqlite(&place.store_file(), patient()).await.expect("makes");
        SealedStore::create(Arc::new(store), &root, &seals).await.expect("makes");
        let office = Self::over(Arc::new(place), "custodian-1", SOON, tracer).await;
        for kek in keks {
            let made = office.ask("POST", &format!("transit/keys/{kek}"), &json!({ "derived": true })).await;
            assert_eq!(made.status, 200, "{made:?}");
        }
        office
    }

    /// One more custodian over the same store.
    pub(crate) async fn another(&self) -> Self {
        Self::over(Arc::clone(&self.place), "custodian-2", SOON, Tracer::default()).await
    }

    /// One more, which will not see what others do from now on.
    pub(crate) async fn another_that_lags(&self) -> Self {
        Self::over(Arc::clone(&self.place), "custodian-2", NEVER, Tracer::default()).await
    }

    async fn over(place: Arc<Place>, name: &'static str, sees: Duration, tracer: Tracer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let officers = ["rita", "alice", "bob"].map(|who| Person::new(&place, port, &format!("officer/{who}")));
        let mut office = Self { place, name, sees, port, officers, running: None, tracer };
        office.serve(listener).await;
        office
    }

    async fn serve(&mut self, listener: TcpListener) {
        let place = &self.place;
        let store = Arc::new(open_sqlite(&place.store_file(), patient()).await.expect("opens"));
        let server = Server::new(
            ServerSettings {
                instance: self.name.to_owned(),
                storage_type: "sqlite",
                max_requests: 64,
                max_watches: 8,
                witnesses: Vec::new(),
                tracer: self.tracer.clone(),
            },
            self.opening(&store),
        );
        let identity = place.issue(&format!("custodian/{}", self.name));
        let config = mutual_server_config(&identity, &place.ca_file(), None).expect("good files");
        let (tls_sender, tls) = watch::channel(config);
        let limits = ListenerLimits { drain: Duration::from_millis(200), ..ListenerLimits::default() };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(Arc::clone(&server).serve(listener, tls, limits, async move {
            // A test that ends drops the sender.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        }));
        self.running = Some(Running { store, stop, task, _tls: tls_sender });
        for share in &place.shares[..2] {
            let share = String::from_utf8(share.to_text().expose().to_vec()).expect("base64");
            let told = self.ask("PUT", "sys/unseal", &json!({ "key": share })).await;
            assert_eq!(told.status, 200, "{told:?}");
        }
        assert!(!server.is_sealed());
    }

    fn opening(&self, store: &Arc<SqlStore>) -> Opening {
        let store_grace = if self.sees == NEVER { NEVER } else { LONG };
        Opening {
            store: Arc::clone(store) as _,
            audit: AuditSettings {
                folder: self.place.folder.path().join(format!("audit-{}", self.name)),
                instance: self.name.to_owned(),
                origin: format!("localhost/{}", self.name),
                checkpoint_interval: Duration::from_millis(200),
            },
            audit_disk: Arc::new(Disk::assume_no_power_loss()),
            policy: POLICY.to_owned(),
            engine: EngineSettings {
                store_poll: self.sees,
                store_grace,
                retire_wait_s: 0,
                ..EngineSettings::new(id("us", &format!("custodian/{}", self.name)))
            },
        }
    }

    /// Ends it, as SIGTERM does.
    pub(crate) async fn stop(&mut self) {
        let Running { store, stop, task, .. } = self.running.take().expect("it runs");
        stop.send(()).expect("it runs");
        tokio::time::timeout(LONG, task).await.expect("ends").expect("does not panic");
        store.close().await;
    }

    /// Starts it again, at the same address.
    pub(crate) async fn start(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("its own port");
        self.serve(listener).await;
    }

    /// How a proxy or a job reaches it.
    pub(crate) fn transit(&self) -> Arc<Transit> {
        let address = Address::parse(&format!("https://localhost:{}", self.port)).expect("a URL");
        let tls = self.place.tls(&self.place.issue("proxy/test"));
        let settings = TransitSettings { deadline: LONG, ..TransitSettings::new(vec![address], tls) };
        Arc::new(Transit::new(&settings).expect("good settings"))
    }

    /// `claviger key rewrap` on a machine of its own, which asks the storage server `attempts` times.
    pub(crate) fn mover(&self, store: &Store, attempts: u32) -> Arc<KeyMover> {
        let state = state_bucket(store, attempts);
        Arc::new(KeyMover { state, ..self.mover_at(store, "main", Placement::new("main".to_owned(), [])) })
    }

    /// The same, for one site of several.
    pub(crate) fn mover_at(&self, store: &Store, site: &str, placement: Placement) -> KeyMover {
        let (transit, state, site) = (self.transit(), state_bucket(store, 1), site.to_owned());
        KeyMover { transit, state, site, placement, keks: Vec::new(), caller: officer(), concurrency: 4 }
    }

    /// An officer asks.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &Value) -> Told {
        self.officers[0].ask(method, path, body).await
    }

    pub(crate) async fn rotate(&self, kek: &str) {
        let told = self.ask("POST", &format!("transit/keys/{kek}/rotate"), &json!({})).await;
        assert_eq!(told.status, 200, "{told:?}");
    }

    /// What `claviger key census` shows.
    pub(crate) async fn census(&self, kek: &str) -> Value {
        let told = self.ask("GET", &format!("sys/claviger/keys/{kek}/census"), &Value::Null).await;
        assert_eq!(told.status, 200, "{told:?}");
        told.json["data"].clone()
    }

    /// How many branch keys need which version, versions that none needs left out.
    pub(crate) async fn needed(&self, kek: &str) -> BTreeMap<u32, u64> {
        let census = self.census(kek).await;
        let versions = census["versions"].as_object().expect("an object").iter();
        let count = |(version, found): (&String, &Value)| {
            (version.parse().expect("a number"), found["branch_keys"].as_u64().expect("a number"))
        };
        versions.map(count).filter(|(_, count)| *count > 0).collect()
    }

    /// Raises the oldest version that is opened: what `claviger key retire` asks for in the end.
    pub(crate) async fn retire(&self, kek: &str, before: u32) -> Told {
        let body = json!({ "min_decryption_version": before });
        self.ask("POST", &format!("transit/keys/{kek}/config"), &body).await
    }

    /// Proposes it, which has to be possible: the proposal's id.
    pub(crate) async fn propose_to_retire(&self, kek: &str, before: u32) -> String {
        let told = self.retire(kek, before).await;
        assert_eq!((told.status, told.error()), (403, "approval required"), "{told:?}");
        told.json["data"]["proposal_id"].as_str().expect("an id").to_owned()
    }

    /// It is refused because something still needs an older version.
    pub(crate) async fn must_not_retire(&self, kek: &str, before: u32) {
        let told = self.retire(kek, before).await;
        assert!(told.status == 400 && told.error().contains("branch keys"), "{told:?}");
    }

    /// Proposed, approved and done.
    pub(crate) async fn must_retire(&self, kek: &str, before: u32) {
        let proposal = self.propose_to_retire(kek, before).await;
        self.approve(&proposal).await;
        let told = self.retire(kek, before).await;
        assert_eq!((told.status, &told.json["data"]["min_decryption_version"]), (200, &before.into()), "{told:?}");
    }

    /// Two others approve.
    pub(crate) async fn approve(&self, proposal: &str) {
        for officer in &self.officers[1..] {
            officer.approve(proposal).await;
        }
    }
}

/// Longer than a busy machine takes.
fn patient() -> StoreSettings {
    StoreSettings { call_timeout: LONG, ..StoreSettings::default() }
}

//! The engine over SQLite and PostgreSQL, with a log that can fail, people with certificates, and hands in the database.

mod backup;
mod census;
mod changes;
mod cutting_off;
mod destruction;
mod elsewhere;
mod faults;
mod people;
mod retiring;
mod uses;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::crypto;
use crate::custodian::approval::testing::{People, Person};
use crate::custodian::approval::{Proposal, Subject, Verb};
use crate::custodian::audit::{AuditLog, AuditOpenError, AuditSettings};
use crate::custodian::identity::SpiffeId;
use crate::custodian::kek::KeyOptions;
use crate::custodian::requester::{Requester, random_request_id};
use crate::custodian::seal::RootKey;
use crate::custodian::store::tests::database::{Database, settings};
use crate::custodian::store::tests::on_both;
use crate::custodian::store::{SealedStore, SqlStore, StoreError};
use crate::custody::context::BranchContext;
use crate::custody::reason::Reason;
use crate::names::{BranchId, KekName, LogicalBucket, Purpose, WriterDomain};
use crate::tlog::testing::Faulty;

use super::*;

/// Those in us may do everything, those in sg only write.
const POLICY: &str = r#"
@id("us-all")
permit (principal, action, resource) when { principal.region == "us" };
@id("sg-write")
permit (principal, action == Claviger::Action::"generate", resource) when { principal.region == "sg" };
@id("granted")
permit (principal, action, resource) when { context.granted };
"#;

/// One custodian, with its folder for the log.
struct Custodian {
    engine: Arc<Engine>,
    disk: Arc<Faulty>,
    folder: Arc<TempDir>,
}

fn kek() -> KekName {
    KekName::new("records").expect("legal")
}

fn derived() -> KeyOptions {
    KeyOptions { derived: true, ..KeyOptions::default() }
}

fn who(id: &str) -> Requester {
    Requester {
        id: SpiffeId::parse(&format!("spiffe://example.org/region/{id}")).expect("legal"),
        certificate_sha256: crypto::sha256(id.as_bytes()),
        key_sha256: crypto::sha256(id.as_bytes()),
        source: IpAddr::from([127, 0, 0, 1]),
        reason: Reason::CustomerInitiated,
        behalf: None,
        request_id: random_request_id().expect("random"),
        for_request: None,
    }
}

fn proxy() -> Requester {
    who("us/proxy/p1")
}

fn context(writer: &str, id: u8) -> BranchContext {
    BranchContext {
        purpose: Purpose::Object,
        bucket: LogicalBucket::new("ledger").expect("legal"),
        writer: WriterDomain::new(writer).expect("legal"),
        id: BranchId::from_bytes([id; 16]),
    }
}

fn for_branch(writer: &str, id: u8) -> GenerateRequest {
    GenerateRequest { context: context(writer, id).to_bytes(), plaintext: true, ..GenerateRequest::default() }
}

fn call(action: &str) -> GatedCall {
    GatedCall { method: "POST", path: format!("/v1/transit/keys/records/{action}"), body: "{}".to_owned() }
}

/// Graces that a busy machine keeps.
fn patient() -> EngineSettings {
    let identity = SpiffeId::parse("spiffe://example.org/region/us/custodian/c1").expect("legal");
    let store_grace = Duration::from_secs(60);
    EngineSettings {
        store_poll: Duration::from_millis(50),
        store_grace,
        retire_wait_s: 0,
        ..EngineSettings::new(identity)
    }
}

fn log_settings(folder: &TempDir, instance: &str) -> AuditSettings {
    AuditSettings {
        folder: folder.path().join("audit"),
        instance: instance.to_owned(),
        origin: format!("example.org/{instance}"),
        checkpoint_interval: Duration::from_millis(100),
    }
}

/// A new store in `database`.
async fn make(database: &Database) -> RootKey {
    database.sealed().await.0
}

impl Custodian {
    /// Opens the store in `database` as the custodian `instance`.
    async fn open(database: &Database, root: &RootKey, instance: &str) -> Self {
        Self::open_with(database.again(settings()).await.expect("opens"), root, instance, patient()).await
    }

    async fn open_with(sql: Arc<SqlStore>, root: &RootKey, instance: &str, settings: EngineSettings) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a folder"));
        Self::open_in(folder, sql, root, instance, settings).await.expect("opens")
    }

    async fn open_in(
        folder: Arc<TempDir>,
        sql: Arc<SqlStore>,
        root: &RootKey,
        instance: &str,
        settings: EngineSettings,
    ) -> Result<Self, AuditOpenError> {
        let store = Arc::new(SealedStore::open(sql, root).await?);
        let disk = Arc::new(Faulty::new());
        let audit = AuditLog::open_on(disk.storage(), &store, &log_settings(&folder, instance)).await?;
        let engine = Engine::open(store, audit, POLICY, settings).await.expect("opens");
        Ok(Self { engine, disk, folder })
    }

    /// A new store with the KEK.
    async fn new(database: &Database) -> Self {
        let root = make(database).await;
        let custodian = Self::open(database, &root, "custodian-1").await;
        custodian.engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
        custodian
    }

    /// The entries of the log so far.
    async fn log(&self) -> Vec<serde_json::Value> {
        self.engine.audit().log().publish().await.expect("publishes");
        let reader = self.engine.audit().log().reader();
        let entry = |read: Result<(u64, Vec<u8>), _>| {
            let (_, entry) = read.expect("reads");
            serde_json::from_slice(&entry).expect("JSON")
        };
        reader.entries(0).map(entry).collect()
    }

    /// `action decision` of each entry so far.
    async fn told(&self) -> Vec<String> {
        let text = |entry: &serde_json::Value, name: &str| entry[name].as_str().expect("a text").to_owned();
        self.log().await.iter().map(|entry| format!("{} {}", text(entry, "action"), text(entry, "decision"))).collect()
    }

    /// Ends it as a crash would, and gives what is left on disk.
    fn crash(self) -> Arc<TempDir> {
        self.disk.life.store(-1, Ordering::SeqCst);
        self.folder
    }
}

/// Waits until `holds`, for not much longer than `limit`.
async fn within(limit: Duration, holds: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < limit {
        if holds() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    holds()
}

fn proposal_of(result: Result<impl Sized, EngineError>) -> String {
    match result {
        Err(EngineError::Gated { proposal_id }) => proposal_id,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("was not gated"),
    }
}

/// Three officers.
struct Officers {
    people: People,
    rita: Person,
    alice: Person,
    bob: Person,
}

impl Officers {
    fn new() -> Self {
        let people = People::new();
        let [rita, alice, bob] = ["rita", "alice", "bob"].map(|name| people.person(&format!("officer/{name}")));
        Self { people, rita, alice, bob }
    }
}

/// Moves all branch keys of the KEK to its newest version, and reads them back at the one site.
async fn move_branches(engine: &Engine) {
    let listed = engine.branches(&proxy(), &kek(), None, None, 500).await.expect("lists").value;
    let ids: Vec<BranchId> = listed.branches.iter().map(|state| state.id).collect();
    let moved = engine.rewrap_branches(&proxy(), &kek(), &ids).await.expect("rewraps").value.done;
    let read: Vec<_> = moved.into_iter().map(|(id, wrapped)| (id, Some(wrapped))).collect();
    let confirmed = engine.confirm_branches(&proxy(), &kek(), "main", &read).await.expect("confirms").value;
    assert_eq!(confirmed.done.len(), ids.len());
}

async fn approve(engine: &Engine, officer: &Person, id: &str) -> Result<Proposal, EngineError> {
    let proposal = engine.proposal(&officer.asks(), id).await?.value;
    let approval = officer.signs(Subject::Proposal, Verb::Approve, &proposal.hash());
    Ok(engine.approve(&officer.asks(), id, approval).await?.value)
}

//! Watches of a server without sockets.

use std::net::IpAddr;
use std::sync::Arc;

use super::*;
use crate::custodian::approval::testing::{People, Person};
use crate::custodian::approval::{Subject, Verb};
use crate::custodian::audit::AuditSettings;
use crate::custodian::engine::{EngineSettings, Offer};
use crate::custodian::identity::SpiffeId;
use crate::custodian::server::{Answer, Content, Failure, Opening, Server, ServerSettings};
use crate::custodian::store::tests::database::Database;
use crate::tlog::storage::Disk;

const POLICY: &str = "permit (principal, action, resource);";
const SOON: Duration = Duration::from_secs(5);

/// An unsealed custodian, and what it lives in.
pub(super) struct Custodian {
    server: Arc<Server>,
    _database: Database,
    _folder: tempfile::TempDir,
}

pub(super) async fn custodian(max_watches: usize) -> Custodian {
    let (database, folder) = (Database::sqlite().await, tempfile::tempdir().expect("a folder"));
    let (root, _) = database.sealed().await;
    let audit = AuditSettings {
        folder: folder.path().join("audit"),
        instance: "custodian-1".to_owned(),
        origin: "example.org/custodian-1".to_owned(),
        checkpoint_interval: Duration::from_secs(1),
    };
    let identity = SpiffeId::parse("spiffe://example.org/region/us/custodian/c1").expect("legal");
    let engine = EngineSettings { store_grace: Duration::from_secs(60), ..EngineSettings::new(identity) };
    let audit_disk = Arc::new(Disk::durable());
    let opening = Opening { store: database.store.clone(), audit, audit_disk, policy: POLICY.to_owned(), engine };
    let settings = ServerSettings {
        instance: "custodian-1".to_owned(),
        storage_type: "sqlite",
        max_requests: 16,
        max_watches,
        witnesses: Vec::new(),
        tracer: crate::telemetry::traces::Tracer::default(),
    };
    let server = Server::new(settings, opening);
    server.state.open(&root).await.expect("opens");
    Custodian { server, _database: database, _folder: folder }
}

impl Custodian {
    async fn watch(&self, who: &Requester) -> Result<ResponseBody, Failure> {
        self.watch_until(who, i64::MAX).await
    }

    async fn watch_until(&self, who: &Requester, expires_s: i64) -> Result<ResponseBody, Failure> {
        let unsealed = self.server.state.unsealed().expect("is unsealed");
        match self.server.watch(unsealed, who, expires_s).await? {
            Answer { content: Content::Stream { body, .. }, .. } => Ok(body),
            _ => panic!("not a stream"),
        }
    }
}

fn proxy(name: &str) -> Requester {
    let person: Person = People::new().person(&format!("proxy/{name}"));
    Requester::from_certificate(&person.certificate, IpAddr::from([127, 0, 0, 1]), [1; 16]).expect("a client")
}

/// The next line's event; `None` at the end.
async fn event(body: &mut ResponseBody) -> Option<String> {
    let frame = timeout(SOON, body.frame()).await.expect("neither a line nor the end comes")?;
    let line = frame.expect("in memory").into_data().expect("data");
    let line: Json = serde_json::from_slice(&line).expect("JSON");
    Some(line["event"].as_str().expect("an event").to_owned())
}

#[tokio::test]
async fn sealing_ends_watches_and_leaves_no_engine_behind() {
    let custodian = custodian(4).await;
    let mut body = custodian.watch(&proxy("p1")).await.expect("watches");
    assert_eq!(event(&mut body).await.as_deref(), Some("hello"));
    assert_eq!(event(&mut body).await.as_deref(), Some("heartbeat"));
    let engine = Arc::downgrade(&custodian.server.state.unsealed().expect("is unsealed").engine);
    custodian.server.state.seal().await;
    let begun = Instant::now();
    while event(&mut body).await.is_some() {
        assert!(begun.elapsed() < SOON, "the watch goes on");
    }
    // Its tasks may be at it for a moment.
    while engine.strong_count() > 0 {
        assert!(begun.elapsed() < SOON, "the keys are still in memory");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn one_client_cannot_take_all_watches() {
    let custodian = custodian(4).await;
    let mut first = custodian.watch(&proxy("greedy")).await.expect("watches");
    assert!(custodian.watch(&proxy("greedy")).await.is_err());
    let mut others = custodian.watch(&proxy("p1")).await.expect("watches");
    for body in [&mut first, &mut others] {
        assert_eq!(event(body).await.as_deref(), Some("hello"));
    }
    drop(first);
    let begun = Instant::now();
    while custodian.watch(&proxy("greedy")).await.is_err() {
        assert!(begun.elapsed() < SOON, "the place is not given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads to the end, and gives the last event.
async fn last_event(mut body: ResponseBody) -> String {
    let (begun, mut last) = (Instant::now(), String::new());
    while let Some(event) = event(&mut body).await {
        assert!(begun.elapsed() < SOON, "the watch goes on");
        last = event;
    }
    last
}

#[tokio::test]
async fn a_watch_ends_with_the_certificate() {
    let custodian = custodian(4).await;
    let now_s = OffsetDateTime::now_utc().unix_timestamp();
    last_event(custodian.watch_until(&proxy("p1"), now_s).await.expect("watches")).await;
}

#[tokio::test]
async fn a_watch_ends_with_the_leave_for_it() {
    let custodian = custodian(4).await;
    let (stays, goes) = (proxy("p1"), proxy("p2"));
    let [mut stays, goes] =
        [custodian.watch(&stays).await, custodian.watch(&goes).await].map(|body| body.expect("watches"));
    let narrower = r#"permit (principal, action, resource) unless { principal.name == "p2" };"#;
    let engine = Arc::clone(&custodian.server.state.unsealed().expect("is unsealed").engine);
    let Ok(Offer::Proposed { proposal_id }) = engine.offer_policy(narrower).await else { panic!("is another") };
    let people = People::new();
    for officer in [people.person("officer/alice"), people.person("officer/bob")] {
        let proposal = engine.proposal(&officer.asks(), &proposal_id).await.expect("is there").value;
        let approval = officer.signs(Subject::Proposal, Verb::Approve, &proposal.hash());
        engine.approve(&officer.asks(), &proposal_id, approval).await.expect("approves");
    }
    assert_eq!(last_event(goes).await, "policy", "it is told why");
    let begun = Instant::now();
    while event(&mut stays).await.expect("goes on") != "policy" {
        assert!(begun.elapsed() < SOON, "the other is not told");
    }
    assert_eq!(event(&mut stays).await.as_deref(), Some("heartbeat"));
}

#[tokio::test]
async fn who_missed_being_shut_out_is_not_told_more() {
    let custodian = custodian(4).await;
    let (stays, goes) = (proxy("p1"), proxy("p2"));
    let unsealed = custodian.server.state.unsealed().expect("is unsealed");
    let lagging = |who: &Requester| {
        let (sender, events) = broadcast::channel(1);
        for _ in 0..2 {
            sender.send(Event::Grants).expect("is heard");
        }
        let watch = Watch {
            unsealed: Arc::downgrade(&unsealed),
            who: who.clone(),
            expires_s: i64::MAX,
            events,
            instance: "custodian-1".to_owned(),
            policy: unsealed.engine.policy_hash(),
            ending: custodian.server.ending.subscribe(),
            slot: custodian.server.watches.try_take(&who.id).expect("a place"),
            _counted: custodian.server.metrics.watches(),
        };
        (sender, start(watch))
    };
    unsealed.engine.revoke_principal(&stays, goes.id.as_str(), "").await.expect("revokes");
    let (_sender, body) = lagging(&goes);
    assert_eq!(last_event(body).await, "lagged");
    let (_sender, mut body) = lagging(&stays);
    for expected in ["hello", "lagged", "grants", "heartbeat", "heartbeat"] {
        assert_eq!(event(&mut body).await.as_deref(), Some(expected));
    }
}

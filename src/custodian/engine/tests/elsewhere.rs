//! One custodian is watched and another one asked, that has not seen yet what the first one did.

use std::time::Duration;

use super::*;
use crate::custodian::embedded::Embedded;
use crate::custody::branch::{ReadingKey, WritingKey};
use crate::custody::caller::Caller;
use crate::custody::directory::MemoryDirectory;
use crate::custody::keys::{BranchKeyError, BranchKeys};
use crate::custody::lease::LeaseSettings;
use crate::custody::watch::{self, KNOWN_AFTER, Watch};
use crate::names::Principal;

on_both!(what_one_tells_holds_against_another_that_does_not_know);

#[test]
fn every_custodian_knows_in_time() {
    let EngineSettings { store_poll, store_grace, .. } = patient();
    assert!(store_poll < store_grace);
    let identity = patient().identity;
    let EngineSettings { store_poll, store_grace, .. } = EngineSettings::new(identity);
    assert!(store_poll + store_grace < KNOWN_AFTER);
}

/// The branch keys of a proxy that asks one custodian and watches another.
struct Front {
    keys: BranchKeys,
    watch: Watch,
}

impl Front {
    async fn write(&self, client: &str) -> Result<WritingKey, BranchKeyError> {
        let bucket = LogicalBucket::new("ledger").expect("legal");
        self.keys.for_writing(&kek(), Purpose::Object, &bucket, &caller(client), 1).await
    }

    async fn read(&self, key: &WritingKey, client: &str) -> Result<ReadingKey, BranchKeyError> {
        self.keys.for_reading(&kek(), key.context(), key.wrapped(), &caller(client)).await
    }

    /// The client may have been given keys by the one that does not know; none of them works any more when it must know.
    async fn ends_for(&self, client: &str, written: &WritingKey, asked: &Engine) {
        let (write, read) = (self.write(client).await, self.read(written, client).await);
        tokio::time::sleep(KNOWN_AFTER + Duration::from_millis(100)).await;
        assert!(!write.is_ok_and(|key| key.is_usable()) && !read.is_ok_and(|key| key.is_usable()));
        asked.look().await.expect("sees its store");
        assert!(self.write(client).await.is_err() && self.read(written, client).await.is_err());
    }
}

fn caller(client: &str) -> Caller {
    Caller { principal: Principal::new(client).expect("legal"), reason: Reason::CustomerInitiated }
}

/// Each step is one that the asked custodian cannot have seen: its store is out of its sight for a moment.
async fn what_one_tells_holds_against_another_that_does_not_know(database: Database) {
    let root = make(&database).await;
    let watched = Custodian::open(&database, &root, "custodian-1").await;
    watched.engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
    let slow = EngineSettings { store_poll: Duration::from_millis(800), ..patient() };
    let sql = database.again(settings()).await.expect("opens");
    let asked = Custodian::open_with(sql, &root, "custodian-2", slow).await;
    let custodian = Arc::new(Embedded::of(Arc::clone(&asked.engine), proxy().id));
    let writer = WriterDomain::new("proxy/us").expect("legal");
    let keys = BranchKeys::new(custodian, Arc::new(MemoryDirectory::default()), LeaseSettings::default(), writer);
    let front = Front { watch: Watch::new(keys.clone(), Duration::from_secs(60)), keys };
    front.watch.opened(Duration::from_secs(60));
    tokio::time::sleep(KNOWN_AFTER).await;
    let mut events = watched.engine.watch(&proxy()).await.expect("watches").value;
    let written = front.write("alice").await.expect("generates");
    front.read(&written, "bob").await.expect("unwraps");
    asked.engine.hold_looking(true);
    watched.engine.revoke_principal(&proxy(), "bob", "").await.expect("revokes");
    assert_eq!(events.recv().await, Ok(Event::Principal { principal: "bob".to_owned(), revoked: true }));
    front.watch.tell(&watch::Event::PrincipalRevoked(caller("bob").principal));
    assert!(front.write("alice").await.expect("is not meant").is_usable());
    assert!(matches!(front.read(&written, "bob").await, Err(BranchKeyError::Revoked)), "the other one allowed it");
    asked.engine.hold_looking(false);
    front.ends_for("bob", &written, &asked.engine).await;
    asked.engine.hold_looking(true);
    watched.engine.disable(&proxy(), &kek()).await.expect("disables");
    // Each act is told before and after it is in the store.
    while events.recv().await.expect("is told") != (Event::Kek { name: kek(), change: KekEvent::Disabled }) {}
    front.watch.tell(&watch::Event::KekClosed(kek()));
    assert!(matches!(front.write("alice").await, Err(BranchKeyError::Revoked)), "the other one allowed it");
    asked.engine.hold_looking(false);
    front.ends_for("alice", &written, &asked.engine).await;
}

//! Branch keys for writing after OpenBao rotated, of which it tells nobody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use claviger::custody::branch::WritingKey;
use claviger::custody::directory::MemoryDirectory;
use claviger::custody::keys::BranchKeys;
use claviger::custody::lease::LeaseSettings;
use claviger::names::{LogicalBucket, Purpose, WriterDomain};
use claviger::transit::Transit;
use claviger::transit::branches::lacks_ledger;

use crate::openbao::OpenBao;
use crate::{by_login, caller, kek};

const RENEWAL: Duration = Duration::from_secs(2);

fn branch_keys(bao: &OpenBao) -> BranchKeys {
    let custodian = Arc::new(Transit::new(&by_login(bao)).expect("good settings"));
    let settings = LeaseSettings { write_renew_s: RENEWAL.as_secs(), rpc_deadline_s: 10, ..LeaseSettings::default() };
    let writer = WriterDomain::new("proxy/us").expect("legal");
    BranchKeys::new(custodian, Arc::new(MemoryDirectory::default()), settings, writer)
}

async fn write(keys: &BranchKeys) -> WritingKey {
    let bucket = LogicalBucket::new("ledger").expect("legal");
    keys.for_writing(&kek("records"), Purpose::Object, &bucket, &caller(), 1).await.expect("never an error")
}

/// The versions that are written under while a lease and a half goes by.
async fn versions(keys: &BranchKeys) -> Vec<u32> {
    let (begun, mut versions) = (Instant::now(), Vec::new());
    while begun.elapsed() < RENEWAL * 3 / 2 {
        versions.push(write(keys).await.wrapped().version().number());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    versions.dedup();
    versions
}

#[tokio::test]
#[ignore = "needs OpenBao"]
async fn a_rotation_is_found_at_the_renewal_and_who_may_not_rewrap_writes_on() {
    let bao = OpenBao::start().await;
    bao.create_kek("records", true).await;
    let census = Transit::new(&by_login(&bao)).expect("good settings").census(&kek("records"), &caller()).await;
    assert!(census.is_err_and(|error| lacks_ledger(&error)), "OpenBao has no ledger, and is found not to");
    let keys = branch_keys(&bao);
    write(&keys).await;
    bao.admin("POST", "transit/keys/records/rotate", &json!({})).await;
    assert_eq!(versions(&keys).await, [1, 2]);
    let without = ["datakey/plaintext", "decrypt"]
        .map(|verb| format!("path \"transit/{verb}/records\" {{ capabilities = [\"update\"] }}"));
    bao.policy(&without.join("\n")).await;
    bao.admin("POST", "transit/keys/records/rotate", &json!({})).await;
    assert_eq!(versions(&keys).await, [2]);
    assert_eq!(versions(&branch_keys(&bao)).await, [3], "after a start, under the newest");
}

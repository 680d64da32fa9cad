//! Many proxies that start at the same moment and want branch keys from one custodian.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use claviger::custody::Custodian as _;
use claviger::custody::context::BranchContext;
use claviger::names::{BranchId, KekVersion, LogicalBucket, Purpose, WriterDomain};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::harness::custodian::{kek, officer};
use crate::harness::server::CustodianServer;

const PROXIES: usize = 20;
const KEYS_EACH: usize = 20;

fn context() -> BranchContext {
    BranchContext {
        purpose: Purpose::Object,
        bucket: LogicalBucket::new("records").expect("legal"),
        writer: WriterDomain::new("proxy/us").expect("legal"),
        id: BranchId::random().expect("random"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_of_many_proxies_fails_or_starves_and_every_key_is_in_the_ledger() {
    let server = CustodianServer::start().await;
    server.create_kek("records").await;
    let start = Arc::new(Barrier::new(PROXIES));
    let progress: Arc<Vec<AtomicUsize>> = Arc::new((0..PROXIES).map(|_| AtomicUsize::new(0)).collect());
    let mut proxies = JoinSet::new();
    for number in 0..PROXIES {
        let client = server.client(&format!("proxy/p{number}"));
        let (start, progress) = (Arc::clone(&start), Arc::clone(&progress));
        proxies.spawn(async move {
            start.wait().await;
            let mut keys = Vec::new();
            for _ in 0..KEYS_EACH {
                // Fails after the two seconds that a proxy has.
                let (key, _) = client.generate(&kek("records"), &context(), &officer()).await.expect("generates");
                keys.push(*key.expose());
                progress[number].fetch_add(1, Ordering::Relaxed);
            }
            let others = progress.iter().map(|done| done.load(Ordering::Relaxed)).min().unwrap_or_default();
            (keys, others)
        });
    }
    let finished = proxies.join_all().await;
    let slowest = finished.iter().map(|(_, others)| *others).min().unwrap_or_default();
    assert!(slowest >= KEYS_EACH / 4, "a proxy had {slowest} keys of {KEYS_EACH} when the first had all");
    let keys: HashSet<[u8; 32]> = finished.into_iter().flat_map(|(keys, _)| keys).collect();
    assert_eq!(keys.len(), PROXIES * KEYS_EACH);
    let entered = server.store().await.count_branches(&kek("records")).await.expect("counts");
    assert_eq!(entered, [(KekVersion::FIRST, keys.len() as u64)]);
}

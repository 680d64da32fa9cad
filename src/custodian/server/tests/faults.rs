//! The audit log cannot be written, the store is gone.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::harness::{Custodian, Lines, until};

const BODY: &str = "{\"plaintext\":\"aGVsbG8=\"}";

#[tokio::test]
async fn with_the_audit_logs_disk_full_uses_are_refused_soon_and_health_tells() {
    let custodian = Custodian::new().await;
    let client = custodian.client("us/proxy/p1");
    client.make_key(false).await;
    custodian.disk.full.store(true, Ordering::SeqCst);
    let asked =
        tokio::time::timeout(Duration::from_secs(5), client.call("POST", "/v1/transit/encrypt/records", BODY)).await;
    let answer = asked.expect("it does not hang");
    assert_eq!(answer.status, 500, "{answer:?}");
    assert!(answer.error().contains("the audit log cannot be written"), "{answer:?}");
    let health = client.call("GET", "/v1/sys/health", "").await;
    assert_eq!((health.status, &health.json["claviger"]["audit"]), (500, &json!("failed")), "{health:?}");
    // It says so until someone starts it again, when there is room.
    custodian.disk.full.store(false, Ordering::SeqCst);
    assert_eq!(client.call("POST", "/v1/transit/encrypt/records", BODY).await.status, 500);
}

#[tokio::test]
async fn with_the_store_gone_uses_are_refused_health_tells_and_heartbeats_stop() {
    let custodian = Custodian::sealed(None, Duration::from_millis(500)).await;
    custodian.unseal().await;
    let client = custodian.client("us/proxy/p1");
    client.make_key(false).await;
    let (_, _, body) = client.stream("GET", "/v1/sys/claviger/watch", "").await.expect("opens");
    let mut watch = Lines::new(body);
    for _ in 0..2 {
        watch.next().await.expect("a line");
    }
    custodian.lose_store().await;
    until("the refusal", async || client.call("POST", "/v1/transit/encrypt/records", BODY).await.status == 500).await;
    let health = client.call("GET", "/v1/sys/health", "").await;
    assert_eq!((health.status, &health.json["claviger"]["store"]), (500, &json!("failed")), "{health:?}");
    // What is on its way may still come; then there is neither a line nor an end.
    while tokio::time::timeout(Duration::from_millis(10), watch.next()).await.is_ok() {}
    assert!(tokio::time::timeout(Duration::from_secs(1), watch.next()).await.is_err());
}

//! What a custodian tells those who watch over it: states, requests and decisions, and the id of the request that a key is for.

use super::harness::{Custodian, LONG, until};
use crate::telemetry::metrics::{Registry, TextForm};

fn scrape(custodian: &Custodian) -> String {
    let mut registry = Registry::default();
    custodian.server.register(&mut registry);
    registry.encode(TextForm::Prometheus).expect("writes")
}

fn shows(custodian: &Custodian, line: &str) -> bool {
    scrape(custodian).lines().any(|shown| shown == line)
}

#[tokio::test]
async fn seal_requests_and_decisions_are_shown() {
    let custodian = Custodian::sealed(None, LONG).await;
    assert_eq!(custodian.server.can_serve(), Err("sealed"));
    assert!(shows(&custodian, "claviger_custodian_sealed 1.0"));
    assert!(!scrape(&custodian).contains("claviger_custodian_audit_well"), "it is behind the seal");
    custodian.unseal().await;
    assert_eq!(custodian.server.can_serve(), Ok(()));
    let proxy = custodian.client("us/proxy/p1");
    proxy.make_key(false).await;
    for line in [
        "claviger_custodian_sealed 0.0",
        "claviger_custodian_store_well 1.0",
        "claviger_custodian_audit_well 1.0",
        "claviger_custodian_requests_total{operation=\"create-key\",result=\"2xx\"} 1",
        "claviger_custodian_request_duration_seconds_count{operation=\"create-key\"} 1",
        "claviger_custodian_decisions_total{action=\"create\",decision=\"allow\"} 1",
        "claviger_custodian_requests_in_flight 0",
        "claviger_custodian_watches 0",
    ] {
        assert!(shows(&custodian, line), "{line}: {}", scrape(&custodian));
    }
    let watching = proxy.stream("GET", "/v1/sys/claviger/watch", "").await.expect("opens");
    assert!(shows(&custodian, "claviger_custodian_watches 1"));
    drop(watching);
    until("the watch's end", async || shows(&custodian, "claviger_custodian_watches 0")).await;
    until("a checkpoint of all", async || shows(&custodian, "claviger_custodian_audit_pending_entries 0.0")).await;
    assert!(shows(&custodian, "claviger_custodian_audit_lag_seconds 0.0"));
}

#[tokio::test]
async fn the_request_that_a_key_is_for_is_in_the_log_and_what_is_no_id_is_not() {
    let custodian = Custodian::new().await;
    let plain = custodian.client("us/proxy/p1");
    plain.make_key(false).await;
    for id in ["0123456789ABCDEF", "0123456789abcdef", "x\\\",\\\"decision\\\":\\\"allow"] {
        let client = custodian.client("us/proxy/p1").with("x-claviger-request-id", id);
        assert_eq!(client.call("GET", "/v1/transit/keys/records", "").await.status, 200, "it decides nothing");
    }
    until("the entries' publication", async || {
        let mut told = String::new();
        for width in 1..32 {
            let path = format!("/v1/sys/claviger/audit/tile/entries/000.p/{width}");
            let tile = plain.call("GET", &path, "").await;
            if tile.status == 200 {
                told = tile.text;
            }
        }
        told.contains("\"for_request\":\"0123456789ABCDEF\"") && told.matches("for_request").count() == 1
    })
    .await;
}

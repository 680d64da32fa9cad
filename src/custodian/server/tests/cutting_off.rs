//! The watch: what it tells, how soon, and when it ends.

use std::time::{Duration, Instant};

use super::harness::{Client, Custodian, Lines};

async fn watch(client: &Client) -> Lines {
    let (status, headers, body) = client.stream("GET", "/v1/sys/claviger/watch", "").await.expect("opens");
    assert_eq!((status, &headers["content-type"]), (200, &"application/x-ndjson".parse().expect("a value")));
    let mut lines = Lines::new(body);
    let hello = lines.next().await.expect("a line");
    assert_eq!(
        (&hello["event"], &hello["instance"], &hello["heartbeat_ms"]),
        (&"hello".into(), &"custodian-1".into(), &250.into())
    );
    assert_eq!(hello["policy_sha256"].as_str().map(str::len), Some(64));
    lines
}

#[tokio::test]
async fn a_disabled_key_is_told_within_a_second_and_heartbeats_come_in_between() {
    let custodian = Custodian::new().await;
    let (proxy, officer) = (custodian.client("us/proxy/p1"), custodian.client("us/officer/alice"));
    proxy.make_key(false).await;
    let mut lines = watch(&proxy).await;
    let begun = Instant::now();
    let mut made_ms = 0;
    for nth in 0..3 {
        let line = lines.next().await.expect("a line");
        assert_eq!(line["event"], "heartbeat");
        let before_ms = std::mem::replace(&mut made_ms, line["elapsed_ms"].as_u64().expect("a time"));
        // The first comes at once.
        assert!(nth == 0 || made_ms >= before_ms + 200, "{line}");
    }
    assert!(begun.elapsed() >= Duration::from_millis(450), "{:?}", begun.elapsed());

    let begun = Instant::now();
    let answer = officer.call("POST", "/v1/sys/claviger/keys/records/disable", "").await;
    assert_eq!((answer.status, answer.data("claviger/disabled")), (200, &true.into()), "{answer:?}");
    let told = lines.event().await.expect("a line");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(
        (&told["event"], &told["name"], &told["change"]),
        (&"kek".into(), &"records".into(), &"disabled".into())
    );
    assert!(told["elapsed_ms"].as_u64().is_some_and(|elapsed| elapsed >= made_ms), "{told}");
    let refused = proxy.call("POST", "/v1/transit/encrypt/records", "{\"plaintext\":\"\"}").await;
    assert_eq!((refused.status, refused.error()), (403, "encryption key is disabled"));
}

#[tokio::test]
async fn whoever_is_revoked_is_told_and_loses_the_watch_and_everything() {
    let custodian = Custodian::new().await;
    let (proxy, officer) = (custodian.client("us/proxy/p1"), custodian.client("us/officer/alice"));
    let (mut own, mut other) = (watch(&proxy).await, watch(&officer).await);
    let id = "spiffe://example.org/region/us/proxy/p1";
    let body = format!("{{\"principal\":\"{id}\",\"note\":\"left\"}}");
    assert_eq!(officer.call("POST", "/v1/sys/claviger/revocations", &body).await.status, 200);
    for lines in [&mut own, &mut other] {
        let told = lines.event().await.expect("a line");
        assert_eq!(
            (&told["event"], &told["principal"], &told["change"]),
            (&"principal".into(), &id.into(), &"revoked".into())
        );
    }
    assert_eq!(own.next().await, None, "its watch ends");
    assert!(other.next().await.is_some(), "and that of others does not");
    assert_eq!(proxy.call("LIST", "/v1/transit/keys", "").await.status, 403);
    assert_eq!(officer.call("GET", "/v1/sys/claviger/revocations", "").await.data("revocations/0/principal"), id);
}

#[tokio::test]
async fn watches_are_bounded_and_end_when_the_custodian_does() {
    let custodian = Custodian::new().await;
    let proxy = custodian.client("us/proxy/p1");
    let mut lines = watch(&proxy).await;
    let second = watch(&proxy).await;
    let third = proxy.call("GET", "/v1/sys/claviger/watch", "").await;
    assert_eq!((third.status, third.error()), (503, "too many watches at once"));
    drop(second);
    super::harness::until("a free place", async || {
        proxy.stream("GET", "/v1/sys/claviger/watch", "").await.is_ok_and(|(status, ..)| status == 200)
    })
    .await;
    let begun = Instant::now();
    let report = custodian.stop().await;
    assert_eq!((report.requests_cut, report.connections_cut), (0, 0));
    assert!(begun.elapsed() < Duration::from_millis(1900), "the drain did not have to wait: {:?}", begun.elapsed());
    while lines.next().await.is_some() {}
}

//! What no honest client sends.

use super::harness::Custodian;

fn request(method: &str, path: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} ").into_bytes();
    bytes.extend_from_slice(path);
    let length = body.len();
    bytes.extend_from_slice(
        format!(" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n").as_bytes(),
    );
    bytes.extend_from_slice(body);
    bytes
}

#[tokio::test]
async fn paths_that_need_tidying_are_refused_and_reach_no_key() {
    let custodian = Custodian::new().await;
    let client = custodian.client("us/proxy/p1");
    client.make_key(false).await;
    let long = format!("/v1/transit/keys/{}", "k".repeat(600));
    let paths: [&[u8]; 16] = [
        b"/v1/transit/keys/../keys/records",
        b"/v1/transit/keys/%2e%2e/keys/records",
        b"/v1/transit/keys/records%00",
        b"/v1/transit/keys/records\0",
        b"/v1/transit/keys/re%63ords",
        b"/v1/transit//keys/records",
        b"//v1/transit/keys/records",
        b"/v1/transit/keys/./records",
        b"/v1/transit\\keys\\records",
        b"/v1/transit/keys/records/",
        b"/v1/transit/keys/records;x",
        b"/v1/TRANSIT/keys/records",
        b"/V1/transit/keys/records",
        b"/v1/transit/keys/r\xc3\xa9cords",
        b"/v1/sys/claviger/audit/tile/../../../policy",
        long.as_bytes(),
    ];
    for path in paths {
        for method in ["GET", "POST", "DELETE", "LIST"] {
            let (status, text) = client.raw(&request(method, path, b"")).await.expect("an answer");
            assert!([400, 404, 405].contains(&status), "{method} {:?}: {text}", String::from_utf8_lossy(path));
            assert!(!text.contains("latest_version"), "{text}");
        }
    }
    let (status, _) = client.raw(&request("GET", b"/v1/transit/keys/records", b"")).await.expect("an answer");
    assert_eq!(status, 200);
}

#[tokio::test]
async fn bodies_that_are_malformed_deep_or_huge_are_refused() {
    let custodian = Custodian::new().await;
    let client = custodian.client("us/proxy/p1");
    client.make_key(false).await;
    let path = "/v1/transit/encrypt/records";
    let deep = format!("{}1{}", "{\"plaintext\":".repeat(40), "}".repeat(40));
    let bad: [&str; 9] = [
        "{",
        "[]",
        "\"text\"",
        "{\"plaintext\":\"aGVsbG8=\"",
        "{\"plaintext\":\"aGVsbG8=\",\"plaintext\":\"\"}",
        "{\"plaintext\":{}}",
        "{\"plaintext\":\"aGVsbG8=\"}}",
        &"[".repeat(100_000),
        &deep,
    ];
    for body in bad {
        let answer = client.call("POST", path, body).await;
        assert_eq!(answer.status, 400, "{body:.80}");
        assert!(!answer.text.contains("aGVsbG8"), "{answer:?}");
    }
    let (status, _) =
        client.raw(&request("POST", path.as_bytes(), b"{\"plaintext\":\"\xff\xfe\"}")).await.expect("an answer");
    assert_eq!(status, 400);
    // Announced, and not sent.
    let announced =
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 1048577\r\n\r\n");
    let (status, _) = client.raw(announced.as_bytes()).await.expect("an answer");
    assert_eq!(status, 413);
    // Not announced, and sent.
    let mut chunked =
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n")
            .into_bytes();
    chunked.extend_from_slice(format!("{:x}\r\n", (1 << 20) + 1).as_bytes());
    chunked.resize(chunked.len() + (1 << 20) + 1, b' ');
    assert_eq!(client.raw(&chunked).await.map(|(status, _)| status), Some(413));
    let large = format!("{{\"plaintext\":\"{}\"}}", "A".repeat(200_000));
    assert_eq!(client.call("POST", path, &large).await.status, 413);
    assert_eq!(client.call("POST", path, "{\"plaintext\":\"aGVsbG8=\"}").await.status, 200);
}

#[tokio::test]
async fn a_type_of_content_does_not_matter() {
    let custodian = Custodian::new().await;
    let client = custodian.client("us/proxy/p1").with("content-type", "application/x-www-form-urlencoded");
    client.make_key(false).await;
    assert_eq!(client.call("PUT", "/v1/transit/encrypt/records", "{\"plaintext\":\"aGVsbG8=\"}").await.status, 200);
}

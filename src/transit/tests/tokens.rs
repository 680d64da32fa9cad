//! Who we show ourselves as: the certificate, a login's token, a file's token.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::net::tests::Ca;
use crate::net::tls::server_config;
use settings::Mount;

const LONG: Duration = Duration::from_secs(10);

fn granted(token: &str) -> Response<Full<Bytes>> {
    let auth = json!({"client_token": token, "accessor": "a", "policies": ["proxy"], "lease_duration": 3600, "renewable": true});
    answer(200, &json!({"data": null, "auth": auth}))
}

/// A TLS server that asks for a certificate, and settings for it.
async fn tls_server(
    folder: &Path,
    authentication: Authentication,
    answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
) -> (Server, TransitSettings) {
    tls_server_of(&Ca::new(folder, "ca"), authentication, answer).await
}

/// As [`tls_server`], whose certificates `ca` signs; it can sign the client another one.
async fn tls_server_of(
    ca: &Ca,
    authentication: Authentication,
    answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
) -> (Server, TransitSettings) {
    let config = server_config(&ca.issue("server", &["localhost"]), Some(&ca.file)).expect("good files");
    let server = Server::with_tls(Some(config), answer).await;
    let address = Address::parse(&format!("https://localhost:{}", server.port)).expect("legal");
    let tls = ClientTls { ca_file: Some(ca.file.clone()), identity: Some(ca.issue("proxy", &["proxy"])) };
    let settings = TransitSettings { authentication, deadline: LONG, ..TransitSettings::new(vec![address], tls) };
    (server, settings)
}

fn login(role: Option<&str>) -> Authentication {
    let mount = Mount::parse("auth/cert").expect("legal");
    Authentication::CertificateLogin { mount, role: role.map(str::to_owned) }
}

async fn unwrap(transit: &Transit) -> Result<Secret<32>, CustodyError> {
    transit.unwrap(&kek(), &context(), &wrapped(), &caller()).await
}

#[tokio::test]
async fn the_certificate_alone_sends_no_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, settings) = tls_server(folder.path(), Authentication::Certificate, |_| good()).await;
    let transit = Transit::new(&settings).expect("good settings");
    unwrap(&transit).await.expect("answers");
    server.last(|seen| assert_eq!(seen.header("x-vault-token"), None));
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn a_login_comes_once_and_its_token_goes_with_each_call() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, settings) = tls_server(folder.path(), login(Some("proxy")), |seen| match seen.path.as_str() {
        "/v1/auth/cert/login" if seen.body == json!({"name": "proxy"}) => granted("s.fresh"),
        "/v1/transit/decrypt/records" if seen.header("x-vault-token") == Some("s.fresh") => good(),
        _ => refusing(403, "permission denied"),
    })
    .await;
    let transit = Transit::new(&settings).expect("good settings");
    for _ in 0..3 {
        unwrap(&transit).await.expect("answers");
    }
    assert_eq!(server.count(), 4);
    let seen = server.seen.lock().expect("not poisoned");
    assert_eq!(seen[0].header("x-claviger-principal"), None, "the login is our own");
}

#[tokio::test]
async fn a_refused_login_is_denied_and_a_malformed_one_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let refusal = "invalid certificate or no client certificate supplied";
    let (server, settings) = tls_server(folder.path(), login(None), move |_| refusing(400, refusal)).await;
    let transit = Transit::new(&settings).expect("good settings");
    for _ in 0..5 {
        assert!(matches!(unwrap(&transit).await, Err(CustodyError::Denied)));
    }
    assert_eq!(server.count(), 1, "a refused login is not repeated at once");
    for token in ["", "a\\nb"] {
        let body = format!(r#"{{"auth":{{"client_token":"{token}","lease_duration":1,"renewable":true}}}}"#);
        let reply = move |_: &Seen| raw_answer(200, "application/json", body.clone());
        let (_server, settings) = tls_server(folder.path(), login(None), reply).await;
        let transit = Transit::new(&settings).expect("good settings");
        assert!(matches!(unwrap(&transit).await, Err(CustodyError::Malformed(_))), "{token:?}");
    }
}

#[tokio::test]
async fn a_denied_caller_causes_no_logins() {
    let folder = tempfile::tempdir().expect("a folder");
    let logins = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&logins);
    let (server, settings) = tls_server(folder.path(), login(None), move |seen| {
        if seen.path != "/v1/auth/cert/login" {
            return refusing(403, "permission denied");
        }
        granted(&format!("s.{}", count.fetch_add(1, Ordering::SeqCst)))
    })
    .await;
    let transit = Transit::new(&settings).expect("good settings");
    for _ in 0..20 {
        assert!(matches!(unwrap(&transit).await, Err(CustodyError::Denied)));
    }
    assert_eq!((logins.load(Ordering::SeqCst), server.count()), (1, 21));
}

#[tokio::test]
async fn a_replaced_certificate_is_shown_from_then_on_over_kept_connections_neither() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = Ca::new(folder.path(), "ca");
    let (server, settings) = tls_server_of(&ca, Authentication::Certificate, |_| good()).await;
    let transit = Transit::new(&settings).expect("good settings");
    let shown = |server: &Server| server.last(|seen| seen.certificate.clone()).expect("it showed one");
    unwrap(&transit).await.expect("answers");
    let before = shown(&server);
    ca.issue("proxy", &["proxy"]);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    unwrap(&transit).await.expect("answers");
    assert_ne!(shown(&server), before);
}

#[tokio::test]
async fn a_token_that_the_new_certificate_may_not_renew_is_replaced_by_a_login() {
    let folder = tempfile::tempdir().expect("a folder");
    let bound: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let logins = Arc::clone(&bound);
    // A token serves only the certificate that it was given to.
    let ca = Ca::new(folder.path(), "ca");
    let (server, settings) = tls_server_of(&ca, login(None), move |seen| {
        let certificate = seen.certificate.clone().expect("it showed one");
        let mut logins = logins.lock().expect("not poisoned");
        if seen.path == "/v1/auth/cert/login" {
            logins.push(certificate);
            return granted(&format!("s.{}", logins.len() - 1));
        }
        let token = seen.header("x-vault-token").and_then(|token| token.strip_prefix("s.")?.parse::<usize>().ok());
        if token.is_some_and(|token| logins[token] == certificate) {
            good()
        } else {
            refusing(403, "permission denied")
        }
    })
    .await;
    let transit = Transit::new(&settings).expect("good settings");
    unwrap(&transit).await.expect("answers");
    ca.issue("proxy", &["proxy"]);
    // A token is replaced at most every 10 s.
    let begun = std::time::Instant::now();
    while unwrap(&transit).await.is_err() || bound.lock().expect("not poisoned").len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(30), "no second login: {} requests", server.count());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let bound = bound.lock().expect("not poisoned");
    assert_ne!(bound[0], bound[1]);
}

#[tokio::test]
async fn a_refused_token_of_a_file_is_read_again_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(|seen| match seen.header("x-vault-token") {
        Some("s.new") => good(),
        _ => refusing(403, "permission denied"),
    })
    .await;
    let transit = client(folder.path(), &[server.port], LONG);
    assert!(matches!(unwrap(&transit).await, Err(CustodyError::Denied)));
    write_file(folder.path(), "token", b"s.new\n");
    tokio::time::sleep(Duration::from_millis(150)).await;
    unwrap(&transit).await.expect("the new token");
    assert_eq!(server.count(), 3, "once with each token the file had, and once again");
}

#[tokio::test]
async fn settings_that_do_not_do_are_refused() {
    let addresses = vec![Address::parse("https://localhost:1").expect("legal")];
    let error = Transit::new(&TransitSettings::new(addresses, ClientTls::default())).expect_err("no certificate");
    assert!(matches!(error, SettingsError::NoCertificate));
}

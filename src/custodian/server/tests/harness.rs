//! A custodian in this process, on a port of its own, and clients of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls_pki_types::ServerName;
use serde_json::Value as Json;
use tempfile::TempDir;
use time::{Duration as Days, OffsetDateTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::custodian::audit::AuditSettings;
use crate::custodian::destruction::Wait;
use crate::custodian::engine::EngineSettings;
use crate::custodian::identity::SpiffeId;
use crate::custodian::seal::RootKey;
use crate::custodian::seal::config::SealList;
use crate::custodian::seal::make::NewSeal;
use crate::custodian::seal::share::Share;
use crate::custodian::server::{Opening, Server, ServerSettings};
use crate::custodian::store::{SealedStore, SqlStore, Store as _, StoreSettings, create_sqlite};
use crate::net::client::{ClientError, ClientSettings, HttpClient, ResponseBody};
use crate::net::listener::{DrainReport, ListenerLimits};
use crate::net::tests::write_file;
use crate::net::tls::{ClientTls, IdentityFiles, client_config, mutual_server_config};
use crate::tlog::testing::Faulty;

/// Longer than anything here may take.
pub(super) const LONG: Duration = Duration::from_secs(30);

pub(super) const POLICY: &str = r#"
@id("us")
permit (principal, action, resource) when { principal.region == "us" };
@id("sg-write")
permit (principal, action == Claviger::Action::"generate", resource) when { principal.region == "sg" };
"#;

/// An authority whose files lie in a folder.
pub(super) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    pub(super) file: PathBuf,
}

impl Ca {
    pub(super) fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs itself");
        let file = write_file(folder, &format!("{name}.pem"), issuer.pem().as_bytes());
        Self { issuer, folder: folder.to_owned(), file }
    }

    /// A certificate with these URIs, valid until so many days from now.
    pub(super) fn issue(&self, name: &str, uris: &[&str], days: i64, serial: u64) -> IdentityFiles {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let uri = |uri: &&str| SanType::URI((*uri).try_into().expect("ASCII"));
        params.subject_alt_names.extend(uris.iter().map(uri));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = OffsetDateTime::now_utc() - Days::days(10);
        params.not_after = OffsetDateTime::now_utc() + Days::days(days);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        IdentityFiles {
            certificates: write_file(&self.folder, &format!("{name}.pem"), certificate.pem().as_bytes()),
            key: write_file(&self.folder, &format!("{name}.key"), key.serialize_pem().as_bytes()),
        }
    }

    /// A list that revokes the certificates with these serial numbers.
    pub(super) fn revoke(&self, serials: &[u64]) -> PathBuf {
        let now = OffsetDateTime::now_utc();
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now - Days::hours(1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now - Days::hours(1),
            next_update: now + Days::days(1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer: &Issuer<'_, KeyPair> = &self.issuer;
        let list = params.signed_by(issuer).expect("signs");
        write_file(&self.folder, "crl.pem", list.pem().expect("PEM").as_bytes())
    }
}

/// A running custodian.
pub(super) struct Custodian {
    _folder: TempDir,
    pub(super) ca: Ca,
    pub(super) server: Arc<Server>,
    pub(super) store: Arc<SqlStore>,
    pub(super) disk: Arc<Faulty>,
    shares: Vec<Share>,
    clients: AtomicU64,
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<DrainReport>,
    _tls: watch::Sender<Arc<rustls::ServerConfig>>,
}

impl Custodian {
    /// Unsealed.
    pub(super) async fn new() -> Self {
        let custodian = Self::sealed(None, LONG).await;
        custodian.unseal().await;
        custodian
    }

    /// Sealed with 2 of 3 shares; with a list of the revoked certificates' serial numbers.
    pub(super) async fn sealed(revoked: Option<&[u64]>, store_grace: Duration) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = Ca::new(folder.path(), "ca");
        let identity = ca.issue("server", &["spiffe://example.org/region/us/custodian/c1"], 10, 1);
        let crl = revoked.map(|serials| ca.revoke(serials));
        let tls = mutual_server_config(&identity, &ca.file, crl.as_deref()).expect("good files");

        let store = create_sqlite(&folder.path().join("store.db"), StoreSettings::default()).await;
        let store = Arc::new(store.expect("makes"));
        let root = RootKey::random().expect("random");
        let new = [NewSeal::Shares { threshold: 2, count: 3 }];
        let (list, shares) = SealList::make(&root, &new).await.expect("makes");
        SealedStore::create(store.clone(), &root, &list).await.expect("makes");

        let disk = Arc::new(Faulty::new());
        let server = Server::new(settings(), opening(&folder, &store, &disk, store_grace));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (stop, stopped) = oneshot::channel();
        let (renewed, tls) = watch::channel(tls);
        let limits = ListenerLimits { drain: Duration::from_secs(2), ..ListenerLimits::default() };
        let task = tokio::spawn(Arc::clone(&server).serve(listener, tls, limits, async move {
            let _ = stopped.await;
        }));
        let clients = AtomicU64::new(0);
        Self { _folder: folder, ca, server, store, disk, shares, clients, port, stop: Some(stop), task, _tls: renewed }
    }

    pub(super) fn share(&self, index: usize) -> String {
        String::from_utf8(self.shares[index].to_text().expose().to_vec()).expect("base64")
    }

    pub(super) async fn unseal(&self) {
        let alice = self.client("us/officer/opener");
        for index in [0, 2] {
            let body = format!("{{\"key\":\"{}\"}}", self.share(index));
            let answer = alice.call("PUT", "/v1/sys/unseal", &body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        assert!(!self.server.is_sealed());
    }

    /// A client whose certificate bears `spiffe://example.org/region/…`.
    pub(super) fn client(&self, id: &str) -> Client {
        let uri = format!("spiffe://example.org/region/{id}");
        let number = self.clients.fetch_add(1, Ordering::Relaxed);
        self.client_of(&self.ca.issue(&format!("client-{number}"), &[&uri], 5, 100 + number))
    }

    pub(super) fn client_of(&self, identity: &IdentityFiles) -> Client {
        let tls = ClientTls { ca_file: Some(self.ca.file.clone()), identity: Some(identity.clone()) };
        let tls = client_config(&tls).expect("good files");
        let http = HttpClient::new(tls.clone(), &ClientSettings::default());
        Client { http, tls: Arc::new(tls), port: self.port, identity: identity.clone(), headers: HeaderMap::new() }
    }

    /// Ends it, as SIGTERM does.
    pub(super) async fn stop(mut self) -> DrainReport {
        drop(self.stop.take());
        tokio::time::timeout(LONG, &mut self.task).await.expect("ends").expect("does not panic")
    }

    pub(super) async fn lose_store(&self) {
        self.store.close().await;
    }
}

fn settings() -> ServerSettings {
    ServerSettings {
        instance: "custodian-1".to_owned(),
        storage_type: "sqlite",
        max_requests: 64,
        // Two for each client.
        max_watches: 8,
        witnesses: Vec::new(),
        tracer: crate::telemetry::traces::Tracer::default(),
    }
}

fn opening(folder: &TempDir, store: &Arc<SqlStore>, disk: &Arc<Faulty>, store_grace: Duration) -> Opening {
    let identity = SpiffeId::parse("spiffe://example.org/region/us/custodian/c1").expect("legal");
    Opening {
        store: store.clone(),
        audit: AuditSettings {
            folder: folder.path().join("audit"),
            instance: "custodian-1".to_owned(),
            origin: "example.org/custodian-1".to_owned(),
            checkpoint_interval: Duration::from_millis(50),
        },
        audit_disk: disk.storage(),
        policy: POLICY.to_owned(),
        engine: EngineSettings {
            store_poll: Duration::from_millis(50),
            store_grace,
            destroy_wait: Wait { seconds: 0, insecure: true },
            ..EngineSettings::new(identity)
        },
    }
}

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
    /// Null for what is not JSON.
    pub(super) json: Json,
}

impl Answer {
    pub(super) fn error(&self) -> &str {
        self.json.pointer("/errors/0").and_then(Json::as_str).unwrap_or("-")
    }

    pub(super) fn data(&self, name: &str) -> &Json {
        self.json.pointer(&format!("/data/{name}")).unwrap_or(&Json::Null)
    }

    pub(super) fn data_text(&self, name: &str) -> String {
        self.data(name).as_str().unwrap_or_else(|| panic!("{name}: {self:?}")).to_owned()
    }
}

/// Someone who calls.
pub(super) struct Client {
    http: HttpClient<Full<Bytes>>,
    tls: Arc<rustls::ClientConfig>,
    port: u16,
    pub(super) identity: IdentityFiles,
    pub(super) headers: HeaderMap,
}

impl Client {
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, value.parse().expect("a value"));
        self
    }

    pub(super) async fn try_call(&self, method: &str, path: &str, body: &str) -> Result<Answer, ClientError> {
        let (status, headers, body) = self.stream(method, path, body).await?;
        let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let json = serde_json::from_str(&text).unwrap_or_default();
        Ok(Answer { status, headers, text, json })
    }

    pub(super) async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.try_call(method, path, body).await.unwrap_or_else(|error| panic!("{method} {path}: {error:?}"))
    }

    /// The answer whose body has not come yet.
    pub(super) async fn stream(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<(u16, HeaderMap, ResponseBody), ClientError> {
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
        *request.method_mut() = Method::from_bytes(method.as_bytes()).expect("a method");
        *request.uri_mut() = format!("https://localhost:{}{path}", self.port).parse().expect("a URI");
        *request.headers_mut() = self.headers.clone();
        let (head, body) = self.http.request(request, LONG).await?.into_parts();
        Ok((head.status.as_u16(), head.headers, body))
    }

    /// Sends bytes as they are, and gives the status of what comes back, if anything does.
    pub(super) async fn raw(&self, bytes: &[u8]) -> Option<(u16, String)> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("connects");
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
        let name = ServerName::try_from("localhost").expect("a name");
        let mut stream = connector.connect(name, stream).await.expect("TLS");
        stream.write_all(bytes).await.expect("sends");
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await.expect("it ends");
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        Some((status, text))
    }

    /// Makes the KEK `records`, derived or not.
    pub(super) async fn make_key(&self, derived: bool) {
        let answer = self.call("POST", "/v1/transit/keys/records", &format!("{{\"derived\":{derived}}}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// Reads lines of a stream one by one.
pub(super) struct Lines {
    body: ResponseBody,
    rest: Vec<u8>,
}

impl Lines {
    pub(super) fn new(body: ResponseBody) -> Self {
        Self { body, rest: Vec::new() }
    }

    /// The next line, or `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Option<Json> {
        loop {
            if let Some(at) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                return Some(serde_json::from_slice(&line).expect("JSON"));
            }
            let frame = tokio::time::timeout(LONG, self.body.frame()).await.expect("in time")?;
            let Ok(data) = frame.ok()?.into_data() else { continue };
            self.rest.extend_from_slice(&data);
        }
    }

    /// The next line that is no heartbeat.
    pub(super) async fn event(&mut self) -> Option<Json> {
        loop {
            let line = self.next().await?;
            if line["event"] != "heartbeat" {
                return Some(line);
            }
        }
    }
}

/// Waits until `holds`, which has to happen soon.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < LONG, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

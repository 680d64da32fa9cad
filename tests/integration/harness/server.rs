//! The custodian's server over mTLS, in this process, and proxies that ask it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use claviger::custodian::audit::AuditSettings;
use claviger::custodian::embedded::{self, POLICY, Place};
use claviger::custodian::engine::EngineSettings;
use claviger::custodian::passphrase::Passphrase;
use claviger::custodian::server::{AutoSeal, Opening, Server, ServerSettings};
use claviger::custodian::store::{SealedStore, SqlStore, StoreSettings, open_sqlite};
use claviger::net::client::{ClientSettings, HttpClient};
use claviger::net::listener::ListenerLimits;
use claviger::net::tls::{ClientTls, IdentityFiles, client_config, mutual_server_config};
use claviger::tlog::storage::Disk;
use claviger::transit::Transit;
use claviger::transit::settings::{Address, TransitSettings};
use http::Request;
use http_body_util::Full;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::LONG;
use super::custodian::id;

/// The server; it ends when this is dropped.
pub(crate) struct CustodianServer {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
    store: Arc<SqlStore>,
    passphrase: Arc<Passphrase>,
    port: u16,
    task: JoinHandle<()>,
}

impl CustodianServer {
    /// Unsealed, with a log that waits for the disk.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let passphrase = Arc::new(Passphrase::new(vec![7; 32]).expect("long enough"));
        let place = Place { store: folder.path().join("store.db"), audit: folder.path().join("audit") };
        embedded::create(&place, &passphrase, 100_000).await.expect("makes");
        let store = Arc::new(open_sqlite(&place.store, StoreSettings::default()).await.expect("opens"));
        let authority = authority();
        write(folder.path(), "ca.pem", &authority.pem());
        let identity = issue(folder.path(), &authority, "custodian/c1", ExtendedKeyUsagePurpose::ServerAuth);
        let tls = mutual_server_config(&identity, &folder.path().join("ca.pem"), None).expect("good files");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let server = Server::new(settings(), opening(&place, &store));
        server.unseal_by_itself(&[AutoSeal::Passphrase(Arc::clone(&passphrase))]).await;
        assert!(!server.is_sealed());
        let task = tokio::spawn(async move {
            let (_renewed, tls) = watch::channel(tls);
            server.serve(listener, tls, ListenerLimits::default(), std::future::pending()).await;
        });
        Self { folder, authority, store, passphrase, port, task }
    }

    /// Has it make a derived KEK.
    pub(crate) async fn create_kek(&self, name: &str) {
        let tls = client_config(&self.tls("officer/alice")).expect("good files");
        let uri = format!("https://127.0.0.1:{}/v1/transit/keys/{name}", self.port);
        let body = Full::new(Bytes::from_static(b"{\"derived\":true}"));
        let request = Request::post(uri).body(body).expect("good request");
        let client = HttpClient::new(tls, &ClientSettings::default());
        let answer = client.request(request, LONG).await.expect("answers");
        assert_eq!(answer.status(), 200);
    }

    /// A client with a certificate of its own; its calls fail if they take longer than a proxy allows.
    pub(crate) fn client(&self, role_and_name: &str) -> Transit {
        let address = Address::parse(&format!("https://127.0.0.1:{}", self.port)).expect("legal");
        let settings = TransitSettings::new(vec![address], self.tls(role_and_name));
        Transit::new(&settings).expect("good settings")
    }

    fn tls(&self, role_and_name: &str) -> ClientTls {
        let identity = issue(self.folder.path(), &self.authority, role_and_name, ExtendedKeyUsagePurpose::ClientAuth);
        ClientTls { ca_file: Some(self.folder.path().join("ca.pem")), identity: Some(identity) }
    }

    /// The store, as whoever has the passphrase sees it.
    pub(crate) async fn store(&self) -> SealedStore {
        let (seals, _) = SealedStore::seals(&*self.store).await.expect("has seals");
        let root = seals.open_with_passphrase(&self.passphrase).await.expect("opens");
        SealedStore::open(self.store.clone(), &root).await.expect("opens")
    }
}

impl Drop for CustodianServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn settings() -> ServerSettings {
    ServerSettings {
        instance: "test".to_owned(),
        storage_type: "sqlite",
        max_requests: 512,
        max_watches: 16,
        witnesses: Vec::new(),
        tracer: claviger::telemetry::traces::Tracer::default(),
    }
}

fn opening(place: &Place, store: &Arc<SqlStore>) -> Opening {
    Opening {
        store: store.clone(),
        audit: AuditSettings {
            folder: place.audit.clone(),
            instance: "test".to_owned(),
            origin: "localhost/test".to_owned(),
            checkpoint_interval: Duration::from_secs(1),
        },
        audit_disk: Arc::new(Disk::durable()),
        policy: POLICY.to_owned(),
        engine: EngineSettings::new(id("us", "custodian/c1")),
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs itself")
}

fn issue(
    folder: &Path,
    authority: &CertifiedIssuer<'static, KeyPair>,
    role_and_name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> IdentityFiles {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let uri = id("us", role_and_name);
    params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().expect("ASCII")));
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("signs");
    let file = role_and_name.replace('/', "-");
    IdentityFiles {
        certificates: write(folder, &format!("{file}.pem"), &certificate.pem()),
        key: write(folder, &format!("{file}.key"), &key.serialize_pem()),
    }
}

/// Writes a file that only its owner can read.
fn write(folder: &Path, name: &str, content: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join(name);
    std::fs::write(&path, content).expect("own folder");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("own file");
    path
}

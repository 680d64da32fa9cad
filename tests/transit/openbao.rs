//! A real OpenBao server: TLS on a free port of 127.0.0.1, everything in memory, unsealed, with Transit and certificate login.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use serde_json::{Value, json};

use claviger::net::body::collect_bounded;
use claviger::net::client::{ClientSettings, HttpClient};
use claviger::net::tls::{ClientTls, IdentityFiles, client_config};

const READY: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(20);

/// The server; it is killed when this is dropped.
pub(crate) struct OpenBao {
    pub(crate) url: String,
    folder: tempfile::TempDir,
    child: Child,
    client: HttpClient<Full<Bytes>>,
    unseal_key: String,
    root_token: String,
}

impl OpenBao {
    /// Starts a server whose certificate role `proxy` may do everything with Transit.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        certificates(folder.path());
        let port = TcpListener::bind("127.0.0.1:0").expect("free port").local_addr().expect("bound").port();
        let child = spawn(folder.path(), port);
        let tls = ClientTls { ca_file: Some(folder.path().join("ca.pem")), identity: None };
        let client = HttpClient::new(client_config(&tls).expect("good files"), &ClientSettings::default());
        let url = format!("https://127.0.0.1:{port}");
        let mut bao = Self { url, folder, child, client, unseal_key: String::new(), root_token: String::new() };
        bao.wait_until("listening", |status, _| status != 0).await;
        let keys = bao.admin("POST", "sys/init", &json!({"secret_shares": 1, "secret_threshold": 1})).await;
        bao.unseal_key = text(&keys["keys_base64"][0]);
        bao.root_token = text(&keys["root_token"]);
        bao.unseal().await;
        bao.admin("POST", "sys/mounts/transit", &json!({"type": "transit"})).await;
        bao.admin("POST", "sys/auth/cert", &json!({"type": "cert"})).await;
        let ca = std::fs::read_to_string(bao.folder().join("ca.pem")).expect("just written");
        let role = json!({"certificate": ca, "token_policies": ["proxy"], "token_ttl": "1h"});
        bao.admin("POST", "auth/cert/certs/proxy", &role).await;
        bao.policy("path \"transit/*\" { capabilities = [\"update\"] }").await;
        bao
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The policy of the role `proxy`.
    pub(crate) async fn policy(&self, rules: &str) {
        self.admin("POST", "sys/policies/acl/proxy", &json!({"policy": rules})).await;
    }

    pub(crate) async fn create_kek(&self, name: &str, derived: bool) {
        self.admin("POST", &format!("transit/keys/{name}"), &json!({"derived": derived})).await;
    }

    /// A token with the policy of the role `proxy`.
    pub(crate) async fn token(&self, ttl: &str) -> String {
        let made = self.admin("POST", "auth/token/create", &json!({"policies": ["proxy"], "ttl": ttl})).await;
        text(&made["auth"]["client_token"])
    }

    /// Revokes every token that came of a login.
    pub(crate) async fn revoke_logins(&self) {
        self.admin("POST", "sys/leases/revoke-prefix/auth/cert", &json!({})).await;
    }

    pub(crate) async fn seal(&self) {
        self.admin("POST", "sys/seal", &json!({})).await;
    }

    pub(crate) async fn unseal(&self) {
        self.admin("POST", "sys/unseal", &json!({"key": self.unseal_key})).await;
        self.wait_until("active", |status, _| status == 200).await;
    }

    /// Kills the server, for good.
    pub(crate) fn stop(&mut self) {
        // It may have died on its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A client certificate that the server trusts.
    pub(crate) fn tls(&self) -> ClientTls {
        ClientTls { ca_file: Some(self.folder().join("ca.pem")), identity: Some(self.identity("client")) }
    }

    /// A client certificate of another CA.
    pub(crate) fn stranger(&self) -> IdentityFiles {
        self.identity("stranger")
    }

    fn identity(&self, name: &str) -> IdentityFiles {
        let file = |kind: &str| self.folder().join(format!("{name}.{kind}"));
        IdentityFiles { certificates: file("pem"), key: file("key") }
    }

    /// Writes a file that only its owner can read.
    pub(crate) fn write_private(&self, name: &str, content: &str) {
        write_private(self.folder(), name, content);
    }

    /// A request with the root token, which has to succeed.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.request(method, path, body).await;
        assert!(matches!(status, 200 | 204), "{method} {path}: {status} {answer}\n{}", self.log());
        answer
    }

    async fn request(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = Request::builder().method(method).uri(format!("{}/v1/{path}", self.url));
        let request = request.header("x-vault-token", &self.root_token);
        let request = request.body(Full::new(Bytes::from(body.to_string()))).expect("good request");
        let Ok(response) = self.client.request(request, ANSWER).await else { return (0, Value::Null) };
        let status = response.status().as_u16();
        let body = collect_bounded(response.into_body(), 1 << 20).await.unwrap_or_default();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn wait_until(&self, what: &str, ready: impl Fn(u16, &Value) -> bool) {
        let begun = Instant::now();
        loop {
            let (status, answer) = self.request("GET", "sys/health", &Value::Null).await;
            if ready(status, &answer) {
                return;
            }
            assert!(begun.elapsed() < READY, "OpenBao is not {what}: {status} {answer}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join("server.log")).unwrap_or_default()
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        self.stop();
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// The program: `CLAVIGER_BAO`, else what `tests/run` installed, else the one on the PATH.
fn program() -> PathBuf {
    if let Some(given) = std::env::var_os("CLAVIGER_BAO") {
        return given.into();
    }
    let installed = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("interop-venv").join("bin/bao");
    if installed.exists() { installed } else { "bao".into() }
}

fn spawn(folder: &Path, port: u16) -> Child {
    let config = format!(
        "ui = false\nlog_level = \"warn\"\ndisable_mlock = true\nstorage \"inmem\" {{}}\nlistener \"tcp\" {{\n  \
         address = \"127.0.0.1:{port}\"\n  tls_cert_file = \"server.pem\"\n  tls_key_file = \"server.key\"\n  \
         tls_client_ca_file = \"ca.pem\"\n}}\n"
    );
    std::fs::write(folder.join("server.hcl"), config).expect("own folder");
    let log = std::fs::File::create(folder.join("server.log")).expect("own folder");
    let errors = log.try_clone().expect("a second handle");
    let mut command = Command::new(program());
    command.args(["server", "-config", "server.hcl"]).current_dir(folder).env("HOME", folder);
    let spawned = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
    spawned.expect("OpenBao is installed; set CLAVIGER_BAO to its program `bao`")
}

/// A CA, certificates of it for server and client, and a client certificate of another CA.
fn certificates(folder: &Path) {
    let ca = authority();
    write_private(folder, "ca.pem", &ca.pem());
    issue(folder, "server", &ca, ExtendedKeyUsagePurpose::ServerAuth);
    issue(folder, "client", &ca, ExtendedKeyUsagePurpose::ClientAuth);
    issue(folder, "stranger", &authority(), ExtendedKeyUsagePurpose::ClientAuth);
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("signs itself")
}

fn issue(folder: &Path, name: &str, ca: &CertifiedIssuer<'static, KeyPair>, usage: ExtendedKeyUsagePurpose) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).expect("good names");
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate().expect("key");
    let certificate = params.signed_by(&key, ca).expect("signs");
    write_private(folder, &format!("{name}.pem"), &certificate.pem());
    write_private(folder, &format!("{name}.key"), &key.serialize_pem());
}

fn write_private(folder: &Path, name: &str, content: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join(name);
    std::fs::write(&path, content).expect("own folder");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("own file");
}

//! What the tests of several modules need: certificates in files, servers that follow a script.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ConnectionCommon;
use time::OffsetDateTime;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::tls::IdentityFiles;

/// Moves what one side of a TLS connection wants to send to the other.
pub(crate) fn carry<A, B>(from: &mut ConnectionCommon<A>, to: &mut ConnectionCommon<B>) -> Result<(), rustls::Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).expect("memory");
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).expect("memory");
        to.process_new_packets()?;
    }
    Ok(())
}

/// A certificate authority whose files lie in a test's folder.
pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
    pub(crate) file: PathBuf,
}

impl Ca {
    /// Its own certificate and key.
    pub(crate) fn as_identity(&self) -> IdentityFiles {
        let key = write_file(&self.dir, "ca.key", self.issuer.key().serialize_pem().as_bytes());
        IdentityFiles { certificates: self.file.clone(), key }
    }

    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("signs itself");
        let file = write_file(dir, &format!("{name}.pem"), issuer.pem().as_bytes());
        Self { issuer, dir: dir.into(), file }
    }

    pub(crate) fn issue(&self, name: &str, alt_names: &[&str]) -> IdentityFiles {
        self.issue_until(name, alt_names, OffsetDateTime::now_utc() + time::Duration::days(3650))
    }

    pub(crate) fn issue_until(&self, name: &str, alt_names: &[&str], ends: OffsetDateTime) -> IdentityFiles {
        let alt_names: Vec<String> = alt_names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(alt_names).expect("good names");
        params.not_after = ends;
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        IdentityFiles {
            certificates: write_file(&self.dir, &format!("{name}.pem"), certificate.pem().as_bytes()),
            key: write_file(&self.dir, &format!("{name}.key"), key.serialize_pem().as_bytes()),
        }
    }
}

/// Writes a file that only its owner can read.
pub(crate) fn write_file(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, content).expect("test folder is writable");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("own file");
    }
    path
}

/// A server that runs `script` for each connection, told which one it is (from 0), until the test ends.
pub(crate) async fn scripted<S, F>(script: S) -> Scripted
where
    S: Fn(TcpStream, usize) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let address = listener.local_addr().expect("bound");
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(script(stream, count.fetch_add(1, Ordering::SeqCst)));
        }
    });
    Scripted { address, connections }
}

/// See [`scripted`].
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Scripted {
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Reads up to the end of a head: the head, without what may already have come after it.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).expect("heads are ASCII here")
}

/// Reads until the peer closes or resets: the bytes that came.
pub(crate) async fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset instead of an orderly close is fine too.
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}

pub(crate) fn full(body: &str) -> http_body_util::Full<bytes::Bytes> {
    http_body_util::Full::new(bytes::Bytes::copy_from_slice(body.as_bytes()))
}

//! A custodian's watch that says what a test wants said, and can be cut off without a word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use claviger::custody::watch::Watch;
use claviger::net::tls::ClientTls;
use claviger::transit::Transit;
use claviger::transit::settings::{Address, Authentication, TransitSettings};
use claviger::transit::watch::Watching;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::time::timeout;

use super::{Proxy, until};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
const HEARTBEAT: Duration = Duration::from_millis(250);

/// See the module.
pub(crate) struct FakeWatch {
    port: u16,
    say: broadcast::Sender<String>,
    greeted: Arc<AtomicUsize>,
    partitioned: Arc<AtomicBool>,
}

impl FakeWatch {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (say, greeted) = (broadcast::Sender::new(16), Arc::new(AtomicUsize::new(0)));
        let partitioned = Arc::new(AtomicBool::new(false));
        let (said, count, cut) = (say.clone(), Arc::clone(&greeted), Arc::clone(&partitioned));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream, said.subscribe(), Arc::clone(&count), Arc::clone(&cut)));
            }
        });
        Self { port, say, greeted, partitioned }
    }

    /// Has `proxy` watch it. The watch is held as long as what is returned.
    pub(crate) async fn watched_by(&self, proxy: &Proxy, grace: Duration) -> (Watching, TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let token = folder.path().join("token");
        std::fs::write(&token, "s.token").expect("writes");
        std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
        let address = Address::parse(&format!("http://127.0.0.1:{}", self.port)).expect("legal");
        let settings = TransitSettings::new(vec![address], ClientTls::default());
        let settings = TransitSettings { authentication: Authentication::TokenFile(token), ..settings };
        let transit = Transit::new(&settings).expect("good settings");
        let watching = transit.watch(Watch::new(proxy.keys.clone(), grace)).await.expect("opens");
        (watching, folder)
    }

    pub(crate) fn says(&self, line: &str) {
        self.say.send(format!("{line}\n")).expect("the proxy listens");
    }

    /// Every connection ends.
    pub(crate) fn hangs_up(&self) {
        self.say.send(String::new()).expect("the proxy listens");
    }

    /// Nothing comes any more, over old connections or new ones, and none of them ends.
    pub(crate) fn partition(&self, cut: bool) {
        self.partitioned.store(cut, Ordering::SeqCst);
    }

    /// Waits until so many connections were greeted.
    pub(crate) async fn greets(&self, count: usize) {
        until("the greeting", || self.greeted.load(Ordering::SeqCst) >= count).await;
    }
}

async fn talk(
    mut stream: TcpStream,
    mut said: broadcast::Receiver<String>,
    greeted: Arc<AtomicUsize>,
    partitioned: Arc<AtomicBool>,
) {
    let mut head = [0; 4096];
    let _ = stream.read(&mut head).await;
    let mut line = format!("{{\"event\":\"hello\",\"heartbeat_ms\":{}}}\n", HEARTBEAT.as_millis());
    let (mut begun, greeted_at) = (false, std::time::Instant::now());
    loop {
        if partitioned.load(Ordering::SeqCst) {
            // Until the peer gives up.
            let _ = stream.read(&mut head).await;
            return;
        }
        let chunk = format!("{:x}\r\n{line}\r\n", line.len());
        let head = if begun { &[][..] } else { HEAD };
        if stream.write_all(&[head, chunk.as_bytes()].concat()).await.is_err() {
            return;
        }
        if !std::mem::replace(&mut begun, true) {
            greeted.fetch_add(1, Ordering::SeqCst);
        }
        line = match timeout(HEARTBEAT, said.recv()).await {
            Ok(Ok(line)) if line.is_empty() => return,
            Ok(Ok(line)) => line,
            _ => "{\"event\":\"heartbeat\"}\n".to_owned(),
        };
        line = line.replace("}\n", &format!(",\"elapsed_ms\":{}}}\n", greeted_at.elapsed().as_millis()));
    }
}

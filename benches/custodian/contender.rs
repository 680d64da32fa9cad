//! A server in a process of its own, which takes Transit requests.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger::custody::context::BranchContext;
use claviger::names::{BranchId, LogicalBucket, Purpose, WriterDomain};
use rustls::ClientConfig;

use crate::connection::{Connection, request};

const READY: Duration = Duration::from_secs(60);
/// `USER_HZ`, in which Linux tells CPU time.
const TICKS_PER_S: f64 = 100.0;

/// The process; it is killed when this is dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts `command` in `folder`; what it says goes into a file there.
    pub(crate) fn start(command: &mut Command, folder: &Path) -> Result<Self> {
        let log = File::create(folder.join("server.log"))?;
        let errors = log.try_clone()?;
        let spawned = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        Ok(Self(spawned.with_context(|| format!("cannot start {}", command.get_program().display()))?))
    }

    /// Seconds of CPU that it has used.
    fn cpu_s(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let (_, fields) = stat.rsplit_once(')').context("no name in its stat")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
        Ok(ticks.sum::<Result<f64, _>>()? / TICKS_PER_S)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have died on its own.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Unwrap,
    Generate,
}

/// A server with a derived KEK `records`.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    process: Process,
    token: Option<String>,
    /// A request to unwrap the same branch key again and again: neither server remembers any.
    unwrap: Vec<u8>,
}

impl Contender {
    /// Over a server that is ready; has it make the branch key that is unwrapped.
    pub(crate) async fn new(
        name: &'static str,
        address: SocketAddr,
        process: Process,
        token: Option<String>,
        client: &Arc<ClientConfig>,
    ) -> Result<Self> {
        let mut contender = Self { name, address, process, token, unwrap: Vec::new() };
        let context = context()?;
        let made = contender.data_key(&context);
        let made = Connection::open(address, client).await?.done(&made).await?;
        let ciphertext = made["data"]["ciphertext"].as_str().context("no ciphertext")?;
        let body = format!("{{\"ciphertext\":\"{ciphertext}\",\"context\":\"{context}\"}}");
        contender.unwrap = request("POST", "transit/decrypt/records", contender.token.as_deref(), &body);
        Ok(contender)
    }

    fn data_key(&self, context: &str) -> Vec<u8> {
        let body = format!("{{\"context\":\"{context}\"}}");
        request("POST", "transit/datakey/plaintext/records", self.token.as_deref(), &body)
    }

    /// The next request; each generated branch key is another one.
    pub(crate) fn request(&self, operation: Operation) -> Result<Vec<u8>> {
        match operation {
            Operation::Unwrap => Ok(self.unwrap.clone()),
            Operation::Generate => Ok(self.data_key(&context()?)),
        }
    }

    /// Seconds of CPU that its process has used.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        self.process.cpu_s()
    }
}

/// The context of a new branch key, in base64.
fn context() -> Result<String> {
    let context = BranchContext {
        purpose: Purpose::Object,
        bucket: LogicalBucket::new("payroll")?,
        writer: WriterDomain::new("proxy/us")?,
        id: BranchId::random()?,
    };
    Ok(STANDARD.encode(context.to_bytes()))
}

/// A port that nobody listens on.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Asks for the server's health until it has one of these statuses.
pub(crate) async fn until_healthy(
    address: SocketAddr,
    client: &Arc<ClientConfig>,
    healthy: &[u16],
    folder: &Path,
) -> Result<()> {
    let begun = Instant::now();
    let health = request("GET", "sys/health", None, "");
    while begun.elapsed() < READY {
        if let Ok(mut connection) = Connection::open(address, client).await
            && let Ok((status, _)) = connection.ask(&health).await
            && healthy.contains(&status)
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("not ready in time: {}", std::fs::read_to_string(folder.join("server.log")).unwrap_or_default())
}

//! What the custodian takes over mTLS, beside OpenBao: unwrap and generate over warm connections, and a hundred proxies that start at once.
//!
//! Run: `cargo bench --bench custodian`, with `-- 9` for nine rounds. Its folder is made under the current one, because /tmp may be memory.
//! Each server is a process of its own; this one only sends. OpenBao is the program that `CLAVIGER_BAO` names, or that `tests/run` installed.

#[path = "custodian/connection.rs"]
mod connection;
#[path = "custodian/contender.rs"]
mod contender;
#[path = "custodian/openbao.rs"]
mod openbao;
#[path = "custodian/claviger.rs"]
mod ours;
#[path = "custodian/party.rs"]
mod party;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustls::ClientConfig;
use tokio::task::{JoinSet, LocalSet};

use connection::Connection;
use contender::{Contender, Operation};
use party::Authority;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(1500);
const CONNECTIONS: [usize; 4] = [1, 4, 16, 64];
/// As fast as each connection goes says how much there is to be had; how long one waits at this rate is the other question.
const PACED_PER_S: u32 = 5000;
const PACED_CONNECTIONS: usize = 16;
/// Proxies that start at once, and the branch keys that each asks for.
const PROXIES: usize = 100;
const KEYS_EACH: usize = 100;

/// What is measured.
#[derive(Clone, Copy)]
struct Case {
    operation: Operation,
    connections: usize,
    /// Requests in a second over all connections; without it, each sends the next when it has the answer.
    per_s: Option<u32>,
}

impl Case {
    fn name(self) -> String {
        let operation = if self.operation == Operation::Unwrap { "unwrap" } else { "generate" };
        let pace = self.per_s.map(|per_s| format!(", {per_s} /s")).unwrap_or_default();
        format!("{operation}, {} conn.{pace}", self.connections)
    }

    fn all() -> Vec<Self> {
        let paced = Self { operation: Operation::Unwrap, connections: PACED_CONNECTIONS, per_s: Some(PACED_PER_S) };
        let free = [Operation::Unwrap, Operation::Generate].into_iter().flat_map(|operation| {
            CONNECTIONS.into_iter().map(move |connections| Self { operation, connections, per_s: None })
        });
        std::iter::once(paced).chain(free).collect()
    }

    /// When the request `number` of the connection `connection` is to be sent, after the beginning.
    fn due(self, connection: usize, number: usize) -> Duration {
        let per_s = self.per_s.map_or(f64::INFINITY, f64::from);
        Duration::from_secs_f64((connection + number * self.connections) as f64 / per_s)
    }
}

/// What one round showed.
struct Sample {
    per_s: f64,
    p50: Duration,
    p99: Duration,
    p999: Duration,
    /// CPU time of the server, for one operation.
    cpu: Duration,
}

/// The value that so many of `sorted` are below.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    sorted.get((sorted.len() as f64 * share) as usize).copied().unwrap_or_default()
}

/// Opens the connections, asks once over each, and then as often as it goes until the round is over.
async fn round(contender: &Contender, client: &Arc<ClientConfig>, case: Case) -> Result<Sample> {
    let mut connections = Vec::new();
    for _ in 0..case.connections {
        let mut connection = Connection::open(contender.address, client).await?;
        connection.done(&contender.request(case.operation)?).await?;
        connections.push(connection);
    }
    let (began, cpu_s) = (Instant::now(), contender.cpu_s()?);
    let asking = connections.into_iter().enumerate().map(|(which, mut connection)| async move {
        let mut latencies = Vec::new();
        while began.elapsed() < ROUND {
            let request = contender.request(case.operation)?;
            let due = began + case.due(which, latencies.len());
            // Who is late waits since it was due; who is early does not wait for the timer's milliseconds.
            let early = Instant::now() < due;
            if early {
                tokio::time::sleep_until(due.into()).await;
            }
            let waiting_since = if early || case.per_s.is_none() { Instant::now() } else { due };
            let (status, _) = connection.ask(&request).await?;
            ensure!(status == 200, "{}: {status}", contender.name);
            latencies.push(waiting_since.elapsed());
        }
        anyhow::Ok(latencies)
    });
    let mut latencies = futures_util::future::try_join_all(asking).await?.concat();
    let (lasted, cpu_s) = (began.elapsed(), contender.cpu_s()? - cpu_s);
    latencies.sort_unstable();
    let done = latencies.len() as f64;
    Ok(Sample {
        per_s: done / lasted.as_secs_f64(),
        p50: quantile(&latencies, 0.5),
        p99: quantile(&latencies, 0.99),
        p999: quantile(&latencies, 0.999),
        cpu: Duration::from_secs_f64(cpu_s / done),
    })
}

/// The middle one of these.
fn median<T: PartialOrd + Copy>(of: &[Sample], value: impl Fn(&Sample) -> T) -> Result<T> {
    let mut values: Vec<T> = of.iter().map(value).collect();
    values.sort_by(|one, other| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len() / 2).copied().context("no rounds")
}

/// Measures all contenders by turns; the ratios are to the last one, which is OpenBao if it is there.
async fn compare(contenders: &[Contender], client: &Arc<ClientConfig>, case: Case, rounds: usize) -> Result<()> {
    let mut samples: Vec<Vec<Sample>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (contender, samples) in contenders.iter().zip(&mut samples) {
            samples.push(round(contender, client, case).await?);
        }
    }
    let base = median(samples.last().context("no contenders")?, |sample| sample.per_s)?;
    for (contender, samples) in contenders.iter().zip(&samples) {
        let per_s = median(samples, |sample| sample.per_s)?;
        let ms = |value: fn(&Sample) -> Duration| Ok::<_, anyhow::Error>(median(samples, value)?.as_secs_f64() * 1e3);
        let cpu_us = median(samples, |sample| sample.cpu)?.as_secs_f64() * 1e6;
        let (p50, p99, p999) = (ms(|sample| sample.p50)?, ms(|sample| sample.p99)?, ms(|sample| sample.p999)?);
        report(&format!(
            "| {} | {} | {per_s:.0} /s | {:.2} | {p50:.2} ms | {p99:.2} ms | {p999:.2} ms | {cpu_us:.0} µs |",
            case.name(),
            contender.name,
            per_s / base,
        ));
    }
    Ok(())
}

/// All proxies connect at the same moment, each as itself, and each asks for its branch keys one after the other.
async fn start_together(contender: &Contender, proxies: &[Arc<ClientConfig>]) -> Result<()> {
    let mut running = JoinSet::new();
    let began = Instant::now();
    for proxy in proxies {
        let requests = (0..KEYS_EACH).map(|_| contender.request(Operation::Generate)).collect::<Result<Vec<_>>>()?;
        let (address, proxy) = (contender.address, Arc::clone(proxy));
        running.spawn_local(async move {
            let mut connection = Connection::open(address, &proxy).await?;
            for request in requests {
                connection.done(&request).await?;
            }
            anyhow::Ok(began.elapsed())
        });
    }
    let mut finished = Vec::new();
    let mut failed = Vec::new();
    for ended in running.join_all().await {
        match ended {
            Ok(after) => finished.push(after),
            Err(error) => failed.push(error),
        }
    }
    finished.sort_unstable();
    let at = |share| quantile(&finished, share).as_secs_f64();
    report(&format!(
        "| {} | {} of {PROXIES} | {:.2} s | {:.2} s | {:.2} s |",
        contender.name,
        finished.len(),
        at(0.0),
        at(0.5),
        at(1.0 - f64::EPSILON),
    ));
    failed.first().map_or(Ok(()), |error| Err(anyhow::anyhow!("a proxy failed: {error:#}")))
}

#[expect(clippy::print_stdout, reason = "a benchmark's output")]
fn report(line: &str) {
    println!("{line}");
}

async fn measure(rounds: usize) -> Result<()> {
    let folder = tempfile::tempdir_in(".")?;
    let authority = Authority::new(folder.path())?;
    let (client, officer) = (authority.client("proxy", "bench")?, authority.client("officer", "bench")?);
    let place = |name: &str| {
        let place = folder.path().join(name);
        std::fs::create_dir(&place).map(|()| place)
    };
    let mut contenders = vec![
        ours::start(&place("durable")?, true, &client, &officer).await?,
        ours::start(&place("not-durable")?, false, &client, &officer).await?,
    ];
    match openbao::program() {
        Some(program) => contenders.push(openbao::start(&program, &place("openbao")?, &client).await?),
        None => report(
            "OpenBao is not compared: CLAVIGER_BAO does not name its program `bao`, nor did tests/run install it.\n",
        ),
    }
    report(&format!("| {rounds} rounds | server | throughput | × last | p50 | p99 | p99.9 | CPU of the server |"));
    report("|---|---|---|---|---|---|---|---|");
    for case in Case::all() {
        compare(&contenders, &client, case, rounds).await?;
    }
    let names = (0..PROXIES).map(|number| authority.client("proxy", &format!("p{number}")));
    let proxies = names.collect::<Result<Vec<_>>>()?;
    report(&format!("\n| {PROXIES} proxies at once, {KEYS_EACH} branch keys each | done | first | median | last |"));
    report("|---|---|---|---|---|");
    for contender in &contenders {
        start_together(contender, &proxies).await?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [serve, sync, address] = arguments.as_slice()
        && serve == ours::SERVE
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(ours::serve(sync, address));
    }
    let rounds = arguments.first().map_or(Ok(ROUNDS), |rounds| rounds.parse()).context("a number of rounds")?;
    // One thread: what is left of the machine is the servers'.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, measure(rounds))
}

//! One run: everything that there is, the applications at work, and what is checked while they are and at the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use claviger::net::network::ClientNetwork;
use http::Method;
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};

use crate::adversary;
use crate::certificates::certificates;
use crate::client::{Answer, Ask, S3};
use crate::custodian::{Custodian, HEARTBEAT, STORE_GRACE, Store};
use crate::lock;
use crate::network::{Host, Net};
use crate::proxy::{self, CLIENTS, Setup, WATCH_GRACE};
use crate::random::Random;
use crate::records::{Records, content};
use crate::scan::Scan;
use crate::storage::Storage;
use crate::trace::{Outcome, Trace};

pub(crate) const NAMES: [&str; 6] = ["applications", "proxy-1", "proxy-2", "custodian-1", "custodian-2", "storage"];
pub(crate) const PROXIES: [Host; 2] = [1, 2];
pub(crate) const CUSTODIANS: [Host; 2] = [3, 4];
pub(crate) const STORAGE: Host = 5;
/// How long the applications work, and the adversary with them.
pub(crate) const WORK: Duration = Duration::from_secs(50);
/// How long everything may take to find together again.
const RECOVERY: Duration = Duration::from_secs(40);
/// Who was revoked gets nothing that is asked for later: a custodian may do without its store for a while and say that all is well, that
/// may be held back for as long as a silence of three heartbeats, after which there is one more, and then the grace.
const BOUND: Duration = STORE_GRACE
    .saturating_add(HEARTBEAT.saturating_mul(6))
    .saturating_add(WATCH_GRACE)
    .saturating_add(Duration::from_millis(300));
const LENGTHS: [usize; 8] = [0, 1, 90, 1_000, 5_000, 65_536, 65_537, 150_000];

/// Something wrong that the checks have to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An application writes past the proxies.
    Plaintext,
    /// An application writes a branch key past the proxies.
    BareKey,
    /// A byte of an answer is another one.
    WrongByte,
    /// The storage server forgets what it acknowledged.
    LostWrite,
    /// The proxies do not listen to the custodians.
    Unwatched,
}

impl Fault {
    const ALL: [Self; 5] = [Self::Plaintext, Self::BareKey, Self::WrongByte, Self::LostWrite, Self::Unwatched];

    pub(crate) fn name(self) -> String {
        format!("{self:?}")
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }
}

/// Everything that there is.
pub(crate) struct World {
    pub(crate) net: Net,
    pub(crate) storage: Storage,
    pub(crate) store: Store,
    pub(crate) custodians: Mutex<BTreeMap<Host, Custodian>>,
    pub(crate) trace: Trace,
    pub(crate) fault: Option<Fault>,
    scan: Scan,
    records: Mutex<Records>,
    /// By principal.
    revoked: Mutex<BTreeMap<&'static str, Instant>>,
    /// By host, how many seconds the clock of a proxy is ahead of the applications'.
    pub(crate) ahead: Mutex<BTreeMap<Host, i64>>,
}

/// Runs a seed from its beginning to its end.
pub(crate) fn run(seed: u64, fault: Option<Fault>) -> Outcome {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let world = Arc::new(World::new(seed, fault));
        PROXIES.iter().for_each(|host| world.start_proxy(*host));
        CUSTODIANS.iter().for_each(|host| world.start_custodian(*host));
        tokio::spawn(world.storage.clone().serve(world.net.of(STORAGE)));
        let adversary = tokio::spawn(adversary::act(Arc::clone(&world), Random::new(seed, 1)));
        let clients = (0..).zip(&CLIENTS[..3]).map(|(number, name)| {
            tokio::spawn(Application::new(Arc::clone(&world), name, Random::new(seed, 10 + number)).work())
        });
        for task in clients.chain([adversary]).collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
        world.look_at_everything(seed).await;
        world.trace.end()
    })
}

impl World {
    fn new(seed: u64, fault: Option<Fault>) -> Self {
        let trace = Trace::new();
        let scan = Scan::new(trace.clone(), STORAGE);
        Self {
            net: Net::new(Random::new(seed, 2), &NAMES, scan.clone()),
            storage: Storage::new(Random::new(seed, 3), trace.clone()),
            store: Store::default(),
            custodians: Mutex::default(),
            trace,
            fault,
            scan,
            records: Mutex::default(),
            revoked: Mutex::default(),
            ahead: Mutex::default(),
        }
    }

    pub(crate) fn start_proxy(&self, host: Host) {
        let setup = Setup { tls: certificates().client.clone(), watched: self.fault != Some(Fault::Unwatched) };
        tokio::spawn(proxy::serve(self.net.of(host), setup));
    }

    pub(crate) fn start_custodian(&self, host: Host) {
        let place = (NAMES[usize::from(host)], self.net.of(host));
        let custodian = Custodian::start(place, &self.store, &certificates().server, (&self.scan, &self.trace));
        lock(&self.custodians).insert(host, custodian);
    }

    pub(crate) fn revoke(&self, principal: &'static str) {
        self.store.revoke(principal);
        lock(&self.revoked).entry(principal).or_insert_with(Instant::now);
    }

    pub(crate) fn revoke_all(&self) {
        self.store.disable();
        for name in CLIENTS {
            lock(&self.revoked).entry(name).or_insert_with(Instant::now);
        }
    }

    pub(crate) fn records(&self) -> MutexGuard<'_, Records> {
        lock(&self.records)
    }

    /// Nobody whose keys are revoked gets anything done that takes one.
    fn key_was_used(&self, principal: &str, begun: Instant, what: &str) {
        let revoked = lock(&self.revoked).get(principal).copied();
        if revoked.is_some_and(|at| begun > at + BOUND) {
            self.trace.wrong(format!("{principal} {what} after the bound that follows a revocation"));
        }
    }

    /// Once all is well again, each record can be read, by each proxy, as it was acknowledged.
    async fn look_at_everything(&self, seed: u64) {
        self.trace.note("all is well again");
        sleep(Duration::from_secs(10)).await;
        let network = ClientNetwork::given(Arc::new(self.net.of(0)));
        let mut auditor = Application {
            s3: S3::new("auditor", network),
            world: None,
            random: Random::new(seed, 4),
            ahead_s: 0,
            written: 0,
        };
        let is_revoked = lock(&self.revoked).contains_key("auditor");
        let ends = Instant::now() + RECOVERY;
        let keys = self.records().keys();
        for (host, key) in PROXIES.iter().flat_map(|host| keys.iter().map(move |key| (*host, key))) {
            while !auditor.read(self, host, key, None).await {
                let excused = is_revoked || self.records().is_damaged(key);
                if excused {
                    break;
                }
                if Instant::now() > ends {
                    self.trace.wrong(format!("{key} cannot be read by proxy-{host}, though all is well"));
                    break;
                }
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// A client of the proxies, with what it chooses to do.
struct Application {
    s3: S3,
    world: Option<Arc<World>>,
    random: Random,
    ahead_s: i64,
    written: usize,
}

impl Application {
    fn new(world: Arc<World>, name: &'static str, random: Random) -> Self {
        let s3 = S3::new(name, ClientNetwork::given(Arc::new(world.net.of(0))));
        Self { s3, world: Some(world), random, ahead_s: 0, written: 0 }
    }

    async fn work(mut self) {
        let Some(world) = self.world.take() else { return };
        sleep(Duration::from_secs(1)).await;
        let ends = Instant::now() + WORK;
        while Instant::now() < ends {
            sleep(self.random.millis(0..1500)).await;
            self.ahead_s = if self.random.percent(3) { 20 * 60 } else { 0 };
            let host = *self.random.pick(&PROXIES);
            let keys = world.records().keys();
            match self.random.within(0..10) {
                0..4 => self.write(&world, host).await,
                4 => self.delete(&world, host).await,
                choice if !keys.is_empty() => {
                    let key = self.random.pick(&keys).clone();
                    let first =
                        usize::try_from(self.random.within(0..1 << self.random.clone().within(1..18))).expect("small");
                    let range = (choice > 7).then_some((first, first + 2_000));
                    self.read(&world, host, &key, range).await;
                }
                _ => {}
            }
        }
    }

    async fn send(
        &self,
        world: &World,
        (method, host, key): (Method, Host, &str),
        body: Bytes,
        range: Option<(usize, usize)>,
    ) -> Option<Answer> {
        let proxy = NAMES[usize::from(host)];
        let ahead_s = self.ahead_s - lock(&world.ahead).get(&host).copied().unwrap_or_default();
        let what = format!("{}: {method} {key} at {proxy}", self.s3.principal);
        let answer = self.s3.send(Ask { method, proxy, key, body, range, ahead_s }).await;
        match &answer {
            Some(answer) => world.trace.note(format!("{what}: {}, {} bytes", answer.status, answer.body.len())),
            None => world.trace.note(format!("{what}: no answer")),
        }
        answer
    }

    async fn write(&mut self, world: &World, host: Host) {
        let name = self.s3.principal;
        let usable = world.records().usable(name);
        let key = if usable.len() < 4 || self.random.percent(20) {
            self.written += 1;
            format!("{name}/{}", self.written)
        } else {
            self.random.pick(&usable).clone()
        };
        let length = *self.random.pick(&LENGTHS);
        let value = world.records().begin(&key, Some(length)).expect("a write");
        let begun = Instant::now();
        let body = content(&key, value);
        if world.fault == Some(Fault::Plaintext) {
            self.bypass(world, &key, body.clone()).await;
        }
        if world.fault == Some(Fault::BareKey)
            && let Some(secret) = world.scan.newest()
        {
            self.bypass(world, &key, secret.into()).await;
        }
        let answer = self.send(world, (Method::PUT, host, &key), body, None).await;
        if answer.is_some_and(|answer| answer.status == 200) {
            world.key_was_used(name, begun, "wrote");
            world.records().acknowledge(&key);
            if world.fault == Some(Fault::LostWrite) {
                world.storage.forget_writes(crate::BUCKET, &key);
            }
        }
    }

    /// Straight to the storage server.
    async fn bypass(&self, world: &World, key: &str, body: Bytes) {
        self.send(world, (Method::PUT, STORAGE, key), body, None).await;
    }

    async fn delete(&mut self, world: &World, host: Host) {
        let usable = world.records().usable(self.s3.principal);
        if usable.is_empty() {
            return;
        }
        let key = self.random.pick(&usable).clone();
        world.records().begin(&key, None);
        let answer = self.send(world, (Method::DELETE, host, &key), Bytes::new(), None).await;
        if answer.is_some_and(|answer| answer.status == 204) {
            world.records().acknowledge(&key);
        }
    }

    /// Whether something was learned, which is then right.
    async fn read(&mut self, world: &World, host: Host, key: &str, range: Option<(usize, usize)>) -> bool {
        let (since, begun) = (world.records().settled(key), Instant::now());
        let Some(answer) = self.send(world, (Method::GET, host, key), Bytes::new(), range).await else { return false };
        let mut body = answer.body.to_vec();
        if world.fault == Some(Fault::WrongByte)
            && let Some(byte) = body.last_mut()
        {
            *byte ^= 1;
        }
        let (data, range) = match answer.status {
            200 => (Some(body.as_slice()), None),
            206 => (Some(body.as_slice()), range),
            404 => (None, None),
            _ => return false,
        };
        if data.is_some() {
            world.key_was_used(self.s3.principal, begun, "read");
        }
        if world.records().fits(key, since, data, range).is_none() {
            let what = data.map_or("nothing".to_owned(), |data| format!("{} bytes", data.len()));
            world.trace.wrong(format!("{key} shows {what} that it lost or that were never written there"));
        }
        true
    }
}

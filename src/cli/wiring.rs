//! Makes the running parts of what the configuration says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;

use super::seeing::Instruments;
use crate::config::{Config, KekUse, SiteSection, StorageSection};
use crate::custody::caller::Caller;
use crate::custody::context::BranchContext;
use crate::custody::derivation::{DerivationError, prove_derivation};
use crate::custody::keys::BranchKeys;
use crate::custody::lease::LeaseSettings;
use crate::custody::reason::Reason;
use crate::custody::watch::Watch;
use crate::custody::{Custodian, CustodyError};
use crate::names::{BranchId, KekName, LogicalBucket, Principal, Purpose, WriterDomain};
use crate::object::Objects;
use crate::object::bucket::Buckets;
use crate::object::sites::{Directories, Placement, Sites};
use crate::object::state::StateBucket;
use crate::storage::{Storage, StorageSettings};
use crate::transit::Transit;
use crate::transit::settings::TransitSettings;
use crate::transit::watch::Watching;

/// The caller of what the program does of itself.
pub(super) fn itself() -> Caller {
    let principal = Principal::new("claviger").expect("a legal principal");
    Caller { principal, reason: Reason::SystemOperation }
}

/// Opens the custodian's watch, if it is to be watched. Without it nothing is served.
async fn watch(
    settings: &TransitSettings,
    leases: &LeaseSettings,
    transit: &Transit,
    keys: &BranchKeys,
) -> Result<Option<Watching>> {
    let LeaseSettings { read_lease_s, write_renew_s, .. } = *leases;
    if !settings.watch {
        tracing::warn!(
            read_lease_s,
            write_renew_s,
            "the custodian is not watched: what is revoked there goes on here until the leases end"
        );
        return Ok(None);
    }
    let grace = settings.watch_grace.unwrap_or(Duration::from_secs(read_lease_s));
    let watching = transit.watch(Watch::new(keys.clone(), grace)).await;
    watching.map(Some).context("the custodian's watch cannot be opened, and without it no key is used")
}

/// Takes the address, so that a port that is not free is told before anything else.
pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {address}, choose another address"))
}

/// A storage server.
struct Server {
    name: String,
    /// Its client, which signs as the proxy.
    storage: Storage,
    state: StateBucket,
}

impl Server {
    fn new(section: StorageSection, instruments: &Instruments) -> Result<Self> {
        let metered = |settings, credentials| Storage::metered(settings, credentials, instruments.storage.clone());
        let replica = section.replica.map(|(settings, credentials)| metered(settings, credentials)).transpose()?;
        let mut storage = metered(section.settings, section.credentials)?;
        if let Some(replica) = &replica {
            storage = storage.with_replica(replica);
        }
        let state = StateBucket::new(storage.clone(), section.state_bucket);
        Ok(Self { name: section.site, storage, state })
    }
}

/// Storage servers and custodian, and the keys that are leased.
pub(super) struct Connected {
    pub(super) transit: Arc<Transit>,
    main: Server,
    further: Vec<Server>,
    placement: Placement,
    keys: BranchKeys,
    _watching: Option<Watching>,
}

impl Connected {
    /// Puts storage servers, the default one first, and custodian together.
    pub(super) async fn new(
        (storage, further): (StorageSection, Vec<StorageSection>),
        placement: Placement,
        custodian: &TransitSettings,
        leases: &LeaseSettings,
        writer: WriterDomain,
        (transit, instruments): (Arc<Transit>, &Instruments),
    ) -> Result<Self> {
        let main = Server::new(storage, instruments)?;
        let further =
            further.into_iter().map(|section| Server::new(section, instruments)).collect::<Result<Vec<_>>>()?;
        let states = std::iter::once(&main).chain(&further).map(|server| (server.name.clone(), server.state.clone()));
        let directory = Arc::new(Directories::new(placement.clone(), states));
        let custodian_client = Arc::clone(&transit) as Arc<dyn Custodian>;
        let keys = BranchKeys::metered(custodian_client, directory, leases.clone(), writer, instruments.keys.clone());
        let watching = watch(custodian, leases, &transit, &keys).await?;
        Ok(Self { transit, main, further, placement, keys, _watching: watching })
    }

    /// Has the instruments look at these keys and this custodian.
    pub(super) fn is_seen_by(&self, instruments: &Instruments) {
        instruments.look_at(&self.keys, &self.transit);
    }

    /// The client of the default storage server, which signs as the proxy.
    pub(super) fn storage(&self) -> &Storage {
        &self.main.storage
    }

    /// Whether each bucket lies where `placement` says.
    pub(super) fn is_placed_as(&self, placement: &Placement) -> bool {
        self.placement == *placement
    }

    /// What carries out operations on the objects of these buckets: of the default storage server, and of each further one.
    pub(super) fn sites(&self, main: Buckets, further: impl IntoIterator<Item = Buckets>) -> Sites {
        let objects = |server: &Server, buckets| {
            Objects::new(server.storage.clone(), self.keys.clone(), buckets, server.state.clone())
        };
        let further = self.further.iter().zip(further);
        Sites::new(
            objects(&self.main, main),
            further.map(|(server, buckets)| (server.name.clone(), objects(server, buckets))),
        )
    }
}

/// The sections of further storage servers, and their buckets.
pub(super) fn split(sites: Vec<SiteSection>) -> (Vec<StorageSection>, Vec<Buckets>) {
    sites.into_iter().map(|site| (site.storage, site.buckets)).unzip()
}

/// What carries out operations on the objects of one storage server, without anybody who asks for them.
pub(super) struct Workbench {
    /// The storage server's name.
    pub(super) site: String,
    pub(super) objects: Arc<Objects>,
    /// The client of the storage server, which signs as the proxy.
    pub(super) storage: Storage,
    _connected: Arc<Connected>,
}

/// A client of the custodian that the configuration names.
pub(super) fn transit(settings: &TransitSettings) -> Result<Arc<Transit>> {
    Ok(Arc::new(Transit::new(settings).context("the custodian's settings do not do")?))
}

/// One for each storage server, the default one first.
pub(super) struct Benches {
    pub(super) all: Vec<Workbench>,
    placement: Placement,
}

impl Benches {
    /// Its place among them, for the storage server that `bucket` lies on.
    fn place_of(&self, bucket: &LogicalBucket) -> usize {
        let site = self.placement.site_of(bucket);
        self.all.iter().position(|bench| bench.site == site).expect("each site of the configuration has one")
    }

    pub(super) fn of(&self, bucket: &LogicalBucket) -> &Workbench {
        &self.all[self.place_of(bucket)]
    }
}

/// The state bucket of each site with its name, the default one first.
pub(super) fn states(config: Config) -> Result<Vec<(String, StateBucket)>> {
    let sections = std::iter::once(config.storage).chain(config.sites.into_iter().map(|site| site.storage));
    let states = sections.map(|StorageSection { settings, credentials, state_bucket, site, .. }| {
        Ok((site, StateBucket::new(Storage::new(settings, credentials)?, state_bucket)))
    });
    states.collect()
}

/// What jobs work with: all of a proxy but the listening side, for each storage server, the default one first. Buckets and keys are
/// those of its configuration. At most `requests_max_s` requests go to each of the servers in a second.
pub(super) async fn prepare_jobs(config: Config, requests_max_s: Option<u32>) -> Result<Benches> {
    let transit = transit(&config.custodian)?;
    prove_keks(&config, &config.keks, transit.as_ref()).await?;
    let placement = config.placement();
    let Config { proxy, storage, sites, custodian, leases, buckets, .. } = config;
    let (further, of_further) = split(sites);
    // What a job finds out, it finds out about the storage server.
    let alone = |section: StorageSection| {
        let settings = StorageSettings { requests_max_s, ..section.settings };
        StorageSection { replica: None, settings, ..section }
    };
    let storage = (alone(storage), further.into_iter().map(alone).collect());
    let seen = (transit, &Instruments::default());
    let connected = Connected::new(storage, placement.clone(), &custodian, &leases, proxy.writer, seen).await?;
    let sites = connected.sites(buckets, of_further);
    let connected = Arc::new(connected);
    let servers = std::iter::once(&connected.main).chain(&connected.further);
    let bench = |(server, objects): (&Server, &Arc<Objects>)| Workbench {
        site: server.name.clone(),
        objects: Arc::clone(objects),
        storage: server.storage.clone(),
        _connected: Arc::clone(&connected),
    };
    Ok(Benches { all: servers.zip(sites.all()).map(bench).collect(), placement })
}

/// The same, for the storage server that `bucket` lies on.
pub(super) async fn prepare_job(
    config: Config,
    requests_max_s: Option<u32>,
    bucket: &LogicalBucket,
) -> Result<Workbench> {
    let mut benches = prepare_jobs(config, requests_max_s).await?;
    let place = benches.place_of(bucket);
    Ok(benches.all.swap_remove(place))
}

/// Proves that each of these KEKs binds branch keys to their context. All that do not do are told of.
pub(super) async fn prove_keks(config: &Config, used: &[KekUse], custodian: &dyn Custodian) -> Result<()> {
    let mut first_of: BTreeMap<&KekName, &KekUse> = BTreeMap::new();
    for used in used {
        first_of.entry(&used.kek).or_insert(used);
    }
    let mut refused = Vec::new();
    for (kek, used) in first_of {
        let context = trial_context(&config.proxy.writer)?;
        match prove_derivation(custodian, kek, &context, &itself()).await {
            Ok(()) => {}
            Err(DerivationError::WriteOnly) => {
                tracing::warn!(%kek, "this proxy may write under the KEK and open nothing");
            }
            Err(error) => {
                let (advice, place) = (advice(&config.custodian, kek, &error), config.file.display());
                let (line, key) = (used.line, &used.key);
                let error = anyhow::Error::from(error);
                refused.push(format!("{place}:{line}: [{key}] the KEK {kek} cannot be used{advice}: {error:#}"));
            }
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(KeksRefused(refused.join("\n")).into()) }
}

/// KEKs that nothing can be encrypted under, a line each.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct KeksRefused(String);

/// What to do at a custodian on the network about a KEK that was not proven.
fn advice(custodian: &TransitSettings, kek: &KekName, error: &DerivationError) -> String {
    let mount = custodian.mount.as_str();
    match error {
        DerivationError::Custody(CustodyError::UnknownKek) => {
            format!("; make it there with `claviger key create {kek}` or `bao write {mount}/keys/{kek} derived=true`")
        }
        DerivationError::NotDerived => {
            format!(
                "; name another one, made with `bao write {mount}/keys/NAME derived=true`: it cannot be changed later"
            )
        }
        DerivationError::Custody(CustodyError::Denied) => format!(
            "; check the token or certificate, and that its policy allows `update` on {mount}/datakey/plaintext/{kek} and \
             {mount}/decrypt/{kek}"
        ),
        DerivationError::NotOpened | DerivationError::WriteOnly | DerivationError::Custody(_) => String::new(),
    }
}

/// A context whose branch key wraps nothing.
fn trial_context(writer: &WriterDomain) -> Result<BranchContext> {
    Ok(BranchContext {
        purpose: Purpose::Object,
        bucket: LogicalBucket::new("claviger-self-test").expect("a legal name"),
        writer: writer.clone(),
        id: BranchId::random()?,
    })
}

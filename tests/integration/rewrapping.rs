//! Branch keys that are moved to a new version of their KEK, and what the retirement of the old one hangs on.

mod attacks;
mod faults;
mod races;

use std::collections::BTreeMap;
use std::sync::Arc;

use claviger::custody::Custodian as _;
use claviger::custody::context::BranchContext;
use claviger::custody::directory::Directory as _;
use claviger::custody::wrapped::WrappedKey;
use claviger::maintenance::keys::{KeyError, KeyMover, KeyOptions, KeyReport};
use claviger::names::{BranchId, KekName, KekVersion, LogicalBucket, Purpose};
use claviger::transit::Transit;

use crate::harness::custodian::{kek, officer};
use crate::harness::office::Office;
use crate::harness::proxy::{domain, key_rule};
use crate::harness::store::Stored;
use crate::harness::{BUCKET, STATE, Setup, Store, World, noise};

const KEK: &str = "records";
const REPAIR: KeyOptions = KeyOptions { dry_run: false, repair: true };
const MOVE: KeyOptions = KeyOptions { dry_run: false, repair: false };
/// Buckets with an object each.
const BUCKETS: [&str; 2] = [BUCKET, "papers"];

fn records() -> KekName {
    kek(KEK)
}

fn version(number: u32) -> KekVersion {
    KekVersion::new(number).expect("not zero")
}

/// How a proxy is set up that asks this custodian.
fn asking(transit: Arc<Transit>) -> Setup {
    Setup { custodian: transit, others: Some(key_rule(KEK)), ..Setup::default() }
}

/// A branch key under which no object stands.
struct Loose {
    context: BranchContext,
    secret: [u8; 32],
}

/// A custodian, a proxy that asks it, and branch keys under the first version: two with objects, and loose ones.
struct Scene {
    office: Office,
    world: World,
    loose: Vec<Loose>,
}

impl Scene {
    async fn new(loose: usize) -> Self {
        let office = Office::open(&[KEK, "other"]).await;
        let world = World::with(asking(office.transit())).await;
        for bucket in BUCKETS {
            world.store.create(bucket);
            world.s3.put(bucket, "first", noise(1000, 1)).await.ok();
        }
        let mut scene = Self { office, world, loose: Vec::new() };
        let transit = scene.office.transit();
        for _ in 0..loose {
            scene.add_loose(&transit).await;
        }
        scene
    }

    /// The same, rotated.
    async fn rotated(loose: usize) -> Self {
        let scene = Self::new(loose).await;
        scene.office.rotate(KEK).await;
        scene
    }

    /// A branch key that a proxy of this custodian gets, and publishes.
    async fn add_loose(&mut self, transit: &Transit) -> BranchId {
        let context = BranchContext {
            purpose: Purpose::Object,
            bucket: LogicalBucket::new("loose").expect("legal"),
            writer: domain("us"),
            id: BranchId::random().expect("random"),
        };
        let (secret, wrapped) = transit.generate(&records(), &context, &officer()).await.expect("generates");
        self.world.proxy.state.publish(&records(), &context, &wrapped).await.expect("publishes");
        let id = context.id;
        self.loose.push(Loose { context, secret: *secret.expose() });
        id
    }

    fn store(&self) -> &Store {
        &self.world.store
    }

    fn mover(&self) -> Arc<KeyMover> {
        self.office.mover(self.store(), 3)
    }

    async fn rewrap(&self, options: KeyOptions) -> KeyReport {
        self.mover().rewrap(&records(), options).await.expect("goes through")
    }

    async fn needed(&self) -> BTreeMap<u32, u64> {
        self.office.needed(KEK).await
    }

    /// All branch keys that the directory names.
    fn ids(&self) -> Vec<BranchId> {
        let prefix = format!("branch/{KEK}/");
        let names = self.store().keys(STATE).into_iter();
        let id = |name: String| BranchId::parse(name.strip_prefix(&prefix)?.split_once('/')?.0);
        let mut ids: Vec<BranchId> = names.filter_map(id).collect();
        ids.dedup();
        ids
    }

    fn entry(&self, id: BranchId, version: u32) -> Option<Stored> {
        self.store().object(STATE, &name(id, version))
    }

    /// A proxy that remembers nothing reads all objects, and each loose branch key opens from the directory.
    async fn assert_all_open(&self) {
        let transit = self.office.transit();
        let (proxy, s3) = self.world.fresh_with(asking(Arc::clone(&transit))).await;
        let buckets: Vec<String> = self.store().buckets().keys().filter(|name| *name != STATE).cloned().collect();
        for bucket in buckets {
            for key in self.store().keys(&bucket) {
                assert_eq!(s3.get(&bucket, &key).await.ok().body, noise(1000, 1), "{bucket}/{key}");
            }
        }
        for Loose { context, secret } in &self.loose {
            let newest: Option<WrappedKey> = proxy.state.newest(&records(), context).await.expect("reads");
            let newest = newest.unwrap_or_else(|| panic!("{} is not in the directory", context.id));
            let opened = transit.unwrap(&records(), context, &newest, &officer()).await.expect("opens");
            assert_eq!(opened.expose(), secret);
        }
    }

    /// Nothing needs the version before `before` any more: it is retired, and everything opens all the same.
    async fn assert_retires(&self, before: u32) {
        assert_eq!(self.needed().await, BTreeMap::from([(before, self.ids().len() as u64)]));
        self.office.must_retire(KEK, before).await;
        self.assert_all_open().await;
    }
}

/// The name of a branch key's entry in the directory.
fn name(id: BranchId, version: u32) -> String {
    format!("branch/{KEK}/{id}/v{version}")
}

/// Whether this is about an entry of the directory under that version.
fn is_entry(key: &str, version: u32) -> bool {
    key.starts_with("branch/") && key.ends_with(&format!("/v{version}"))
}

/// Runs until nothing failed, which has to happen soon: the reports.
async fn until_through(mover: &KeyMover, options: KeyOptions) -> Vec<Result<KeyReport, KeyError>> {
    let mut reports = Vec::new();
    loop {
        let report = mover.rewrap(&records(), options).await;
        let through = report.as_ref().is_ok_and(|report| report.failed == 0);
        reports.push(report);
        if through {
            return reports;
        }
        assert!(reports.len() < 40, "{:?}", reports.last());
    }
}

#[tokio::test]
async fn branch_keys_move_to_the_newest_version_and_the_old_one_retires() {
    let scene = Scene::new(5).await;
    assert_eq!(scene.needed().await, BTreeMap::from([(1, 7)]));
    scene.office.rotate(KEK).await;
    scene.office.must_not_retire(KEK, 2).await;
    let dry = scene.rewrap(KeyOptions { dry_run: true, repair: false }).await;
    assert_eq!((dry.moved, dry.confirmed), (7, 0));
    assert_eq!(scene.needed().await, BTreeMap::from([(1, 7)]));
    assert!(scene.ids().iter().all(|id| scene.entry(*id, 2).is_none()), "a dry run writes nothing");
    scene.store().take_whole_log();
    let report = scene.rewrap(MOVE).await;
    assert_eq!((report.moved, report.confirmed, report.mended, report.failed), (7, 7, 0, 0));
    let asked = scene.store().take_whole_log();
    assert!(asked.iter().all(|seen| seen.bucket == STATE && is_entry(&seen.key, 2)), "no object is touched");
    assert_eq!(asked.len(), 14, "each is written once and read once");
    // Once more there is nothing to do.
    let again = scene.rewrap(MOVE).await;
    assert_eq!((again.moved, again.confirmed, scene.store().take_whole_log().len()), (0, 0, 0));
    let read = scene.mover().read_back(&records(), version(2)).await.expect("reads");
    assert_eq!((read.moved, read.confirmed, read.failed), (0, 7, 0));
    scene.assert_retires(2).await;
}

//! Branch keys of several sites moved to a new version: each in the directory of its own bucket's site, and in no other.

use claviger::maintenance::keys::{KeyMover, KeyOptions};
use claviger::names::{KekVersion, LogicalBucket};
use claviger::object::sites::Placement;

use super::{ARCHIVE, BUCKET, PHYSICAL, branches};
use crate::harness::custodian::kek;
use crate::harness::office::Office;
use crate::harness::proxy::{bucket_rule, key_rule};
use crate::harness::{Proxy, STATE, Setup, Store, noise};

const KEK: &str = "records";
const MOVE: KeyOptions = KeyOptions { dry_run: false, repair: false };

/// A custodian that knows of no site but `main`, and a rotated KEK with an object in Virginia and one in Singapore under its first version.
struct Scene {
    office: Office,
    virginia: Store,
    singapore: Store,
    _proxy: Proxy,
}

impl Scene {
    async fn rotated() -> Self {
        let office = Office::open(&[KEK]).await;
        let (virginia, singapore) = (Store::start().await, Store::start().await);
        virginia.create(BUCKET);
        singapore.create(PHYSICAL);
        let rules = vec![bucket_rule(ARCHIVE, PHYSICAL, key_rule(KEK))];
        let sites = vec![("singapore", singapore.address, rules)];
        let setup = Setup { custodian: office.transit(), others: Some(key_rule(KEK)), sites, ..Setup::default() };
        let proxy = Proxy::start(&virginia, setup).await;
        let s3 = proxy.s3();
        s3.put(BUCKET, "x", noise(1000, 1)).await.ok();
        s3.put(ARCHIVE, "x", noise(1000, 2)).await.ok();
        office.rotate(KEK).await;
        Self { office, virginia, singapore, _proxy: proxy }
    }

    fn mover(&self, store: &Store, site: &str) -> KeyMover {
        let archive = LogicalBucket::new(ARCHIVE).expect("legal");
        let placement = Placement::new("main".to_owned(), [(archive, "singapore".to_owned())]);
        self.office.mover_at(store, site, placement)
    }
}

/// The names in the directory that are of the second version.
fn moved(store: &Store) -> Vec<String> {
    branches(store).into_iter().filter(|name| name.ends_with("/v2")).collect()
}

#[tokio::test]
async fn each_site_gets_its_own_and_nothing_retires_before_the_custodian_knows_of_both() {
    let scene = Scene::rotated().await;
    let report = scene.mover(&scene.virginia, "main").rewrap(&kek(KEK), MOVE).await.expect("goes through");
    assert_eq!((report.moved, report.confirmed, report.failed), (1, 1, 0), "{report:?}");
    assert_eq!((moved(&scene.virginia).len(), moved(&scene.singapore).len()), (1, 0));
    scene.office.must_not_retire(KEK, 2).await;
    let abroad = scene.mover(&scene.singapore, "singapore").rewrap(&kek(KEK), MOVE).await;
    assert!(abroad.is_err(), "the custodian knows no such site: {abroad:?}");
    assert_eq!((moved(&scene.virginia).len(), moved(&scene.singapore).len()), (1, 1));
    scene.office.must_not_retire(KEK, 2).await;
    assert_eq!(scene.office.needed(KEK).await, [(1, 1), (2, 1)].into(), "it lies nowhere where the custodian wants it");
}

#[tokio::test]
async fn an_entry_that_an_operator_has_of_another_site_is_moved_nowhere() {
    let scene = Scene::rotated().await;
    let theirs = branches(&scene.virginia);
    for name in &theirs {
        let entry = scene.virginia.object(STATE, name).expect("it is there");
        scene.singapore.plant(STATE, name, entry);
    }
    let mover = scene.mover(&scene.singapore, "singapore");
    let report = mover.rewrap_listed(&kek(KEK), MOVE).await.expect("goes through");
    assert_eq!((report.moved, report.failed as usize), (1, theirs.len()), "{report:?}");
    assert!(
        report.findings.iter().all(|(_, what)| what.contains("is of the bucket records, which lies at main")),
        "{report:?}"
    );
    let read_back =
        mover.read_back_listed(&kek(KEK), KekVersion::new(2).expect("not zero")).await.expect("goes through");
    assert_eq!((read_back.confirmed, read_back.failed as usize), (1, theirs.len()), "{read_back:?}");
    let moved = moved(&scene.singapore);
    assert!(
        moved.len() == 1 && theirs.iter().all(|name| !moved[0].starts_with(name.trim_end_matches("/v1"))),
        "{moved:?}"
    );
}

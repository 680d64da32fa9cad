//! Events and silence as the holders of leases see them, with a paused clock.

use std::sync::Arc;

use tokio::time::advance;

use super::*;
use crate::custody::CustodyError;
use crate::custody::branch::{ReadingKey, WritingKey};
use crate::custody::fake::{self, FakeCustodian, FakeDirectory};
use crate::custody::keys::BranchKeyError;
use crate::custody::lease::LeaseSettings;
use crate::names::Purpose;

const SILENCE: Duration = Duration::from_millis(750);
const GRACE: Duration = Duration::from_secs(300);

struct World {
    custodian: Arc<FakeCustodian>,
    directory: Arc<FakeDirectory>,
    keys: BranchKeys,
    watch: Watch,
}

/// With a watch that is open.
fn world() -> World {
    let world = unopened();
    world.watch.opened(SILENCE);
    world
}

fn unopened() -> World {
    let custodian = Arc::new(FakeCustodian::default());
    let directory = Arc::new(FakeDirectory::default());
    let keys = BranchKeys::new(custodian.clone(), directory.clone(), LeaseSettings::default(), fake::writer());
    let watch = Watch::new(keys.clone(), GRACE);
    World { custodian, directory, keys, watch }
}

impl World {
    async fn write(&self, principal: &str) -> Result<WritingKey, BranchKeyError> {
        let caller = fake::caller(principal);
        self.keys.for_writing(&fake::kek(), Purpose::Object, &fake::bucket(), &caller, 1).await
    }

    async fn read(&self, key: &WritingKey, principal: &str) -> Result<ReadingKey, BranchKeyError> {
        self.keys.for_reading(&fake::kek(), key.context(), key.wrapped(), &fake::caller(principal)).await
    }

    /// Heartbeats for `time`.
    async fn beat(&self, time: Duration) {
        let beats = time.as_millis() / 250;
        for _ in 0..beats {
            advance(Duration::from_millis(250)).await;
            self.watch.heard(SILENCE);
        }
        settle().await;
    }
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn is_lost<T>(result: Result<T, BranchKeyError>) -> bool {
    result.is_err_and(|error| match error.custody() {
        Some(CustodyError::Unreachable(cause)) => cause.is::<WatchLost>(),
        _ => false,
    })
}

#[tokio::test(start_paused = true)]
async fn nothing_is_given_out_before_the_watch_is_open() {
    let world = unopened();
    assert!(is_lost(world.write("alice").await));
    assert_eq!(world.custodian.calls(), (0, 0));
    world.watch.opened(SILENCE);
    assert!(world.write("alice").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_closed_kek_is_refused_at_once() {
    let world = world();
    let written = world.write("alice").await.expect("generates");
    let read = world.read(&written, "alice").await.expect("unwraps");
    world.custodian.disable();
    let begun = Instant::now();
    world.watch.tell(&Event::KekClosed(fake::kek()));
    assert!(written.is_revoked() && read.is_revoked(), "streams stop");
    for refused in [world.write("alice").await.err(), world.read(&written, "alice").await.err()] {
        assert!(matches!(refused.as_ref().and_then(BranchKeyError::custody), Some(CustodyError::Disabled)));
    }
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn after_a_change_the_custodian_is_asked_again() {
    for event in [Event::Rules, Event::KekChanged(fake::kek())] {
        let world = world();
        let written = world.write("alice").await.expect("generates");
        let (alices, bobs) = (world.read(&written, "alice").await, world.read(&written, "bob").await);
        let (alices, bobs) = (alices.expect("unwraps"), bobs.expect("unwraps"));
        let before = world.custodian.calls();
        world.custodian.refuse_unwrap("bob");
        world.watch.tell(&event);
        for key in [&alices, &bobs] {
            assert_eq!((key.is_usable(), key.is_revoked()), (false, false), "streams ask, and do not stop for it");
        }
        assert!(written.is_ended() && !written.is_revoked());
        assert!(world.read(&written, "alice").await.expect("still allowed").is_usable());
        assert!(world.read(&written, "bob").await.is_err(), "denied now");
        assert!(bobs.is_revoked(), "a denial ends what runs");
        let again = world.write("alice").await.expect("still allowed");
        assert_eq!(again.context().id, written.context().id, "the same key, asked for again");
        assert!(world.keys.may_still_write(&written).await.is_ok());
        let after = world.custodian.calls();
        // Alice, Bob, the proof that the KEK binds, and the write lease.
        assert_eq!((after.0 - before.0, after.1 - before.1), (0, 4), "{event:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_of_one_who_may_write_no_more_is_told() {
    let world = world();
    let written = world.write("alice").await.expect("generates");
    world.custodian.refuse_unwrap("alice");
    world.watch.tell(&Event::Rules);
    assert!(world.keys.may_still_write(&written).await.is_ok(), "may generate: write-only");
    world.custodian.refuse_generate("alice");
    world.watch.tell(&Event::Rules);
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.watch.heard(SILENCE);
    assert!(world.keys.may_still_write(&written).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_kek_that_changes_leaves_others_alone() {
    let world = world();
    let written = world.write("alice").await.expect("generates");
    let read = world.read(&written, "alice").await.expect("unwraps");
    for event in [Event::KekClosed, Event::KekChanged] {
        world.watch.tell(&event(KekName::new("other").expect("legal")));
    }
    assert!(written.is_usable() && read.is_usable());
}

#[tokio::test(start_paused = true)]
async fn a_rotated_kek_ends_nothing_and_is_written_under_within_a_moment() {
    let world = world();
    let written = world.write("alice").await.expect("generates");
    let read = world.read(&written, "bob").await.expect("unwraps");
    world.custodian.rotate();
    world.watch.tell(&Event::KekRotated(fake::kek()));
    assert!(written.is_usable() && read.is_usable());
    world.write("alice").await.expect("starts it");
    settle().await;
    let newer = world.write("alice").await.expect("leased");
    assert_eq!(newer.wrapped().version().number(), 2);
    assert!(written.is_usable() && read.is_usable());
}

#[tokio::test(start_paused = true)]
async fn a_revoked_client_loses_what_it_has_and_others_do_not() {
    let world = world();
    let alices = world.write("alice").await.expect("generates");
    let bobs = world.write("bob").await.expect("is authorised");
    let reads = [world.read(&alices, "alice").await, world.read(&alices, "bob").await];
    let reads = reads.map(|read| read.expect("unwraps"));
    world.watch.tell(&Event::PrincipalRevoked(fake::caller("alice").principal));
    assert_eq!([alices.is_revoked(), bobs.is_revoked()], [true, false]);
    assert_eq!(reads.each_ref().map(|read| read.is_revoked()), [true, false]);
    world.watch.tell(&Event::Ourselves);
    assert!(bobs.is_revoked() && reads[1].is_revoked());
}

#[tokio::test(start_paused = true)]
async fn an_answer_under_way_during_a_change_is_asked_for_again() {
    let world = world();
    let written = world.write("alice").await.expect("generates");
    world.custodian.delay_ms(200);
    let change = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.watch.tell(&Event::Rules);
    };
    let (read, ()) = tokio::join!(world.read(&written, "alice"), change);
    assert!(read.expect("asked again").is_usable());
    let change = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.watch.tell(&Event::Rules);
    };
    let (write, ()) = tokio::join!(world.write("bob"), change);
    assert!(write.expect("asked again").is_usable());
}

/// As when the custodian that is asked has not seen what the one that is watched did.
#[tokio::test(start_paused = true)]
async fn what_one_custodian_closed_is_not_leased_from_another_that_does_not_know() {
    for event in
        [Event::KekClosed(fake::kek()), Event::PrincipalRevoked(fake::caller("alice").principal), Event::Ourselves]
    {
        let world = world();
        let written = world.write("alice").await.expect("generates");
        let published = world.directory.entries.len();
        advance(KNOWN_AFTER).await;
        world.watch.tell(&event);
        for _ in 0..3 {
            assert!(matches!(world.write("alice").await, Err(BranchKeyError::Revoked)), "{event:?}");
            assert!(matches!(world.read(&written, "alice").await, Err(BranchKeyError::Revoked)), "{event:?}");
            advance(KNOWN_AFTER / 4).await;
        }
        assert_eq!(world.directory.entries.len(), published, "nothing was published that nobody may use");
        advance(KNOWN_AFTER / 4).await;
        let (write, read) = (world.write("alice").await, world.read(&written, "alice").await);
        let (write, read) = (write.expect("known to all"), read.expect("known to all"));
        advance(Duration::from_secs(200)).await;
        assert!(write.is_usable() && read.is_usable(), "leased as ever");
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_custodian_changed_is_asked_for_again_when_all_know() {
    for event in [Some(Event::Rules), Some(Event::KekChanged(fake::kek())), None] {
        let world = world();
        let written = world.write("alice").await.expect("generates");
        advance(KNOWN_AFTER).await;
        match &event {
            Some(event) => world.watch.tell(event),
            None => world.watch.opened(SILENCE),
        }
        let (write, read) = (world.write("alice").await, world.read(&written, "alice").await);
        let (write, read) = (write.expect("by the old rules"), read.expect("by the old rules"));
        advance(KNOWN_AFTER - Duration::from_millis(1)).await;
        assert!(write.is_usable() && read.is_usable(), "{event:?}");
        world.custodian.refuse_unwrap("alice");
        world.custodian.refuse_generate("alice");
        advance(Duration::from_millis(1)).await;
        assert!(write.is_ended() && !write.is_revoked() && !read.is_usable() && !read.is_revoked(), "{event:?}");
        assert!(world.keys.may_still_write(&write).await.is_err() && world.read(&written, "alice").await.is_err());
        assert!(read.is_revoked());
    }
}

#[tokio::test(start_paused = true)]
async fn a_custodian_that_tells_the_same_again_and_again_locks_nobody_out_for_long() {
    let world = world();
    let mut refused = Duration::ZERO;
    for _ in 0..600 {
        world.watch.tell(&Event::KekClosed(fake::kek()));
        match world.write("alice").await {
            Ok(key) => assert!(key.is_usable()),
            Err(_) => refused += Duration::from_millis(100),
        }
        advance(Duration::from_millis(100)).await;
    }
    assert!(refused <= Duration::from_secs(5), "{refused:?}");
    let key = world.write("alice").await.expect("is leased");
    advance(KNOWN_AFTER).await;
    assert!(!key.is_usable(), "only for as long as another custodian may not know");
}

#[tokio::test(start_paused = true)]
async fn silence_runs_into_the_grace_and_then_everything_is_closed() {
    let world = world();
    world.beat(Duration::from_secs(60)).await;
    let written = world.write("alice").await.expect("generates");
    advance(SILENCE + GRACE - Duration::from_millis(1)).await;
    settle().await;
    assert!(written.secret().is_ok(), "a lease for writing has an hour");
    assert!(world.write("alice").await.is_ok() && world.read(&written, "bob").await.is_ok());
    advance(Duration::from_millis(2)).await;
    assert!(is_lost(world.write("alice").await), "before anything else has run");
    settle().await;
    assert!(written.is_revoked());
    assert!(is_lost(world.read(&written, "alice").await));
    let calls = world.custodian.calls();
    world.watch.opened(SILENCE);
    assert!(world.write("alice").await.is_ok() && world.custodian.calls() != calls);
    world.beat(Duration::from_secs(600)).await;
    assert!(world.write("alice").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_off_has_the_grace_and_no_more_for_trying_again() {
    let world = world();
    let written = world.write("alice").await.expect("generates");
    world.watch.lost();
    for _ in 0..299 {
        advance(Duration::from_secs(1)).await;
        world.watch.lost();
        settle().await;
    }
    assert!(!written.is_revoked() && world.write("alice").await.is_ok());
    advance(Duration::from_millis(1001)).await;
    settle().await;
    assert!(written.is_revoked() && is_lost(world.write("alice").await));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_comes_back_within_the_grace_ends_leases_but_revokes_nothing() {
    let world = world();
    let written = world.write("alice").await.expect("generates");
    world.watch.lost();
    advance(GRACE / 2).await;
    world.watch.opened(SILENCE);
    assert!(written.is_ended() && !written.is_revoked(), "something may have been missed");
    world.beat(GRACE).await;
    assert!(!written.is_revoked());
}

#[tokio::test(start_paused = true)]
async fn whoever_drops_the_watch_has_lost_it() {
    let World { keys, watch, custodian, .. } = world();
    let written = keys.for_writing(&fake::kek(), Purpose::Object, &fake::bucket(), &fake::caller("alice"), 1).await;
    drop((watch, custodian));
    advance(SILENCE + GRACE).await;
    settle().await;
    assert!(written.expect("generated").is_revoked());
}

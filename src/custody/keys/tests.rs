//! Leases as their users see them, with a paused clock and a custodian that counts.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::advance;

use super::*;
use crate::custody::fake::{self, FakeCustodian, FakeDirectory};
use crate::names::BranchId;

mod rotation;

struct World {
    custodian: Arc<FakeCustodian>,
    directory: Arc<FakeDirectory>,
    keys: BranchKeys,
}

fn world_with(settings: LeaseSettings) -> World {
    let custodian = Arc::new(FakeCustodian::default());
    let directory = Arc::new(FakeDirectory::default());
    let keys = BranchKeys::new(custodian.clone(), directory.clone(), settings, fake::writer());
    World { custodian, directory, keys }
}

fn world() -> World {
    world_with(LeaseSettings::default())
}

impl World {
    async fn write(&self, principal: &str) -> Result<WritingKey, BranchKeyError> {
        let caller = fake::caller(principal);
        self.keys.for_writing(&fake::kek(), Purpose::Object, &fake::bucket(), &caller, 1 << 20).await
    }

    async fn read(&self, key: &WritingKey, principal: &str) -> Result<ReadingKey, BranchKeyError> {
        self.read_copy(key.context(), key.wrapped(), principal).await
    }

    async fn read_copy(
        &self,
        context: &BranchContext,
        copy: &WrappedKey,
        principal: &str,
    ) -> Result<ReadingKey, BranchKeyError> {
        self.keys.for_reading(&fake::kek(), context, copy, &fake::caller(principal)).await
    }

    /// The same custodian and directory seen by another process, without leases.
    fn restarted(&self) -> Self {
        let (custodian, directory) = (self.custodian.clone(), self.directory.clone());
        let keys = BranchKeys::new(custodian.clone(), directory.clone(), LeaseSettings::default(), fake::writer());
        Self { custodian, directory, keys }
    }

    fn unwraps(&self) -> usize {
        self.custodian.calls().1
    }
}

/// Lets background tasks run.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn cause<T>(result: Result<T, BranchKeyError>) -> &'static str {
    match result.err().expect("refused") {
        BranchKeyError::Custody(error) => match *error {
            CustodyError::Denied => "denied",
            CustodyError::Disabled => "disabled",
            CustodyError::NotAuthentic => "not authentic",
            CustodyError::Unreachable(_) => "unreachable",
            CustodyError::VersionTooOld => "too old",
            _ => "other",
        },
        BranchKeyError::Directory(_) => "directory",
        BranchKeyError::NotInDirectory => "not in directory",
        BranchKeyError::NotDerived => "not derived",
        _ => "other",
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_written_is_read_with_the_same_key() {
    let world = world();
    let written = world.write("alice").await.expect("generates");
    let read = world.read(&written, "bob").await.expect("unwraps");
    assert_eq!(written.secret().expect("leased").expose(), read.secret().expect("leased").expose());
    assert_eq!(world.directory.entries.len(), 1, "published");
    let again = world.restarted().read(&written, "bob").await.expect("unwraps");
    assert_eq!(written.secret().expect("leased").expose(), again.secret().expect("leased").expose());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_writers_and_readers_at_once_cost_one_call_each() {
    let world = world();
    world.custodian.delay_ms(100);
    let written = join_all((0..1000).map(|_| world.write("alice"))).await;
    let first = written[0].as_ref().expect("generates").clone();
    assert!(written.iter().flatten().all(|key| key.context().id == first.context().id));
    assert_eq!(written.iter().flatten().count(), 1000);
    assert_eq!(world.custodian.calls(), (1, 1), "one key, one proof");
    let read = join_all((0..1000).map(|_| world.read(&first, "alice"))).await;
    assert_eq!(read.iter().flatten().count(), 1000);
    assert_eq!(world.custodian.calls(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_kek_that_ignores_context_is_refused_for_writing_and_reading() {
    let world = world();
    world.custodian.ignore_context();
    assert_eq!(cause(world.write("alice").await), "not derived");
    assert!(world.directory.entries.is_empty());
    let (_, wrapped) = world
        .custodian
        .generate(&fake::kek(), &fake::context(1), &fake::caller("alice"))
        .await
        .expect("the custodian itself does not mind");
    assert_eq!(cause(world.read_copy(&fake::context(1), &wrapped, "alice").await), "not derived");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_published_is_not_used() {
    let world = world();
    world.directory.fail(true);
    let result = world.write("alice").await;
    assert!(result.as_ref().is_err_and(BranchKeyError::is_transient));
    assert_eq!(cause(result), "directory");
    world.directory.fail(false);
    let key = world.write("alice").await.expect("publishes");
    let published = world.directory.entries.newest(&fake::kek(), key.context()).await.expect("reads");
    assert_eq!(published.as_ref(), Some(key.wrapped()));
    assert_eq!(world.directory.entries.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_between_publishing_and_use_leaves_only_an_unused_entry() {
    let world = world();
    let never_used = world.write("alice").await.expect("publishes");
    let after = world.restarted();
    let used = after.write("alice").await.expect("generates its own");
    assert_ne!(used.context().id, never_used.context().id);
    assert_eq!(world.directory.entries.len(), 2);
    assert!(after.read(&never_used, "alice").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_read_lease_is_hard_and_belongs_to_one_caller() {
    let world = world();
    let written = world.write("alice").await.expect("generates");
    let lease = world.read(&written, "alice").await.expect("unwraps");
    world.custodian.refuse_unwrap("mallory");
    assert_eq!(cause(world.read(&written, "mallory").await), "denied", "alice's lease does not open for mallory");
    world.custodian.unreachable(true);
    for _ in 0..299 {
        advance(Duration::from_secs(1)).await;
        assert!(world.read(&written, "alice").await.is_ok(), "works until the lease ends");
        settle().await;
    }
    advance(Duration::from_secs(1)).await;
    assert_eq!(cause(world.read(&written, "alice").await), "unreachable", "being used did not extend it");
    assert!(lease.secret().is_err());
    assert!(!lease.is_revoked());
}

#[tokio::test(start_paused = true)]
async fn a_lease_in_use_is_renewed_ahead_in_the_background() {
    let world = world();
    let written = world.write("alice").await.expect("generates");
    world.read(&written, "alice").await.expect("unwraps");
    let before = world.unwraps();
    advance(Duration::from_secs(239)).await;
    world.read(&written, "alice").await.expect("leased");
    settle().await;
    assert_eq!(world.unwraps(), before);
    advance(Duration::from_secs(1)).await;
    world.read_copy(written.context(), &fake::garbage(9), "alice").await.expect("from memory");
    settle().await;
    assert_eq!(world.unwraps(), before + 1, "with the good copy, not the envelope's");
    advance(Duration::from_secs(230)).await;
    assert!(world.read(&written, "alice").await.is_ok(), "beyond the end of the first lease");
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_taken_back_ends_at_the_next_renewal() {
    let world = world();
    let written = world.write("alice").await.expect("generates");
    let held = world.read(&written, "alice").await.expect("unwraps");
    world.custodian.refuse_unwrap("alice");
    advance(Duration::from_secs(240)).await;
    assert!(world.read(&written, "alice").await.is_ok());
    settle().await;
    assert!(held.is_revoked());
    assert_eq!(cause(world.read(&written, "alice").await), "denied");
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_taken_back_ends_for_every_holder() {
    let world = world();
    let written = world.write("alice").await.expect("generates");
    let (kek, caller) = (fake::kek(), fake::caller("alice"));
    world.custodian.rotate();
    let newer = world.custodian.rewrap(&kek, written.context(), written.wrapped(), &caller).await.expect("rewraps");
    // Two at once, with different copies of one branch key: each has a lease, and one of them the place in the cache.
    world.custodian.delay_ms(100);
    let older = world.read_copy(written.context(), written.wrapped(), "alice");
    let (older, newer) = tokio::join!(older, world.read_copy(written.context(), &newer, "alice"));
    let (older, newer) = (older.expect("unwraps"), newer.expect("unwraps"));
    world.custodian.delay_ms(0);
    let bobs = world.read(&written, "bob").await.expect("unwraps");
    world.custodian.refuse_unwrap("alice");
    advance(Duration::from_secs(240)).await;
    assert!(world.read(&written, "alice").await.is_ok());
    settle().await;
    assert_eq!((older.is_revoked(), newer.is_revoked()), (true, true));
    assert!(!bobs.is_revoked() && written.secret().is_ok(), "other callers' leases and leases for writing run on");
}

#[tokio::test(start_paused = true)]
async fn a_denial_reaches_streams_whose_lease_the_cache_let_go() {
    let world = world_with(LeaseSettings { read_entries_max: 2, ..LeaseSettings::default() });
    let (kek, caller) = (fake::kek(), fake::caller("alice"));
    let written = world.write("alice").await.expect("generates");
    let held = world.read(&written, "alice").await.expect("unwraps");
    for id in 0..4 {
        let context = fake::context(id);
        let (_, copy) = world.custodian.generate(&kek, &context, &caller).await.expect("generates");
        world.read_copy(&context, &copy, "alice").await.expect("unwraps");
    }
    world.custodian.refuse_unwrap("alice");
    assert_eq!(cause(world.read(&written, "alice").await), "denied");
    assert!(held.is_revoked());
}

#[tokio::test(start_paused = true)]
async fn refusals_are_remembered_for_their_time() {
    let world = world();
    let written = world.write("alice").await.expect("generates");
    world.custodian.refuse_unwrap("mallory");
    let before = world.unwraps();
    for _ in 0..10 {
        assert_eq!(cause(world.read(&written, "mallory").await), "denied");
        assert_eq!(cause(world.read_copy(&fake::context(1), written.wrapped(), "alice").await), "not authentic");
    }
    assert_eq!(world.unwraps(), before + 2);
    advance(Duration::from_secs(2)).await;
    assert_eq!(cause(world.read(&written, "mallory").await), "denied");
    assert_eq!(cause(world.read_copy(&fake::context(1), written.wrapped(), "alice").await), "not authentic");
    assert_eq!(world.unwraps(), before + 3);
}

#[tokio::test(start_paused = true)]
async fn a_forged_copy_shuts_nobody_out() {
    let world = world();
    let written = world.write("alice").await.expect("generates");
    world.custodian.delay_ms(100);
    let forged = fake::garbage(1);
    let forged_first = world.read_copy(written.context(), &forged, "alice");
    let (forged_first, good) = tokio::join!(forged_first, world.read(&written, "alice"));
    assert_eq!(cause(forged_first), "not authentic");
    assert!(good.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_made_up_keys_evicts_no_good_one() {
    let world = world_with(LeaseSettings { read_entries_max: 64, ..LeaseSettings::default() });
    let written = world.write("alice").await.expect("generates");
    world.read(&written, "alice").await.expect("unwraps");
    for n in 0..5000u128 {
        let context = BranchContext { id: BranchId::from_bytes(n.to_be_bytes()), ..fake::context(0) };
        assert_eq!(cause(world.read_copy(&context, &fake::garbage(3), "mallory").await), "not authentic");
    }
    let before = world.unwraps();
    world.read(&written, "alice").await.expect("leased");
    assert_eq!(world.unwraps(), before, "still in memory");
}

#[tokio::test(start_paused = true)]
async fn an_old_wrapping_is_replaced_by_the_directorys() {
    let world = world();
    let written = world.write("alice").await.expect("generates");
    let (kek, caller) = (fake::kek(), fake::caller("alice"));
    world.custodian.rotate();
    world.custodian.oldest_version(2);
    let reader = world.restarted();
    assert_eq!(cause(reader.read(&written, "alice").await), "too old", "the directory's copy is just as old");
    world.custodian.oldest_version(1);
    let newer = world.custodian.rewrap(&kek, written.context(), written.wrapped(), &caller).await.expect("rewraps");
    world.directory.publish(&kek, written.context(), &newer).await.expect("publishes");
    world.custodian.oldest_version(2);
    let read = world.restarted().read(&written, "alice").await.expect("by the directory");
    assert_eq!(read.secret().expect("leased").expose(), written.secret().expect("leased").expose());
    assert_eq!(read.wrapped(), &newer);
    let lost = fake::context(9);
    assert_eq!(cause(world.read_copy(&lost, written.wrapped(), "alice").await), "not in directory");
}

#[tokio::test(start_paused = true)]
async fn another_caller_writes_under_the_same_key_only_when_the_custodian_agrees() {
    let world = world();
    let alices = world.write("alice").await.expect("generates");
    let bobs = world.write("bob").await.expect("is authorised");
    assert_eq!(alices.context().id, bobs.context().id);
    world.custodian.refuse_unwrap("courier");
    let couriers = world.write("courier").await.expect("generates its own");
    assert_ne!(couriers.context().id, alices.context().id);
    let again = world.write("courier").await.expect("leased");
    assert_eq!(again.context().id, couriers.context().id);
    world.custodian.refuse_unwrap("mallory");
    world.custodian.refuse_generate("mallory");
    assert_eq!(cause(world.write("mallory").await), "denied");
}

#[tokio::test(start_paused = true)]
async fn a_write_only_caller_gets_a_new_key_each_hour() {
    let world = world();
    world.custodian.refuse_unwrap("courier");
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.write("courier").await.expect("generates").context().id);
        advance(Duration::from_secs(3600)).await;
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_write_lease_is_renewed_by_asking_the_custodian_again() {
    let world = world();
    let first = world.write("alice").await.expect("generates");
    let before = world.custodian.calls();
    advance(Duration::from_secs(48 * 60)).await;
    world.write("alice").await.expect("leased");
    settle().await;
    assert_eq!(world.custodian.calls(), (before.0, before.1 + 1), "renewed ahead by an unwrap");
    advance(Duration::from_secs(30 * 60)).await;
    assert_eq!(world.write("alice").await.expect("renewed").context().id, first.context().id);
    advance(Duration::from_secs(3600)).await;
    world.custodian.unreachable(true);
    assert_eq!(cause(world.write("alice").await), "unreachable", "nothing new starts");
    world.custodian.unreachable(false);
    world.custodian.disable();
    assert_eq!(cause(world.write("alice").await), "disabled");
}

#[tokio::test(start_paused = true)]
async fn a_denial_ends_what_uploads_under_way_hold() {
    let world = world();
    let (held, bobs) = (world.write("alice").await.expect("generates"), world.write("bob").await.expect("may"));
    world.custodian.refuse_unwrap("alice");
    world.custodian.refuse_generate("alice");
    advance(Duration::from_secs(48 * 60)).await;
    world.write("alice").await.expect("leased");
    settle().await;
    assert_eq!((held.is_ended(), bobs.is_ended()), (true, false));
    assert_eq!(cause(world.keys.may_still_write(&held).await), "denied");
    assert!(world.keys.may_still_write(&bobs).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_key_is_replaced_at_its_limits() {
    let of = |settings| async move {
        let world = world_with(settings);
        let mut ids = Vec::new();
        for _ in 0..30 {
            ids.push(world.write("alice").await.expect("writes").context().id);
        }
        let most = ids.iter().map(|id| ids.iter().filter(|other| *other == id).count()).max();
        most.expect("some")
    };
    assert_eq!(of(LeaseSettings { write_objects_max: 10, ..LeaseSettings::default() }).await, 10);
    assert_eq!(of(LeaseSettings { write_bytes_max: 5 << 20, ..LeaseSettings::default() }).await, 5);

    let world = world();
    let young = world.write("alice").await.expect("generates");
    advance(Duration::from_secs(30 * 24 * 3600)).await;
    assert_ne!(world.write("alice").await.expect("generates").context().id, young.context().id);
}

#[tokio::test(start_paused = true)]
async fn a_worn_key_is_replaced_in_the_background() {
    let world = world_with(LeaseSettings { write_objects_max: 10, ..LeaseSettings::default() });
    let first = world.write("alice").await.expect("generates").context().id;
    for _ in 0..8 {
        assert_eq!(world.write("alice").await.expect("leased").context().id, first);
    }
    settle().await;
    assert_ne!(world.write("alice").await.expect("leased").context().id, first, "the tenth has a new one already");
}

#[tokio::test(start_paused = true)]
async fn a_retired_version_ends_writing_under_it() {
    let world = world();
    let old = world.write("alice").await.expect("generates");
    world.custodian.rotate();
    world.custodian.oldest_version(2);
    advance(Duration::from_secs(3600)).await;
    let new = world.write("alice").await.expect("generates");
    assert_ne!(new.context().id, old.context().id);
    assert_eq!(new.wrapped().version().number(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_reaches_keys_in_use_and_answers_under_way() {
    let world = world();
    let written = world.write("alice").await.expect("generates");
    let read = world.read(&written, "alice").await.expect("unwraps");
    world.keys.revoke(&Revocation::Kek(fake::kek()));
    assert!(written.is_revoked() && read.is_revoked());
    let anew = world.write("alice").await.expect("the custodian still grants it");
    assert_ne!(anew.context().id, written.context().id);

    world.custodian.delay_ms(1000);
    let under_way = world.read(&written, "alice");
    let revoke = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        world.keys.revoke(&Revocation::Branch(written.context().id));
    };
    let (under_way, ()) = tokio::join!(under_way, revoke);
    assert!(matches!(under_way, Err(BranchKeyError::Revoked)));
    assert!(world.read(&written, "alice").await.is_ok(), "asked again, the custodian decides");
}

#[tokio::test(start_paused = true)]
async fn a_silent_custodian_is_an_error_in_time_and_nothing_is_remembered() {
    let world = world();
    world.custodian.delay_ms(3_600_000);
    let asked = Instant::now();
    assert_eq!(cause(world.write("alice").await), "unreachable");
    assert!(asked.elapsed() <= Duration::from_secs(2));
    world.custodian.delay_ms(0);
    assert!(world.write("alice").await.is_ok());
}

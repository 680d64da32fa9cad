//! How writers come to a new version of a KEK, told of it or not, without waiting.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn version(key: &WritingKey) -> u32 {
    key.wrapped().version().number()
}

impl World {
    async fn version(&self, principal: &str) -> u32 {
        version(&self.write(principal).await.expect("never an error"))
    }

    /// Rotates the KEK, and says so.
    fn rotate_and_tell(&self) {
        self.custodian.rotate();
        self.keys.outdate(&fake::kek());
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_is_told_replaces_keys_at_the_next_write_and_nobody_waits() {
    let world = world();
    world.custodian.refuse_unwrap("courier");
    let old = world.write("alice").await.expect("generates");
    for principal in ["bob", "carol"] {
        world.write(principal).await.expect("is authorised");
    }
    world.write("courier").await.expect("generates its own");
    world.rotate_and_tell();
    // So slow that whoever waited would be seen, and in time.
    world.custodian.delay_ms(1000);
    let begun = Instant::now();
    for principal in ["alice", "bob", "courier"] {
        assert_eq!(world.version(principal).await, 1, "this write starts it");
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(old.is_usable(), "what runs goes on");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let begun = Instant::now();
    for principal in ["alice", "bob", "courier"] {
        assert_eq!(world.version(principal).await, 2, "{principal}");
    }
    assert_eq!(world.version("carol").await, 1, "she has no lease on the new key, and goes on with the one she has");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let [alices, carols] = [world.write("alice").await, world.write("carol").await].map(|key| key.expect("leased"));
    assert_eq!([version(&alices), version(&carols)], [2, 2]);
    assert_eq!(alices.context().id, carols.context().id, "one shared key");
    assert_eq!(world.custodian.calls().0, 4, "two shared ones, two of the courier's");
    assert!(!old.is_revoked());
}

#[tokio::test(start_paused = true)]
async fn who_comes_without_a_lease_after_a_rotation_waits_for_no_new_key() {
    let world = world();
    world.write("alice").await.expect("generates");
    world.rotate_and_tell();
    world.custodian.refuse_generate("reader");
    let before = world.custodian.calls();
    assert_eq!(world.version("reader").await, 1);
    assert_eq!(world.custodian.calls(), (before.0, before.1 + 1), "one question");
    settle().await;
    for _ in 0..3 {
        assert_eq!(world.version("reader").await, 1, "may not generate, and writes on");
        settle().await;
    }
    assert_eq!(world.custodian.calls().0, before.0 + 1, "it tries once, and then lets it rest");
    world.write("alice").await.expect("starts it");
    settle().await;
    assert_eq!([world.version("alice").await, world.version("reader").await], [2, 1]);
    settle().await;
    assert_eq!(world.version("reader").await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_replacement_that_fails_is_tried_again_and_writes_go_on() {
    let world = world();
    world.write("alice").await.expect("generates");
    world.rotate_and_tell();
    world.directory.fail(true);
    let before = world.custodian.calls().0;
    for _ in 0..100 {
        assert_eq!(world.version("alice").await, 1);
        settle().await;
    }
    assert_eq!(world.custodian.calls().0, before + 1, "not with every write");
    world.directory.fail(false);
    advance(HOUR / 20).await;
    assert_eq!(world.version("alice").await, 1);
    settle().await;
    assert_eq!(world.version("alice").await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_generated_during_a_rotation_is_replaced() {
    let world = world();
    world.custodian.delay_ms(1000);
    let rotate = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        world.rotate_and_tell();
    };
    // Generated, and then proven and published while it happens.
    let (written, ()) = tokio::join!(world.write("alice"), rotate);
    let written = version(&written.expect("it counts"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.write("alice").await.expect("starts it");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((written, world.version("alice").await), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn other_keks_are_left_alone() {
    let world = world();
    world.write("alice").await.expect("generates");
    world.keys.outdate(&KekName::new("other").expect("legal"));
    let before = world.custodian.calls();
    world.write("alice").await.expect("leased");
    settle().await;
    assert_eq!(world.custodian.calls(), before);
}

#[tokio::test(start_paused = true)]
async fn a_custodian_that_lags_behind_what_was_told_is_asked_again() {
    let world = world();
    world.write("alice").await.expect("generates");
    // Told of it by one custodian, and generated by another that has not heard of it.
    world.keys.outdate(&fake::kek());
    world.write("alice").await.expect("starts it");
    settle().await;
    assert_eq!((world.version("alice").await, world.custodian.calls().0), (1, 2));
    world.custodian.rotate();
    tokio::time::sleep(Duration::from_secs(6)).await;
    world.write("alice").await.expect("starts it");
    settle().await;
    assert_eq!((world.version("alice").await, world.custodian.calls().0), (2, 3));
    // Told once more, which is once too often: it settles.
    world.keys.outdate(&fake::kek());
    for _ in 0..20 {
        world.write("alice").await.expect("leased");
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    assert_eq!(world.custodian.calls().0, 4);
}

#[tokio::test(start_paused = true)]
async fn without_being_told_each_renewal_looks_for_a_newer_version() {
    let world = world();
    let old = world.write("alice").await.expect("generates");
    advance(HOUR * 8 / 10).await;
    world.write("alice").await.expect("renews");
    settle().await;
    assert_eq!(world.custodian.rewraps(), 1);
    assert_eq!(world.write("alice").await.expect("leased").context().id, old.context().id, "nothing newer");
    world.custodian.rotate();
    let mut calls = 0;
    // A write each minute, as long as until the next renewal.
    for _ in 0..60 {
        advance(Duration::from_secs(60)).await;
        calls += 1;
        if world.version("alice").await == 2 {
            break;
        }
        settle().await;
    }
    assert!(calls <= 50, "{calls} minutes");
    assert_eq!(world.custodian.rewraps(), 2);
    let published = world.directory.entries.len();
    assert_eq!(published, 2, "what the rewraps gave is used nowhere");
}

#[tokio::test(start_paused = true)]
async fn of_many_who_renew_together_one_looks() {
    let world = world();
    let callers: Vec<String> = (0..100).map(|number| format!("client{number}")).collect();
    for caller in &callers {
        world.write(caller).await.expect("writes");
    }
    assert_eq!(world.custodian.rewraps(), 0, "the key is new");
    advance(HOUR * 9 / 10).await;
    for caller in &callers {
        world.write(caller).await.expect("renews");
    }
    settle().await;
    assert_eq!((world.custodian.rewraps(), world.custodian.calls().0), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn who_may_not_look_goes_on_with_the_old() {
    let world = world();
    world.custodian.refuse_rewrap();
    let old = world.write("alice").await.expect("generates");
    world.custodian.rotate();
    for _ in 0..5 {
        advance(HOUR / 2).await;
        assert_eq!(world.write("alice").await.expect("leased").context().id, old.context().id);
        settle().await;
    }
    assert!(world.custodian.rewraps() >= 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_replaced_is_kept_no_longer_than_its_leases_and_not_beyond_a_denial() {
    let world = world();
    world.write("alice").await.expect("generates");
    for principal in ["bob", "mallory"] {
        world.write(principal).await.expect("is authorised");
    }
    world.rotate_and_tell();
    world.write("alice").await.expect("starts it");
    settle().await;
    world.custodian.refuse_unwrap("mallory");
    world.custodian.refuse_generate("mallory");
    assert_eq!(world.version("mallory").await, 1, "leased for an hour");
    settle().await;
    assert_eq!(cause(world.write("mallory").await), "denied");
    world.custodian.allow_generate();
    advance(HOUR).await;
    assert_eq!(world.version("bob").await, 2, "the lease on the old one has ended");
    world.custodian.disable();
    world.keys.end_leases(&Revocation::Kek(fake::kek()));
    assert_eq!(cause(world.write("bob").await), "disabled");
}

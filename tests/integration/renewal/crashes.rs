//! A job that is killed at any request to the storage server: each object is the old or the new one, and the next run ends it.

use claviger::object::renewal::Choice;

use super::{AT_ONCE, IN_PARTS, MANNER, PART, fresh, re_encrypt, re_encrypt_by, rebind, upload};
use crate::harness::proxy::workbench;
use crate::harness::store::Instead;
use crate::harness::{BUCKET, Reply, Setup, World, noise};

async fn killed_at_each_step(served: bool, limit: u64) {
    for k in 0.. {
        let world = World::new().await;
        let single = noise(100_000, 1);
        world.s3.put(BUCKET, "a", single.clone()).await.ok();
        let parts = upload(&world.s3, "b", None, &[(1, PART), (2, 5)]).await;
        let leaked = super::envelope(&world.store, BUCKET, "a").branch().id;
        let choice = || Choice { branch: Some(leaked), ..Choice::default() };
        world.store.dies_at(k, served);
        let report = re_encrypt_by(&world.store, choice(), limit).await;
        let died = !report.through || report.done < 2;
        world.store.honest();
        let s3 = fresh(&world).await;
        for (key, body) in [("a", &single), ("b", &parts)] {
            assert!(s3.get(BUCKET, key).await.ok().body == *body, "{k}: {key}");
        }
        let report = re_encrypt_by(&world.store, choice(), limit).await;
        assert!(report.through && report.found.is_empty() && report.overtaken == 0, "{k}: {report:?}");
        let s3 = fresh(&world).await;
        for (key, body) in [("a", &single), ("b", &parts)] {
            assert!(s3.get(BUCKET, key).await.ok().body == *body, "{k}: {key}");
            assert_ne!(super::envelope(&world.store, BUCKET, key).branch().id, leaked, "{k}: {key}");
        }
        if !died {
            assert!(k > 10, "it takes more steps than {k}");
            return;
        }
    }
}

#[tokio::test]
async fn killed_before_each_request() {
    killed_at_each_step(false, AT_ONCE).await;
    killed_at_each_step(false, IN_PARTS).await;
}

#[tokio::test]
async fn killed_after_each_request() {
    killed_at_each_step(true, AT_ONCE).await;
    killed_at_each_step(true, IN_PARTS).await;
}

async fn rebinding_killed_at_each_step(served: bool, copies: (bool, u64)) {
    for k in 0.. {
        let world = World::new().await;
        let body = noise((5 << 20) + 70_000, 1);
        world.s3.put(BUCKET, "old", body.clone()).await.ok();
        let stored = world.store.object(BUCKET, "old").expect("stored");
        world.store.plant(BUCKET, "new", stored);
        world.store.dies_at(k, served);
        let run = || {
            rebind(
                workbench(&world.store, Setup { copies, ..Setup::default() }),
                (BUCKET, "new"),
                (BUCKET, "old"),
                MANNER,
            )
        };
        let died = run().await.done == 0;
        world.store.honest();
        let report = run().await;
        assert!(report.through && report.found.is_empty() && report.done + report.skipped == 1, "{k}: {report:?}");
        let s3 = fresh(&world).await;
        for key in ["old", "new"] {
            assert!(s3.get(BUCKET, key).await.ok().body == body, "{k}: {key}");
        }
        if !died {
            assert!(k > 5, "it takes more steps than {k}");
            return;
        }
    }
}

#[tokio::test]
async fn rebinding_is_killed_at_each_request() {
    for served in [false, true] {
        rebinding_killed_at_each_step(served, (true, 5 << 30)).await;
    }
}

#[tokio::test]
async fn rebinding_in_pieces_or_through_the_proxy_is_killed_at_each_request() {
    for served in [false, true] {
        rebinding_killed_at_each_step(served, (true, 5 << 20)).await;
        rebinding_killed_at_each_step(served, (false, 5 << 30)).await;
    }
}

#[tokio::test]
async fn a_server_that_fails_now_and_then_costs_nothing_but_repetition() {
    let world = World::new().await;
    let written = super::objects_of_each_kind(&world.s3).await;
    let asked = std::sync::atomic::AtomicUsize::new(1);
    world.store.before(move |_| {
        let number = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        number.is_multiple_of(9).then(|| Instead::Answer(Reply::error(503, "SlowDown")))
    });
    let leaked = super::envelope(&world.store, BUCKET, "a/one").branch().id;
    let choice = || Choice { branch: Some(leaked), ..Choice::default() };
    let mut runs = 0;
    loop {
        let report = re_encrypt(&world.store, choice()).await;
        if report.through && report.found.is_empty() {
            break;
        }
        runs += 1;
        assert!(runs < 50, "{report:?}");
    }
    world.store.honest();
    let s3 = fresh(&world).await;
    for (key, body) in written {
        assert!(s3.get(BUCKET, key).await.ok().body == body, "{key}");
        assert_ne!(super::envelope(&world.store, BUCKET, key).branch().id, leaked, "{key}");
    }
}

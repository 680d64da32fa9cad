//! A migration that is killed at any request to the storage server, or whose storage server fails now and then.

use claviger::maintenance::renewing::conditional;

use super::{Ended, assert_encrypted, assert_readable, before_the_proxy, fresh, go_on, job, migrating, seal};
use crate::harness::proxy::workbench;
use crate::harness::store::Instead;
use crate::harness::{BUCKET, Reply};

async fn killed_at_each_step(served: bool) {
    let mut k = 0;
    loop {
        let (world, objects) = before_the_proxy().await;
        world.store.dies_at(k, served);
        let killed = job(&world.store);
        let died = match seal(&killed).await {
            Ok(()) => !go_on(&killed).await.is_ok_and(|report| report.0 == Ended::Closed),
            Err(_) => true,
        };
        world.store.honest();
        let job = job(&world.store);
        if job.objects.manifest(&job.bucket).await.expect("opens").is_none() {
            seal(&job).await.expect("seals");
        }
        let open = !job.objects.manifest(&job.bucket).await.expect("opens").expect("there").head.done;
        if open {
            assert_readable(&world, &objects).await;
            let report = go_on(&job).await.expect("goes on");
            assert!(report.0 == Ended::Closed && report.3.is_empty(), "{k}: {report:?}");
        }
        assert_encrypted(&world, &objects);
        assert_readable(&world, &objects).await;
        if !died {
            assert!(k > 30, "it takes more steps than {k}");
            return;
        }
        k += 1;
    }
}

#[tokio::test]
async fn killed_before_each_request() {
    killed_at_each_step(false).await;
}

#[tokio::test]
async fn killed_after_each_request() {
    killed_at_each_step(true).await;
}

#[tokio::test]
async fn a_server_that_fails_now_and_then_costs_nothing_but_repetition() {
    let (world, objects) = before_the_proxy().await;
    let asked = std::sync::atomic::AtomicUsize::new(1);
    world.store.before(move |_| {
        let number = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        number.is_multiple_of(7).then(|| Instead::Answer(Reply::error(503, "SlowDown")))
    });
    seal(&job(&world.store)).await.expect("seals");
    let report = go_on(&job(&world.store)).await.expect("goes through");
    assert!(report.0 == Ended::Closed && report.3.is_empty(), "{report:?}");
    world.store.honest();
    assert_encrypted(&world, &objects);
    assert_readable(&world, &objects).await;
}

#[tokio::test]
async fn a_server_that_heeds_no_conditions_is_refused() {
    let (world, objects) = before_the_proxy().await;
    world.store.quirks().ignores_write_conditions = true;
    let objects_of = workbench(&world.store, migrating());
    assert!(conditional(&objects_of, false).await.is_err());
    assert!(!conditional(&objects_of, true).await.expect("stopped"));
    let mut job = job(&world.store);
    job.conditional = false;
    seal(&job).await.expect("seals");
    assert_eq!(go_on(&job).await.expect("goes through").0, Ended::Closed);
    assert_encrypted(&world, &objects);
    let s3 = fresh(&world).await;
    assert!(s3.get(BUCKET, objects[3].0).await.ok().body == objects[3].1);
}

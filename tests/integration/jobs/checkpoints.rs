//! Jobs that are interrupted, and go on; and what an operator makes of their checkpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use claviger::maintenance::checkpoint::Checkpoints;
use claviger::maintenance::job::{End, JobError, Patience, Run};
use claviger::object::error::{Error, WrongAnswer};
use tokio::sync::watch;

use super::{Noting, bench, checkpoint, fill, kept, run, run_with, scope, simple};
use crate::harness::custodian::Failing;
use crate::harness::proxy::{bucket_rule, key_rule, workbench};
use crate::harness::store::Instead;
use crate::harness::{BUCKET, Reply, STATE, Setup, World};

/// Runs until `seen` objects were treated, and stops then.
async fn interrupted(world: &World, work: Arc<Noting>, seen: usize) -> super::Ran {
    let (objects, scope) = (bench(&world.store), scope("", false));
    let (stop, stopped) = watch::channel(false);
    let checkpoints = Some(Checkpoints::new(Arc::clone(&objects), &scope, work.as_ref()));
    let watched = Arc::clone(&work);
    tokio::spawn(async move {
        while watched.seen().len() < seen {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.send(true).expect("the job runs");
        std::future::pending::<()>().await;
    });
    let run = Run { stop: stopped, checkpoints, every: Duration::from_millis(1), ..simple() };
    run_with(&objects, &scope, work, run).await
}

fn slowly() -> Arc<Noting> {
    Arc::new(Noting { pause: Duration::from_millis(3), ..Noting::default() })
}

#[tokio::test]
async fn a_job_that_was_stopped_goes_on_where_it_was() {
    let world = World::new().await;
    let keys = fill(&world.s3, 40).await;
    let work = slowly();
    let ran = interrupted(&world, Arc::clone(&work), 10).await;
    assert!(matches!(ran.end, Ok(End::Stopped)), "{ran:?}");
    let before = work.keys();
    assert!(before.len() >= 10 && before.len() < 40, "{before:?}");
    assert_eq!(kept(&world.store).len(), 1);
    let objects = bench(&world.store);
    let left = checkpoint(&objects, &scope("", false), work.as_ref()).await.expect("there is one");
    // What was begun was ended, so that there is no gap.
    assert_eq!((left.reached.as_str(), left.counts.done as usize), (before[before.len() - 1].as_str(), before.len()));
    // Another job, or the same over something else, is not concerned.
    let other = Noting { parameters: "other".to_owned(), ..Noting::default() };
    assert!(checkpoint(&objects, &scope("", false), &other).await.is_none());
    assert!(checkpoint(&objects, &scope("k", false), work.as_ref()).await.is_none());
    assert!(checkpoint(&objects, &scope("", true), work.as_ref()).await.is_none());
    let second = Arc::new(Noting::default());
    let ran = run(&objects, &scope("", false), Arc::clone(&second) as _).await;
    assert_eq!(ran.outcome(), (40, 0, 0, 0));
    assert_eq!(second.keys(), keys[before.len()..]);
    assert!(kept(&world.store).is_empty());
}

#[tokio::test]
async fn an_object_that_does_not_end_is_given_up_and_comes_again() {
    let world = World::new().await;
    let keys = fill(&world.s3, 8).await;
    let work = Arc::new(Noting { stuck_at: Some("k002"), ..Noting::default() });
    let ran = interrupted(&world, Arc::clone(&work), 7).await;
    assert!(matches!(ran.end, Ok(End::Stopped)), "{ran:?}");
    assert_eq!(work.keys().len(), 7);
    let objects = bench(&world.store);
    let left = checkpoint(&objects, &scope("", false), work.as_ref()).await.expect("there is one");
    assert_eq!((left.reached.as_str(), left.counts.done), ("k001", 2));
    let second = Arc::new(Noting::default());
    assert_eq!(run(&objects, &scope("", false), Arc::clone(&second) as _).await.outcome(), (8, 0, 0, 0));
    assert_eq!(second.keys(), keys[2..]);
}

#[tokio::test]
async fn a_killed_job_loses_nothing_at_any_request() {
    for served in [false, true] {
        for k in 0..30 {
            let world = World::new().await;
            let keys = fill(&world.s3, 9).await;
            world.store.shorten_listings(2);
            let first = Arc::new(Noting { pause: Duration::from_millis(3), ..Noting::default() });
            world.store.dies_at(k, served);
            let run_once = async {
                let objects = bench(&world.store);
                let scope = scope("", false);
                let checkpoints = Checkpoints::new(Arc::clone(&objects), &scope, first.as_ref());
                let run = Run { checkpoints: Some(checkpoints), every: Duration::from_millis(2), ..simple() };
                run_with(&objects, &scope, Arc::clone(&first) as _, run).await
            };
            run_once.await;
            world.store.honest();
            let second = Arc::new(Noting::default());
            let ran = run(&bench(&world.store), &scope("", false), Arc::clone(&second) as _).await;
            assert_eq!(ran.outcome().3, 0, "{k}");
            let mut seen = [first.keys(), second.keys()].concat();
            seen.sort();
            seen.dedup();
            assert_eq!(seen, keys, "{k}: {served}");
            assert!(kept(&world.store).is_empty());
        }
    }
}

#[tokio::test]
async fn a_checkpoint_that_is_not_ours_counts_for_nothing() {
    let world = World::new().await;
    let keys = fill(&world.s3, 30).await;
    let work = slowly();
    interrupted(&world, Arc::clone(&work), 10).await;
    let name = kept(&world.store).remove(0);
    let stored = world.store.object(STATE, &name).expect("it is there");
    let objects = bench(&world.store);
    let length = stored.body.len();
    for at in [0, 3, 4, length / 2, length - 1] {
        let mut spoilt = stored.clone();
        let mut body = spoilt.body.to_vec();
        body[at] ^= 1;
        spoilt.body = body.into();
        world.store.plant(STATE, &name, spoilt);
        assert!(checkpoint(&objects, &scope("", false), work.as_ref()).await.is_none(), "byte {at}");
    }
    for body in [Vec::new(), stored.body[..length - 1].to_vec(), vec![0; 3 << 20]] {
        world.store.plant(STATE, &name, crate::harness::store::Stored { body: body.into(), ..stored.clone() });
        assert!(checkpoint(&objects, &scope("", false), work.as_ref()).await.is_none());
    }
    // Moved to the name of another run.
    let other = Noting { parameters: "other".to_owned(), ..Noting::default() };
    let elsewhere = Checkpoints::new(Arc::clone(&objects), &scope("", false), &other);
    world.store.plant(STATE, elsewhere.name(), stored.clone());
    assert!(checkpoint(&objects, &scope("", false), &other).await.is_none());
    // Of another writer domain.
    world.store.plant(STATE, &name, stored.clone());
    let setup = Setup { rules: vec![bucket_rule(BUCKET, BUCKET, key_rule("demo"))], region: "sg", ..Setup::default() };
    let foreign = workbench(&world.store, setup);
    assert!(checkpoint(&foreign, &scope("", false), work.as_ref()).await.is_none());
    // And the job begins anew.
    world.store.tamper(STATE, &name, |stored| stored.body = stored.body.slice(..length - 1));
    let second = Arc::new(Noting::default());
    assert_eq!(run(&objects, &scope("", false), Arc::clone(&second) as _).await.outcome(), (30, 0, 0, 0));
    assert_eq!(second.keys(), keys);
}

#[tokio::test]
async fn a_replayed_checkpoint_makes_work_twice() {
    let world = World::new().await;
    let keys = fill(&world.s3, 30).await;
    interrupted(&world, slowly(), 8).await;
    let name = kept(&world.store).remove(0);
    let early = world.store.object(STATE, &name).expect("it is there");
    interrupted(&world, slowly(), 20).await;
    world.store.plant(STATE, &name, early);
    let work = Arc::new(Noting::default());
    let ran = run(&bench(&world.store), &scope("", false), Arc::clone(&work) as _).await;
    assert_eq!(ran.outcome(), (30, 0, 0, 0));
    assert!(work.keys().len() >= 15, "{:?}", work.keys());
    assert_eq!(work.keys().last(), keys.last());
}

#[tokio::test]
async fn two_machines_may_run_the_same_job() {
    let world = World::new().await;
    let keys = fill(&world.s3, 30).await;
    let (one, two) = (slowly(), slowly());
    let (first, second) = (bench(&world.store), bench(&world.store));
    let here = scope("", false);
    let (a, b) = tokio::join!(run(&first, &here, Arc::clone(&one) as _), run(&second, &here, Arc::clone(&two) as _));
    for (ran, work) in [(a, one), (b, two)] {
        assert_eq!(ran.outcome().3, 0);
        assert_eq!(work.keys().last(), keys.last());
    }
    let third = Arc::new(Noting::default());
    run(&first, &here, Arc::clone(&third) as _).await.outcome();
    // Whoever was slower may have left a checkpoint, which is a true one.
    assert!(third.keys().len() <= keys.len());
}

#[tokio::test]
async fn a_server_that_fails_now_and_then_is_asked_again() {
    let world = World::new().await;
    let keys = fill(&world.s3, 30).await;
    let asked = AtomicUsize::new(1);
    world.store.before(move |_| {
        let number = asked.fetch_add(1, Ordering::SeqCst);
        number.is_multiple_of(5).then(|| Instead::Answer(Reply::error(503, "SlowDown")))
    });
    world.store.shorten_listings(4);
    let work = Arc::new(Noting::default());
    assert_eq!(run(&bench(&world.store), &scope("", false), Arc::clone(&work) as _).await.outcome(), (30, 0, 0, 0));
    assert_eq!(work.keys(), keys);
}

#[tokio::test]
async fn a_server_that_is_gone_ends_the_job_and_blames_no_object() {
    let world = World::new().await;
    fill(&world.s3, 40).await;
    let objects = bench(&world.store);
    let verify = || super::verifying::verify(&objects, false, false);
    world.store.before(|seen| {
        let late = seen.key.as_str() >= "k010" && seen.bucket == BUCKET;
        late.then(|| Instead::Answer(Reply::error(503, "SlowDown")))
    });
    let ran = run(&objects, &scope("", false), verify()).await;
    assert!(matches!(ran.end, Err(JobError::Lost { .. })), "{ran:?}");
    assert_eq!((ran.counts.done, ran.counts.failed, ran.found.len()), (10, 0, 0));
    world.store.honest();
    let ran = run(&objects, &scope("", false), verify()).await;
    assert_eq!(ran.outcome(), (40, 0, 0, 0));
    // A single one that the server cannot give is a finding.
    world.store.before(|seen| (seen.key == "k020").then(|| Instead::Answer(Reply::error(500, "InternalError"))));
    let ran = run(&objects, &scope("", false), verify()).await;
    assert_eq!((ran.outcome(), ran.keys()), ((39, 0, 0, 1), vec!["k020"]));
}

#[tokio::test]
async fn a_custodian_that_comes_back_is_waited_for_and_one_that_denies_is_not() {
    let world = World::new().await;
    fill(&world.s3, 12).await;
    let custodian = Failing::new();
    let objects = workbench(&world.store, Setup { custodian: custodian.clone(), ..Setup::default() });
    custodian.unreachable.store(true, Ordering::SeqCst);
    let back = Arc::clone(&custodian);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        back.unreachable.store(false, Ordering::SeqCst);
    });
    let patience = Patience { tries: 100, ..super::PATIENCE };
    let run = Run { patience, ..simple() };
    let ran = run_with(&objects, &scope("", false), super::verifying::verify(&objects, false, false), run).await;
    assert_eq!(ran.outcome(), (12, 0, 0, 0));
    let objects = workbench(&world.store, Setup { custodian: custodian.clone(), ..Setup::default() });
    custodian.denies.store(true, Ordering::SeqCst);
    let work = super::verifying::verify(&objects, false, false);
    let ran = run_with(&objects, &scope("", false), work, simple()).await;
    assert_eq!(ran.outcome(), (0, 0, 0, 12));
    assert!(ran.found.iter().all(|(_, _, error)| error.contains("denies")), "{ran:?}");
}

/// The storage server lists what is on each page backwards.
pub(crate) fn list_backwards(world: &World) {
    world.store.after(|seen, reply| {
        if seen.bucket == BUCKET && seen.has("list-type") {
            let page = String::from_utf8(reply.body.to_vec()).expect("text");
            let (head, entries) = page.split_at(page.find("<Contents>").unwrap_or(page.len()));
            let (entries, tail) =
                entries.split_at(entries.rfind("</Contents>").map_or(0, |at| at + "</Contents>".len()));
            let mut entries: Vec<&str> = entries.split_inclusive("</Contents>").collect();
            entries.reverse();
            reply.body = format!("{head}{}{tail}", entries.concat()).into();
        }
    });
}

#[tokio::test]
async fn of_a_listing_in_no_order_nothing_is_left_out_after_an_interruption() {
    let world = World::new().await;
    let keys = fill(&world.s3, 40).await;
    world.store.shorten_listings(10);
    list_backwards(&world);
    let ran = interrupted(&world, slowly(), 15).await;
    assert!(matches!(ran.end, Ok(End::Stopped)), "{ran:?}");
    assert!(kept(&world.store).is_empty());
    let work = Arc::new(Noting::default());
    assert_eq!(run(&bench(&world.store), &scope("", false), Arc::clone(&work) as _).await.outcome(), (40, 0, 0, 0));
    assert_eq!(work.keys(), keys);
}

#[tokio::test]
async fn a_run_goes_on_in_a_listing_in_order_only() {
    let world = World::new().await;
    let keys = fill(&world.s3, 40).await;
    world.store.shorten_listings(10);
    interrupted(&world, slowly(), 15).await;
    assert_eq!(kept(&world.store).len(), 1);
    // What is listed after the checkpoint would be before it, for what this server says.
    list_backwards(&world);
    let (objects, work) = (bench(&world.store), Arc::new(Noting::default()));
    let ran = run(&objects, &scope("", false), Arc::clone(&work) as _).await;
    assert!(matches!(ran.end, Err(JobError::Object(Error::WrongAnswer(WrongAnswer::Order)))), "{ran:?}");
    assert!(kept(&world.store).is_empty());
    assert_eq!(run(&objects, &scope("", false), Arc::clone(&work) as _).await.outcome(), (40, 0, 0, 0));
    assert_eq!(work.keys(), keys);
}

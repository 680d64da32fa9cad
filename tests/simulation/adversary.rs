//! What goes wrong in a run, and when, by its seed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::network::Host;
use crate::proxy::CLIENTS;
use crate::random::Random;
use crate::storage::Manners;
use crate::world::{CUSTODIANS, Fault, NAMES, PROXIES, STORAGE, WORK, World};
use crate::{BUCKET, lock};

/// Acts until the applications end, then puts all right again.
pub(crate) async fn act(world: Arc<World>, mut random: Random) {
    let begun = Instant::now();
    let count = random.within(3..14);
    let mut moments: Vec<u64> = (0..count).map(|_| random.within(2_000..48_000)).collect();
    moments.sort_unstable();
    if world.fault == Some(Fault::Unwatched) {
        moments = vec![15_000];
    }
    for moment in moments {
        sleep_until(begun + Duration::from_millis(moment)).await;
        match world.fault {
            None => once(&world, &mut random, moment).await,
            Some(Fault::Unwatched) => CLIENTS.iter().for_each(|name| world.revoke(name)),
            Some(_) => {}
        }
    }
    sleep_until(begun + WORK + Duration::from_secs(21)).await;
    world.net.heal();
    world.storage.manners(|manners| *manners = Manners::default());
    lock(&world.ahead).clear();
}

fn pair(random: &mut Random) -> (Host, Host) {
    let proxy = *random.pick(&PROXIES);
    (proxy, *random.pick(&[0, CUSTODIANS[0], CUSTODIANS[1], STORAGE, STORAGE]))
}

async fn once(world: &Arc<World>, random: &mut Random, moment: u64) {
    match random.within(0..18) {
        0..3 => cut(world, random),
        3 => {
            let slowness = random.within(20..900);
            world.trace.note(format!("adversary: pieces take up to {slowness} ms"));
            world.net.slow(slowness);
        }
        4 => {
            let (one, other) = pair(random);
            world.trace.note(format!("adversary: breaks {} - {}", NAMES[usize::from(one)], NAMES[usize::from(other)]));
            world.net.reset(one, other);
        }
        5..7 => crash(world, *random.pick(&PROXIES), random),
        7 => crash(world, *random.pick(&CUSTODIANS), random),
        8 | 9 => bad_manners(world, random),
        10 => {
            let (host, lasts) = (*random.pick(&CUSTODIANS), random.millis(300..8_000));
            world.trace.note(format!("adversary: {} loses its store for {lasts:?}", NAMES[usize::from(host)]));
            lock(&world.custodians)[&host].blind(lasts);
        }
        11 => skew(world, random),
        14 | 15 => revoke_behind_a_cut(world, random).await,
        12 => {
            let name = *random.pick(&CLIENTS[..3]);
            world.trace.note(format!("adversary: {name} is revoked"));
            world.revoke(name);
        }
        13 if moment > 35_000 && random.percent(30) => {
            world.trace.note("adversary: the KEK is disabled");
            world.revoke_all();
        }
        13 => {
            world.trace.note("adversary: the KEK is rotated");
            world.store.rotate();
        }
        _ => tamper(world, random),
    }
}

fn cut(world: &World, random: &mut Random) {
    let ((one, other), lasts) = (pair(random), random.millis(100..15_000));
    let both = random.percent(60);
    let (from, to) = if random.percent(50) { (one, other) } else { (other, one) };
    world.trace.note(format!(
        "adversary: cuts {} from {} for {lasts:?}, both ways: {both}",
        NAMES[usize::from(from)],
        NAMES[usize::from(to)]
    ));
    world.net.cut(from, to, lasts);
    if both {
        world.net.cut(to, from, lasts);
    }
}

/// A proxy hears neither custodian, or is not heard by them, and a client is revoked who has leases there.
async fn revoke_behind_a_cut(world: &World, random: &mut Random) {
    let (proxy, lasts, name) = (*random.pick(&PROXIES), random.millis(8_000..20_000), *random.pick(&CLIENTS[..3]));
    let both = random.percent(50);
    world.trace.note(format!(
        "adversary: cuts the custodians from {} for {lasts:?}, both ways: {both}, and {name} is revoked",
        NAMES[usize::from(proxy)]
    ));
    for custodian in CUSTODIANS {
        world.net.cut(custodian, proxy, lasts);
        if both {
            world.net.cut(proxy, custodian, lasts);
        }
    }
    sleep(random.millis(0..1_000)).await;
    world.revoke(name);
}

fn crash(world: &Arc<World>, host: Host, random: &mut Random) {
    let (silently, down) = (random.percent(50), random.millis(0..8_000));
    world.trace.note(format!("adversary: {} crashes for {down:?}, silently: {silently}", NAMES[usize::from(host)]));
    world.net.crash(host, silently);
    let world = Arc::clone(world);
    tokio::spawn(async move {
        sleep(down).await;
        if PROXIES.contains(&host) { world.start_proxy(host) } else { world.start_custodian(host) }
    });
}

fn bad_manners(world: &Arc<World>, random: &mut Random) {
    let (silent, failing, slow) = (random.within(0..30), random.within(0..30), random.within(0..30));
    let lasts = random.millis(1_000..10_000);
    world.trace.note(format!(
        "adversary: the storage server is silent {silent}, failing {failing}, slow {slow} in 100 times for {lasts:?}"
    ));
    world.storage.manners(|manners| (manners.silent, manners.failing, manners.slow) = (silent, failing, slow));
    let world = Arc::clone(world);
    tokio::spawn(async move {
        sleep(lasts).await;
        world.storage.manners(|manners| (manners.silent, manners.failing, manners.slow) = (0, 0, 0));
    });
}

/// A proxy's clock is set off from those of all others, or the storage server's from the proxies'.
fn skew(world: &World, random: &mut Random) {
    let ahead = i64::try_from(random.within(0..3600)).expect("small") - 1800;
    let host = *random.pick(&[PROXIES[0], PROXIES[1], STORAGE]);
    world.trace.note(format!("adversary: the clock of {} is {ahead} s ahead", NAMES[usize::from(host)]));
    if host == STORAGE {
        world.storage.manners(|manners| manners.ahead.extend(PROXIES.map(|proxy| (proxy, ahead))));
    } else {
        lock(&world.ahead).insert(host, ahead);
        world.storage.manners(|manners| manners.ahead.extend([(host, -ahead)]));
    }
}

fn tamper(world: &World, random: &mut Random) {
    let keys = world.records().keys();
    if keys.is_empty() {
        return;
    }
    let (key, other, place) = (random.pick(&keys).clone(), random.pick(&keys).clone(), random.next());
    match random.within(0..3) {
        0 if world.storage.damage(BUCKET, &key, place) => {
            world.trace.note(format!("adversary: a bit of {key} is flipped"));
            world.records().damage(&key);
        }
        1 if world.storage.put_back(BUCKET, &key) => {
            world.trace.note(format!("adversary: {key} is put back to an older state"));
            world.records().put_back(&key);
        }
        2 if key != other && world.storage.move_over(BUCKET, &key, &other) => {
            world.trace.note(format!("adversary: {key} is put in the place of {other}"));
            world.records().put_back(&other);
            world.records().damage(&other);
        }
        _ => {}
    }
}

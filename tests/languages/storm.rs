//! Programs in all languages on all objects at once, killed at random.

use std::time::{Duration, Instant};

use crate::peer::{Running, peers};
use crate::support::{Random, number_from_env, poll, watchdog};
use crate::world::{PERMITS, Place, WORKERS};

const PROCESSES: usize = 6;

/// The turn that ends a storm.
const STOP: u64 = u64::MAX;

/// `SHM_SYNC_LANGUAGES_SECONDS` sets the time of the storm, and `SHM_SYNC_STORM_SEED`
/// its seed.
#[test]
fn storm_of_all_languages() {
    let seconds = number_from_env("SHM_SYNC_LANGUAGES_SECONDS").unwrap_or(4);
    let (mut random, seed) = Random::from_env(0x5eed);
    println!("seed {seed}");
    let place = Place::new("languages-storm");
    let start = |me: usize, kind: usize| -> Running {
        let mut running = peers()[kind % peers().len()].open(&place.name);
        running.tell(&format!("storm {me}"));
        running
    };
    let rounds = || match place.segment.lock() {
        Ok(guard) => guard.rounds,
        Err(poisoned) => poisoned.recover(|ledger| ledger.repair()).rounds,
    };
    let check_progress = |kills: u64| {
        let before = rounds();
        let begin = Instant::now();
        poll(|| {
            let now = rounds();
            let stuck: Vec<usize> = (0..PROCESSES).filter(|&me| now[me] == before[me]).collect();
            assert!(
                begin.elapsed() < watchdog() / 3,
                "after {kills} kills, {stuck:?} are stuck"
            );
            stuck.is_empty()
        });
    };

    let mut running: Vec<Running> = (0..PROCESSES).map(|me| start(me, me)).collect();
    let begin = Instant::now();
    let mut kills = 0;
    while begin.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_micros(random.below(8_000)));
        let me = random.below(PROCESSES as u64) as usize;
        let kind = random.below(64) as usize;
        let victim = std::mem::replace(&mut running[me], start(me, kind));
        victim.kill();
        kills += 1;
        if kills % 100 == 0 {
            check_progress(kills);
        }
    }
    check_progress(kills);
    match place.segment.lock() {
        Ok(mut guard) => guard.turn = STOP,
        Err(poisoned) => {
            poisoned
                .recover(|ledger| {
                    ledger.repair();
                    ledger.turn = STOP;
                })
                .turn = STOP;
        }
    }
    for mut peer in running {
        let reply = peer.reply();
        assert!(reply.starts_with("ok "), "a peer has failed: {reply}");
        peer.expect_ok("close");
        peer.end();
    }

    let ledger = place.segment.ledger();
    println!("{kills} kills, {ledger:?}");
    assert_eq!(ledger.violations, 0, "seed {seed}: {ledger:?}");
    assert!(kills > 10, "{kills} kills in {seconds} s");
    let world = &*place.segment;
    let permits = world.permits.try_acquire_many_for(PERMITS, watchdog());
    assert_eq!(
        permits.expect("all are free").len(),
        PERMITS,
        "no permit is lost"
    );
    assert_eq!(
        (world.bytes.senders(), world.bytes.receivers()),
        (0, 0),
        "no endpoint is left"
    );
    for worker in &world.workers[..WORKERS] {
        let _ = worker.lock.lock_or_recover(|_, _| ()).expect("it is free");
    }
}

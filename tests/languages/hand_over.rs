//! Peers take turns by the condition variable.

use std::time::{Duration, Instant};

use shm_sync::ShmCondvar;

use crate::peer::{for_each_pair, peers};
use crate::world::{Place, World};

const ROUNDS: u64 = 2_000;

#[test]
fn turns_pass_between_all_pairs() {
    for_each_pair(|first, second| {
        let place = Place::new("languages-turns");
        let mut first = first.open(&place.name);
        let mut second = second.open(&place.name);
        first.tell(&format!("hand_over 1 2 {ROUNDS}"));
        second.tell(&format!("hand_over 2 1 {ROUNDS}"));
        place
            .segment
            .ledger
            .lock()
            .expect("no holder has died")
            .turn = 1;
        place.segment.changed.notify_all();
        first.expect_reply("ok");
        second.expect_reply("ok");
        let ledger = place.segment.ledger();
        assert_eq!(ledger.total, 2 * ROUNDS, "each turn adds 1");
    });
}

#[test]
fn turns_pass_in_a_circle() {
    let place = Place::new("languages-circle");
    let count = 2 * peers().len();
    let mut running: Vec<_> = (0..count)
        .map(|at| peers()[at % peers().len()].open(&place.name))
        .collect();
    // Only one of the waiters can use a notification, so the circle needs `all`: each
    // waiter passes the wake-up on.
    for peer in &mut running {
        peer.tell("wait 7");
        peer.wait_until_asleep();
    }
    running[0].tell("is_set gate"); // it has not replied to `wait` yet
    place
        .segment
        .ledger
        .lock()
        .expect("no holder has died")
        .turn = 7;
    place.segment.changed.notify_all();
    for peer in &mut running {
        peer.expect_reply("ok");
    }
    running[0].expect_reply("ok 0");
}

// The notifier keeps the lock until after the deadline, and wakes no waiter before.
#[test]
fn notification_before_the_deadline_counts() {
    const TIMEOUT: Duration = Duration::from_millis(30);
    let place = Place::new("languages-wait-notified");
    let World {
        ledger, changed, ..
    } = &*place.segment;
    for peer in peers() {
        let mut waiter = peer.open(&place.name);
        for notify in [ShmCondvar::notify_one, ShmCondvar::notify_all] {
            let mut was_in_time = || {
                let before = Instant::now();
                waiter.tell("wait_once 30");
                waiter.wait_until_asleep();
                let guard = ledger.lock().expect("no holder has died");
                notify(changed);
                let notified = Instant::now();
                std::thread::sleep(2 * TIMEOUT);
                drop(guard);
                let reply = waiter.reply();
                // On a busy machine, the notification may have come too late.
                let was_in_time = notified < before + TIMEOUT;
                assert!(reply == "ok" || !was_in_time, "{peer:?}: {reply}");
                was_in_time
            };
            while !was_in_time() {}
        }
    }
}

#[test]
fn wait_times_out() {
    let place = Place::new("languages-wait-timeout");
    for peer in peers() {
        let mut peer = peer.open(&place.name);
        peer.expect("wait_for 7 30", "timed_out");
        peer.expect("increment 1", "ok 0");
    }
}

//! Peers take turns by the condition variable.

use crate::peer::{for_each_pair, peers};
use crate::world::Place;

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

#[test]
fn wait_times_out() {
    let place = Place::new("languages-wait-timeout");
    for peer in peers() {
        let mut peer = peer.open(&place.name);
        peer.expect("wait_for 7 30", "timed_out");
        peer.expect("increment 1", "ok 0");
    }
}

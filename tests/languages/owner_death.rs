//! A peer is killed, and another one recovers.

use crate::peer::for_each_pair;
use crate::world::Place;

/// Returns the reply of a peer that gets the lock after the death of a process.
fn owner_died(pid: u32) -> String {
    // The thread that has locked is the main thread.
    format!("poisoned owner_died {pid} {pid}")
}

#[test]
fn holder_killed_next_locker_recovers() {
    for_each_pair(|victim, survivor| {
        let place = Place::new("languages-death");
        let mut killed = victim.open(&place.name);
        let mut survivor = survivor.open(&place.name);
        survivor.expect("increment 3", "ok 0");
        killed.expect_ok("lock");
        killed.expect_ok("tear");
        let pid = killed.kill();
        survivor.expect("cause", &owner_died(pid));
        survivor.expect("lock", &owner_died(pid));
        survivor.expect_ok("recover");
        survivor.expect_ok("unlock");
        survivor.expect("cause", "ok");
        let ledger = place.segment.ledger();
        assert_eq!(
            (ledger.total, ledger.repairs),
            (4, 1),
            "the repair is there"
        );
        let mut next = victim.open(&place.name);
        next.expect("increment 2", "ok 0");
        survivor.expect("read", "ok 6 6 0 1");
    });
}

#[test]
fn holder_killed_waiter_goes_on() {
    for_each_pair(|victim, survivor| {
        let place = Place::new("languages-death-waiter");
        let mut killed = victim.open(&place.name);
        let mut survivor = survivor.open(&place.name);
        killed.expect_ok("lock");
        killed.expect_ok("tear");
        survivor.tell("lock");
        survivor.wait_until_asleep();
        let pid = killed.kill();
        survivor.expect_reply(&owner_died(pid));
        survivor.expect_ok("recover");
        survivor.expect_ok("unlock");
        place.segment.ledger();
    });
}

#[test]
fn waiter_killed_next_waiter_goes_on() {
    for_each_pair(|victim, survivor| {
        let place = Place::new("languages-waiter-killed");
        let mut killed = victim.open(&place.name);
        let mut survivor = survivor.open(&place.name);
        let guard = place.segment.lock().expect("it is free");
        killed.tell("lock");
        killed.wait_until_asleep();
        survivor.tell("lock");
        survivor.wait_until_asleep();
        killed.kill();
        drop(guard);
        survivor.expect_reply("ok");
        survivor.expect_ok("unlock");
    });
}

#[test]
fn poison_stays_until_a_repair() {
    for_each_pair(|victim, survivor| {
        let place = Place::new("languages-poison-stays");
        let mut killed = victim.open(&place.name);
        let mut survivor = survivor.open(&place.name);
        killed.expect_ok("lock");
        killed.expect_ok("tear");
        let pid = killed.kill();
        let mut second = victim.open(&place.name);
        // It unlocks without a repair, and the next one is killed in its repair.
        second.expect("lock", &owner_died(pid));
        second.expect_ok("unlock");
        second.expect("lock", &owner_died(pid));
        let second = second.kill();
        survivor.expect("lock", &owner_died(second));
        survivor.expect_ok("recover");
        survivor.expect_ok("unlock");
        survivor.expect("lock", "ok");
    });
}

#[test]
fn failure_of_a_holder_poisons() {
    for_each_pair(|failing, survivor| {
        let place = Place::new("languages-failure");
        let mut failing = failing.open(&place.name);
        let mut survivor = survivor.open(&place.name);
        failing.expect_ok("fail");
        let pid = failing.pid();
        survivor.expect("lock", &format!("poisoned panicked {pid} {pid}"));
        survivor.expect_ok("recover");
        survivor.expect_ok("unlock");
        failing.expect("increment 1", "ok 0");
        survivor.expect("read", "ok 2 2 0 1");
    });
}

#[test]
fn failure_of_a_holder_reaches_waiters() {
    for_each_pair(|failing, waiter| {
        let place = Place::new("languages-failure-waiter");
        let mut failing = failing.open(&place.name);
        let mut waiter = waiter.open(&place.name);
        waiter.tell("wait 7");
        waiter.wait_until_asleep();
        failing.expect_ok("fail");
        let pid = failing.pid();
        waiter.expect_reply(&format!("poisoned panicked {pid} {pid}"));
        assert_eq!(place.segment.ledger().repairs, 1, "the waiter has repaired");
    });
}

#[test]
fn condvar_waiter_killed_others_are_notified() {
    for_each_pair(|victim, survivor| {
        for notify in ["one", "all"] {
            let place = Place::new("languages-condvar-killed");
            let mut killed = victim.open(&place.name);
            let mut waiter = survivor.open(&place.name);
            let mut notifier = survivor.open(&place.name);
            killed.tell("wait 7");
            killed.wait_until_asleep();
            waiter.tell("wait 7");
            waiter.wait_until_asleep();
            killed.kill();
            notifier.expect_ok(&format!("turn 7 {notify}"));
            waiter.expect_reply("ok");
            waiter.expect("increment 1", "ok 0");
        }
    });
}

#[test]
fn holder_killed_while_all_others_wait() {
    for_each_pair(|victim, survivor| {
        let place = Place::new("languages-all-wait");
        let mut killed = victim.open(&place.name);
        let mut waiter = survivor.open(&place.name);
        waiter.tell("wait 7");
        waiter.wait_until_asleep();
        killed.expect_ok("lock");
        killed.expect_ok("tear");
        let pid = killed.kill();
        waiter.expect_reply(&owner_died(pid));
        let ledger = place.segment.ledger();
        assert_eq!(ledger.repairs, 1, "the waiter has repaired");
    });
}

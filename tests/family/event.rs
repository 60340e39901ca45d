//! `ShmEvent`: manual and automatic events, and deaths.

use std::time::{Duration, Instant};

use crate::support::{Child, die, on_stage, seccomp, spawn};
use shm_sync::{Error, LockError, Segment, ShmEvent};

/// A timeout that never ends in these tests.
const LONG: Duration = Duration::from_secs(3600);
/// The promised time after a death.
const RECOVERS_WITHIN: Duration = Duration::from_millis(250);
/// A time in which a waiter does its recheck, and yet does not go on.
const SEVERAL_RECHECKS: Duration = Duration::from_millis(400);

fn manual() -> Segment<ShmEvent> {
    Segment::anonymous(ShmEvent::manual_reset()).unwrap()
}

fn auto() -> Segment<ShmEvent> {
    Segment::anonymous(ShmEvent::auto_reset()).unwrap()
}

fn waiter(event: &ShmEvent) -> Child {
    let waiter = spawn(|| event.wait().unwrap());
    waiter.wait_until_asleep();
    waiter
}

#[test]
fn unplaced_event_is_refused() {
    let event = ShmEvent::manual_reset();
    let not_placed = |error| matches!(error, Error::Lock(LockError::NotPlaced));
    assert!(not_placed(event.set().unwrap_err()));
    assert!(not_placed(event.wait().unwrap_err()));
    assert!(not_placed(event.try_wait().unwrap_err()));
    assert!(not_placed(event.wait_timeout(LONG).unwrap_err()));
    assert!(!event.is_set());
    assert!(format!("{event:?}").contains("placed: false"), "{event:?}");
}

#[test]
fn manual_event_stays_set() {
    let event = manual();
    event.set().unwrap();
    event.set().unwrap();
    for _ in 0..3 {
        event.wait().unwrap();
        assert!(event.try_wait().unwrap());
        assert!(!event.wait_timeout(Duration::ZERO).unwrap().timed_out());
    }
    event.reset();
    assert!(!event.is_set() && !event.try_wait().unwrap());
    assert!(
        event
            .wait_timeout(Duration::from_millis(1))
            .unwrap()
            .timed_out()
    );
}

#[test]
fn auto_event_lets_one_pass() {
    let event = auto();
    // Two events in a row are one.
    event.set().unwrap();
    event.set().unwrap();
    assert!(event.try_wait().unwrap());
    assert!(!event.try_wait().unwrap());
    event.set().unwrap();
    event.wait().unwrap();
    assert!(
        event
            .wait_timeout(Duration::from_millis(1))
            .unwrap()
            .timed_out()
    );
    event.set().unwrap();
    event.reset();
    assert!(!event.is_set());
}

#[test]
fn timeout_is_kept() {
    let event = auto();
    let begin = Instant::now();
    assert!(
        event
            .wait_timeout(Duration::from_millis(30))
            .unwrap()
            .timed_out()
    );
    assert!(begin.elapsed() >= Duration::from_millis(30));
    event.set().unwrap();
    assert!(!event.wait_timeout(Duration::MAX).unwrap().timed_out());
}

#[test]
fn threads_take_turns() {
    let turns = Segment::anonymous([const { ShmEvent::auto_reset() }; 2]).unwrap();
    std::thread::scope(|s| {
        s.spawn(|| {
            for _ in 0..10_000 {
                turns[0].wait().unwrap();
                turns[1].set().unwrap();
            }
        });
        for _ in 0..10_000 {
            turns[0].set().unwrap();
            turns[1].wait().unwrap();
        }
    });
    assert!(!turns[0].is_set() && !turns[1].is_set());
}

on_stage! {
    fn smoke() {
        let event = manual();
        let waiters = [0; 3].map(|_| waiter(&event));
        event.set().unwrap();
        waiters.into_iter().for_each(Child::join);
    }

    fn auto_event_wakes_one_waiter_at_a_time() {
        let event = auto();
        let mut waiters = Vec::from([0; 3].map(|_| waiter(&event)));
        while !waiters.is_empty() {
            event.set().unwrap();
            let ended = |waiters: &mut Vec<Child>| {
                waiters.iter_mut().position(|waiter| waiter.try_wait().is_some())
            };
            crate::support::poll(|| ended(&mut waiters).is_some());
            let first = ended(&mut waiters).unwrap();
            waiters.remove(first).join();
            assert!(!event.is_set(), "the waiter has reset it");
            std::thread::sleep(SEVERAL_RECHECKS);
            assert_eq!(ended(&mut waiters), None, "the event was for one waiter");
        }
    }

    fn killed_waiter_costs_nothing() {
        let event = auto();
        let mut dead = waiter(&event);
        let other = waiter(&event);
        dead.kill();
        event.set().unwrap();
        other.join();
        assert!(!event.is_set());
    }

    fn setter_that_dies_has_set_it() {
        let event = manual();
        let mut setter = spawn(|| {
            event.set().unwrap();
            die()
        });
        setter.wait();
        event.wait().unwrap();
    }

    // The notification is lost, as if the setter had died before it. Without the
    // recheck the waiter would sleep on.
    fn lost_wake_is_noticed_by_recheck() {
        let event = manual();
        let waiter = waiter(&event);
        let mut setter = spawn(|| {
            seccomp::refuse(libc::SYS_futex, libc::EPERM);
            event.set().unwrap();
        });
        setter.wait();
        let begin = Instant::now();
        waiter.join();
        println!("the waiter went on after {:?}", begin.elapsed());
        let median = crate::support::median(5, || {
            event.reset();
            let waiter = crate::event::waiter(&event);
            let begin = Instant::now();
            spawn(|| {
                seccomp::refuse(libc::SYS_futex, libc::EPERM);
                event.set().unwrap();
            })
            .join();
            waiter.join();
            begin.elapsed()
        });
        assert!(median < RECOVERS_WITHIN, "{median:?}");
    }

    fn refused_sleep_is_reported() {
        let event = manual();
        spawn(|| {
            seccomp::refuse(libc::SYS_futex, libc::EPERM);
            assert!(matches!(event.wait(), Err(Error::Os { .. })));
            event.set().unwrap();
            event.wait().unwrap();
        })
        .join();
    }

    fn forked_child_uses_the_same_event() {
        let event = auto();
        let child = spawn(|| {
            event.wait().unwrap();
            event.set().unwrap();
        });
        event.set().unwrap();
        child.join();
        event.wait().unwrap();
    }
}

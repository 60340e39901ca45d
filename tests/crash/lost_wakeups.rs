//! A wakeup can die with who was to give it, or with who got it, while a third takes
//! the free lock: the kernel then wakes nobody, and who sleeps must wake by itself.
//!
//! A parent leads one of them by `ptrace` to just that point.

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))] // it reads instructions

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::walker::{Step, Walker, can_lead_for};
use crate::support::{SharedPair, median, on_stage, pair, spawn};
use shm_sync::ShmMutex;

/// What is promised of wakeups that were lost.
const HEALS_WITHIN: Duration = Duration::from_millis(250);
const ROUNDS: usize = 5;

/// Whether the lock's word, at its address, says that nobody has it.
fn is_free<T>(lock: &ShmMutex<T>) -> bool
where
    T: shm_sync::ShmSafe,
{
    // SAFETY: the word is there, aligned, and everybody uses it atomically.
    let word = unsafe { AtomicU32::from_ptr(lock.as_pthread_ptr().cast()) };
    word.load(Ordering::Relaxed) & libc::FUTEX_TID_MASK == 0
}

/// A child that sleeps until it gets the lock, and ends then.
fn sleeper(lock: &SharedPair) -> crate::support::Child {
    let sleeper = spawn(|| drop(lock.lock().unwrap()));
    sleeper.wait_until_asleep();
    sleeper
}

/// Stands where the lock has been given back, and nobody has been woken.
fn one_that_has_given_it_back(lock: &SharedPair) -> (Walker, crate::support::Child) {
    let mut giver = Walker::prepared(|| lock.lock().unwrap(), drop);
    let sleeper = sleeper(lock);
    while !is_free(lock) {
        giver.step_blindly();
    }
    (giver, sleeper)
}

/// Stands where it was woken, and has not taken the lock.
fn one_that_was_woken(lock: &SharedPair) -> (Walker, crate::support::Child) {
    let guard = lock.lock().unwrap();
    let mut woken = Walker::new(|| drop(lock.lock().unwrap()));
    while !matches!(woken.step_or_sleep(), Step::Asleep(_)) {}
    let sleeper = sleeper(lock);
    drop(guard);
    crate::support::poll(|| woken.stands());
    (woken, sleeper)
}

/// How long it takes until the sleeper has the lock, after the other was killed and a
/// third has had it in between.
fn time_to_heal(stage: impl Fn(&SharedPair) -> (Walker, crate::support::Child)) -> Duration {
    median(ROUNDS, || {
        let lock = pair();
        let (walker, sleeper) = stage(&lock);
        let third = lock.lock().unwrap();
        walker.kill();
        drop(third);
        let lost = Instant::now();
        sleeper.join();
        lost.elapsed()
    })
}

on_stage! {
    fn smoke() {
        let lock = pair();
        let guard = lock.lock().unwrap();
        let sleeper = sleeper(&lock);
        assert!(!is_free(&lock));
        drop(guard);
        sleeper.join();
        assert!(is_free(&lock));
    }

    // Failure mode 3.
    fn wakeup_lost_with_unlocker_is_made_up() {
        if can_lead_for("a death between giving back and waking") {
            let healed = time_to_heal(one_that_has_given_it_back);
            println!("median time to heal: {healed:?}");
            assert!(healed < HEALS_WITHIN);
        }
    }

    // Failure modes 2 and 3.
    fn wakeup_lost_with_woken_waiter_is_made_up() {
        if can_lead_for("a death between waking and taking") {
            let healed = time_to_heal(one_that_was_woken);
            println!("median time to heal: {healed:?}");
            assert!(healed < HEALS_WITHIN);
        }
    }
}

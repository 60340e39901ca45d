//! Lost wakeups. A wakeup is lost if the unlocker dies before it wakes a waiter, or if
//! the woken waiter dies, while a third process acquires the free lock. The kernel then
//! wakes no waiter, and the waiters must wake by themselves.
//!
//! A parent steps the victim by `ptrace` to exactly that point.

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))] // it reads instructions

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::walker::{Step, Walker, can_lead_for};
use crate::support::{
    LOCK_WORD, SharedPair, expect_poisoned, holder_of, median, on_stage, pair, spawn,
};
use shm_sync::ShmMutex;

/// The promised time after a lost wakeup.
const RECOVERS_WITHIN: Duration = Duration::from_millis(250);
const ROUNDS: usize = 5;

/// Returns whether the lock word names no holder.
fn is_free<T>(lock: &ShmMutex<T>) -> bool
where
    T: shm_sync::ShmSafe,
{
    let word = lock.as_pthread_ptr().wrapping_byte_add(LOCK_WORD);
    // SAFETY: the pointer leads to the aligned word of a lock that stays mapped, and
    // all processes access it atomically.
    let word = unsafe { AtomicU32::from_ptr(word.cast()) };
    word.load(Ordering::Relaxed) & libc::FUTEX_TID_MASK == 0
}

/// Starts a child that waits for the lock, and ends when it has it.
fn waiter(lock: &SharedPair) -> crate::support::Child {
    let waiter = spawn(|| drop(lock.lock().unwrap()));
    waiter.wait_until_asleep();
    waiter
}

/// Returns a child that has unlocked and not yet woken the waiter.
fn unlocker_before_wake(lock: &SharedPair) -> (Walker, crate::support::Child) {
    let mut unlocker = Walker::prepared(|| lock.lock().unwrap(), drop);
    let waiter = waiter(lock);
    while !is_free(lock) {
        unlocker.step_blindly();
    }
    (unlocker, waiter)
}

/// Returns a child that was woken and has not yet acquired the lock.
fn woken_waiter_before_lock(lock: &SharedPair) -> (Walker, crate::support::Child) {
    let guard = lock.lock().unwrap();
    let mut woken = Walker::new(|| drop(lock.lock().unwrap()));
    while !matches!(woken.step_or_sleep(), Step::Asleep(_)) {}
    let waiter = waiter(lock);
    drop(guard);
    crate::support::poll(|| woken.stands());
    (woken, waiter)
}

/// Returns the time until the waiter has the lock, after the victim was killed and a
/// third process has held the lock in between.
fn time_to_recover(prepare: impl Fn(&SharedPair) -> (Walker, crate::support::Child)) -> Duration {
    median(ROUNDS, || {
        let lock = pair();
        let (walker, waiter) = prepare(&lock);
        let third = lock.lock().unwrap();
        walker.kill();
        drop(third);
        let lost = Instant::now();
        waiter.join();
        lost.elapsed()
    })
}

on_stage! {
    fn smoke() {
        let lock = pair();
        let guard = lock.lock().unwrap();
        let waiter = waiter(&lock);
        assert!(!is_free(&lock));
        drop(guard);
        waiter.join();
        assert!(is_free(&lock));
    }

    // Failure mode 3.
    fn wakeup_lost_with_unlocker_is_made_up() {
        if can_lead_for("a death between unlock and wake") {
            let recovered = time_to_recover(unlocker_before_wake);
            println!("median time to recover: {recovered:?}");
            assert!(recovered < RECOVERS_WITHIN);
        }
    }

    // Failure modes 2 and 3.
    fn wakeup_lost_with_woken_waiter_is_made_up() {
        if can_lead_for("a death between wake and lock") {
            let recovered = time_to_recover(woken_waiter_before_lock);
            println!("median time to recover: {recovered:?}");
            assert!(recovered < RECOVERS_WITHIN);
        }
    }

    // Failure modes 2 and 3. The kernel wakes one waiter of a dead holder. If that
    // waiter dies before it locks, kernels before Linux 6.2 wake no other one.
    fn owner_death_lost_with_woken_waiter_is_made_up() {
        if can_lead_for("a death between the death of the holder and lock") {
            let recovered = median(ROUNDS, || {
                let lock = pair();
                let mut holder = holder_of(&lock);
                let mut woken = Walker::new(|| drop(lock.lock()));
                while !matches!(woken.step_or_sleep(), Step::Asleep(_)) {}
                let waiter = spawn(|| drop(expect_poisoned(lock.lock())));
                waiter.wait_until_asleep();
                holder.kill();
                crate::support::poll(|| woken.stands());
                let lost = Instant::now();
                woken.kill();
                waiter.join();
                lost.elapsed()
            });
            println!("note: owner death, and the woken waiter is killed: {recovered:?} (median)");
            assert!(recovered < RECOVERS_WITHIN);
        }
    }
}

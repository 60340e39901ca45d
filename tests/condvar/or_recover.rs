//! `wait_while_or_recover`, `wait_timeout_while_or_recover` and `OrRecover`: a waiter
//! repairs the data after each owner death, and waits on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{dead_owner, die, expect_poisoned, leave_a_death, on_stage, poll, spawn};
use shm_sync::{
    Error, LockError, OrRecover, PoisonCause, PthreadCondvar, Segment, ShmCondvar, ShmMutex,
};

/// A timeout that never passes in a test.
const LONG: Duration = Duration::from_secs(1_000);

/// A count of items, a condition variable, and the number of repairs.
type Shared<C> = (ShmMutex<u64>, C, AtomicU64);

fn shared() -> Segment<Shared<ShmCondvar>> {
    Segment::anonymous((ShmMutex::new(0), ShmCondvar::new(), AtomicU64::new(0))).unwrap()
}

fn is_empty(items: &mut u64) -> bool {
    *items == 0
}

/// A repair of a lock that is not poisoned.
fn not_necessary<T>(_: &mut T, cause: PoisonCause) {
    panic!("nothing is to be repaired, but: {cause}");
}

/// Kills two holders while a process waits, and then puts an item. A lock with the
/// death is not left to another locker: the waiter repairs.
macro_rules! check_waiter_repairs {
    ($condvar:ident, $wait:expr) => {{
        let shared: Segment<Shared<$condvar>> =
            Segment::anonymous((ShmMutex::new(0), $condvar::new(), AtomicU64::new(0))).unwrap();
        let (items, changed, repairs) = &*shared;
        let waiter = spawn(|| {
            let guard = items.lock().unwrap();
            let repair = |_: &mut u64, cause| {
                assert!(dead_owner(cause).is_some());
                repairs.fetch_add(1, Ordering::SeqCst);
            };
            let mut guard = $wait(changed, guard, repair);
            assert!(
                matches!(items.lock(), Err(LockError::Deadlock)),
                "the lock is held"
            );
            *guard -= 1;
        });
        for deaths in 1..=2 {
            waiter.wait_until_asleep();
            leave_a_death(items);
            // Waiters of a PthreadCondvar wait until the next notification.
            changed.notify_all();
            poll(|| repairs.load(Ordering::SeqCst) == deaths);
        }
        waiter.wait_until_asleep();
        *items.lock().unwrap() = 1;
        changed.notify_one();
        waiter.join();
        assert_eq!(*items.lock().unwrap(), 0);
    }};
}

on_stage! {
    fn smoke() {
        let shared = shared();
        let (items, changed, _) = &*shared;
        let guard = items.lock().unwrap();
        let guard = changed.wait_while_or_recover(guard, |_| false, not_necessary).unwrap();
        let (_, result) = changed
            .wait_timeout_while_or_recover(guard, Duration::ZERO, |_| true, not_necessary)
            .unwrap();
        assert!(result.timed_out());
    }

    fn waiter_repairs_and_waits_on() {
        check_waiter_repairs!(ShmCondvar, |changed: &ShmCondvar, guard, repair| {
            changed.wait_while_or_recover(guard, is_empty, repair).unwrap()
        });
        check_waiter_repairs!(PthreadCondvar, |changed: &PthreadCondvar, guard, repair| {
            changed.wait_while_or_recover(guard, is_empty, repair).unwrap()
        });
    }

    fn timed_waiter_repairs_and_waits_on() {
        check_waiter_repairs!(ShmCondvar, |changed: &ShmCondvar, guard, repair| {
            let wait = changed.wait_timeout_while_or_recover(guard, LONG, is_empty, repair);
            let (guard, result) = wait.unwrap();
            assert!(!result.timed_out());
            guard
        });
        check_waiter_repairs!(PthreadCondvar, |changed: &PthreadCondvar, guard, repair| {
            let wait = changed.wait_timeout_while_or_recover(guard, LONG, is_empty, repair);
            let (guard, result) = wait.unwrap();
            assert!(!result.timed_out());
            guard
        });
    }

    fn repair_that_ends_condition_ends_wait() {
        let shared = shared();
        let (items, changed, _) = &*shared;
        let waiter = spawn(|| {
            let guard = items.lock().unwrap();
            let wait = changed.wait_while_or_recover(guard, is_empty, |items, _| *items = 5);
            assert_eq!(*wait.unwrap(), 5);
        });
        waiter.wait_until_asleep();
        leave_a_death(items);
        waiter.join();
        assert!(!items.is_poisoned());
    }

    // The repair lasts until the timeout has passed. If the timeout began anew after
    // the repair, the waiter would wait once more, and check its condition once more.
    fn timeout_counts_over_repairs() {
        let shared = shared();
        let (items, changed, _) = &*shared;
        let waiter = spawn(|| {
            let guard = items.lock().unwrap();
            let timeout = Duration::from_secs(3);
            // Later than the deadline of the wait, which begins after this.
            let end = Instant::now() + timeout + Duration::from_millis(500);
            let (mut checks, mut repairs) = (0, 0);
            let condition = |_: &mut u64| {
                checks += 1;
                true
            };
            let repair = |_: &mut u64, _| {
                repairs += 1;
                std::thread::sleep(end.saturating_duration_since(Instant::now()));
            };
            let wait = changed.wait_timeout_while_or_recover(guard, timeout, condition, repair);
            let (_guard, result) = wait.unwrap();
            assert!(result.timed_out());
            assert_eq!((checks, repairs), (2, 1));
        });
        waiter.wait_until_asleep();
        leave_a_death(items);
        waiter.join();
    }

    fn repair_panic_in_wait_keeps_poison() {
        let shared = shared();
        let (items, changed, _) = &*shared;
        let waiter = spawn(|| {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let guard = items.lock().unwrap();
                drop(changed.wait_while_or_recover(guard, is_empty, |_, _| {
                    panic!("on purpose, in a child")
                }));
            }));
            assert!(panicked.is_err());
        });
        waiter.wait_until_asleep();
        leave_a_death(items);
        waiter.join();
        let poisoned = expect_poisoned(items.try_lock());
        assert!(matches!(poisoned.cause(), PoisonCause::Panicked { .. }));
    }

    fn repair_killed_in_wait_keeps_poison() {
        let shared = shared();
        let (items, changed, _) = &*shared;
        let mut waiter = spawn(|| {
            let guard = items.lock().unwrap();
            drop(changed.wait_while_or_recover(guard, is_empty, |_, _| die()));
        });
        waiter.wait_until_asleep();
        leave_a_death(items);
        waiter.wait();
        let mut told = None;
        drop(items.lock_or_recover(|_, cause| told = dead_owner(cause)).unwrap());
        assert_eq!(told, Some(waiter.pid()), "the last process is named");
        assert!(!items.is_poisoned());
    }

    fn every_wait_method_recovers() {
        let shared = shared();
        let (items, changed, repairs) = &*shared;
        for method in 0..6 {
            let waiter = spawn(|| {
                let guard = items.lock().unwrap();
                let repair = |_: &mut u64, cause| {
                    assert!(dead_owner(cause).is_some());
                    repairs.fetch_add(1, Ordering::SeqCst);
                };
                let end = Instant::now() + LONG;
                let timed = match method {
                    0 => return drop(changed.wait(guard).or_recover(repair).unwrap()),
                    1 => {
                        let wait = changed.wait_while(guard, is_empty);
                        return drop(wait.or_recover(repair).unwrap());
                    }
                    2 => changed.wait_timeout(guard, LONG),
                    3 => changed.wait_timeout_while(guard, LONG, is_empty),
                    4 => changed.wait_until(guard, end),
                    _ => changed.wait_while_until(guard, end, is_empty),
                };
                let (_guard, result) = timed.or_recover(repair).unwrap();
                assert!(!result.timed_out(), "method {method}: the poison has ended the wait");
            });
            waiter.wait_until_asleep();
            leave_a_death(items);
            waiter.join();
            assert_eq!(repairs.swap(0, Ordering::SeqCst), 1, "method {method}");
            assert!(!items.is_poisoned(), "method {method}");
        }
    }

    fn recovered_wait_keeps_timeout_and_errors() {
        let shared = shared();
        let (items, changed, _) = &*shared;
        let guard = items.lock().unwrap();
        let wait = changed.wait_timeout(guard, Duration::from_millis(1));
        let (guard, result) = wait.or_recover(not_necessary).unwrap();
        assert!(result.timed_out());

        let unplaced = PthreadCondvar::new();
        let result = unplaced.wait_while_or_recover(guard, is_empty, not_necessary);
        assert!(matches!(result, Err(Error::Lock(LockError::NotPlaced))));
        let guard = items.lock().unwrap();
        let result = unplaced.wait_timeout(guard, LONG).or_recover(not_necessary);
        assert!(matches!(result, Err(Error::Lock(LockError::NotPlaced))));
        assert!(items.try_lock().is_ok(), "the failed wait has unlocked the mutex");
    }
}

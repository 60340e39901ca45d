//! `wait_until` and `wait_while_until`: waits that end at a point in time.

use std::time::{Duration, Instant};

use crate::support::{Child, on_stage, spawn};
use shm_sync::{LockError, PthreadCondvar, Segment, ShmCondvar, ShmMutex};

/// Later than every end of a test.
fn never() -> Instant {
    Instant::now() + Duration::from_secs(1_000)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(40)
}

/// Declares the tests of one condition variable in a module.
macro_rules! deadline_tests {
    ($module:ident, $condvar:ident) => {
        mod $module {
            use super::*;

            fn shared() -> Segment<(ShmMutex<u64>, $condvar)> {
                Segment::anonymous((ShmMutex::new(0), $condvar::new())).unwrap()
            }

            on_stage! {
                fn smoke() {
                    let shared = shared();
                    let (items, changed) = &*shared;
                    let (_, result) = changed.wait_until(items.lock().unwrap(), soon()).unwrap();
                    assert!(result.timed_out());
                }

                fn deadline_ends_wait_with_lock_held() {
                    let shared = shared();
                    let (items, changed) = &*shared;
                    let deadline = soon();
                    let (guard, result) =
                        changed.wait_until(items.lock().unwrap(), deadline).unwrap();
                    assert!(result.timed_out() && Instant::now() >= deadline);
                    assert!(matches!(items.lock(), Err(LockError::Deadlock)));

                    let deadline = soon();
                    let (_guard, result) =
                        changed.wait_while_until(guard, deadline, |n| *n == 0).unwrap();
                    assert!(result.timed_out() && Instant::now() >= deadline);
                    assert!(matches!(items.lock(), Err(LockError::Deadlock)));
                }

                fn deadline_in_the_past_ends_wait_at_once() {
                    let shared = shared();
                    let (items, changed) = &*shared;
                    let past = Instant::now();
                    let (guard, result) = changed.wait_until(items.lock().unwrap(), past).unwrap();
                    assert!(result.timed_out());
                    let mut checks = 0;
                    let condition = |_: &mut u64| {
                        checks += 1;
                        true
                    };
                    let (guard, result) =
                        changed.wait_while_until(guard, past, condition).unwrap();
                    assert!(result.timed_out());
                    assert_eq!(checks, 1, "the condition is checked before the deadline");
                    let (_guard, result) =
                        changed.wait_while_until(guard, past, |_| false).unwrap();
                    assert!(!result.timed_out(), "the condition has precedence");
                }

                fn notification_ends_wait_before_deadline() {
                    let shared = shared();
                    let (items, changed) = &*shared;
                    let waiters = [
                        spawn(|| {
                            let guard = items.lock().unwrap();
                            let (_, result) = changed.wait_until(guard, never()).unwrap();
                            assert!(!result.timed_out());
                        }),
                        spawn(|| {
                            let guard = items.lock().unwrap();
                            let wait = changed.wait_while_until(guard, never(), |n| *n == 0);
                            let (items, result) = wait.unwrap();
                            assert!(!result.timed_out() && *items == 1);
                        }),
                    ];
                    waiters.iter().for_each(Child::wait_until_asleep);
                    *items.lock().unwrap() = 1;
                    changed.notify_all();
                    waiters.into_iter().for_each(Child::join);
                }
            }
        }
    };
}

deadline_tests!(shm_condvar, ShmCondvar);
deadline_tests!(pthread_condvar, PthreadCondvar);

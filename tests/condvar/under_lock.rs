//! Notifications by a thread that holds the mutex of the waiters. The waiters wake when
//! the thread unlocks it, and no wake-up is lost on the way.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::rechecks::{rechecks_due, sleep_past_recheck, time_to_recheck};
use crate::suites::{Guard, Shared};
use crate::support::{Child, on_stage, poll, spawn, time};
use shm_sync::{PthreadCondvar, Segment, ShmCondvar, ShmMutex, ShmSafe};

const WAITERS: u64 = 6;

type Notify = fn(&ShmCondvar);
type Way = (&'static str, Notify);

/// The ways to notify `WAITERS` waiters.
const WAYS: [Way; 2] = [
    ("one by one", |changed| {
        (0..WAITERS).for_each(|_| changed.notify_one());
    }),
    ("all", ShmCondvar::notify_all),
];

on_stage! {
    fn smoke() {
        check(|shared, _, notify| {
            let _held = lock_with_items(shared);
            notify(&shared.changed);
        });
    }

    fn mutex_with_priority_inheritance_loses_no_wake_up() {
        check_with(Shared::unplaced_with_priority_inheritance, |shared, _, notify| {
            let _held = lock_with_items(shared);
            notify(&shared.changed);
        });
    }

    // A machine under load may delay a recheck, so a single attempt may count one.
    fn notified_waiters_sleep_until_unlock() {
        for way in WAYS {
            let slept_on = Cell::new(false);
            check_way(way, Shared::unplaced, |shared, waiters, notify| {
                let held = lock_with_items(shared);
                let before = sleeps(waiters);
                notify(&shared.changed);
                std::thread::sleep(Duration::from_millis(10));
                slept_on.set(slept_on.get() || sleeps(waiters) == before);
                drop(held);
            });
            assert!(slept_on.get(), "{}: waiters woke while the mutex was held", way.0);
        }
    }

    // The holder notifies in time, and keeps the mutex until the timeout has passed.
    fn notification_before_the_deadline_is_no_timeout() {
        const TIMEOUT: Duration = Duration::from_millis(80);
        for (name, notify) in WAYS {
            let shared: Segment<Shared<ShmCondvar>> = Shared::placed();
            // A recheck would find the notification as well.
            sleep_past_recheck();
            let waiter = spawn(|| {
                let state = shared.lock_to_wait();
                let (_, result) = shared.changed.wait_timeout(state, TIMEOUT).unwrap();
                assert!(!result.timed_out());
            });
            let held = shared.lock_when_waiting(1);
            drop(held);
            waiter.wait_until_asleep();
            let held = shared.state.lock().unwrap();
            notify(&shared.changed);
            std::thread::sleep(TIMEOUT);
            drop(held);
            println!("{name}");
            waiter.join();
        }
    }

    // Without `list_op_pending`, a waiter of the mutex could sleep beside it for ever:
    // a waiter that `notify_all` has moved takes the wake-up of an unlock, and dies.
    fn killed_waiter_wakes_a_waiter_of_the_free_mutex() {
        let shared: Segment<Shared<ShmCondvar>> = Shared::placed();
        let mut waiter = spawn(|| shared.take());
        drop(shared.lock_when_waiting(1));
        waiter.wait_until_asleep();
        let sleeper = spawn(|| sleep_beside_free(&shared.state));
        sleeper.wait_until_asleep();
        waiter.kill();
        sleeper.join();
    }

    fn nested_lock_loses_no_wake_up() {
        let other = Segment::anonymous(ShmMutex::new(0)).unwrap();
        check(|shared, _, notify| {
            let held = lock_with_items(shared);
            notify(&shared.changed);
            drop(other.lock().unwrap());
            drop(held);
        });
        check(|shared, _, notify| {
            let held = lock_with_items(shared);
            let nested = other.lock().unwrap();
            notify(&shared.changed);
            drop(held);
            drop(nested);
        });
        check(|shared, _, notify| {
            let outer = other.lock().unwrap();
            let held = lock_with_items(shared);
            notify(&shared.changed);
            drop(outer);
            drop(held);
        });
        check(|shared, _, notify| {
            let held = lock_with_items(shared);
            notify(&shared.changed);
            let nested = other.lock().unwrap();
            drop(held);
            poll(|| shared.returned() == WAITERS);
            drop(nested);
        });
    }

    fn waiters_of_two_condvars_wake() {
        check(|shared, _, notify| {
            let waiter = spawn(|| {
                let state = shared.lock_to_wait();
                let wait = shared.answered.wait_while(state, |state| state.items == 0);
                drop(wait.unwrap());
            });
            let asleep = shared.lock_when_waiting(WAITERS + 1);
            drop(asleep);
            waiter.wait_until_asleep();
            let mut held = lock_with_items(shared);
            // One item stays, for which the last waiter waits.
            held.items += 1;
            shared.answered.notify_one();
            notify(&shared.changed);
            shared.answered.notify_one();
            drop(held);
            waiter.join();
        });
    }

    fn c_code_that_holds_the_mutex_wakes_waiters() {
        check(|shared, _, notify| {
            // This crate has locked it last, and does not hold it.
            drop(shared.state.lock().unwrap());
            let raw = shared.state.as_pthread_ptr().cast();
            // SAFETY: the segment has initialised the mutex, and stays mapped.
            assert_eq!(unsafe { libc::pthread_mutex_lock(raw) }, 0);
            let items = shared.state.data_ptr();
            // SAFETY: this thread holds the mutex, so no other uses the data.
            unsafe { (*items).items = WAITERS };
            notify(&shared.changed);
            // SAFETY: the mutex is initialised and mapped. This thread holds it.
            assert_eq!(unsafe { libc::pthread_mutex_unlock(raw) }, 0);
        });
    }

    fn fork_between_notification_and_unlock_loses_no_wake_up() {
        let other = Segment::anonymous(ShmMutex::new(0)).unwrap();
        check(|shared, _, notify| {
            let held = lock_with_items(shared);
            notify(&shared.changed);
            spawn(|| *other.lock().unwrap() += 1).join();
            drop(held);
        });
    }

    fn unlock_by_c_code_loses_no_wake_up() {
        check(|shared, _, notify| {
            std::mem::forget(lock_with_items(shared));
            let raw = shared.state.as_pthread_ptr().cast();
            // SAFETY: the mutex is initialised and mapped. This thread holds it.
            assert_eq!(unsafe { libc::pthread_mutex_unlock(raw) }, 0);
            notify(&shared.changed);
        });
    }

    fn wait_of_the_notifier_wakes_waiters() {
        let soon = Duration::from_millis(10);
        check(|shared, _, notify| {
            let mut held = lock_with_items(shared);
            notify(&shared.changed);
            while shared.returned() < WAITERS {
                held = shared.answered.wait_timeout(held, soon).unwrap().0;
            }
        });
        // libc unlocks for this wait.
        let changed = Segment::anonymous(PthreadCondvar::new()).unwrap();
        check(|shared, _, notify| {
            let mut held = lock_with_items(shared);
            notify(&shared.changed);
            while shared.returned() < WAITERS {
                held = changed.wait_timeout(held, soon).unwrap().0;
            }
        });
    }

    // Any process that maps the object can write the distance to the mutex.
    fn wrong_distance_to_the_mutex_loses_no_wake_up() {
        for distance in [0, 1, 64, u64::MAX, 1 << 63] {
            check(|shared, _, notify| {
                distance_of(&shared.changed).store(distance, Ordering::SeqCst);
                let _held = lock_with_items(shared);
                notify(&shared.changed);
            });
        }
    }

    // The waiters move to the queue of a mutex that they don't use.
    fn distance_to_another_held_mutex_hangs_no_waiter() {
        let other = Segment::anonymous(ShmMutex::new(0)).unwrap();
        for (name, notify) in WAYS {
            let shared: Segment<Shared<ShmCondvar>> = Shared::placed();
            let waiters = sleeping_waiters(&shared);
            drop(lock_with_items(&shared));
            let held = other.lock().unwrap();
            let distance = other.as_pthread_ptr().addr().wrapping_sub(std::ptr::from_ref(&shared.changed).addr());
            distance_of(&shared.changed).store(distance as u64, Ordering::SeqCst);
            notify(&shared.changed);
            let woken = time(|| poll(|| shared.returned() == WAITERS));
            drop(held);
            println!("{name}: {woken:?}");
            waiters.into_iter().for_each(Child::join);
        }
    }
}

/// Lets waiters sleep, lets `act` notify them in each way, and checks that they return
/// before their next recheck. A recheck would hide a lost wake-up.
fn check(act: impl Fn(&Shared<ShmCondvar>, &[Child], Notify)) {
    check_with(Shared::unplaced, act);
}

fn check_with(
    new: fn() -> Shared<ShmCondvar>,
    act: impl Fn(&Shared<ShmCondvar>, &[Child], Notify),
) {
    for way in WAYS {
        check_way(way, new, &act);
    }
}

fn check_way(
    (name, notify): Way,
    new: fn() -> Shared<ShmCondvar>,
    act: impl Fn(&Shared<ShmCondvar>, &[Child], Notify),
) {
    /// Attempts that must succeed, and attempts that may fail on a machine under load.
    const ENOUGH: usize = 3;
    const TOLERATED: usize = 2;
    /// The time for the waiters to return before a recheck.
    const AMPLE: Duration = Duration::from_millis(50);
    let (mut before_recheck, mut by_recheck) = (0, 0);
    while before_recheck < ENOUGH {
        let shared = Segment::anonymous(new()).unwrap();
        let waiters = sleeping_waiters(&shared);
        sleep_past_recheck();
        let due = rechecks_due();
        act(&shared, &waiters, notify);
        let in_time = rechecks_due() == due && time_to_recheck() > AMPLE;
        poll(|| shared.returned() == WAITERS);
        if rechecks_due() == due {
            before_recheck += 1;
        } else if in_time {
            by_recheck += 1;
        }
        waiters.into_iter().for_each(Child::join);
        assert!(
            by_recheck <= TOLERATED,
            "{name}: the waiters returned by their recheck in {by_recheck} attempts, and \
             before it in {before_recheck}"
        );
    }
}

fn sleeping_waiters(shared: &Shared<ShmCondvar>) -> Vec<Child> {
    let waiters: Vec<_> = (0..WAITERS).map(|_| spawn(|| shared.take())).collect();
    drop(shared.lock_when_waiting(WAITERS));
    waiters.iter().for_each(Child::wait_until_asleep);
    waiters
}

fn lock_with_items(shared: &Shared<ShmCondvar>) -> Guard<'_> {
    let mut state = shared.state.lock().unwrap();
    state.items = WAITERS;
    state
}

/// Returns how often the children have given up their processor.
fn sleeps(children: &[Child]) -> Vec<String> {
    let switches = |child: &Child| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid())).unwrap();
        let mut lines = status.lines();
        let line = lines.find(|line| line.starts_with("voluntary_ctxt_switches"));
        line.expect("Linux has this line").to_owned()
    };
    children.iter().map(switches).collect()
}

/// Sleeps on the lock word of a free mutex, until a wake.
fn sleep_beside_free<T: ShmSafe>(mutex: &ShmMutex<T>) {
    const LOCK_WORD: usize = if cfg!(target_env = "musl") { 4 } else { 0 };
    let word = mutex
        .as_pthread_ptr()
        .wrapping_byte_add(LOCK_WORD)
        .cast::<AtomicU32>();
    // SAFETY: the word is valid and aligned. The call reads no timeout.
    let code = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word,
            libc::FUTEX_WAIT,
            0,
            std::ptr::null::<()>(),
        )
    };
    assert_eq!(code, 0, "{}", std::io::Error::last_os_error());
}

/// Returns the third word of a `ShmCondvar`: see docs/format.md.
fn distance_of(condvar: &ShmCondvar) -> &AtomicU64 {
    let at = std::ptr::from_ref(condvar)
        .cast::<AtomicU64>()
        .wrapping_add(1);
    // SAFETY: a `ShmCondvar` consists of atomic words. The third is 8 bytes behind its
    // address, and is valid as long as the `ShmCondvar`.
    unsafe { &*at }
}

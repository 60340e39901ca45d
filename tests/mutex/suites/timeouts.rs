//! Timeouts and signals, by the published suites (see `mod.rs`). A wait ends at its
//! deadline and never before, also if signals interrupt it. A failed lock leaves
//! nothing behind.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{LockFn, WAITING_LOCKS, with_each_protocol};
use crate::support::{
    Child, Gate, Random, expect_poisoned, holder_of, leave_a_death, on_stage, poll, spawn,
};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
use shm_sync::{LockError, LockResult, MAX_LOCKS_HELD, Segment, ShmMutex};

/// The number of signals that this process has handled.
static HANDLED: AtomicU32 = AtomicU32::new(0);

/// Counts each `signal`. The handler does not restart system calls.
fn count_signals(signal: Signal) {
    extern "C" fn count(_: libc::c_int) {
        HANDLED.fetch_add(1, Ordering::Relaxed);
    }
    let action = SigAction::new(
        SigHandler::Handler(count),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler only adds to an atomic number.
    unsafe { nix::sys::signal::sigaction(signal, &action) }.unwrap();
}

/// Starts a timer that sends this process an alarm every 200 µs, and counts the alarms.
fn start_signal_storm() {
    count_signals(Signal::SIGALRM);
    let often = libc::timeval {
        tv_sec: 0,
        tv_usec: 200,
    };
    let timer = libc::itimerval {
        it_interval: often,
        it_value: often,
    };
    // SAFETY: `timer` outlives the call; the pointer for the old value may be null.
    let rc = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(rc, 0);
}

fn is_timed_out<G>(result: LockResult<G>) -> bool {
    matches!(result, Err(LockError::TimedOut))
}

/// Timeouts from zero to more than any clock can represent.
const LENGTHS: [Duration; 14] = [
    Duration::ZERO,
    Duration::from_nanos(1),
    Duration::from_nanos(999_999_999),
    Duration::from_secs(1),
    Duration::from_nanos(1_000_000_001),
    Duration::new(i32::MAX as u64, 999_999_999),
    Duration::new(u32::MAX as u64 + 1, 0),
    Duration::from_nanos(i64::MAX as u64),
    Duration::from_nanos(i64::MAX as u64 + 1),
    Duration::from_nanos(u64::MAX),
    Duration::new(i64::MAX as u64, 0),
    Duration::new(i64::MAX as u64, 999_999_999),
    Duration::new(u64::MAX, 0),
    Duration::MAX,
];

/// Returns an instant near the latest one that std can represent.
fn latest_instant() -> Instant {
    let mut instant = Instant::now();
    let mut step = Duration::from_secs(1 << 62);
    while step >= Duration::from_secs(1) {
        match instant.checked_add(step) {
            Some(later) => instant = later,
            None => step /= 2,
        }
    }
    instant
}

on_stage! {
    fn smoke() {
        with_each_protocol(|[lock]| {
            let mut holder = holder_of(lock);
            let start = Instant::now();
            assert!(is_timed_out(lock.try_lock_for(Duration::from_millis(30))));
            assert!(start.elapsed() >= Duration::from_millis(30));
            holder.kill();
            drop(expect_poisoned(lock.try_lock_for(Duration::from_secs(30))));
        });
    }

    fn lock_timeout_of_any_length_locks_free_mutex() {
        with_each_protocol(|[lock]| {
            for length in LENGTHS {
                drop(lock.try_lock_for(length).unwrap());
            }
            let now = Instant::now();
            for deadline in [now - Duration::from_millis(1), now, latest_instant()] {
                drop(lock.try_lock_until(deadline).unwrap());
            }
            // A mutex whose holder has died is free as well.
            for length in LENGTHS {
                leave_a_death(lock);
                drop(expect_poisoned(lock.try_lock_for(length)).recover(|_| ()));
            }
        });
    }

    fn lock_timeout_lasts_full_length() {
        with_each_protocol(|[lock]| {
            let mut holder = holder_of(lock);
            std::thread::scope(|s| {
                for length in LENGTHS.into_iter().filter(|length| length.as_secs() <= 1) {
                    s.spawn(move || {
                        let start = Instant::now();
                        assert!(is_timed_out(lock.try_lock_for(length)));
                        assert!(start.elapsed() >= length, "{length:?}");
                        let deadline = Instant::now() + length;
                        assert!(is_timed_out(lock.try_lock_until(deadline)));
                        assert!(Instant::now() >= deadline, "{length:?}");
                    });
                }
            });
            holder.kill();
            drop(expect_poisoned(lock.lock()).recover(|_| ()));

            let guard = lock.lock().unwrap();
            let long = LENGTHS.into_iter().filter(|length| length.as_secs() > 1);
            let mut waiters: Vec<Child> = long
                .map(|length| spawn(move || *lock.try_lock_for(length).unwrap() += 1))
                .collect();
            waiters.push(spawn(|| *lock.try_lock_until(latest_instant()).unwrap() += 1));
            waiters.iter().for_each(Child::wait_until_asleep);
            drop(guard);
            let expected = waiters.len() as u64;
            waiters.into_iter().for_each(Child::join);
            assert_eq!(*lock.lock().unwrap(), expected);
        });
    }

    fn failed_locks_do_not_count_as_held() {
        const LIMIT: usize = MAX_LOCKS_HELD as usize;
        const ATTEMPTS: usize = LIMIT + 1;
        with_each_protocol::<{ LIMIT + 2 }>(|locks| {
            let [held, dead, rest @ ..] = locks;
            let mut holder = holder_of(held);
            leave_a_death(dead);
            for _ in 0..ATTEMPTS {
                assert!(is_timed_out(held.try_lock_for(Duration::ZERO)));
                assert!(matches!(held.try_lock(), Err(LockError::WouldBlock)));
                // Dropping the error unlocks the mutex.
                drop(expect_poisoned(dead.lock()));
            }
            let mut guards = vec![rest[0].lock().unwrap()];
            for _ in 0..ATTEMPTS {
                assert!(matches!(rest[0].lock(), Err(LockError::Deadlock)));
            }
            guards.extend(rest[1..].iter().map(|lock| lock.lock().unwrap()));
            assert_eq!(guards.len(), LIMIT);
            assert!(matches!(dead.lock(), Err(LockError::TooManyLocks)));
            drop(guards);
            holder.kill();
        });
    }

    fn lock_timeout_keeps_holder_and_waiters() {
        with_each_protocol(|[lock]| {
            let go_on = Gate::new();
            let locked = Gate::new();
            let holder = spawn(|| {
                let mut guard = lock.lock().unwrap();
                locked.open();
                go_on.pass();
                // This process is still the holder.
                assert!(matches!(lock.lock(), Err(LockError::Deadlock)));
                *guard += 1;
            });
            locked.pass();
            let others = [(); 3].map(|()| spawn(|| *lock.lock().unwrap() += 1));
            others.iter().for_each(Child::wait_until_asleep);
            for length in [Duration::ZERO, Duration::from_micros(1), Duration::from_millis(1)] {
                for _ in 0..20 {
                    assert!(is_timed_out(lock.try_lock_for(length)));
                    assert_eq!(lock.holder().unwrap().pid, holder.pid());
                }
            }
            others.iter().for_each(Child::wait_until_asleep);
            go_on.open();
            holder.join();
            others.into_iter().for_each(Child::join);
            assert_eq!(*lock.lock().unwrap(), 4);
            assert!(!lock.is_poisoned());
        });
    }

    fn lock_timeout_racing_unlock_has_one_outcome() {
        const TIMEOUT: Duration = Duration::from_micros(300);
        let mut random = Random::new(23);
        let offsets: Vec<u64> = (0..400).map(|_| random.below(600)).collect();
        with_each_protocol(|[lock]| {
            let outcomes = [0, 1].map(|_| AtomicU32::new(0));
            for &offset in &offsets {
                let guard = lock.lock().unwrap();
                let begun = AtomicU32::new(0);
                std::thread::scope(|s| {
                    s.spawn(|| {
                        begun.store(1, Ordering::Release);
                        let result = lock.try_lock_for(TIMEOUT);
                        outcomes[usize::from(result.is_ok())].fetch_add(1, Ordering::Relaxed);
                        let Ok(mut got) = result else {
                            assert!(is_timed_out(result));
                            return;
                        };
                        *got += 1;
                        // This thread is the holder.
                        let me = nix::unistd::gettid().as_raw();
                        assert_eq!(i64::from(lock.holder().unwrap().tid), i64::from(me));
                        assert!(matches!(lock.lock(), Err(LockError::Deadlock)));
                    });
                    while begun.load(Ordering::Acquire) == 0 {
                        std::hint::spin_loop();
                    }
                    let until = Instant::now() + Duration::from_micros(offset);
                    while Instant::now() < until {
                        std::hint::spin_loop();
                    }
                    drop(guard);
                });
                // The lock is free again in both outcomes.
                drop(lock.try_lock().unwrap());
            }
            let [timed_out, locked] = outcomes.map(AtomicU32::into_inner);
            assert_eq!(*lock.lock().unwrap(), u64::from(locked));
            println!("{timed_out} timed out, {locked} locked");
        });
    }

    fn lock_timeout_racing_death_has_one_outcome() {
        const TIMEOUT: Duration = Duration::from_micros(400);
        let mut random = Random::new(2);
        let offsets: Vec<u64> = (0..150).map(|_| random.below(800)).collect();
        with_each_protocol(|[lock]| {
            let [mut reported, mut timed_out] = [0, 0];
            for &offset in &offsets {
                let mut holder = holder_of(lock);
                let go = Instant::now();
                let killer = spawn(|| {
                    while go.elapsed() < Duration::from_micros(200 + offset) {
                        std::hint::spin_loop();
                    }
                    holder.signal(Signal::SIGKILL);
                });
                match lock.try_lock_for(TIMEOUT) {
                    Err(LockError::Poisoned(poisoned)) => {
                        assert_eq!(poisoned.cause().pid(), holder.pid());
                        reported += 1;
                    }
                    result => {
                        assert!(is_timed_out(result));
                        timed_out += 1;
                    }
                }
                // In both outcomes the poison stays for the next locker.
                let poisoned = expect_poisoned(lock.lock());
                assert_eq!(poisoned.cause().pid(), holder.pid());
                drop(poisoned.recover(|_| ()));
                killer.join();
                holder.wait();
            }
            println!("{reported} reported, {timed_out} timed out");
        });
    }

    fn lock_timeout_lasts_in_signal_storm() {
        with_each_protocol(|[lock]| {
            let guard = lock.lock().unwrap();
            let in_storm = Gate::new();
            let waiters = WAITING_LOCKS.map(|lock_it| {
                let in_storm = &in_storm;
                spawn(move || {
                    start_signal_storm();
                    poll(|| HANDLED.load(Ordering::Relaxed) > 0);
                    in_storm.open();
                    *lock_it(lock).unwrap() += 1;
                })
            });
            waiters.iter().for_each(|_| in_storm.pass());
            spawn(|| {
                start_signal_storm();
                for length in [30, 150].map(Duration::from_millis) {
                    let start = Instant::now();
                    assert!(is_timed_out(lock.try_lock_for(length)));
                    assert!(start.elapsed() >= length);
                }
                assert!(HANDLED.load(Ordering::Relaxed) > 10);
            })
            .join();
            assert_eq!(*guard, 0, "no waiter has locked yet");
            waiters.iter().for_each(Child::wait_until_asleep);
            drop(guard);
            waiters.into_iter().for_each(Child::join);
            assert_eq!(*lock.lock().unwrap(), 3);
        });
    }

    fn lock_variants_are_never_interrupted() {
        const EACH: u64 = 2_000;
        with_each_protocol(|[lock]| {
            let count = |lock_it: LockFn| {
                spawn(move || {
                    start_signal_storm();
                    let mut counted = 0;
                    while counted < EACH {
                        match lock_it(lock) {
                            Ok(mut guard) => {
                                *guard += 1;
                                counted += 1;
                            }
                            Err(LockError::WouldBlock | LockError::TimedOut) => {}
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                })
            };
            let counters = [
                count(ShmMutex::lock),
                count(ShmMutex::try_lock),
                count(|lock| lock.try_lock_for(Duration::from_millis(1))),
                count(|lock| lock.try_lock_until(Instant::now() + Duration::from_secs(50))),
            ];
            let expected = counters.len() as u64 * EACH;
            counters.into_iter().for_each(Child::join);
            assert_eq!(*lock.lock().unwrap(), expected);
        });
    }

    fn signal_handler_runs_and_lock_wait_continues() {
        with_each_protocol(|[lock]| {
            let guard = lock.lock().unwrap();
            let handled = Segment::anonymous(AtomicU32::new(0)).unwrap();
            let waiter = spawn(|| {
                count_signals(Signal::SIGUSR1);
                // A second thread publishes the count, because this thread sleeps.
                std::thread::scope(|s| {
                    let publisher = s.spawn(|| loop {
                        handled.store(HANDLED.load(Ordering::Relaxed), Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(1));
                        if handled.load(Ordering::Relaxed) >= 10 {
                            break;
                        }
                    });
                    *lock.lock().unwrap() += 1;
                    publisher.join().unwrap();
                });
            });
            for count in 1..=10 {
                waiter.wait_until_asleep();
                waiter.signal(Signal::SIGUSR1);
                poll(|| handled.load(Ordering::Relaxed) >= count);
            }
            waiter.wait_until_asleep();
            assert_eq!(*guard, 0);
            drop(guard);
            waiter.join();
            assert_eq!(*lock.lock().unwrap(), 1);
        });
    }

    fn stopped_waiter_blocks_no_other_waiter() {
        with_each_protocol(|[lock]| {
            let guard = lock.lock().unwrap();
            let stopped = spawn(|| *lock.lock().unwrap() += 1);
            stopped.wait_until_asleep();
            stopped.stop();
            let other = spawn(|| *lock.lock().unwrap() += 1);
            other.wait_until_asleep();
            drop(guard);
            other.join();
            assert_eq!(*lock.lock().unwrap(), 1);
            stopped.signal(Signal::SIGCONT);
            stopped.join();
            assert_eq!(*lock.lock().unwrap(), 2);
        });
    }
}

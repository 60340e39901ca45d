//! Exclusion, ownership, many waiters, deadlocks and panics, by the published suites
//! (see `mod.rs`).

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{ALL_LOCKS, Guard, Lock, LockFn, with_each_protocol};
use crate::support::{
    Child, Gate, Meeting, TestName, die, exit_now, expect_poisoned, holder_of, leave_a_death,
    on_stage, poll, spawn,
};
use nix::errno::Errno;
use nix::sys::wait::WaitStatus;
use shm_sync::{LockError, PoisonCause, Segment, ShmMutex};

/// Returns how many threads of this process sleep in a futex system call.
fn threads_asleep() -> usize {
    let call = format!("{} ", libc::SYS_futex);
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter(|task| {
            let path = task.as_ref().unwrap().path().join("syscall");
            std::fs::read_to_string(path).is_ok_and(|line| line.starts_with(&call))
        })
        .count()
}

/// Checks that each call reports that another thread holds the lock.
fn assert_held_by_another(lock: &Lock) {
    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    for timeout in [Duration::ZERO, Duration::from_millis(5)] {
        let result = lock.try_lock_for(timeout);
        assert!(matches!(result, Err(LockError::TimedOut)), "{result:?}");
    }
    let result = lock.try_lock_until(Instant::now() - Duration::from_secs(1));
    assert!(matches!(result, Err(LockError::TimedOut)), "{result:?}");
}

/// Checks that each call reports that this thread holds the lock.
fn assert_held_by_this_thread(lock: &Lock) {
    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    assert!(matches!(lock.lock(), Err(LockError::Deadlock)));
    for timeout in [Duration::ZERO, Duration::from_secs(30)] {
        assert!(matches!(
            lock.try_lock_for(timeout),
            Err(LockError::Deadlock)
        ));
    }
    let past = Instant::now() - Duration::from_secs(1);
    assert!(matches!(
        lock.try_lock_until(past),
        Err(LockError::Deadlock)
    ));
}

/// Locks and unlocks with every method, here and in another process.
fn assert_free(lock: &Lock) {
    let with_every_method = || {
        ALL_LOCKS
            .iter()
            .for_each(|lock_it| drop(lock_it(lock).unwrap()))
    };
    with_every_method();
    spawn(with_every_method).join();
    assert_eq!(lock.holder(), None);
}

/// Waits with a deadline for a lock whose holder waits for a lock of this process.
fn check_timeout_breaks_cycle(new: fn(u64) -> Lock) {
    let locks = Segment::anonymous([new(0), new(0)]).unwrap();
    let [first, second] = &*locks;
    let locked = Gate::new();
    let guard = first.lock().unwrap();
    let untimed_waiter = spawn(|| {
        let _second = second.lock().unwrap();
        locked.open();
        *first.lock().unwrap() += 1;
    });
    locked.pass();
    untimed_waiter.wait_until_asleep();
    let result = second.try_lock_for(Duration::from_millis(20));
    assert!(matches!(result, Err(LockError::TimedOut)), "{result:?}");
    drop(guard);
    untimed_waiter.join();
    assert_eq!(*first.lock().unwrap(), 1);
    assert_free(second);
}

/// One child holds the first lock and calls `other`, which waits for the second lock.
/// Another child holds that lock, and waits for the first lock without a deadline.
/// Returns that child.
fn close_cycle(locks: &[Lock; 2], other: impl FnOnce()) -> Child {
    let [first, second] = locks;
    let [locked, wait] = [Gate::new(), Gate::new()];
    let untimed_waiter = spawn(|| {
        let _second = second.lock().unwrap();
        locked.open();
        wait.pass();
        *first.lock().map_err(|_| "poisoned").unwrap() += 1;
    });
    locked.pass();
    let mut first_holder = spawn(|| {
        let _first = first.lock().unwrap();
        locked.open();
        other();
    });
    locked.pass();
    first_holder.wait_until_asleep();
    wait.open();
    first_holder.wait();
    untimed_waiter
}

/// Two processes hold a lock each, and try the other's lock at the same time without
/// waiting for it.
fn check_zero_timeouts(new: fn(u64) -> Lock) {
    const ATTEMPTS: u32 = 20_000;
    let locks = Segment::anonymous([new(0), new(0)]).unwrap();
    let meeting = Segment::anonymous(Meeting::default()).unwrap();
    let locks = &locks;
    let processes = [0, 1].map(|mine: usize| {
        let meeting = &meeting;
        spawn(move || {
            let _guard = locks[mine].lock().unwrap();
            meeting.attend(2, 1);
            for _ in 0..ATTEMPTS {
                let result = locks[1 - mine].try_lock_for(Duration::ZERO);
                assert!(matches!(result, Err(LockError::TimedOut)), "{result:?}");
            }
            meeting.attend(2, 2);
        })
    });
    processes.into_iter().for_each(Child::join);
    locks.iter().for_each(assert_free);
}

/// A real-time priority.
static REAL_TIME: i32 = 10;

/// Gives this process that priority, if it may have it.
fn become_real_time() -> nix::Result<()> {
    // The kernel's `struct sched_param` has the priority only. musl refuses the
    // function.
    // SAFETY: `REAL_TIME` outlives the call; 0 is the calling thread.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            0,
            libc::SCHED_FIFO,
            &raw const REAL_TIME,
        )
    };
    Errno::result(rc).map(drop)
}

/// Returns the priority at which the kernel runs a process now, inherited or not: see
/// [`proc_pid_stat(5)`](https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html).
fn priority(pid: u32) -> i32 {
    /// The index of the field after the name, which ends with a parenthesis.
    const PRIORITY: usize = 15;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields
        .split_whitespace()
        .nth(PRIORITY)
        .unwrap()
        .parse()
        .unwrap()
}

/// Panics while it holds the guards, without a message on the screen.
fn panic_with(guards: impl Sized) {
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guards = guards;
        resume_unwind(Box::new("on purpose"));
    }));
    assert!(panicked.is_err());
}

on_stage! {
    fn smoke() {
        with_each_protocol(|[lock]| {
            *lock.lock().unwrap() += 1;
            *lock.try_lock().unwrap() += 1;
            assert_eq!(*lock.try_lock_for(Duration::ZERO).unwrap(), 2);
            assert_free(lock);
        });
    }

    fn threads_in_processes_lose_no_update() {
        const PROCESSES: usize = 4;
        const EACH: u64 = 300;
        const LOCKS: [LockFn; 3] = [
            ShmMutex::lock,
            ShmMutex::try_lock,
            |lock| lock.try_lock_for(Duration::from_millis(1)),
        ];
        /// Locks with a method, again until it succeeds.
        fn lock_with(lock_it: LockFn, lock: &Lock) -> Guard<'_> {
            loop {
                match lock_it(lock) {
                    Ok(guard) => return guard,
                    Err(LockError::WouldBlock | LockError::TimedOut) => std::thread::yield_now(),
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
        with_each_protocol(|[lock]| {
            let inside = Segment::anonymous(AtomicU32::new(0)).unwrap();
            let count = |lock_it| {
                for _ in 0..EACH {
                    let mut guard = lock_with(lock_it, lock);
                    let others = inside.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(others, 0, "another thread is inside");
                    let before = *guard;
                    std::thread::yield_now();
                    *guard = before + 1;
                    inside.fetch_sub(1, Ordering::Relaxed);
                }
            };
            let processes = [(); PROCESSES].map(|()| spawn(|| std::thread::scope(|s| {
                LOCKS.iter().for_each(|&lock_it| drop(s.spawn(move || count(lock_it))));
            })));
            processes.into_iter().for_each(Child::join);
            assert_eq!(*lock.lock().unwrap(), (PROCESSES * LOCKS.len()) as u64 * EACH);
        });
    }

    fn unlock_lets_hundred_waiters_proceed() {
        const WAITERS: usize = 100;
        const TURNS: u64 = 50;
        with_each_protocol(|[lock]| {
            let held = lock.lock().unwrap();
            std::thread::scope(|s| {
                for _ in 0..WAITERS {
                    s.spawn(|| (0..TURNS).for_each(|_| *lock.lock().unwrap() += 1));
                }
                poll(|| threads_asleep() == WAITERS);
                drop(held);
            });
            assert_eq!(*lock.lock().unwrap(), WAITERS as u64 * TURNS);
        });
    }

    fn unlock_wakes_waiter_of_that_lock() {
        const LOCKS: usize = 40;
        with_each_protocol::<LOCKS>(|locks| {
            let mut held = locks.each_ref().map(|lock| Some(lock.lock().unwrap()));
            let locked = AtomicU32::new(0);
            std::thread::scope(|s| {
                for lock in locks {
                    s.spawn(|| {
                        *lock.lock().unwrap() += 1;
                        locked.fetch_add(1, Ordering::Relaxed);
                    });
                }
                poll(|| threads_asleep() == LOCKS);
                // An order that is neither that of the locks nor its reverse.
                for step in 0..LOCKS {
                    held[step * 7 % LOCKS] = None;
                    poll(|| locked.load(Ordering::Relaxed) as usize == step + 1);
                }
            });
            assert!(locks.iter().all(|lock| *lock.lock().unwrap() == 1));
        });
    }

    fn held_lock_excludes_threads_and_processes() {
        with_each_protocol(|[lock]| {
            let guard = lock.lock().unwrap();
            spawn(|| assert_held_by_another(lock)).join();
            std::thread::scope(|s| {
                s.spawn(|| assert_held_by_another(lock));
            });
            drop(guard);
            assert_free(lock);
        });
    }

    fn relock_by_holder_changes_nothing() {
        with_each_protocol(|[lock]| {
            let mut guard = lock.lock().unwrap();
            assert_held_by_this_thread(lock);
            *guard += 1;
            spawn(|| assert_held_by_another(lock)).join();
            // The lock is held once, although locks were attempted.
            drop(guard);
            assert_free(lock);

            leave_a_death(lock);
            let poisoned = expect_poisoned(lock.lock());
            assert_held_by_this_thread(lock);
            drop(poisoned.recover(|count| *count += 1));
            assert_free(lock);
            assert_eq!(*lock.lock().unwrap(), 2);
        });
    }

    fn lock_is_the_same_in_every_mapping() {
        for new in [ShmMutex::new, ShmMutex::with_priority_inheritance] {
            let name = TestName::new("addresses");
            let here = Segment::create(&name, new(0_u64)).unwrap();
            let there = Segment::<Lock>::open(&name).unwrap();
            assert!(!std::ptr::eq(&raw const *here, &raw const *there));
            let mut guard = here.lock().unwrap();
            assert_held_by_this_thread(&there);
            spawn(|| assert_held_by_another(&Segment::<Lock>::open(&name).unwrap())).join();
            *guard += 1;
            drop(there);
            assert_held_by_this_thread(&here);
            drop(guard);
            let there = Segment::<Lock>::open(&name).unwrap();
            assert_eq!(*there.lock().unwrap(), 1);
            assert_free(&here);
        }
    }

    fn try_lock_race_has_one_winner() {
        const PROCESSES: u32 = 4;
        const ROUNDS: u32 = 100;
        with_each_protocol(|[lock]| {
            let meeting = Segment::anonymous(Meeting::default()).unwrap();
            let winners = Segment::anonymous(AtomicU32::new(0)).unwrap();
            let compete = || for round in 0..ROUNDS {
                meeting.attend(PROCESSES, 3 * round + 1);
                let result = lock.try_lock();
                match &result {
                    Ok(_) => drop(winners.fetch_add(1, Ordering::SeqCst)),
                    Err(LockError::WouldBlock) => {}
                    Err(other) => panic!("{other:?}"),
                }
                meeting.attend(PROCESSES, 3 * round + 2);
                assert_eq!(winners.load(Ordering::SeqCst), round + 1);
                drop(result);
                meeting.attend(PROCESSES, 3 * round + 3);
            };
            let competitors = [(); PROCESSES as usize].map(|()| spawn(compete));
            competitors.into_iter().for_each(Child::join);
            assert_free(lock);
        });
    }

    fn lock_timeout_breaks_cycle() {
        check_timeout_breaks_cycle(ShmMutex::new);
    }

    fn lock_timeout_breaks_cycle_under_pi() {
        check_timeout_breaks_cycle(ShmMutex::with_priority_inheritance);
    }

    fn cycle_ends_when_other_times_out() {
        with_each_protocol(|locks| {
            let [first, second] = locks;
            let untimed_waiter = close_cycle(locks, || {
                let result = second.try_lock_for(Duration::from_secs(1));
                assert!(matches!(result, Err(LockError::TimedOut)), "{result:?}");
            });
            untimed_waiter.join();
            assert_free(first);
            assert_free(second);
        });
    }

    fn cycle_ends_when_other_dies() {
        with_each_protocol(|locks| {
            let [first, second] = locks;
            let mut untimed_waiter = close_cycle(locks, || {
                // Long enough to be seen asleep on a busy machine.
                let late = Duration::from_secs(1);
                assert!(second.try_lock_for(late).is_err());
                die()
            });
            let status = untimed_waiter.wait();
            assert!(matches!(status, WaitStatus::Exited(_, 101)), "the lock reports the death");
            // The waiter itself panicked with the lock held.
            drop(expect_poisoned(first.lock()));
            drop(expect_poisoned(second.lock()));
        });
    }

    fn lock_timeout_zero_reports_no_deadlock() {
        check_zero_timeouts(ShmMutex::new);
    }

    fn lock_timeout_zero_reports_no_deadlock_pi() {
        check_zero_timeouts(ShmMutex::with_priority_inheritance);
    }

    fn panic_unlocks_and_poisons() {
        with_each_protocol(|[lock, other]| {
            panic_with(lock.lock().unwrap());
            for _ in 0..2 {
                // If the lock were still held, this would be `WouldBlock`.
                panic_with(expect_poisoned(lock.try_lock()));
                panic_with(expect_poisoned(lock.try_lock()).recover(|_| ()));
            }
            drop(expect_poisoned(lock.lock()).recover(|_| ()));
            panic_with((lock.lock().unwrap(), other.lock().unwrap()));
            for lock in [lock, other] {
                drop(expect_poisoned(lock.lock()).recover(|_| ()));
                assert_free(lock);
            }
        });
    }

    fn thread_panic_is_named_in_cause() {
        with_each_protocol(|[lock]| {
            let tid = std::thread::scope(|s| {
                let thread = s.spawn(|| {
                    panic_with(lock.lock().unwrap());
                    nix::unistd::gettid()
                });
                thread.join().unwrap()
            });
            let cause = expect_poisoned(lock.lock()).cause();
            assert!(matches!(cause, PoisonCause::Panicked { .. }), "{cause:?}");
            assert_eq!(cause.pid(), std::process::id());
            assert_eq!(i64::from(cause.tid()), i64::from(tid.as_raw()));
        });
    }

    fn c_unlock_by_non_holder_fails() {
        with_each_protocol(|[lock]| {
            let raw = lock.as_pthread_ptr() as usize;
            let raw = || raw as *mut libc::pthread_mutex_t;
            // SAFETY: the segment has initialised the mutex, and stays mapped during
            // the call.
            let unlock = || unsafe { libc::pthread_mutex_unlock(raw()) };
            assert_eq!(unlock(), libc::EPERM, "the mutex is free");
            let guard = lock.lock().unwrap();
            std::thread::scope(|s| {
                s.spawn(|| assert_eq!(unlock(), libc::EPERM, "another thread holds the mutex"));
            });
            spawn(|| {
                assert_eq!(unlock(), libc::EPERM, "another process holds the mutex");
                // SAFETY: the segment has initialised the mutex, and stays mapped
                // during the call.
                assert_eq!(unsafe { libc::pthread_mutex_trylock(raw()) }, libc::EBUSY);
            })
            .join();
            assert_held_by_this_thread(lock);
            drop(guard);
            assert_eq!(unlock(), libc::EPERM, "the mutex is unlocked");
            assert_free(lock);
        });
    }

    fn c_lock_twice_returns_deadlock() {
        let lock = Segment::anonymous(ShmMutex::new(0_u64)).unwrap();
        let _guard = lock.lock().unwrap();
        // SAFETY: the segment has initialised the mutex, and stays mapped during the
        // call.
        let code = unsafe { libc::pthread_mutex_lock(lock.as_pthread_ptr().cast()) };
        assert_eq!(code, libc::EDEADLK);
    }

    fn holder_runs_at_priority_of_waiter_under_pi() {
        let mut trial = spawn(|| exit_now(i32::from(become_real_time().is_err())));
        if !matches!(trial.wait(), WaitStatus::Exited(_, 0)) {
            println!("not run: real-time priorities are not permitted");
            return;
        }
        let plain = Segment::anonymous(ShmMutex::new(0_u64)).unwrap();
        let inheriting = Segment::anonymous(ShmMutex::with_priority_inheritance(0_u64)).unwrap();
        let ordinary = priority(std::process::id());
        for (lock, expected) in [(plain, ordinary), (inheriting, -1 - REAL_TIME)] {
            let mut holder = holder_of(&lock);
            assert_eq!(priority(holder.pid()), ordinary);
            let waiter = spawn(|| {
                become_real_time().unwrap();
                drop(expect_poisoned(lock.lock()));
            });
            waiter.wait_until_asleep();
            assert_eq!(priority(holder.pid()), expected);
            holder.kill();
            waiter.join();
        }
    }
}

//! Robust mutexes, by the published suites (see `mod.rs`). A thread or process that
//! ends in any way loses none of its locks, and all waiters proceed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{ALL_LOCKS, Lock, WAITING_LOCKS, with_each_protocol};
use crate::support::{
    Child, Gate, Random, dead_owner, die, exit_now, expect_poisoned, holder_of, leave_a_death,
    on_stage, poll, spawn,
};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use shm_sync::{Error, LockError, OrRecover, Segment, ShmCondvar};

/// Locks and leaks the guard, so that the thread ends with the lock held.
fn keep(lock: &Lock) {
    std::mem::forget(lock.lock().unwrap());
}

/// Checks that the last holder of a lock has died, and recovers the lock.
fn repair(lock: &Lock) {
    let poisoned = expect_poisoned(lock.try_lock());
    assert!(dead_owner(poisoned.cause()).is_some());
    drop(poisoned.recover(|_| ()));
    drop(lock.try_lock().unwrap());
}

on_stage! {
    fn smoke() {
        with_each_protocol(|[lock]| {
            let dead = leave_a_death(lock);
            let poisoned = expect_poisoned(lock.lock());
            assert_eq!(dead_owner(poisoned.cause()), Some(dead));
            drop(poisoned.recover(|_| ()));
            drop(lock.lock().unwrap());
        });
    }

    fn thread_end_with_two_locks_is_reported() {
        with_each_protocol(|locks: &[Lock; 2]| {
            for lock_it in ALL_LOCKS {
                std::thread::scope(|s| s.spawn(|| locks.each_ref().map(keep)).join()).unwrap();
                for lock in locks {
                    let poisoned = expect_poisoned(lock_it(lock));
                    assert_eq!(dead_owner(poisoned.cause()), Some(std::process::id()));
                    drop(poisoned.recover(|_| ()));
                    drop(lock_it(lock).unwrap());
                }
            }
        });
    }

    fn lock_during_thread_end_reports_death() {
        with_each_protocol(|[lock]| {
            for _ in 0..300 {
                let locked = AtomicBool::new(false);
                std::thread::scope(|s| {
                    s.spawn(|| {
                        keep(lock);
                        locked.store(true, Ordering::Release);
                    });
                    while !locked.load(Ordering::Acquire) {
                        std::hint::spin_loop();
                    }
                    drop(expect_poisoned(lock.lock()).recover(|_| ()));
                });
            }
        });
    }

    fn main_thread_end_leaves_lock() {
        with_each_protocol(|[lock]| {
            let locked = Gate::new();
            let mut holder = spawn(|| {
                std::thread::spawn(nix::unistd::pause);
                keep(lock);
                locked.open();
                // SAFETY: the call ends this thread, and no other thread uses its
                // stack.
                unsafe { libc::syscall(libc::SYS_exit, 0) };
            });
            locked.pass();
            let poisoned = expect_poisoned(lock.lock());
            assert_eq!(dead_owner(poisoned.cause()), Some(holder.pid()));
            assert_eq!(holder.try_wait(), None, "the other thread still runs");
        });
    }

    fn process_end_leaves_locks_of_all_threads() {
        const EACH: usize = 1_000;
        let ends: [fn() -> !; 3] = [|| exit_now(0), || std::process::exit(0), || die()];
        // More locks than a single thread can hold.
        with_each_protocol::<{ 3 * EACH }>(|locks| for end in ends {
            let mut holder = spawn(|| {
                let locked = Gate::new();
                std::thread::scope(|s| {
                    for part in locks.chunks(EACH) {
                        s.spawn(|| {
                            part.iter().for_each(keep);
                            locked.open();
                            nix::unistd::pause();
                        });
                    }
                    (0..3).for_each(|_| locked.pass());
                    end();
                });
            });
            holder.wait();
            locks.iter().for_each(repair);
        });
    }

    fn owner_death_wakes_waiter_of_each_lock() {
        const LOCKS: usize = 12;
        with_each_protocol::<LOCKS>(|locks| {
            let locked = Gate::new();
            let mut holder = spawn(|| {
                locks.iter().for_each(keep);
                locked.open();
                nix::unistd::pause();
            });
            locked.pass();
            let waiters = locks.each_ref().map(|lock| {
                spawn(move || drop(expect_poisoned(lock.lock()).recover(|count| *count += 1)))
            });
            waiters.iter().for_each(Child::wait_until_asleep);
            holder.kill();
            waiters.into_iter().for_each(Child::join);
            assert!(locks.iter().all(|lock| *lock.lock().unwrap() == 1));
        });
    }

    fn owner_death_lets_all_waiters_proceed() {
        let condvar = Segment::anonymous(ShmCondvar::new()).unwrap();
        with_each_protocol(|[lock]| {
            let waiting = Gate::new();
            let condvar_waiter = spawn(|| {
                let guard = lock.lock().unwrap();
                waiting.open();
                let poisoned = expect_poisoned(condvar.wait(guard));
                *poisoned.into_inner() += 1;
            });
            waiting.pass();
            let mut holder = holder_of(lock);
            let waiters = [0, 1, 2, 0, 1, 2].map(|way: usize| spawn(move || {
                *expect_poisoned(WAITING_LOCKS[way](lock)).into_inner() += 1;
            }));
            waiters.iter().for_each(Child::wait_until_asleep);
            let spinner = spawn(|| {
                let mut result = lock.try_lock();
                while matches!(result, Err(LockError::WouldBlock)) {
                    std::thread::yield_now();
                    result = lock.try_lock();
                }
                *expect_poisoned(result).into_inner() += 1;
            });
            holder.kill();
            waiters.into_iter().for_each(Child::join);
            spinner.join();
            condvar_waiter.join();
            assert_eq!(*expect_poisoned(lock.lock()).recover(|_| ()), 8);
        });
    }

    fn successive_owner_deaths_reach_next_waiter() {
        const SUCCESSORS: usize = 5;
        with_each_protocol(|[lock]| {
            let locked = Gate::new();
            let mut holder = spawn(|| {
                *lock.lock().unwrap() = u64::from(std::process::id());
                keep(lock);
                locked.open();
                nix::unistd::pause();
            });
            locked.pass();
            let mut successors = [(); SUCCESSORS].map(|()| spawn(|| {
                let poisoned = expect_poisoned(lock.lock());
                let predecessor = dead_owner(poisoned.cause()).unwrap();
                let mut last = poisoned.recover(|_| ());
                assert_eq!(*last, u64::from(predecessor));
                *last = u64::from(std::process::id());
                die()
            }));
            successors.iter().for_each(Child::wait_until_asleep);
            holder.kill();
            for successor in &mut successors {
                assert!(matches!(successor.wait(), WaitStatus::Signaled(_, Signal::SIGKILL, _)));
            }
            let last = expect_poisoned(lock.lock());
            assert_eq!(dead_owner(last.cause()).map(u64::from), Some(**last.get_ref()));
        });
    }

    fn recovered_lock_is_left_with_own_locks() {
        with_each_protocol(|locks: &[Lock; 3]| {
            let mut child = spawn(|| {
                keep(&locks[0]);
                keep(&locks[1]);
                let mut grandchild = spawn(|| {
                    assert!(matches!(locks[0].try_lock(), Err(LockError::WouldBlock)));
                    keep(&locks[2]);
                    exit_now(0)
                });
                grandchild.wait();
                let recovered = expect_poisoned(locks[2].lock());
                assert_eq!(dead_owner(recovered.cause()), Some(grandchild.pid()));
                std::mem::forget(recovered);
            });
            child.wait();
            for lock in locks {
                let poisoned = expect_poisoned(lock.lock());
                assert_eq!(dead_owner(poisoned.cause()), Some(child.pid()));
                drop(poisoned.recover(|_| ()));
            }
        });
    }

    fn owner_death_leaves_only_held_locks() {
        const LOCKS: usize = 4;
        let mut random = Random::new(4);
        let histories: Vec<(Vec<usize>, u64)> = (0..40)
            .map(|_| {
                let mut order: Vec<usize> = (0..LOCKS).collect();
                (1..LOCKS).for_each(|i| order.swap(i, random.below(i as u64 + 1) as usize));
                (order, random.below(LOCKS as u64 + 1))
            })
            .collect();
        with_each_protocol::<LOCKS>(|locks| for (order, unlocked) in &histories {
            let (unlocked, kept) = order.split_at(*unlocked as usize);
            let mut holder = spawn(|| {
                let mut guards = locks.each_ref().map(|lock| Some(lock.lock().unwrap()));
                unlocked.iter().for_each(|&index| guards[index] = None);
                die()
            });
            holder.wait();
            for &index in unlocked {
                let result = locks[index].try_lock();
                assert!(result.is_ok(), "{index} of {order:?}: {result:?}");
            }
            kept.iter().for_each(|&index| repair(&locks[index]));
        });
    }

    fn waiter_killed_leaves_lock_unchanged() {
        let ends = [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGALRM];
        with_each_protocol(|[lock]| for wait_for_it in WAITING_LOCKS {
            let guard = lock.lock().unwrap();
            let untimed_waiter = spawn(|| *lock.lock().unwrap() += 1);
            untimed_waiter.wait_until_asleep();
            for end in ends {
                let mut waiter = spawn(|| drop(wait_for_it(lock)));
                waiter.wait_until_asleep();
                waiter.signal(end);
                assert!(matches!(waiter.wait(), WaitStatus::Signaled(_, by, _) if by == end));
            }
            assert_eq!(lock.holder().unwrap().pid, std::process::id());
            drop(guard);
            untimed_waiter.join();
            assert!(!lock.is_poisoned());
            drop(lock.try_lock().unwrap());
        });
    }

    // A kernel without a correction of Linux 6.2 may lose a wakeup here.
    fn unlock_wakes_next_after_waiter_killed() {
        with_each_protocol(|[lock]| for round in 0..60 {
            let guard = lock.lock_or_recover(|_, _| ()).unwrap();
            let waiters = [(); 3].map(|()| spawn(|| {
                drop(lock.lock_or_recover(|_, _| ()).unwrap());
            }));
            waiters.iter().for_each(Child::wait_until_asleep);
            if round % 2 == 0 {
                drop(guard);
                waiters[0].signal(Signal::SIGKILL);
            } else {
                waiters[0].signal(Signal::SIGKILL);
                drop(guard);
            }
            let [mut victim, others @ ..] = waiters;
            victim.wait();
            others.into_iter().for_each(Child::join);
        });
    }

    fn deadlock_ends_by_death_of_one() {
        // Without priority inheritance only: see `exclusion.rs`.
        const PROCESSES: usize = 3;
        let locks = Segment::anonymous([const { Lock::new(0) }; PROCESSES]).unwrap();
        let locked = Gate::new();
        let go_on = Gate::new();
        let mut processes = [0, 1, 2].map(|process| {
            let (locks, locked, go_on) = (&locks, &locked, &go_on);
            spawn(move || {
                let _mine = locks[process].lock().unwrap();
                locked.open();
                go_on.pass();
                let next = &locks[(process + 1) % PROCESSES];
                *next.lock_or_recover(|_, _| ()).unwrap() += 1;
            })
        });
        processes.iter().for_each(|_| locked.pass());
        processes.iter().for_each(|_| go_on.open());
        processes.iter().for_each(Child::wait_until_asleep);
        processes[0].kill();
        let [_, second, third] = processes;
        second.join();
        third.join();
        // Process 2 was told of the death of process 0. Process 1 waited for process 2.
        assert_eq!([0, 1, 2].map(|index| *locks[index].lock().unwrap()), [1, 0, 1]);
    }

    fn parent_and_child_leave_own_locks_only() {
        with_each_protocol(|[of_parent, of_child]| {
            let locked = Gate::new();
            let mut parent = spawn(|| {
                keep(of_parent);
                // A child that ends with a lock unlocks none of its parent's locks.
                let mut first = spawn(|| keep(of_child));
                first.wait();
                assert!(matches!(of_parent.lock(), Err(LockError::Deadlock)));
                let second = spawn(|| {
                    assert!(matches!(of_parent.try_lock(), Err(LockError::WouldBlock)));
                    repair(of_child);
                });
                second.join();
                // A child that outlives its parent is told of the parent's death like
                // other processes.
                std::mem::forget(spawn(|| {
                    keep(of_child);
                    locked.open();
                    *expect_poisoned(of_parent.lock()).recover(|_| ()) += 1;
                    nix::unistd::pause();
                }));
                locked.pass();
                die()
            });
            parent.wait();
            poll(|| matches!(of_parent.try_lock().as_deref(), Ok(&1)));
            let orphan = of_child.holder().unwrap().pid;
            assert_ne!(orphan, parent.pid());
            assert!(matches!(of_child.try_lock(), Err(LockError::WouldBlock)));
            let orphan = nix::unistd::Pid::from_raw(orphan.cast_signed());
            nix::sys::signal::kill(orphan, Signal::SIGKILL).unwrap();
            drop(expect_poisoned(of_child.lock()));
        });
    }

    fn unrecoverable_c_mutex_fails_until_reset() {
        with_each_protocol(|[lock]| {
            let raw = lock.as_pthread_ptr() as usize;
            let raw = || raw as *mut libc::pthread_mutex_t;
            leave_a_death(lock);
            // SAFETY: the segment has initialised the mutex, and stays mapped during
            // the call.
            assert_eq!(unsafe { libc::pthread_mutex_lock(raw()) }, libc::EOWNERDEAD);
            // SAFETY: the mutex is initialised, and this thread holds it.
            assert_eq!(unsafe { libc::pthread_mutex_unlock(raw()) }, 0);
            for lock_it in ALL_LOCKS {
                for _ in 0..2 {
                    let result = lock_it(lock);
                    assert!(matches!(result, Err(LockError::NotRecoverable)), "{result:?}");
                    spawn(|| {
                        let result = lock_it(lock);
                        assert!(matches!(result, Err(LockError::NotRecoverable)), "{result:?}");
                    })
                    .join();
                }
            }
            // SAFETY: no other process uses the lock any more.
            unsafe { lock.reset() }.unwrap();
            repair(lock);
        });
    }

    fn c_owner_death_is_reported_without_pid() {
        with_each_protocol(|[lock]| {
            let raw = lock.as_pthread_ptr() as usize;
            let mut holder = spawn(|| {
                let raw = raw as *mut libc::pthread_mutex_t;
                // SAFETY: the segment has initialised the mutex, and stays mapped
                // during the call.
                assert_eq!(unsafe { libc::pthread_mutex_lock(raw) }, 0);
                die()
            });
            holder.wait();
            assert!(lock.is_poisoned());
            let poisoned = expect_poisoned(lock.lock());
            assert_eq!(dead_owner(poisoned.cause()), Some(0));
            drop(poisoned.recover(|_| ()));
        });
    }

    fn busy_process_killed_loses_no_lock() {
        const LOCKS: usize = 100;
        const ROUNDS: u64 = 6;
        /// Locks and unlocks at random until the process is killed. The index of the
        /// next lock only grows while locks are held, so no two threads wait for each
        /// other.
        fn busy(locks: &[Lock; LOCKS], seed: u64) {
            let lock_it = ALL_LOCKS[seed as usize % 3];
            let mut random = Random::new(seed);
            let mut held = Vec::new();
            let mut index = 0;
            loop {
                index += 1 + random.below(12) as usize;
                if index >= LOCKS {
                    held.clear();
                    index = random.below(12) as usize;
                } else if random.below(3) == 0 && !held.is_empty() {
                    drop(held.swap_remove(random.below(held.len() as u64) as usize));
                }
                match lock_it(&locks[index]).or_recover(|_, _| ()) {
                    Ok(guard) => held.push(guard),
                    Err(Error::Lock(LockError::WouldBlock | LockError::TimedOut)) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
        with_each_protocol::<LOCKS>(|locks| for round in 0..ROUNDS {
            let mut victim = spawn(|| std::thread::scope(|s| {
                (0..9).for_each(|seed| drop(s.spawn(move || busy(locks, 9 * round + seed))));
            }));
            std::thread::sleep(Duration::from_millis(20 + 7 * round));
            victim.kill();
            let guards = locks
                .each_ref()
                .map(|lock| lock.try_lock().or_recover(|_, _| ()).unwrap());
            drop(guards);
        });
    }
}

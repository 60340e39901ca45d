//! `ShmSemaphore`: permits, the gate, and deaths of holders.

use std::mem::forget;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use shm_sync::{
    Error, LockError, MAX_LOCKS_HELD, Segment, SemaphorePermit, ShmMutex, ShmSemaphore,
};

use crate::support::{Child, Gate, die, median, on_stage, seccomp, spawn};

/// The promised time after a death.
const RECOVERS_WITHIN: Duration = Duration::from_millis(250);
/// A time in which a waiter does its recheck, and yet does not go on.
const SEVERAL_RECHECKS: Duration = Duration::from_millis(400);

fn semaphore<const N: usize>() -> Segment<ShmSemaphore<N>> {
    Segment::anonymous(ShmSemaphore::new()).unwrap()
}

/// Starts a process that acquires permits and waits until it is killed.
fn holder<const N: usize>(semaphore: &ShmSemaphore<N>, permits: usize) -> Child {
    let acquired = Gate::new();
    let holder = spawn(|| {
        let _permits = semaphore.acquire_many(permits).unwrap();
        acquired.open();
        nix::unistd::pause();
    });
    acquired.pass();
    holder
}

/// Starts a process that waits for a permit, and ends when it has had it.
fn waiter<const N: usize>(semaphore: &ShmSemaphore<N>) -> Child {
    let waiter = spawn(|| drop(semaphore.acquire().unwrap()));
    waiter.wait_until_asleep();
    waiter
}

fn would_block<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Lock(LockError::WouldBlock)))
}

fn timed_out<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Lock(LockError::TimedOut)))
}

fn deadlocks<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Lock(LockError::Deadlock)))
}

fn indices<const N: usize>(permits: &[SemaphorePermit<'_, N>]) -> Vec<usize> {
    let mut indices: Vec<usize> = permits.iter().map(SemaphorePermit::index).collect();
    indices.sort_unstable();
    indices
}

fn deaths<const N: usize>(permits: &[SemaphorePermit<'_, N>]) -> usize {
    permits.iter().filter(|permit| permit.after_death()).count()
}

#[test]
fn unplaced_semaphore_is_refused() {
    let semaphore = ShmSemaphore::<2>::new();
    let not_placed = |error| matches!(error, Error::Lock(LockError::NotPlaced));
    assert!(not_placed(semaphore.acquire().unwrap_err()));
    assert!(not_placed(semaphore.try_acquire().unwrap_err()));
    assert!(not_placed(semaphore.acquire_many(2).unwrap_err()));
    assert!(not_placed(
        semaphore.try_acquire_for(Duration::ZERO).unwrap_err()
    ));
}

#[test]
fn permits_have_different_indices() {
    let semaphore = semaphore::<5>();
    let permits: Vec<_> = (0..5).map(|_| semaphore.acquire().unwrap()).collect();
    assert_eq!(indices(&permits), [0, 1, 2, 3, 4]);
    assert_eq!(semaphore.available(), 0);
    assert!(would_block(semaphore.try_acquire()));
    assert_eq!(deaths(&permits), 0);
    drop(permits);
    assert_eq!(semaphore.available(), 5);
}

#[test]
fn index_is_free_again_after_drop() {
    let semaphore = semaphore::<3>();
    let mut permits = semaphore.acquire_many(3).unwrap();
    let freed = permits.remove(1).index();
    assert_eq!(semaphore.acquire().unwrap().index(), freed);
}

#[test]
fn too_many_permits_are_refused() {
    let semaphore = semaphore::<2>();
    let error = semaphore.acquire_many(3).unwrap_err();
    assert!(matches!(
        error,
        Error::TooManyPermits {
            asked: 3,
            permits: 2
        }
    ));
    let text = "3 permits can't be acquired, because the semaphore has 2";
    assert_eq!(error.to_string(), text);
    assert!(semaphore.acquire_many(0).unwrap().is_empty());
    assert_eq!(indices(&semaphore.acquire_many(2).unwrap()), [0, 1]);
}

#[test]
fn wait_for_own_permits_is_a_deadlock() {
    let semaphore = semaphore::<3>();
    let one = semaphore.acquire().unwrap();
    assert!(deadlocks(semaphore.acquire_many(3)));
    let rest = semaphore.acquire_many(2).unwrap();
    assert!(deadlocks(semaphore.acquire()));
    assert!(deadlocks(
        semaphore.try_acquire_for(Duration::from_secs(60))
    ));
    // A call that does not wait can't deadlock.
    assert!(would_block(semaphore.try_acquire()));
    drop((one, rest));
    assert_eq!(semaphore.available(), 3);
}

#[test]
fn permits_count_as_robust_locks() {
    let semaphore = semaphore::<2>();
    let mutexes =
        Segment::anonymous([const { ShmMutex::new(0_u8) }; MAX_LOCKS_HELD as usize]).unwrap();
    let guards: Vec<_> = mutexes.iter().map(|mutex| mutex.lock().unwrap()).collect();
    let refused = semaphore.acquire();
    assert!(matches!(refused, Err(Error::Lock(LockError::TooManyLocks))));
    drop(guards);
    assert_eq!(semaphore.acquire_many(2).unwrap().len(), 2);
}

#[test]
fn permit_of_ended_thread_comes_back() {
    let semaphore = semaphore::<2>();
    let index = std::thread::scope(|s| {
        let thread = s.spawn(|| {
            let permit = semaphore.acquire().unwrap();
            let index = permit.index();
            forget(permit);
            index
        });
        thread.join().unwrap()
    });
    let permits = semaphore.acquire_many(2).unwrap();
    for permit in &permits {
        assert_eq!(permit.after_death(), permit.index() == index);
    }
}

#[test]
fn panic_gives_permit_back() {
    let semaphore = semaphore::<1>();
    let panicked = std::panic::catch_unwind(|| {
        let _permit = semaphore.acquire().unwrap();
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(panicked.is_err());
    assert!(
        !semaphore.acquire().unwrap().after_death(),
        "its holder lives"
    );
}

#[test]
fn debug_shows_permits() {
    let semaphore = semaphore::<2>();
    let permit = semaphore.acquire().unwrap();
    assert!(format!("{:?}", *semaphore).contains("permits: 2, available: 1"));
    assert!(format!("{permit:?}").contains("after_death: false"));
}

#[test]
fn threads_never_share_an_index() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let semaphore = semaphore::<3>();
    let users = [const { AtomicU32::new(0) }; 3];
    std::thread::scope(|s| {
        for thread in 0..6 {
            let (semaphore, users) = (&semaphore, &users);
            s.spawn(move || {
                for round in 0..2_000 {
                    let count = 1 + (thread + round) % 3;
                    for permit in semaphore.acquire_many(count).unwrap() {
                        let user = &users[permit.index()];
                        assert_eq!(user.fetch_add(1, Ordering::SeqCst), 0);
                        user.fetch_sub(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!(semaphore.available(), 3);
}

on_stage! {
    fn smoke() {
        let semaphore = semaphore::<1>();
        let permit = semaphore.acquire().unwrap();
        let waiters = [0; 3].map(|_| waiter(&semaphore));
        drop(permit);
        waiters.into_iter().for_each(Child::join);
        assert_eq!(semaphore.available(), 1);
    }

    // A mutant of the library in which a taker does not respect a living holder passes
    // the storms, because there each holder dies soon.
    fn living_holder_keeps_its_permit() {
        let semaphore = semaphore::<2>();
        let holder = holder(&semaphore, 1);
        for round in 0..2 {
            if round == 1 {
                holder.stop();
            }
            let mine = semaphore.acquire().unwrap();
            assert!(would_block(semaphore.try_acquire()));
            spawn(|| {
                assert!(would_block(semaphore.try_acquire()));
                assert!(timed_out(semaphore.try_acquire_for(SEVERAL_RECHECKS)));
                assert!(timed_out(semaphore.try_acquire_many_for(2, Duration::from_millis(1))));
            })
            .join();
            assert_eq!(semaphore.available(), 0);
            drop(mine);
            let timeout = Duration::from_millis(1);
            assert!(timed_out(semaphore.try_acquire_many_for(2, timeout)));
            assert_eq!(semaphore.available(), 1, "a timeout leaves no permit taken");
        }
        holder.signal(Signal::SIGCONT);
        let mut holder = holder;
        holder.kill();
        let permits = semaphore.acquire_many(2).unwrap();
        assert_eq!(deaths(&permits), 1);
    }

    fn killed_holder_wakes_waiter() {
        let semaphore = semaphore::<2>();
        let time = median(5, || {
            let mut holder = holder(&semaphore, 2);
            let waiter = waiter(&semaphore);
            let begin = Instant::now();
            holder.kill();
            waiter.join();
            begin.elapsed()
        });
        println!("from SIGKILL until the waiter had had the permit: {time:?}");
        assert!(time < RECOVERS_WITHIN, "{time:?}");
    }

    fn killed_holder_is_noticed_without_waitv() {
        // As before Linux 5.16, and under a filter that does not know the call.
        for errno in [libc::ENOSYS, libc::EPERM] {
            let semaphore = semaphore::<1>();
            let mut holder = holder(&semaphore, 1);
            let waiter = spawn(|| {
                seccomp::refuse(libc::SYS_futex_waitv, errno);
                let permit = semaphore.acquire().unwrap();
                assert!(permit.after_death());
            });
            waiter.wait_until_asleep();
            holder.kill();
            waiter.join();
        }
    }

    fn killed_holder_of_many_is_noticed() {
        // The kernel takes 127 seats at most. The last holder has the others.
        let semaphore = semaphore::<130>();
        let first = semaphore.acquire_many(65).unwrap();
        let mut holder = holder(&semaphore, 65);
        let waiter = waiter(&semaphore);
        holder.kill();
        waiter.join();
        drop(first);
        assert!(deaths(&semaphore.acquire_many(130).unwrap()) >= 64);
    }

    fn death_is_reported_once() {
        let semaphore = semaphore::<3>();
        for _ in 0..20 {
            holder(&semaphore, 2).kill();
            assert_eq!(semaphore.available(), 3);
            let permits = semaphore.acquire_many(3).unwrap();
            assert_eq!(deaths(&permits), 2);
            drop(permits);
            assert_eq!(deaths(&semaphore.acquire_many(3).unwrap()), 0);
        }
    }

    // The storm has found this: the permits that a timeout gives back had swallowed the
    // death.
    fn death_outlives_a_timeout() {
        let semaphore = semaphore::<2>();
        let mut dead = holder(&semaphore, 1);
        let living = holder(&semaphore, 1);
        dead.kill();
        assert!(timed_out(semaphore.try_acquire_many_for(2, Duration::from_millis(1))));
        assert!(semaphore.acquire().unwrap().after_death());
        assert!(!semaphore.acquire().unwrap().after_death());
        drop(living);
    }

    fn killed_collector_gives_permits_back() {
        let semaphore = semaphore::<3>();
        let one = semaphore.acquire().unwrap();
        let mut collector = spawn(|| drop(semaphore.acquire_many(3).unwrap()));
        collector.wait_until_asleep();
        assert_eq!(semaphore.available(), 0, "it has collected the others");
        let behind = waiter(&semaphore);
        collector.kill();
        behind.join();
        let rest = semaphore.acquire_many(2).unwrap();
        assert!(deaths(&rest) <= 2);
        drop((one, rest));
        assert_eq!(semaphore.available(), 3);
    }

    fn collectors_do_not_deadlock() {
        let semaphore = semaphore::<3>();
        let collectors = [2, 3, 2, 3].map(|count| {
            spawn(|| {
                for _ in 0..500 {
                    drop(semaphore.acquire_many(count).unwrap());
                }
            })
        });
        collectors.into_iter().for_each(Child::join);
    }

    fn newcomer_waits_behind_the_gate() {
        let semaphore = semaphore::<2>();
        let permit = semaphore.acquire().unwrap();
        // It has one permit, and waits for the other.
        let collector = spawn(|| {
            let _both = semaphore.acquire_many(2).unwrap();
        });
        collector.wait_until_asleep();
        collector.stop();
        drop(permit);
        assert_eq!(semaphore.available(), 1);
        assert!(would_block(semaphore.try_acquire()), "it belongs to the collector");
        assert!(timed_out(semaphore.try_acquire_for(Duration::from_millis(1))));
        collector.signal(Signal::SIGCONT);
        collector.join();
        assert!(semaphore.try_acquire().is_ok());
    }

    fn forked_child_has_no_permit() {
        let semaphore = semaphore::<1>();
        let permit = semaphore.acquire().unwrap();
        let mut inherited = Some(permit);
        spawn(|| {
            drop(inherited.take());
            assert!(would_block(semaphore.try_acquire()));
        })
        .join();
        assert_eq!(semaphore.available(), 0);
        drop(inherited);
        assert_eq!(semaphore.available(), 1);
    }

    fn exec_gives_permit_back() {
        let semaphore = semaphore::<1>();
        let executed = Gate::new();
        let mut child = spawn(|| {
            forget(semaphore.acquire().unwrap());
            executed.open();
            let sleep = std::ffi::CString::new("/bin/sleep").unwrap();
            let time = std::ffi::CString::new("60").unwrap();
            let _ = nix::unistd::execv(&sleep, &[&sleep, &time]);
            die()
        });
        executed.pass();
        assert!(semaphore.acquire().unwrap().after_death());
        child.kill();
    }
}

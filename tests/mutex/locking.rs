//! `ShmMutex` between processes: exclusion, limits, forks, signals and timeouts.
//! `poison.rs` has the deaths and panics of holders.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::Pair;
use crate::support::{
    Child, Gate, SharedPair, die, exit_now, expect_poisoned, holder_of, on_stage, pair, seccomp,
    spawn,
};
use nix::sys::signal::Signal;
use shm_sync::{LockError, MAX_LOCKS_HELD, Segment, ShmMutex};

on_stage! {
    fn smoke() {
        let counter = Segment::anonymous(ShmMutex::new(5_u64)).unwrap();
        *counter.lock().unwrap() += 1;
        assert_eq!(*counter.lock().unwrap(), 6);
        assert!(!counter.is_poisoned());
        assert_eq!(counter.holder(), None);
    }

    fn holder_returns_pid_while_held() {
        let counter = Segment::anonymous(ShmMutex::new(0_u64)).unwrap();
        let guard = counter.lock().unwrap();
        let holder = counter.holder().unwrap();
        assert_eq!(holder.pid, std::process::id());
        drop(guard);
        assert_eq!(counter.holder(), None);
    }

    fn lock_twice_returns_deadlock() {
        let counter = Segment::anonymous(ShmMutex::new(0_u64)).unwrap();
        let _guard = counter.lock().unwrap();
        assert!(matches!(counter.lock(), Err(LockError::Deadlock)));
        assert!(matches!(
            counter.try_lock_for(Duration::from_secs(30)),
            Err(LockError::Deadlock)
        ));
        // `try_lock` does not wait, so it cannot deadlock.
        assert!(matches!(counter.try_lock(), Err(LockError::WouldBlock)));
    }

    fn many_processes_lose_no_update() {
        const WORKERS: u64 = 8;
        const EACH: u64 = 5_000;
        let counter = Segment::anonymous(ShmMutex::new(0_u64)).unwrap();
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| spawn(|| (0..EACH).for_each(|_| *counter.lock().unwrap() += 1)))
            .collect();
        workers.into_iter().for_each(Child::join);
        assert_eq!(*counter.lock().unwrap(), WORKERS * EACH);
    }

    fn c_and_rust_locks_exclude_each_other() {
        let shared = pair();
        let raw = shared.as_pthread_ptr().cast::<libc::pthread_mutex_t>();
        // SAFETY: the segment has initialised the mutex, and stays mapped during the
        // call.
        assert_eq!(unsafe { libc::pthread_mutex_lock(raw) }, 0);
        spawn(|| assert!(matches!(shared.try_lock(), Err(LockError::WouldBlock)))).join();
        // SAFETY: the mutex is initialised, and this thread holds it.
        assert_eq!(unsafe { libc::pthread_mutex_unlock(raw) }, 0);
        let _guard = shared.lock().unwrap();
        let raw = shared.as_pthread_ptr() as usize;
        spawn(move || {
            let raw = raw as *mut libc::pthread_mutex_t;
            // SAFETY: the segment has initialised the mutex, and stays mapped during
            // the call.
            assert_eq!(unsafe { libc::pthread_mutex_trylock(raw) }, libc::EBUSY);
        })
        .join();
    }

    // Failure mode 13.
    fn lock_above_limit_is_refused() {
        const LOCKS: usize = 3_000;
        let locks = Segment::anonymous([const { ShmMutex::new(0_u32) }; LOCKS]).unwrap();
        let mut holder = spawn(|| {
            for (taken, lock) in locks.iter().enumerate() {
                match lock.lock() {
                    Ok(guard) => std::mem::forget(guard),
                    Err(LockError::TooManyLocks) => {
                        assert_eq!(taken, MAX_LOCKS_HELD as usize);
                        break;
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            // A refused lock leaves nothing behind.
            assert!(matches!(locks[LOCKS - 1].try_lock(), Err(LockError::TooManyLocks)));
            die()
        });
        holder.wait();
        for (index, lock) in locks.iter().enumerate() {
            match lock.try_lock() {
                Err(LockError::Poisoned(_)) => assert!(index < MAX_LOCKS_HELD as usize),
                Ok(_) => assert!(index >= MAX_LOCKS_HELD as usize),
                Err(other) => panic!("lock {index} is lost: {other:?}"),
            }
        }
    }

    fn unlock_frees_room() {
        let locks = Segment::anonymous([const { ShmMutex::new(0_u32) }; 2_049]).unwrap();
        let mut guards: Vec<_> = locks[..2_048].iter().map(|l| l.lock().unwrap()).collect();
        assert!(matches!(locks[2_048].lock(), Err(LockError::TooManyLocks)));
        guards.pop();
        assert!(locks[2_048].lock().is_ok());
        // Each thread has its own limit.
        std::thread::scope(|s| {
            s.spawn(|| assert!(locks[2_048].lock().is_ok()));
        });
    }

    // Failure mode 14.
    fn leaked_guard_keeps_mapping() {
        let is_mapped = |address: usize| {
            std::fs::read_to_string("/proc/self/maps").unwrap().lines().any(|line| {
                let range = line.split(' ').next().unwrap();
                let (start, end) = range.split_once('-').unwrap();
                let parse = |text| usize::from_str_radix(text, 16).unwrap();
                // musl's allocator may map other memory at the same address.
                (parse(start)..parse(end)).contains(&address) && line.contains("memfd:")
            })
        };
        let address = |shared: &SharedPair| std::ptr::from_ref::<ShmMutex<Pair>>(shared) as usize;

        let kept = pair();
        let kept_at = address(&kept);
        std::mem::forget(kept.lock().unwrap());
        drop(kept);
        assert!(is_mapped(kept_at), "the thread's robust list leads through the mapping");

        let unlocked = pair();
        let unlocked_at = address(&unlocked);
        drop(unlocked.lock().unwrap());
        drop(unlocked);
        assert!(!is_mapped(unlocked_at), "no lock in it is held");

        // The robust list still works: for locks, unlocks, nested locks and owner
        // death.
        let others = [pair(), pair()];
        let nested = (others[0].lock().unwrap(), others[1].lock().unwrap());
        drop(nested);
        let mut child = spawn(|| {
            std::mem::forget(others[0].lock().unwrap());
            let gone = pair();
            std::mem::forget(gone.lock().unwrap());
            drop(gone);
            std::mem::forget(others[1].lock().unwrap());
            die()
        });
        child.wait();
        for other in &others {
            drop(expect_poisoned(other.lock()));
        }
    }

    /// The lists of the threads tell it, because there are too many locks to ask each.
    fn leaked_guard_keeps_mapping_of_many_locks() {
        const LOCKS: usize = 100_000;
        let many = || {
            let options = shm_sync::SegmentOptions::new();
            options.anonymous_with_len("many", LOCKS, |_: &mut [ShmMutex<u32>]| ()).unwrap()
        };
        let busy = [pair(), pair(), pair()];
        let (busy, (end, ended)) = (&busy, std::sync::mpsc::channel::<()>());
        std::thread::scope(|s| {
            s.spawn(move || {
                while ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                    let guards = busy.each_ref().map(|pair| pair.lock().unwrap());
                    drop(guards);
                }
            });
            for _ in 0..10 {
                let locks = many();
                drop(locks[7].lock().unwrap());
                Segment::close(locks).unwrap();
            }
            // A thread that stays leaks a guard.
            let locks = std::sync::Arc::new(many());
            let (send, leaked) = std::sync::mpsc::channel();
            let (stay, stayed) = std::sync::mpsc::channel::<()>();
            let of_thread = std::sync::Arc::clone(&locks);
            s.spawn(move || {
                std::mem::forget(of_thread[LOCKS - 1].lock().unwrap());
                drop(of_thread);
                send.send(()).unwrap();
                stayed.recv().unwrap_err();
            });
            leaked.recv().unwrap();
            let refused = Segment::close(std::sync::Arc::into_inner(locks).unwrap());
            assert!(matches!(refused, Err(shm_sync::Error::LocksHeld { .. })), "{refused:?}");
            drop((stay, end));
        });
    }

    // musl does not empty the robust list of a forked child.
    fn forked_child_changes_no_lock_of_its_parent() {
        let [held, own] = [pair(), pair()];
        let words = || {
            let mutex = held.as_pthread_ptr().cast::<[AtomicU64; 5]>();
            // SAFETY: a mutex has at least 40 bytes, aligned to 8, and all processes
            // access them atomically.
            let words = unsafe { &*mutex };
            words.each_ref().map(|word| word.load(Ordering::Relaxed))
        };
        let guard = held.lock().unwrap();
        let before = words();
        spawn(|| {
            let _guard = own.lock().unwrap();
            assert_eq!(words(), before, "the first lock of the child");
        })
        .join();
        assert_eq!(words(), before, "the end of the child");
        #[cfg(target_env = "musl")]
        {
            let child = spawn(|| {
                std::thread::spawn(|| {
                    let stat = format!("/proc/self/task/{}/stat", std::process::id());
                    crate::support::poll(|| std::fs::read_to_string(&stat).unwrap().contains(") Z"));
                    exit_now(0)
                });
                // SAFETY: this thread owns nothing that the other one needs.
                unsafe { libc::pthread_exit(std::ptr::null_mut()) }
            });
            child.join();
            assert_eq!(words(), before, "the end of the thread of the child");
        }
        drop(guard);
        assert!(held.lock().is_ok(), "no holder has died");
    }

    // Failure mode 17.
    fn forked_child_does_not_hold_parents_locks() {
        let shared = pair();
        let guard = shared.lock().unwrap();
        let moved = std::mem::ManuallyDrop::new(guard);
        spawn(|| {
            // SAFETY: this is the child's copy of the guard; the parent drops its own.
            let inherited = unsafe { std::ptr::read(&*moved) };
            assert!(matches!(shared.try_lock(), Err(LockError::WouldBlock)));
            drop(inherited);
            assert!(matches!(shared.try_lock(), Err(LockError::WouldBlock)));
            assert!(matches!(
                shared.try_lock_for(Duration::from_millis(20)),
                Err(LockError::TimedOut)
            ));
        })
        .join();
        // A child that panics with the inherited guard poisons nothing, whether it has
        // locked before or not.
        for locks_before in [false, true] {
            spawn(|| {
                let inherited = std::mem::ManuallyDrop::into_inner(
                    // SAFETY: this is the child's copy of the guard; the parent drops
                    // its own.
                    unsafe { std::ptr::read(&raw const moved) },
                );
                if locks_before {
                    drop(pair().lock().unwrap());
                }
                let panicked = catch_unwind(AssertUnwindSafe(move || {
                    let _inherited = inherited;
                    panic!("on purpose, in a child");
                }));
                assert!(panicked.is_err());
            })
            .join();
        }
        assert_eq!(shared.holder().unwrap().pid, std::process::id());
        assert!(!shared.is_poisoned());
        drop(std::mem::ManuallyDrop::into_inner(moved));
        assert_eq!(shared.holder(), None);
        spawn(|| drop(shared.lock().unwrap())).join();
    }

    fn forked_child_lock_count_starts_at_zero() {
        let locks = Segment::anonymous([const { ShmMutex::new(0_u32) }; 2_048]).unwrap();
        let mine = Segment::anonymous(ShmMutex::new(0_u32)).unwrap();
        let _guards: Vec<_> = locks.iter().map(|lock| lock.lock().unwrap()).collect();
        assert!(matches!(mine.lock(), Err(LockError::TooManyLocks)));
        spawn(|| drop(mine.lock().unwrap())).join();
    }

    fn raw_clone_is_refused() {
        let shared = pair();
        drop(shared.lock().unwrap());
        // SAFETY: without `CLONE_VM` this is a fork that bypasses libc. The child only
        // locks and exits.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if pid == 0 {
            let refused = matches!(
                shared.lock(),
                Err(LockError::Unidentified(shm_sync::IdentityError::RawClone))
            );
            exit_now(i32::from(!refused));
        }
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
        let status = nix::sys::wait::waitpid(pid, None).unwrap();
        assert_eq!(status, nix::sys::wait::WaitStatus::Exited(pid, 0));
    }

    fn missing_robust_lists_are_reported() {
        let shared = pair();
        for (call, errno) in [
            (libc::SYS_get_robust_list, libc::ENOSYS),
            (libc::SYS_get_robust_list, libc::EPERM),
            (libc::SYS_set_robust_list, libc::ENOSYS),
            (libc::SYS_set_robust_list, libc::EPERM),
        ] {
            let assert_reported = || match shared.lock() {
                Err(LockError::Unidentified(error)) => {
                    let shm_sync::IdentityError::NoRobustLists(source) = &error else {
                        panic!("{error:?}");
                    };
                    assert_eq!(source.raw_os_error(), Some(errno));
                    assert!(error.to_string().contains("robust"), "{error}");
                    assert!(std::error::Error::source(&error).is_some());
                }
                other => panic!("{:?}", other.map(drop)),
            };
            // In a new thread, because libc registered the list of the first thread
            // before the filter was installed.
            spawn(|| {
                seccomp::refuse(call, errno);
                std::thread::scope(|s| s.spawn(assert_reported).join().unwrap());
                let made = std::thread::scope(|s| {
                    s.spawn(|| Segment::anonymous(ShmMutex::new(0_u64)).map(drop)).join().unwrap()
                });
                assert!(matches!(made, Err(shm_sync::Error::Unidentified(_))));
            })
            .join();
        }
    }

    // Failure mode 21.
    fn stopped_holder_is_not_dead() {
        let shared = pair();
        let locked = Gate::new();
        let go_on = Gate::new();
        let holder = spawn(|| {
            let mut pair = shared.lock().unwrap();
            pair.first = 1;
            locked.open();
            go_on.pass();
            pair.second = 1;
        });
        locked.pass();
        holder.signal(Signal::SIGSTOP);
        holder.wait_until_stopped();
        let waiter = spawn(|| {
            let pair = shared.lock().unwrap();
            assert_eq!((pair.first, pair.second), (1, 1));
        });
        assert!(matches!(
            shared.try_lock_for(Duration::from_secs(10)),
            Err(LockError::TimedOut)
        ));
        waiter.wait_until_asleep();
        holder.signal(Signal::SIGCONT);
        go_on.open();
        holder.join();
        waiter.join();
    }

    fn signals_do_not_end_lock_wait() {
        extern "C" fn nothing(_: libc::c_int) {}
        let shared = pair();
        let locked = Gate::new();
        let go_on = Gate::new();
        let holder = spawn(|| {
            let _guard = shared.lock().unwrap();
            locked.open();
            go_on.pass();
        });
        locked.pass();
        let handle = || {
            let handler = nix::sys::signal::SigHandler::Handler(nothing);
            // SAFETY: the handler does nothing.
            unsafe { nix::sys::signal::signal(Signal::SIGUSR1, handler) }.unwrap();
        };
        let waiters = [
            spawn(|| {
                handle();
                drop(shared.lock().unwrap());
            }),
            spawn(|| {
                handle();
                drop(shared.try_lock_for(Duration::from_secs(50)).unwrap());
            }),
        ];
        waiters.iter().for_each(Child::wait_until_asleep);
        for _ in 0..200 {
            for waiter in &waiters {
                waiter.signal(Signal::SIGUSR1);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        go_on.open();
        holder.join();
        waiters.into_iter().for_each(Child::join);
    }

    // Failure mode 23: deadlines use the monotonic clock.
    fn lock_timeout_ends_at_deadline() {
        let shared = pair();
        let mut holder = holder_of(&shared);
        let waited = Duration::from_millis(200);
        let elapsed = crate::support::time(|| {
            assert!(matches!(shared.try_lock_for(waited), Err(LockError::TimedOut)));
        });
        assert!(elapsed >= waited, "{elapsed:?}");
        let deadline = Instant::now() + waited;
        assert!(matches!(shared.try_lock_until(deadline), Err(LockError::TimedOut)));
        assert!(Instant::now() >= deadline);
        // A timeout of zero, and a deadline in the past.
        assert!(matches!(shared.try_lock_for(Duration::ZERO), Err(LockError::TimedOut)));
        assert!(matches!(
            shared.try_lock_until(Instant::now() - Duration::from_secs(1)),
            Err(LockError::TimedOut)
        ));
        holder.kill();
        drop(expect_poisoned(shared.try_lock_for(Duration::MAX)));
        drop(expect_poisoned(shared.try_lock_for(Duration::ZERO)));
    }

    fn owner_death_under_pi_is_reported() {
        let shared = Segment::anonymous(ShmMutex::with_priority_inheritance(0_u64)).unwrap();
        *shared.lock().unwrap() += 1;
        assert!(shared.try_lock_for(Duration::from_millis(1)).is_ok());
        let mut holder = holder_of(&shared);
        assert!(matches!(shared.try_lock(), Err(LockError::WouldBlock)));
        assert!(matches!(
            shared.try_lock_for(Duration::from_millis(20)),
            Err(LockError::TimedOut)
        ));
        let waiter = spawn(|| drop(expect_poisoned(shared.lock())));
        waiter.wait_until_asleep();
        holder.kill();
        waiter.join();
        assert_eq!(*expect_poisoned(shared.lock()).recover(|_| ()), 1);
    }
}

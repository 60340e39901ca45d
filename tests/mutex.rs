//! `ShmMutex` between real processes: exclusion, death, panic, fork, limits.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use common::{Gate, dead_owner, die, exit_now, expect_poisoned, on_stage, spawn};
use nix::sys::signal::Signal;
use shm_sync::{LockError, MAX_LOCKS_HELD, PoisonCause, Segment, ShmMutex, ShmSafe};

/// Two numbers that are equal unless somebody is between changing them.
#[derive(ShmSafe)]
#[repr(C)]
struct Pair {
    first: u64,
    second: u64,
}

type Shared = Segment<ShmMutex<Pair>>;

fn pair() -> Shared {
    Segment::anonymous(ShmMutex::new(Pair {
        first: 0,
        second: 0,
    }))
    .unwrap()
}

on_stage! {
    fn smoke() {
        let counter = Segment::anonymous(ShmMutex::new(5_u64)).unwrap();
        *counter.lock().unwrap() += 1;
        assert_eq!(*counter.lock().unwrap(), 6);
        assert!(!counter.is_poisoned());
        assert_eq!(counter.holder(), None);
    }

    fn the_holder_is_named() {
        let counter = Segment::anonymous(ShmMutex::new(0_u64)).unwrap();
        let guard = counter.lock().unwrap();
        let holder = counter.holder().unwrap();
        assert_eq!(holder.pid, std::process::id());
        drop(guard);
        assert_eq!(counter.holder(), None);
    }

    fn locking_twice_is_an_error_and_not_a_hang() {
        let counter = Segment::anonymous(ShmMutex::new(0_u64)).unwrap();
        let _guard = counter.lock().unwrap();
        assert!(matches!(counter.lock(), Err(LockError::Deadlock)));
        assert!(matches!(
            counter.try_lock_for(Duration::from_secs(30)),
            Err(LockError::Deadlock)
        ));
        // What does not wait can't deadlock.
        assert!(matches!(counter.try_lock(), Err(LockError::WouldBlock)));
    }

    fn many_processes_lose_no_update() {
        const WORKERS: u64 = 8;
        const EACH: u64 = 5_000;
        let counter = Segment::anonymous(ShmMutex::new(0_u64)).unwrap();
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| spawn(|| (0..EACH).for_each(|_| *counter.lock().unwrap() += 1)))
            .collect();
        workers.into_iter().for_each(common::Child::join);
        assert_eq!(*counter.lock().unwrap(), WORKERS * EACH);
    }

    // Failure mode 1.
    fn a_killed_holder_is_reported_to_the_next_locker() {
        let shared = pair();
        let locked = Gate::new();
        let mut holder = spawn(|| {
            let mut pair = shared.lock().unwrap();
            pair.first += 1;
            locked.open();
            nix::unistd::pause();
        });
        locked.pass();
        assert!(matches!(shared.try_lock(), Err(LockError::WouldBlock)));
        assert_eq!(shared.holder().unwrap().pid, holder.pid());
        holder.kill();
        assert!(shared.is_poisoned(), "a death shows before anybody has locked");

        let poisoned = expect_poisoned(shared.lock());
        assert_eq!(dead_owner(poisoned.cause()), Some(holder.pid()));
        assert_eq!((poisoned.get_ref().first, poisoned.get_ref().second), (1, 0));
        assert_eq!(shared.holder().unwrap().pid, std::process::id());
        let pair = poisoned.recover(|pair| pair.second = pair.first);
        drop(pair);
        assert!(!shared.is_poisoned());
        assert_eq!(shared.lock().unwrap().second, 1);
    }

    fn every_way_to_lock_reports_a_death() {
        let shared = pair();
        let kill_a_holder = || {
            let mut holder = spawn(|| {
                let _guard = shared.lock().map_err(|_| "poisoned").unwrap();
                die()
            });
            holder.wait();
        };
        kill_a_holder();
        drop(expect_poisoned(shared.lock()).recover(|_| ()));
        kill_a_holder();
        drop(expect_poisoned(shared.try_lock()).recover(|_| ()));
        kill_a_holder();
        drop(expect_poisoned(shared.try_lock_for(Duration::from_secs(30))).recover(|_| ()));
        kill_a_holder();
        let soon = Instant::now() + Duration::from_secs(30);
        drop(expect_poisoned(shared.try_lock_until(soon)).recover(|_| ()));
        assert!(shared.lock().is_ok());
    }

    fn a_sleeping_locker_is_woken_by_the_holders_death() {
        let shared = pair();
        let locked = Gate::new();
        let mut holder = spawn(|| {
            let _guard = shared.lock().unwrap();
            locked.open();
            nix::unistd::pause();
        });
        locked.pass();
        let holder_pid = holder.pid();
        let waiter = spawn(|| {
            let poisoned = expect_poisoned(shared.lock());
            assert_eq!(dead_owner(poisoned.cause()), Some(holder_pid));
        });
        let timed_waiter = spawn(|| {
            drop(expect_poisoned(shared.try_lock_for(Duration::from_secs(50))));
        });
        waiter.wait_until_asleep();
        timed_waiter.wait_until_asleep();
        holder.kill();
        waiter.join();
        timed_waiter.join();
    }

    fn every_kind_of_end_poisons() {
        let ends: [(&str, fn()); 5] = [
            ("exit", || exit_now(0)),
            ("SIGTERM", || nix::sys::signal::raise(Signal::SIGTERM).unwrap()),
            ("SIGABRT", || std::process::abort()),
            ("exec", || {
                let error = std::os::unix::process::CommandExt::exec(
                    &mut std::process::Command::new("/bin/true"),
                );
                panic!("{error}");
            }),
            ("SIGKILL", || die()),
        ];
        for (name, end) in ends {
            let shared = pair();
            let mut holder = spawn(|| {
                std::mem::forget(shared.lock().unwrap());
                end();
            });
            holder.wait();
            let poisoned = expect_poisoned(shared.lock());
            assert_eq!(dead_owner(poisoned.cause()), Some(holder.pid()), "{name}");
        }
    }

    fn the_end_of_a_thread_poisons() {
        let shared = pair();
        std::thread::scope(|s| {
            s.spawn(|| std::mem::forget(shared.lock().unwrap()));
        });
        // The scope ends a moment before the thread does.
        let poisoned = expect_poisoned(shared.lock());
        assert_eq!(dead_owner(poisoned.cause()), Some(std::process::id()));
    }

    // Failure modes 2 and 3: the kill comes at any instruction.
    fn holders_killed_at_random_moments_never_lose_the_lock() {
        let shared = pair();
        let mut deaths_inside = 0;
        for round in 0..400_u64 {
            let mut worker = spawn(|| loop {
                let mut pair = match shared.lock() {
                    Ok(pair) => pair,
                    Err(LockError::Poisoned(p)) => p.recover(|pair| pair.second = pair.first),
                    Err(other) => panic!("{other:?}"),
                };
                pair.first += 1;
                pair.second += 1;
            });
            std::thread::sleep(Duration::from_micros(100 + (round * 37) % 900));
            worker.kill();
            let pair = match shared.try_lock_for(Duration::from_secs(20)) {
                Ok(pair) => pair,
                Err(LockError::Poisoned(p)) => {
                    deaths_inside += 1;
                    p.recover(|pair| pair.second = pair.first)
                }
                Err(other) => panic!("round {round}: the lock is lost: {other:?}"),
            };
            assert_eq!(pair.first, pair.second);
        }
        println!("{deaths_inside} of 400 died with the lock held");
    }

    // Failure mode 3: a waiter is asleep when the holder dies unlocking.
    fn waiters_go_on_whatever_instruction_of_the_unlock_the_holder_dies_at() {
        let shared = pair();
        let waiter = || spawn(|| {
            for _ in 0..200 {
                if let Err(LockError::Poisoned(p)) = shared.lock() {
                    drop(p.recover(|pair| pair.second = pair.first));
                }
            }
        });
        for round in 0..100_u64 {
            let mut victim = spawn(|| loop {
                if let Err(LockError::Poisoned(p)) = shared.lock() {
                    drop(p.recover(|pair| pair.second = pair.first));
                }
            });
            let waiters = [waiter(), waiter()];
            std::thread::sleep(Duration::from_micros(50 + (round * 53) % 600));
            victim.kill();
            waiters.into_iter().for_each(common::Child::join);
        }
    }

    // Failure mode 4.
    fn ten_blocked_lockers_all_proceed_after_one_death() {
        let shared = pair();
        let locked = Gate::new();
        let mut holder = spawn(|| {
            let _guard = shared.lock().unwrap();
            locked.open();
            nix::unistd::pause();
        });
        locked.pass();
        let lockers: Vec<_> = (0..10)
            .map(|_| spawn(|| expect_poisoned(shared.lock()).into_inner().first += 1))
            .collect();
        lockers.iter().for_each(common::Child::wait_until_asleep);
        holder.kill();
        lockers.into_iter().for_each(common::Child::join);
        assert_eq!(expect_poisoned(shared.lock()).get_ref().first, 10);
    }

    // Failure mode 5.
    fn a_repairer_that_dies_leaves_it_poisoned() {
        let shared = pair();
        spawn(|| {
            let _guard = shared.lock().unwrap();
            die()
        })
        .wait();
        for _ in 0..3 {
            let mut repairer = spawn(|| {
                drop(expect_poisoned(shared.lock()).recover(|pair| {
                    pair.first = 7;
                    die()
                }));
            });
            repairer.wait();
            assert!(shared.is_poisoned());
            let poisoned = expect_poisoned(shared.lock());
            assert_eq!(dead_owner(poisoned.cause()), Some(repairer.pid()), "the last to die");
        }
        drop(expect_poisoned(shared.lock()).recover(|pair| *pair = Pair { first: 1, second: 1 }));
        assert_eq!(shared.lock().unwrap().first, 1);
    }

    fn dropping_the_news_unlocks_and_keeps_the_poison() {
        let shared = pair();
        spawn(|| {
            let _guard = shared.lock().unwrap();
            die()
        })
        .wait();
        for _ in 0..3 {
            let result: Result<(), shm_sync::Error> = (|| {
                drop(shared.lock()?);
                Ok(())
            })();
            match result {
                Err(shm_sync::Error::Poisoned(PoisonCause::OwnerDied { .. })) => {}
                other => panic!("{other:?}"),
            }
            assert_eq!(shared.holder(), None, "the question mark has unlocked");
        }
        let waiter = spawn(|| drop(expect_poisoned(shared.lock())));
        waiter.join();
        drop(expect_poisoned(shared.lock()).into_inner());
        drop(expect_poisoned(shared.lock()));
        shared.clear_poison();
        assert!(shared.lock().is_ok());
    }

    // Failure mode 6.
    fn a_foreign_unlock_without_repair_is_a_clear_error_and_can_be_reset() {
        let shared = pair();
        spawn(|| {
            let _guard = shared.lock().unwrap();
            die()
        })
        .wait();
        // What a careless C program does: it takes EOWNERDEAD for success.
        let raw = shared.as_pthread_ptr().cast();
        // SAFETY: placed, hence initialised.
        assert_eq!(unsafe { libc::pthread_mutex_lock(raw) }, libc::EOWNERDEAD);
        // SAFETY: initialised and held.
        assert_eq!(unsafe { libc::pthread_mutex_unlock(raw) }, 0);

        assert!(matches!(shared.lock(), Err(LockError::NotRecoverable)));
        assert!(matches!(shared.try_lock(), Err(LockError::NotRecoverable)));
        assert!(matches!(
            shared.try_lock_for(Duration::from_secs(30)),
            Err(LockError::NotRecoverable)
        ));
        // SAFETY: no other process knows of the lock.
        unsafe { shared.reset() }.unwrap();
        assert!(shared.lock().is_ok());
    }

    fn a_c_program_and_this_crate_exclude_each_other() {
        let shared = pair();
        let raw = shared.as_pthread_ptr().cast::<libc::pthread_mutex_t>();
        // SAFETY: placed, hence initialised.
        assert_eq!(unsafe { libc::pthread_mutex_lock(raw) }, 0);
        spawn(|| assert!(matches!(shared.try_lock(), Err(LockError::WouldBlock)))).join();
        // SAFETY: initialised and held.
        assert_eq!(unsafe { libc::pthread_mutex_unlock(raw) }, 0);
        let _guard = shared.lock().unwrap();
        let raw = shared.as_pthread_ptr() as usize;
        spawn(move || {
            let raw = raw as *mut libc::pthread_mutex_t;
            // SAFETY: placed, hence initialised.
            assert_eq!(unsafe { libc::pthread_mutex_trylock(raw) }, libc::EBUSY);
        })
        .join();
    }

    // Failure mode 13.
    fn the_lock_too_many_is_refused_and_none_is_lost() {
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
            // Giving some back makes room, and a refusal has left nothing.
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

    fn room_comes_back_as_locks_are_given_back() {
        let locks = Segment::anonymous([const { ShmMutex::new(0_u32) }; 2_049]).unwrap();
        let mut guards: Vec<_> = locks[..2_048].iter().map(|l| l.lock().unwrap()).collect();
        assert!(matches!(locks[2_048].lock(), Err(LockError::TooManyLocks)));
        guards.pop();
        assert!(locks[2_048].lock().is_ok());
        // A thread of its own has room of its own.
        std::thread::scope(|s| {
            s.spawn(|| assert!(locks[2_048].lock().is_ok()));
        });
    }

    // Failure mode 14.
    fn a_leaked_guard_keeps_the_mapping() {
        let is_mapped = |address: usize| {
            std::fs::read_to_string("/proc/self/maps").unwrap().lines().any(|line| {
                let range = line.split(' ').next().unwrap();
                let (start, end) = range.split_once('-').unwrap();
                let parse = |text| usize::from_str_radix(text, 16).unwrap();
                (parse(start)..parse(end)).contains(&address)
            })
        };
        let address = |shared: &Shared| std::ptr::from_ref::<ShmMutex<Pair>>(shared) as usize;

        let kept = pair();
        let kept_at = address(&kept);
        std::mem::forget(kept.lock().unwrap());
        drop(kept);
        assert!(is_mapped(kept_at), "libc's list of held locks leads through it");

        let let_go = pair();
        let let_go_at = address(&let_go);
        drop(let_go.lock().unwrap());
        drop(let_go);
        assert!(!is_mapped(let_go_at), "nobody holds anything in it");

        // The list still works: lock, unlock, nest, and die with it.
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

    // Failure mode 17.
    fn a_forked_child_does_not_hold_what_its_parent_holds() {
        let shared = pair();
        let guard = shared.lock().unwrap();
        let moved = std::mem::ManuallyDrop::new(guard);
        spawn(|| {
            // SAFETY: the child's copy; the parent drops its own.
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
        // Nor does a child that panics with it poison anything, whether or not
        // it has used locks of its own before.
        for first_lock_another in [false, true] {
            spawn(|| {
                let inherited = std::mem::ManuallyDrop::into_inner(
                    // SAFETY: as above.
                    unsafe { std::ptr::read(&raw const moved) },
                );
                if first_lock_another {
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

    fn a_child_of_a_thread_that_held_locks_starts_with_none() {
        let locks = Segment::anonymous([const { ShmMutex::new(0_u32) }; 2_048]).unwrap();
        let mine = Segment::anonymous(ShmMutex::new(0_u32)).unwrap();
        let _guards: Vec<_> = locks.iter().map(|lock| lock.lock().unwrap()).collect();
        assert!(matches!(mine.lock(), Err(LockError::TooManyLocks)));
        spawn(|| drop(mine.lock().unwrap())).join();
    }

    fn a_raw_clone_is_refused() {
        let shared = pair();
        drop(shared.lock().unwrap());
        // SAFETY: without CLONE_VM this is a fork that bypasses libc; the
        // child only locks and exits.
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

    // Failure mode 21.
    fn a_stopped_holder_is_not_dead() {
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

    fn signals_neither_end_a_wait_nor_surface_as_errors() {
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
        waiters.iter().for_each(common::Child::wait_until_asleep);
        for _ in 0..200 {
            for waiter in &waiters {
                waiter.signal(Signal::SIGUSR1);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        go_on.open();
        holder.join();
        waiters.into_iter().for_each(common::Child::join);
    }

    // Failure mode 23: deadlines are on the monotonic clock.
    fn timed_locks_end_at_their_deadline_and_sleep_until_then() {
        let shared = pair();
        let locked = Gate::new();
        let mut holder = spawn(|| {
            let _guard = shared.lock().unwrap();
            locked.open();
            nix::unistd::pause();
        });
        locked.pass();
        let waited = Duration::from_millis(200);
        let elapsed = common::time(|| {
            assert!(matches!(shared.try_lock_for(waited), Err(LockError::TimedOut)));
        });
        assert!(elapsed >= waited, "{elapsed:?}");
        let deadline = Instant::now() + waited;
        assert!(matches!(shared.try_lock_until(deadline), Err(LockError::TimedOut)));
        assert!(Instant::now() >= deadline);
        // A deadline in the past, and none at all.
        assert!(matches!(shared.try_lock_for(Duration::ZERO), Err(LockError::TimedOut)));
        assert!(matches!(
            shared.try_lock_until(Instant::now() - Duration::from_secs(1)),
            Err(LockError::TimedOut)
        ));
        holder.kill();
        drop(expect_poisoned(shared.try_lock_for(Duration::MAX)));
        drop(expect_poisoned(shared.try_lock_for(Duration::ZERO)));
    }

    // Failure mode 26.
    fn a_panic_inside_poisons_for_every_process() {
        let shared = pair();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut pair = shared.lock().unwrap();
            pair.first = 1;
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        let me = std::process::id();
        spawn(|| {
            let poisoned = expect_poisoned(shared.lock());
            match poisoned.cause() {
                PoisonCause::Panicked { pid, .. } => assert_eq!(pid, me),
                other => panic!("{other:?}"),
            }
            drop(poisoned.recover(|pair| pair.second = pair.first));
        })
        .join();
        assert_eq!(shared.lock().unwrap().second, 1);
    }

    fn a_panic_in_the_repair_keeps_the_poison() {
        let shared = pair();
        spawn(|| {
            let _guard = shared.lock().unwrap();
            die()
        })
        .wait();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _ = expect_poisoned(shared.lock()).recover(|_| panic!("on purpose"));
        }));
        assert!(panicked.is_err());
        let poisoned = expect_poisoned(shared.lock());
        assert!(matches!(poisoned.cause(), PoisonCause::Panicked { .. }));
    }

    fn a_guard_taken_during_a_panic_does_not_poison() {
        struct LocksWhenDropped<'a>(&'a Shared);
        impl Drop for LocksWhenDropped<'_> {
            fn drop(&mut self) {
                self.0.lock().unwrap().first += 1;
            }
        }
        let shared = pair();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _cleanup = LocksWhenDropped(&shared);
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!(shared.lock().unwrap().first, 1);
    }

    fn priority_inheriting_mutexes_survive_their_holders_too() {
        let shared = Segment::anonymous(ShmMutex::with_priority_inheritance(0_u64)).unwrap();
        *shared.lock().unwrap() += 1;
        assert!(shared.try_lock_for(Duration::from_millis(1)).is_ok());
        let locked = Gate::new();
        let mut holder = spawn(|| {
            let _guard = shared.lock().unwrap();
            locked.open();
            nix::unistd::pause();
        });
        locked.pass();
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

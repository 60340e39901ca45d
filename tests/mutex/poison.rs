//! Deaths and panics of holders: the next locker is told, and no lock is lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::support::{
    Child, Gate, Pair, SharedPair, dead_owner, die, exit_now, expect_poisoned, holder_of,
    leave_a_death, on_stage, pair, spawn,
};
use nix::sys::signal::Signal;
use shm_sync::{LockError, OrRecover, PoisonCause};

fn repair(pair: &mut Pair, _: PoisonCause) {
    pair.second = pair.first;
}

on_stage! {
    fn smoke() {
        let shared = pair();
        let dead = leave_a_death(&shared);
        assert!(shared.is_poisoned());
        let poisoned = expect_poisoned(shared.lock());
        assert_eq!(poisoned.cause().pid(), dead);
        drop(poisoned.recover(|_| ()));
        assert!(!shared.is_poisoned());
    }

    // Failure mode 1.
    fn killed_holder_is_reported_to_next_lock() {
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
        assert!(shared.is_poisoned(), "the death shows before the next lock");

        let poisoned = expect_poisoned(shared.lock());
        assert_eq!(dead_owner(poisoned.cause()), Some(holder.pid()));
        assert_eq!((poisoned.get_ref().first, poisoned.get_ref().second), (1, 0));
        assert_eq!(shared.holder().unwrap().pid, std::process::id());
        let pair = poisoned.recover(|pair| pair.second = pair.first);
        drop(pair);
        assert!(!shared.is_poisoned());
        assert_eq!(shared.lock().unwrap().second, 1);
    }

    fn lock_variants_report_owner_death() {
        let shared = pair();
        leave_a_death(&shared);
        drop(expect_poisoned(shared.lock()).recover(|_| ()));
        leave_a_death(&shared);
        drop(expect_poisoned(shared.try_lock()).recover(|_| ()));
        leave_a_death(&shared);
        drop(expect_poisoned(shared.try_lock_for(Duration::from_secs(30))).recover(|_| ()));
        leave_a_death(&shared);
        let soon = Instant::now() + Duration::from_secs(30);
        drop(expect_poisoned(shared.try_lock_until(soon)).recover(|_| ()));
        assert!(shared.lock().is_ok());
    }

    fn owner_death_wakes_waiter() {
        let shared = pair();
        let mut holder = holder_of(&shared);
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

    fn every_process_end_poisons() {
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

    fn thread_end_poisons() {
        let shared = pair();
        std::thread::scope(|s| {
            s.spawn(|| std::mem::forget(shared.lock().unwrap()));
        });
        // The scope may end a moment before the thread does.
        let poisoned = expect_poisoned(shared.lock());
        assert_eq!(dead_owner(poisoned.cause()), Some(std::process::id()));
    }

    // The kernel does not report this death. If this test fails because the lock is
    // reported, the documentation is out of date.
    fn exec_in_other_thread_loses_lock_until_reset() {
        let shared = pair();
        let mut holder = spawn(|| {
            std::thread::scope(|s| {
                s.spawn(|| {
                    std::mem::forget(shared.lock().unwrap());
                    let mut program = std::process::Command::new("/bin/true");
                    panic!("{}", std::os::unix::process::CommandExt::exec(&mut program));
                });
            });
        });
        holder.wait();
        assert!(matches!(
            shared.try_lock_for(Duration::from_millis(300)),
            Err(LockError::TimedOut)
        ));
        assert_eq!(shared.holder().unwrap().pid, holder.pid());
        // SAFETY: no other process uses the lock.
        unsafe { shared.reset() }.unwrap();
        let poisoned = expect_poisoned(shared.lock());
        assert_eq!(dead_owner(poisoned.cause()), Some(holder.pid()));
    }

    // Failure modes 2 and 3: the kill comes at a random moment.
    fn holders_killed_at_random_lose_no_lock() {
        let shared = pair();
        let mut deaths_inside = 0;
        for round in 0..400_u64 {
            let mut worker = spawn(|| loop {
                let mut pair = shared.lock_or_recover(repair).unwrap();
                pair.first += 1;
                pair.second += 1;
            });
            std::thread::sleep(Duration::from_micros(100 + (round * 37) % 900));
            worker.kill();
            let locked = shared.try_lock_for(Duration::from_secs(20)).or_recover(|pair, _| {
                deaths_inside += 1;
                pair.second = pair.first;
            });
            let pair = locked.unwrap_or_else(|error| {
                panic!("round {round}: the lock is lost: {error:?}")
            });
            assert_eq!(pair.first, pair.second);
        }
        println!("{deaths_inside} of 400 died with the lock held");
    }

    // Failure mode 3: waiters sleep when the holder dies while it unlocks.
    fn unlock_killed_at_random_wakes_waiters() {
        let shared = pair();
        let waiter = || spawn(|| {
            for _ in 0..200 {
                drop(shared.lock_or_recover(repair).unwrap());
            }
        });
        for round in 0..100_u64 {
            let mut victim = spawn(|| loop {
                drop(shared.lock_or_recover(repair).unwrap());
            });
            let waiters = [waiter(), waiter()];
            std::thread::sleep(Duration::from_micros(50 + (round * 53) % 600));
            victim.kill();
            waiters.into_iter().for_each(Child::join);
        }
    }

    // Failure mode 4.
    fn owner_death_lets_ten_waiters_proceed() {
        let shared = pair();
        let mut holder = holder_of(&shared);
        let waiters: Vec<_> = (0..10)
            .map(|_| spawn(|| expect_poisoned(shared.lock()).into_inner().first += 1))
            .collect();
        waiters.iter().for_each(Child::wait_until_asleep);
        holder.kill();
        waiters.into_iter().for_each(Child::join);
        assert_eq!(expect_poisoned(shared.lock()).get_ref().first, 10);
    }

    // Failure mode 5.
    fn repair_killed_keeps_poison() {
        let shared = pair();
        leave_a_death(&shared);
        for _ in 0..3 {
            let mut victim = spawn(|| {
                drop(expect_poisoned(shared.lock()).recover(|pair| {
                    pair.first = 7;
                    die()
                }));
            });
            victim.wait();
            assert!(shared.is_poisoned());
            let poisoned = expect_poisoned(shared.lock());
            let dead = dead_owner(poisoned.cause());
            assert_eq!(dead, Some(victim.pid()), "the last process to die is named");
        }
        drop(expect_poisoned(shared.lock()).recover(|pair| *pair = Pair { first: 1, second: 1 }));
        assert_eq!(shared.lock().unwrap().first, 1);
    }

    fn poisoned_error_dropped_unlocks_keeps_poison() {
        let shared = pair();
        leave_a_death(&shared);
        for _ in 0..3 {
            let result: Result<(), shm_sync::Error> = (|| {
                drop(shared.lock()?);
                Ok(())
            })();
            match result {
                Err(shm_sync::Error::Poisoned(PoisonCause::OwnerDied { .. })) => {}
                other => panic!("{other:?}"),
            }
            assert_eq!(shared.holder(), None, "the `?` has dropped the error, which unlocks");
        }
        let waiter = spawn(|| drop(expect_poisoned(shared.lock())));
        waiter.join();
        drop(expect_poisoned(shared.lock()).into_inner());
        drop(expect_poisoned(shared.lock()));
        shared.clear_poison();
        assert!(shared.lock().is_ok());
    }

    // Failure mode 6.
    fn unrecoverable_mutex_fails_until_reset() {
        let shared = pair();
        leave_a_death(&shared);
        // A faulty C program treats `EOWNERDEAD` as success.
        let raw = shared.as_pthread_ptr().cast();
        // SAFETY: the segment has initialised the mutex, and stays mapped during the
        // call.
        assert_eq!(unsafe { libc::pthread_mutex_lock(raw) }, libc::EOWNERDEAD);
        // SAFETY: the mutex is initialised, and this thread holds it.
        assert_eq!(unsafe { libc::pthread_mutex_unlock(raw) }, 0);

        assert!(matches!(shared.lock(), Err(LockError::NotRecoverable)));
        assert!(matches!(shared.try_lock(), Err(LockError::NotRecoverable)));
        assert!(matches!(
            shared.try_lock_for(Duration::from_secs(30)),
            Err(LockError::NotRecoverable)
        ));
        // These calls have changed nothing: other processes get the same error.
        spawn(|| assert!(matches!(shared.lock(), Err(LockError::NotRecoverable)))).join();
        // SAFETY: no other process uses the lock any more.
        unsafe { shared.reset() }.unwrap();
        // A holder died, and its data was never repaired.
        drop(expect_poisoned(shared.lock()).recover(|_| ()));
        assert!(shared.lock().is_ok());
    }

    // Failure mode 26.
    fn panic_poisons_for_every_process() {
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

    fn repair_panic_keeps_poison() {
        let shared = pair();
        leave_a_death(&shared);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _ = expect_poisoned(shared.lock()).recover(|_| panic!("on purpose"));
        }));
        assert!(panicked.is_err());
        let poisoned = expect_poisoned(shared.lock());
        assert!(matches!(poisoned.cause(), PoisonCause::Panicked { .. }));
    }

    fn guard_locked_during_panic_does_not_poison() {
        struct LocksWhenDropped<'a>(&'a SharedPair);
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
}

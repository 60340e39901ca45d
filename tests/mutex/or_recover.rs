//! `lock_or_recover` and `OrRecover`: the repair runs under the lock, exactly when the
//! lock is poisoned.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{
    Child, Gate, Pair, dead_owner, die, expect_poisoned, holder_of, leave_a_death, on_stage, pair,
    spawn,
};
use shm_sync::{Error, LockError, OrRecover, PoisonCause, Segment, ShmMutex};

/// A repair of a lock that is not poisoned.
fn not_necessary<T>(_: &mut T, cause: PoisonCause) {
    panic!("nothing is to be repaired, but: {cause}");
}

on_stage! {
    fn smoke() {
        let shared = pair();
        shared.lock_or_recover(not_necessary).unwrap().first = 1;
        let dead = leave_a_death(&shared);
        let repaired = shared.lock_or_recover(|pair, cause| {
            assert_eq!(dead_owner(cause), Some(dead));
            pair.second = pair.first;
        });
        assert_eq!(repaired.unwrap().second, 1, "the guard shows the repair");
        assert!(!shared.is_poisoned());
        drop(shared.lock_or_recover(not_necessary).unwrap());
    }

    // The victim is killed in the middle of a change that the repair completes.
    fn lock_or_recover_after_kill_total_is_right() {
        const EACH: u64 = 2_000;
        let shared = pair();
        let repairs = Segment::anonymous(AtomicU64::new(0)).unwrap();
        let add_one = || {
            let pair = shared.lock_or_recover(|pair, _| {
                assert_eq!(pair.first, pair.second + 1, "the change was interrupted");
                pair.second = pair.first;
                repairs.fetch_add(1, Ordering::SeqCst);
            });
            let mut pair = pair.unwrap();
            pair.first += 1;
            pair.second += 1;
        };
        let interrupted = Gate::new();
        let mut victim = spawn(|| {
            (0..EACH).for_each(|_| add_one());
            let mut pair = shared.lock().unwrap();
            pair.first += 1;
            interrupted.open();
            nix::unistd::pause();
            pair.second += 1;
        });
        interrupted.pass();
        let workers = [(); 3].map(|()| spawn(|| (0..EACH).for_each(|_| add_one())));
        workers.iter().for_each(Child::wait_until_asleep);
        victim.kill();
        workers.into_iter().for_each(Child::join);

        let pair = shared.lock_or_recover(not_necessary).unwrap();
        assert_eq!((pair.first, pair.second), (4 * EACH + 1, 4 * EACH + 1));
        assert_eq!(repairs.load(Ordering::SeqCst), 1, "one death, one repair");
    }

    fn repair_runs_with_lock_held_and_poison_set() {
        let shared = pair();
        leave_a_death(&shared);
        let pair = shared.lock_or_recover(|_, _| {
            assert!(shared.is_poisoned(), "a death in here must leave the poison");
            assert_eq!(shared.holder().unwrap().pid, std::process::id());
            spawn(|| assert!(matches!(shared.try_lock(), Err(LockError::WouldBlock)))).join();
        });
        assert!(!shared.is_poisoned(), "the poison is cleared before the unlock");
        drop(pair.unwrap());
    }

    fn repair_killed_in_lock_keeps_poison() {
        let shared = pair();
        leave_a_death(&shared);
        let mut victim = spawn(|| {
            drop(shared.lock_or_recover(|pair, _| {
                pair.first = 7;
                die()
            }));
        });
        victim.wait();
        assert!(shared.is_poisoned());
        let repaired = shared.lock_or_recover(|pair, cause| {
            assert_eq!(dead_owner(cause), Some(victim.pid()), "the last process is named");
            assert_eq!(pair.first, 7);
            pair.second = 7;
        });
        assert_eq!(repaired.unwrap().second, 7);
        drop(shared.lock_or_recover(not_necessary).unwrap());
    }

    fn repair_panic_in_lock_keeps_poison() {
        let shared = pair();
        leave_a_death(&shared);
        let locks: [fn(&ShmMutex<Pair>); 2] = [
            |lock| drop(lock.lock_or_recover(|_, _| panic!("on purpose"))),
            |lock| drop(lock.try_lock().or_recover(|_, _| panic!("on purpose"))),
        ];
        for lock in locks {
            let panicked = catch_unwind(AssertUnwindSafe(|| lock(&shared)));
            assert!(panicked.is_err());
            assert_eq!(shared.holder(), None, "the lock is released");
            let poisoned = expect_poisoned(shared.lock());
            assert!(matches!(poisoned.cause(), PoisonCause::Panicked { .. }));
        }
    }

    fn every_lock_method_recovers() {
        let shared = pair();
        let long = Duration::from_secs(30);
        let soon = || Instant::now() + long;
        for method in 0..4 {
            let dead = leave_a_death(&shared);
            let mut told = None;
            let repair = |_: &mut Pair, cause| told = dead_owner(cause);
            let recovered = match method {
                0 => shared.lock().or_recover(repair),
                1 => shared.try_lock().or_recover(repair),
                2 => shared.try_lock_for(long).or_recover(repair),
                _ => shared.try_lock_until(soon()).or_recover(repair),
            };
            assert!(recovered.is_ok(), "method {method}: {:?}", recovered.err());
            drop(recovered);
            assert_eq!(told, Some(dead), "method {method}");
            assert!(!shared.is_poisoned(), "method {method}");
        }
    }

    fn other_errors_run_no_repair() {
        let shared = pair();
        let _holder = holder_of(&shared);
        let result = shared.try_lock().or_recover(not_necessary);
        assert!(matches!(result, Err(Error::Lock(LockError::WouldBlock))));
        let result = shared
            .try_lock_for(Duration::from_millis(1))
            .or_recover(not_necessary);
        assert!(matches!(result, Err(Error::Lock(LockError::TimedOut))));

        let own = pair();
        let _guard = own.lock().unwrap();
        let result = own.lock_or_recover(not_necessary);
        assert!(matches!(result, Err(Error::Lock(LockError::Deadlock))));
        let result = ShmMutex::new(7).lock_or_recover(not_necessary).map(drop);
        assert!(matches!(result, Err(Error::Lock(LockError::NotPlaced))));
    }
}

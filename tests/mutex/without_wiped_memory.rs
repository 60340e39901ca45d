//! Kernels without `MADV_WIPEONFORK` (gVisor): each lock asks the kernel whether this
//! process is a forked child. Failure mode 81.

use crate::support::{
    Child, TestName, dead_owner, die, exit_now, expect_poisoned, holder_of, on_stage, seccomp,
    spawn,
};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use shm_sync::{IdentityError, LockError, Segment, SegmentOptions, ShmMutex};
use std::time::Duration;

type Counter = ShmMutex<u64>;

/// Refuses wiped memory, in a stage that has not used the crate yet.
fn counter() -> Segment<[Counter; 2]> {
    seccomp::refuse_wiped_memory(libc::EINVAL);
    Segment::anonymous([const { Counter::new(0) }; 2]).unwrap()
}

fn pid_of_holder(lock: &Counter) -> Option<u32> {
    lock.holder().map(|holder| holder.pid)
}

/// Runs `body` in a child that a bare `clone` with `flags` makes. glibc does not notice
/// the fork.
fn bare_clone(flags: CloneFlags, body: impl FnOnce()) {
    let flags = flags.bits() | libc::SIGCHLD;
    // SAFETY: without a new stack, the call returns twice, as `fork` does. The stage
    // has a single thread.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        exit_now(if ended.is_ok() { 0 } else { 101 });
    }
    let child = Pid::from_raw(i32::try_from(child).unwrap());
    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
}

on_stage! {
    fn smoke() {
        let shared = counter();
        for round in 0..100 {
            let mut guard = shared[0].lock().unwrap();
            assert_eq!(*guard, round);
            *guard += 1;
            assert!(matches!(shared[0].try_lock(), Err(LockError::WouldBlock)));
        }
        spawn(|| *shared[0].lock().unwrap() += 1).join();
        std::thread::scope(|s| {
            s.spawn(|| *shared[0].lock().unwrap() += 1);
        });
        assert_eq!(*shared[0].lock().unwrap(), 102);
    }

    fn child_locks_by_its_own_identity() {
        let shared = counter();
        drop(shared[0].lock().unwrap());
        let held = holder_of(&shared[0]);
        assert_eq!(pid_of_holder(&shared[0]), Some(held.pid()));
        assert!(matches!(
            shared[0].try_lock_for(Duration::from_millis(10)),
            Err(LockError::TimedOut)
        ));
    }

    fn killed_child_poisons() {
        let shared = counter();
        drop(shared[0].lock().unwrap());
        for _ in 0..20 {
            let mut child = spawn(|| {
                let _guard = shared[0].lock().unwrap();
                die()
            });
            let dead = child.pid();
            child.wait();
            let poisoned = expect_poisoned(shared[0].lock());
            assert_eq!(dead_owner(poisoned.cause()), Some(dead));
            drop(poisoned.recover(|count| *count += 1));
        }
        assert_eq!(*shared[0].lock().unwrap(), 20);
    }

    // The child has a copy of the guard, and unlocks nothing.
    fn inherited_guard_does_nothing() {
        let shared = counter();
        let guard = shared[0].lock().unwrap();
        let guard = std::cell::Cell::new(Some(guard));
        spawn(|| {
            drop(guard.take());
            assert!(matches!(shared[0].try_lock(), Err(LockError::WouldBlock)));
            *shared[1].lock().unwrap() += 1;
        })
        .join();
        bare_clone(CloneFlags::empty(), || drop(guard.take()));
        let me = std::process::id();
        assert_eq!(pid_of_holder(&shared[0]), Some(me));
        assert_eq!(*shared[1].lock().unwrap(), 1);
        drop(guard);
        assert_eq!(pid_of_holder(&shared[0]), None);
    }

    // `pthread_atfork` would not notice it.
    fn bare_clone_is_refused() {
        let shared = counter();
        drop(shared[0].lock().unwrap());
        bare_clone(CloneFlags::empty(), || {
            for _ in 0..2 {
                let refused = shared[0].lock();
                assert!(
                    matches!(refused, Err(LockError::Unidentified(IdentityError::RawClone))),
                    "{refused:?}"
                );
            }
        });
        drop(shared[0].lock().unwrap());
    }

    // Parent and child have the process id and the thread id 1, each in its own
    // namespace, so that neither `getpid` nor `gettid` would notice the fork.
    fn first_process_of_nested_container_is_noticed() {
        let shared = counter();
        if let Err(error) = unshare(CloneFlags::CLONE_NEWPID) {
            println!("skipped, because a new pid namespace is not permitted: {error}");
            return;
        }
        spawn(|| {
            assert_eq!(std::process::id(), 1);
            let own = Segment::anonymous(Counter::new(0)).unwrap();
            let mut guard = own.lock().unwrap();
            let inner = || {
                assert_eq!(std::process::id(), 1);
                let inherited = own.try_lock();
                assert!(
                    matches!(
                        inherited,
                        Err(LockError::ForeignPidNamespace
                            | LockError::Unidentified(IdentityError::RawClone))
                    ),
                    "{inherited:?}"
                );
            };
            bare_clone(CloneFlags::CLONE_NEWPID, inner);
            unshare(CloneFlags::CLONE_NEWPID).unwrap();
            spawn(inner).join();
            *guard += 1;
        })
        .join();
        drop(shared[0].lock().unwrap());
    }

    fn chain_of_forks_is_noticed() {
        const GENERATIONS: u32 = 50;
        let shared = counter();
        fn next(shared: &[Counter; 2], left: u32) {
            *shared[0].lock().unwrap() += 1;
            let guard = shared[1].lock().unwrap();
            if left > 0 {
                // The child holds a copy of the guard of each ancestor.
                let mut child: Child = spawn(|| {
                    assert!(matches!(shared[1].try_lock(), Err(LockError::WouldBlock)));
                    let parent = nix::unistd::getppid().as_raw() as u32;
                    assert_eq!(pid_of_holder(&shared[1]), Some(parent));
                    drop(shared[0].lock().unwrap());
                });
                assert!(matches!(child.wait(), WaitStatus::Exited(_, 0)));
                drop(guard);
                spawn(|| next(shared, left - 1)).join();
            }
        }
        next(&shared, GENERATIONS);
        assert_eq!(*shared[0].lock().unwrap(), u64::from(GENERATIONS) + 1);
    }

    fn threads_and_processes_count_together() {
        const EACH: u64 = 2_000;
        let shared = counter();
        let count = || {
            for _ in 0..EACH {
                *shared[0].lock().unwrap() += 1;
            }
        };
        let children = [(); 2].map(|()| {
            spawn(|| {
                std::thread::scope(|s| {
                    s.spawn(count);
                    count();
                });
            })
        });
        count();
        children.into_iter().for_each(Child::join);
        assert_eq!(*shared[0].lock().unwrap(), 5 * EACH);
    }

    fn private_lock_is_free_in_forked_child() {
        let _refused = counter();
        let name = TestName::new("private");
        let _original = Segment::create(&name, Counter::new(0)).unwrap();
        let copy = SegmentOptions::<Counter>::new().open_snapshot(&name).unwrap();
        let guard = copy.lock().unwrap();
        let me = std::process::id();
        spawn(|| {
            let poisoned = expect_poisoned(copy.lock());
            assert_eq!(dead_owner(poisoned.cause()), Some(me));
            drop(poisoned.recover(|count| *count += 1));
            let held = copy.lock().unwrap();
            spawn(|| drop(expect_poisoned(copy.try_lock()))).join();
            drop(held);
        })
        .join();
        assert!(matches!(copy.try_lock(), Err(LockError::WouldBlock | LockError::Deadlock)));
        drop(guard);
        assert_eq!(*copy.lock().unwrap(), 0);
    }

    // A sandbox that permits no `madvise` at all.
    fn refused_madvise_is_reported() {
        seccomp::refuse(libc::SYS_madvise, libc::EPERM);
        let refused = Segment::anonymous(Counter::new(0)).map(drop).unwrap_err();
        let text = format!("{refused:?}");
        assert!(
            matches!(
                refused,
                shm_sync::Error::Unidentified(IdentityError::NoForkDetection(_))
            ),
            "{text}"
        );
        assert!(text.contains("MADV_WIPEONFORK") && text.contains("MADV_DONTFORK"), "{text}");
    }
}

//! Priority inheritance when the kernel refuses its operations: a reader waits on the
//! lock word, the holder no longer exists, the waiters form a cycle, or the kernel
//! lacks an operation.
//!
//! glibc treats most of these errors as success, or ends the process. Failure modes 27
//! to 29.

use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{
    Child, Gate, LOCK_WORD, TestName, expect_poisoned, holder_of, on_stage, poll, seccomp, spawn,
};
use nix::sys::wait::WaitStatus;
use shm_sync::{LockError, PthreadCondvar, Segment, ShmCondvar, ShmMutex, ShmSafe};

type Lock = ShmMutex<u64>;

/// Longer than the recheck interval.
const LONGER_THAN_RECHECK: Duration = Duration::from_millis(200);

/// A lock, and a word that shows whether two threads are inside at once.
#[derive(ShmSafe)]
#[repr(C)]
struct Guarded {
    lock: Lock,
    inside: AtomicU64,
}

impl Guarded {
    fn new() -> Self {
        Self {
            lock: ShmMutex::with_priority_inheritance(0),
            inside: AtomicU64::new(0),
        }
    }

    /// Locks, and checks that no other thread is inside.
    fn enter(&self) {
        let forget_the_dead = |_: &mut u64, _| self.inside.store(0, Ordering::SeqCst);
        let mut count = self.lock.lock_or_recover(forget_the_dead).unwrap();
        let others = self.inside.fetch_add(1, Ordering::SeqCst);
        assert_eq!(others, 0, "two threads are inside");
        *count += 1;
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A wait on the lock word for which read access is enough.
#[derive(Clone, Copy, Debug)]
enum Attack {
    /// `FUTEX_WAIT`, once.
    Wait,
    /// `FUTEX_WAIT`, again and again.
    WaitAgain,
    /// `FUTEX_WAIT_REQUEUE_PI`, which no other thread can end.
    WaitForRequeue,
}

/// Starts a process that can only read the segment. It waits on the lock word that the
/// segment's value begins with.
fn attack(name: &TestName, with: Attack) -> Child {
    let path = name.path();
    let ready = Gate::new();
    let child = spawn(|| {
        let file = std::fs::File::open(&path).unwrap();
        let len = file.metadata().unwrap().len() as usize;
        let header = std::fs::read(&path).unwrap();
        let value = u64::from_le_bytes(header[32..40].try_into().unwrap()) as usize;
        let fd = file.as_raw_fd();
        let (read, shared) = (libc::PROT_READ, libc::MAP_SHARED);
        // SAFETY: the kernel chooses the address of this new mapping.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, read, shared, fd, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        let word = base
            .wrapping_byte_add(value + LOCK_WORD)
            .cast::<AtomicU32>();
        // SAFETY: the value is inside the mapping, and begins with a mutex.
        let word = unsafe { &*word };
        let (mut target, mut is_ready) = (0_u32, false);
        loop {
            let seen = word.load(Ordering::Relaxed);
            let timeout = libc::timespec {
                tv_sec: 0,
                tv_nsec: 20_000,
            };
            if !is_ready {
                ready.open();
                is_ready = true;
            }
            let (operation, timeout) = match with {
                Attack::Wait => (libc::FUTEX_WAIT, ptr::null()),
                Attack::WaitAgain => (libc::FUTEX_WAIT, &raw const timeout),
                Attack::WaitForRequeue => (libc::FUTEX_WAIT_REQUEUE_PI, ptr::null()),
            };
            // SAFETY: both words are mapped for the whole call; the timeout is null or
            // outlives it.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    word.as_ptr(),
                    operation,
                    seen,
                    timeout,
                    &raw mut target,
                    0,
                )
            };
        }
    });
    ready.pass();
    child
}

/// Starts a thread that locks and then ends by `exec`. Returns when the process runs
/// the new program.
///
/// The kernel does not notice that the holder no longer exists, because `exec` gives
/// the thread the id of the process.
fn lose_holder_by_exec(lock: &Lock) -> Child {
    let executor = spawn(|| {
        std::thread::scope(|s| {
            s.spawn(|| {
                std::mem::forget(lock.lock().unwrap());
                let failed = nix::unistd::execvp(c"sleep", &[c"sleep", c"1000"]);
                panic!("{failed:?}");
            });
        });
    });
    poll(|| {
        std::fs::read_to_string(format!("/proc/{}/comm", executor.pid()))
            .is_ok_and(|name| name.trim() == "sleep")
    });
    executor
}

/// Returns the field `list_op_pending` of this thread's `struct robust_list_head`.
fn list_op_pending() -> usize {
    #[repr(C)]
    struct Head {
        list: usize,
        futex_offset: i64,
        list_op_pending: usize,
    }
    const { assert!(offset_of!(Head, list_op_pending) == 16) };
    let mut head: *const Head = ptr::null();
    let mut len = 0_usize;
    // SAFETY: `head` and `len` are valid for writes; 0 is the calling thread.
    let code = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    assert_eq!(code, 0);
    // SAFETY: libc keeps the head for as long as the thread lives.
    unsafe { (*head).list_op_pending }
}

on_stage! {
    fn smoke() {
        let shared = Segment::anonymous(Guarded::new()).unwrap();
        shared.enter();
        let holder = holder_of(&shared.lock);
        let waiter = spawn(|| drop(expect_poisoned(shared.lock.lock())));
        waiter.wait_until_asleep();
        drop(holder);
        waiter.join();
    }

    // Failure mode 27.
    fn reader_waits_on_word_never_two_inside() {
        const TURNS: u64 = 3_000;
        for with in [Attack::Wait, Attack::WaitAgain] {
            let name = TestName::new("reader");
            let shared = Segment::create(&name, Guarded::new()).unwrap();
            let mut readers = [(); 3].map(|()| attack(&name, with));
            let workers = [(); 3].map(|()| spawn(|| for _ in 0..TURNS {
                shared.enter();
            }));
            workers.into_iter().for_each(Child::join);
            readers.iter_mut().for_each(Child::kill);
            assert_eq!(*shared.lock.lock().unwrap(), 3 * TURNS, "{with:?}");
        }
    }

    // The reader can keep all lockers out, but no second locker gets in.
    fn reader_waits_for_requeue_lockers_time_out() {
        let name = TestName::new("requeue");
        let shared = Segment::create(&name, Guarded::new()).unwrap();
        let guard = shared.lock.lock().unwrap();
        let mut reader = attack(&name, Attack::WaitForRequeue);
        reader.wait_until_asleep();
        let mut waiter = spawn(|| shared.enter());
        let timed = spawn(|| {
            let result = shared.lock.try_lock_for(LONGER_THAN_RECHECK);
            assert!(matches!(result, Err(LockError::TimedOut)), "{result:?}");
        });
        timed.join();
        drop(guard);
        // The word now has `FUTEX_WAITERS` set, so the kernel must assign the lock,
        // which it refuses.
        let before = Instant::now();
        match shared.lock.try_lock_for(LONGER_THAN_RECHECK) {
            Ok(guard) => assert_eq!(*guard, 0),
            Err(LockError::TimedOut) => assert!(before.elapsed() >= LONGER_THAN_RECHECK),
            other => panic!("{other:?}"),
        }
        reader.kill();
        shared.enter();
        assert!(matches!(waiter.wait(), WaitStatus::Exited(_, 0)));
        assert_eq!(*shared.lock.lock().unwrap(), 2);
    }

    fn reader_waits_holder_dies_next_is_told() {
        let name = TestName::new("reader-death");
        let shared = Segment::create(&name, Guarded::new()).unwrap();
        let mut reader = attack(&name, Attack::WaitAgain);
        for _ in 0..20 {
            let mut holder = holder_of(&shared.lock);
            let waiter = spawn(|| drop(expect_poisoned(shared.lock.lock()).recover(|_| {})));
            assert!(matches!(shared.lock.try_lock(), Err(LockError::WouldBlock)));
            holder.kill();
            waiter.join();
            shared.enter();
        }
        reader.kill();
    }

    // Failure mode 28.
    fn holder_lost_by_exec_lockers_time_out() {
        let shared = Segment::anonymous(Guarded::new()).unwrap();
        let _lost = lose_holder_by_exec(&shared.lock);
        for _ in 0..2 {
            let before = Instant::now();
            let result = shared.lock.try_lock_for(LONGER_THAN_RECHECK);
            assert!(matches!(result, Err(LockError::TimedOut)), "{result:?}");
            assert!(before.elapsed() >= LONGER_THAN_RECHECK);
            assert!(matches!(shared.lock.try_lock(), Err(LockError::WouldBlock)));
        }
        let mut waiter = spawn(|| drop(shared.lock.lock()));
        std::thread::sleep(LONGER_THAN_RECHECK);
        assert!(waiter.try_wait().is_none(), "the waiter waits, and does not abort");
        waiter.kill();
        // SAFETY: no thread holds the mutex or waits for it.
        unsafe { shared.lock.reset() }.unwrap();
        drop(expect_poisoned(shared.lock.lock()).recover(|_| {}));
    }

    // Failure mode 29.
    fn list_op_pending_is_clear_after_each_call() {
        let shared = Segment::anonymous([const { Lock::with_priority_inheritance(0) }; 3]).unwrap();
        let [held, lost, own] = &*shared;
        let mut holder = holder_of(held);
        let _lost = lose_holder_by_exec(lost);
        let mine = own.lock().unwrap();
        assert_eq!(list_op_pending(), 0);
        for lock in [held, lost] {
            assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
            assert_eq!(list_op_pending(), 0);
            for timeout in [Duration::ZERO, Duration::from_millis(5), LONGER_THAN_RECHECK] {
                assert!(matches!(lock.try_lock_for(timeout), Err(LockError::TimedOut)));
                assert_eq!(list_op_pending(), 0, "{timeout:?}");
            }
        }
        assert!(matches!(own.lock(), Err(LockError::Deadlock)));
        assert!(matches!(own.try_lock(), Err(LockError::WouldBlock)));
        assert_eq!(list_op_pending(), 0);
        drop(mine);
        assert_eq!(list_op_pending(), 0);
        holder.kill();
        drop(expect_poisoned(held.lock()));
        assert_eq!(list_op_pending(), 0);
    }

    // glibc would lock the mutex again by its own code.
    fn pthread_condvar_refuses_to_wait() {
        #[derive(ShmSafe)]
        #[repr(C)]
        struct Jobs {
            pending: Lock,
            for_c: PthreadCondvar,
            changed: ShmCondvar,
        }
        let jobs = Segment::anonymous(Jobs {
            pending: Lock::with_priority_inheritance(0),
            for_c: PthreadCondvar::new(),
            changed: ShmCondvar::new(),
        })
        .unwrap();
        let result = jobs.for_c.wait(jobs.pending.lock().unwrap());
        assert!(matches!(result, Err(LockError::PriorityInheritance)), "{result:?}");
        let result = jobs.for_c.wait_timeout(jobs.pending.lock().unwrap(), LONGER_THAN_RECHECK);
        let error = shm_sync::Error::from(result.unwrap_err());
        assert!(matches!(
            error,
            shm_sync::Error::Lock(LockError::PriorityInheritance)
        ));
        assert!(error.to_string().contains("ShmCondvar"), "{error}");
        // The failed wait has unlocked the mutex.
        let guard = jobs.pending.try_lock().unwrap();
        let (guard, result) = jobs.changed.wait_timeout(guard, LONGER_THAN_RECHECK).unwrap();
        assert!(result.timed_out());
        drop(guard);
    }

    // Linux before 5.14 has no FUTEX_LOCK_PI2.
    fn without_lock_pi2_waits_end_in_time() {
        let shared = Segment::anonymous(Guarded::new()).unwrap();
        let mut holder = holder_of(&shared.lock);
        let waiter = spawn(|| {
            seccomp::refuse_command(libc::SYS_futex, libc::FUTEX_LOCK_PI2, libc::ENOSYS);
            let before = Instant::now();
            let result = shared.lock.try_lock_for(LONGER_THAN_RECHECK);
            assert!(matches!(result, Err(LockError::TimedOut)), "{result:?}");
            assert!(before.elapsed() >= LONGER_THAN_RECHECK);
            drop(expect_poisoned(shared.lock.lock()));
        });
        std::thread::sleep(2 * LONGER_THAN_RECHECK);
        holder.kill();
        waiter.join();
    }

    // glibc 2.30 to 2.32 takes the deadline of `pthread_mutex_clocklock` for a time
    // that has passed, if the mutex has priority inheritance. A loop over it would
    // never sleep.
    fn waiters_use_little_cpu_time() {
        use nix::sys::resource::{UsageWho, getrusage};
        use nix::sys::time::TimeValLike;
        let used_by_children = || {
            let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
            (usage.user_time() + usage.system_time()).num_microseconds()
        };
        let shared = Segment::anonymous(Guarded::new()).unwrap();
        let _holder = holder_of(&shared.lock);
        let waits: [(_, &dyn Fn()); 2] = [
            ("lock", &|| drop(shared.lock.lock())),
            ("try_lock_for", &|| {
                drop(shared.lock.try_lock_for(Duration::from_secs(3600)));
            }),
        ];
        for (name, wait) in waits {
            let before = used_by_children();
            let mut waiter = spawn(wait);
            waiter.wait_until_asleep();
            std::thread::sleep(Duration::from_secs(1));
            waiter.kill();
            let used = used_by_children() - before;
            println!("note: {name} with priority inheritance: {used} µs of processor time in 1 s");
            // Where other machines take time from this one, it counts as used.
            assert!(used < 500_000, "{name}: {used} µs in one second of sleep");
        }
    }

    // A kernel without priority inheritance: the lock fails and never hangs.
    fn without_any_lock_pi_lock_fails() {
        let shared = Segment::anonymous(Guarded::new()).unwrap();
        let _holder = holder_of(&shared.lock);
        spawn(|| {
            for operation in [libc::FUTEX_LOCK_PI2, libc::FUTEX_LOCK_PI] {
                seccomp::refuse_command(libc::SYS_futex, operation, libc::ENOSYS);
            }
            match shared.lock.lock() {
                Err(LockError::Os(error)) => {
                    assert_eq!(error.raw_os_error(), Some(libc::ENOSYS));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(list_op_pending(), 0);
        })
        .join();
    }

    // The same mutexes on the same robust lists, locked by libc.
    fn c_and_rust_alternate_while_holders_die() {
        const TURNS: u64 = 2_000;
        let shared = Segment::anonymous(Guarded::new()).unwrap();
        let by_c = || {
            let mutex: *mut libc::pthread_mutex_t = shared.lock.as_pthread_ptr().cast();
            // SAFETY: the segment has initialised the mutex, and stays mapped during
            // the call.
            match unsafe { libc::pthread_mutex_lock(mutex) } {
                0 => {}
                libc::EOWNERDEAD => {
                    shared.inside.store(0, Ordering::SeqCst);
                    // SAFETY: this thread holds the initialised mutex.
                    assert_eq!(unsafe { libc::pthread_mutex_consistent(mutex) }, 0);
                }
                code => panic!("{code}"),
            }
            assert_eq!(shared.inside.fetch_add(1, Ordering::SeqCst), 0);
            shared.inside.fetch_sub(1, Ordering::SeqCst);
            // SAFETY: this thread holds the initialised mutex.
            assert_eq!(unsafe { libc::pthread_mutex_unlock(mutex) }, 0);
        };
        let workers = [(); 4];
        let workers = workers.map(|()| spawn(|| for turn in 0..TURNS {
            if turn.is_multiple_of(2) { shared.enter() } else { by_c() }
        }));
        for _ in 0..30 {
            let mut victim = spawn(|| loop {
                shared.enter();
                by_c();
            });
            std::thread::sleep(Duration::from_millis(2));
            victim.kill();
        }
        workers.into_iter().for_each(Child::join);
        shared.enter();
    }
}

//! C code that locks and unlocks the same mutexes or other ones in the same thread, and
//! a second copy of this crate in the same process.

use std::ffi::CString;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{
    Child, Gate, TestFile, TestName, die, expect_poisoned, leave_a_death, on_stage, pair, spawn,
};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use shm_sync::{
    LockError, MAX_LOCKS_HELD, PoisonCause, PthreadCondvar, Segment, ShmCondvar, ShmMutex, ShmSafe,
};

const LIMIT: usize = MAX_LOCKS_HELD as usize;

fn raw<T: ShmSafe>(mutex: &ShmMutex<T>) -> *mut libc::pthread_mutex_t {
    mutex.as_pthread_ptr().cast()
}

fn c_lock<T: ShmSafe>(mutex: &ShmMutex<T>) -> i32 {
    // SAFETY: the segment has initialised the mutex, and stays mapped during the call.
    unsafe { libc::pthread_mutex_lock(raw(mutex)) }
}

fn c_unlock<T: ShmSafe>(mutex: &ShmMutex<T>) -> i32 {
    // SAFETY: the segment has initialised the mutex, and stays mapped during the call.
    unsafe { libc::pthread_mutex_unlock(raw(mutex)) }
}

fn c_repair<T: ShmSafe>(mutex: &ShmMutex<T>) -> i32 {
    // SAFETY: the segment has initialised the mutex, and stays mapped during the call.
    unsafe { libc::pthread_mutex_consistent(raw(mutex)) }
}

/// Recovers a lock after owner death, as a C program does.
fn c_recover<T: ShmSafe>(mutex: &ShmMutex<T>) {
    assert_eq!(c_lock(mutex), libc::EOWNERDEAD);
    assert_eq!(c_repair(mutex), 0);
}

type Locks<const N: usize> = Segment<[ShmMutex<u32>; N]>;

fn locks<const N: usize>() -> Locks<N> {
    Segment::anonymous([const { ShmMutex::new(0_u32) }; N]).unwrap()
}

fn many(len: usize) -> Segment<[ShmMutex<u32>]> {
    shm_sync::SegmentOptions::new()
        .anonymous_with_len("c-peers", len, |_: &mut [ShmMutex<u32>]| ())
        .unwrap()
}

/// Locks until a lock is refused, and leaks the guards. Returns the number of locks.
fn lock_all(locks: &[ShmMutex<u32>]) -> usize {
    for (taken, lock) in locks.iter().enumerate() {
        match lock.lock() {
            Ok(guard) => std::mem::forget(guard),
            Err(LockError::TooManyLocks) => return taken,
            Err(other) => panic!("{other:?}"),
        }
    }
    locks.len()
}

/// Checks that the kernel has released all locks of a dead thread: the first `held`
/// ones.
fn assert_none_lost(locks: &[ShmMutex<u32>], held: usize) {
    for (index, lock) in locks.iter().enumerate() {
        match lock.try_lock() {
            Err(LockError::Poisoned(_)) => assert!(index < held, "{index}"),
            Ok(_) => assert!(index >= held, "{index}"),
            Err(other) => panic!("lock {index} is lost: {other:?}"),
        }
    }
}

/// Waits for the child, and checks that SIGKILL has ended it.
fn assert_killed(child: &mut Child) {
    assert!(matches!(
        child.wait(),
        WaitStatus::Signaled(_, Signal::SIGKILL, _)
    ));
}

fn cause<T: ShmSafe>(mutex: &ShmMutex<T>) -> PoisonCause {
    expect_poisoned(mutex.try_lock_for(Duration::from_secs(30))).cause()
}

type Take = unsafe extern "C" fn(*const ShmMutex<u32>, usize) -> isize;

/// Returns the function of a plug-in that contains a second copy of this crate. Returns
/// `None` if the plug-in is not built, because only this test was built.
fn second_copy() -> Option<Take> {
    let program = std::env::current_exe().unwrap();
    let profile = program.parent()?.parent()?;
    let library = profile.join("examples/libsecond_copy.so");
    if !library.exists() {
        println!("skipped: `cargo build --example second_copy` makes {library:?}");
        return None;
    }
    let library = CString::new(library.into_os_string().into_encoded_bytes()).unwrap();
    // SAFETY: the library has no constructors, so loading it runs no code of its own.
    let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!handle.is_null(), "{library:?} can't be loaded");
    // SAFETY: the handle is open and is never closed.
    let symbol = unsafe { libc::dlsym(handle, c"second_copy_take".as_ptr()) };
    assert!(!symbol.is_null());
    // SAFETY: the plug-in declares the function with this type.
    Some(unsafe { std::mem::transmute::<*mut libc::c_void, Take>(symbol) })
}

fn tid() -> u32 {
    nix::unistd::gettid().as_raw().cast_unsigned()
}

on_stage! {
    // Failure mode 37.
    fn c_locks_before_rust_locks_are_counted() {
        for c_count in [1, 1_000, LIMIT - 1, LIMIT] {
            let (theirs, ours) = (many(c_count), many(LIMIT + 10));
            let mut holder = spawn(|| {
                theirs.iter().for_each(|lock| assert_eq!(c_lock(lock), 0));
                assert_eq!(lock_all(&ours), LIMIT - c_count);
                die()
            });
            assert_killed(&mut holder);
            assert_none_lost(&theirs, c_count);
            assert_none_lost(&ours, LIMIT - c_count);
        }
    }

    // Failure mode 37.
    fn c_locks_between_rust_locks_are_counted() {
        let (theirs, ours) = (many(2_000), many(LIMIT));
        let mut holder = spawn(|| {
            // Rust locks come first, so that the count is right at first. Then they
            // alternate.
            lock_all(&ours[..100]);
            theirs[..1_000].iter().for_each(|lock| assert_eq!(c_lock(lock), 0));
            lock_all(&ours[100..200]);
            theirs[1_000..1_800].iter().for_each(|lock| assert_eq!(c_lock(lock), 0));
            assert_eq!(lock_all(&ours[200..]), LIMIT - 1_800 - 200);
            // Each unlock by C code frees room for a lock.
            theirs[..10].iter().for_each(|lock| assert_eq!(c_unlock(lock), 0));
            assert_eq!(lock_all(&ours[LIMIT - 1_800..]), 10);
            die()
        });
        assert_killed(&mut holder);
        assert_none_lost(&ours, LIMIT - 1_790);
        assert_none_lost(&theirs[..10], 0);
        assert_none_lost(&theirs[10..], 1_790);
    }

    // Failure mode 37.
    fn relocked_c_lock_hides_no_other_lock() {
        let (theirs, ours) = (many(LIMIT), many(10));
        let mut holder = spawn(|| {
            assert_eq!(c_lock(&theirs[0]), 0);
            drop(ours[0].lock().unwrap());
            // The same lock is the first on the list again, with others after it.
            assert_eq!(c_unlock(&theirs[0]), 0);
            theirs[1..].iter().for_each(|lock| assert_eq!(c_lock(lock), 0));
            assert_eq!(c_lock(&theirs[0]), 0);
            assert!(matches!(ours[0].lock(), Err(LockError::TooManyLocks)));
            assert!(matches!(ours[0].try_lock(), Err(LockError::TooManyLocks)));
            die()
        });
        assert_killed(&mut holder);
        assert_none_lost(&theirs, LIMIT);
        assert_none_lost(&ours, 0);
    }

    // Failure mode 37.
    fn two_crate_copies_share_lock_count() {
        let Some(take) = second_copy() else { return };
        let locks = many(2 * LIMIT);
        let (ours, theirs) = locks.split_at(LIMIT);
        let mut holder = spawn(|| {
            assert_eq!(lock_all(&ours[..900]), 900);
            // SAFETY: `theirs` are placed mutexes, and stay mapped until this process
            // ends.
            let taken = unsafe { take(theirs.as_ptr(), 600) };
            assert_eq!(taken, 600);
            assert_eq!(lock_all(&ours[900..1_000]), 100);
            // SAFETY: `theirs` are placed mutexes, and stay mapped until this process
            // ends.
            let taken = unsafe { take(theirs[600..].as_ptr(), LIMIT - 600) };
            assert_eq!(taken, (LIMIT - 1_600).cast_signed());
            assert!(matches!(ours[1_000].lock(), Err(LockError::TooManyLocks)));
            die()
        });
        assert_killed(&mut holder);
        assert_none_lost(ours, 1_000);
        assert_none_lost(theirs, LIMIT - 1_000);
    }

    fn unlock_by_c_or_rust_frees_room() {
        let (theirs, ours) = (many(LIMIT), many(LIMIT));
        for _ in 0..3 {
            theirs[..LIMIT - 1].iter().for_each(|lock| assert_eq!(c_lock(lock), 0));
            let guard = ours[0].lock().unwrap();
            assert!(matches!(ours[1].lock(), Err(LockError::TooManyLocks)));
            drop(guard);
            drop(ours[1].lock().unwrap());
            theirs[..LIMIT - 1].iter().for_each(|lock| assert_eq!(c_unlock(lock), 0));
            let mut guards: Vec<_> = ours.iter().map(|lock| lock.lock().unwrap()).collect();
            assert!(matches!(theirs[0].lock(), Err(LockError::TooManyLocks)));
            // A lock from the middle of the list.
            drop(guards.swap_remove(LIMIT / 2));
            drop(theirs[0].lock().unwrap());
        }
    }

    fn stale_guard_does_not_disturb_next_holder() {
        let shared = pair();
        let [locked, end] = [Gate::new(), Gate::new()];
        let guard = shared.lock().unwrap();
        assert_eq!(c_unlock(&shared), 0);
        assert_eq!(shared.holder(), None);
        let next = spawn(|| {
            let _guard = shared.lock().unwrap();
            locked.open();
            end.pass();
        });
        locked.pass();
        drop(guard);
        assert_eq!(shared.holder().map(|holder| holder.pid), Some(next.pid()));
        assert!(matches!(shared.try_lock(), Err(LockError::WouldBlock)));
        end.open();
        next.join();
        assert!(shared.lock().is_ok());
    }

    // For an unrecoverable mutex, glibc's `pthread_mutex_trylock` leaves the caller's
    // id in the lock word, and does not add the mutex to a list.
    fn stale_guard_skips_mutex_on_no_list() {
        let shared = Segment::anonymous([
            ShmMutex::new(0_u32),
            ShmMutex::with_priority_inheritance(0),
        ])
        .unwrap();
        for lock in &*shared {
            let guard = lock.lock().unwrap();
            assert_eq!(c_unlock(lock), 0);
            leave_a_death(lock);
            spawn(|| {
                assert_eq!(c_lock(lock), libc::EOWNERDEAD);
                assert_eq!(c_unlock(lock), 0);
            })
            .join();
            // SAFETY: the segment has initialised the mutex, and stays mapped during
            // the call.
            let code = unsafe { libc::pthread_mutex_trylock(raw(lock)) };
            assert_eq!(code, libc::ENOTRECOVERABLE);
            drop(guard);
            assert!(matches!(lock.lock(), Err(LockError::NotRecoverable)));
            assert!(matches!(lock.try_lock(), Err(LockError::NotRecoverable)));
        }
    }

    fn stale_guard_panic_does_not_poison() {
        let shared = pair();
        let [locked, end] = [Gate::new(), Gate::new()];
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _guard = shared.lock().unwrap();
            assert_eq!(c_unlock(&shared), 0);
            let next = spawn(|| {
                let _guard = shared.lock().unwrap();
                locked.open();
                end.pass();
            });
            locked.pass();
            std::mem::forget(next);
            panic!("on purpose, after C code has unlocked");
        }));
        assert!(unwound.is_err());
        assert!(!shared.is_poisoned());
        end.open();
        assert!(shared.lock().is_ok());
    }

    fn stale_guard_wait_fails() {
        #[derive(ShmSafe)]
        #[repr(C)]
        struct Board {
            free: ShmMutex<u32>,
            changed: ShmCondvar,
            pthread_changed: PthreadCondvar,
        }
        let board = Segment::anonymous(Board {
            free: ShmMutex::new(0),
            changed: ShmCondvar::new(),
            pthread_changed: PthreadCondvar::new(),
        })
        .unwrap();
        for _ in 0..3 {
            let guard = board.free.lock().unwrap();
            assert_eq!(c_unlock(&board.free), 0);
            assert!(matches!(board.changed.wait(guard), Err(LockError::NotOwner)));
            let guard = board.free.lock().unwrap();
            assert_eq!(c_unlock(&board.free), 0);
            let result = board.pthread_changed.wait(guard);
            assert!(matches!(result, Err(LockError::NotOwner)));
        }
        assert_eq!(board.free.holder(), None);
        assert!(board.free.lock().is_ok());
    }

    fn stale_poisoned_error_clears_no_poison() {
        let shared = pair();
        let first = leave_a_death(&shared);
        let poisoned = expect_poisoned(shared.lock());
        assert_eq!(poisoned.cause().pid(), first);
        assert_eq!(c_unlock(&shared), 0);
        drop(poisoned.recover(|_| ()));
        assert!(shared.is_poisoned(), "the repair ran without the lock");
    }

    fn stale_guards_count_no_lock_twice() {
        let locks = many(LIMIT + 1);
        for lock in locks.iter() {
            let guard = lock.lock().unwrap();
            assert_eq!(c_unlock(lock), 0);
            drop(guard);
        }
        assert_eq!(lock_all(&locks), LIMIT);
    }

    fn leaked_guards_unlocked_by_c_free_room() {
        let locks = many(LIMIT + 1);
        for lock in locks.iter() {
            std::mem::forget(lock.lock().unwrap());
            assert_eq!(c_unlock(lock), 0);
        }
        assert_eq!(lock_all(&locks), LIMIT);
    }

    fn poison_cause_after_c_repair_is_unknown() {
        let shared = pair();
        let dead = leave_a_death(&shared);
        let [repaired, locked] = [Gate::new(), Gate::new()];
        let mut c = spawn(|| {
            c_recover(&shared);
            locked.open();
            repaired.pass();
            die()
        });
        locked.pass();
        assert_ne!(shared.holder().map(|holder| holder.pid), Some(dead));
        assert!(!shared.is_poisoned(), "C code has made the mutex consistent");
        repaired.open();
        assert_killed(&mut c);
        // Checked before the next lock, and after it.
        assert!(shared.is_poisoned());
        assert!(shared.holder().is_none_or(|holder| holder.pid == 0));
        let cause = cause(&shared);
        assert_eq!((cause.pid(), cause.tid()), (0, c.pid()));
    }

    fn poison_cause_after_c_unlock_is_unknown() {
        let shared = pair();
        // This process dies without the lock, which still names it as the holder.
        let mut first = spawn(|| {
            std::mem::forget(shared.lock().unwrap());
            assert_eq!(c_unlock(&shared), 0);
            die()
        });
        assert_killed(&mut first);
        assert_eq!(shared.holder(), None);
        let mut c = spawn(|| {
            assert_eq!(c_lock(&shared), 0);
            die()
        });
        assert_killed(&mut c);
        let cause = cause(&shared);
        assert_eq!((cause.pid(), cause.tid()), (0, c.pid()));
    }

    fn poison_cause_of_c_death_is_unknown() {
        let shared = pair();
        let first = leave_a_death(&shared);
        let mut c = spawn(|| {
            assert_eq!(c_lock(&shared), libc::EOWNERDEAD);
            die()
        });
        assert_killed(&mut c);
        let cause = cause(&shared);
        assert_ne!(cause.pid(), first);
        assert_eq!(cause.pid(), 0);
    }

    fn poison_cause_between_c_locks_is_named() {
        let shared = pair();
        for _ in 0..3 {
            let first = leave_a_death(&shared);
            assert_eq!(shared.holder().map(|holder| holder.pid), Some(first));
            c_recover(&shared);
            assert_eq!(c_unlock(&shared), 0);
            assert_eq!(shared.holder(), None);
            let second = leave_a_death(&shared);
            let cause = cause(&shared);
            assert_eq!((cause.pid(), cause.tid()), (second, second));
            shared.clear_poison();
            drop(shared.lock().unwrap());
            // A panic of this thread is still named.
            let unwound = catch_unwind(AssertUnwindSafe(|| {
                let _guard = shared.lock().unwrap();
                panic!("a test's panic");
            }));
            assert!(unwound.is_err());
            let poisoned = expect_poisoned(shared.lock());
            let me = (poisoned.cause().pid(), poisoned.cause().tid());
            assert_eq!(me, (std::process::id(), tid()));
            drop(poisoned.recover(|_| ()));
        }
    }
}

#[test]
fn smoke() {
    let locks = locks::<2>();
    assert_eq!(c_lock(&locks[0]), 0);
    assert!(locks[1].lock().is_ok());
    assert_eq!(c_unlock(&locks[0]), 0);
}

/// Returns the C program in a document.
fn c_program(document: &str) -> &str {
    let (_, rest) = document
        .split_once("```c\n")
        .expect("the document has C code");
    rest.split_once("```").expect("the code ends").0
}

on_stage! {
    fn c_program_of_cookbook_counts_with_rust() {
        let name = TestName::new("cookbook");
        let document = include_str!("../../docs/cookbook.md");
        let source = c_program(document).replace("\"/hits\"", &format!("{:?}", &*name));
        let program = TestFile::new("cookbook");
        let compiler = Command::new("cc")
            .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pthread", "-I"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../include"))
            .args(["-x", "c", "-", "-o"])
            .arg(&*program)
            .stdin(Stdio::piped())
            .spawn();
        let Ok(mut compiler) = compiler else {
            println!("skipped: this machine has no C compiler");
            return;
        };
        compiler.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
        assert!(compiler.wait().unwrap().success(), "the program compiles");

        let hits = Segment::create(&name, ShmMutex::new(0_u64)).unwrap();
        let run = || Command::new(&*program).status().unwrap().success();
        assert!(run());
        *hits.lock().unwrap() += 1;
        // The C program repairs after owner death as well.
        let mut holder = spawn(|| {
            let _guard = hits.lock().unwrap();
            die()
        });
        assert_killed(&mut holder);
        assert!(run());
        assert_eq!(*hits.lock().unwrap(), 3);
    }
}

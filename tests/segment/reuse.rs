//! Ids and memory that are used again: nobody is taken for who had them before.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{
    Child, Gate, Marked, TestAddress, die, expect_poisoned, is_root_for, leave_a_death, on_stage,
    pair, spawn,
};
use shm_sync::{Removal, Segment, SegmentOptions, ShmMutex};

/// A child whose process id is `id`, which nobody has any more, or nothing if another
/// program was given it. It runs `body`.
fn spawn_with_id(id: u32, body: impl Fn()) -> Option<Child> {
    /// Other programs take ids as well.
    const TRIES: usize = 1_000;

    for _ in 0..TRIES {
        // The kernel gives the id after this one next, if it is free.
        std::fs::write("/proc/sys/kernel/ns_last_pid", (id - 1).to_string()).unwrap();
        let child = spawn(|| {
            if std::process::id() == id {
                body();
            }
        });
        if child.pid() == id {
            return Some(child);
        }
        child.join();
        if std::path::Path::new(&format!("/proc/{id}")).exists() {
            return None;
        }
    }
    None
}

/// Repeats `scene`, which says nothing if it could not be played, until it was.
fn retry_until_run(attempt: impl Fn() -> Option<()>) {
    const TRIES: usize = 20;
    assert!(
        (0..TRIES).any(|_| attempt().is_some()),
        "other programs take all the ids"
    );
}

/// The address of a segment's pages, and their length.
fn pages_of<T>(value: &T) -> (usize, usize) {
    const PAGE: usize = 4096;
    let start = std::ptr::from_ref(value) as usize / PAGE * PAGE;
    (start, PAGE)
}

/// What safe code can't do. Who calls it does not use those pages again.
fn unmap((start, len): (usize, usize)) {
    // SAFETY: whole pages of a mapping; the callers' promise.
    let code = unsafe { libc::munmap(start as *mut libc::c_void, len) };
    assert_eq!(code, 0);
}

/// New memory of this process at just that place, full of the thread's id: for the
/// kernel, a lock that the thread holds.
fn map_again((start, len): (usize, usize), word: u32) -> &'static [AtomicU32] {
    // SAFETY: maps new memory, and never over other memory.
    let mapped = unsafe {
        libc::mmap(
            start as *mut libc::c_void,
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    assert_eq!(mapped as usize, start, "the place is taken");
    // SAFETY: the memory is new, zero, large enough, and stays to the end.
    let words = unsafe { std::slice::from_raw_parts(mapped.cast::<AtomicU32>(), len / 4) };
    for each in words {
        each.store(word, Ordering::Relaxed);
    }
    words
}

fn thread_id() -> u32 {
    u32::try_from(nix::unistd::gettid().as_raw()).unwrap()
}

/// In how many words of memory that is used again the kernel leaves a mark when the
/// thread ends, which runs `before` and says where its pages were.
fn marks_left(before: impl FnOnce() -> (usize, usize) + Send) -> usize {
    std::thread::scope(|s| {
        let thread = s.spawn(move || {
            let pages = before();
            let id = thread_id();
            (id, map_again(pages, id))
        });
        let (id, words) = thread.join().unwrap();
        // The join may come before the kernel's walk over the thread's locks.
        let task = format!("/proc/self/task/{id}");
        crate::support::poll(|| !std::path::Path::new(&task).exists());
        let marked = |word: &&AtomicU32| word.load(Ordering::Relaxed) != id;
        words.iter().filter(marked).count()
    })
}

on_stage! {
    fn smoke() {
        let lock = pair();
        let dead = leave_a_death(&*lock);
        let poisoned = expect_poisoned(lock.lock());
        assert_eq!(crate::support::dead_owner(poisoned.cause()), Some(dead));
    }

    // Failure mode 18.
    fn reused_pid_does_not_hold_lock() {
        if !is_root_for("a process id is given anew") {
            return;
        }
        retry_until_run(|| {
            let lock = pair();
            let dead = leave_a_death(&*lock);
            let there = Gate::new();
            let _reuser = spawn_with_id(dead, || {
                there.open();
                nix::unistd::pause();
            })?;
            there.pass();
            let poisoned = expect_poisoned(lock.try_lock());
            assert_eq!(crate::support::dead_owner(poisoned.cause()), Some(dead));
            drop(poisoned.recover(|_| {}));
            drop(lock.lock().unwrap());
            Some(())
        });
    }

    // Failure mode 18.
    fn reused_pid_gets_poisoned_lock() {
        if !is_root_for("a process id is given anew") {
            return;
        }
        retry_until_run(|| {
            let lock = pair();
            let dead = leave_a_death(&*lock);
            let reuser = spawn_with_id(dead, || {
                drop(expect_poisoned(lock.lock()).recover(|_| {}));
            })?;
            reuser.join();
            drop(lock.lock().unwrap());
            Some(())
        });
    }

    // Failure mode 18.
    fn reused_pid_is_not_attached() {
        if !is_root_for("a process id is given anew") {
            return;
        }
        retry_until_run(|| {
            for address in TestAddress::of_each_kind("namesake") {
                let transient = SegmentOptions::new().removal(Removal::UntilLastDetach);
                let segment = transient.create(&address, Marked::new(1)).unwrap();
                let mut user = spawn(|| {
                    let _segment = Segment::<Marked>::open(&address).unwrap();
                    die()
                });
                user.wait();
                let there = Gate::new();
                let _reuser = spawn_with_id(user.pid(), || {
                    // What it has inherited is not what the dead one opened.
                    unmap(pages_of(&*segment));
                    there.open();
                    nix::unistd::pause();
                })?;
                there.pass();
                let attached = Segment::attached_pids(&segment).unwrap();
                assert!(!attached.contains(&user.pid()), "{attached:?}");
            }
            Some(())
        });
    }

    // Failure mode 15.
    fn reused_memory_after_unlock_is_not_written() {
        let marks = marks_left(|| {
            let lock = pair();
            drop(lock.lock().unwrap());
            pages_of(&*lock)
        });
        assert_eq!(marks, 0);

        // Also if the unlock had to wake somebody.
        let lock = pair();
        let [locked, done] = [Gate::new(), Gate::new()];
        let mut waiter = spawn(|| {
            locked.pass();
            drop(lock.lock().unwrap());
            done.pass();
        });
        let marks = marks_left(|| {
            let guard = lock.lock().unwrap();
            locked.open();
            waiter.wait_until_asleep();
            drop(guard);
            let pages = pages_of(&*lock);
            unmap(pages);
            pages
        });
        assert_eq!(marks, 0);
        done.open();
        waiter.wait();
        std::mem::forget(lock); // its pages are gone
    }

    // Failure mode 15: what the test above would see.
    fn reused_memory_of_held_lock_is_written() {
        let marks = marks_left(|| {
            let lock = Segment::anonymous(ShmMutex::new(0_u64)).unwrap();
            let pages = pages_of(&*lock);
            std::mem::forget(lock.lock().unwrap());
            std::mem::forget(lock);
            unmap(pages);
            pages
        });
        assert_ne!(marks, 0, "the kernel walks to where the lock was");
    }
}

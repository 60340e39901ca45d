//! Reused process ids and memory. A process with a reused id does not stand for the
//! earlier one.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{
    Child, Gate, Marked, TestAddress, die, expect_poisoned, is_root_for, leave_a_death, on_stage,
    pair, spawn,
};
use shm_sync::{Removal, Segment, SegmentOptions, inspect};

/// Starts a child with a free process id, which runs `body`. Returns `None` if another
/// program was given the id.
fn spawn_with_id(id: u32, body: impl Fn()) -> Option<Child> {
    /// Other programs get ids as well.
    const TRIES: usize = 1_000;

    for _ in 0..TRIES {
        // The kernel assigns the id after this one next, if it is free.
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

/// Repeats `attempt` until it succeeds. It returns `None` if another program was given
/// the id.
fn retry_until_run(attempt: impl Fn() -> Option<()>) {
    const TRIES: usize = 20;
    assert!(
        (0..TRIES).any(|_| attempt().is_some()),
        "other programs got all the ids"
    );
}

/// Returns the address of the pages of a segment, and their length.
fn pages_of<T>(value: &T) -> (usize, usize) {
    let page = inspect::page_size() as usize;
    let start = std::ptr::from_ref(value) as usize / page * page;
    (start, page)
}

/// Unmaps pages, which safe code cannot do. The caller does not use the pages again.
fn unmap((start, len): (usize, usize)) {
    // SAFETY: the range consists of whole pages of a mapping, and the caller does not
    // use them again.
    let code = unsafe { libc::munmap(start as *mut libc::c_void, len) };
    assert_eq!(code, 0);
}

/// Maps new memory at the same address and fills it with the thread's id. The kernel
/// takes each word for a lock that the thread holds.
fn map_again((start, len): (usize, usize), word: u32) -> &'static [AtomicU32] {
    // SAFETY: `MAP_FIXED_NOREPLACE` never replaces other memory.
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
    assert_eq!(mapped as usize, start, "the address is in use");
    // SAFETY: the memory is new, zeroed, large enough, and never unmapped.
    let words = unsafe { std::slice::from_raw_parts(mapped.cast::<AtomicU32>(), len / 4) };
    for each in words {
        each.store(word, Ordering::Relaxed);
    }
    words
}

fn thread_id() -> u32 {
    u32::try_from(nix::unistd::gettid().as_raw()).unwrap()
}

/// Returns the number of words in reused memory that the kernel marks when a thread
/// ends. The thread runs `before`, which returns the pages.
fn marks_left(before: impl FnOnce() -> (usize, usize) + Send) -> usize {
    std::thread::scope(|s| {
        let thread = s.spawn(move || {
            let pages = before();
            let id = thread_id();
            (id, map_again(pages, id))
        });
        let (id, words) = thread.join().unwrap();
        // The join may return before the kernel has walked the thread's robust list.
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
                    // The mapping from the fork is not the one that the dead process
                    // opened.
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

        // The unlock also has to wake a waiter.
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
        std::mem::forget(lock); // its pages are unmapped
    }

    // Failure mode 15. Shows that the test above would see a mark. musl writes to the
    // list at the next lock, and would end the process.
    #[cfg(target_env = "gnu")]
    fn reused_memory_of_held_lock_is_written() {
        let marks = marks_left(|| {
            let lock = Segment::anonymous(shm_sync::ShmMutex::new(0_u64)).unwrap();
            let pages = pages_of(&*lock);
            std::mem::forget(lock.lock().unwrap());
            std::mem::forget(lock);
            unmap(pages);
            pages
        });
        assert_ne!(marks, 0, "the kernel walks to where the lock was");
    }
}

//! Finds out whether a thread of this process holds a robust mutex in a range of
//! addresses. It reads the lists of the threads, and no mutex in the range: each list
//! has all mutexes that its thread holds.
//!
//! Other threads change their lists meanwhile. So this reads them by
//! [`process_vm_readv(2)`](https://man7.org/linux/man-pages/man2/process_vm_readv.2.html),
//! which returns an error if an entry is no longer mapped.
//!
//! # Why no mutex is missed
//!
//! Suppose that a thread holds a mutex in the range during the whole call. Each thread
//! puts new mutexes in front of its list. So the `next` of a mutex leads to a mutex
//! that was locked before it. This is also true after the mutex has left the list,
//! until a thread clears the pointer or locks the mutex again. By these pointers, a
//! walk from the head reaches every mutex that stays on the list. Or it does not reach
//! the end: it finds a cleared pointer, or it gets to the list of another thread, which
//! does not lead to the head. Then the walk begins again.
//!
//! Two more things are needed:
//!
//! * A thread stores `next` before the head leads to the mutex, and this thread sees
//!   the stores in that order. x86-64 keeps the order. Elsewhere, glibc's clearing of
//!   `next` before the exchange of the lock word makes an old pointer impossible. musl
//!   clears nothing, so there is no answer for musl on other processors.
//! * The memory of a mutex that has left the list is not used for other data during the
//!   walk. If it is, the data could lead to the head. So two walks in a row must find
//!   the same entries.

use std::ops::Range;

use super::layout::PI_FLAG;
use crate::os::mem::read_own_memory;
use crate::os::process;
use crate::os::robust_list::{self, MAX_ROBUST_LOCKS};

/// How often the list of a thread is walked, if the thread changes it meanwhile.
const ATTEMPTS: usize = 16;

/// Whether this thread sees the stores of other threads in an order that the module
/// documentation demands.
const SEES_STORES_IN_ORDER: bool = cfg!(any(target_arch = "x86_64", target_env = "gnu"));

/// Returns whether a thread of this process holds a robust mutex whose list entry lies
/// in the range. Returns `None` if that can't be found out.
///
/// The answer may be wrong for a mutex that a thread locks or unlocks during the call.
pub(crate) fn is_any_held_within(range: &Range<usize>) -> Option<bool> {
    if !SEES_STORES_IN_ORDER {
        return None;
    }
    for tid in process::threads().ok()? {
        // A thread that has ended holds nothing, and neither does one without a list.
        let Some(head) = robust_list::head_of(tid).ok()? else {
            continue;
        };
        if list_has_any(head, range)? {
            return Some(true);
        }
    }
    Some(false)
}

/// Returns whether an entry of the list with this head lies in the range, or `None` if
/// the list changes too often or can't be read.
fn list_has_any(head: usize, range: &Range<usize>) -> Option<bool> {
    let mut before = None;
    for _ in 0..ATTEMPTS {
        let entries = walk(head);
        if let Some(entries) = &entries {
            if entries.iter().any(|entry| range.contains(entry)) {
                return Some(true);
            }
            if before.as_ref() == Some(entries) {
                return Some(false);
            }
        }
        before = entries;
    }
    None
}

/// Returns the entries of the list with this head, or `None` if the list has changed
/// or can't be read.
fn walk(head: usize) -> Option<Vec<usize>> {
    let mut entries = Vec::new();
    let mut entry = read_own_memory(head).ok()?;
    for _ in 0..=MAX_ROBUST_LOCKS {
        if entry == head {
            return Some(entries);
        }
        let node = entry & !PI_FLAG;
        entries.push(node);
        entry = read_own_memory(node).ok()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::os::pthread::{Outcome, Protocol};
    use crate::robust::RobustMutex;

    fn mutex() -> Box<RobustMutex> {
        let mutex = Box::new(RobustMutex::new());
        // SAFETY: no other thread knows the mutex, and it stays in its box.
        unsafe { mutex.init(Protocol::None) }.unwrap();
        mutex
    }

    fn range_of(mutex: &RobustMutex) -> Range<usize> {
        let at = std::ptr::from_ref(mutex).addr();
        at..at + size_of::<RobustMutex>()
    }

    fn lock(mutex: &RobustMutex) {
        // SAFETY: the mutex is initialised, and outlives the lock.
        let outcome = unsafe { mutex.as_pthread().trylock() };
        assert_eq!(outcome, Outcome::Acquired);
    }

    fn unlock(mutex: &RobustMutex) {
        // SAFETY: the mutex is initialised.
        assert!(unsafe { mutex.as_pthread().unlock() });
    }

    /// Returns the answer. There is none while threads of other tests end.
    fn answer(range: &Range<usize>) -> bool {
        let mut answers = (0..100_000).map(|_| is_any_held_within(range));
        answers
            .find_map(|answer| answer)
            .expect("other threads end all the time")
    }

    #[test]
    fn smoke() {
        let mutex = mutex();
        let range = range_of(&mutex);
        if !SEES_STORES_IN_ORDER {
            assert_eq!(is_any_held_within(&range), None);
            return;
        }
        assert!(!answer(&range));
        lock(&mutex);
        assert!(answer(&range));
        unlock(&mutex);
        assert!(!answer(&range));
    }

    /// The other mutexes are locked before and after it, and change all the time.
    #[test]
    fn mutex_of_busy_thread_is_found() {
        let (held, free) = (mutex(), mutex());
        let (ranges, held) = ([range_of(&held), range_of(&free)], &held);
        let (send, ready) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        thread::scope(|s| {
            s.spawn(move || {
                let others: Vec<_> = (0..6).map(|_| mutex()).collect();
                lock(&others[0]);
                lock(held);
                send.send(()).unwrap();
                while ended.try_recv() == Err(mpsc::TryRecvError::Empty) {
                    others[1..].iter().for_each(|other| lock(other));
                    others.iter().for_each(|other| unlock(other));
                    lock(&others[0]);
                }
                unlock(&others[0]);
                unlock(held);
            });
            ready.recv().unwrap();
            for _ in 0..2_000 {
                assert_ne!(is_any_held_within(&ranges[0]), Some(false));
                assert_ne!(is_any_held_within(&ranges[1]), Some(true));
            }
            drop(end);
        });
        assert_ne!(is_any_held_within(&ranges[0]), Some(true));
    }
}

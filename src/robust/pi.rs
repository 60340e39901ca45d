//! Robust mutexes with priority inheritance.
//!
//! The words, the list and the order of the steps are those of [`robust`](super). Two
//! things differ. The list entry of glibc has bit 0 set, and the *kernel* assigns a
//! mutex for which threads wait: `FUTEX_LOCK_PI` and `FUTEX_UNLOCK_PI` write the new
//! owner into the lock word.
//!
//! # Why not libc
//!
//! The kernel refuses these operations in situations that the caller can't prevent.
//! glibc (2.30 to 2.42) handles two of the kernel's errors only, and takes all others
//! for success. So a process that can only read the word can let two threads in, by one
//! `FUTEX_WAIT`. After the two errors `EDEADLK` and `ESRCH`, glibc fails an assertion
//! or sleeps for ever. Therefore a mutex with priority inheritance is never locked by
//! libc.
//!
//! | the kernel returns | cause | what [`lock`] does |
//! |---|---|---|
//! | success | | reads the word, which names this thread |
//! | `ETIMEDOUT` | the deadline has passed | reads the word again |
//! | `EAGAIN`, `EINTR` | the owner is exiting; a signal | tries again at once |
//! | `EINVAL` | the kernel's queue contradicts the word (below) | wakes plain waiters, tries again |
//! | `ESRCH`, `EPERM` | the word names no thread, or a kernel thread | waits for the next recheck |
//! | `EDEADLK` | this wait would close a cycle of waiting threads | waits for the next recheck |
//! | `ENOSYS` | no `FUTEX_LOCK_PI2` before Linux 5.14 | `FUTEX_LOCK_PI`, on the wall clock |
//! | any other | | returns the error |
//!
//! After [`MAX_ATTEMPTS`] refusals in a row, `lock` waits for the next recheck after
//! `EAGAIN`, `EINTR` and `EINVAL`, too. Rechecks are at most [`RECHECK_INTERVAL`]
//! apart.
//!
//! [`RECHECK_INTERVAL`]: crate::os::clock::RECHECK_INTERVAL
//!
//! # When the queue contradicts the word
//!
//! The kernel returns `EINVAL` as long as the first waiter on the word does not wait by
//! `FUTEX_LOCK_PI`, or waits for another owner than the word names. A process with read
//! access causes the former by `FUTEX_WAIT`. `FUTEX_WAKE` removes such a waiter. It
//! does not remove a waiter of `FUTEX_WAIT_REQUEUE_PI`: that waiter keeps all lockers
//! out for as long as it stays.
//!
//! An unlock meets the same refusal. The holder then can't hand the mutex over. It must
//! not write 0 into the word, because another waiter may still sleep in the kernel as
//! the successor of *this* owner. When this thread ends, the kernel would assign the
//! mutex to that waiter, although a third thread has locked it in the meantime. So the
//! holder writes `FUTEX_WAITERS` without an owner. That word tells every locker,
//! glibc's included, that only the kernel assigns this mutex. (musl's own locker takes
//! any word without a thread id for a free mutex. So with musl, C code must not lock a
//! mutex with priority inheritance.) The kernel does so as
//! soon as queue and word agree. They agree at the latest when each waiter of this
//! crate has done its next recheck. A waiter of glibc does no rechecks. It stays until
//! its own deadline or the end of the former holder. If the former holder ends first,
//! the kernel assigns the mutex to its successor with `FUTEX_OWNER_DIED`. The data is
//! then poisoned, although it is consistent.
//!
//! # Crash behaviour
//!
//! | the thread dies | what the kernel does |
//! |---|---|
//! | while it waits, before the mutex is assigned to it | removes it from the queue |
//! | after the mutex was assigned to it | finds the mutex by `list_op_pending`: owner died |
//! | while it holds the mutex | finds the mutex by the list: owner died, and assigns it to the next waiter |
//! | after the mutex left the list, before the word is released | finds the mutex by `list_op_pending`: owner died, and assigns it to the next waiter |
//! | after the word is released | nothing |

use std::sync::atomic::Ordering;

use super::contended::Blocking;
use super::layout::{KEPT_UNTIL_CONSISTENT, MutexWords, UNLOCKED, is_unrecoverable_word};
use super::list::{Position, RobustList};
use crate::os::clock::Deadline;
use crate::os::futex::{self, FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS, PiRefusal, Wake};
use crate::os::pthread::Outcome;

/// How often a thread tries an operation that the kernel refuses, before it waits for
/// the next recheck. A plain waiter that waits again at once is too late for the next
/// attempt: the scheduler must run it first, and an attempt takes less than a
/// microsecond.
const MAX_ATTEMPTS: u32 = 8;

/// The kernel's reply to a request for the mutex.
enum Reply {
    /// The word names this thread.
    Assigned,
    /// The deadline has passed.
    TimedOut,
    /// The next attempt may succeed.
    Retry,
    /// The kernel refuses until another thread has changed something.
    Refused,
    /// Any other error number.
    Failed(i32),
}

/// Locks a mutex with priority inheritance. `blocking` says how long to wait.
///
/// When this returns, `list_op_pending` is clear.
///
/// # Safety
///
/// * The mutex is initialised, with priority inheritance.
/// * It stays mapped for as long as this thread holds it.
/// * `list` is the calling thread's.
#[cold]
pub(super) unsafe fn lock(list: RobustList, mutex: &MutexWords, blocking: Blocking) -> Outcome {
    list.set_pending(mutex.pi_entry());
    // SAFETY: the mutex is initialised with priority inheritance and stays mapped, and
    // the list is this thread's, as the caller promises.
    let outcome = unsafe { lock_pending(list, mutex, blocking) };
    list.clear_pending();
    outcome
}

/// Locks a mutex that `list_op_pending` names.
///
/// # Safety
///
/// * The mutex is initialised, with priority inheritance.
/// * It stays mapped for as long as this thread holds it.
/// * `list` is the calling thread's.
unsafe fn lock_pending(list: RobustList, mutex: &MutexWords, blocking: Blocking) -> Outcome {
    if mutex.holder() == list.tid() {
        // glibc's `pthread_mutex_trylock`, called by C code in this thread, has left
        // the unrecoverable mutex locked.
        if mutex.is_unrecoverable() {
            unlock_word(list, mutex);
            return Outcome::NotRecoverable;
        }
        return match blocking {
            Blocking::Try => Outcome::Busy,
            _ => Outcome::Deadlock,
        };
    }
    let mut attempts = 0;
    loop {
        // Acquire: the kernel may have assigned the mutex to this thread, although it
        // has reported an error. Nothing else writes this thread's id.
        let word = mutex.lock.load(Ordering::Acquire);
        if is_unrecoverable_word(word) {
            return Outcome::NotRecoverable;
        }
        let holder = word & FUTEX_TID_MASK;
        if holder == list.tid() {
            // SAFETY: the mutex is initialised with priority inheritance and stays
            // mapped, as the caller promises. The word names this thread.
            return unsafe { finish_lock(list, mutex) };
        }
        if word == UNLOCKED {
            let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
            let locked = mutex
                .lock
                .compare_exchange(UNLOCKED, list.tid(), success, failure);
            if locked.is_err() {
                continue;
            }
            // SAFETY: the mutex is initialised with priority inheritance and stays
            // mapped, as the caller promises. The exchange has written this thread's
            // id.
            return unsafe { finish_lock(list, mutex) };
        }
        let has_expired = match blocking {
            Blocking::Try => true,
            Blocking::WaitUntil(deadline) => deadline.has_passed(),
            Blocking::Wait => false,
        };
        let refusal = match blocking {
            Blocking::Try => Outcome::Busy,
            _ => Outcome::TimedOut,
        };
        if holder != 0 && has_expired {
            return refusal;
        }
        // Only the kernel assigns a mutex whose word is not `UNLOCKED`, even if the
        // word names no owner.
        let until = Deadline::next_recheck(blocking.deadline());
        match request(mutex, (!has_expired).then_some(until)) {
            Reply::Assigned => continue,
            Reply::TimedOut => {
                attempts = 0;
                continue;
            }
            Reply::Retry if attempts < MAX_ATTEMPTS => {
                attempts += 1;
                continue;
            }
            Reply::Retry | Reply::Refused => {}
            Reply::Failed(code) => return Outcome::Failed(code),
        }
        if has_expired {
            return refusal;
        }
        // The kernel refuses this thread's wait on the lock word.
        futex::sleep_until_deadline(until);
        attempts = 0;
    }
}

/// Requests the mutex from the kernel. Waits until the deadline, or not at all without
/// one.
fn request(mutex: &MutexWords, until: Option<Deadline>) -> Reply {
    let result = match until {
        Some(until) => futex::lock_pi(&mutex.lock, until),
        None => futex::trylock_pi(&mutex.lock),
    };
    match result {
        Ok(()) => Reply::Assigned,
        Err(PiRefusal::TimedOut) => Reply::TimedOut,
        // `FUTEX_TRYLOCK_PI` returns `EAGAIN` if a thread holds the mutex.
        Err(PiRefusal::Again) if until.is_none() => Reply::Refused,
        Err(PiRefusal::Again) => Reply::Retry,
        Err(PiRefusal::Contradiction) => {
            futex::wake(&mutex.lock, Wake::All);
            Reply::Retry
        }
        Err(PiRefusal::NoOwner | PiRefusal::Cycle) => Reply::Refused,
        Err(PiRefusal::Other(code)) => Reply::Failed(code),
    }
}

/// Completes a lock: inserts the mutex into the thread's list. Unlocks it again if it
/// is unrecoverable.
///
/// # Safety
///
/// * The mutex is initialised, with priority inheritance.
/// * It stays mapped for as long as this thread holds it.
/// * `list` is the calling thread's, and the lock word names that thread.
unsafe fn finish_lock(list: RobustList, mutex: &MutexWords) -> Outcome {
    let word = mutex.lock.load(Ordering::Acquire);
    if word & FUTEX_OWNER_DIED != 0 && mutex.owner_death_counts() {
        // A plain store would lose a `FUTEX_WAITERS` that the kernel sets meanwhile.
        let kept = !FUTEX_OWNER_DIED | KEPT_UNTIL_CONSISTENT;
        mutex.lock.fetch_and(kept, Ordering::Relaxed);
        // libc's words may still name the dead thread: see `LastOwner`.
        // SAFETY: the word has just been assigned to this thread, so the mutex is on no
        // list. It stays mapped, as the caller promises. The entry has the flag.
        unsafe { list.push_front(mutex, mutex.pi_entry()) };
        return Outcome::OwnerDied;
    }
    if mutex.is_unrecoverable() {
        unlock_word(list, mutex);
        return Outcome::NotRecoverable;
    }
    // SAFETY: the word has just been assigned to this thread, so the mutex is on no
    // list. It stays mapped, as the caller promises. The entry has the flag.
    unsafe { list.push_front(mutex, mutex.pi_entry()) };
    mutex.set_owner(list.tid());
    Outcome::Acquired
}

/// Unlocks a mutex with priority inheritance. Returns its former position on the list.
///
/// # Safety
///
/// * The mutex is initialised, with priority inheritance.
/// * `list` is the calling thread's, and [`MutexWords::is_held_by`] is true for that
///   thread.
pub(super) unsafe fn unlock(list: RobustList, mutex: &MutexWords) -> Position {
    let entry = mutex.pi_entry();
    list.set_pending(entry);
    // SAFETY: this thread holds the mutex, as the caller promises. So it is on this
    // thread's list.
    let next = unsafe { list.remove(mutex) };
    mutex.clear_owner();
    unlock_word(list, mutex);
    list.clear_pending();
    Position { entry, next }
}

/// Unlocks the word, which names this thread. The kernel assigns it to the next waiter,
/// if there is one.
fn unlock_word(list: RobustList, mutex: &MutexWords) {
    let (release, relaxed) = (Ordering::Release, Ordering::Relaxed);
    if mutex
        .lock
        .compare_exchange(list.tid(), UNLOCKED, release, relaxed)
        .is_ok()
    {
        return;
    }
    // The exchange has failed, so it has released nothing. This access does, and
    // changes no bit. The kernel's exchange of the owner continues the release
    // sequence.
    mutex.lock.fetch_or(0, release);
    for _ in 0..MAX_ATTEMPTS {
        match futex::unlock_pi(&mutex.lock) {
            Ok(()) => return,
            Err(PiRefusal::Contradiction) => {
                futex::wake(&mutex.lock, Wake::All);
            }
            Err(_) => {}
        }
    }
    // The queue still contradicts the word: see the module documentation.
    let _ = mutex.lock.fetch_update(release, relaxed, |word| {
        (word & FUTEX_TID_MASK == list.tid()).then_some(FUTEX_WAITERS)
    });
}

//! Robust mutexes with priority inheritance, without libc's lock and unlock.
//!
//! The word, the list and the order of the steps are those of
//! [`robust`](super::robust). Two things differ. An entry of the list has
//! [`PI_FLAG`](super::robust::PI_FLAG), and the *kernel* assigns a mutex for which
//! threads wait: `FUTEX_LOCK_PI` and `FUTEX_UNLOCK_PI` write the new owner into the
//! word.
//!
//! # Why not libc
//!
//! The kernel refuses these operations in situations that the caller can't prevent.
//! glibc (2.30 to 2.42) looks at two of the kernel's errors only, and takes all others
//! for success. So a process that can only read the word lets two threads in, by one
//! `FUTEX_WAIT`. After the two errors `EDEADLK` and `ESRCH`, glibc fails an assertion
//! or sleeps for ever.
//!
//! | the kernel's answer | cause | what [`lock`] does |
//! |---|---|---|
//! | success | | the word names this thread |
//! | `ETIMEDOUT` | the deadline has passed | looks at the word again |
//! | `EAGAIN`, `EINTR` | the owner is exiting; a signal | tries again at once |
//! | `EINVAL` | the kernel's queue contradicts the word (below) | wakes plain waiters, tries again |
//! | `ESRCH`, `EPERM` | the word names no thread, or a kernel thread | waits for the next turn |
//! | `EDEADLK` | this wait would close a cycle of waiting threads | waits for the next turn |
//! | `ENOSYS` | no `FUTEX_LOCK_PI2` before Linux 5.14 | `FUTEX_LOCK_PI`, on the wall clock |
//! | any other | | returns the error |
//!
//! After [`ATTEMPTS`] refusals in a row, `lock` waits for the next turn after `EAGAIN`,
//! `EINTR` and `EINVAL`, too. A turn is at most [`RECHECK_INTERVAL`](crate::os::clock::RECHECK_INTERVAL) long.
//!
//! # When the queue contradicts the word
//!
//! The kernel refuses with `EINVAL` as long as the first waiter on the word does not
//! wait by `FUTEX_LOCK_PI`, or waits for another owner than the word names. A process
//! with read access causes the former by `FUTEX_WAIT`. `FUTEX_WAKE` removes such a
//! waiter. It does not remove a waiter of `FUTEX_WAIT_REQUEUE_PI`: that waiter keeps
//! all lockers out for as long as it stays.
//!
//! Unlocking meets the same refusal. The holder then can't hand the mutex on, and it
//! must not write 0 into the word: another waiter may still sleep in the kernel as the
//! successor of *this* owner. When this thread ends, the kernel would assign the mutex
//! to that waiter, although a third thread has taken it in the meantime. So the holder
//! writes `FUTEX_WAITERS` without an owner. That word tells every locker, glibc's
//! included, that only the kernel assigns this mutex. The kernel does so as soon as
//! queue and word agree. They agree at the latest when each waiter of this crate has
//! ended its turn; a waiter of glibc has no turns, and stays until its own deadline or
//! the end of the former holder. If the former holder ends first, the kernel assigns
//! the mutex to its successor with `FUTEX_OWNER_DIED`. The data is then poisoned,
//! although it is whole.
//!
//! # Crash behaviour
//!
//! | the thread dies | what the kernel does |
//! |---|---|
//! | while it waits, the mutex not yet assigned to it | takes it out of the queue |
//! | after the kernel has assigned the mutex | finds it by `list_op_pending`: owner died |
//! | while it holds the mutex | finds it by the list: owner died, and assigns it to the next waiter |
//! | after it left the list, before the word is released | finds it by `list_op_pending`: the same |
//! | after the word is released | nothing is left to do |

use std::sync::atomic::Ordering;

use super::held::Position;
use super::mutex::{Blocking, Outcome};
use super::robust::{GlibcMutex, RobustList};
use crate::os::clock::Deadline;
use crate::os::futex::{self, PiRefusal, Wake};

/// How often a thread tries an operation that the kernel refuses, before it waits for
/// the next turn. A plain waiter that returns at once loses this race: the scheduler
/// must run it before it can wait again, and an attempt takes less than a microsecond.
const ATTEMPTS: u32 = 8;

/// What the kernel has answered to a request for the mutex.
enum Answer {
    /// The word names this thread.
    Assigned,
    /// The deadline has passed.
    TurnEnded,
    /// The next attempt may succeed.
    LookAgain,
    /// The kernel would refuse again, until another thread has done something.
    NotNow,
    Failed(i32),
}

/// Locks a mutex that inherits priorities.
///
/// When this returns, `list_op_pending` is clear.
///
/// # Safety
///
/// * The mutex is initialised, and [`RobustList::supports_pi`] is true for it.
/// * It stays mapped for as long as this thread holds it.
#[cold]
pub(super) unsafe fn lock(list: RobustList, mutex: &GlibcMutex, patience: Blocking) -> Outcome {
    list.set_pending(mutex.pi_entry());
    // SAFETY: the caller promises that the mutex is initialised and of this kind, and
    // that it stays mapped.
    let outcome = unsafe { lock_pending(list, mutex, patience) };
    list.clear_pending();
    outcome
}

/// # Safety
///
/// As for [`lock`].
unsafe fn lock_pending(list: RobustList, mutex: &GlibcMutex, patience: Blocking) -> Outcome {
    if mutex.holder() == list.tid() {
        // glibc's `pthread_mutex_trylock` has kept an unrecoverable mutex locked.
        if mutex.is_unrecoverable() {
            unlock_word(list, mutex);
            return Outcome::NotRecoverable;
        }
        return match patience {
            Blocking::None => Outcome::Busy,
            _ => Outcome::Deadlock,
        };
    }
    let mut attempts = 0;
    loop {
        // Acquire: the kernel may have assigned the mutex to this thread, although it
        // has reported an error. Nothing else writes this thread's id.
        let word = mutex.lock.load(Ordering::Acquire);
        let holder = word & libc::FUTEX_TID_MASK;
        if holder == list.tid() {
            // SAFETY: initialised, of this kind and mapped, as the caller promises; the
            // word names this thread.
            return unsafe { finish_lock(list, mutex) };
        }
        if word == 0 {
            let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
            let taken = mutex.lock.compare_exchange(0, list.tid(), success, failure);
            if taken.is_err() {
                continue;
            }
            // SAFETY: initialised, of this kind and mapped, as the caller promises; the
            // exchange has written this thread's id.
            return unsafe { finish_lock(list, mutex) };
        }
        let is_over = match patience {
            Blocking::None => true,
            Blocking::WaitUntil(deadline) => deadline.has_passed(),
            Blocking::Wait => false,
        };
        let refused = match patience {
            Blocking::None => Outcome::Busy,
            _ => Outcome::TimedOut,
        };
        if holder != 0 && is_over {
            return refused;
        }
        // Only the kernel assigns a mutex whose word is not 0, even if it has no owner.
        let until = Deadline::next_recheck(match patience {
            Blocking::WaitUntil(deadline) => Some(deadline),
            _ => None,
        });
        match request(mutex, (!is_over).then_some(until)) {
            Answer::Assigned => continue,
            Answer::TurnEnded => {
                attempts = 0;
                continue;
            }
            Answer::LookAgain if attempts < ATTEMPTS => {
                attempts += 1;
                continue;
            }
            Answer::LookAgain | Answer::NotNow => {}
            Answer::Failed(code) => return Outcome::Failed(code),
        }
        if is_over {
            return refused;
        }
        // The kernel refuses this thread's wait on the word of the mutex.
        futex::sleep_until_deadline(until);
        attempts = 0;
    }
}

/// Asks the kernel for the mutex. Waits until the deadline; without one, not at all.
fn request(mutex: &GlibcMutex, until: Option<Deadline>) -> Answer {
    let result = match until {
        Some(until) => futex::lock_pi(&mutex.lock, until),
        None => futex::trylock_pi(&mutex.lock),
    };
    match result {
        Ok(()) => Answer::Assigned,
        Err(PiRefusal::TimedOut) => Answer::TurnEnded,
        // A try that finds the mutex held says so by EAGAIN.
        Err(PiRefusal::Again) if until.is_none() => Answer::NotNow,
        Err(PiRefusal::Again) => Answer::LookAgain,
        Err(PiRefusal::Contradiction) => {
            futex::wake(&mutex.lock, Wake::All);
            Answer::LookAgain
        }
        Err(PiRefusal::NoOwner | PiRefusal::Cycle) => Answer::NotNow,
        Err(PiRefusal::Other(code)) => Answer::Failed(code),
    }
}

/// Enters a mutex whose word names this thread into the thread's list.
///
/// # Safety
///
/// As for [`lock`], and the word names this thread.
unsafe fn finish_lock(list: RobustList, mutex: &GlibcMutex) -> Outcome {
    let word = mutex.lock.load(Ordering::Acquire);
    if word & libc::FUTEX_OWNER_DIED != 0 {
        // The kernel sets FUTEX_WAITERS at any time, so this is no plain store.
        mutex
            .lock
            .fetch_and(!libc::FUTEX_OWNER_DIED, Ordering::Relaxed);
        // `owner` still names the dead thread: see `owner.rs`.
        // SAFETY: this thread has just got the mutex, so it is on no list. It stays
        // mapped, as the caller promises. The entry has the flag.
        unsafe { list.push_front(mutex, mutex.pi_entry()) };
        return Outcome::OwnerDied;
    }
    if mutex.is_unrecoverable() {
        unlock_word(list, mutex);
        return Outcome::NotRecoverable;
    }
    // SAFETY: this thread has just got the mutex, so it is on no list. It stays mapped,
    // as the caller promises. The entry has the flag.
    unsafe { list.push_front(mutex, mutex.pi_entry()) };
    mutex.set_owner(list.tid());
    Outcome::Acquired
}

/// Unlocks a mutex that inherits priorities. Returns where on the list it was. Returns
/// `None`, and does nothing, if this thread does not hold it.
///
/// # Safety
///
/// As for [`lock`].
pub(super) unsafe fn unlock(list: RobustList, mutex: &GlibcMutex) -> Option<Position> {
    if !mutex.is_held_by(list.tid()) {
        return None;
    }
    let entry = mutex.pi_entry();
    list.set_pending(entry);
    // SAFETY: this thread holds the mutex, which is recoverable, so it is on this
    // thread's list.
    let next = unsafe { list.remove(mutex) };
    mutex.clear_owner();
    unlock_word(list, mutex);
    list.clear_pending();
    Some(Position { entry, next })
}

/// Releases the word, which names this thread: to the next waiter, if there is one.
fn unlock_word(list: RobustList, mutex: &GlibcMutex) {
    let (release, relaxed) = (Ordering::Release, Ordering::Relaxed);
    if mutex
        .lock
        .compare_exchange(list.tid(), 0, release, relaxed)
        .is_ok()
    {
        return;
    }
    for _ in 0..ATTEMPTS {
        match futex::unlock_pi(&mutex.lock) {
            Ok(()) => return,
            Err(PiRefusal::Contradiction) => futex::wake(&mutex.lock, Wake::All),
            Err(_) => {}
        }
    }
    // The queue contradicts the word: see above.
    let _ = mutex.lock.fetch_update(release, relaxed, |word| {
        (word & libc::FUTEX_TID_MASK == list.tid()).then_some(libc::FUTEX_WAITERS)
    });
}

//! Robust mutexes without a call into libc: the words of glibc's `pthread_mutex_t`,
//! and the list of them that glibc keeps for each thread and the kernel reads when
//! the thread ends
//! ([the kernel's description](https://docs.kernel.org/locking/robust-futex-ABI.html)).
//!
//! What is done here is what glibc does, store by store, on the same words. So a mutex
//! may be locked here and unlocked there, by this program or a C program, and the
//! kernel, a debugger and the other process see what they always saw. It is here
//! because a call into libc that asks each time what kind of mutex this is costs more
//! than the locking, and because libc can't be told how to wait.
//!
//! # The protocol
//!
//! | step | while `pending` names the mutex | the kernel, if the thread dies after it |
//! |---|---|---|
//! | 1 | `pending` = the mutex | finds the word not ours; if it is 0, wakes a sleeper |
//! | 2 | word: 0 → thread id | finds it by `pending`: owner died |
//! | 3 | the mutex goes to the front of the list | finds it by the list |
//! | 4 | `pending` = nothing | finds it by the list |
//!
//! and back:
//!
//! | step | | the kernel, if the thread dies after it |
//! |---|---|---|
//! | 1 | `pending` = the mutex | finds it by the list |
//! | 2 | it is taken off the list | finds it by `pending` |
//! | 3 | word: thread id → 0 | finds the word 0, wakes a sleeper |
//! | 4 | a sleeper is woken, if the word said that there are any | the same: one more wakes |
//! | 5 | `pending` = nothing | nothing is left |
//!
//! # Memory ordering
//!
//! What the kernel reads of a dead thread it reads in the order in which the *thread*
//! wrote, so the steps must keep their order in the machine code, and
//! `compiler_fence(SeqCst)` stands between them; to other processors they are not
//! addressed. The word is taken with `Acquire` and given back with `Release`: that is
//! the lock. All else is `Relaxed`, under the lock or of one thread only.
//!
//! # Is it really so here?
//!
//! The layout is glibc's for 64-bit machines, part of its ABI since 2.5 (C programs
//! have it compiled in). Nothing is taken on trust: [`LockOwner::of_this_thread`] has libc
//! lock a mutex, and looks at every word, before a thread uses any of this. A thread
//! for which it is otherwise calls libc.
//!
//! [`LockOwner::of_this_thread`]: super::LockOwner::of_this_thread

use std::ffi::c_long;
use std::mem::offset_of;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering, compiler_fence};

use super::held::Position;
use super::mutex::{Blocking, Outcome};
use crate::os::clock::Deadline;
use crate::os::futex::{self, FutexWait, Wake};
use crate::os::spin;

/// `__kind` of a mutex that is process-shared, robust and error-checking.
const KIND_PSHARED_ROBUST_ERRORCHECK: u32 = 0x80 | 0x10 | 2;

/// What `__owner` says after `EOWNERDEAD`, until `pthread_mutex_consistent`.
pub(super) const INCONSISTENT: u32 = i32::MAX as u32;
/// What it says for ever after an unlock without that.
pub(super) const NOT_RECOVERABLE: u32 = i32::MAX as u32 - 1;

/// `__kind` of a mutex that is process-shared, robust and normal, with priority
/// inheritance. The last bit keeps lock elision away (`PTHREAD_MUTEX_NO_ELISION_NP`), as
/// for every mutex that was declared normal.
const KIND_PSHARED_ROBUST_PI: u32 = 0x80 | 0x10 | KIND_PRIO_INHERIT | 0x200;
/// The bit of `__kind` that says so (`PTHREAD_MUTEX_PRIO_INHERIT_NP`).
const KIND_PRIO_INHERIT: u32 = 0x20;

/// Bit 0 of an entry: the mutex inherits priorities (`FUTEX_ROBUST_MOD_PI` in the
/// kernel's documentation).
pub(super) const PI_FLAG: usize = 1;

/// A pointer to [`Link::next`] of a mutex or to [`Head::first`], perhaps with
/// [`PI_FLAG`].
pub(crate) type Entry = *mut ();

/// A `pthread_mutex_t`.
#[repr(C)]
pub(super) struct GlibcMutex {
    /// The futex word: the holder's thread id, `FUTEX_WAITERS`, `FUTEX_OWNER_DIED`.
    pub(super) lock: AtomicU32,
    count: AtomicU32,
    pub(super) owner: AtomicU32,
    users: AtomicU32,
    kind: AtomicU32,
    _spins: u32,
    link: ListNode,
}

const _: () = {
    assert!(size_of::<GlibcMutex>() <= size_of::<libc::pthread_mutex_t>());
    assert!(align_of::<GlibcMutex>() <= align_of::<libc::pthread_mutex_t>());
};

/// Where a mutex is on the list.
#[repr(C)]
struct ListNode {
    previous: AtomicPtr<()>,
    next: AtomicPtr<()>,
}

/// `struct robust_list_head` of `linux/futex.h`. In front of it libc keeps the last
/// entry, so that the head can be taken for the `next` of a link.
#[repr(C)]
pub(super) struct RobustListHead {
    pub(super) first: AtomicPtr<()>,
    futex_offset: c_long,
    pending: AtomicPtr<()>,
}

/// What [`Head::futex_offset`] must be: from an entry to the futex word.
const FUTEX_OFFSET: c_long = -(NEXT_AT as c_long);

/// Where an entry points into its mutex.
const NEXT_AT: usize = offset_of!(GlibcMutex, link) + offset_of!(ListNode, next);

impl GlibcMutex {
    /// The mutex as it stands in the list. The pointer may be used for all of it.
    #[inline]
    fn entry(&self) -> Entry {
        ptr::from_ref(self)
            .cast_mut()
            .wrapping_byte_add(NEXT_AT)
            .cast()
    }

    /// The entry of a mutex that inherits priorities.
    pub(super) fn pi_entry(&self) -> Entry {
        self.entry().map_addr(|address| address | PI_FLAG)
    }

    /// Whether it inherits priorities, whatever else its kind is.
    pub(super) fn has_priority_inheritance(&self) -> bool {
        self.kind.load(Ordering::Relaxed) & KIND_PRIO_INHERIT != 0
    }

    /// Notes that the thread `tid` holds it, and that the data is consistent.
    #[inline]
    pub(super) fn set_owner(&self, tid: u32) {
        self.owner.store(tid, Ordering::Relaxed);
        let users = self.users.load(Ordering::Relaxed).wrapping_add(1);
        self.users.store(users, Ordering::Relaxed);
    }

    /// Notes that no thread holds it.
    #[inline]
    pub(super) fn clear_owner(&self) {
        self.owner.store(0, Ordering::Relaxed);
        let users = self.users.load(Ordering::Relaxed).wrapping_sub(1);
        self.users.store(users, Ordering::Relaxed);
    }

    /// Whether it was given back without having been made consistent.
    #[inline]
    pub(super) fn is_unrecoverable(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == NOT_RECOVERABLE
    }

    #[inline]
    pub(super) fn holder(&self) -> u32 {
        self.lock.load(Ordering::Relaxed) & libc::FUTEX_TID_MASK
    }

    /// Whether the thread `tid`, which is the caller, holds it and has it on its list.
    ///
    /// The word alone does not tell: glibc's `pthread_mutex_trylock` leaves the word of an
    /// unrecoverable mutex to its caller, and the mutex on no list.
    #[inline]
    pub(super) fn is_held_by(&self, tid: u32) -> bool {
        self.holder() == tid && !self.is_unrecoverable()
    }

    /// Whether every word is as libc leaves it to the thread `tid` that has just locked
    /// the mutex, which is now the first on its list.
    fn matches_known_layout(&self, head: &RobustListHead, tid: u32) -> bool {
        // Relaxed, here and below: of this thread only.
        let next = self.link.next.load(Ordering::Relaxed);
        self.lock.load(Ordering::Relaxed) == tid
            && self.owner.load(Ordering::Relaxed) == tid
            && self.count.load(Ordering::Relaxed) == 1
            && self.users.load(Ordering::Relaxed) == 1
            && self.kind.load(Ordering::Relaxed) == KIND_PSHARED_ROBUST_ERRORCHECK
            && self.link.previous.load(Ordering::Relaxed).addr() == ptr::from_ref(head).addr()
            && head.first.load(Ordering::Relaxed) == self.entry()
            && head.pending.load(Ordering::Relaxed).is_null()
            && !next.is_null()
            // SAFETY: libc's own list, of which libc says that this is the next entry.
            && unsafe { previous_of(next) }.load(Ordering::Relaxed) == self.entry()
    }
}

/// `previous` of the link to which `entry` points.
///
/// # Safety
///
/// It is an entry of the calling thread's list.
#[inline]
unsafe fn previous_of<'a>(entry: Entry) -> &'a AtomicPtr<()> {
    const BACK: usize = offset_of!(ListNode, next) - offset_of!(ListNode, previous);
    let at = entry
        .map_addr(|address| address & !PI_FLAG)
        .wrapping_byte_sub(BACK);
    // SAFETY: the caller's promise: a link lies there, or the word before the head.
    unsafe { AtomicPtr::from_ptr(at.cast()) }
}

/// `next` of the link to which `entry` points.
///
/// # Safety
///
/// It is an entry of the calling thread's list.
#[inline]
pub(super) unsafe fn next_of<'a>(entry: Entry) -> &'a AtomicPtr<()> {
    let at = entry.map_addr(|address| address & !PI_FLAG);
    // SAFETY: the caller's promise: a link lies there, or the head.
    unsafe { AtomicPtr::from_ptr(at.cast()) }
}

/// The robust list of the calling thread. It is neither `Send` nor of use after its
/// thread; a forked child has to ask again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RobustList {
    head: NonNull<RobustListHead>,
    tid: u32,
}

impl RobustList {
    /// The list that is registered for the calling thread, whose id is `tid`, if it is
    /// of the form that is known here. `held` is a mutex that libc has just locked.
    ///
    /// # Safety
    ///
    /// `head` is what the kernel says is registered for the calling thread.
    pub(super) unsafe fn verify(head: NonNull<()>, held: &GlibcMutex, tid: u32) -> Option<Self> {
        let head: NonNull<RobustListHead> = head.cast();
        // SAFETY: the caller's promise; the kernel knows the form of the head.
        let list = unsafe { head.as_ref() };
        let is_known = list.futex_offset == FUTEX_OFFSET && held.matches_known_layout(list, tid);
        is_known.then_some(Self { head, tid })
    }

    #[inline]
    fn head(&self) -> &RobustListHead {
        // SAFETY: libc keeps it for as long as the thread lives, and this does not
        // leave the thread.
        unsafe { self.head.as_ref() }
    }

    /// The first entry: the mutex that was locked last, or the head itself.
    #[inline]
    pub(crate) fn first(self) -> Entry {
        self.head().first.load(Ordering::Relaxed)
    }

    /// Whether `mutex` is of the kind that this knows to lock.
    #[inline]
    pub(super) fn supports(self, mutex: &GlibcMutex) -> bool {
        mutex.kind.load(Ordering::Relaxed) == KIND_PSHARED_ROBUST_ERRORCHECK
    }

    /// Whether `mutex` is of the kind that [`inheriting`](super::inheriting) locks.
    #[inline]
    pub(super) fn supports_pi(self, mutex: &GlibcMutex) -> bool {
        mutex.kind.load(Ordering::Relaxed) == KIND_PSHARED_ROBUST_PI
    }

    /// The thread whose list it is.
    #[inline]
    pub(super) fn tid(self) -> u32 {
        self.tid
    }

    /// Sets `list_op_pending`, so that the kernel finds the mutex if this thread dies
    /// while the word and the list disagree.
    #[inline]
    pub(super) fn set_pending(&self, entry: Entry) {
        self.head().pending.store(entry, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
    }

    /// Clears `list_op_pending`.
    #[inline]
    pub(super) fn clear_pending(&self) {
        compiler_fence(Ordering::SeqCst);
        self.head()
            .pending
            .store(ptr::null_mut(), Ordering::Relaxed);
    }

    /// Takes the mutex if it is free and nobody died. If not, nothing is done.
    ///
    /// # Safety
    ///
    /// The mutex is initialised, [`supports`](Self::supports) says yes, and it stays
    /// mapped for as long as the thread holds it.
    #[inline]
    pub(super) unsafe fn try_lock(self, mutex: &GlibcMutex) -> Outcome {
        self.set_pending(mutex.entry());
        let taken = mutex
            .lock
            .compare_exchange(0, self.tid, Ordering::Acquire, Ordering::Relaxed);
        let outcome = match taken {
            // SAFETY: the caller's promise, and taken.
            Ok(_) => unsafe { self.finish_lock(mutex) },
            Err(_) => Outcome::Busy,
        };
        self.clear_pending();
        outcome
    }

    /// Puts a mutex on the list that was free and has just been taken.
    ///
    /// # Safety
    ///
    /// As for [`take_if_free`](Self::take_if_free), and it is taken.
    #[inline]
    unsafe fn finish_lock(self, mutex: &GlibcMutex) -> Outcome {
        if mutex.is_unrecoverable() {
            self.release_unrecoverable(mutex);
            return Outcome::NotRecoverable;
        }
        // SAFETY: the caller's promise.
        unsafe { self.push_front(mutex, mutex.entry()) };
        mutex.set_owner(self.tid);
        Outcome::Acquired
    }

    /// Puts a mutex at the front of the list.
    ///
    /// # Safety
    ///
    /// * The thread has just taken the mutex, and it is not on the list.
    /// * It stays mapped for as long as the thread holds it.
    /// * `entry` is its entry, with [`PI_FLAG`] if it inherits priorities.
    #[inline]
    pub(super) unsafe fn push_front(self, mutex: &GlibcMutex, entry: Entry) {
        let head = self.head();
        mutex.count.store(1, Ordering::Relaxed);
        let first = head.first.load(Ordering::Relaxed);
        mutex.link.next.store(first, Ordering::Relaxed);
        let front = self.head.as_ptr().cast();
        mutex.link.previous.store(front, Ordering::Relaxed);
        // SAFETY: the first entry of the thread's own list.
        unsafe { previous_of(first) }.store(mutex.entry(), Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        head.first.store(entry, Ordering::Relaxed);
    }

    #[cold]
    fn release_unrecoverable(self, mutex: &GlibcMutex) {
        mutex.count.store(0, Ordering::Relaxed);
        self.release_word(mutex);
    }

    /// Frees the word, and wakes a sleeper.
    #[inline]
    fn release_word(self, mutex: &GlibcMutex) {
        let word = mutex.lock.swap(0, Ordering::Release);
        if word & libc::FUTEX_WAITERS != 0 {
            futex::wake(&mutex.lock, Wake::One);
        }
    }

    /// Gives the mutex back. If the thread does not hold it, nothing is done, and
    /// `false` returned.
    ///
    /// # Safety
    ///
    /// As for [`take_if_free`](Self::take_if_free).
    #[inline]
    pub(super) unsafe fn unlock(self, mutex: &GlibcMutex) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.unlock_after(mutex, || ()) }.is_some()
    }

    /// As [`unlock`](Self::unlock). Calls `prepare` before anything is done, if the
    /// thread holds the mutex. Returns where on the list the mutex was.
    ///
    /// # Safety
    ///
    /// As for [`take_if_free`](Self::take_if_free).
    #[inline]
    pub(super) unsafe fn unlock_after(
        self,
        mutex: &GlibcMutex,
        prepare: impl FnOnce(),
    ) -> Option<Position> {
        if !mutex.is_held_by(self.tid) {
            return None;
        }
        prepare();
        self.set_pending(mutex.entry());
        // SAFETY: this thread holds the mutex, which is recoverable, so it is on this
        // thread's list.
        let next = unsafe { self.remove(mutex) };
        mutex.clear_owner();
        self.release_word(mutex);
        self.clear_pending();
        let entry = mutex.entry();
        Some(Position { entry, next })
    }

    /// Takes a mutex off the list. Returns the entry behind it.
    ///
    /// # Safety
    ///
    /// The mutex is on this thread's list.
    #[inline]
    pub(super) unsafe fn remove(self, mutex: &GlibcMutex) -> Entry {
        let next = mutex.link.next.load(Ordering::Relaxed);
        let previous = mutex.link.previous.load(Ordering::Relaxed);
        // SAFETY: the mutex is on the thread's list, and so are its neighbours.
        unsafe { previous_of(next) }.store(previous, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { next_of(previous) }.store(next, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        mutex
            .link
            .previous
            .store(ptr::null_mut(), Ordering::Relaxed);
        mutex.link.next.store(ptr::null_mut(), Ordering::Relaxed);
        next
    }

    /// Takes the mutex, waiting for it as long as `patience` says.
    ///
    /// # Safety
    ///
    /// As for [`take_if_free`](Self::take_if_free).
    #[cold]
    pub(super) unsafe fn lock(self, mutex: &GlibcMutex, patience: Blocking) -> Outcome {
        // The note stays while this sleeps: if it dies just as it is woken, the kernel
        // wakes another.
        self.set_pending(mutex.entry());
        // SAFETY: the caller's promise.
        let outcome = unsafe { self.lock_contended(mutex, patience) };
        self.clear_pending();
        outcome
    }

    /// # Safety
    ///
    /// As for [`take_if_free`](Self::take_if_free).
    unsafe fn lock_contended(self, mutex: &GlibcMutex, patience: Blocking) -> Outcome {
        let deadline = match patience {
            Blocking::WaitUntil(deadline) => Some(deadline),
            Blocking::Wait | Blocking::None => None,
        };
        let mut is_over = deadline.is_some_and(Deadline::has_passed);
        // Who has slept does not know how many sleep on, and says that some do.
        let mut waiters = 0;
        loop {
            let word = mutex.lock.load(Ordering::Relaxed);
            let holder = word & libc::FUTEX_TID_MASK;
            if holder == 0 {
                let mine = self.tid | waiters | word & libc::FUTEX_WAITERS;
                let taken =
                    mutex
                        .lock
                        .compare_exchange(word, mine, Ordering::Acquire, Ordering::Relaxed);
                if taken.is_err() {
                    continue;
                }
                if word & libc::FUTEX_OWNER_DIED == 0 {
                    // SAFETY: the caller's promise, and taken.
                    return unsafe { self.finish_lock(mutex) };
                }
                // `owner` still names the dead thread: see `owner.rs`.
                // SAFETY: the caller's promise, and taken.
                unsafe { self.push_front(mutex, mutex.entry()) };
                return Outcome::OwnerDied;
            }
            // C code has tried to take it: glibc's trylock says so and keeps it locked.
            if holder == self.tid && mutex.is_unrecoverable() {
                self.release_unrecoverable(mutex);
                return Outcome::NotRecoverable;
            }
            if matches!(patience, Blocking::None) {
                return Outcome::Busy;
            }
            if holder == self.tid {
                return Outcome::Deadlock;
            }
            if is_over {
                return Outcome::TimedOut;
            }
            // Where somebody sleeps already, the wait is long.
            if word & libc::FUTEX_WAITERS == 0 && spin::spin_with_backoff(|| mutex.holder() == 0) {
                continue;
            }
            let announced = word | libc::FUTEX_WAITERS;
            if word != announced
                && mutex
                    .lock
                    .compare_exchange(word, announced, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            waiters = libc::FUTEX_WAITERS;
            let until = Deadline::next_recheck(deadline);
            match futex::wait(&mutex.lock, announced, Some(until)) {
                Ok(FutexWait::LookAgain) => {}
                Ok(FutexWait::TimedOut) => is_over = deadline.is_some_and(Deadline::has_passed),
                Err(error) => return Outcome::Failed(error.raw_os_error().unwrap_or(libc::EIO)),
            }
        }
    }
}

//! Locking and unlocking a robust mutex: the steps of the tables in [`robust`](super).

use std::sync::atomic::Ordering;

use super::contended::{Attempt, Blocking, lock_contended};
use super::fallback;
use super::layout::{Entry, KEPT_UNTIL_CONSISTENT, MutexWords, UNLOCKED, is_unrecoverable_word};
use super::list::{Position, RobustList};
use super::mutex::RobustMutex;
use super::owner::{LockOwner, Method};
use super::pi;
use super::spin;
use crate::os::clock::Deadline;
use crate::os::futex::{self, FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS, FutexWait, Wake};
use crate::os::pthread::Outcome;

/// What [`RobustMutex::finish_unlock`] needs to know of an unlocked mutex. It fits into
/// registers.
#[derive(Clone, Copy, Debug)]
#[must_use = "the unlock is not complete"]
pub(crate) struct Released {
    /// The entry after the mutex.
    next: Entry,
    /// The former lock word.
    word: u32,
}

impl Released {
    /// Returns whether the lock word says that threads wait.
    #[inline]
    pub(crate) fn has_waiters(self) -> bool {
        self.word & FUTEX_WAITERS != 0
    }
}

/// The result of [`RobustMutex::try_lock_fast`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an unrecoverable mutex must be given back"]
pub(crate) enum FastLock {
    Locked,
    /// The lock word is not 0. [`RobustMutex::lock`] handles all other states.
    NotFree,
    /// The thread has locked the word of an unrecoverable mutex, and `list_op_pending`
    /// names it. The thread calls [`RobustMutex::give_back_unrecoverable`] at once.
    Unrecoverable,
}

/// Whether a thread has slept in the queue of a mutex. A thread that a wake has removed
/// from the queue marks the lock word for the waiters behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    No,
    Perhaps,
}

/// The result of an unlock.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unlock {
    /// The mutex is unlocked. It had this position on the thread's list.
    Removed(Position),
    /// libc has unlocked the mutex.
    ByLibc,
    /// The thread does not hold the mutex. Nothing was done.
    NotHeld,
}

impl RobustMutex {
    /// Locks the mutex if the lock word is 0 and the mutex is recoverable. The
    /// compare-exchange is the first access to the mutex.
    ///
    /// # Safety
    ///
    /// * The mutex is initialised.
    /// * It stays mapped for as long as the thread holds it.
    /// * `list` is the calling thread's, and the thread's method for this mutex is
    ///   [`Method::List`].
    #[inline]
    pub(crate) unsafe fn try_lock_fast(&self, list: RobustList) -> FastLock {
        let mutex = self.words();
        // SeqCst: see "Memory ordering" in [`robust`](super).
        let (success, failure) = (Ordering::SeqCst, Ordering::Relaxed);
        list.set_pending(mutex.entry()); // step 1
        let exchanged = mutex
            .lock
            .compare_exchange(UNLOCKED, list.tid(), success, failure); // step 2
        if exchanged.is_err() {
            list.clear_pending();
            return FastLock::NotFree;
        }
        if mutex.is_unrecoverable() {
            return FastLock::Unrecoverable;
        }
        // SAFETY: the mutex is initialised and stays mapped, as the caller promises.
        // The exchange has locked its word, which was 0, so the last holder did not
        // die. The mutex is recoverable.
        unsafe { finish_recoverable_lock(list, mutex) };
        list.clear_pending(); // step 4
        FastLock::Locked
    }

    /// Gives back an unrecoverable mutex.
    ///
    /// # Safety
    ///
    /// * [`try_lock_fast`](Self::try_lock_fast) has just returned
    ///   [`FastLock::Unrecoverable`] for this mutex and this list.
    #[cold]
    pub(crate) unsafe fn give_back_unrecoverable(&self, list: RobustList) {
        release_unrecoverable(self.words());
        list.clear_pending();
    }

    /// Locks the mutex. `blocking` says how long to wait. Signals don't end the wait.
    /// `queued` tells whether this thread has slept in the queue of the mutex.
    ///
    /// Returns [`Outcome::NOT_SUPPORTED`] for a mutex with priority inheritance if this
    /// libc's layout is not the known one, because libc must not lock such a mutex:
    /// see [`pi`].
    ///
    /// # Safety
    ///
    /// * The mutex is initialised.
    /// * It stays mapped for as long as the thread holds it.
    /// * `me` is the calling thread.
    pub(crate) unsafe fn lock(&self, me: LockOwner, blocking: Blocking, queued: Queued) -> Outcome {
        let mutex = self.words();
        match me.method_for(mutex) {
            Method::List(list) => {
                // `list_op_pending` stays set during the wait. If the thread dies just
                // after a wake-up, the kernel wakes another waiter.
                list.set_pending(mutex.entry());
                let mut attempt = ListAttempt {
                    list,
                    mutex,
                    word: UNLOCKED,
                    waiters: match queued {
                        Queued::Perhaps => FUTEX_WAITERS,
                        Queued::No => 0,
                    },
                };
                let outcome = lock_contended(&mut attempt, blocking);
                list.clear_pending();
                outcome
            }
            // SAFETY: the mutex is initialised and stays mapped, as the caller
            // promises. `method_for` has checked its kind, and `list` is the calling
            // thread's.
            Method::PriorityInheritance(list) => unsafe { pi::lock(list, mutex, blocking) },
            Method::Libc if mutex.has_priority_inheritance() => Outcome::NOT_SUPPORTED,
            // SAFETY: the mutex is initialised and stays mapped, as the caller
            // promises.
            Method::Libc => unsafe { fallback::lock(self.as_pthread(), me.tid(), blocking) },
        }
    }

    /// Unlocks the word of the mutex, if the thread has locked it last: it is the first
    /// on the thread's list. The caller then calls
    /// [`finish_unlock`](Self::finish_unlock) at once.
    ///
    /// Otherwise returns `None`, and the caller calls [`unlock`](Self::unlock), which
    /// handles all other states.
    ///
    /// Calls `before` before it unlocks.
    ///
    /// # Safety
    ///
    /// * The mutex is initialised.
    /// * `list` is the calling thread's, and the thread's method for this mutex is
    ///   [`Method::List`].
    #[inline]
    pub(crate) unsafe fn unlock_fast(
        &self,
        list: RobustList,
        before: impl FnOnce(),
    ) -> Option<Released> {
        let mutex = self.words();
        // A mutex on the list is held by its thread, and is recoverable.
        if list.first() != mutex.entry() {
            return None;
        }
        before();
        // SAFETY: the mutex is on this thread's list, and has no priority inheritance:
        // the thread's method for it.
        Some(unsafe { release(list, mutex) })
    }

    /// Begins a wait, in which other threads may move this thread to the queue of the
    /// mutex: sets `list_op_pending` to the mutex. If the thread dies after a wake and
    /// before it locks, the kernel wakes the next waiter of the mutex. A lock clears
    /// the field.
    ///
    /// # Safety
    ///
    /// * `list` is the calling thread's, and the thread's method for this mutex is
    ///   [`Method::List`].
    /// * The mutex stays mapped until the thread has locked, or has called
    ///   [`end_wait`](Self::end_wait).
    #[inline]
    pub(crate) unsafe fn begin_wait(&self, list: RobustList) {
        list.set_pending(self.words().entry());
    }

    /// Ends a wait without a lock: clears `list_op_pending`.
    pub(crate) fn end_wait(list: RobustList) {
        list.clear_pending();
    }

    /// Completes an unlock: the steps 4 and 5. `lockers` tells how many waiters step 4
    /// wakes, if there are any. Returns the former position of the mutex on the
    /// thread's list.
    ///
    /// Another thread may hold the mutex already, or may have unmapped it. So this uses
    /// its address only.
    #[inline]
    pub(crate) fn finish_unlock(
        &self,
        list: RobustList,
        released: Released,
        lockers: Wake,
    ) -> Position {
        let mutex = self.words();
        if released.has_waiters() {
            futex::wake(&mutex.lock, lockers); // step 4
        }
        list.clear_pending(); // step 5
        Position {
            entry: mutex.entry(),
            next: released.next,
        }
    }

    /// Unlocks the mutex, if the thread holds it. Calls `before` first, and wakes
    /// `lockers` waiters if there are any.
    ///
    /// # Safety
    ///
    /// * The mutex is initialised.
    /// * `me` is the calling thread.
    pub(crate) unsafe fn unlock(
        &self,
        me: LockOwner,
        before: impl FnOnce(),
        lockers: Wake,
    ) -> Unlock {
        if !self.is_held_by(me) {
            return Unlock::NotHeld;
        }
        match me.method_for(self.words()) {
            Method::List(list) => {
                before();
                // SAFETY: this thread holds the mutex, which is recoverable, so it is
                // on this thread's list. It has no priority inheritance: the method.
                let released = unsafe { release(list, self.words()) };
                Unlock::Removed(self.finish_unlock(list, released, lockers))
            }
            Method::PriorityInheritance(list) => {
                before();
                // SAFETY: the mutex is initialised, as the caller promises, and this
                // thread holds it. `method_for` has checked its kind and returned the
                // list.
                Unlock::Removed(unsafe { pi::unlock(list, self.words()) })
            }
            Method::Libc => {
                before();
                // SAFETY: the mutex is initialised, as the caller promises.
                unsafe { self.as_pthread().unlock() };
                Unlock::ByLibc
            }
        }
    }
}

/// Completes a lock after step 2: inserts the mutex into the list. Unlocks it again if
/// it is unrecoverable.
///
/// # Safety
///
/// * The mutex is initialised.
/// * It stays mapped for as long as the thread holds it.
/// * The thread has just locked its word, and the last holder did not die.
#[inline]
unsafe fn finish_lock(list: RobustList, mutex: &MutexWords) -> Outcome {
    if mutex.is_unrecoverable() {
        release_unrecoverable(mutex);
        return Outcome::NotRecoverable;
    }
    // SAFETY: the clauses of this function, and the mutex is recoverable, as checked.
    unsafe { finish_recoverable_lock(list, mutex) };
    Outcome::Acquired
}

/// Completes the lock of a recoverable mutex after step 2: inserts the mutex into the
/// list.
///
/// # Safety
///
/// * The clauses of [`finish_lock`].
/// * The mutex is recoverable.
#[inline]
unsafe fn finish_recoverable_lock(list: RobustList, mutex: &MutexWords) {
    mutex.note_counted_waiters();
    // SAFETY: the thread has just locked the word, and the mutex stays mapped, as the
    // caller promises. So it is on no list. The mutex has no priority inheritance.
    unsafe { list.push_front(mutex, mutex.entry()) }; // step 3
    mutex.set_owner(list.tid());
}

/// Unlocks the word of a mutex: the steps 1 to 3.
///
/// # Safety
///
/// * The mutex is on this thread's list, and has no priority inheritance.
#[inline]
unsafe fn release(list: RobustList, mutex: &MutexWords) -> Released {
    list.set_pending(mutex.entry()); // step 1
    // SAFETY: the mutex is on this thread's list, as the caller promises.
    let next = unsafe { list.remove(mutex) }; // step 2
    mutex.clear_owner();
    let word = release_word(mutex); // step 3
    Released { next, word }
}

/// Unlocks the word of a mutex that is on no list. Returns the word as it was.
///
/// The exchange is sequentially consistent: see "Memory ordering" in
/// [`robust`](super).
#[inline]
fn release_word(mutex: &MutexWords) -> u32 {
    mutex.lock.swap(UNLOCKED, Ordering::SeqCst)
}

/// Unlocks an unrecoverable mutex whose word this thread has locked.
#[cold]
fn release_unrecoverable(mutex: &MutexWords) {
    mutex.clear_count();
    if release_word(mutex) & FUTEX_WAITERS != 0 {
        futex::wake(&mutex.lock, Wake::One);
    }
}

/// An attempt to lock a mutex by its words. [`RobustMutex::lock`] makes it. Its caller
/// promises that the mutex is initialised and stays mapped.
struct ListAttempt<'a> {
    list: RobustList,
    mutex: &'a MutexWords,
    /// The lock word that the last `try_lock` has read. In `wait`, it names a holder.
    word: u32,
    /// `FUTEX_WAITERS` if this thread has slept in the queue, else 0. `try_lock` stores
    /// it, because other waiters may be queued and the unlock must wake the next one.
    waiters: u32,
}

impl Attempt for ListAttempt<'_> {
    fn try_lock(&mut self) -> Outcome {
        let mutex = self.mutex;
        loop {
            self.word = mutex.lock.load(Ordering::Relaxed);
            const KEPT: u32 = FUTEX_WAITERS | KEPT_UNTIL_CONSISTENT;

            if is_unrecoverable_word(self.word) {
                // The unlock has woken one waiter only.
                if self.waiters != 0 {
                    futex::wake(&mutex.lock, Wake::All);
                }
                return Outcome::NotRecoverable;
            }
            let holder = self.word & FUTEX_TID_MASK;
            // glibc's `pthread_mutex_trylock`, called by C code in this thread, has
            // left the unrecoverable mutex locked.
            if holder == self.list.tid() && mutex.is_unrecoverable() {
                release_unrecoverable(mutex);
                return Outcome::NotRecoverable;
            }
            // This thread holds the mutex.
            if holder == self.list.tid() {
                return Outcome::Deadlock;
            }
            // Another thread holds the mutex.
            if holder != 0 {
                return Outcome::Busy;
            }
            let locked = self.list.tid() | self.waiters | self.word & KEPT;
            let exchanged = mutex.lock.compare_exchange(
                self.word,
                locked,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            // Another thread was faster, or the word has got `FUTEX_WAITERS`.
            if exchanged.is_err() {
                continue;
            }
            // The last holder unlocked the mutex, which is consistent or unrecoverable.
            if self.word & FUTEX_OWNER_DIED == 0 {
                // SAFETY: the mutex is initialised and stays mapped, as the caller of
                // `lock` has promised. The exchange has locked its word. The word had
                // no `FUTEX_OWNER_DIED`, so the last holder did not die.
                return unsafe { finish_lock(self.list, mutex) };
            }
            mutex.note_counted_waiters();
            // The last holder died. libc's words may still name it: see `LastOwner`.
            // SAFETY: the exchange has locked the word, so the mutex is on no list. It
            // stays mapped, as the caller of `lock` has promised. It has no priority
            // inheritance.
            unsafe { self.list.push_front(mutex, mutex.entry()) };
            return Outcome::OwnerDied;
        }
    }

    fn wait(&mut self, deadline: Option<Deadline>) -> Outcome {
        let mutex = self.mutex;
        // Spin, unless other waiters sleep: then the wait is long.
        if self.word & FUTEX_WAITERS == 0 && spin::spin_for_lock(|| mutex.holder() == 0) {
            return Outcome::Busy;
        }
        // Announce this waiter, so that the unlock wakes it.
        let announced = self.word | FUTEX_WAITERS;
        if self.word != announced
            && mutex
                .lock
                .compare_exchange(self.word, announced, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            // The word has changed, so the mutex may be free.
            return Outcome::Busy;
        }
        self.waiters = FUTEX_WAITERS;
        // Sleep while the word equals `announced`.
        let until = Deadline::next_recheck(deadline);
        match futex::wait(&mutex.lock, announced, Some(until)) {
            Ok(FutexWait::Woken) => Outcome::Busy,
            Ok(FutexWait::TimedOut) => Outcome::TimedOut,
            Err(error) => Outcome::from_error(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::process;
    use crate::os::pthread::Protocol;
    use std::time::Duration;

    fn me() -> LockOwner {
        LockOwner::of_this_thread(process::gettid(), LockOwner::NONE)
            .expect("this thread can own locks")
    }

    fn mutex(protocol: Protocol) -> Box<RobustMutex> {
        let mutex = Box::new(RobustMutex::new());
        // SAFETY: no other thread knows the mutex, and it stays in its box.
        unsafe { mutex.init(protocol) }.expect("pthread initialises it");
        mutex
    }

    fn lock(mutex: &RobustMutex, by: LockOwner) -> Outcome {
        if !by.knows_layout() {
            // SAFETY: the mutex is initialised, and outlives the threads of its test.
            return unsafe { fallback::trylock(mutex.as_pthread()) };
        }
        lock_as(mutex, by, Blocking::Try)
    }

    fn lock_as(mutex: &RobustMutex, by: LockOwner, blocking: Blocking) -> Outcome {
        // SAFETY: the mutex is initialised, and outlives the threads of its test. `by`
        // is this thread.
        unsafe { mutex.lock(by, blocking, Queued::No) }
    }

    fn unlock(mutex: &RobustMutex, by: LockOwner) -> bool {
        // SAFETY: the mutex is initialised. `by` is this thread.
        let unlocked = unsafe { mutex.unlock(by, || (), Wake::One) };
        !matches!(unlocked, Unlock::NotHeld)
    }

    /// The place of `prev` in [`bytes`].
    const PREV: usize = 3;

    /// Returns the bytes of a mutex that no other thread uses.
    fn bytes(mutex: &RobustMutex) -> [u64; 5] {
        // SAFETY: a mutex has at least 40 bytes, aligned to 8.
        unsafe { std::ptr::from_ref(mutex).cast::<[u64; 5]>().read() }
    }

    /// Without this, the tests below check libc only.
    #[test]
    fn smoke() {
        assert!(
            me().knows_layout(),
            "this libc's mutexes don't have the known layout"
        );
    }

    #[test]
    fn words_are_those_that_libc_leaves() {
        let libc = me().without_layout();
        for protocol in [Protocol::None, Protocol::PriorityInheritance] {
            let mutex = mutex(protocol);
            for by in [libc, me()] {
                assert_eq!(lock(&mutex, by), Outcome::Acquired);
                let locked = bytes(&mutex);
                assert!(unlock(&mutex, libc));
                let free = bytes(&mutex);

                assert_eq!(lock(&mutex, libc), Outcome::Acquired);
                assert_eq!(bytes(&mutex), locked, "{protocol:?} {by:?}");
                assert!(unlock(&mutex, by));
                // glibc clears `prev`, and this crate leaves it. No code reads that of
                // a mutex on no list.
                let mut expected = free;
                if by.knows_layout() {
                    expected[PREV] = locked[PREV];
                }
                assert_eq!(bytes(&mutex), expected, "{protocol:?} {by:?}");
                assert!(!unlock(&mutex, by));
            }
        }
    }

    /// libc does not lock such a mutex safely: see [`pi`].
    #[test]
    fn unknown_libc_refuses_priority_inheritance() {
        let (mutex, libc) = (mutex(Protocol::PriorityInheritance), me().without_layout());
        assert!(mutex.has_priority_inheritance());
        let outcome = lock_as(&mutex, libc, Blocking::Wait);
        assert_eq!(outcome, Outcome::NOT_SUPPORTED);
    }

    /// glibc 2.41 sets a bit in the kind, and 2.43 does not.
    #[cfg(target_env = "gnu")]
    #[test]
    fn kind_of_another_glibc_is_known() {
        use std::sync::atomic::AtomicU32;

        const NO_ELISION: u32 = 0x200;
        let mutex = mutex(Protocol::PriorityInheritance);
        // SAFETY: the kind of a mutex of glibc is its word 4, on all 64-bit machines.
        let kind = unsafe {
            &*std::ptr::from_ref(&*mutex)
                .cast::<AtomicU32>()
                .wrapping_add(4)
        };
        for _ in 0..2 {
            assert_eq!(lock(&mutex, me()), Outcome::Acquired);
            assert!(unlock(&mutex, me()));
            kind.fetch_xor(NO_ELISION, Ordering::Relaxed);
        }
    }

    /// A holder leaves this word if the kernel refuses to hand the mutex over.
    #[test]
    fn word_with_waiters_and_no_owner_is_locked_by_the_kernel() {
        let mutex = mutex(Protocol::PriorityInheritance);
        let waiters = FUTEX_WAITERS;
        for blocking in [
            Blocking::Try,
            Blocking::Wait,
            Blocking::WaitUntil(Deadline::now()),
        ] {
            mutex.words().lock.store(waiters, Ordering::Relaxed);
            let outcome = lock_as(&mutex, me(), blocking);
            assert_eq!(outcome, Outcome::Acquired, "{blocking:?}");
            assert!(unlock(&mutex, me()));
            assert_eq!(mutex.words().lock.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn neighbours_on_the_list_may_be_of_any_kind() {
        let libc = me().without_layout();
        let mutexes = [
            Protocol::None,
            Protocol::PriorityInheritance,
            Protocol::None,
            Protocol::PriorityInheritance,
        ]
        .map(mutex);
        let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]];
        for (first, second) in orders
            .iter()
            .flat_map(|first| orders.map(|second| (first, second)))
        {
            for &i in first {
                let by = if second[0] == i { libc } else { me() };
                assert_eq!(lock(&mutexes[i], by), Outcome::Acquired);
            }
            for i in second {
                let by = if first[0] == i { libc } else { me() };
                assert!(unlock(&mutexes[i], by));
            }
        }
        // The list is consistent: the kernel finds all entries.
        std::thread::scope(|s| {
            s.spawn(|| {
                for mutex in &mutexes {
                    assert_eq!(lock(mutex, me()), Outcome::Acquired);
                }
                assert!(unlock(&mutexes[2], me()));
                assert_eq!(lock(&mutexes[2], me().without_layout()), Outcome::Acquired);
            });
        });
        for mutex in &mutexes {
            // The thread may be joined before the kernel has walked its list.
            let outcome = lock_as(mutex, me(), Blocking::Wait);
            assert_eq!(outcome, Outcome::OwnerDied);
            // SAFETY: the mutex is initialised, and this thread holds it after an owner
            // death.
            unsafe { mutex.mark_consistent(me()) }.expect("this thread holds it");
            assert!(unlock(mutex, me()));
        }
    }

    /// glibc's `pthread_mutex_trylock` leaves an unrecoverable mutex locked.
    #[test]
    fn unrecoverable_mutex_is_unlocked() {
        check_that_unrecoverable_is_unlocked(Protocol::None);
        check_that_unrecoverable_is_unlocked(Protocol::PriorityInheritance);
    }

    /// The slow path would hide that the fast one has left the word locked.
    #[test]
    fn fast_lock_gives_an_unrecoverable_mutex_back() {
        let (mutex, me) = (unrecoverable(Protocol::None), me());
        let Method::List(list) = me.method_for(mutex.words()) else {
            panic!("this libc's mutexes have the known layout");
        };
        let pending = || list.head().list_op_pending.load(Ordering::Relaxed);
        // SAFETY: the mutex is initialised, and outlives the test. The list is this
        // thread's, for this mutex.
        let result = unsafe { mutex.try_lock_fast(list) };
        // musl's lock word tells that the mutex is unrecoverable.
        if cfg!(target_env = "musl") {
            assert_eq!(result, FastLock::NotFree);
        } else {
            assert_eq!(result, FastLock::Unrecoverable);
            assert_eq!(pending(), mutex.words().entry());
            // SAFETY: `try_lock_fast` has just returned it.
            unsafe { mutex.give_back_unrecoverable(list) };
        }
        assert_eq!(mutex.owner_tid(), 0, "the word is unlocked");
        assert!(pending().is_null(), "no operation is pending");
        assert!(list.is_head(list.first()), "the mutex is on no list");
    }

    /// Returns a mutex whose holder has died, and that was then unlocked without
    /// `pthread_mutex_consistent`.
    fn unrecoverable(protocol: Protocol) -> Box<RobustMutex> {
        let mutex = mutex(protocol);
        std::thread::scope(|s| {
            s.spawn(|| assert_eq!(lock(&mutex, me()), Outcome::Acquired));
        });
        // The thread may be joined before the kernel has walked its list. (No wait by
        // libc: glibc before 2.33 takes the deadline for one of the wall clock, if the
        // mutex has priority inheritance.)
        let word = &mutex.words().lock;
        while mutex.owner_tid() != 0 {
            let soon = Deadline::after(Duration::from_millis(10));
            futex::wait(word, mutex.lock_word(), Some(soon)).expect("futex(2) works");
        }
        // SAFETY: the mutex is initialised, and outlives the lock.
        let died = unsafe { mutex.as_pthread().trylock() };
        assert_eq!(died, Outcome::OwnerDied);
        // SAFETY: the mutex is initialised.
        assert!(unsafe { mutex.as_pthread().unlock() });
        mutex
    }

    fn check_that_unrecoverable_is_unlocked(protocol: Protocol) {
        let (mutex, libc) = (unrecoverable(protocol), me().without_layout());
        let lockers = match protocol {
            Protocol::None => vec![libc, me()],
            Protocol::PriorityInheritance => vec![me()],
        };
        for by in lockers {
            // SAFETY: the mutex is initialised, and outlives the lock.
            let outcome = unsafe { mutex.as_pthread().trylock() };
            assert_eq!(outcome, Outcome::NotRecoverable);
            for blocking in [Blocking::Try, Blocking::Wait] {
                let outcome = lock_as(&mutex, by, blocking);
                assert_eq!(outcome, Outcome::NotRecoverable);
                assert_eq!(mutex.owner_tid(), 0, "{by:?} {blocking:?}");
            }
        }
    }
}

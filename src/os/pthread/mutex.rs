//! `pthread_mutex_t`: process-shared and robust; a mistake is an error and no hang.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};

use super::attr::{MutexAttr, Protocol};
use super::check;
use super::held::Position;
use super::inheriting;
use super::locker::LockOwner;
use super::robust::{GlibcMutex, RobustList};
use crate::os::clock::Deadline;
use crate::os::futex::{self, Wake};
use crate::os::timer_slack::punctually;

unsafe extern "C" {
    /// Not bound by the `libc` crate. glibc 2.30 and later.
    fn pthread_mutex_clocklock(
        mutex: *mut libc::pthread_mutex_t,
        clock: libc::clockid_t,
        deadline: *const libc::timespec,
    ) -> libc::c_int;
}

/// How long to wait for a mutex that is held.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Blocking {
    /// Until it is free.
    Wait,
    /// Until it is free, or the deadline has passed.
    WaitUntil(Deadline),
    /// Not at all.
    None,
}

/// What came of an attempt to lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The caller holds the mutex.
    Acquired,
    /// The caller holds the mutex, whose last holder died (`EOWNERDEAD`). It
    /// stays in this state until [`PthreadMutex::consistent`].
    OwnerDied,
    /// A thread holds it, perhaps the caller.
    Busy,
    /// The deadline passed (`ETIMEDOUT`).
    TimedOut,
    /// The caller held it already (`EDEADLK`).
    Deadlock,
    /// Somebody unlocked it without making it consistent
    /// (`ENOTRECOVERABLE`): it can never be locked again.
    NotRecoverable,
    /// Any other error number.
    Failed(i32),
}

impl Outcome {
    #[inline]
    pub(super) fn from_errno(code: libc::c_int) -> Self {
        if code == 0 {
            return Self::Acquired;
        }
        Self::of_refusal(code)
    }

    #[cold]
    fn of_refusal(code: libc::c_int) -> Self {
        match code {
            libc::EOWNERDEAD => Self::OwnerDied,
            libc::EBUSY => Self::Busy,
            libc::ETIMEDOUT => Self::TimedOut,
            libc::EDEADLK => Self::Deadlock,
            libc::ENOTRECOVERABLE => Self::NotRecoverable,
            other => Self::Failed(other),
        }
    }
}

/// A `pthread_mutex_t` at the place where it stays.
///
/// It is inert bytes until [`init`](Self::init), which is why most methods are
/// unsafe: pthread trusts its argument.
#[repr(transparent)]
pub(crate) struct PthreadMutex(UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>);

// SAFETY: all access after `init` goes through pthread calls, which synchronise,
// or through the atomic futex word.
unsafe impl Sync for PthreadMutex {}
// SAFETY: the bytes hold no reference to the thread that made them; a *live*
// mutex is never moved (the contract of `init`).
unsafe impl Send for PthreadMutex {}

impl PthreadMutex {
    /// Bytes that are not a mutex yet.
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::zeroed()))
    }

    fn as_ptr(&self) -> *mut libc::pthread_mutex_t {
        self.0.get().cast()
    }

    /// [`pthread_mutex_init(3p)`](https://man7.org/linux/man-pages/man3/pthread_mutex_init.3p.html).
    ///
    /// # Safety
    ///
    /// * Nobody uses this mutex while the call runs, and none of its earlier
    ///   incarnations is held or waited for.
    /// * It stays at this place in its memory object for as long as it is used.
    pub(crate) unsafe fn init(&self, protocol: Protocol) -> io::Result<()> {
        let mut attr = MutexAttr::robust(protocol)?;
        // SAFETY: the caller gives exclusive use of the mutex; `attr` is
        // initialised.
        check(unsafe { libc::pthread_mutex_init(self.as_ptr(), attr.as_mut_ptr()) })
    }

    /// [`pthread_mutex_destroy(3p)`](https://man7.org/linux/man-pages/man3/pthread_mutex_destroy.3p.html).
    ///
    /// # Safety
    ///
    /// It is initialised, not held, and nobody else uses it.
    pub(super) unsafe fn destroy(&self) {
        // SAFETY: the caller's promise.
        unsafe { libc::pthread_mutex_destroy(self.as_ptr()) };
    }

    /// The list of the caller, who is `me`, if it can do without libc what it does with
    /// this mutex. That stays so for as long as the mutex is initialised.
    #[inline]
    pub(crate) fn robust_list_for(&self, me: LockOwner) -> Option<RobustList> {
        me.robust_list_for(self.glibc())
    }

    /// The list of the caller, the thread `me`, if this is a mutex with priority inheritance
    /// that can be unlocked without libc.
    pub(crate) fn pi_list_for(&self, me: LockOwner) -> Option<RobustList> {
        me.pi_list_for(self.glibc())
    }

    /// Whether libc must lock this mutex for the caller, the thread `me`.
    pub(crate) fn needs_libc(&self, me: LockOwner) -> bool {
        me.needs_libc_for(self.glibc())
    }

    /// Returns whether these bytes are known to be no mutex without priority inheritance
    /// that [`init`](Self::init) has made. libc may do anything with another one: glibc
    /// changes the caller's priority, or ends the process.
    pub(crate) fn is_strange(&self, me: LockOwner) -> bool {
        let words = self.glibc();
        me.knows_to_be_strange(words) || words.has_priority_inheritance()
    }

    /// Takes the mutex if that is quickly done: it is free, and nobody died. If not,
    /// [`acquire`](Self::acquire) knows more. The exchange is the first access to the
    /// mutex.
    ///
    /// # Safety
    ///
    /// It is initialised, and stays mapped for as long as the caller holds it. `list` is
    /// what [`list_of`](Self::list_of) has said to the caller.
    #[inline]
    pub(crate) unsafe fn try_lock_fast(&self, list: RobustList) -> bool {
        // SAFETY: the caller's promise.
        unsafe { list.try_lock(self.glibc()) == Outcome::Acquired }
    }

    /// Takes the mutex, waiting for it as long as `patience` says. Signals don't end
    /// the wait.
    ///
    /// Whether with libc or without, it waits in turns, because a thread can sleep
    /// beside a free mutex:
    ///
    /// * **A wakeup can be lost.** The unlocking thread makes the word 0 and then wakes
    ///   one waiter. If it dies in between, or the woken waiter dies before it has taken
    ///   the mutex, the kernel wakes another waiter, but only if the word still is 0. A
    ///   third thread may just have taken the mutex, and it knows of no waiters.
    /// * **The kernel can refuse a wait.** It does so for priority inheritance, in the
    ///   situations that [`inheriting`] lists.
    ///
    /// libc's own way is not taken for a mutex with priority inheritance: `ENOTSUP` if
    /// this glibc's layout is not known. Such mutexes are normal and not error-checking,
    /// because glibc makes a failed assertion of the kernel's `EDEADLK` to a C program
    /// that waits for an error-checking one.
    ///
    /// # Safety
    ///
    /// It is initialised, and stays mapped for as long as the caller holds it. `me` is
    /// the caller.
    pub(crate) unsafe fn lock(&self, me: LockOwner, patience: Blocking) -> Outcome {
        let words = self.glibc();
        if let Some(list) = me.robust_list_for(words) {
            // SAFETY: the caller's promise.
            unsafe { list.lock(words, patience) }
        } else if let Some(list) = me.pi_list_for(words) {
            // SAFETY: the caller's promise; the list says that the kind is right.
            unsafe { inheriting::lock(list, words, patience) }
        } else if words.has_priority_inheritance() {
            Outcome::Failed(libc::ENOTSUP)
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.lock_with_libc(me.tid(), patience) }
        }
    }

    /// A turn of waiting is a
    /// [`pthread_mutex_clocklock(3p)`](https://man7.org/linux/man-pages/man3/pthread_mutex_clocklock.3p.html)
    /// on `CLOCK_MONOTONIC`.
    ///
    /// Between the turns, and at last, it tries without waiting. So when this returns
    /// `TimedOut`, nothing points to the mutex any more: `clocklock` by itself leaves it
    /// noted in the thread's robust list as the one that is being locked.
    ///
    /// # Safety
    ///
    /// As for [`acquire`](Self::acquire).
    unsafe fn lock_with_libc(&self, me: u32, patience: Blocking) -> Outcome {
        // Reading first spares the holder a write to its cache line. The word may be the
        // caller's own by what `trylock` guards against.
        let owner = self.owner_tid();
        if matches!(patience, Blocking::None) && owner != 0 && owner != me {
            return Outcome::Busy;
        }
        loop {
            // SAFETY: the caller's promise.
            match unsafe { self.trylock() } {
                Outcome::Busy | Outcome::Deadlock => {}
                Outcome::NotRecoverable => {
                    self.release_unrecoverable(me);
                    return Outcome::NotRecoverable;
                }
                outcome => return outcome,
            }
            let deadline = match patience {
                Blocking::None => return Outcome::Busy,
                Blocking::WaitUntil(deadline) => Some(deadline),
                Blocking::Wait => None,
            };
            if self.owner_tid() == me {
                return Outcome::Deadlock;
            }
            if deadline.is_some_and(Deadline::has_passed) {
                return Outcome::TimedOut;
            }
            let until = Deadline::next_recheck(deadline);
            // SAFETY: the caller's promise.
            match unsafe { self.clocklock(until) } {
                Outcome::TimedOut => {}
                outcome => return outcome,
            }
        }
    }

    /// [`pthread_mutex_trylock(3p)`](https://man7.org/linux/man-pages/man3/pthread_mutex_trylock.3p.html).
    /// To the holder of a mutex without priority inheritance it says `Deadlock`.
    ///
    /// # Safety
    ///
    /// As for [`acquire`](Self::acquire).
    pub(super) unsafe fn trylock(&self) -> Outcome {
        // glibc's (2.36 and 2.41) leaves such a mutex locked by the caller.
        if self.is_unrecoverable() {
            return Outcome::NotRecoverable;
        }
        // SAFETY: the caller's promise.
        Outcome::from_errno(unsafe { libc::pthread_mutex_trylock(self.as_ptr()) })
    }

    /// # Safety
    ///
    /// As for [`acquire`](Self::acquire).
    unsafe fn clocklock(&self, deadline: Deadline) -> Outcome {
        let until = deadline.to_timespec();
        // SAFETY: the caller's promise; `until` outlives the call.
        Outcome::from_errno(punctually(deadline, || unsafe {
            pthread_mutex_clocklock(self.as_ptr(), libc::CLOCK_MONOTONIC, &raw const until)
        }))
    }

    /// Gives back a mutex that was made unrecoverable while the thread `me` tried to
    /// take it: glibc's `pthread_mutex_trylock` has said so and kept it locked.
    fn release_unrecoverable(&self, me: u32) {
        // Relaxed: there is no data that anybody may use.
        let freed = self
            .futex_word()
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                (word & libc::FUTEX_TID_MASK == me).then_some(0)
            });
        if freed.is_ok() {
            futex::wake(self.futex_word(), Wake::All);
        }
    }

    /// Gives the mutex back. Says `false`, and does nothing, if the caller does not
    /// hold it.
    ///
    /// # Safety
    ///
    /// It is initialised, and `me` is the caller.
    #[inline]
    pub(crate) unsafe fn unlock(&self, me: LockOwner) -> bool {
        let words = self.glibc();
        match me.robust_list_for(words) {
            // SAFETY: the caller's promise.
            Some(list) => unsafe { list.unlock(words) },
            // SAFETY: the caller's promise.
            None => unsafe { self.unlock_other(me) },
        }
    }

    /// Unlocks a mutex that is not of the usual kind, or that this thread can't unlock
    /// without libc.
    ///
    /// # Safety
    ///
    /// As for [`unlock`](Self::unlock).
    #[cold]
    unsafe fn unlock_other(&self, me: LockOwner) -> bool {
        match self.pi_list_for(me) {
            // SAFETY: the caller's promise; the list is the answer of this mutex.
            Some(list) => unsafe { self.unlock_pi(list) }.is_some(),
            // SAFETY: the caller's promise.
            None => unsafe { self.unlock_with_libc() },
        }
    }

    /// Unlocks a mutex with priority inheritance. Returns where on the thread's list it
    /// was. Returns `None`, and does nothing, if the caller does not hold it.
    ///
    /// # Safety
    ///
    /// It is initialised. `list` is what [`pi_list_for`](Self::pi_list_for)
    /// has said to the caller.
    pub(crate) unsafe fn unlock_pi(&self, list: RobustList) -> Option<Position> {
        // SAFETY: the caller's promise: initialised, of the kind that `list` can hold, and
        // mapped, because `self` borrows it.
        unsafe { inheriting::unlock(list, self.glibc()) }
    }

    /// [`pthread_mutex_unlock(3p)`](https://man7.org/linux/man-pages/man3/pthread_mutex_unlock.3p.html).
    /// After [`Outcome::OwnerDied`] without [`consistent`](Self::consistent) nobody can
    /// lock it any more.
    ///
    /// # Safety
    ///
    /// It is initialised. Whether the caller holds it is checked by pthread, as for
    /// every robust mutex.
    pub(crate) unsafe fn unlock_with_libc(&self) -> bool {
        // SAFETY: the caller's promise.
        unsafe { libc::pthread_mutex_unlock(self.as_ptr()) == 0 }
    }

    /// For [`pthread_cond_wait`](super::cond), which takes both objects.
    pub(super) fn as_mut_ptr(&self) -> *mut libc::pthread_mutex_t {
        self.as_ptr()
    }

    /// The words of which glibc's mutex consists, whatever they hold.
    #[inline]
    pub(super) fn glibc(&self) -> &GlibcMutex {
        // SAFETY: a pthread_mutex_t is as large as its words, aligned for them, and any
        // bytes are valid as them.
        unsafe { &*self.as_ptr().cast() }
    }

    /// The futex word that the kernel's robust list protocol works on
    /// ([futex documentation](https://docs.kernel.org/locking/robust-futex-ABI.html)):
    /// thread id of the holder, `FUTEX_OWNER_DIED`, `FUTEX_WAITERS`.
    #[inline]
    fn futex_word(&self) -> &AtomicU32 {
        &self.glibc().lock
    }

    fn word(&self) -> u32 {
        // Relaxed: a snapshot; whoever acts on it takes the lock first.
        self.futex_word().load(Ordering::Relaxed)
    }

    /// The holder's thread id, or 0 if there is none now.
    pub(crate) fn owner_tid(&self) -> u32 {
        self.word() & libc::FUTEX_TID_MASK
    }

    /// Whether the holder died and nobody has locked the mutex since.
    pub(crate) fn owner_died(&self) -> bool {
        self.word() & libc::FUTEX_OWNER_DIED != 0
    }

    /// Whether somebody sleeps until the mutex is given back, or did.
    pub(crate) fn has_waiters(&self) -> bool {
        self.word() & libc::FUTEX_WAITERS != 0
    }

    /// Whether it inherits priorities.
    pub(crate) fn has_priority_inheritance(&self) -> bool {
        self.glibc().has_priority_inheritance()
    }

    /// Whether it was given back without having been made consistent.
    pub(crate) fn is_unrecoverable(&self) -> bool {
        self.glibc().is_unrecoverable()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::process::ThreadState;

    fn me() -> LockOwner {
        ThreadState::with(|me| me.map(ThreadState::owner)).expect("this thread knows itself")
    }

    fn mutex(protocol: Protocol) -> Box<PthreadMutex> {
        let mutex = Box::new(PthreadMutex::new());
        // SAFETY: it is this test's own and stays in its box.
        unsafe { mutex.init(protocol) }.expect("it can be made");
        mutex
    }

    fn lock(mutex: &PthreadMutex, by: LockOwner) -> Outcome {
        if !by.knows_its_list() {
            // SAFETY: initialised; it outlives the threads of its test.
            return unsafe { mutex.trylock() };
        }
        // SAFETY: initialised; it outlives the threads of its test.
        unsafe { mutex.lock(by, Blocking::None) }
    }

    fn unlock(mutex: &PthreadMutex, by: LockOwner) -> bool {
        // SAFETY: initialised.
        unsafe { mutex.unlock(by) }
    }

    /// Of a mutex that is not in use, or of this thread.
    fn bytes(mutex: &PthreadMutex) -> [u64; 5] {
        // SAFETY: a pthread_mutex_t has at least 40 bytes.
        unsafe { mutex.as_ptr().cast::<[u64; 5]>().read() }
    }

    /// All that follows about libc's inside would be for nothing.
    #[test]
    fn smoke() {
        assert!(
            me().knows_its_list(),
            "this libc's mutexes are not as they were"
        );
    }

    #[test]
    fn it_leaves_what_libc_leaves() {
        let libc = me().without_list();
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
                assert_eq!(bytes(&mutex), free, "{protocol:?} {by:?}");
                assert!(!unlock(&mutex, by));
            }
        }
    }

    /// libc's own way is not taken: see [`inheriting`].
    #[test]
    fn unknown_libc_refuses_priority_inheritance() {
        let (mutex, libc) = (mutex(Protocol::PriorityInheritance), me().without_list());
        assert!(mutex.has_priority_inheritance());
        // SAFETY: initialised.
        let outcome = unsafe { mutex.lock(libc, Blocking::Wait) };
        assert_eq!(outcome, Outcome::Failed(libc::ENOTSUP));
    }

    /// What a holder leaves that the kernel did not let hand the mutex on.
    #[test]
    fn word_with_waiters_and_no_owner_is_locked_by_the_kernel() {
        let mutex = mutex(Protocol::PriorityInheritance);
        let waiters = libc::FUTEX_WAITERS;
        for patience in [
            Blocking::None,
            Blocking::Wait,
            Blocking::WaitUntil(Deadline::now()),
        ] {
            mutex.futex_word().store(waiters, Ordering::Relaxed);
            // SAFETY: initialised; it outlives this test's only thread.
            let outcome = unsafe { mutex.lock(me(), patience) };
            assert_eq!(outcome, Outcome::Acquired, "{patience:?}");
            assert!(unlock(&mutex, me()));
            assert_eq!(mutex.word(), 0);
        }
    }

    #[test]
    fn its_neighbours_on_the_list_may_be_of_any_kind() {
        let libc = me().without_list();
        let mutexes = [
            Protocol::None,
            Protocol::PriorityInheritance,
            Protocol::None,
            Protocol::PriorityInheritance,
        ]
        .map(mutex);
        let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]];
        for (take, leave) in orders
            .iter()
            .flat_map(|take| orders.map(|leave| (take, leave)))
        {
            for &i in take {
                let by = if leave[0] == i { libc } else { me() };
                assert_eq!(lock(&mutexes[i], by), Outcome::Acquired);
            }
            for i in leave {
                let by = if take[0] == i { libc } else { me() };
                assert!(unlock(&mutexes[i], by));
            }
        }
        // The list is whole: the kernel finds all of it.
        std::thread::scope(|s| {
            s.spawn(|| {
                for mutex in &mutexes {
                    assert_eq!(lock(mutex, me()), Outcome::Acquired);
                }
                assert!(unlock(&mutexes[2], me()));
                assert_eq!(lock(&mutexes[2], me().without_list()), Outcome::Acquired);
            });
        });
        for mutex in &mutexes {
            // The thread may be joined before the kernel has looked for its locks.
            // SAFETY: initialised.
            let outcome = unsafe { mutex.lock(me(), Blocking::Wait) };
            assert_eq!(outcome, Outcome::OwnerDied);
            // SAFETY: held after that.
            unsafe { mutex.consistent(me()) }.expect("it is held");
            assert!(unlock(mutex, me()));
        }
    }

    /// What glibc's `pthread_mutex_trylock` does to it, and what `trylock` can't
    /// foresee.
    #[test]
    fn an_unrecoverable_mutex_is_given_back_whoever_kept_it_locked() {
        unrecoverable_is_given_back(Protocol::None);
        unrecoverable_is_given_back(Protocol::PriorityInheritance);
    }

    fn unrecoverable_is_given_back(protocol: Protocol) {
        let (mutex, libc) = (mutex(protocol), me().without_list());
        std::thread::scope(|s| {
            s.spawn(|| assert_eq!(lock(&mutex, me()), Outcome::Acquired));
        });
        // The thread may be joined before the kernel has looked for its locks.
        // SAFETY: initialised.
        let died = unsafe { libc::pthread_mutex_lock(mutex.as_ptr()) };
        assert_eq!(died, libc::EOWNERDEAD);
        // Without `pthread_mutex_consistent`.
        // SAFETY: initialised, and held by this thread.
        assert!(unsafe { mutex.unlock_with_libc() });
        let lockers = match protocol {
            Protocol::None => vec![libc, me()],
            Protocol::PriorityInheritance => vec![me()],
        };
        for by in lockers {
            // SAFETY: initialised.
            let code = unsafe { libc::pthread_mutex_trylock(mutex.as_ptr()) };
            assert_eq!(code, libc::ENOTRECOVERABLE);
            for patience in [Blocking::None, Blocking::Wait] {
                // SAFETY: initialised.
                let outcome = unsafe { mutex.lock(by, patience) };
                assert_eq!(outcome, Outcome::NotRecoverable);
                assert_eq!(mutex.owner_tid(), 0, "{by:?} {patience:?}");
            }
        }
    }
}

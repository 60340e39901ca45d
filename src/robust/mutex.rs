//! A robust mutex as an object in memory: its initialisation and its state.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use super::layout::{LastOwner, MutexWords, holder_in};
use super::owner::{LockOwner, Method};
use crate::os::futex::{self, FUTEX_WAITERS};
use crate::os::pthread::{Protocol, PthreadMutex};

/// A robust `pthread_mutex_t` at its final address.
///
/// It is uninitialised until [`init`](Self::init). Any bytes are valid.
#[repr(transparent)]
pub(crate) struct RobustMutex(PthreadMutex);

impl RobustMutex {
    /// Returns an uninitialised mutex.
    pub(crate) const fn new() -> Self {
        Self(PthreadMutex::new())
    }

    /// Initialises the mutex.
    ///
    /// # Safety
    ///
    /// * No thread uses the mutex during the call.
    /// * No thread holds it or waits for it, if it was initialised before.
    /// * It stays at this place in its memory object for as long as it is used.
    pub(crate) unsafe fn init(&self, protocol: Protocol) -> io::Result<()> {
        // SAFETY: no thread uses, holds or waits for the mutex, and it stays in its
        // place, as the caller promises.
        unsafe { self.0.init(protocol) }
    }

    /// Returns the mutex for calls into libc.
    pub(crate) fn as_pthread(&self) -> &PthreadMutex {
        &self.0
    }

    #[inline]
    pub(super) fn words(&self) -> &MutexWords {
        MutexWords::of(&self.0)
    }

    /// Returns whether libc must lock and unlock the mutex for the calling thread,
    /// `me`.
    #[inline]
    pub(crate) fn needs_libc(&self, me: LockOwner) -> bool {
        matches!(me.method_for(self.words()), Method::Libc)
    }

    /// Returns whether libc must not be called with these bytes, because their kind is
    /// unknown or has priority inheritance. With such bytes, glibc may change the
    /// priority of the caller, or end the process.
    pub(crate) fn is_unsafe_for_libc(&self, me: LockOwner) -> bool {
        me.knows_layout() && self.needs_libc(me) || self.has_priority_inheritance()
    }

    /// Returns whether the calling thread, `me`, holds the mutex.
    #[inline]
    pub(crate) fn is_held_by(&self, me: LockOwner) -> bool {
        self.words().is_held_by(me.tid())
    }

    /// Marks the mutex as consistent after an owner death. Unlocks it if libc refuses
    /// that. All later lockers then get
    /// [`Outcome::NotRecoverable`](crate::os::pthread::Outcome::NotRecoverable).
    ///
    /// # Errors
    ///
    /// The error of `pthread_mutex_consistent`, which is not known to occur.
    ///
    /// # Safety
    ///
    /// * The mutex is initialised.
    /// * The calling thread, `me`, holds it after
    ///   [`Outcome::OwnerDied`](crate::os::pthread::Outcome::OwnerDied).
    pub(crate) unsafe fn mark_consistent(&self, me: LockOwner) -> io::Result<()> {
        if self.needs_libc(me) {
            // SAFETY: the mutex is initialised, and the caller holds it after the owner
            // death, as the caller promises.
            return unsafe { self.0.consistent() }.inspect_err(|_| {
                // SAFETY: the mutex is initialised, as the caller promises.
                unsafe { self.0.unlock() };
            });
        }
        self.words().mark_consistent(me.tid());
        Ok(())
    }

    pub(super) fn lock_word(&self) -> u32 {
        // Relaxed: a snapshot. A caller that acts on it locks first.
        self.words().lock.load(Ordering::Relaxed)
    }

    /// Returns the holder's thread id, or 0 if no thread holds the mutex.
    #[inline]
    pub(crate) fn owner_tid(&self) -> u32 {
        self.words().holder()
    }

    /// Returns the holder's thread id, or 0, by a sequentially consistent load.
    #[inline]
    pub(crate) fn owner_tid_seq_cst(&self) -> u32 {
        holder_in(self.words().lock.load(Ordering::SeqCst))
    }

    /// Marks the lock word with `FUTEX_WAITERS`, if a thread holds the mutex. An unlock
    /// and the kernel then wake one waiter on the word. Returns the word and its value,
    /// or `None` if no thread holds the mutex.
    pub(crate) fn watch(&self) -> Option<(&AtomicU32, u32)> {
        let word = &self.words().lock;
        let (relaxed, is_held) = (Ordering::Relaxed, |word| holder_in(word) != 0);
        let marked = word.fetch_update(relaxed, relaxed, |word| {
            is_held(word).then_some(word | FUTEX_WAITERS)
        });
        marked.ok().map(|held| (word, held | FUTEX_WAITERS))
    }

    /// Moves all waiters of another futex word to the queue of this mutex, and marks
    /// the lock word with `FUTEX_WAITERS`. Then each unlock wakes a waiter, also one by
    /// C code. Returns how many waiters have moved, or `None` if the kernel refuses the
    /// call.
    ///
    /// The calling thread holds the mutex, which has no priority inheritance. It must
    /// have changed `from`: see [`futex::move_waiters`].
    pub(crate) fn take_waiters_of(&self, from: &AtomicU32) -> Option<usize> {
        let (word, _) = self.watch()?;
        futex::move_waiters(from, word).ok()
    }

    /// Returns whether the holder died and no thread has locked the mutex since.
    pub(crate) fn owner_died(&self) -> bool {
        self.words().owner_died()
    }

    /// Returns whether a thread waits for the mutex, or has waited for it.
    pub(crate) fn has_waiters(&self) -> bool {
        self.lock_word() & FUTEX_WAITERS != 0
    }

    /// Returns whether the mutex has priority inheritance.
    pub(crate) fn has_priority_inheritance(&self) -> bool {
        self.words().has_priority_inheritance()
    }

    /// Returns whether a thread has unlocked the mutex after an owner death without
    /// making it consistent.
    pub(crate) fn is_unrecoverable(&self) -> bool {
        self.words().is_unrecoverable()
    }

    /// Returns the thread that holds the mutex, or died while it held it, as far as
    /// libc's words tell.
    pub(crate) fn last_owner(&self) -> LastOwner {
        self.words().last_owner()
    }
}

//! The state of a thread that locks: its identity, and how many robust locks it holds.
//!
//! # Identity
//!
//! A robust mutex names its holder by thread id. So for every lock, this crate must
//! know the id of the calling thread, and the pid namespace in which that id has a
//! meaning. Reading them from the kernel each time would cost more than the lock. So
//! each thread caches them. The cache is valid for as long as its [`ForkMarker`] is
//! current.
//!
//! # Room for one more lock
//!
//! When a thread ends, the kernel walks its list from the front and stops after
//! [`MAX_ROBUST_LOCKS`] entries. If the list is longer, the kernel does not recover the
//! *oldest* locks, whichever code has locked them: this crate, another copy of it in
//! the same process, or C code. So before each lock, this crate must know that the list
//! is shorter.
//!
//! There is room if the list is empty. A thread that locks one mutex at a time counts
//! nothing.
//!
//! At the first nested lock, the thread walks the list, and then locks. From then on it
//! keeps an upper bound for the length of the list (`entries`), and the entry that was
//! the first when the bound was right (`top`). All code puts new entries in front. So
//! if the first entry is still `top`, and `top` has been on the list all the time, no
//! code has added an entry, and the bound is right. Otherwise the thread walks again.
//!
//! `top` has certainly been on the list all the time if this copy of the crate holds
//! it: a mutex stays on the list for as long as its guard exists. Those mutexes that
//! the thread has locked since the walk are counted: they are `entries` - `walked`, and
//! they lie together. So after an unlock of `top`, the next entry is the new `top` if a
//! counted one is left. If none is left, the next entry may belong to other code. That
//! code may unlock the mutex, lock others, and lock it again. Then it is the first
//! entry, with more entries behind it. So in this case there is no `top`, and the next
//! nested lock walks.
//!
//! If all robust mutexes of a thread belong to this copy of the crate, a walk after
//! that has one step, however deep they nest: the mutex that was locked first. A thread
//! in which other code holds some walks over those. A walk has as many steps as there
//! are entries, and [`MAX_ROBUST_LOCKS`] at most.
//!
//! Two things are not prevented. Other code may lock beyond the limit *after* this
//! crate. And code that unlocks a mutex whose guard still exists, or was leaked, can
//! make this crate count one entry too few.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::AtomicU32;

use super::deferred_wakes::DeferredWakes;
use super::layout::Entry;
use super::list::{Position, RobustList};
use super::mutex::RobustMutex;
use super::owner::LockOwner;
use super::thread_id::ThreadId;
use crate::error::IdentityError;
use crate::os::fork::ForkMarker;
use crate::os::futex::Wake;
use crate::os::process;
use crate::os::robust_list::MAX_ROBUST_LOCKS;

/// Whether the next lock of the calling thread is counted. There is room for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// The list has entries, which are counted.
    is_nested: bool,
}

impl Room {
    /// The lock is not counted: libc has locked again what the thread had unlocked.
    pub(crate) const NOT_COUNTED: Self = Self { is_nested: false };
}

/// The cached identity of a thread, and the number of its locks.
pub(crate) struct ThreadState {
    /// The marker of the process that the thread belongs to.
    marker: Cell<ForkMarker>,
    id: Cell<ThreadId>,
    owner: Cell<LockOwner>,
    /// The first entry of the thread's robust list when `entries` was right. Null if
    /// `entries` may be wrong.
    top: Cell<Entry>,
    /// The list has no more entries than this, if `top` is the first one.
    entries: Cell<u32>,
    /// How many of `entries` were there at the last walk.
    walked: Cell<u32>,
    /// The mutex that this copy of the crate has locked last, if it has unlocked none
    /// since. Otherwise null. Other code may have unlocked it.
    newest: Cell<*const RobustMutex>,
    wakes: DeferredWakes,
}

thread_local! {
    static THREAD: ThreadState = const {
        ThreadState {
            marker: Cell::new(ForkMarker::unset()),
            id: Cell::new(ThreadId::NONE),
            owner: Cell::new(LockOwner::NONE),
            top: Cell::new(ptr::null_mut()),
            entries: Cell::new(0),
            walked: Cell::new(0),
            newest: Cell::new(ptr::null()),
            wakes: DeferredWakes::none(),
        }
    };
}

impl ThreadState {
    /// Calls `f` with the cached state, valid or not.
    /// [`pid_namespace_fast`](Self::pid_namespace_fast) returns 0 if it is invalid.
    #[inline]
    pub(crate) fn with_cached<R>(f: impl FnOnce(&Self) -> R) -> R {
        // `f` is called outside of `with`, so that the compiler inlines it.
        let thread = THREAD.with(ptr::from_ref);
        // SAFETY: the variable has no destructor, so it is valid until its thread has
        // ended. This thread calls `f`, which can't keep the reference.
        f(unsafe { &*thread })
    }

    /// Calls `f` with the valid state of this thread, or with the reason why there is
    /// none. Refreshes the state after a fork.
    pub(crate) fn with<R>(f: impl FnOnce(Result<&Self, IdentityError>) -> R) -> R {
        THREAD.with(|thread| {
            if thread.marker.get().is_current() {
                return f(Ok(thread));
            }
            f(thread.refresh().map(|()| thread))
        })
    }

    /// Returns the marker of the process that this thread belongs to.
    #[inline]
    pub(crate) fn marker(&self) -> ForkMarker {
        self.marker.get()
    }

    /// Returns the pid namespace of this process, an inode number. The caller has got
    /// the state from [`with`](Self::with).
    #[inline]
    pub(crate) fn pid_namespace(&self) -> u32 {
        self.marker.get().pid_namespace()
    }

    /// Returns the pid namespace of this process, or 0 if the cached identity is
    /// invalid, or if only a system call can tell: see [`ForkMarker`].
    #[inline]
    pub(crate) fn pid_namespace_fast(&self) -> u32 {
        self.marker.get().pid_namespace_fast()
    }

    #[inline]
    pub(crate) fn id(&self) -> ThreadId {
        self.id.get()
    }

    /// Returns this thread as an owner of robust mutexes.
    #[inline]
    pub(crate) fn owner(&self) -> LockOwner {
        self.owner.get()
    }

    /// Returns this thread's list, if this crate locks and unlocks `mutex` by its
    /// words.
    #[inline]
    pub(crate) fn robust_list_for(&self, mutex: &RobustMutex) -> Option<RobustList> {
        self.owner.get().robust_list_for(mutex.words())
    }

    /// Returns the room for one more lock, if there certainly is some: the kernel would
    /// recover it. Does not walk a list that has entries, so it may return `None`
    /// although there is room.
    #[inline]
    pub(crate) fn room_without_walk(&self, list: RobustList) -> Option<Room> {
        let first = list.first();
        if list.is_head(first) {
            return Some(Room { is_nested: false });
        }
        self.has_counted_room(first)
            .then_some(Room { is_nested: true })
    }

    /// Returns whether the count, which is right if `first` is the top, leaves room.
    #[inline]
    fn has_counted_room(&self, first: Entry) -> bool {
        self.top.get() == first && self.entries.get() < MAX_ROBUST_LOCKS
    }

    /// Returns the room for one more lock, if the kernel would recover it. Walks the
    /// list if necessary.
    pub(crate) fn room(&self) -> Option<Room> {
        let first = self.owner.get().first_held();
        if !self.has_counted_room(first) {
            let held = self.owner.get().count_held();
            if held == 0 {
                return Some(Room { is_nested: false });
            }
            self.entries.set(held);
            self.walked.set(held);
            // Other code may hold the first mutex. If this thread gets the lock, that
            // one becomes the top.
            self.top.set(ptr::null_mut());
        }
        (self.entries.get() < MAX_ROBUST_LOCKS).then_some(Room { is_nested: true })
    }

    /// Records that the thread has locked one more mutex, which is now the first of its
    /// list.
    #[inline]
    pub(crate) fn push_lock(&self, room: Room) {
        if room.is_nested {
            self.entries.set(self.entries.get().wrapping_add(1));
            self.top.set(self.owner.get().first_held());
        }
    }

    /// Records that the thread has locked `mutex` last, and that it calls
    /// [`begin_unlock`](Self::begin_unlock) when it unlocks.
    #[inline]
    pub(crate) fn set_newest_lock(&self, mutex: &RobustMutex) {
        self.newest.set(mutex);
    }

    /// Records that the thread unlocks a mutex. Returns whether it must call
    /// [`pop_lock`](Self::pop_lock) and [`make_deferred_wakes`] after the unlock.
    ///
    /// [`make_deferred_wakes`]: Self::make_deferred_wakes
    #[inline]
    pub(crate) fn begin_unlock(&self) -> bool {
        self.newest.set(ptr::null());
        self.counts_locks() || self.wakes.has_word()
    }

    /// Returns whether the thread counts its locks.
    #[inline]
    fn counts_locks(&self) -> bool {
        !self.top.get().is_null()
    }

    /// Returns the newest lock of this thread, if its mutex lies at `address` and is
    /// free of priority inheritance, and if this copy of the crate will unlock it.
    ///
    /// `address` may come from memory that a stranger can write. It is only compared.
    pub(crate) fn newest_lock_at(&self, address: usize) -> Option<&RobustMutex> {
        let newest = self.newest.get();
        if newest.is_null() || newest.addr() != address || !self.marker.get().is_current() {
            return None;
        }
        // Other code may have unlocked the mutex, if its guard was leaked.
        if !self.owner.get().holds_as_first(newest.cast()) {
            return None;
        }
        // SAFETY: the first mutex on the list of this thread lies at this address. The
        // thread holds it. So the code that has locked it keeps it mapped until the
        // thread unlocks it. The caller can't keep the reference beyond its use of the
        // state.
        let newest = unsafe { &*newest };
        self.robust_list_for(newest).map(|_| newest)
    }

    /// Lets the next unlock of this thread wake one waiter of `word`.
    pub(crate) fn defer_wake(&self, word: &AtomicU32) {
        self.wakes.add_one(word);
    }

    /// Lets the next unlock of this thread wake so many waiters of the mutex.
    pub(crate) fn wake_lockers_at_unlock(&self, count: u32) {
        self.wakes.set_lockers(count);
    }

    /// Returns how many waiters of the mutex the present unlock wakes.
    pub(crate) fn take_lockers_to_wake(&self) -> Wake {
        self.wakes.take_lockers()
    }

    /// Makes the wake-ups that this thread has deferred.
    pub(crate) fn make_deferred_wakes(&self) {
        self.wakes.wake();
    }

    /// Records that the thread has unlocked a mutex, whose position on the list was
    /// `was`. If the mutex was locked before the walk, the number of the later ones
    /// becomes too small by one, so the next walk may come earlier.
    pub(crate) fn pop_lock(&self, was: Position) {
        if !self.counts_locks() {
            return;
        }
        let left = self.entries.get().saturating_sub(1);
        self.entries.set(left);
        if self.top.get() == was.entry {
            let is_next_counted = left > self.walked.get();
            self.top.set(if is_next_counted {
                was.next
            } else {
                ptr::null_mut()
            });
        }
    }

    /// Records that the thread has one guard less, whose mutex libc or other code has
    /// unlocked. The next nested lock walks the list.
    #[cold]
    pub(crate) fn forget_lock(&self) {
        self.top.set(ptr::null_mut());
    }

    /// Reads the identity of this thread from the kernel and libc.
    #[cold]
    fn refresh(&self) -> Result<(), IdentityError> {
        let id = ThreadId::new(std::process::id(), process::gettid());
        let owner = LockOwner::of_this_thread(id.tid(), self.owner.get())?;
        let marker = ForkMarker::of_this_process()?;
        self.id.set(id);
        self.owner.set(owner);
        // A new thread, and the only thread of a forked child, hold no locks of this
        // copy of the crate.
        self.top.set(ptr::null_mut());
        self.newest.set(ptr::null());
        self.wakes.clear();
        self.marker.set(marker);
        Ok(())
    }
}

/// Returns the marker of this process, which is not current in a forked child.
///
/// # Errors
///
/// This thread can't own robust mutexes.
pub(crate) fn current_marker() -> Result<ForkMarker, IdentityError> {
    ThreadState::with(|me| me.map(ThreadState::marker))
}

/// Returns the pid namespace of this process.
///
/// # Errors
///
/// This thread can't own robust mutexes.
pub(crate) fn pid_namespace() -> Result<u32, IdentityError> {
    ThreadState::with(|me| me.map(ThreadState::pid_namespace))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::os::pthread::{Outcome, Protocol};
    use crate::robust::{Blocking, Queued, Unlock};

    #[test]
    fn smoke() {
        let (id, namespace) =
            ThreadState::with(|me| me.map(|me| (me.id(), me.pid_namespace()))).unwrap();
        assert_eq!(id.pid(), std::process::id());
        assert_eq!(id.tid(), process::gettid());
        assert_ne!(namespace, 0);
    }

    #[test]
    fn threads_share_the_namespace_but_not_the_id() {
        let ask = || ThreadState::with(|me| me.map(|me| (me.pid_namespace(), me.id()))).unwrap();
        let here = ask();
        let there = std::thread::spawn(ask).join().unwrap();
        assert_eq!(here.0, there.0);
        assert_eq!(here.1.pid(), there.1.pid());
        assert_ne!(here.1.tid(), there.1.tid());
    }

    #[derive(Clone, Copy, Debug)]
    enum Code {
        /// This copy of the crate.
        Ours,
        /// This copy of the crate, which does not get the lock.
        OursInVain,
        /// libc, called by other code.
        Other,
    }

    /// Locks or unlocks each mutex that `steps` name, in one thread. After each step,
    /// the count must not be below the number of mutexes on the list. Returns after
    /// which steps there is a count.
    fn count_is_never_too_low_after(steps: &[(usize, Code)]) -> Vec<bool> {
        let mutexes: Vec<_> = (0..8).map(|_| Box::new(RobustMutex::new())).collect();
        for mutex in &mutexes {
            // SAFETY: no thread uses the mutex, and it stays in its box.
            unsafe { mutex.init(Protocol::None) }.unwrap();
        }
        let mut holders = [None; 8];
        let mut has_count = Vec::new();
        ThreadState::with(|me| {
            let me = me.unwrap();
            let owner = me.owner();
            let unlock = |index: usize, holder| {
                let mutex: &RobustMutex = &mutexes[index];
                match holder {
                    Code::OursInVain => unreachable!("it holds nothing"),
                    Code::Ours => {
                        // SAFETY: the mutex is initialised. `owner` is this thread.
                        let unlock = unsafe { mutex.unlock(owner, || (), Wake::One) };
                        let Unlock::Removed(was) = unlock else {
                            panic!("{unlock:?}");
                        };
                        me.pop_lock(was);
                    }
                    // SAFETY: the mutex is initialised.
                    Code::Other => assert!(unsafe { mutex.as_pthread().unlock() }),
                }
            };
            for &(index, code) in steps {
                match (holders[index].take(), code) {
                    (holder, Code::OursInVain) => {
                        me.room().unwrap();
                        holders[index] = holder;
                    }
                    (Some(holder), _) => unlock(index, holder),
                    (None, Code::Ours) => {
                        let room = me.room().unwrap();
                        // SAFETY: the mutex is initialised, and outlives the lock.
                        // `owner` is this thread.
                        let outcome =
                            unsafe { mutexes[index].lock(owner, Blocking::Try, Queued::No) };
                        assert_eq!(outcome, Outcome::Acquired);
                        me.push_lock(room);
                        holders[index] = Some(code);
                    }
                    (None, Code::Other) => {
                        // SAFETY: the mutex is initialised, and outlives the lock.
                        let outcome = unsafe { mutexes[index].as_pthread().trylock() };
                        assert_eq!(outcome, Outcome::Acquired);
                        holders[index] = Some(code);
                    }
                }
                if me.top.get() == owner.first_held() {
                    assert!(
                        me.entries.get() >= owner.count_held(),
                        "after {code:?} {index}"
                    );
                }
                has_count.push(me.counts_locks());
            }
            for (index, holder) in holders.into_iter().enumerate() {
                holder.into_iter().for_each(|holder| unlock(index, holder));
            }
            assert_eq!(owner.count_held(), 0);
        });
        has_count
    }

    proptest! {
        #[test]
        fn count_is_never_too_low(
            steps in prop::collection::vec(
                (0_usize..8, prop_oneof![Just(Code::Ours), Just(Code::OursInVain), Just(Code::Other)]),
                0..60,
            )
        ) {
            count_is_never_too_low_after(&steps);
        }
    }

    /// However deep locks nest, the next one walks over the oldest at most.
    #[test]
    fn unlock_of_the_newest_keeps_the_count() {
        let counts = |steps: &[(usize, Code)]| {
            let counts = count_is_never_too_low_after(steps);
            counts.into_iter().map(u8::from).collect::<Vec<_>>()
        };
        let [a, b, c, d] = [0, 1, 2, 3].map(|index| (index, Code::Ours));
        assert_eq!(counts(&[a, a, b, b]), [0, 0, 0, 0]);
        assert_eq!(counts(&[a, b, b, c]), [0, 1, 0, 1]);
        assert_eq!(counts(&[a, b, c, d, d, d, d, c]), [0, 1, 1, 1, 1, 1, 1, 1]);
        // The mutex of the other code may get entries behind it.
        let x = (4, Code::Other);
        assert_eq!(counts(&[x, a, a, a]), [0, 1, 0, 1]);
    }
}

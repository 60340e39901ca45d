//! The subject of the experiments: a lock over two numbers, and a condition variable.

use std::ops::DerefMut;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use shm_sync::{LockResult, Poisoned, ShmCondvar, ShmMutex, ShmMutexGuard, ShmSafe};

use crate::support::{LOCK_WORD, Pair};

/// A lock and a condition variable whose operations can be killed.
pub(crate) trait Subject: ShmSafe {
    /// The heading of its table, or the text in the table of subjects with a mistake.
    const NAME: &'static str;

    type Guard<'a>: DerefMut<Target = Pair>
    where
        Self: 'a;

    fn new() -> Self;

    fn lock(&self) -> LockResult<Self::Guard<'_>>;
    fn try_lock(&self) -> LockResult<Self::Guard<'_>>;
    fn try_lock_for(&self, timeout: Duration) -> LockResult<Self::Guard<'_>>;
    fn recover<'a>(
        &'a self,
        poisoned: Poisoned<Self::Guard<'a>>,
        repair: impl FnOnce(&mut Pair),
    ) -> Self::Guard<'a>;

    fn wait<'a>(&'a self, guard: Self::Guard<'a>) -> LockResult<Self::Guard<'a>>;
    /// Does not return whether the wait timed out.
    fn wait_timeout<'a>(
        &'a self,
        guard: Self::Guard<'a>,
        timeout: Duration,
    ) -> LockResult<Self::Guard<'a>>;
    fn notify_one(&self);
    fn notify_all(&self);

    /// Returns the word at an offset, if it has a name.
    fn name_of(offset: usize) -> Option<Word> {
        let _ = offset;
        None
    }

    /// Returns the number of notifications, if it is visible.
    fn notifications(&self) -> Option<u32> {
        None
    }

    /// Returns a copy of its bytes. Other processes may write to them.
    fn words(&self) -> Vec<u32> {
        let begin = std::ptr::from_ref(self).cast::<u32>();
        (0..size_of::<Self>() / size_of::<u32>())
            .map(|at| {
                let word = begin.wrapping_add(at);
                // SAFETY: the word is inside `self`, which is aligned for `u32`. The
                // read is volatile, because other processes write to the memory.
                unsafe { word.read_volatile() }
            })
            .collect()
    }
}

/// The words of shared memory that the arguments in the library name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Lock,
    /// glibc's owner field, which also marks an inconsistent mutex.
    PthreadOwner,
    Holder,
    Poison,
    Poisonings,
    Sequence,
    DistanceToMutex,
    Waiters,
    Data,
}

pub(crate) const WITHOUT_PROTOCOL: &str = "Mutexes without a protocol";
pub(crate) const WITH_INHERITANCE: &str = "Mutexes with priority inheritance";

/// The library's mutex and condition variable.
pub(crate) type Ours = Library<false>;

/// The library's mutex with priority inheritance.
pub(crate) type PriorityInheritance = Library<true>;

#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Library<const PRIORITY_INHERITANCE: bool> {
    pair: ShmMutex<Pair>,
    changed: ShmCondvar,
}

/// Returns the word at an offset of a mutex: see docs/format.md.
pub(crate) fn word_of_mutex(offset: usize) -> Option<Word> {
    /// The length of a `pthread_mutex_t`, which differs between processors.
    const PTHREAD: usize = size_of::<libc::pthread_mutex_t>();
    match offset {
        LOCK_WORD => return Some(Word::Lock),
        8 if cfg!(target_env = "gnu") => return Some(Word::PthreadOwner),
        _ => {}
    }
    match offset.checked_sub(PTHREAD)? {
        0 | 4 => Some(Word::Holder),
        8 | 12 => Some(Word::Poison),
        20 => Some(Word::Poisonings),
        24.. => Some(Word::Data),
        _ => None,
    }
}

const SEQUENCE_AT: usize = size_of::<ShmMutex<Pair>>();

impl<const PRIORITY_INHERITANCE: bool> Subject for Library<PRIORITY_INHERITANCE> {
    const NAME: &'static str = if PRIORITY_INHERITANCE {
        WITH_INHERITANCE
    } else {
        WITHOUT_PROTOCOL
    };

    type Guard<'a> = ShmMutexGuard<'a, Pair>;

    fn new() -> Self {
        Self {
            pair: if PRIORITY_INHERITANCE {
                ShmMutex::with_priority_inheritance(ZEROS)
            } else {
                new_pair()
            },
            changed: ShmCondvar::new(),
        }
    }

    fn lock(&self) -> LockResult<Self::Guard<'_>> {
        self.pair.lock()
    }

    fn try_lock(&self) -> LockResult<Self::Guard<'_>> {
        self.pair.try_lock()
    }

    fn try_lock_for(&self, timeout: Duration) -> LockResult<Self::Guard<'_>> {
        self.pair.try_lock_for(timeout)
    }

    fn recover<'a>(
        &'a self,
        poisoned: Poisoned<Self::Guard<'a>>,
        repair: impl FnOnce(&mut Pair),
    ) -> Self::Guard<'a> {
        poisoned.recover(repair)
    }

    fn wait<'a>(&'a self, guard: Self::Guard<'a>) -> LockResult<Self::Guard<'a>> {
        self.changed.wait(guard)
    }

    fn wait_timeout<'a>(
        &'a self,
        guard: Self::Guard<'a>,
        timeout: Duration,
    ) -> LockResult<Self::Guard<'a>> {
        self.changed
            .wait_timeout(guard, timeout)
            .map(|(guard, _)| guard)
    }

    fn notify_one(&self) {
        self.changed.notify_one();
    }

    fn notify_all(&self) {
        self.changed.notify_all();
    }

    fn name_of(offset: usize) -> Option<Word> {
        match offset {
            SEQUENCE_AT => Some(Word::Sequence),
            _ if offset == SEQUENCE_AT + 4 => Some(Word::Waiters),
            _ if offset == SEQUENCE_AT + 8 || offset == SEQUENCE_AT + 12 => {
                Some(Word::DistanceToMutex)
            }
            _ => word_of_mutex(offset),
        }
    }

    fn notifications(&self) -> Option<u32> {
        Some(self.words()[SEQUENCE_AT / size_of::<u32>()])
    }
}

const ZEROS: Pair = Pair {
    first: 0,
    second: 0,
};

pub(crate) fn new_pair() -> ShmMutex<Pair> {
    ShmMutex::new(ZEROS)
}

/// Adds to both numbers, one after the other. The accesses are volatile, because the
/// compiler may store two adjacent words by one instruction (`stp` on aarch64), even
/// across a compiler fence.
pub(crate) fn add(pair: &mut Pair, amount: u64) {
    for number in [&mut pair.first, &mut pair.second] {
        let number = std::ptr::from_mut(number);
        // SAFETY: the pointer is from a reference, so it is valid and aligned.
        let old = unsafe { number.read_volatile() };
        // SAFETY: as for the read.
        unsafe { number.write_volatile(old + amount) };
    }
}

/// A pair of atomic words.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct PairWords([AtomicU64; 2]);

impl PairWords {
    pub(crate) fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 2])
    }

    pub(crate) fn as_ptr(&self) -> *mut Pair {
        std::ptr::from_ref(&self.0).cast::<Pair>().cast_mut()
    }
}

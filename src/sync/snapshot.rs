//! The state of a primitive at one moment, as plain data.

use std::fmt;

use crate::error::PoisonCause;

/// The holder of a lock at one moment, for people and logs.
///
/// It may have unlocked since. It does not prove that the process is alive, nor that
/// the kernel has not given its id to another process.
/// [`inspect::Holder`](crate::inspect::Holder) has the state of the thread as well.
///
/// ```
/// use shm_sync::{Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let counter = Segment::anonymous(ShmMutex::new(0_u64))?;
/// let guard = counter.lock()?;
/// if let Some(holder) = counter.holder() {
///     println!("the counter is locked by {holder}");
/// }
/// # assert_eq!(counter.holder().map(|holder| holder.pid), Some(std::process::id()));
/// # drop(guard);
/// # Ok(())
/// # }
/// ```
///
/// In the cookbook: [a read-only monitor](crate::guide::cookbook#a-read-only-monitor).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Holder {
    /// The process id.
    pub pid: u32,
    /// The thread id.
    pub tid: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, tid } = self;
        write!(f, "process {pid}, thread {tid}")
    }
}

/// The state of a mutex. `H` describes the holder.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct MutexState<H> {
    /// The state of the lock.
    pub lock: LockState<H>,
    /// Why the data may be inconsistent. Includes an owner death that no locker has
    /// seen yet.
    pub poison: Option<PoisonCause>,
    /// How many times the mutex was poisoned. Wraps around.
    pub poison_count: u16,
    /// The waiters of the lock, as far as its word shows them.
    pub waiters: Waiters,
}

/// The state of a lock. `H` describes the holder.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum LockState<H> {
    /// The lock is not initialised.
    NotPlaced,
    /// No thread holds the lock.
    Free,
    /// A thread holds the lock.
    Held(H),
    /// The holder died, and no thread has locked since.
    OwnerDied,
    /// A program outside this crate left the pthread mutex unusable.
    NotRecoverable,
}

/// The waiters of a lock, as far as its word shows them.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Waiters {
    /// No waiter has marked the lock.
    NoneSeen,
    /// A thread waits, waited until a moment ago, or died waiting.
    Some,
}

/// The state of a [`ShmCondvar`](crate::ShmCondvar).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct CondvarState {
    /// The number of waiters, at most. Includes waiters that died while they waited.
    pub waiters: u32,
    /// The number of notifications. Wraps around.
    pub notifications: u32,
}

/// The state of a seat: a place that a thread holds for as long as it takes part. A
/// permit of a [`ShmSemaphore`](crate::ShmSemaphore), a
/// [`ShmLifeline`](crate::ShmLifeline), a member of a
/// [`ShmBarrier`](crate::ShmBarrier), an endpoint of a
/// [`ShmChannel`](crate::ShmChannel) and the access to a
/// [`ShmRwLock`](crate::ShmRwLock) are seats, for example. `H` describes the occupant.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SeatState<H> {
    /// The state of the seat: free if it is vacant, held if it is occupied, and
    /// [`OwnerDied`](LockState::OwnerDied) if its occupant has died and no thread has
    /// taken it since.
    pub lock: LockState<H>,
    /// A number that the type of the seat defines.
    pub note: u64,
    /// How many times a thread has taken the seat after the death of its occupant.
    /// Wraps around.
    pub deaths: u16,
}

/// The state of a [`ShmEvent`](crate::ShmEvent).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct EventState {
    /// Whether the event is set.
    pub is_set: bool,
    /// Whether a waiter resets it.
    pub resets_itself: bool,
    /// The number of waiters, at most. Includes waiters that died while they waited.
    pub waiters: u32,
}

impl<H> LockState<H> {
    /// Replaces the description of the holder.
    pub(crate) fn map_holder<K>(self, describe: impl FnOnce(H) -> K) -> LockState<K> {
        match self {
            Self::NotPlaced => LockState::NotPlaced,
            Self::Free => LockState::Free,
            Self::Held(holder) => LockState::Held(describe(holder)),
            Self::OwnerDied => LockState::OwnerDied,
            Self::NotRecoverable => LockState::NotRecoverable,
        }
    }
}

impl<H> SeatState<H> {
    /// Replaces the description of the occupant.
    pub(crate) fn map_holder<K>(self, describe: impl FnOnce(H) -> K) -> SeatState<K> {
        SeatState {
            lock: self.lock.map_holder(describe),
            note: self.note,
            deaths: self.deaths,
        }
    }
}

impl<H> MutexState<H> {
    /// Replaces the description of the holder.
    pub(crate) fn map_holder<K>(self, describe: impl FnOnce(H) -> K) -> MutexState<K> {
        MutexState {
            lock: self.lock.map_holder(describe),
            poison: self.poison,
            poison_count: self.poison_count,
            waiters: self.waiters,
        }
    }
}

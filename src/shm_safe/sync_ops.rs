//! The operations on a lock or a condition variable of which only the kind and the
//! address are known.

use std::io;

/// The operations on one kind of sync object.
#[doc(hidden)]
#[derive(Debug)]
pub struct SyncOps {
    /// The kind of the object.
    pub kind: SyncKind,
    /// The size in bytes. For a mutex, it is that of the lock without the data.
    pub size: usize,
    /// Writes the uninitialised value of this kind.
    ///
    /// # Safety
    ///
    /// * The pointer is valid for writes of an object of this kind, and aligned for it.
    /// * The bytes are zero.
    /// * No other thread or process uses the bytes while this runs.
    pub(crate) init_zeroed: unsafe fn(*mut u8),
    /// Initialises the object in its final place.
    ///
    /// # Safety
    ///
    /// * The pointer leads to an uninitialised object of this kind.
    /// * The object stays there.
    /// * No other thread or process uses the object while this runs.
    pub(crate) init: unsafe fn(*mut u8, InitContext) -> io::Result<()>,
    /// Reinitialises an object that was initialised elsewhere: in an earlier boot, in
    /// the file that this one is a copy of, or in the memory that this is a private
    /// copy of. Poisons a mutex that was held there, and orphans a seat.
    ///
    /// Any bytes will do, and a call that a crash cut short can be repeated.
    ///
    /// # Safety
    ///
    /// * The pointer leads to an object of this kind, mapped and writable.
    /// * The object stays there.
    /// * No live thread holds the object, waits for it or otherwise uses it at this
    ///   place.
    pub(crate) reinit: unsafe fn(*mut u8, InitContext) -> io::Result<()>,
    /// Returns whether a thread of this process holds the object. The kernel or libc
    /// may then still access its address.
    ///
    /// # Safety
    ///
    /// * The pointer leads to an initialised object of this kind.
    /// * The object stays mapped during the call.
    pub(crate) is_held_by_this_process: unsafe fn(*const u8) -> bool,
}

/// The kinds of sync objects, with their codes in a segment's lock table.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SyncKind {
    /// `ShmMutex`.
    Mutex = 1,
    /// `ShmCondvar`.
    Condvar = 2,
    /// `PthreadCondvar`.
    PthreadCondvar = 3,
    /// A seat: a part of `ShmSemaphore`, `ShmLifeline` and other primitives.
    Seat = 4,
    /// `ShmEvent`.
    Event = 5,
}

impl SyncKind {
    /// Returns the name of the public type, or of the part of public types.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mutex => "ShmMutex",
            Self::Condvar => "ShmCondvar",
            Self::PthreadCondvar => "PthreadCondvar",
            Self::Seat => "seat",
            Self::Event => "ShmEvent",
        }
    }

    /// Returns the kind with this code in a lock table.
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Mutex),
            2 => Some(Self::Condvar),
            3 => Some(Self::PthreadCondvar),
            4 => Some(Self::Seat),
            5 => Some(Self::Event),
            _ => None,
        }
    }
}

/// The data that a sync object stores when it is initialised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InitContext {
    /// The pid namespace of the threads that lock here. In private memory, the word
    /// that stands for the process instead: see `os::private_owner`.
    pub(crate) pid_namespace: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn each_kind_has_its_own_code_and_name() {
        let kinds = [
            SyncKind::Mutex,
            SyncKind::Condvar,
            SyncKind::PthreadCondvar,
            SyncKind::Seat,
            SyncKind::Event,
        ];
        assert_eq!(kinds.map(|kind| kind as u8), [1, 2, 3, 4, 5]);
        for kind in kinds {
            assert_eq!(SyncKind::from_code(kind as u8), Some(kind));
        }
        let names = [
            "ShmMutex",
            "ShmCondvar",
            "PthreadCondvar",
            "seat",
            "ShmEvent",
        ];
        assert_eq!(kinds.map(SyncKind::name), names);
    }

    #[test]
    fn numbers_are_documented() {
        let known = (0..=u8::MAX).filter_map(SyncKind::from_code);
        let names: Vec<_> = known
            .map(|kind| (format!("{kind:?}"), kind as u64))
            .collect();
        let rows: Vec<_> = names.iter().map(|(name, code)| (&**name, *code)).collect();
        documented::values("kind", &rows);
    }
}

//! The ordering of two accesses of which each thread makes one to its own word and one
//! to another thread's.

use std::fmt;

use loom::sync::atomic::{Ordering, fence};

/// The ordering of the two accesses of a thread. The code's is `SeqCst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pair {
    SeqCst,
    AcquireRelease,
}

impl Pair {
    /// Puts the fence between the two accesses.
    pub(super) fn order(self) {
        if self == Self::SeqCst {
            fence(Ordering::SeqCst);
        }
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SeqCst => "sequentially consistent",
            Self::AcquireRelease => "acquire and release only",
        })
    }
}

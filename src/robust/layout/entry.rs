//! What the layouts of all C libraries have in common.

use std::sync::atomic::AtomicPtr;

/// An entry of a robust list: a pointer to [`ListNode::next`] of a mutex or to
/// the field `list` of the head, perhaps with a flag in bit 0.
pub(crate) type Entry = *mut ();

/// The part of a mutex by which it is on the list of its holder.
#[repr(C)]
pub(in crate::robust) struct ListNode {
    pub(in crate::robust) prev: AtomicPtr<()>,
    pub(in crate::robust) next: AtomicPtr<()>,
}

/// The thread that holds a mutex, or held it last, as far as libc's words tell.
///
/// When the holder dies, the kernel removes its id from the lock word. glibc keeps the
/// id in another word, `__owner`, which the kernel does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "each libc has some of them")]
pub(crate) enum LastOwner {
    /// This thread holds the mutex, or died while it held the mutex.
    Thread(u32),
    /// libc has locked the mutex after an owner death, and its caller has not made it
    /// consistent.
    Inconsistent,
    /// The mutex is free or unrecoverable. Or its holder died within the few
    /// instructions before it wrote its id or after it removed it.
    NoThread,
    /// The holder died, and the words of this libc no longer name it.
    NotStored,
}

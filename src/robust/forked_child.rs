//! Empties the robust list of a forked child, which musl does not do.
//!
//! The mutexes on that list are those that the thread held at the fork. The parent
//! holds them still, often in memory that both processes share. musl has two faults
//! there (1.2.5). The next lock of the child writes into the first of these mutexes.
//! And when the thread of the child calls `pthread_exit` while other threads run, musl
//! releases all of them, without a look at the lock words.
//!
//! A handler of `pthread_atfork` empties the list. `_Fork` runs no handlers, so the
//! first lock by this crate empties the list as well. In a child of `_Fork`, C code
//! must not lock a private mutex before that and unlock it afterwards, if the mutex is
//! recursive, error-checking or robust: musl keeps each of these on the list, and the
//! unlock would empty the list once more.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::list::HeldLocks;
use crate::os::process;
use crate::os::pthread;
use crate::os::robust_list::RobustListHead;

/// The distance from the `pthread_t` of a thread to the head of its list, which is the
/// same for all threads. 0: not known yet.
static HEAD_OFFSET: AtomicUsize = AtomicUsize::new(0);

/// The thread in which the handler has run last. In a child of `_Fork` it is another
/// one.
static HANDLED: AtomicU32 = AtomicU32::new(0);

/// Installs the handler, if it is not installed yet. `head` is that of the calling
/// thread.
pub(super) fn prepare(head: NonNull<RobustListHead>) -> io::Result<()> {
    let offset = head.addr().get().wrapping_sub(pthread::own_handle().addr());
    if HEAD_OFFSET.swap(offset, Ordering::Relaxed) != 0 {
        return Ok(());
    }
    pthread::at_fork_in_child(empty_list).inspect_err(|_| HEAD_OFFSET.store(0, Ordering::Relaxed))
}

/// Empties the list of the calling thread, `tid`, which had the list `before` when the
/// process forked. Does nothing if the handler has done so.
///
/// # Safety
///
/// * The calling thread has locked nothing by this crate since the fork.
/// * `before` is the list of the same thread in the parent.
pub(super) unsafe fn empty_unless_handled(before: HeldLocks, tid: u32) {
    if HANDLED.load(Ordering::Relaxed) != tid {
        // SAFETY: this crate has locked nothing, as the caller promises. The module
        // documentation has the exception for C code.
        unsafe { before.forget_those_of_the_parent() };
    }
}

extern "C" fn empty_list() {
    let at = pthread::own_handle().wrapping_byte_add(HEAD_OFFSET.load(Ordering::Relaxed));
    let Some(head) = NonNull::new(at.cast()) else {
        return;
    };
    // SAFETY:
    // * Head: it lies at the same distance in every thread, and `prepare` has found
    //   that before it installed this handler.
    // * Use: only this thread has the value.
    let list = unsafe { HeldLocks::new(head) };
    // SAFETY: the list is that of this thread. The fork has just ended, so the thread
    // has locked nothing.
    unsafe { list.forget_those_of_the_parent() };
    HANDLED.store(process::gettid(), Ordering::Relaxed);
}

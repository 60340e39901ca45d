//! Real-time signals: eight bytes as the value of a `sigqueue`, received by
//! `sigwaitinfo`. They are for round trips only: a sender that is faster than its
//! receiver is refused, and has to try again.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use super::way::{Side, Way, wrong};
use crate::failure::Failure;
use crate::report::Survives;
use crate::shared::Shared;

/// Two processes that know each other.
pub(super) struct Signals {
    pids: Shared<[AtomicU32; 2]>,
}

impl Way for Signals {
    const NAME: &'static str = "signal (sigqueue)";
    const SURVIVES: Survives = Survives::DoesNotApply;

    fn make(len: usize) -> Result<Self, Failure> {
        if len != size_of::<usize>() {
            return Err(wrong(Self::NAME, "a signal carries one word"));
        }
        Ok(Self {
            pids: Shared::zeroed()?,
        })
    }

    /// Blocks the signal, so that it waits to be fetched, and then says who this is.
    fn enter(&self, side: Side) -> Result<(), Failure> {
        let set = signal_set();
        // SAFETY: the set is initialised; the old one is not wanted.
        let blocked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut()) };
        if blocked != 0 {
            return Err(Failure::number("pthread_sigmask", blocked));
        }
        // Release, for the reader: whoever knows the id may send.
        self.pids[side.index()].store(std::process::id(), Ordering::Release);
        while self.pids[side.other().index()].load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        Ok(())
    }

    fn send(&self, side: Side, message: &[u8]) -> Result<(), Failure> {
        let word = message.try_into().map(usize::from_ne_bytes);
        let word = word.map_err(|_| wrong(Self::NAME, "a signal carries one word"))?;
        let to = self.pids[side.other().index()]
            .load(Ordering::Relaxed)
            .cast_signed();
        let value = libc::sigval {
            sival_ptr: ptr::without_provenance_mut(word),
        };
        // SAFETY: takes numbers.
        if unsafe { libc::sigqueue(to, libc::SIGRTMIN(), value) } == -1 {
            return Err(Failure::last("sigqueue"));
        }
        Ok(())
    }

    fn receive(&self, _: Side, message: &mut [u8]) -> Result<(), Failure> {
        let set = signal_set();
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        // SAFETY: the set is initialised, and there is room for the information.
        if unsafe { libc::sigwaitinfo(&set, info.as_mut_ptr()) } == -1 {
            return Err(Failure::last("sigwaitinfo"));
        }
        // SAFETY: the call has succeeded, so it is filled in.
        let info = unsafe { info.assume_init() };
        // SAFETY: a signal sent by sigqueue has a value.
        let value = unsafe { info.si_value() };
        message.copy_from_slice(&value.sival_ptr.addr().to_ne_bytes());
        Ok(())
    }
}

/// The one signal that is used.
fn signal_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: there is room for a set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set was made above; the signal is one of the real-time signals.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGRTMIN()) };
    // SAFETY: made above.
    unsafe { set.assume_init() }
}

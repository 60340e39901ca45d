//! Real-time signals: `sigqueue` sends eight bytes as a value, and `sigwaitinfo`
//! receives them. They are measured in round trips only, because the kernel refuses the
//! signals of a sender that is faster than its receiver.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use super::channel::{Channel, Side, wrong_result};
use crate::failure::Failure;
use crate::series::Survives;
use crate::shared::Shared;

/// Two processes that know the ids of each other.
pub(super) struct Signals {
    pids: Shared<[AtomicU32; 2]>,
}

impl Channel for Signals {
    const NAME: &'static str = "signal (sigqueue)";
    const SURVIVES: Survives = Survives::DoesNotApply;

    fn create(len: usize) -> Result<Self, Failure> {
        if len != size_of::<usize>() {
            return Err(wrong_result(Self::NAME, "a signal carries one word"));
        }
        Ok(Self {
            pids: Shared::zeroed()?,
        })
    }

    /// Blocks the signal, so that `sigwaitinfo` can receive it, and then publishes the
    /// id of this process.
    fn prepare(&self, side: Side) -> Result<(), Failure> {
        let set = signal_set();
        // SAFETY: the set is initialised. A null pointer discards the old mask.
        let blocked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut()) };
        if blocked != 0 {
            return Err(Failure::errno("pthread_sigmask", blocked));
        }
        // Release: the other process sends only after it has read the id with Acquire,
        // so the signal is already blocked.
        self.pids[side.index()].store(std::process::id(), Ordering::Release);
        while self.pids[side.other().index()].load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        Ok(())
    }

    fn send(&self, side: Side, message: &[u8]) -> Result<(), Failure> {
        let word = message.try_into().map(usize::from_ne_bytes);
        let word = word.map_err(|_| wrong_result(Self::NAME, "a signal carries one word"))?;
        let to = self.pids[side.other().index()]
            .load(Ordering::Relaxed)
            .cast_signed();
        let value = libc::sigval {
            sival_ptr: ptr::without_provenance_mut(word),
        };
        // SAFETY: the call takes numbers and no memory.
        if unsafe { libc::sigqueue(to, libc::SIGRTMIN(), value) } == -1 {
            return Err(Failure::last_os("sigqueue"));
        }
        Ok(())
    }

    fn receive(&self, _: Side, message: &mut [u8]) -> Result<(), Failure> {
        let set = signal_set();
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        // SAFETY: the set is initialised, and `info` has the size of a `siginfo_t`.
        if unsafe { libc::sigwaitinfo(&set, info.as_mut_ptr()) } == -1 {
            return Err(Failure::last_os("sigwaitinfo"));
        }
        // SAFETY: the call has succeeded and initialised `info`.
        let info = unsafe { info.assume_init() };
        // SAFETY: a signal of `sigqueue` has a value.
        let value = unsafe { info.si_value() };
        message.copy_from_slice(&value.sival_ptr.addr().to_ne_bytes());
        Ok(())
    }
}

/// Returns the set of the signal that this channel uses.
fn signal_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `set` has the size of a `sigset_t`.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: `sigemptyset` has initialised the set.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGRTMIN()) };
    // SAFETY: `sigemptyset` has initialised the set.
    unsafe { set.assume_init() }
}

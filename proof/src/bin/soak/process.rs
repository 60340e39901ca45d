//! Processes that die with whoever forked them, and the time by which all of them
//! measure.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{ForkResult, Pid, fork, getppid};

/// The exit status of a process that ended as it should: not 0, by which it might
/// end for another reason.
pub(crate) const ENDED_WELL: i32 = 40;

/// Nanoseconds of the monotonic clock, which is the same for all processes.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    Duration::from(time).as_nanos() as u64
}

/// A process id as the library has it.
pub(crate) fn id_of(pid: Pid) -> u32 {
    pid.as_raw().cast_unsigned()
}

/// Forks. The child is killed when its parent dies. `None` in the child.
///
/// To be called by processes with one thread.
pub(crate) fn fork_child() -> Option<Pid> {
    let parent = Pid::this();
    // SAFETY: this process has one thread, so no other can have left a lock of the
    // allocator or of the standard library locked in the child.
    match unsafe { fork() }.expect("there are enough processes") {
        ForkResult::Parent { child } => Some(child),
        ForkResult::Child => {
            die_with(parent);
            None
        }
    }
}

/// Forks a child that runs `body`, and never returns into what its parent was doing.
pub(crate) fn spawn(body: impl FnOnce()) -> Pid {
    fork_child().unwrap_or_else(|| {
        let code = match catch_unwind(AssertUnwindSafe(body)) {
            Ok(()) => ENDED_WELL,
            Err(_) => 101,
        };
        end(code)
    })
}

/// Asks the kernel to kill this process when `parent` dies. If that was earlier,
/// ends at once.
fn die_with(parent: Pid) {
    // SAFETY: takes numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    if getppid() != parent {
        end(ENDED_WELL);
    }
}

/// Leaves the processor to the conductor when it has something to do: players that
/// never pause would keep it from dealing.
pub(crate) fn give_way() {
    // SAFETY: takes and returns numbers.
    unsafe { libc::nice(5) };
}

/// Ends the process without running exit handlers or destructors.
pub(crate) fn end(code: i32) -> ! {
    // SAFETY: ends the process; nothing runs afterwards.
    unsafe { libc::_exit(code) }
}

/// Makes the orphans of all descendants children of this process, so that it can
/// see the last of them end.
pub(crate) fn adopt_orphans() {
    // SAFETY: takes numbers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// The signal that asked this process to end, or 0.
static ASKED_TO_END: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: i32) {
    ASKED_TO_END.store(signal, Ordering::Relaxed);
}

/// From here on SIGINT and SIGTERM are noted, here and in all forked children. Only
/// the conductor acts on them: a terminal sends them to everybody.
pub(crate) fn note_requests_to_end() {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic and does nothing else.
        unsafe { sigaction(signal, &action) }.expect("these can be handled");
    }
}

/// The signal that asked this process to end, if any.
pub(crate) fn asked_to_end() -> Option<i32> {
    match ASKED_TO_END.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(signal),
    }
}

/// Kills a child with SIGKILL, and waits for its end: which may have been another.
pub(crate) fn kill_and_reap(child: Pid) -> WaitStatus {
    // A child that is not reaped has its id still.
    kill(child, Signal::SIGKILL).expect("it is a child");
    reap(child)
}

/// Waits for the end of a child.
pub(crate) fn reap(child: Pid) -> WaitStatus {
    loop {
        match waitpid(child, None) {
            Err(Errno::EINTR) => {}
            other => return other.expect("it is a child"),
        }
    }
}

/// The end of `child`, or of any child, if one has come to its end.
pub(crate) fn reap_if_ended(child: Option<Pid>) -> Option<WaitStatus> {
    match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) | Err(_) => None,
        Ok(status) => Some(status),
    }
}

/// Whether there is a child that was not reaped.
pub(crate) fn has_children() -> bool {
    let look = WaitPidFlag::WNOHANG | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    waitid(Id::All, look) != Err(Errno::ECHILD)
}

/// Whether a process that nobody had to kill, or that was killed, ends so.
pub(crate) fn is_good_end(status: WaitStatus) -> bool {
    matches!(
        status,
        WaitStatus::Exited(_, ENDED_WELL) | WaitStatus::Signaled(_, Signal::SIGKILL, _)
    )
}

/// What a process does at this moment: its state, and the system call it is in.
pub(crate) fn what_it_does(pid: Pid) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or("").trim_start();
    let state = state.chars().next().unwrap_or('?');
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    format!("state {state}, system call {}", call.trim())
}

/// The address that a process sleeps on in a futex call, if it does.
pub(crate) fn sleeps_on(pid: Pid) -> Option<usize> {
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let mut fields = call.split_whitespace();
    if fields.next()? != libc::SYS_futex.to_string() {
        return None;
    }
    usize::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok()
}

//! Processes that die with their parent, and the clock that all of them share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{ForkResult, Pid, fork, getppid};

/// The exit status of a process that ended as expected. It is not 0, because a process
/// may exit with 0 for another reason.
pub(crate) const EXPECTED_EXIT: i32 = 40;

/// Returns the nanoseconds of the monotonic clock, which all processes share.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has this clock");
    Duration::from(time).as_nanos() as u64
}

/// Returns a process id in the type of the library.
pub(crate) fn id_of(pid: Pid) -> u32 {
    pid.as_raw().cast_unsigned()
}

/// Forks. The kernel kills the child when its parent dies. Returns `None` in the child.
///
/// Only processes with one thread may call this.
pub(crate) fn fork_child() -> Option<Pid> {
    let parent = Pid::this();
    // SAFETY: no thread holds a lock of the allocator or of the standard library in the
    // child, because this process has one thread.
    match unsafe { fork() }.expect("the limit of processes is not reached") {
        ForkResult::Parent { child } => Some(child),
        ForkResult::Child => {
            die_with(parent);
            None
        }
    }
}

/// Forks a child that runs `body` and ends. It never returns into its parent's code.
pub(crate) fn spawn(body: impl FnOnce()) -> Pid {
    fork_child().unwrap_or_else(|| {
        let code = match catch_unwind(AssertUnwindSafe(body)) {
            Ok(()) => EXPECTED_EXIT,
            Err(_) => 101,
        };
        end(code)
    })
}

/// Asks the kernel to kill this process when `parent` dies. If it is dead already, ends
/// at once.
fn die_with(parent: Pid) {
    // SAFETY: `prctl` takes numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    if getppid() != parent {
        end(EXPECTED_EXIT);
    }
}

/// Lowers the priority of this process, so that workers do not keep the supervisor from
/// the processor.
pub(crate) fn lower_priority() {
    // SAFETY: `nice` takes and returns numbers.
    unsafe { libc::nice(5) };
}

/// Ends the process without running exit handlers or destructors.
pub(crate) fn end(code: i32) -> ! {
    // SAFETY: `_exit` ends the process, and no code runs afterwards.
    unsafe { libc::_exit(code) }
}

/// Makes the orphans of all descendants children of this process, so that it sees the
/// last of them end.
pub(crate) fn adopt_orphans() {
    // SAFETY: `prctl` takes numbers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// The signal that asked this process to end, or 0.
static END_SIGNAL: AtomicI32 = AtomicI32::new(0);

extern "C" fn note_signal(signal: i32) {
    END_SIGNAL.store(signal, Ordering::Relaxed);
}

/// Notes SIGINT, SIGTERM and SIGHUP from now on, in this process and in all forked
/// children. Only the supervisor acts on them, because a terminal sends them to all.
pub(crate) fn note_end_signals() {
    let action = SigAction::new(
        SigHandler::Handler(note_signal),
        SaFlags::empty(),
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic and does nothing else.
        unsafe { sigaction(signal, &action) }.expect("a process can handle these");
    }
}

/// Returns the signal that asked this process to end, if any.
pub(crate) fn end_signal() -> Option<i32> {
    match END_SIGNAL.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(signal),
    }
}

/// Kills a child with SIGKILL, and waits for its end. It may have ended otherwise
/// before.
pub(crate) fn kill_and_reap(child: Pid) -> WaitStatus {
    // A child that is not reaped keeps its id.
    kill(child, Signal::SIGKILL).expect("the process is a child");
    reap(child)
}

/// Waits for the end of a child.
pub(crate) fn reap(child: Pid) -> WaitStatus {
    loop {
        match waitpid(child, None) {
            Err(Errno::EINTR) => {}
            other => return other.expect("the process is a child"),
        }
    }
}

/// Reaps `child`, or any child, if it has ended.
pub(crate) fn reap_if_ended(child: Option<Pid>) -> Option<WaitStatus> {
    match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) | Err(_) => None,
        Ok(status) => Some(status),
    }
}

/// Returns whether a child was not reaped.
pub(crate) fn has_children() -> bool {
    let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    waitid(Id::All, flags) != Err(Errno::ECHILD)
}

/// Returns whether a process ended as expected: by itself or by SIGKILL.
pub(crate) fn is_expected_end(status: WaitStatus) -> bool {
    matches!(
        status,
        WaitStatus::Exited(_, EXPECTED_EXIT) | WaitStatus::Signaled(_, Signal::SIGKILL, _)
    )
}

/// Describes what a process does at this moment: its state and its system call.
pub(crate) fn what_it_does(pid: Pid) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or("").trim_start();
    let state = state.chars().next().unwrap_or('?');
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    format!("state {state}, system call {}", call.trim())
}

/// Returns whether a process waits on a futex inside of an object. Where the word is
/// depends on the C library.
pub(crate) fn waits_inside<T>(pid: Pid, object: &T) -> bool {
    let begin = std::ptr::from_ref(object).addr();
    futex_address(pid).is_some_and(|word| (begin..begin + size_of::<T>()).contains(&word))
}

/// Returns the address of the futex that a process waits on, if it does.
fn futex_address(pid: Pid) -> Option<usize> {
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let mut fields = call.split_whitespace();
    if fields.next()? != libc::SYS_futex.to_string() {
        return None;
    }
    usize::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok()
}

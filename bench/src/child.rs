//! A forked process that dies with its parent, and that nobody waits for in vain.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getppid};

use crate::failure::Failure;

/// A forked process. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    /// Readable when the process has ended. `None` when it has been reaped.
    pidfd: Option<OwnedFd>,
}

impl Child {
    /// Forks a process that does `work` and exits, with status 0 if that went well.
    ///
    /// To be called while this process has one thread.
    pub(crate) fn spawn(work: impl FnOnce() -> Result<(), Failure>) -> Result<Self, Failure> {
        let parent = Pid::this();
        // SAFETY: this process has one thread, so no other can have left a lock of
        // the allocator or of the standard library locked in the child. (Tests have
        // more. They hold no lock that the child takes: glibc sees to the allocator's.)
        match unsafe { fork() }.map_err(Failure::of("fork"))? {
            ForkResult::Parent { child } => Self::of(child),
            ForkResult::Child => {
                let code = match catch_unwind(AssertUnwindSafe(|| {
                    die_with(parent)?;
                    work()
                })) {
                    Ok(Ok(())) => 0,
                    Ok(Err(failure)) => {
                        eprintln!("process {}: {failure}", Pid::this());
                        1
                    }
                    Err(_panic) => 101,
                };
                end(code)
            }
        }
    }

    fn of(pid: Pid) -> Result<Self, Failure> {
        // Made first, so that the process is killed if there is no descriptor.
        let mut child = Self { pid, pidfd: None };
        // SAFETY: takes two numbers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        if fd < 0 {
            let failure = Failure::last("pidfd_open");
            child.kill();
            let _ = waitpid(pid, None);
            return Err(failure);
        }
        // SAFETY: the kernel has just made this descriptor for us, and it is an int.
        child.pidfd = Some(unsafe { OwnedFd::from_raw_fd(fd as i32) });
        Ok(child)
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends SIGKILL. The process has to be waited for all the same.
    pub(crate) fn kill(&self) {
        // It is a child that has not been reaped, so the id is its own.
        let _ = kill(self.pid, Signal::SIGKILL);
    }

    /// Waits until the process has ended. `None` if it has not after `patience`.
    pub(crate) fn wait(&mut self, patience: Duration) -> Result<Option<WaitStatus>, Failure> {
        let Some(pidfd) = &self.pidfd else {
            return Ok(None);
        };
        if !readable(pidfd, patience)? {
            return Ok(None);
        }
        let status = reap(self.pid)?;
        self.pidfd = None;
        Ok(Some(status))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.pidfd.is_some() {
            self.kill();
            let _ = reap(self.pid);
        }
    }
}

fn reap(pid: Pid) -> Result<WaitStatus, Failure> {
    loop {
        match waitpid(pid, None) {
            Err(Errno::EINTR) => {}
            other => return other.map_err(Failure::of("waitpid")),
        }
    }
}

/// Waits until something can be read from `fd`, or its other end is gone.
pub(crate) fn readable(fd: &impl AsFd, patience: Duration) -> Result<bool, Failure> {
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    loop {
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            // A signal to end is acted on at the next step.
            Err(Errno::EINTR) => {}
            other => return Ok(other.map_err(Failure::of("poll"))? > 0),
        }
    }
}

/// Asks the kernel to kill this process when `parent` dies. If that was earlier, ends
/// at once.
fn die_with(parent: Pid) -> Result<(), Failure> {
    set_pdeathsig(Signal::SIGKILL).map_err(Failure::of("prctl"))?;
    if getppid() != parent {
        end(1);
    }
    Ok(())
}

/// Ends the process without running its parent's exit handlers and destructors.
fn end(code: i32) -> ! {
    // SAFETY: ends the process; nothing runs afterwards.
    unsafe { libc::_exit(code) }
}

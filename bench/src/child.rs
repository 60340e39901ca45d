//! A forked process that is killed when its parent dies.

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

/// A forked process. `drop` kills it.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    /// Readable after the process has ended. `None` after the process has been reaped.
    pidfd: Option<OwnedFd>,
}

impl Child {
    /// Forks a process that runs `work` and exits. The exit status is 0 if `work`
    /// succeeded.
    ///
    /// The caller must be the only thread of this process.
    pub(crate) fn spawn(work: impl FnOnce() -> Result<(), Failure>) -> Result<Self, Failure> {
        let parent = Pid::this();
        // SAFETY: this process has one thread. Therefore no other thread can have
        // locked the allocator or the standard library, and the child may use both.
        // (Tests run in several threads. They hold no lock that the child uses, and
        // glibc resets the locks of the allocator in the child.)
        match unsafe { fork() }.map_err(Failure::os("fork"))? {
            ForkResult::Parent { child } => Self::from_pid(child),
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
                exit_now(code)
            }
        }
    }

    fn from_pid(pid: Pid) -> Result<Self, Failure> {
        let mut child = Self { pid, pidfd: None };
        // SAFETY: the call takes two numbers and no memory.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        if fd < 0 {
            let failure = Failure::last_os("pidfd_open");
            child.kill();
            let _ = waitpid(pid, None);
            return Err(failure);
        }
        // SAFETY: the kernel has just created this descriptor, and nothing else owns
        // it.
        child.pidfd = Some(unsafe { OwnedFd::from_raw_fd(fd as i32) });
        Ok(child)
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends SIGKILL. The caller must still wait for the process.
    pub(crate) fn kill(&self) {
        // The child has not been reaped, so no other process has its id.
        let _ = kill(self.pid, Signal::SIGKILL);
    }

    /// Waits until the process has ended. Returns `None` if it still runs after
    /// `timeout`.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Result<Option<WaitStatus>, Failure> {
        let Some(pidfd) = &self.pidfd else {
            return Ok(None);
        };
        if !wait_readable(pidfd, timeout)? {
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
            other => return other.map_err(Failure::os("waitpid")),
        }
    }
}

/// Waits until `fd` is readable or its other end is closed. Returns `false` after
/// `timeout`.
pub(crate) fn wait_readable(fd: &impl AsFd, timeout: Duration) -> Result<bool, Failure> {
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    loop {
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            // `Progress::step` acts on SIGINT and SIGTERM.
            Err(Errno::EINTR) => {}
            other => return Ok(other.map_err(Failure::os("poll"))? > 0),
        }
    }
}

/// Asks the kernel to kill this process when `parent` dies. Exits if `parent` is
/// already dead.
fn die_with(parent: Pid) -> Result<(), Failure> {
    set_pdeathsig(Signal::SIGKILL).map_err(Failure::os("prctl"))?;
    if getppid() != parent {
        exit_now(1);
    }
    Ok(())
}

/// Exits without the exit handlers and destructors that the parent has set up.
fn exit_now(code: i32) -> ! {
    // SAFETY: the call ends the process, and no code of this process runs afterwards.
    unsafe { libc::_exit(code) }
}

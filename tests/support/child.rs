//! Forked children, and gates between processes.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::timing::poll;

/// A forked child. It is killed and reaped when dropped.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    reaped: Option<WaitStatus>,
}

/// Forks. The child runs `body` and ends without unwinding into the harness, with exit
/// status 0, or 101 after a panic.
pub fn spawn(body: impl FnOnce()) -> Child {
    // SAFETY: a stage has a single thread, so no lock is held by another thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => Child {
            pid: child,
            reaped: None,
        },
        ForkResult::Child => {
            let code = match catch_unwind(AssertUnwindSafe(body)) {
                Ok(()) => 0,
                Err(_) => 101,
            };
            exit_now(code)
        }
    }
}

/// Ends the process without running exit handlers or destructors.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; nothing runs afterwards.
    unsafe { libc::_exit(code) }
}

/// Closes all descriptors of this process from 3 on: `close_range(2)`.
///
/// # Safety
///
/// * No code of this process uses such a descriptor afterwards, or takes care of its
///   loss.
pub unsafe fn close_from_three() {
    // SAFETY: no code uses the closed descriptors, as the caller promises.
    let rc = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    assert_eq!(rc, 0, "close_range");
}

/// Kills the calling process with SIGKILL.
pub fn die() -> ! {
    kill(Pid::this(), Signal::SIGKILL).unwrap();
    unreachable!("SIGKILL ends the process")
}

impl Child {
    pub fn pid(&self) -> u32 {
        u32::try_from(self.pid.as_raw()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }

    /// Kills the child with SIGKILL and reaps it.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let status = self.wait();
        assert_eq!(
            status,
            WaitStatus::Signaled(self.pid, Signal::SIGKILL, false)
        );
    }

    /// Waits until the child has ended.
    pub fn wait(&mut self) -> WaitStatus {
        if let Some(status) = self.reaped {
            return status;
        }
        let status = loop {
            match waitpid(self.pid, None) {
                Err(Errno::EINTR) => {}
                other => break other.unwrap(),
            }
        };
        self.reaped = Some(status);
        status
    }

    /// Waits until the child has ended with exit status 0.
    pub fn join(mut self) {
        let status = self.wait();
        assert_eq!(status, WaitStatus::Exited(self.pid, 0), "a child failed");
    }

    /// Stops the child, and waits until it has stopped.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        self.wait_until_stopped();
    }

    /// Returns the status of the child if it has ended.
    pub fn try_wait(&mut self) -> Option<WaitStatus> {
        if self.reaped.is_none() {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                other => self.reaped = Some(other.unwrap()),
            }
        }
        self.reaped
    }

    /// Waits until the child sleeps in a futex system call. Panics if it has ended.
    pub fn wait_until_asleep(&self) {
        let calls = [libc::SYS_futex, libc::SYS_futex_waitv].map(|call| format!("{call} "));
        poll(|| {
            assert_ne!(self.state(), Some('Z'), "the child has ended");
            fs::read_to_string(format!("/proc/{}/syscall", self.pid))
                .is_ok_and(|line| calls.iter().any(|call| line.starts_with(call)))
        });
    }

    /// Waits until a signal has stopped the child.
    pub fn wait_until_stopped(&self) {
        poll(|| self.state() == Some('T'));
    }

    /// Returns the letter of `proc_pid_stat(5)`, if it can be read.
    fn state(&self) -> Option<char> {
        let line = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let (_, fields) = line.rsplit_once(')')?;
        fields.trim_start().chars().next()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.reaped.is_none() {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

/// A pipe with which one process lets another continue.
#[derive(Debug)]
pub struct Gate {
    read: OwnedFd,
    write: OwnedFd,
}

impl Gate {
    pub fn new() -> Self {
        let (read, write) = nix::unistd::pipe().unwrap();
        Self { read, write }
    }

    /// Lets one waiter through.
    pub fn open(&self) {
        nix::unistd::write(self.write.as_fd(), b"x").unwrap();
    }

    /// Waits until another process opens the gate.
    pub fn pass(&self) {
        let mut byte = [0];
        loop {
            match nix::unistd::read(self.read.as_fd(), &mut byte) {
                Ok(1) => return,
                Err(Errno::EINTR) => {}
                other => panic!("the gate is broken: {other:?}"),
            }
        }
    }
}

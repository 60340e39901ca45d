//! The result codes of the pthread functions.

use std::io;

/// The result of an attempt to lock a mutex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The caller holds the mutex.
    Acquired,
    /// The caller holds the mutex, whose last holder died (`EOWNERDEAD`). The mutex
    /// stays in this state until the caller makes it consistent.
    OwnerDied,
    /// A thread holds the mutex, perhaps the caller (`EBUSY`).
    Busy,
    /// The deadline has passed (`ETIMEDOUT`).
    TimedOut,
    /// The caller already holds the mutex (`EDEADLK`).
    Deadlock,
    /// A thread unlocked the mutex after an owner death without making it consistent
    /// (`ENOTRECOVERABLE`). No thread can lock it any more.
    NotRecoverable,
    /// Any other error number.
    Failed(i32),
}

impl Outcome {
    /// The mutex can't be locked safely with this libc (`ENOTSUP`).
    pub(crate) const NOT_SUPPORTED: Self = Self::Failed(libc::ENOTSUP);

    /// Converts the return code of a pthread function that locks.
    #[inline]
    pub(super) fn from_errno(code: libc::c_int) -> Self {
        if code == 0 {
            return Self::Acquired;
        }
        Self::from_error_number(code)
    }

    /// Converts the error of a system call.
    pub(crate) fn from_error(error: &io::Error) -> Self {
        Self::Failed(error.raw_os_error().unwrap_or(libc::EIO))
    }

    #[cold]
    fn from_error_number(code: libc::c_int) -> Self {
        match code {
            libc::EOWNERDEAD => Self::OwnerDied,
            libc::EBUSY => Self::Busy,
            libc::ETIMEDOUT => Self::TimedOut,
            libc::EDEADLK => Self::Deadlock,
            libc::ENOTRECOVERABLE => Self::NotRecoverable,
            other => Self::Failed(other),
        }
    }
}

/// Converts the return code of a pthread function. These functions do not use `errno`.
pub(super) fn check(code: libc::c_int) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

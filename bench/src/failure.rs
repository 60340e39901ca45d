//! Why there is no result.

use std::io;

use nix::errno::Errno;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// This machine does not have what a contestant needs. It is left out.
    #[error("{0}")]
    NotHere(String),
    /// A system call failed.
    #[error("{call}: {error}")]
    System {
        call: &'static str,
        #[source]
        error: io::Error,
    },
    /// The library that is measured failed.
    #[error("shm-sync: {0}")]
    Ours(#[from] shm_sync::Error),
    /// A lock did not keep its promise, or a channel did not deliver what was sent.
    #[error("{contestant}: {what}")]
    Wrong {
        contestant: &'static str,
        what: String,
    },
    /// Workers were not done in time, and have been killed.
    #[error("{what}: not done after {seconds} s, killed")]
    Stuck { what: String, seconds: u64 },
    /// A worker ended otherwise than by returning.
    #[error("{what}: worker {index} {how}")]
    Worker {
        what: String,
        index: usize,
        how: String,
    },
    /// A plot could not be drawn.
    #[error("{0}: {1}")]
    Plot(String, String),
    /// SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// A `map_err` argument: `call` failed with an error number.
    pub(crate) fn of<E: Into<io::Error>>(call: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::System {
            call,
            error: error.into(),
        }
    }

    /// `call` failed just now, and left its error number in `errno`.
    pub(crate) fn last(call: &'static str) -> Self {
        Self::of(call)(Errno::last())
    }

    /// `call` returned an error number.
    pub(crate) fn number(call: &'static str, number: i32) -> Self {
        Self::of(call)(io::Error::from_raw_os_error(number))
    }
}

//! Reasons why a measurement has no result.

use std::io;

use nix::errno::Errno;

/// A reason why a measurement has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// This machine lacks something that a contestant needs. The run continues without
    /// the contestant.
    #[error("{0}")]
    Unavailable(String),
    /// A system call failed.
    #[error("{call}: {error}")]
    System {
        call: &'static str,
        #[source]
        error: io::Error,
    },
    /// shm-sync returned an error.
    #[error("shm-sync: {0}")]
    ShmSync(#[from] shm_sync::Error),
    /// A lock lost an update, or a channel delivered other bytes than it was given.
    #[error("{contestant}: {what}")]
    WrongResult {
        contestant: &'static str,
        what: String,
    },
    /// Workers did not finish in time and were killed.
    #[error("{what}: not finished after {seconds} s, killed")]
    TimedOut { what: String, seconds: u64 },
    /// A worker panicked, failed or was killed.
    #[error("{what}: worker {index} {how}")]
    Worker {
        what: String,
        index: usize,
        how: String,
    },
    /// The plot with this file name could not be drawn.
    #[error("{0}: {1}")]
    Plot(String, String),
    /// A CSV file with this name could not be read or written.
    #[error("{0}: {1}")]
    Records(String, String),
    /// A program could not be started.
    #[error("{program} does not run ({error}): install it, or add its directory to PATH")]
    NoProgram {
        program: String,
        #[source]
        error: io::Error,
    },
    /// A program failed. The second text is its last message.
    #[error("{0}: {1}")]
    Command(String, String),
    /// The repository has no commit with this name.
    #[error(
        "the repository has no commit {0:?}: name a commit, a branch or a tag, and fetch it if it is elsewhere"
    )]
    UnknownCommit(String),
    /// The benchmark program does not compile with shm-sync of the commit with this
    /// name.
    #[error(
        "this benchmark program does not compile with shm-sync of {0}: cargo names the errors above; compare with a later commit"
    )]
    Incompatible(String),
    /// `--compare` was given to a program that is not optimised.
    #[error("--compare measures optimised programs: start it with `cargo run --release`")]
    NotOptimised,
    /// SIGINT or SIGTERM arrived.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// Returns a function for `map_err` that turns the error of `call` into a failure.
    pub(crate) fn os<E: Into<io::Error>>(call: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::System {
            call,
            error: error.into(),
        }
    }

    /// Returns the failure of a `call` that left its error number in `errno`.
    pub(crate) fn last_os(call: &'static str) -> Self {
        Self::os(call)(Errno::last())
    }

    /// Returns the failure of a `call` that returned an error number.
    pub(crate) fn errno(call: &'static str, number: i32) -> Self {
        Self::os(call)(io::Error::from_raw_os_error(number))
    }
}

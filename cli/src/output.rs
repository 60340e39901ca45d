//! The end of a command: failures, messages, and the details for `show` and `watch`.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use shm_sync::inspect::{self, Details, Values};
use shm_sync::{Address, Error};

use crate::labels;
use crate::text::{escape, escape_lines};

const NOT_DONE: u8 = 1;
const REFUSED: u8 = 2;
/// The exit code that a shell reports for a process that `SIGPIPE` has killed. Other
/// tools die of that signal when the reader of their output closes it.
const CLOSED: u8 = 128 + 13;

/// The reason why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command failed. The text is the message for the user.
    Failed(String),
    /// The user did not confirm.
    Refused(String),
    /// The kernel refused to write the output.
    Output(io::Error),
}

impl Failure {
    /// Returns the failure of a command on `subject`.
    pub(crate) fn of(
        subject: impl fmt::Display,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        Self::Failed(message(subject, error))
    }

    /// Returns the message for the user, and the exit code.
    pub(crate) fn message(self) -> (String, u8) {
        match self {
            Self::Failed(text) => (text, NOT_DONE),
            Self::Refused(text) => (text, REFUSED),
            Self::Output(error) => (format!("write error: {error}"), NOT_DONE),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Returns the message of an error. It begins with the subject, unless the error names
/// a segment.
pub(crate) fn message(
    subject: impl fmt::Display,
    error: &(dyn std::error::Error + 'static),
) -> String {
    let text = labels::error_chain(error);
    let error = error.downcast_ref::<Error>();
    if error.is_some_and(|error| error.address().is_some()) {
        return text;
    }
    format!("{}: {text}", escape(&subject.to_string()))
}

/// The completeness of the work of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// The messages or the output report the rest.
    Incomplete,
    /// The arguments were wrong. clap has printed the message.
    Misused,
}

/// Returns the exit code of the tool, after a message for a failure. A closed output
/// has no message, as with other tools.
pub(crate) fn exit_code(result: Result<Outcome, Failure>) -> ExitCode {
    ExitCode::from(match result {
        Ok(Outcome::Done) => return ExitCode::SUCCESS,
        Ok(Outcome::Incomplete) => NOT_DONE,
        Ok(Outcome::Misused) => REFUSED,
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => CLOSED,
        Err(failure) => {
            let (text, code) = failure.message();
            eprint_error(&text);
            code
        }
    })
}

/// Prints a message on standard error, and ignores a closed output.
pub(crate) fn eprint_error(text: &str) {
    let _ = writeln!(io::stderr(), "shm-sync: {}", escape_lines(text));
}

/// Prints to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Prints bytes that need not be text to standard output.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    // The standard library keeps the last line, and ignores the error at the end.
    Ok(out.flush()?)
}

/// Returns the details of an object, or the failure if there is no such object.
pub(crate) fn details(address: &Address, limit: usize) -> Result<Details, Failure> {
    inspect::details(address, limit).map_err(|error| match error {
        Error::NotFound { .. } => no_such_object(address),
        other => Failure::of(address, &other),
    })
}

/// Returns the values of a segment, or `None` if it does not describe its types.
pub(crate) fn values(address: &Address, limit: usize) -> Result<Option<Values>, Failure> {
    inspect::values(address, limit).map_err(|error| match error {
        Error::NotFound { .. } => no_such_object(address),
        other => Failure::of(address, &other),
    })
}

/// Returns the failure of a command on an object that does not exist.
pub(crate) fn no_such_object(address: &Address) -> Failure {
    Failure::Failed(format!(
        "{}: there is no such object",
        escape(&address.to_string())
    ))
}

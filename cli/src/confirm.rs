//! Questions to the user.

use std::io::{self, IsTerminal, Write};

use crate::output::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
}

/// Returns whether there is a terminal for a question. Standard output may be a file.
pub(crate) fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Prints a text and asks a question on the terminal. Any other answer than yes, and
/// the end of the input, is no.
pub(crate) fn ask(text: &str, question: &str) -> Result<Answer, Failure> {
    let failed = |error: io::Error| Failure::Failed(format!("no answer: {error}"));
    let mut err = io::stderr();
    write!(err, "{text}{question} [y/N] ").map_err(failed)?;
    err.flush().map_err(failed)?;
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(failed)?;
    Ok(match line.trim() {
        "y" | "Y" | "yes" => Answer::Yes,
        _ => Answer::No,
    })
}

//! How much is measured, and how far that is.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::failure::Failure;

/// How much is measured.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Just enough to see that everything runs, and roughly how fast.
    pub(crate) quick: bool,
}

impl Plan {
    /// `full`, or `quick` if that is wanted.
    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// The sequence in which so many contestants take their turns in a round: everybody
/// starts a round now and then, and nobody always comes after the same one.
pub(crate) fn turns(round: usize, contestants: usize) -> impl Iterator<Item = usize> {
    (0..contestants).map(move |turn| {
        let turn = (turn + round / 2) % contestants;
        match round % 2 {
            0 => turn,
            _ => contestants - 1 - turn,
        }
    })
}

/// A bar on a terminal, and lines for what has to be said.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{prefix:>16} {bar:40} {percent:>3} %  {msg}")
                .expect("the template is sound");
            ProgressBar::new(1).with_style(style)
        } else {
            ProgressBar::hidden()
        };
        Self { bar }
    }

    /// A workload begins, of so many steps.
    pub(crate) fn begin(&self, workload: &'static str, steps: usize) {
        self.bar.reset();
        self.bar.set_length(steps as u64);
        self.bar.set_prefix(workload);
        self.bar.set_message("");
    }

    /// The next step begins.
    ///
    /// # Errors
    ///
    /// If SIGINT or SIGTERM asked this process to end.
    pub(crate) fn step(&self, what: &str) -> Result<(), Failure> {
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted);
        }
        self.bar.set_message(what.to_owned());
        self.bar.inc(1);
        Ok(())
    }

    /// Prints a line above the bar.
    pub(crate) fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Says that a contestant does not take part, and why.
    pub(crate) fn left_out(&self, contestant: &str, why: &Failure) {
        self.say(&format!("{contestant} is left out: {why}"));
    }

    /// All is measured.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From here on SIGINT and SIGTERM end the run at the next step, so that destructors
/// take away what the kernel would keep.
pub(crate) fn end_in_order() -> Result<(), Failure> {
    let action = SigAction::new(
        SigHandler::Handler(note),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler stores to an atomic and does nothing else.
        unsafe { sigaction(signal, &action) }.map_err(Failure::of("sigaction"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_in_each_round() {
        for round in 0..9 {
            let mut all: Vec<usize> = turns(round, 5).collect();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3, 4]);
        }
    }
}

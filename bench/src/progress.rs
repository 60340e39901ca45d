//! Progress of the run, and its interruption by signals.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::failure::Failure;

/// A progress bar on a terminal, and messages.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{prefix:>16} {bar:40} {percent:>3} %  {msg}")
                .expect("the template is valid");
            ProgressBar::new(1).with_style(style)
        } else {
            ProgressBar::hidden()
        };
        Self { bar }
    }

    /// Begins a workload of `steps` steps.
    pub(crate) fn begin(&self, workload: &'static str, steps: usize) {
        self.bar.reset();
        self.bar.set_length(steps as u64);
        self.bar.set_prefix(workload);
        self.bar.set_message("");
    }

    /// Begins the next step.
    ///
    /// # Errors
    ///
    /// [`Failure::Interrupted`] after SIGINT or SIGTERM.
    pub(crate) fn step(&self, what: &str) -> Result<(), Failure> {
        check_interrupted()?;
        self.bar.set_message(what.to_owned());
        self.bar.inc(1);
        Ok(())
    }

    /// Prints a line above the bar.
    pub(crate) fn print(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Prints that a contestant does not take part, and why.
    pub(crate) fn left_out(&self, contestant: &str, why: &Failure) {
        self.print(&format!("{contestant} is left out: {why}"));
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn set_interrupted(_signal: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Fails with [`Failure::Interrupted`] after SIGINT or SIGTERM.
pub(crate) fn check_interrupted() -> Result<(), Failure> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        return Err(Failure::Interrupted);
    }
    Ok(())
}

/// Makes SIGINT and SIGTERM end the run at the next step. Then destructors remove the
/// objects that would otherwise stay in the kernel.
pub(crate) fn install_signal_handlers() -> Result<(), Failure> {
    let action = SigAction::new(
        SigHandler::Handler(set_interrupted),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }.map_err(Failure::os("sigaction"))?;
    }
    Ok(())
}

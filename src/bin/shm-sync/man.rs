//! Manual pages and shell completions, generated from the arguments.

use std::io::{self, Write};

use clap::CommandFactory;

use crate::arguments::{Arguments, Completions, Man};
use crate::output::{Failure, Outcome};

/// Prints the manual page, or writes one page per command.
pub(crate) fn manual(man: &Man) -> Result<Outcome, Failure> {
    let command = Arguments::command();
    match &man.directory {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            io::stdout().lock().write_all(&page)?;
        }
        Some(directory) => clap_mangen::generate_to(command, directory)
            .map_err(|error| Failure::of(directory.display(), &error))?,
    }
    Ok(Outcome::Done)
}

/// Prints the completions for a shell.
pub(crate) fn completions(completions: &Completions) -> Result<Outcome, Failure> {
    let mut text = Vec::new();
    let mut command = Arguments::command();
    clap_complete::generate(completions.shell, &mut command, "shm-sync", &mut text);
    io::stdout().lock().write_all(&text)?;
    Ok(Outcome::Done)
}

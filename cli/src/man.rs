//! Manual pages and shell completions, generated from the arguments.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::CompleteEnv;
use clap_complete::env::Shells;

use crate::arguments::{Arguments, Completions, Man};
use crate::output::{Failure, Outcome, print_bytes};

/// The variable by which a shell asks the tool for completions.
const COMPLETE: &str = "SHM_SYNC_COMPLETE";

/// The name of the tool, by which a shell calls it.
const TOOL: &str = "shm-sync";

/// Prints the manual page, or writes one page per command.
pub(crate) fn manual(man: &Man) -> Result<Outcome, Failure> {
    let command = Arguments::command();
    match &man.directory {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            print_bytes(&page)?;
        }
        Some(directory) => clap_mangen::generate_to(command, directory)
            .map_err(|error| Failure::of(directory.display(), &error))?,
    }
    Ok(Outcome::Done)
}

/// Prints the script that makes a shell ask this tool for completions.
pub(crate) fn completions(completions: &Completions) -> Result<Outcome, Failure> {
    let shell = completions.shell.to_string();
    let shells = Shells::builtins();
    let Some(completer) = shells.completer(&shell) else {
        return Err(Failure::Failed(format!("{shell} can't call the tool")));
    };
    let mut text = Vec::new();
    completer.write_registration(COMPLETE, TOOL, TOOL, TOOL, &mut text)?;
    if completer.is("bash") {
        text.extend_from_slice(include_bytes!("completions.bash"));
    }
    print_bytes(&text)?;
    Ok(Outcome::Done)
}

/// Answers a shell that asks for completions. Returns whether one did.
pub(crate) fn complete() -> Result<bool, Failure> {
    let environment = CompleteEnv::with_factory(Arguments::command).var(COMPLETE);
    let directory = std::env::current_dir().ok();
    match environment.try_complete(std::env::args_os(), directory.as_deref()) {
        Ok(is_done) => {
            io::stdout().flush()?;
            Ok(is_done)
        }
        Err(error) => Err(Failure::of("completions", &error)),
    }
}

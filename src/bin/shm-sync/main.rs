//! The command line tool. It prints the results of [`shm_sync::inspect`].

mod arguments;
mod json;
mod labels;
mod man;
mod manage;
mod output;
mod show;
mod table;
mod text;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use shm_sync::Error;
use shm_sync::inspect::{self, Scope};

use arguments::{Arguments, Command, Ls, Maps, Show};
use json::{AttachmentRow, DetailsRow, ObjectRow};
use output::{Failure, Outcome, details, eprint_error, print};
use text::{Palette, escape_lines};

const NOT_DONE: u8 = 1;
const REFUSED: u8 = 2;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return print_clap_message(&error),
    };
    let failure = match run(arguments) {
        Ok(Outcome::Done) => return ExitCode::SUCCESS,
        Ok(Outcome::Incomplete) => return ExitCode::from(NOT_DONE),
        // The reader of the output has closed it.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            return ExitCode::SUCCESS;
        }
        Err(failure) => failure,
    };
    let (text, code) = match failure {
        Failure::Failed(text) => (text, NOT_DONE),
        Failure::Refused(text) => (text, REFUSED),
        Failure::Output(error) => (format!("the output can't be written: {error}"), NOT_DONE),
    };
    eprint_error(&text);
    ExitCode::from(code)
}

/// Prints a message of clap: help to standard output, and errors, which quote the
/// arguments, to standard error.
fn print_clap_message(error: &clap::Error) -> ExitCode {
    let text = escape_lines(&error.render().to_string());
    let written = if error.use_stderr() {
        write!(io::stderr(), "{text}").map_err(Failure::Output)
    } else {
        print(&text)
    };
    // If the output is closed, the exit code remains.
    let _ = written;
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(REFUSED))
}

fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let palette = Palette::new(arguments.color);
    match arguments.command {
        Command::Ls(ls) => list(&ls, palette),
        Command::Show(show) => show_one(&show, palette),
        Command::Watch(watch) => watch::watch(&watch, palette),
        Command::Maps(maps) => attachments(&maps, palette),
        Command::Rm(rm) => manage::remove(&rm),
        Command::Gc(gc) => manage::collect(&gc, palette),
        Command::ClearPoison(clear) => manage::clear_poison(&clear),
        Command::Man(man) => man::manual(&man),
        Command::Completions(completions) => man::completions(&completions),
    }
}

fn scope(all: bool) -> Scope {
    if all {
        Scope::Everything
    } else {
        Scope::Segments
    }
}

fn list(ls: &Ls, palette: Palette) -> Result<Outcome, Failure> {
    let objects = inspect::objects(scope(ls.all)).map_err(|error| Failure::of("ls", &error))?;
    print(&if ls.format.json {
        json::pretty(&objects.iter().map(ObjectRow::from).collect::<Vec<_>>())?
    } else {
        table::objects(&objects, palette)
    })?;
    Ok(Outcome::Done)
}

fn show_one(show: &Show, palette: Palette) -> Result<Outcome, Failure> {
    let address = &show.subject.address;
    let details = details(address, show.limit.limit)?;
    print(&if show.format.json {
        json::pretty(&DetailsRow::from(&details))?
    } else {
        show::details(&details, palette)
    })?;
    match details.object.content.segment() {
        Some(_) => Ok(Outcome::Done),
        None => Ok(Outcome::Incomplete),
    }
}

fn attachments(maps: &Maps, palette: Palette) -> Result<Outcome, Failure> {
    let found = inspect::attachments_of(maps.pid, scope(maps.all));
    let attachments = found.map_err(|error| match error {
        Error::NotFound { .. } => Failure::Failed(format!("there is no process {}", maps.pid)),
        Error::PermissionDenied { .. } => {
            Failure::Failed(format!("process {} belongs to another user", maps.pid))
        }
        other => Failure::of(format!("process {}", maps.pid), &other),
    })?;
    print(&if maps.format.json {
        json::pretty(
            &attachments
                .iter()
                .map(AttachmentRow::from)
                .collect::<Vec<_>>(),
        )?
    } else {
        table::attachments(&attachments, palette)
    })?;
    Ok(Outcome::Done)
}

//! The command line tool. It prints the results of [`shm_sync::inspect`].

mod arguments;
mod c_header;
mod collect;
mod complete;
mod confirm;
mod export;
mod json;
mod labels;
mod man;
mod manage;
mod output;
mod sheet;
mod show;
mod table;
mod text;
mod view;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use shm_sync::Error;
use shm_sync::inspect::{self, Scope};

use arguments::{Arguments, Command, Ls, Maps, Show};
use json::{AttachmentRow, DetailsRow, ObjectRow};
use output::{Failure, Outcome, details, exit_code, print, values};
use text::escape_lines;
use view::View;

fn main() -> ExitCode {
    exit_code(match man::complete() {
        Ok(true) => Ok(Outcome::Done),
        Ok(false) => parse_and_run(),
        Err(failure) => Err(failure),
    })
}

fn parse_and_run() -> Result<Outcome, Failure> {
    match Arguments::try_parse() {
        Ok(arguments) => run(arguments),
        Err(error) => print_clap_message(&error),
    }
}

/// Prints a message of clap: help to standard output, and errors, which quote the
/// arguments, to standard error.
fn print_clap_message(error: &clap::Error) -> Result<Outcome, Failure> {
    let text = escape_lines(&error.render().to_string());
    if error.use_stderr() {
        // If standard error is closed, the exit code remains.
        let _ = write!(io::stderr(), "{text}");
        return Ok(Outcome::Misused);
    }
    print(&text)?;
    Ok(Outcome::Done)
}

fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let view = |is_wide| View::new(arguments.color, is_wide);
    match arguments.command {
        Command::Ls(ls) => list(&ls, view(ls.columns.wide)),
        Command::Show(show) => show_one(&show, view(show.columns.wide)),
        Command::Watch(watch) => watch::watch(&watch, view(watch.wide)),
        Command::Maps(maps) => attachments(&maps, view(maps.columns.wide)),
        Command::Rm(rm) => manage::remove(&rm),
        Command::Gc(gc) => collect::collect(&gc, view(false)),
        Command::ClearPoison(clear) => manage::clear_poison(&clear),
        Command::ExportC(export) => export::export_c(&export),
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

fn list(ls: &Ls, view: View) -> Result<Outcome, Failure> {
    let objects = inspect::objects(scope(ls.all)).map_err(|error| Failure::of("ls", &error))?;
    print(&if ls.format.json {
        json::pretty(&objects.iter().map(ObjectRow::from).collect::<Vec<_>>())?
    } else {
        table::objects(&objects, view)
    })?;
    Ok(Outcome::Done)
}

fn show_one(show: &Show, view: View) -> Result<Outcome, Failure> {
    let address = &show.subject.address;
    let details = details(address, show.limit.limit)?;
    let values = match details.object.content.segment() {
        Some(_) if show.values => Some(values(address, show.limit.limit)?),
        _ => None,
    };
    print(&if show.format.json {
        let mut row = DetailsRow::from(&details);
        if let Some(values) = &values {
            row.set_values(values.as_ref());
        }
        json::pretty(&row)?
    } else {
        let mut text = show::details(&details, view);
        if let Some(values) = &values {
            text += &show::values(values.as_ref(), view);
        }
        text
    })?;
    match details.object.content.segment() {
        Some(_) => Ok(Outcome::Done),
        None => Ok(Outcome::Incomplete),
    }
}

fn attachments(maps: &Maps, view: View) -> Result<Outcome, Failure> {
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
        table::attachments(&attachments, view)
    })?;
    Ok(Outcome::Done)
}

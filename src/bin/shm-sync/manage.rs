//! The commands that change something: `rm`, `gc` and `clear-poison`.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use shm_sync::inspect::{
    self, ClearPoisonError, Content, Link, LockState, MutexState, Object, Scope, State, SyncState,
};
use shm_sync::{Address, Backing, Error};

use crate::arguments::{ClearPoison, Gc, Rm};
use crate::output::{Failure, Outcome, eprint_error, message, no_such_object, print};
use crate::text::{Palette, Style, bytes, escape};
use crate::{json, labels, table};

/// Removes the named segments to which no process is attached.
pub(crate) fn remove(rm: &Rm) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::Done;
    for address in &rm.addresses {
        if let Err(error) = inspect::remove(address) {
            outcome = Outcome::Incomplete;
            eprint_error(&match removal_reason(address, &error) {
                Some(reason) => format!("{}: {reason}", escape(&address.to_string())),
                None => message(address, &error),
            });
        }
    }
    Ok(outcome)
}

/// Returns why a segment was not removed, or `None` if the error says it.
fn removal_reason(address: &Address, error: &Error) -> Option<String> {
    Some(match error {
        Error::NotFound { .. } => "there is no such segment".to_owned(),
        Error::NotASegment { .. } => format!(
            "it is not a segment of shm-sync: use {}",
            foreign_tool(address)
        ),
        Error::PermissionDenied { .. } => "permission denied".to_owned(),
        Error::InUse { .. } => format!("it is in use{}, so it stays", users(address)),
        _ => return None,
    })
}

fn foreign_tool(address: &Address) -> &'static str {
    match address.backing() {
        Backing::SystemV => "ipcrm to remove it",
        _ => "rm to remove it",
    }
}

/// Returns the processes that use a segment, as far as they are visible.
fn users(address: &Address) -> String {
    let pids = inspect::object(address).map_or_else(|_| Vec::new(), |object| object.users.pids);
    let name = |pid: &u32| match inspect::command_of(*pid) {
        Some(command) => format!("{pid} ({})", escape(&command)),
        None => pid.to_string(),
    };
    let names: Vec<_> = pids.iter().take(8).map(name).collect();
    match (names.is_empty(), pids.len() > names.len()) {
        (true, _) => String::new(),
        (false, true) => format!(" by {} and others", names.join(", ")),
        (false, false) => format!(" by {}", names.join(", ")),
    }
}

/// A row of `gc`: the outcome for a segment to which no process was attached.
#[derive(Debug, Serialize)]
struct Collected {
    name: String,
    address: String,
    backing: String,
    size: u64,
    /// `removed`, `would be removed`, `in use`, `gone`, `left alone` or `failed`.
    outcome: &'static str,
    /// Why it was not removed.
    reason: Option<String>,
}

/// Removes every segment to which no process is attached.
pub(crate) fn collect(gc: &Gc, palette: Palette) -> Result<Outcome, Failure> {
    let objects = inspect::objects(Scope::Segments).map_err(|error| Failure::of("gc", &error))?;
    let rows: Vec<_> = objects
        .iter()
        .filter_map(|object| collect_one(object, gc))
        .collect();
    if gc.format.json {
        print(&json::pretty(&rows)?)?;
        return Ok(Outcome::Done);
    }
    let mut table = table::new(palette, &["NAME", "BACKING", "SIZE", "OUTCOME", "REASON"]);
    for row in &rows {
        let style = match row.outcome {
            "removed" | "would be removed" => Style::Good,
            "failed" => Style::Bad,
            _ => Style::Plain,
        };
        table.add_row([
            table::cell(escape(&row.name), Style::Plain),
            table::cell(&row.backing, Style::Plain),
            table::cell(bytes(row.size), Style::Plain),
            table::cell(row.outcome, style),
            table::cell(escape(row.reason.as_deref().unwrap_or("")), Style::Faint),
        ]);
    }
    print(&if rows.is_empty() {
        "nothing to remove\n".to_owned()
    } else {
        table::finish(&table)
    })?;
    Ok(Outcome::Done)
}

fn collect_one(object: &Object, gc: &Gc) -> Option<Collected> {
    let address = object.address.as_ref()?;
    // Files are persistent, and are listed only while a process maps them.
    let is_garbage = object.state() == State::Abandoned
        && object.link != Link::Unlinked
        && matches!(object.backing, Backing::Posix | Backing::SystemV);
    if !is_garbage {
        return None;
    }
    let (outcome, reason) = match &object.content {
        Content::Segment(_) | Content::Unfinished if gc.dry_run => ("would be removed", None),
        Content::Segment(_) | Content::Unfinished => match inspect::remove(address) {
            Ok(()) => ("removed", None),
            Err(Error::InUse { .. }) => (
                "in use",
                Some("a process has attached it meanwhile".to_owned()),
            ),
            Err(Error::NotFound { .. }) => {
                ("gone", Some("another process has removed it".to_owned()))
            }
            Err(error) => {
                let reason = removal_reason(address, &error);
                let reason = reason.unwrap_or_else(|| labels::error_chain(&error));
                ("failed", Some(reason))
            }
        },
        Content::Unreadable(error) => {
            let reason = format!(
                "{}; `shm-sync rm NAME` removes it",
                labels::error_chain(error)
            );
            ("left alone", Some(reason))
        }
        _ => return None,
    };
    Some(Collected {
        name: object.name.clone(),
        address: address.to_string(),
        backing: object.backing.to_string(),
        size: object.len,
        outcome,
        reason,
    })
}

/// Clears the poison of a mutex, after confirmation.
pub(crate) fn clear_poison(clear: &ClearPoison) -> Result<Outcome, Failure> {
    let address = &clear.subject.address;
    let (path, mutex) = find(address, &clear.field)?;
    let shown = format!(
        "{} of {}",
        escape(&clear.field),
        escape(&address.to_string())
    );
    let Some(cause) = mutex.poison else {
        return Err(Failure::Failed(format!("{shown} is not poisoned")));
    };
    let what = format!("{shown} is poisoned: {}", cause);
    match confirm(&what, clear, &mutex)? {
        Answer::Yes => {}
        Answer::No => return Err(Failure::Refused("nothing was changed".to_owned())),
    }
    match inspect::clear_poison(address, &path, cause) {
        Ok(()) => Ok(Outcome::Done),
        // Another process has cleared it.
        Err(ClearPoisonError::NotPoisoned) => Ok(Outcome::Done),
        Err(error) => Err(Failure::of(shown, &error)),
    }
}

/// Returns the path of the mutex that the field names, and its state.
fn find(address: &Address, field: &str) -> Result<(String, MutexState), Failure> {
    let candidates = match field {
        "." => [String::new(), field.to_owned()],
        _ => [field.to_owned(), format!(".{field}")],
    };
    for path in candidates {
        let found = inspect::sync_object(address, &path).map_err(|error| match error {
            Error::NotFound { .. } => no_such_object(address),
            other => Failure::of(address, &other),
        })?;
        if let Some(SyncState::Mutex(mutex)) = found.map(|object| object.state) {
            return Ok((path, mutex));
        }
    }
    let (field, address) = (escape(field), escape(&address.to_string()));
    let text = format!("{address} has no mutex {field}: `shm-sync show` lists them");
    Err(Failure::Failed(text))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
}

/// Asks the user, unless `--yes` is given.
fn confirm(what: &str, clear: &ClearPoison, mutex: &MutexState) -> Result<Answer, Failure> {
    if clear.yes {
        return Ok(Answer::Yes);
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        let text = format!("{what}\nthere is no terminal for a confirmation: use --yes");
        return Err(Failure::Refused(text));
    }
    let held = match mutex.lock {
        LockState::Held(_) => "A thread holds the mutex. It may be repairing the data.\n",
        _ => "",
    };
    let mut err = io::stderr();
    write!(
        err,
        "{what}\n{held}The data may be inconsistent, and the next locker will not be told. Clear? [y/N] "
    )?;
    err.flush()?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    match line.trim() {
        "y" | "Y" | "yes" => Ok(Answer::Yes),
        _ => Ok(Answer::No),
    }
}

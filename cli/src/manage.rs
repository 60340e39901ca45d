//! The commands that change one segment: `rm` and `clear-poison`.

use shm_sync::inspect::{self, ClearPoisonError, LockState, MutexState, SyncState};
use shm_sync::{Address, Backing, Error};

use crate::arguments::{ClearPoison, Rm};
use crate::confirm::{self, Answer};
use crate::output::{Failure, Outcome, eprint_error, message, no_such_object};
use crate::text::escape;

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
pub(crate) fn removal_reason(address: &Address, error: &Error) -> Option<String> {
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

/// Asks the user, unless `--yes` is given.
fn confirm(what: &str, clear: &ClearPoison, mutex: &MutexState) -> Result<Answer, Failure> {
    if clear.yes {
        return Ok(Answer::Yes);
    }
    if !confirm::is_possible() {
        let text = format!("{what}\nthere is no terminal for a confirmation: use --yes");
        return Err(Failure::Refused(text));
    }
    let held = match mutex.lock {
        LockState::Held(_) => "A thread holds the mutex. It may be repairing the data.\n",
        _ => "",
    };
    let warning = "The data may be inconsistent, and the next locker will not be told. Clear?";
    confirm::ask(&format!("{what}\n{held}"), warning)
}

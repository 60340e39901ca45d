//! The words for states and kinds, in text and JSON.

use shm_sync::inspect::{
    Access, Content, Epoch, FileKind, Holder, HolderState, Link, LockState, Object, State,
    SyncState, Users, Waiters,
};
use shm_sync::{Error, PoisonCause, Removal};

use crate::text::{Style, escape};

/// Returns the state of an object: its kind of content, or whether a process uses it.
pub(crate) fn state(object: &Object) -> (&'static str, Style) {
    match &object.content {
        Content::Segment(_) => in_use(object),
        Content::Unfinished => ("unfinished", Style::Doubtful),
        Content::Unreadable(Error::UnsupportedFormat { .. }) => ("other version", Style::Doubtful),
        Content::Unreadable(_) => ("damaged", Style::Bad),
        Content::Foreign(_) => ("foreign", Style::Faint),
        _ => ("unreadable", Style::Doubtful),
    }
}

/// Returns whether a process uses the object.
pub(crate) fn in_use(object: &Object) -> (&'static str, Style) {
    match object.state() {
        State::Attached => ("attached", Style::Good),
        State::Abandoned => ("abandoned", Style::Doubtful),
        _ => ("unknown", Style::Doubtful),
    }
}

pub(crate) fn link(link: Link) -> &'static str {
    match link {
        Link::Named => "named",
        Link::Unlinked => "unlinked",
        _ => "nameless",
    }
}

/// Returns why an object has no segment to show, or `None` if it has one.
pub(crate) fn reason(object: &Object) -> Option<String> {
    Some(match &object.content {
        Content::Segment(_) => return None,
        Content::Unfinished => "its creator has not finished it, or has died".to_owned(),
        Content::Unreadable(error) => error_chain(error),
        Content::Inaccessible(Error::PermissionDenied { .. }) => "permission denied".to_owned(),
        Content::Inaccessible(error) => error_chain(error),
        Content::Foreign(kind) => format!("not a segment: {}", file_kind(*kind)),
        _ => "unknown".to_owned(),
    })
}

fn file_kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Memory => "other data",
        FileKind::Directory => "a directory",
        FileKind::Symlink => "a symbolic link",
        _ => "a special file",
    }
}

/// Returns the message of an error and of its sources, escaped for output.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    escape(&text)
}

pub(crate) fn removal(removal: Removal) -> &'static str {
    match removal {
        Removal::Persistent => "persistent",
        Removal::UntilLastDetach => "until-last-detach",
        _ => "unknown",
    }
}

pub(crate) fn epoch(epoch: Epoch) -> &'static str {
    match epoch {
        Epoch::Current => "current",
        Epoch::OtherNamespace => "other-pid-namespace",
        Epoch::Past => "past",
        _ => "unknown",
    }
}

pub(crate) fn kind(state: &SyncState) -> &'static str {
    match state {
        SyncState::Mutex(_) => "mutex",
        SyncState::Condvar(_) => "condvar",
        SyncState::PthreadCondvar => "pthread-condvar",
        SyncState::Seat(_) => "seat",
        SyncState::Event(_) => "event",
        _ => "unreadable",
    }
}

/// Returns the word for the state of a lock in JSON.
pub(crate) fn lock(lock: &LockState) -> &'static str {
    match lock {
        LockState::NotPlaced => "not placed",
        LockState::Free => "free",
        LockState::Held(_) => "held",
        LockState::OwnerDied => "owner died",
        LockState::NotRecoverable => "not recoverable",
        _ => "unknown",
    }
}

/// Returns the state of a lock and of its holder, for a table.
pub(crate) fn lock_and_holder(state: &LockState) -> (&'static str, Style) {
    match state {
        LockState::Held(Holder { state, .. }) => match state {
            HolderState::Alive => ("held", Style::Good),
            HolderState::Stopped => ("held, stopped", Style::Doubtful),
            HolderState::Dead => ("held, dead", Style::Bad),
            _ => ("held, unknown", Style::Doubtful),
        },
        LockState::NotPlaced => (lock(state), Style::Faint),
        LockState::Free => (lock(state), Style::Plain),
        LockState::OwnerDied | LockState::NotRecoverable => (lock(state), Style::Bad),
        _ => (lock(state), Style::Doubtful),
    }
}

/// Returns the word for the state of a seat in JSON.
pub(crate) fn seat(lock: &LockState) -> &'static str {
    match lock {
        LockState::Free => "vacant",
        LockState::Held(_) => "occupied",
        LockState::OwnerDied => "orphaned",
        other => self::lock(other),
    }
}

/// Returns the state of a seat and of its occupant, for a table.
pub(crate) fn seat_and_occupant(state: &LockState) -> (&'static str, Style) {
    match state {
        LockState::Held(Holder { state, .. }) => match state {
            HolderState::Alive => ("occupied", Style::Good),
            HolderState::Stopped => ("occupied, stopped", Style::Doubtful),
            HolderState::Dead => ("occupied, dead", Style::Bad),
            _ => ("occupied, unknown", Style::Doubtful),
        },
        other => (seat(other), lock_and_holder(other).1),
    }
}

/// Returns whether an event is set.
pub(crate) fn event(is_set: bool) -> &'static str {
    if is_set { "set" } else { "not set" }
}

/// Returns the number of attachments without a visible process.
///
/// A process can attach a System V segment twice. If this process may read the mappings
/// of all processes, the attachments are those of visible processes, or of processes
/// in other containers.
pub(crate) fn unseen_attachments(users: &Users) -> u64 {
    if !users.pids.is_empty() && users.unreadable_pids.is_empty() {
        return 0;
    }
    let attachments = users.attachments.unwrap_or(0);
    attachments.saturating_sub(users.pids.len() as u64)
}

/// Returns the processes that may use the object although they are not known to. Their
/// mappings are unreadable.
pub(crate) fn possible_users(users: &Users) -> &[u32] {
    match users.attachments {
        Some(_) if unseen_attachments(users) == 0 => &[],
        _ => &users.unreadable_pids,
    }
}

pub(crate) fn holder_state(state: HolderState) -> &'static str {
    match state {
        HolderState::Alive => "alive",
        HolderState::Stopped => "stopped",
        HolderState::Dead => "dead",
        _ => "unknown",
    }
}

pub(crate) fn poison(cause: PoisonCause) -> &'static str {
    match cause {
        PoisonCause::OwnerDied { .. } => "owner died",
        PoisonCause::Panicked { .. } => "panicked",
        _ => "unknown",
    }
}

pub(crate) fn waiters(waiters: Waiters) -> &'static str {
    match waiters {
        Waiters::Some => "yes",
        _ => "none seen",
    }
}

pub(crate) fn access(access: Access) -> &'static str {
    match access {
        Access::ReadOnly => "read-only",
        _ => "read-write",
    }
}

//! What the library's findings are called, in every output.

use shm_sync::inspect::{
    Content, Epoch, FileKind, Holder, HolderState, Link, LockState, Object, State, SyncState,
    Waiters,
};
use shm_sync::{Error, PoisonCause, Removal};

use crate::text::{Tone, harmless};

/// One word for what an object is and whether anybody uses it.
pub(crate) fn state(object: &Object) -> (&'static str, Tone) {
    match &object.content {
        Content::Segment(_) => in_use(object),
        Content::Unfinished => ("unfinished", Tone::Doubtful),
        Content::Unreadable(Error::UnsupportedFormat { .. }) => ("other version", Tone::Doubtful),
        Content::Unreadable(_) => ("damaged", Tone::Bad),
        Content::Foreign(_) => ("foreign", Tone::Faint),
        _ => ("unreadable", Tone::Doubtful),
    }
}

/// Whether anybody uses an object.
pub(crate) fn in_use(object: &Object) -> (&'static str, Tone) {
    match object.state() {
        State::Live => ("live", Tone::Good),
        State::Stale => ("stale", Tone::Doubtful),
        _ => ("unknown", Tone::Doubtful),
    }
}

pub(crate) fn link(link: Link) -> &'static str {
    match link {
        Link::Named => "named",
        Link::Unlinked => "unlinked",
        _ => "nameless",
    }
}

/// Why there is no more to say about an object; `None` if there is.
pub(crate) fn reason(object: &Object) -> Option<String> {
    Some(match &object.content {
        Content::Segment(_) => return None,
        Content::Unfinished => "its creator has not finished it, or died before".to_owned(),
        Content::Unreadable(error) => whole(error),
        Content::Inaccessible(Error::PermissionDenied) => "permission denied".to_owned(),
        Content::Inaccessible(error) => whole(error),
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

/// An error with what caused it, as it may be shown.
pub(crate) fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    harmless(&text)
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
        _ => "unreadable",
    }
}

pub(crate) fn lock(lock: &LockState) -> (&'static str, Tone) {
    match lock {
        LockState::NotPlaced => ("not placed", Tone::Faint),
        LockState::Free => ("free", Tone::Plain),
        LockState::Held(Holder {
            state: HolderState::Dead,
            ..
        }) => ("held", Tone::Bad),
        LockState::Held(_) => ("held", Tone::Good),
        LockState::OwnerDied => ("owner died", Tone::Bad),
        LockState::NotRecoverable => ("not recoverable", Tone::Bad),
        _ => ("unknown", Tone::Doubtful),
    }
}

pub(crate) fn fate(fate: HolderState) -> &'static str {
    match fate {
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

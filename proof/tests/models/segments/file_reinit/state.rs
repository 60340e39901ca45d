//! The states: an object with locks that may be of another epoch, and the processes.

use std::fmt;

use crate::segments::search::Label;

/// A boot that a process sees, or that a word of the epoch names.
pub(super) type Boot = u8;

/// A pid namespace.
pub(super) type Namespace = u8;

/// A boot and a namespace, for which locks are valid.
pub(super) type Epoch = (Boot, Namespace);

/// The boot that made the file.
pub(super) const PAST_BOOT: Epoch = (0, 0);

/// The epoch that most processes see.
pub(super) const CURRENT: Epoch = (1, 1);

/// Another boot.
pub(super) const OTHER_BOOT: Epoch = (2, 1);

/// Another container in the same boot.
pub(super) const CONTAINER: Epoch = (1, 2);

/// A container of the same boot that has ended.
pub(super) const ENDED_CONTAINER: Epoch = (1, 0);

/// Returns the name of an epoch, for a scenario.
pub(super) fn name_of(epoch: Epoch) -> &'static str {
    match epoch {
        PAST_BOOT => "a past boot",
        CURRENT => "this epoch",
        OTHER_BOOT => "another boot",
        CONTAINER => "another container",
        ENDED_CONTAINER => "an ended container",
        _ => "an unnamed epoch",
    }
}

/// The value of a word of the epoch while the epoch changes.
pub(super) const CHANGING: Boot = Boot::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    NoReinitLock,
    EpochBeforeLocks,
    OthersIgnored,
    OthersTestedOnly,
    NoLoadBeforeReinit,
    NoLoadAfterLock,
    InvalidatedLate,
    NamespaceReadOnce,
    NamespaceWrittenLast,
    ReinitUnlockedFirst,
    EndLoadedOnce,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoReinitLock => "no process locks `REINIT`",
            Self::EpochBeforeLocks => "the epoch is written before the locks are reinitialised",
            Self::OthersIgnored => "other attached processes are ignored",
            Self::OthersTestedOnly => "other attached processes are tested for and not excluded",
            Self::NoLoadBeforeReinit => "the epoch is not loaded again before the reinitialisation",
            Self::NoLoadAfterLock => "an opener does not load the epoch after it is attached",
            Self::InvalidatedLate => "the epoch is invalidated after the locks are reinitialised",
            Self::NamespaceReadOnce => {
                "the namespace is read before the opener is attached, and not again"
            }
            Self::NamespaceWrittenLast => "the namespace is written after the rest of the epoch",
            Self::ReinitUnlockedFirst => "a refused process unlocks `REINIT` before its own byte",
            Self::EndLoadedOnce => "the end of the epoch is loaded once",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Open,
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[rustfmt::skip]
pub(super) enum Step {
    Idle, Dead,
    ReadNamespace, ReadFront, ReadEnd, ReadBack, LockReinit, LockOwn,
    LoadEnd, LoadFront, LoadBack, LoadNamespace, LoadEndAgain,
    LockWriters, BeginReinit, EndReinit,
    InvalidateEnd, WriteNamespace, WriteFront, WriteBack, WriteEnd, Downgrade,
    UnlockOwn, UnlockReinit, Close,
}

/// The bytes of `WRITERS` that a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Writers {
    None,
    Own,
    All,
}

/// The way of a process from its present step on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Path {
    Normal,
    Reinit,
    Refused,
    Retry,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Process {
    pub(super) label: Label,
    pub(super) epoch: Epoch,
    pub(super) step: Step,
    pub(super) path: Path,
    /// The calls of `open` that it may still make.
    pub(super) tasks_left: u8,
    pub(super) holds_reinit: bool,
    pub(super) writers: Writers,
    pub(super) is_user: bool,
    /// All words that it has read so far are of its own epoch.
    pub(super) is_current: bool,
    pub(super) epoch_changed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Locks {
    ValidIn(Epoch),
    /// Some locks are reinitialised, and some are not.
    Partial,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Violation {
    /// A process reinitialised valid locks.
    ReinitialisedAgain,
    /// A process was refused although all see one epoch, or because of refused
    /// processes.
    Refused,
    IdleRetry,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) namespace: Namespace,
    pub(super) front: Boot,
    pub(super) end: Boot,
    pub(super) back: Boot,
    pub(super) locks: Locks,
    pub(super) processes: Vec<Process>,
    pub(super) violation: Option<Violation>,
}

impl State {
    pub(super) fn others(&self, pid: usize) -> impl Iterator<Item = &Process> {
        let all = self.processes.iter().enumerate();
        all.filter(move |(other, _)| *other != pid)
            .map(|(_, process)| process)
    }

    /// Returns whether another process holds a lock in `WRITERS`.
    pub(super) fn is_attached_by_other(&self, pid: usize) -> bool {
        let mut others = self.others(pid);
        others.any(|other| other.writers != Writers::None)
    }

    pub(super) fn users(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| process.is_user)
    }

    /// Notes for all other processes that the epoch has changed.
    pub(super) fn note_progress(&mut self, pid: usize) {
        for (other, process) in self.processes.iter_mut().enumerate() {
            process.epoch_changed |= other != pid;
        }
    }

    pub(super) fn is_valid_in(&self, (boot, namespace): Epoch) -> bool {
        [self.front, self.end, self.back] == [boot; 3] && self.namespace == namespace
    }

    /// Returns whether no other process justifies a refusal of this one.
    pub(super) fn is_wrongly_refused(&self, pid: usize) -> bool {
        let epoch = self.processes[pid].epoch;
        let mut after_load = self.others(pid).filter(|it| it.writers != Writers::None);
        self.processes.iter().all(|process| process.epoch == epoch)
            || after_load.all(|it| it.epoch == epoch && it.path == Path::Refused)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FileReinit {
    /// The epoch that each process sees.
    pub(super) epochs: &'static [Epoch],
    /// The epoch of the file at first.
    pub(super) file_epoch: Epoch,
    pub(super) tasks: u8,
    pub(super) mistake: Option<Mistake>,
}

impl FileReinit {
    pub(super) fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }
}

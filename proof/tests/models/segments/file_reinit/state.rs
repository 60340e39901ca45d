//! The world of an object whose locks are of another boot or namespace.

use crate::segments::search::Name;

/// Which boot a process sees, or something is of.
pub(super) type Boot = u8;

/// Which pid namespace a process lives in, or something is of.
pub(super) type Namespace = u8;

/// Both: where locks are valid.
pub(super) type View = (Boot, Namespace);

/// The boot that made the file.
pub(super) const PAST: View = (0, 0);

/// What most processes see.
pub(super) const HERE: View = (1, 1);

/// Another boot.
pub(super) const MASKED: View = (2, 1);

/// The same boot, in another container.
pub(super) const CONTAINER: View = (1, 2);

/// The same boot, in a container that is gone.
pub(super) const GONE: View = (1, 0);

/// What a word of the origin says while it is being changed.
pub(super) const CHANGING: Boot = Boot::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    NoRevivalLock,
    OriginBeforeLocks,
    CompanyIgnored,
    /// The reviver asks whether others are attached, and does not exclude them.
    CompanyOnlyAsked,
    NoLoadBeforeRevival,
    NoLoadAfterAttaching,
    /// The locks are made anew while the origin still says that they are alive.
    EndMarkedLate,
    /// The namespace is compared when the header is read by `pread`, and not again.
    NamespaceOnlyPeeked,
    /// The namespace is written after the origin says that all is done.
    NamespaceWrittenLast,
    /// A refused process unlocks `REVIVAL` first.
    RefusedStays,
    /// Harmless.
    EndLoadedOnce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Open,
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[rustfmt::skip]
pub(super) enum At {
    Rest, Dead,
    PeekNamespace, PeekFront, PeekEnd, PeekBack, TakeRevival, TakeShared,
    LoadEnd, LoadFront, LoadBack, LoadNamespace, LoadEndAgain,
    Exclude, BeginRevival, EndRevival,
    MarkEnd, WriteNamespace, WriteFront, WriteBack, WriteEnd, Share,
    LeaveWriters, FreeRevival, Close,
}

/// What a process has of the bytes of `WRITERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Writers {
    None,
    Own,
    All,
}

/// How a process goes on from where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Course {
    Straight,
    Reviving,
    Refused,
    Again,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Process {
    pub(super) name: Name,
    pub(super) view: View,
    pub(super) at: At,
    pub(super) course: Course,
    /// How many times it may still open the file.
    pub(super) left: u8,
    pub(super) has_revival: bool,
    pub(super) writers: Writers,
    pub(super) is_user: bool,
    /// Whether all words that were read so far are what it sees.
    pub(super) is_home: bool,
    pub(super) is_overtaken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Locks {
    AliveIn(View),
    /// Some are, some are not.
    HalfRevived,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wrong {
    /// Locks that were alive, and said to be, were made anew.
    RevivedAgain,
    /// A process was refused although all see the same, or because of others that are
    /// refused themselves.
    Refused,
    IdleTurn,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) namespace: Namespace,
    pub(super) front: Boot,
    pub(super) end: Boot,
    pub(super) back: Boot,
    pub(super) locks: Locks,
    pub(super) processes: Vec<Process>,
    pub(super) wrong: Option<Wrong>,
}

impl World {
    pub(super) fn others(&self, who: usize) -> impl Iterator<Item = &Process> {
        let all = self.processes.iter().enumerate();
        all.filter(move |(other, _)| *other != who)
            .map(|(_, process)| process)
    }

    /// Whether somebody else has a lock in `WRITERS`.
    pub(super) fn has_company(&self, who: usize) -> bool {
        let mut others = self.others(who);
        others.any(|other| other.writers != Writers::None)
    }

    pub(super) fn users(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| process.is_user)
    }

    /// The origin has changed.
    pub(super) fn tell_others(&mut self, who: usize) {
        for (other, process) in self.processes.iter_mut().enumerate() {
            process.is_overtaken |= other != who;
        }
    }

    pub(super) fn is_of(&self, (boot, namespace): View) -> bool {
        [self.front, self.end, self.back] == [boot; 3] && self.namespace == namespace
    }

    /// Whether this process should not be refused.
    pub(super) fn is_wrongly_refused(&self, who: usize) -> bool {
        let view = self.processes[who].view;
        let mut company = self.others(who).filter(|it| it.writers != Writers::None);
        self.processes.iter().all(|process| process.view == view)
            || company.all(|it| it.view == view && it.course == Course::Refused)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Revival {
    /// What each process sees.
    pub(super) views: &'static [View],
    /// What the file is of at first.
    pub(super) origin: View,
    pub(super) tasks: u8,
    pub(super) mutation: Option<Mutation>,
}

impl Revival {
    pub(super) fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

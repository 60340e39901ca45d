//! The world of a name: the kernel's part and the processes.

use crate::segments::search::Name;

/// An inode number.
pub(super) type Ino = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    PublishedHalf,
    PublishedBeforeAttached,
    NoLookAfterAttaching,
    LookBeforeAttaching,
    TriesInsteadOfWaiting,
    LeaverAsksBeforeItLetsGo,
    RemoverOnlyAsks,
    RemoverWaitsForUsers,
    RemoverDoesNotLook,
    RemoverHasNoRemoval,
    UnlinkHasNoRemoval,
    /// `unlink` of a name that led nowhere goes on without a lock.
    UnlinkOfNothingGoesOn,
    /// Harmless.
    RemoverLooksBeforeItExcludes,
    /// Harmless.
    RemovalFreedFirst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Task {
    Create,
    OpenOrCreate,
    Open,
    /// `gc`, `rm`, and the first half of `Abandoned::Recreate`.
    Remove,
    Unlink,
    /// To drop the segment.
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum At {
    Rest,
    Dead,
    MakeUnnamed,
    Fill,
    LockOwn,
    Link,
    Open,
    TakeShared,
    Look,
    Close,
    Reopen,
    LetGo,
    Visit,
    TakeRemoval,
    TryAll,
    LookAgain,
    TakeAway,
    FreeAll,
    FreeRemoval,
    VisitToUnlink,
    LockToUnlink,
    LookToUnlink,
    Unlink,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Process {
    pub(super) name: Name,
    pub(super) at: At,
    pub(super) task: Task,
    /// How many tasks it may still begin, beside leaving.
    pub(super) left: u8,
    /// What it has open to be attached to.
    pub(super) file: Option<Ino>,
    /// It has the shared lock through that.
    pub(super) is_attached: bool,
    /// It has a segment, and may use it.
    pub(super) is_user: bool,
    /// What it has built, and not published.
    pub(super) built: Option<Ino>,
    /// What it has open to take the name away.
    pub(super) visitor: Option<Ino>,
    /// It has these locks through that.
    pub(super) has_removal: bool,
    pub(super) has_all: bool,
    /// Somebody else has changed the name since this turn of a loop began.
    pub(super) is_overtaken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Inode {
    pub(super) is_whole: bool,
    /// Its name was taken away by `unlink`.
    pub(super) is_unlinked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wrong {
    /// A name was taken away from another object than the one that was judged.
    AnotherRemoved,
    /// `open` found nothing although somebody was attached.
    NotFound,
    /// A turn of a loop that nobody else has caused.
    IdleTurn,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) path: Option<Ino>,
    pub(super) inodes: Vec<Option<Inode>>,
    pub(super) processes: Vec<Process>,
    pub(super) wrong: Option<Wrong>,
}

impl World {
    pub(super) fn inode(&self, ino: Ino) -> Inode {
        self.inodes[ino].expect("open or named, so it is there")
    }

    /// Whether the name leads to the object of this user, or was taken from it by
    /// `unlink`.
    pub(super) fn is_named_or_unlinked(&self, user: &Process) -> bool {
        let file = user.file.expect("a user has it open");
        self.path == Some(file) || self.inode(file).is_unlinked
    }

    pub(super) fn users(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| process.is_user)
    }

    /// Whether another description than the visitor of `who` has a lock in `ATTACHED`.
    pub(super) fn has_company(&self, who: usize, ino: Ino) -> bool {
        let has_shared = |process: &Process| process.file == Some(ino) && process.is_attached;
        self.processes.iter().any(has_shared) || self.is_excluded(who, ino)
    }

    /// Whether somebody else has all of `ATTACHED` for itself.
    pub(super) fn is_excluded(&self, who: usize, ino: Ino) -> bool {
        let mut others = self.others(who);
        others.any(|process| process.visitor == Some(ino) && process.has_all)
    }

    pub(super) fn is_being_removed(&self, who: usize, ino: Ino) -> bool {
        let mut others = self.others(who);
        others.any(|process| process.visitor == Some(ino) && process.has_removal)
    }

    pub(super) fn others(&self, who: usize) -> impl Iterator<Item = &Process> {
        let all = self.processes.iter().enumerate();
        all.filter(move |(other, _)| *other != who)
            .map(|(_, process)| process)
    }

    pub(super) fn rename(&mut self, who: usize, path: Option<Ino>) {
        self.path = path;
        for (other, process) in self.processes.iter_mut().enumerate() {
            process.is_overtaken |= other != who;
        }
    }

    pub(super) fn turn(&mut self, who: usize) {
        if !std::mem::take(&mut self.processes[who].is_overtaken) {
            self.wrong = Some(Wrong::IdleTurn);
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Publication {
    pub(super) processes: usize,
    pub(super) tasks: u8,
    pub(super) mutation: Option<Mutation>,
}

impl Publication {
    pub(super) fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

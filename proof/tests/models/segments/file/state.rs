//! The states: a name, its inodes and the processes.

use std::fmt;

use crate::segments::search::Label;

/// An inode number.
pub(super) type Ino = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    LinkedBeforeWritten,
    LinkedBeforeLocked,
    NameUnchecked,
    NameCheckedBeforeLock,
    OpenerTriesLock,
    LeaverTestsBeforeClose,
    RemoverTestsOnly,
    RemoverWaitsForUsers,
    RemoverSkipsNameCheck,
    RemoverWithoutRemoval,
    UnlinkWithoutRemoval,
    UnlinkOfMissingContinues,
    RemoverChecksNameFirst,
    RemovalUnlockedFirst,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LinkedBeforeWritten => "the object gets its name before it is written",
            Self::LinkedBeforeLocked => "the object gets its name before its creator is attached",
            Self::NameUnchecked => "an opener does not check the name after it is attached",
            Self::NameCheckedBeforeLock => "an opener checks the name before it is attached",
            Self::OpenerTriesLock => "an opener tries its lock instead of waiting for it",
            Self::LeaverTestsBeforeClose => "a leaver tests for users before it is detached",
            Self::RemoverTestsOnly => "a remover tests for users and does not exclude them",
            Self::RemoverWaitsForUsers => "a remover waits for users",
            Self::RemoverSkipsNameCheck => "a remover does not check the name",
            Self::RemoverWithoutRemoval => "a remover does not lock `REMOVAL`",
            Self::UnlinkWithoutRemoval => "`unlink` does not lock `REMOVAL`",
            Self::UnlinkOfMissingContinues => "`unlink` of a missing name continues without a lock",
            Self::RemoverChecksNameFirst => "a remover checks the name before it excludes users",
            Self::RemovalUnlockedFirst => "a remover unlocks `REMOVAL` before `ATTACHED`",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Task {
    Create,
    OpenOrCreate,
    Open,
    /// `gc`, `rm`, or the first half of `IfAbandoned::Recreate`.
    Remove,
    Unlink,
    /// The segment is dropped.
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Step {
    Idle,
    Dead,
    OpenTmpfile,
    Write,
    LockOwn,
    Linkat,
    Open,
    LockShared,
    CheckName,
    Close,
    Reopen,
    CloseAttached,
    OpenToRemove,
    LockRemoval,
    TryLockAttached,
    CheckNameAgain,
    UnlinkAbandoned,
    UnlockAttached,
    UnlockRemoval,
    OpenToUnlink,
    LockToUnlink,
    CheckToUnlink,
    Unlink,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Process {
    pub(super) label: Label,
    pub(super) step: Step,
    pub(super) task: Task,
    /// The calls that it may still make, besides `Leave`.
    pub(super) tasks_left: u8,
    /// The object that it has open to be attached.
    pub(super) file: Option<Ino>,
    /// It holds the shared lock through `file`.
    pub(super) is_attached: bool,
    /// It has a segment, and may use it.
    pub(super) is_user: bool,
    /// The object that it has built and not published.
    pub(super) built: Option<Ino>,
    /// The object that it has open to remove the name.
    pub(super) removal_file: Option<Ino>,
    /// It holds these locks through `removal_file`.
    pub(super) holds_removal: bool,
    pub(super) holds_attached: bool,
    /// Another process has changed the name since this iteration of a loop began.
    pub(super) name_changed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Inode {
    pub(super) is_whole: bool,
    /// `unlink` has removed its name.
    pub(super) is_unlinked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Violation {
    /// A remover has removed the name of another object than the one it checked.
    WrongObjectRemoved,
    /// `open` found no object, although a process was attached.
    NotFound,
    /// A process started over although no other process had changed the name.
    IdleRetry,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) path: Option<Ino>,
    pub(super) inodes: Vec<Option<Inode>>,
    pub(super) processes: Vec<Process>,
    pub(super) violation: Option<Violation>,
}

impl State {
    pub(super) fn inode(&self, ino: Ino) -> Inode {
        self.inodes[ino].expect("an open or named inode exists")
    }

    /// Returns whether the object of a user has the name, or was unlinked.
    pub(super) fn is_named_or_unlinked(&self, user: &Process) -> bool {
        let file = user.file.expect("a user has a file");
        self.path == Some(file) || self.inode(file).is_unlinked
    }

    pub(super) fn users(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| process.is_user)
    }

    /// Returns whether another file description than `removal_file` has a lock in
    /// `ATTACHED`.
    pub(super) fn is_attached_by_other(&self, pid: usize, ino: Ino) -> bool {
        let has_shared = |process: &Process| process.file == Some(ino) && process.is_attached;
        self.processes.iter().any(has_shared) || self.is_locked_by_remover(pid, ino)
    }

    /// Returns whether another process holds all of `ATTACHED`.
    pub(super) fn is_locked_by_remover(&self, pid: usize, ino: Ino) -> bool {
        let mut others = self.others(pid);
        others.any(|process| process.removal_file == Some(ino) && process.holds_attached)
    }

    pub(super) fn is_removal_locked(&self, pid: usize, ino: Ino) -> bool {
        let mut others = self.others(pid);
        others.any(|process| process.removal_file == Some(ino) && process.holds_removal)
    }

    pub(super) fn others(&self, pid: usize) -> impl Iterator<Item = &Process> {
        let all = self.processes.iter().enumerate();
        all.filter(move |(other, _)| *other != pid)
            .map(|(_, process)| process)
    }

    pub(super) fn set_path(&mut self, pid: usize, path: Option<Ino>) {
        self.path = path;
        for (other, process) in self.processes.iter_mut().enumerate() {
            process.name_changed |= other != pid;
        }
    }

    pub(super) fn retry(&mut self, pid: usize) {
        if !std::mem::take(&mut self.processes[pid].name_changed) {
            self.violation = Some(Violation::IdleRetry);
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FileModel {
    pub(super) processes: usize,
    pub(super) tasks: u8,
    pub(super) mistake: Option<Mistake>,
}

impl FileModel {
    pub(super) fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }
}

//! The states: a key, its segments and the processes.

use std::fmt;

use crate::segments::search::Label;

/// The kernel's id of a segment.
pub(super) type Id = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    CreatorSkipsExchange,
    OpenerSkipsExchange,
    LoadBeforeAttach,
    CountBeforeRemoving,
    RemovingWithoutLock,
    NoCountAfterDetach,
    RemovingBecomesReady,
    ProbeSkipsCheck,
    CreatorSkipsCheck,
    ReaderSkipsCheck,
    KnownLimitCounts,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CreatorSkipsExchange => "a creator leaves `NEW` without compare-and-exchange",
            Self::OpenerSkipsExchange => "an opener sets `DEAD` without compare-and-exchange",
            Self::LoadBeforeAttach => "an opener loads the state before it is attached",
            Self::CountBeforeRemoving => {
                "a remover reads the attach count before it sets `REMOVING`"
            }
            Self::RemovingWithoutLock => "a remover sets `REMOVING` without the lock",
            Self::NoCountAfterDetach => {
                "a leaver does not read the attach count after it is detached"
            }
            Self::RemovingBecomesReady => {
                "an interrupted removal becomes `READY`, whether the key is gone or not"
            }
            Self::ProbeSkipsCheck => "a probe detaches without the check of the last user",
            Self::CreatorSkipsCheck => {
                "a creator that finds a ready segment detaches without the check of the last user"
            }
            Self::ReaderSkipsCheck => {
                "a reader that finds no ready segment detaches without the check of the last user"
            }
            Self::KnownLimitCounts => {
                "(the known limit: a probe attaches between the `shmdt` and the count of a leaver)"
            }
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Task {
    Create,
    OpenOrCreate,
    Open,
    Read,
    Remove,
    Probe,
    Unlink,
    Leave,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::OpenOrCreate => "open or create",
            Self::Open => "open",
            Self::Read => "open to read",
            Self::Remove => "remove if unused",
            Self::Probe => "probe",
            Self::Unlink => "unlink",
            Self::Leave => "detach",
        })
    }
}

/// The purpose for which a process attaches or locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Purpose {
    Opening,
    /// A creator tests whether the existing segment is in use.
    Creating,
    /// The last user tests whether it is alone, while it is still attached.
    Leaving,
    Removing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[rustfmt::skip]
pub(super) enum Step {
    Idle, Dead,
    Shmget, AttachNew, InitNew, LockNew, TryLeaveNew, Write, SetPermissions, SetReady, UnlockNew,
    AbortUnlock, AbortSetDead, AbortRemove, AbortDetach,
    ProbeFind, ProbeAttach, ProbeLoad, ProbeCount, ProbeLoadAgain, ProbeCountAgain, ProbeDetach,
    Find, Stat, Attach, AttachReady, Load, TryNewToDead, RemoveDead, Lock, Unlock, Detach, ReaderDetach,
    Finish, FinishStat, FinishReady, FinishDead, FinishRemove,
    Count, SetRemoving, CountAgain, RemoveSegment, SetDead, RestoreReady, LeaveDetach, CountAfterDetach,
    FindToRemove, FindToUnlink, Unlink,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Process {
    pub(super) label: Label,
    pub(super) task_list: &'static [Task],
    pub(super) step: Step,
    pub(super) task: Task,
    pub(super) purpose: Purpose,
    /// The calls that it may still make, besides `Leave`.
    pub(super) tasks_left: u8,
    pub(super) id: Option<Id>,
    pub(super) is_mapped: bool,
    pub(super) is_user: bool,
    /// It has attached the segment to read only.
    pub(super) is_reader: bool,
    pub(super) is_holder: bool,
    pub(super) saw_unfinished_mark: bool,
    /// It was the last process to attach or detach.
    pub(super) is_last: bool,
    pub(super) was_abandoned: bool,
    pub(super) is_complete: bool,
    pub(super) is_gone: bool,
    /// It is inside `remove_if_alone`.
    pub(super) is_removing: bool,
    /// Its segment was removed before it could write the content.
    pub(super) lost_race: bool,
    /// The iterations of loops since another process has changed anything.
    pub(super) idle_retries: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SysvState {
    New,
    Initializing,
    Ready,
    Removing,
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Segment {
    pub(super) state: SysvState,
    pub(super) is_marked_unfinished: bool,
    pub(super) has_lock: bool,
    pub(super) has_header: bool,
    pub(super) is_whole: bool,
    pub(super) is_marked_for_removal: bool,
    /// `unlink` has removed its key.
    pub(super) is_unlinked: bool,
    pub(super) is_destroyed: bool,
    /// A probe attached after a leaver had detached and before the leaver counted. Each
    /// may take the other for a user, or for no process.
    pub(super) has_probe_race: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Violation {
    /// `open` found no segment, although a process was attached.
    NotFound,
    /// A process took a segment of this crate for a foreign one.
    TakenForForeign,
    /// A process locked a mutex that was not initialised.
    NoLock,
    /// A process has iterated more often than others have changed anything.
    EndlessRetry,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) key: Option<Id>,
    pub(super) segments: Vec<Option<Segment>>,
    pub(super) processes: Vec<Process>,
    pub(super) violation: Option<Violation>,
}

impl Process {
    pub(super) fn idle(label: Label, task_list: &'static [Task]) -> Self {
        Self {
            label,
            task_list,
            step: Step::Idle,
            task: Task::Leave,
            purpose: Purpose::Opening,
            tasks_left: 0,
            id: None,
            is_mapped: false,
            is_user: false,
            is_reader: false,
            is_holder: false,
            saw_unfinished_mark: false,
            is_last: false,
            was_abandoned: false,
            is_complete: false,
            is_gone: false,
            is_removing: false,
            lost_race: false,
            idle_retries: 0,
        }
    }

    /// Clears what no later step reads.
    pub(super) fn clear_unused(&mut self) {
        if self.step == Step::Idle {
            *self = Self {
                tasks_left: self.tasks_left,
                id: self.id.filter(|_| self.is_user),
                is_mapped: self.is_user,
                is_user: self.is_user,
                is_reader: self.is_reader && self.is_user,
                ..Self::idle(self.label, self.task_list)
            };
        }
        let is_probe = [
            Step::ProbeLoad,
            Step::ProbeCount,
            Step::ProbeLoadAgain,
            Step::ProbeCountAgain,
        ];
        self.is_last &= is_probe.contains(&self.step);
        self.saw_unfinished_mark &=
            [Step::Attach, Step::Load, Step::TryNewToDead].contains(&self.step);
    }
}

impl State {
    pub(super) fn segment(&self, id: Id) -> Segment {
        self.segments[id].expect("a process or the key refers to it")
    }

    pub(super) fn change(&mut self, id: Id, change: impl FnOnce(&mut Segment)) {
        change(
            self.segments[id]
                .as_mut()
                .expect("a process or the key refers to it"),
        );
    }

    pub(super) fn id_of(&self, pid: usize) -> Id {
        self.processes[pid].id.expect("it was found")
    }

    pub(super) fn mine(&self, pid: usize) -> Segment {
        self.segment(self.id_of(pid))
    }

    pub(super) fn set_state(&mut self, pid: usize, state: SysvState) {
        self.change(self.id_of(pid), |segment| segment.state = state);
    }

    /// Returns whether the segment of a user has the key, or was unlinked.
    pub(super) fn is_named_or_unlinked(&self, user: &Process) -> bool {
        let id = user.id.expect("a user has an id");
        self.key == Some(id) || self.segment(id).is_unlinked
    }

    pub(super) fn users(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| process.is_user)
    }

    /// Returns whether another process has detached and has not counted since.
    pub(super) fn has_detached_leaver(&self, pid: usize, id: Id) -> bool {
        let is_leaver = |process: &Process| {
            process.id == Some(id)
                && process.purpose == Purpose::Removing
                && matches!(
                    process.step,
                    Step::CountAfterDetach | Step::Stat | Step::Attach
                )
        };
        let all = self.processes.iter().enumerate();
        all.filter(|(other, _)| *other != pid)
            .any(|(_, process)| is_leaver(process))
    }

    /// Notes for all other processes that this one has changed something.
    pub(super) fn note_progress(&mut self, pid: usize) {
        for (other, process) in self.processes.iter_mut().enumerate() {
            if other != pid {
                process.idle_retries = 0;
            }
        }
    }

    pub(super) fn retry(&mut self, pid: usize) {
        let idle_retries = &mut self.processes[pid].idle_retries;
        if *idle_retries < SysvModel::RETRIES_PER_CHANGE {
            *idle_retries += 1
        } else {
            self.violation = Some(Violation::EndlessRetry)
        }
    }
}

/// The calls that each process may make.
pub(super) type TaskLists = &'static [&'static [Task]];

#[derive(Clone, Copy, Debug)]
pub(super) struct SysvModel {
    pub(super) task_lists: TaskLists,
    /// The number of calls of each process, besides `Leave`.
    pub(super) tasks: u8,
    pub(super) mistake: Option<Mistake>,
}

impl SysvModel {
    /// All calls of a process without a segment.
    pub(super) const ALL_TASKS: &[Task] = &[
        Task::Create,
        Task::OpenOrCreate,
        Task::Open,
        Task::Read,
        Task::Remove,
        Task::Probe,
        Task::Unlink,
    ];

    /// The number of iterations that a process may make for one change by another.
    /// Three loops are nested: the search for the key, the removal, and the attempts to
    /// lock.
    pub(super) const RETRIES_PER_CHANGE: u8 = 3;

    pub(super) fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }
}

//! The states: a segment after the restart of a container, and the processes.

use std::fmt;

use crate::segments::search::Label;

/// A pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Namespace {
    Old,
    New,
    Third,
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Old => "old namespace",
            Self::New => "new namespace",
            Self::Third => "third namespace",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    UnnumberedClaims,
    NoFirstCount,
    UnnumberedAndNoFirstCount,
    NoSecondCount,
    CommitWithoutExchange,
    LoadBeforeAttach,
    ReadyBeforeLocks,
    TakeOverWithoutCount,
    TakeOverWithoutReload,
    StaleClaimStays,
    StaleReinitStays,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnnumberedClaims => "claims have no number",
            Self::NoFirstCount => "a process claims without a count before it",
            Self::UnnumberedAndNoFirstCount => {
                "claims have no number, and there is no count before them"
            }
            Self::NoSecondCount => "there is no count after the claim",
            Self::CommitWithoutExchange => {
                "a claim becomes `REINITIALIZING` without compare-and-exchange"
            }
            Self::LoadBeforeAttach => "an opener loads the state before it is attached",
            Self::ReadyBeforeLocks => "the state becomes `READY` before the locks are initialised",
            Self::TakeOverWithoutCount => {
                "an interrupted reinitialisation is taken over without a count"
            }
            Self::TakeOverWithoutReload => "it is taken over without a second load of the state",
            Self::StaleClaimStays => "the claim of a dead process stays",
            Self::StaleReinitStays => "the reinitialisation of a dead process stays",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Task {
    Open,
    Remove,
    Probe,
    Leave,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Remove => "remove if unused",
            Self::Probe => "probe",
            Self::Leave => "detach",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[rustfmt::skip]
pub(super) enum Step {
    Idle, Dead,
    EarlyLoad, Attach, AttachReady, Load, CancelClaim, CancelClaimIfAlone, TakeOverIfAlone, LoadAgain,
    Count, Claim, CountAgain, Commit, Withdraw,
    BeginInit, EndInit, WriteNamespace, SetReady,
    RemoveSegment, SetDead, Refuse, Detach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SysvState {
    Ready,
    Claimed(u8),
    Reinitializing,
    Dead,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Process {
    pub(super) label: Label,
    pub(super) namespace: Namespace,
    pub(super) task_list: &'static [Task],
    pub(super) step: Step,
    pub(super) task: Task,
    pub(super) tasks_left: u8,
    pub(super) is_mapped: bool,
    pub(super) is_user: bool,
    /// The claim that it made, or that it loaded.
    pub(super) claim: u8,
    /// Another process was attached at some time since it is.
    pub(super) saw_others: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Violation {
    RefusedAlone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) state: SysvState,
    /// The namespace in the header.
    pub(super) namespace: Namespace,
    /// The namespace in which the locks are valid; `None` while they are written.
    pub(super) locks: Option<Namespace>,
    pub(super) claims: u8,
    pub(super) has_key: bool,
    pub(super) processes: Vec<Process>,
    pub(super) violation: Option<Violation>,
}

impl State {
    pub(super) fn attached(&self) -> usize {
        let is_mapped = |process: &&Process| process.is_mapped;
        self.processes.iter().filter(is_mapped).count()
    }

    pub(super) fn users(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| process.is_user)
    }

    pub(super) fn exchange(&mut self, old: SysvState, new: SysvState) -> bool {
        let is_old = self.state == old;
        if is_old {
            self.state = new;
        }
        is_old
    }

    pub(super) fn attach(&mut self, pid: usize) {
        let saw_others = self.attached() > 0;
        for process in self.processes.iter_mut().filter(|p| p.is_mapped) {
            process.saw_others = true;
        }
        self.processes[pid].is_mapped = true;
        self.processes[pid].saw_others = saw_others;
    }
}

pub(super) type Members = &'static [(Namespace, &'static [Task])];

#[derive(Clone, Copy, Debug)]
pub(super) struct SysvReinit {
    pub(super) members: Members,
    pub(super) tasks: u8,
    pub(super) mistake: Option<Mistake>,
}

impl SysvReinit {
    pub(super) fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    pub(super) fn has_one_of(&self, mutations: [Mistake; 2]) -> bool {
        mutations.into_iter().any(|mistake| self.has(mistake))
    }
}

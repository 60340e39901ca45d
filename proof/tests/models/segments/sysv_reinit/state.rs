//! The world of a segment whose container was restarted.

use crate::segments::search::Name;

/// A pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Namespace {
    Old,
    New,
    Third,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    /// Claims are all alike.
    ClaimsHaveNoNumber,
    /// A newcomer claims whoever is attached.
    NoFirstCount,
    /// Both of these.
    NeitherNumberNorFirstCount,
    NoSecondCount,
    /// A claim becomes a renewal also if it was replaced.
    CommitWithoutSwap,
    LoadBeforeMapping,
    BornBeforeLocks,
    TakeOverUncounted,
    /// The state is not loaded again after the count.
    TakeOverUnconfirmed,
    ClaimOfTheDeadStays,
    RenewalOfTheDeadStays,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Task {
    Open,
    Remove,
    /// Attaches and detaches: the tool, a reader.
    Look,
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[rustfmt::skip]
pub(super) enum At {
    Rest, Dead,
    EarlyLoad, Map, MapBorn, Load, Kick, KickIfAlone, TakeOverIfAlone, LoadAgain,
    Count, Claim, CountAgain, Commit, Withdraw,
    Unmake, Make, Publish, Bear,
    TakeAway, SayDead, Refuse, Unmap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    Born,
    Claimed(u8),
    Renewing,
    Dead,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Process {
    pub(super) name: Name,
    pub(super) namespace: Namespace,
    pub(super) menu: &'static [Task],
    pub(super) at: At,
    pub(super) task: Task,
    pub(super) left: u8,
    pub(super) is_mapped: bool,
    pub(super) is_user: bool,
    /// The claim that it made, or that it saw.
    pub(super) claim: u8,
    /// Others were attached at some time since it is.
    pub(super) has_company: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wrong {
    RefusedAlone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) state: State,
    /// As the header says.
    pub(super) namespace: Namespace,
    /// Where the locks mean something; `None` while they are made.
    pub(super) locks: Option<Namespace>,
    pub(super) claims: u8,
    pub(super) has_key: bool,
    pub(super) processes: Vec<Process>,
    pub(super) wrong: Option<Wrong>,
}

impl World {
    pub(super) fn attached(&self) -> usize {
        let is_mapped = |process: &&Process| process.is_mapped;
        self.processes.iter().filter(is_mapped).count()
    }

    pub(super) fn users(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| process.is_user)
    }

    pub(super) fn swap(&mut self, old: State, new: State) -> bool {
        let is_old = self.state == old;
        if is_old {
            self.state = new;
        }
        is_old
    }

    pub(super) fn map(&mut self, who: usize) {
        let has_company = self.attached() > 0;
        for process in self.processes.iter_mut().filter(|p| p.is_mapped) {
            process.has_company = true;
        }
        self.processes[who].is_mapped = true;
        self.processes[who].has_company = has_company;
    }
}

pub(super) type Members = &'static [(Namespace, &'static [Task])];

#[derive(Clone, Copy, Debug)]
pub(super) struct Renewal {
    pub(super) members: Members,
    pub(super) tasks: u8,
    pub(super) mutation: Option<Mutation>,
}

impl Renewal {
    pub(super) fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    pub(super) fn has_one_of(&self, mutations: [Mutation; 2]) -> bool {
        mutations.into_iter().any(|mutation| self.has(mutation))
    }
}

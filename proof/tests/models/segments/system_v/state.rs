//! The world of a key: the segments and the processes.

use crate::segments::search::Name;

/// What the kernel calls a segment.
pub(super) type Id = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    CreatorDoesNotClaim,
    FinderDoesNotClaim,
    LoadBeforeMapping,
    CountBeforeLeaving,
    LeavingWithoutLock,
    LeaverDoesNotAskAgain,
    LeavingIsBornAgain,
    LookGoesAsNobody,
    /// Who wants to create, and finds a segment that was completed meanwhile.
    CreatorGoesAsNobody,
    /// Who wants to read, and finds a segment that is not complete, or in doubt.
    ReaderGoesAsNobody,
    /// No bug, but what is known to be left: see `is_looked_past`.
    NothingIsExcused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Task {
    Create,
    OpenOrCreate,
    Open,
    /// To open for reading only.
    Read,
    /// `gc`, `rm`, and the first half of `Abandoned::Recreate`.
    Remove,
    /// What the tool does.
    Look,
    Unlink,
    /// To drop the segment.
    Leave,
}

/// What `settle` and `remove_if_alone` are called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Phase {
    Opening,
    /// To see whether a segment that is in the way is alive.
    Creating,
    /// The only one looks, still attached.
    Leaving,
    Removing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[rustfmt::skip]
pub(super) enum At {
    Rest, Dead,
    Get, NewMap, Prepare, NewLock, Claim, Fill, Unmark, Bear, NewUnlock,
    LostUnlock, LostDead, LostRemove, LostUnmap,
    LookFind, LookMap, LookLoad, LookCount, LookLoadAgain, LookCountAgain, LookUnmap,
    Find, Stat, Map, MapBorn, Load, ClaimDead, ClearAway, Lock, Unlock, Unmap, ReaderUnmap,
    Resolve, ResolveStat, SetBorn, SetDead, ResolveRemove,
    Count, SayLeaving, CountAgain, TakeAway, SayDead, SayBorn, LeaveUnmap, Ask,
    FindToRemove, FindToUnlink, Unlink,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Process {
    pub(super) name: Name,
    pub(super) menu: &'static [Task],
    pub(super) at: At,
    pub(super) task: Task,
    pub(super) phase: Phase,
    /// How many tasks it may still begin, beside leaving.
    pub(super) left: u8,
    pub(super) id: Option<Id>,
    pub(super) is_mapped: bool,
    pub(super) is_user: bool,
    /// Its mapping is for reading only.
    pub(super) is_reader: bool,
    pub(super) is_holder: bool,
    pub(super) saw_mark: bool,
    /// It was the last to attach or detach.
    pub(super) is_last: bool,
    pub(super) was_abandoned: bool,
    pub(super) is_complete: bool,
    pub(super) is_gone: bool,
    /// It is inside `remove_if_alone`.
    pub(super) is_judge: bool,
    /// Its own segment was cleared away before it could fill it.
    pub(super) has_lost: bool,
    /// Turns of loops since somebody else has done anything that counts.
    pub(super) idle_turns: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    Virgin,
    Gestating,
    Born,
    Leaving,
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Segment {
    pub(super) state: State,
    pub(super) is_marked: bool,
    pub(super) has_lock: bool,
    pub(super) has_header: bool,
    pub(super) is_whole: bool,
    /// Its key was taken away.
    pub(super) is_condemned: bool,
    /// By `unlink`.
    pub(super) is_unlinked: bool,
    pub(super) is_destroyed: bool,
    /// Somebody began to look just when somebody who leaves was not attached any more,
    /// and had not asked yet who is: each may take the other for one who stays, or
    /// for nobody.
    pub(super) is_looked_past: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wrong {
    /// `open` found nothing although somebody was attached.
    NotFound,
    /// One of ours was taken for a foreign segment.
    TakenForForeign,
    /// A mutex was locked that was not made yet.
    NoLock,
    /// More turns of loops than others have caused.
    TurnsAlone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) key: Option<Id>,
    pub(super) segments: Vec<Option<Segment>>,
    pub(super) processes: Vec<Process>,
    pub(super) wrong: Option<Wrong>,
}

impl Process {
    pub(super) fn resting(name: Name, menu: &'static [Task]) -> Self {
        Self {
            name,
            menu,
            at: At::Rest,
            task: Task::Leave,
            phase: Phase::Opening,
            left: 0,
            id: None,
            is_mapped: false,
            is_user: false,
            is_reader: false,
            is_holder: false,
            saw_mark: false,
            is_last: false,
            was_abandoned: false,
            is_complete: false,
            is_gone: false,
            is_judge: false,
            has_lost: false,
            idle_turns: 0,
        }
    }

    /// Forgets what is of no account any more.
    pub(super) fn forget(&mut self) {
        if self.at == At::Rest {
            *self = Self {
                left: self.left,
                id: self.id.filter(|_| self.is_user),
                is_mapped: self.is_user,
                is_user: self.is_user,
                is_reader: self.is_reader && self.is_user,
                ..Self::resting(self.name, self.menu)
            };
        }
        let is_look = [
            At::LookLoad,
            At::LookCount,
            At::LookLoadAgain,
            At::LookCountAgain,
        ];
        self.is_last &= is_look.contains(&self.at);
        self.saw_mark &= [At::Map, At::Load, At::ClaimDead].contains(&self.at);
    }
}

impl World {
    pub(super) fn segment(&self, id: Id) -> Segment {
        self.segments[id].expect("somebody knows its id, so it is remembered")
    }

    pub(super) fn change(&mut self, id: Id, change: impl FnOnce(&mut Segment)) {
        change(self.segments[id].as_mut().expect("as in `segment`"));
    }

    pub(super) fn id_of(&self, who: usize) -> Id {
        self.processes[who].id.expect("found before")
    }

    pub(super) fn mine(&self, who: usize) -> Segment {
        self.segment(self.id_of(who))
    }

    pub(super) fn set_state(&mut self, who: usize, state: State) {
        self.change(self.id_of(who), |segment| segment.state = state);
    }

    /// Whether the key leads to the segment of this user, or was taken from it by
    /// `unlink`.
    pub(super) fn is_named_or_unlinked(&self, user: &Process) -> bool {
        let id = user.id.expect("a user knows its id");
        self.key == Some(id) || self.segment(id).is_unlinked
    }

    pub(super) fn users(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| process.is_user)
    }

    /// Whether somebody else has detached, and has not seen yet that it was not alone.
    pub(super) fn has_leaver(&self, who: usize, id: Id) -> bool {
        let is_leaver = |process: &Process| {
            process.id == Some(id)
                && process.phase == Phase::Removing
                && matches!(process.at, At::Ask | At::Stat | At::Map)
        };
        let all = self.processes.iter().enumerate();
        all.filter(|(other, _)| *other != who)
            .any(|(_, process)| is_leaver(process))
    }

    /// Something has happened that can make others turn.
    pub(super) fn tell_others(&mut self, who: usize) {
        for (other, process) in self.processes.iter_mut().enumerate() {
            if other != who {
                process.idle_turns = 0;
            }
        }
    }

    pub(super) fn turn(&mut self, who: usize) {
        let idle_turns = &mut self.processes[who].idle_turns;
        match *idle_turns < SystemV::TURNS {
            true => *idle_turns += 1,
            false => self.wrong = Some(Wrong::TurnsAlone),
        }
    }
}

/// What each process can set out to do.
pub(super) type Menus = &'static [&'static [Task]];

#[derive(Clone, Copy, Debug)]
pub(super) struct SystemV {
    pub(super) menus: Menus,
    /// How many times, beside leaving.
    pub(super) tasks: u8,
    pub(super) mutation: Option<Mutation>,
}

impl SystemV {
    /// How often a process may turn for one thing that others have done: three loops lie
    /// within each other, the search for the key, the removal, and the lock that is tried.
    pub(super) const TURNS: u8 = 3;

    pub(super) fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

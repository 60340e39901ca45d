//! System V segments: birth and leaving. [`steps`] has the steps.
//!
//! What a process does, from `src/segment/system_v.rs` and `birth.rs`, as steps:
//!
//! | step | in | system call, or access to the segment |
//! |---|---|---|
//! | `Get` | `create` | `shmget(IPC_CREAT \| IPC_EXCL)`, marked unborn; `EEXIST`: `LookFind` |
//! | `NewMap` | `fill` | `shmat`; gone: `Get` |
//! | `Prepare`, `NewLock` | `fill` | makes the robust mutex, writes the header; takes it |
//! | `Claim` | `leave_virginity` | compare and swap, `VIRGIN` to `GESTATING`; lost: `LostUnlock` |
//! | `Fill`, `Unmark`, `Bear`, `NewUnlock` | `fill` | writes; `IPC_SET`; `BORN`; gives back the mutex |
//! | `LostUnlock`, `LostDead`, `LostRemove`, `LostUnmap` | `Unborn::drop` | the mutex; `DEAD`; `IPC_RMID`; `shmdt` |
//! | `LookFind`, `LookMap`, `LookLoad`, `LookCount` | `is_complete`, `Look::at` | `shmget`, `shmat`, state, `IPC_STAT` |
//! | `LookLoadAgain`, `LookCountAgain`, `LookUnmap` | `Look::life`, `Look::drop` | state, `IPC_STAT`, `shmdt` |
//! | `Find`, `Stat`, `Map`, `Load` | `attach`, `settle` | `shmget`, `IPC_STAT`, `shmat`, state |
//! | `ClaimDead`, `ClearAway` | `settle` | compare and swap, `VIRGIN` to `DEAD`; `IPC_RMID` |
//! | `Lock`, `Unlock` | `settle`, `remove_if_alone` | the robust mutex; held, and for removal: `LeaveUnmap` |
//! | `Resolve`, `ResolveStat` | `resolve` | state, `IPC_STAT` |
//! | `SetBorn`, `SetDead`, `ResolveRemove` | `resolve` | state, `IPC_RMID` |
//! | `Unmap` | `settle` | `shmdt`; from `Find` again |
//! | `ReaderUnmap` | `settle`, for reading | `shmdt` |
//! | `Count` | `Attached::leave` | `IPC_STAT` |
//! | `SayLeaving`, `CountAgain`, `TakeAway`, `SayDead`, `SayBorn` | `remove_if_alone` | state, `IPC_STAT`, `IPC_RMID` |
//! | `LeaveUnmap`, `Ask` | `Attached::drop`, `remove_if_abandoned` | `shmdt`, `IPC_STAT` |
//! | `FindToRemove` | `remove_abandoned_at` | `shmget` |
//! | `FindToUnlink`, `Unlink` | `unlink` | `shmget`, `IPC_RMID` |
//!
//! The 20 ms of grace can end at any time: `ClaimDead` follows `Load` whenever it
//! likes. The kernel's part: it counts attachments, and down for the dead; a removed
//! segment has no key, can still be attached to by its id, and is destroyed with its
//! last detachment; the mutex of a dead holder can be had.
//!
//! Left out: ids that the kernel gives out again (the model's ids are new each time),
//! several users with different rights, foreign segments, orderings weaker than
//! sequential.

mod kernel;
mod steps;

use stateright::Property;

use crate::kit::{
    Condition, Exploration, Name, Protocol, Size, assert_found, assert_safe, assert_safe_and_lively,
};

/// What the kernel calls a segment.
type Id = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
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
enum Task {
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
enum Phase {
    Opening,
    /// To see whether a segment that is in the way is alive.
    Creating,
    /// The only one looks, still attached.
    Leaving,
    Removing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[rustfmt::skip]
enum At {
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
struct Process {
    name: Name,
    menu: &'static [Task],
    at: At,
    task: Task,
    phase: Phase,
    /// How many tasks it may still begin, beside leaving.
    left: u8,
    id: Option<Id>,
    is_mapped: bool,
    is_user: bool,
    /// Its mapping is for reading only.
    is_reader: bool,
    is_holder: bool,
    saw_mark: bool,
    /// It was the last to attach or detach.
    is_last: bool,
    was_abandoned: bool,
    is_complete: bool,
    is_gone: bool,
    /// It is inside `remove_if_alone`.
    is_judge: bool,
    /// Its own segment was cleared away before it could fill it.
    has_lost: bool,
    /// Turns of loops since somebody else has done anything that counts.
    idle_turns: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Virgin,
    Gestating,
    Born,
    Leaving,
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Segment {
    state: State,
    is_marked: bool,
    has_lock: bool,
    has_header: bool,
    is_whole: bool,
    /// Its key was taken away.
    is_condemned: bool,
    /// By `unlink`.
    is_unlinked: bool,
    is_destroyed: bool,
    /// Somebody began to look just when somebody who leaves was not attached any more,
    /// and had not asked yet who is: each may take the other for one who stays, or
    /// for nobody.
    is_looked_past: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wrong {
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
struct World {
    key: Option<Id>,
    segments: Vec<Option<Segment>>,
    processes: Vec<Process>,
    wrong: Option<Wrong>,
}

impl Process {
    fn resting(name: Name, menu: &'static [Task]) -> Self {
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
    fn forget(&mut self) {
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
    fn segment(&self, id: Id) -> Segment {
        self.segments[id].expect("somebody knows its id, so it is remembered")
    }

    fn change(&mut self, id: Id, change: impl FnOnce(&mut Segment)) {
        change(self.segments[id].as_mut().expect("as in `segment`"));
    }

    fn id_of(&self, who: usize) -> Id {
        self.processes[who].id.expect("found before")
    }

    fn mine(&self, who: usize) -> Segment {
        self.segment(self.id_of(who))
    }

    fn set_state(&mut self, who: usize, state: State) {
        self.change(self.id_of(who), |segment| segment.state = state);
    }

    /// Whether the key leads to the segment of this user, or was taken from it by
    /// `unlink`.
    fn is_named_or_unlinked(&self, user: &Process) -> bool {
        let id = user.id.expect("a user knows its id");
        self.key == Some(id) || self.segment(id).is_unlinked
    }

    fn users(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| process.is_user)
    }

    /// Whether somebody else has detached, and has not seen yet that it was not alone.
    fn has_leaver(&self, who: usize, id: Id) -> bool {
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
    fn tell_others(&mut self, who: usize) {
        for (other, process) in self.processes.iter_mut().enumerate() {
            if other != who {
                process.idle_turns = 0;
            }
        }
    }

    fn turn(&mut self, who: usize) {
        let idle_turns = &mut self.processes[who].idle_turns;
        match *idle_turns < SystemV::TURNS {
            true => *idle_turns += 1,
            false => self.wrong = Some(Wrong::TurnsAlone),
        }
    }
}

/// What each process can set out to do.
type Menus = &'static [&'static [Task]];

#[derive(Clone, Copy, Debug)]
struct SystemV {
    menus: Menus,
    /// How many times, beside leaving.
    tasks: u8,
    mutation: Option<Mutation>,
}

impl SystemV {
    /// How often a process may turn for one thing that others have done: three loops lie
    /// within each other, the search for the key, the removal, and the lock that is tried.
    const TURNS: u8 = 3;

    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

impl Protocol for SystemV {
    type World = World;
    type Task = Task;
    type At = At;

    fn start(&self) -> World {
        let process = |number| Process {
            left: self.tasks,
            ..Process::resting(Name::of(number), self.menus[number])
        };
        World {
            key: None,
            segments: Vec::new(),
            processes: (0..self.menus.len()).map(process).collect(),
            wrong: None,
        }
    }

    fn processes(world: &World) -> usize {
        world.processes.len()
    }

    fn place(world: &World, who: usize) -> (Name, At) {
        (world.processes[who].name, world.processes[who].at)
    }

    fn condition(world: &World, who: usize) -> Condition {
        match world.processes[who].at {
            At::Rest => Condition::Resting,
            At::Dead => Condition::Dead,
            _ => Condition::Busy,
        }
    }

    fn choices(&self, world: &World, who: usize) -> Vec<Task> {
        match &world.processes[who] {
            me if me.is_user => vec![Task::Leave],
            me if me.left > 0 => me.menu.to_vec(),
            _ => vec![],
        }
    }

    fn begin(&self, world: &mut World, who: usize, task: Task) {
        let me = &mut world.processes[who];
        me.task = task;
        me.phase = Phase::Opening;
        if task != Task::Leave {
            me.left -= 1;
        }
        let first = match task {
            Task::Create => At::Get,
            Task::OpenOrCreate | Task::Open | Task::Read => At::Find,
            Task::Remove => At::FindToRemove,
            Task::Look => At::LookFind,
            Task::Unlink => At::FindToUnlink,
            Task::Leave => self.leave(world, who),
        };
        world.processes[who].at = first;
    }

    fn ways(&self, world: &World, who: usize) -> usize {
        match world.processes[who].at {
            At::Rest | At::Dead => 0,
            At::Lock if self.judges_without_lock(world, who) => 1,
            At::Lock if !self.waits_for_lock(world, who) => 1,
            At::Lock | At::NewLock => usize::from(!world.is_locked(world.id_of(who))),
            At::Fill => 2,
            _ => 1,
        }
    }

    fn step(&self, world: &mut World, who: usize, way: usize) {
        let next = self.next(world, who, way);
        world.processes[who].at = next;
    }

    fn die(&self, world: &mut World, who: usize) {
        let Process { name, menu, .. } = world.processes[who];
        if world.processes[who].is_mapped {
            world.unmap(who);
        }
        world.processes[who] = Process {
            at: At::Dead,
            ..Process::resting(name, menu)
        };
    }

    fn normalize(world: &mut World) {
        for process in &mut world.processes {
            process.forget();
        }
        let World {
            key,
            segments,
            processes,
            ..
        } = world;
        for (id, segment) in segments.iter_mut().enumerate() {
            let is_known = processes.iter().any(|process| process.id == Some(id));
            if *key != Some(id) && !is_known {
                *segment = None;
            }
        }
        while segments.last() == Some(&None) {
            segments.pop();
        }
        processes.sort_unstable();
    }

    fn properties() -> Vec<Property<Exploration<Self>>> {
        vec![
            Property::always(WHOLE, |_, world: &World| {
                let mut ids = world.users().filter_map(|user| user.id);
                ids.all(|id| world.segment(id).is_whole)
            }),
            Property::always(KEEPS_ITS_KEY, |_, world: &World| {
                world.users().all(|user| world.is_named_or_unlinked(user))
            }),
            Property::always(ONE_OBJECT, |_, world: &World| {
                let ids = world.users().filter_map(|user| user.id);
                let mut kept = ids.filter(|id| !world.segment(*id).is_unlinked);
                let first = kept.next();
                kept.all(|id| Some(id) == first)
            }),
            Property::always(FILLED_IN_PEACE, |_, world: &World| {
                let is_filling =
                    |process: &&Process| matches!(process.at, At::Fill | At::Unmark | At::Bear);
                let mut ids = world.processes.iter().filter(is_filling);
                ids.all(|process| {
                    let segment = world.segment(process.id.expect("it made it"));
                    segment.state == State::Gestating && segment.is_condemned == segment.is_unlinked
                })
            }),
            Property::always(NOTHING_STAYS, |_, world: &World| {
                let is_gone = |process: &Process| process.at == At::Rest && !process.is_user;
                let stays = world
                    .key
                    .is_some_and(|id| !world.segment(id).is_looked_past);
                !stays || !world.processes.iter().all(is_gone)
            }),
            Property::always(FOUND, |_, world: &World| {
                world.wrong != Some(Wrong::NotFound)
            }),
            Property::always(OURS, |_, world: &World| {
                world.wrong != Some(Wrong::TakenForForeign)
            }),
            Property::always(MADE, |_, world: &World| world.wrong != Some(Wrong::NoLock)),
            Property::always(TURNS, |_, world: &World| {
                world.wrong != Some(Wrong::TurnsAlone)
            }),
            Property::sometimes("do two use one segment", |_, world: &World| {
                world.users().count() > 1
            }),
            Property::sometimes("does somebody wait for a lock", |model, world: &World| {
                (0..world.processes.len()).any(|who| model.must_wait(world, who))
            }),
            Property::sometimes("is a creator repeated", |_, world: &World| {
                world.processes.iter().any(|process| process.has_lost)
            }),
            Property::sometimes("is a looker not alone", |_, world: &World| {
                world
                    .processes
                    .iter()
                    .any(|process| process.at == At::SayBorn)
            }),
            Property::sometimes("does a dead one leave a key", |_, world: &World| {
                let is_dead = |process: &Process| process.at == At::Dead;
                world.key.is_some() && world.processes.iter().all(is_dead)
            }),
        ]
    }
}

const WHOLE: &str = "nobody is attached to half a segment";
const KEEPS_ITS_KEY: &str = "only unlink takes a key from those who are attached";
const ONE_OBJECT: &str = "all who are attached, and were not unlinked, have one segment";
const FILLED_IN_PEACE: &str = "what a living creator fills is not cleared away";
const NOTHING_STAYS: &str = "when all have left in peace, nothing stays";
const FOUND: &str = "open finds what somebody is attached to";
const OURS: &str = "what is ours is not taken for foreign";
const MADE: &str = "no lock is taken before it is made";
const TURNS: &str = "nobody goes round in circles alone";

/// Searches the protocol as it is.
pub(crate) fn check(size: Size) {
    use Task::{Create, Look, Open, OpenOrCreate, Read, Remove, Unlink};
    const EVERYTHING: &[Task] = &[Create, OpenOrCreate, Open, Read, Remove, Look, Unlink];
    let of = |tasks, menus: Menus| {
        let title = format!("System V, {tasks} of each of {menus:?}");
        let protocol = SystemV {
            menus,
            tasks,
            mutation: None,
        };
        (title, protocol)
    };
    let (title, protocol) = of(1, &[EVERYTHING, EVERYTHING]);
    assert_safe_and_lively(&title, protocol);
    let (title, protocol) = of(1, &[&[Create], &[Look], &[Remove]]);
    assert_safe(&title, protocol);
    if size == Size::Large {
        for (title, protocol) in [
            of(2, &[EVERYTHING, EVERYTHING]),
            of(1, &[&[Create], &[Open], &[Open]]),
            of(1, &[&[Create], &[Open], &[Read]]),
            of(1, &[&[Create], &[Open], &[Remove, Unlink]]),
            of(1, &[&[Create, Look], &[Open, Look], &[Create, Look]]),
            of(1, &[&[OpenOrCreate], &[OpenOrCreate], &[Open]]),
        ] {
            assert_safe(&title, protocol);
        }
    }
}

/// Searches what it must not be.
pub(crate) fn check_mutations() {
    use Mutation::{
        CountBeforeLeaving, CreatorDoesNotClaim, CreatorGoesAsNobody, FinderDoesNotClaim,
        LeaverDoesNotAskAgain, LeavingIsBornAgain, LeavingWithoutLock, LoadBeforeMapping,
        LookGoesAsNobody, NothingIsExcused, ReaderGoesAsNobody,
    };
    use Task::{Create, Look, Open, OpenOrCreate, Read};
    let creators: Menus = &[&[OpenOrCreate], &[OpenOrCreate]];
    let strict_creators: Menus = &[&[Create], &[Create]];
    let opener: Menus = &[&[Create], &[Open]];
    let bugs = [
        (CreatorDoesNotClaim, 1, creators, FILLED_IN_PEACE),
        (FinderDoesNotClaim, 1, creators, FILLED_IN_PEACE),
        (LoadBeforeMapping, 1, opener, KEEPS_ITS_KEY),
        (CountBeforeLeaving, 1, opener, KEEPS_ITS_KEY),
        (LeavingWithoutLock, 1, opener, KEEPS_ITS_KEY),
        (LeavingIsBornAgain, 1, opener, KEEPS_ITS_KEY),
        (LeaverDoesNotAskAgain, 1, opener, NOTHING_STAYS),
        (LookGoesAsNobody, 1, &[&[Create], &[Look]], NOTHING_STAYS),
        (CreatorGoesAsNobody, 1, strict_creators, NOTHING_STAYS),
        (ReaderGoesAsNobody, 1, &[&[Create], &[Read]], NOTHING_STAYS),
        (
            NothingIsExcused,
            2,
            &[&[Create], &[Read, Look]],
            NOTHING_STAYS,
        ),
    ];
    for (mutation, tasks, menus, property) in bugs {
        let protocol = SystemV {
            menus,
            tasks,
            mutation: Some(mutation),
        };
        assert_found(&format!("System V, {mutation:?}"), protocol, property);
    }
}

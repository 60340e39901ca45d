//! System V segments whose container was restarted: the locks are made anew in another
//! pid namespace.
//!
//! What a process does, from `src/segment/birth.rs` and `system_v/`, as steps:
//!
//! | step | in | system call, or access to the segment |
//! |---|---|---|
//! | `Map`, `Load` | `settle` | `shmat`; state and header |
//! | `Kick`, `KickIfAlone` | `settle` | compare and swap, this claim to `BORN`; before it `IPC_STAT`, in another namespace |
//! | `TakeOverIfAlone`, `LoadAgain` | `settle` | `IPC_STAT`, of a segment that is `RENEWING`; state, and `IPC_STAT`: `DEAD` if it has lost its key |
//! | `Count`, `Claim`, `CountAgain`, `Commit`, `Withdraw` | `seize` | `IPC_STAT`; compare and swap; `IPC_STAT`; compare and swap, twice |
//! | `Unmake`, `Make`, `Publish`, `Bear` | `renew` | the first lock begun, the last made; the header; `BORN` |
//! | `TakeAway`, `SayDead` | `remove_as` | `IPC_RMID`; `DEAD` |
//! | `Unmap` | | `shmdt` |
//!
//! A task is one visit; the next visit after a pause is another task. The 20 ms of
//! grace can end at any time. The kernel's part: it counts attachments, in all pid
//! namespaces, and down for the dead.
//!
//! Left out: birth, and leaving, which [`system_v`](super::system_v) has; in it all are
//! of one namespace.

use stateright::Property;

use crate::kit::{
    Condition, Exploration, Name, Protocol, Size, assert_found, assert_safe, assert_safe_and_lively,
};

/// A pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Namespace {
    Old,
    New,
    Third,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
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
enum Task {
    Open,
    Remove,
    /// Attaches and detaches: the tool, a reader.
    Look,
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[rustfmt::skip]
enum At {
    Rest, Dead,
    EarlyLoad, Map, MapBorn, Load, Kick, KickIfAlone, TakeOverIfAlone, LoadAgain,
    Count, Claim, CountAgain, Commit, Withdraw,
    Unmake, Make, Publish, Bear,
    TakeAway, SayDead, Refuse, Unmap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Born,
    Claimed(u8),
    Renewing,
    Dead,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Process {
    name: Name,
    namespace: Namespace,
    menu: &'static [Task],
    at: At,
    task: Task,
    left: u8,
    is_mapped: bool,
    is_user: bool,
    /// The claim that it made, or that it saw.
    claim: u8,
    /// Others were attached at some time since it is.
    has_company: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wrong {
    RefusedAlone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    state: State,
    /// As the header says.
    namespace: Namespace,
    /// Where the locks mean something; `None` while they are made.
    locks: Option<Namespace>,
    claims: u8,
    has_key: bool,
    processes: Vec<Process>,
    wrong: Option<Wrong>,
}

impl World {
    fn attached(&self) -> usize {
        let is_mapped = |process: &&Process| process.is_mapped;
        self.processes.iter().filter(is_mapped).count()
    }

    fn users(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| process.is_user)
    }

    fn swap(&mut self, old: State, new: State) -> bool {
        let is_old = self.state == old;
        if is_old {
            self.state = new;
        }
        is_old
    }

    fn map(&mut self, who: usize) {
        let has_company = self.attached() > 0;
        for process in self.processes.iter_mut().filter(|p| p.is_mapped) {
            process.has_company = true;
        }
        self.processes[who].is_mapped = true;
        self.processes[who].has_company = has_company;
    }
}

type Members = &'static [(Namespace, &'static [Task])];

#[derive(Clone, Copy, Debug)]
struct Renewal {
    members: Members,
    tasks: u8,
    mutation: Option<Mutation>,
}

impl Renewal {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn has_one_of(&self, mutations: [Mutation; 2]) -> bool {
        mutations.into_iter().any(|mutation| self.has(mutation))
    }

    fn load(&self, world: &mut World, who: usize) -> At {
        let me = &mut world.processes[who];
        let is_home = me.namespace == world.namespace;
        match world.state {
            // A remover of its own namespace goes another way: see `system_v`.
            State::Born if is_home && me.task == Task::Remove => At::Unmap,
            State::Born if is_home => {
                me.is_user = true;
                At::Rest
            }
            State::Born
                if self
                    .has_one_of([Mutation::NoFirstCount, Mutation::NeitherNumberNorFirstCount]) =>
            {
                At::Claim
            }
            State::Born => At::Count,
            State::Claimed(_) if self.has(Mutation::ClaimOfTheDeadStays) => At::Refuse,
            State::Claimed(claim) => {
                me.claim = claim;
                if is_home { At::Kick } else { At::KickIfAlone }
            }
            State::Renewing if self.has(Mutation::RenewalOfTheDeadStays) => At::Refuse,
            State::Renewing => At::TakeOverIfAlone,
            State::Dead => At::Unmap,
        }
    }

    fn seized(&self, world: &World, who: usize) -> At {
        match world.processes[who].task {
            Task::Remove => At::TakeAway,
            _ if self.has(Mutation::BornBeforeLocks) => At::Bear,
            _ => At::Unmake,
        }
    }
}

impl Protocol for Renewal {
    type World = World;
    type Task = Task;
    type At = At;

    fn start(&self) -> World {
        let process = |number| {
            let (namespace, menu) = self.members[number];
            Process {
                name: Name::of(number),
                namespace,
                menu,
                at: At::Rest,
                task: Task::Leave,
                left: self.tasks,
                is_mapped: false,
                is_user: false,
                claim: 0,
                has_company: false,
            }
        };
        World {
            state: State::Born,
            namespace: Namespace::Old,
            locks: Some(Namespace::Old),
            claims: 0,
            has_key: true,
            processes: (0..self.members.len()).map(process).collect(),
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
            me if me.left > 0 && world.has_key => me.menu.to_vec(),
            _ => vec![],
        }
    }

    fn begin(&self, world: &mut World, who: usize, task: Task) {
        let me = &mut world.processes[who];
        me.task = task;
        me.at = match task {
            Task::Leave => {
                me.is_user = false;
                At::Unmap
            }
            _ if self.has(Mutation::LoadBeforeMapping) => At::EarlyLoad,
            _ => At::Map,
        };
        if task != Task::Leave {
            me.left -= 1;
        }
    }

    fn ways(&self, world: &World, who: usize) -> usize {
        match world.processes[who].at {
            At::Rest | At::Dead => 0,
            _ => 1,
        }
    }

    fn step(&self, world: &mut World, who: usize, _: usize) {
        let is_alone = world.attached() == 1;
        let Process {
            at,
            claim,
            namespace,
            task,
            has_company,
            ..
        } = world.processes[who];
        let next = match at {
            At::EarlyLoad => {
                let is_born = world.state == State::Born && namespace == world.namespace;
                if is_born { At::MapBorn } else { At::Map }
            }
            At::MapBorn => {
                world.map(who);
                world.processes[who].is_user = task == Task::Open;
                if task == Task::Open {
                    At::Rest
                } else {
                    At::Unmap
                }
            }
            // Destroyed with its last attachment.
            At::Map if !world.has_key && world.attached() == 0 => At::Rest,
            At::Map => {
                world.map(who);
                if task == Task::Look {
                    At::Unmap
                } else {
                    At::Load
                }
            }
            At::Load => self.load(world, who),
            At::KickIfAlone if is_alone => At::Kick,
            At::KickIfAlone => At::Refuse,
            At::Kick => {
                world.swap(State::Claimed(claim), State::Born);
                At::Load
            }
            At::TakeOverIfAlone if self.has(Mutation::TakeOverUncounted) => self.seized(world, who),
            At::TakeOverIfAlone if is_alone => match self.has(Mutation::TakeOverUnconfirmed) {
                true => self.seized(world, who),
                false => At::LoadAgain,
            },
            At::LoadAgain if world.state == State::Renewing && !world.has_key => {
                world.state = State::Dead;
                At::Unmap
            }
            At::LoadAgain if world.state == State::Renewing => self.seized(world, who),
            At::LoadAgain => At::Load,
            At::TakeOverIfAlone => At::Refuse,
            At::Count if is_alone => At::Claim,
            At::Count => At::Refuse,
            At::Claim => {
                world.claims += 1;
                let is_numbered = !self.has_one_of([
                    Mutation::ClaimsHaveNoNumber,
                    Mutation::NeitherNumberNorFirstCount,
                ]);
                let claim = if is_numbered { world.claims } else { 0 };
                world.processes[who].claim = claim;
                match world.swap(State::Born, State::Claimed(claim)) {
                    true if self.has(Mutation::NoSecondCount) => At::Commit,
                    true => At::CountAgain,
                    false => At::Refuse,
                }
            }
            At::CountAgain if is_alone => At::Commit,
            At::CountAgain => At::Withdraw,
            At::Commit if self.has(Mutation::CommitWithoutSwap) => {
                world.state = State::Renewing;
                self.seized(world, who)
            }
            At::Commit => match world.swap(State::Claimed(claim), State::Renewing) {
                true => self.seized(world, who),
                false => At::Withdraw,
            },
            At::Withdraw => {
                world.swap(State::Claimed(claim), State::Born);
                At::Refuse
            }
            At::Unmake => {
                world.locks = None;
                At::Make
            }
            At::Make => {
                world.locks = Some(namespace);
                At::Publish
            }
            At::Publish => {
                world.namespace = namespace;
                let is_last = self.has(Mutation::BornBeforeLocks);
                world.processes[who].is_user = is_last;
                if is_last { At::Rest } else { At::Bear }
            }
            At::Bear => {
                world.state = State::Born;
                let is_early = self.has(Mutation::BornBeforeLocks);
                world.processes[who].is_user = !is_early;
                if is_early { At::Unmake } else { At::Rest }
            }
            At::TakeAway => {
                world.has_key = false;
                At::SayDead
            }
            At::SayDead => {
                world.state = State::Dead;
                At::Unmap
            }
            At::Refuse => {
                if !has_company && world.has_key {
                    world.wrong = Some(Wrong::RefusedAlone);
                }
                At::Unmap
            }
            At::Unmap => {
                world.processes[who].is_mapped = false;
                At::Rest
            }
            At::Rest | At::Dead => unreachable!("no step"),
        };
        world.processes[who].at = next;
    }

    fn die(&self, world: &mut World, who: usize) {
        let me = &mut world.processes[who];
        me.at = At::Dead;
        me.is_mapped = false;
        me.is_user = false;
        me.left = 0;
        me.claim = 0;
        me.task = Task::Leave;
        me.has_company = false;
    }

    fn normalize(world: &mut World) {
        for process in &mut world.processes {
            if process.at == At::Rest {
                process.claim = 0;
                process.task = Task::Leave;
                process.has_company &= process.is_user;
            }
        }
        world.processes.sort_unstable();
    }

    fn properties() -> Vec<Property<Exploration<Self>>> {
        vec![
            Property::always(ONE_GROUP, |_, world: &World| {
                let mut users = world.users();
                users.all(|user| world.locks == Some(user.namespace))
            }),
            Property::always(KEEPS_ITS_KEY, |_, world: &World| {
                world.has_key || world.users().count() == 0
            }),
            Property::always(MADE_ALONE, |_, world: &World| {
                let is_renewing = |process: &&Process| {
                    let at = process.at;
                    matches!(at, At::Unmake | At::Make | At::Publish | At::Bear)
                };
                let renewing = world.processes.iter().filter(is_renewing).count();
                renewing == 0 || renewing == 1 && world.users().count() == 0
            }),
            Property::always(LET_IN, |_, world: &World| {
                world.wrong != Some(Wrong::RefusedAlone)
            }),
            Property::sometimes("is it used in another namespace", |_, world: &World| {
                world.users().any(|user| user.namespace == Namespace::New)
            }),
            Property::sometimes("do two of the new namespace use it", |_, world: &World| {
                let is_new = |user: &&Process| user.namespace == Namespace::New;
                world.users().filter(is_new).count() > 1
            }),
            Property::sometimes("is a claim replaced", |_, world: &World| {
                let mut all = world.processes.iter();
                all.any(|p| p.at == At::Commit && world.state != State::Claimed(p.claim))
            }),
            Property::sometimes("is a renewal of the dead taken over", |_, world: &World| {
                let mut all = world.processes.iter();
                world.locks.is_none() && all.any(|process| process.at == At::Unmake)
            }),
        ]
    }
}

const ONE_GROUP: &str = "all who use the locks are of the namespace that the locks are of";
const KEEPS_ITS_KEY: &str = "no key is taken from those who use it";
const MADE_ALONE: &str = "locks are made anew by one process, and used by none";
const LET_IN: &str = "who is alone all the time is let in";

use Namespace::{New, Old, Third};
use Task::{Look, Open, Remove};

/// Searches the protocol as it is.
pub(crate) fn check(size: Size) {
    let of = |tasks, members: Members| {
        let title = format!("renewal, {tasks} of each of {members:?}");
        let protocol = Renewal {
            members,
            tasks,
            mutation: None,
        };
        (title, protocol)
    };
    let (title, protocol) = of(2, &[(Old, &[Open]), (New, &[Open]), (New, &[Open])]);
    assert_safe_and_lively(&title, protocol);
    for (title, protocol) in [
        of(2, &[(Old, &[Open]), (New, &[Open]), (Third, &[Open])]),
        of(2, &[(Old, &[Open]), (New, &[Open]), (New, &[Remove])]),
    ] {
        assert_safe(&title, protocol);
    }
    if size == Size::Large {
        for (title, protocol) in [
            of(3, &[(Old, &[Open]), (New, &[Open]), (New, &[Open])]),
            of(
                2,
                &[
                    (Old, &[Open]),
                    (New, &[Open]),
                    (New, &[Open]),
                    (Third, &[Open, Remove, Look]),
                ],
            ),
        ] {
            assert_safe(&title, protocol);
        }
    }
}

/// Searches what it must not be, and what is harmless.
pub(crate) fn check_mutations() {
    use Mutation::{
        BornBeforeLocks, ClaimOfTheDeadStays, ClaimsHaveNoNumber, CommitWithoutSwap,
        LoadBeforeMapping, NeitherNumberNorFirstCount, NoFirstCount, NoSecondCount,
        RenewalOfTheDeadStays, TakeOverUnconfirmed, TakeOverUncounted,
    };
    let members: Members = &[(Old, &[Open]), (New, &[Open]), (New, &[Open])];
    let of = |mutation| Renewal {
        members,
        tasks: 2,
        mutation: Some(mutation),
    };
    for (mutation, property) in [
        (NeitherNumberNorFirstCount, MADE_ALONE),
        (NoSecondCount, ONE_GROUP),
        (CommitWithoutSwap, MADE_ALONE),
        (LoadBeforeMapping, MADE_ALONE),
        (BornBeforeLocks, MADE_ALONE),
        (TakeOverUncounted, MADE_ALONE),
        // It was so in the code until the model found it.
        (TakeOverUnconfirmed, MADE_ALONE),
        (ClaimOfTheDeadStays, LET_IN),
        (RenewalOfTheDeadStays, LET_IN),
    ] {
        assert_found(&format!("renewal, {mutation:?}"), of(mutation), property);
    }
    // Each of the two makes the other unnecessary. Both are there: the first count spares
    // users of the old namespace the claims, and the number makes the argument short.
    for mutation in [ClaimsHaveNoNumber, NoFirstCount] {
        assert_safe(&format!("renewal, {mutation:?}"), of(mutation));
    }
}

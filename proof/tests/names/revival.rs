//! The locks of a file that comes from another boot: who brings them back to life.
//!
//! What a process does that opens a file to write, from `src/segment/named.rs`,
//! `attach.rs` and `origin.rs`, as steps:
//!
//! | step | in | system call, or access to the header |
//! |---|---|---|
//! | `PeekFront`, `PeekEnd`, `PeekBack` | `read_header` | `open`, `pread`, which may be torn |
//! | `TakeRevival` | `Reviver::new`, if the origin is another | `F_OFD_SETLKW`, exclusive, `REVIVAL` |
//! | `TakeShared` | `Attached::new` | `F_OFD_SETLKW`, shared, own byte of `WRITERS` |
//! | `LoadEnd`, `LoadFront`, `LoadBack`, `LoadEndAgain` | `Origin::load` | loads |
//! | `Exclude` | `bring_home` | `F_OFD_SETLK`, exclusive, `WRITERS`; not to be had: refused |
//! | `MarkEnd` | `bring_home` | store: from here on the origin is none |
//! | `BeginRevival`, `EndRevival` | `place::revive` | every lock is made anew |
//! | `WriteFront`, `WriteBack`, `WriteEnd` | `Origin::publish` | stores |
//! | `Share` | `bring_home` | `F_OFD_SETLK`, shared, own byte; the others unlocked |
//! | `FreeRevival` | `Reviver::drop` | `F_OFD_SETLK`, unlocked |
//! | `Close` | `Attached::drop` | `close`; if somebody else was faster, from `PeekFront` again |
//!
//! An origin is of one boot if all of its words are: the end of the boot's id, and what
//! lies before and behind it. Boot 0 is past. The processes see boot 1; one may see
//! boot 2, as in a container that has something mounted over the id.
//!
//! Left out: the name, which is the business of [`publication`](super::publication);
//! readers, who use no lock; orderings weaker than sequential.

use stateright::Property;

use crate::kit::{
    Condition, Exploration, Name, Protocol, Size, assert_found, assert_safe, assert_safe_and_lively,
};

/// Which boot somebody sees, or something is of.
type Boot = u8;

/// The boot that made the file.
const PAST: Boot = 0;

/// What a word of the origin says while it is being changed.
const CHANGING: Boot = Boot::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    NoRevivalLock,
    OriginBeforeLocks,
    CompanyIgnored,
    /// The reviver asks whether others are attached, and does not exclude them.
    CompanyOnlyAsked,
    NoLoadBeforeRevival,
    NoLoadAfterAttaching,
    /// The locks are made anew while the origin still says that they are alive.
    EndMarkedLate,
    /// Harmless.
    EndLoadedOnce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Open,
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[rustfmt::skip]
enum At {
    Rest, Dead,
    PeekFront, PeekEnd, PeekBack, TakeRevival, TakeShared,
    LoadEnd, LoadFront, LoadBack, LoadEndAgain,
    Exclude, BeginRevival, EndRevival,
    MarkEnd, WriteFront, WriteBack, WriteEnd, Share, FreeRevival,
    Close,
}

/// What a process has of the bytes of `WRITERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Writers {
    None,
    Own,
    All,
}

/// How a process goes on from where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Course {
    Straight,
    Reviving,
    Refused,
    Again,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Process {
    name: Name,
    boot: Boot,
    at: At,
    course: Course,
    /// How many times it may still open the file.
    left: u8,
    has_revival: bool,
    writers: Writers,
    is_user: bool,
    /// Whether all words that were read so far are of its boot.
    is_home: bool,
    is_overtaken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Locks {
    AliveIn(Boot),
    /// Some are, some are not.
    HalfRevived,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wrong {
    /// Locks that were alive, and said to be, were made anew.
    RevivedAgain,
    /// Somebody was refused although all see the same boot.
    Refused,
    IdleTurn,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    front: Boot,
    end: Boot,
    back: Boot,
    locks: Locks,
    processes: Vec<Process>,
    wrong: Option<Wrong>,
}

impl World {
    fn others(&self, who: usize) -> impl Iterator<Item = &Process> {
        let all = self.processes.iter().enumerate();
        all.filter(move |(other, _)| *other != who)
            .map(|(_, process)| process)
    }

    /// Whether somebody else has a lock in `WRITERS`.
    fn has_company(&self, who: usize) -> bool {
        let mut others = self.others(who);
        others.any(|other| other.writers != Writers::None)
    }

    fn users(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| process.is_user)
    }

    /// The origin has changed.
    fn tell_others(&mut self, who: usize) {
        for (other, process) in self.processes.iter_mut().enumerate() {
            process.is_overtaken |= other != who;
        }
    }

    fn is_of(&self, boot: Boot) -> bool {
        [self.front, self.end, self.back] == [boot; 3]
    }
}

#[derive(Clone, Copy, Debug)]
struct Revival {
    /// Which boot each process sees.
    boots: &'static [Boot],
    /// Which boot the file is of at first.
    origin: Boot,
    tasks: u8,
    mutation: Option<Mutation>,
}

impl Revival {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// Notes whether a word of the origin is of the boot that this one sees.
    fn note(&self, world: &mut World, who: usize, word: Boot) {
        let me = &mut world.processes[who];
        me.is_home &= word == me.boot;
    }

    /// Where somebody goes on who has its own lock.
    fn attached(&self, world: &mut World, who: usize) -> At {
        let me = &mut world.processes[who];
        me.is_home = true;
        match me.course {
            Course::Reviving if self.has(Mutation::NoLoadBeforeRevival) => self.company(),
            Course::Straight if self.has(Mutation::NoLoadAfterAttaching) => {
                me.is_user = true;
                At::Rest
            }
            _ => At::LoadEnd,
        }
    }

    fn company(&self) -> At {
        match self.has(Mutation::CompanyIgnored) {
            true => self.revive(),
            false => At::Exclude,
        }
    }

    fn revive(&self) -> At {
        match self.has(Mutation::EndMarkedLate) {
            true => At::BeginRevival,
            false => At::MarkEnd,
        }
    }

    fn revived(&self, world: &World, who: usize) -> At {
        match world.processes[who].writers {
            Writers::All => At::Share,
            _ => At::FreeRevival,
        }
    }

    fn loaded(&self, world: &mut World, who: usize) -> At {
        let me = &mut world.processes[who];
        match (me.course, me.is_home) {
            (Course::Reviving, true) => At::FreeRevival,
            (Course::Reviving, false) => self.company(),
            (_, true) => {
                me.is_user = true;
                At::Rest
            }
            (_, false) => {
                me.course = Course::Again;
                At::Close
            }
        }
    }

    fn next(&self, world: &mut World, who: usize) -> At {
        let at = world.processes[who].at;
        let boot = world.processes[who].boot;
        match at {
            At::PeekFront => {
                world.processes[who].is_home = true;
                world.processes[who].course = Course::Straight;
                self.note(world, who, world.front);
                At::PeekEnd
            }
            At::PeekEnd => {
                self.note(world, who, world.end);
                At::PeekBack
            }
            At::PeekBack => {
                self.note(world, who, world.back);
                if world.processes[who].is_home {
                    return At::TakeShared;
                }
                world.processes[who].course = Course::Reviving;
                match self.has(Mutation::NoRevivalLock) {
                    true => At::TakeShared,
                    false => At::TakeRevival,
                }
            }
            At::TakeRevival => {
                world.processes[who].has_revival = true;
                At::TakeShared
            }
            At::TakeShared => {
                world.processes[who].writers = Writers::Own;
                self.attached(world, who)
            }
            At::LoadEnd => {
                self.note(world, who, world.end);
                At::LoadFront
            }
            At::LoadFront => {
                self.note(world, who, world.front);
                At::LoadBack
            }
            At::LoadBack => {
                self.note(world, who, world.back);
                match self.has(Mutation::EndLoadedOnce) {
                    true => self.loaded(world, who),
                    false => At::LoadEndAgain,
                }
            }
            At::LoadEndAgain => {
                self.note(world, who, world.end);
                self.loaded(world, who)
            }
            At::Exclude => {
                if world.has_company(who) {
                    if world.processes.iter().all(|process| process.boot == boot) {
                        world.wrong = Some(Wrong::Refused);
                    }
                    world.processes[who].course = Course::Refused;
                    return At::FreeRevival;
                }
                if world.is_of(boot) {
                    world.wrong = Some(Wrong::RevivedAgain);
                }
                if !self.has(Mutation::CompanyOnlyAsked) {
                    world.processes[who].writers = Writers::All;
                }
                self.revive()
            }
            At::BeginRevival => {
                world.locks = Locks::HalfRevived;
                At::EndRevival
            }
            At::EndRevival => {
                world.locks = Locks::AliveIn(boot);
                match self.mutation {
                    Some(Mutation::OriginBeforeLocks) => self.revived(world, who),
                    Some(Mutation::EndMarkedLate) => At::MarkEnd,
                    _ => At::WriteFront,
                }
            }
            At::MarkEnd => {
                world.end = CHANGING;
                world.tell_others(who);
                match self.mutation {
                    Some(Mutation::EndMarkedLate | Mutation::OriginBeforeLocks) => At::WriteFront,
                    _ => At::BeginRevival,
                }
            }
            At::WriteFront => {
                world.front = boot;
                world.tell_others(who);
                At::WriteBack
            }
            At::WriteBack => {
                world.back = boot;
                world.tell_others(who);
                At::WriteEnd
            }
            At::WriteEnd => {
                world.end = boot;
                world.tell_others(who);
                match self.has(Mutation::OriginBeforeLocks) {
                    true => At::BeginRevival,
                    false => self.revived(world, who),
                }
            }
            At::Share => {
                world.processes[who].writers = Writers::Own;
                At::FreeRevival
            }
            At::FreeRevival => {
                let me = &mut world.processes[who];
                me.has_revival = false;
                if me.course == Course::Refused {
                    return At::Close;
                }
                me.course = Course::Straight;
                self.attached(world, who)
            }
            At::Close => {
                let me = &mut world.processes[who];
                me.writers = Writers::None;
                if me.course != Course::Again {
                    return At::Rest;
                }
                if !std::mem::take(&mut me.is_overtaken) {
                    world.wrong = Some(Wrong::IdleTurn);
                }
                At::PeekFront
            }
            At::Rest | At::Dead => unreachable!("no step"),
        }
    }
}

impl Protocol for Revival {
    type World = World;
    type Task = Task;
    type At = At;

    fn start(&self) -> World {
        let process = |(number, boot): (usize, &Boot)| Process {
            name: Name::of(number),
            boot: *boot,
            at: At::Rest,
            course: Course::Straight,
            left: self.tasks,
            has_revival: false,
            writers: Writers::None,
            is_user: false,
            is_home: false,
            is_overtaken: false,
        };
        World {
            front: self.origin,
            end: self.origin,
            back: self.origin,
            locks: Locks::AliveIn(self.origin),
            processes: self.boots.iter().enumerate().map(process).collect(),
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
            me if me.left > 0 => vec![Task::Open],
            _ => vec![],
        }
    }

    fn begin(&self, world: &mut World, who: usize, task: Task) {
        let me = &mut world.processes[who];
        me.at = match task {
            Task::Open => {
                me.left -= 1;
                At::PeekFront
            }
            Task::Leave => {
                me.is_user = false;
                At::Close
            }
        };
    }

    fn ways(&self, world: &World, who: usize) -> usize {
        let mut others = world.others(who);
        let must_wait = match world.processes[who].at {
            At::TakeRevival => others.any(|other| other.has_revival),
            At::TakeShared => others.any(|other| other.writers == Writers::All),
            At::Rest | At::Dead => true,
            _ => false,
        };
        usize::from(!must_wait)
    }

    fn step(&self, world: &mut World, who: usize, _: usize) {
        let next = self.next(world, who);
        world.processes[who].at = next;
    }

    fn die(&self, world: &mut World, who: usize) {
        let me = &mut world.processes[who];
        me.at = At::Dead;
        me.left = 0;
        me.has_revival = false;
        me.writers = Writers::None;
        me.is_user = false;
    }

    fn normalize(world: &mut World) {
        for process in &mut world.processes {
            if matches!(process.at, At::Rest | At::Dead) {
                process.course = Course::Straight;
                process.is_home = false;
                process.is_overtaken = false;
            }
        }
        world.processes.sort_unstable();
    }

    fn properties() -> Vec<Property<Exploration<Self>>> {
        vec![
            Property::always(ALIVE, |_, world: &World| {
                let mut users = world.users();
                users.all(|user| world.locks == Locks::AliveIn(user.boot))
            }),
            Property::always(ONE_BOOT, |_, world: &World| {
                let mut users = world.users();
                let first = users.next();
                users.all(|user| first.is_some_and(|first| first.boot == user.boot))
            }),
            Property::always(ONCE, |_, world: &World| {
                world.wrong != Some(Wrong::RevivedAgain)
            }),
            Property::always(NOT_REFUSED, |_, world: &World| {
                world.wrong != Some(Wrong::Refused)
            }),
            Property::always(TURNS, |_, world: &World| {
                world.wrong != Some(Wrong::IdleTurn)
            }),
            Property::sometimes("do two use the locks", |_, world: &World| {
                world.users().count() > 1
            }),
            Property::sometimes(
                "does somebody wait for a reviver",
                |model, world: &World| {
                    (0..world.processes.len()).any(|who| model.must_wait(world, who))
                },
            ),
            Property::sometimes("is a reviver too late", |_, world: &World| {
                let is_late = |process: &Process| {
                    process.at == At::FreeRevival && process.course == Course::Reviving
                };
                world.users().count() > 0 && world.processes.iter().any(is_late)
            }),
            Property::sometimes("does a reviver die half-way", |_, world: &World| {
                let is_dead = |process: &Process| process.at == At::Dead;
                world.locks == Locks::HalfRevived && world.processes.iter().all(is_dead)
            }),
        ]
    }
}

const ALIVE: &str = "whoever uses the locks finds them alive in the boot that it sees";
const ONE_BOOT: &str = "all who use the locks see one boot";
const ONCE: &str = "locks that are said to be alive are not made anew";
const NOT_REFUSED: &str = "nobody is refused where all see one boot";
const TURNS: &str = "each turn of a loop is caused by somebody else";

/// Searches the protocol as it is.
pub(crate) fn check(size: Size) {
    let of = |boots: &'static [Boot], origin, tasks| {
        let title = format!("revival, boots {boots:?}, file of boot {origin}, {tasks} task each");
        let protocol = Revival {
            boots,
            origin,
            tasks,
            mutation: None,
        };
        (title, protocol)
    };
    let mut all = vec![
        of(&[1, 1, 1], PAST, 1),
        of(&[1, 1, 2], PAST, 1),
        of(&[1, 1, 2], 1, 1),
    ];
    if size == Size::Large {
        all.push(of(&[1, 1, 1, 1], PAST, 1));
        all.push(of(&[1, 1, 2, 2], PAST, 1));
        all.push(of(&[1, 1, 2], PAST, 2));
        all.push(of(&[1, 1, 2, 2], 1, 1));
    }
    for (title, protocol) in all {
        assert_safe_and_lively(&title, protocol);
    }
}

/// Searches what it must not be.
pub(crate) fn check_mutations() {
    use Mutation::{
        CompanyIgnored, CompanyOnlyAsked, EndLoadedOnce, EndMarkedLate, NoLoadAfterAttaching,
        NoLoadBeforeRevival, NoRevivalLock, OriginBeforeLocks,
    };
    let mutated = |mutation, boots, origin| {
        let protocol = Revival {
            boots,
            origin,
            tasks: 1,
            mutation: Some(mutation),
        };
        (format!("revival, {mutation:?}"), protocol)
    };
    let bugs: [(_, &'static [Boot], _, _); 7] = [
        (NoRevivalLock, &[1, 1], PAST, NOT_REFUSED),
        (OriginBeforeLocks, &[1, 1], PAST, ALIVE),
        (CompanyIgnored, &[1, 2], 1, ALIVE),
        (CompanyOnlyAsked, &[1, 2], 1, ALIVE),
        (EndMarkedLate, &[1, 2], 1, ALIVE),
        (NoLoadBeforeRevival, &[1, 1], PAST, NOT_REFUSED),
        (NoLoadAfterAttaching, &[1, 2], 1, ALIVE),
    ];
    for (mutation, boots, origin, property) in bugs {
        let (title, protocol) = mutated(mutation, boots, origin);
        assert_found(&title, protocol, property);
    }
    // Where all see one boot, nobody comes by without having to wait for the reviver.
    for mutation in [CompanyOnlyAsked, EndMarkedLate] {
        let (title, protocol) = mutated(mutation, &[1, 1, 1], PAST);
        assert_safe(&title, protocol);
    }
    // Nobody has its own lock, and reads what counts, while a reviver writes: to read
    // the end twice only helps those who have no lock.
    let (title, protocol) = mutated(EndLoadedOnce, &[1, 1, 2], PAST);
    assert_safe(&title, protocol);
}

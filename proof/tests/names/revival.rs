//! The locks of an object that comes from another boot or pid namespace: which process
//! brings them back to life.
//!
//! What a process does that opens a file to write, from `src/segment/named.rs`,
//! `attach.rs` and `origin.rs`, as steps:
//!
//! | step | in | system call, or access to the header |
//! |---|---|---|
//! | `PeekNamespace`, `PeekFront`, `PeekEnd`, `PeekBack` | `read_header` | `open`, `pread`, which may be torn |
//! | `TakeRevival` | `Reviver::new`, if the header says another | `F_OFD_SETLKW`, exclusive, `REVIVAL` |
//! | `TakeShared` | `Attached::new` | `F_OFD_SETLKW`, shared, own byte of `WRITERS` |
//! | `LoadEnd`, `LoadFront`, `LoadBack`, `LoadNamespace`, `LoadEndAgain` | `Validity::load` | loads |
//! | `Exclude` | `bring_home` | `F_OFD_SETLK`, exclusive, `WRITERS`; not to be had: refused |
//! | `MarkEnd` | `bring_home` | store: from here on the origin is none |
//! | `BeginRevival`, `EndRevival` | `place::revive` | every lock is made anew |
//! | `WriteNamespace`, `WriteFront`, `WriteBack`, `WriteEnd` | `Validity::publish` | stores |
//! | `Share` | `bring_home` | `F_OFD_SETLK`, shared, own byte; the others unlocked |
//! | `LeaveWriters` | `Reviver::leave`, if refused | `F_OFD_SETLK`, own byte unlocked |
//! | `FreeRevival` | `Reviver::drop` | `F_OFD_SETLK`, unlocked |
//! | `Close` | `Attached::drop` | `close`; if somebody else was faster, from `PeekFront` again |
//!
//! An origin is of one boot if all of its words are: the end of the boot's id, and what
//! lies before and behind it. Boot 0 is past. The processes see boot 1; one may see
//! boot 2, as in a container that has something mounted over the id. The pid namespace is
//! a word of its own, and each process lives in one: a container that starts again is a
//! process of another namespace and of the same boot. What a process sees, and what the
//! locks are of, is a boot and a namespace.
//!
//! Left out: the name, which is the business of [`publication`](super::publication);
//! readers, who use no lock; orderings weaker than sequential.

use stateright::Property;

use crate::kit::{
    Condition, Exploration, Name, Protocol, Size, assert_found, assert_safe, assert_safe_and_lively,
};

/// Which boot a process sees, or something is of.
type Boot = u8;

/// Which pid namespace a process lives in, or something is of.
type Namespace = u8;

/// Both: where locks are valid.
type View = (Boot, Namespace);

/// The boot that made the file.
const PAST: View = (0, 0);

/// What most processes see.
const HERE: View = (1, 1);

/// Another boot.
const MASKED: View = (2, 1);

/// The same boot, in another container.
const CONTAINER: View = (1, 2);

/// The same boot, in a container that is gone.
const GONE: View = (1, 0);

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
enum Task {
    Open,
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[rustfmt::skip]
enum At {
    Rest, Dead,
    PeekNamespace, PeekFront, PeekEnd, PeekBack, TakeRevival, TakeShared,
    LoadEnd, LoadFront, LoadBack, LoadNamespace, LoadEndAgain,
    Exclude, BeginRevival, EndRevival,
    MarkEnd, WriteNamespace, WriteFront, WriteBack, WriteEnd, Share,
    LeaveWriters, FreeRevival, Close,
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
    view: View,
    at: At,
    course: Course,
    /// How many times it may still open the file.
    left: u8,
    has_revival: bool,
    writers: Writers,
    is_user: bool,
    /// Whether all words that were read so far are what it sees.
    is_home: bool,
    is_overtaken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Locks {
    AliveIn(View),
    /// Some are, some are not.
    HalfRevived,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wrong {
    /// Locks that were alive, and said to be, were made anew.
    RevivedAgain,
    /// A process was refused although all see the same, or because of others that are
    /// refused themselves.
    Refused,
    IdleTurn,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    namespace: Namespace,
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

    fn is_of(&self, (boot, namespace): View) -> bool {
        [self.front, self.end, self.back] == [boot; 3] && self.namespace == namespace
    }

    /// Whether this process should not be refused.
    fn is_wrongly_refused(&self, who: usize) -> bool {
        let view = self.processes[who].view;
        let mut company = self.others(who).filter(|it| it.writers != Writers::None);
        self.processes.iter().all(|process| process.view == view)
            || company.all(|it| it.view == view && it.course == Course::Refused)
    }
}

#[derive(Clone, Copy, Debug)]
struct Revival {
    /// What each process sees.
    views: &'static [View],
    /// What the file is of at first.
    origin: View,
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
        me.is_home &= word == me.view.0;
    }

    /// Notes whether the namespace in the header is that of this process.
    fn note_namespace(&self, world: &mut World, who: usize) {
        let me = &mut world.processes[who];
        me.is_home &= world.namespace == me.view.1;
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
        let view = world.processes[who].view;
        let (boot, namespace) = view;
        match at {
            At::PeekNamespace => {
                world.processes[who].is_home = true;
                world.processes[who].course = Course::Straight;
                self.note_namespace(world, who);
                At::PeekFront
            }
            At::PeekFront => {
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
                At::LoadNamespace
            }
            At::LoadNamespace => {
                let is_reviving = world.processes[who].course == Course::Reviving;
                if is_reviving || !self.has(Mutation::NamespaceOnlyPeeked) {
                    self.note_namespace(world, who);
                }
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
                    if world.is_wrongly_refused(who) {
                        world.wrong = Some(Wrong::Refused);
                    }
                    world.processes[who].course = Course::Refused;
                    return match self.has(Mutation::RefusedStays) {
                        true => At::FreeRevival,
                        false => At::LeaveWriters,
                    };
                }
                if world.is_of(view) {
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
                world.locks = Locks::AliveIn(view);
                match self.mutation {
                    Some(Mutation::OriginBeforeLocks) => self.revived(world, who),
                    Some(Mutation::EndMarkedLate) => At::MarkEnd,
                    Some(Mutation::NamespaceWrittenLast) => At::WriteFront,
                    _ => At::WriteNamespace,
                }
            }
            At::MarkEnd => {
                world.end = CHANGING;
                world.tell_others(who);
                match self.mutation {
                    Some(Mutation::EndMarkedLate | Mutation::OriginBeforeLocks) => {
                        At::WriteNamespace
                    }
                    _ => At::BeginRevival,
                }
            }
            At::WriteNamespace => {
                world.namespace = namespace;
                world.tell_others(who);
                match self.has(Mutation::NamespaceWrittenLast) {
                    true => self.revived(world, who),
                    false => At::WriteFront,
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
                match self.mutation {
                    Some(Mutation::OriginBeforeLocks) => At::BeginRevival,
                    Some(Mutation::NamespaceWrittenLast) => At::WriteNamespace,
                    _ => self.revived(world, who),
                }
            }
            At::Share => {
                world.processes[who].writers = Writers::Own;
                At::FreeRevival
            }
            At::LeaveWriters => {
                world.processes[who].writers = Writers::None;
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
                At::PeekNamespace
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
        let process = |(number, view): (usize, &View)| Process {
            name: Name::of(number),
            view: *view,
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
            namespace: self.origin.1,
            front: self.origin.0,
            end: self.origin.0,
            back: self.origin.0,
            locks: Locks::AliveIn(self.origin),
            processes: self.views.iter().enumerate().map(process).collect(),
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
                At::PeekNamespace
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
                users.all(|user| world.locks == Locks::AliveIn(user.view))
            }),
            Property::always(ONE_VIEW, |_, world: &World| {
                let mut users = world.users();
                let first = users.next();
                users.all(|user| first.is_some_and(|first| first.view == user.view))
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

const ALIVE: &str = "each user finds the locks alive in its boot and namespace";
const ONE_VIEW: &str = "all users of the locks see one boot and are of one namespace";
const ONCE: &str = "locks that are said to be alive are not made anew";
const NOT_REFUSED: &str = "a process is refused only because of others that see something else";
const TURNS: &str = "each turn of a loop is caused by somebody else";

/// Searches the protocol as it is.
pub(crate) fn check(size: Size) {
    let of = |views: &'static [View], origin, tasks| {
        let title = format!(
            "revival, boots and namespaces {views:?}, file of {origin:?}, {tasks} task each"
        );
        let protocol = Revival {
            views,
            origin,
            tasks,
            mutation: None,
        };
        (title, protocol)
    };
    let mut all = vec![
        of(&[HERE, HERE, HERE], PAST, 1),
        of(&[HERE, HERE, MASKED], PAST, 1),
        of(&[HERE, HERE, MASKED], HERE, 1),
        // A container starts again; two do at once; the old and the new one at once.
        of(&[HERE, HERE, HERE], GONE, 1),
        of(&[HERE, HERE, CONTAINER], GONE, 1),
        of(&[HERE, HERE, CONTAINER], HERE, 1),
    ];
    if size == Size::Large {
        all.push(of(&[HERE, HERE, HERE, HERE], PAST, 1));
        all.push(of(&[HERE, HERE, MASKED, MASKED], PAST, 1));
        all.push(of(&[HERE, HERE, MASKED], PAST, 2));
        all.push(of(&[HERE, HERE, MASKED, MASKED], HERE, 1));
        all.push(of(&[HERE, HERE, CONTAINER, CONTAINER], GONE, 1));
        all.push(of(&[HERE, HERE, CONTAINER], GONE, 2));
    }
    for (title, protocol) in all {
        assert_safe_and_lively(&title, protocol);
    }
    // Where all see something else, no two are inside.
    let (title, protocol) = of(&[HERE, CONTAINER, MASKED], GONE, 1);
    assert_safe(&title, protocol);
}

/// Searches what it must not be.
pub(crate) fn check_mutations() {
    use Mutation::{
        CompanyIgnored, CompanyOnlyAsked, EndLoadedOnce, EndMarkedLate, NamespaceOnlyPeeked,
        NamespaceWrittenLast, NoLoadAfterAttaching, NoLoadBeforeRevival, NoRevivalLock,
        OriginBeforeLocks, RefusedStays,
    };
    let mutated = |mutation, views, origin| {
        let protocol = Revival {
            views,
            origin,
            tasks: 1,
            mutation: Some(mutation),
        };
        (format!("revival, {mutation:?}"), protocol)
    };
    let bugs: [(_, &'static [View], _, _); 15] = [
        (NoRevivalLock, &[HERE, HERE], PAST, NOT_REFUSED),
        (OriginBeforeLocks, &[HERE, HERE], PAST, ALIVE),
        (CompanyIgnored, &[HERE, MASKED], HERE, ONE_VIEW),
        (CompanyOnlyAsked, &[HERE, MASKED], HERE, ALIVE),
        (EndMarkedLate, &[HERE, MASKED], HERE, ALIVE),
        (NoLoadBeforeRevival, &[HERE, HERE], PAST, NOT_REFUSED),
        (NoLoadAfterAttaching, &[HERE, MASKED], HERE, ALIVE),
        // The same, where only the namespace is another.
        (CompanyIgnored, &[HERE, CONTAINER], HERE, ONE_VIEW),
        (CompanyOnlyAsked, &[HERE, CONTAINER], HERE, ALIVE),
        (EndMarkedLate, &[HERE, CONTAINER], HERE, ALIVE),
        (NoLoadAfterAttaching, &[HERE, CONTAINER], HERE, ALIVE),
        (OriginBeforeLocks, &[HERE, HERE], GONE, ALIVE),
        (NamespaceOnlyPeeked, &[HERE, CONTAINER], HERE, ALIVE),
        (NamespaceWrittenLast, &[HERE, CONTAINER], HERE, ALIVE),
        (
            RefusedStays,
            &[HERE, CONTAINER, CONTAINER],
            HERE,
            NOT_REFUSED,
        ),
    ];
    for (mutation, views, origin, property) in bugs {
        let (title, protocol) = mutated(mutation, views, origin);
        assert_found(&title, protocol, property);
    }
    // Where all see one boot, nobody comes by without having to wait for the reviver.
    for mutation in [CompanyOnlyAsked, EndMarkedLate] {
        let (title, protocol) = mutated(mutation, &[HERE, HERE, HERE], PAST);
        assert_safe(&title, protocol);
    }
    // Nobody has its own lock, and reads what counts, while a reviver writes: to read
    // the end twice only helps those who have no lock.
    let (title, protocol) = mutated(EndLoadedOnce, &[HERE, HERE, MASKED], PAST);
    assert_safe(&title, protocol);
}

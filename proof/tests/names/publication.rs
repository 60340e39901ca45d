//! POSIX objects and files: publication, attachment, removal. [`steps`] has the steps.
//!
//! What a process does, from `src/segment/named.rs` and `attach.rs`, as steps:
//!
//! | step | in | system call |
//! |---|---|---|
//! | `MakeUnnamed` | `Unpublished::build` | `open(O_TMPFILE)` |
//! | `Fill` | `Unpublished::build` | `fchmod`, `fallocate`, `mmap`; all of the content |
//! | `LockOwn` | `publish`: `Attached::new` | `F_OFD_SETLKW`, shared, own byte of `ATTACHED` |
//! | `Link` | `named_file::publish` | `linkat`; `EEXIST`: open, or fail |
//! | `Open` | `open_checked` | `open`, `fstat`, `pread`; `ENOENT`: create, or fail |
//! | `TakeShared` | `open`: `Attached::new` | `F_OFD_SETLKW`, shared, own byte of `ATTACHED` |
//! | `Look` | `attach::leads_to` | `lstat`; elsewhere: `Close` |
//! | `Close` | `Attached::drop`, not armed | `close`; from `Open` again |
//! | `Reopen` | `Attached::drop`, armed | `open` of `/proc/self/fd/N` |
//! | `Visit` | `named::remove_if_abandoned` | `open`, `pread` |
//! | `TakeRemoval` | `Remover::new` | `F_OFD_SETLK`, exclusive, `REMOVAL` |
//! | `LetGo` | `Attached::drop`, after `TakeRemoval` | `close` of what has the shared lock |
//! | `TryAll` | `Remover::remove_if_abandoned` | `F_OFD_SETLK`, exclusive, `ATTACHED` |
//! | `LookAgain` | `attach::leads_to` | `lstat` |
//! | `TakeAway` | `Remover::remove_if_abandoned` | `unlink` |
//! | `FreeAll`, `FreeRemoval` | `Remover::drop` | `F_OFD_SETLK`, unlocked; `close` |
//! | `VisitToUnlink`, `LockToUnlink`, `LookToUnlink`, `Unlink` | `attach::unlink` | `open`, `F_OFD_SETLKW`, `lstat`, `unlink` |
//!
//! The kernel's part: an inode lives while it has a name or is open, and its number is
//! given out again afterwards; the locks of a description go with its last descriptor,
//! all at once, also when a process dies.
//!
//! Left out: `Abandoned::Recreate`, which is `Remove` and then a creation;
//! `Removal::Persistent`, which leaves what a death leaves; readers, who lock other
//! bytes of the same range; forked children, who share a description.

mod steps;

use stateright::Property;

use crate::kit::{
    Condition, Exploration, Name, Protocol, Size, WAITS, assert_found, assert_safe,
    assert_safe_and_lively,
};

/// An inode number.
type Ino = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
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
enum Task {
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
enum At {
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
struct Process {
    name: Name,
    at: At,
    task: Task,
    /// How many tasks it may still begin, beside leaving.
    left: u8,
    /// What it has open to be attached to.
    file: Option<Ino>,
    /// It has the shared lock through that.
    is_attached: bool,
    /// It has a segment, and may use it.
    is_user: bool,
    /// What it has built, and not published.
    built: Option<Ino>,
    /// What it has open to take the name away.
    visitor: Option<Ino>,
    /// It has these locks through that.
    has_removal: bool,
    has_all: bool,
    /// Somebody else has changed the name since this turn of a loop began.
    is_overtaken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Inode {
    is_whole: bool,
    /// Its name was taken away by `unlink`.
    is_unlinked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wrong {
    /// A name was taken away from another object than the one that was judged.
    AnotherRemoved,
    /// `open` found nothing although somebody was attached.
    NotFound,
    /// A turn of a loop that nobody else has caused.
    IdleTurn,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    path: Option<Ino>,
    inodes: Vec<Option<Inode>>,
    processes: Vec<Process>,
    wrong: Option<Wrong>,
}

impl World {
    fn inode(&self, ino: Ino) -> Inode {
        self.inodes[ino].expect("open or named, so it is there")
    }

    /// Whether the name leads to the object of this user, or was taken from it by
    /// `unlink`.
    fn is_named_or_unlinked(&self, user: &Process) -> bool {
        let file = user.file.expect("a user has it open");
        self.path == Some(file) || self.inode(file).is_unlinked
    }

    fn users(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| process.is_user)
    }

    /// Whether another description than the visitor of `who` has a lock in `ATTACHED`.
    fn has_company(&self, who: usize, ino: Ino) -> bool {
        let has_shared = |process: &Process| process.file == Some(ino) && process.is_attached;
        self.processes.iter().any(has_shared) || self.is_excluded(who, ino)
    }

    /// Whether somebody else has all of `ATTACHED` for itself.
    fn is_excluded(&self, who: usize, ino: Ino) -> bool {
        let mut others = self.others(who);
        others.any(|process| process.visitor == Some(ino) && process.has_all)
    }

    fn is_being_removed(&self, who: usize, ino: Ino) -> bool {
        let mut others = self.others(who);
        others.any(|process| process.visitor == Some(ino) && process.has_removal)
    }

    fn others(&self, who: usize) -> impl Iterator<Item = &Process> {
        let all = self.processes.iter().enumerate();
        all.filter(move |(other, _)| *other != who)
            .map(|(_, process)| process)
    }

    fn rename(&mut self, who: usize, path: Option<Ino>) {
        self.path = path;
        for (other, process) in self.processes.iter_mut().enumerate() {
            process.is_overtaken |= other != who;
        }
    }

    fn turn(&mut self, who: usize) {
        if !std::mem::take(&mut self.processes[who].is_overtaken) {
            self.wrong = Some(Wrong::IdleTurn);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Publication {
    processes: usize,
    tasks: u8,
    mutation: Option<Mutation>,
}

impl Publication {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

impl Protocol for Publication {
    type World = World;
    type Task = Task;
    type At = At;

    fn start(&self) -> World {
        let process = |number| Process {
            name: Name::of(number),
            at: At::Rest,
            task: Task::Leave,
            left: self.tasks,
            file: None,
            is_attached: false,
            is_user: false,
            built: None,
            visitor: None,
            has_removal: false,
            has_all: false,
            is_overtaken: false,
        };
        World {
            path: None,
            inodes: Vec::new(),
            processes: (0..self.processes).map(process).collect(),
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
        let me = &world.processes[who];
        match (me.is_user, me.left) {
            (true, 0) => vec![Task::Leave],
            (true, _) => vec![Task::Leave, Task::Unlink],
            (false, 0) => vec![],
            (false, _) => {
                use Task::{Create, Open, OpenOrCreate, Remove, Unlink};
                vec![Create, OpenOrCreate, Open, Remove, Unlink]
            }
        }
    }

    fn begin(&self, world: &mut World, who: usize, task: Task) {
        let me = &mut world.processes[who];
        me.task = task;
        me.is_overtaken = false;
        if task == Task::Leave {
            me.is_user = false;
        } else {
            me.left -= 1;
        }
        me.at = match task {
            Task::Create => At::MakeUnnamed,
            Task::OpenOrCreate | Task::Open => At::Open,
            Task::Remove => At::Visit,
            Task::Unlink => At::VisitToUnlink,
            Task::Leave => At::Reopen,
        };
    }

    fn ways(&self, world: &World, who: usize) -> usize {
        let me = &world.processes[who];
        let must_wait = match me.at {
            At::Rest | At::Dead => true,
            At::TakeShared if self.has(Mutation::TriesInsteadOfWaiting) => false,
            At::TakeShared => me.file.is_some_and(|ino| world.is_excluded(who, ino)),
            At::TakeRemoval | At::LockToUnlink => me
                .visitor
                .is_some_and(|ino| world.is_being_removed(who, ino)),
            At::TryAll if self.has(Mutation::RemoverWaitsForUsers) => {
                me.visitor.is_some_and(|ino| world.has_company(who, ino))
            }
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
        *me = Process {
            at: At::Dead,
            left: 0,
            file: None,
            is_attached: false,
            is_user: false,
            built: None,
            visitor: None,
            has_removal: false,
            has_all: false,
            ..me.clone()
        };
    }

    fn normalize(world: &mut World) {
        for process in &mut world.processes {
            // What is of no account any more.
            if matches!(process.at, At::Rest | At::Dead) {
                process.task = Task::Leave;
                process.is_overtaken = false;
            }
        }
        let World {
            path,
            inodes,
            processes,
            ..
        } = world;
        for (ino, inode) in inodes.iter_mut().enumerate() {
            let has_open = |process: &Process| {
                [process.file, process.built, process.visitor].contains(&Some(ino))
            };
            if *path != Some(ino) && !processes.iter().any(has_open) {
                *inode = None;
            }
        }
        while inodes.last() == Some(&None) {
            inodes.pop();
        }
        processes.sort_unstable();
    }

    fn properties() -> Vec<Property<Exploration<Self>>> {
        vec![
            Property::always(WHOLE, |_, world: &World| {
                let mut files = world.users().filter_map(|user| user.file);
                files.all(|ino| world.inode(ino).is_whole)
            }),
            Property::always(KEEPS_ITS_NAME, |_, world: &World| {
                world.users().all(|user| world.is_named_or_unlinked(user))
            }),
            Property::always(ONE_OBJECT, |_, world: &World| {
                let files = world.users().filter_map(|user| user.file);
                let mut kept = files.filter(|ino| !world.inode(*ino).is_unlinked);
                let first = kept.next();
                kept.all(|ino| Some(ino) == first)
            }),
            Property::always(NOTHING_STAYS, |_, world: &World| {
                let is_gone = |process: &Process| process.at == At::Rest && !process.is_user;
                world.path.is_none() || !world.processes.iter().all(is_gone)
            }),
            Property::always(RIGHT_ONE, |_, world: &World| {
                world.wrong != Some(Wrong::AnotherRemoved)
            }),
            Property::always(FOUND, |_, world: &World| {
                world.wrong != Some(Wrong::NotFound)
            }),
            Property::always(TURNS, |_, world: &World| {
                world.wrong != Some(Wrong::IdleTurn)
            }),
            Property::sometimes("do two use one object", |_, world: &World| {
                world.users().count() > 1
            }),
            Property::sometimes(
                "does an opener wait for a remover",
                |model, world: &World| {
                    let mut all = world.processes.iter().enumerate();
                    all.any(|(who, process)| {
                        process.at == At::TakeShared && model.must_wait(world, who)
                    })
                },
            ),
            Property::sometimes("is an opener too late", |_, world: &World| {
                world
                    .processes
                    .iter()
                    .any(|process| process.at == At::Close)
            }),
            Property::sometimes("is a creator too late", |_, world: &World| {
                let is_late = |process: &Process| process.at == At::Open && process.built.is_some();
                world.processes.iter().any(is_late)
            }),
            Property::sometimes("does a dead one leave a name", |_, world: &World| {
                let is_dead = |process: &Process| process.at == At::Dead;
                world.path.is_some() && world.processes.iter().all(is_dead)
            }),
        ]
    }
}

const WHOLE: &str = "nobody is attached to half an object";
const KEEPS_ITS_NAME: &str = "only unlink takes a name from those who are attached";
const ONE_OBJECT: &str = "all who are attached, and were not unlinked, have one object";
const NOTHING_STAYS: &str = "when all have left in peace, nothing stays";
const RIGHT_ONE: &str = "the name is taken from the object that was judged";
const FOUND: &str = "open finds what somebody is attached to";
const TURNS: &str = "each turn of a loop is caused by somebody else";

/// Searches what one process can do alone.
pub(crate) fn check_alone() {
    let protocol = Publication {
        processes: 1,
        tasks: 2,
        mutation: None,
    };
    assert_safe("publication, 1 process, 2 tasks", protocol);
}

/// Searches the protocol as it is.
pub(crate) fn check(size: Size) {
    let protocol = |processes, tasks| Publication {
        processes,
        tasks,
        mutation: None,
    };
    assert_safe_and_lively("publication, 3 processes, 1 task each", protocol(3, 1));
    assert_safe("publication, 2 processes, 2 tasks each", protocol(2, 2));
    if size == Size::Large {
        assert_safe("publication, 2 processes, 3 tasks each", protocol(2, 3));
        assert_safe("publication, 3 processes, 2 tasks each", protocol(3, 2));
    }
}

/// Searches what it must not be.
pub(crate) fn check_mutations() {
    use Mutation::{
        LeaverAsksBeforeItLetsGo, LookBeforeAttaching, NoLookAfterAttaching,
        PublishedBeforeAttached, PublishedHalf, RemovalFreedFirst, RemoverDoesNotLook,
        RemoverHasNoRemoval, RemoverLooksBeforeItExcludes, RemoverOnlyAsks, RemoverWaitsForUsers,
        TriesInsteadOfWaiting, UnlinkHasNoRemoval, UnlinkOfNothingGoesOn,
    };
    let mutated = |mutation, processes, tasks| {
        let protocol = Publication {
            processes,
            tasks,
            mutation: Some(mutation),
        };
        (format!("publication, {mutation:?}"), protocol)
    };
    let bugs = [
        (PublishedHalf, 2, 1, WHOLE),
        (PublishedBeforeAttached, 2, 1, KEEPS_ITS_NAME),
        (NoLookAfterAttaching, 2, 1, KEEPS_ITS_NAME),
        (LookBeforeAttaching, 2, 1, KEEPS_ITS_NAME),
        (TriesInsteadOfWaiting, 2, 1, TURNS),
        (LeaverAsksBeforeItLetsGo, 1, 1, NOTHING_STAYS),
        (RemoverOnlyAsks, 2, 1, KEEPS_ITS_NAME),
        (RemoverWaitsForUsers, 2, 1, WAITS),
        (RemoverDoesNotLook, 2, 2, RIGHT_ONE),
        (RemoverHasNoRemoval, 2, 2, KEEPS_ITS_NAME),
        (UnlinkHasNoRemoval, 2, 2, KEEPS_ITS_NAME),
        (UnlinkOfNothingGoesOn, 2, 2, KEEPS_ITS_NAME),
    ];
    for (mutation, processes, tasks, property) in bugs {
        let (title, protocol) = mutated(mutation, processes, tasks);
        assert_found(&title, protocol, property);
    }
    // Nobody can take or give the name of an object whose `REMOVAL` is held, so it
    // does not matter when the holder looks.
    let (title, protocol) = mutated(RemoverLooksBeforeItExcludes, 2, 2);
    assert_safe(&title, protocol);
    // Whoever gets `REMOVAL` too early finds all of `ATTACHED` taken, and the name
    // gone already.
    let (title, protocol) = mutated(RemovalFreedFirst, 2, 2);
    assert_safe(&title, protocol);
}

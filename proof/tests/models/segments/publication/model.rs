//! What can happen in each world, and what must hold.

use stateright::Property;

use super::state::{At, Mutation, Process, Publication, Task, World, Wrong};
use crate::segments::search::{Condition, Exploration, Name, Protocol};

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

pub(super) const WHOLE: &str = "nobody is attached to half an object";
pub(super) const KEEPS_ITS_NAME: &str = "only unlink takes a name from those who are attached";
pub(super) const ONE_OBJECT: &str = "all who are attached, and were not unlinked, have one object";
pub(super) const NOTHING_STAYS: &str = "when all have left in peace, nothing stays";
pub(super) const RIGHT_ONE: &str = "the name is taken from the object that was judged";
pub(super) const FOUND: &str = "open finds what somebody is attached to";
pub(super) const TURNS: &str = "each turn of a loop is caused by somebody else";

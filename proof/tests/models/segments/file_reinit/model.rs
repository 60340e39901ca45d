//! What can happen in each world, and what must hold.

use stateright::Property;

use super::state::{At, Course, Locks, Process, Revival, Task, View, World, Writers, Wrong};
use crate::segments::search::{Condition, Exploration, Name, Protocol};

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

pub(super) const ALIVE: &str = "each user finds the locks alive in its boot and namespace";
pub(super) const ONE_VIEW: &str = "all users of the locks see one boot and are of one namespace";
pub(super) const ONCE: &str = "locks that are said to be alive are not made anew";
pub(super) const NOT_REFUSED: &str =
    "a process is refused only because of others that see something else";
pub(super) const TURNS: &str = "each turn of a loop is caused by somebody else";

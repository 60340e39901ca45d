//! What can happen in each world, and what must hold.

use stateright::Property;

use super::state::{At, Phase, Process, State, SystemV, Task, World, Wrong};
use crate::segments::search::{Condition, Exploration, Name, Protocol};

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

pub(super) const WHOLE: &str = "nobody is attached to half a segment";
pub(super) const KEEPS_ITS_KEY: &str = "only unlink takes a key from those who are attached";
pub(super) const ONE_OBJECT: &str = "all who are attached, and were not unlinked, have one segment";
pub(super) const FILLED_IN_PEACE: &str = "what a living creator fills is not cleared away";
pub(super) const NOTHING_STAYS: &str = "when all have left in peace, nothing stays";
pub(super) const FOUND: &str = "open finds what somebody is attached to";
pub(super) const OURS: &str = "what is ours is not taken for foreign";
pub(super) const MADE: &str = "no lock is taken before it is made";
pub(super) const TURNS: &str = "nobody goes round in circles alone";

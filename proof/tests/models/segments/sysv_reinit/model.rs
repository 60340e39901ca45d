//! What can happen in each world, and what must hold.

use stateright::Property;

use super::state::{At, Mutation, Namespace, Process, Renewal, State, Task, World, Wrong};
use crate::segments::search::{Condition, Exploration, Name, Protocol};

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
        let next = self.next(world, who);
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

pub(super) const ONE_GROUP: &str =
    "all who use the locks are of the namespace that the locks are of";
pub(super) const KEEPS_ITS_KEY: &str = "no key is taken from those who use it";
pub(super) const MADE_ALONE: &str = "locks are made anew by one process, and used by none";
pub(super) const LET_IN: &str = "who is alone all the time is let in";

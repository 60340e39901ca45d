//! The calls and steps in each state, and the properties of each state.

use stateright::Property;

use super::state::{FileModel, Mistake, Process, State, Step, Task, Violation};
use crate::segments::search::{Activity, Label, Protocol, Search, calls_each};

impl Protocol for FileModel {
    type State = State;
    type Task = Task;
    type Step = Step;

    const NAME: &'static str = "file";

    fn scenario(&self) -> String {
        let calls = calls_each(self.tasks);
        match self.processes {
            1 => format!("1 process, {calls}"),
            processes => format!("{processes} processes, {calls}"),
        }
    }

    fn start(&self) -> State {
        let process = |number| Process {
            label: Label::of(number),
            step: Step::Idle,
            task: Task::Leave,
            tasks_left: self.tasks,
            file: None,
            is_attached: false,
            is_user: false,
            built: None,
            removal_file: None,
            holds_removal: false,
            holds_attached: false,
            name_changed: false,
        };
        State {
            path: None,
            inodes: Vec::new(),
            processes: (0..self.processes).map(process).collect(),
            violation: None,
        }
    }

    fn processes(state: &State) -> usize {
        state.processes.len()
    }

    fn step_of(state: &State, pid: usize) -> (Label, Step) {
        (state.processes[pid].label, state.processes[pid].step)
    }

    fn activity(state: &State, pid: usize) -> Activity {
        match state.processes[pid].step {
            Step::Idle => Activity::Idle,
            Step::Dead => Activity::Dead,
            _ => Activity::Busy,
        }
    }

    fn tasks_of(&self, state: &State, pid: usize) -> Vec<Task> {
        let me = &state.processes[pid];
        match (me.is_user, me.tasks_left) {
            (true, 0) => vec![Task::Leave],
            (true, _) => vec![Task::Leave, Task::Unlink],
            (false, 0) => vec![],
            (false, _) => {
                use Task::{Create, Open, OpenOrCreate, Remove, Unlink};
                vec![Create, OpenOrCreate, Open, Remove, Unlink]
            }
        }
    }

    fn begin(&self, state: &mut State, pid: usize, task: Task) {
        let me = &mut state.processes[pid];
        me.task = task;
        me.name_changed = false;
        if task == Task::Leave {
            me.is_user = false;
        } else {
            me.tasks_left -= 1;
        }
        me.step = match task {
            Task::Create => Step::OpenTmpfile,
            Task::OpenOrCreate | Task::Open => Step::Open,
            Task::Remove => Step::OpenToRemove,
            Task::Unlink => Step::OpenToUnlink,
            Task::Leave => Step::Reopen,
        };
    }

    fn outcomes(&self, state: &State, pid: usize) -> usize {
        let me = &state.processes[pid];
        let must_wait = match me.step {
            Step::Idle | Step::Dead => true,
            Step::LockShared if self.has(Mistake::OpenerTriesLock) => false,
            Step::LockShared => me
                .file
                .is_some_and(|ino| state.is_locked_by_remover(pid, ino)),
            Step::LockRemoval | Step::LockToUnlink => me
                .removal_file
                .is_some_and(|ino| state.is_removal_locked(pid, ino)),
            Step::TryLockAttached if self.has(Mistake::RemoverWaitsForUsers) => me
                .removal_file
                .is_some_and(|ino| state.is_attached_by_other(pid, ino)),
            _ => false,
        };
        usize::from(!must_wait)
    }

    fn step(&self, state: &mut State, pid: usize, _: usize) {
        let next = self.next(state, pid);
        state.processes[pid].step = next;
    }

    fn die(&self, state: &mut State, pid: usize) {
        let me = &mut state.processes[pid];
        *me = Process {
            step: Step::Dead,
            tasks_left: 0,
            file: None,
            is_attached: false,
            is_user: false,
            built: None,
            removal_file: None,
            holds_removal: false,
            holds_attached: false,
            ..me.clone()
        };
    }

    fn normalise(state: &mut State) {
        for process in &mut state.processes {
            // No later step reads these.
            if matches!(process.step, Step::Idle | Step::Dead) {
                process.task = Task::Leave;
                process.name_changed = false;
            }
        }
        let State {
            path,
            inodes,
            processes,
            ..
        } = state;
        for (ino, inode) in inodes.iter_mut().enumerate() {
            let refers = |process: &Process| {
                [process.file, process.built, process.removal_file].contains(&Some(ino))
            };
            if *path != Some(ino) && !processes.iter().any(refers) {
                *inode = None;
            }
        }
        while inodes.last() == Some(&None) {
            inodes.pop();
        }
        processes.sort_unstable();
    }

    fn properties() -> Vec<Property<Search<Self>>> {
        vec![
            Property::always(WHOLE, |_, state: &State| {
                let mut files = state.users().filter_map(|user| user.file);
                files.all(|ino| state.inode(ino).is_whole)
            }),
            Property::always(KEEPS_NAME, |_, state: &State| {
                state.users().all(|user| state.is_named_or_unlinked(user))
            }),
            Property::always(ONE_OBJECT, |_, state: &State| {
                let files = state.users().filter_map(|user| user.file);
                let mut kept = files.filter(|ino| !state.inode(*ino).is_unlinked);
                let first = kept.next();
                kept.all(|ino| Some(ino) == first)
            }),
            Property::always(NOTHING_LEFT, |_, state: &State| {
                let is_gone = |process: &Process| process.step == Step::Idle && !process.is_user;
                state.path.is_none() || !state.processes.iter().all(is_gone)
            }),
            Property::always(RIGHT_OBJECT, |_, state: &State| {
                state.violation != Some(Violation::WrongObjectRemoved)
            }),
            Property::always(FOUND, |_, state: &State| {
                state.violation != Some(Violation::NotFound)
            }),
            Property::always(NO_IDLE_RETRY, |_, state: &State| {
                state.violation != Some(Violation::IdleRetry)
            }),
            Property::sometimes("two processes use one object", |_, state: &State| {
                state.users().count() > 1
            }),
            Property::sometimes("an opener waits for a remover", |model, state: &State| {
                let mut all = state.processes.iter().enumerate();
                all.any(|(pid, process)| {
                    process.step == Step::LockShared && model.must_wait(state, pid)
                })
            }),
            Property::sometimes("an opener finds its object removed", |_, state: &State| {
                state
                    .processes
                    .iter()
                    .any(|process| process.step == Step::Close)
            }),
            Property::sometimes("a creator finds the name taken", |_, state: &State| {
                let is_late =
                    |process: &Process| process.step == Step::Open && process.built.is_some();
                state.processes.iter().any(is_late)
            }),
            Property::sometimes("a name is left by dead processes", |_, state: &State| {
                let is_dead = |process: &Process| process.step == Step::Dead;
                state.path.is_some() && state.processes.iter().all(is_dead)
            }),
        ]
    }
}

pub(super) const WHOLE: &str = "no process is attached to a partly written object";
pub(super) const KEEPS_NAME: &str = "only unlink removes the name of an object in use";
pub(super) const ONE_OBJECT: &str =
    "all attached processes have one object, unless it was unlinked";
pub(super) const NOTHING_LEFT: &str = "no name is left after all processes have detached";
pub(super) const RIGHT_OBJECT: &str = "the removed name belongs to the checked object";
pub(super) const FOUND: &str = "open finds an object in use";
pub(super) const NO_IDLE_RETRY: &str = "another process caused each retry";

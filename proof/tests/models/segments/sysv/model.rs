//! The calls and steps in each state, and the properties of each state.

use stateright::Property;

use super::state::{Process, Purpose, State, Step, SysvModel, SysvState, Task, Violation};
use crate::segments::search::{Activity, Label, Protocol, Search, calls_each};

impl Protocol for SysvModel {
    type State = State;
    type Task = Task;
    type Step = Step;

    const NAME: &'static str = "System V";

    fn scenario(&self) -> String {
        let lists = self.task_lists.iter().map(|tasks| {
            if *tasks == Self::ALL_TASKS {
                return "any call".to_owned();
            }
            let tasks: Vec<String> = tasks.iter().map(Task::to_string).collect();
            tasks.join(" or ")
        });
        let lists: Vec<String> = lists.collect();
        format!("{}, {}", lists.join("; "), calls_each(self.tasks))
    }

    fn start(&self) -> State {
        let process = |number| Process {
            tasks_left: self.tasks,
            ..Process::idle(Label::of(number), self.task_lists[number])
        };
        State {
            key: None,
            segments: Vec::new(),
            processes: (0..self.task_lists.len()).map(process).collect(),
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
        match &state.processes[pid] {
            me if me.is_user => vec![Task::Leave],
            me if me.tasks_left > 0 => me.task_list.to_vec(),
            _ => vec![],
        }
    }

    fn begin(&self, state: &mut State, pid: usize, task: Task) {
        let me = &mut state.processes[pid];
        me.task = task;
        me.purpose = Purpose::Opening;
        if task != Task::Leave {
            me.tasks_left -= 1;
        }
        let first = match task {
            Task::Create => Step::Shmget,
            Task::OpenOrCreate | Task::Open | Task::Read => Step::Find,
            Task::Remove => Step::FindToRemove,
            Task::Probe => Step::ProbeFind,
            Task::Unlink => Step::FindToUnlink,
            Task::Leave => self.leave(state, pid),
        };
        state.processes[pid].step = first;
    }

    fn outcomes(&self, state: &State, pid: usize) -> usize {
        match state.processes[pid].step {
            Step::Idle | Step::Dead => 0,
            Step::Lock if self.removes_without_lock(state, pid) => 1,
            Step::Lock if !self.waits_for_lock(state, pid) => 1,
            Step::Lock | Step::LockNew => usize::from(!state.is_locked(state.id_of(pid))),
            Step::Write => 2,
            _ => 1,
        }
    }

    fn step(&self, state: &mut State, pid: usize, outcome: usize) {
        let next = self.next(state, pid, outcome);
        state.processes[pid].step = next;
    }

    fn die(&self, state: &mut State, pid: usize) {
        let Process {
            label, task_list, ..
        } = state.processes[pid];
        if state.processes[pid].is_mapped {
            state.detach(pid);
        }
        state.processes[pid] = Process {
            step: Step::Dead,
            ..Process::idle(label, task_list)
        };
    }

    fn normalise(state: &mut State) {
        for process in &mut state.processes {
            process.clear_unused();
        }
        let State {
            key,
            segments,
            processes,
            ..
        } = state;
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

    fn properties() -> Vec<Property<Search<Self>>> {
        vec![
            Property::always(WHOLE, |_, state: &State| {
                let mut ids = state.users().filter_map(|user| user.id);
                ids.all(|id| state.segment(id).is_whole)
            }),
            Property::always(KEEPS_KEY, |_, state: &State| {
                state.users().all(|user| state.is_named_or_unlinked(user))
            }),
            Property::always(ONE_OBJECT, |_, state: &State| {
                let ids = state.users().filter_map(|user| user.id);
                let mut kept = ids.filter(|id| !state.segment(*id).is_unlinked);
                let first = kept.next();
                kept.all(|id| Some(id) == first)
            }),
            Property::always(WRITTEN_UNDISTURBED, |_, state: &State| {
                let is_filling = |process: &&Process| {
                    matches!(
                        process.step,
                        Step::Write | Step::SetPermissions | Step::SetReady
                    )
                };
                let mut ids = state.processes.iter().filter(is_filling);
                ids.all(|process| {
                    let segment = state.segment(process.id.expect("a creator has an id"));
                    segment.state == SysvState::Initializing
                        && segment.is_marked_for_removal == segment.is_unlinked
                })
            }),
            Property::always(NOTHING_LEFT, |_, state: &State| {
                let is_gone = |process: &Process| process.step == Step::Idle && !process.is_user;
                let remains = state
                    .key
                    .is_some_and(|id| !state.segment(id).has_probe_race);
                !remains || !state.processes.iter().all(is_gone)
            }),
            Property::always(FOUND, |_, state: &State| {
                state.violation != Some(Violation::NotFound)
            }),
            Property::always(RECOGNISED, |_, state: &State| {
                state.violation != Some(Violation::TakenForForeign)
            }),
            Property::always(LOCK_INITIALISED, |_, state: &State| {
                state.violation != Some(Violation::NoLock)
            }),
            Property::always(NO_IDLE_RETRY, |_, state: &State| {
                state.violation != Some(Violation::EndlessRetry)
            }),
            Property::sometimes("two processes use one segment", |_, state: &State| {
                state.users().count() > 1
            }),
            Property::sometimes("a process waits for the lock", |model, state: &State| {
                (0..state.processes.len()).any(|pid| model.must_wait(state, pid))
            }),
            Property::sometimes("a creator starts over", |_, state: &State| {
                state.processes.iter().any(|process| process.lost_race)
            }),
            Property::sometimes("a remover is not alone", |_, state: &State| {
                state
                    .processes
                    .iter()
                    .any(|process| process.step == Step::RestoreReady)
            }),
            Property::sometimes("a key is left by dead processes", |_, state: &State| {
                let is_dead = |process: &Process| process.step == Step::Dead;
                state.key.is_some() && state.processes.iter().all(is_dead)
            }),
        ]
    }
}

pub(super) const WHOLE: &str = "no process is attached to a partly written segment";
pub(super) const KEEPS_KEY: &str = "only unlink removes the key of a segment in use";
pub(super) const ONE_OBJECT: &str =
    "all attached processes have one segment, unless it was unlinked";
pub(super) const WRITTEN_UNDISTURBED: &str = "a segment is not removed while its creator writes";
pub(super) const NOTHING_LEFT: &str = "no key is left after all processes have detached";
pub(super) const FOUND: &str = "open finds a segment in use";
pub(super) const RECOGNISED: &str = "a segment of this crate is not taken for a foreign one";
pub(super) const LOCK_INITIALISED: &str = "no process locks an uninitialised lock";
pub(super) const NO_IDLE_RETRY: &str = "other processes caused the retries";

//! The calls and steps in each state, and the properties of each state.

use stateright::Property;

use super::state::{
    Mistake, Namespace, Process, State, Step, SysvReinit, SysvState, Task, Violation,
};
use crate::segments::search::{Activity, Label, Protocol, Search, calls_each};

impl Protocol for SysvReinit {
    type State = State;
    type Task = Task;
    type Step = Step;

    const NAME: &'static str = "System V, reinitialisation";

    fn scenario(&self) -> String {
        let members = self.members.iter().map(|(namespace, tasks)| {
            let tasks: Vec<String> = tasks.iter().map(Task::to_string).collect();
            format!("{namespace}: {}", tasks.join(" or "))
        });
        let members: Vec<String> = members.collect();
        format!("{}, {}", members.join("; "), calls_each(self.tasks))
    }

    fn start(&self) -> State {
        let process = |number| {
            let (namespace, task_list) = self.members[number];
            Process {
                label: Label::of(number),
                namespace,
                task_list,
                step: Step::Idle,
                task: Task::Leave,
                tasks_left: self.tasks,
                is_mapped: false,
                is_user: false,
                claim: 0,
                saw_others: false,
            }
        };
        State {
            state: SysvState::Ready,
            namespace: Namespace::Old,
            locks: Some(Namespace::Old),
            claims: 0,
            has_key: true,
            processes: (0..self.members.len()).map(process).collect(),
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
            me if me.tasks_left > 0 && state.has_key => me.task_list.to_vec(),
            _ => vec![],
        }
    }

    fn begin(&self, state: &mut State, pid: usize, task: Task) {
        let me = &mut state.processes[pid];
        me.task = task;
        me.step = match task {
            Task::Leave => {
                me.is_user = false;
                Step::Detach
            }
            _ if self.has(Mistake::LoadBeforeAttach) => Step::EarlyLoad,
            _ => Step::Attach,
        };
        if task != Task::Leave {
            me.tasks_left -= 1;
        }
    }

    fn outcomes(&self, state: &State, pid: usize) -> usize {
        match state.processes[pid].step {
            Step::Idle | Step::Dead => 0,
            _ => 1,
        }
    }

    fn step(&self, state: &mut State, pid: usize, _: usize) {
        let next = self.next(state, pid);
        state.processes[pid].step = next;
    }

    fn die(&self, state: &mut State, pid: usize) {
        let me = &mut state.processes[pid];
        me.step = Step::Dead;
        me.is_mapped = false;
        me.is_user = false;
        me.tasks_left = 0;
        me.claim = 0;
        me.task = Task::Leave;
        me.saw_others = false;
    }

    fn normalise(state: &mut State) {
        for process in &mut state.processes {
            if process.step == Step::Idle {
                process.claim = 0;
                process.task = Task::Leave;
                process.saw_others &= process.is_user;
            }
        }
        state.processes.sort_unstable();
    }

    fn properties() -> Vec<Property<Search<Self>>> {
        vec![
            Property::always(ONE_NAMESPACE, |_, state: &State| {
                let mut users = state.users();
                users.all(|user| state.locks == Some(user.namespace))
            }),
            Property::always(KEEPS_KEY, |_, state: &State| {
                state.has_key || state.users().count() == 0
            }),
            Property::always(REINIT_ALONE, |_, state: &State| {
                let is_reinitialising = |process: &&Process| {
                    let step = process.step;
                    matches!(
                        step,
                        Step::BeginInit | Step::EndInit | Step::WriteNamespace | Step::SetReady
                    )
                };
                let reinitialising = state.processes.iter().filter(is_reinitialising).count();
                reinitialising == 0 || reinitialising == 1 && state.users().count() == 0
            }),
            Property::always(ADMITTED, |_, state: &State| {
                state.violation != Some(Violation::RefusedAlone)
            }),
            Property::sometimes("the new namespace uses the segment", |_, state: &State| {
                state.users().any(|user| user.namespace == Namespace::New)
            }),
            Property::sometimes(
                "two processes of the new namespace use the segment",
                |_, state: &State| {
                    let is_new = |user: &&Process| user.namespace == Namespace::New;
                    state.users().filter(is_new).count() > 1
                },
            ),
            Property::sometimes("a claim is replaced", |_, state: &State| {
                let mut all = state.processes.iter();
                all.any(|p| p.step == Step::Commit && state.state != SysvState::Claimed(p.claim))
            }),
            Property::sometimes(
                "an interrupted reinitialisation is taken over",
                |_, state: &State| {
                    let mut all = state.processes.iter();
                    state.locks.is_none() && all.any(|process| process.step == Step::BeginInit)
                },
            ),
        ]
    }
}

pub(super) const ONE_NAMESPACE: &str =
    "all users are of the namespace for which the locks are valid";
pub(super) const KEEPS_KEY: &str = "a segment in use keeps its key";
pub(super) const REINIT_ALONE: &str =
    "one process reinitialises the locks, while no process uses them";
pub(super) const ADMITTED: &str = "a process that is alone all the time is admitted";

//! The calls and steps in each state, and the properties of each state.

use stateright::Property;

use super::state::{
    Epoch, FileReinit, Locks, Path, Process, State, Step, Task, Violation, Writers, name_of,
};
use crate::segments::search::{Activity, Label, Protocol, Search, calls_each};

impl Protocol for FileReinit {
    type State = State;
    type Task = Task;
    type Step = Step;

    const NAME: &'static str = "file, reinitialisation";

    fn scenario(&self) -> String {
        let epochs: Vec<&str> = self.epochs.iter().map(|epoch| name_of(*epoch)).collect();
        let (epochs, file) = (epochs.join(", "), name_of(self.file_epoch));
        format!(
            "processes of {epochs}; file of {file}; {}",
            calls_each(self.tasks)
        )
    }

    fn start(&self) -> State {
        let process = |(number, epoch): (usize, &Epoch)| Process {
            label: Label::of(number),
            epoch: *epoch,
            step: Step::Idle,
            path: Path::Normal,
            tasks_left: self.tasks,
            holds_reinit: false,
            writers: Writers::None,
            is_user: false,
            is_current: false,
            epoch_changed: false,
        };
        State {
            namespace: self.file_epoch.1,
            front: self.file_epoch.0,
            end: self.file_epoch.0,
            back: self.file_epoch.0,
            locks: Locks::ValidIn(self.file_epoch),
            processes: self.epochs.iter().enumerate().map(process).collect(),
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
            me if me.tasks_left > 0 => vec![Task::Open],
            _ => vec![],
        }
    }

    fn begin(&self, state: &mut State, pid: usize, task: Task) {
        let me = &mut state.processes[pid];
        me.step = match task {
            Task::Open => {
                me.tasks_left -= 1;
                Step::ReadNamespace
            }
            Task::Leave => {
                me.is_user = false;
                Step::Close
            }
        };
    }

    fn outcomes(&self, state: &State, pid: usize) -> usize {
        let mut others = state.others(pid);
        let must_wait = match state.processes[pid].step {
            Step::LockReinit => others.any(|other| other.holds_reinit),
            Step::LockOwn => others.any(|other| other.writers == Writers::All),
            Step::Idle | Step::Dead => true,
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
        me.step = Step::Dead;
        me.tasks_left = 0;
        me.holds_reinit = false;
        me.writers = Writers::None;
        me.is_user = false;
    }

    fn normalise(state: &mut State) {
        for process in &mut state.processes {
            if matches!(process.step, Step::Idle | Step::Dead) {
                process.path = Path::Normal;
                process.is_current = false;
                process.epoch_changed = false;
            }
        }
        state.processes.sort_unstable();
    }

    fn properties() -> Vec<Property<Search<Self>>> {
        vec![
            Property::always(VALID, |_, state: &State| {
                let mut users = state.users();
                users.all(|user| state.locks == Locks::ValidIn(user.epoch))
            }),
            Property::always(ONE_EPOCH, |_, state: &State| {
                let mut users = state.users();
                let first = users.next();
                users.all(|user| first.is_some_and(|first| first.epoch == user.epoch))
            }),
            Property::always(ONCE, |_, state: &State| {
                state.violation != Some(Violation::ReinitialisedAgain)
            }),
            Property::always(NOT_REFUSED, |_, state: &State| {
                state.violation != Some(Violation::Refused)
            }),
            Property::always(NO_IDLE_RETRY, |_, state: &State| {
                state.violation != Some(Violation::IdleRetry)
            }),
            Property::sometimes("two processes use the locks", |_, state: &State| {
                state.users().count() > 1
            }),
            Property::sometimes(
                "a process waits for reinitialisation",
                |model, state: &State| {
                    (0..state.processes.len()).any(|pid| model.must_wait(state, pid))
                },
            ),
            Property::sometimes(
                "a process finds the locks reinitialised",
                |_, state: &State| {
                    let is_late = |process: &Process| {
                        process.step == Step::UnlockReinit && process.path == Path::Reinit
                    };
                    state.users().count() > 0 && state.processes.iter().any(is_late)
                },
            ),
            Property::sometimes("the process that reinitialises dies", |_, state: &State| {
                let is_dead = |process: &Process| process.step == Step::Dead;
                state.locks == Locks::Partial && state.processes.iter().all(is_dead)
            }),
        ]
    }
}

pub(super) const VALID: &str = "the locks are valid in the epoch of each user";
pub(super) const ONE_EPOCH: &str = "all users see one epoch";
pub(super) const ONCE: &str = "valid locks are not reinitialised";
pub(super) const NOT_REFUSED: &str = "a process is refused only because of another epoch";
pub(super) const NO_IDLE_RETRY: &str = "another process caused each retry";

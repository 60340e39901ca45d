//! The actions in each state, and the properties of each state.

use stateright::{Model, Property};

use super::state::{
    Action, Blocking, Consistency, Id, Kernel, Labels, Mistake, Mutex, PROCESSES, Poison, Process,
    State, Step, UNLIMITED, WaitKind, Word,
};
use crate::locks::checker::{LockModel, deaths, not_stuck};

pub(super) const MUTUAL_EXCLUSION: &str = "at most one process holds the lock";
pub(super) const REPORTED: &str = "a locker of inconsistent data finds it poisoned";
pub(super) const NO_FALSE_POISON: &str = "data that is reported as poisoned may be inconsistent";
pub(super) const POISON_VISIBLE: &str = "inconsistent data is poisoned, or is about to be";
pub(super) const EPOCH_ADVANCED: &str = "the next holder finds the poison epoch advanced";
pub(super) const HOLDER_RIGHT: &str = "the recorded holder holds the lock, or is dead";
pub(super) const CAUSE_DEAD: &str = "the recorded cause of an owner death is dead, or unknown";
pub(super) const RECOVERABLE: &str = "the mutex never becomes unrecoverable";

fn properties() -> Vec<Property<Mutex>> {
    vec![
        not_stuck(),
        Property::always(MUTUAL_EXCLUSION, |_, state: &State| {
            let inside = |(id, process): &(Id, &Process)| {
                state.is_alive(*id) && (process.listed || is_between_word_and_list(process.step))
            };
            state.all().filter(inside).count() <= 1
        }),
        Property::always(REPORTED, |_, state: &State| {
            !any_at(state, Step::WriteFirst) || !(state.is_torn || state.may_be_inconsistent)
        }),
        Property::always(NO_FALSE_POISON, |_, state: &State| {
            !any_at(state, Step::RepairFirst) || state.may_be_inconsistent
        }),
        Property::always(POISON_VISIBLE, |_, state: &State| {
            !state.may_be_inconsistent
                || state.poison != Poison::Clean
                || state.word.owner_died
                || state
                    .all()
                    .any(|(id, process)| state.word.is_owned_by(id) && will_poison(process))
        }),
        Property::always(EPOCH_ADVANCED, |_, state: &State| {
            !state.is_epoch_due
                || !(any_at(state, Step::WriteFirst) || any_at(state, Step::RepairFirst))
        }),
        Property::always(HOLDER_RIGHT, |_, state: &State| {
            let is_recorded = |id: &Id| state.holder == id + 1 && state.is_alive(*id);
            let all = state.all().map(|(id, _)| id);
            all.filter(is_recorded).all(|id| state.word.is_owned_by(id))
        }),
        Property::always(CAUSE_DEAD, |_, state: &State| match state.poison {
            Poison::OwnerDied(0) | Poison::Clean | Poison::Panicked(_) => true,
            Poison::OwnerDied(cause) => !state.is_alive(cause - 1),
        }),
        Property::always(RECOVERABLE, |_, state: &State| {
            state.consistency != Consistency::NotRecoverable
        }),
    ]
}

fn any_at(state: &State, step: Step) -> bool {
    state.all().any(|(_, process)| process.step == step)
}

/// Returns whether the process owns the word while the mutex is not on its list.
fn is_between_word_and_list(step: Step) -> bool {
    matches!(step, Step::PushFront | Step::ReleaseWord)
}

/// Returns whether the holder has not poisoned the data yet, and will. The kernel will
/// do so for a dying holder.
fn will_poison(process: &Process) -> bool {
    use Step::{Dying, LockClearPending, MakeConsistent, PanicSetPoison, PushFront, SetPoison};
    matches!(
        process.step,
        Dying | PushFront | LockClearPending | MakeConsistent | SetPoison | PanicSetPoison
    )
}
impl Model for Mutex {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            word: Word::FREE,
            consistency: Consistency::Consistent,
            holder: 0,
            poison: Poison::Clean,
            is_torn: false,
            queue: 0,
            processes: [Process {
                rounds: self.rounds,
                ..Process::default()
            }; PROCESSES],
            labels: Labels([0, 1, 2]),
            deaths_left: self.deaths,
            may_be_inconsistent: false,
            is_epoch_due: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (id, process) in state.all() {
            match process.step {
                Step::Idle if process.rounds == 0 => {}
                Step::Idle => {
                    actions.push(Action::Begin(id, Blocking::Wait));
                    actions.push(Action::Begin(id, Blocking::WaitUntil));
                }
                Step::Waiting
                    if process.blocking == Blocking::WaitUntil
                        || self.wait == WaitKind::Rechecked =>
                {
                    actions.push(Action::TimeOut(id));
                }
                Step::Waiting | Step::Dead => {}
                Step::Wake | Step::DyingWakes => {
                    let asleep = (0..)
                        .take(PROCESSES)
                        .filter(|other| state.queue & 1 << other != 0);
                    actions.extend(asleep.map(|other| Action::Wake(id, Some(other))));
                    if state.queue == 0 {
                        actions.push(Action::Wake(id, None));
                    }
                }
                _ => actions.push(Action::Step(id)),
            }
            match process.step {
                Step::WriteFirst | Step::WriteSecond => actions.push(Action::Panic(id)),
                Step::RepairFirst => {
                    actions.extend([Action::Panic(id), Action::UnlockPoisoned(id)])
                }
                Step::RepairSecond => actions.push(Action::Panic(id)),
                _ => {}
            }
            if state.deaths_left > 0 && state.is_alive(id) {
                actions.push(Action::Die(id));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Begin(id, blocking) => {
                let me = &mut state.processes[id as usize];
                if blocking == Blocking::WaitUntil && state.word.owner != 0 {
                    return None; // the lock is held
                }
                if me.rounds != UNLIMITED {
                    me.rounds -= 1;
                }
                me.blocking = blocking;
                me.step = Step::Load;
            }
            Action::Step(id) => self.take_step(&mut state, id)?,
            Action::Wake(id, other) => {
                if let Some(other) = other {
                    state.queue &= !(1 << other);
                    let woken = &mut state.processes[other as usize].step;
                    // A dying process consumes its wake.
                    if *woken == Step::Waiting {
                        *woken = Step::Reload;
                    }
                }
                let me = &mut state.processes[id as usize];
                me.step = match me.step {
                    Step::DyingWakes => Step::Dead,
                    _ => Step::UnlockClearPending,
                };
            }
            Action::TimeOut(id) => {
                state.queue &= !(1 << id);
                let me = &mut state.processes[id as usize];
                *me = Process {
                    step: Step::Load,
                    blocking: match me.blocking {
                        Blocking::Wait => Blocking::Wait,
                        _ => Blocking::Try,
                    },
                    // Both last as long as the wait.
                    pending: me.pending,
                    assume_waiters: me.assume_waiters,
                    rounds: me.rounds,
                    ..Process::default()
                };
            }
            Action::Panic(id) => {
                let me = &mut state.processes[id as usize];
                me.poisons_later = self.mistake == Mistake::PanicPoisonAfterUnlock;
                me.step = if me.poisons_later {
                    Step::ClearHolder
                } else {
                    Step::PanicSetPoison
                };
                state.may_be_inconsistent = true;
                state.is_epoch_due = true;
            }
            Action::UnlockPoisoned(id) => state.processes[id as usize].step = Step::ClearHolder,
            Action::Die(id) => {
                if state.word.is_owned_by(id) {
                    state.may_be_inconsistent = true;
                    state.is_epoch_due = true;
                }
                state.deaths_left -= 1;
                state.processes[id as usize].step = Step::Dying;
            }
        }
        Some(state.sorted())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
    }
}

impl LockModel for Mutex {
    const NAME: &'static str = "mutex";

    fn scenario(&self) -> String {
        let rounds = match self.rounds {
            UNLIMITED => "lock without limit".to_owned(),
            1 => "lock once".to_owned(),
            rounds => format!("lock {rounds} times"),
        };
        let deaths = deaths(self.deaths);
        let wait = match self.wait {
            WaitKind::Endless => "waits are endless",
            WaitKind::Rechecked => "waits are rechecked",
        };
        let kernel = match self.kernel {
            Kernel::Linux => "",
            Kernel::Fixed => ", a kernel that never loses a wake",
        };
        format!("{PROCESSES} processes {rounds}, {deaths}, {wait}{kernel}")
    }

    fn is_forced(&self, state: &State, action: Action) -> bool {
        match action {
            Action::Step(_) | Action::Wake(..) => true,
            // A recheck without a reason is not forced: it would be a livelock.
            Action::TimeOut(id) => match state.processes[id as usize].blocking {
                Blocking::Wait => !state.word.waiters || state.word.owner_died,
                _ => true,
            },
            _ => false,
        }
    }

    /// Returns whether no process waits and no process is inside a call.
    fn is_final(&self, state: &State) -> bool {
        let mut all = state.all();
        all.all(|(_, process)| matches!(process.step, Step::Idle | Step::Dead))
    }

    fn describe(&self, state: &State, action: Action) -> String {
        let name = |id: Id| state.labels.0[id as usize];
        let step = |id: Id| state.processes[id as usize].step;
        match action {
            Action::Begin(id, blocking) => format!("{} wants it {blocking:?}", name(id)),
            Action::Step(id) | Action::Wake(id, None) => format!("{} {:?}", name(id), step(id)),
            Action::Wake(id, Some(other)) => format!("{} wakes {}", name(id), name(other)),
            Action::TimeOut(id) => format!("{} times out", name(id)),
            Action::Panic(id) => format!("{} PANICS", name(id)),
            Action::UnlockPoisoned(id) => format!("{} leaves it poisoned", name(id)),
            Action::Die(id) => format!("{} DIES", name(id)),
        }
    }
}

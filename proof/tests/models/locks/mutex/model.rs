//! What can happen in each state, and what must hold.

use stateright::{Model, Property};

use super::state::{
    Action, Consistency, Id, Mistake, Mutex, Names, PROCESSES, Patience, Poison, Process, Sleep,
    State, Step, UNLIMITED, Word,
};
use crate::locks::checker::{Machine, nobody_is_stuck};

pub(super) const ONE_AT_A_TIME: &str = "one at a time has the lock";
pub(super) const TOLD: &str = "whoever gets data in doubt is told";
pub(super) const TOLD_WITH_REASON: &str = "whoever is told has reason to doubt";
pub(super) const POISONED: &str = "doubt is visible from outside, but for who is about to say it";
pub(super) const COUNTED: &str = "no poisoning is uncounted when the next one has the lock";
pub(super) const NAMED: &str = "the holder's name is of one who has the lock, or is dead";
pub(super) const BLAMED: &str = "who is blamed for a death is dead, or nobody";
pub(super) const RECOVERABLE: &str = "it is never not recoverable";

fn properties() -> Vec<Property<Mutex>> {
    vec![
        nobody_is_stuck(),
        Property::always(ONE_AT_A_TIME, |_, state: &State| {
            let inside = |(id, process): &(Id, &Process)| {
                state.is_alive(*id) && (process.listed || is_between(process.step))
            };
            state.all().filter(inside).count() <= 1
        }),
        Property::always(TOLD, |_, state: &State| {
            !any_at(state, Step::WriteFirst) || !(state.is_torn || state.is_in_doubt)
        }),
        Property::always(TOLD_WITH_REASON, |_, state: &State| {
            !any_at(state, Step::RepairFirst) || state.is_in_doubt
        }),
        Property::always(POISONED, |_, state: &State| {
            !state.is_in_doubt
                || state.poison != Poison::Clean
                || state.word.owner_died
                || state
                    .all()
                    .any(|(id, process)| state.word.is_owned_by(id) && will_mark(process))
        }),
        Property::always(COUNTED, |_, state: &State| {
            !state.is_uncounted
                || !(any_at(state, Step::WriteFirst) || any_at(state, Step::RepairFirst))
        }),
        Property::always(NAMED, |_, state: &State| {
            let named = |id: &Id| state.holder == id + 1 && state.is_alive(*id);
            let all = state.all().map(|(id, _)| id);
            all.filter(named).all(|id| state.word.is_owned_by(id))
        }),
        Property::always(BLAMED, |_, state: &State| match state.poison {
            Poison::OwnerDied(0) | Poison::Clean | Poison::Panicked(_) => true,
            Poison::OwnerDied(culprit) => !state.is_alive(culprit - 1),
        }),
        Property::always(RECOVERABLE, |_, state: &State| {
            state.consistency != Consistency::NotRecoverable
        }),
    ]
}

fn any_at(state: &State, step: Step) -> bool {
    state.all().any(|(_, process)| process.step == step)
}

/// It has the word, but the mutex is not yet on its list, or no longer.
fn is_between(step: Step) -> bool {
    matches!(step, Step::Enlist | Step::Release)
}

/// It has the lock, has not yet said that the data is in doubt, and will. So will the
/// kernel for the dying.
fn will_mark(process: &Process) -> bool {
    use Step::{Consistent, Dying, Enlist, Enlisted, Mark, MarkPanic};
    matches!(
        process.step,
        Dying | Enlist | Enlisted | Consistent | Mark | MarkPanic
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
            names: Names([0, 1, 2]),
            deaths_left: self.deaths,
            is_in_doubt: false,
            is_uncounted: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (id, process) in state.all() {
            match process.step {
                Step::Idle if process.rounds == 0 => {}
                Step::Idle => {
                    actions.push(Action::Begin(id, Patience::Forever));
                    actions.push(Action::Begin(id, Patience::Limited));
                }
                Step::Queued
                    if process.patience == Patience::Limited || self.sleep == Sleep::InTurns =>
                {
                    actions.push(Action::TimeOut(id));
                }
                Step::Queued | Step::Dead => {}
                Step::Wake | Step::DyingWakes => {
                    let asleep = (0..)
                        .take(PROCESSES)
                        .filter(|who| state.queue & 1 << who != 0);
                    actions.extend(asleep.map(|who| Action::Wake(id, Some(who))));
                    if state.queue == 0 {
                        actions.push(Action::Wake(id, None));
                    }
                }
                _ => actions.push(Action::Go(id)),
            }
            match process.step {
                Step::WriteFirst | Step::WriteSecond => actions.push(Action::Panic(id)),
                Step::RepairFirst => actions.extend([Action::Panic(id), Action::Leave(id)]),
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
            Action::Begin(id, patience) => {
                let me = &mut state.processes[id as usize];
                if patience == Patience::Limited && state.word.owner != 0 {
                    return None; // busy
                }
                if me.rounds != UNLIMITED {
                    me.rounds -= 1;
                }
                me.patience = patience;
                me.step = Step::Load;
            }
            Action::Go(id) => self.go(&mut state, id)?,
            Action::Wake(id, who) => {
                if let Some(who) = who {
                    state.queue &= !(1 << who);
                    let woken = &mut state.processes[who as usize].step;
                    // A dying one takes its wakeup along.
                    if *woken == Step::Queued {
                        *woken = Step::Reload;
                    }
                }
                let me = &mut state.processes[id as usize];
                me.step = match me.step {
                    Step::DyingWakes => Step::Dead,
                    _ => Step::Quiet,
                };
            }
            Action::TimeOut(id) => {
                state.queue &= !(1 << id);
                let me = &mut state.processes[id as usize];
                *me = Process {
                    step: Step::Load,
                    patience: match me.patience {
                        Patience::Forever => Patience::Forever,
                        _ => Patience::None,
                    },
                    // Kept for as long as it waits.
                    pending: me.pending,
                    assumes_waiters: me.assumes_waiters,
                    rounds: me.rounds,
                    ..Process::default()
                };
            }
            Action::Panic(id) => {
                let me = &mut state.processes[id as usize];
                me.marks_later = self.mistake == Mistake::PanicMarksAfterUnlock;
                me.step = match me.marks_later {
                    true => Step::Unname,
                    false => Step::MarkPanic,
                };
                state.is_in_doubt = true;
                state.is_uncounted = true;
            }
            Action::Leave(id) => state.processes[id as usize].step = Step::Unname,
            Action::Die(id) => {
                if state.word.is_owned_by(id) {
                    state.is_in_doubt = true;
                    state.is_uncounted = true;
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

impl Machine for Mutex {
    fn must_come(&self, state: &State, action: Action) -> bool {
        match action {
            Action::Go(_) | Action::Wake(..) => true,
            // For ever without reason would be in circles.
            Action::TimeOut(id) => match state.processes[id as usize].patience {
                Patience::Forever => !state.word.waiters || state.word.owner_died,
                _ => true,
            },
            _ => false,
        }
    }

    /// Nobody sleeps, and nobody is at work.
    fn is_settled(&self, state: &State) -> bool {
        let mut all = state.all();
        all.all(|(_, process)| matches!(process.step, Step::Idle | Step::Dead))
    }

    fn describe(&self, state: &State, action: Action) -> String {
        let name = |id: Id| state.names.0[id as usize];
        let step = |id: Id| state.processes[id as usize].step;
        match action {
            Action::Begin(id, patience) => format!("{} wants it {patience:?}", name(id)),
            Action::Go(id) | Action::Wake(id, None) => format!("{} {:?}", name(id), step(id)),
            Action::Wake(id, Some(who)) => format!("{} wakes {}", name(id), name(who)),
            Action::TimeOut(id) => format!("{} times out", name(id)),
            Action::Panic(id) => format!("{} PANICS", name(id)),
            Action::Leave(id) => format!("{} leaves it poisoned", name(id)),
            Action::Die(id) => format!("{} DIES", name(id)),
        }
    }
}

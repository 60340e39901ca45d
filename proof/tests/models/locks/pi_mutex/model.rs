//! What can happen in each state, and what must hold.

use stateright::{Model, Property};

use super::state::{
    Action, Id, Inheriting, Mistake, Owner, PLACES, PROCESSES, Process, READS, State, Step, Waiter,
    Word,
};
use crate::locks::checker::{Machine, nobody_is_stuck};

pub(super) const ONE_AT_A_TIME: &str = "one at a time has the lock";
pub(super) const TOLD: &str = "the next holder is told of a death";

fn is_inside(process: &Process) -> bool {
    process.listed || matches!(process.step, Step::Look | Step::Enlist | Step::Release)
}

impl Model for Inheriting {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            word: Word::default(),
            queue: [Waiter::None; PLACES],
            owner: Owner::NoState,
            processes: [Process {
                rounds: self.rounds,
                ..Process::default()
            }; PROCESSES],
            deaths_left: self.deaths,
            reads_left: READS as u8,
            is_torn: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (id, process) in state.all() {
            let is_owner = state.owner == Owner::Is(id);
            match process.step {
                Step::Idle if process.rounds == 0 => {}
                Step::Idle => actions.push(Action::Begin(id)),
                Step::Queued if is_owner => actions.push(Action::Succeed(id)),
                Step::Queued => {
                    if state.owner == Owner::Ended {
                        actions.push(Action::Succeed(id));
                    }
                    if self.mistake != Mistake::WaitsForEver {
                        actions.push(Action::TurnEnds(id));
                    }
                }
                Step::WaitOut => actions.push(Action::TurnEnds(id)),
                Step::Dead => {}
                Step::HandOver if is_owner && matches!(state.first(), Waiter::Locker(_)) => {
                    let lockers = state.queue.iter().filter_map(|waiter| match waiter {
                        Waiter::Locker(next) => Some(Action::Choose(id, *next)),
                        _ => None,
                    });
                    actions.extend(lockers);
                }
                _ => actions.push(Action::Go(id)),
            }
            if state.deaths_left > 0 && state.is_alive(id) {
                actions.push(Action::Die(id));
            }
        }
        if state.reads_left > 0 && self.reader != Waiter::None {
            actions.push(Action::Read(self.reader));
        }
        if state.queue.contains(&self.reader) && self.reader != Waiter::None {
            actions.push(Action::StopReading);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Begin(id) => {
                let me = &mut state.processes[id as usize];
                me.rounds -= 1;
                me.may_repeat = true;
                me.step = Step::Load;
            }
            Action::Go(id) => self.go(&mut state, id)?,
            // `futex_unlock_pi`: the word and the state name the next owner, which is
            // still in the queue.
            Action::Choose(id, next) => {
                state.word = Word {
                    owner: next + 1,
                    waiters: true,
                    owner_died: false,
                };
                state.owner = Owner::Is(next);
                state.processes[id as usize].step = Step::Quiet;
            }
            // `fixup_pi_owner`: whatever the word says, unless it names this one.
            Action::Succeed(id) => {
                if state.owner == Owner::Ended {
                    state.word = Word {
                        owner: id + 1,
                        waiters: true,
                        owner_died: true,
                    };
                    state.owner = Owner::Is(id);
                }
                state.retain(|waiter| waiter != Waiter::Locker(id));
                state.processes[id as usize].step = Step::Look;
            }
            Action::TurnEnds(id) => {
                state.retain(|waiter| waiter != Waiter::Locker(id));
                let me = &mut state.processes[id as usize];
                me.may_repeat = true;
                me.step = Step::Load;
            }
            // It leaves the queue on its way out; if the mutex is its own, it has it.
            Action::Die(id) => {
                state.deaths_left -= 1;
                state.retain(|waiter| waiter != Waiter::Locker(id));
                state.processes[id as usize].step = Step::DyingOnList;
            }
            Action::Read(waiter) => {
                state.reads_left -= 1;
                state.push(waiter);
            }
            Action::StopReading => state.retain(|waiter| waiter != self.reader),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            nobody_is_stuck(),
            Property::always(ONE_AT_A_TIME, |_, state: &State| {
                let inside = state
                    .all()
                    .filter(|(id, process)| state.is_alive(*id) && is_inside(process));
                inside.count() <= 1
            }),
            Property::always(TOLD, |_, state: &State| {
                let enters = |process: &Process| process.step == Step::WriteFirst;
                let mut all = state.all();
                !state.is_torn || all.all(|(_, process)| !enters(process) || process.is_told)
            }),
        ]
    }
}

impl Machine for Inheriting {
    fn must_come(&self, state: &State, action: Action) -> bool {
        match action {
            Action::Go(_) | Action::Choose(..) | Action::Succeed(_) => true,
            // Turns without an effect would be a circle.
            Action::TurnEnds(id) => match state.processes[id as usize].step {
                Step::Queued => !state.queue_agrees(),
                _ => !state.refuses(id),
            },
            // Only a wake ends a plain wait. Nothing but the reader ends the other kind.
            Action::StopReading => self.reader == Waiter::ForRequeue,
            Action::Begin(_) | Action::Die(_) | Action::Read(_) => false,
        }
    }

    fn is_settled(&self, state: &State) -> bool {
        let mut all = state.all();
        all.all(|(_, process)| matches!(process.step, Step::Idle | Step::Dead))
    }

    fn describe(&self, state: &State, action: Action) -> String {
        let step = |id: Id| state.processes[id as usize].step;
        match action {
            Action::Begin(id) => format!("{id} wants it"),
            Action::Go(id) => format!("{id} {:?}", step(id)),
            Action::Choose(id, next) => format!("{id} hands over to {next}"),
            Action::Succeed(id) => format!("{id} becomes the owner"),
            Action::TurnEnds(id) => format!("{id}'s turn ends"),
            Action::Die(id) => format!("{id} DIES"),
            Action::Read(how) => format!("the reader waits: {how:?}"),
            Action::StopReading => "the reader goes".to_owned(),
        }
    }
}

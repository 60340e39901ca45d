//! The actions in each state, and the properties of each state.

use stateright::{Model, Property};

use super::state::{
    Action, Barrier, Ended, Note, PROCESSES, Process, ROUNDS, SEATS, Seat, State, Step,
};
use crate::locks::checker::{LockModel, deaths, not_stuck};

pub(super) const AGREE: &str = "all members are told the same of a round";
pub(super) const ALL_ARRIVED: &str = "a round is complete only if all members have arrived";
pub(super) const DEATH_IS_TOLD: &str =
    "a member that dies or leaves breaks its round or the next one for each other member";
pub(super) const FOR_A_REASON: &str = "no more rounds are broken than there are reasons";
pub(super) const NOT_REFUSED: &str = "a process can join if there are fewer members";

impl Model for Barrier {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut processes = [Process::default(); PROCESSES];
        for (process, &waits) in processes.iter_mut().zip(&self.waits) {
            process.waits = waits;
            if waits > 0 {
                process.step = Step::TakeGate;
            }
        }
        vec![State {
            seats: [Seat::Vacant; SEATS],
            notes: [Note::NoMember; SEATS],
            gate: Seat::Vacant,
            round: 0,
            after_completed: 0,
            last_is_broken: false,
            processes,
            deaths_left: self.deaths,
            timeouts_left: self.timeouts,
            told: [Ended::Unknown; ROUNDS],
            arrived: 0,
            reasons: 0,
            is_contradicted: false,
            is_incomplete: false,
            is_death_hidden: false,
            is_refused: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (id, process) in state.all() {
            if matches!(process.step, Step::Done | Step::Dead) {
                continue;
            }
            actions.push(Action::Step(id));
            if state.timeouts_left > 0 && process.step == Step::Waiting {
                actions.push(Action::GiveUp(id));
            }
            if state.deaths_left > 0 {
                actions.push(Action::Die(id));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Step(id) => self.take_step(&mut state, id)?,
            Action::GiveUp(id) => self.give_up(&mut state, id),
            Action::Die(id) => {
                state.deaths_left -= 1;
                self.die(&mut state, id);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            not_stuck(),
            Property::always(AGREE, |_, state: &State| !state.is_contradicted),
            Property::always(ALL_ARRIVED, |_, state: &State| !state.is_incomplete),
            Property::always(DEATH_IS_TOLD, |_, state: &State| !state.is_death_hidden),
            Property::always(FOR_A_REASON, |_, state: &State| {
                state.processes.iter().all(|it| it.told <= state.reasons)
            }),
            Property::always(NOT_REFUSED, |_, state: &State| !state.is_refused),
        ]
    }
}

impl LockModel for Barrier {
    const NAME: &'static str = "barrier";

    fn scenario(&self) -> String {
        let present: Vec<u8> = self.waits.into_iter().filter(|waits| *waits > 0).collect();
        format!(
            "{} members, waits {present:?}; {}, {} timeouts",
            self.members,
            deaths(self.deaths),
            self.timeouts
        )
    }

    fn is_forced(&self, _: &State, action: Action) -> bool {
        matches!(action, Action::Step(_))
    }

    /// Returns whether every process has ended, or waits for a process to join.
    fn is_final(&self, state: &State) -> bool {
        let members = self.members as usize;
        let mut seats = state.seats[..members].iter().zip(&state.notes);
        let is_free = seats.any(|(seat, note)| !seat.is_held() && *note == Note::NoMember);
        state.all().all(|(id, process)| match process.step {
            Step::Done | Step::Dead => true,
            Step::Waiting => is_free && !self.has_reason(state, id),
            _ => false,
        })
    }

    fn describe(&self, state: &State, action: Action) -> String {
        match action {
            Action::Step(id) => format!("{id} {:?}", state.step(id)),
            Action::GiveUp(id) => format!("{id} gives up"),
            Action::Die(id) => format!("{id} DIES"),
        }
    }
}

//! The actions in each state, and the properties of each state.

use stateright::{Model, Property};

use super::state::{
    Action, Downgrades, GivesUp, PROCESSES, Process, READERS, RwLock, Seat, State, Step,
};
use crate::locks::checker::{LockModel, deaths, not_stuck};

pub(super) const EXCLUSION: &str = "a writer is inside alone";
pub(super) const HALF_IS_TOLD: &str = "half a change is poisoned";
pub(super) const ONLY_INSIDE: &str = "only the death of a writer inside poisons";
pub(super) const PHASE_FAIR: &str = "a reader waits for one writer at most";

impl Model for RwLock {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut processes = [Process::default(); PROCESSES];
        for (id, process) in (0..).zip(&mut processes) {
            process.rounds = self.rounds[id as usize];
            if process.rounds > 0 {
                process.step = self.first_step(id);
            }
        }
        vec![State {
            seats: [Seat::Vacant; READERS],
            notes: [0; READERS],
            gate: Seat::Vacant,
            writer: Seat::Vacant,
            number: 0,
            is_closed: false,
            is_inside: false,
            is_poisoned: false,
            is_half: false,
            has_died_inside: false,
            is_misled: false,
            processes,
            deaths_left: self.deaths,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (id, process) in state.all() {
            if matches!(process.step, Step::Done | Step::Dead) {
                continue;
            }
            actions.push(Action::Step(id));
            if self.gives_up == GivesUp::Maybe && Self::may_give_up(state, id) {
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
                Self::die(&mut state, id);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            not_stuck(),
            Property::always(EXCLUSION, |_, state: &State| {
                let (readers, writers) = state.processes.split_at(READERS);
                let is_inside = |step| RwLock::writes(step) || step == Step::Look;
                let writers = writers.iter().filter(|it| is_inside(it.step)).count();
                let reads = |step| matches!(step, Step::Look | Step::LeaveSeat);
                let readers = readers.iter().filter(|it| reads(it.step)).count();
                let downgraded = |it: &&Process| it.step == Step::LookDowngraded;
                let readers = readers + state.processes.iter().filter(downgraded).count();
                writers == 0 || (writers == 1 && readers == 0)
            }),
            Property::always(HALF_IS_TOLD, |_, state: &State| !state.is_misled),
            Property::always(ONLY_INSIDE, |_, state: &State| {
                !state.is_poisoned || state.has_died_inside
            }),
            Property::always(PHASE_FAIR, |_, state: &State| {
                state.processes.iter().all(|it| it.passed_by <= 1)
            }),
        ]
    }
}

impl LockModel for RwLock {
    const NAME: &'static str = "readers-writer lock";

    fn scenario(&self) -> String {
        let (reads, writes) = self.rounds.split_at(READERS);
        let gives_up = match self.gives_up {
            GivesUp::Never => "no timeouts",
            GivesUp::Maybe => "timeouts",
        };
        format!(
            "readers {reads:?}, writers {writes:?}{}; {}, {gives_up}",
            match self.downgrades {
                Downgrades::No => "",
                Downgrades::Yes => " that downgrade",
            },
            deaths(self.deaths)
        )
    }

    fn is_forced(&self, _: &State, action: Action) -> bool {
        matches!(action, Action::Step(_))
    }

    /// Returns whether every process has ended.
    fn is_final(&self, state: &State) -> bool {
        let mut all = state.all();
        all.all(|(_, process)| matches!(process.step, Step::Done | Step::Dead))
    }

    fn describe(&self, state: &State, action: Action) -> String {
        match action {
            Action::Step(id) => format!("{id} {:?}", state.step(id)),
            Action::GiveUp(id) => format!("{id} gives up"),
            Action::Die(id) => format!("{id} DIES"),
        }
    }
}

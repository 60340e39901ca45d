//! The actions in each state, and the properties of each state.

use stateright::{Model, Property};

use super::state::{
    Action, Id, Mistake, Owner, PROCESSES, PiMutex, Process, QUEUE_LEN, READS, State, Step, Waiter,
    Word,
};
use crate::locks::checker::{LockModel, deaths, not_stuck};

pub(super) const MUTUAL_EXCLUSION: &str = "at most one process holds the lock";
pub(super) const OWNER_DEATH_REPORTED: &str = "the next holder sees the owner death";

fn is_inside(process: &Process) -> bool {
    process.listed
        || matches!(
            process.step,
            Step::CheckWord | Step::PushFront | Step::ReleaseWord
        )
}

impl Model for PiMutex {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            word: Word::default(),
            queue: [Waiter::None; QUEUE_LEN],
            owner: Owner::NoWaiter,
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
                Step::Waiting if is_owner => actions.push(Action::BecomeOwner(id)),
                Step::Waiting => {
                    if state.owner == Owner::Ended {
                        actions.push(Action::BecomeOwner(id));
                    }
                    if self.mistake != Mistake::EndlessWait {
                        actions.push(Action::PauseEnds(id));
                    }
                }
                Step::Pause => actions.push(Action::PauseEnds(id)),
                Step::Dead => {}
                Step::FutexUnlockPi if is_owner && matches!(state.first(), Waiter::LockPi(_)) => {
                    let candidates = state.queue.iter().filter_map(|waiter| match waiter {
                        Waiter::LockPi(next) => Some(Action::HandOver(id, *next)),
                        _ => None,
                    });
                    actions.extend(candidates);
                }
                _ => actions.push(Action::Step(id)),
            }
            if state.deaths_left > 0 && state.is_alive(id) {
                actions.push(Action::Die(id));
            }
        }
        if state.reads_left > 0 && self.reader != Waiter::None {
            actions.push(Action::ReaderWaits(self.reader));
        }
        if state.queue.contains(&self.reader) && self.reader != Waiter::None {
            actions.push(Action::ReaderStops);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Begin(id) => {
                let me = &mut state.processes[id as usize];
                me.rounds -= 1;
                me.may_retry = true;
                me.step = Step::Load;
            }
            Action::Step(id) => self.take_step(&mut state, id)?,
            // `futex_unlock_pi`: the word and the state name the next owner, which is
            // still queued.
            Action::HandOver(id, next) => {
                state.word = Word {
                    owner: next + 1,
                    waiters: true,
                    owner_died: false,
                };
                state.owner = Owner::Is(next);
                state.processes[id as usize].step = Step::UnlockClearPending;
            }
            // `fixup_pi_owner` writes the word, whatever it says, unless this process
            // owns it.
            Action::BecomeOwner(id) => {
                if state.owner == Owner::Ended {
                    state.word = Word {
                        owner: id + 1,
                        waiters: true,
                        owner_died: true,
                    };
                    state.owner = Owner::Is(id);
                }
                state.retain(|waiter| waiter != Waiter::LockPi(id));
                state.processes[id as usize].step = Step::CheckWord;
            }
            Action::PauseEnds(id) => {
                state.retain(|waiter| waiter != Waiter::LockPi(id));
                let me = &mut state.processes[id as usize];
                me.may_retry = true;
                me.step = Step::Load;
            }
            // A dying process leaves the queue. It keeps a mutex that the kernel has
            // assigned to it.
            Action::Die(id) => {
                state.deaths_left -= 1;
                state.retain(|waiter| waiter != Waiter::LockPi(id));
                state.processes[id as usize].step = Step::ExitRobustList;
            }
            Action::ReaderWaits(waiter) => {
                state.reads_left -= 1;
                state.push(waiter);
            }
            Action::ReaderStops => state.retain(|waiter| waiter != self.reader),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            not_stuck(),
            Property::always(MUTUAL_EXCLUSION, |_, state: &State| {
                let inside = state
                    .all()
                    .filter(|(id, process)| state.is_alive(*id) && is_inside(process));
                inside.count() <= 1
            }),
            Property::always(OWNER_DEATH_REPORTED, |_, state: &State| {
                let enters = |process: &Process| process.step == Step::WriteFirst;
                let mut all = state.all();
                !state.is_torn
                    || all.all(|(_, process)| !enters(process) || process.sees_owner_death)
            }),
        ]
    }
}

impl LockModel for PiMutex {
    const NAME: &'static str = "mutex with priority inheritance";

    fn scenario(&self) -> String {
        let rounds = match self.rounds {
            1 => "lock once".to_owned(),
            rounds => format!("lock {rounds} times"),
        };
        let deaths = deaths(self.deaths);
        let reader = match self.reader {
            Waiter::WaitRequeuePi => "a reader in FUTEX_WAIT_REQUEUE_PI",
            Waiter::Wait => "a reader in FUTEX_WAIT",
            Waiter::None | Waiter::LockPi(_) => "no reader",
        };
        format!("{PROCESSES} processes {rounds}, {deaths}, {reader}")
    }

    fn is_forced(&self, state: &State, action: Action) -> bool {
        match action {
            Action::Step(_) | Action::HandOver(..) | Action::BecomeOwner(_) => true,
            // A pause without an effect is not forced: it would be a livelock.
            Action::PauseEnds(id) => match state.processes[id as usize].step {
                Step::Waiting => !state.queue_matches_word(),
                _ => !state.would_refuse(id),
            },
            // Only a wake ends a plain wait. Only the reader ends the other kind of
            // wait.
            Action::ReaderStops => self.reader == Waiter::WaitRequeuePi,
            Action::Begin(_) | Action::Die(_) | Action::ReaderWaits(_) => false,
        }
    }

    fn is_final(&self, state: &State) -> bool {
        let mut all = state.all();
        all.all(|(_, process)| matches!(process.step, Step::Idle | Step::Dead))
    }

    fn describe(&self, state: &State, action: Action) -> String {
        let step = |id: Id| state.processes[id as usize].step;
        match action {
            Action::Begin(id) => format!("{id} wants it"),
            Action::Step(id) => format!("{id} {:?}", step(id)),
            Action::HandOver(id, next) => format!("{id} hands over to {next}"),
            Action::BecomeOwner(id) => format!("{id} becomes the owner"),
            Action::PauseEnds(id) => format!("{id}'s turn ends"),
            Action::Die(id) => format!("{id} DIES"),
            Action::ReaderWaits(how) => format!("the reader waits: {how:?}"),
            Action::ReaderStops => "the reader goes".to_owned(),
        }
    }
}

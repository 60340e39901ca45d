//! What can happen in each state, and what must hold.

use stateright::{Model, Property};

use super::state::{
    Action, Condvar, Door, Errand, Heartbeat, Id, Lock, PROCESSES, Poison, Process, Role, State,
    Step,
};
use crate::locks::checker::{Machine, nobody_is_stuck};

pub(super) const ENOUGH_SLEEPERS: &str = "`sleepers` is never too low";
pub(super) const HAS_THE_LOCK: &str = "who comes back from a wait has the mutex";
pub(super) const NEVER_BLOCKED: &str = "nothing keeps who notifies or calls from its next step";
pub(super) const LEAVES_BY_ITSELF: &str =
    "a sleeper with reason wakes by itself, at its next heartbeat";

fn properties() -> Vec<Property<Condvar>> {
    vec![
        nobody_is_stuck(),
        Property::always(ENOUGH_SLEEPERS, |_, state: &State| {
            use Step::{Deregister, LookAtClock, LookForDeath, LookForPoison, Queued, Sleep};
            let sleeps = |(_, process): &(Id, &Process)| {
                matches!(
                    process.step,
                    Sleep | Queued | LookForDeath | LookForPoison | LookAtClock | Deregister
                )
            };
            state.all().filter(sleeps).count() <= usize::from(state.sleepers)
        }),
        Property::always(HAS_THE_LOCK, |_, state: &State| {
            use Step::{
                Clear, Count, GiveBack, Judge, Mark, ReadCount, ReadSequence, Unlock, Work,
            };
            state.all().all(|(id, process)| match process.step {
                Mark | Count | Judge | Clear | Work | ReadSequence | ReadCount | GiveBack
                | Unlock => state.lock == Lock::HeldBy(id),
                _ => true,
            })
        }),
        Property::always(NEVER_BLOCKED, |machine: &Condvar, state: &State| {
            use Step::{AddSequence, CallNext, LookForCall, LookForNext, ReadSleepers, Wake};
            let notifies = |step| {
                matches!(
                    step,
                    AddSequence | ReadSleepers | Wake | LookForCall | LookForNext | CallNext
                )
            };
            let notifiers = state.all().filter(|(_, process)| notifies(process.step));
            let next: Vec<State> = machine.next_states(state);
            let goes_on = |id| {
                next.iter().any(|next| {
                    !matches!(next.step(id), Step::Dying) && next.step(id) != state.step(id)
                })
            };
            notifiers.map(|(id, _)| id).all(goes_on)
        }),
        Property::always(LEAVES_BY_ITSELF, |machine: &Condvar, state: &State| {
            let all = state.all().map(|(id, _)| id);
            let mut with_reason = all.filter(|id| Condvar::has_reason(state, *id));
            machine.heartbeat != Heartbeat::Everybody
                || with_reason.all(|id| machine.leaves_by_itself(state, id))
        }),
    ]
}
impl Model for Condvar {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            lock: Lock::Free,
            poison: Poison::Clean,
            poisonings: 0,
            poisonings_really: 0,
            sequence: 0,
            generation: 0,
            sleepers: 0,
            items: 0,
            door: Door::Closed,
            queue: 0,
            processes: self.cast.map(|role| Process {
                step: match role {
                    Role::Absent => Step::Done,
                    _ => Step::Lock,
                },
                to_put: match role {
                    Role::Producer { items, .. } | Role::Host { items, .. } => items,
                    _ => 0,
                },
                ..Process::default()
            }),
            deaths_left: self.deaths,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (id, process) in state.all() {
            let is_impatient = self.cast[id as usize] == Role::Impatient;
            match process.step {
                Step::Queued if is_impatient || self.has_heartbeat(id) => {
                    actions.push(Action::TimeOut(id));
                }
                Step::Queued | Step::Done | Step::Dead => {}
                Step::Wake | Step::CallNext => match self.whom_it_may_wake(state, id) {
                    0 => actions.push(Action::Go(id)),
                    whom => {
                        let each = (0..).take(PROCESSES).filter(|who| whom & 1 << who != 0);
                        actions.extend(each.map(|who| Action::Wake(id, who)));
                    }
                },
                _ => actions.push(Action::Go(id)),
            }
            if process.step == Step::LookAtClock && is_impatient {
                actions.push(Action::GiveUp(id));
            }
            let is_alive = !matches!(process.step, Step::Done | Step::Dying | Step::Dead);
            if is_alive && state.deaths_left > 0 && self.may_be_killed(state, id) {
                actions.push(Action::Die(id));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Go(id) => self.go(&mut state, id)?,
            Action::Wake(id, who) => {
                self.wake(&mut state, who);
                let me = &mut state.processes[id as usize];
                me.step = self.after_waking(id, me);
                self.forget(&mut state, id);
            }
            Action::TimeOut(id) => Self::time_out(&mut state, id),
            Action::GiveUp(id) => {
                let me = &mut state.processes[id as usize];
                me.errand = Errand::RelockTimedOut;
                me.step = Step::Deregister;
                self.forget(&mut state, id);
            }
            Action::Die(id) => {
                state.deaths_left -= 1;
                state.processes[id as usize].step = Step::Dying;
                self.forget(&mut state, id);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
    }
}

impl Machine for Condvar {
    fn must_come(&self, state: &State, action: Action) -> bool {
        match action {
            // Without reason this would be in circles.
            Action::TimeOut(id) => {
                Self::has_reason(state, id) || self.cast[id as usize] == Role::Impatient
            }
            Action::Die(_) => false,
            // Nor does it come to look at the clock before its deadline for ever.
            Action::Go(id) if self.cast[id as usize] == Role::Impatient => {
                state.step(id) != Step::LookAtClock
            }
            Action::Go(_) | Action::Wake(..) | Action::GiveUp(_) => true,
        }
    }

    /// Everybody is done, or sleeps. Who sleeps knows of every death, has not been called
    /// by any `notify_all`, and what it waits for is not there.
    fn is_settled(&self, state: &State) -> bool {
        let waits_in_vain = |id| match self.cast[id as usize] {
            Role::Guest => state.door == Door::Closed,
            _ => state.items == 0,
        };
        state.all().all(|(id, process)| match process.step {
            Step::Done | Step::Dead => true,
            Step::Queued => {
                waits_in_vain(id)
                    && process.generation == state.generation
                    && !Self::has_bad_news(state, id)
            }
            _ => false,
        })
    }

    fn describe(&self, state: &State, action: Action) -> String {
        match action {
            Action::Go(id) => format!("{id} {:?}", state.step(id)),
            Action::Wake(id, who) => format!("{id} wakes {who}"),
            Action::TimeOut(id) => format!("{id} times out"),
            Action::GiveUp(id) => format!("{id} gives up"),
            Action::Die(id) => format!("{id} DIES"),
        }
    }
}

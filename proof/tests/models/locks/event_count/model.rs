//! The actions in each state, and the properties of each state.

use stateright::{Model, Property};

use super::state::{
    Action, EventCount, Id, PROCESSES, Process, Recheck, Role, Seat, Settling, State, Step, Then,
};
use crate::locks::checker::{LockModel, deaths, not_stuck};

pub(super) const SLEEPER_ANNOUNCED: &str =
    "a sleeper with an open question is announced, or was called";
pub(super) const NO_VAIN_CALL: &str = "a notifier makes no system call without announcements";
pub(super) const DEAD_COST_ONE_CALL: &str = "a vain wake settles what its notifier has read";

impl Model for EventCount {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let has_holder = self.roles.contains(&Role::Holder);
        vec![State {
            tokens: 0,
            open: 0,
            seat: if has_holder { Seat::Held } else { Seat::Vacant },
            queue: 0,
            seat_queue: 0,
            settling: Settling::Done,
            processes: self.roles.map(|role| Process {
                step: self.first_step(role),
                tokens_left: match role {
                    Role::Setter { tokens, .. } => tokens,
                    _ => 0,
                },
                ..Process::default()
            }),
            deaths_left: self.deaths,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (id, process) in state.all() {
            match process.step {
                Step::Waiting => {
                    if self.recheck == Recheck::Yes || self.role(id) == Role::TimedConsumer {
                        actions.push(Action::TimeOut(id));
                    }
                }
                Step::Done | Step::Dead => {}
                _ => match self.wake_candidates(state, id) {
                    0 => actions.push(Action::Step(id)),
                    targets => {
                        let each = (0..).take(PROCESSES);
                        let each = each.filter(|other| targets & 1 << other != 0);
                        actions.extend(each.map(|other| Action::Wake(id, other)));
                    }
                },
            }
            if process.step == Step::Ask
                && self.role(id) == Role::TimedConsumer
                && state.tokens == 0
            {
                actions.push(Action::GiveUp(id));
            }
            if state.deaths_left > 0 && self.may_die_now(state, id) {
                actions.push(Action::Die(id));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Step(id) => self.take_step(&mut state, id)?,
            Action::Wake(id, other) => self.wake_for(&mut state, id, other),
            Action::TimeOut(id) => self.time_out(&mut state, id),
            Action::GiveUp(id) => {
                let me = &mut state.processes[id as usize];
                me.then = Then::End;
                me.step = Step::SettleAlone;
            }
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
            Property::always(SLEEPER_ANNOUNCED, |model: &Self, state: &State| {
                // A process that has changed the words, and that has not ended its
                // notification, will call, or die.
                let is_notifying = state.all().any(|(_, process)| {
                    matches!(
                        process.step,
                        Step::Change
                            | Step::LoadRoll
                            | Step::AddSequence
                            | Step::Wake
                            | Step::Settle
                    )
                });
                let sleeps = |id: Id| state.step(id) == Step::Waiting;
                is_notifying
                    || model.deaths > state.deaths_left
                    || state.open > 0
                    || !state.all().any(|(id, _)| sleeps(id))
            }),
            Property::always(NO_VAIN_CALL, |_, state: &State| {
                let is_vain = |process: &Process| {
                    matches!(process.step, Step::AddSequence | Step::Wake) && process.open == 0
                };
                !state.all().any(|(_, process)| is_vain(process))
            }),
            Property::always(DEAD_COST_ONE_CALL, |_, state: &State| {
                state.settling == Settling::Done
            }),
        ]
    }
}

impl LockModel for EventCount {
    const NAME: &'static str = "event count";

    fn scenario(&self) -> String {
        let present = self.roles.iter().filter(|role| **role != Role::Absent);
        let roles: Vec<String> = present.map(ToString::to_string).collect();
        let recheck = match self.recheck {
            Recheck::No => "no recheck",
            Recheck::Yes => "all recheck",
        };
        format!("{}; {}, {recheck}", roles.join(", "), deaths(self.deaths))
    }

    fn is_forced(&self, state: &State, action: Action) -> bool {
        match action {
            Action::TimeOut(id) => self.recheck != Recheck::No && self.has_reason(state, id),
            Action::Die(_) | Action::GiveUp(_) => false,
            Action::Step(_) | Action::Wake(..) => true,
        }
    }

    /// Returns whether every process has ended, or sleeps without a reason to wake.
    fn is_final(&self, state: &State) -> bool {
        state.all().all(|(id, process)| match process.step {
            Step::Done | Step::Dead => true,
            Step::Waiting => !self.has_reason(state, id),
            _ => false,
        })
    }

    fn describe(&self, state: &State, action: Action) -> String {
        match action {
            Action::Step(id) => format!("{id} {:?}", state.step(id)),
            Action::Wake(id, other) => format!("{id} {:?} {other}", state.step(id)),
            Action::TimeOut(id) => format!("{id} times out"),
            Action::GiveUp(id) => format!("{id} gives up"),
            Action::Die(id) => format!("{id} DIES"),
        }
    }
}
